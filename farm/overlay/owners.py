"""Who owns a partition: the nodes nearest to its ID, in distinct zones while there are enough zones.

A pure function of the set of nodes: all who know the same nodes agree, whatever they learned first. With one zone, a
node that leaves changes the owners of what it owned and of nothing else, and a node that comes takes only what it is
nearer to; with several, the same holds within its zone.

Owners are in the order of distance, nearest first. Which nodes count (alive, suspect, storing) is for the caller.

The nodes nearest to an ID are all within the smallest subtree of ID space around it that holds enough of them, and in
what order they are depends only on those bits of the ID at which they part from each other. So partitions come in runs
that have the same owners, a run costs one sort of a handful, and all 4096 partitions take less than a millisecond
among 9 nodes and about three among 250: a change of the nodes simply has them computed anew.

Decided: zones first, then distance, rather than rendezvous hashing with weights: Kademlia's lookup then finds owners
without knowing everybody. With fewer zones than replicas the rest are the nearest whatever their zone, so two zones
with 4 replicas may be 3 and 1: that still outlives the loss of either.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from farm.overlay.ids import ID_BITS, PARTITION_BITS, PARTITIONS

_SHIFT: Final = ID_BITS - PARTITION_BITS


class Place(NamedTuple):
    """A node that may own partitions, and the zone in which it would fail together with others ("" is one too)."""

    node: bytes
    zone: str = ""


class Placement:
    """The owners of all partitions for one set of nodes."""

    def __init__(self, replicas: int) -> None:
        """`replicas` is how many owners a partition has when there are so many nodes."""
        if replicas < 1:
            raise ValueError(f"replicas must be at least 1, not {replicas}")
        self.replicas = replicas
        self.version = 0  # grows with every change
        self._places: frozenset[Place] = frozenset()
        self._ids: list[int] = []  # sorted
        self._nodes: dict[int, bytes] = {}
        self._zones: dict[int, str] = {}
        self._zones_wanted = 0
        self._table: list[tuple[bytes, ...]] | None = None  # by partition; computed when it is asked for

    def set_nodes(self, places: Iterable[Place], like: Placement | None = None) -> bool:
        """These are the nodes now, each named once; answers whether that is a change. If `like` places the same nodes,
        what it has computed serves both."""
        fresh = frozenset(places)
        if fresh == self._places:
            return False
        self._place(fresh)
        if like is not None and like.nodes == fresh and like.replicas == self.replicas:
            self._table = like._compute()
        return True

    def change_replicas(self, replicas: int) -> bool:
        """A partition has so many owners now; answers whether that is a change."""
        if replicas == self.replicas:
            return False
        self.replicas = replicas
        self._place(self._places)
        return True

    def _place(self, fresh: frozenset[Place]) -> None:
        self._places = fresh
        self._nodes = {int.from_bytes(place.node, "big"): place.node for place in fresh}
        # A node named twice is a caller's mistake, which must not make two nodes differ in what they compute.
        self._zones = {int.from_bytes(place.node, "big"): place.zone for place in sorted(fresh)}
        self._ids = sorted(self._nodes)
        self._zones_wanted = min(self.replicas, len(set(self._zones.values())))
        self._table = None
        self.version += 1

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def nodes(self) -> frozenset[Place]:
        """All that may own."""
        return self._places

    @property
    def owners_each(self) -> int:
        """How many owners every partition has: min(replicas, nodes)."""
        return min(self.replicas, len(self._ids))

    def owners(self, partition: int) -> tuple[bytes, ...]:
        """The owners of a partition, nearest first; empty when there are no nodes."""
        return (self._table or self._compute())[partition]

    def find_owners(self, partition: int) -> tuple[bytes, ...]:
        """The same, for who asks of one partition only: the others are not computed."""
        return self._choose(sorted(self._ids, key=(partition << _SHIFT).__xor__))

    def all_owners(self) -> Sequence[tuple[bytes, ...]]:
        """The owners of every partition, by its number. It stays as it is when the nodes change later, so that two
        can be compared, and neighbours with the same owners mostly have the same object."""
        return self._table or self._compute()

    def ranked(self, partition: int, count: int) -> tuple[bytes, ...]:
        """The owners, and after them those who stand in for one, nearest first: `count` in all if there are so
        many."""
        owners = self.owners(partition)
        if count <= len(owners):
            return owners[:count]
        target = partition << _SHIFT
        chosen = set(owners)
        others = (self._nodes[node] for node in sorted(self._ids, key=target.__xor__))
        stand_ins = [node for node in others if node not in chosen]
        return (*owners, *stand_ins[: count - len(owners)])

    def _compute(self) -> list[tuple[bytes, ...]]:
        if self._table is None:
            self._table = self._make_table()
        return self._table

    def _make_table(self) -> list[tuple[bytes, ...]]:
        table: list[tuple[bytes, ...]] = [()] * PARTITIONS
        for first, end, low, high in self._find_ranges():
            near = self._ids[low:high]
            parting = 0  # the bits at which two of them part; what a partition has in the others does not matter
            for one, next_one in pairwise(near):
                parting |= 1 << ((one ^ next_one).bit_length() - 1)
            parting >>= _SHIFT
            known: dict[int, tuple[bytes, ...]] = {}
            length = min(end - first, parting & -parting or PARTITIONS)
            for start in range(first, end, length):
                owners = known.get(start & parting)
                if owners is None:
                    owners = self._choose(sorted(near, key=(start << _SHIFT).__xor__))
                    known[start & parting] = owners
                table[start : start + length] = [owners] * length
        return table

    def _find_ranges(self) -> Iterator[tuple[int, int, int, int]]:
        """Cut ID space in halves for as long as both a half's nodes and its zones suffice; what is nearest to a
        partition is within the last such half around it. Answers partitions from, to, and the range of `_ids`."""
        ids = self._ids
        zones = self._zones
        most = self.owners_each
        wanted = self._zones_wanted
        waiting = [(0, PARTITIONS, 0, len(ids))] if ids else []
        while waiting:
            first, end, low, high = waiting.pop()
            if end - first == 1:
                yield first, end, low, high
                continue
            middle = (first + end) // 2
            cut = bisect_left(ids, middle << _SHIFT, low, high)
            for start, stop, left, right in ((first, middle, low, cut), (middle, end, cut, high)):
                enough = right - left >= most
                if enough and (wanted < 2 or len({zones[node] for node in ids[left:right]}) >= wanted):
                    waiting.append((start, stop, left, right))
                else:
                    yield start, stop, low, high

    def _choose(self, near: Sequence[int]) -> tuple[bytes, ...]:
        """The owners of something, among nodes that are sorted by their distance to it."""
        nodes = self._nodes
        most = self.replicas
        if self._zones_wanted < 2 or len(near) <= most:
            return tuple([nodes[node] for node in near[:most]])
        chosen: set[int] = set()
        seen: set[str] = set()
        zones = self._zones
        for node in near:
            zone = zones[node]
            if zone not in seen:
                seen.add(zone)
                chosen.add(node)
                if len(seen) == self._zones_wanted:
                    break
        missing = most - len(chosen)
        for node in near:
            if missing <= 0:
                break
            if node not in chosen:
                chosen.add(node)
                missing -= 1
        return tuple([nodes[node] for node in near if node in chosen])
