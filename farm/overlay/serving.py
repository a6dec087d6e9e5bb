"""What other nodes ask of this one's records: fetch, store, stat; and of its nonces (`spender`, which knows them). The
answers are made in the turn of the question.

Who asks has proved which node it is; that does not make what it sends right. A record is checked by its kind
(`Kind.shift` refuses what is none), and whether that node may write it is asked of `Writers`: only a node with the
role edge writes registrations, only for domains of the overlay. A stamp that is too far ahead is refused here as in
repair: it would outrank all that is true, and each node that takes it from its journal again would be too far ahead
for the others. What a node stores that it does not own, it stores for an owner that cannot be reached
(`Store.stands_for`), and hands over later (`upkeep`).

How often one record is written is limited (`writes`, which counts what this node itself wants written as well): a phone
in a loop, or a node, must not keep all owners busy. What upkeep pushes is not: whole records, on a budget of its own.
A read repair that is refused is made good by the next comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from farm.metrics import Metrics
from farm.overlay.ids import partition_of
from farm.overlay.scanning import read_page
from farm.overlay.store import Full
from farm.overlay.store import Store as Records
from farm.overlay.wire import (
    BAD_RECORD,
    EDGE,
    NOT_ALLOWED,
    OWNER,
    RECORD_FULL,
    STORE_FULL,
    STRANGER,
    TOO_OFTEN,
    UNSETTLED,
    Contact,
    Error,
    Fetch,
    Fetched,
    Scan,
    Scanned,
    Spend,
    Spent,
    Stat,
    StatAnswer,
    Store,
    Stored,
)
from farm.security.limits import RateTable

NEARER_CONTACTS = 8
WRITE_BURST_SECONDS: Final = 5.0
_MOST_COUNT: Final = 0xFFFFFFFF  # eight hexadecimal digits (RFC 7616 §3.4)
WRITTEN_KEYS: Final = 4096  # that are remembered: at 20,000 writes a second still those of the last 0.2 s


class Ownership(Protocol):
    """Who owns what, as this node sees it."""

    @property
    def own(self) -> bytes:
        """This node."""

    def owners(self, partition: int) -> Sequence[bytes]:
        """The owners that are alive or suspected."""

    def joining(self, partition: int) -> Sequence[bytes]:
        """Those who will be owners when they have joined."""

    def is_settled(self, partition: int) -> bool:
        """Whether this node's own answers count."""

    def nearest(self, partition: int, count: int) -> Sequence[Contact]:
        """The nodes known nearest to a partition."""


def make_write_rates(per_second: int) -> RateTable | None:
    """How often each key may be written, on the average and in a burst; None for no limit."""
    return RateTable(per_second, per_second * WRITE_BURST_SECONDS, WRITTEN_KEYS) if per_second else None


class Writers(Protocol):
    """Says which node may write what."""

    def refuse(self, node: bytes, kind: str, key: bytes) -> str:
        """Why a node may not write a record, a slug; "" when it may."""


