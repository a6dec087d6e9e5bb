"""The store: merged writes, a wheel that a refresh does not touch, counts, limits, and what is not yet written.

The kind here is a toy: a record is b"VALUE@DUE", the greater value wins, and it lapses into b"dead@DUE+100".
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from farm.overlay.ids import key_hash, partition_of
from farm.overlay.store import KEY_BYTES, NEVER, Full, Row, Store


class Became(NamedTuple):
    record: bytes | None
    due_at: float
    live: int = 0
    tombstones: int = 0
    conflict: bool = False


class Toy:
    name = "toy"
    record_bytes = 20
    everywhere = False
    since = 1

    def __init__(self) -> None:
        self.swept: list[tuple[bytes, float]] = []

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Became:
        if held is None:
            return Became(delta, _due(delta), 1)
        if held >= delta:
            return Became(held, _due(held), conflict=held != delta)
        return Became(delta, _due(delta))

    def sweep(self, held: bytes, now: float) -> Became:
        self.swept.append((held, now))
        if _due(held) > now:
            return Became(held, _due(held))
        if held.startswith(b"dead"):
            return Became(None, NEVER, 0, -1)
        dead = b"dead@%d" % (_due(held) + 100)
        return Became(dead, _due(dead), -1, 1)

    def shift(self, record: bytes, seconds: float, now: float = NEVER) -> bytes:
        return record

    def version(self, record: bytes) -> bytes:
        return record.ljust(16)

    def trace(self, record: bytes, at: float = -NEVER) -> bytes:
        return b"" if record.startswith(b"dead") and _due(record) <= at else record.partition(b"@")[0]

    def newest(self, record: bytes) -> int:
        return 0


def _due(record: bytes) -> float:
    return float(record.partition(b"@")[2])


def make_store(**limits: int) -> tuple[Store, Toy]:
    toy = Toy()
    return Store([toy], slot_seconds=5.0, **limits), toy


def counts(store: Store) -> tuple[int, int, int]:
    shelf = store.shelves["toy"]
    return (len(shelf.records), shelf.live, shelf.tombstones)


def test_records_of_equal_content_have_equal_marks_whether_or_not_cells_are_kept() -> None:
    store, _ = make_store()
    other, _ = make_store()
    other.track()
    here, there = store.put("toy", b"k", b"a@60", 0.0), other.put("toy", b"k", b"a@70", 0.0)
    assert isinstance(here, bytes)
    assert isinstance(there, bytes)
    mark = store.mark("toy", b"k", here)
    assert len(mark) == 16
    assert other.mark("toy", b"k", there) == mark
    assert other.mark("toy", b"k", here) == mark, "also of what is not held"
    assert store.mark("toy", b"k", b"b@60") != mark
    assert store.mark("toy", b"l", here) != mark


def test_a_write_answers_the_merged_record() -> None:
    store, _ = make_store()
    assert store.get("toy", b"k") is None
    assert store.put("toy", b"k", b"b@60", 0.0) == b"b@60"
    assert store.put("toy", b"k", b"a@90", 0.0) == b"b@60"
    assert store.get("toy", b"k") == b"b@60"
    assert store.shelves["toy"].conflicts == 1
    assert len(store) == 1


def test_nothing_is_swept_before_it_is_due() -> None:
    store, toy = make_store()
    store.put("toy", b"k", b"a@60", 0.0)
    assert store.sweep(59.9) == 0
    assert store.sweep(64.9) == 0  # the slot of 60 to 65 is over at 65
    assert toy.swept == []


def test_what_lapses_becomes_a_tombstone_and_then_nothing() -> None:
    store, _ = make_store()
    store.put("toy", b"k", b"a@60", 0.0)
    assert counts(store) == (1, 1, 0)
    assert store.sweep(65.0) == 1
    assert counts(store) == (1, 0, 1)
    assert store.get("toy", b"k") == b"dead@160"
    assert store.sweep(164.0) == 0
    assert store.sweep(165.0) == 1
    assert counts(store) == (0, 0, 0)
    assert store.unwritten == 0


def test_a_refresh_leaves_the_wheel_alone_and_the_backup_does_not_expire_it() -> None:
    store, toy = make_store()
    for refresh in range(1, 50):
        store.put("toy", b"k", b"%02d@%d" % (refresh, refresh * 10 + 60), refresh * 10.0)
    assert store.sweep(75.0) == 1
    assert toy.swept == [(b"49@550", 75.0)]
    assert counts(store) == (1, 1, 0)
    assert store.sweep(554.0) == 0
    assert store.sweep(555.0) == 1
    assert counts(store) == (1, 0, 1)


def test_a_shorter_lifetime_is_swept_at_its_own_time() -> None:
    store, toy = make_store()
    store.put("toy", b"k", b"a@3600", 0.0)
    store.put("toy", b"k", b"b@60", 0.0)
    assert store.sweep(65.0) == 1
    assert counts(store) == (1, 0, 1)
    assert store.sweep(3700.0) == 1  # as a tombstone; its old place in the slot of 3600 counts for nothing
    assert len(toy.swept) == 2
    assert counts(store) == (0, 0, 0)


def test_a_long_backlog_is_swept_in_portions() -> None:
    store, _ = make_store()
    for number in range(10):
        store.put("toy", b"%d" % number, b"a@60", 0.0)
    assert [store.sweep(100.0, 4) for _ in range(4)] == [4, 4, 2, 0]
    assert counts(store) == (10, 0, 10)


def test_a_full_store_refuses_new_keys_and_takes_updates() -> None:
    store, _ = make_store(most_records=1)
    store.put("toy", b"k", b"a@60", 0.0)
    assert store.put("toy", b"l", b"a@60", 0.0) == Full("records")
    assert store.put("toy", b"k", b"b@60", 0.0) == b"b@60"
    assert counts(store) == (1, 1, 0)


def test_a_key_that_replicas_would_not_take_from_each_other_is_not_taken_at_all() -> None:
    store, _ = make_store()
    assert store.put("toy", b"k" * (KEY_BYTES + 1), b"a@60", 0.0) == Full("record")
    assert store.put("toy", b"k" * KEY_BYTES, b"a@60", 0.0) == b"a@60"
    assert len(store) == 1


def test_a_record_that_would_be_too_large_stays_as_it_was() -> None:
    store, _ = make_store()
    store.put("toy", b"k", b"a@60", 0.0)
    store.take_unwritten(10)
    assert store.put("toy", b"k", b"z" * 30 + b"@90", 0.0) == Full("record")
    assert store.get("toy", b"k") == b"a@60"
    assert store.unwritten == 0


def test_what_changed_is_given_to_the_journal_once_as_it_is_then() -> None:
    store, _ = make_store()
    store.put("toy", b"k", b"a@60", 0.0)
    store.put("toy", b"k", b"b@60", 0.0)
    assert store.take_unwritten(10) == [Row("toy", b"k", b"b@60")]
    assert store.take_unwritten(10) == []
    store.put("toy", b"k", b"a@60", 0.0)  # changes nothing
    assert store.unwritten == 0


def test_what_could_not_be_written_is_taken_back_unless_it_is_gone() -> None:
    store, _ = make_store()
    store.put("toy", b"k", b"a@60", 0.0)
    store.take_unwritten(10)
    store.mark_unwritten("toy", [b"k", b"gone"])
    assert store.unwritten == 1
    assert store.take_unwritten(10) == [Row("toy", b"k", b"a@60")]


def test_a_portion_for_the_journal_is_bounded() -> None:
    store, _ = make_store()
    for number in range(5):
        store.put("toy", b"%d" % number, b"a@60", 0.0)
    assert [len(store.take_unwritten(2)) for _ in range(4)] == [2, 2, 1, 0]


def test_what_comes_from_the_journal_is_not_written_to_it_again() -> None:
    store, _ = make_store()
    assert store.load(Row("toy", b"k", b"a@60"), 0.0)
    assert store.unwritten == 0
    assert counts(store) == (1, 1, 0)
    assert not store.load(Row("unknown", b"k", b"a@60"), 0.0)
    assert store.keys("toy") == [b"k"]


def test_a_tombstone_made_by_a_sweep_is_written() -> None:
    store, _ = make_store()
    store.load(Row("toy", b"k", b"a@60"), 0.0)
    store.sweep(65.0)
    assert store.take_unwritten(10) == [Row("toy", b"k", b"dead@160")]


def test_a_journal_that_is_a_table_is_told_what_was_dropped() -> None:
    store, _ = make_store()
    store.tell_dropped()
    store.put("toy", b"k", b"a@60", 0.0)
    store.put("toy", b"l", b"a@9000", 0.0)
    store.take_unwritten(10)
    store.sweep(65.0)
    store.sweep(165.0)
    assert store.take_unwritten(10) == [Row("toy", b"k", b"")]
    assert store.unwritten == 0


# By partition


class Everywhere(Toy):
    name = "everywhere"
    everywhere = True


PARTITION = partition_of(b"k")
SAME = [key for number in range(50_000) if partition_of(key := b"%d" % number) == PARTITION][:6]


def make_tracked() -> tuple[Store, Toy]:
    store, toy = make_store()
    store.track()
    return store, toy


def test_a_lone_node_keeps_no_cells() -> None:
    store, _ = make_store()
    store.put("toy", b"k", b"a@60", 0.0)
    assert store.cells is None
    with pytest.raises(RuntimeError):
        store.digest(PARTITION)


def test_cells_know_what_was_there_before_and_what_came_changed_and_went() -> None:
    store, _ = make_store()
    store.put("toy", b"k", b"a@60", 0.0)
    store.track()
    store.track()  # twice is once
    assert (store.count(PARTITION), store.filled()) == (1, [PARTITION])
    first = store.digest(PARTITION)
    store.put("toy", b"k", b"b@60", 0.0)
    assert store.digest(PARTITION) != first
    store.sweep(65.0)
    assert store.count(PARTITION) == 1  # a tombstone
    store.sweep(200.0)
    assert (store.count(PARTITION), store.digest(PARTITION), store.filled()) == (0, bytes(16), [])


def test_what_comes_from_the_journal_is_in_the_cells_and_times_do_not_count() -> None:
    one, other = make_tracked()[0], make_tracked()[0]
    one.load(Row("toy", b"k", b"a@60"), 0.0)
    other.put("toy", b"k", b"a@90", 0.0)
    assert one.digest(PARTITION) == other.digest(PARTITION)
    assert one.partition_keys(PARTITION) == [("toy", b"k")]


def test_what_every_node_holds_belongs_to_no_partition() -> None:
    store = Store([Everywhere()])
    store.track()
    store.put("everywhere", b"k", b"a@60", 0.0)
    assert store.filled() == []


def test_keys_are_listed_by_their_hashes_and_found_by_them() -> None:
    store, _ = make_tracked()
    for key in SAME:
        store.put("toy", key, b"a@600", 0.0)
    hashes = sorted(key_hash("toy", key) for key in SAME)
    listed = store.key_list(PARTITION, b"", 4, 0.0)
    assert [hashed for hashed, _ in listed] == hashes[:4]
    assert [hashed for hashed, _ in store.key_list(PARTITION, hashes[3], 4, 0.0)] == hashes[4:]
    assert store.hashes(PARTITION, b"") == hashes
    assert store.hashes(PARTITION, hashes[4]) == hashes[5:]
    assert store.find(PARTITION, key_hash("toy", SAME[0])) == Row("toy", SAME[0], b"a@600")
    assert store.find(PARTITION, b"nobody") is None
    store.put("toy", SAME[0], b"b@600", 0.0)
    assert dict(store.key_list(PARTITION, b"", 9, 0.0)) != dict(listed)
    assert store.find(PARTITION, key_hash("toy", SAME[0])) == Row("toy", SAME[0], b"b@600")


def test_what_ends_within_20_seconds_is_not_listed() -> None:
    store, _ = make_tracked()
    store.put("toy", b"k", b"dead@100", 0.0)
    assert len(store.key_list(PARTITION, b"", 9, 79.9)) == 1
    assert store.key_list(PARTITION, b"", 9, 80.0) == []
    assert store.hashes(PARTITION, b"") == [key_hash("toy", b"k")]  # it is there all the same


def test_a_partition_that_others_hold_is_dropped_and_the_journal_told() -> None:
    store, _ = make_tracked()
    for key in (*SAME, b"other"):
        store.put("toy", key, b"a@60", 0.0)
    store.take_unwritten(100)
    assert store.drop(PARTITION, 0.0) == 6
    assert counts(store) == (1, 1, 0)
    assert store.digest(PARTITION) == bytes(16)
    rows = store.take_unwritten(100)
    assert sorted(rows, key=lambda row: row.key) == [Row("toy", key, b"") for key in sorted(SAME)]
    store.take_back(rows)  # they could not be written
    assert store.unwritten == 6
    store.put("toy", SAME[0], b"b@60", 0.0)  # it comes back
    assert Row("toy", SAME[0], b"b@60") in store.take_unwritten(100)
    assert store.sweep(65.0) == 2


def test_of_what_could_not_be_written_only_what_is_there_or_was_dropped_is_written_again() -> None:
    store, _ = make_store()
    store.put("toy", b"k", b"a@60", 0.0)
    store.take_unwritten(10)
    store.take_back([Row("toy", b"k", b"old"), Row("toy", b"swept", b"old"), Row("toy", b"dropped", b"")])
    assert sorted(row.key for row in store.take_unwritten(10)) == [b"dropped", b"k"]
