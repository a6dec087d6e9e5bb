"""The journal in Redis: what it writes and reads, who may, and what happens when Redis does not do as it should."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from farm.overlay import redis_journal
from farm.overlay.clock import HybridClock
from farm.overlay.journal import Batch, JournalError, Kept
from farm.overlay.redis_journal import Connection, RedisJournal, Server
from farm.overlay.scribe import Restored, Scribe, restore
from farm.overlay.store import NEVER, Row, Store
from tests.support.fake_redis import FakeRedis

HASH = b"sipfarm:n1:records:timed"
OWNER = b"sipfarm:n1:owner"
MARKER = b"sipfarm:n1:marker"
PHONE = Row("timed", b"sip:+4930@example.com", b"007")


class Site:
    """Servers by address, and journals that dial them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.redis = FakeRedis(self.clock)
        self.servers = {("r", 6379): self.redis}
        self.dialled: list[tuple[str, int]] = []
        self.took: list[float] = []

    def dial(self, host: str, port: int) -> Deferred[Connection]:
        self.dialled.append((host, port))
        return self.servers[host, port].dial()

    def make(self, token: str = "host:1", run: str = "run1", prefix: str = "sipfarm:n1", **server: Any) -> RedisJournal:
        return RedisJournal(
            Server(("r", 6379), **server),
            self.dial,
            self.clock,
            prefix=prefix,
            token=token,
            run=run,
            timeout_seconds=2.0,
            observe=self.took.append,
        )


class Heard(NamedTuple):
    """What became of a write."""

    sound: bool
    error: BaseException | None

    @property
    def reason(self) -> str:
        assert isinstance(self.error, JournalError)
        return self.error.reason


FINE = Heard(True, None)


def write(journal: RedisJournal, *rows: Row, mono: float = 1.0, wall: float = 1000.0) -> list[Heard]:
    """What is heard of a batch; nothing as long as it is under way."""
    heard: list[Heard] = []
    journal.write(Batch(rows, mono, wall), lambda sound, error: heard.append(Heard(sound, error)))
    return heard


def replay(journal: RedisJournal, *kinds: str) -> tuple[list[Kept], int]:
    """All records, and how many are damaged. Raises what prevents it."""
    found: list[Kept] = []
    answers: list[Any] = []
    journal.replay(kinds or ("timed",), found.extend).addBoth(answers.append)
    (answer,) = answers
    if not isinstance(answer, int):
        answer.raiseException()
    return found, answer


def refusal(journal: RedisJournal) -> JournalError:
    """Why it cannot be read."""
    with pytest.raises(JournalError) as caught:
        replay(journal)
    return caught.value


@pytest.fixture
def site() -> Site:
    return Site()


# Writing and reading


def test_what_was_written_is_read_by_the_next_process_with_the_times_of_its_writing(site: Site) -> None:
    first = site.make()
    replay(first)
    odd = Row("timed", b"", b"\r\n$-1\r\n\xff\x00")
    assert write(first, PHONE, odd, mono=5.5, wall=1000.25) == [FINE]
    found, damaged = replay(site.make(run="run2"))
    assert found == [Kept(PHONE, 5.5, 1000.25), Kept(odd, 5.5, 1000.25)]
    assert damaged == 0


def test_a_later_value_replaces_an_earlier_and_an_empty_one_deletes(site: Site) -> None:
    journal = site.make()
    write(journal, PHONE, Row("timed", b"b", b"1"))
    write(journal, Row("timed", PHONE.key, b"2"), Row("timed", b"b", b""))
    found, _ = replay(site.make())
    assert [kept.row for kept in found] == [Row("timed", PHONE.key, b"2")]
    assert list(site.redis.hashes[HASH]) == [PHONE.key]


def test_kinds_lie_apart_and_those_not_asked_for_are_left_alone(site: Site) -> None:
    journal = site.make()
    write(journal, PHONE, Row("other", PHONE.key, b"x"), Row("timed", b"c", b"3"))
    found, _ = replay(site.make(), "timed")
    assert [kept.row.key for kept in found] == [PHONE.key, b"c"]
    assert set(site.redis.hashes) == {HASH, b"sipfarm:n1:records:other"}


