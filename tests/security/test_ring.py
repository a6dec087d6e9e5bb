"""The next node goes where it takes the most from the busiest."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from farm.security.ring import NODE_BYTES, first_id, widest_gap_id


def at(number: int) -> bytes:
    return number.to_bytes(NODE_BYTES, "big")


def share_of_busiest(nodes: list[bytes], replicas: int) -> float:
    """How much more than the mean the busiest node has, when each partition goes to the nearest nodes."""
    numbers = [int.from_bytes(node, "big") for node in nodes]
    owned: Counter[int] = Counter()
    for partition in range(4096):
        target = partition << 244
        owned.update(sorted(numbers, key=lambda number: number ^ target)[:replicas])
    return max(owned.values()) * len(nodes) / (4096 * replicas)


def test_the_middle_of_the_widest_gap_is_taken_also_across_zero() -> None:
    assert widest_gap_id([at(0)]) == at(1 << 255)
    assert widest_gap_id([at(0), at(1 << 255)]) == at(1 << 254), "and not 3 << 254, which is the last backwards"
    assert widest_gap_id([at(0), at(1 << 255), at(1 << 254)]) == at(3 << 254)
    assert widest_gap_id([at(10), at(1 << 200)]) == at(((1 << 200) + 10 + (1 << 256)) // 2)
    assert widest_gap_id([at(1 << 255), at((1 << 256) - 2)]) == at((1 << 254) - 1)


def test_the_order_in_which_nodes_are_named_does_not_matter() -> None:
    nodes = [at(random.Random(1).getrandbits(256)) for _ in range(20)]
    assert widest_gap_id(nodes) == widest_gap_id(reversed(nodes)) == widest_gap_id(nodes + nodes)


def test_without_a_node_there_is_no_gap() -> None:
    with pytest.raises(ValueError, match="no Node-ID"):
        widest_gap_id([])


def test_the_first_node_of_an_overlay_is_always_at_one_place() -> None:
    assert first_id("farm.example") == first_id("farm.example") != first_id("other.example")
    assert len(first_id("farm.example")) == NODE_BYTES


@pytest.mark.parametrize("overlay", ["farm.example", "a", "sip.example.net"])
def test_the_busiest_of_any_number_of_nodes_has_little_more_than_the_mean(overlay: str) -> None:
    """At 30 nodes and 4 replicas 1.20 in the design, 1.7 with random Node-IDs."""
    nodes = [first_id(overlay)]
    while len(nodes) < 48:
        nodes.append(widest_gap_id(nodes))
    assert share_of_busiest(nodes[:30], 4) < 1.2
    assert max(share_of_busiest(nodes[:count], 4) for count in (5, 8, 10, 12, 20, 24, 40, 48)) < 1.2
    assert share_of_busiest(nodes[:16], 4) < 1.01
    rng = random.Random(7)
    assert share_of_busiest([at(rng.getrandbits(256)) for _ in range(30)], 4) > 1.5


def test_a_place_that_fell_vacant_is_filled_before_others_are_halved() -> None:
    nodes = [first_id("a")]
    while len(nodes) < 16:
        nodes.append(widest_gap_id(nodes))
    gone = nodes.pop(5)
    assert widest_gap_id(nodes) == gone
