"""The keys of a node: every node has one before any seals with it, and none is lost by a restart or a dead record."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from farm.deadlines import Deadlines
from farm.keyring import AGAIN_SECONDS, FIRST_SECONDS, READ_SECONDS, Answered, Keyring, Refusal
from farm.security.farm_keys import BASE, KIND, MARGIN_SECONDS, FarmKey, Schedule, merge_keys

NOON = 1_800_000_000.0
DAY = 86_400.0
SECRET = b"s" * 32
OWN = FarmKey(BASE, SECRET)


class Full(NamedTuple):
    """A store that refuses."""

    reason: str


class Later(Awaitable[Any]):
    """What is answered when somebody says so."""

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def __await__(self) -> Generator[Any, None, Any]:
        while not self.answers:
            yield self
        return self.answers[0]


class Record:
    """The farm's record, as all nodes see it."""

    def __init__(self) -> None:
        self.held: bytes | None = None
        self.failing = ""
        self.slow: list[Later] = []
        self.slowly = False
        self.gets = 0
        self.puts = 0

    def get(self, kind: str, key: str, now: float) -> Answered | Awaitable[Answered]:
        assert (kind, key) == (KIND, "farm.example")
        self.gets += 1
        answer: Answered = Full(self.failing) if self.failing else self.held
        if not self.slowly:
            return answer
        self.slow.append(Later())
        return self.slow[-1]

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Refusal | Awaitable[bytes | Refusal]:
        assert (kind, key) == (KIND, "farm.example")
        if self.failing:
            return Full(self.failing)
        self.puts += 1
        self.held = delta if self.held is None else merge_keys(self.held, delta)
        return self.held


class Machine:
    """One node's keyring, its clock and what it tells."""

    def __init__(
        self,
        record: Record,
        *,
        seed: int = 1,
        path: str = "",
        alone: bool = True,
        rotation: float = DAY,
        nonces: bool = True,
    ) -> None:
        self.may_make = True
        self.now = 100.0
        self.deadlines = Deadlines()
        self.sealing: list[FarmKey] = []
        self.secrets: list[bytes] = []
        self.running: list[Coroutine[Any, Any, None]] = []
        self.ring = Keyring(
            SECRET, "farm.example", Schedule(rotation, 7 * DAY), record, self, self if nonces else None,
            self.deadlines, lambda: self.now, lambda: NOON + self.now - 100.0, random.Random(seed), self.spawn,
            path=path, alone=alone, may_make=lambda: self.may_make,
        )  # fmt: skip

    def set_keys(self, keys: Sequence[FarmKey]) -> None:
        self.sealing = list(keys)

    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        self.secrets = list(secrets)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.running.append(work)
        self.go_on()

    def go_on(self) -> None:
        """Let what waits look whether it still must."""
        for work in list(self.running):
            try:
                work.send(None)
            except StopIteration:
                self.running.remove(work)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while (at := self.deadlines.next_at()) is not None and at <= until:
            self.now = max(self.now, at)
            self.deadlines.run_due(self.now)
        self.now = until

    @property
    def numbers(self) -> list[int]:
        """The keys in force, the one that seals first."""
        return [key.number for key in self.sealing]


def finish(work: Coroutine[Any, Any, int]) -> int:
    with pytest.raises(StopIteration) as stop:
        work.send(None)
    number: int = stop.value.value
    return number


def test_a_lone_node_makes_a_key_at_its_first_start_and_seals_with_it_after_the_margin() -> None:
    machine = Machine(Record())
    assert machine.sealing == [OWN]
    machine.ring.start(machine.now)
    assert machine.numbers == [0, 1]
    machine.run(MARGIN_SECONDS - 1)
    assert machine.numbers == [0, 1]
    machine.run(READ_SECONDS + 1)
    assert machine.numbers == [1, 0]
    assert machine.secrets == [key.secret for key in machine.sealing]


