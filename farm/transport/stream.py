"""TCP: listeners, outgoing connections, and the table of all streams (RFC 3261 §18).

A connection is found by its far end, so that requests go over one that is already there, accepted ones included, and
by its own name, which a binding keeps: a phone behind NAT is reached through the connection it opened, or not at all.
Where a far end must prove a domain, it is found by that as well: a connection that was made for it, or an accepted one
whose peer has proved it and wants to be reached so (`alias`, RFC 5923).
Accepting is limited in all and by source; who comes over the limit is closed at once and counted.

TLS and WebSocket are other ways to make the two ends of a `StreamWire`; the table and `Connection` serve them as they
are.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final, TypeAlias

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorSocket
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from farm.sip.hop import Hop
from farm.transport.connection import Connection, Session, StreamContext
from farm.transport.local import WILDCARDS, make_listener_name
from farm.transport.udp import ListenError, bind_socket, explain_refusal

# Connections that may wait for a turn of ours: Twisted's 50 are soon full when phones come back all at once, and each
# that finds no room tries again after a second.
BACKLOG: Final = 1024
_NAMED: Final = "#"  # between a listener's name and a connection's number

_Proved: TypeAlias = tuple[str, str, int, str]  # transport, address, port and domain


def names_connection(local: str) -> bool:
    """Whether a hop's `local` names one connection, not a listener."""
    return _NAMED in local


def number_of(local: str) -> str:
    """The number in a connection's name, which no other connection of the node has."""
    return local[local.rfind(_NAMED) + 1 :]


class StreamTable:
    """All stream connections of a node, of every transport. `first_number` makes names that no earlier boot gave."""

    def __init__(self, context: StreamContext, first_number: int) -> None:
        self.context = context
        self._next_number = first_number
        self._all: dict[str, Connection] = {}  # by number, which is all of the name that a token has room for
        self._by_remote: dict[tuple[str, str, int], Connection] = {}
        self._by_domain: dict[_Proved, Connection] = {}
        self._proved: dict[str, list[_Proved]] = {}  # by the connection's name, its keys there
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

    def add(
        self,
        transport: str,
        host: str,
        port: int,
        listener: str,
        *,
        accepted: bool,
        session: Session | None = None,
        domain: str = "",
    ) -> Connection:
        """A new connection, not yet open; one that is made for a domain ends when the far end does not prove it."""
        name = f"{listener}{_NAMED}{self._next_number:x}"
        self._next_number += 1
        hop = Hop(transport, host, port, name)
        connection = Connection(self.context, hop, listener, accepted=accepted, session=session)
        self._all[number_of(name)] = connection
        self._by_remote[(transport, host, port)] = connection
        if accepted:
            key = source_key(host)
            self._by_source[key] = self._by_source.get(key, 0) + 1
        if domain:
            self._prove(connection, port, (domain,))
        metrics, label = self.context.metrics, transport.lower()
        metrics.flows.child(label).inc()
        metrics.flows_opened.child(label, "in" if accepted else "out").inc()
        return connection

    def remove(self, connection: Connection) -> None:
        """It has ended."""
        hop = connection.hop
        if self._all.pop(number_of(hop.local), None) is None:
            return
        if self._by_remote.get(hop.remote) is connection:
            del self._by_remote[hop.remote]
        for proved in self._proved.pop(hop.local, ()):
            if self._by_domain.get(proved) is connection:
                del self._by_domain[proved]
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
        """The usable connection that a hop means: the one it names, one whose far end proves the domain, or any with
        that far end.

        An address in place of a domain is proved by an accepted connection that comes from it.
        """
        domain = hop.domain
        if names_connection(hop.local):
            connection = self._all.get(number_of(hop.local))
        elif domain:
            connection = self._by_domain.get((*hop.remote, domain))
            if connection is None and domain == hop.host:
                accepted = self._by_remote.get(hop.remote)
                connection = accepted if accepted is not None and accepted.accepted else None
        else:
            connection = self._by_remote.get(hop.remote)
        return connection if connection is not None and connection.usable else None

    def alias(self, connection: Connection, port: int) -> None:
        """An accepted connection may carry requests to the domains that its peer has proved, at the port that it says
        it listens on (RFC 5923 §8); the first port it names."""
        if connection.accepted and connection.domains and connection.hop.local not in self._proved:
            self._prove(connection, port, connection.domains)

    def _prove(self, connection: Connection, port: int, domains: Iterable[str]) -> None:
        transport, host = connection.hop[:2]
        keys: list[_Proved] = [(transport, host, port, domain) for domain in domains]
        self._proved[connection.hop.local] = keys
        for key in keys:
            self._by_domain[key] = connection

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

    def find_local(self) -> tuple[str, int]:
        """Our end of the socket; ("", 0) when it is gone."""
        try:
            end = self.transport.getHost()
        except (OSError, AttributeError):  # Twisted deletes what it closes
            return "", 0
        return unmap_address(end.host), end.port


