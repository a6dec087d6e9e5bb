"""Call records of real nodes: SIPp's calls to the last one, rotation, logrotate's SIGHUP, a full disk, a Redis that is
killed, and a node that is."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.live.test_journal import SMALL_DISK, can_mount
from tests.live.test_redis import RedisProgram
from tests.support.agents import Agent, make_call
from tests.support.nodes import STOPPED, NodeProgram, Nodes, installed
from tests.support.processes import wait_until
from tests.support.sipp import Sipp, describe, write_users
from tests.support.tools import give_up, need

Hosts = Callable[[int], list[str]]
CALLS = 600
USERS = 20


def read(*files: Path) -> list[dict[str, Any]]:
    """The lines of these files; each must be whole."""
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def refuse(caller: Agent, callee: Agent) -> None:
    """A call to somebody who is busy."""
    caller.send_request(caller.make_request("INVITE", callee.aor))
    callee.answer(callee.expect("INVITE"), 486, "Busy Here")
    caller.expect(486)


def console(node: NodeProgram, *words: str) -> Any:
    """What the console answers."""
    command = [installed("sipfarm"), *words, "--json", "-c", str(node.config)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout)


def test_every_call_of_a_load_has_its_record_over_rotations_and_a_sighup(
    nodes: Nodes, hosts: Hosts, tmp_path: Path
) -> None:
    need("sipp")
    caller_host, callee_host = hosts(2)
    records = tmp_path / "calls"
    node = nodes.start(accounting={"file": str(records), "rotate_bytes": 100_000, "keep": 50, "answers": False})
    file = write_users(tmp_path / "users.csv", USERS, f"sip:{{user}}@{callee_host}:5060")
    phones = Sipp("register.xml", node.sip, (callee_host, 5060), tmp_path, calls=USERS, rate=50, users=file)
    assert phones.wait(30) == 0, describe([phones])
    callee = Sipp("callee.xml", node.sip, (callee_host, 5060), tmp_path)
    caller = Sipp("caller.xml", node.sip, (caller_host, 5060), tmp_path, calls=CALLS, rate=150, users=file)
    moved = tmp_path / "moved"
    try:
        wait_until(lambda: records.exists() and records.stat().st_size > 0, 20, "the first records are there")
        records.rename(moved)
        node.signal(signal.SIGHUP)
        assert caller.wait(60) == 0, describe([caller, callee])
    finally:
        caller.kill()
        callee.finish()
    rotated = sorted(tmp_path.glob("calls.[0-9]*"))
    wait_until(
        lambda: len(read(moved, records, *tmp_path.glob("calls.[0-9]*"))) == CALLS, 10, "the last records are there"
    )
    rotated = sorted(tmp_path.glob("calls.[0-9]*"))
    lines = read(moved, records, *rotated)
    assert len({line["callid"] for line in lines}) == CALLS
    assert {(line["event"], line["ended_by"], line["src_ip"]) for line in lines} == {("ended", "caller", caller_host)}
    assert rotated
    assert all(path.stat().st_size <= 100_000 for path in rotated)
    assert node.metric("calls_total", result="answered") == node.metric("calls_ended_total", by="caller") == CALLS
    assert node.metric("calls") == 0
    assert node.metric("accounting_records_total", place="file", result="written") == CALLS
    assert console(node, "calls") == {"ringing": 0, "answered": 0, "calls": []}
    assert node.stop() in STOPPED


def test_a_full_disk_costs_no_record_and_no_call_waits(nodes: Nodes, hosts: Hosts, tmp_path: Path) -> None:
    node_host, phone_host, caller_host = hosts(3)
    (tmp_path / "probe").mkdir()
    if not can_mount(tmp_path / "probe"):
        give_up("no mounts here")
    disk = tmp_path / node_host / "disk"
    disk.mkdir(parents=True)
    filler = disk / "filler"
    wrapper = (*SMALL_DISK, str(disk))
    node = nodes.start(host=node_host, wrapper=wrapper, accounting={"file": str(disk / "calls"), "answers": False})

    def inside(command: str) -> str:
        """Run in the node's mounts, where the small disk is."""
        words = ["nsenter", "-t", str(node.pid), "-m", "sh", "-c", command]
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False).stdout

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in inside(f"cat {disk / 'calls'}").splitlines()]

    with (
        Agent(node.sip, host=phone_host, user="bob") as bob,
        Agent(node.sip, host=caller_host, user="alice") as alice,
    ):
        assert bob.register().status == 200
        make_call(alice, bob)
        wait_until(lambda: len(lines()) == 1, 10, "the first record is there")
        inside(f"cat /dev/zero > {filler}")
        for _ in range(10):
            make_call(alice, bob)
        wait_until(lambda: console(node, "status")["problems"] != [], 10, "the problem is shown")
        (problem,) = console(node, "status")["problems"]
        assert problem == f"call records cannot be written to {disk / 'calls'}: No space left on device"
        assert len(lines()) == 1
        make_call(alice, bob)
        inside(f"rm {filler}")
        wait_until(lambda: len(lines()) == 12, 15, "all records are there")
        wait_until(lambda: console(node, "status")["problems"] == [], 10, "the problem is gone")
    assert node.metric("accounting_records_total", result="dropped") == 0


