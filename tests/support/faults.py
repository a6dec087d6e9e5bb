"""What goes wrong in a simulation: the scenarios, and the faults that they are made of.

A scenario is a plan that one seed fills in: how many nodes, which of them, when, for how long. A fault tells the
checker what it has to know (who was on which side, what a crash took along). Scenarios end with everything mended;
then the farm has `settle_seconds` to become as if nothing had been.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from farm.registrar.binding import KIND
from farm.registrar.record import Record
from tests.support.checker import Checker, Operation, has_effect
from tests.support.fabric import Path
from tests.support.overlays import Overlay

LOCAL = Path(0.0003, 0.0004)
HOLD_DOWN_SECONDS = 30.0
MERGE_SECONDS = 60.0
DETECT_SECONDS = 30.0
WARM_SECONDS = 20.0


@dataclass
class Plan:
    """What a scenario wants: the farm, the load, and what happens when, in seconds from the start of the load."""

    nodes: int
    replicas: int = 3
    zones: int = 1
    path: Path = LOCAL
    seconds: float = 300.0  # until everything is mended
    settle_seconds: float = MERGE_SECONDS
    rate: float = 4.0
    slack: float = 2.0
    most_expires: int = 7200
    lifetimes: tuple[int, ...] = (60, 90, 120, 300, 600)
    is_quiet: bool = False  # nothing may fail
    offsets: list[float] = field(default_factory=list)  # of the wall clocks
    events: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)

    def at(self, seconds: float, event: Callable[..., None], *arguments: Any) -> None:
        """Something happens: a method of Faults, and what it is told."""
        self.events.append((seconds, event, arguments))
        self.seconds = max(self.seconds, seconds)


class Faults:
    """Does to an overlay what a plan says, and tells the checker."""

    def __init__(self, overlay: Overlay, checker: Checker) -> None:
        self.overlay = overlay
        self.checker = checker
        checker.is_away = self._is_away

    def _is_away(self, operation: Operation) -> bool:
        """Whether as many nodes are down as hold a record, and nobody else knows of an operation."""
        overlay = self.overlay
        down = [station for station in overlay.stations if not station.running and not station.gone]
        return len(down) >= overlay.settings.replicas and not any(
            _holds(station.store.shelves[KIND].records, station.kind.unpack, operation) for station in overlay.running()
        )

    def crash(self, victims: Iterable[int], silent: bool, wiped: bool, grace: float) -> None:
        """Processes end, or machines lose power, all at the same moment; `wiped`: their disks are lost as well."""
        overlay = self.overlay
        indices = [index for index in victims if overlay.stations[index].running]
        records = [self._disk(index) for index in indices if not wiped]
        for index in indices:
            (overlay.power_off if silent else overlay.kill)(index)
        stores = [(each.store.shelves[KIND].records, each.kind.unpack) for each in overlay.running()]
        stores += [(disk, overlay.stations[0].kind.unpack) for disk in records]

        def survives(operation: Operation) -> bool:
            return any(_holds(held, unpack, operation) for held, unpack in stores)

        self.checker.crash(overlay.now, survives, grace=grace)

    def restart(self, victims: Iterable[int], wiped: bool) -> None:
        """They come back."""
        for index in victims:
            if not self.overlay.stations[index].running:
                self.overlay.restart(index, wiped=wiped)

    def split(self, groups: list[list[int]]) -> None:
        """A partition."""
        overlay = self.overlay
        overlay.partition(*groups)
        side_of = {index: side for side, group in enumerate(groups) for index in group}

        def holds(side: int, operation: Operation) -> bool:
            return any(
                _holds(station.store.shelves[KIND].records, station.kind.unpack, operation)
                for station in overlay.running()
                if side_of.get(station.index) == side
            )

        self.checker.split(overlay.now, side_of, holds)

    def heal(self) -> None:
        """No cut and no partition any more."""
        self.overlay.heal()
        for split in self.checker.splits:
            split.healed = min(split.healed, self.overlay.now)

    def add(self) -> None:
        """One more node joins."""
        self.overlay.add().boot()

    def leave(self, index: int) -> None:
        """One leaves in order."""
        station = self.overlay.stations[index]
        if station.running and station.node.state == "alive":
            self.overlay.leave(index)

    def cut(self, source: int, target: int) -> None:
        """One direction is dead."""
        self.overlay.cut(source, target)

    def mend(self, source: int, target: int) -> None:
        """And well again."""
        self.overlay.mend(source, target)

    def pause(self, index: int) -> None:
        """A process stands still."""
        if self.overlay.stations[index].running:
            self.overlay.pause(index)

    def resume(self, index: int) -> None:
        """And goes on."""
        self.overlay.resume(index)

    def mend_all(self) -> None:
        """The end: whatever is still wrong is put right."""
        self.heal()
        self.overlay.fabric.path = LOCAL
        for station in self.overlay.stations:
            if station.running:
                station.process.resume()

    def _disk(self, index: int) -> dict[bytes, bytes]:
        return {row.key: row.record for row in self.overlay.stations[index].machine.disk.rows() if row.record}


def _holds(held: dict[bytes, bytes], unpack: Callable[[bytes], Record], operation: Operation) -> bool:
    packed = held.get(operation.aor.encode())
    return packed is not None and has_effect(unpack(packed), operation)


# The scenarios. Each is drawn by a seed's random.Random.


def plan_quiet(rng: random.Random) -> Plan:
    """Nothing goes wrong: everything is served."""
    plan = Plan(rng.randint(1, 9), is_quiet=True, replicas=rng.choice((1, 2, 3, 3, 4)))
    plan.zones = rng.choice((1, 1, 3))
    return plan


def plan_loss(rng: random.Random) -> Plan:
    """One frame in twenty is late, and frames of different links overtake each other."""
    path = Path(rng.choice((0.0005, 0.02)), rng.choice((0.001, 0.05)), 0.05)
    return Plan(rng.randint(3, 9), path=path, slack=10.0)


def plan_skew(rng: random.Random) -> Plan:
    """Wall clocks are up to 0.4 s wrong, one node's perhaps 10 s."""
    plan = Plan(rng.randint(3, 8), replicas=rng.choice((2, 3, 4)))
    plan.offsets = [rng.uniform(-0.4, 0.4) for _ in range(plan.nodes)]
    if rng.random() < 0.5:
        plan.offsets[rng.randrange(plan.nodes)] = rng.choice((-10.0, 10.0))
    return plan


