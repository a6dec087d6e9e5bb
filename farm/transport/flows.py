"""The flows that are neither a UDP address nor one connection: the way back of a stream's request, and no way at all.

RFC 3261 §18.2.2: an answer goes over the connection that its request came in on; when that is closed, over a new one to
the request's source and the sent-by port.

Decided: the DNS procedures that §18.2.2 offers when that fails as well are left out: the requester's own retransmission
brings the answer here again, with its new connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

from farm.sip.hop import Hop
from farm.transport.connection import Connection
from farm.transport.local import WILDCARDS, is_loopback


class Bound(Protocol):
    """A listener, as far as choosing one needs."""

    host: str


_Bound = TypeVar("_Bound", bound=Bound)


class DeadFlow:
    """A way that leads nowhere: a closed connection, a group address, a transport we lack."""

    __slots__ = ("hop", "local_name")

    breaks: Final = False  # it says at once that it leads nowhere

    def __init__(self, hop: Hop, local_name: str) -> None:
        self.hop = hop
        self.local_name = local_name

    def __repr__(self) -> str:
        return f"<DeadFlow {self.hop}>"

    @property
    def reliable(self) -> bool:
        """As the transport that was wanted."""
        return self.hop.transport != "UDP"

    @property
    def transport(self) -> str:
        """The transport that was wanted."""
        return self.hop.transport

    def send(self, data: bytes) -> bool:
        """Nothing is sent."""
        return False


class StreamReply:
    """The way back of one request that came over a stream: its connection, or when that is gone a new one to `back`."""

    __slots__ = ("_connection", "_flow_to", "back")

    reliable: Final = True
    breaks: Final = True

    def __init__(self, connection: Connection, back: Hop, flow_to: Callable[[Hop], Any]) -> None:
        self._connection = connection
        self._flow_to = flow_to
        self.back = back

    def __repr__(self) -> str:
        return f"<StreamReply {self._connection!r} or {self.back}>"

    @property
    def transport(self) -> str:
        """The connection's."""
        return self._connection.transport

    @property
    def hop(self) -> Hop:
        """The connection's far end."""
        return self._connection.hop

    @property
    def local_name(self) -> str:
        """The listener's name."""
        return self._connection.local_name

    def send(self, data: bytes) -> bool:
        """Send an answer (§18.2.2)."""
        connection = self._connection
        if not connection.usable:
            flow = self._flow_to(self.back)
            if not isinstance(flow, Connection):
                return False
            self._connection = connection = flow
            connection.replies.add(self)
        return connection.send(data)


def choose_listener(listeners: Iterable[_Bound], target: str) -> _Bound | None:
    """The first listener of the target's family that is bound to all addresses or lies on the target's side of
    loopback; else the first of the family; None without any."""
    inside = is_loopback(target)
    fallback: _Bound | None = None
    for listener in listeners:
        host = listener.host
        if (":" in host) != (":" in target):
            continue
        if host in WILDCARDS or is_loopback(host) == inside:
            return listener
        fallback = fallback or listener
    return fallback
