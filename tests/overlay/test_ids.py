"""Identifiers and partitions."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.overlay import ids
from farm.overlay.ids import PARTITIONS

a_node = st.binary(min_size=32, max_size=32)


@given(a_node, a_node, a_node)
def test_distance_is_a_metric_in_which_no_two_nodes_are_equally_far(a: bytes, b: bytes, c: bytes) -> None:
    assert ids.distance(a, a) == 0
    assert ids.distance(a, b) == ids.distance(b, a)
    assert ids.distance(a, c) <= ids.distance(a, b) + ids.distance(b, c)
    assert b == c or ids.distance(a, b) != ids.distance(a, c)


@pytest.mark.parametrize(
    ("a", "b", "bits"),
    [
        (bytes(32), bytes(32), 256),
        (bytes(32), b"\x80" + bytes(31), 0),
        (bytes(32), b"\x01" + bytes(31), 7),
        (b"\xff" * 32, b"\xff" * 31 + b"\xfe", 255),
    ],
)
def test_a_common_prefix_is_counted_in_bits(a: bytes, b: bytes, bits: int) -> None:
    assert ids.common_prefix(a, b) == bits


def test_the_nearest_come_first() -> None:
    nodes = [bytes([first]) + bytes(31) for first in (0x00, 0x10, 0x80, 0x90)]
    contacts = [(node, "name") for node in nodes]
    near = ids.sort_nearest(contacts, nodes[3], lambda contact: contact[0])
    assert [node[0] for node, _ in near] == [0x90, 0x80, 0x10, 0x00]


def test_a_key_keeps_its_partition_for_ever() -> None:
    """What is on other nodes and in journals was placed by this: it never changes."""
    assert ids.key_id(b"sip:alice@example.com") == hashlib.sha256(b"sip:alice@example.com").digest()
    assert ids.partition_of(b"sip:alice@example.com") == 0xCAA
    assert ids.partition_of(b"") == 0xE3B
    assert ids.key_hash("registration", b"sip:alice@example.com").hex() == "d65c0c3558ea482008aec48ab28cdd6b"


@given(st.binary(max_size=40))
def test_a_key_is_nearest_to_its_own_partition(key: bytes) -> None:
    partition = ids.partition_of(key)
    assert 0 <= partition < PARTITIONS
    assert ids.common_prefix(ids.key_id(key), ids.partition_id(partition)) >= 12


def test_partitions_are_alike_in_size() -> None:
    counts = Counter(ids.partition_of(b"sip:%d@example.com" % number) for number in range(PARTITIONS * 10))
    assert len(counts) > PARTITIONS - 10
    assert max(counts.values()) < 30


def test_partition_ids_are_in_the_order_of_their_numbers() -> None:
    assert [ids.partition_id(number)[:3].hex() for number in (0, 1, 0xABC, 4095)] == [
        "000000",
        "001000",
        "abc000",
        "fff000",
    ]
    assert all(len(ids.partition_id(number)) == 32 for number in (0, 4095))


@given(st.text(max_size=9), st.binary(max_size=9), st.text(max_size=9), st.binary(max_size=9))
def test_records_of_two_kinds_are_told_apart(kind: str, key: bytes, other: str, other_key: bytes) -> None:
    if "\0" not in kind + other and (kind, key) != (other, other_key):
        assert ids.key_hash(kind, key) != ids.key_hash(other, other_key)
    assert len(ids.key_hash(kind, key)) == 16


def test_ids_are_given_out_so_that_the_ring_is_always_evenly_cut() -> None:
    taken: list[bytes] = []
    for _ in range(9):
        taken.append(ids.widest_gap_id(taken))
    assert [node[:2].hex() for node in taken] == [
        "5555",
        "d555",
        "1555",
        "9555",
        "3555",
        "b555",
        "7555",
        "f555",
        "0555",
    ]


def test_the_place_of_a_node_that_is_gone_is_given_out_again() -> None:
    taken: list[bytes] = []
    for _ in range(16):
        taken.append(ids.widest_gap_id(taken))
    gone = taken.pop(5)
    assert ids.widest_gap_id(taken) == gone


@given(st.lists(a_node, max_size=20), st.randoms(use_true_random=False))
def test_a_new_id_is_free_and_does_not_depend_on_the_order_of_the_others(
    taken: list[bytes], rng: random.Random
) -> None:
    new = ids.widest_gap_id(taken)
    assert len(new) == 32
    assert new not in taken
    rng.shuffle(taken)
    assert ids.widest_gap_id([*taken, *taken[:1]]) == new


def test_finding_the_partition_of_a_key_costs_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done for every store and fetch."""
    hashed: list[bytes] = []

    def counting(key: bytes) -> object:
        hashed.append(key)
        return hashlib.sha256(key)

    monkeypatch.setattr(ids, "sha256", counting)
    ids.partition_of(b"sip:alice@example.com")
    assert hashed == [b"sip:alice@example.com"]
