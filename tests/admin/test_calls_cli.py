"""`sipfarm calls`: how many, and who with whom for those who ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.admin.test_cli import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_how_many_calls_there_are_is_one_line(terminal: Terminal) -> None:
    assert terminal.type("calls") == 0
    assert terminal.out.splitlines() == ["1 ringing, 2 answered"]


def test_the_longest_are_listed_for_who_asks(terminal: Terminal) -> None:
    assert terminal.type("calls", "--limit", "5") == 0
    assert terminal.out.splitlines()[1:] == [
        "  1:02:05  alice@example.com > bob@example.com  c1",
        "  0:00:05  alice@example.com > +4930  c2",
    ]


def test_json_has_all_of_it(terminal: Terminal) -> None:
    assert terminal.type("calls", "--limit", "1", "--json") == 0
    answer = json.loads(terminal.out)
    assert (answer["ringing"], answer["answered"]) == (1, 2)
    assert [call["callid"] for call in answer["calls"]] == ["c1"]
