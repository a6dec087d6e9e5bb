"""What a relay costs: calls to phones behind a NAT through the node that has their flow, and through another one, which
has every message for the phone carried to that node over the overlay's links.

Both ways take turns on one running farm, so that nothing else differs. The phones register once, at the first node. The
set-up time is that of a caller of our own among those of the load: from its INVITE to the 180, ringing included.

Decided: not of SIPp, whose clock ticks every 4 ms.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Final, NamedTuple

from bench.farms import SharedFarm, cpu_seconds, start_farm
from bench.results import Result
from tests.support.agents import Agent
from tests.support.processes import ProgramFailed
from tests.support.sipp import Sipp, describe, write_users

NODES: Final = 3
HOSTS: Final = NODES + 2  # those of the nodes, the caller's, the phones'
_USERS: Final = 500
_ROUNDS: Final = 2
_SETTLE_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.02  # between the calls that are timed


class _Round(NamedTuple):
    """Calls one way: processor time of the whole farm a call in microseconds, set-up times in milliseconds."""

    calls: int
    microseconds: float
    setup: list[float]


def measure_relayed(hosts: Sequence[str], directory: Path, *, rate: int, seconds: float, store: str) -> list[Result]:
    """Start a farm, register phones at its first node, and call them through that and through another, so many calls a
    second."""
    farm = start_farm(hosts[:NODES], directory, store=store)
    try:
        return _measure(farm, hosts[NODES], hosts[NODES + 1], directory, rate, seconds)
    finally:
        farm.stop()


def _measure(farm: SharedFarm, caller: str, phone: str, directory: Path, rate: int, seconds: float) -> list[Result]:
    first, second = farm.hosts[:2]
    users = write_users(directory / "users.csv", _USERS, f"sip:{{user}}@{phone}:5060")
    register = Sipp("register_nat.xml", (first, 5060), (phone, 5060), directory, calls=_USERS, rate=400, users=users)
    try:
        register.wait(60)
    finally:
        register.kill()
    _check(register)
    callee = Sipp("callee.xml", (first, 5060), (phone, 5060), directory)
    rounds: dict[str, list[_Round]] = {first: [], second: []}

    def call(host: str, count: int) -> _Round:
        before = cpu_seconds(farm)
        sipp = Sipp("caller.xml", (host, 5060), (caller, 5060), directory, calls=count, rate=rate, users=users)
        try:
            setup = _time_calls(sipp, (host, 5060), caller)
            sipp.wait(10)
        finally:
            sipp.kill()
        _check(sipp)
        time.sleep(_SETTLE_SECONDS)
        made = count + len(setup)
        return _Round(made, (cpu_seconds(farm) - before) / made * 1e6, setup)

    try:
        for host in rounds:
            call(host, rate)  # until all has been seen once
        relayed = farm.live.metric("relayed_messages_total", result="sent")
        for _ in range(_ROUNDS):
            for host, made in rounds.items():
                made.append(call(host, int(rate * seconds)))
        relayed = farm.live.metric("relayed_messages_total", result="sent") - relayed
        callee.finish()
    finally:
        callee.kill()
    calls = sum(one.calls for one in rounds[second])
    if relayed < calls:
        raise ProgramFailed(f"only {relayed:g} messages were relayed in {calls} calls")
    (here, here_ms), (there, there_ms) = (
        (fmean(one.microseconds for one in made), median(ms for one in made for ms in one.setup))
        for made in rounds.values()
    )
    note = f"{NODES} nodes, {rate} calls/s"
    return [
        Result(
            "relayed_cpu", "a relayed call's processor time to one at the phone's node", there / here, "×", note=note
        ),
        Result("relayed_cpu_here", "a call at the phone's node, all nodes", here, "µs"),
        Result("relayed_cpu_there", "a relayed call, all nodes", there, "µs"),
        Result("relayed_messages", "messages relayed a call", relayed / calls, ""),
        Result("relayed_setup", "set-up time that a relay adds, p50", there_ms - here_ms, "ms", 5.0, note=note),
        Result("relayed_setup_here", "set-up time at the phone's node, p50", here_ms, "ms"),
    ]


def _check(sipp: Sipp) -> None:
    if sipp.statistics().failed:
        raise ProgramFailed(describe([sipp]))


def _time_calls(load: Sipp, target: tuple[str, int], host: str) -> list[float]:
    """Call one user after another as long as the load lasts; the milliseconds from each INVITE to its 180."""
    setup: list[float] = []
    with Agent(target, host=host, user="timed") as agent:
        while load.running():
            invite = agent.make_request("INVITE", f"sip:u{len(setup) % _USERS:05d}@example.com")
            began = time.perf_counter()
            agent.send_request(invite)
            agent.expect(180)
            setup.append((time.perf_counter() - began) * 1000)
            answered = agent.expect_final(method="INVITE")
            agent.send_request(agent.make_in_dialog("ACK", answered, 1))
            agent.send_request(agent.make_in_dialog("BYE", answered, 2))
            agent.expect_final(method="BYE")
            time.sleep(_PAUSE_SECONDS)
    return setup
