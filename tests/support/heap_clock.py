"""The clock of the in-memory network.

Decided: a clock of our own with a heap and the exact time of every event, instead of twisted.internet.task.Clock as it
is, which sorts all calls at each callLater (a thousand nodes would wait for it) and shows each call the end of the step
that it falls in.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock


class HeapClock(Clock):
    """twisted's Clock with a heap, where each call sees the time it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._sequence = 0

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - Twisted's name for it
        *args: object,
        **kw: object,
    ) -> DelayedCall:
        """As every reactor's."""
        call = DelayedCall(self.rightNow + delay, callable, args, kw, self._forget, self._rearm, self.seconds)
        self._rearm(call)
        return call

    def _forget(self, call: DelayedCall) -> None:
        """A cancelled call is skipped when it surfaces."""

    def _rearm(self, call: DelayedCall) -> None:
        self._sequence += 1
        heappush(self._heap, (call.getTime(), self._sequence, call))

    def getDelayedCalls(self) -> list[DelayedCall]:
        """What still waits, earliest first."""
        found = {id(entry[2]): entry[2] for entry in sorted(self._heap, key=lambda entry: entry[:2])}
        return [call for call in found.values() if call.active()]

    def next_at(self) -> float | None:
        """When the next call is due."""
        heap = self._heap
        while heap and (not heap[0][2].active() or heap[0][2].getTime() > heap[0][0]):
            _, _, call = heappop(heap)
            if call.active():  # it was delayed since
                self._rearm(call)
        return heap[0][0] if heap else None

    def advance(self, amount: float) -> None:
        """Let time pass, running each call at its own time."""
        until = self.rightNow + amount
        while (at := self.next_at()) is not None and at <= until:
            self.rightNow = max(self.rightNow, at)
            call = heappop(self._heap)[2]
            call.called = 1
            call.func(*call.args, **call.kw)
        self.rightNow = until
