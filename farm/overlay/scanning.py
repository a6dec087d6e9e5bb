"""Reading all records of one kind, wherever they are: for lists that an operator asks for, never for a call.

Each storing node is asked for what it holds, a page at a time: by partition, by key within one. A page is bounded by
bytes and by how many records were looked at, so that nobody waits for whoever asks. The pages of all nodes are joined
by the kind's merge, since most records come as many times as there are replicas.

A node that does not answer is missed only when so many are silent that a record which was acknowledged may be with
them alone (`write_quorum`); then nothing is answered, and not a part.

Decided: no node remembers where a reader is; the reader says so each time. What is written meanwhile may be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from farm.metrics import Metrics
from farm.overlay.ids import PARTITIONS
from farm.overlay.quorum import Calls, Failed, write_quorum
from farm.overlay.store import Store
from farm.overlay.wire import Answer, Scan, Scanned

PAGE_BYTES: Final = 48_000  # about; one record more than that is a page of its own
PAGE_RECORDS: Final = 2000  # looked at, of all kinds: a few milliseconds
PAGE_SECONDS: Final = 5.0
MOST_BYTES: Final = 64_000_000  # of records that are collected: 200,000 users
MOST_PAGES: Final = 20_000  # of all nodes; whoever sends the same for ever is stopped

Collected = dict[bytes, bytes]
Done = Callable[[Collected | Failed, float], None]


class Page(NamedTuple):
    """Some records of a kind, and where to go on; in partition PARTITIONS there is nothing more."""

    rows: list[tuple[bytes, bytes]]
    partition: int
    after: bytes


def read_page(records: Store, kind: str, partition: int, after: bytes) -> Page:
    """The records of a kind that are held here, from a key of a partition on."""
    held = records.shelves[kind].records
    rows: list[tuple[bytes, bytes]] = []
    size = 0
    seen = 0
    for filled in records.filled():
        if filled < partition:
            continue
        if filled > partition:
            after = b""
        if seen >= PAGE_RECORDS:
            return Page(rows, filled, b"")
        keys = records.partition_keys(filled)
        seen += len(keys)
        for key in sorted([key for name, key in keys if name == kind and key > after]):
            record = held[key]
            size += len(key) + len(record)
            if rows and size > PAGE_BYTES:
                return Page(rows, filled, after)
            rows.append((key, record))
            after = key
    return Page(rows, PARTITIONS, b"")


class Collection:
    """All records of `kind`: those held here and what `nodes` hold. `done` is called once, not from inside `start`
    unless there is nobody to ask."""

    __slots__ = (
        "_calls",
        "_done",
        "_kind",
        "_metrics",
        "_most",
        "_needed",
        "_pages",
        "_records",
        "_silent",
        "_size",
        "_waiting",
    )

    def __init__(
        self, records: Store, kind: str, calls: Calls, metrics: Metrics, replicas: int, done: Done,
        most_bytes: int = MOST_BYTES,
    ) -> None:  # fmt: skip
        """`replicas` is how many nodes hold each record."""
        self._kind = records.shelves[kind].kind
        self._calls = calls
        self._metrics = metrics
        self._done: Done | None = done
        self._needed = write_quorum(replicas)
        self._records = dict(records.shelves[kind].records)
        self._most = most_bytes
        self._size = sum([len(key) + len(record) for key, record in self._records.items()])
        self._silent = 0
        self._pages = 0
        self._waiting: set[bytes] = set()

    def start(self, nodes: Iterable[bytes], now: float) -> None:
        """Ask them."""
        self._waiting.update(nodes)
        for node in sorted(self._waiting):
            self._ask(node, 0, b"", now)
        self._conclude(now)

    def _ask(self, node: bytes, partition: int, after: bytes, now: float) -> None:
        question = Scan(0, self._kind.name, partition, after)
        receive = partial(self._receive, node, (partition, after))
        self._calls.ask(node, question, PAGE_SECONDS, receive, now, size_class="records")

    def _receive(self, node: bytes, at: tuple[int, bytes], answer: Answer | None, now: float) -> None:
        if self._done is None:
            return
        try:
            self._hear(node, at, answer, now)
        except Exception:
            self._end(Failed("internal"), now)
            raise

    def _hear(self, node: bytes, at: tuple[int, bytes], answer: Answer | None, now: float) -> None:
        if isinstance(answer, Scanned) and self._take(answer, now):
            following = (answer.partition, answer.after)
            self._pages += 1
            if answer.partition < PARTITIONS and self._size <= self._most:
                if following > at and self._pages < MOST_PAGES:  # who turns back would be asked for ever
                    self._ask(node, *following, now)
                    return
                self._silent += 1
        else:
            self._silent += 1
        self._waiting.discard(node)
        self._conclude(now)

    def _take(self, page: Scanned, now: float) -> bool:
        """Join a page with what is there; False for what is none."""
        kind = self._kind
        try:
            for key, record in page.rows:
                moved = kind.shift(record, self._calls.shift, now)
                held = self._records.get(key)
                merged = kind.merge(held, moved, now).record
                if merged is not None:
                    self._records[key] = merged
                    self._size += len(merged) + (len(key) if held is None else -len(held))
        except ValueError:
            self._metrics.peer_rejections.child("bad-record").inc()
            return False
        return True

    def _conclude(self, now: float) -> None:
        if self._size > self._most:
            outcome: Collected | Failed = Failed("too-many")
        elif self._silent >= self._needed:
            outcome = Failed("too-few-owners")
        elif self._waiting:
            return
        else:
            outcome = self._records
        self._end(outcome, now)

    def _end(self, outcome: Collected | Failed, now: float) -> None:
        done, self._done = self._done, None
        self._records = {}
        if done is not None:
            done(outcome, now)
