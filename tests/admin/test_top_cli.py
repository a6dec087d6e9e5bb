"""`sipfarm top`: once, again and again, and how it ends."""

from __future__ import annotations

import io
import json
import os
import pty
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from farm.admin.cli import Console
from farm.admin.client import NotRunning
from farm.admin.control import Answer, Fields
from tests.admin.test_cli import Terminal
from tests.support.overviews import make_overview


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_without_a_terminal_one_picture_is_printed(terminal: Terminal) -> None:
    assert terminal.type("top") == 0
    assert terminal.out.startswith("farm.example.com, seen by n1 · ")
    assert "\x1b" not in terminal.out
    assert terminal.orders == ["overview"]
    assert terminal.type("top", "--once") == 0
    assert terminal.orders == ["overview"] * 2


def test_as_json_it_is_the_overview(terminal: Terminal) -> None:
    assert terminal.type("top", "--json") == 0
    assert json.loads(terminal.out) == make_overview()


def test_one_picture_of_a_node_that_does_not_run_is_exit_1(terminal: Terminal) -> None:
    terminal.running = False
    assert terminal.type("top", "--once") == 1
    assert terminal.err == "sipfarm: no node is running at control.sock\n"


@pytest.mark.parametrize("interval", ["0", "fast", "4000"])
def test_an_interval_that_makes_no_sense_is_wrong_usage(terminal: Terminal, interval: str) -> None:
    assert terminal.type("top", "--interval", interval) == 2


class Screen:
    """A terminal that somebody sits at: what is drawn is read by a thread, keys go in by `press`."""

    def __init__(self, path: Path) -> None:
        self.shown = b""
        self.path = path
        self.master, self._slave = pty.openpty()
        self.stdin = os.fdopen(self._slave, "r", closefd=False)
        self.stdout = os.fdopen(os.dup(self._slave), "w")
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.before = termios.tcgetattr(self._slave)
        self.asked = 0

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 4096)
            except OSError:
                return
            self.shown += data
            if not data:
                return

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def state(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def close(self) -> str:
        """What was drawn."""
        self.stdin.close()
        self.stdout.close()
        os.close(self._slave)
        self._reading.join()
        os.close(self.master)
        return self.shown.decode()


@pytest.fixture
def screen(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    return Screen(terminal.path)


class Client:
    """A node that stops after its first answer; whoever sits at the screen does `act` at the third question."""

    def __init__(self, screen: Screen, act: Any) -> None:
        self._screen = screen
        self._act = act
        self.asked = 0

    def run(self, order: str, fields: Fields) -> Answer:
        self.asked += 1
        if self.asked > 50:
            raise AssertionError("nothing ends it")
        if self.asked == 3:
            self._act()
        if self.asked > 1:
            raise NotRunning("no node is running at control.sock")
        return make_overview()


def run_at(screen: Screen, act: Any) -> tuple[int, Client]:
    client = Client(screen, act)
    console = Console(
        lambda config: None,  # type: ignore[arg-type,return-value]
        lambda path: client,
        {"SIPFARM_CONFIG": str(screen.path)},
        screen.stdin,
        screen.stdout,
        io.StringIO(),
    )
    return console.run(["top", "--interval", "0.2"]), client


def test_q_ends_it_and_leaves_the_terminal_as_it_was(screen: Screen) -> None:
    code, client = run_at(screen, lambda: screen.press(b"xq"))
    assert code == 0
    assert client.asked >= 3, "a node that has stopped is asked again"
    assert screen.state() == screen.before
    shown = screen.close()
    assert "seen by n1" in shown
    assert "no node is running at control.sock; trying again" in shown
    assert shown.rindex("\x1b[?1049l") > shown.rindex("\x1b[?1049h"), "the screen before is back"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "and the cursor"


def test_ctrl_c_ends_it_as_well(screen: Screen) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    code, _ = run_at(screen, interrupt)
    assert code == 0
    assert screen.state() == screen.before
    assert "\x1b[?1049l" in screen.close()
