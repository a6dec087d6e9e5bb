"""The account of calls, put together: lines in the file within a second, whatever the disk says, and new settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from farm.accounting.call import Bye
from farm.accounting.outlet import RETRY_SECONDS
from farm.call_records import FLUSH_SECONDS, CallRecords, read_place
from farm.config import AccountingSettings, ConfigError
from farm.metrics import Metrics
from tests.accounting.books import Way, make_answer, make_bye, make_invite
from tests.support.counts import read
from tests.support.network import Host, Network


class Desk:
    """The account of one node, on a machine with a clock."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.file = folder / "calls"
        self.network = Network(1)
        self.host: Host = self.network.add_host("192.0.2.1")
        self.metrics = Metrics()
        settings = {"file": str(self.file), **settings}
        self.records = CallRecords(
            AccountingSettings(**settings), "n1", self.host, self.host.seconds, self.host.wall_time, self.metrics
        )
        self.records.start()

    def call(self, call_id: str = "c1", *, ends: bool = True) -> None:
        """A call that is answered, and ends."""
        now = self.host.seconds()
        invite = make_invite(call_id)
        self.records.begin(invite, now).answer(make_answer(invite), Way(), [200], now)
        if ends:
            self.records.end(make_bye(call_id), 200, (), now, hop=None, made=False)

    def lines(self, file: Path | None = None) -> list[tuple[str, str]]:
        """Call-ID and event of what is in the file."""
        path = file or self.file
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(line["callid"], line["event"]) for line in lines]

    def change(self, **settings: Any) -> None:
        """New settings, by SIGHUP."""
        made = AccountingSettings(**settings)
        self.records.change(made, read_place(made))

    def stop(self) -> None:
        """The node stops."""
        done: list[object] = []
        self.records.stop().addBoth(done.append)
        assert self.network.run_until(lambda: bool(done), 30)
        assert done == [None]


@pytest.fixture
def make_desk(tmp_path: Path) -> Callable[..., Desk]:
    return lambda **settings: Desk(tmp_path, **settings)


