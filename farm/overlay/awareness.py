"""How far this node may trust its own verdicts: Lifeguard's local health, and whether its own timers ran late.

A node that is slow itself takes answers for missing that were there in time. `Awareness.score` grows when pings go
unanswered although those who were asked to help are silent too, and when the node has to refute that it is suspected;
it falls with every ping answered. Periods and timeouts are multiplied by score + 1 (Dadgar, Phillips, Currey,
"Lifeguard", 2018, section IV.A).

A process that was stopped (SIGSTOP, a frozen virtual machine, a collector's pause) wakes to find every timer of others
run out at once. So it says beforehand when it means to wake, and asks `lateness` before it believes that anybody else
was silent: what ran out while it could not listen is its own fault.
"""

from __future__ import annotations

from typing import Final

MOST_SCORE: Final = 7  # timeouts of at most eight times their length
_NEVER: Final = float("inf")


class Awareness:
    """The score, and the time by which the next timer should have run. `tolerance` is in seconds."""

    __slots__ = ("_expected_at", "score", "tolerance")

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.score = 0
        self._expected_at = _NEVER

    @property
    def factor(self) -> int:
        """What periods and timeouts are multiplied by, 1 for a healthy node."""
        return self.score + 1

    def worsen(self, by: int = 1) -> None:
        """Something speaks for our own fault."""
        self.score = min(MOST_SCORE, self.score + by)

    def improve(self) -> None:
        """A ping was answered in time."""
        if self.score:
            self.score -= 1

    def expect(self, at: float) -> None:
        """The next timer is due then."""
        self._expected_at = at

    def lateness(self, now: float) -> float:
        """By how many seconds the expected timer is late, 0.0 within the tolerance. Answered once: until `expect` is
        called again, later calls measure from `now`."""
        late = now - self._expected_at
        if late <= self.tolerance:
            return 0.0
        self._expected_at = now
        return late
