"""The location service (RFC 3261 §10.1): finding, changing and listing the records of addresses-of-record.

It stands between who knows SIP (registrar, proxy, console) and who keeps bytes (`ReplicatedStore`: this node alone, or
the overlay). What is at hand is answered at once, else an awaitable is: callers look at what they got.

Lapsed bindings are never answered, whether or not anybody has swept them; removed ones are, to the registrar only,
which must know the CSeq that removed them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from farm.registrar.binding import KIND, Binding, RegistrationKind, bindings_of, find_register, is_alive, value_of
from farm.registrar.record import EMPTY, Entry, Record, Register
from farm.security.credentials import ELSEWHERE
from farm.sip.status import SipError


class Refusal(Protocol):
    """Why an update was not taken; nothing has changed."""

    @property
    def reason(self) -> str:
        """A slug for log and counter."""


Fetched = bytes | Refusal | None


class ReplicatedStore(Protocol):
    """Who keeps the records. `put` merges: it answers the merged record, or a Refusal. `now` is monotonic."""

    def get(self, kind: str, key: str, now: float) -> Fetched | Awaitable[Fetched]:
        """The merged record, None when there is none; a Refusal when too few that keep it can be reached."""

    def peek(self, kind: str, key: str, now: float) -> Fetched | Awaitable[Fetched]:
        """The same for who is going to `put`: it may lack what a `put` will bring back."""

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Refusal | Awaitable[bytes | Refusal]:
        """Merge an update into the record, whole or not at all."""

    def begin_put(
        self, kind: str, key: str, delta: bytes, done: Callable[[bytes | Refusal, float], None], now: float
    ) -> bytes | Refusal | None:
        """The same without anything to await: None when `done(answer, now)` is told instead, once."""

    def items(self, kind: str, now: float) -> Iterable[tuple[str, bytes]]:
        """Every record that is held here."""


class Stamps(Protocol):
    """The clock that orders updates of all nodes."""

    @property
    def node(self) -> int:
        """What tells our stamps from those of other nodes."""

    def tick(self, wall: float) -> int:
        """A stamp greater than all before."""


class Located(NamedTuple):
    """What there is of an address-of-record: its live bindings, and whether anything is remembered of it, be it removed
    or lapsed."""

    bindings: list[Binding]
    known: bool


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

    def find(self, aor: str, now: float) -> Located | Awaitable[Located]:
        """The live bindings, the best q first, of equal q the latest first. Raises SipError 500 when the record cannot
        be had, 503 when it can through another node."""
        record = self.read(aor, now)
        if isinstance(record, Record):
            return Located(bindings_of(record, now), record is not EMPTY)
        return self._find_later(record, now)

    async def _find_later(self, finding: Awaitable[Record], now: float) -> Located:
        record = await finding
        return Located(bindings_of(record, now), record is not EMPTY)

    def read(self, aor: str, now: float) -> Record | Awaitable[Record]:
        """The whole record, not to be changed in place. Raises SipError as `find` does."""
        found = self._store.get(KIND, aor, now)
        return self._read_later(found) if isinstance(found, Awaitable) else self._open(found)

    def peek(self, aor: str, now: float) -> Record | Awaitable[Record]:
        """The record for who is going to change it: what an update answers may show more of the past than this."""
        found = self._store.peek(KIND, aor, now)
        return self._read_later(found) if isinstance(found, Awaitable) else self._open(found)

    async def _read_later(self, finding: Awaitable[Fetched]) -> Record:
        return self._open(await finding)

    def _open(self, found: Fetched) -> Record:
        if found is None:
            return EMPTY
        if isinstance(found, bytes):
            return self._unpack(found)
        status = 503 if found.reason in ELSEWHERE else 500
        raise SipError(status, reason="store-unavailable", headers=(("retry-after", "2"),))

    def make_stamp(self) -> int:
        """A stamp for an update."""
        return self._stamps.tick(self._wall())

    def update(self, aor: str, delta: Record, now: float) -> Record | Refusal | Awaitable[Record | Refusal]:
        """Merge an update and answer the merged record, or a Refusal: then nothing has changed.

        Raises UnicodeEncodeError, before anything is changed, for text in `delta` that came as other than UTF-8.
        """
        merged = self._store.put(KIND, aor, self._pack(delta), now)
        return self._update_later(merged) if isinstance(merged, Awaitable) else self.open_merged(merged)

    async def _update_later(self, merged: Awaitable[bytes | Refusal]) -> Record | Refusal:
        return self.open_merged(await merged)

    def begin_update(
        self, aor: str, delta: Record, done: Callable[[bytes | Refusal, float], None], now: float
    ) -> Record | Refusal | None:
        """The same without anything to await: None when `done(answer, now)` is told instead, for `open_merged`."""
        merged = self._store.begin_put(KIND, aor, self._pack(delta), done, now)
        return None if merged is None else self.open_merged(merged)

    def open_merged(self, merged: bytes | Refusal) -> Record | Refusal:
        """What an update came to."""
        return self._unpack(merged) if isinstance(merged, bytes) else merged

    def remove(self, aor: str, now: float) -> int | Awaitable[int]:
        """Remove all bindings, as an operator's order, and answer how many were alive. Raises SipError as `find` does,
        and when the store takes nothing."""
        record = self.peek(aor, now)
        if isinstance(record, Record):
            removed, delta = self._removal(record, now)
            merged = self.update(aor, delta, now)
            if isinstance(merged, Awaitable):
                return self._remove_later(removed, merged)
            return _count_removed(removed, merged)
        return self._read_and_remove(aor, record, now)

    async def _read_and_remove(self, aor: str, reading: Awaitable[Record], now: float) -> int:
        removed, delta = self._removal(await reading, now)
        merged = self.update(aor, delta, now)
        if isinstance(merged, Awaitable):
            merged = await merged
        return _count_removed(removed, merged)

    async def _remove_later(self, removed: int, merged: Awaitable[Record | Refusal]) -> int:
        return _count_removed(removed, await merged)

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


def _count_removed(removed: int, merged: Record | Refusal) -> int:
    if not isinstance(merged, Record):
        raise SipError(500, reason="store-unavailable", headers=(("retry-after", "2"),))
    return removed
