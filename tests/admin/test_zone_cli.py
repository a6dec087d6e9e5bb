"""`sipfarm zone`: what an operator who resolves elsewhere copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.admin.test_cli import Terminal

NAME = "sip.example.com."
SOA = "ns.sip.example.com. hostmaster.sip.example.com. 7 60 15 86400 10"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.node.records = [
        {"name": NAME, "ttl": 10, "class": "IN", "type": "SOA", "data": SOA},
        {"name": NAME, "ttl": 10, "class": "IN", "type": "A", "data": "192.0.2.1"},
    ]
    return terminal


def test_the_records_are_lines_of_a_master_file(terminal: Terminal) -> None:
    assert terminal.type("zone") == 0
    assert terminal.out.splitlines() == [f"{NAME} 10 IN SOA {SOA}", f"{NAME} 10 IN A 192.0.2.1"]


def test_where_no_node_answers_the_operator_is_told_what_to_replace(terminal: Terminal) -> None:
    terminal.node.answers = False
    assert terminal.type("zone") == 0
    first, *rest = terminal.out.splitlines()
    assert first.startswith("; no node answers for this zone")
    assert len(rest) == 2


def test_json_has_all_of_it(terminal: Terminal) -> None:
    assert terminal.type("zone", "--json") == 0
    answer = json.loads(terminal.out)
    assert (answer["zone"], answer["serial"], answer["served"], answer["nodes"]) == (NAME, 7, True, 1)
    assert [record["type"] for record in answer["records"]] == ["SOA", "A"]


def test_a_zone_of_nothing_is_a_failure(terminal: Terminal) -> None:
    terminal.node.records = []
    assert terminal.type("zone") == 1
