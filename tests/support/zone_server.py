"""A small name server for tests, over UDP and TCP, on any reactor: it says what its zone says, and errs when told to.

Unlike twisted.names' own authority it sends SOA records with negative answers, follows no alias, and can be silent,
slow or broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.names import dns

Record = Any  # a twisted.names.dns.Record_*


class ZoneServer:
    """The server. `zone` holds records by name; `asked` is every (kind, name) that came, kind "A/tcp" over TCP."""

    def __init__(self, reactor: Any, zone: dict[str, Sequence[Record]]) -> None:
        self.reactor = reactor
        self.zone = zone
        self.additional: dict[str, Sequence[tuple[str, Record]]] = {}
        self.ttl = 300
        self.soa: dns.Record_SOA | None = None
        self.silent = False
        self.delay = 0.0
        self.rcode = dns.OK
        self.question: dns.Query | None = None  # what it claims to have been asked
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self._datagrams: Any = None
        self._streams: Any = None

    def listen(self, host: str, port: int = 0) -> None:
        """Start on that port, or on a free one that `port` tells."""
        protocol = dns.DNSDatagramProtocol(self, reactor=self.reactor)
        protocol.noisy = False
        self._datagrams = self.reactor.listenUDP(port, protocol, interface=host, maxPacketSize=65_535)
        self.port = self._datagrams.getHost().port
        self._streams = self.reactor.listenTCP(self.port, _StreamFactory(self), interface=host)

    def stop_streams(self) -> None:
        """Go on without TCP."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams.stopListening()

    def stop(self) -> None:
        """Stop listening."""
        self.stop_streams()
        self._datagrams.stopListening()

    def messageReceived(self, message: dns.Message, protocol: Any, address: Any = None) -> None:
        """A question has come over UDP."""
        reply = self._reply(message, "")
        if reply is not None:
            self.reactor.callLater(self.delay, protocol.transport.write, reply.toStr(), address)

    def receive_stream(self, message: dns.Message, protocol: Any) -> None:
        """A question has come over TCP."""
        reply = self._reply(message, "/tcp")
        if reply is not None:
            reply.maxSize = 65_535
            self.reactor.callLater(self.delay, protocol.sendString, reply.toStr())

    def _reply(self, message: dns.Message, suffix: str) -> dns.Message | None:
        query = message.queries[0]
        name = query.name.name.decode().lower()
        self.asked.append((dns.QUERY_TYPES[query.type] + suffix, name))
        if self.silent:
            return None
        reply = dns.Message(message.id, answer=1, recAv=1, rCode=self.rcode)
        reply.queries = [self.question] if self.question else message.queries
        if self.rcode != dns.OK:
            return reply
        records = self.zone.get(name)
        if records is None:
            reply.rCode = dns.ENAME
        for record in records or ():
            if record.TYPE in (query.type, dns.CNAME):
                reply.answers.append(self._header(name, record))
        for owner, record in self.additional.get(name, ()):
            reply.additional.append(self._header(owner, record))
        if not reply.answers and self.soa is not None:
            reply.authority.append(self._header("example.com", self.soa))
        return reply

    def _header(self, name: str, record: Record) -> dns.RRHeader:
        ttl = self.ttl if record.ttl is None else record.ttl
        return dns.RRHeader(name.encode(), record.TYPE, dns.IN, ttl, record, auth=True)


class _StreamFactory(ServerFactory):
    noisy = False

    def __init__(self, server: ZoneServer) -> None:
        self._server = server

    def buildProtocol(self, addr: object) -> dns.DNSProtocol:
        protocol = dns.DNSProtocol(_Stream(self._server), self._server.reactor)
        protocol.factory = self
        return protocol


class _Stream:
    """The controller of one connection."""

    def __init__(self, server: ZoneServer) -> None:
        self._server = server

    def connectionMade(self, protocol: Any) -> None:
        """Called by the protocol."""

    def connectionLost(self, protocol: Any) -> None:
        """Called by the protocol."""

    def messageReceived(self, message: dns.Message, protocol: Any, address: Any = None) -> None:
        """A question has come."""
        self._server.receive_stream(message, protocol)