def test_many_records_are_read_page_by_page_and_written_piece_by_piece(site: Site) -> None:
    rows = [Row("timed", b"%d" % number, b"v" * 1000) for number in range(300)]
    journal = site.make()
    assert write(journal, *rows) == [FINE]
    sizes = [sum(len(word) for word in words) for words in site.redis.asked]
    assert len(sizes) == 1 + 5
    assert max(sizes) < 80_000
    pages: list[int] = []
    site.make().replay(("timed",), lambda page: pages.append(len(page)))
    assert pages == [2] * 150


def test_small_records_come_five_hundred_to_a_piece(site: Site) -> None:
    """Redis serves nobody else while it takes one."""
    journal = site.make()
    write(journal, *[Row("timed", b"%d" % number, b"v" * (number % 2)) for number in range(1001)])
    assert len(site.redis.asked) == 1 + 3


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff"])
def test_a_damaged_value_is_skipped_and_counted(site: Site, damage: bytes) -> None:
    write(site.make(), PHONE, Row("timed", b"b", b"2"))
    values = site.redis.hashes[HASH]
    values[PHONE.key] = damage + values[PHONE.key][len(damage) :] if damage == b"\xff" else damage
    found, damaged = replay(site.make())
    assert [kept.row.key for kept in found] == [b"b"]
    assert damaged == 1


def test_a_value_under_another_key_is_damaged(site: Site) -> None:
    """Half an edit by hand must not give one user's phone to another."""
    write(site.make(), PHONE)
    values = site.redis.hashes[HASH]
    values[b"sip:mallory@example.com"] = values.pop(PHONE.key)
    assert replay(site.make()) == ([], 1)


def test_the_time_of_batches_is_told_but_not_of_those_that_only_look(site: Site) -> None:
    journal = site.make()
    write(journal, PHONE)
    write(journal)
    assert site.took == [0.0]


# Whose it is


def test_two_nodes_on_one_redis_never_mix(site: Site) -> None:
    one, two = site.make(), site.make("host:2", prefix="sipfarm:n2")
    assert write(one, PHONE) == [FINE]
    assert write(two, Row("timed", PHONE.key, b"two")) == [FINE]
    assert [kept.row for kept in replay(one)[0]] == [PHONE]
    assert [kept.row.record for kept in replay(two)[0]] == [b"two"]


def test_a_second_process_with_the_same_prefix_neither_reads_nor_writes(site: Site) -> None:
    first, second = site.make(), site.make("host:2")
    write(first, PHONE)
    error = refusal(second)
    assert error.reason == "locked"
    assert str(error) == "sipfarm:n1 in Redis r:6379 is in use by another process: host:1"
    (heard,) = write(second, Row("timed", b"b", b"2"))
    assert heard.reason == "locked"
    assert list(site.redis.hashes[HASH]) == [PHONE.key]
    assert write(first, PHONE) == [FINE]


def test_looking_now_and_then_keeps_the_lease_and_silence_loses_it(site: Site) -> None:
    first, second = site.make(), site.make("host:2")
    write(first, PHONE)
    for _ in range(5):
        site.clock.advance(3)
        write(first)
        assert refusal(second).reason == "locked"
    site.clock.advance(10)
    assert len(replay(second)[0]) == 1
    (heard,) = write(first, PHONE)
    assert heard.reason == "locked"


def test_whoever_starts_again_in_the_same_state_directory_need_not_wait(site: Site) -> None:
    write(site.make(), PHONE)
    assert len(replay(site.make(run="run2"))[0]) == 1


def test_closing_releases_the_lease_at_once_but_not_another_s(site: Site) -> None:
    first, second = site.make(), site.make("host:2")
    write(first, PHONE)
    first.close()
    assert OWNER not in site.redis.texts
    write(second, PHONE)
    first._connection = site.redis.connections[-1]
    first.close()
    assert site.redis.texts[OWNER] == b"host:2"


