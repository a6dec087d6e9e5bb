"""Nodes whose journal is a real Redis: killed, emptied, shared, failed over, and never in a call's way."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.support.agents import Agent, make_call
from tests.support.floods import register_many
from tests.support.nodes import STOPPED, NodeProgram, Nodes
from tests.support.processes import Program, wait_until
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
PORT: Final = 6379
SENTINEL_PORT: Final = 26379


class RedisProgram(Program):
    """One server on a loopback host of its own, with its files in a directory of its own."""

    def __init__(self, directory: Path, host: str, *options: str, sentinel: str = "") -> None:
        self.host = host
        place = directory / host
        place.mkdir(exist_ok=True)
        port = SENTINEL_PORT if sentinel else PORT
        common = ("--bind", host, "--port", str(port), "--dir", str(place), "--protected-mode", "no")
        if sentinel:
            config = place / "sentinel.conf"
            config.write_text(sentinel)
            command: tuple[str, ...] = ("redis-server", str(config), "--sentinel", *common)
        else:
            command = ("redis-server", *common, "--save", "", *options)
        super().__init__(command, place / "redis.log")
        wait_until(lambda: self._answers(port), 10, f"Redis {host} is ready")

    def _answers(self, port: int) -> bool:
        with suppress(OSError), socket.create_connection((self.host, port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def ask(self, *words: str) -> str:
        """What `redis-cli` answers."""
        command = ["redis-cli", "-h", self.host, "-p", str(PORT), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    def records(self, node: NodeProgram) -> int:
        """How many registrations of a node it holds."""
        return int(self.ask("HLEN", f"sipfarm:n{node.sip[0].rpartition('.')[2]}:records:registration"))


StartRedis = Callable[..., RedisProgram]


@pytest.fixture
def redis(tmp_path: Path, hosts: Hosts) -> Iterator[StartRedis]:
    """Start servers; all end with the test."""
    need("redis-server", "redis-cli")
    started: list[RedisProgram] = []

    def start(*options: str, host: str = "", sentinel: str = "") -> RedisProgram:
        started.append(RedisProgram(tmp_path, host or hosts(1)[0], *options, sentinel=sentinel))
        return started[-1]

    yield start
    for program in started:
        program.kill()


def wait_serving(node: NodeProgram, timeout: float = 30.0) -> NodeProgram:
    """Until it serves from what Redis has, or from memory because there is no Redis."""
    wait_until(lambda: node.get("/readyz")[0] == 200, timeout, "the node serves from what it kept")
    return node


def register(node: NodeProgram, host: str, first: int, last: int) -> None:
    assert register_many(node.sip, host, (f"u{number}" for number in range(first, last))) == last - first


def test_registrations_survive_kill_9_and_the_loss_of_the_disk(
    nodes: Nodes, hosts: Hosts, redis: StartRedis, tmp_path: Path
) -> None:
    server = redis("--appendonly", "yes")
    (phone_host,) = hosts(1)
    node = wait_serving(nodes.start(store={"backend": "redis", "redis": f"{server.host}:{PORT}"}))
    register(node, phone_host, 0, 1_000)
    wait_until(lambda: node.metric("journal_pending") == 0, 5, "all is written")
    node.kill()
    node = wait_serving(nodes.start_again(node.config, node.sip[0]))
    assert node.metric("registrations") == 1_000
    assert not (node.config.parent / "state" / "journal.sqlite").exists()
    node.kill()
    shutil.rmtree(node.config.parent / "state")  # a container that is made anew: it waits for the lease of the old one
    node = wait_serving(nodes.start_again(node.config, node.sip[0]))
    assert node.metric("registrations") == 1_000
    assert "in use by another process" in node.output()
    register(node, phone_host, 1_000, 1_100)
    assert node.stop() in STOPPED
    assert server.records(node) == 1_100


def test_a_redis_that_is_killed_and_comes_back_stops_no_call_and_is_caught_up_with(
    nodes: Nodes, hosts: Hosts, redis: StartRedis
) -> None:
    server = redis("--appendonly", "yes", "--appendfsync", "always")
    phone_host, caller_host = hosts(2)
    node = wait_serving(nodes.start(store={"backend": "redis", "redis": f"{server.host}:{PORT}"}))
    with (
        Agent(node.sip, host=phone_host, user="bob") as bob,
        Agent(node.sip, host=caller_host, user="alice") as alice,
    ):
        assert bob.register().status == 200
        register(node, phone_host, 0, 500)
        server.kill()
        register(node, phone_host, 500, 1_000)
        make_call(alice, bob)
        wait_until(lambda: node.metric("journal_errors_total", operation="write") > 0, 10, "the failure is counted")
        assert node.metric("journal_pending") >= 500
        assert node.metric("journal_lag_seconds") > 0
        assert "the journal cannot be written" in node.output()
        assert node.get("/healthz")[0] == 200
        server = redis("--appendonly", "yes", "--appendfsync", "always", host=server.host)
        make_call(alice, bob)
        wait_until(lambda: node.metric("journal_pending") == 0, 15, "what waited is written")
        assert server.records(node) == 1_001
        node.kill()
        node = wait_serving(nodes.start_again(node.config, node.sip[0]))
        assert node.metric("registrations") == 1_001


@pytest.mark.parametrize("loss", ["restart", "flush"])
def test_a_redis_that_lost_everything_gets_it_again(nodes: Nodes, hosts: Hosts, redis: StartRedis, loss: str) -> None:
    server = redis()
    (phone_host,) = hosts(1)
    node = wait_serving(nodes.start(store={"backend": "redis", "redis": f"{server.host}:{PORT}"}))
    register(node, phone_host, 0, 1_000)
    wait_until(lambda: server.records(node) == 1_000, 5, "all is written")
    if loss == "restart":
        server.kill()
        server = redis(host=server.host)
    else:
        server.ask("FLUSHALL")
    assert server.records(node) == 0
    wait_until(lambda: server.records(node) == 1_000, 15, "all is written again, although nothing changed")
    assert node.metric("journal_errors_total", operation="read") == 1


def test_a_node_starts_without_its_redis_and_merges_what_that_has_when_it_comes(
    nodes: Nodes, hosts: Hosts, redis: StartRedis
) -> None:
    server = redis("--appendonly", "yes", "--appendfsync", "always")
    (phone_host,) = hosts(1)
    node = wait_serving(nodes.start(store={"backend": "redis", "redis": f"{server.host}:{PORT}"}))
    register(node, phone_host, 0, 100)
    assert node.stop() in STOPPED
    server.kill()
    node = wait_serving(nodes.start_again(node.config, node.sip[0]))
    assert node.metric("registrations") == 0
    assert node.metric("journal_errors_total", operation="open") >= 1
    register(node, phone_host, 50, 150)
    assert node.metric("journal_pending") == 101, "the registrations, and the node's keys"
    server = redis("--appendonly", "yes", "--appendfsync", "always", host=server.host)
    wait_until(lambda: node.metric("registrations") == 150, 15, "what Redis had is merged")
    wait_until(lambda: server.records(node) == 150, 5, "what the node had is written")
    wait_until(lambda: node.metric("journal_pending") == 0, 5, "nothing waits")


def test_a_redis_that_hangs_keeps_no_call_waiting(nodes: Nodes, hosts: Hosts, redis: StartRedis) -> None:
    server = redis()
    phone_host, caller_host = hosts(2)
    node = nodes.start(store={"backend": "redis", "redis": f"{server.host}:{PORT}", "redis_timeout_seconds": 1.0})
    with (
        Agent(node.sip, host=phone_host, user="bob") as bob,
        Agent(node.sip, host=caller_host, user="alice") as alice,
    ):
        server.ask("CLIENT", "PAUSE", "6000")
        began = time.monotonic()
        assert bob.register().status == 200
        make_call(alice, bob)
        assert time.monotonic() - began < 1.5
        wait_until(lambda: "does not answer in time" in node.output(), 5, "it is told")
        wait_until(lambda: node.metric("journal_pending") == 0, 15, "what waited is written")


def test_a_full_redis_is_told_and_caught_up_with_when_it_has_room(
    nodes: Nodes, hosts: Hosts, redis: StartRedis
) -> None:
    server = redis()
    (phone_host,) = hosts(1)
    node = wait_serving(nodes.start(store={"backend": "redis", "redis": f"{server.host}:{PORT}"}))
    server.ask("CONFIG", "SET", "maxmemory", "1")
    register(node, phone_host, 0, 200)
    wait_until(lambda: "OOM command not allowed" in node.output(), 10, "it is told")
    server.ask("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: server.records(node) == 200, 10, "what waited is written")


def test_two_nodes_on_one_redis_never_mix_and_two_of_one_name_are_refused(
    nodes: Nodes, hosts: Hosts, redis: StartRedis, tmp_path: Path
) -> None:
    server = redis()
    (phone_host,) = hosts(1)
    store = {"backend": "redis", "redis": f"{server.host}:{PORT}"}
    one, two = nodes.start(store=store), nodes.start(store=store)
    register(one, phone_host, 0, 100)
    register(two, phone_host, 100, 130)
    for node in (one, two):
        wait_until(lambda node=node: node.metric("journal_pending") == 0, 5, "all is written")  # type: ignore[misc]
    third = nodes.start(store={**store, "redis_prefix": f"sipfarm:n{one.sip[0].rpartition('.')[2]}"}, wait=False)
    wait_until(lambda: "in use by another process" in third.output(), 20, "the third is refused")
    assert third.get("/readyz")[0] == 503
    for node, count in ((one, 100), (two, 30)):
        node.kill()
        assert server.records(node) == count
    wait_serving(third)  # it takes over when the lease of the first has ended
    assert third.metric("registrations") == 100
    two = wait_serving(nodes.start_again(two.config, two.sip[0]))
    assert two.metric("registrations") == 30


def test_a_password_is_read_from_its_file(nodes: Nodes, hosts: Hosts, redis: StartRedis, tmp_path: Path) -> None:
    server = redis("--requirepass", "open sesame")
    secret = tmp_path / "redis.password"
    secret.write_text("open sesame\n")
    (phone_host,) = hosts(1)
    store = {"backend": "redis", "redis": f"{server.host}:{PORT}", "redis_password_file": str(secret)}
    node = nodes.start(store={**store, "redis_database": 3})
    register(node, phone_host, 0, 10)
    wait_until(lambda: node.metric("journal_pending") == 0, 5, "all is written")
    assert node.metric("journal_errors_total") == 0
    assert "open sesame" not in node.output()
    node.kill()
    secret.write_text("wrong\n")
    node = wait_serving(nodes.start_again(node.config, node.sip[0]))
    assert "WRONGPASS" in node.output()
    node.stop()
    secret.unlink()
    node = nodes.start_again(node.config, node.sip[0], wait=False)
    assert node.wait(30) == 1
    assert node.output().endswith(f"sipfarm: store.redis_password_file: {secret}: No such file or directory\n")


def test_a_fail_over_by_sentinel_is_followed_and_what_it_lost_is_written_again(
    nodes: Nodes, hosts: Hosts, redis: StartRedis
) -> None:
    (phone_host,) = hosts(1)
    master = redis()
    (replica_host,) = hosts(1)
    replica = redis("--replicaof", master.host, str(PORT), "--replica-announce-ip", replica_host, host=replica_host)
    wait_until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), 20, "the replica follows")
    sentinel = redis(
        sentinel=f"sentinel monitor farm {master.host} {PORT} 1\n"
        "sentinel down-after-milliseconds farm 1000\n"
        "sentinel failover-timeout farm 5000\n"
    )
    store = {
        "backend": "redis",
        "redis_sentinels": [f"127.0.0.1:{1}", f"{sentinel.host}:{SENTINEL_PORT}"],
        "redis_master": "farm",
    }
    node = wait_serving(nodes.start(store=store))
    register(node, phone_host, 0, 500)
    wait_until(lambda: replica.records(node) == 500, 10, "the replica has it")
    wait_until(lambda: f"slave {replica.host}" in sentinel.output(), 15, "Sentinel knows the replica")
    master.kill()
    register(node, phone_host, 500, 1_000)
    wait_until(lambda: replica.records(node) == 1_000, 40, "the new master has all")
    wait_until(lambda: node.metric("journal_pending") == 0, 5, "nothing waits")
    assert "role:master" in replica.ask("INFO", "replication")
