"""TCP: listeners, outgoing connections, and the table of all streams (RFC 3261 §18).

A connection is found by its far end, so that requests go over one that is already there, accepted ones included, and
by its own name, which a binding keeps: a phone behind NAT is reached through the connection it opened, or not at all.
Accepting is limited in all and by source; who comes over the limit is closed at once and counted.

TLS and WebSocket are other ways to make the two ends of a `StreamWire`; the table and `Connection` serve them as they
are.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorSocket
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from farm.sip.hop import Hop
from farm.transport.connection import Connection, StreamContext
from farm.transport.local import WILDCARDS, make_listener_name
from farm.transport.udp import ListenError, bind_socket, explain_refusal

# Connections that may wait for a turn of ours: Twisted's 50 are soon full when phones come back all at once, and each
# that finds no room tries again after a second.
BACKLOG: Final = 1024
_NAMED: Final = "#"  # between a listener's name and a connection's number


def names_connection(local: str) -> bool:
    """Whether a hop's `local` names one connection, not a listener."""
    return _NAMED in local


class StreamTable:
    """All stream connections of a node, of every transport. `first_number` makes names that no earlier boot gave."""

    def __init__(self, context: StreamContext, first_number: int) -> None:
        self.context = context
        self._next_number = first_number
        self._all: dict[str, Connection] = {}
        self._by_remote: dict[tuple[str, str, int], Connection] = {}
        self._by_source: dict[str, int] = {}
        self._emptied: Deferred[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all.values()))

    def find_refusal(self, host: str, *, accepted: bool) -> str:
        """Why there is no room for one more connection with that host, "" when there is."""
        limits = self.context.limits
        if len(self._all) >= limits.connections:
            return "too-many-connections"
        if accepted and self._by_source.get(source_key(host), 0) >= limits.connections_per_source:
            return "too-many-connections-from-source"
        return ""

    def add(self, transport: str, host: str, port: int, listener: str, *, accepted: bool) -> Connection:
        """A new connection, not yet open."""
        name = f"{listener}{_NAMED}{self._next_number:x}"
        self._next_number += 1
        connection = Connection(self.context, Hop(transport, host, port, name), listener, accepted=accepted)
        self._all[name] = connection
        self._by_remote[(transport, host, port)] = connection
        if accepted:
            key = source_key(host)
            self._by_source[key] = self._by_source.get(key, 0) + 1
        metrics, label = self.context.metrics, transport.lower()
        metrics.flows.child(label).inc()
        metrics.flows_opened.child(label, "in" if accepted else "out").inc()
        return connection

    def remove(self, connection: Connection) -> None:
        """It has ended."""
        hop = connection.hop
        if self._all.pop(hop.local, None) is None:
            return
        if self._by_remote.get(hop.remote) is connection:
            del self._by_remote[hop.remote]
        if connection.accepted:
            key = source_key(hop.host)
            left = self._by_source[key] - 1
            if left:
                self._by_source[key] = left
            else:
                del self._by_source[key]
        metrics, label = self.context.metrics, hop.transport.lower()
        metrics.flows.child(label).dec()
        metrics.flows_closed.child(label, connection.close_reason).inc()
        if not self._all and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def find(self, hop: Hop) -> Connection | None:
        """The usable connection that a hop means: the one it names, or any with that far end."""
        if names_connection(hop.local):
            connection = self._all.get(hop.local)
        else:
            connection = self._by_remote.get(hop.remote)
        return connection if connection is not None and connection.usable else None

    def when_empty(self) -> Deferred[None]:
        """Answered when the last connection has ended."""
        waiting: Deferred[None] = Deferred()
        if self._all:
            self._emptied = waiting
        else:
            waiting.callback(None)
        return waiting


@implementer(IPushProducer)
class StreamWire(Protocol):
    """The socket side of a `Connection`: Twisted's protocol and producer, nothing more."""

    transport: Any

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connectionMade(self) -> None:
        """Called by Twisted."""
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._connection.open(self)

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        self._connection.receive(data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Called by Twisted."""
        self._connection.end("peer" if isinstance(reason.value, ConnectionDone) else "failed")

    def pauseProducing(self) -> None:
        """Called by Twisted: its buffer is full."""
        self._connection.pause()

    def resumeProducing(self) -> None:
        """Called by Twisted: its buffer is empty."""
        self._connection.resume()

    def stopProducing(self) -> None:
        """Called by Twisted before connectionLost."""

    def write(self, data: bytes) -> None:
        """Send."""
        self.transport.write(data)

    def close(self) -> None:
        """Close when all is written."""
        self.transport.unregisterProducer()  # a paused producer would keep the transport from closing
        self.transport.loseConnection()

    def abort(self) -> None:
        """Reset."""
        self.transport.abortConnection()


class TcpListener(ServerFactory):
    """One bound socket that accepts streams."""

    noisy = False

    def __init__(self, host: str, port: int, table: StreamTable) -> None:
        self.name = make_listener_name("TCP", host, port)
        self.host = host
        self.port = port
        self._table = table
        self._port: Any = None

    def open(self, reactor: Any) -> None:
        """Bind, to any free port when it is 0; raises ListenError."""
        if IReactorSocket.providedBy(reactor):
            with bind_socket(self.name, socket.SOCK_STREAM, self.host, self.port) as bound:
                self._port = reactor.adoptStreamPort(bound.fileno(), bound.family, self)
        else:
            try:
                self._port = reactor.listenTCP(self.port, self, BACKLOG, interface=self.host)
            except CannotListenError as error:
                raise ListenError(explain_refusal(self.name, error.socketError)) from None
        self.port = self._port.getHost().port
        self.name = make_listener_name("TCP", self.host, self.port)

    def close(self) -> Deferred[Any]:
        """Accept no more."""
        return maybeDeferred(self._port.stopListening)

    def buildProtocol(self, addr: Any) -> StreamWire | None:
        """Called by Twisted for each connection; None closes it."""
        table = self._table
        host = unmap_address(addr.host)
        refusal = table.find_refusal(host, accepted=True)
        if refusal:
            context = table.context
            context.receiver.note_rejection(refusal, Hop("TCP", host, addr.port, self.name), context.clock())
            return None
        return StreamWire(table.add("TCP", host, addr.port, self.name, accepted=True))


class TcpConnector(ClientFactory):
    """One outgoing connection being made."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._connector: Any = None

    def start(self, reactor: Any, listen_host: str, connect_seconds: float) -> None:
        """Connect, from the listener's own address unless it is bound to all."""
        connection = self._connection
        hop = connection.hop
        bind = None if not listen_host or listen_host in WILDCARDS else (listen_host, 0)
        connection.prepare(self)
        self._connector = reactor.connectTCP(hop.host, hop.port, self, timeout=connect_seconds, bindAddress=bind)

    def buildProtocol(self, addr: Any) -> StreamWire:
        """Called by Twisted when the peer has accepted."""
        return StreamWire(self._connection)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Called by Twisted when the peer cannot be reached."""
        self._connection.end("failed")

    def write(self, data: bytes) -> None:
        """Nothing is written before the peer is there."""
        raise OSError(errno.ENOTCONN, "not connected yet")

    def close(self) -> None:
        """Give up."""
        self.abort()

    def abort(self) -> None:
        """Give up."""
        self._connector.disconnect()


def source_key(host: str) -> str:
    """What connections of one source are counted by: the address, of IPv6 the /64 that one customer has."""
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host)[:8].hex()


def unmap_address(host: str) -> str:
    """An address as Twisted tells it, without its scope."""
    return host.partition("%")[0] if "%" in host else host
