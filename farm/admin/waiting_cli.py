"""The console's commands that wait: `wait` until the node serves, `drain` until it has nothing left, and `undrain`.

They ask the node how far it is twice a second and show that as a bar (`progress.py`); what the node does goes on when
the command is ended. Exit code 3: the time was over first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final, Protocol, TextIO

from farm.admin.client import NotRunning
from farm.admin.control import Answer, Fields
from farm.admin.grammar import add_command
from farm.admin.progress import show_progress

LOOK_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 120.0
WAIT_SECONDS: Final = 120.0
_STEPS: Final = 100

_DONE: Final = 0
_UNWELL: Final = 3


class Shell(Protocol):
    """The console that a command runs in."""

    stderr: TextIO
    as_json: bool

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""

    def now(self) -> float:
        """Monotonic seconds."""

    def sleep(self, seconds: float) -> None:
        """Wait so long."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add them to the commands of the console."""
    wait = add_command(
        commands, "wait", [shared], "wait until the node runs, is in step with the others and takes traffic",
        "sipfarm wait --timeout 60", "Exit code 3 when it does not by then.",
    )  # fmt: skip
    wait.add_argument(
        "--timeout", type=_seconds, default=WAIT_SECONDS, metavar="S", help=f"at most so long ({WAIT_SECONDS:.0f} s)"
    )
    wait.set_defaults(command=_wait)
    drain = add_command(
        commands, "drain", [shared], "take nothing new and hand the records over, as before a stop",
        "sipfarm drain\nsipfarm drain --no-wait", "Waits until nothing is left, and shows what is. Exit code 3 when "
        "something is left at the end; the node goes on draining. `sipfarm undrain` takes it back.",
    )  # fmt: skip
    drain.add_argument("--no-wait", action="store_true", help="give the order and return")
    drain.add_argument(
        "--timeout", type=_seconds, default=DRAIN_SECONDS, metavar="S", help=f"wait so long ({DRAIN_SECONDS:.0f} s)"
    )
    drain.set_defaults(command=_drain)
    undrain = add_command(commands, "undrain", [shared], "serve again after a drain", "sipfarm undrain")
    undrain.set_defaults(command=_undrain)


def _wait(shell: Shell, options: argparse.Namespace) -> int:
    ends_at = shell.now() + options.timeout
    with show_progress(shell.stderr, _STEPS, as_json=shell.as_json, interval=0) as reach:
        while True:
            answer = _ask(shell)
            if answer.get("ready"):
                break
            reach(*describe_join(answer))
            if shell.now() >= ends_at:
                break
            shell.sleep(LOOK_SECONDS)
    ready = bool(answer.get("ready"))
    words = describe_join(answer)[1]
    name = answer.get("name", "the node")
    shell.show({**answer, "ready": ready}, [f"{name} serves" if ready else f"{name} does not serve yet: {words}"])
    return _DONE if ready else _UNWELL


def _ask(shell: Shell) -> Answer:
    """How the node is; {} when none runs."""
    try:
        return shell.order("status", {})
    except NotRunning:
        return {}


def describe_join(answer: Answer) -> tuple[int, str]:
    """How far a start is, in steps of a hundred and in words."""
    if not answer:
        return 0, "not running"
    overlay = answer.get("overlay")
    if answer.get("leaving") or (isinstance(overlay, dict) and overlay.get("draining")):
        return 0, "it is being drained"
    if not isinstance(overlay, dict):
        return 0, "reading what it kept"
    share = _share(overlay.get("progress"))
    if overlay.get("state") == "joining":
        return 0, "looking for the others"
    return int(share * _STEPS), f"{share:.0%} in step with the others"


def _drain(shell: Shell, options: argparse.Namespace) -> int:
    answer = shell.order("drain", {})
    if options.no_wait:
        shell.show(answer, ["draining; sipfarm status says what is left"])
        return _DONE
    ends_at = shell.now() + options.timeout
    with show_progress(shell.stderr, _STEPS, as_json=shell.as_json, interval=0) as reach:
        while True:
            answer = shell.order("status", {})
            left = _leaving(answer)
            reach(*describe_drain(left))
            if not left or is_drained(left) or shell.now() >= ends_at:
                break
            shell.sleep(LOOK_SECONDS)
    drained = is_drained(left)
    what = "drained" if drained else f"not drained: {describe_drain(left)[1]}" if left else "not draining any more"
    shell.show({"draining": bool(left), "drained": drained, "left": left}, [what])
    return _DONE if drained else _UNWELL


def is_drained(left: Answer) -> bool:
    """Whether nothing is left to wait for. Connections that others open anew meanwhile are no reason to wait."""
    return bool(left) and bool(left.get("left")) and not left.get("transactions") and not left.get("closing")


def describe_drain(left: Answer) -> tuple[int, str]:
    """How far a drain is, in steps of a hundred and in words."""
    share = _share(left.get("handed_over"))
    words = f"{left.get('transactions', 0)} requests under way, {left.get('connections', 0)} connections, "
    return int(share * _STEPS), words + f"{share:.0%} of the records handed over"


def _leaving(answer: Answer) -> Answer:
    value = answer.get("leaving")
    return value if isinstance(value, dict) else {}


def _undrain(shell: Shell, options: argparse.Namespace) -> int:
    shell.show(shell.order("undrain", {}), ["serving"])
    return _DONE


def _share(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _seconds(text: str) -> float:
    """A time as typed."""
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError("0 or more")
    return seconds
