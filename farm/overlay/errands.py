"""Errands: partitions to be compared with a node from some time on, in the order in which they are due.

A change of members makes thousands of them, nearly all for the same few nodes and at the same few times, so one entry
stands for many partitions, and what is due is taken a limited number of partitions at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

URGENT: Final = 0  # priorities, the first is done first
SYNC: Final = 1
COPY: Final = 2
HANDOVER: Final = 3
CONFIRM: Final = 4
PERIODIC: Final = 5


class Errand(NamedTuple):
    """Compare these partitions with a node, from `at` on."""

    at: float
    priority: int
    partitions: Sequence[int]
    node: bytes


class Errands:
    """All that are to be done later, or have not been looked at yet."""

    __slots__ = ("_added", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Errand]] = []
        self._added = 0

    def add(self, errand: Errand) -> None:
        """One more; those of the same time keep their order."""
        self._added += 1
        heappush(self._heap, (errand.at, self._added, errand))

    @property
    def next_at(self) -> float:
        """When the first is due; infinity when there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def take(self, now: float, most: int) -> Iterator[Errand]:
        """What is due, of at most so many partitions; the last one may be a part of what was added."""
        heap = self._heap
        while heap and heap[0][0] <= now and most > 0:
            at, place, errand = heappop(heap)
            partitions = errand.partitions
            if len(partitions) > most:
                heappush(heap, (at, place, errand._replace(partitions=partitions[most:])))
                errand = errand._replace(partitions=partitions[:most])
            most -= len(partitions)
            yield errand
