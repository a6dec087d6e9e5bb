"""Identifiers: 256 bits, XOR distance (Maymounkov and Mazières, "Kademlia", §2), and the partitions keys fall into.

A Node-ID is 32 bytes, given at enrollment. A key belongs to one of 4096 partitions, by the first 12 bits of its
SHA-256, and a partition has an ID like a node's, so that "near" is one notion for both. Who owns a partition is said in
`owners`.

A partition's ID is its number in the first 12 bits and zeros after them. There is no better place in the middle: to
XOR all suffixes are alike, each only renames the nodes within the partition.

Decided: whole partitions are placed, not keys, so that digests, hand-over and "replicas missing" can be counted. And
IDs are assigned evenly, not drawn: with 30 nodes and 4 replicas the busiest node then has 1.2 times the mean, with
random IDs 1.7 times. Among equally wide gaps the one furthest from the latest is split (the order of van der Corput's
sequence), since going round the ring would leave one half twice as dense as the other for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import Final, TypeVar

ID_BITS: Final = 256
ID_BYTES: Final = 32
PARTITION_BITS: Final = 12
PARTITIONS: Final = 1 << PARTITION_BITS
KEY_HASH_BYTES: Final = 16

_RING: Final = 1 << ID_BITS
_FIRST: Final = _RING // 3  # 5555…: the halvings of the ring then never come to an ID of zeros

_T = TypeVar("_T")


def distance(a: bytes, b: bytes) -> int:
    """How far two IDs are from each other."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def common_prefix(a: bytes, b: bytes) -> int:
    """How many leading bits two IDs have in common: 0 to 256."""
    return ID_BITS - (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length()


def sort_nearest(items: Iterable[_T], target: bytes, node_of: Callable[[_T], bytes]) -> list[_T]:
    """Items by the distance of their IDs to `target`, nearest first."""
    to = int.from_bytes(target, "big")
    return sorted(items, key=lambda item: int.from_bytes(node_of(item), "big") ^ to)


@lru_cache(maxsize=1024)  # one read or write asks several times
def key_id(key: bytes) -> bytes:
    """The ID of a key."""
    return sha256(key).digest()


def partition_of(key: bytes) -> int:
    """The partition of a key: 0 to 4095."""
    digest = key_id(key)
    return digest[0] << 4 | digest[1] >> 4


def partition_id(partition: int) -> bytes:
    """The ID of a partition."""
    return (partition << 4).to_bytes(2, "big") + bytes(ID_BYTES - 2)


def key_hash(kind: str, key: bytes) -> bytes:
    """The 16 bytes by which nodes name a record to each other when they compare what they hold."""
    return blake2b(kind.encode() + b"\0" + key, digest_size=KEY_HASH_BYTES).digest()


def widest_gap_id(taken: Sequence[bytes]) -> bytes:
    """The ID for a new node: the middle of the widest gap between those that are taken."""
    ring = sorted({int.from_bytes(node, "big") for node in taken})
    if not ring:
        return _FIRST.to_bytes(ID_BYTES, "big")
    best = (0, 0, 0)
    last = ring[-1] - _RING
    for node in ring:
        middle = (last + (node - last) // 2) % _RING
        best = max(best, (node - last, -_reverse_bits(middle), middle))
        last = node
    return best[2].to_bytes(ID_BYTES, "big")


def _reverse_bits(number: int) -> int:
    return int(f"{number:0{ID_BITS}b}"[::-1], 2)
