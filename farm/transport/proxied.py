"""Listeners behind a balancer that speaks the PROXY protocol: the header first, then the connection that it names.

A `ProxyFront` takes the connections of a listener in its stead. Who is not in the networks that may speak the protocol
is cut at once, for the header would let anybody be anybody; a header must be whole within its time and its size, and
while it is awaited the connection counts against the limit of all connections. Then the listener builds what it builds
for the far client's address, TLS and WebSocket included, and never learns that there is somebody in between: limits by
source, the gate and `received` are the far client's.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure

from farm.deadlines import Deadline
from farm.sip.hop import Hop
from farm.transport.connection import StreamContext
from farm.transport.proxy_protocol import Own, Unclear, parse_header
from farm.transport.stream import StreamTable, TcpListener, unmap_address

_MAPPED: Final = "::ffff:"


class ProxyFront(ServerFactory):
    """Takes the connections of `listener` and gives each to it once its header is read."""

    noisy = False

    def __init__(self, listener: TcpListener, table: StreamTable, networks: Iterable[str]) -> None:
        self.listener = listener
        self.readers: set[HeaderReader] = set()  # connections whose header has not come yet
        self._table = table
        self.change(networks)

    def change(self, networks: Iterable[str]) -> None:
        """Take the connections of balancers in these from now on."""
        self._networks = [ip_network(network) for network in networks]

    @property
    def context(self) -> StreamContext:
        """What all connections share."""
        return self._table.context

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """Called by Twisted for each connection; None closes it."""
        host = unmap_address(addr.host)
        if not is_within(host, self._networks):
            self.refuse("proxy-not-trusted", host, addr.port)
        elif len(self._table) + len(self.readers) >= self.context.limits.connections:
            self.refuse("too-many-connections", host, addr.port)
        else:
            return HeaderReader(self, host, addr.port)
        return None

    def stopFactory(self) -> None:
        """Called by Twisted when the listener is closed."""
        for reader in list(self.readers):
            reader.transport.abortConnection()

    def refuse(self, reason: str, host: str, port: int) -> None:
        """Count a connection that is turned away."""
        listener, context = self.listener, self.context
        context.receiver.note_rejection(reason, Hop(listener.transport, host, port, listener.name), context.clock())


class HeaderReader(Protocol):
    """One connection of a balancer: until its header is whole, and then what passes bytes to the one within."""

    transport: Any

    def __init__(self, front: ProxyFront, host: str, port: int) -> None:
        self._front = front
        self._host = host
        self._port = port
        self._head = b""
        self._deadline: Deadline | None = None
        self._inner: IProtocol | None = None

    def connectionMade(self) -> None:
        """Called by Twisted."""
        context = self._front.context
        self._front.readers.add(self)
        at = context.clock() + context.limits.proxy_header_seconds
        self._deadline = context.deadlines.add(at, self._give_up)

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._deadline is None:
            return  # refused: what still comes is nobody's
        self._head += data
        header = parse_header(self._head)
        if header is Unclear.MORE:
            return
        self._settle()
        if isinstance(header, Unclear):
            self._refuse("proxy-header")
        elif isinstance(header, Own):
            self._pass_on(self._host, self._port, header.length)
        else:
            self._pass_on(header.host, header.port, header.length)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Called by Twisted."""
        self._settle()
        if self._inner is not None:
            self._inner.connectionLost(reason)

    def _pass_on(self, host: str, port: int, length: int) -> None:
        """The listener takes over, with the far client's address."""
        address = IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)
        inner = self._front.listener.buildProtocol(address)
        if inner is None:  # refused and counted there
            self.transport.abortConnection()
            return
        rest, self._head = self._head[length:], b""
        self._inner = inner
        self.transport.protocol = inner  # so that startTLS finds it; a transport that keeps its own asks us
        inner.makeConnection(self.transport)
        if rest:
            inner.dataReceived(rest)

    def _give_up(self, _argument: object, now: float) -> None:
        self._settle()
        self._refuse("proxy-header-slow")

    def _refuse(self, reason: str) -> None:
        self._front.refuse(reason, self._host, self._port)
        self.transport.abortConnection()

    def _settle(self) -> None:
        """No header is awaited any more."""
        if self._deadline is not None:
            self._front.context.deadlines.cancel(self._deadline)
            self._deadline = None
            self._front.readers.discard(self)


def is_within(host: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether an address, IPv4 in IPv6 clothes too, is in one of the networks."""
    address = ip_address(host.removeprefix(_MAPPED) if "." in host else host)
    return any(address.version == network.version and address in network for network in networks)