def test_every_node_opens_with_a_key_before_any_seals_with_it() -> None:
    record = Record()
    farm = [Machine(record, seed=seed, alone=False) for seed in range(5)]
    for machine in farm:
        machine.ring.start(machine.now)
    for _ in range(int(3 * DAY // 10)):
        for machine in farm:
            machine.run(10)
        sealing = {machine.numbers[0] for machine in farm}
        for machine in farm:
            assert sealing <= set(machine.numbers)
    assert farm[0].numbers == [3, 2, 1, 0]
    assert record.puts == 3, "one node makes it, whichever comes first"


def test_no_key_is_made_while_there_are_nodes_that_would_not_keep_it() -> None:
    """Those of before there was such a record: they refuse it, and it would not be whole."""
    record = Record()
    machine = Machine(record)
    machine.may_make = False
    machine.ring.start(machine.now)
    machine.run(2 * DAY)
    assert (machine.numbers, record.puts, machine.ring.problems()) == ([0], 0, [])
    machine.may_make = True
    machine.run(2 * READ_SECONDS)
    assert machine.numbers == [0, 1]


def test_the_record_is_read_each_minute() -> None:
    record = Record()
    machine = Machine(record)
    machine.ring.start(machine.now)
    machine.run(10 * READ_SECONDS)
    assert record.gets == 11


def test_a_node_that_cannot_read_goes_on_with_what_it_has() -> None:
    record = Record()
    machine = Machine(record)
    machine.ring.start(machine.now)
    machine.run(2 * MARGIN_SECONDS)
    record.failing = "no-owners"
    machine.run(3 * DAY)
    assert machine.numbers == [1, 0]
    assert machine.ring.problems() == ["the record of the farm's keys cannot be read: no-owners"]
    record.failing = ""
    machine.run(READ_SECONDS)
    assert machine.numbers == [1, 2, 0]
    assert machine.ring.problems() == []


def test_a_node_that_is_still_joining_tries_often_and_complains_of_nothing() -> None:
    record = Record()
    record.failing = "no-owners"
    machine = Machine(record)
    machine.ring.start(machine.now)
    machine.run(10 * FIRST_SECONDS)
    assert record.gets == 11
    assert machine.ring.problems() == []
    record.failing = ""
    machine.run(FIRST_SECONDS)
    assert machine.numbers == [0, 1]
    machine.run(READ_SECONDS - 1)
    assert record.gets == 12


def test_a_restarted_node_knows_its_keys_before_it_has_reached_anybody(tmp_path: Path) -> None:
    path = str(tmp_path / "keys")
    record = Record()
    machine = Machine(record, path=path)
    machine.ring.start(machine.now)
    machine.run(2 * MARGIN_SECONDS)
    record.failing = "no-owners"
    again = Machine(record, path=path)
    again.now = machine.now
    assert again.numbers == [0, 1], "at NOON the key seals not yet"
    again.ring.start(again.now)
    assert again.sealing == machine.sealing
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    for key in machine.sealing:
        assert key.secret not in (tmp_path / "keys").read_bytes()


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_file_stops_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    machine = Machine(Record(), path=str(tmp_path / "keys"))
    machine.ring.start(machine.now)
    assert machine.numbers == [0, 1]


def test_a_record_that_is_none_changes_nothing() -> None:
    record = Record()
    machine = Machine(record)
    machine.ring.start(machine.now)
    held, record.held = record.held, b"nonsense"
    machine.run(READ_SECONDS)
    assert machine.numbers == [0, 1]
    (problem,) = machine.ring.problems()
    assert "cannot be understood" in problem
    record.held = held
    machine.run(READ_SECONDS)
    assert machine.ring.problems() == []


def test_an_unknown_key_has_the_record_read_at_once_but_not_for_each_token() -> None:
    record = Record()
    machine = Machine(record)
    machine.ring.start(machine.now)
    other = Machine(record, seed=2)
    other.ring.start(other.now)
    assert finish(other.ring.rotate(other.now)) == 2
    assert machine.numbers == [0, 1]
    gets = record.gets
    for _ in range(100):
        machine.ring.note_unknown_key(machine.now)
        machine.run(AGAIN_SECONDS / 101)
    assert machine.numbers == [0, 2, 1]
    assert record.gets == gets + 1
    machine.run(AGAIN_SECONDS / 50)
    machine.ring.note_unknown_key(machine.now)
    machine.run(0)
    assert record.gets == gets + 2


def test_one_reading_at_a_time() -> None:
    record = Record()
    record.slowly = True
    machine = Machine(record)
    machine.ring.start(machine.now)
    machine.run(10 * FIRST_SECONDS)
    assert record.gets == 1
    record.slow[0].answers.append(None)
    record.slowly = False
    machine.go_on()
    assert machine.numbers == [0, 1]


def test_the_console_can_rotate_and_sees_numbers_and_ages_only() -> None:
    machine = Machine(Record())
    machine.ring.start(machine.now)
    machine.run(2 * MARGIN_SECONDS)
    assert finish(machine.ring.rotate(machine.now)) == 2
    first, second = machine.ring.rows()
    assert (first.number, first.age, first.seals) == (1, 1200.0, True)
    assert (second.number, second.age, second.seals_in, second.seals) == (2, 0.0, MARGIN_SECONDS, False)
    assert first.ends_in == MARGIN_SECONDS + 2 * DAY + 7 * DAY - 1200.0
    assert machine.ring.sealing_age() == 1200.0
    assert machine.ring.rotation_seconds() == DAY
    machine.run(MARGIN_SECONDS + READ_SECONDS)
    assert machine.numbers == [2, 1, 0]


def test_a_node_that_never_begins_makes_no_keys_and_is_not_late_with_them() -> None:
    assert Machine(Record()).ring.rotation_seconds() == 0.0


def test_a_rotation_that_cannot_be_written_is_said_to_be_none() -> None:
    record = Record()
    machine = Machine(record)
    machine.ring.start(machine.now)
    record.failing = "clock"
    with pytest.raises(ValueError, match="cannot be read: clock"):
        machine.ring.rotate(machine.now).send(None)


def test_whoever_rotates_all_day_does_not_drive_out_keys_that_still_open() -> None:
    machine = Machine(Record())
    machine.ring.start(machine.now)
    for _ in range(31):
        machine.run(1)
        finish(machine.ring.rotate(machine.now))
    with pytest.raises(ValueError, match="too many keys"):
        machine.ring.rotate(machine.now).send(None)
    assert set(machine.numbers) == set(range(33))


def test_nonces_with_a_key_of_their_own_keep_it() -> None:
    machine = Machine(Record(), nonces=False)
    machine.ring.start(machine.now)
    machine.run(2 * MARGIN_SECONDS)
    assert machine.numbers == [1, 0]
    assert machine.secrets == []


def test_nonces_are_known_by_the_four_newest_keys_and_the_farm_s_own() -> None:
    machine = Machine(Record())
    machine.ring.start(machine.now)
    machine.run(6 * DAY + 2 * MARGIN_SECONDS)
    by_number = {key.secret: key.number for key in machine.sealing}
    assert [by_number[secret] for secret in machine.secrets] == [7, 6, 5, 4, 0]


def test_a_shorter_rotation_holds_from_the_next_reading_on() -> None:
    machine = Machine(Record())
    machine.ring.start(machine.now)
    machine.run(2 * 3600)
    machine.ring.change(Schedule(3600.0, DAY))
    machine.run(READ_SECONDS)
    assert machine.numbers == [1, 2, 0]


def test_a_record_that_was_lost_is_written_again() -> None:
    record = Record()
    machine = Machine(record)
    machine.ring.start(machine.now)
    machine.run(READ_SECONDS)
    held, record.held = record.held, None
    machine.run(READ_SECONDS)
    assert record.held == held
    assert machine.numbers == [0, 1]
    assert record.puts == 2
