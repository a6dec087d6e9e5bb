"""What a relay costs: calls to phones behind a NAT through the node that has their flow, and through another one, which
has every message for the phone carried to that node over the overlay's links.

Both ways take turns on one running farm, so that nothing else differs. The phones register once, at the first node. The
set-up time is the caller's: from its INVITE to the 180, as SIPp measures it.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Final, NamedTuple

from bench.farms import SharedFarm, cpu_seconds, start_farm
from bench.results import Result
from tests.support.processes import ProgramFailed
from tests.support.sipp import Sipp, describe, write_users

NODES: Final = 3
HOSTS: Final = NODES + 2  # those of the nodes, the caller's, the phones'
_USERS: Final = 500
_ROUNDS: Final = 2
_SETTLE_SECONDS: Final = 1.0


class _Round(NamedTuple):
    """Calls one way: processor time of the whole farm a call in microseconds, set-up times in milliseconds."""

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
    _finish(register, 60)
    callee = Sipp("callee.xml", (first, 5060), (phone, 5060), directory)
    rounds: dict[str, list[_Round]] = {first: [], second: []}

    def call(host: str, count: int) -> _Round:
        options = ["-trace_rtt", "-rtt_freq", "1"]
        before = cpu_seconds(farm)
        sipp = Sipp(
            "caller.xml", (host, 5060), (caller, 5060), directory, calls=count, rate=rate, users=users, options=options
        )
        _finish(sipp, 60 + 3 * seconds)
        time.sleep(_SETTLE_SECONDS)
        used = cpu_seconds(farm) - before
        return _Round(used / count * 1e6, _read_setup(directory))

    try:
        for host in rounds:
            call(host, rate)  # until all has been seen once
        relayed = farm.live.metric("relayed_messages_total")
        for _ in range(_ROUNDS):
            for host, made in rounds.items():
                made.append(call(host, int(rate * seconds)))
        relayed = farm.live.metric("relayed_messages_total") - relayed
        callee.finish()
    finally:
        callee.kill()
    calls = _ROUNDS * int(rate * seconds)
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


def _finish(sipp: Sipp, seconds: float) -> None:
    try:
        sipp.wait(seconds)
    finally:
        sipp.kill()
    if sipp.statistics().failed:
        raise ProgramFailed(describe([sipp]))


def _read_setup(directory: Path) -> list[float]:
    """The times of the last SIPp in milliseconds; its file is taken away."""
    (file,) = directory.glob("caller_*_rtt.csv")
    with file.open(newline="") as lines:
        rows = list(csv.reader(lines, delimiter=";"))
    file.unlink()
    return [float(row[1]) for row in rows[1:]]
