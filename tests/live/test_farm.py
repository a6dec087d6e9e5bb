"""Three real nodes are one registrar: SIPp's users register through one and are called through the others, while nodes
are killed, restarted one by one, and lose power all at once. The figures are printed: `pytest -s`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.agents import Agent, make_call
from tests.support.floods import register_many
from tests.support.live_farm import LiveFarm
from tests.support.nodes import NodeProgram
from tests.support.processes import wait_until
from tests.support.sipp import Sipp, describe, write_users
from tests.support.tools import need
from tests.support.traffic import Traffic

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

USERS = 5_000
CALLS_PER_SECOND = 75  # through each of two nodes
DETECTION_SECONDS = 10.0  # it takes about one; the machine may be busy


class Callers:
    """Called phones at one address, and SIPps that call them, each through a node of its own."""

    def __init__(self, directory: Path, phone_host: str, hosts: Sequence[str]) -> None:
        self.directory = directory
        self.phone_host = phone_host
        self.hosts = hosts
        self.users = write_users(directory / "users.csv", USERS, f"sip:{{user}}@{phone_host}:5060")

    def register_all(self, node: NodeProgram, per_second: int) -> None:
        """All users register from the phones' address, as devices would."""
        phones = Sipp(
            "register.xml",
            node.sip,
            (self.phone_host, 5060),
            self.directory,
            calls=USERS,
            rate=per_second,
            users=self.users,
        )
        try:
            code = phones.wait(60 + USERS / per_second)
        finally:
            phones.kill()
        assert code == 0, describe([phones])
        assert phones.statistics().successful == USERS, describe([phones])

    def call_all(
        self, nodes: Sequence[NodeProgram], count: int = USERS, *, during: Callable[[], None] | None = None
    ) -> None:
        """Call the first `count` users, each through one of the nodes; `during` is called while they do. No call may
        fail."""
        lines = self.users.read_text().splitlines()[1 : count + 1]
        share = count // len(nodes)
        callee = Sipp("callee.xml", nodes[0].sip, (self.phone_host, 5060), self.directory)
        callers = []
        for index, node in enumerate(nodes):
            file = self.directory / f"share-{index}.csv"
            file.write_text("\n".join(["SEQUENTIAL", *lines[index * share : (index + 1) * share]]) + "\n")
            callers.append(
                Sipp(
                    "caller.xml",
                    node.sip,
                    (self.hosts[index], 5060),
                    self.directory,
                    calls=share,
                    rate=CALLS_PER_SECOND,
                    users=file,
                )
            )
        try:
            if during is not None:
                during()
            codes = [caller.wait(60 + 2 * share / CALLS_PER_SECOND) for caller in callers]
            callee.finish()
        finally:
            for program in (*callers, callee):
                program.kill()
        sides = [*callers, callee]
        assert codes == [0] * len(callers), describe(sides)
        assert [caller.statistics().successful for caller in callers] == [share] * len(callers), describe(sides)
        assert callee.statistics().failed == 0, describe(sides)


def refusals(nodes: Sequence[NodeProgram]) -> float:
    """How many INVITEs these nodes have answered with 4xx, 404 and 480 among them, or 5xx."""
    return sum(
        node.metric("sip_responses_total", method="INVITE", direction="out", **{"class": kind})
        for node in nodes
        for kind in ("4xx", "5xx")
    )


