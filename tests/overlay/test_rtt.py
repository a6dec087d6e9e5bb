"""What is known of a node's round trip, and how patient that makes us."""

from __future__ import annotations

import random

import pytest

from farm.overlay.rtt import FIRST_PATIENCE, LEAST_PATIENCE, MOST_PATIENCE, Rtt


def test_a_node_that_was_never_timed_gets_half_a_second() -> None:
    rtt = Rtt()
    assert (rtt.patience, rtt.hedge_after, rtt.samples) == (FIRST_PATIENCE, LEAST_PATIENCE, 0)


def test_mean_and_deviation_are_those_of_rfc_6298() -> None:
    rtt = Rtt()
    rtt.note(0.1)
    assert (rtt.srtt, rtt.rttvar) == (0.1, 0.05)
    rtt.note(0.2)
    assert rtt.rttvar == pytest.approx(0.75 * 0.05 + 0.25 * 0.1)
    assert rtt.srtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.2)
    assert rtt.patience == pytest.approx(rtt.srtt + 4 * rtt.rttvar)


def test_patience_is_never_below_50_ms_nor_above_a_second() -> None:
    near, far = Rtt(), Rtt()
    near.note(0.0002)
    far.note(3.0)
    assert (near.patience, far.patience) == (LEAST_PATIENCE, MOST_PATIENCE)


def test_each_answer_that_did_not_come_doubles_the_patience_until_one_comes() -> None:
    rtt = Rtt()
    rtt.note(0.03)
    before = rtt.patience
    rtt.note_timeout()
    rtt.note_timeout()
    assert rtt.patience == pytest.approx(4 * before)
    for _ in range(100):
        rtt.note_timeout()
    assert rtt.patience == MOST_PATIENCE
    rtt.note(0.03)
    assert rtt.backoff == 1.0


@pytest.mark.parametrize("scale", [0.0005, 0.02, 0.3])
def test_about_one_answer_in_twenty_is_slower_than_the_95th_percentile(scale: float) -> None:
    rng = random.Random(7)
    rtt = Rtt()
    slower = 0
    for turn in range(6000):
        seconds = rng.expovariate(1 / scale)
        slower += turn >= 1000 and seconds > rtt.p95
        rtt.note(seconds)
    assert 0.03 < slower / 5000 < 0.08


def test_a_hedge_waits_for_two_milliseconds_at_least_and_never_longer_than_the_patience() -> None:
    near, far = Rtt(), Rtt()
    near.note(0.0001)
    far.note(0.9)
    assert (near.hedge_after, far.hedge_after) == (0.002, MOST_PATIENCE)
