"""The scribe: when the journal is written, what happens when it cannot be, and what a start makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from farm.overlay.clock import HybridClock
from farm.overlay.journal import Batch, Journal, JournalError
from farm.overlay.scribe import FileBook, Restored, Scribe, restore
from farm.overlay.store import NEVER, Row, Store


class Became(NamedTuple):
    record: bytes | None
    due_at: float = NEVER
    live: int = 0
    tombstones: int = 0
    conflict: bool = False


class Timed:
    """Records are a decimal number, the monotonic second at which they lapse."""

    name = "timed"
    record_bytes = 100_000
    everywhere = False
    since = 1

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Became:
        return Became(delta)

    def sweep(self, held: bytes, now: float) -> Became:
        return Became(held)

    def shift(self, record: bytes, seconds: float, now: float = NEVER) -> bytes:
        return b"%g" % (float(record) + seconds)

    def version(self, record: bytes) -> bytes:
        return record.rjust(16)

    def trace(self, record: bytes, at: float = -NEVER) -> bytes:
        return record

    def newest(self, record: bytes) -> int:
        return 77


class Threads:
    """Keeps the work until the test has it done, as a busy pool does."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Callable[[BaseException | None], None]]] = []

    def __call__(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        self.waiting.append((work, done))

    def run(self) -> None:
        while self.waiting:
            work, done = self.waiting.pop(0)
            try:
                work()
            except JournalError as error:
                done(error)
            else:
                done(None)


class Log:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def journal_failed(self, error: JournalError, unwritten: int) -> None:
        self.heard.append(f"failed {error.reason} {unwritten}")

    def journal_recovered(self, unwritten: int) -> None:
        self.heard.append(f"recovered {unwritten}")

    def journal_renewed(self) -> None:
        self.heard.append("renewed")


class Desk:
    """A store, its journal and its scribe."""

    def __init__(self, path: Path, **limits: float) -> None:
        self.store = Store([Timed()])
        self.journal = Journal(str(path))
        self.journal.open()
        self.threads = Threads()
        self.log = Log()
        self.scribe = Scribe(self.store, FileBook(self.journal, self.threads), self.log, **limits)  # type: ignore[arg-type]

    def put(self, *names: str, value: bytes = b"60") -> None:
        for name in names:
            self.store.put("timed", name.encode(), value, 0.0)

    def tick(self, now: float = 0.0) -> None:
        self.scribe.receive_tick(now, 1000.0 + now)
        self.threads.run()


def finish(scribe: Scribe) -> int:
    """Write the last; what could not be written."""
    left: list[int] = []
    scribe.finish(0.0, 0.0, left.append)
    (unwritten,) = left
    return unwritten


def read(path: Path) -> dict[bytes, bytes]:
    journal = Journal(str(path))
    journal.open()
    found = {kept.row.key: kept.row.record for kept in journal.replay()}
    journal.close()
    return found


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j")
    desk.scribe.receive_tick(0.0, 0.0)
    assert desk.threads.waiting == []


def test_changes_are_written_at_the_next_tick(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j")
    desk.put("a", "b")
    assert desk.scribe.unwritten == 2
    desk.tick()
    assert desk.scribe.unwritten == 0
    desk.journal.close()
    assert read(tmp_path / "j") == {b"a": b"60", b"b": b"60"}


def test_one_batch_is_under_way_at_a_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j")
    desk.put("a")
    desk.scribe.receive_tick(0.0, 0.0)
    desk.put("b")
    desk.scribe.receive_tick(0.5, 0.5)
    assert len(desk.threads.waiting) == 1
    assert desk.scribe.busy
    desk.threads.run()
    assert not desk.scribe.busy
    desk.tick(1.0)
    desk.journal.close()
    assert set(read(tmp_path / "j")) == {b"a", b"b"}


def test_a_full_disk_is_reported_and_all_that_changed_meanwhile_is_written_when_it_has_room(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j", retry_seconds=2.0)
    desk.journal.close()
    desk.journal.most_pages = 3
    desk.put("a", value=b"1" * 20_000)
    desk.tick(0.0)
    assert desk.log.heard == ["failed full 1"]
    assert desk.scribe.error is not None
    desk.put("b", "c")
    desk.tick(1.0)
    assert desk.log.heard == ["failed full 1"]  # not tried again before its time
    desk.tick(2.0)
    assert desk.log.heard == ["failed full 1", "failed full 3"]
    desk.journal.most_pages = 0
    desk.tick(4.0)
    assert desk.log.heard[2:] == ["recovered 0"]
    assert desk.scribe.error is None
    desk.journal.close()
    assert set(read(tmp_path / "j")) == {b"a", b"b", b"c"}


def test_a_deleted_journal_is_written_anew_with_everything(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j")
    desk.put("a")
    desk.tick()
    (tmp_path / "j").unlink()
    desk.put("b")
    desk.tick()
    assert desk.log.heard == ["renewed"]
    desk.tick()
    desk.journal.close()
    assert set(read(tmp_path / "j")) == {b"a", b"b"}


def test_a_log_grown_to_several_times_the_store_is_written_once_more_in_portions(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j", batch_records=300, rewrite_factor=4.0, rewrite_floor=0)
    names = [str(number) for number in range(700)]
    for turn in range(5):
        desk.put(*names, value=b"%d" % turn)
        for _ in range(3):
            desk.tick(float(turn))
    grown = desk.journal.count()
    desk.put("new")
    for _ in range(5):
        desk.tick(9.0)
    assert desk.journal.count() < grown / 3
    assert desk.scribe.unwritten == 0
    desk.journal.close()
    assert read(tmp_path / "j") == {name.encode(): b"4" for name in names} | {b"new": b"60"}


def test_the_last_batch_is_written_before_the_process_stops(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j", batch_records=2)
    desk.put("a", "b", "c")
    assert finish(desk.scribe) == 0
    desk.journal.close()
    assert set(read(tmp_path / "j")) == {b"a", b"b", b"c"}


def test_what_the_last_batch_could_not_save_is_said(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j")
    desk.journal.close()
    desk.journal.most_pages = 3
    desk.put("a", value=b"1" * 20_000)
    assert finish(desk.scribe) == 1
    assert desk.log.heard == ["failed full 1"]


def test_a_node_whose_journal_could_not_be_opened_begins_it_as_soon_as_it_can(tmp_path: Path) -> None:
    place = tmp_path / "later"
    store = Store([Timed()])
    journal = Journal(str(place / "j"))
    threads, log = Threads(), Log()
    scribe = Scribe(store, FileBook(journal, threads), log)
    store.put("timed", b"a", b"60", 0.0)
    scribe.receive_tick(0.0, 0.0)
    threads.run()
    assert log.heard == ["failed unreachable 1"]
    place.mkdir()
    scribe.receive_tick(5.0, 5.0)
    threads.run()
    assert log.heard[1:] == ["recovered 0"]
    journal.close()
    assert read(place / "j") == {b"a": b"60"}


def test_the_lag_is_the_age_of_what_would_be_lost(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "j")
    desk.tick(10.0)
    assert desk.scribe.lag(12.0) == 0.0
    desk.put("a")
    assert desk.scribe.lag(12.0) == 2.0
    desk.scribe.receive_tick(12.0, 12.0)
    assert desk.scribe.lag(12.5) == 2.5  # the disk has not answered
    desk.threads.run()
    assert desk.scribe.lag(12.5) == 0.0
    desk.put("b")
    assert desk.scribe.lag(13.0) == 1.0
    assert desk.scribe.written == 1


# The start


def make_journal(path: Path, *batches: Batch) -> Journal:
    journal = Journal(str(path))
    journal.open()
    for batch in batches:
        journal.write(batch)
    return journal


def test_lifetimes_go_on_from_where_they_were(tmp_path: Path) -> None:
    """Written at 500 on a clock that is gone, lapsing at 800; 100 s later by the wall we start, our clock at 20."""
    journal = make_journal(tmp_path / "j", Batch([Row("timed", b"a", b"800")], 500.0, 10_000.0))
    store, clock = Store([Timed()]), HybridClock()
    assert restore(journal.replay(), store, clock, 20.0, 10_100.0) == Restored(1, 0)
    assert store.get("timed", b"a") == b"220"  # 200 s are left
    assert store.unwritten == 0
    assert clock.last == 77
    journal.close()


def test_a_wall_clock_that_was_set_back_kills_nothing(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "j", Batch([Row("timed", b"a", b"800")], 500.0, 10_000.0))
    store = Store([Timed()])
    restore(journal.replay(), store, HybridClock(), 20.0, 9_000.0)
    assert store.get("timed", b"a") == b"320"
    journal.close()


def test_records_of_a_kind_that_is_not_ours_are_counted_and_left(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "j", Batch([Row("other", b"a", b"1")], 1.0, 1.0))
    assert restore(journal.replay(), Store([Timed()]), HybridClock(), 1.0, 1.0) == Restored(0, 1)
    journal.close()


def test_a_record_that_cannot_be_read_does_not_stop_the_start(tmp_path: Path) -> None:
    rows = [Row("timed", b"a", b"800"), Row("timed", b"b", b"what is this"), Row("timed", b"c", b"900")]
    journal = make_journal(tmp_path / "j", Batch(rows, 1.0, 1.0))
    store = Store([Timed()])
    assert restore(journal.replay(), store, HybridClock(), 1.0, 1.0) == Restored(2, 0, 1)
    assert store.keys("timed") == [b"c", b"a"]
    journal.close()


def test_what_was_dropped_because_others_hold_it_does_not_come_back(tmp_path: Path) -> None:
    journal = make_journal(
        tmp_path / "j",
        Batch([Row("timed", b"a", b"800"), Row("timed", b"b", b"800")], 1.0, 1.0),
        Batch([Row("timed", b"a", b"")], 2.0, 2.0),
    )
    store = Store([Timed()])
    assert restore(journal.replay(), store, HybridClock(), 2.0, 2.0) == Restored(1, 0)
    assert store.keys("timed") == [b"b"]
    journal.close()
