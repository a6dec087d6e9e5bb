"""Byte streams of the in-memory network: what TCP promises, at the times the network decides.

Bytes arrive once, in order, in segments; a lost segment arrives late, a cut path delays until the sender gives up. A
reader that pauses fills its window and then the writer's buffer, whose producer is paused as Twisted's transports do.
A close is seen after all that was written; a reset overtakes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.base import BaseConnector
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, NoRouteError, UserError
from twisted.internet.interfaces import IAddress, IConsumer, IListeningPort, IProtocol, ITransport
from twisted.internet.protocol import ClientFactory, Factory
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from tests.support.network import Host

Endpoint = tuple[str, int]

WINDOW = 65536
WRITE_BUFFER = 65536  # where Twisted pauses a producer


def make_address(endpoint: Endpoint) -> IAddress:
    """The address object that Twisted would show."""
    kind = IPv6Address if ":" in endpoint[0] else IPv4Address
    return kind("TCP", *endpoint)


def reset_all(host: Host, *, told: bool) -> None:
    """Drop every stream of a host whose process is gone; its peers hear of it when `told`."""
    for end in list(host.connections):
        end.vanish(told=told)
    host.connections.clear()


@implementer(ITransport, IConsumer)
class StreamEnd:
    """One end of a stream: the transport of one protocol."""

    def __init__(self, host: Host, local: Endpoint, remote: Endpoint) -> None:
        self.host = host
        self.local = local
        self.remote = remote
        self.protocol: IProtocol | None = None
        self.peer: StreamEnd | None = None
        self.disconnecting = False
        self.connected = True
        self.gone = False  # the process is no more
        self.on_lost: Callable[[Failure], None] | None = None
        self._unsent = bytearray()
        self._flight: deque[tuple[float, bytes | None]] = deque()
        self._in_flight = 0
        self._arriving: Any = None
        self._last_arrival = 0.0
        self._blocked_since: float | None = None
        self._retry = 0.0
        self._reading = True
        self._inbox: deque[bytes | None] = deque()
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        host.connections[self] = None

    # ITransport, IConsumer

    def write(self, data: bytes) -> None:
        """Send, now or when the window opens."""
        if not self.connected or self.disconnecting or not data:
            return
        self.host.network.show("TCP", self.local, self.remote, data)
        self._unsent += data
        self._pump()
        if len(self._unsent) > WRITE_BUFFER and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """Send the pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when all is sent."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._pump()

    def abortConnection(self) -> None:
        """Reset."""
        if self.connected:
            self.disconnecting = True
            self._reset_peer()
            self.host.callLater(0, self._lose, ConnectionAborted())

    def getPeer(self) -> IAddress:
        """The far end."""
        return make_address(self.remote)

    def getHost(self) -> IAddress:
        """Our end."""
        return make_address(self.local)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is ever held back here."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nobody asks whether the peer is alive."""

    def start(self, protocol: IProtocol) -> None:
        """Give the end its protocol; what came before is delivered now."""
        self.protocol = protocol
        protocol.makeConnection(self)
        self.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell a producer when to stop and go on."""
        self._producer, self._streaming = producer, streaming

    def unregisterProducer(self) -> None:
        """No more."""
        self._producer, self._streaming, self._producer_paused = None, False, False

    def pauseProducing(self) -> None:
        """Stop reading."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Read what waits and go on."""
        self._reading = True
        while self._inbox and self._reading and self.connected:
            self._deliver(self._inbox.popleft())

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # The wire

    def _pump(self) -> None:
        network = self.host.network
        peer = self.peer
        if peer is None or not self.connected:
            return
        path = network.path_between(self.host, peer.host)
        while self._unsent and self._in_flight < WINDOW:
            size = min(path.segment_bytes, WINDOW - self._in_flight)
            segment = bytes(self._unsent[:size])
            del self._unsent[:size]
            self._in_flight += len(segment)
            self._enqueue(segment)
        if not self._unsent:
            if self._producer_paused:
                self._producer_paused = False
                self._producer.resumeProducing()
            if self.disconnecting and not self._unsent and not (self._flight and self._flight[-1][1] is None):
                self._enqueue(None)

    def _enqueue(self, segment: bytes | None) -> None:
        network = self.host.network
        assert self.peer is not None
        path = network.path_between(self.host, self.peer.host)
        delay, wait = network.delay_of(path), network.retransmit_seconds
        while path.loss and network.rng.random() < path.loss and wait < 60:
            delay, wait = delay + wait, wait * 2
        self._last_arrival = max(self._last_arrival, network.clock.rightNow + delay)
        self._flight.append((self._last_arrival, segment))
        if self._arriving is None:
            self._arm(self._flight[0][0])

    def _arm(self, at: float) -> None:
        clock = self.host.network.clock
        self._arriving = clock.callLater(max(0.0, at - clock.rightNow), self._arrive)

    def _arrive(self) -> None:
        self._arriving = None
        network, peer = self.host.network, self.peer
        if self.gone or peer is None or not self._flight:
            return
        now = network.clock.rightNow
        if not network.is_open(self.host, peer.host):
            if self._blocked_since is None:
                self._blocked_since, self._retry = now, network.retransmit_seconds
            if now - self._blocked_since >= network.give_up_seconds:
                self._flight.clear()
                self.host.do(lambda: self._lose(error.TimeoutError()))
                return
            self._arm(now + self._retry)
            self._retry = min(self._retry * 2, network.retransmit_most)
            return
        self._blocked_since = None
        if peer.gone:
            self._flight.clear()
            peer._reset_peer()
            return
        while self._flight and self._flight[0][0] <= now:
            segment = self._flight.popleft()[1]
            peer.host.do(lambda segment=segment: peer._take(segment))  # type: ignore[misc]
            if segment is None and not self.gone:
                self.host.do(lambda: self._lose(ConnectionDone()))
        if self._flight and self._arriving is None:
            self._arm(self._flight[0][0])

    def _take(self, segment: bytes | None) -> None:
        if not self.connected:
            return
        if self._reading and not self._inbox and self.protocol is not None:
            self._deliver(segment)
        else:
            self._inbox.append(segment)

    def _deliver(self, segment: bytes | None) -> None:
        if segment is None:
            self._lose(ConnectionDone())
            return
        assert self.protocol is not None
        if self.peer is not None:
            self.peer._in_flight -= len(segment)
            self.peer._pump()
        if not self.disconnecting:
            self.protocol.dataReceived(segment)

    def _reset_peer(self) -> None:
        """Send a reset; it is lost when the path is cut."""
        network, peer = self.host.network, self.peer
        if peer is None:
            return
        delay = network.delay_of(network.path_between(self.host, peer.host))
        network.clock.callLater(delay, self._reset_arrives, peer)

    def _reset_arrives(self, peer: StreamEnd) -> None:
        if peer.connected and not peer.gone and self.host.network.is_open(self.host, peer.host):
            peer.host.do(lambda: peer._lose(ConnectionLost()))

    def _lose(self, why: Exception) -> None:
        if not self.connected or self.gone:
            return
        self.connected = False
        self.host.connections.pop(self, None)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        failure = Failure(why)
        protocol, self.protocol = self.protocol, None  # as Twisted's transports let go of it
        if protocol is not None:
            protocol.connectionLost(failure)
        if self.on_lost is not None:
            self.on_lost(failure)

    def vanish(self, *, told: bool) -> None:
        """The process is gone; its protocol hears nothing."""
        self.gone = True
        self.connected = False
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None
        if told:
            self._reset_peer()


