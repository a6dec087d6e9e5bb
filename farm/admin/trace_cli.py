"""`sipfarm trace`: a live ladder of one user's messages, or one call's, at all nodes of the farm.

The node is asked again and again for what has come since, and told when we end. What is shown goes out as it comes, in
the order of the nodes' clocks: nodes whose clocks differ (`sipfarm status` says by how much) may show an answer before
its request.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, TextIO

from farm.admin.control import Answer, Fields, OrderError
from farm.admin.grammar import add_command
from farm.admin.ladder import Ladder, Reader, Step, make_line, make_printable
from farm.admin.pcap import PcapFile

POLL_SECONDS: Final = 0.25
ANSWER_SECONDS: Final = 1.0  # other nodes have to say that they watch
SETTLE_SECONDS: Final = 0.8  # after the last: what other nodes saw before it comes within

_COLOURS: Final = {"2": "32", "4": "31", "5": "31", "6": "31"}  # by the class of an answer: green, red
_DIM: Final = "2"  # what was sent again

_DONE: Final = 0
_FAILED: Final = 1


class Shell(Protocol):
    """The console that a command runs in."""

    @property
    def stdout(self) -> TextIO:
        """Where the messages go."""

    @property
    def stderr(self) -> TextIO:
        """Where remarks go."""

    @property
    def now(self) -> Callable[[], float]:
        """A clock, monotonic seconds."""

    @property
    def sleep(self) -> Callable[[float], None]:
        """Waits so many seconds."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add it to the commands of the console."""
    trace = add_command(
        commands, "trace", [shared], "the messages of a user or a call at all nodes, live",
        "sipfarm trace --aor bob@example.com\nsipfarm trace --call-id 3c2b1a@192.0.2.7 --seconds 60 --raw",
    )  # fmt: skip
    sought = trace.add_mutually_exclusive_group(required=True)
    sought.add_argument("--aor", metavar="AOR", help="those from or to an address-of-record, and of its calls")
    sought.add_argument("--call-id", metavar="CALL-ID", help="those of one call")
    trace.add_argument("--seconds", type=float, metavar="N", help="end after so long (on Ctrl-C)")
    trace.add_argument("--raw", action="store_true", help="show whole messages")
    trace.add_argument("--pcap", metavar="FILE", help="write the messages to a file for Wireshark, too")
    trace.add_argument("--width", type=int, metavar="COLUMNS", help="how wide a ladder is (as the terminal)")
    trace.set_defaults(command=run)


def run(shell: Shell, options: argparse.Namespace) -> int:
    """Follow a trace to its end; 1 when nothing was seen."""
    with _open_file(options.pcap) as file:
        return _follow(shell, options, _View(shell.stdout, options, file))


def _follow(shell: Shell, options: argparse.Namespace, view: _View) -> int:
    fields: dict[str, object] = {"aor": options.aor} if options.aor else {"call_id": options.call_id}
    following = _Following(shell, view, str(shell.order("trace", fields)["trace"]))
    begun_at = shell.now()
    said = False
    try:
        while options.seconds is None or shell.now() < begun_at + options.seconds:
            shell.sleep(POLL_SECONDS)
            nodes = _list_nodes(following.poll(ends=False))
            heard = all(node.get("state") != "silent" for node in nodes)
            if not said and (heard or shell.now() >= begun_at + ANSWER_SECONDS):
                said = True
                _say_nodes(shell.stderr, nodes)
        shell.sleep(SETTLE_SECONDS)
    except KeyboardInterrupt:
        pass
    following.finish()
    return _DONE if view.shown else _FAILED


class _Following:
    """A trace that the node has begun for us."""

    def __init__(self, shell: Shell, view: _View, name: str) -> None:
        self._shell = shell
        self._view = view
        self._name = name
        self._after = 0
        self._lost = 0

    def poll(self, *, ends: bool) -> Answer:
        """Show what has come since; the node's last answer."""
        while True:
            answer = self._shell.order("trace", {"trace": self._name, "after": self._after, "ends": ends})
            messages = answer.get("messages")
            for message in messages if isinstance(messages, list) else []:
                self._after = max(self._after, int(message["number"]))
                self._view.show(message)
            lost = answer.get("lost")
            if isinstance(lost, int) and lost > self._lost:
                self._shell.stderr.write(f"sipfarm: {lost - self._lost} messages more than fit were lost\n")
                self._lost = lost
            if not answer.get("more"):
                return answer

    def finish(self) -> None:
        """Show the rest, and have the nodes watch no more."""
        try:
            self.poll(ends=True)
        except OrderError as error:
            self._shell.stderr.write(f"sipfarm: {error}\n")


class _View:
    """Writes messages as the options say."""

    def __init__(self, stream: TextIO, options: argparse.Namespace, file: PcapFile | None) -> None:
        self.shown = 0
        self._file = file
        self._stream = stream
        self._json: bool = options.json
        self._raw: bool = options.raw
        self._reader = Reader()
        self._begun_at: float | None = None
        width = options.width or (shutil.get_terminal_size().columns if stream.isatty() else 0)
        self._ladder = Ladder(width) if width else None
        self._colours = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def show(self, message: Answer) -> None:
        """One message."""
        self.shown += 1
        if self._file is not None:
            with suppress(ValueError):  # one end of a socket that was gone has no address
                self._file.write(message)
        step = self._reader.read(message)
        if self._json:
            self._stream.write(json.dumps(self._make_object(step, message)) + "\n")
        else:
            self._stream.writelines(f"{line}\n" for line in self._make_lines(step, message))
        self._stream.flush()

    def _make_lines(self, step: Step, message: Answer) -> Sequence[str]:
        if self._begun_at is None:
            self._begun_at = step.time
        lines = [make_line(step, self._begun_at)] if self._ladder is None else self._ladder.add(step)
        colour = _DIM if step.again else _COLOURS.get(step.label[:1])
        if self._colours and colour:
            lines[-1] = f"\x1b[{colour}m{lines[-1]}\x1b[0m"
        if self._raw:
            lines += [f"    {make_printable(line)}" for line in str(message.get("raw", "")).splitlines()]
        return lines

    def _make_object(self, step: Step, message: Answer) -> Answer:
        kept = {name: value for name, value in message.items() if name not in ("number", "raw")}
        return {
            **kept,
            "first_line": step.first_line,
            "cseq": step.cseq,
            "call_id": step.call_id,
            "again": step.again,
            **({"raw": message.get("raw", "")} if self._raw else {}),
        }


@contextmanager
def _open_file(path: str | None) -> Iterator[PcapFile | None]:
    """The file of a path. Raises OrderError when it cannot be written."""
    if path is None:
        yield None
        return
    try:
        with open(path, "wb", opener=_open_privately) as stream:
            yield PcapFile(stream)
    except BrokenPipeError:  # not of the file: whoever read our lines has enough
        raise
    except OSError as error:
        raise OrderError(f"{path}: {error.strerror or error}") from None


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # who called whom is for its owner's eyes


def _list_nodes(answer: Answer) -> list[Answer]:
    nodes = answer.get("nodes")
    return [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []


def _say_nodes(stream: TextIO, nodes: Sequence[Answer]) -> None:
    """Say how many nodes watch, and which of those that should do not."""
    watching = sum(node.get("state") == "watching" for node in nodes)
    missing = [node for node in nodes if node.get("state") in ("silent", "busy")]
    told = ", ".join(f"{make_printable(str(node['name']))} is {node['state']}" for node in missing)
    stream.write(f"{watching} node{'s' * (watching != 1)} watch{'es' * (watching == 1)}{f'; {told}' if told else ''}\n")
    stream.flush()
