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

Decided: records are kept packed and in dicts of plain bytes and ints, which the cycle collector does not walk; an
object a record would cost 100 bytes more and make a full collection at a million bindings a long pause.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

import msgspec

NEVER: Final = float("inf")


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

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Merged:
        """Join an update, which is a record too, with what is held."""

    def sweep(self, held: bytes, now: float) -> Merged:
        """Turn what lapsed into tombstones and let go of tombstones that outlived all they outrank."""

    def shift(self, record: bytes, seconds: float) -> bytes:
        """The same record with its times moved by `seconds`, for another monotonic clock."""

    def newest(self, record: bytes) -> int:
        """The greatest stamp in a record, for `HybridClock.resume` and `observe`."""


class Full(NamedTuple):
    """An update was refused whole because a limit is reached: "record" (its size) or "records" (their number)."""

    reason: str


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record on its way to the journal or back."""

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
        "conflicts",
        "dirty",
        "kind",
        "live",
        "records",
        "tombstones",
    )

    def __init__(self, kind: Kind, slot_seconds: float) -> None:
        self.kind = kind
        self.records: dict[bytes, bytes] = {}
        self.dirty: set[bytes] = set()
        self.live = 0
        self.tombstones = 0
        self.conflicts = 0
        self._slot_seconds = slot_seconds
        self._wheel: dict[int, list[bytes]] = {}
        self._filed: dict[bytes, int] = {}
        self._numbers: dict[int, int] = {}  # one int object a slot, shared by its keys

    def keep(self, key: bytes, merged: Merged) -> None:
        """Hold what a merge or a sweep answered."""
        self.live += merged.live
        self.tombstones += merged.tombstones
        record = merged.record
        if record is None:
            self.records.pop(key, None)
            self._filed.pop(key, None)
            self.dirty.discard(key)
            return
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


class Store:
    """All records of a node, of the kinds it was built with. `most_records` bounds their number."""

    __slots__ = ("_most", "shelves")

    def __init__(self, kinds: Iterable[Kind], *, most_records: int = 2_000_000, slot_seconds: float = 5.0) -> None:
        self.shelves = {kind.name: Shelf(kind, slot_seconds) for kind in kinds}
        self._most = most_records

    def __len__(self) -> int:
        return sum(len(shelf.records) for shelf in self.shelves.values())

    def get(self, kind: str, key: bytes) -> bytes | None:
        """The record, lapsed entries and tombstones included; None when there is none."""
        return self.shelves[kind].records.get(key)

    def put(self, kind: str, key: bytes, delta: bytes, now: float) -> bytes | Full:
        """Merge an update into a record and answer the merged record, or Full, and then nothing has changed.

        An update that leaves nothing to keep answers b"".
        """
        shelf = self.shelves[kind]
        held = shelf.records.get(key)
        if held is None and len(self) >= self._most:
            return Full("records")
        merged = shelf.kind.merge(held, delta, now)
        record = merged.record
        if record is not None and len(record) > shelf.kind.record_bytes:
            return Full("record")
        if merged.conflict:
            shelf.conflicts += 1
        if record is not held:
            shelf.dirty.add(key)
        shelf.keep(key, merged)
        return record if record is not None else b""

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

    def keys(self, kind: str) -> list[bytes]:
        """The keys of a kind as they are now, oldest first."""
        return list(self.shelves[kind].records)

    @property
    def unwritten(self) -> int:
        """How many records the journal has not seen as they are now."""
        return sum(len(shelf.dirty) for shelf in self.shelves.values())

    def take_unwritten(self, most: int) -> list[Row]:
        """Up to `most` records that changed, as they are now; from here on they count as written."""
        rows: list[Row] = []
        for name, shelf in self.shelves.items():
            dirty = shelf.dirty
            records = shelf.records
            if len(rows) + len(dirty) <= most:
                rows += [Row(name, key, records[key]) for key in dirty]
                dirty.clear()
            while dirty and len(rows) < most:
                key = dirty.pop()
                rows.append(Row(name, key, records[key]))
        return rows

    def mark_unwritten(self, kind: str, keys: Iterable[bytes]) -> None:
        """Have these records written (again); keys that have been dropped meanwhile are left out."""
        shelf = self.shelves[kind]
        records = shelf.records
        shelf.dirty.update([key for key in keys if key in records])
