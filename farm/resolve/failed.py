"""Hops that failed lately, so that they are tried last.

RFC 3263 §4.3 says when a hop has failed (503, timeout, transport error) and leaves open how long to remember it. A
hop is never left out for it: when all have failed, the first is tried again. Bounded, oldest forgotten first.
"""

from __future__ import annotations

from typing import Final

from farm.sip.hop import Hop

_LIMIT: Final = 4096


class FailedHops:
    """The memory. `failed_seconds` is how long a failure counts, 0 for not at all."""

    __slots__ = ("_limit", "_until", "failed_seconds")

    def __init__(self, failed_seconds: float, limit: int = _LIMIT) -> None:
        self.failed_seconds = failed_seconds
        self._limit = limit
        self._until: dict[tuple[str, str, int], float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, hop: Hop, now: float) -> None:
        """Remember that a hop has just failed."""
        if self.failed_seconds <= 0:
            return
        remote = hop.remote
        until = self._until
        until.pop(remote, None)  # in again at the end: the dict stays in the order of expiry
        if len(until) >= self._limit:
            del until[next(iter(until))]
        until[remote] = now + self.failed_seconds

    def remove(self, hop: Hop) -> None:
        """Forget it: the hop has answered."""
        if self._until:
            self._until.pop(hop.remote, None)

    def is_failed(self, hop: Hop, now: float) -> bool:
        """Whether a hop failed less than `failed_seconds` ago."""
        until = self._until.get(hop.remote)
        if until is None:
            return False
        if until > now:
            return True
        del self._until[hop.remote]
        return False

    def sort(self, hops: list[Hop], now: float) -> list[Hop]:
        """The same hops in the same order, except that those which failed lately come last."""
        if not self._until or len(hops) < 2:
            return hops
        return sorted(hops, key=lambda hop: self.is_failed(hop, now))
