"""What goes wrong around a farm's node is told, counted, and survived: seeds that do not answer, a clock that is off, a
disk that is full."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable

from tests.support.agents import Agent, make_call
from tests.support.floods import register_many
from tests.support.live_farm import PEER_PORT, LiveFarm
from tests.support.nodes import STOPPED, NodeProgram
from tests.support.processes import wait_until
from tests.support.traffic import Traffic

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]
JOIN_SECONDS = 4.0
CLOCK_AHEAD = 10.0
# Starts its arguments, a Python script, with a wall clock that is ahead.
AHEAD = f"""
import runpy, sys, time
real = time.time
time.time = lambda: real() + {CLOCK_AHEAD}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def problems(node: NodeProgram) -> str:
    """What a node says is wrong with it."""
    health = json.loads(node.get("/healthz")[1] or '{"problems": []}')
    return "; ".join(health["problems"])


def test_a_node_whose_seeds_do_not_answer_says_which_and_serves_what_it_knows(
    make_farm: MakeFarm, hosts: Hosts
) -> None:
    phone_host, caller_host = hosts(2)
    farm = make_farm(2, seeds=["nowhere.invalid:7400"], overlay={"join_seconds": JOIN_SECONDS})
    farm.seeds.append(f"{farm.hosts[1]}:{PEER_PORT}")
    first = farm.start_node(farm.hosts[0])
    first.wait_ready()
    began = time.monotonic()
    wait_until(lambda: "nowhere.invalid" in problems(first), 5, "it says which seed does not answer")
    assert f"{farm.hosts[1]}:{PEER_PORT} (refused)" in problems(first)
    assert not farm.is_ready(0)
    with (
        Agent(first.sip, host=phone_host, user="bob") as bob,
        Agent(first.sip, host=caller_host, user="alice") as alice,
    ):
        refused = bob.register()
        assert (refused.status, refused.first("retry-after")) == (503, "2"), "a client goes elsewhere"
        farm.wait_ready(0)
        assert JOIN_SECONDS / 2 < time.monotonic() - began < JOIN_SECONDS + 5
        assert "nowhere.invalid" in problems(first)
        assert bob.register(cseq=2).status == 200
        make_call(alice, bob)
        time.sleep(0.7)  # the journal is written
        farm.kill(0)
        farm.start_again(0)
        make_call(alice, bob)
        # It keeps trying: the other comes, and both are one farm.
        farm.start_node(farm.hosts[1])
        farm.wait_whole()
        alice.target = farm[1].sip
        make_call(alice, bob)
    assert first.output().count("nowhere.invalid") < 30, "the log is not flooded"


def test_a_node_whose_clock_is_ten_seconds_off_is_kept_out_and_told(make_farm: MakeFarm, hosts: Hosts) -> None:
    (phone_host,) = hosts(1)
    farm = make_farm(3, overlay={"join_seconds": JOIN_SECONDS})
    for host in farm.hosts[:2]:
        farm.start_node(host)
    wait_until(lambda: farm.is_ready(0) and farm.is_ready(1), 30, "two are ready")
    wrong = farm.start_node(farm.hosts[2], wrapper=(sys.executable, "-c", AHEAD))
    wrong.wait_ready()
    wait_until(lambda: "clock" in problems(wrong), 10, "it says that its clock is off")
    with Agent(wrong.sip, host=phone_host, user="bob") as bob:
        assert bob.register().status == 503
        bob.target = farm[0].sip
        assert bob.register(call_id="right").status == 200
        time.sleep(JOIN_SECONDS)
        assert not farm.is_ready(2), "it does not go on alone either"
        bob.target = wrong.sip
        assert bob.register(cseq=2).status == 503
    print(problems(wrong))
    assert farm.is_ready(0)
    assert farm.is_ready(1)
    assert len(farm.contacts(1, "bob")) == 1
    farm.stop(2)
    farm.start_again(2)
    farm.wait_whole()
    assert len(farm.contacts(2, "bob")) == 1


def test_what_a_node_with_a_full_disk_has_taken_is_kept_by_the_others(make_farm: MakeFarm, hosts: Hosts) -> None:
    phone_host, caller_host = hosts(2)
    farm = make_farm()
    farm.start_node(farm.hosts[0], wrapper=("prlimit", "--fsize=300000:"))
    for host in farm.hosts[1:]:
        farm.start_node(host)
    farm.wait_whole()
    node = farm[0]
    users = [f"u{number}" for number in range(2_000)]
    with Agent(node.sip, host=phone_host, user="bob") as bob, Agent(node.sip, host=caller_host, user="alice") as alice:
        assert register_many(node.sip, phone_host, users, per_second=1_000) == len(users)
        assert bob.register().status == 200
        wait_until(lambda: node.metric("journal_errors_total", operation="write") > 0, 10, "the failure is counted")
        assert "journal" in problems(node)
        make_call(alice, bob)
        time.sleep(1.0)
        farm.kill_all()
        for index in range(3):
            farm.start_again(index, wait=False)
        farm.wait_whole()
        for index in range(3):
            assert farm[index].metric("registrations") == len(users) + 1
        make_call(alice, bob)


def test_a_node_that_is_stuck_holds_nobody_up_and_has_all_soon_after(make_farm: MakeFarm, hosts: Hosts) -> None:
    phone_host, caller_host = hosts(2)
    farm = make_farm()
    farm.start()
    others = [node.sip for node in farm][1:]
    traffic = Traffic(others, phone_host, caller_host, registers_per_second=50, calls_per_second=20)
    traffic.start()
    try:
        time.sleep(1.0)
        stuck = time.monotonic()
        farm[0].signal(signal.SIGSTOP)
        print(f"dead {farm.wait_state(1, 0, 'dead') - stuck:.1f} s after it was stuck")
        time.sleep(1.0)
        farm[0].signal(signal.SIGCONT)
        farm.wait_whole()
    finally:
        farm[0].signal(signal.SIGCONT)
        traffic.stop()
    print(traffic)
    assert not traffic.failures
    assert traffic.slowest < 1.5, "one owner of three that does not answer costs next to nothing"
    farm.wait_registrations(len(traffic.registered), 20)


def test_a_node_that_cannot_hand_over_refuses_meanwhile_and_waits_for_no_dead_one(
    make_farm: MakeFarm, hosts: Hosts
) -> None:
    (phone_host,) = hosts(1)
    farm = make_farm(2)
    farm.start()
    for hurried in (True, False):
        users = [f"u{number}{hurried}" for number in range(50)]
        assert register_many(farm[0].sip, phone_host, users) == len(users)
        farm[1].signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            farm[0].signal(signal.SIGTERM)
            time.sleep(0.5)
            assert farm[0].running(), "it tries to hand over"
            with Agent(farm[0].sip, host=phone_host, user="late") as late:
                assert late.register().status == 503, "and sends those who come elsewhere"
            if hurried:
                farm[0].signal(signal.SIGTERM)
                assert farm[0].wait(3.0) in STOPPED
            else:
                assert farm[0].wait(20.0) in STOPPED
                print(f"ended {time.monotonic() - began:.1f} s after SIGTERM, the other being stuck")
        finally:
            farm[1].signal(signal.SIGCONT)
        farm.start_again(0)
        farm.wait_whole()
    farm.wait_registrations(100, 20)
