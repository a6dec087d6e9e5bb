"""SIPp as a child process: a scenario, its data file, and the statistics it writes.

What counts is SIPp's own word: calls it made, calls that failed and why, retransmissions it sent, messages it did not
expect. Written for SIPp 3.6.1 (Debian 12), which has no TLS and knows MD5 only.
"""

from __future__ import annotations

import csv
import shutil
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.processes import Program

SCENARIOS: Final = Path(__file__).resolve().parents[2] / "bench" / "scenarios"


class Statistics(NamedTuple):
    """What one SIPp counted from start to end."""

    created: int
    successful: int
    failed: int
    retransmissions: int
    reasons: dict[str, int]

    @property
    def clean(self) -> bool:
        """Nothing failed and nothing had to be sent twice."""
        return not self.failed and not self.retransmissions


def write_users(path: Path, count: int, contact: str) -> Path:
    """A data file of that many users u00000…: name, contact URI (`{user}` in it is the name; no semicolon, which parts
    SIPp's fields; scenarios add the transport), MD5 credentials."""
    lines = ["SEQUENTIAL"]
    for number in range(count):
        user = f"u{number:05d}"
        lines.append(f"{user};{contact.format(user=user)};[authentication username={user} password=pw-{user}]")
    path.write_text("\n".join(lines) + "\n")
    return path


class Sipp(Program):
    """One SIPp with a scenario of `bench/scenarios`, sending to `target` from `local`; it ends after `calls` calls."""

    def __init__(
        self,
        scenario: str,
        target: tuple[str, int],
        local: tuple[str, int],
        directory: Path,
        *,
        calls: int = 0,
        rate: int = 0,
        users: Path | None = None,
        transport: str = "u1",
        timeout: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        stem = f"{Path(scenario).stem}-{local[0]}-{local[1]}"
        self.statistics_file = directory / f"{stem}.csv"
        self.errors_file = directory / f"{stem}.errors"
        for old in (self.statistics_file, self.errors_file):
            old.unlink(missing_ok=True)
        command = [
            shutil.which("sipp") or "sipp",
            f"{target[0]}:{target[1]}",
            *("-sf", str(SCENARIOS / scenario)),
            *("-i", local[0], "-p", str(local[1]), "-t", transport),
            *("-nostdin", "-timer_resol", "1", "-max_socket", "1000"),
            *("-trace_stat", "-stf", str(self.statistics_file), "-fd", "1"),
            *("-trace_err", "-error_file", str(self.errors_file)),
        ]
        if calls:
            command += ["-m", str(calls)]
        if rate:
            command += ["-r", str(rate)]
        if users is not None:
            command += ["-inf", str(users)]
        if timeout:
            command += ["-timeout", f"{timeout}s", "-timeout_error"]
        super().__init__([*command, *options], directory / f"{stem}.log", directory=directory)

    def statistics(self) -> Statistics:
        """The last line of the statistics: whole once SIPp has ended, up to a second old before."""
        with self.statistics_file.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        last = rows[-1]
        # "(C)" marks cumulative columns; FailedUnexpectedMessage(C) and its like say why calls failed.
        reasons = {
            name.removesuffix("(C)"): int(value)
            for name, value in last.items()
            if name and name.startswith("Failed") and name.endswith("(C)") and name != "FailedCall(C)" and value != "0"
        }
        return Statistics(
            int(last["TotalCallCreated"]),
            int(last["SuccessfulCall(C)"]),
            int(last["FailedCall(C)"]),
            int(last["Retransmissions(C)"]),
            reasons,
        )

    def errors(self, lines: int = 20) -> str:
        """The first lines of what SIPp complained of."""
        if not self.errors_file.exists():
            return ""
        return "\n".join(self.errors_file.read_text(errors="replace").splitlines()[:lines])

    def finish(self, timeout: float = 15.0) -> int:
        """Let a called side end by itself once its calls are over (SIGUSR1), then end it."""
        self.signal(signal.SIGUSR1)
        try:
            return self.wait(timeout)
        finally:
            self.kill()


def describe(programs: Iterable[Sipp]) -> str:
    """Statistics, complaints and last screens of several SIPps, for messages of failures."""
    return "\n".join(
        f"{program.statistics_file.stem}: exit {program.exit_code}, {program.statistics()}\n{program.errors()}"
        for program in programs
    )