def test_what_a_later_version_wrote_is_left_alone(site: Site) -> None:
    site.redis.texts[b"sipfarm:n1:format"] = b"2"
    error = refusal(site.make())
    assert error.reason == "newer"
    assert "(format 2, known is 1)" in str(error)
    assert OWNER not in site.redis.texts


# A Redis that lost something


def test_an_emptied_redis_is_noticed_by_the_next_look(site: Site) -> None:
    journal = site.make()
    replay(journal)
    assert write(journal, PHONE) == [FINE]
    site.redis.forget()
    assert write(journal) == [Heard(False, None)]
    assert write(journal) == [FINE]


def test_what_was_lost_between_two_readings_is_none_of_the_second(site: Site) -> None:
    journal = site.make()
    replay(journal)
    write(journal, PHONE)
    assert len(replay(journal)[0]) == 1
    assert write(journal) == [FINE]
    site.redis.forget()
    assert write(journal) == [Heard(False, None)]


def test_what_others_wrote_before_the_second_reading_is_no_loss(site: Site) -> None:
    journal, other = site.make(), site.make(run="run2")
    replay(journal)
    write(other, PHONE)
    replay(journal)
    assert write(journal) == [FINE]


def test_a_redis_restarted_from_an_old_dump_is_noticed(site: Site) -> None:
    journal = site.make()
    write(journal, PHONE)
    dump = dict(site.redis.texts)
    write(journal, Row("timed", b"b", b"2"))
    site.redis.kill()
    site.redis.texts = dump
    site.redis.down = False
    assert write(journal)[0].reason == "unreachable"
    assert write(journal) == [Heard(False, None)]


def test_a_loss_in_one_piece_of_a_batch_is_not_forgotten_by_the_next(site: Site) -> None:
    journal = site.make()
    write(journal, PHONE)
    site.redis.forget()
    assert write(journal, PHONE, Row("other", b"b", b"2")) == [Heard(False, None)]


def test_a_write_that_was_done_and_not_answered_is_no_loss(site: Site) -> None:
    journal = site.make()
    write(journal, PHONE)
    site.redis.deaf = True
    heard = write(journal, Row("timed", b"b", b"2"))
    site.clock.advance(2)
    assert heard[0].reason == "timeout"
    assert b"b" in site.redis.hashes[HASH]
    site.redis.deaf = False
    assert write(journal, Row("timed", b"b", b"2")) == [FINE]


def test_a_write_that_was_not_done_is_no_loss_either(site: Site) -> None:
    journal = site.make()
    write(journal, PHONE)
    site.redis.silent = True
    heard = write(journal, Row("timed", b"b", b"2"))
    site.clock.advance(2)
    assert heard[0].reason == "timeout"
    site.redis.silent = False
    assert write(journal, Row("timed", b"b", b"2")) == [FINE]


def test_what_a_dead_predecessor_had_on_the_way_is_noticed(site: Site) -> None:
    """Its last batch may arrive after we have read."""
    old, new = site.make(), site.make(run="run2")
    write(old, PHONE)
    replay(new)
    write(old, Row("timed", b"late", b"1"))
    assert write(new) == [Heard(False, None)]


# A Redis that does not do as it should


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'. script: ab, on @user_script:5.", "full"),
        ("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory", "full"),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", "full"),
        ("READONLY You can't write against a read only replica.", "read-only"),
        ("NOREPLICAS Not enough good replicas to write.", "read-only"),
        ("NOAUTH Authentication required.", "refused"),
        ("NOPERM this user has no permissions to run the 'eval' command", "refused"),
        ("LOADING Redis is loading the dataset in memory", "unreachable"),
        ("something new", "io"),
    ],
)
def test_an_error_is_told_by_its_reason_and_the_connection_is_given_up(site: Site, answer: str, reason: str) -> None:
    journal = site.make()
    write(journal, PHONE)
    site.redis.refuses = answer
    (heard,) = write(journal, PHONE)
    assert heard.reason == reason
    assert str(heard.error) == f"Redis r:6379: {answer}"
    assert not site.redis.connections[0].open
    site.redis.refuses = ""
    assert write(journal, PHONE) == [FINE]
    assert len(site.redis.connections) == 2


