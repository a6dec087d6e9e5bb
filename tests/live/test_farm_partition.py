"""Nodes on hosts of their own lose sight of each other: what is cut off goes on by itself, and all is one again when
the cable is back. Cut is what joins the nodes; phones reach all of them at all times. The figures are printed:
`pytest -s`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.agents import Agent, make_call
from tests.support.cables import Cables, lay_cables
from tests.support.floods import register_many
from tests.support.live_farm import LiveFarm
from tests.support.nodes import NodeProgram, Nodes
from tests.support.traffic import Traffic

HEAL_SECONDS = 60.0
USERS = 60
PROBE_SECONDS = 0.5  # half of the usual: who sees nobody any more waits long before it believes that


@pytest.fixture
def cables() -> Iterator[Cables]:
    """Three hosts on a switch, around this test."""
    with lay_cables(3) as laid:
        yield laid


@pytest.fixture
def farm(cables: Cables, nodes: Nodes, tmp_path: Path) -> Iterator[LiveFarm]:
    """A node on each of them; none may have met an unexpected error."""
    farm = LiveFarm(
        nodes,
        cables.hosts,
        tmp_path,
        peer_hosts=cables.back_hosts,
        asking_host=cables.phone_hosts[-1],
        overlay={"probe_seconds": PROBE_SECONDS},
    )
    try:
        for index, host in enumerate(cables.hosts):
            farm.start_node(host, wrapper=cables.wrapper(index))
        farm.wait_whole()
        yield farm
        farm.check()
    finally:
        farm.stop_all()


def register(farm: LiveFarm, index: int, host: str, user: str, **what: int | str) -> None:
    """A REGISTER of a user through that node, as the Agent makes it; it must succeed."""
    with Agent(farm[index].sip, host=host, user=user) as agent:
        answer = agent.register(**what)  # type: ignore[arg-type]
        assert answer.status == 200, answer


def call(farm: LiveFarm, index: int, host: str, callee: Agent) -> None:
    """A whole call through that node."""
    with Agent(farm[index].sip, host=host, user="caller") as caller:
        make_call(caller, callee)


@contextmanager
def steady_traffic(nodes: Sequence[NodeProgram], hosts: Sequence[str]) -> Iterator[Traffic]:
    """A few registrations and calls a second through these nodes."""
    traffic = Traffic([node.sip for node in nodes], hosts[0], hosts[1], registers_per_second=20, calls_per_second=10)
    traffic.start()
    try:
        yield traffic
    finally:
        traffic.stop()


def test_both_sides_of_a_partition_serve_and_are_one_again_when_it_has_healed(cables: Cables, farm: LiveFarm) -> None:
    phones, caller_host, other_host, *traffic_hosts = cables.phone_hosts
    users = [f"u{number}" for number in range(USERS)]
    for index in range(3):
        assert register_many(farm[index].sip, phones, users[index::3]) == USERS / 3
    farm.wait_registrations(USERS, 10)

    with (
        ExitStack() as stack,
        Agent(farm[0].sip, host=phones, user="before") as before,
        Agent(farm[0].sip, host=phones, user="left") as left,
        Agent(farm[1].sip, host=phones, user="right") as right,
    ):
        assert before.register().status == 200
        traffic = stack.enter_context(steady_traffic(list(farm)[1:], traffic_hosts))
        cables.pull(0)
        cut = time.monotonic()
        seen = [farm.wait_state(*pair, "dead") - cut for pair in ((0, 1), (0, 2), (1, 0), (2, 0))]
        print(f"dead after {', '.join(f'{seconds:.1f}' for seconds in seen)} s")

        assert left.register().status == 200
        assert right.register().status == 200
        for index in range(3):
            call(farm, index, caller_host, before)
        call(farm, 0, caller_host, left)
        for index in (1, 2):
            call(farm, index, caller_host, right)
            assert farm.contacts(index, "left") == [], "the sides do not know of each other"
        assert farm.contacts(0, "right") == []

        # Removed on one side alone, by `*` and by name; registered on both; removed on one and registered on the other.
        for number in range(5):
            register(farm, 0, phones, users[number], contact="*", expires=0)
        for number in range(5, 10):
            contact = f"<sip:{users[number]}@{phones}:5060>"
            register(farm, 1, phones, users[number], contact=contact, expires=0)
        register(farm, 0, phones, "both", contact="<sip:both@192.0.2.1>")
        register(farm, 2, phones, "both", contact="<sip:both@192.0.2.2>")
        register(farm, 0, phones, users[10], contact="*", expires=0)
        time.sleep(0.05)  # the sides share no clock now; what is later by less may count as the earlier
        register(farm, 2, other_host, users[10], contact="<sip:u10@192.0.2.3>")
        assert len(farm.contacts(1, users[0])) == 1
        assert len(farm.contacts(0, users[5])) == 1

        cables.plug(0)
        healed = time.monotonic()
        farm.wait_whole(HEAL_SECONDS)
        met = time.monotonic() - healed
        traffic.stop()
        print(traffic)
        assert not traffic.failures, "two of three are a farm"
        # Without the ten, with the contact that came for the eleventh, and before, left, right and two of both.
        farm.wait_registrations(USERS - 11 + 1 + 3 + 2 + len(traffic.registered), HEAL_SECONDS - met)
        print(
            f"the cable is back: all see all after {met:.1f} s, all is the same after {time.monotonic() - healed:.1f} s"
        )
        for index in range(3):
            for number in range(10):
                assert farm.contacts(index, users[number]) == [], f"{users[number]} came back at node {index}"
            for user in ("left", "right", "before", *users[11::7]):
                assert len(farm.contacts(index, user)) == 1, f"{user} at node {index}"
            assert len(farm.contacts(index, "both")) == 2
            (contact,) = farm.contacts(index, users[10])
            assert "192.0.2.3" in contact
        call(farm, 1, caller_host, left)
        call(farm, 0, caller_host, right)


def test_two_nodes_of_which_one_does_not_hear_the_other_stay_in_the_farm(cables: Cables, farm: LiveFarm) -> None:
    with steady_traffic(list(farm), cables.phone_hosts) as traffic:
        time.sleep(1.0)
        cables.mute(0, 1)
        seen = set()
        for _ in range(25):
            time.sleep(0.2)
            seen |= {state for index in range(3) for state in farm.members(index).values()}
        print(f"while it is so: {sorted(seen)}; {traffic}")
        assert "dead" not in seen, "the third speaks for both"
        assert farm.metric("rpc_seconds_count", type="ping-request") > 0
        cables.unmute(0, 1)
        healed = time.monotonic()
        farm.wait_whole(HEAL_SECONDS)
        print(f"all see all after {time.monotonic() - healed:.1f} s")
    print(traffic)
    assert not traffic.failures
    assert len(traffic.registered) > 80
    farm.wait_registrations(len(traffic.registered), HEAL_SECONDS)


def test_a_node_that_is_heard_by_nobody_but_hears_all_is_given_up_and_comes_back(
    cables: Cables, farm: LiveFarm
) -> None:
    phones, caller_host, *_ = cables.phone_hosts
    for other in (1, 2):
        cables.mute(0, other)
    cut = time.monotonic()
    seen = [farm.wait_state(*pair, "dead") - cut for pair in ((1, 0), (2, 0), (0, 1), (0, 2))]
    print(f"dead after {', '.join(f'{seconds:.1f}' for seconds in seen)} s")
    with (
        Agent(farm[0].sip, host=phones, user="left") as left,
        Agent(farm[1].sip, host=phones, user="right") as right,
    ):
        assert left.register().status == 200
        assert right.register().status == 200
        call(farm, 0, caller_host, left)
        call(farm, 2, caller_host, right)
        for other in (1, 2):
            cables.unmute(0, other)
        healed = time.monotonic()
        farm.wait_whole(HEAL_SECONDS)
        farm.wait_registrations(2, HEAL_SECONDS)
        print(f"all is the same after {time.monotonic() - healed:.1f} s")
        call(farm, 0, caller_host, right)
        call(farm, 1, caller_host, left)
