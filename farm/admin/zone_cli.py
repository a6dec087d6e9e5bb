"""The console's command about the farm's zone: `zone` prints the records as a running node serves them.

As a master file (RFC 1035 §5) they are for who resolves the farm's name elsewhere: as they stand, or included under
SOA and NS records of his own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from farm.admin.control import Answer, Fields
from farm.admin.grammar import add_command

_DONE: Final = 0
_FAILED: Final = 1
_COLUMNS: Final = ("name", "ttl", "class", "type", "data")


class Shell(Protocol):
    """The console that a command runs in."""

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""


Command = Callable[[Any, argparse.Namespace], int]


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add it to the commands of the console."""
    zone = add_command(
        commands, "zone", [shared], "the DNS records that lead to the farm, as a master file", "sipfarm zone"
    )
    zone.set_defaults(command=_zone)


def _zone(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("zone", {})
    records = answer["records"]
    assert isinstance(records, list)
    lines = [" ".join(str(record[column]) for column in _COLUMNS) for record in records]
    if not answer["served"]:
        lines.insert(0, "; no node answers for this zone (dns.listen): put SOA and NS records of your own in its place")
    shell.show(answer, lines)
    return _DONE if records else _FAILED
