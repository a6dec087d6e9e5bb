"""The hybrid logical clock: stamps that order updates of different nodes (Kulkarni et al., "Logical Physical Clocks").

A stamp is one integer: 48 bits of wall-clock milliseconds over a 16-bit counter. It never runs backwards and never
repeats on one node, whatever the wall clock does, and it stays near the wall clock, so a person can read it. Two nodes
may make the same stamp: ties are broken by `node`, the first 64 bits of the Node-ID, which the CA spaces apart.

Stamps only order; how long something lives is measured by monotonic clocks (see `store`). The wall clock is an
argument.

Decided: the counter is the low end of one integer, so that "next" is plus one and an overflow carries into the
milliseconds, instead of a pair that has to say what a full counter means. 65,536 updates within a millisecond would
run the clock ahead by one.
"""

from __future__ import annotations

from typing import Final

COUNTER_BITS: Final = 16
AHEAD_SECONDS: Final = 5.0


def make_stamp(wall: float, counter: int = 0) -> int:
    """The stamp of wall-clock second `wall`."""
    return int(wall * 1000.0 + 0.5) << COUNTER_BITS | counter


def stamp_seconds(stamp: int) -> float:
    """The wall-clock second of a stamp."""
    return (stamp >> COUNTER_BITS) / 1000.0


class HybridClock:
    """One node's clock. `node` breaks ties between equal stamps of different nodes."""

    __slots__ = ("last", "node")

    def __init__(self, node: int = 0) -> None:
        self.node = node
        self.last = 0

    def tick(self, wall: float) -> int:
        """A new stamp, above every stamp made or observed before."""
        stamp = int(wall * 1000.0 + 0.5) << COUNTER_BITS
        last = self.last
        if stamp <= last:
            stamp = last + 1
        self.last = stamp
        return stamp

    def observe(self, stamp: int, wall: float) -> bool:
        """Take note of another node's stamp, so that what is made next outranks it.

        False, and nothing learned, when it is more than 5 s ahead of `wall`: one node with a wrong clock must not
        drag all others into the future.
        """
        if stamp > make_stamp(wall + AHEAD_SECONDS):
            return False
        if stamp > self.last:
            self.last = stamp
        return True

    def resume(self, stamp: int) -> None:
        """Take note of a stamp from our own journal, however far ahead: a wall clock that was set back while we
        were down must not make our next updates lose against our last ones."""
        if stamp > self.last:
            self.last = stamp
