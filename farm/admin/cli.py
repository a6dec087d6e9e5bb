"""The `sipfarm` command: arguments in; lines, or JSON with `--json`, and an exit code out.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the node is not well. The node that is meant is found by its
configuration (`-c`, or SIPFARM_CONFIG, or /etc/sipfarm/node.toml), through its control socket. Orders about users
work on a node that is not running too: `console.py` hands in what opens its store. Passwords are asked for or read
from a file, never taken from the command line, where others could see them.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Final, Protocol, TextIO

import msgspec

from farm.admin import ca_cli, keys_cli, overlay_cli, zone_cli
from farm.admin.client import NotRunning, SocketClient
from farm.admin.control import ROWS_AT_ONCE, Answer, Control, Fields, Offline, OrderError
from farm.admin.demo import DemoError, DemoSettings, run_demo
from farm.admin.progress import show_progress
from farm.config import Config, ConfigError, load
from farm.public import find_warnings
from farm.security.roles import apply_roles, find_roles
from farm.security.sip_certificates import SipCertificates
from farm.security.user_import import read_users
from farm.security.users import BadRow, UserRow

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNWELL: Final = 3

DEFAULT_CONFIG: Final = "/etc/sipfarm/node.toml"


class OpenedStore(Offline, Protocol):
    """The store of a node that is not running, opened for changes to its users."""

    def close(self) -> None:
        """Write what is pending, and close it. Raises OSError when that fails."""


class Client(Protocol):
    """What gives orders to a running node."""

    def run(self, order: str, fields: Fields) -> Answer:
        """The answer. Raises NotRunning or OrderError."""


OpenOffline = Callable[[Config], OpenedStore]


class Console:
    """One run of the command: its streams, its environment and how it reaches a node.

    `open_offline` opens the store of a node that is not running; it raises OSError or ConfigError when it cannot.
    `make_client` makes the client of a control socket's path.
    """

    def __init__(
        self,
        open_offline: OpenOffline,
        make_client: Callable[[str], Client],
        environ: Mapping[str, str],
        stdin: TextIO,
        stdout: TextIO,
        stderr: TextIO,
    ) -> None:
        self.environ = environ
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._open_offline = open_offline
        self._make_client = make_client
        self._json = False
        self.config_path = DEFAULT_CONFIG

    def run(self, arguments: Sequence[str]) -> int:
        """Do what the arguments say; answers the exit code."""
        try:
            options = make_parser().parse_args(arguments)
        except SystemExit as end:  # argparse has said why
            return int(end.code or 0)
        self._json = options.json
        self.config_path = options.config or self.environ.get("SIPFARM_CONFIG") or DEFAULT_CONFIG
        command: Callable[[Console, argparse.Namespace], int] = options.command
        try:
            return command(self, options)
        except (ConfigError, OrderError, NotRunning, DemoError) as error:
            return self.fail(str(error))
        except BrokenPipeError:  # whoever read our lines has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
            return FAILED
        except KeyboardInterrupt:
            return 130

    def fail(self, problem: str) -> int:
        """Say what went wrong; answers the exit code for it."""
        if self._json:
            self.stdout.write(json.dumps({"error": problem}) + "\n")
        else:
            self.stderr.write(f"sipfarm: {problem}\n")
        return FAILED

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: itself as JSON, or the lines."""
        if self._json:
            self.stdout.write(json.dumps(answer) + "\n")
        else:
            self.stdout.writelines(line + "\n" for line in lines)

    def config(self) -> Config:
        """The configuration of the node that is meant; raises ConfigError."""
        return load(self.config_path, (), self.environ)

    def order(self, order: str, fields: Fields) -> Answer:
        """Give one order to the running node. Raises NotRunning or OrderError."""
        return self._make_client(self.config().control_path).run(order, fields)

    def order_users(self, orders: Iterator[tuple[str, Fields]]) -> Iterator[Answer]:
        """Give orders about users to the running node, or carry them out on the store of one that does not run."""
        config = self.config()
        client = self._make_client(config.control_path)
        offline: OpenedStore | None = None
        control: Control | None = None
        try:
            for order, fields in orders:
                if control is None:
                    try:
                        yield client.run(order, fields)
                        continue
                    except NotRunning:
                        offline = self._open(config)
                        control = Control(offline, None)
                yield _finish(control.run(order, fields))
        finally:
            if offline is not None:
                offline.close()

    def ask_password(self, path: str | None, name: str) -> str:
        """A password from a file ("-" is standard input, one line), or typed twice. Raises OrderError."""
        if path == "-":
            return self.stdin.readline().rstrip("\r\n")
        if path is not None:
            try:
                with open(path, encoding="utf-8") as file:
                    return file.readline().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise OrderError(f"{path}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from None
        if not self.stdin.isatty():
            raise OrderError("no terminal to ask for a password at: use --password-file FILE, or - for standard input")
        password = getpass.getpass(f"Password of {name}: ", self.stderr)
        if password != getpass.getpass("Once more: ", self.stderr):
            raise OrderError("the two passwords differ")
        return password

    def _open(self, config: Config) -> OpenedStore:
        if config.store.backend == "memory":
            raise OrderError('the node is not running, and its store keeps nothing: backend = "memory"')
        try:
            return self._open_offline(config)
        except OSError as error:
            raise OrderError(f"the node is not running, and its store cannot be opened: {error}") from None


def make_parser() -> argparse.ArgumentParser:
    """The command's grammar. `command` of the result is what to call."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("-c", "--config", metavar="FILE", help=f"the node's configuration ({DEFAULT_CONFIG})")
    common.add_argument("--json", action="store_true", help="answer in JSON")
    parser = argparse.ArgumentParser(prog="sipfarm", description="Looks after the nodes of a SIP proxy farm.")
    parser.add_argument("-c", "--config", metavar="FILE", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    check = commands.add_parser("check", parents=[common], help="check a configuration")
    check.add_argument("file", metavar="CONFIG", nargs="?")
    check.set_defaults(command=_check)

    demo = commands.add_parser("demo", parents=[common], help="run a throw-away farm on this machine")
    demo.add_argument("--nodes", type=int, default=3, help="how many nodes (3)")
    demo.add_argument("--dir", metavar="DIR", help="where configurations, logs and stores go (a temporary directory)")
    demo.add_argument("--domain", default="example.com", help="the SIP domain (example.com)")
    demo.add_argument("--users", type=int, default=100, metavar="N", help="users 1000, 1001, … (100)")
    demo.add_argument("--open", action="store_true", help="no authentication: anybody may register as anybody")
    demo.add_argument(
        "--named", action="store_true", help="Via and Record-Route say sip.DOMAIN; phones must ask a node for names"
    )
    demo.set_defaults(command=_demo)

    user = commands.add_parser("user", help="users and their passwords")
    users = user.add_subparsers(metavar="ACTION", required=True)
    for action, command, meaning in (
        ("add", _add_user, "add a user"),
        ("passwd", _set_password, "give a user a new password"),
    ):
        changed = users.add_parser(action, parents=[common], help=meaning)
        changed.add_argument("name", metavar="NAME[@DOMAIN]")
        changed.add_argument(
            "--password-file", metavar="FILE", help="read the password from there; - is standard input"
        )
        changed.set_defaults(command=command)
    for action, command, meaning in (
        ("remove", _remove_user, "remove a user"),
        (
            "disable",
            _disable_user,
            "refuse a user (403) though the password is right; contacts stay until they lapse",
        ),
        ("enable", _enable_user, "serve a disabled user again"),
    ):
        named = users.add_parser(action, parents=[common], help=meaning)
        named.add_argument("name", metavar="NAME[@DOMAIN]")
        named.set_defaults(command=command)
    users.add_parser("list", parents=[common], help="list all users").set_defaults(command=_list_users)
    imported = users.add_parser("import", parents=[common], help="add or change users: lines of user,password[,domain]")
    imported.add_argument("file", metavar="FILE.csv", help="- is standard input")
    imported.set_defaults(command=_import_users)

    status = commands.add_parser("status", parents=[common], help="how the node is; exit code 3 when it is not well")
    status.set_defaults(command=_status)
    locate = commands.add_parser("locate", parents=[common], help="where a call to a user would go")
    locate.add_argument("aor", metavar="AOR")
    locate.set_defaults(command=_locate)
    bindings = commands.add_parser("bindings", help="registered contacts")
    actions = bindings.add_subparsers(metavar="ACTION", required=True)
    for action, command, meaning in (
        ("show", _show_bindings, "all that is known of a user's contacts"),
        ("remove", _remove_bindings, "remove a user's contacts"),
    ):
        chosen = actions.add_parser(action, parents=[common], help=meaning)
        chosen.add_argument("aor", metavar="AOR")
        chosen.set_defaults(command=command)
    bans = commands.add_parser("bans", parents=[common], help="banned addresses")
    bans.add_argument("--lift", metavar="ADDRESS", help="lift one ban")
    bans.set_defaults(command=_bans)
    overlay_cli.add_commands(commands, common)
    keys_cli.add_commands(commands, common)
    zone_cli.add_commands(commands, common)
    ca_cli.add_commands(commands, common, _ca)
    return parser


def _check(console: Console, options: argparse.Namespace) -> int:
    path = options.file or console.config_path
    config = load(path, (), console.environ)
    roles = find_roles(config)
    if roles is not None:
        config = apply_roles(config, roles)
    SipCertificates(config.tls, time.time())  # says what a start would say of the files
    place = ", ".join((*config.sip.listen, *config.sip.proxy_listen))
    if not place:
        place = f"{config.overlay.listen} alone: its certificate lets it speak no SIP"
    warnings = find_warnings(config)
    console.show(
        {"ok": True, "warnings": warnings, "config": msgspec.to_builtins(config)},
        [
            f"{path}: node {config.node.name}, {', '.join(config.sip.domains)} on {place}",
            *(f"warning: {warning}" for warning in warnings),
        ],
    )
    return DONE


def _demo(console: Console, options: argparse.Namespace) -> int:
    settings = DemoSettings(options.nodes, options.dir, options.domain, options.users, options.open, options.named)
    return run_demo(settings, console.stdout)


def _ca(console: Console, options: argparse.Namespace) -> int:
    return ca_cli.run(options, console, time.time())


def _add_user(console: Console, options: argparse.Namespace) -> int:
    return _change_user(console, options, "add-user", "added")


def _set_password(console: Console, options: argparse.Namespace) -> int:
    return _change_user(console, options, "set-password", "changed")


def _change_user(console: Console, options: argparse.Namespace, order: str, word: str) -> int:
    password = console.ask_password(getattr(options, "password_file", None), options.name)
    for answer in console.order_users(iter([(order, {"name": options.name, "password": password})])):
        console.show(answer, [f"{options.name} {word}"])
    return DONE


def _remove_user(console: Console, options: argparse.Namespace) -> int:
    return _name_user(console, options, "remove-user", "removed")


def _disable_user(console: Console, options: argparse.Namespace) -> int:
    return _name_user(console, options, "disable-user", "disabled")


def _enable_user(console: Console, options: argparse.Namespace) -> int:
    return _name_user(console, options, "enable-user", "enabled")


def _name_user(console: Console, options: argparse.Namespace, order: str, word: str) -> int:
    for answer in console.order_users(iter([(order, {"name": options.name})])):
        console.show(answer, [f"{options.name} {word}"])
    return DONE


def _list_users(console: Console, options: argparse.Namespace) -> int:
    for answer in console.order_users(iter([("list-users", {})])):
        console.show(
            answer, [f"{user['aor']}{'  disabled' if user['disabled'] else ''}" for user in _dicts(answer, "users")]
        )
    return DONE


def _import_users(console: Console, options: argparse.Namespace) -> int:
    """Rows go in portions, so that the node serves calls in between and the user sees how far it is."""
    done = _Import()
    try:
        with (
            nullcontext(console.stdin) if options.file == "-" else open(options.file, encoding="utf-8-sig") as source,
            show_progress(console.stderr, _count_lines(options.file)) as reach,
        ):
            orders = (("import-users", {"rows": rows}) for rows in done.take_portions(read_users(source)))
            for answer in console.order_users(orders):
                done.add(answer)
                reach(done.line, f"{done.added + done.changed:,} users")
    except UnicodeDecodeError:
        return console.fail(f"{options.file}: is not UTF-8 text")
    except OSError as error:
        return console.fail(f"{options.file}: {error.strerror or error}")
    bad = sorted(done.bad, key=lambda row: _number(row, "line"))
    lines = [f"{options.file}:{row['line']}: {row['problem']}" for row in bad]
    if done.added + done.changed or not bad:
        lines.append(f"{done.added} users added, {done.changed} changed, {len(bad)} lines refused")
    console.show({"added": done.added, "changed": done.changed, "bad": bad}, lines)
    return FAILED if bad else DONE


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


def _status(console: Console, options: argparse.Namespace) -> int:
    try:
        answer = console.order("status", {})
    except NotRunning as error:
        console.fail(str(error))
        return UNWELL
    lines: list[str] = []
    for name, value in answer.items():
        if name == "problems":
            lines.extend(f"problem: {problem}" for problem in _list(answer, name))
        elif name == "overlay" and isinstance(value, dict):
            lines.extend(overlay_cli.describe_overlay(value))
        else:
            lines.append(f"{name.replace('_', ' ')}: {_phrase(value)}")
    console.show(answer, lines)
    return DONE if answer.get("ready") and not answer.get("problems") else UNWELL


def _locate(console: Console, options: argparse.Namespace) -> int:
    answer = console.order("locate", {"aor": options.aor})
    contacts = _dicts(answer, "contacts")
    lines = [_describe(contact) for contact in contacts]
    if not contacts:
        lines = [f"{answer['aor']}: {'not registered' if answer['known'] else 'no such user'}"]
    console.show(answer, [*lines, *overlay_cli.describe_owners(answer)])
    return DONE if contacts else FAILED


def _show_bindings(console: Console, options: argparse.Namespace) -> int:
    answer = console.order("show-bindings", {"aor": options.aor})
    lines = [_describe(binding) for binding in _dicts(answer, "bindings")]
    console.show(answer, lines or [f"{answer['aor']}: not registered"])
    return DONE if lines else FAILED


def _remove_bindings(console: Console, options: argparse.Namespace) -> int:
    answer = console.order("remove-bindings", {"aor": options.aor})
    console.show(answer, [f"{answer['aor']}: {answer['removed']} removed"])
    return DONE


def _bans(console: Console, options: argparse.Namespace) -> int:
    lift = getattr(options, "lift", None)
    if lift:
        console.show(console.order("lift-ban", {"source": lift}), [f"{lift}: ban lifted"])
        return DONE
    answer = console.order("list-bans", {})
    bans = _dicts(answer, "bans")
    lines = [f"{ban['source']}  {ban['reason']}  for {ban['ends_in']} s more" for ban in bans]
    console.show(answer, lines or ["nobody is banned"])
    return DONE


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


def _number(answer: Answer, name: str) -> int:
    value = answer.get(name)
    return value if isinstance(value, int) else 0


def _finish(running: Coroutine[object, None, Answer]) -> Answer:
    """The answer of an order on a local store, where nothing has to be waited for."""
    try:
        running.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    running.close()
    raise OrderError("this order needs a running node")


def make_console(open_offline: OpenOffline) -> Console:
    """A console on the process's own streams and environment."""
    return Console(open_offline, SocketClient, os.environ, sys.stdin, sys.stdout, sys.stderr)
