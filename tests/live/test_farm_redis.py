"""A farm whose nodes all keep their journals in one Redis: all of them lose their lives, then Redis loses its own.

Each node's keys begin with `sipfarm:` and its own name. What the nodes hold together is asked of each of them; what
one of them alone would come back with is asked of Redis, and read in the log of its start.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.live.test_redis import PORT, RedisProgram
from tests.support.agents import Agent
from tests.support.floods import register_many
from tests.support.live_farm import LiveFarm
from tests.support.nodes import NodeProgram
from tests.support.processes import ProgramFailed, wait_until
from tests.support.tools import need
from tests.support.traffic import Traffic

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]
StartRedis = Callable[[], RedisProgram]

KEPT_SECONDS: Final = 1.0  # a registration that is older survives any kill
USERS: Final = 100  # through each node
_READ: Final = re.compile(r'"message": "journal read", "records": (\d+)')


@pytest.fixture
def start_redis(tmp_path: Path, hosts: Hosts) -> Iterator[StartRedis]:
    """Start the server, at the same place each time; it ends with the test."""
    need("redis-server", "redis-cli")
    (host,) = hosts(1)
    started: list[RedisProgram] = []

    def start() -> RedisProgram:
        started.append(RedisProgram(tmp_path, host, "--appendonly", "yes"))
        return started[-1]

    yield start
    for program in started:
        program.kill()


def start_farm(make_farm: MakeFarm, server: RedisProgram) -> LiveFarm:
    """Three nodes that have no journal but Redis."""
    farm = make_farm(store={"backend": "redis", "redis": f"{server.host}:{PORT}"})
    farm.start()
    return farm


def problems(node: NodeProgram) -> str:
    """What a node says is wrong with it."""
    return "; ".join(json.loads(node.get("/healthz")[1] or '{"problems": []}')["problems"])


def is_well(node: NodeProgram) -> bool:
    return not problems(node)


def lags_less(node: NodeProgram, seconds: float) -> bool:
    return node.metric("journal_lag_seconds") < seconds


def write_errors(node: NodeProgram) -> float:
    return node.metric("journal_errors_total", operation="write")


def check_known(farm: LiveFarm, index: int, host: str, users: Iterable[str], bindings: int) -> None:
    """Every one of these users has that many bindings, asked of a node by a REGISTER without Contact."""
    with Agent(farm[index].sip, host=host) as agent:
        for user in users:
            agent.user = user
            answer = agent.register(contact="")
            assert answer.status == 200, f"{user} at node {index}: {answer}"
            assert len(answer.all("contact")) == bindings, f"{user} at node {index}: {answer.all('contact')}"


def wait_written(farm: LiveFarm, server: RedisProgram, records: int) -> None:
    """Until Redis has that many registrations of each node, and no node has more to write."""
    for index, node in enumerate(farm):
        wait_until(partial(_has_written, node, server, records), 20, f"Redis has all of node {index}", every=0.2)


def _has_written(node: NodeProgram, server: RedisProgram, records: int) -> bool:
    return server.records(node) == records and node.metric("journal_lag_seconds") == 0


def test_a_farm_that_loses_all_its_nodes_has_its_registrations_back_from_redis(
    make_farm: MakeFarm, hosts: Hosts, start_redis: StartRedis
) -> None:
    phone_host, other_host = hosts(2)
    server = start_redis()
    farm = start_farm(make_farm, server)
    users = [[f"u{index}x{number}" for number in range(USERS)] for index in range(3)]
    for index, node in enumerate(farm):
        assert register_many(node.sip, phone_host, users[index], per_second=500) == USERS
    # A tenth of them leaves again, through another node than the one they came by.
    removed = [user for owned in users for user in owned[::10]]
    kept = [user for owned in users for user in owned if user not in removed]
    for index in range(3):
        with Agent(farm[index].sip, host=other_host) as agent:
            for user in users[(index + 1) % 3][::10]:
                agent.user = user
                assert agent.register(contact="*", expires=0).status == 200
    time.sleep(KEPT_SECONDS)
    young = [f"young{number}" for number in range(30)]  # may be lost, and may not get in the way
    assert register_many(farm[0].sip, phone_host, young) == len(young)
    farm.kill_all()
    begun = time.monotonic()
    for index in range(3):
        farm.start_again(index, wait=False)
    farm.wait_whole()
    print(f"the farm is whole {time.monotonic() - begun:.1f} s after it was started again")
    for index, node in enumerate(farm):
        assert not (node.config.parent / "state" / "journal.sqlite").exists()
        check_known(farm, index, other_host, kept, 1)
        check_known(farm, index, other_host, removed, 0)
        assert len(kept) <= node.metric("registrations") <= len(kept) + len(young)
    with Agent(farm[1].sip, host=other_host, user="caller") as caller:
        for user in removed[::10]:
            assert caller.request_with_digest("INVITE", f"sip:{user}@example.com").status in (404, 480)


def test_a_redis_that_all_nodes_lose_is_told_of_and_missed_by_no_call(
    make_farm: MakeFarm, hosts: Hosts, start_redis: StartRedis
) -> None:
    phone_host, caller_host, other_host = hosts(3)
    server = start_redis()
    farm = start_farm(make_farm, server)
    traffic = Traffic(
        [node.sip for node in farm], phone_host, caller_host, registers_per_second=25, calls_per_second=10
    )

    def wait_traffic(what: str) -> None:
        """Until two seconds' worth of it has succeeded."""
        registers, calls = traffic.counts["registers"] + 50, traffic.counts["calls"] + 20
        wait_until(
            lambda: (
                bool(traffic.failures)
                or (traffic.counts["registers"] >= registers and traffic.counts["calls"] >= calls)
            ),
            20,
            f"traffic goes on {what}: {traffic!r}",
        )
        assert not traffic.failures, what

    traffic.start()
    try:
        wait_traffic("with Redis")
        assert farm.metric("journal_errors_total") == 0
        server.kill()
        gone = time.monotonic()
        for index, node in enumerate(farm):
            wait_until(partial(write_errors, node), 10, f"node {index} counts it", every=0.1)
            wait_until(partial(node.metric, "journal_lag_seconds"), 5, f"node {index} lags", every=0.1)
            assert "the journal cannot be written" in problems(node), f"node {index}"
            assert farm.is_ready(index), "it serves all the same"
        with pytest.raises(ProgramFailed, match=rf"problem: the journal cannot be written: Redis {server.host}:{PORT}"):
            farm.console(0, "status")
        wait_traffic("without Redis")
        before = write_errors(farm[1])
        wait_until(lambda: write_errors(farm[1]) > before, 10, "it keeps trying and counting", every=0.1)
        away = time.monotonic() - gone
        lags = [node.metric("journal_lag_seconds") for node in farm]
        assert min(lags) > away / 2, "the lag grows with the gap"

        server = start_redis()
        for index, node in enumerate(farm):
            wait_until(partial(is_well, node), 15, f"node {index} is well again", every=0.1)
        print(f"Redis was away for {away:.1f} s, lags {lags}; {traffic!r}")
        assert "problem" not in farm.console(0, "status")
        wait_traffic("with Redis again")
        for index, node in enumerate(farm):  # something always waits, but not for long
            wait_until(partial(lags_less, node, away / 2), 5, f"node {index} has caught up", every=0.1)
    finally:
        traffic.stop()
    print(traffic)
    assert not traffic.failures
    registered = len(traffic.registered)
    wait_written(farm, server, registered)
    for index in range(3):
        assert farm[index].metric("registrations") == registered
        check_known(farm, index, other_host, traffic.registered[index::3], 1)

    farm.kill(2)
    farm.start_again(2)
    read = [int(count) for count in _READ.findall(farm[2].output())]
    assert len(read) == 2
    assert read[1] >= registered, "it had all from Redis, not from its neighbours alone"
    check_known(farm, 2, other_host, traffic.registered, 1)
    assert farm[2].metric("registrations") == registered
