"""The one timer of the process: armed for the earliest deadline, late by no more than its tick, stopped by no fault."""

from __future__ import annotations

from typing import Any

import pytest

from farm.metrics import Metrics
from farm.pump import Pump
from tests.support.counts import read, read_sample
from tests.support.heap_clock import HeapClock

Made = tuple[HeapClock, Pump, Metrics]


class Ran:
    """An action that keeps when it ran and with what."""

    def __init__(self, clock: HeapClock) -> None:
        self.clock = clock
        self.calls: list[tuple[float, Any]] = []

    def __call__(self, argument: Any, now: float) -> None:
        assert now == self.clock.seconds()
        self.calls.append((round(now, 6), argument))


@pytest.fixture
def made() -> Made:
    clock = HeapClock()
    metrics = Metrics()
    return clock, Pump(clock, clock.seconds, metrics), metrics


def test_each_deadline_runs_at_its_time_in_order(made: Made) -> None:
    clock, pump, _ = made
    ran = Ran(clock)
    for at in (3.0, 1.0, 2.0):
        pump.deadlines.add(at, ran, at)
    clock.advance(2.5)
    assert ran.calls == [(1.0, 1.0), (2.0, 2.0)]
    clock.advance(1)
    assert ran.calls[2:] == [(3.0, 3.0)]


def test_one_call_of_the_reactor_serves_all_deadlines(made: Made) -> None:
    clock, pump, _ = made
    ran = Ran(clock)
    for number in range(1000):
        pump.deadlines.add(10 - number / 1000, ran, number)
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(9.5)
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(1)
    assert len(ran.calls) == 1000
    assert clock.getDelayedCalls() == []


def test_an_earlier_deadline_moves_the_call_and_a_later_one_does_not(made: Made) -> None:
    clock, pump, _ = made
    ran = Ran(clock)
    pump.deadlines.add(5.0, ran, "first")
    (call,) = clock.getDelayedCalls()
    pump.deadlines.add(9.0, ran, "later")
    assert call.getTime() == 5.0
    pump.deadlines.add(1.0, ran, "earlier")
    assert call.getTime() == 1.0
    clock.advance(10)
    assert [what for _, what in ran.calls] == ["earlier", "first", "later"]


def test_a_deadline_that_is_over_already_runs_after_a_tick_not_at_once(made: Made) -> None:
    """Whoever adds one is still busy, and the reactor is not woken for every microsecond."""
    clock, pump, _ = made
    ran = Ran(clock)
    clock.advance(100)
    pump.deadlines.add(1.0, ran)
    assert ran.calls == []
    clock.advance(0.01)
    assert ran.calls == [(100.01, None)]


def test_the_reactor_is_woken_twenty_times_a_second_for_what_was_set_long_before(made: Made) -> None:
    clock, pump, _ = made
    ran = Ran(clock)
    for number in range(100):
        clock.advance(0.002)
        pump.deadlines.add_after(32.0, clock.seconds(), ran, number)
    for _ in range(1000):
        clock.advance(0.001)
    assert ran.calls == []
    for _ in range(32_000):
        clock.advance(0.001)
    assert [number for _, number in ran.calls] == list(range(100))
    assert sorted({at for at, _ in ran.calls}) == pytest.approx([32.002, 32.052, 32.102, 32.152, 32.2], abs=0.003)


def test_an_action_may_add_the_next_one(made: Made) -> None:
    clock, pump, _ = made
    times: list[float] = []

    def again(_: object, now: float) -> None:
        times.append(round(now, 3))
        if len(times) < 4:
            pump.deadlines.add(now + 0.5, again)

    pump.deadlines.add(0.5, again)
    clock.advance(10)
    assert times == [0.5, 1.0, 1.5, 2.0]


def test_a_cancelled_deadline_does_not_run(made: Made) -> None:
    clock, pump, _ = made
    ran = Ran(clock)
    pump.deadlines.cancel(pump.deadlines.add(1.0, ran, "cancelled"))
    pump.deadlines.add(2.0, ran, "kept")
    clock.advance(3)
    assert ran.calls == [(2.0, "kept")]


def test_an_action_that_fails_is_counted_and_the_others_still_run(made: Made) -> None:
    clock, pump, metrics = made
    ran = Ran(clock)

    def fail(_: object, now: float) -> None:
        raise RuntimeError("on purpose")

    for _ in range(3):
        pump.deadlines.add(1.0, fail)
        pump.deadlines.add(1.0, ran)
    pump.deadlines.add(5.0, ran)
    clock.advance(2)
    assert len(ran.calls) == 3
    assert read(metrics.unexpected_errors.child("timer")) == 3
    clock.advance(5)
    assert len(ran.calls) == 4


def test_nothing_runs_once_it_is_stopped(made: Made) -> None:
    clock, pump, _ = made
    ran = Ran(clock)
    pump.start()
    pump.deadlines.add(1.0, ran)
    pump.stop()
    pump.deadlines.add(0.5, ran)
    assert clock.getDelayedCalls() == []
    clock.advance(10)
    assert ran.calls == []
    pump.stop()


def test_a_punctual_loop_has_no_lag(made: Made) -> None:
    clock, pump, metrics = made
    pump.start()
    clock.advance(10.2)
    lag = metrics.event_loop_lag.child()
    assert read(lag) == 20
    assert read_sample(lag, "_sum") == pytest.approx(0, abs=1e-9)


def test_a_loop_that_was_held_up_shows_by_how_much(made: Made) -> None:
    clock, _, metrics = made
    late = 0.0
    pump = Pump(clock, lambda: clock.seconds() + late, metrics)
    pump.start()
    late = 0.3  # something else kept the process busy
    clock.advance(0.6)
    lag = metrics.event_loop_lag.child()
    assert read(lag) == 1
    assert read_sample(lag, "_sum") == pytest.approx(0.3)