class Serving:
    """Answers from `records`. `stores` is whether this node has the role, `observe(stamp)` whether a record's newest
    stamp can be believed; `writes` limits those of each key."""

    __slots__ = ("_metrics", "_observe", "_records", "_stores", "_view", "_writers", "spender", "writes")

    def __init__(
        self,
        records: Records,
        view: Ownership,
        writers: Writers,
        metrics: Metrics,
        *,
        stores: bool,
        observe: Callable[[int], bool],
        writes: RateTable | None = None,
    ) -> None:
        self.spender: Callable[[int, int, int], int] | None = None  # (made_at, serial, count) to `Spent.outcome`
        self._records = records
        self._view = view
        self._writers = writers
        self._metrics = metrics
        self._stores = stores
        self.writes = writes
        self._observe = observe

    def fetch(self, message: Fetch) -> Fetched:
        """The record of a key."""
        shelf = self._records.shelves.get(message.kind)
        partition = partition_of(message.key)
        standing = self._standing(partition)
        nearer = self._view.nearest(partition, NEARER_CONTACTS) if standing == STRANGER else ()
        held = None if shelf is None else shelf.records.get(message.key)
        if held is None or shelf is None:
            return Fetched(message.call, b"", False, standing, nearer)
        if message.known and shelf.kind.version(held) == message.known:
            return Fetched(message.call, b"", True, standing, nearer)
        return Fetched(message.call, held, False, standing, nearer)

    def store(self, node: bytes, message: Store, shift: float, now: float) -> Stored:
        """Merge an update that another node sent; `shift` moves its times to our clock."""
        records = self._records
        shelf = records.shelves.get(message.kind)
        if shelf is None or not self._stores:
            return self._refused(message.call, NOT_ALLOWED, "wrong-role" if shelf is not None else "wrong-kind")
        reason = self._writers.refuse(node, message.kind, message.key)
        if reason:
            return self._refused(message.call, NOT_ALLOWED, reason)
        if self.writes is not None and self.writes.take(message.key, now):
            return self._refused(message.call, TOO_OFTEN, "rate")
        try:
            delta = shelf.kind.shift(message.delta, shift, now)
            if not self._observe(shelf.kind.newest(delta)):
                return self._refused(message.call, BAD_RECORD, "clock")
            merged = records.put(message.kind, message.key, delta, now, replicated=True)
        except ValueError:
            return self._refused(message.call, BAD_RECORD, "bad-record")
        if isinstance(merged, Full):
            return self._refused(message.call, RECORD_FULL if merged.reason == "record" else STORE_FULL, "full")
        partition = partition_of(message.key)
        standing = self._standing(partition)
        nearer: Sequence[Contact] = ()
        if standing == STRANGER and not message.stands_for:
            nearer = self._view.nearest(partition, NEARER_CONTACTS)
        if not merged or (message.expected and records.mark(message.kind, message.key, merged) == message.expected):
            return Stored(message.call, 0, b"", standing, nearer)
        return Stored(message.call, 0, merged, standing, nearer)

    def stat(self, message: Stat) -> StatAnswer:
        """What is held of a key."""
        shelf = self._records.shelves.get(message.kind)
        standing = self._standing(partition_of(message.key))
        held = None if shelf is None else shelf.records.get(message.key)
        if held is None or shelf is None:
            return StatAnswer(message.call, standing=standing)
        return StatAnswer(message.call, shelf.kind.version(held), len(held), standing)

    def spend(self, message: Spend, roles: int) -> Spent | Error:
        """Whether a count of a nonce of ours is used for the first time; a node with these roles wants to know."""
        if self.spender is None or not roles & EDGE:
            self._metrics.peer_rejections.child("wrong-role").inc()
            return Error(message.call, "not-allowed")
        if not 0 <= message.count <= _MOST_COUNT:
            self._metrics.peer_rejections.child("bad-message").inc()
            return Error(message.call, "bad-request")
        return Spent(message.call, self.spender(message.made_at, message.serial, message.count))

    def scan(self, message: Scan) -> Scanned | Error:
        """A page of what is held of a kind."""
        shelf = self._records.shelves.get(message.kind)
        if shelf is None or shelf.kind.everywhere:
            self._metrics.peer_rejections.child("wrong-kind").inc()
            return Error(message.call, "bad-request")
        page = read_page(self._records, message.kind, message.partition, message.after)
        return Scanned(message.call, page.rows, page.partition, page.after)

    def _standing(self, partition: int) -> int:
        view = self._view
        own = view.own
        if own in view.owners(partition):
            return OWNER if view.is_settled(partition) else UNSETTLED
        return UNSETTLED if own in view.joining(partition) else STRANGER

    def _refused(self, call: int, refusal: int, reason: str) -> Stored:
        self._metrics.peer_rejections.child(reason).inc()
        return Stored(call, refusal)
