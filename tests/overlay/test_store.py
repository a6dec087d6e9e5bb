"""The store: merged writes, a wheel that a refresh does not touch, counts, limits, and what is not yet written.

The kind here is a toy: a record is b"VALUE@DUE", the greater value wins, and it lapses into b"dead@DUE+100".
"""

from __future__ import annotations

from typing import NamedTuple

from farm.overlay.store import NEVER, Full, Row, Store


class Became(NamedTuple):
    record: bytes | None
    due_at: float
    live: int = 0
    tombstones: int = 0
    conflict: bool = False


class Toy:
    name = "toy"
    record_bytes = 20

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

    def shift(self, record: bytes, seconds: float) -> bytes:
        return record

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
