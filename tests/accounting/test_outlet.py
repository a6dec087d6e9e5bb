"""What waits for a place: in order, not for ever, and counted."""

from __future__ import annotations

import pytest

from farm.accounting import outlet
from farm.accounting.outlet import RETRY_SECONDS, Outlet
from farm.metrics import Metrics
from tests.support.counts import read


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def file(metrics: Metrics) -> Outlet:
    return Outlet(metrics, "file")


def count(metrics: Metrics, result: str) -> float:
    return read(metrics.accounting_records.child("file", result))


def test_lines_go_in_batches_in_their_order(metrics: Metrics, file: Outlet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "MOST_BATCH", 2)
    for line in (b"1", b"2", b"3"):
        file.put(line)
    assert file.take(0.0) == [b"1", b"2"]
    file.put(b"4")
    assert file.take(0.0) == []  # one batch at a time
    assert not file.finish()
    assert file.take(0.0) == [b"3", b"4"]
    file.finish()
    assert file.take(0.0) == []
    assert count(metrics, "written") == 4


def test_what_failed_is_tried_again_after_a_while_and_the_problem_is_shown_until_it_went(
    metrics: Metrics, file: Outlet
) -> None:
    file.put(b"1")
    file.take(0.0)
    assert file.fail("full", 10.0)
    assert file.problem == "full"
    assert file.take(10.0 + RETRY_SECONDS - 0.1) == []
    assert file.take(10.0, hurry=True) == [b"1"]
    assert not file.fail("still full", 10.0)
    assert file.take(10.0 + RETRY_SECONDS) == [b"1"]
    assert file.finish()
    assert (file.problem, len(file), count(metrics, "written")) == ("", 0, 1)
    file.put(b"2")
    assert file.take(10.0 + RETRY_SECONDS) == [b"2"]


def test_there_is_room_for_so_many_and_what_is_dropped_is_counted(
    metrics: Metrics, file: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "MOST_LINES", 2)
    for line in (b"1", b"2", b"3"):
        file.put(line)
    assert (len(file), count(metrics, "dropped")) == (2, 1)
    assert file.take(0.0) == [b"1", b"2"]
    assert file.give_up() == 2
    assert (len(file), count(metrics, "dropped"), count(metrics, "written")) == (0, 3, 0)