def test_a_redis_that_does_not_answer_is_given_up_in_time(site: Site) -> None:
    site.redis.silent = True
    heard = write(site.make(), PHONE)
    site.clock.advance(1.9)
    assert heard == []
    site.clock.advance(0.2)
    assert heard[0].reason == "timeout"
    assert not site.redis.connections[0].open


def test_a_dial_that_goes_nowhere_is_given_up_in_time(site: Site) -> None:
    site.redis.dial = Deferred  # type: ignore[method-assign]
    heard = write(site.make(), PHONE)
    site.clock.advance(2)
    assert heard[0].reason == "timeout"


def test_a_connection_that_breaks_is_dialled_anew_by_the_next_write(site: Site) -> None:
    journal = site.make()
    write(journal, PHONE)
    site.redis.kill()
    assert write(journal, PHONE)[0].reason == "unreachable"
    assert write(journal, PHONE)[0].reason == "unreachable"
    site.redis.down = False
    assert write(journal, PHONE) == [FINE]


@pytest.mark.parametrize(
    "nonsense", [None, 7, [], [b"ok"], "OK", [b"ok", b"0", b"\xc1", b""], [b"ok", b"0", b"\x91\x01"]]
)
def test_an_answer_that_makes_no_sense_fails_like_any_other(site: Site, nonsense: object) -> None:
    site.redis.do = lambda words: nonsense  # type: ignore[method-assign]
    assert refusal(site.make()).reason == "io"


def test_password_and_database_come_before_all_else(site: Site) -> None:
    site.redis.password = b"open sesame"
    write(site.make(password=b"open sesame", database=3), PHONE)
    assert site.redis.asked[:2] == [(b"AUTH", b"open sesame"), (b"SELECT", b"3")]
    write(site.make(user="farm", password=b"open sesame"), PHONE)
    assert (b"AUTH", b"farm", b"open sesame") in site.redis.asked


def test_a_wrong_password_is_told_without_it(site: Site) -> None:
    site.redis.password = b"open sesame"
    error = refusal(site.make(password=b"hunter2"))
    assert error.reason == "refused"
    assert "hunter2" not in str(error)


# Sentinel


def with_sentinels(site: Site) -> RedisJournal:
    for name in ("s1", "s2"):
        site.servers[name, 26379] = sentinel = FakeRedis(site.clock)
        sentinel.masters[b"farm"] = (b"r", b"6379")
    return site.make(sentinels=(("s1", 26379), ("s2", 26379)), master="farm")


def test_a_sentinel_says_where_the_master_is(site: Site) -> None:
    assert write(with_sentinels(site), PHONE) == [FINE]
    assert site.dialled == [("s1", 26379), ("r", 6379)]
    assert not site.servers["s1", 26379].connections[0].open


@pytest.mark.parametrize("trouble", ["down", "silent", "ignorant", "refuses"])
def test_another_sentinel_is_asked_when_one_cannot_say(site: Site, trouble: str) -> None:
    journal = with_sentinels(site)
    first = site.servers["s1", 26379]
    if trouble == "ignorant":
        first.masters.clear()
    else:
        setattr(first, trouble, "NOAUTH" if trouble == "refuses" else True)
    heard = write(journal, PHONE)
    site.clock.advance(2)
    assert heard == [FINE]
    assert site.dialled == [("s1", 26379), ("s2", 26379), ("r", 6379)]


def test_no_sentinel_that_knows_the_master_is_a_failure(site: Site) -> None:
    journal = with_sentinels(site)
    for name in ("s1", "s2"):
        site.servers[name, 26379].masters.clear()
    (heard,) = write(journal, PHONE)
    assert str(heard.error) == "Redis Sentinel s2:26379: no Sentinel knows a master called farm"


