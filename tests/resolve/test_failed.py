"""Hops that failed lately are tried last, for a while."""

from __future__ import annotations

from farm.resolve.failed import FailedHops
from farm.sip.hop import Hop

ONE = Hop("UDP", "192.0.2.1", 5060)
TWO = Hop("UDP", "192.0.2.2", 5060)
THREE = Hop("TCP", "192.0.2.1", 5060)


def test_a_failed_hop_comes_last_and_returns_to_its_place_when_its_time_is_over() -> None:
    failed = FailedHops(30.0)
    failed.add(ONE, 100.0)
    assert failed.sort([ONE, TWO, THREE], 129.9) == [TWO, THREE, ONE]
    assert failed.sort([ONE, TWO, THREE], 130.0) == [ONE, TWO, THREE]
    assert len(failed) == 0


def test_a_hop_that_answers_is_forgotten() -> None:
    failed = FailedHops(30.0)
    failed.add(ONE, 100.0)
    failed.remove(ONE)
    failed.remove(TWO)
    assert failed.sort([ONE, TWO], 101.0) == [ONE, TWO]


def test_the_listener_that_was_used_does_not_matter() -> None:
    failed = FailedHops(30.0)
    failed.add(ONE._replace(local="udp:198.51.100.1:5060"), 100.0)
    assert failed.is_failed(ONE, 101.0)


def test_when_all_have_failed_the_order_is_the_old_one() -> None:
    failed = FailedHops(30.0)
    for hop in (TWO, ONE):
        failed.add(hop, 100.0)
    assert failed.sort([ONE, TWO], 101.0) == [ONE, TWO]


def test_failing_again_counts_anew() -> None:
    failed = FailedHops(30.0)
    failed.add(ONE, 100.0)
    failed.add(ONE, 120.0)
    assert failed.is_failed(ONE, 149.0)
    assert len(failed) == 1


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    failed = FailedHops(30.0, limit=100)
    for port in range(1, 1001):
        failed.add(Hop("UDP", "192.0.2.1", port), 100.0)
    assert len(failed) == 100
    assert failed.is_failed(Hop("UDP", "192.0.2.1", 1000), 101.0)
    assert not failed.is_failed(Hop("UDP", "192.0.2.1", 900), 101.0)


def test_zero_seconds_switch_the_memory_off() -> None:
    failed = FailedHops(0.0)
    failed.add(ONE, 100.0)
    assert failed.sort([ONE, TWO], 100.0) == [ONE, TWO]
    assert len(failed) == 0


def test_how_long_a_failure_counts_may_change() -> None:
    failed = FailedHops(0.0)
    hop = Hop("UDP", "192.0.2.1", 5060)
    failed.add(hop, 0.0)
    failed.failed_seconds = 10.0
    assert not failed.is_failed(hop, 0.0)
    failed.add(hop, 0.0)
    assert failed.is_failed(hop, 9.0)