class _Attempt:
    """A connection being made: what BaseConnector calls its transport until there is one."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._over = False
        self._wait = connector.host.network.retransmit_seconds * 5
        self.end: StreamEnd | None = None
        connector.host.callLater(0, self._send_syn)

    def failIfNotConnected(self, why: Exception) -> None:
        """It took too long, or nobody wants it any more."""
        if not self._over:
            self._over = True
            self._connector.connectionFailed(Failure(why))

    def loseConnection(self) -> None:
        """The connector was told to disconnect."""
        if self.end is not None:
            self.end.loseConnection()
        else:
            self.failIfNotConnected(UserError())

    def _send_syn(self) -> None:
        connector, host = self._connector, self._connector.host
        network = host.network
        if self._over:
            return
        try:
            source = connector.bind_address[0] if connector.bind_address else host.source_address(connector.target[0])
        except OSError:
            self.failIfNotConnected(NoRouteError())
            return
        receiver = network.find_host(host, connector.target[0])
        if receiver is None or not network.is_open(host, receiver) or not network.is_open(receiver, host):
            host.callLater(self._wait, self._send_syn)
            self._wait *= 2
            return
        way = network.delay_of(network.path_between(host, receiver))
        network.clock.callLater(way, self._syn_arrives, receiver, (source, host.free_port()))

    def _syn_arrives(self, receiver: Host, source: Endpoint) -> None:
        connector, host = self._connector, self._connector.host
        network = host.network
        back = network.delay_of(network.path_between(receiver, host))
        port = receiver.find_port(connector.target)
        if not receiver.powered or port is None:
            network.clock.callLater(
                back, lambda: host.do(lambda: self.failIfNotConnected(error.ConnectionRefusedError()))
            )
            return
        if self._over:
            return
        ours = StreamEnd(host, source, connector.target)
        seen = network.translate_source(host, source, connector.target)
        theirs = StreamEnd(receiver, connector.target, seen)
        ours.peer, theirs.peer = theirs, ours
        receiver.do(lambda: port.accept(theirs))
        network.clock.callLater(back, lambda: host.do(lambda: self._established(ours)))

    def _established(self, end: StreamEnd) -> None:
        if end.gone:
            return
        if not end.connected:
            self.failIfNotConnected(ConnectionLost())
            return
        if self._over:
            end.abortConnection()
            return
        self._over = True
        self.end = end
        connector = self._connector
        protocol = connector.buildProtocol(end.getPeer())
        if protocol is None:
            end.abortConnection()
            return
        end.on_lost = connector.connectionLost
        end.start(protocol)


class Connector(BaseConnector):
    """What connectTCP answers."""

    def __init__(
        self, host: Host, target: Endpoint, factory: ClientFactory, timeout: float, bind_address: Endpoint | None
    ) -> None:
        self.target = target
        self.bind_address = bind_address
        super().__init__(factory, timeout, cast(Any, host))
        self.host = host

    def _makeTransport(self) -> Any:
        return _Attempt(self)

    def getDestination(self) -> IAddress:
        """Where it goes."""
        return make_address(self.target)


@implementer(IListeningPort)
class StreamPort:
    """What listenTCP answers."""

    def __init__(self, host: Host, endpoint: Endpoint, factory: Factory, table: dict[Endpoint, StreamPort]) -> None:
        self._host = host
        self._endpoint = endpoint
        self._factory = factory
        self._table = table

    def accept(self, end: StreamEnd) -> None:
        """A stream has come in."""
        protocol = cast("IProtocol | None", self._factory.buildProtocol(end.getPeer()))
        if protocol is None:
            end.loseConnection()
            return
        end.start(protocol)

    def startListening(self) -> None:
        """It listens from the start."""

    def stopListening(self) -> Deferred[None]:
        """Close; answered in the next turn."""
        done: Deferred[None] = Deferred()
        if self._table.pop(self._endpoint, None) is not None:
            self._host.callLater(0, self._closed, done)
        else:
            done.callback(None)
        return done

    def _closed(self, done: Deferred[None]) -> None:
        self._factory.doStop()
        done.callback(None)

    def getHost(self) -> IAddress:
        """Where it is bound."""
        return make_address(self._endpoint)
