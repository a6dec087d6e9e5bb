"""Nodes on hosts of their own behind one address that moves, as VRRP moves it: calls that ring are answered, changed
and ended through whoever has it. The phones know no other address, and send what was not answered again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agents import Agent, Received
from tests.support.cables import Cables, lay_cables
from tests.support.faces import FARM_NAME, check_request, check_response
from tests.support.live_farm import LiveFarm
from tests.support.live_phones import LiveDialog, LivePhone, exchange
from tests.support.nodes import Nodes
from tests.support.processes import wait_until

SHARED = "10.60.0.50"  # on the front network of the cables
REPEATS = (0.5, 1.0, 2.0, 4.0)  # how long is waited for an ACK before a 200 is sent again (RFC 3261 §13.3.1.4)
TRIES = 40  # of which each has one chance in three: all fail once in ten million runs


@pytest.fixture
def cables() -> Iterator[Cables]:
    """Three hosts on a switch that share an address, around this test; the first has it."""
    with lay_cables(3) as laid:
        laid.share(SHARED)
        laid.move(SHARED, 0)
        yield laid


@pytest.fixture
def farm(cables: Cables, nodes: Nodes, tmp_path: Path) -> Iterator[LiveFarm]:
    """A node on each of them that listens for SIP at that address alone; none may have met an unexpected error."""
    farm = LiveFarm(
        nodes,
        cables.hosts,
        tmp_path,
        peer_hosts=cables.back_hosts,
        make_listeners=lambda _: [f"udp:{SHARED}:5060"],
        sip={"farm_name": FARM_NAME, "shared_address": True},
    )
    try:
        for index, host in enumerate(cables.hosts):
            farm.start_node(host, wrapper=cables.wrapper(index))
        farm.wait_whole()
        yield farm
        farm.check()
    finally:
        farm.stop_all()


@pytest.fixture
def phones(cables: Cables, farm: LiveFarm) -> Iterator[tuple[LivePhone, LivePhone]]:
    """The caller, and the callee behind a NAT: its flow is the node's that has the address now."""
    with (
        LivePhone(SHARED, cables.phone_hosts[0], "alice", "udp") as alice,
        LivePhone(SHARED, cables.phone_hosts[1], "bob", "nat") as bob,
    ):
        alice.enter()
        bob.enter()
        farm.wait_registrations(2, 10)
        yield alice, bob


def ring(caller: LivePhone, callee: LivePhone) -> tuple[str, Received]:
    """A call that rings: the INVITE as it was sent and as it came."""
    sent = caller.make_request("INVITE", callee.aor)
    caller.send_request(sent)
    invite = callee.expect("INVITE")
    check_request(invite)
    callee.answer(invite, 180, "Ringing")
    check_response(caller.expect(180, final=True))
    return sent, invite


def find_holder(farm: LiveFarm) -> int:
    """The one node that has an INVITE which waits for its answer."""

    def find() -> list[int]:
        waiting = {"type": "invite-server", "state": "proceeding"}
        return [index for index, node in enumerate(farm) if node.metric("sip_transactions", **waiting)]

    (holder,) = wait_until(find, 5, "a node has the INVITE")
    return holder


def give_up_call(caller: LivePhone, callee: LivePhone, sent: str, invite: Received) -> None:
    """CANCEL finds the INVITE, and both sides hear that the call is over."""
    caller.send_request(caller.make_cancel(sent))
    cancel = callee.expect("CANCEL")
    assert cancel.all("via") == invite.all("via")[:1], "it has the INVITE's branch"
    assert caller.expect_final(method="CANCEL").status == 200
    callee.answer(cancel, 200)
    callee.answer(invite, 487)
    caller.acknowledge(sent, caller.expect(487, method="INVITE", final=True))
    assert callee.expect("ACK").first("via") == invite.first("via")


def answer(callee: LivePhone, invite: Received, caller: Agent) -> LiveDialog:
    """Answer an INVITE until the ACK is there, and acknowledge what comes; the caller's side of the dialog."""
    for seconds in REPEATS:
        callee.answer(invite, 200, "OK")
        answered = caller.receive(seconds)
        while answered is not None and not answered.is_a(200):
            assert answered.status < 300, answered.text
            answered = caller.receive(seconds)
        if answered is None:
            continue
        check_response(answered)
        ours = LiveDialog.of_caller(caller, answered)
        ours.acknowledge()
        acknowledged = callee.receive(seconds)
        if acknowledged is not None:
            assert acknowledged.method == "ACK", acknowledged.text
            check_request(acknowledged, recorded=False)
            return ours
    raise AssertionError(f"no ACK for a 200 that was sent {len(REPEATS)} times; the caller has {caller.seen}")


def test_a_ringing_call_is_answered_through_the_node_that_takes_the_address_when_all_that_was_its_is_killed(
    cables: Cables, farm: LiveFarm, phones: tuple[LivePhone, LivePhone]
) -> None:
    """The killed node had the address, the transaction and the callee's flow. Calls that others serve are given up."""
    alice, bob = phones
    for _ in range(TRIES):
        sent, invite = ring(alice, bob)
        if find_holder(farm) == 0:
            break
        give_up_call(alice, bob, sent, invite)
    else:
        raise AssertionError(f"none of {TRIES} calls is served by the first node")
    farm.kill(0)
    cables.move(SHARED, 1)
    ours = answer(bob, invite, alice)
    theirs = LiveDialog.of_callee(bob, invite)
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "INVITE")
    exchange(ours, theirs, "BYE")
    _, invite = ring(alice, bob)
    ours = answer(bob, invite, alice)
    exchange(LiveDialog.of_callee(bob, invite), ours, "BYE")


def test_what_belongs_to_a_ringing_call_finds_it_wherever_the_address_has_moved(
    cables: Cables, farm: LiveFarm, phones: tuple[LivePhone, LivePhone]
) -> None:
    """The INVITE comes again at every node, and the CANCEL at each in turn; then a call moves with each message."""
    alice, bob = phones
    for last in range(3):
        cables.move(SHARED, 0)
        sent, invite = ring(alice, bob)
        for index in (1, 2, 0):
            cables.move(SHARED, index)
            alice.send_request(sent)
            check_response(alice.expect(180, final=True))
        find_holder(farm)
        cables.move(SHARED, last)
        give_up_call(alice, bob, sent, invite)
        assert not bob.poll(), "nothing but what was expected has come"
    assert sum(message.is_a("INVITE") for message in bob.seen) == 3

    _, invite = ring(alice, bob)
    cables.move(SHARED, 0)
    ours = answer(bob, invite, alice)
    theirs = LiveDialog.of_callee(bob, invite)
    for index, (one, other, method) in enumerate([(theirs, ours, "INVITE"), (ours, theirs, "INVITE")]):
        cables.move(SHARED, index + 1)
        exchange(one, other, method)
    cables.move(SHARED, 0)
    exchange(ours, theirs, "BYE")
    assert sum(message.is_a("INVITE") for message in bob.seen) == 5, "two calls more, of which one was changed"
    assert farm.metric("relayed_messages_total", result="delivered") > 0
