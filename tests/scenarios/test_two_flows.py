"""Phones with two registrations at two nodes (RFC 5626): the one that lives is used, without delay."""

from __future__ import annotations

import pytest

from tests.support.faces import add_face, add_phone, exchange, run_until, sees_dead, set_up, turn_to
from tests.support.farms import Farm
from tests.support.parties import Message, Party

INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'


def register_flow(phone: Party, number: int) -> Message:
    """One flow of the phone."""
    contact = f"<{phone.contact}>;reg-id={number};{INSTANCE}"
    answer = phone.register(contact=contact, headers=["Supported: path, outbound"])
    assert "outbound" in answer.first("require")
    return answer


def add_both(farm: Farm, how: str = "tcp") -> tuple[Party, Party]:
    """One phone with flows to the first and the second node, as two parties."""
    first = add_phone(farm, "bob", how, 0)
    second = add_phone(farm, "bob", how, 1, account=False)
    second.password = "bob"
    register_flow(first, 1)
    register_flow(second, 2)
    return first, second


def find_used(farm: Farm, alice: Party, flows: tuple[Party, Party]) -> int:
    """Which of the flows a call comes over, the other one being silent."""
    before = [flow.count("INVITE") for flow in flows]
    sent = alice.ask("INVITE", flows[0].aor)
    farm.run(1)
    (used,) = [number for number, flow in enumerate(flows) if flow.count("INVITE") > before[number]]
    flows[used].answer(flows[used].expect("INVITE"), 486)
    flows[used].expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    return used


@pytest.mark.parametrize("how", ["tcp", "nat"])
def test_a_phone_with_two_flows_rings_once(farm: Farm, how: str) -> None:
    add_face(farm)
    flows = add_both(farm, how)
    alice = add_phone(farm, "alice", "udp", 2)
    find_used(farm, alice, flows)


@pytest.mark.parametrize("how", ["tcp", "nat"])
def test_the_next_call_after_a_node_was_killed_comes_over_the_other_flow_without_delay(farm: Farm, how: str) -> None:
    nodes = add_face(farm)
    flows = add_both(farm, how)
    alice = add_phone(farm, "alice", "udp", 2)
    used = find_used(farm, alice, flows)
    nodes[used].kill()
    farm.run(0.01)  # the link to it is reset
    assert not sees_dead(nodes[2], nodes[used])
    began = farm.network.clock.seconds()
    ours, theirs = set_up(alice, flows[1 - used])
    assert farm.network.clock.seconds() - began < 0.1
    exchange(theirs, ours, "BYE")


@pytest.mark.parametrize("how", ["tcp", "nat"])
def test_a_call_that_comes_before_a_vanished_machine_is_found_out_goes_on_over_the_other_flow(
    farm: Farm, how: str
) -> None:
    nodes = add_face(farm)
    flows = add_both(farm, how)
    alice = add_phone(farm, "alice", "udp", 2)
    used = find_used(farm, alice, flows)
    other = flows[1 - used]
    invites = other.count("INVITE")
    nodes[used].power_off()
    alice.ask("INVITE", other.aor)
    run_until(farm, lambda: other.count("INVITE") > invites or sees_dead(nodes[2], nodes[used]), 20)
    other.answer(other.expect("INVITE", within=0.1), 486)
    alice.expect(486)


def test_the_flow_of_a_node_that_is_suspected_is_tried_last(farm: Farm) -> None:
    """Its process hangs: the link is open, and nothing that is sent comes back."""
    nodes = add_face(farm)
    flows = add_both(farm)
    alice = add_phone(farm, "alice", "udp", 2)
    used = find_used(farm, alice, flows)
    nodes[used].host.pause()
    number = nodes[used].node.records.stamps.node
    run_until(farm, lambda: nodes[2].node.core.relays.doubts(number), 20)
    assert not sees_dead(nodes[2], nodes[used])
    began = farm.network.clock.seconds()
    ours, theirs = set_up(alice, flows[1 - used])
    assert farm.network.clock.seconds() - began < 0.1
    exchange(theirs, ours, "BYE")
    nodes[used].host.resume()
    farm.wait_until_synchronised()


def test_a_flow_that_is_broken_while_its_node_lives_is_left_for_the_other(farm: Farm) -> None:
    add_face(farm)
    first, second = add_both(farm)
    alice = add_phone(farm, "alice", "udp", 2)
    first.go_away()
    farm.network.run(0.1)
    for connection in list(first.host.connections):
        connection.abortConnection()
    ours, theirs = set_up(alice, second)
    exchange(ours, theirs, "BYE")


def test_a_dialog_goes_on_over_the_other_flow_of_the_same_phone(farm: Farm) -> None:
    nodes = add_face(farm)
    first, second = add_both(farm)
    alice = add_phone(farm, "alice", "udp", 2)
    nodes[1].kill()  # so that the first flow is used
    farm.wait_until_synchronised()
    ours, theirs = set_up(alice, first)
    nodes[1].start()
    farm.wait_until_synchronised()
    turn_to(second, 1)
    register_flow(second, 2)
    nodes[0].kill()
    farm.wait_until_synchronised()
    theirs.party = second
    exchange(ours, theirs, "BYE")
