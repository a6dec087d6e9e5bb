"""Where on the ring of Node-IDs the next node goes: into the middle of the widest gap.

Evenly spread Node-IDs spread the records evenly: a node stores what lies nearest to it. Measured at 30 nodes and four
replicas, the busiest node has 1.2 times the mean, with random Node-IDs 1.7 times (tests/security/test_ring.py).

Decided: the gap is found on the ring although distance is XOR. Halving the widest gap also fills the binary tree level
by level, which is what XOR wants, and it goes on working when nodes have left and gaps are of any width. Equally wide
gaps are taken in the order of van der Corput's sequence; going round the ring would leave one half of it twice as dense
as the other for a while (at 24 nodes 1.5 times the mean, so 1.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

NODE_BYTES: Final = 32
_RING: Final = 1 << 8 * NODE_BYTES


def first_id(overlay: str) -> bytes:
    """The Node-ID of an overlay's first node."""
    return sha256(overlay.encode()).digest()


def widest_gap_id(taken: Iterable[bytes]) -> bytes:
    """The middle of the widest gap between these Node-IDs, and of equally wide ones of that which comes first in the
    order of bits read backwards; raises ValueError when there is none: for the first node ask `first_id`."""
    places = sorted({int.from_bytes(node, "big") for node in taken})
    if not places:
        raise ValueError("no Node-ID is taken")
    gaps = [
        (following - place, place) for place, following in zip(places, [*places[1:], places[0] + _RING], strict=True)
    ]
    widest = max(width for width, _ in gaps)
    middles = [(place + width // 2) % _RING for width, place in gaps if width == widest]
    return min(middles, key=_backwards).to_bytes(NODE_BYTES, "big")


def _backwards(place: int) -> str:
    return f"{place:0{8 * NODE_BYTES}b}"[::-1]
