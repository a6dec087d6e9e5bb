"""Several nodes behind one address (anycast, VRRP, ECMP): what belongs to one request may reach any of them.

The nodes have addresses of their own here, and the phone sends each of its datagrams to another.
"""

from __future__ import annotations

import pytest

from tests.support.farms import Farm, FarmNode
from tests.support.parties import Dialog, Message, Party, exchange

AT = [(f"192.0.2.{number}", 5060) for number in range(1, 5)]


def add_nodes(farm: Farm, *, shared: bool = True) -> list[FarmNode]:
    return farm.add_nodes(3, sip={"shared_address": shared, "farm_name": "sip.example.com"})


def add_parties(farm: Farm, how: str = "udp") -> tuple[Party, Party]:
    """A caller, and a callee at the last node."""
    alice, bob = farm.add_party("alice", target=AT[0][0]), farm.add_party("bob", transport=how, target=AT[2][0])
    bob.register()
    return alice, bob


def repeat(party: Party, sent: Message, node: int) -> None:
    """The same datagram once more, to another node."""
    party.target = AT[node]
    party.write(sent.data)


@pytest.mark.parametrize("how", ["udp", "tcp"])
def test_an_invite_that_is_repeated_to_other_nodes_rings_once(farm: Farm, how: str) -> None:
    nodes = add_nodes(farm)
    alice, bob = add_parties(farm, how)
    sent = alice.ask("INVITE", bob.aor)
    for node in (1, 2, 0):
        repeat(alice, sent, node)
        farm.run(0.1)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    for node in (1, 2, 0):
        repeat(alice, sent, node)
    farm.run(1)
    assert bob.count("INVITE") == 1
    assert alice.count(180) == 4
    assert sum(len(node.node.transactions._clients) for node in nodes) == 1
    answered = bob.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    theirs = Dialog.of_callee(bob, invite, answered)
    for node in (0, 1, 2):
        alice.target = AT[node]
        ours.acknowledge()
        bob.expect("ACK")
    alice.target = AT[1]
    exchange(ours, theirs, "BYE")


def test_without_the_setting_a_repeated_request_is_a_new_one_to_each_node(farm: Farm) -> None:
    """It is challenged again, since its nonce count was used."""
    nodes = add_nodes(farm, shared=False)
    alice, bob = add_parties(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    repeat(alice, sent, 1)
    again = alice.expect(407)
    alice.acknowledge(sent, again)
    assert [node.value("relayed_messages", "sent") for node in nodes] == [0, 0, 0]
    bob.answer(invite, 486)
    bob.expect("ACK")
    final = alice.expect(486)
    alice.target = AT[0]
    alice.acknowledge(sent, final)


@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_cancel_finds_its_invite_through_any_node(farm: Farm, node: int) -> None:
    add_nodes(farm)
    alice, bob = add_parties(farm, "tcp")
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    alice.target = AT[node]
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    bob.answer(bob.expect("CANCEL"), 200)
    bob.answer(invite, 487)
    bob.expect("ACK")
    final = alice.expect(487)
    alice.target = AT[(node + 1) % 3]
    alice.acknowledge(sent, final)
    alice.expect_nothing(5)  # the ACK found it too


@pytest.mark.parametrize("entry", [0, 1, 2])
def test_when_the_node_that_has_the_address_dies_the_call_goes_on_through_the_one_that_takes_it(
    farm: Farm, entry: int
) -> None:
    """Whether the transaction is its own or another's: then the 200 is forwarded without one."""
    nodes = add_nodes(farm)
    alice = farm.add_party("alice", target=AT[entry][0])
    bob = farm.add_party("bob", target=AT[(entry + 1) % 3][0])
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    nodes[entry].kill()
    farm.wait_until_synchronised()
    successor = (entry + 2) % 3
    alice.target = AT[successor]
    bob_reply = bob.make_answer(invite, 200).encode()
    bob.target = AT[successor]
    bob.write(bob_reply)
    final = alice.expect(200, within=2)
    assert final.first("call-id") == sent.first("call-id")
    ours, theirs = Dialog.of_caller(alice, final), Dialog.of_callee(bob, invite, Message(bob_reply))
    ours.acknowledge()
    bob.expect("ACK")
    exchange(theirs, ours, "BYE")
