"""Breaks: what refused dials show."""

from __future__ import annotations

from farm.overlay.breaks import Breaks

BOB = b"b" * 32


def test_others_are_asked_at_the_first_failure_and_when_the_second_is_over() -> None:
    breaks = Breaks(1.0)
    breaks.begin(BOB, 10.0)
    asked = [breaks.fail(BOB, "refused", at) for at in (10.0, 10.25, 10.5, 11.0, 12.0)]
    assert asked == [True, False, False, True, True]


def test_an_address_that_refused_for_a_second_shows_death() -> None:
    breaks = Breaks(1.0)
    breaks.begin(BOB, 10.0)
    breaks.fail(BOB, "refused", 10.0)
    breaks.fail(BOB, "refused", 10.9)
    assert not breaks.shows_death(BOB, 10.9)
    assert breaks.shows_death(BOB, 11.0)


def test_one_refusal_alone_shows_nothing() -> None:
    breaks = Breaks(1.0)
    breaks.begin(BOB, 10.0)
    breaks.fail(BOB, "refused", 12.0)
    assert not breaks.shows_death(BOB, 12.0)


def test_a_dial_that_timed_out_shows_nothing() -> None:
    breaks = Breaks(1.0)
    breaks.begin(BOB, 10.0)
    for reason in ("refused", "refused", "timeout"):
        breaks.fail(BOB, reason, 12.0)
    assert not breaks.shows_death(BOB, 12.0)


def test_a_link_that_could_not_be_made_counts_from_its_first_failure() -> None:
    breaks = Breaks(1.0)
    assert breaks.fail(BOB, "refused", 10.0)
    assert BOB in breaks
    breaks.fail(BOB, "refused", 10.5)
    assert not breaks.shows_death(BOB, 10.5)
    assert breaks.shows_death(BOB, 11.0)


def test_one_that_others_reach_has_to_be_shown_dead_anew() -> None:
    breaks = Breaks(1.0)
    for at in (10.0, 11.0):
        breaks.fail(BOB, "refused", at)
    breaks.begin(BOB, 11.0)
    assert not breaks.shows_death(BOB, 12.0)
    breaks.end(BOB)
    assert BOB not in breaks
    assert not breaks.shows_death(BOB, 12.0)


def test_time_in_which_we_were_stopped_does_not_count() -> None:
    breaks = Breaks(1.0)
    for at in (10.0, 10.25):
        breaks.fail(BOB, "refused", at)
    breaks.delay(30.0)
    assert not breaks.shows_death(BOB, 40.9)
    assert breaks.shows_death(BOB, 41.0)
