"""`sipfarm top`: the farm as one node sees it, drawn again every two seconds, until `q` or Ctrl-C.

A node that has stopped is shown as it was last, with a line that says so; it is asked again and again. Where there is
no terminal, and with `--once`, one picture is printed. What is drawn is `top.py`'s.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TextIO

from farm.admin.client import NotRunning
from farm.admin.control import Answer, Fields, OrderError
from farm.admin.grammar import add_command
from farm.admin.top import draw

INTERVAL_SECONDS: Final = 2.0
_WIDTH: Final = 100  # where there is no terminal

_DONE: Final = 0


class Shell(Protocol):
    """The console that the command runs in."""

    stdin: TextIO
    stdout: TextIO
    as_json: bool

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""

    def sleep(self, seconds: float) -> None:
        """Wait so long."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add it to the commands of the console."""
    top = add_command(
        commands, "top", [shared], "the farm as this node sees it, drawn again and again",
        "sipfarm top\nsipfarm top --interval 5\nsipfarm top --once",
        "Members with state, zone and load; registrations and calls; copies that are missing; the last hour. Ends with "
        "q or Ctrl-C. Without a terminal one picture is printed.",
    )  # fmt: skip
    top.add_argument(
        "--interval", type=_interval, default=INTERVAL_SECONDS, metavar="S", help=f"seconds ({INTERVAL_SECONDS:.0f})"
    )
    top.add_argument("--once", action="store_true", help="print one picture")
    top.set_defaults(command=_top)


def _top(shell: Shell, options: argparse.Namespace) -> int:
    if shell.as_json:
        shell.show(shell.order("overview", {}), [])
    elif options.once or not shell.stdout.isatty():
        _print_once(shell)
    else:
        _run(shell, options.interval)
    return _DONE


def _print_once(shell: Shell) -> None:
    from rich.console import Console

    answer = shell.order("overview", {})
    width = shutil.get_terminal_size((_WIDTH, 24)).columns if shell.stdout.isatty() else _WIDTH
    Console(file=shell.stdout, width=width, highlight=False).print(draw(answer, "", width))


def _run(shell: Shell, interval: float) -> None:
    """Draw until somebody ends it; the terminal is as before then."""
    from rich.console import Console
    from rich.live import Live

    screen = Console(file=shell.stdout, highlight=False)
    answer: Answer = {}
    try:
        with _keys_at_once(shell.stdin) as has_keys, Live(console=screen, screen=True, auto_refresh=False) as live:
            while True:
                answer, problem = _ask(shell, answer)
                live.update(draw(answer, problem, screen.width), refresh=True)
                if has_keys:
                    if "q" in _read_keys(shell.stdin, interval):
                        return
                else:
                    shell.sleep(interval)
    except KeyboardInterrupt:
        return


def _ask(shell: Shell, last: Answer) -> tuple[Answer, str]:
    """An overview, the last one where there is no new one, and why."""
    try:
        return shell.order("overview", {}), ""
    except (NotRunning, OrderError) as error:
        return last, str(error)


@contextmanager
def _keys_at_once(stdin: TextIO) -> Iterator[bool]:
    """Within it a key is read when it is pressed; answers whether there is a keyboard."""
    if not stdin.isatty():
        yield False
        return
    descriptor = stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read_keys(stdin: TextIO, seconds: float) -> str:
    """The keys that are pressed until one is, or the time is over. Past the buffer of the stream, which `select` does
    not see."""
    readable, _, _ = select.select([stdin], [], [], seconds)
    if not readable:
        return ""
    return os.read(stdin.fileno(), 64).decode("ascii", "replace") or "q"  # nobody is at the keyboard any more


def _interval(text: str) -> float:
    """An interval as typed."""
    seconds = float(text)
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("0.2 to 3600")
    return seconds
