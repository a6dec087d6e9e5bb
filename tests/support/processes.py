"""Child processes of tests and benchmarks: start, watch, measure and end them, each with everything it forked.

A `Program` is one command with its output in a file. Ending it ends its whole process group, by the id that starting
it gave; nothing is ever looked up by name. Linux only: processor time and memory come from `/proc`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class ProgramFailed(AssertionError):
    """A program ended or was not ready in time; the text holds the end of its output."""


def wait_until(condition: Callable[[], T], timeout: float, what: str, every: float = 0.02) -> T:
    """The first true answer of `condition`, asked every so often; fails after `timeout` seconds, saying `what`."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise ProgramFailed(f"not within {timeout:g} s: {what}")
        time.sleep(every)


class Program:
    """One command that runs in its own session until it is stopped; its output goes to the file `log`."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = tuple(command)
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def running(self) -> bool:
        """Whether the command itself still runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with, negative for a signal, None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float) -> int:
        """Its exit code; fails when it has not ended by itself after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"{self.command[0]} still runs after {timeout:g} s\n{self.tail()}") from None

    def signal(self, number: int) -> None:
        """Send a signal to the command alone."""
        if self.running():
            os.kill(self.pid, number)

    def stop(self, timeout: float = 10.0) -> int:
        """Ask it to end (SIGTERM), then end it and all that it started; answers the exit code."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self.kill()

    def kill(self) -> int:
        """End it and all that it started at once (SIGKILL)."""
        # The leader is signalled before it is reaped or was reaped long ago; a group without members answers ESRCH.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait(10)

    def output(self) -> str:
        """All it has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 40) -> str:
        """The last lines it has written, under a heading, for messages of failures."""
        return f"--- {self.log.name}\n" + "\n".join(self.output().splitlines()[-lines:])

    def cpu_seconds(self) -> float:
        """utime + stime of the command and of everything it started, ended children included."""
        stats = _process_stats()
        return sum(stats[pid][1] for pid in _tree(self.pid, stats) if pid in stats) / _TICKS

    def rss_bytes(self) -> int:
        """Resident memory of the command and of everything it started, shared pages counted once a process."""
        total = 0
        for pid in _tree(self.pid, _process_stats()):
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
            except OSError:  # it ended between the two looks
                continue
        return total


def _process_stats() -> dict[int, tuple[int, int]]:
    """Parent and used ticks of every process there is."""
    stats: dict[int, tuple[int, int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/stat").read_text(errors="replace")
        except OSError:
            continue
        # The second field, the name in parentheses, may itself hold spaces and parentheses.
        fields = text[text.rindex(")") + 2 :].split()
        stats[int(entry)] = (int(fields[1]), sum(int(field) for field in fields[11:15]))
    return stats


def _tree(root: int, stats: Mapping[int, tuple[int, int]]) -> set[int]:
    tree = {root}
    grown = True
    while grown:
        grown = False
        for pid, (parent, _) in stats.items():
            if parent in tree and pid not in tree:
                tree.add(pid)
                grown = True
    return tree
