"""The `sipfarm` command: arguments in; lines, or JSON with `--json`, and an exit code out.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the node is not well. The node that is meant is found by its
configuration (`-c`, or SIPFARM_CONFIG, or /etc/sipfarm/node.toml), through its control socket. Orders about users
work on a node that is not running too: `console.py` hands in what opens its store. Passwords are asked for or read
from a file, never taken from the command line, where others could see them. The commands themselves are in the modules
whose names end in `_cli`, by noun.
"""

from __future__ import annotations

import argparse
import getpass
import io
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TextIO

from farm.admin import (
    ca_cli,
    calls_cli,
    check_cli,
    keys_cli,
    node_cli,
    overlay_cli,
    top_cli,
    trace_cli,
    user_cli,
    waiting_cli,
    zone_cli,
)
from farm.admin.check_cli import FindProblems, find_nothing
from farm.admin.client import NotRunning, SocketClient
from farm.admin.control import Answer, Control, Fields, Offline, OrderError
from farm.admin.demo import DemoError, DemoSettings, run_demo
from farm.admin.grammar import add_command
from farm.config import Config, ConfigError, load

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2

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
    `make_client` makes the client of a control socket's path; `find_problems` looks at what a start would meet.
    """

    def __init__(
        self,
        open_offline: OpenOffline,
        make_client: Callable[[str], Client],
        environ: Mapping[str, str],
        stdin: TextIO,
        stdout: TextIO,
        stderr: TextIO,
        *,
        find_problems: FindProblems = find_nothing,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.environ = environ
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._open_offline = open_offline
        self.make_client = make_client
        self.find_problems = find_problems
        self.now = now
        self.sleep = sleep
        self.as_json = False
        self.config_path = DEFAULT_CONFIG

    def run(self, arguments: Sequence[str]) -> int:
        """Do what the arguments say; answers the exit code."""
        try:
            code = self._run(arguments)
            self.stdout.flush()
        except BrokenPipeError:  # whoever read our lines has enough
            code = FAILED
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            with suppress(OSError):
                self.stderr.write(f"sipfarm: {what}{error.strerror or error}\n")
            code = FAILED
        else:
            return code
        with suppress(OSError):  # what is still in the buffer goes nowhere, and the interpreter says nothing of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
        return code

    def _run(self, arguments: Sequence[str]) -> int:
        try:
            options = make_parser().parse_args(arguments)
        except SystemExit as end:  # argparse has said why
            return int(end.code or 0)
        self.as_json = options.json
        self.config_path = options.config or self.environ.get("SIPFARM_CONFIG") or DEFAULT_CONFIG
        command: Callable[[Console, argparse.Namespace], int] = options.command
        try:
            return command(self, options)
        except (ConfigError, OrderError, NotRunning, DemoError) as error:
            return self.fail(str(error))
        except KeyboardInterrupt:
            return 130

    def fail(self, problem: str) -> int:
        """Say what went wrong; answers the exit code for it."""
        if self.as_json:
            self.stdout.write(json.dumps({"error": problem}) + "\n")
        else:
            self.stderr.write(f"sipfarm: {problem}\n")
        return FAILED

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: itself as JSON, or the lines."""
        if self.as_json:
            self.stdout.write(json.dumps(answer) + "\n")
        else:
            self.stdout.writelines(line + "\n" for line in lines)

    def config(self) -> Config:
        """The configuration of the node that is meant; raises ConfigError."""
        return load(self.config_path, (), self.environ)

    def order(self, order: str, fields: Fields) -> Answer:
        """Give one order to the running node. Raises NotRunning or OrderError."""
        return self.make_client(self.config().control_path).run(order, fields)

    def order_users(self, orders: Iterator[tuple[str, Fields]]) -> Iterator[Answer]:
        """Give orders about users to the running node, or carry them out on the store of one that does not run."""
        config = self.config()
        client = self.make_client(config.control_path)
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
    parser = argparse.ArgumentParser(
        prog="sipfarm",
        description="Looks after the nodes of a SIP proxy farm. The node is the one whose configuration -c names, or "
        f"SIPFARM_CONFIG, or {DEFAULT_CONFIG}. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the node is not well.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    check_cli.add_commands(commands, common)
    _add_demo(commands, common)
    user_cli.add_commands(commands, common)
    node_cli.add_commands(commands, common)
    top_cli.add_commands(commands, common)
    waiting_cli.add_commands(commands, common)
    overlay_cli.add_commands(commands, common)
    keys_cli.add_commands(commands, common)
    calls_cli.add_commands(commands, common)
    zone_cli.add_commands(commands, common)
    trace_cli.add_commands(commands, common)
    ca_cli.add_commands(commands, common, _ca)
    return parser


def _add_demo(commands: Any, common: argparse.ArgumentParser) -> None:
    demo = add_command(
        commands, "demo", [common], "run a throw-away farm on this machine", "sipfarm demo --nodes 3 --dir /tmp/farm",
        "Ends with Ctrl-C. DIR/farm.json says what runs where once all nodes serve.",
    )  # fmt: skip
    demo.add_argument("--nodes", type=int, default=3, help="how many nodes (3)")
    demo.add_argument("--dir", metavar="DIR", help="where configurations, logs and stores go (a temporary directory)")
    demo.add_argument("--domain", default="example.com", help="the SIP domain (example.com)")
    demo.add_argument("--users", type=int, default=100, metavar="N", help="users 1000, 1001, … (100)")
    demo.add_argument("--open", action="store_true", help="no authentication: anybody may register as anybody")
    demo.add_argument(
        "--named", action="store_true", help="Via and Record-Route say sip.DOMAIN; phones must ask a node for names"
    )
    demo.set_defaults(command=_demo)


def _demo(console: Console, options: argparse.Namespace) -> int:
    settings = DemoSettings(options.nodes, options.dir, options.domain, options.users, options.open, options.named)
    return run_demo(settings, console.stdout, as_json=console.as_json)


def _ca(console: Console, options: argparse.Namespace) -> int:
    return ca_cli.run(options, console, time.time())


def _finish(running: Coroutine[object, None, Answer]) -> Answer:
    """The answer of an order on a local store, where nothing has to be waited for."""
    try:
        running.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    running.close()
    raise OrderError("this order needs a running node")


def make_console(open_offline: OpenOffline, find_problems: FindProblems) -> Console:
    """A console on the process's own streams and environment. What the terminal's character set lacks is a `?`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(
        open_offline, SocketClient, os.environ, sys.stdin, sys.stdout, sys.stderr, find_problems=find_problems
    )
