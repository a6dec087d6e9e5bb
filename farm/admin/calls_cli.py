"""The console's command about calls: `calls` says how many a running node has, and with `--limit` which.

They are those whose INVITE this node took; the others' are asked for there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from farm.admin.control import Answer, Fields
from farm.admin.grammar import add_command

_DONE: Final = 0


class Shell(Protocol):
    """The console that a command runs in."""

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""


Command = Callable[[Any, argparse.Namespace], int]


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add it to the commands of the console."""
    calls = add_command(
        commands, "calls", [shared], "how many calls the node has now, and which", "sipfarm calls --limit 20"
    )
    calls.add_argument("--limit", type=int, default=0, metavar="N", help="list the N longest (at most 1000)")
    calls.set_defaults(command=_calls)


def _calls(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("calls", {"limit": max(options.limit, 0)})
    lines = [f"{answer['ringing']} ringing, {answer['answered']} answered"]
    rows = answer["calls"]
    assert isinstance(rows, list)
    for row in rows:
        callee = f"{row['dst_ouser']}@{row['dst_domain']}" if row["dst_domain"] else row["dst_ouser"]
        length = int(row["answered"])
        clock = f"{length // 3600}:{length // 60 % 60:02}:{length % 60:02}"
        lines.append(f"{clock:>9}  {row['src_user']}@{row['src_domain']} > {callee}  {row['callid']}")
    shell.show(answer, lines)
    return _DONE
