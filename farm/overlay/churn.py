"""How often to refresh the table: the estimators of RFC 7363 §6.3, §6.4 and §6.6 (Ghinita and Teo, 2006).

Each node estimates by itself at which rate nodes fail, from the last failures among its contacts, and join, from the
contacts' uptimes, and refreshes so often that its table is looked over log²(N) times before half of the farm has gone
or as many have come. In a quiet farm that is the cap, ten minutes; at median sessions of an hour among 1000 nodes it is
about half a minute.

Decided: estimates are not shared among peers (§6.5): a table of hundreds gives one within the RFC's 20 % alone. Uptimes
need no message either, an incarnation says when its node booted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import log2
from typing import Final

FLOOR_SECONDS: Final = 15.0  # §6.6: below this, refreshing itself is the load
CAP_SECONDS: Final = 600.0
MOST_FAILURES: Final = 256


class Churn:
    """One node's estimate. Tell it of every contact that left or died; ask it for the interval."""

    def __init__(self, now: float, *, floor_seconds: float = FLOOR_SECONDS, cap_seconds: float = CAP_SECONDS) -> None:
        self._floor = floor_seconds
        self._cap = cap_seconds
        # The time of joining stands for a failure, so that there is one from the start (§6.3).
        self._failures: deque[float] = deque([now], MOST_FAILURES)

    def receive_departure(self, now: float) -> None:
        """A contact of the table left or died."""
        self._failures.append(now)

    def failure_rate(self, contacts: int, now: float) -> float:
        """Failures a second and node, of a table of `contacts` (§6.3: U = k / (M·Tk)). The history is a quarter of
        the table; while it is shorter, a failure at this moment is assumed, so that a lasting quiet shows."""
        if not contacts:
            return 0.0
        failures = self._failures
        most = min(MOST_FAILURES - 1, max(1, contacts // 4))
        if len(failures) > most:
            count = most
            span = failures[-1] - failures[-1 - most]
            # A quiet that outlasts the history's mean pace counts as well.
            span = max(span, now - failures[-1 - most] - span / count)
        else:
            count = len(failures)
            span = now - failures[0]
        return count / (contacts * max(span, 1e-3))

    def interval(self, nodes: int, uptimes: Sequence[float], now: float) -> float:
        """Seconds until the next refresh in a farm of about `nodes`, with contacts of these uptimes, least first
        (§6.6: the lesser of 1/(2U) and N/L, over log²N, where N/L is the median uptime, §6.4)."""
        if nodes < 3 or not uptimes:
            return self._floor
        steps = log2(nodes) ** 2
        rate = self.failure_rate(len(uptimes), now)
        half_gone = 1.0 / (2.0 * rate)
        doubled = uptimes[len(uptimes) // 2]
        return min(max(min(half_gone, doubled) / steps, self._floor), self._cap)
