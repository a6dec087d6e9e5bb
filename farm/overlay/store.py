"""The records that this node holds: (kind, key) to packed bytes, merged on every write, swept when due.

A kind says how two records of a key join, which of a record has lapsed, and when to look again; the store keeps the
bytes, finds what is due, counts, and remembers what the journal has not seen. Removed entries stay in their record as
tombstones until the kind lets them go, and a record without any entry left is dropped.

Expiry is a wheel of coarse slots that hold keys. A record is filed once, in the slot of its earliest due time; a
refresh that only moves that time away does not touch the wheel, and the sweep files it again when it finds nothing
due. So a refresh costs no bookkeeping and a sweep touches each record about once in its lifetime. Nothing depends on
a sweep being on time: whether an entry is alive is asked of the record and the time.

Times are monotonic seconds of this process. Records carry theirs inside, packed by the kind, which can shift them to
another process's clock (`Kind.shift`).

In a farm the store keeps cells as well (`track`): keys and digests by partition, which replicas compare. A partition
that others have is dropped whole; an empty record says so in the journal, where the old ones would otherwise come back.

Decided: records are kept packed and in dicts of plain bytes and ints, which the cycle collector does not walk; an
object a record would cost 100 bytes more and make a full collection at a million bindings a long pause.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

import msgspec

from farm.overlay.cells import PRINT_BYTES, Cells, make_print
from farm.overlay.ids import key_hash

AT_ONCE: Final = 3  # updates that may each fill a record at the same time, on different nodes
NEVER: Final = float("inf")
ENDING_SECONDS: Final = 20.0  # what ends this soon is not compared: two replicas need not sweep at the same time
KEY_BYTES: Final = 2048  # an address-of-record of 128 characters that are all escaped has less
_INDEXES: Final = 8
_UNTOLD: Final = 100_000  # dropped keys of a kind that wait for a dead journal; others stay there until a start


class Merged(Protocol):
    """What became of a record by a merge or a sweep."""

    @property
    def record(self) -> bytes | None:
        """Its bytes, None when nothing is left to keep; the very object that was held when nothing changed."""

    @property
    def due_at(self) -> float:
        """When to sweep it next; NEVER if it does not lapse."""

    @property
    def live(self) -> int:
        """By how much its number of live entries has changed."""

    @property
    def tombstones(self) -> int:
        """By how much its number of tombstones has changed."""

    @property
    def conflict(self) -> bool:
        """Whether part of the update lost against what was held."""


class Kind(Protocol):
    """A kind of record: how it merges and how long it lasts. Merge is associative, commutative and idempotent. All
    raise ValueError for bytes that are no record."""

    @property
    def name(self) -> str:
        """Name in the journal, on the wire and in metrics; never changes."""

    @property
    def record_bytes(self) -> int:
        """Largest packed record."""

    @property
    def everywhere(self) -> bool:
        """Whether every node holds it, so that it belongs to no partition."""

    @property
    def since(self) -> int:
        """The version of the first nodes that know it: one that is older takes no such record (`wire.VERSION`)."""

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Merged:
        """Join an update, which is a record too, with what is held."""

    def sweep(self, held: bytes, now: float) -> Merged:
        """Turn what lapsed into tombstones and let go of tombstones that outlived all they outrank."""

    def shift(self, record: bytes, seconds: float, now: float = NEVER) -> bytes:
        """The same record with its times moved by `seconds`, for another monotonic clock, and none of them after
        `now`. What it lets through breaks no merge: all that comes from elsewhere goes through here."""

    def version(self, record: bytes) -> bytes:
        """16 bytes, equal for records of equal content on all nodes, whatever their times and whether lapsed contacts
        have been stripped."""

    def trace(self, record: bytes, at: float = -NEVER) -> bytes:
        """What replicas compare: content as a sweep at `at` would leave it, "" when it would leave nothing. Unlike
        `version` it tells whether the winners are alive, so that a copy that lapsed too early is made good."""

    def newest(self, record: bytes) -> int:
        """The greatest stamp in a record, for `HybridClock.resume` and `observe`."""


class Full(NamedTuple):
    """An update was refused whole because a limit is reached: "record" (its size) or "records" (their number)."""

    reason: str


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record on its way to the journal or back; an empty one has been dropped."""

    kind: str
    key: bytes
    record: bytes


