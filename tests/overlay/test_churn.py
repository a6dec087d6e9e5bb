"""How often the table is refreshed."""

from __future__ import annotations

import random
from math import log2

import pytest

from farm.overlay.churn import Churn


def steady(contacts: int, mean_session: float, seconds: float, seed: int = 1) -> Churn:
    """Departures of a table whose contacts stay so long in the mean."""
    rng = random.Random(seed)
    churn = Churn(0.0)
    now = 0.0
    while (now := now + rng.expovariate(contacts / mean_session)) < seconds:
        churn.receive_departure(now)
    return churn


@pytest.mark.parametrize("mean_session", [519.0, 5194.0, 86_400.0])
def test_the_rate_of_failures_is_estimated_from_the_last_quarter_of_a_table(mean_session: float) -> None:
    rates = [
        steady(400, mean_session, mean_session, seed).failure_rate(400, mean_session) * mean_session
        for seed in range(20)
    ]
    assert 0.9 < sum(rates) / 20 < 1.1
    assert all(0.7 < rate < 1.4 for rate in rates)


def test_a_short_history_counts_a_failure_at_this_moment() -> None:
    churn = Churn(0.0)
    assert churn.failure_rate(100, 1000.0) == pytest.approx(1 / (100 * 1000.0))
    churn.receive_departure(400.0)
    assert churn.failure_rate(100, 1000.0) == pytest.approx(2 / (100 * 1000.0))
    assert churn.failure_rate(0, 1000.0) == 0.0


def test_a_lasting_quiet_brings_the_rate_down() -> None:
    churn = steady(100, 500.0, 2000.0)
    busy = churn.failure_rate(100, 2000.0)
    assert churn.failure_rate(100, 4000.0) < busy / 3
    assert churn.failure_rate(100, 2000.0) == busy


def test_a_large_farm_that_churns_is_refreshed_about_twice_a_minute() -> None:
    """1000 nodes with a median session of an hour: 1/(2U) = 2597 s, over log² 1000 = 99."""
    mean = 3600.0 / 0.6931
    churn = steady(400, mean, 20_000.0)
    assert 20.0 < churn.interval(1000, [1e6] * 400, 20_000.0) < 34.0


def test_a_storm_shows_as_soon_as_a_quarter_of_the_table_has_gone() -> None:
    churn = steady(100, 5000.0, 50_000.0)
    for number in range(26):
        churn.receive_departure(60_000.0 + number)
    assert churn.failure_rate(100, 60_025.0) == pytest.approx(1.0 / 100)


def test_joins_alone_make_it_refresh_more_often_too() -> None:
    churn = Churn(0.0)
    uptimes = [float(age) for age in range(1000, 8000, 100)]
    assert churn.interval(1000, uptimes, 1e7) == pytest.approx(uptimes[35] / log2(1000) ** 2)


def test_the_interval_stays_between_15_seconds_and_10_minutes() -> None:
    churn = Churn(0.0)
    assert churn.interval(30, [1e6] * 29, 1e6) == 600.0
    assert churn.interval(1000, [10.0] * 999, 1e6) == 15.0
    assert churn.interval(1, [], 1e6) == 15.0
    assert churn.interval(30, [0.0] * 29, 0.0) == 15.0


def test_a_node_that_has_just_started_calms_down_as_it_uptimes() -> None:
    churn = Churn(0.0)
    intervals = [churn.interval(30, [now] * 29, now) for now in (10.0, 1000.0, 5000.0, 50_000.0)]
    assert intervals[0] == 15.0
    assert intervals == sorted(intervals)
    assert intervals[-1] == 600.0


def test_the_history_is_bounded() -> None:
    churn = Churn(0.0)
    for number in range(10_000):
        churn.receive_departure(float(number))
    assert churn.failure_rate(10_000, 10_000.0) == pytest.approx(1 / 10_000, rel=0.01)
