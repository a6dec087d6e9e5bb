"""Replication: what must be compared with whom, and from when on, as members come and go.

For every partition that is owned here, or will be, this keeps the other owners, those of them known to hold the same
(since they last came), and those whom we must hear out before our own answers count:

- a node that becomes owner hears out all who own, or owned, the partition; it is unsettled until then;
- one that comes from elsewhere (it joined, or we were cut off from each other) may bring what we lack: whoever owns a
  partition together with it hears it out, unless the two agreed while it joined. This unsettles those who owned before;
- one that was here all the time and moves up for another that died brings nothing: it unsettles nobody but itself;
- one that goes is not waited for.

A dead owner is not replaced at once: 30 s later the next node begins to copy, since most failures pass. It asks the
nearest owner first, the others a second apart, each of which then usually finds the two equal; later still, the owners
look after it themselves. Where a single copy is left, nobody waits.

Which nodes exist and who owns what is `owners`; the work itself is done by `upkeep`. Pure values, told the time.

Decided: what is known is kept by peer, as sets of partitions, not by partition: partitions that had and get the same
owners are then dealt with together, which makes a change of members a millisecond instead of thirty.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from farm.overlay.errands import CONFIRM, COPY, PERIODIC, SYNC, URGENT, Errand
from farm.overlay.ids import PARTITIONS

_RANK_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 10.0  # before one that is settled looks after another that should act by itself

_NONE: Final[frozenset[int]] = frozenset()

Owned = Sequence[tuple[bytes, ...]]  # by partition
_Owners = tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]


class _Now(NamedTuple):
    """A change of members. Nodes that `came` are new among those who own, those that `went` are not any more."""

    nodes: frozenset[bytes]
    live: frozenset[bytes]
    came: frozenset[bytes]
    went: frozenset[bytes]
    filled: Collection[int]
    at: float


class Plan:
    """The duties of one node, which are the partitions owned here now or soon, and the errands that a change of members
    makes. `unsettled` are the duties of which others have to be heard out."""

    __slots__ = (
        "_coming",
        "_current",
        "_equal",
        "_hold_down",
        "_lacking",
        "_nodes",
        "_overdue_at",
        "_own",
        "_shared",
        "duties",
        "unsettled",
    )

    def __init__(self, own: bytes, hold_down_seconds: float) -> None:
        self.duties: set[int] = set()
        self.unsettled: set[int] = set()
        self._own = own
        self._hold_down = hold_down_seconds
        self._current: Owned = [()] * PARTITIONS
        self._coming: Owned = self._current
        self._nodes: frozenset[bytes] = frozenset()
        self._overdue_at = [0.0] * PARTITIONS  # by then all peers should be equal
        self._shared: dict[bytes, set[int]] = {}  # by peer: what both own
        self._equal: dict[bytes, set[int]] = {}  # of these, what is known to be the same there
        self._lacking: dict[bytes, set[int]] = {}  # and those of which the node is to be heard out

    def owners(self, partition: int) -> tuple[bytes, ...]:
        """The present owners."""
        return self._current[partition]

    def is_settled(self, partition: int) -> bool:
        """Whether it is owned here and all who had it have been heard out."""
        return partition in self.duties and partition not in self.unsettled

    @property
    def peers(self) -> Iterable[bytes]:
        """Those with whom partitions are shared."""
        return self._shared

    def shared(self, node: bytes, start: int, end: int, now: float) -> list[int]:
        """Of the partitions from `start` to before `end`, in order, those owned both here and there: what a round
        compares. One that errands are still to make equal is not among them, unless they have failed to."""
        shared = self._shared.get(node, _NONE)
        equal = self._equal.get(node, _NONE)
        overdue_at = self._overdue_at
        return [each for each in range(start, end) if each in shared and (each in equal or now >= overdue_at[each])]

    def choose(self, partitions: Sequence[int], node: bytes, priority: int) -> Sequence[int]:
        """Of the partitions of an errand, those of which it is still to be done."""
        shared = self._shared.get(node, _NONE)
        if priority in (PERIODIC, CONFIRM):
            return [each for each in partitions if each in shared]
        lacking = self._lacking.get(node, _NONE)
        equal = self._equal.get(node, _NONE)
        return [each for each in partitions if each in lacking or (each in shared and each not in equal)]

    def found_equal(self, partitions: Collection[int], node: bytes) -> bool:
        """The two hold the same of these; answers whether the last partition has become settled by that."""
        shared = self._shared.get(node)
        if shared is not None:
            self._equal.setdefault(node, set()).update(shared.intersection(partitions))
        lacking = self._lacking.get(node)
        if lacking is None:
            return False
        heard = lacking.intersection(partitions)
        if not heard:
            return False
        lacking -= heard
        if not lacking:
            del self._lacking[node]
        heard = heard.difference(*self._lacking.values())
        self.unsettled -= heard
        return bool(heard) and not self.unsettled

    def owned(self) -> list[int]:
        """The partitions that this node owns at present."""
        return [each for each in self.duties if self._own in self._current[each]]

    def missing(self) -> dict[int, int]:
        """For each partition owned here that lacks any, how many of its present owners are not known to hold the
        same."""
        missing: dict[int, int] = {}
        for node, shared in self._shared.items():
            for partition in shared - self._equal.get(node, _NONE):
                if node in self._current[partition]:
                    missing[partition] = missing.get(partition, 0) + 1
        return missing

    def count_missing(self) -> tuple[int, int, int]:
        """How many partitions have 1, 2, or more present owners that are not known to hold the same."""
        counts = [0, 0, 0]
        for number in self.missing().values():
            counts[min(number, 3) - 1] += 1
        return counts[0], counts[1], counts[2]

    def update(
        self,
        current: Owned,
        coming: Owned,
        nodes: frozenset[bytes],
        live: frozenset[bytes],
        filled: Collection[int],
        now: float,
    ) -> list[Errand]:
        """The owners are these now; answers what is to be done about it. `nodes` are those of `current`, `live` these
        and the joining ones, `filled` the partitions of which anything is held here."""
        own = self._own
        change = _Now(nodes, live, nodes - self._nodes, self._nodes - nodes, filled, now)
        moved = change.came | change.went
        for node in change.went:  # it is gone, or has started anew
            self._equal.pop(node, None)
        for node in [node for node in self._lacking if node not in live]:
            del self._lacking[node]
        errands: list[Errand] = []
        shared: dict[bytes, set[int]] = {}
        for (before, was_coming, owners, comes), partitions in self._group(current, coming).items():
            had = _unite(before, was_coming)
            union = _unite(owners, comes)
            if own not in union:
                if own in had:
                    self._drop(partitions)
                continue
            if own not in had:
                self._begin(partitions, owners, union, before, change, errands)
            elif union != had or not moved.isdisjoint(union):
                self._revise(partitions, owners, union, before, had, change, errands)
            for node in union:
                if node != own:
                    shared.setdefault(node, set()).update(partitions)
        self.unsettled = set().union(*self._lacking.values())
        self._current = current
        self._coming = coming
        self._nodes = nodes
        self._shared = shared
        return errands

    def _group(self, current: Owned, coming: Owned) -> dict[_Owners, list[int]]:
        """The partitions that had and have the same owners, by these: as they were, as they were to be, as they are,
        and as they are to be."""
        groups: dict[_Owners, list[int]] = {}
        group: list[int] = []
        last: _Owners = ((), (), (), ())
        before, was_coming, owners, comes = last
        for partition, key in enumerate(zip(self._current, self._coming, current, coming, strict=True)):
            # Runs of partitions share their tuples, mostly.
            if key[0] is not before or key[1] is not was_coming or key[2] is not owners or key[3] is not comes:
                before, was_coming, owners, comes = key
                group = groups.setdefault(key, [])
            group.append(partition)
        return groups

    def _drop(self, partitions: Iterable[int]) -> None:
        self.duties.difference_update(partitions)
        for known in (self._equal, self._lacking):
            for node in list(known):
                known[node].difference_update(partitions)
                if not known[node]:
                    del known[node]

    def _expect(self, partitions: Iterable[int], at: float) -> None:
        """By a while after `at`, errands should have made all peers equal."""
        overdue_at = at + self._hold_down + 2 * _PATIENCE_SECONDS
        for partition in partitions:
            self._overdue_at[partition] = overdue_at

    def _begin(
        self,
        partitions: list[int],
        owners: tuple[bytes, ...],
        union: tuple[bytes, ...],
        before: tuple[bytes, ...],
        change: _Now,
        errands: list[Errand],
    ) -> None:
        """Partitions that were not owned here and are now, or will be."""
        own = self._own
        self.duties.update(partitions)
        self._expect(partitions, change.at)
        # A joining node that is not an owner any more still has what it was; who is dead need not be heard.
        heard = dict.fromkeys([*owners, *sorted({*union, *[node for node in before if node in change.live]})])
        lacking = [node for node in heard if node != own]
        for node in lacking:
            self._lacking.setdefault(node, set()).update(partitions)
        stays = own in self._nodes
        survivors = [node for node in before if node in change.nodes]
        priority = URGENT if stays and len(survivors) == 1 < len(before) else COPY if stays else SYNC
        waiting: list[int] = []
        if stays and len(survivors) > 1:
            waiting = [partition for partition in partitions if partition not in change.filled]
            partitions = [partition for partition in partitions if partition in change.filled]
        for rank, node in enumerate(lacking):
            if partitions:
                errands.append(Errand(change.at, priority, partitions, node))
            if waiting:
                at = change.at + self._hold_down + rank * _RANK_SECONDS
                errands.append(Errand(at, priority, waiting, node))

    def _revise(
        self,
        partitions: list[int],
        owners: tuple[bytes, ...],
        union: tuple[bytes, ...],
        before: tuple[bytes, ...],
        had: tuple[bytes, ...],
        change: _Now,
        errands: list[Errand],
    ) -> None:
        """Partitions that were owned here and still are."""
        own = self._own
        now = change.at
        self._expect(partitions, now)
        for node in had:
            if node not in union and node in self._equal:
                self._equal[node].difference_update(partitions)
        alone: set[int] = set()  # nobody else of those who owned them is there and has the same
        if own in before and own in change.nodes and change.went:
            equal = [self._equal.get(node, _NONE) for node in before if node in change.nodes]
            alone = set(partitions).difference(*equal)
        rank = owners.index(own) if own in owners else len(owners)
        for node in union:
            if node == own:
                continue
            apart = set(partitions) - self._equal.get(node, _NONE)
            if node in owners and node in change.came:
                unheard = apart - self._lacking.get(node, _NONE)
                if unheard:
                    self._lacking.setdefault(node, set()).update(unheard)
                    delay = 0.0 if own < node else _RANK_SECONDS
                    errands.append(Errand(now + delay, SYNC, sorted(unheard), node))
                    apart -= unheard
            if node in owners and not alone.isdisjoint(apart):
                errands.append(Errand(now, URGENT, sorted(apart & alone), node))
                apart -= alone
            if not apart or (node in had and node not in change.came and node not in change.went):
                continue  # nothing to do, or it is under way
            if node not in owners:  # it is joining, and asks us
                delay = _PATIENCE_SECONDS
            else:
                delay = self._hold_down + _PATIENCE_SECONDS + rank * _RANK_SECONDS
            errands.append(Errand(now + delay, COPY, sorted(apart), node))


def _unite(owners: tuple[bytes, ...], coming: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return owners if coming == owners else tuple(dict.fromkeys(owners + coming))
