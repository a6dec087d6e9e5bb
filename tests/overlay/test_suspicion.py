"""Suspicion: how long a suspect has, by formula and by the clock."""

from __future__ import annotations

import pytest

from farm.deadlines import Deadlines
from farm.overlay.suspicion import Suspects, shortest_seconds, suspicion_seconds

BOB, CAROL, DAVE, ERIN, FRANK = (bytes([number]) * 32 for number in range(2, 7))


@pytest.mark.parametrize(("nodes", "seconds"), [(0, 3.0), (3, 3.0), (100, 3.0), (1000, 4.5), (10_000, 6.0)])
def test_the_shortest_time_grows_with_the_logarithm_of_the_nodes(nodes: int, seconds: float) -> None:
    assert shortest_seconds(nodes, 1.0) == pytest.approx(seconds)
    assert shortest_seconds(nodes, 0.5) == pytest.approx(seconds / 2)


@pytest.mark.parametrize(
    ("confirmations", "needed", "seconds"),
    [(0, 3, 18.0), (1, 3, 10.5), (2, 3, 6.113), (3, 3, 3.0), (9, 3, 3.0), (0, 0, 3.0), (0, 1, 18.0), (1, 1, 3.0)],
)
def test_each_confirmation_takes_less_than_the_one_before(confirmations: int, needed: int, seconds: float) -> None:
    assert suspicion_seconds(confirmations, needed, 3.0) == pytest.approx(seconds, abs=0.001)


class Desk:
    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.expired: list[tuple[bytes, float]] = []
        self.checked: list[float] = []
        self.suspects = Suspects(self.deadlines, 1.0, self.checked.append, self.expire)

    def expire(self, node: bytes, now: float) -> None:
        self.expired.append((node, now))
        self.suspects.end(node)


def test_a_suspect_that_nobody_confirms_has_the_longest_time() -> None:
    desk = Desk()
    desk.suspects.begin(BOB, 10, 100.0)
    assert BOB in desk.suspects
    assert desk.suspects.ends_at(BOB) == 118.0
    desk.deadlines.run_due(117.9)
    assert desk.expired == []
    desk.deadlines.run_due(118.0)
    assert desk.expired == [(BOB, 118.0)]
    assert desk.checked == [118.0]
    assert desk.suspects.ends_at(BOB) is None


def test_three_different_nodes_confirm_and_no_more_are_kept() -> None:
    desk = Desk()
    desk.suspects.begin(BOB, 10, 100.0)
    desk.suspects.confirm(BOB, {CAROL})
    desk.suspects.confirm(BOB, {CAROL})
    assert desk.suspects.ends_at(BOB) == pytest.approx(110.5)
    desk.suspects.confirm(BOB, {CAROL, DAVE, ERIN, FRANK})
    assert desk.suspects.ends_at(BOB) == 103.0
    desk.deadlines.run_due(103.0)
    assert desk.expired == [(BOB, 103.0)]


def test_a_confirmation_that_comes_after_the_shortened_time_ends_it_at_once() -> None:
    desk = Desk()
    desk.suspects.begin(BOB, 10, 100.0)
    desk.suspects.confirm(BOB, {CAROL, DAVE, ERIN})
    desk.suspects.begin(CAROL, 10, 100.0)
    desk.deadlines.run_due(109.0)
    desk.suspects.confirm(CAROL, {DAVE, ERIN, FRANK})
    desk.deadlines.run_due(109.1)
    assert desk.expired == [(BOB, 109.0), (CAROL, 109.1)]


def test_of_two_nodes_there_is_nobody_to_confirm() -> None:
    desk = Desk()
    desk.suspects.begin(BOB, 2, 100.0)
    assert desk.suspects.ends_at(BOB) == 103.0


def test_one_that_refutes_and_is_suspected_again_has_all_its_time_again() -> None:
    desk = Desk()
    desk.suspects.begin(BOB, 10, 100.0)
    desk.suspects.confirm(BOB, {CAROL, DAVE, ERIN})
    desk.suspects.begin(BOB, 10, 102.0)
    assert desk.suspects.ends_at(BOB) == 120.0
    assert len(desk.deadlines) == 1


def test_time_in_which_we_were_stopped_is_given_back() -> None:
    desk = Desk()
    desk.suspects.begin(BOB, 10, 100.0)
    desk.suspects.delay(30.0)
    desk.deadlines.run_due(147.9)
    assert desk.expired == []
    desk.deadlines.run_due(148.0)
    assert desk.expired == [(BOB, 148.0)]


def test_it_is_given_back_also_when_the_suspect_s_own_timer_is_the_first_to_run() -> None:
    deadlines = Deadlines()
    expired: list[bytes] = []
    suspects: list[Suspects] = []
    suspects.append(
        Suspects(deadlines, 1.0, lambda now: suspects[0].delay(30.0), lambda node, now: expired.append(node))
    )
    suspects[0].begin(BOB, 2, 100.0)
    deadlines.run_due(131.0)
    assert expired == []
    assert suspects[0].ends_at(BOB) == 133.0


def test_who_is_no_suspect_cannot_be_confirmed() -> None:
    desk = Desk()
    desk.suspects.confirm(BOB, {CAROL})
    desk.suspects.begin(BOB, 10, 1.0)
    desk.suspects.stop()
    assert len(desk.deadlines) == 0
    assert BOB not in desk.suspects
