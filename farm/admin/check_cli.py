"""`sipfarm check`: whether a configuration makes sense, and what a start with it on this machine would meet.

What is looked at on the machine is `preflight`'s, which `console.py` hands in. Mistakes are lines on standard error and
exit code 1; warnings are lines after the answer, and exit code 1 with `--strict`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TextIO

import msgspec

from farm.admin.client import NotRunning
from farm.admin.control import Answer, Fields, OrderError
from farm.admin.grammar import add_command
from farm.config import Config, load
from farm.public import find_warnings
from farm.security.roles import apply_roles, find_roles

ANSWER_SECONDS: Final = 2.0  # a node that hangs is to be found out, not waited for

_DONE: Final = 0
_FAILED: Final = 1


class Finding(Protocol):
    """What was found; `str()` of it is a line that names the setting."""

    @property
    def is_mistake(self) -> bool:
        """Whether a start would fail of it."""


class FindProblems(Protocol):
    """Looks at a configuration and the machine that it is for."""

    def __call__(
        self, config: Config, wall: float, *, is_running: bool = False, ports: bool = True, network: bool = False
    ) -> Iterable[Finding]:
        """What is found, as `preflight.find_problems` says."""


class Shell(Protocol):
    """The console that the command runs in."""

    environ: Mapping[str, str]
    config_path: str
    stderr: TextIO
    as_json: bool
    find_problems: FindProblems
    make_client: Callable[[str], Any]

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant."""


def find_nothing(
    config: Config, wall: float, *, is_running: bool = False, ports: bool = True, network: bool = False
) -> Iterable[Finding]:
    """Looks at nothing."""
    return ()


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add it to the commands of the console."""
    check = add_command(
        commands, "check", [shared], "check a configuration, and what a start with it on this machine would meet",
        "sipfarm check /etc/sipfarm/node.toml\nsipfarm check node.toml --file-only --json",
        "Reads the file, conf.d beside it and the environment; looks at certificates and their keys, the state "
        "directory, secrets, ports, the limit of open files, and Redis. Mistakes make exit code 1, warnings do not.",
    )  # fmt: skip
    check.add_argument("file", metavar="CONFIG", nargs="?", help="the one of -c when none is given")
    check.add_argument("--strict", action="store_true", help="exit code 1 for warnings, too")
    check.add_argument("--file-only", action="store_true", help="look at nothing but the configuration")
    check.add_argument("--no-ports", action="store_true", help="do not try the ports: systemd hands them over")
    check.add_argument("--network", action="store_true", help="resolve the seeds, too, which may take seconds")
    check.set_defaults(command=_check)


def _check(shell: Shell, options: argparse.Namespace) -> int:
    path = options.file or shell.config_path
    config = load(path, (), shell.environ)
    roles = find_roles(config)
    if roles is not None:
        config = apply_roles(config, roles)
    found: Iterable[Finding] = ()
    if not options.file_only:
        ports = not options.no_ports and "LISTEN_FDS" not in shell.environ
        running = _is_running(shell, config)
        found = shell.find_problems(config, time.time(), is_running=running, ports=ports, network=options.network)
    mistakes, warnings = _sort(found)
    warnings += find_warnings(config)
    place = ", ".join((*config.sip.listen, *config.sip.proxy_listen))
    if not place:
        place = f"{config.overlay.listen} alone: its certificate lets it speak no SIP"
    ok = not mistakes and not (options.strict and warnings)
    if not shell.as_json:
        shell.stderr.writelines(f"sipfarm: {mistake}\n" for mistake in mistakes)
    summary = [f"{path}: node {config.node.name}, {', '.join(config.sip.domains)} on {place}"]
    shell.show(
        {"ok": ok, "errors": mistakes, "warnings": warnings, "config": msgspec.to_builtins(config)},
        [*(summary if not mistakes else ()), *(f"warning: {warning}" for warning in warnings)],
    )
    return _DONE if ok else _FAILED


def _is_running(shell: Shell, config: Config) -> bool:
    """Whether the node that the configuration is for runs on this machine, and answers."""
    client = shell.make_client(config.control_path)
    try:
        return bool(client.run("status", {}, seconds=ANSWER_SECONDS).get("name") == config.node.name)
    except (NotRunning, OrderError):
        return False


def _sort(found: Iterable[Finding]) -> tuple[list[str], list[str]]:
    """Mistakes and warnings, as lines."""
    mistakes: list[str] = []
    warnings: list[str] = []
    for finding in found:
        (mistakes if finding.is_mistake else warnings).append(str(finding))
    return mistakes, warnings
