"""Nodes are killed, restarted, and restarted one after the other, while phones on connections and SIPp talk through the
others: no call fails, and what was up stays up. The figures are printed: `pytest -s`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering import AnsweringPhones, SteadyCaller
from tests.support.certificates import write_sip_files
from tests.support.faces import FARM_NAME
from tests.support.live_farm import LiveFarm
from tests.support.live_phones import LivePhone, exchange, make_listeners, set_up
from tests.support.nodes import NodeProgram
from tests.support.processes import wait_until
from tests.support.sipp import Sipp, describe, write_users
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

USERS = 20
CALLS = 100  # through each of two nodes
CALLS_PER_SECOND = 10


@pytest.fixture
def make_face(make_farm: MakeFarm, tmp_path: Path) -> Callable[..., LiveFarm]:
    """Start a farm under one name that listens on everything."""

    def make(**sections: Any) -> LiveFarm:
        tls = write_sip_files(tmp_path / "tls")
        farm = make_farm(sip={"farm_name": FARM_NAME}, tls=tls, make_listeners=make_listeners, **sections)
        farm.start()
        return farm

    return make


@contextmanager
def connected(farm: LiveFarm, host: str, *hows: tuple[str, int]) -> Iterator[list[LivePhone]]:
    """Registered phones, each over a transport and at a node."""
    with ExitStack() as stack:
        phones = [
            stack.enter_context(LivePhone(farm.hosts[node], host, f"{how}-{number}", how))
            for number, (how, node) in enumerate(hows)
        ]
        for number, phone in enumerate(phones):
            if number % 2:
                phone.instance = f"urn:uuid:00000000-0000-1000-8000-0000000000{number:02d}"
            phone.enter()
        yield phones


def refusals(node: NodeProgram) -> float:
    """How many INVITEs a node has answered with 4xx or 5xx."""
    return sum(
        node.metric("sip_responses_total", method="INVITE", direction="out", **{"class": kind})
        for kind in ("4xx", "5xx")
    )


def test_no_call_through_the_survivors_fails_while_a_node_is_killed_and_restarted(
    make_face: Callable[..., LiveFarm], hosts: Hosts, tmp_path: Path
) -> None:
    """All of SIPp's users registered at the node that is killed, over UDP; the other phones are connected to the
    survivors. Calls last two seconds and change midway, so that those that are up at the kill are changed after it."""
    need("sipp")
    udp_host, phone_host, *caller_hosts = hosts(4)
    farm = make_face()
    users = write_users(tmp_path / "users.csv", USERS, f"sip:{{user}}@{udp_host}:5060")
    at_udp = (udp_host, 5060)
    registering = Sipp("register.xml", farm[0].sip, at_udp, tmp_path, calls=USERS, rate=100, users=users)
    try:
        assert registering.wait(20) == 0, describe([registering])
    finally:
        registering.kill()
    with connected(farm, phone_host, ("tcp", 1), ("tls", 1), ("ws", 2), ("tcp", 2), ("wss", 1), ("tls", 2)) as phones:
        with users.open("a") as file:
            file.write("".join(f"{phone.user};sip:nobody@example.com;\n" for phone in phones))
        callee = Sipp("talking_callee.xml", farm[1].sip, at_udp, tmp_path)
        callers = [
            Sipp(
                "talking_caller.xml",
                farm[node].sip,
                (host, 5060),
                tmp_path,
                calls=CALLS,
                rate=CALLS_PER_SECOND,
                users=users,
            )
            for node, host in zip((1, 2), caller_hosts, strict=True)
        ]
        sides = [*callers, callee]
        try:
            with AnsweringPhones(phones, farm.hosts[1:]) as answering:
                invites = lambda: farm.metric("sip_requests_total", method="INVITE", direction="in")  # noqa: E731
                wait_until(lambda: invites() > 8 * CALLS_PER_SECOND, 20, "calls are up and are changed")
                killed = farm.kill(0)
                detected = max(farm.wait_state(observer, 0, "dead") for observer in (1, 2)) - killed
                ready = farm.start_again(0)
                codes = [caller.wait(40) for caller in callers]
            callee.finish()
        finally:
            for program in sides:
                program.kill()
        assert not answering.failures
        print(f"dead after {detected:.2f} s, ready again {ready:.2f} s after its start, {answering.counts}")
    print(describe(sides))
    assert codes == [0, 0], describe(sides)
    assert [caller.statistics().failed for caller in sides] == [0, 0, 0], describe(sides)
    assert [caller.statistics().successful for caller in callers] == [CALLS, CALLS], describe(sides)
    assert sum(refusals(farm[node]) for node in (1, 2)) == 0
    assert not any(phone.lost for phone in phones)


def test_calls_from_before_a_kill_are_changed_and_ended_through_any_node(
    make_face: Callable[..., LiveFarm], hosts: Hosts
) -> None:
    """Callees that were connected to the node that died first come back at another; the killed node ends calls when it
    has come back."""
    phone_host, caller_host = hosts(2)
    farm = make_face()
    lost = [(how, 0) for how in ("nat", "tcp", "tls", "ws")]
    kept = [(how, node) for how in ("udp", "nat", "tcp", "tls", "wss") for node in (1, 2)]
    with (
        connected(farm, phone_host, *lost, *kept) as phones,
        LivePhone(farm.hosts[0], caller_host, "alice", "udp") as alice,
    ):
        up = []
        for number, phone in enumerate(phones):
            alice.turn_to(farm.hosts[number % 3])
            up.append((set_up(alice, phone), set_up(alice, phone)))
        farm.kill(0)
        alice.turn_to(farm.hosts[1])
        for first, second in up[len(lost) :]:
            exchange(*first, "INVITE")  # at once, before the others know that it is dead
            exchange(second[1], second[0], "INFO")
        for number, phone in enumerate(phones[: len(lost)]):
            phone.turn_to(farm.hosts[1 + number % 2], keep=False)
            phone.enter(cseq=2)
        for number, (first, second) in enumerate(up):
            alice.turn_to(farm.hosts[1 + number % 2])
            exchange(*first, "INVITE")
            exchange(first[1], first[0], "INVITE")
            exchange(*second, "BYE")
        farm.start_again(0)
        farm.wait_whole()
        alice.turn_to(farm.hosts[0])
        for number, (first, _) in enumerate(up):
            ours, theirs = first
            if number % 2:
                exchange(ours, theirs, "BYE")
            else:
                theirs.phone.turn_to(farm.hosts[0])  # type: ignore[attr-defined]
                exchange(theirs, ours, "BYE")


def test_a_rolling_restart_with_connected_phones_loses_no_registration_and_no_call(
    make_face: Callable[..., LiveFarm], hosts: Hosts
) -> None:
    """A phone whose connection is closed comes back at the next node. The caller tries again while it does."""
    phone_host, caller_host, talker_host = hosts(3)
    farm = make_face(limits={"drain_close_seconds": 0.5})
    hows = [(how, node) for node in range(3) for how in ("tcp", "tls", "wss")]
    with (
        connected(farm, phone_host, *hows) as phones,
        LivePhone(farm.hosts[0], caller_host, "caller", "udp") as caller,
        LivePhone(farm.hosts[0], talker_host, "talker", "udp") as talker,
    ):
        up = [set_up(talker, phone)[0] for phone in phones]
        steady = SteadyCaller(caller, [phone.user for phone in phones], farm.hosts)
        asking = SteadyCaller(talker, [], farm.hosts)
        with AnsweringPhones(phones, farm.hosts) as answering, steady:
            for index in range(3):
                stopped = farm.stop(index)
                farm.wait_state((index + 1) % 3, index, "left", 5.0)
                began = steady.counts["calls"]
                wait_until(lambda began=began: steady.counts["calls"] > began + 10, 10, "calls go on")  # type: ignore[misc]
                for dialog in up:
                    assert asking.ask(dialog, "INVITE"), f"a call is lost, {asking.counts}"
                ready = farm.start_again(index)
                print(f"node {index}: stopped in {stopped:.2f} s, ready {ready:.2f} s after its start, {steady.counts}")
            farm.wait_whole()
            for dialog in up:
                assert asking.ask(dialog, "BYE"), f"a call is lost, {asking.counts}"
        print(answering.counts, steady.counts, f"slowest {steady.slowest:.2f} s", asking.counts)
        assert not answering.failures
        assert not steady.failures
        assert answering.counts["came back"] >= len(phones)
        farm.wait_registrations(len(phones), 5)


@pytest.mark.parametrize("how", ["tls", "tcp", "wss"])
@pytest.mark.parametrize("instance", ["urn:uuid:00000000-0000-1000-8000-000000000042", ""], ids=["instance", "none"])
def test_a_long_call_goes_on_when_its_phone_comes_back_on_another_connection(
    make_face: Callable[..., LiveFarm], hosts: Hosts, how: str, instance: str
) -> None:
    """At another node, at the same, and once more; in between it is known to be away."""
    phone_host, caller_host = hosts(2)
    farm = make_face()
    with (
        LivePhone(farm.hosts[0], phone_host, "bob", how) as bob,
        LivePhone(farm.hosts[1], caller_host, "alice", "udp") as alice,
    ):
        bob.instance = instance
        bob.enter()
        alice.enter()
        ours, theirs = set_up(alice, bob)
        for number, node in enumerate((2, 2, 0, 1)):
            bob.hang_up()
            wait_until(lambda: farm.metric("flows", transport=how) == 0, 5, "the connection is gone everywhere")
            ours.send("INVITE")
            gone = alice.expect_final(method="INVITE")
            assert gone.status in (430, 480)
            alice.acknowledge(f"INVITE {ours.target} SIP/2.0\r\nVia: {gone.first('via')}\r\n", gone)
            bob.turn_to(farm.hosts[node])
            bob.enter(cseq=number + 2)
            alice.turn_to(farm.hosts[number % 3])
            exchange(ours, theirs, "INVITE")
            exchange(theirs, ours, "INVITE")
        exchange(ours, theirs, "BYE")
        ours, theirs = set_up(bob, alice)
        bob.turn_to(farm.hosts[2], keep=False)
        bob.enter(cseq=9)
        exchange(theirs, ours, "INVITE")
        exchange(theirs, ours, "BYE")
