"""The node's records: restored at start, written as they change, swept as they lapse, and never in a call's way."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from farm.config import Config, ConfigError
from farm.metrics import Metrics
from farm.overlay.journal import Journal, JournalError
from farm.records import JOURNAL_NAME, Records
from farm.registrar.location import Location
from farm.registrar.record import Contact, Entry, Record, Register
from farm.security.users import UserError, Users
from tests.support.counts import read
from tests.support.fake_redis import FakeRedis
from tests.support.farms import Faults, make_config, run
from tests.support.heap_clock import HeapClock

AOR = "sip:alice@example.com"
WALL = 1_800_000_000.0


class HeldPool:
    """A thread pool that works when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.held = False

    def callInThreadWithCallback(
        self, tell: Callable[[bool, Any], None], work: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Called by Twisted."""

        def go() -> None:
            try:
                result = work(*args, **kwargs)
            except Exception:
                tell(False, Failure())
            else:
                tell(True, result)

        if self.held:
            self.waiting.append(go)
        else:
            go()

    def release(self) -> None:
        """Do what was held."""
        self.held = False
        waiting, self.waiting = self.waiting, []
        for go in waiting:
            go()


class Machine(HeapClock):
    """A reactor with that pool."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = HeldPool()

    def getThreadPool(self) -> HeldPool:
        """Called by Twisted."""
        return self.pool

    def callFromThread(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Called by Twisted."""
        self.callLater(0, action, *args, **kwargs)


class Shelf:
    """Records on a machine, with those who use them."""

    def __init__(self, directory: Path, machine: Machine | None = None, **store: Any) -> None:
        self.machine = machine or Machine()
        self.config: Config = make_config("n1", "192.0.2.1", directory, store={"backend": "sqlite", **store})
        self.directory = Path(self.config.node.state_dir)
        self.directory.mkdir(exist_ok=True, parents=True)
        self.metrics = Metrics()
        self.stopped = False
        clock = self.machine.seconds
        self.records = Records(self.config, self.machine, clock, self.wall, self.metrics)
        self.location = Location(self.records.local, self.records.registrations, self.records.stamps, self.wall)
        stamps = self.records.stamps
        self.users = Users(self.records.local, lambda: (stamps.tick(self.wall()), stamps.node), ("example.com",))

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.directory / JOURNAL_NAME

    def wall(self) -> float:
        """Seconds since 1970."""
        return WALL + self.machine.seconds()

    def add_user(self, name: str) -> None:
        """A record that stays."""
        run(self.users.add(name, name, self.machine.seconds()))

    def names(self) -> list[str]:
        """The users that are known."""
        return [entry.aor for entry in run(self.users.entries(self.machine.seconds()))]

    def stop(self) -> bool:
        """Stop; answers whether it ended without waiting."""
        self.stopped = False
        self.records.stop().addCallback(lambda _: setattr(self, "stopped", True))
        return self.stopped

    def die(self) -> None:
        """The process ends without a word; the kernel closes its files."""
        assert self.records._journal is not None
        self.records._journal.close()


@pytest.fixture(autouse=True)
def faults() -> Any:
    """What is logged with a trace."""
    seen = Faults()
    globalLogPublisher.addObserver(seen)
    yield seen
    globalLogPublisher.removeObserver(seen)


def test_what_changed_is_written_within_the_flush_interval_and_read_at_the_next_start(tmp_path: Path) -> None:
    first = Shelf(tmp_path, flush_seconds=0.5)
    first.records.start()
    first.add_user("alice")
    assert first.records.store.unwritten == 1
    first.machine.advance(0.5)
    assert first.records.store.unwritten == 0
    assert read(first.metrics.journal_flush.child()) == 1
    first.die()
    second = Shelf(tmp_path)
    second.records.start()
    assert second.names() == [AOR]
    assert second.stop()


def test_what_is_stamped_after_a_restart_wins_over_what_was_stamped_before(tmp_path: Path) -> None:
    """A wall clock that was set back must not let old passwords win."""
    first = Shelf(tmp_path)
    first.machine.advance(10_000)
    first.records.start()
    first.add_user("alice")
    first.stop()
    second = Shelf(tmp_path)
    second.records.start()
    assert second.wall() < first.wall()
    run(second.users.remove("alice", 0.0))
    assert second.names() == []


def test_stopping_writes_what_is_left(tmp_path: Path) -> None:
    first = Shelf(tmp_path, flush_seconds=60)
    first.records.start()
    first.add_user("alice")
    assert first.stop()
    assert first.machine.getDelayedCalls() == []
    second = Shelf(tmp_path)
    second.records.start()
    assert second.names() == [AOR]


def test_stopping_waits_for_the_batch_under_way_and_writes_the_rest_after_it(tmp_path: Path) -> None:
    first = Shelf(tmp_path)
    first.records.start()
    first.machine.pool.held = True
    first.add_user("alice")
    first.machine.advance(0.5)
    first.add_user("bob")
    assert not first.stop()
    first.machine.pool.release()
    first.machine.advance(0)
    assert first.stopped
    second = Shelf(tmp_path)
    second.records.start()
    assert second.names() == [AOR, "sip:bob@example.com"]


def test_stopping_twice_or_before_the_start_is_no_harm(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert shelf.stop()
    shelf.records.start()
    assert shelf.stop()
    assert shelf.stop()


def test_the_memory_backend_writes_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, backend="memory")
    shelf.records.start()
    shelf.add_user("alice")
    shelf.machine.advance(10)
    assert shelf.stop()
    assert list(shelf.directory.iterdir()) == []
    assert read(shelf.metrics.journal_lag.child()) == 0


def test_the_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds what is as good as passwords."""
    shelf = Shelf(tmp_path)
    before = os.umask(0)
    try:
        shelf.records.start()
        shelf.add_user("alice")
        shelf.machine.advance(1)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shelf.directory.iterdir()}
    assert modes[JOURNAL_NAME] == 0o600
    assert set(modes.values()) == {0o600}


def test_a_corrupt_journal_is_moved_aside_and_counted_and_the_node_starts(tmp_path: Path) -> None:
    first = Shelf(tmp_path)
    first.journal.write_bytes(b"this is no database" * 1000)
    first.records.start()
    assert first.records.problem == ""
    assert read(first.metrics.journal_errors.child("open")) == 1
    assert [path.name for path in first.directory.glob("*corrupt*")] == [f"{JOURNAL_NAME}.corrupt-1"]
    first.add_user("alice")
    first.stop()
    second = Shelf(tmp_path)
    second.records.start()
    assert second.names() == [AOR]


def test_a_journal_that_cannot_be_opened_is_reported_and_tried_again_until_it_can(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.journal.mkdir()
    shelf.records.start()
    assert "the journal cannot be opened" in shelf.records.problem
    assert read(shelf.metrics.journal_errors.child("open")) == 1
    shelf.add_user("alice")
    shelf.machine.advance(4)
    assert read(shelf.metrics.journal_errors.child("open")) == 1
    assert read(shelf.metrics.journal_lag.child()) >= 3
    shelf.machine.advance(7)
    assert read(shelf.metrics.journal_errors.child("open")) == 3
    shelf.journal.rmdir()
    shelf.machine.advance(6)
    assert shelf.records.problem == ""
    assert shelf.records.store.unwritten == 0
    shelf.die()
    again = Shelf(tmp_path)
    again.records.start()
    assert again.names() == [AOR]


def test_a_journal_of_another_process_is_left_alone_and_the_node_does_not_start(tmp_path: Path) -> None:
    first, second = Shelf(tmp_path), Shelf(tmp_path)
    first.records.start()
    first.add_user("alice")
    first.machine.advance(1)
    with pytest.raises(ConfigError, match=r"^node\.state_dir: .*/journal\.sqlite: database is locked$"):
        second.records.start()
    assert second.machine.getDelayedCalls() == []
    first.stop()
    second.records.start()
    assert second.names() == [AOR]


def test_a_journal_of_a_later_version_is_not_written_and_the_node_does_not_start(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with sqlite3.connect(shelf.journal) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(ConfigError, match=r"^node\.state_dir: .*/journal\.sqlite was written by a later version"):
        shelf.records.start()
    database = sqlite3.connect(shelf.journal)
    assert database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    assert database.execute("PRAGMA user_version").fetchone() == (99,)
    database.close()


def test_what_was_changed_before_the_journal_could_be_opened_is_merged_with_what_it_holds(tmp_path: Path) -> None:
    first = Shelf(tmp_path)
    first.records.start()
    first.add_user("alice")
    first.stop()
    aside = first.journal.rename(first.directory / "aside")
    second = Shelf(tmp_path)
    second.journal.mkdir()
    second.records.start()
    second.add_user("bob")
    second.journal.rmdir()
    aside.rename(second.journal)
    second.machine.advance(6)
    assert second.names() == [AOR, "sip:bob@example.com"]


def fill(shelf: Shelf) -> None:
    """The journal's file cannot grow any more."""
    journal = shelf.records._journal
    assert journal is not None
    assert journal._database is not None
    (journal.most_pages,) = journal._database.execute("PRAGMA page_count").fetchone()
    journal.close()


def test_a_node_that_is_never_without_changes_lags_no_longer_than_a_batch_takes(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, flush_seconds=0.5)
    shelf.records.start()
    for number in range(600):  # one in each tenth of a second, so that every tick finds some
        shelf.add_user(f"user{number}")
        shelf.machine.advance(0.1)
        assert read(shelf.metrics.journal_lag.child()) <= 0.61


def test_a_full_disk_is_told_once_counted_each_time_and_mended_by_itself(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.records.start()
    shelf.machine.advance(1)
    fill(shelf)
    for number in range(100):
        shelf.add_user(f"user{number}")
    shelf.machine.advance(0.5)
    assert "full" in shelf.records.problem
    assert read(shelf.metrics.journal_errors.child("write")) == 1
    shelf.machine.advance(4)
    assert read(shelf.metrics.journal_errors.child("write")) == 3
    assert read(shelf.metrics.journal_pending.child()) == 100
    assert read(shelf.metrics.journal_lag.child()) == pytest.approx(4.5, abs=0.51)
    journal = shelf.records._journal
    assert journal is not None
    journal.most_pages = 0
    journal.close()
    shelf.machine.advance(3)
    assert shelf.records.problem == ""
    assert shelf.records.store.unwritten == 0
    shelf.die()
    again = Shelf(tmp_path)
    again.records.start()
    assert len(again.names()) == 100


def test_a_disk_that_is_full_to_the_end_does_not_hold_the_stop(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.records.start()
    shelf.machine.advance(1)
    fill(shelf)
    for number in range(100):
        shelf.add_user(f"user{number}")
    assert shelf.stop()


def test_a_journal_that_vanished_is_written_anew_whole(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.records.start()
    shelf.add_user("alice")
    shelf.machine.advance(1)
    for path in shelf.directory.iterdir():
        path.unlink()
    shelf.add_user("bob")
    shelf.machine.advance(3)
    assert read(shelf.metrics.journal_errors.child("read")) == 1
    shelf.die()
    again = Shelf(tmp_path)
    again.records.start()
    assert again.names() == [AOR, "sip:bob@example.com"]


def test_the_gauges_follow_the_records(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.records.start()
    for name in ("alice", "bob"):
        shelf.add_user(name)
    metrics = shelf.metrics
    assert read(metrics.records.child("credential", "owner")) == 2
    assert read(metrics.journal_pending.child()) == 2
    run(shelf.users.remove("bob", 0.0))
    assert read(metrics.tombstones.child()) == 1
    assert read(metrics.records.child("credential", "owner")) == 2
    assert read(metrics.registrations.child()) == 0


def test_an_upkeep_that_fails_is_counted_and_goes_on(tmp_path: Path, faults: Faults, monkeypatch: Any) -> None:
    shelf = Shelf(tmp_path)
    shelf.records.start()

    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    assert shelf.records._scribe is not None
    monkeypatch.setattr(shelf.records._scribe, "receive_tick", fail)
    shelf.machine.advance(1.1)
    assert read(shelf.metrics.unexpected_errors.child("journal")) == 2
    assert len(faults.texts) == 2
    monkeypatch.undo()
    shelf.add_user("alice")
    shelf.machine.advance(1)
    assert shelf.records.store.unwritten == 0


def test_users_are_changed_while_the_node_does_not_run(tmp_path: Path) -> None:
    first = Shelf(tmp_path)
    first.records.open_now()
    first.add_user("alice")
    assert first.records.close_now() == 0
    second = Shelf(tmp_path)
    second.records.start()
    assert second.names() == [AOR]


def test_the_journal_of_an_open_store_is_closed_for_others_to_read(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.records.start()
    shelf.add_user("alice")
    shelf.stop()
    journal = Journal(str(shelf.journal))
    journal.open()
    assert [kept.row.kind for kept in journal.replay()] == ["credential"]
    journal.close()


# Redis


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, FakeRedis]:
    """A machine and the Redis that its nodes reach."""
    machine = Machine()
    redis = FakeRedis(machine)
    monkeypatch.setattr("farm.records.make_dial", lambda reactor, timeout: lambda host, port: redis.dial())
    return machine, redis


Site = tuple[Machine, FakeRedis]


def in_redis(directory: Path, site: Site, **store: Any) -> Shelf:
    """A node that keeps its records in Redis; one in the same directory is the same one, started again."""
    return Shelf(directory, site[0], backend="redis", **store)


def test_records_in_redis_are_read_before_the_node_is_ready_and_written_within_the_flush_interval(
    tmp_path: Path, site: Site
) -> None:
    first = in_redis(tmp_path, site)
    assert not first.records.restoring
    first.records.start()
    assert not first.records.restoring
    first.add_user("alice")
    assert read(first.metrics.journal_pending.child()) == 1
    first.machine.advance(0.5)
    assert read(first.metrics.journal_pending.child()) == 0
    assert read(first.metrics.journal_flush.child()) == 1
    assert list(first.directory.iterdir()) == [first.directory / "redis-owner"]
    second = in_redis(tmp_path, site)
    second.records.start()
    assert second.names() == [AOR]
    assert second.stop()
    assert b"sipfarm:n1:owner" not in site[1].texts


def test_a_node_is_not_ready_while_redis_has_not_answered_and_is_when_it_never_does(tmp_path: Path, site: Site) -> None:
    site[1].silent = True
    shelf = in_redis(tmp_path, site)
    shelf.records.start()
    assert shelf.records.restoring
    shelf.machine.advance(2)
    assert not shelf.records.restoring
    assert "does not answer in time" in shelf.records.problem
    assert read(shelf.metrics.journal_errors.child("open")) == 1


def test_what_is_in_a_redis_that_comes_late_is_merged_before_anything_is_written(tmp_path: Path, site: Site) -> None:
    first = in_redis(tmp_path, site)
    first.records.start()
    first.add_user("alice")
    assert first.stop()
    site[1].down = True
    second = in_redis(tmp_path, site)
    second.records.start()
    second.add_user("bob")
    assert "the journal cannot be opened" in second.records.problem
    second.machine.advance(4)
    assert read(second.metrics.journal_pending.child()) == 1
    assert read(second.metrics.journal_lag.child()) >= 3
    site[1].down = False
    second.machine.advance(2)
    assert second.records.problem == ""
    assert second.names() == [AOR, "sip:bob@example.com"]
    assert len(site[1].hashes[b"sipfarm:n1:records:credential"]) == 2
    assert read(second.metrics.journal_lag.child()) == 0


def test_a_slow_redis_is_asked_once_at_a_time(tmp_path: Path, site: Site) -> None:
    site[1].silent = True
    shelf = in_redis(tmp_path, site, redis_timeout_seconds=60.0)
    shelf.records.start()
    shelf.machine.advance(30)
    assert len(site[1].connections) == 1


def test_a_prefix_in_use_keeps_a_node_from_being_ready_until_its_owner_is_gone(tmp_path: Path, site: Site) -> None:
    first, second = in_redis(tmp_path / "1", site), in_redis(tmp_path / "2", site)
    first.records.start()
    first.add_user("alice")
    first.machine.advance(1)
    second.records.start()
    second.machine.advance(60)
    assert second.records.restoring
    assert "in use by another process" in second.records.problem
    assert second.names() == []
    first.stop()
    second.machine.advance(6)
    assert not second.records.restoring
    assert second.names() == [AOR]


def test_nodes_of_one_name_on_one_redis_are_kept_apart_by_prefixes(tmp_path: Path, site: Site) -> None:
    first, second = in_redis(tmp_path / "1", site), in_redis(tmp_path / "2", site, redis_prefix="east:n1")
    for shelf in (first, second):
        shelf.records.start()
        assert not shelf.records.restoring
    first.add_user("alice")
    second.add_user("bob")
    first.machine.advance(1)
    assert list(site[1].hashes[b"sipfarm:n1:records:credential"]) == [AOR.encode()]
    assert list(site[1].hashes[b"east:n1:records:credential"]) == [b"sip:bob@example.com"]


def test_damaged_values_are_counted_and_the_others_are_read(tmp_path: Path, site: Site) -> None:
    first = in_redis(tmp_path, site)
    first.records.start()
    for name in ("alice", "bob"):
        first.add_user(name)
    first.stop()
    values = site[1].hashes[b"sipfarm:n1:records:credential"]
    values[b"sip:bob@example.com"] = b"damaged"
    second = in_redis(tmp_path, site)
    second.records.start()
    assert second.names() == [AOR]
    assert read(second.metrics.journal_errors.child("read")) == 1


def test_an_emptied_redis_is_counted_and_written_anew_whole(tmp_path: Path, site: Site) -> None:
    shelf = in_redis(tmp_path, site)
    shelf.records.start()
    shelf.add_user("alice")
    shelf.machine.advance(1)
    site[1].forget()
    shelf.machine.advance(6)
    assert read(shelf.metrics.journal_errors.child("read")) == 1
    assert list(site[1].hashes[b"sipfarm:n1:records:credential"]) == [AOR.encode()]


def test_what_the_node_lets_go_of_is_deleted_in_redis(tmp_path: Path, site: Site) -> None:
    shelf = in_redis(tmp_path, site)
    shelf.records.start()
    lapsed = Register("call-1", 1, 1 << 40, 1, -7_250_000, 60, Contact("<sip:alice@192.0.2.1>"))
    record = shelf.records.registrations.pack(Record([Entry("sip:alice@192.0.2.1", [lapsed])]))
    shelf.records.store.put("registration", AOR.encode(), record, 0.0)
    shelf.machine.advance(1)
    kept = site[1].hashes[b"sipfarm:n1:records:registration"]
    assert list(kept) == [AOR.encode()]
    shelf.machine.advance(20)  # its tombstone outlived all that it outranks
    assert kept == {}


def test_stopping_while_redis_hangs_writes_what_it_can_and_ends(tmp_path: Path, site: Site) -> None:
    shelf = in_redis(tmp_path, site)
    shelf.records.start()
    shelf.machine.advance(1)
    site[1].silent = True
    shelf.add_user("alice")
    assert not shelf.stop()
    shelf.machine.advance(2)
    assert shelf.stopped
    assert shelf.machine.getDelayedCalls() == []


def test_stopping_while_redis_is_being_read_ends_at_once(tmp_path: Path, site: Site) -> None:
    site[1].silent = True
    shelf = in_redis(tmp_path, site)
    shelf.records.start()
    assert shelf.stop()
    assert shelf.machine.getDelayedCalls() == []
    assert read(shelf.metrics.journal_errors.child("open")) == 0


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file or directory"), ("\nx", "its first line is empty")]
)
def test_a_password_that_cannot_be_read_ends_the_start(
    tmp_path: Path, site: Site, content: str | None, problem: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    shelf = in_redis(tmp_path, site, redis_password_file=str(file))
    with pytest.raises(ConfigError, match=rf"^store\.redis_password_file: .*/password: {problem}$"):
        shelf.records.start()


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path, site: Site) -> None:
    file = tmp_path / "password"
    file.write_text(" open sesame \r\nsecond line\n")
    shelf = in_redis(tmp_path, site, redis_password_file=str(file), redis_user="farm")
    site[1].password = b" open sesame "
    shelf.records.start()
    assert site[1].asked[0] == (b"AUTH", b"farm", b" open sesame ")
    assert shelf.records.problem == ""


def test_records_in_redis_are_not_for_commands_while_the_node_does_not_run(tmp_path: Path, site: Site) -> None:
    with pytest.raises(JournalError, match="start the node"):
        in_redis(tmp_path, site).records.open_now()


def test_a_node_holds_so_many_records_and_what_it_has_stays(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, backend="memory", most_records=2)
    shelf.records.start()
    shelf.add_user("alice")
    shelf.add_user("bob")
    with pytest.raises(UserError):
        shelf.add_user("carol")
    assert len(shelf.names()) == 2
    shelf.stop()
