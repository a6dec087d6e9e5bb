"""`wait`, `drain`, `undrain`: what is shown while it takes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.admin.waiting_cli import describe_join
from tests.admin.test_cli import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_a_node_that_serves_is_not_waited_for(terminal: Terminal) -> None:
    assert terminal.type("wait") == 0
    assert (terminal.out, terminal.err, terminal.slept) == ("n1 serves\n", "", [])


def test_a_start_is_shown_until_the_node_takes_traffic(terminal: Terminal) -> None:
    terminal.node.join()
    terminal.node.overlay |= {"state": "joining", "synchronised": False, "progress": 0.0}
    terminal.node.is_ready = False
    terminal.running = False
    node = terminal.node

    def start() -> None:
        terminal.running = True

    def meet() -> None:
        node.overlay |= {"state": "alive", "progress": 0.25}

    def end() -> None:
        node.is_ready = True

    terminal.steps = [start, meet, lambda: None, end]
    assert terminal.type("wait") == 0
    assert terminal.err == "not running\nlooking for the others\n25% in step with the others\n"
    assert terminal.out == "n1 serves\n"
    assert terminal.slept == [0.5] * 4


def test_a_node_that_is_not_ready_in_time_is_exit_3(terminal: Terminal) -> None:
    terminal.node.is_ready = False
    assert terminal.type("wait", "--timeout", "2", "--json") == 3
    assert json.loads(terminal.out)["ready"] is False
    assert [json.loads(line)["words"] for line in terminal.err.splitlines()] == ["reading what it kept"]
    assert sum(terminal.slept) == 2.0
    terminal.running = False
    assert terminal.type("wait", "--timeout", "0") == 3
    assert terminal.out == "the node does not serve yet: not running\n"


def test_a_drain_is_over_when_nothing_is_left(terminal: Terminal) -> None:
    node = terminal.node
    node.leaving |= {"transactions": 2, "connections": 30, "closing": True, "handed_over": 0.5, "left": False}

    def hand_over() -> None:
        node.leaving |= {"handed_over": 1.0, "left": True, "transactions": 0}

    def close() -> None:
        node.leaving |= {"connections": 1, "closing": False}

    terminal.steps = [hand_over, close]
    assert terminal.type("drain") == 0
    assert node.draining
    assert terminal.err.splitlines() == [
        "2 requests under way, 30 connections, 50% of the records handed over",
        "0 requests under way, 30 connections, 100% of the records handed over",
        "0 requests under way, 1 connections, 100% of the records handed over",
    ]
    assert terminal.out == "drained\n"


@pytest.mark.parametrize("left", [{"transactions": 1}, {"closing": True}, {"left": False}])
def test_a_drain_that_takes_too_long_is_exit_3_and_goes_on(terminal: Terminal, left: dict[str, object]) -> None:
    terminal.node.leaving |= left
    assert terminal.type("drain", "--timeout", "3") == 3
    assert terminal.out.startswith("not drained: ")
    assert sum(terminal.slept) == 3.0
    assert terminal.node.draining


def test_a_drain_that_somebody_takes_back_is_not_waited_for(terminal: Terminal) -> None:
    terminal.node.leaving |= {"left": False}
    terminal.steps = [terminal.node.undrain]
    assert terminal.type("drain") == 3
    assert terminal.out == "not draining any more\n"


def test_nobody_has_to_wait(terminal: Terminal) -> None:
    terminal.node.leaving |= {"left": False}
    assert terminal.type("drain", "--no-wait", "--json") == 0
    assert json.loads(terminal.out) == {"draining": True}
    assert terminal.slept == []
    assert terminal.type("undrain", "--json") == 0
    assert not terminal.node.draining
    assert json.loads(terminal.out) == {"draining": False}
    assert terminal.type("undrain") == 0
    assert terminal.out == "serving\n"


def test_a_time_that_is_none_is_wrong_usage(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.type("wait", "--timeout", "-1") == 2
    assert terminal.type("drain", "--timeout", "soon") == 2
    assert "0 or more" in capsys.readouterr().err


def test_a_node_alone_that_is_drained_is_said_to_be() -> None:
    assert describe_join({"name": "n1", "ready": False, "leaving": {"left": True}}) == (0, "it is being drained")
    assert describe_join({"name": "n1", "ready": False}) == (0, "reading what it kept")