def test_after_a_fail_over_the_next_write_goes_to_the_new_master_and_its_losses_are_noticed(site: Site) -> None:
    journal = with_sentinels(site)
    write(journal, PHONE)
    replica = site.servers["r2", 6379] = FakeRedis(site.clock)
    replica.texts = dict(site.redis.texts)  # and the next write does not reach it
    write(journal, PHONE)
    for name in ("s1", "s2"):
        site.servers[name, 26379].masters[b"farm"] = (b"r2", b"6379")
    site.redis.refuses = "READONLY You can't write against a read only replica."
    assert write(journal, PHONE)[0].reason == "read-only"
    assert write(journal, PHONE) == [Heard(False, None)]
    assert PHONE.key in replica.hashes[HASH]


# With store and scribe


class Became(NamedTuple):
    record: bytes | None
    due_at: float = NEVER
    live: int = 0
    tombstones: int = 0
    conflict: bool = False


class Timed:
    """A record is a decimal number, the second of its end; what has ended is dropped."""

    name = "timed"
    record_bytes = 100
    everywhere = True
    since = 1

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Became:
        latest = max(float(delta), float(held or 0))
        return Became(b"%g" % latest if latest > now else None, latest)

    def sweep(self, held: bytes, now: float) -> Became:
        return self.merge(None, held, now)

    def shift(self, record: bytes, seconds: float, now: float = NEVER) -> bytes:
        return b"%g" % (float(record) + seconds)

    def version(self, record: bytes) -> bytes:
        return record.rjust(16)

    def trace(self, record: bytes, at: float = -NEVER) -> bytes:
        return record

    def newest(self, record: bytes) -> int:
        return 1


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
    """A node's store, kept in Redis."""

    def __init__(self, site: Site, run: str = "run1", most_untold: int = 100_000) -> None:
        self.site = site
        self.log = Log()
        self.store = Store([Timed()], slot_seconds=1.0)
        self.store.tell_dropped(most_untold)
        self.journal = site.make(run=run)
        self.restored: list[Restored] = []
        now = site.clock.seconds()
        self.journal.replay(
            ("timed",),
            lambda page: self.restored.append(restore(page, self.store, HybridClock(), now, 1000.0 + now)),
        )
        self.scribe = Scribe(self.store, self.journal, self.log)

    def put(self, *names: str, until: float = 60.0) -> None:
        for name in names:
            self.store.put("timed", name.encode(), b"%g" % until, self.site.clock.seconds())

    def tick(self, seconds: float = 0.5) -> None:
        self.site.clock.advance(seconds)
        now = self.site.clock.seconds()
        self.store.sweep(now)
        self.scribe.receive_tick(now, 1000.0 + now)

    @property
    def kept(self) -> set[bytes]:
        return set(self.site.redis.hashes.get(HASH, {}))


def test_what_changes_is_written_and_what_lapses_is_deleted(site: Site) -> None:
    desk = Desk(site)
    desk.put("a", until=5)
    desk.put("b")
    desk.tick()
    assert desk.kept == {b"a", b"b"}
    assert desk.scribe.unwritten == 0
    for _ in range(7):
        desk.tick(1)
    assert desk.kept == {b"b"}
    assert desk.scribe.unwritten == 0


def test_what_lapsed_while_nobody_ran_is_deleted_by_the_next_start(site: Site) -> None:
    first = Desk(site)
    first.put("a", until=5)
    first.put("b")
    first.tick()
    site.clock.advance(10)
    second = Desk(site, "run2")
    assert second.store.keys("timed") == [b"b"]
    second.tick()
    assert second.kept == {b"b"}


def test_an_idle_node_looks_every_three_seconds_and_writes_an_emptied_redis_anew(site: Site) -> None:
    desk = Desk(site)
    desk.put("a", "b")
    desk.tick()
    site.redis.forget()
    before = len(site.redis.asked)
    for _ in range(5):
        desk.tick()
    assert len(site.redis.asked) == before
    for _ in range(3):
        desk.tick()
    assert desk.log.heard == ["renewed"]
    assert desk.kept == {b"a", b"b"}


