"""`sipfarm keys`: the keys that what we write into messages is sealed with, by number and age.

Nobody is shown a key: what opens tokens is the nodes' business alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final, Protocol

from farm.admin.control import Answer, Fields
from farm.admin.grammar import add_command
from farm.admin.overlay_cli import make_duration, make_table

_DONE: Final = 0


class Shell(Protocol):
    """The console that a command runs in."""

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `keys` to the commands of the console."""
    keys = commands.add_parser("keys", help="the keys of tokens and nonces: numbers and ages")
    actions = keys.add_subparsers(metavar="ACTION", required=True)
    show = add_command(actions, "show", [shared], "those that open, and the one that seals", "sipfarm keys show")
    show.set_defaults(command=_show)
    rotate = add_command(actions, "rotate", [shared], "make a new one now, before it is due", "sipfarm keys rotate")
    rotate.set_defaults(command=_rotate)


def _show(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("show-keys", {})
    held = answer.get("keys")
    rows = [("key", "made", "state", "opens for")]
    for key in held if isinstance(held, list) else []:
        seals_in = key["seals_in"]
        state = "seals" if key["seals"] else f"seals in {make_duration(seals_in)}" if seals_in > 0 else "opens"
        ends = make_duration(key["ends_in"]) if key["ends_in"] > 0 else "-"
        rows.append((str(key["number"]), f"{make_duration(key['age'])} ago", state, ends))
    lines = make_table(rows) if len(rows) > 1 else []
    if not any(row[2] == "seals" for row in rows):
        lines.append("the farm's own key seals")
    shell.show(answer, lines)
    return _DONE


def _rotate(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("rotate-keys", {})
    seconds = answer["seals_in"]
    assert isinstance(seconds, int)
    shell.show(answer, [f"key {answer['number']} seals in {make_duration(seconds)}, when every node has it"])
    return _DONE