class Shelf:
    """The records of one kind."""

    __slots__ = (
        "_filed",
        "_numbers",
        "_slot_seconds",
        "_wheel",
        "cells",
        "conflicts",
        "dirty",
        "kind",
        "live",
        "most_untold",
        "records",
        "tell_dropped",
        "tombstones",
    )

    def __init__(self, kind: Kind, slot_seconds: float) -> None:
        self.kind = kind
        self.records: dict[bytes, bytes] = {}
        self.dirty: set[bytes] = set()
        self.live = 0
        self.tombstones = 0
        self.conflicts = 0
        self.tell_dropped = False
        self.most_untold = _UNTOLD
        self.cells: Cells | None = None
        self._slot_seconds = slot_seconds
        self._wheel: dict[int, list[bytes]] = {}
        self._filed: dict[bytes, int] = {}
        self._numbers: dict[int, int] = {}  # one int object a slot, shared by its keys

    def keep(self, key: bytes, merged: Merged) -> None:
        """Hold what a merge or a sweep answered."""
        self.live += merged.live
        self.tombstones += merged.tombstones
        record = merged.record
        cells = self.cells
        if record is None:
            self.records.pop(key, None)
            self._filed.pop(key, None)
            if self.tell_dropped and len(self.dirty) < len(self.records) + self.most_untold:
                self.dirty.add(key)
            else:
                self.dirty.discard(key)
            if cells is not None:
                cells.note(self.kind.name, key, b"")
            return
        if cells is not None and record is not self.records.get(key):
            cells.note(self.kind.name, key, self.kind.trace(record))
        self.records[key] = record
        due_at = merged.due_at
        if due_at == NEVER:
            return
        number = int(due_at / self._slot_seconds) + 1
        filed = self._filed.get(key)
        if filed is None or number < filed:
            self._file(key, number)

    def _file(self, key: bytes, number: int) -> None:
        keys = self._wheel.get(number)
        if keys is None:
            keys = self._wheel[number] = []
            self._numbers[number] = number
        keys.append(key)
        self._filed[key] = self._numbers[number]

    def drop(self, key: bytes, now: float) -> None:
        """Forget a record that others keep."""
        record = self.records.pop(key)
        self._filed.pop(key, None)
        gone = self.kind.merge(None, record, now)
        self.live -= gone.live
        self.tombstones -= gone.tombstones
        self.dirty.add(key)
        if self.cells is not None:
            self.cells.note(self.kind.name, key, b"")

    def may_end(self, key: bytes, by: float) -> bool:
        """Whether something of a record may end by then; that it does not is certain."""
        number = self._filed.get(key)
        return number is not None and (number - 1) * self._slot_seconds <= by

    def sweep(self, now: float, most: int) -> int:
        """Sweep at most `most` records of the slots that are due; answers how many there were."""
        wheel = self._wheel
        current = int(now / self._slot_seconds)
        swept = 0
        for number in sorted([number for number in wheel if number <= current]):
            keys = wheel[number]
            while keys:
                if swept >= most:
                    return swept
                key = keys.pop()
                if self._filed.get(key) != number:
                    continue  # filed elsewhere since, or gone
                del self._filed[key]
                swept += 1
                held = self.records[key]
                merged = self.kind.sweep(held, now)
                if merged.record is not held:
                    self.dirty.add(key)
                self.keep(key, merged)
            del wheel[number]
            del self._numbers[number]
        return swept


class _Index(NamedTuple):
    """The records of a partition by key hash, as long as it has this digest."""

    digest: bytes
    found: dict[bytes, tuple[str, bytes, int]]
    order: list[bytes]


