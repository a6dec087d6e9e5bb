"""The hybrid logical clock: stamps only grow, and a wrong clock elsewhere does not spread."""

from __future__ import annotations

from farm.overlay.clock import HybridClock, make_stamp, stamp_seconds


def test_a_stamp_reads_as_the_wall_clock() -> None:
    clock = HybridClock(7)
    stamp = clock.tick(1_700_000_000.25)
    assert stamp_seconds(stamp) == 1_700_000_000.25
    assert stamp < 2**63
    assert clock.node == 7


def test_stamps_within_a_millisecond_count_on() -> None:
    clock = HybridClock()
    assert [clock.tick(1.0), clock.tick(1.0), clock.tick(1.001)] == [
        make_stamp(1.0),
        make_stamp(1.0, 1),
        make_stamp(1.001),
    ]


def test_a_wall_clock_that_is_set_back_does_not_make_older_stamps() -> None:
    clock = HybridClock()
    before = clock.tick(1000.0)
    assert clock.tick(10.0) == before + 1


def test_a_full_counter_runs_into_the_next_millisecond() -> None:
    clock = HybridClock()
    clock.resume(make_stamp(1.0, 0xFFFF))
    assert clock.tick(1.0) == make_stamp(1.001)


def test_what_is_made_after_an_observed_stamp_outranks_it() -> None:
    clock = HybridClock()
    assert clock.observe(make_stamp(104.0, 9), 100.0)
    assert clock.tick(100.0) == make_stamp(104.0, 10)
    assert clock.observe(make_stamp(50.0), 100.0)
    assert clock.tick(100.0) == make_stamp(104.0, 11)


def test_a_stamp_more_than_five_seconds_ahead_is_refused_and_forgotten() -> None:
    clock = HybridClock()
    assert clock.observe(make_stamp(105.0), 100.0)
    assert not clock.observe(make_stamp(105.001), 100.0)
    assert clock.last == make_stamp(105.0)


def test_our_own_journal_is_believed_however_far_ahead() -> None:
    clock = HybridClock()
    clock.resume(make_stamp(9000.0))
    clock.resume(make_stamp(8000.0))
    assert clock.tick(100.0) == make_stamp(9000.0, 1)
