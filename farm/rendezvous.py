"""Which of several nodes something belongs to, so that all of them say the same without asking (rendezvous hashing).

Each node has a number for each key, drawn by a keyed hash; the greatest has it. When a node goes, only what it had
moves.

Decided: one keyed hash of the key, and a multiplication for each node: the hash of key and node together would cost a
microsecond for each node and request.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

_MASK: Final = 2**64 - 1
_ODD: Final = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio


class Rendezvous:
    """The choice among `nodes`, seeded with a secret so that no stranger can aim at one of them."""

    __slots__ = ("_mac", "_nodes")

    def __init__(self, secret: bytes) -> None:
        self._mac = blake2b(digest_size=8, key=blake2b(secret, digest_size=32, person=b"sipfarm-meeting").digest())
        self._nodes: list[tuple[int, bytes]] = []

    def set_nodes(self, nodes: Sequence[bytes]) -> None:
        """There are these now, by their Node-IDs."""
        self._nodes = [(int.from_bytes(self._hash(node), "big"), node) for node in nodes]

    def choose(self, key: str) -> bytes:
        """Who has a key; b"" when there is nobody."""
        number = int.from_bytes(self._hash(key.encode("utf-8", "surrogateescape")), "big")
        best = -1
        chosen = b""
        for drawn, node in self._nodes:
            mixed = ((number ^ drawn) * _ODD) & _MASK
            mixed = ((mixed ^ (mixed >> 32)) * _ODD) & _MASK
            if mixed > best:
                best = mixed
                chosen = node
        return chosen

    def _hash(self, data: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(data)
        return mac.digest()
