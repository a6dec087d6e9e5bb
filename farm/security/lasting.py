"""Kinds of records of which nothing lapses: what the store asks of a kind (`farm/overlay/store`), as far as it is the
same for all of them.

Their content alone decides: no times of a process are in it, so they travel as they are, are swept to themselves, and
replicas compare all of them. The merge is each kind's own.

Decided: the kind of users' records (`credentials`) takes `Kept` alone from here: it is compiled (setup.py), this is
not, and a compiled class cannot stand on one that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

NEVER: Final = float("inf")
VERSION_BYTES: Final = 16


class Kept(NamedTuple):
    """What became of a record: its bytes, when to sweep it next (never), by how much the numbers of live entries and
    tombstones changed, and whether an update lost against what was held."""

    record: bytes | None
    due_at: float
    live: int
    tombstones: int = 0
    conflict: bool = False


class LastingKind:
    """A kind without its merge. `check` raises ValueError for bytes that are no record; `since` is the version of the
    first nodes that know it."""

    __slots__ = ("_check", "everywhere", "name", "record_bytes", "since")

    def __init__(
        self, name: str, record_bytes: int, check: Callable[[bytes], object], *, since: int, everywhere: bool = False
    ) -> None:
        self.name = name
        self.record_bytes = record_bytes
        self.everywhere = everywhere
        self.since = since
        self._check = check

    def sweep(self, held: bytes, now: float) -> Kept:
        """Nothing lapses."""
        return Kept(held, NEVER, 0)

    def shift(self, record: bytes, seconds: float, now: float = NEVER) -> bytes:
        """The record, which holds no times of a process. Raises ValueError for bytes that are none."""
        self._check(record)
        return record

    def newest(self, record: bytes) -> int:
        """0: it has no stamps."""
        return 0

    def version(self, record: bytes) -> bytes:
        """What tells it from others: 16 bytes."""
        return blake2b(record, digest_size=VERSION_BYTES).digest()

    def trace(self, record: bytes, at: float = -NEVER) -> bytes:
        """The same: nothing lapses."""
        return self.version(record)