def plan_cuts(rng: random.Random) -> Plan:
    """Paths are dead in one direction, several at a time."""
    plan = Plan(rng.randint(4, 8), slack=60.0)
    free_at = [WARM_SECONDS] * plan.nodes
    for _ in range(rng.randint(2, 8)):
        source, target = rng.sample(range(plan.nodes), 2)
        start = max(free_at[source], free_at[target]) + rng.uniform(0.0, 60.0)
        end = start + rng.uniform(2.0, 60.0)
        plan.at(start, Faults.cut, source, target)
        plan.at(end, Faults.mend, source, target)
        free_at[source] = free_at[target] = end  # several at one node would be a partition
    return plan


def plan_partition(rng: random.Random) -> Plan:
    """The farm falls apart and is whole again minutes or an hour later; both sides serve."""
    length = rng.choice((10.0, 60.0, 300.0, 300.0, 3600.0))
    plan = Plan(rng.randint(4, 7) if length > 600 else rng.randint(3, 9), slack=60.0)
    plan.offsets = [rng.uniform(-0.4, 0.4) for _ in range(plan.nodes)]
    if length > 600:
        plan.rate = 0.8
        plan.lifetimes = (120, 600, 3600)
        plan.most_expires = rng.choice((3600, 7200))
    order = list(range(plan.nodes))
    rng.shuffle(order)
    middle = rng.randint(1, plan.nodes - 1)
    groups = [order[:middle], order[middle:]]
    start = rng.uniform(WARM_SECONDS, 90.0)
    plan.at(start, Faults.split, groups)
    plan.seconds = start + length
    return plan


def plan_pauses(rng: random.Random) -> Plan:
    """Processes stand still for up to 30 s and go on as if nothing had been."""
    plan = Plan(rng.randint(3, 8), slack=70.0)
    at = WARM_SECONDS
    while at < 200.0:
        victim = rng.randrange(plan.nodes)
        length = rng.choice((2.0, 8.0, 30.0))
        plan.at(at, Faults.pause, victim)
        plan.at(at + length, Faults.resume, victim)
        at += length + rng.uniform(5.0, 60.0)
    return plan


def plan_crashes(rng: random.Random) -> Plan:
    """Up to r - 1 nodes crash at once, and come back with their disk, without it, or not at all."""
    replicas = rng.choice((2, 3, 3, 4))
    plan = Plan(rng.randint(replicas + 1, 8), replicas=replicas, slack=60.0)
    at = WARM_SECONDS + rng.uniform(0.0, 20.0)
    spares = plan.nodes - replicas
    while at < 260.0:
        victims = rng.sample(range(plan.nodes), rng.randint(1, replicas - 1))
        silent, wiped = rng.random() < 0.5, rng.random() < 0.5
        away = rng.choice((1.0, 5.0, 20.0, 45.0, 100.0))
        grace = 0.0 if len(victims) == 1 else 1.5
        plan.at(at, Faults.crash, victims, silent, wiped, grace)
        if rng.random() < 0.2 and spares >= len(victims):
            spares -= len(victims)  # for good
            away = 0.0
        else:
            plan.at(at + away, Faults.restart, victims, wiped)
        at += away + DETECT_SECONDS + HOLD_DOWN_SECONDS + MERGE_SECONDS + rng.uniform(0.0, 30.0)
    plan.settle_seconds = MERGE_SECONDS + DETECT_SECONDS + HOLD_DOWN_SECONDS
    return plan


