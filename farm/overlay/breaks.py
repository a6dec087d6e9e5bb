"""Links that broke, or cannot be made, and what their dials came to: is there still a process at the other end?

A host that refuses a dial says that no process listens there, at once, where a silent one leaves only time to tell. So
a member whose address has refused for `refused_seconds`, and whom others do not reach either, is dead without the time
of a suspicion. A process that was killed is known to be dead in about a second; one that was only restarted listens
again by then, or outranks its death when it does.
"""

from __future__ import annotations

from typing import Final

import msgspec

REFUSED: Final = "refused"  # the reason of a dial that was refused by the peer's host


class _Break(msgspec.Struct):
    since: float
    failures: int = 0
    refused: bool = False  # the last dial was


class Breaks:
    """The broken links by Node-ID."""

    __slots__ = ("_breaks", "_refused_seconds")

    def __init__(self, refused_seconds: float) -> None:
        self._refused_seconds = refused_seconds
        self._breaks: dict[bytes, _Break] = {}

    def __contains__(self, node: bytes) -> bool:
        return node in self._breaks

    def begin(self, node: bytes, now: float) -> None:
        """Its link broke now; or it was reached by others just now, and all is to be shown anew."""
        self._breaks[node] = _Break(now)

    def end(self, node: bytes) -> None:
        """There is a link again, or no question any more."""
        self._breaks.pop(node, None)

    def fail(self, node: bytes, reason: str, now: float) -> bool:
        """A dial failed. Whether to ask others now: at the first failure, and at each one after `refused_seconds`."""
        broken = self._breaks.get(node)
        if broken is None:
            broken = self._breaks[node] = _Break(now)
        broken.refused = reason == REFUSED
        broken.failures += 1
        return broken.failures == 1 or now - broken.since >= self._refused_seconds

    def shows_death(self, node: bytes, now: float) -> bool:
        """Whether its address has refused for long enough, more than once, and at the last dial."""
        broken = self._breaks.get(node)
        return (
            broken is not None
            and broken.refused
            and broken.failures > 1
            and now - broken.since >= self._refused_seconds
        )

    def delay(self, seconds: float) -> None:
        """Time in which this process was stopped does not count."""
        for broken in self._breaks.values():
            broken.since += seconds