def test_users_of_a_node_that_is_killed_are_called_through_the_others(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    need("sipp")
    phone_host, other_host, *caller_hosts = hosts(5)
    farm = make_farm()
    farm.start()
    callers = Callers(tmp_path, phone_host, caller_hosts)
    callers.register_all(farm[0], 400)
    second, third = farm[1], farm[2]
    farm.wait_registrations(USERS, 10)
    callers.call_all([second, third])

    detected: list[float] = []

    def kill_first() -> None:
        time.sleep(2.0)
        killed = farm.kill(0)
        detected.extend(farm.wait_state(observer, 0, "dead") - killed for observer in (1, 2))
        assert register_many(second.sip, other_host, [f"late{number}" for number in range(100)]) == 100
        assert register_many(third.sip, other_host, [f"later{number}" for number in range(100)]) == 100

    # Those called through the second node before are called through the third, and the other way round.
    callers.call_all([third, second], during=kill_first)
    print(f"node 0 killed: dead after {detected[0]:.2f} and {detected[1]:.2f} s")
    assert max(detected) < DETECTION_SECONDS
    assert refusals([second, third]) == 0

    with Agent(third.sip, host=other_host) as agent:
        for number in range(50):
            agent.user = f"u{number:05d}"
            assert agent.register(contact="*", expires=0).status == 200
        for number in range(50, 100):
            agent.user = f"u{number:05d}"
            contact = f"<sip:{agent.user}@{phone_host}:5060;transport=UDP>"
            assert agent.register(contact=contact, expires=0).status == 200
    print(f"node 0 ready again after {farm.start_again(0):.1f} s")
    for index in range(3):
        for user in ("u00000", "u00049", "u00050", "u00099"):
            assert farm.contacts(index, user) == [], f"{user} came back at node {index}"
        for user in ("u00100", "u04999", "late7", "later99"):
            assert len(farm.contacts(index, user)) == 1
    farm.wait_registrations(USERS - 100 + 200, 30)
    with Agent(farm[0].sip, host=other_host, user="caller") as caller:
        for user in ("u00000", "u00099"):
            assert caller.request_with_digest("INVITE", f"sip:{user}@example.com").status in (404, 480)
    skipped = callers.users.read_text().splitlines()
    callers.users.write_text("\n".join([skipped[0], *skipped[101:]]) + "\n")
    callers.call_all([farm[0]], 350)


def test_users_added_at_one_node_register_at_all(make_farm: MakeFarm, hosts: Hosts) -> None:
    phone_host, caller_host = hosts(2)
    farm = make_farm(open_farm=False)
    farm.start()
    file = farm[1].config.parent / "password"
    for user in ("alice", "bob"):
        file.write_text(farm.hosts[1] + user)
        farm.console(1, "user", "add", f"{user}@example.com", "--password-file", str(file))
    for index in (0, 1, 2):
        with (
            Agent(farm[index].sip, host=phone_host, user="bob") as bob,
            Agent(farm[(index + 1) % 3].sip, host=caller_host, user="alice") as alice,
        ):
            assert bob.register(password=farm.hosts[1] + "bob").status == 200
            assert alice.register(password="wrong").status == 401
            assert alice.register(password=farm.hosts[1] + "alice").status == 200
    before = [node.cpu_seconds() for node in farm]
    time.sleep(2.0)
    used = [node.cpu_seconds() - begun for node, begun in zip(farm, before, strict=True)]
    print(f"idle for 2 s: {used} s CPU")
    assert max(used) < 0.2


def test_a_rolling_restart_under_load_loses_no_binding_and_fails_no_call(make_farm: MakeFarm, hosts: Hosts) -> None:
    phone_host, caller_host = hosts(2)
    farm = make_farm()
    farm.start()
    traffic = Traffic(
        [node.sip for node in farm], phone_host, caller_host, registers_per_second=50, calls_per_second=20
    )
    traffic.start()
    stops = []
    try:
        time.sleep(2.0)
        for index in range(3):
            stopped = farm.stop(index)
            farm.wait_state((index + 1) % 3, index, "left", 2.0)
            ready = farm.start_again(index)
            stops.append(stopped)
            print(f"node {index}: stopped in {stopped:.1f} s, ready {ready:.1f} s after its start; {traffic!r}")
        farm.wait_whole()
        time.sleep(1.0)
    finally:
        traffic.stop()
    print(traffic)
    assert not traffic.failures
    assert traffic.counts["calls"] > 100
    assert max(stops) < 15.0, "a node that leaves under load ends although writes go on"
    expected = len(traffic.registered)
    assert expected > 300
    farm.wait_registrations(expected, 20)


def test_registrations_older_than_a_second_survive_a_power_loss_of_the_whole_farm(
    make_farm: MakeFarm, hosts: Hosts
) -> None:
    phone_host, caller_host = hosts(2)
    farm = make_farm()
    farm.start()
    with Agent(farm[0].sip, host=phone_host, user="bob") as bob:
        assert bob.register().status == 200
        for index, node in enumerate(farm):
            users = [f"p{index}x{number}" for number in range(700)]
            assert register_many(node.sip, phone_host, users, per_second=1_000) == len(users)
        time.sleep(1.0)
        farm.kill_all()
        begun = time.monotonic()
        for index in range(3):
            farm.start_again(index, wait=False)
        farm.wait_whole()
        print(f"the farm is whole {time.monotonic() - begun:.1f} s after the power came back")
        for index, node in enumerate(farm):
            assert node.metric("registrations") == 2_101, f"node {index}"
            with Agent(node.sip, host=caller_host, user="alice") as alice:
                make_call(alice, bob)


def test_a_node_that_leaves_hands_over_what_it_held_so_that_two_crashes_then_lose_nothing(
    make_farm: MakeFarm, hosts: Hosts
) -> None:
    (phone_host,) = hosts(1)
    farm = make_farm(5)
    farm.start()
    users = [f"u{number}" for number in range(1_000)]
    assert register_many(farm[4].sip, phone_host, users, per_second=500) == len(users)
    assert farm.metric("registrations") >= 3 * len(users)  # more: a slow machine's writes went to stand-ins, too
    before = [node.metric("registrations") for node in farm]
    stopped = farm.stop(2)
    print(f"a node that held {before[2]:g} of {len(users)} registrations left in {stopped:.1f} s")
    farm.wait_state(0, 2, "left", 5.0)
    wait_until(lambda: farm.metric("registrations") >= 3 * len(users), 10, "there are three copies of each again")
    for index in (1, 4):
        farm.kill(index)
    for index in (0, 3):
        with Agent(farm[index].sip, host=phone_host, user="u0") as agent:
            for user in users[index::7]:
                agent.user = user
                answer = agent.register(contact="")
                assert answer.status == 200
                assert len(answer.all("contact")) == 1, f"{user} at node {index}"
