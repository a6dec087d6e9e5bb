"""Dials: whom, when, how many at once."""

from __future__ import annotations

import random

import pytest

from farm.deadlines import Deadlines
from farm.overlay.dials import BROKEN, CANDIDATE, GONE, Dials, backoff_seconds
from farm.overlay.wire import Contact


def contact(number: int, host: str = "") -> Contact:
    return Contact(number.to_bytes(32, "big"), host or f"10.0.0.{number}", 7400)


class Desk:
    def __init__(self, **limits: float) -> None:
        self.now = 0.0
        self.deadlines = Deadlines()
        self.dialled: list[tuple[float, int]] = []
        self.lost: list[int] = []
        self.dials = Dials(self.connect, self.lose, self.deadlines, random.Random(3), **limits)  # type: ignore[arg-type]

    def connect(self, contact: Contact) -> None:
        self.dialled.append((round(self.now, 2), int.from_bytes(contact.node, "big")))

    def lose(self, contact: Contact, now: float) -> None:
        self.lost.append(int.from_bytes(contact.node, "big"))
        self.dials.fail(contact.host, contact.port, now)

    def run(self, until: float) -> list[tuple[float, int]]:
        while (at := self.deadlines.next_at()) is not None and at <= until:
            self.now = at
            self.deadlines.run_due(at)
        self.now = until
        found, self.dialled = self.dialled, []
        return found


@pytest.mark.parametrize(
    ("failures", "reason", "seconds"),
    [
        (1, BROKEN, 0.25), (2, BROKEN, 0.25), (3, BROKEN, 0.5), (4, BROKEN, 1.0), (5, BROKEN, 2.0),
        (1, GONE, 1.0), (2, GONE, 2.0), (6, GONE, 32.0), (7, GONE, 60.0), (5000, GONE, 60.0), (1, CANDIDATE, 1.0),
    ],
)  # fmt: skip
def test_the_wait_doubles_up_to_a_minute(failures: int, reason: int, seconds: float) -> None:
    assert backoff_seconds(failures, reason) == seconds


def test_a_broken_link_is_dialled_four_times_within_a_second() -> None:
    desk = Desk()
    desk.dials.add(contact(1), BROKEN, 0.0)
    times = []
    for _ in range(4):
        (dialled,) = desk.run(desk.deadlines.next_at() or 0.0)
        times.append(dialled[0])
        assert desk.dials.fail("10.0.0.1", 7400, desk.now) == [contact(1)]
    assert times == [0.0, 0.25, 0.5, 1.0]
    assert 1.5 <= (desk.deadlines.next_at() or 0.0) <= 2.0


def test_no_more_dials_are_under_way_than_the_limit_and_the_next_one_waits_for_an_outcome() -> None:
    desk = Desk(most_at_once=2)
    for number in (1, 2, 3):
        desk.dials.add(contact(number), CANDIDATE, 0.0)
    assert desk.run(0.0) == [(0.0, 1), (0.0, 2)]
    desk.dials.forget(contact(1).node, 0.5)
    assert desk.run(0.6)[-1] == (0.0, 3)


def test_no_more_dials_begin_in_a_second_than_the_limit() -> None:
    desk = Desk(most_at_once=1000, most_per_second=5.0)
    for number in range(1, 21):
        desk.dials.add(contact(number), GONE, 0.0)
    assert len(desk.run(0.0)) == 5
    assert len(desk.run(1.05)) == 5
    assert len(desk.run(3.1)) == 10


def test_a_broken_link_does_not_wait_for_the_others() -> None:
    desk = Desk(most_at_once=1, most_per_second=1.0)
    for number in (1, 2, 3):
        desk.dials.add(contact(number), GONE, 0.0)
    desk.run(0.0)
    desk.dials.add(contact(9), BROKEN, 0.0)
    assert desk.run(0.01) == [(0.0, 9)]


def test_a_dial_of_which_nothing_is_heard_is_lost_after_ten_seconds() -> None:
    desk = Desk()
    desk.dials.add(contact(1), GONE, 0.0)
    desk.run(9.99)
    assert desk.lost == []
    desk.run(10.0)
    assert desk.lost == [1]
    (again,) = desk.run(11.01)
    assert 10.5 <= again[0] <= 11.0


def test_a_failure_counts_for_the_dial_that_is_under_way_only() -> None:
    desk = Desk()
    desk.dials.add(contact(1), GONE, 0.0, after=1.0)
    desk.dials.add(contact(2, "10.0.0.1"), GONE, 0.0)
    desk.run(0.5)
    assert desk.dials.fail("10.0.0.1", 7400, 0.5) == [contact(2, "10.0.0.1")]
    assert desk.dials.fail("10.0.0.1", 7400, 0.5) == []
    assert desk.dials.fail("10.9.9.9", 7400, 0.5) == []


def test_one_that_waits_goes_on_with_its_new_reason_and_a_broken_link_starts_it_again() -> None:
    desk = Desk()
    desk.dials.add(contact(1), GONE, 0.0, after=30.0)
    desk.dials.add(contact(1), CANDIDATE, 1.0)
    assert desk.run(5.0) == []
    assert len(desk.dials) == 1
    desk.dials.add(contact(1), BROKEN, 5.0)
    assert desk.run(5.0) == [(5.0, 1)]


def test_one_that_moved_is_dialled_at_its_new_address_at_once() -> None:
    desk = Desk()
    desk.dials.add(contact(1), GONE, 0.0, after=30.0)
    desk.dials.add(contact(1, "10.0.0.77"), GONE, 1.0)
    assert desk.run(1.0) == [(1.0, 1)]
    found = desk.dials.get(contact(1).node)
    assert found is not None
    assert found.contact.host == "10.0.0.77"
    assert desk.dials.fail("10.0.0.1", 7400, 1.0) == []


def test_one_that_is_forgotten_while_it_waits_its_turn_is_not_dialled() -> None:
    desk = Desk(most_at_once=1)
    desk.dials.add(contact(1), GONE, 0.0)
    desk.dials.add(contact(2), GONE, 0.0)
    desk.run(0.0)
    desk.dials.forget(contact(2).node, 0.1)
    desk.dials.forget(contact(1).node, 0.1)
    assert contact(1).node not in desk.dials
    assert desk.run(60.0) == []
    assert len(desk.deadlines) == 0


def test_stopped_dials_leave_no_timer() -> None:
    desk = Desk(most_per_second=1.0)
    for number in range(1, 5):
        desk.dials.add(contact(number), GONE, 0.0, after=float(number // 2))
    desk.run(1.0)
    desk.dials.stop()
    assert len(desk.deadlines) == 0
    assert len(desk.dials) == 0
