"""The budget: what repair may move in a second."""

from __future__ import annotations

from farm.overlay.budget import Budget


def test_a_fifth_of_a_second_may_go_at_once_and_the_next_waits_for_the_debt() -> None:
    budget = Budget(1000.0)
    assert budget.ready_at(0.0) == 0.0
    budget.pay(200, 0.0)
    assert budget.ready_at(0.0) == 0.0
    budget.pay(500, 0.0)
    assert budget.ready_at(0.0) == 0.5
    assert budget.ready_at(0.3) == 0.5
    assert budget.ready_at(0.6) == 0.6


def test_what_is_not_used_is_not_saved_up() -> None:
    budget = Budget(1000.0)
    budget.pay(0, 100.0)
    budget.pay(300, 100.0)
    assert budget.ready_at(100.0) == 100.1


def test_others_wait_when_the_debt_is_deep() -> None:
    budget = Budget(1000.0)
    budget.pay(1200, 0.0)
    assert not budget.is_deep(0.0)
    budget.pay(1, 0.0)
    assert budget.is_deep(0.0)
    assert not budget.is_deep(0.1)


def test_another_rate_holds_from_then_on() -> None:
    budget = Budget(100.0)
    budget.pay(1020, 0.0)
    assert budget.ready_at(0.0) == 10.0
    budget.change(1000.0)
    assert budget.ready_at(0.0) == 1.0
