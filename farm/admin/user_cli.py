"""The console's commands about users: `user add|passwd|remove|disable|enable|list|import`.

They work on a node that is not running too (`Console.order_users`). Passwords are asked for or read from a file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, Final, Protocol, TextIO

from farm.admin.control import ROWS_AT_ONCE, Answer, Fields, OrderError
from farm.admin.grammar import add_command
from farm.admin.progress import Reach, show_progress
from farm.security.user_import import read_users
from farm.security.users import BadRow, UserRow

_DONE: Final = 0
_FAILED: Final = 1


class Shell(Protocol):
    """The console that a command runs in."""

    stdin: TextIO
    stderr: TextIO
    as_json: bool

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order_users(self, orders: Iterator[tuple[str, Fields]]) -> Iterator[Answer]:
        """Give orders about users to the running node, or carry them out on the store of one that does not run."""

    def ask_password(self, path: str | None, name: str) -> str:
        """A password from a file, or typed twice. Raises OrderError."""


Command = Callable[[Any, argparse.Namespace], int]

_CHANGES: Final = (
    (
        "add", "add-user", "added", "add a user",
        "sipfarm user add bob\nsipfarm user add bob@example.net --password-file -",
    ),
    (
        "passwd", "set-password", "changed", "give a user a new password",
        "sipfarm user passwd bob --password-file bob.txt",
    ),
)  # fmt: skip
_NAMED: Final = (
    ("remove", "remove-user", "removed", "remove a user", ""),
    (
        "disable", "disable-user", "disabled", "refuse a user (403) though the password is right",
        "Contacts that are registered stay until they lapse.",
    ),
    ("enable", "enable-user", "enabled", "serve a disabled user again", ""),
)  # fmt: skip


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `user` to the commands of the console."""
    users = commands.add_parser("user", help="users and their passwords").add_subparsers(
        metavar="ACTION", required=True
    )
    for name, order, word, meaning, example in _CHANGES:
        parser = add_command(
            users,
            name,
            [shared],
            meaning,
            example,
            "The password is asked for, or read from a file: never an argument.",
        )
        parser.add_argument("name", metavar="NAME[@DOMAIN]", help="the first domain of the node when none is given")
        parser.add_argument("--password-file", metavar="FILE", help="read the password from there; - is standard input")
        parser.set_defaults(command=_change, order=order, word=word)
    for name, order, word, meaning, more in _NAMED:
        parser = add_command(users, name, [shared], meaning, f"sipfarm user {name} bob", more)
        parser.add_argument("name", metavar="NAME[@DOMAIN]", help="the first domain of the node when none is given")
        parser.set_defaults(command=_name, order=order, word=word)
    listed = add_command(users, "list", [shared], "list all users", "sipfarm user list --json")
    listed.set_defaults(command=_list_users)
    imported = add_command(
        users,
        "import",
        [shared],
        "add or change users: a CSV file of passwords or hashes",
        "sipfarm user import users.csv",
        "Lines are user,password[,domain], or have a header that names their columns. Lines that cannot be taken are "
        "named at the end, and the others are in.",
    )
    imported.add_argument("file", metavar="FILE.csv", help="- is standard input")
    imported.set_defaults(command=_import_users)


def _change(shell: Shell, options: argparse.Namespace) -> int:
    password = shell.ask_password(options.password_file, options.name)
    return _order(shell, options, {"name": options.name, "password": password})


def _name(shell: Shell, options: argparse.Namespace) -> int:
    return _order(shell, options, {"name": options.name})


def _order(shell: Shell, options: argparse.Namespace, fields: Fields) -> int:
    for answer in shell.order_users(iter([(options.order, fields)])):
        shell.show(answer, [f"{options.name} {options.word}"])
    return _DONE


def _list_users(shell: Shell, options: argparse.Namespace) -> int:
    for answer in shell.order_users(iter([("list-users", {})])):
        shell.show(
            answer, [f"{user['aor']}{'  disabled' if user['disabled'] else ''}" for user in _dicts(answer, "users")]
        )
    return _DONE


def _import_users(shell: Shell, options: argparse.Namespace) -> int:
    """Rows go in portions, so that the node serves calls in between and the user sees how far it is."""
    done = _Import()
    try:
        with (
            nullcontext(shell.stdin) if options.file == "-" else open(options.file, encoding="utf-8-sig") as source,
            show_progress(shell.stderr, _count_lines(options.file), as_json=shell.as_json) as reach,
        ):
            _give(shell, done, source, reach)
    except UnicodeDecodeError:
        raise OrderError(f"{options.file}: is not UTF-8 text") from None
    except OSError as error:
        raise OrderError(f"{options.file}: {error.strerror or error}") from None
    bad = sorted(done.bad, key=lambda row: _number(row, "line"))
    lines = [f"{options.file}:{row['line']}: {row['problem']}" for row in bad]
    if done.added + done.changed or not bad:
        lines.append(f"{done.added} users added, {done.changed} changed, {len(bad)} lines refused")
    shell.show({"added": done.added, "changed": done.changed, "bad": bad}, lines)
    return _FAILED if bad else _DONE


def _give(shell: Shell, done: _Import, source: TextIO, reach: Reach) -> None:
    orders = (("import-users", {"rows": rows}) for rows in done.take_portions(read_users(source)))
    for answer in shell.order_users(orders):
        done.add(answer)
        reach(done.line, f"{done.added + done.changed:,} users")


class _Import:
    """What has come of an import so far; `line` is the last one that was read."""

    def __init__(self) -> None:
        self.added = 0
        self.changed = 0
        self.line = 0
        self.bad: list[Answer] = []

    def take_portions(self, rows: Iterator[UserRow | BadRow]) -> Iterator[list[list[object]]]:
        """Good rows in portions that an order takes; bad ones are kept here."""
        while taken := list(islice(rows, ROWS_AT_ONCE)):
            self.line = taken[-1].line
            self.bad.extend({"line": row.line, "problem": row.problem} for row in taken if isinstance(row, BadRow))
            good: list[list[object]] = [list(row) for row in taken if isinstance(row, UserRow)]
            if good:
                yield good

    def add(self, answer: Answer) -> None:
        """What a node says of one portion."""
        self.added += _number(answer, "added")
        self.changed += _number(answer, "changed")
        self.bad.extend(_dicts(answer, "bad"))


def _count_lines(path: str) -> int | None:
    """How many lines a file has; None for what can be read only once."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _dicts(answer: Answer, name: str) -> list[Answer]:
    value = answer.get(name)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _number(answer: Answer, name: str) -> int:
    value = answer.get(name)
    return value if isinstance(value, int) else 0
