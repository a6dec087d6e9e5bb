"""Who may begin a TLS handshake: so many a second from one address, and from all that nobody knows.

A handshake costs a millisecond or two of our time and next to nothing of theirs, so what is too much is turned away
before it begins, at the cost of the accept. An address from which a node has proved itself before is not counted with
the strangers: a flood from everywhere keeps newcomers out while it lasts, and not those who come back.

The bursts let a whole farm start at once: 500 nodes that dial this one twice each, or as many on one machine.

Decided: no setting. The port is for the farm's own nodes, and what is limited here is what comes besides.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from farm.security.limits import RateTable

SOURCE_PER_SECOND: Final = 20.0
SOURCE_BURST: Final = 500
STRANGERS_PER_SECOND: Final = 100.0
STRANGERS_BURST: Final = 2000
_SOURCES: Final = 4096
_KNOWN: Final = 4096
_ALL: Final = ""


class Admission:
    """The limits of one port. Addresses are numeric, as the socket has them."""

    __slots__ = ("_known", "_sources", "_strangers")

    def __init__(self) -> None:
        self._sources = RateTable(SOURCE_PER_SECOND, SOURCE_BURST, _SOURCES)
        self._strangers = RateTable(STRANGERS_PER_SECOND, STRANGERS_BURST, 1)
        self._known: OrderedDict[str, None] = OrderedDict()

    def admit(self, host: str, now: float) -> bool:
        """Whether a connection from an address may begin its handshake."""
        if self._sources.take(host, now):
            return False
        return host in self._known or not self._strangers.take(_ALL, now)

    def note_node(self, host: str) -> None:
        """A node has proved itself from there."""
        self._known[host] = None
        self._known.move_to_end(host)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