class TcpListener(ServerFactory):
    """One bound socket that accepts streams. Another transport is another `transport` and another `make_wire`."""

    noisy = False
    transport: ClassVar[str] = "TCP"

    def __init__(self, host: str, port: int, table: StreamTable) -> None:
        self.name = make_listener_name(self.transport, host, port)
        self.host = host
        self.port = port
        self.front: ServerFactory | None = None  # what takes the connections before they are this one's, if anything
        self._table = table
        self._port: Any = None

    def open(self, reactor: Any, handed: socket.socket | None = None) -> None:
        """Take the bound socket that was handed over, or bind, to any free port when it is 0; raises ListenError."""
        if IReactorSocket.providedBy(reactor):
            with handed or bind_socket(self.name, socket.SOCK_STREAM, self.host, self.port) as bound:
                self._port = reactor.adoptStreamPort(bound.fileno(), bound.family, self.front or self)
        else:
            try:
                self._port = reactor.listenTCP(self.port, self.front or self, BACKLOG, interface=self.host)
            except CannotListenError as error:
                raise ListenError(explain_refusal(self.name, error.socketError)) from None
        self.port = self._port.getHost().port
        self.name = make_listener_name(self.transport, self.host, self.port)

    def close(self) -> Deferred[Any]:
        """Accept no more."""
        return maybeDeferred(self._port.stopListening)

    def make_wire(self, connection: Connection) -> Protocol:
        """What carries an accepted connection."""
        return StreamWire(connection)

    def make_session(self) -> Session | None:
        """What lies between its bytes and its messages, None for a plain stream."""
        return None

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """Called by Twisted for each connection; None closes it."""
        table = self._table
        host = unmap_address(addr.host)
        refusal = table.find_refusal(host, accepted=True)
        if refusal:
            context = table.context
            hop = Hop(self.transport, host, addr.port, self.name)
            context.receiver.note_rejection(refusal, hop, context.clock())
            return None
        session = self.make_session()
        return self.make_wire(table.add(self.transport, host, addr.port, self.name, accepted=True, session=session))


class TcpConnector(ClientFactory):
    """One outgoing connection being made."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._connector: Any = None

    def make_wire(self, connection: Connection) -> Protocol:
        """What carries the connection that has been made."""
        return StreamWire(connection)

    def start(self, reactor: Any, listen_host: str, connect_seconds: float) -> None:
        """Connect, from the listener's own address unless it is bound to all."""
        connection = self._connection
        hop = connection.hop
        bind = None if not listen_host or listen_host in WILDCARDS else (listen_host, 0)
        connection.prepare(self)
        self._connector = reactor.connectTCP(hop.host, hop.port, self, timeout=connect_seconds, bindAddress=bind)

    def buildProtocol(self, addr: Any) -> Protocol:
        """Called by Twisted when the peer has accepted."""
        return self.make_wire(self._connection)

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

    def find_local(self) -> tuple[str, int]:
        """There is none yet."""
        return "", 0


def source_key(host: str) -> str:
    """What connections of one source are counted by: the address, of IPv6 the /64 that one customer has."""
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host)[:8].hex()


def unmap_address(host: str) -> str:
    """An address as Twisted tells it, without its scope."""
    return host.partition("%")[0] if "%" in host else host
