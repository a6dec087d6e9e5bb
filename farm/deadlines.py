"""One heap of (when, what): every timer of the process, without a reactor.

Pure code adds a deadline and is called when it is due; the shell asks `next_at` and calls `run_due(now)`.
A deadline is cancelled in place and dropped when it surfaces, so cancelling costs nothing, which matters because
nearly every SIP timer is cancelled. When cancelled entries outnumber the live ones, the heap is rebuilt.

Decided: `wake` is called only when a new deadline becomes the earliest, instead of asking `next_at` after every
datagram: on the message path most deadlines lie behind one that is already armed.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Final

Action = Callable[[Any, float], None]
Wake = Callable[[float], None]

_COMPACT_FLOOR: Final = 1024


class Deadline:
    """One entry of the heap. Read `at`; cancel through `Deadlines.cancel`."""

    __slots__ = ("action", "argument", "at")

    def __init__(self, at: float, action: Action, argument: Any) -> None:
        self.at = at
        self.action: Action | None = action
        self.argument: Any = argument

    @property
    def pending(self) -> bool:
        """Whether it has neither run nor been cancelled."""
        return self.action is not None


class Deadlines:
    """The heap. `wake(at)` hears of a deadline that is earlier than all before it."""

    __slots__ = ("_armed_at", "_cancelled", "_heap", "_sequence", "wake")

    def __init__(self, wake: Wake | None = None) -> None:
        self.wake = wake
        self._heap: list[tuple[float, int, Deadline]] = []
        self._sequence = 0
        self._cancelled = 0
        self._armed_at = float("inf")

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, at: float, action: Action, argument: Any = None) -> Deadline:
        """Have `action(argument, now)` called at monotonic time `at` or soon after; equal times keep their order."""
        deadline = Deadline(at, action, argument)
        self._sequence += 1
        heappush(self._heap, (at, self._sequence, deadline))
        if at < self._armed_at:
            self._armed_at = at
            if self.wake is not None:
                self.wake(at)
        return deadline

    def cancel(self, deadline: Deadline | None) -> None:
        """Forget a deadline; one that already ran, was cancelled, or is None is left alone."""
        if deadline is None or deadline.action is None:
            return
        deadline.action = None
        deadline.argument = None
        self._cancelled += 1
        if self._cancelled > _COMPACT_FLOOR and self._cancelled * 2 > len(self._heap):
            alive = [entry for entry in self._heap if entry[2].action is not None]
            heapify(alive)
            self._cancelled -= len(self._heap) - len(alive)  # a run that is under way may hold further ones
            self._heap = alive

    def next_at(self) -> float | None:
        """When the earliest pending deadline is due, None when there is none."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def run_due(self, now: float) -> int:
        """Run all that is due at `now`, in order, and answer how many ran.

        An action may add and cancel deadlines; one that it adds for `now` or earlier waits for the next call, so
        that an action which re-adds itself cannot hold the process. An action that raises ends the run, its own
        entry gone and the others kept; the caller logs it and calls again.
        """
        heap = self._heap
        last = self._sequence
        late: list[tuple[float, int, Deadline]] = []
        ran = 0
        try:
            while heap and heap[0][0] <= now:
                entry = heappop(heap)
                deadline = entry[2]
                action = deadline.action
                if action is None:
                    self._cancelled -= 1
                    continue
                if entry[1] > last:
                    late.append(entry)
                    continue
                argument = deadline.argument
                deadline.action = None
                deadline.argument = None
                ran += 1
                action(argument, now)
                heap = self._heap  # an action may have made it compact
        finally:
            for entry in late:
                heappush(self._heap, entry)
            following = self.next_at()
            self._armed_at = float("inf") if following is None else following
        return ran
