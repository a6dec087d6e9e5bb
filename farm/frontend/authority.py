"""The name server's sockets: datagrams and connections in, what `answers` makes of them out (RFC 1035 §4.2, RFC 7766).

A thin shell around `zone`, `answers` and `notify`: it binds, looks at most every 0.2 s whether the zone has changed,
and limits what a stranger can hold: connections in all and from one address, seconds without a question, the size of a
question, and what waits for a peer that does not read. No exception leaves it; each is counted and logged.

Decided: every listener has an address of its own, no wildcard: an answer must come from the address that was asked.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.protocol import DatagramProtocol, ServerFactory
from twisted.logger import Logger
from twisted.protocols.basic import Int16StringReceiver

from farm.addresses import parse_host_port
from farm.config import DnsSettings
from farm.deadlines import Deadline, Deadlines
from farm.frontend.answers import LARGEST_QUERY, Answers, is_response
from farm.frontend.notify import Address, Notices
from farm.frontend.response_rate import ResponseRate
from farm.frontend.zone import Edge, Zone, ZoneSettings
from farm.metrics import Metrics

PORT: Final = 53
LOOK_SECONDS: Final = 0.2
WATCH_SECONDS: Final = 0.5
CONNECTIONS_PER_SOURCE: Final = 20

_log: Final = Logger(namespace="dns")


class Roster(Protocol):
    """Port to the farm's nodes."""

    def edges(self) -> Iterable[Edge]:
        """Those that strangers may be sent to: synchronised, not being drained, not dead."""

    def knows_farm(self) -> bool:
        """Whether this node hears how the others are; not so after it has left them."""


class Authority:
    """The name server of a node. `clock` is monotonic, `wall` seconds since 1970."""

    def __init__(
        self,
        reactor: Any,
        settings: DnsSettings,
        zone: ZoneSettings,
        roster: Roster,
        deadlines: Deadlines,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        self.zone = Zone(zone)
        self.settings = settings
        self._reactor = reactor
        self._roster = roster
        self._deadlines = deadlines
        self._clock = clock
        self._wall = wall
        self._rate = ResponseRate(settings.responses_per_second)
        secondaries = read_secondaries(settings)
        self.answers = Answers(self.zone, [host for host, _ in secondaries], self._rate, rng, metrics)
        self._notices = Notices(secondaries, self._send, deadlines, rng, metrics)
        self._unexpected = metrics.unexpected_errors.child("dns")
        self._rejections = metrics.dns_rejections
        self._looked_at = float("-inf")
        self._watching: Deadline | None = None
        self._sockets: list[_Datagrams] = []
        self._ports: list[Any] = []
        self._connections: set[_Connection] = set()
        self._by_source: Counter[str] = Counter()
        metrics.zone_serial.child().set_function(lambda: float(self.zone.serial))
        metrics.zone_nodes.child().set_function(self._count_edges)

    # Life

    def listen(self) -> None:
        """Bind every address over UDP and TCP. Raises CannotListenError."""
        for text in self.settings.listen:
            host, port = parse_host_port(text)
            datagrams = _Datagrams(self, host)
            self._ports.append(
                self._reactor.listenUDP(port or 0, datagrams, interface=host, maxPacketSize=LARGEST_QUERY)
            )
            self._sockets.append(datagrams)
            port = self._ports[-1].getHost().port
            self._ports.append(self._reactor.listenTCP(port, _Streams(self), interface=host))

    def start(self) -> None:
        """Watch the farm, if anybody can ask."""
        if self._sockets:
            self._watch(None, self._clock())

    def stop(self) -> Deferred[Any]:
        """Close everything; fires when nothing listens any more."""
        self._notices.stop()
        self._deadlines.cancel(self._watching)
        for connection in list(self._connections):
            connection.close()
        ports, self._ports, self._sockets = self._ports, [], []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])

    def change(self, settings: DnsSettings, zone: ZoneSettings) -> None:
        """Take other limits and secondaries, and what is said of the zone but its name, which waits for a restart."""
        self.settings = settings
        self.zone.change(zone)
        self._rate.change(settings.responses_per_second)
        secondaries = read_secondaries(settings)
        self.answers.secondaries = frozenset(host for host, _ in secondaries)
        self._notices.change(secondaries)

    @property
    def listener_addresses(self) -> list[Address]:
        """Where it listens."""
        return [(port.getHost().host, port.getHost().port) for port in self._ports[::2]]

    # The zone

    def look(self, now: float) -> None:
        """Bring the zone up to date, and tell the secondaries of a new version."""
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self.answers.serves = self._roster.knows_farm()
        if self.answers.serves and self.zone.update(self._roster.edges(), now, self._wall()):
            _log.info("the zone has {nodes} nodes, serial {serial}", nodes=len(self.zone), serial=self.zone.serial)
            if self._sockets:
                self._notices.tell(self.zone.soa, now)

    def _count_edges(self) -> float:
        return float(sum(1 for edge in self._roster.edges() if edge.listeners))

    def _watch(self, _argument: object, now: float) -> None:
        self._watching = self._deadlines.add(now + WATCH_SECONDS, self._watch)
        self.look(now)

    # What comes in

    def receive_datagram(self, data: bytes, address: Address) -> bytes:
        """One datagram; the answer, b"" for none."""
        try:
            now = self._clock()
            if is_response(data) and self._notices.receive(data, address):
                return b""
            self.look(now)
            return self.answers.answer_datagram(data, address[0], now)
        except Exception:
            self._report()
            return b""

    def receive_message(self, data: bytes, host: str) -> list[bytes]:
        """One message of a connection; the answers."""
        try:
            self.look(self._clock())
            return self.answers.answer_stream(data, host)
        except Exception:
            self._report()
            return []

    def _send(self, data: bytes, address: Address) -> None:
        """A NOTIFY, from the first listener of the family: the one that a secondary knows us by."""
        for datagrams in self._sockets:
            if (":" in datagrams.host) == (":" in address[0]):
                datagrams.send(data, address)
                return

    def _report(self) -> None:
        self._unexpected.inc()
        _log.failure("a question to the zone could not be answered")

    # Connections

    def admit(self, host: str) -> bool:
        """Whether one more connection from there has room; counts the refusal."""
        full = len(self._connections) >= self.settings.connections
        if full or self._by_source[_source_of(host)] >= CONNECTIONS_PER_SOURCE:
            self._rejections.child("too-many-connections").inc()
            return False
        return True

    def opened(self, connection: _Connection) -> None:
        """A connection is there."""
        self._connections.add(connection)
        self._by_source[_source_of(connection.host)] += 1

    def closed(self, connection: _Connection) -> None:
        """It is gone."""
        if connection in self._connections:
            self._connections.remove(connection)
            source = _source_of(connection.host)
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]

    def arm(self, connection: _Connection) -> Deadline:
        """When to close it if nothing comes."""
        return self._deadlines.add(self._clock() + self.settings.idle_seconds, self._end_idle, connection)

    def settle(self, connection: _Connection) -> Deadline | None:
        """Count an answer; what calls the connection's `settle` when it is too early to, None when it is counted."""
        until = self._rate.pace(connection.host, self._clock())
        return self._deadlines.add(until, self._settle_again, connection) if until else None

    def _settle_again(self, connection: _Connection, now: float) -> None:
        try:
            connection.settle()
        except Exception:
            self._report()

    def disarm(self, deadline: Deadline | None) -> None:
        """Something came."""
        self._deadlines.cancel(deadline)

    def _end_idle(self, connection: _Connection, now: float) -> None:
        connection.close()

    def count_oversize(self) -> None:
        """Somebody announced a question that nobody needs."""
        self._rejections.child("oversize").inc()