def test_a_redis_that_is_killed_gets_the_records_when_it_is_back(nodes: Nodes, hosts: Hosts, tmp_path: Path) -> None:
    need("redis-server", "redis-cli")
    redis_host, phone_host, caller_host = hosts(3)
    redis = RedisProgram(tmp_path, redis_host)
    settings = {"redis": f"{redis_host}:6379", "redis_key": "calls", "redis_records": 5, "answers": False}
    node = nodes.start(accounting=settings)
    try:
        with (
            Agent(node.sip, host=phone_host, user="bob") as bob,
            Agent(node.sip, host=caller_host, user="alice") as alice,
        ):
            assert bob.register().status == 200
            make_call(alice, bob)
            wait_until(lambda: redis.ask("LLEN", "calls") == "1", 10, "Redis has the record")
            assert json.loads(redis.ask("LPOP", "calls"))["event"] == "ended"
            redis.kill()
            for _ in range(3):
                make_call(alice, bob)
            wait_until(lambda: node.metric("problems") > 0, 10, "the problem is shown")
            redis = RedisProgram(tmp_path, redis_host)
            wait_until(lambda: redis.ask("LLEN", "calls") == "3", 15, "Redis has what waited")
            for _ in range(6):
                refuse(alice, bob)
            written = {"place": "redis", "result": "written"}
            wait_until(lambda: node.metric("accounting_records_total", **written) == 10, 10, "all is written")
            assert redis.ask("LLEN", "calls") == "5"
            assert node.metric("problems") == 0
    finally:
        redis.kill()


def test_a_killed_node_has_written_the_answer_and_writes_the_end_when_it_is_back(
    nodes: Nodes, hosts: Hosts, tmp_path: Path
) -> None:
    node_host, phone_host, caller_host = hosts(3)
    records = tmp_path / "calls"
    node = nodes.start(host=node_host, accounting={"file": str(records)})
    with (
        Agent(node.sip, host=phone_host, user="bob") as bob,
        Agent(node.sip, host=caller_host, user="alice") as alice,
    ):
        assert bob.register().status == 200
        alice.send_request(alice.make_request("INVITE", bob.aor))
        bob.answer(bob.expect("INVITE"), 200, "OK")
        answered = alice.expect(200, method="INVITE")
        alice.send_request(alice.make_in_dialog("ACK", answered, 1))
        bob.expect("ACK")
        wait_until(lambda: len(read(records)) == 1, 10, "the answer is written")
        assert [call["src_user"] for call in console(node, "calls", "--limit", "9")["calls"]] == ["alice"]
        node.signal(signal.SIGKILL)
        node.wait(10)
        nodes.start_again(node.config, node_host)
        alice.send_request(alice.make_in_dialog("BYE", answered, 2))
        bob.answer(bob.expect("BYE"), 200, "OK")
        alice.expect(200, method="BYE")
        wait_until(lambda: len(read(records)) == 2, 10, "the end is written")
    begun, ended = read(records)
    assert (begun["event"], ended["event"], ended["partial"], ended["ended_by"]) == (
        "answered", "ended", True, "caller",
    )  # fmt: skip
    assert [begun[key] for key in ("callid", "from_tag", "to_tag")] == [
        ended[key] for key in ("callid", "from_tag", "to_tag")
    ]
