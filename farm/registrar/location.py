"""The location service (RFC 3261 §10.1): finding, changing and listing the records of addresses-of-record.

It stands between who knows SIP (registrar, proxy, console) and who keeps bytes (`ReplicatedStore`: this node alone, or
the overlay). What is at hand is answered at once, else an awaitable is: callers look at what they got.

Lapsed bindings are never answered, whether or not anybody has swept them; removed ones are, to the registrar only,
which must know the CSeq that removed them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol

from farm.registrar.binding import KIND, Binding, RegistrationKind, bindings_of, find_register, is_alive, value_of
from farm.registrar.record import EMPTY, Entry, Record, Register


class Refusal(Protocol):
    """Why an update was not taken; nothing has changed."""

    @property
    def reason(self) -> str:
        """A slug for log and counter."""


class ReplicatedStore(Protocol):
    """Who keeps the records. `put` merges: it answers the merged record, or a Refusal. `now` is monotonic."""

    def get(self, kind: str, key: str, now: float) -> bytes | Awaitable[bytes | None] | None:
        """The merged record, None when there is none."""

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Refusal | Awaitable[bytes | Refusal]:
        """Merge an update into the record, whole or not at all."""

    def items(self, kind: str, now: float) -> Iterable[tuple[str, bytes]]:
        """Every record that is held here."""


class Stamps(Protocol):
    """The clock that orders updates of all nodes."""

    @property
    def node(self) -> int:
        """What tells our stamps from those of other nodes."""

    def tick(self, wall: float) -> int:
        """A stamp greater than all before."""


class Location:
    """The records of addresses-of-record in `store`. `wall` answers seconds since 1970, for stamps alone."""

    __slots__ = ("_kind", "_pack", "_stamps", "_store", "_unpack", "_wall", "node")

    def __init__(
        self, store: ReplicatedStore, kind: RegistrationKind, stamps: Stamps, wall: Callable[[], float]
    ) -> None:
        self.node = stamps.node
        self._store = store
        self._kind = kind
        self._stamps = stamps
        self._wall = wall
        self._pack = kind.pack
        self._unpack = kind.unpack

    def find(self, aor: str, now: float) -> list[Binding] | Awaitable[list[Binding]]:
        """The live bindings, the best q first, of equal q the latest first."""
        record = self.read(aor, now)
        if isinstance(record, Record):
            return bindings_of(record, now)
        return self._find_later(record, now)

    async def _find_later(self, record: Awaitable[Record], now: float) -> list[Binding]:
        return bindings_of(await record, now)

    def known(self, aor: str) -> bool:
        """Whether anything is remembered of it here, be it removed or lapsed."""
        return isinstance(self._store.get(KIND, aor, 0.0), bytes)

    def read(self, aor: str, now: float) -> Record | Awaitable[Record]:
        """The whole record, for who is going to change it; not to be changed in place."""
        packed = self._store.get(KIND, aor, now)
        if packed is None:
            return EMPTY
        if isinstance(packed, bytes):
            return self._unpack(packed)
        return self._read_later(packed)

    async def _read_later(self, packed: Awaitable[bytes | None]) -> Record:
        held = await packed
        return EMPTY if held is None else self._unpack(held)

    def make_stamp(self) -> int:
        """A stamp for an update."""
        return self._stamps.tick(self._wall())

    def update(self, aor: str, delta: Record, now: float) -> Record | Refusal | Awaitable[Record | Refusal]:
        """Merge an update and answer the merged record, or a Refusal: then nothing has changed.

        Raises UnicodeEncodeError, before anything is changed, for text in `delta` that came as other than UTF-8.
        """
        merged = self._store.put(KIND, aor, self._pack(delta), now)
        if isinstance(merged, bytes):
            return self._unpack(merged)
        if isinstance(merged, Awaitable):
            return self._update_later(merged)
        return merged

    async def _update_later(self, merged: Awaitable[bytes | Refusal]) -> Record | Refusal:
        answer = await merged
        return self._unpack(answer) if isinstance(answer, bytes) else answer

    def remove(self, aor: str, now: float) -> int | Awaitable[int]:
        """Remove all bindings, as an operator's order, and answer how many were alive; 0 as well when the store
        refuses."""
        record = self.read(aor, now)
        if isinstance(record, Record):
            removed, delta = self._removal(record, now)
            merged = self.update(aor, delta, now)
            if isinstance(merged, Awaitable):
                return self._remove_later(removed, merged)
            return removed if isinstance(merged, Record) else 0
        return self._read_and_remove(aor, record, now)

    async def _read_and_remove(self, aor: str, reading: Awaitable[Record], now: float) -> int:
        removed, delta = self._removal(await reading, now)
        merged = self.update(aor, delta, now)
        if isinstance(merged, Awaitable):
            merged = await merged
        return removed if isinstance(merged, Record) else 0

    async def _remove_later(self, removed: int, merged: Awaitable[Record | Refusal]) -> int:
        return removed if isinstance(await merged, Record) else 0

    def _removal(self, record: Record, now: float) -> tuple[int, Record]:
        """A raised floor alone: unlike `Contact: *` it says nothing of Call-IDs, so the phones may register again."""
        removed = sum(is_alive(value_of(entry), now) for entry in record.entries)
        return removed, Record([], self.make_stamp(), int(now * 1000))

    def make_star(self, record: Record, call_id: str, cseq: int, now: float) -> Record:
        """The update that `Contact: *` is: a floor under which all is gone, known here or not, and above it a
        tombstone for each binding that is alive or that this Call-ID removed before, so that an older REGISTER that
        arrives late is still out of order."""
        at = int(now * 1000)
        floor = self.make_stamp()
        stamp = self.make_stamp()
        entries = [
            Entry(entry.key, [Register(call_id, cseq, stamp, self.node, at)])
            for entry in record.entries
            if is_alive(value_of(entry), now) or find_register(entry, call_id) is not None
        ]
        return Record(entries, floor, at)

    def items(self, now: float) -> Iterator[tuple[str, list[Binding]]]:
        """Every address-of-record that has live bindings on this node, with them."""
        for aor, packed in self._store.items(KIND, now):
            bindings = bindings_of(self._unpack(packed), now)
            if bindings:
                yield aor, bindings