def plan_churn(rng: random.Random) -> Plan:
    """Nodes join and leave in storms."""
    plan = Plan(rng.randint(1, 5), slack=30.0)
    at = WARM_SECONDS
    indices = list(range(plan.nodes))
    for _ in range(rng.randint(1, 4)):
        for _ in range(rng.randint(1, 3)):
            plan.at(at + rng.uniform(0.0, 5.0), Faults.add)
            indices.append(len(indices))
        at += rng.uniform(5.0, 60.0)
        leaving = rng.sample(indices, rng.randint(0, max(0, len(indices) - 3)))
        for index in leaving:
            plan.at(at + rng.uniform(0.0, 5.0), Faults.leave, index)
            if rng.random() < 0.5:
                plan.at(at + rng.uniform(70.0, 90.0), Faults.restart, [index], False)
            else:
                indices.remove(index)
        at += rng.uniform(20.0, 60.0)
    plan.seconds = max(plan.seconds, at + 60.0)
    plan.settle_seconds = MERGE_SECONDS + DETECT_SECONDS + HOLD_DOWN_SECONDS
    return plan


def plan_power_loss(rng: random.Random) -> Plan:
    """The power is out everywhere; all start again from their journals, at once or one after another."""
    plan = Plan(rng.randint(1, 8), replicas=rng.choice((2, 3, 3)), slack=10.0)
    start = rng.uniform(WARM_SECONDS + 20.0, 150.0)
    everybody = range(plan.nodes)
    plan.at(start, Faults.crash, everybody, True, False, 1.0)
    away = rng.choice((1.0, 30.0, 60.0))
    spread = rng.choice((0.0, 5.0, 40.0))
    for index in everybody:
        plan.at(start + away + rng.uniform(0.0, spread), Faults.restart, [index], False)
    plan.settle_seconds = MERGE_SECONDS + DETECT_SECONDS
    return plan


def plan_rolling(rng: random.Random) -> Plan:
    """One node after another leaves and comes back, as for an upgrade: nothing but the restarting node fails."""
    plan = Plan(rng.randint(3, 5), slack=10.0)
    at = WARM_SECONDS
    for index in range(plan.nodes):
        plan.at(at, Faults.leave, index)
        plan.at(at + 65.0, Faults.restart, [index], False)
        at += 65.0 + rng.uniform(20.0, 40.0)
    return plan


def plan_chaos(rng: random.Random) -> Plan:
    """Loss, skew, pauses, one-way cuts and single crashes, one upon the other."""
    plan = Plan(rng.randint(5, 9), path=Path(0.001, 0.01, rng.choice((0.0, 0.02))), slack=120.0)
    plan.offsets = [rng.uniform(-0.4, 0.4) for _ in range(plan.nodes)]
    at = WARM_SECONDS
    while at < 280.0:
        victim, other = rng.sample(range(plan.nodes), 2)
        length = rng.uniform(1.0, 30.0)
        draw = rng.random()
        if draw < 0.35:
            plan.at(at, Faults.pause, victim)
            plan.at(at + length, Faults.resume, victim)
            at += length
        elif draw < 0.7:
            plan.at(at, lambda faults, s=victim, t=other: faults.overlay.cut(s, t))
            plan.at(at + length, lambda faults, s=victim, t=other: faults.overlay.mend(s, t))
            at += rng.uniform(0.0, length)
        else:
            wiped = rng.random() < 0.4
            at += MERGE_SECONDS  # what was late or cut off until now has to be made good first
            plan.at(at, Faults.crash, [victim], not wiped, wiped, MERGE_SECONDS)
            plan.at(at + length, Faults.restart, [victim], wiped)
            at += length + DETECT_SECONDS + HOLD_DOWN_SECONDS
        at += rng.uniform(2.0, 30.0)
    plan.settle_seconds = MERGE_SECONDS + DETECT_SECONDS + HOLD_DOWN_SECONDS
    return plan


PLANS: dict[str, Callable[[random.Random], Plan]] = {
    "quiet": plan_quiet,
    "loss": plan_loss,
    "skew": plan_skew,
    "cuts": plan_cuts,
    "partition": plan_partition,
    "pauses": plan_pauses,
    "crashes": plan_crashes,
    "churn": plan_churn,
    "power": plan_power_loss,
    "rolling": plan_rolling,
    "chaos": plan_chaos,
}
