"""Calls to phones of other nodes, over the overlay's links: what each side sees when a phone, a link or a node goes.

The phone is at the first node, the call comes in at the second.
"""

from __future__ import annotations

import pytest

from tests.support.faces import add_face, add_phone, check_request, check_response, run_until, sees_dead, turn_to
from tests.support.farms import Farm, FarmNode
from tests.support.parties import Message, Party, exchange, set_up_call


def add_parties(farm: Farm, how: str) -> tuple[list[FarmNode], Party, Party]:
    nodes = add_face(farm)
    alice = add_phone(farm, "alice", "udp", 1)
    if how == "tcp behind a NAT":
        nat = farm.network.add_nat("198.51.100.77")
        bob = farm.add_party("bob", transport="tcp", target="192.0.2.1", address="10.0.0.77", behind=nat)
    else:
        bob = add_phone(farm, "bob", how, 0)
    bob.register()
    return nodes, alice, bob


def ring(alice: Party, bob: Party) -> tuple[Message, Message]:
    """A call that rings: the INVITE as sent, and as it came."""
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    check_request(invite)
    bob.answer(invite, 180)
    check_response(alice.expect(180))
    return sent, invite


@pytest.mark.parametrize("how", ["tcp", "nat"])
def test_what_goes_over_another_node_is_counted_there_and_here(farm: Farm, how: str) -> None:
    nodes, alice, bob = add_parties(farm, how)
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "BYE")
    first, second = nodes[0], nodes[1]
    # To the phone: INVITE, ACK, BYE. From it: 180, 200, 200.
    assert [second.value("relayed_messages", result) for result in ("sent", "delivered")] == [3, 3]
    assert [first.value("relayed_messages", result) for result in ("sent", "delivered")] == [3, 3]
    assert first.value("overlay_bytes", "out", "relays") > 0
    assert first.value("sip_requests", "INVITE", "out") == second.value("sip_requests", "INVITE", "in") - 1 == 1
    assert first.value("sip_responses", "INVITE", "2xx", "in") == 0, "it was not read there"
    assert second.value("sip_responses", "INVITE", "2xx", "in") == 1


def test_a_caller_hears_at_once_that_the_connection_of_a_silent_phone_has_ended(farm: Farm) -> None:
    _nodes, alice, bob = add_parties(farm, "tcp behind a NAT")
    sent = alice.ask("INVITE", bob.aor)
    bob.expect("INVITE")
    bob.disconnect()
    final = alice.wait(1)
    assert final is not None
    assert final.status == 480
    alice.acknowledge(sent, final)


@pytest.mark.parametrize("size", [65_000, 200_000])
def test_what_is_longer_than_a_datagram_reaches_a_phone_of_another_node(farm: Farm, size: int) -> None:
    add_face(farm, limits={"body_bytes": size})
    alice = add_phone(farm, "alice", "tcp", 1)
    nat = farm.network.add_nat("198.51.100.77")
    bob = farm.add_party("bob", transport="tcp", target="192.0.2.1", address="10.0.0.77", behind=nat)
    bob.register()
    headers = [f"Subject: {'long' * 500}"]
    alice.ask("MESSAGE", bob.aor, body="x" * size, headers=headers)
    message = bob.expect("MESSAGE")
    assert len(message.body) == size
    bob.answer(message, 200, body="y" * size, headers=headers)
    assert len(alice.expect(200).body) == size


def test_a_connection_that_ended_before_is_found_out_by_the_first_call(farm: Farm) -> None:
    """Its registration stays until it expires."""
    nodes, alice, bob = add_parties(farm, "tcp behind a NAT")
    bob.disconnect()
    farm.run(1)
    sent = alice.ask("INVITE", bob.aor)
    final = alice.wait(1)
    assert final is not None
    assert final.status == 480
    alice.acknowledge(sent, final)
    assert nodes[0].value("relayed_messages", "no-flow") == 1


@pytest.mark.parametrize("how", ["tcp", "nat"])
@pytest.mark.parametrize("status", [302, 486, 603])
def test_a_call_that_is_declined_when_its_node_has_died_ends(farm: Farm, how: str, status: int) -> None:
    """The caller hears so, and the phone gets its ACK from the node that has its flow."""
    nodes, alice, bob = add_parties(farm, how)
    sent, invite = ring(alice, bob)
    nodes[1].kill()
    run_until(farm, lambda: sees_dead(nodes[0], nodes[1]), 10)
    bob.answer(invite, status)
    ack = bob.expect("ACK", within=0.1)
    assert ack.first("via").partition(";branch=")[2] == invite.all("via")[0].partition(";branch=")[2].removesuffix(
        ";rport"
    )
    final = alice.expect(status, within=0.1)
    check_response(final)
    assert "transport=tcp" not in final.first("record-route"), "it is for the caller's side"
    turn_to(alice, 2)
    alice.acknowledge(sent, final)


def test_a_phone_whose_node_has_died_may_still_say_that_it_rings(farm: Farm) -> None:
    """Whoever sent it reliably (RFC 3262) waits for a PRACK."""
    nodes, alice, bob = add_parties(farm, "tcp")
    _sent, invite = ring(alice, bob)
    nodes[1].kill()
    run_until(farm, lambda: sees_dead(nodes[0], nodes[1]), 10)
    bob.answer(invite, 183)
    check_response(alice.expect(183, within=0.1))


def test_a_link_that_breaks_while_a_phone_rings_harms_nothing(farm: Farm) -> None:
    nodes, alice, bob = add_parties(farm, "tcp")
    _sent, invite = ring(alice, bob)
    first, second = nodes[0].node.member, nodes[1].node.member
    assert first is not None
    assert second is not None
    second.node.links.close(first.own, "stopped")
    farm.run(0.05)
    answered = bob.answer(invite, 200)
    final = alice.wait(2)
    if final is None:  # it was lost with the link; a 200 is repeated (§13.3.1.4)
        bob.repeat(invite, answered)
        final = alice.wait(2)
    assert final is not None
    assert final.status == 200
