"""Drives the one heap of deadlines from the reactor: a single `callLater`, re-armed when an earlier deadline comes.

Part of the composition root; `deadlines.py` itself knows no reactor. It also measures how late its own timer runs,
which is how long the event loop keeps everybody waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from farm.deadlines import Deadlines
from farm.metrics import Metrics

_TICK_SECONDS: Final = 0.01  # the reactor is woken at most this often for deadlines; no timer of SIP is finer
_LAG_SECONDS: Final = 0.5

_log: Final = Logger(namespace="timers")


class Pump:
    """Owns the heap. `clock` answers monotonic seconds."""

    def __init__(self, reactor: Any, clock: Callable[[], float], metrics: Metrics) -> None:
        self.deadlines = Deadlines(self._wake)
        self._reactor = reactor
        self._clock = clock
        self._lag = metrics.event_loop_lag.child()
        self._unexpected = metrics.unexpected_errors.child("timer")
        self._call: Any = None
        self._stopped = False

    def start(self) -> None:
        """Begin to measure the lag of the event loop."""
        self.deadlines.add(self._clock() + _LAG_SECONDS, self._measure, self._clock() + _LAG_SECONDS)

    def stop(self) -> None:
        """Run nothing more."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wake(self, at: float) -> None:
        if self._stopped:
            return
        delay = max(at - self._clock(), _TICK_SECONDS)
        if self._call is None:
            self._call = self._reactor.callLater(delay, self._run)
        else:
            self._call.reset(delay)

    def _run(self) -> None:
        self._call = None
        try:
            self.deadlines.run_due(self._clock())
        except Exception:
            self._unexpected.inc()
            _log.failure("a timer failed")
        following = self.deadlines.wake_at()
        if following is not None and self._call is None:
            self._wake(following)

    def _measure(self, due_at: float, now: float) -> None:
        self._lag.observe(max(0.0, now - due_at))
        self.deadlines.add(now + _LAG_SECONDS, self._measure, now + _LAG_SECONDS)
