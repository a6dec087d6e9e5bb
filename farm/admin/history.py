"""The last hour of a node in a fixed ring: what it counted, every ten seconds.

Told the totals of its counters and buckets, and the time, it answers differences: events an interval, events a second,
and quantiles of what was timed in an interval. An interval in which nothing was timed has no quantile, and one that was
slept through (a stopped process, a busy event loop) has nothing at all: both are None, so that a plot shows a gap.

Decided: own samples beside Prometheus', since the page must say what happened on a farm where nobody has set up
Prometheus yet. 360 samples of eight numbers are all that it ever holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

SECONDS_EACH: Final = 10.0
SAMPLES: Final = 360

Series = list[float | None]


@dataclass(frozen=True)
class Timed:
    """A histogram's running total: values counted up to each bound, the last one being infinity, as Prometheus has
    them."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()

    def since(self, before: Timed) -> Timed:
        """What was timed between two moments."""
        if self.bounds != before.bounds:
            return self
        return Timed(self.bounds, tuple(a - b for a, b in zip(self.counts, before.counts, strict=True)))

    def quantile(self, share: float) -> float | None:
        """The value below which that share of all lies, linear within its bucket; the highest finite bound when it
        lies above. None when nothing was timed."""
        if not self.counts or self.counts[-1] <= 0:
            return None
        rank = share * self.counts[-1]
        low = below = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank:
                if bound == float("inf"):
                    return low
                return low + (bound - low) * (rank - below) / (count - below) if count > below else bound
            low, below = bound, count
        return low


@dataclass(frozen=True)
class Totals:
    """What was counted and timed since the node started, by name."""

    counted: Mapping[str, float] = field(default_factory=dict)
    timed: Mapping[str, Timed] = field(default_factory=dict)


@dataclass(frozen=True)
class _Interval:
    """What an interval comes to; the quantiles by name and share."""

    counted: Mapping[str, float]
    quantiles: Mapping[tuple[str, float], float | None]


class History:
    """The ring. `take` once at the start and then every `seconds_each`; `shares` are the quantiles that it keeps."""

    def __init__(
        self, *, samples: int = SAMPLES, seconds_each: float = SECONDS_EACH, shares: Sequence[float] = (0.5, 0.99)
    ) -> None:
        self.seconds_each = seconds_each
        self._samples = samples
        self._shares = tuple(shares)
        self._intervals: deque[_Interval | None] = deque(maxlen=samples)
        self._marks: deque[tuple[float, Totals]] = deque(maxlen=2)  # what a rate is measured from

    def take(self, totals: Totals, now: float) -> None:
        """Note the totals."""
        if self._marks:
            at, before = self._marks[-1]
            slept = round((now - at) / self.seconds_each)
            if slept > 1:
                self._intervals.extend([None] * min(slept, self._samples))
            else:
                self._intervals.append(self._compare(totals, before))
        self._marks.append((now, totals))

    def _compare(self, totals: Totals, before: Totals) -> _Interval:
        quantiles: dict[tuple[str, float], float | None] = {}
        for name, timed in totals.timed.items():
            since = timed.since(before.timed.get(name, Timed()))
            for share in self._shares:
                value = since.quantile(share)
                quantiles[name, share] = None if value is None else round(value, 6)
        return _Interval(_grown(totals, before), quantiles)

    def rates(self, totals: Totals, now: float) -> dict[str, float]:
        """Events a second of each name, over the last ten to twenty seconds."""
        if not self._marks:
            return dict.fromkeys(totals.counted, 0.0)
        at, before = self._marks[0]
        seconds = max(now - at, 1.0)
        return {name: count / seconds for name, count in _grown(totals, before).items()}

    def counts(self, name: str) -> Series:
        """How many there were in each interval, the oldest first."""
        return [None if each is None else each.counted.get(name, 0.0) for each in self._intervals]

    def per_second(self, name: str) -> Series:
        """The same as a rate."""
        return [None if count is None else round(count / self.seconds_each, 3) for count in self.counts(name)]

    def quantiles(self, name: str, share: float) -> Series:
        """One of the quantiles of what was timed in each interval, the oldest first, in seconds."""
        return [None if each is None else each.quantiles.get((name, share)) for each in self._intervals]


def _grown(totals: Totals, before: Totals) -> dict[str, float]:
    """By how much each counter has; one that has begun anew, not at all."""
    return {name: max(0.0, count - before.counted.get(name, 0.0)) for name, count in totals.counted.items()}
