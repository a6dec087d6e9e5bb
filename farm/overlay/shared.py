"""The replicated store as the users of records see it when there are other nodes: get and put by name.

The counterpart of `local`: what is known at once is answered at once, the rest by a Deferred, which is awaitable. Names
are text; foreign bytes in them survive.

What was read or written here lately is remembered, not as truth: `peek` answers it to somebody who is about to write,
and `put` starts from it, so that a phone which refreshes through the same node costs a write and no read. What others
have changed meanwhile comes back with the acknowledgements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from twisted.internet.defer import Deferred

from farm.overlay.node import OverlayNode
from farm.overlay.quorum import Failed, Found, Outcome
from farm.overlay.scanning import Collected
from farm.overlay.store import Full, Store
from farm.overlay.wire import STORES

RECENT_RECORDS: Final = 20_000
RECENT_BYTES: Final = 4096  # larger ones are read again

Refusal = Full | Failed


class SharedStore:
    """Records by kind and name, on the nodes that own them."""

    __slots__ = ("_node", "_recent", "_records")

    def __init__(self, node: OverlayNode, records: Store) -> None:
        self._node = node
        self._records = records
        self._recent: dict[tuple[str, bytes], bytes] = {}

    def get(self, kind: str, key: str, now: float) -> bytes | Refusal | Deferred[bytes | Refusal | None] | None:
        """The merged record, None when there is none; a Refusal when too few owners answer."""
        return self._fetch(kind, key.encode("utf-8", "surrogateescape"), now, None)

    def peek(self, kind: str, key: str, now: float) -> bytes | Refusal | Deferred[bytes | Refusal | None] | None:
        """What the record seems to be: this node's copy, what it was here lately, or what one owner has."""
        packed = key.encode("utf-8", "surrogateescape")
        node = self._node
        if node.own in node.owners_of(packed):
            return self._records.get(kind, packed)
        recent = self._recent.get((kind, packed))
        if recent is not None:
            return recent
        return self._fetch(kind, packed, now, 1)

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Refusal | Deferred[bytes | Refusal]:
        """Merge an update; the merged record, or a Refusal: then few or none have it, and it may be tried again."""
        packed = key.encode("utf-8", "surrogateescape")
        done = _Waiting(self, kind, packed)
        base = self._recent.get((kind, packed))
        outcome = self._node.store(kind, packed, delta, done.receive, now, base=base)
        if outcome is None:
            waiting: Deferred[bytes | Refusal] = Deferred()
            done.answer_to(lambda value: waiting.callback(b"" if value is None else value))
            return waiting
        value = self._keep(kind, packed, outcome)
        return b"" if value is None else value

    def begin_put(
        self, kind: str, key: str, delta: bytes, done: Callable[[bytes | Refusal, float], None], now: float
    ) -> bytes | Refusal | None:
        """The same: when it is not known at once, `done(answer, now)` is called, perhaps from inside."""
        packed = key.encode("utf-8", "surrogateescape")

        def receive(outcome: Outcome, now: float) -> None:
            done(self._keep(kind, packed, outcome) or b"", now)

        outcome = self._node.store(kind, packed, delta, receive, now, base=self._recent.get((kind, packed)))
        return None if outcome is None else self._keep(kind, packed, outcome) or b""

    def items(self, kind: str, now: float) -> Iterator[tuple[str, bytes]]:
        """Every record of a kind that is held on this node, with its name."""
        records = self._records.shelves[kind].records
        for key in list(records):
            record = records.get(key)
            if record is not None:
                yield key.decode("utf-8", "surrogateescape"), record

    def collect(self, kind: str, now: float) -> list[tuple[str, bytes]] | Refusal | Deferred[Any]:
        """Every record of a kind on all nodes, with its name; a Refusal when some may be missing, or there are too
        many."""
        node = self._node
        came: list[list[tuple[str, bytes]] | Refusal] = []
        waiting: Deferred[list[tuple[str, bytes]] | Refusal] = Deferred()

        def receive(outcome: Collected | Failed, _now: float) -> None:
            answer: list[tuple[str, bytes]] | Refusal
            if isinstance(outcome, Failed):
                answer = outcome
            else:
                answer = [(key.decode("utf-8", "surrogateescape"), record) for key, record in outcome.items()]
            came.append(answer)
            waiting.callback(answer)

        others = [contact.node for contact in node.membership.live() if contact.roles & STORES]
        node.access.collect(kind, others, receive, now)
        return came[0] if came else waiting

    def _fetch(
        self, kind: str, key: bytes, now: float, enough: int | None
    ) -> bytes | Refusal | Deferred[bytes | Refusal | None] | None:
        done = _Waiting(self, kind, key)
        outcome = self._node.fetch(kind, key, done.receive, now, enough=enough)
        if outcome is None:
            waiting: Deferred[bytes | Refusal | None] = Deferred()
            done.answer_to(waiting.callback)
            return waiting
        return self._keep(kind, key, outcome)

    def _keep(self, kind: str, key: bytes, outcome: Outcome) -> bytes | Refusal | None:
        """Remember what an operation came to, and answer it."""
        if not isinstance(outcome, Found):
            return outcome
        node = self._node
        recent = self._recent
        recent.pop((kind, key), None)
        if outcome.record and len(outcome.record) <= RECENT_BYTES and node.own not in node.owners_of(key):
            recent[kind, key] = outcome.record
            if len(recent) > RECENT_RECORDS:
                del recent[next(iter(recent))]
        return outcome.record


class _Waiting:
    """An operation under way, and who waits for it."""

    __slots__ = ("_answer", "_early", "_key", "_kind", "_store")

    def __init__(self, store: SharedStore, kind: str, key: bytes) -> None:
        self._store = store
        self._kind = kind
        self._key = key
        self._answer: Callable[[bytes | Refusal | None], object] | None = None
        self._early: list[bytes | Refusal | None] = []

    def receive(self, outcome: Outcome, now: float) -> None:
        """It has ended."""
        value = self._store._keep(self._kind, self._key, outcome)
        if self._answer is None:
            self._early.append(value)  # when there was nobody to ask for the owners, it has not yet begun to wait
        else:
            self._answer(value)

    def answer_to(self, answer: Callable[[bytes | Refusal | None], object]) -> None:
        """Somebody waits."""
        self._answer = answer
        for value in self._early:
            answer(value)
