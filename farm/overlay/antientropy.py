"""Anti-entropy, the side that is asked: digests, key lists, records of a partition, and records pushed here.

Every answer is made from the store as it is in that turn, so nothing is remembered between two questions, and either
side may vanish at any moment. Answers are bounded: what does not fit is asked for again, after the last key hash.

A digest stands for one partition, or, at numbers from 4096, for a group of 64: the hash of the digests of all those in
it that both nodes own. Two nodes that agree say so in one entry; if they do not even agree on who owns what, the group
differs, and its partitions are compared one by one.

The side that asks is `comparison` (one partition) and `upkeep` (all of them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from farm.metrics import Metrics
from farm.overlay.budget import Budget
from farm.overlay.cells import PRINT_BYTES
from farm.overlay.ids import PARTITIONS, partition_of
from farm.overlay.store import KEY_BYTES, Full, Store
from farm.overlay.wire import Answer, Digest, Digested, Error, KeyList, Keys, Pull, Pulled, Push, Pushed, Row

GROUP: Final = 64  # partitions
DIGESTS: Final = 512  # in a message
ROW_BYTES: Final = 48_000  # of records in a message, about; one record more than that is a message of its own
ROWS: Final = 250  # in a message: what a turn takes in
_LEAST_IN_GROUP: Final = 4
_GROUPS: Final = 16  # in a message: a thousand partitions are compared in about a millisecond
_KEYS: Final = 2000  # in an answer
_WANTED: Final = 4096
_ENTRIES: Final = PARTITIONS + PARTITIONS // GROUP


Observe = Callable[[int], bool]


class View(Protocol):
    """What is known of others: `upkeep`."""

    def shared_group(self, node: bytes, group: int, now: float) -> Sequence[int]:
        """The partitions of a group that this node and the other own, in order."""

    def is_settled(self, partition: int) -> bool:
        """Whether this node has compared a partition with all who had it."""

    def found_equal(self, partitions: Sequence[int], node: bytes, now: float) -> None:
        """The other node holds the same of these partitions."""

    def heard_of(self, node: bytes, now: float) -> None:
        """The other node compares of its own accord."""


def group_digest(store: Store, partitions: Iterable[int]) -> bytes:
    """One digest for these partitions, which must be in order."""
    parts = [partition.to_bytes(2, "big") + store.digest(partition) for partition in partitions]
    return blake2b(b"".join(parts), digest_size=PRINT_BYTES).digest()


def make_round(store: Store, shared: Iterable[int]) -> Iterator[tuple[list[tuple[int, bytes]], dict[int, list[int]]]]:
    """The questions that compare all these partitions, which must be in order: the digests of each, and the partitions
    of the groups among them."""
    groups: dict[int, list[int]] = {}
    for partition in shared:
        groups.setdefault(partition // GROUP, []).append(partition)
    digests: list[tuple[int, bytes]] = []
    for group, partitions in groups.items():
        if len(partitions) < _LEAST_IN_GROUP:
            digests += [(partition, store.digest(partition)) for partition in partitions]
        else:
            digests.append((PARTITIONS + group, group_digest(store, partitions)))
    for start in range(0, len(digests), _GROUPS):
        part = digests[start : start + _GROUPS]
        yield part, {number: groups[number - PARTITIONS] for number, _ in part if number >= PARTITIONS}


class Traffic:
    """What repair has moved, counted and paid for."""

    __slots__ = ("_bytes_in", "_bytes_out", "_records_in", "_records_out", "bad", "budget", "unbelievable")

    def __init__(self, budget: Budget, metrics: Metrics) -> None:
        self.budget = budget
        self.bad = metrics.peer_rejections.child("bad-record")
        self.unbelievable = metrics.peer_rejections.child("clock")
        self._records_in = metrics.repair_records.child("in")
        self._records_out = metrics.repair_records.child("out")
        self._bytes_in = metrics.repair_bytes.child("in")
        self._bytes_out = metrics.repair_bytes.child("out")

    def count_in(self, rows: Sequence[Row], now: float) -> None:
        """These came."""
        size = measure(rows)
        self._records_in.inc(len(rows))
        self._bytes_in.inc(size)
        self.budget.pay(size, now)

    def count_out(self, rows: Sequence[Row], now: float) -> None:
        """These went."""
        size = measure(rows)
        self._records_out.inc(len(rows))
        self._bytes_out.inc(size)
        self.budget.pay(size, now)


def measure(rows: Sequence[Row]) -> int:
    """Bytes of the records and their keys."""
    return sum([len(row.key) + len(row.record) for row in rows])


class Refused(NamedTuple):
    """How many records were not merged: `bad` ones, which cannot be, and those for which there is no room."""

    bad: int
    full: int


class Intake:
    """Merges what other nodes send. `observe(stamp)` says whether a record's newest stamp can be believed."""

    __slots__ = ("_observe", "_store", "_traffic")

    def __init__(self, store: Store, traffic: Traffic, observe: Observe) -> None:
        self._store = store
        self._traffic = traffic
        self._observe = observe

    def merge(self, rows: Sequence[Row], shift: float, now: float, partition: int = -1) -> Refused:
        """Merge whole records of a partition, or of any; answers how many were refused."""
        bad = full = 0
        store = self._store
        for row in rows:
            shelf = store.shelves.get(row.kind)
            if shelf is None or shelf.kind.everywhere or not 0 < len(row.key) <= KEY_BYTES:
                bad += 1
                continue
            if partition >= 0 and partition_of(row.key) != partition:
                bad += 1
                continue
            try:
                record = shelf.kind.shift(row.record, shift, now)
                if not self._observe(shelf.kind.newest(record)):
                    self._traffic.unbelievable.inc()
                    bad += 1
                    continue
                merged = store.put(row.kind, row.key, record, now, replicated=True)
                if isinstance(merged, Full):
                    full += merged.reason == "records"
                    bad += merged.reason != "records"  # together with ours it would be too large
            except ValueError:
                bad += 1
                self._traffic.bad.inc()
        return Refused(bad, full)