class Store:
    """All records of a node, of the kinds it was built with. `most_records` bounds their number."""

    __slots__ = ("_indexes", "cells", "most", "shelves")

    def __init__(self, kinds: Iterable[Kind], *, most_records: int = 2_000_000, slot_seconds: float = 5.0) -> None:
        self.shelves = {kind.name: Shelf(kind, slot_seconds) for kind in kinds}
        self.most = most_records
        self.cells: Cells | None = None
        self._indexes: dict[int, _Index] = {}

    def __len__(self) -> int:
        return sum(len(shelf.records) for shelf in self.shelves.values())

    def get(self, kind: str, key: bytes) -> bytes | None:
        """The record, lapsed entries and tombstones included; None when there is none."""
        return self.shelves[kind].records.get(key)

    def put(self, kind: str, key: bytes, delta: bytes, now: float, *, replicated: bool = False) -> bytes | Full:
        """Merge an update into a record and answer the merged record, or Full, and then nothing has changed.

        An update that leaves nothing to keep answers b"". One that is `replicated` was let through by the node that
        took it in: two that grew a record at once, each within its limit, must not leave its owners with one each.
        """
        shelf = self.shelves[kind]
        held = shelf.records.get(key)
        if held is None:
            if len(key) > KEY_BYTES:
                return Full("record")
            if len(self) >= self.most:
                return Full("records")
        merged = shelf.kind.merge(held, delta, now)
        record = merged.record
        most = shelf.kind.record_bytes * (AT_ONCE if replicated else 1)
        if record is not None and len(record) > most:
            return Full("record")
        if merged.conflict:
            shelf.conflicts += 1
        if record is not held:
            shelf.dirty.add(key)
        shelf.keep(key, merged)
        return record if record is not None else b""

    def mark(self, kind: str, key: bytes, record: bytes) -> bytes:
        """16 bytes, equal where what is held of a key has the same content. Of what is held here it costs nothing."""
        shelf = self.shelves[kind]
        value = 0
        if shelf.cells is not None and shelf.records.get(key) is record:
            value = shelf.cells.find(kind, key)
        return (value or make_print(kind, key, shelf.kind.trace(record))).to_bytes(PRINT_BYTES, "big")

    def load(self, row: Row, now: float) -> bool:
        """Merge a record from the journal, which knows it already; False for a kind that this node has not."""
        shelf = self.shelves.get(row.kind)
        if shelf is None:
            return False
        held = shelf.records.get(row.key)
        shelf.keep(row.key, shelf.kind.merge(held, row.record, now))
        if held is not None:
            shelf.dirty.add(row.key)
        return True

    def sweep(self, now: float, most: int = 1000) -> int:
        """Sweep what is due, at most `most` records; when it answers `most`, there may be more: call again soon."""
        swept = 0
        for shelf in self.shelves.values():
            if swept < most:
                swept += shelf.sweep(now, most - swept)
        return swept

    # By partition

    def track(self) -> None:
        """Keep cells from now on: 4 µs for each record that is held already, so before the journal is read."""
        if self.cells is not None:
            return
        self.cells = cells = Cells()
        for name, shelf in self.shelves.items():
            if not shelf.kind.everywhere:
                shelf.cells = cells
                for key, record in shelf.records.items():
                    cells.note(name, key, shelf.kind.trace(record))

    def digest(self, partition: int) -> bytes:
        """16 bytes for all that a partition holds; zeros when that is nothing."""
        return self._tracked().digest(partition)

    def count(self, partition: int) -> int:
        """How many records a partition has here."""
        return self._tracked().count(partition)

    def sizes(self, kind: str) -> Iterable[tuple[int, int]]:
        """The partitions of which records of a kind are held, each with how many."""
        return self._tracked().sizes(kind)

    def filled(self) -> list[int]:
        """The partitions of which anything is held."""
        return self._tracked().filled()

    def partition_keys(self, partition: int) -> list[tuple[str, bytes]]:
        """Kind and key of every record of a partition."""
        return [(kind, key) for kind, key, _ in self._tracked().prints(partition)]

    def key_list(self, partition: int, after: bytes, most: int, now: float) -> list[tuple[bytes, bytes]]:
        """Key hash and print of the first records after a key hash, in order; without what ends soon."""
        index = self._find_index(partition)
        until = now + ENDING_SECONDS
        listed: list[tuple[bytes, bytes]] = []
        start = bisect_right(index.order, after) if after else 0
        for place in range(start, len(index.order)):
            if len(listed) >= most:
                break
            hashed = index.order[place]
            kind, key, value = index.found[hashed]
            shelf = self.shelves[kind]
            if shelf.may_end(key, until):
                trace = shelf.kind.trace(shelf.records[key], until)
                if not trace:
                    continue
                value = make_print(kind, key, trace)
            listed.append((hashed, value.to_bytes(PRINT_BYTES, "big")))
        return listed

    def find(self, partition: int, hashed: bytes) -> Row | None:
        """The record with a key hash."""
        found = self._find_index(partition).found.get(hashed)
        if found is None:
            return None
        kind, key, _ = found
        return Row(kind, key, self.shelves[kind].records[key])

    def hashes(self, partition: int, after: bytes) -> list[bytes]:
        """The key hashes of a partition after one of them, in order."""
        order = self._find_index(partition).order
        return order[bisect_right(order, after) :] if after else list(order)

    def drop(self, partition: int, now: float) -> int:
        """Forget all of a partition, which others hold; answers how many records that was."""
        keys = self.partition_keys(partition)
        for kind, key in keys:
            self.shelves[kind].drop(key, now)
        self._indexes.pop(partition, None)
        return len(keys)

    def _tracked(self) -> Cells:
        if self.cells is None:
            raise RuntimeError("the store keeps no cells: call track()")
        return self.cells

    def _find_index(self, partition: int) -> _Index:
        cells = self._tracked()
        digest = cells.digest(partition)
        index = self._indexes.pop(partition, None)
        if index is None or index.digest != digest:
            found = {key_hash(kind, key): (kind, key, value) for kind, key, value in cells.prints(partition)}
            index = _Index(digest, found, sorted(found))
        self._indexes[partition] = index
        if len(self._indexes) > _INDEXES:
            del self._indexes[next(iter(self._indexes))]
        return index

    # For the journal

    def tell_dropped(self, most_untold: int = _UNTOLD) -> None:
        """Have the journal told of every record that is dropped from now on: it is a table and deletes them.
        `most_untold` of a kind may wait for a dead one."""
        for shelf in self.shelves.values():
            shelf.tell_dropped = True
            shelf.most_untold = most_untold

    def keys(self, kind: str) -> list[bytes]:
        """The keys of a kind as they are now, oldest first."""
        return list(self.shelves[kind].records)

    @property
    def unwritten(self) -> int:
        """How many records the journal has not seen as they are now."""
        return sum(len(shelf.dirty) for shelf in self.shelves.values())

    def take_unwritten(self, most: int) -> list[Row]:
        """Up to `most` records that changed, as they are now, empty ones for those that were dropped; from here on they
        count as written."""
        rows: list[Row] = []
        for name, shelf in self.shelves.items():
            dirty = shelf.dirty
            records = shelf.records
            if len(rows) + len(dirty) <= most:
                rows += [Row(name, key, records.get(key, b"")) for key in dirty]
                dirty.clear()
            while dirty and len(rows) < most:
                key = dirty.pop()
                rows.append(Row(name, key, records.get(key, b"")))
        return rows

    def mark_unwritten(self, kind: str, keys: Iterable[bytes]) -> None:
        """Have these records written (again); keys that have been dropped meanwhile are left out."""
        shelf = self.shelves[kind]
        records = shelf.records
        shelf.dirty.update([key for key in keys if key in records])

    def take_back(self, rows: Iterable[Row]) -> None:
        """These could not be written."""
        for row in rows:
            shelf = self.shelves[row.kind]
            if not row.record or row.key in shelf.records:
                shelf.dirty.add(row.key)
