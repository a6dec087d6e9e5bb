"""What a farm does when a node comes, dies or hangs, and what memory a binding takes: times of real processes.

- `measure_join`: three nodes with many bindings; memory of one; then one is stopped, its journal is thrown away, and it
  joins with nothing.
- `measure_crash`: five nodes; one that holds 10,000 bindings is killed; how soon all others say so, and how long after
  the hold-down every partition has all its copies again.
- `measure_pause`: the same five without one; one hangs (SIGSTOP) until the others call it dead, users register
  meanwhile, it goes on (SIGCONT): how soon all agree again, about the members and about every binding.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.farms import REPLICAS, SharedFarm, start_farm
from bench.replicated import Phones
from bench.results import Result
from tests.support.floods import register_many
from tests.support.processes import ProgramFailed, wait_until

CRASH_NODES: Final = 5
_CRASH_USERS_HELD: Final = 10_000
_HUNG_USERS: Final = 500
_EXACT_SECONDS: Final = 150.0  # copies too many are only dropped after a comparison, which is due every 60 s


def measure_join(hosts: Sequence[str], directory: Path, *, bindings: int, rate: int, store: str) -> list[Result]:
    """Memory and joining. `hosts` are of three nodes and of as many senders."""
    farm = start_farm(hosts[:3], directory, store=store)
    live = farm.live
    try:
        empty = [program.rss_bytes() for program in farm.programs()]
        phones = Phones(farm, hosts[3:6], bindings, directory)
        sipps = phones.register(rate, bindings)
        failed = sum(sipp.statistics().failed for sipp in sipps)
        if failed:
            raise ProgramFailed(f"{failed} of {bindings} registrations failed")
        phones.wait_copied()
        time.sleep(2.0)
        each = max(
            (program.rss_bytes() - before) / bindings for program, before in zip(farm.programs(), empty, strict=True)
        )
        live.stop(2)
        for file in (live[2].config.parent / "state").glob("journal.sqlite*"):
            file.unlink() if file.is_file() else shutil.rmtree(file)
        started = time.monotonic()
        live.start_again(2, wait=False)
        first = wait_until(lambda: _look(farm, 2) > 0 and time.monotonic(), 60, "the joining node has something")
        wait_until(lambda: live.is_ready(2), 180, "the joining node is ready", every=0.05)
        ready = time.monotonic()
        held = _look(farm, 2)
        if held != bindings:
            raise ProgramFailed(f"the node is ready and has {held} of {bindings} bindings")
        note = f"{bindings:,} bindings, ready {ready - started:.1f} s after its start"
        return [
            Result("memory", "memory a binding at one replica", each, "bytes", 1_500, note=f"{bindings:,} bindings"),
            Result("join", "join of a node", bindings / (ready - first), "records/s", 5_000, at_least=True, note=note),
        ]
    finally:
        farm.stop()


def measure_crash_and_pause(
    hosts: Sequence[str], directory: Path, *, held: int, rate: int, hold_down: float, store: str
) -> list[Result]:
    """A crash, then a node that hangs. `hosts` are of five nodes and of as many senders; `held` is how many bindings a
    node holds."""
    farm = start_farm(hosts[:CRASH_NODES], directory, store=store, hold_down_seconds=hold_down)
    try:
        users = held * CRASH_NODES // REPLICAS
        phones = Phones(farm, hosts[CRASH_NODES:], users, directory)
        phones.register(rate, users)
        phones.wait_copied()
        results = _crash(farm, phones, hold_down)
        return results + _pause(farm, users, hosts[CRASH_NODES])
    finally:
        farm.stop()


def _crash(farm: SharedFarm, phones: Phones, hold_down: float) -> list[Result]:
    live = farm.live
    last = len(live) - 1
    had = farm.copies()[last]
    killed = live.kill(last)
    known = [live.wait_state(observer, last, "dead") - killed for observer in range(last)]
    wait_until(lambda: _missing(farm) > 0, hold_down + 10, "copies are missing", every=0.05)
    wait_until(lambda: _missing(farm) == 0, hold_down + 120, "no copies are missing", every=0.1)
    repaired = time.monotonic() - killed
    phones.wait_copied()
    note = f"{had:,} bindings held, hold-down {hold_down:g} s, all copies again after {repaired:.1f} s"
    return [
        Result("detect_kill", "kill -9 known to all", max(known), "s", 10.0),
        Result(
            "repair", "copies made again, after the hold-down", max(repaired - hold_down, 0.0), "s", 60.0, note=note
        ),
    ]


def _pause(farm: SharedFarm, users: int, sender: str) -> list[Result]:
    """The last that runs hangs, while users register at the first, who are called only later."""
    live = farm.live
    hung = len(live) - 2
    others = range(hung)
    stopped = time.monotonic()
    live[hung].signal(signal.SIGSTOP)
    try:
        known = max(live.wait_state(observer, hung, "dead") for observer in others) - stopped
        registered = register_many(live[0].sip, sender, [f"late{number}" for number in range(_HUNG_USERS)])
    finally:
        live[hung].signal(signal.SIGCONT)
    went_on = time.monotonic()
    wanted = dict.fromkeys([live.node_ids[index] for index in (*others, hung)], "alive")

    def agree(index: int) -> Callable[[], bool]:
        return lambda: wanted.items() <= live.members(index).items()

    for index in (*others, hung):
        wait_until(agree(index), 120, f"node {index} has all members alive", every=0.05)
    members = time.monotonic() - went_on
    exact, healed = _watch(farm, hung, farm.copies_wanted(users + registered), went_on)
    note = (
        f"the members after {members:.1f} s; {registered} users registered meanwhile; surplus gone after {exact:.0f} s"
    )
    return [
        Result("detect_hang", "a node that hangs known to all", known, "s", 30.0),
        Result("heal", "all agree again once it goes on", healed, "s", 60.0, note=note),
    ]


def _watch(farm: SharedFarm, index: int, wanted: int, since: float) -> tuple[float, float]:
    """Wait until every copy that should be there is, and no other. Answers how long that took, and since when a node
    has had all of its own, with no copy missing anywhere."""
    seen: list[tuple[float, int, float]] = []

    def is_exact() -> bool:
        copies = farm.copies()
        seen.append((time.monotonic() - since, copies[index], _missing(farm)))
        return sum(copies) == wanted and not seen[-1][2]

    try:
        wait_until(is_exact, _EXACT_SECONDS, "all have all", every=0.1)
    except ProgramFailed:
        raise ProgramFailed(f"{wanted} copies should be held, and the nodes have {farm.copies()}") from None
    healed = exact = seen[-1][0]
    for at, held, missing in reversed(seen):
        if held != seen[-1][1] or missing:
            break
        healed = at
    return exact, healed


def _look(farm: SharedFarm, index: int) -> int:
    """How many bindings a node holds; 0 when it does not answer."""
    program = farm.live[index]
    return int(program.metric("registrations")) if program.get("/healthz")[0] else 0


def _missing(farm: SharedFarm) -> float:
    """Partitions with fewer copies than they should have, as all that run count them."""
    return farm.live.metric("underreplicated_partitions")
