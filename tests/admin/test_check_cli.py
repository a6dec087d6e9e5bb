"""`sipfarm check`: what it says of a configuration alone. What it says of a machine is in tests/test_preflight.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.admin.check_cli import find_nothing
from farm.config import load
from tests.admin.test_cli import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_drop_ins_and_the_environment_are_part_of_what_is_checked(terminal: Terminal) -> None:
    folder = terminal.path.parent / "conf.d"
    folder.mkdir()
    (folder / "10-log.toml").write_text('[log]\nlevle = "debug"\n')
    assert terminal.type("check") == 1
    assert terminal.err.startswith(f"sipfarm: {folder}/10-log.toml:2: log.levle: unknown key")
    (folder / "10-log.toml").write_text('[log]\nlevel = "debug"\n')
    terminal.environ["SIPFARM__LIMITS__BURST"] = "many"
    assert terminal.type("check", "--json") == 1
    assert "environment variable SIPFARM__LIMITS__BURST" in json.loads(terminal.out)["error"]
    terminal.environ["SIPFARM__LIMITS__BURST"] = "7"
    assert terminal.type("check", "--json") == 0
    config = json.loads(terminal.out)["config"]
    assert (config["log"]["level"], config["limits"]["burst"]) == ("debug", 7)


def test_the_node_that_runs_under_another_name_is_not_this_one(terminal: Terminal) -> None:
    terminal.path.write_text(terminal.path.read_text().replace('name = "n1"', 'name = "n2"'))
    assert terminal.type("check") == 0
    assert terminal.looks.pop()["is_running"] is False


def test_a_node_that_does_not_answer_at_once_is_not_waited_for(terminal: Terminal) -> None:
    assert terminal.type("check") == 0
    assert terminal.looks.pop()["is_running"] is True
    assert terminal.patience.pop() == 2.0
    assert terminal.type("status") == 0
    assert terminal.patience.pop() == 60.0


def test_a_console_that_was_given_nothing_to_look_with_finds_nothing(terminal: Terminal) -> None:
    assert list(find_nothing(load(str(terminal.path)), 0.0)) == []
