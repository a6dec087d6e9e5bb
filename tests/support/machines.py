"""A machine of the simulator: power, clocks, a disk, and one process at a time, which may be paused, killed, restarted.

All machines share one made-up clock, but no process sees it: a process's monotonic time begins anywhere at each boot,
as it does on real machines, so that a time taken from another node without moving it is found out at once. The wall
clock is wrong by what the machine's is. A pause (SIGSTOP, a hypervisor that looks away) holds timers and frames alike;
what the kernel does, it goes on doing. The disk is what the journal promises: the records as they were at its last
tick, at most a second ago, and the last incarnation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.base import DelayedCall

from farm.deadlines import Deadlines
from farm.overlay.journal import Batch, Kept
from farm.overlay.store import Row
from tests.support.heap_clock import HeapClock

EPOCH = 1_800_000_000.0


class Disk:
    """A journal in memory, with the file's promise: what was written stays, superseded and dropped records too, until
    a round is complete."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.seeds: list[tuple[str, int]] = []
        self._kept: dict[tuple[str, bytes], Kept] = {}
        self._fresh: dict[tuple[str, bytes], Kept] | None = None

    def write(self, batch: Batch) -> bool:
        """Append a batch."""
        if batch.begins_round:
            self._fresh = {}
        for row in batch.rows:
            kept = Kept(row, batch.mono, batch.wall)
            self._kept[row.kind, row.key] = kept
            if self._fresh is not None:
                self._fresh[row.kind, row.key] = kept
        if batch.ends_round and self._fresh is not None:
            self._kept, self._fresh = self._fresh, None
        return True

    def replay(self) -> Iterator[Kept]:
        """The latest record of each key."""
        return iter(list(self._kept.values()))

    def count(self) -> int:
        """How many records."""
        return len(self._kept)

    def rows(self) -> Iterator[Row]:
        """The records as they were written, for who checks what would survive."""
        return (kept.row for kept in self._kept.values())


class Process:
    """One boot of a machine: its time, its timers, and whether it runs. `clock` is monotonic, `wall` since 1970."""

    def __init__(self, machine: Machine, boot: int) -> None:
        self.machine = machine
        self.boot = boot
        self.alive = True
        self.paused = False
        self.origin = float(machine.rng.randrange(1, 5_000_000)) / 4.0
        self.deadlines = Deadlines(self._wake)
        self.links: object = None  # whoever connects it to others
        self._heap = machine.heap
        self._armed: DelayedCall | None = None
        self._timers: list[Callable[[], None]] = []  # held back by a pause
        self._frames: list[Callable[[], None]] = []

    def clock(self) -> float:
        """Monotonic seconds since some moment before this boot."""
        return self._heap.rightNow + self.origin

    def wall(self) -> float:
        """What the machine believes the time is."""
        return EPOCH + self._heap.rightNow + self.machine.wall_offset

    def later(self, delay: float, action: Callable[[], Any]) -> DelayedCall:
        """As a reactor's callLater; dies with the process."""
        return self._heap.callLater(delay, self._run_timer, action)

    def receive(self, action: Callable[[], None]) -> None:
        """Something has come from the network for this process: now, or when it runs again."""
        if not self.alive:
            return
        if self.paused:
            self._frames.append(action)
        else:
            action()

    def pause(self) -> None:
        """Stop where it is."""
        self.paused = True

    def resume(self) -> None:
        """Go on: first what is overdue, then what has come meanwhile, as a reactor does."""
        if not self.paused or not self.alive:
            return
        self.paused = False
        held = self._timers + self._frames
        self._timers, self._frames = [], []
        for place, action in enumerate(held):
            if not self.alive:
                return
            if self.paused:
                self._frames = held[place:] + self._frames
                return
            action()

    def end(self) -> None:
        """It is no more: no timer of it runs again."""
        self.alive = False
        self._timers.clear()
        self._frames.clear()
        if self._armed is not None and self._armed.active():
            self._armed.cancel()
        self._armed = None

    def _run_timer(self, action: Callable[[], Any]) -> None:
        if not self.alive:
            return
        if self.paused:
            self._timers.append(lambda: self._run_timer(action))
        else:
            action()

    def _wake(self, at: float) -> None:
        if not self.alive:
            return
        delay = max(at - self.clock(), 0.0)
        if self._armed is not None and self._armed.active():
            self._armed.cancel()
        self._armed = self._heap.callLater(delay, self._run_timer, self._run_due)

    def _run_due(self) -> None:
        now = self.clock()
        following = self.deadlines.next_at()
        if following is not None and now < following < now + 1e-6:
            now = following  # the two clocks' floats differ in the last digit
        self.deadlines.run_due(now)
        following = self.deadlines.next_at()
        if following is not None:
            self._wake(following)


class Machine:
    """A host of one node. `address` is where it is reached; the process listens while it is alive."""

    def __init__(self, heap: HeapClock, rng: random.Random, host: str, port: int = 7400) -> None:
        self.heap = heap
        self.rng = rng
        self.host = host
        self.port = port
        self.powered = True
        self.wall_offset = 0.0
        self.disk = Disk()
        self.process: Process | None = None
        self.boots = 0

    def __repr__(self) -> str:
        return f"<Machine {self.host}>"

    @property
    def listening(self) -> bool:
        """Whether its kernel accepts connections."""
        return self.powered and self.process is not None and self.process.alive

    def boot(self, *, wiped: bool = False) -> Process:
        """Start a process, with what is on the disk or with an empty one."""
        assert self.process is None or not self.process.alive
        if wiped:
            self.disk = Disk()
        self.powered = True
        self.boots += 1
        self.process = Process(self, self.boots)
        return self.process