def test_lines_are_in_the_file_within_a_second_and_none_is_written_twice(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.call()
    assert desk.lines() == []
    assert read(desk.metrics.accounting_pending.child()) == 2
    desk.network.run(FLUSH_SECONDS + 0.01)
    assert desk.lines() == [("c1", "answered"), ("c1", "ended")]
    desk.network.run(10)
    assert len(desk.lines()) == 2
    assert read(desk.metrics.accounting_pending.child()) == 0
    assert read(desk.metrics.accounting_records.child("file", "written")) == 2


def test_a_stop_writes_what_waits_and_what_goes_on(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.call("c1", ends=False)
    desk.call("c2")
    desk.stop()
    assert desk.lines() == [("c1", "answered"), ("c2", "answered"), ("c2", "ended"), ("c1", "interrupted")]
    desk.network.run(5)
    assert len(desk.lines()) == 4


def test_a_disk_that_is_full_is_a_problem_until_it_is_not_and_costs_no_record(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk(answers=False)

    def fail(_file: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        desk.call("c1")
        desk.network.run(1)
        assert desk.records.problems() == [f"call records cannot be written to {desk.file}: No space left on device"]
        desk.call("c2")
        desk.network.run(10)
        assert desk.lines() == []
    desk.network.run(RETRY_SECONDS + FLUSH_SECONDS)
    assert desk.lines() == [("c1", "ended"), ("c2", "ended")]
    assert desk.records.problems() == []


def test_a_stop_does_not_wait_for_a_full_disk_and_counts_what_is_lost(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk()
    monkeypatch.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    desk.call()
    desk.stop()
    assert desk.lines() == []
    assert read(desk.metrics.accounting_records.child("file", "dropped")) == 2


def test_new_settings_are_taken_and_the_file_is_opened_anew(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(answers=False)
    desk.call("c1")
    desk.network.run(1)
    moved = desk.file.rename(desk.file.with_name("moved"))
    desk.change(file=str(desk.file), answers=False, most_calls=7, longest_call_seconds=5.0)
    desk.call("c2")
    desk.network.run(1)
    other = desk.file.with_name("other")
    desk.change(file=str(other), answers=False)
    desk.call("c3")
    desk.network.run(1)
    desk.change()
    desk.call("c4")
    desk.network.run(1)
    desk.change(file=str(other), answers=False)
    desk.call("c5")
    desk.network.run(1)
    assert [desk.lines(file) for file in (moved, desk.file, other)] == [
        [("c1", "ended")], [("c2", "ended")], [("c3", "ended"), ("c5", "ended")],
    ]  # fmt: skip
    assert desk.records.calls.most_calls == AccountingSettings().most_calls


def test_a_redis_that_is_away_is_a_problem_and_the_file_is_written_all_the_same(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(answers=False, redis="192.0.2.9:6379")
    desk.call()
    desk.network.run(20)
    assert desk.lines() == [("c1", "ended")]
    (problem,) = desk.records.problems()
    assert problem.startswith("call records cannot be written to Redis 192.0.2.9:6379: ")
    desk.change(file=str(desk.file))
    assert desk.records.problems() == []
    assert read(desk.metrics.accounting_pending.child()) == 0


def test_a_password_that_cannot_be_read_is_said_before_anything_changes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"accounting\.redis_password_file"):
        read_place(AccountingSettings(redis="192.0.2.9", redis_password_file=str(tmp_path / "none")))
    (tmp_path / "secret").write_text("word\nmore\n")
    place = read_place(AccountingSettings(redis="192.0.2.9", redis_password_file=str(tmp_path / "secret")))
    assert place is not None
    assert (place.address, place.password) == (("192.0.2.9", 6379), b"word")


def test_calls_are_listed_the_oldest_first_and_not_all_of_a_hundred_thousand(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    for number in range(3):
        desk.call(f"c{number}", ends=False)
        desk.network.run(1)
    rows = desk.records.rows(2, desk.host.seconds())
    assert [(row["callid"], row["answered"]) for row in rows] == [("c0", 3.0), ("c1", 2.0)]
    assert rows[0] == {
        "callid": "c0", "src_user": "alice", "src_domain": "example.com", "dst_ouser": "bob",
        "dst_domain": "example.com", "answered": 3.0,
    }  # fmt: skip


def test_without_a_place_nothing_is_made_and_nothing_waits(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(file="")
    desk.call()
    assert read(desk.metrics.accounting_pending.child()) == 0
    desk.stop()
    assert not desk.file.exists()


def test_what_runs_too_long_is_swept(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(answers=False, longest_call_seconds=60.0)
    desk.call(ends=False)
    desk.network.run(62)
    assert desk.lines() == [("c1", "ended")]


def test_a_call_that_nobody_knows_is_written_once(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    for _ in range(2):
        desk.records.write_partial(("c1", "a", "b"), "sip:a@x", "sip:b@x", "caller", 1_700_000_000.0, Bye(0.0, 200))
    desk.network.run(1)
    assert desk.lines() == [("c1", "ended")]


@pytest.mark.parametrize("goes", [True, False])
def test_a_place_that_is_turned_off_while_a_batch_is_under_way_is_no_problem_any_more(
    make_desk: Callable[..., Desk], goes: bool
) -> None:
    desk = make_desk(file="", answers=False, redis="192.0.2.9:6379")
    asked: list[Deferred[None]] = []
    desk.records._to_redis.aim(lambda _: asked.append(Deferred()) or asked[-1], "Redis")  # type: ignore[func-returns-value]
    desk.call()
    desk.network.run(FLUSH_SECONDS + 0.1)
    desk.call("c2")
    desk.change()
    if goes:
        asked[0].callback(None)
    else:
        asked[0].errback(OSError(5, "Input/output error"))
    desk.network.run(20)
    assert desk.records.problems() == []
    assert read(desk.metrics.accounting_pending.child()) == 0
    assert read(desk.metrics.accounting_records.child("redis", "dropped")) == (1 if goes else 2)


def test_a_file_that_is_turned_off_and_on_at_once_is_written(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(answers=False)
    desk.call("c1")
    desk.network.run(1)
    desk.change()
    desk.change(file=str(desk.file), answers=False)
    desk.call("c2")
    desk.network.run(1)
    assert desk.lines() == [("c1", "ended"), ("c2", "ended")]
    assert desk.records.problems() == []
