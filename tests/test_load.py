"""The load of a process as others hear of it: in steps, and only when it has changed."""

from __future__ import annotations

from farm.load import STEP, Load


def test_a_quiet_process_says_nothing() -> None:
    load = Load()
    assert [load.look(0.02 * look, 10.0 * look) for look in range(5)] == [False] * 5
    assert load.said == 0


def test_a_load_that_stays_is_said_once_it_is_known_and_then_no_more() -> None:
    load = Load()
    said = [load.said for look in range(10) if load.look(6.0 * look, 10.0 * look)]
    assert said == [30, 40, 50]
    assert load.said == 50


def test_it_goes_down_again() -> None:
    load = Load()
    for look in range(10):
        load.look(10.0 * look, 10.0 * look)
    assert load.said >= 90
    for look in range(10, 30):
        load.look(90.0, 10.0 * look)
    assert load.said <= STEP


def test_more_than_all_there_is_counts_as_all_and_less_than_nothing_as_nothing() -> None:
    load = Load()
    load.look(0.0, 0.0)
    load.look(50.0, 10.0)
    assert load.said == 50
    load.look(0.0, 20.0)
    assert load.said in (20, 30)
    assert not load.look(0.0, 20.0)
