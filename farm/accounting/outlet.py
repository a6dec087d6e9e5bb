"""What waits to be written to one place: a bounded queue of lines, and what is wrong with the place.

Calls put lines in and wait for nothing. Whoever writes takes a batch, and says whether it went; one that did not stays
at the head and is tried again after a while. Beyond `MOST_LINES` lines, some minutes of a full disk on a busy node,
new ones are dropped and counted.

Decided: what is dropped is the newest. The oldest may be half written, and of a call whose line is lost the operator
can tell the time from those on either side.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from farm.metrics import Metrics

MOST_LINES: Final = 50_000  # of half a KiB each
MOST_BATCH: Final = 1_000
RETRY_SECONDS: Final = 2.0


class Outlet:
    """One place: `file` or `redis`."""

    def __init__(self, metrics: Metrics, place: str) -> None:
        self.problem = ""  # what is wrong with it at present, a sentence
        self._lines: deque[bytes] = deque()
        self._taken = 0  # of the first so many it is being found out whether they went
        self._retry_at = 0.0
        self._written = metrics.accounting_records.child(place, "written")
        self._dropped = metrics.accounting_records.child(place, "dropped")

    def __len__(self) -> int:
        """Lines that wait."""
        return len(self._lines)

    def put(self, line: bytes) -> None:
        """One more line."""
        if len(self._lines) >= MOST_LINES:
            self._dropped.inc()
        else:
            self._lines.append(line)

    def take(self, now: float, *, hurry: bool = False) -> list[bytes]:
        """The next batch; none while one is under way, nor shortly after one failed, unless there is no time left."""
        if self._taken or not self._lines or (now < self._retry_at and not hurry):
            return []
        self._taken = min(len(self._lines), MOST_BATCH)
        return [self._lines[index] for index in range(self._taken)]

    def finish(self) -> bool:
        """The batch was written; whether there was a problem before."""
        for _ in range(self._taken):
            self._lines.popleft()
        self._written.inc(self._taken)
        self._taken = 0
        self._retry_at = 0.0
        mended, self.problem = bool(self.problem), ""
        return mended

    def fail(self, problem: str, now: float) -> bool:
        """It was not, for this reason; whether that is new."""
        self._taken = 0
        self._retry_at = now + RETRY_SECONDS
        new = not self.problem
        self.problem = problem
        return new

    def give_up(self) -> int:
        """Nobody will write any more; how many lines are lost."""
        lost = len(self._lines)
        self._lines.clear()
        self._taken = 0
        self._dropped.inc(lost)
        return lost
