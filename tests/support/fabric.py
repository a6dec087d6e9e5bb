"""What lies between simulated machines: paths with delay and loss, one-way cuts, partitions.

Messages themselves are carried by `links.py`. Everything is drawn from one random.Random, so that a run is replayed
by its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.support.heap_clock import HeapClock
from tests.support.machines import Machine, Process

REPEAT_SECONDS = 0.2


class Endpoint(Protocol):
    """The links of a process."""

    def drop_all(self, *, silent: bool) -> None:
        """The process is gone."""


@dataclass(frozen=True)
class Path:
    """What happens to frames one way between two machines; seconds, and a share from 0 to 1."""

    delay: float = 0.0005
    jitter: float = 0.0
    loss: float = 0.0


class Fabric:
    """The machines, the paths between them, the cuts. `watch(at, source, target, frame)` sees what leaves."""

    def __init__(self, heap: HeapClock, rng: random.Random, path: Path | None = None) -> None:
        self.heap = heap
        self.rng = rng
        self.path = path or Path()
        self.machines: dict[tuple[str, int], Machine] = {}
        self.paths: dict[tuple[Machine, Machine], Path] = {}
        self.frames = 0
        self.bytes = 0
        self.watch: Callable[[float, Machine, Machine, bytes], None] | None = None
        self._cuts: set[tuple[Machine, Machine]] = set()
        self._groups: dict[Machine, int] = {}
        self._links: dict[Process, Endpoint] = {}

    def add(self, host: str, port: int = 7400) -> Machine:
        """A new machine."""
        machine = self.machines[host, port] = Machine(self.heap, self.rng, host, port)
        return machine

    def attach(self, process: Process, links: Endpoint) -> None:
        """A process has started, and these are its links."""
        self._links[process] = links

    def cut(self, source: Machine, target: Machine) -> None:
        """Nothing arrives from source at target any more; the other direction is left alone."""
        self._cuts.add((source, target))

    def mend(self, source: Machine, target: Machine) -> None:
        """End a cut."""
        self._cuts.discard((source, target))

    def partition(self, groups: list[list[Machine]]) -> None:
        """Only machines of the same group reach each other; those in none form one more."""
        self._groups = {machine: number for number, group in enumerate(groups, 1) for machine in group}

    def heal(self) -> None:
        """End all cuts and partitions."""
        self._cuts.clear()
        self._groups.clear()

    def is_open(self, source: Machine, target: Machine) -> bool:
        """Whether anything passes in that direction, both being powered."""
        return (
            source.powered
            and target.powered
            and (source, target) not in self._cuts
            and self._groups.get(source) == self._groups.get(target)
        )

    def is_open_both(self, one: Machine, other: Machine) -> bool:
        """Whether two machines can talk."""
        return self.is_open(one, other) and self.is_open(other, one)

    def transit(self, source: Machine, target: Machine) -> float:
        """The seconds that a frame takes, repeats of what is lost included."""
        path = self.paths.get((source, target), self.path)
        rng = self.rng
        seconds = path.delay
        if path.jitter:
            seconds += rng.random() * path.jitter
        if path.loss:
            repeat = REPEAT_SECONDS
            while rng.random() < path.loss and repeat < 60.0:
                seconds += repeat
                repeat *= 2.0
        return seconds

    def end(self, process: Process, *, silent: bool) -> None:
        """A process is gone: killed, and its kernel ends its links, or powered off without a word."""
        links = self._links.pop(process, None)
        process.end()
        if links is not None:
            links.drop_all(silent=silent)
