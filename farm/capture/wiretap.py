"""Where the transport shows each message while somebody watches: it is timed, and handed to all who do.

It fills the transport's port `Watcher`. While nobody watches, the transport has none, and nothing here runs.

Decided: the socket does not tell from which address of the machine a datagram leaves when the kernel chooses it. It is
asked once for each far end, by what looks a route up; the answer is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from farm.capture.seen import Address, Seen

MOST_SOURCES: Final = 1000  # far ends whose route is remembered
_WILDCARDS: Final = frozenset(("0.0.0.0", "::"))


class Viewer(Protocol):
    """Who watches."""

    def show(self, seen: Seen) -> None:
        """One message."""


class Wiretap:
    """Shows each message to all `viewers`. `wall` is seconds since 1970; `find_source` answers the address of ours that
    a datagram to a far end leaves from; `report` is told of a fault of ours, which costs the copy and not the message.
    """

    def __init__(
        self, wall: Callable[[], float], find_source: Callable[[Address], str], report: Callable[[str], None]
    ) -> None:
        self.viewers: list[Viewer] = []
        self._wall = wall
        self._find_source = find_source
        self._report = report
        self._sources: dict[str, str] = {}

    def watch(self, data: bytes, transport: str, local: Address, remote: Address, *, sent: bool) -> None:
        """One message; does not raise."""
        try:
            if local[0] in _WILDCARDS:
                local = (self._name_source(remote), local[1])
            seen = Seen(int(self._wall() * 1_000_000), transport, sent, local, remote, data)
            for viewer in self.viewers:
                viewer.show(seen)
        except Exception:
            self._report("a message could not be copied")

    def _name_source(self, remote: Address) -> str:
        source = self._sources.get(remote[0])
        if source is None:
            if len(self._sources) >= MOST_SOURCES:
                self._sources.clear()
            source = self._sources[remote[0]] = self._find_source(remote)
        return source
