"""One address that moves from node to node (VRRP), or with each packet (anycast, ECMP at its worst): calls go on."""

from __future__ import annotations

import pytest

from tests.support.faces import FARM_NAME, check_request, check_response, exchange, set_up
from tests.support.farms import Farm, FarmNode
from tests.support.parties import Dialog, Party

SHARED = "192.0.2.50"


def add_sharing(farm: Farm, nodes: int = 3) -> list[FarmNode]:
    """Nodes that listen for SIP at the shared address alone; the first has it."""
    farm.network.share_address(SHARED)
    return farm.add_nodes(nodes, shared=SHARED, sip={"farm_name": FARM_NAME, "shared_address": True})


def move(farm: Farm, node: FarmNode) -> None:
    """That node gets what is sent to the address."""
    farm.network.move_address(SHARED, node.host)


def add_parties(farm: Farm, how: str = "udp") -> tuple[Party, Party]:
    """Two phones, of which the second may be behind a NAT that lets in what comes from the shared address alone."""
    alice = farm.add_party("alice", target=SHARED)
    if how == "nat":
        nat = farm.network.add_nat("198.51.100.9")
        bob = farm.add_party("bob", target=SHARED, address="10.0.0.7", behind=nat)
    else:
        bob = farm.add_party("bob", target=SHARED)
    alice.register()
    bob.register()
    return alice, bob


def find_holder(farm: Farm) -> FarmNode:
    """The one node with a running INVITE."""
    (holder,) = [node for node in farm.nodes if node.running and node.node.transactions.find_unanswered()]
    return holder


@pytest.mark.parametrize("how", ["udp", "nat"])
@pytest.mark.parametrize("dead", ["the node with the transaction", "the node with the address"])
def test_a_call_that_rings_completes_through_the_node_that_takes_the_address_over(
    farm: Farm, how: str, dead: str
) -> None:
    nodes = add_sharing(farm)
    alice, bob = add_parties(farm, how)
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    check_request(invite)
    bob.answer(invite, 180)
    alice.expect(180)
    holder = find_holder(farm)
    if dead == "the node with the transaction":
        holder.kill()
    else:
        next(node for node in nodes if node is not holder).kill()
    heir = next(node for node in nodes if node.running and node is not holder)
    move(farm, heir)
    answered = bob.answer(invite, 200)
    final = alice.wait(0.5)
    for _ in range(4):
        if final is None:
            bob.repeat(invite, answered)
            final = alice.wait(1.0)
    assert final is not None
    assert final.status == 200
    check_response(final)
    ours, theirs = Dialog.of_caller(alice, final), Dialog.of_callee(bob, invite, answered)
    ours.acknowledge()
    bob.expect("ACK")
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "BYE")


def test_a_phone_behind_a_nat_is_called_through_the_node_that_took_the_address_over(farm: Farm) -> None:
    """The way into the NAT was opened from the address, not from the node that died."""
    nodes = add_sharing(farm)
    alice, bob = add_parties(farm, "nat")
    nodes[0].kill()
    farm.wait_until_synchronised()
    move(farm, nodes[1])
    exchange(*set_up(alice, bob), "BYE")


@pytest.mark.parametrize("number", range(6))
def test_a_call_whose_every_message_lands_on_another_node_is_one_call(farm: Farm, number: int) -> None:
    """A different first node in each run."""
    nodes = add_sharing(farm)
    alice, bob = add_parties(farm)
    turn = [number]

    def scatter(*_: object) -> None:
        turn[0] += 1
        move(farm, nodes[turn[0] % 3])

    farm.network.watch(scatter)
    ours, theirs = set_up(alice, bob)
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "INFO")
    exchange(ours, theirs, "BYE")
    assert (alice.count("INVITE"), bob.count("INVITE")) == (1, 1)


def test_a_repeated_invite_that_lands_on_another_node_is_answered_and_not_forked_twice(farm: Farm) -> None:
    nodes = add_sharing(farm)
    alice, bob = add_parties(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    for node in nodes:
        move(farm, node)
        alice.write(sent.data)
        farm.run(0.1)
    bob.answer(invite, 486)
    final = alice.expect(486)
    for node in nodes:
        move(farm, node)
        before = alice.count(486)
        alice.write(sent.data)
        farm.run(0.1)
        assert alice.count(486) > before, "it is answered as the first was"
    alice.acknowledge(sent, final)
    bob.expect("ACK")
    assert bob.count("INVITE") == 1