class _Datagrams(DatagramProtocol):
    """One UDP socket."""

    noisy = False

    def __init__(self, authority: Authority, host: str) -> None:
        self.host = host
        self._authority = authority

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Called by Twisted."""
        answer = self._authority.receive_datagram(datagram, (addr[0], addr[1]))
        if answer:
            self.send(answer, addr)

    def send(self, data: bytes, address: Address) -> None:
        """Send; what the network refuses is asked for again by whoever wants it."""
        transport: Any = self.transport
        try:
            transport.write(data, address)
        except (OSError, ValueError, OverflowError):
            return


class _Streams(ServerFactory):
    noisy = False

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def buildProtocol(self, addr: Any) -> _Connection | None:
        if not self._authority.admit(addr.host):
            return None
        return _Connection(self._authority, addr.host)


class _Connection(Int16StringReceiver):
    """One TCP connection. Reading stops while its peer does not read (Twisted asks it to, as a producer), and while its
    network has had its share of answers."""

    MAX_LENGTH = LARGEST_QUERY

    def __init__(self, authority: Authority, host: str) -> None:
        self.host = host
        self._authority = authority
        self._idle: Deadline | None = None
        self._held: Deadline | None = None  # until an answer is counted
        self._full = False  # the peer does not read

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._transport = transport
        self._authority.opened(self)
        transport.registerProducer(self, True)
        self._idle = self._authority.arm(self)

    def stringReceived(self, string: bytes) -> None:
        self._authority.disarm(self._idle)
        self._idle = self._authority.arm(self)
        for answer in self._authority.receive_message(string, self.host):
            self.sendString(answer)
        self.settle()

    def settle(self) -> None:
        """Read on once the last answer is counted."""
        self._held = self._authority.settle(self)
        if self._held is not None:
            super().pauseProducing()
        elif self.paused and not self._full:
            super().resumeProducing()

    def pauseProducing(self) -> None:
        self._full = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._full = False
        if self._held is None:
            super().resumeProducing()

    def lengthLimitExceeded(self, length: int) -> None:
        self._authority.count_oversize()
        self.close()

    def stopProducing(self) -> None:
        self.close()

    def connectionLost(self, reason: Any = None) -> None:
        self._authority.disarm(self._idle)
        self._authority.disarm(self._held)
        self._authority.closed(self)

    def close(self) -> None:
        """End it, whatever waits to be read by the peer."""
        self._transport.unregisterProducer()
        self._transport.abortConnection()


def _source_of(host: str) -> str:
    """What connections are counted by: the address, of IPv6 the /64 that one customer has."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))


def read_secondaries(settings: DnsSettings) -> list[Address]:
    """Address and port of each secondary."""
    found = []
    for text in settings.secondaries:
        host, port = parse_host_port(text)
        found.append((str(ipaddress.ip_address(host)), port or PORT))
    return found
