"""How busy this process is, in a figure that is worth telling others: what of one processor it takes, in percent.

Told the processor time that has been used and the time that it is, it answers a new figure only when the one that was
said is off by a step, so that a farm under steady load says nothing. Events run in one thread, so 100 is all there is.
"""

from __future__ import annotations

from typing import Final

LOOK_SECONDS: Final = 10.0
STEP: Final = 10
_SHARE: Final = 0.5  # of the newest look in the average


class Load:
    """The load of one process. `said` is the figure that others have."""

    __slots__ = ("_at", "_average", "_used", "said")

    def __init__(self) -> None:
        self.said = 0
        self._average = 0.0
        self._at = 0.0
        self._used: float | None = None

    def look(self, used: float, now: float) -> bool:
        """`used` seconds of processor time at `now`; answers whether `said` has changed."""
        if self._used is not None and now > self._at:
            share = 100.0 * (used - self._used) / (now - self._at)
            self._average += (min(max(share, 0.0), 100.0) - self._average) * _SHARE
        self._used = used
        self._at = now
        if abs(self._average - self.said) < STEP:
            return False
        self.said = round(self._average / STEP) * STEP
        return True