class Answers:
    """Answers other nodes out of the store. `view` says what is shared with whom, and hears of equality."""

    __slots__ = ("_intake", "_store", "_traffic", "_view")

    def __init__(self, store: Store, intake: Intake, traffic: Traffic, view: View) -> None:
        self._store = store
        self._intake = intake
        self._traffic = traffic
        self._view = view

    def answer(self, node: bytes, message: object, shift: float, now: float) -> Answer:
        """Answer a Digest, Keys, Pull or Push; an Error for what makes no sense."""
        if isinstance(message, Digest):
            return self._compare(node, message, now)
        if isinstance(message, Push):
            if len(message.rows) > _WANTED:
                return Error(message.call, "bad-request")
            self._traffic.count_in(message.rows, now)
            return Pushed(message.call, sum(self._intake.merge(message.rows, shift, now)))
        if isinstance(message, Keys):
            if not 0 <= message.partition < PARTITIONS:
                return Error(message.call, "bad-request")
            listed = self._store.key_list(message.partition, message.after, _KEYS + 1, now)
            return KeyList(message.call, listed[:_KEYS], len(listed) > _KEYS)
        if isinstance(message, Pull):
            if not 0 <= message.partition < PARTITIONS or len(message.wanted) > _WANTED:
                return Error(message.call, "bad-request")
            if self._traffic.budget.is_deep(now):
                return Error(message.call, "busy")
            return self._give(message, now)
        return Error(getattr(message, "call", 0), "unsupported")

    def _compare(self, node: bytes, message: Digest, now: float) -> Answer:
        differing: list[tuple[int, int]] = []
        equal: list[int] = []
        if len(message.digests) > _ENTRIES:
            return Error(message.call, "bad-request")
        store = self._store
        view = self._view
        for number, digest in message.digests:
            if not 0 <= number < _ENTRIES:
                return Error(message.call, "bad-request")
            if number >= PARTITIONS:
                shared = view.shared_group(node, number - PARTITIONS, now)
                if group_digest(store, shared) != digest:
                    differing.append((number, 0))
                else:
                    equal += shared
                continue
            if store.digest(number) != digest:
                differing.append((number, store.count(number)))
            else:
                equal.append(number)
        view.found_equal(equal, node, now)
        view.heard_of(node, now)
        settled = [number for number, _ in message.digests if number < PARTITIONS and view.is_settled(number)]
        return Digested(message.call, differing, settled)

    def _give(self, message: Pull, now: float) -> Pulled:
        store = self._store
        rows: list[Row] = []
        size = 0
        more = False
        last = b""
        wanted = message.wanted or store.hashes(message.partition, message.after)
        for hashed in wanted:
            found = store.find(message.partition, hashed)
            if found is None:
                continue
            size += len(found.key) + len(found.record)
            if rows and (size > ROW_BYTES or len(rows) >= ROWS):
                more = True
                break
            rows.append(Row(found.kind, found.key, found.record))
            last = hashed
        self._traffic.count_out(rows, now)
        return Pulled(message.call, rows, more, last)
