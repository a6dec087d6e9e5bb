"""Cells: what this node holds of each partition, in a form that two nodes can compare.

A cell is the keys of one partition, each with its print, the hash of (kind, key, content); the cell's digest is the XOR
of the prints, so it is brought up to date by one print out and one in, in whatever order records came. Content is what
`Kind.trace` says: equal on all replicas that have merged the same, whatever their clocks.

The store keeps cells from the moment they are wanted (`Store.track`); a lone node never wants them.

Decided: the print is kept with each key, some 100 bytes a record, because a change would otherwise have to unpack what
it replaces. Key hashes are not: they are wanted only where digests differ, and cost a microsecond each then.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from farm.overlay.ids import PARTITIONS, key_id, partition_of

PRINT_BYTES: Final = 16


def make_print(kind: str, key: bytes, trace: bytes) -> int:
    """The hash of one record's kind, key and content, as a number."""
    return _make_print(kind, key_id(key), trace)


def _make_print(kind: str, hashed: bytes, trace: bytes) -> int:
    return int.from_bytes(blake2b(hashed + kind.encode() + b"\0" + trace, digest_size=PRINT_BYTES).digest(), "big")


class Cells:
    """The cells of all partitions."""

    __slots__ = ("_digests", "_prints")

    def __init__(self) -> None:
        self._prints: dict[str, list[dict[bytes, int] | None]] = {}
        self._digests: list[int] = [0] * PARTITIONS

    def note(self, kind: str, key: bytes, trace: bytes) -> None:
        """A record has come or changed and is this now; nothing, when it has gone."""
        hashed = key_id(key)
        partition = hashed[0] << 4 | hashed[1] >> 4  # as `ids.partition_of`, without hashing twice
        cells = self._prints.get(kind)
        if cells is None:
            cells = self._prints[kind] = [None] * PARTITIONS
        cell = cells[partition]
        if cell is None:
            if not trace:
                return
            cell = cells[partition] = {}
        change = cell.get(key, 0)
        if trace:
            new = _make_print(kind, hashed, trace)
            cell[key] = new
            change ^= new
        else:
            cell.pop(key, None)
            if not cell:
                cells[partition] = None
        self._digests[partition] ^= change

    def find(self, kind: str, key: bytes) -> int:
        """The print of a record, 0 when it has none."""
        cells = self._prints.get(kind)
        cell = None if cells is None else cells[partition_of(key)]
        return 0 if cell is None else cell.get(key, 0)

    def digest(self, partition: int) -> bytes:
        """16 bytes for all that a partition holds; zeros when that is nothing."""
        return self._digests[partition].to_bytes(PRINT_BYTES, "big")

    def count(self, partition: int) -> int:
        """How many records a partition has here."""
        count = 0
        for cells in self._prints.values():
            cell = cells[partition]
            if cell is not None:
                count += len(cell)
        return count

    def sizes(self, kind: str) -> Iterator[tuple[int, int]]:
        """The partitions of which records of a kind are held, each with how many."""
        for partition, cell in enumerate(self._prints.get(kind, ())):
            if cell is not None:
                yield partition, len(cell)

    def prints(self, partition: int) -> Iterator[tuple[str, bytes, int]]:
        """Kind, key and print of every record of a partition, which must not change meanwhile."""
        for kind, cells in self._prints.items():
            cell = cells[partition]
            if cell is not None:
                for key, value in cell.items():
                    yield kind, key, value

    def filled(self) -> list[int]:
        """The partitions of which anything is held."""
        filled: set[int] = set()
        for cells in self._prints.values():
            filled.update([partition for partition, cell in enumerate(cells) if cell is not None])
        return sorted(filled)
