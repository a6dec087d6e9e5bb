"""How a node that is being drained closes its connections: one by one, so that the phones do not all register anew at
the same moment with the nodes that stay.

Each connection that was accepted is given a random moment within the time of the drain. One that something still waits
on is put off, again and again, until it is quiet; who stops the node knows how long to wait for those. Those we made
ourselves lead to servers, which register nowhere: they stay to the end.

Decided: fewer than 50 connections a second are not spread any further: a node with ten phones is drained at once.
Decided: nothing is told to the phones first. SIP has no word for "register elsewhere" on a flow, and outbound's phones
take the end of a connection for just that (RFC 5626 §4.5).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from farm.deadlines import Deadline, Deadlines
from farm.sip.hop import Hop

CLOSES_PER_SECOND: Final = 50.0
_PUT_OFF_SECONDS: Final = 0.25


class Closable(Protocol):
    """A connection."""

    @property
    def hop(self) -> Hop:
        """Its far end; `local` is its name."""

    @property
    def accepted(self) -> bool:
        """Whether the far end made it."""

    @property
    def usable(self) -> bool:
        """Whether it is open, or being made."""

    def close(self, reason: str) -> None:
        """Close it once what waits is written."""


class Shedding:
    """Closes the accepted ones among `connections`, when told to."""

    def __init__(self, connections: Iterable[Closable], deadlines: Deadlines, rng: random.Random) -> None:
        self._connections = connections
        self._deadlines = deadlines
        self._rng = rng
        self._plan: list[tuple[float, Closable]] = []  # the next at the end
        self._find_busy: Callable[[], Collection[str]] = tuple
        self._deadline: Deadline | None = None

    @property
    def running(self) -> bool:
        """Whether connections are still to be closed."""
        return bool(self._plan)

    def start(self, seconds: float, find_busy: Callable[[], Collection[str]], now: float) -> None:
        """Close what is open now, within `seconds`. `find_busy` answers the names of connections that something waits
        on."""
        self.stop()
        self._find_busy = find_busy
        self._plan = make_plan(self._connections, seconds, self._rng, now)
        self._close_due(None, now)

    def stop(self) -> None:
        """Close no more."""
        self._deadlines.cancel(self._deadline)
        self._deadline = None
        self._plan = []

    def _close_due(self, _argument: object, now: float) -> None:
        plan = self._plan
        busy = self._find_busy() if plan and plan[-1][0] <= now else ()
        put_off: list[tuple[float, Closable]] = []
        while plan and plan[-1][0] <= now:
            connection = plan.pop()[1]
            if connection.hop.local in busy:
                put_off.append((now + _PUT_OFF_SECONDS, connection))
            elif connection.usable:
                connection.close("drained")
        if put_off:
            plan += put_off
            plan.sort(key=_time_of, reverse=True)
        self._deadline = self._deadlines.add(plan[-1][0], self._close_due) if plan else None


def make_plan(
    connections: Iterable[Closable], seconds: float, rng: random.Random, now: float
) -> list[tuple[float, Closable]]:
    """When to close each of the accepted ones: at random, within `seconds` or less if they are few; the last first."""
    accepted = [connection for connection in connections if connection.accepted]
    spread = min(seconds, len(accepted) / CLOSES_PER_SECOND)
    return sorted([(now + rng.random() * spread, connection) for connection in accepted], key=_time_of, reverse=True)


def _time_of(planned: tuple[float, Closable]) -> float:
    return planned[0]
