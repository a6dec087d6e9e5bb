"""The round trip to one node, from the times of its answers (RFC 6298), and the patience that follows from it.

Besides the mean and its deviation there is the 95th percentile, after which a hedge costs one more call in twenty. It
is followed by stochastic approximation: a step up whenever an answer is slower, a nineteenth of it down when not.

Decided: the percentile is not taken from mean and deviation. Answers are far from normal: most come in the turn in
which they are asked, some behind a garbage collection or a batch of registrations.
"""

from __future__ import annotations

from typing import Final

LEAST_PATIENCE: Final = 0.05
MOST_PATIENCE: Final = 1.0
FIRST_PATIENCE: Final = 0.5  # for a node that was never timed
_LEAST_HEDGE: Final = 0.002
_MOST_BACKOFF: Final = 64.0


class Rtt:
    """What is known of the time that a node takes to answer, in seconds. `samples` is 0 while nothing is."""

    __slots__ = ("backoff", "p95", "rttvar", "samples", "srtt")

    def __init__(self) -> None:
        self.srtt = 0.0
        self.rttvar = 0.0
        self.p95 = 0.0
        self.samples = 0
        self.backoff = 1.0

    def note(self, seconds: float) -> None:
        """An answer came after so long (RFC 6298 §2.2, 2.3)."""
        self.backoff = 1.0
        self.samples += 1
        if self.samples == 1:
            self.srtt = seconds
            self.rttvar = seconds / 2.0
            self.p95 = seconds * 2.0
            return
        step = self.rttvar * 0.25 + 0.00001
        if seconds > self.p95:
            self.p95 += step * 0.95
        else:
            self.p95 -= step * 0.05
        error = seconds - self.srtt
        self.rttvar += (abs(error) - self.rttvar) * 0.25
        self.srtt += error * 0.125

    def note_timeout(self) -> None:
        """No answer came in time: be twice as patient until one does (RFC 6298 §5.5)."""
        self.backoff = min(self.backoff * 2.0, _MOST_BACKOFF)

    @property
    def patience(self) -> float:
        """How long to wait for an answer before it is worth asking somebody else: 50 ms to 1 s."""
        if not self.samples:
            return FIRST_PATIENCE
        return min(MOST_PATIENCE, max(LEAST_PATIENCE, (self.srtt + 4.0 * self.rttvar) * self.backoff))

    @property
    def hedge_after(self) -> float:
        """After how long a hedge is worth a call: one answer in twenty is slower."""
        if not self.samples:
            return LEAST_PATIENCE
        return min(self.patience, max(_LEAST_HEDGE, self.p95 * self.backoff))
