"""`sipfarm keys`: what operators see of the keys, which is never a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.admin.control import Answer
from tests.admin.test_cli import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def make_row(number: int, age: int, seals_in: int, ends_in: int, *, seals: bool = False) -> Answer:
    return {"number": number, "age": age, "seals_in": seals_in, "ends_in": ends_in, "seals": seals}


def test_keys_are_a_table_of_numbers_and_ages(terminal: Terminal) -> None:
    terminal.node.key_rows = [
        make_row(2, 90_000, -89_400, 700_000, seals=True),
        make_row(3, 120, 480, 800_000),
        make_row(1, 180_000, -179_400, -5),
    ]
    assert terminal.type("keys", "show") == 0
    assert terminal.out.splitlines() == [
        "key  made       state           opens for",
        "2    25 h ago   seals           8 d",
        "3    2 min ago  seals in 8 min  9 d",
        "1    2 d ago    opens           -",
    ]
    assert terminal.type("keys", "show", "--json") == 0
    assert json.loads(terminal.out)["keys"][0]["number"] == 2


def test_a_farm_that_has_just_begun_seals_with_its_own_key(terminal: Terminal) -> None:
    assert terminal.type("keys", "show") == 0
    assert terminal.out.splitlines() == ["the farm's own key seals"]
    terminal.node.key_rows = [make_row(1, 60, 540, 800_000)]
    terminal.type("keys", "show")
    assert terminal.out.splitlines()[1:] == [
        "1    60 s ago  seals in 9 min  9 d",
        "the farm's own key seals",
    ]


def test_a_rotation_says_when_the_new_key_is_used(terminal: Terminal) -> None:
    assert terminal.type("keys", "rotate") == 0
    assert terminal.out.splitlines() == ["key 7 seals in 10 min, when every node has it"]
    terminal.node.full_of_keys = True
    assert terminal.type("keys", "rotate") == 1
    assert "too many keys" in terminal.err
