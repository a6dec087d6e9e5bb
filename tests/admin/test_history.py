"""The ring of the last hour: what it answers for each interval, and how it forgets."""

from __future__ import annotations

import pytest

from farm.admin.history import History, Timed, Totals

INFINITY = float("inf")
BOUNDS = (0.001, 0.01, INFINITY)


def count(calls: float) -> Totals:
    return Totals({"calls": calls})


def time(*counts: float) -> Totals:
    return Totals({}, {"lookup": Timed(BOUNDS, counts)})


def test_an_interval_has_what_was_counted_in_it() -> None:
    history = History()
    history.take(count(100), 0.0)
    assert history.counts("calls") == [], "what was before the first look is nobody's"
    history.take(count(130), 10.0)
    history.take(count(130), 20.0)
    assert history.counts("calls") == [30, 0]
    assert history.per_second("calls") == [3.0, 0.0]


def test_it_holds_as_many_as_it_is_told_to_and_the_oldest_goes_first() -> None:
    history = History(samples=3)
    for number in range(6):
        history.take(count(number * number), number * 10.0)
    assert history.counts("calls") == [5, 7, 9]


def test_a_time_that_was_slept_through_is_a_gap() -> None:
    history = History()
    history.take(count(0), 0.0)
    history.take(count(1), 10.4)
    history.take(count(5), 50.0)
    assert history.counts("calls") == [1, None, None, None, None]
    assert history.per_second("calls")[-1] is None
    history.take(count(6), 60.0)
    assert history.counts("calls")[-1] == 1
    history.take(count(7), 1e6)
    assert history.counts("calls") == [None] * 360, "and no more than there is room for"


def test_a_counter_that_began_anew_does_not_count_backwards() -> None:
    history = History()
    history.take(count(50), 0.0)
    history.take(count(3), 10.0)
    assert history.counts("calls") == [0]
    assert history.rates(count(1), 11.0) == {"calls": 0}


def test_a_rate_is_measured_over_ten_to_twenty_seconds() -> None:
    history = History()
    assert history.rates(count(7), 0.0) == {"calls": 0}
    history.take(count(0), 0.0)
    assert history.rates(count(4), 0.1) == {"calls": 4}, "not 40: one early call is no storm"
    history.take(count(100), 10.0)
    history.take(count(100), 20.0)
    assert history.rates(count(160), 25.0) == {"calls": 4}, "60 in the 15 seconds since the look before the last"


def test_quantiles_are_of_the_interval_alone() -> None:
    history = History()
    history.take(time(1000, 1000, 1000), 0.0)
    history.take(time(1000, 1010, 1010), 10.0)
    history.take(time(1000, 1010, 1010), 20.0)
    assert history.quantiles("lookup", 0.5) == [0.0055, None]
    assert history.quantiles("lookup", 0.99) == [0.00991, None]


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ((10, 10, 10), 0.5, 0.0005),
        ((10, 10, 10), 0.0, 0.0),
        ((5, 10, 10), 0.5, 0.001),
        ((0, 0, 4), 0.5, 0.01),  # above the highest bound, of which no more is known
        ((0, 2, 4), 0.99, 0.01),
        ((0, 0, 0), 0.5, None),
        ((), 0.5, None),
    ],
)
def test_a_quantile_lies_within_its_bucket(counts: tuple[float, ...], share: float, expected: float | None) -> None:
    assert Timed(BOUNDS, counts).quantile(share) == expected


def test_buckets_that_are_others_now_are_not_compared() -> None:
    assert Timed(BOUNDS, (1, 2, 3)).since(Timed((1.0,), (9,))) == Timed(BOUNDS, (1, 2, 3))
