"""A lone node's replicated store: its own records, at once.

What the users of records (registrations, credentials) see of the overlay: get and put by name, answered directly here,
since the only copy is ours. With other nodes the overlay's node takes this place and answers with awaitables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from farm.overlay.store import Full, Store


class LocalStore:
    """Records by kind and name, in this process. Names are text; foreign bytes in them survive."""

    __slots__ = ("_shelves", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shelves = store.shelves

    def get(self, kind: str, key: str, now: float) -> bytes | None:
        """The merged record, None when there is none."""
        return self._shelves[kind].records.get(key.encode("utf-8", "surrogateescape"))

    def peek(self, kind: str, key: str, now: float) -> bytes | None:
        """The same: there is no other copy."""
        return self.get(kind, key, now)

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Full:
        """Merge an update; answers the merged record, or Full when nothing has changed because a limit is reached."""
        return self._store.put(kind, key.encode("utf-8", "surrogateescape"), delta, now)

    def begin_put(
        self, kind: str, key: str, delta: bytes, done: Callable[[bytes | Full, float], None], now: float
    ) -> bytes | Full:
        """The same: nothing is waited for, and `done` is not called."""
        return self.put(kind, key, delta, now)

    def items(self, kind: str, now: float) -> Iterator[tuple[str, bytes]]:
        """Every record of a kind with its name; what is removed while this is read is left out."""
        records = self._shelves[kind].records
        for key in list(records):
            record = records.get(key)
            if record is not None:
                yield key.decode("utf-8", "surrogateescape"), record

    def collect(self, kind: str, now: float) -> list[tuple[str, bytes]]:
        """The same: nobody else has any."""
        return list(self.items(kind, now))
