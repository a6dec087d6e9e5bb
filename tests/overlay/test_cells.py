"""Cells: digests that say whether two nodes hold the same of a partition, whatever the order in which it came."""

from __future__ import annotations

import random

from farm.overlay.cells import Cells, make_print
from farm.overlay.ids import partition_of

KEYS = [b"user%d" % number for number in range(500)]


def test_an_empty_partition_has_a_digest_of_zeros() -> None:
    cells = Cells()
    assert cells.digest(0) == bytes(16)
    assert cells.count(0) == 0
    assert cells.filled() == []


def test_two_nodes_that_learned_the_same_in_another_order_have_equal_digests() -> None:
    one, other = Cells(), Cells()
    rng = random.Random(1)
    for cells in (one, other):
        for key in rng.sample(KEYS, len(KEYS)):
            if cells is one:
                cells.note("toy", key, b"something else before")
            cells.note("toy", key, b"content of " + key)
    assert one.filled() == other.filled() == sorted({partition_of(key) for key in KEYS})
    assert all(one.digest(partition) == other.digest(partition) for partition in range(4096))


def test_a_digest_tells_content_key_and_kind_apart() -> None:
    digests = set()
    for kind, key, trace in (("toy", b"a", b"x"), ("toy", b"a", b"y"), ("tin", b"a", b"x"), ("toy", b"b", b"x")):
        cells = Cells()
        cells.note(kind, key, trace)
        digests.add(cells.digest(partition_of(key)))
    assert len(digests) == 4


def test_what_is_gone_leaves_nothing_behind() -> None:
    cells = Cells()
    partition = partition_of(b"a")
    cells.note("toy", b"a", b"")
    cells.note("toy", b"a", b"x")
    cells.note("tin", b"a", b"x")
    assert cells.count(partition) == 2
    assert sorted((kind, key) for kind, key, _ in cells.prints(partition)) == [("tin", b"a"), ("toy", b"a")]
    cells.note("toy", b"a", b"")
    cells.note("tin", b"a", b"")
    assert (cells.count(partition), cells.digest(partition), cells.filled()) == (0, bytes(16), [])


def test_the_print_of_a_record_is_found_by_its_key_as_long_as_it_is_there() -> None:
    cells = Cells()
    assert cells.find("registration", b"bob") == 0
    cells.note("registration", b"bob", b"content")
    assert cells.find("registration", b"bob") == make_print("registration", b"bob", b"content")
    assert cells.find("registration", b"alice") == cells.find("user", b"bob") == 0
    cells.note("registration", b"bob", b"")
    assert cells.find("registration", b"bob") == 0
