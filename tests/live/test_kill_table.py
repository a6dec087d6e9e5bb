"""A node is killed during a call, one case of each sort; `python -m tests.support.kill_table` tries them all."""

from __future__ import annotations

from tests.support.kill_table import Case, run_cases, write_table

CASES = [
    Case("callee's", "ringing", "UDP", "TCP"),
    Case("callee's", "mid-call", "UDP", "UDP, NAT"),
    Case("transaction's", "ringing", "UDP", "UDP"),
    Case("transaction's", "before it rings", "UDP", "TCP"),
    Case("caller's", "mid-call", "TCP", "TCP"),
]


def test_calls_survive_the_death_of_a_node_or_end_at_once_and_can_be_made_again() -> None:
    outcomes = run_cases(CASES, print)
    table = write_table(outcomes)
    print(table)
    assert not [outcome for outcome in outcomes if outcome.failed], table
    assert [outcome.call for outcome in outcomes] == ["refused", "goes on", "completes", "completes", "goes on"]
