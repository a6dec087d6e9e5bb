"""The console's commands about the farm as a whole: `members`, `lookup`; and how the overlay's part of `status` and
`locate` reads.

A Node-ID is shown by its first eight digits, which tell nodes of any farm apart; JSON has it whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from farm.admin.control import Answer, Fields
from farm.admin.grammar import add_command

_DONE: Final = 0
_FAILED: Final = 1
_ID_DIGITS: Final = 8


class Shell(Protocol):
    """The console that a command runs in."""

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""


Command = Callable[[Any, argparse.Namespace], int]


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add them to the commands of the console."""
    members = add_command(
        commands, "members", [shared], "the nodes of the farm, as this one sees them", "sipfarm members"
    )
    members.set_defaults(command=_members)
    lookup = add_command(
        commands, "lookup", [shared], "which nodes own a key, and what each of them has",
        "sipfarm lookup bob@example.com\nsipfarm lookup bob@example.com --trace",
    )  # fmt: skip
    lookup.add_argument("key", metavar="KEY", help="an address-of-record, or a Node-ID")
    lookup.add_argument("--trace", action="store_true", help="look it up anew: every call, its time and its answer")
    lookup.set_defaults(command=_lookup)


def describe_overlay(overlay: Answer) -> list[str]:
    """The overlay's part of `sipfarm status`."""
    lines = []
    gone = overlay.get("state") == "left"  # it owns nothing that it could be in step with
    for name, value in overlay.items():
        if name in ("progress", "draining") or (gone and name == "synchronised"):
            continue
        if name == "state" and overlay.get("draining"):
            value = f"{value}, {'drained' if gone else 'draining'}"
        elif name == "synchronised":
            value = "yes" if value else f"no, {_percent(overlay.get('progress'))}"
        elif name == "members" and isinstance(value, dict):
            value = ", ".join(f"{count} {state}" for state, count in value.items() if count)
        elif name == "clock_offset" and isinstance(value, (int, float)):
            value = f"{value * 1000:+.0f} ms"
        elif name == "certificate_expires_in" and isinstance(value, (int, float)):
            value = make_duration(value) if value > 0 else "expired"
        elif name == "replicas" and isinstance(value, dict):
            value = describe_replicas(value)
        elif name == "underreplicated":
            value = f"{value} partitions" if value else "no partition"
        lines.append(f"{name.replace('_', ' ')}: {value}")
    return lines


def describe_replicas(replicas: Answer) -> str:
    """How many copies there can be, and why not all that there should be: `wanted` and `possible` of an overview."""
    wanted, possible = replicas.get("wanted"), replicas.get("possible")
    if not isinstance(wanted, int) or not isinstance(possible, int) or possible >= wanted:
        return str(wanted)
    nodes = f"only {possible} {'node' if possible == 1 else 'nodes'}" if possible else "no node"
    return f"{possible} of {wanted}: there {'is' if possible < 2 else 'are'} {nodes} to keep them"


def describe_owners(answer: Answer) -> list[str]:
    """Partition and owners of a key; nothing when the node is alone."""
    if "partition" not in answer:
        return []
    rows = [("owner", "node-id", "standing", "version", "bytes")]
    for owner in _dicts(answer, "owners"):
        version = str(owner.get("version") or "-")[:16]
        size = str(owner.get("size", 0))  # a silent one has said neither
        rows.append((str(owner["name"]), _short(owner["node_id"]), str(owner["standing"]), version, size))
    return [f"partition {answer['partition']}", *make_table(rows)]


def make_table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as lines, in columns as wide as they must be."""
    held = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*held, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in held]


def make_duration(seconds: float) -> str:
    """A length of time in its largest unit that counts: 12 s, 5 min, 7 h, 3 d."""
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _members(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("members", {})
    rows = [("name", "node-id", "address", "zone", "roles", "state", "since", "rtt")]
    rows += [
        (
            f"{member['name']}{' *' if member.get('self') else ''}",
            _short(member["node_id"]),
            str(member["address"]),
            str(member["zone"] or "-"),
            ",".join(map(str, _list(member, "roles"))),
            str(member["state"]),
            _time(member["since"], make_duration),
            _time(member["rtt"], _milliseconds),
        )
        for member in sorted(_dicts(answer, "members"), key=_place)
    ]
    shell.show(answer, make_table(rows))
    return _DONE


def _place(member: Answer) -> tuple[bool, int, str]:
    """This node first, then by name: n2 before n10."""
    name = str(member["name"])
    return not member.get("self"), len(name), name


def _lookup(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("lookup", {"key": options.key, "trace": options.trace})
    lines = [str(answer["key"]), *describe_owners(answer)]
    hops = _dicts(answer, "hops")
    if "hops" in answer:
        rows = [("hop", "node", "node-id", "address", "time", "answer")]
        for hop in hops:
            told = (
                f"{hop['nodes']} nodes, nearest {_short(hop['nearest'])}" if hop["answer"] == "nodes" else hop["answer"]
            )
            time = _time(hop["seconds"], _milliseconds)
            rows.append(
                (str(hop["hop"]), str(hop["name"]), _short(hop["node_id"]), str(hop["address"]), time, str(told))
            )
        lines += make_table(rows) if hops else ["no call was needed: every node is known"]
    shell.show(answer, lines)
    heard = [owner for owner in _dicts(answer, "owners") if owner["standing"] != "silent"]
    return _DONE if heard or "owners" not in answer else _FAILED


def _short(node_id: object) -> str:
    return str(node_id)[:_ID_DIGITS]


def _percent(share: object) -> str:
    return f"{share:.0%}" if isinstance(share, (int, float)) else "?"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _time(seconds: object, make: Callable[[float], str]) -> str:
    return make(seconds) if isinstance(seconds, (int, float)) else "-"


def _dicts(answer: Answer, name: str) -> list[Answer]:
    return [entry for entry in _list(answer, name) if isinstance(entry, dict)]


def _list(answer: Answer, name: str) -> list[object]:
    value = answer.get(name)
    return value if isinstance(value, list) else []
