"""The console's commands about one running node: `status`, `reload`, `locate`, `bindings`, `bans`.

Those that take long, `wait` and `drain`, are in `waiting_cli.py`; those about the farm as a whole in `overlay_cli.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final, Protocol

from farm.admin import overlay_cli
from farm.admin.client import NotRunning
from farm.admin.control import Answer, Fields
from farm.admin.grammar import add_command

_DONE: Final = 0
_FAILED: Final = 1
_UNWELL: Final = 3


class Shell(Protocol):
    """The console that a command runs in."""

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def fail(self, problem: str) -> int:
        """Say what went wrong."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add them to the commands of the console."""
    status = add_command(
        commands, "status", [shared], "how the node is; exit code 3 when it is not well", "sipfarm status --json",
        "Not well is a node that is not running, not ready for traffic, or knows of a problem.",
    )  # fmt: skip
    status.set_defaults(command=_status)
    reload = add_command(
        commands, "reload", [shared], "take the configuration as it is in its files now, and renewed certificates",
        "sipfarm reload",
        "Prints what was taken and what wants a restart. After a mistake nothing has changed, and the exit code is 1. "
        "The same as SIGHUP.",
    )  # fmt: skip
    reload.set_defaults(command=_reload)
    locate = add_command(
        commands, "locate", [shared], "where a call to a user would go", "sipfarm locate bob@example.com"
    )
    locate.add_argument("aor", metavar="AOR", help="an address-of-record: bob, bob@example.com, sip:bob@example.com")
    locate.set_defaults(command=_locate)
    bindings = commands.add_parser("bindings", help="registered contacts")
    actions = bindings.add_subparsers(metavar="ACTION", required=True)
    for action, command, meaning in (
        ("show", _show_bindings, "all that is known of a user's contacts"),
        ("remove", _remove_bindings, "remove a user's contacts; the phone comes back when it registers next"),
    ):
        chosen = add_command(actions, action, [shared], meaning, f"sipfarm bindings {action} bob")
        chosen.add_argument("aor", metavar="AOR", help="an address-of-record")
        chosen.set_defaults(command=command)
    bans = add_command(
        commands, "bans", [shared], "addresses banned for failed passwords",
        "sipfarm bans\nsipfarm bans --lift 192.0.2.7", "Limits and times are in [limits] of the configuration.",
    )  # fmt: skip
    bans.add_argument("--lift", metavar="ADDRESS", help="lift one ban")
    bans.set_defaults(command=_bans)


def describe_status(answer: Answer) -> list[str]:
    """A status as lines."""
    lines: list[str] = []
    for name, value in answer.items():
        if name == "problems":
            lines.extend(f"problem: {problem}" for problem in _list(answer, name))
        elif name == "overlay" and isinstance(value, dict):
            lines.extend(overlay_cli.describe_overlay(value))
        else:
            lines.append(f"{name.replace('_', ' ')}: {_phrase(value)}")
    return lines


def is_well(answer: Answer) -> bool:
    """Whether a status is that of a node that is well."""
    return bool(answer.get("ready")) and not answer.get("problems")


def _status(shell: Shell, options: argparse.Namespace) -> int:
    try:
        answer = shell.order("status", {})
    except NotRunning as error:
        shell.fail(str(error))
        return _UNWELL
    shell.show(answer, describe_status(answer))
    return _DONE if is_well(answer) else _UNWELL


def _reload(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("reload", {})
    lines = [f"changed: {', '.join(map(str, _list(answer, 'changed'))) or 'nothing'}"]
    if answer.get("waiting"):
        lines.append(f"wants a restart: {', '.join(map(str, _list(answer, 'waiting')))}")
    shell.show(answer, lines)
    return _DONE


def _locate(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("locate", {"aor": options.aor})
    contacts = _dicts(answer, "contacts")
    lines = [_describe(contact) for contact in contacts]
    if not contacts:
        lines = [f"{answer['aor']}: {'not registered' if answer['known'] else 'no such user'}"]
    shell.show(answer, [*lines, *overlay_cli.describe_owners(answer)])
    return _DONE if contacts else _FAILED


def _show_bindings(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("show-bindings", {"aor": options.aor})
    lines = [_describe(binding) for binding in _dicts(answer, "bindings")]
    shell.show(answer, lines or [f"{answer['aor']}: not registered"])
    return _DONE if lines else _FAILED


def _remove_bindings(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("remove-bindings", {"aor": options.aor})
    shell.show(answer, [f"{answer['aor']}: {answer['removed']} removed"])
    return _DONE


def _bans(shell: Shell, options: argparse.Namespace) -> int:
    if options.lift:
        shell.show(shell.order("lift-ban", {"source": options.lift}), [f"{options.lift}: ban lifted"])
        return _DONE
    answer = shell.order("list-bans", {})
    bans = _dicts(answer, "bans")
    lines = [f"{ban['source']}  {ban['reason']}  for {ban['ends_in']} s more" for ban in bans]
    shell.show(answer, lines or ["nobody is banned"])
    return _DONE


def _describe(binding: Answer) -> str:
    """A binding as a line: the contact, then name=value."""
    rest = [f"{name}={value}" for name, value in binding.items() if name != "contact" and value not in ("", None, [])]
    return "  ".join([str(binding.get("contact", "")), *rest])


def _phrase(value: object) -> str:
    """A simple value in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = [f"{name} {_phrase(held)}" for name, held in value.items()]
    if isinstance(value, list):
        return ", ".join(map(_phrase, value)) or "none"
    return str(value)


def _dicts(answer: Answer, name: str) -> list[Answer]:
    return [entry for entry in _list(answer, name) if isinstance(entry, dict)]


def _list(answer: Answer, name: str) -> list[object]:
    value = answer.get(name)
    return value if isinstance(value, list) else []