def test_a_table_is_not_written_anew_because_of_its_size(site: Site) -> None:
    desk = Desk(site)
    desk.scribe = Scribe(desk.store, desk.journal, desk.log, rewrite_factor=1.0, rewrite_floor=0)
    desk.put("b", "c")
    for number in range(10):
        desk.put("a", until=60 + number)
        desk.tick()
    assert desk.scribe.written == 12


def test_a_dead_redis_is_told_tried_again_and_gets_what_gathered(site: Site) -> None:
    desk = Desk(site)
    desk.put("a", "b", until=20)
    desk.tick()
    site.redis.kill()
    desk.put("c")
    desk.tick()
    assert desk.log.heard == ["failed unreachable 1"]
    assert desk.scribe.unwritten == 1
    desk.put("c", "d")
    site.clock.advance(30)
    desk.tick()
    assert desk.log.heard[1:] == ["failed unreachable 4"]
    site.redis.down = False
    desk.tick(2)
    assert desk.log.heard[2:] == ["recovered 0"]
    assert desk.kept == {b"c", b"d"}


def test_a_slow_redis_has_one_batch_under_way_and_it_counts_as_unwritten(site: Site) -> None:
    desk = Desk(site)
    desk.tick()
    site.redis.silent = True
    desk.put("a")
    desk.tick()
    desk.put("b")
    desk.tick()
    assert [len(connection.waiting) for connection in site.redis.connections] == [1]
    assert desk.scribe.unwritten == 2
    assert desk.scribe.lag(site.clock.seconds()) == 1.0


def test_keys_dropped_while_redis_is_dead_wait_in_bounded_number(site: Site) -> None:
    desk = Desk(site, most_untold=3)
    desk.put(*[str(number) for number in range(10)], until=5)
    desk.tick()
    site.redis.kill()
    for _ in range(8):
        desk.tick(1)
    assert len(desk.store) == 0
    assert desk.scribe.unwritten == 6  # as many as were left, and three
    site.redis.down = False
    desk.tick(2)
    assert len(desk.kept) == 4
    again = Desk(site, "run2", most_untold=3)
    assert again.store.unwritten == 3  # a start finds the others
    again.tick()
    assert len(again.kept) == 1


def test_the_last_batch_is_written_before_the_process_stops_after_the_one_under_way(site: Site) -> None:
    desk = Desk(site)
    desk.put("a")
    site.redis.silent = True
    desk.tick()
    desk.put("b")
    left: list[int] = []
    desk.scribe.finish(1.0, 1001.0, left.append)
    assert left == []
    site.redis.silent = False
    site.clock.advance(2)  # the batch under way fails, and all is written once more
    assert left == [0]
    assert desk.kept == {b"a", b"b"}


def test_a_dead_redis_does_not_hold_the_stop(site: Site) -> None:
    desk = Desk(site)
    desk.put("a", "b")
    site.redis.silent = True
    left: list[int] = []
    desk.scribe.finish(1.0, 1001.0, left.append)
    site.clock.advance(2)
    assert left == [2]
    desk.journal.close()
    assert site.clock.getDelayedCalls() == []


def test_closing_gives_up_what_is_under_way(site: Site) -> None:
    site.redis.silent = True
    journal = site.make()
    failures: list[Any] = []
    journal.replay(("timed",), lambda page: None).addErrback(failures.append)
    closed: list[None] = []
    journal.close().addCallback(closed.append)
    assert closed == [None]
    assert failures[0].check(JournalError)
    assert site.clock.getDelayedCalls() == []


def test_redis_is_told_in_the_words_it_knows() -> None:
    """Redis before 7 takes no script that reads at random before it writes: each renews the lease first."""
    for script in (redis_journal._OPEN, redis_journal._READ, redis_journal._WRITE):
        assert script.index(b"'GET', KEYS[1]") < script.index(b"'SET', KEYS[1]")
    assert redis_journal._READ.index(b"'SET'") < redis_journal._READ.index(b"HSCAN")
