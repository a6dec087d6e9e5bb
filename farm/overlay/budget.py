"""The budget of repair: bytes a second that moving records may cost, as a bucket that may run into debt.

A piece of work is begun when the bucket is not in debt and paid for when its size is known, so one piece may overdraw
it and the next waits. What others pull from here is paid for too; they are put off ("busy") only when the debt is deep,
since they keep a budget of their own and a joining node must not wait for our repairs.

Decided: bytes alone are budgeted, not processor time. A merge costs about as much for each byte everywhere, and how
much of it one turn of the loop does is bounded by the number of records (`upkeep`).
"""

from __future__ import annotations

from typing import Final

_BURST_SECONDS: Final = 0.2
_DEEP_SECONDS: Final = 1.0


class Budget:
    """`bytes_per_second` on the average; 0.2 s of it may go at once."""

    __slots__ = ("_left", "_most", "_rate", "_told_at")

    def __init__(self, bytes_per_second: float) -> None:
        self.change(bytes_per_second)
        self._left = self._most
        self._told_at = 0.0

    def change(self, bytes_per_second: float) -> None:
        """So much from now on."""
        self._rate = bytes_per_second
        self._most = bytes_per_second * _BURST_SECONDS

    def pay(self, size: int, now: float) -> None:
        """So many bytes have moved."""
        self._refill(now)
        self._left -= size

    def ready_at(self, now: float) -> float:
        """When something may be begun: now or later."""
        self._refill(now)
        return now if self._left >= 0.0 else now - self._left / self._rate

    def is_deep(self, now: float) -> bool:
        """Whether others have to wait, too."""
        self._refill(now)
        return self._left < -self._rate * _DEEP_SECONDS

    def _refill(self, now: float) -> None:
        if now > self._told_at:
            self._left = min(self._most, self._left + (now - self._told_at) * self._rate)
            self._told_at = now
