"""One heap of (when, what): every timer of the process, without a reactor.

Pure code adds a deadline and is called when it is due; the shell asks `wake_at` and calls `run_due(now)`.
A deadline is cancelled in place and dropped when it surfaces, so cancelling costs nothing, which matters because
nearly every SIP timer is cancelled. When cancelled entries outnumber the live ones, the heap is rebuilt.

Deadlines of one fixed length can queue in a lane (`add_after`): they come due in the order they were added, so they
need no heap. Finished transactions linger that way, 32 seconds each, in hundreds of thousands; on the heap each
would cost a walk through memory of seventeen cache misses when it surfaces. A cancelled entry stays in its lane
until it has reached the head, so for its own length at most, with its action and argument let go.

Whoever waits 0.1 s or longer in a lane does not mind 50 ms more, so what comes due there shortly after a run waits for
the next (`wake_at`): under load that is 20 runs a second instead of one for every deadline. What is in the heap, and
whatever comes after a quiet moment, is on time.

Decided: `wake` is called only when a new deadline becomes the earliest, instead of asking `wake_at` after every
datagram: on the message path most deadlines lie behind one that is already armed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Final

Action = Callable[[Any, float], None]
Wake = Callable[[float], None]

_COMPACT_FLOOR: Final = 1024
_NEVER: Final = float("inf")
_LONG_SECONDS: Final = 0.1
_GRAIN_SECONDS: Final = 0.05


class Deadline:
    """One entry. Read `at`; cancel through `Deadlines.cancel`."""

    __slots__ = ("action", "argument", "at", "in_lane", "sequence")

    def __init__(self, at: float, sequence: int, action: Action, argument: Any, in_lane: bool) -> None:
        self.at = at
        self.sequence = sequence
        self.action: Action | None = action
        self.argument: Any = argument
        self.in_lane = in_lane

    @property
    def pending(self) -> bool:
        """Whether it has neither run nor been cancelled."""
        return self.action is not None


class Deadlines:
    """The heap and its lanes. `wake(at)` hears of a deadline that is earlier than all before it."""

    __slots__ = ("_armed_at", "_heap", "_heap_cancelled", "_lanes", "_live", "_ran_at", "_sequence", "wake")

    def __init__(self, wake: Wake | None = None) -> None:
        self.wake = wake
        self._heap: list[tuple[float, int, Deadline]] = []
        self._heap_cancelled = 0
        self._lanes: dict[float, deque[Deadline]] = {}
        self._live = 0
        self._sequence = 0
        self._armed_at = _NEVER
        self._ran_at = -_NEVER

    def __len__(self) -> int:
        return self._live

    def add(self, at: float, action: Action, argument: Any = None) -> Deadline:
        """Have `action(argument, now)` called at monotonic time `at` or soon after; equal times keep their order."""
        self._sequence += 1
        self._live += 1
        deadline = Deadline(at, self._sequence, action, argument, False)
        heappush(self._heap, (at, self._sequence, deadline))
        if at < self._armed_at:
            self._arm(at)
        return deadline

    def add_after(self, length: float, now: float, action: Action, argument: Any = None) -> Deadline:
        """The same at `now + length`, for lengths that come again and again: each has a lane of its own."""
        at = now + length
        lane = self._lanes.get(length)
        if lane is None:
            lane = self._lanes[length] = deque()
        elif lane and lane[-1].at > at:
            return self.add(at, action, argument)  # told an earlier time than before; the lane must stay in order
        self._sequence += 1
        self._live += 1
        deadline = Deadline(at, self._sequence, action, argument, True)
        lane.append(deadline)
        if at < self._armed_at:
            self._arm(at)
        return deadline

    def cancel(self, deadline: Deadline | None) -> None:
        """Forget a deadline; one that already ran, was cancelled, or is None is left alone."""
        if deadline is None or deadline.action is None:
            return
        deadline.action = None
        deadline.argument = None
        self._live -= 1
        if deadline.in_lane:
            return
        self._heap_cancelled += 1
        if self._heap_cancelled > _COMPACT_FLOOR and self._heap_cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapify(self._heap)
            self._heap_cancelled = 0

    def next_at(self) -> float | None:
        """When the earliest pending deadline is due, None when there is none."""
        first, _ = self._find_first()
        return None if first is None else first.at

    def wake_at(self) -> float | None:
        """When to call `run_due`: for the earliest deadline, or a moment later when the last run is not long ago."""
        first, lane = self._find_first()
        if first is None:
            return None
        earliest = self._ran_at + _GRAIN_SECONDS
        if lane is None or first.at >= earliest:
            return first.at
        at = earliest
        heap = self._heap
        if heap and heap[0][0] < at:
            at = heap[0][0]
        for length, short in self._lanes.items():
            if length < _LONG_SECONDS and short and short[0].at < at:
                at = short[0].at
        return at

    def run_due(self, now: float) -> int:
        """Run all that is due at `now`, in order, and answer how many ran.

        An action may add and cancel deadlines; one that it adds for `now` or earlier waits for the next call, so
        that an action which re-adds itself cannot hold the process. An action that raises ends the run, its own
        entry gone and the others kept; the caller logs it and calls again.
        """
        last = self._sequence
        late: list[Deadline] = []
        ran = 0
        try:
            while True:
                deadline, lane = self._find_first()
                if deadline is None or deadline.at > now:
                    return ran
                if lane is None:
                    heappop(self._heap)
                else:
                    lane.popleft()
                if deadline.sequence > last:
                    deadline.in_lane = True  # it is not in the heap, should it be cancelled meanwhile
                    late.append(deadline)
                    continue
                action = deadline.action
                argument = deadline.argument
                deadline.action = None
                deadline.argument = None
                self._live -= 1
                ran += 1
                if action is not None:
                    action(argument, now)
        finally:
            for deadline in late:
                if deadline.action is not None:
                    deadline.in_lane = False
                    heappush(self._heap, (deadline.at, deadline.sequence, deadline))
            self._ran_at = now
            following = self.wake_at()
            self._armed_at = _NEVER if following is None else following

    def _arm(self, at: float) -> None:
        self._armed_at = at
        if self.wake is not None:
            self.wake(at)

    def _find_first(self) -> tuple[Deadline | None, deque[Deadline] | None]:
        """The earliest pending deadline and the lane it heads, None for the heap; cancelled ones before it go."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heappop(heap)
            self._heap_cancelled -= 1
        first = heap[0][2] if heap else None
        first_lane: deque[Deadline] | None = None
        for lane in self._lanes.values():
            while lane and lane[0].action is None:
                lane.popleft()
            if lane:
                head = lane[0]
                if first is None or head.at < first.at or (head.at == first.at and head.sequence < first.sequence):
                    first = head
                    first_lane = lane
        return first, first_lane
