"""Awareness: a node that is slow or was stopped says so to itself first."""

from __future__ import annotations

from farm.overlay.awareness import MOST_SCORE, Awareness


def test_a_healthy_node_keeps_its_periods() -> None:
    awareness = Awareness(1.0)
    awareness.improve()
    assert awareness.factor == 1


def test_each_fault_of_our_own_lengthens_them_up_to_eight_times() -> None:
    awareness = Awareness(1.0)
    awareness.worsen()
    assert awareness.factor == 2
    awareness.worsen(3)
    assert awareness.factor == 5
    awareness.worsen(99)
    assert (awareness.score, awareness.factor) == (MOST_SCORE, 8)
    awareness.improve()
    assert awareness.factor == 7


def test_a_timer_that_is_late_by_more_than_the_tolerance_means_that_we_were_stopped() -> None:
    awareness = Awareness(1.0)
    assert awareness.lateness(1e9) == 0.0  # nothing was expected
    awareness.expect(10.0)
    assert awareness.lateness(9.0) == 0.0
    assert awareness.lateness(11.0) == 0.0
    assert awareness.lateness(40.0) == 30.0


def test_it_is_said_once() -> None:
    awareness = Awareness(1.0)
    awareness.expect(10.0)
    assert awareness.lateness(40.0) == 30.0
    assert awareness.lateness(40.5) == 0.0
    assert awareness.lateness(42.0) == 2.0
    awareness.expect(43.0)
    assert awareness.lateness(43.5) == 0.0
