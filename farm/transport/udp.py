"""UDP: listeners, and flows to and from one address through one local address of ours.

A datagram goes up as it came; a flow sends from the very address that the request was sent to, as RFC 3581 §4 asks, on
a listener bound to all addresses too: each address of the machine that is asked becomes a `LocalEnd`. What the network
refuses at once (RFC 3261 §18.4: no route, too long, no buffer) is False, never an exception; what ICMP refuses later
is told by the branch of the request, which a forged ICMP message would have to know.

Decided: sockets are made here: Twisted's `listenUDP` offers no buffer size, and without IPV6_V6ONLY `[::]` takes the
port of `0.0.0.0`. A reactor without sockets (the in-memory network) gets `listenUDP` after all.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import DatagramProtocol

from farm.metrics import Metrics
from farm.sip.hop import Hop
from farm.transport.datagrams import LARGEST_DATAGRAM, Address, DatagramSocket
from farm.transport.local import WILDCARDS, make_listener_name
from farm.transport.traffic import Traffic

MOST_ENDS: Final = 64  # local addresses that a listener keeps apart; beyond, the kernel chooses

# the start of a request of ours: its method, and the branch of its first Via, which is ours
_QUOTED: Final = re.compile(rb"(?!SIP/)([!-~]+) [^\r\n]*\r\nVia:[^\r\n]*;branch=([^;,\s]+)[;,\s]")


class ListenError(Exception):
    """A listener cannot be opened; `str()` of it is one line for the operator."""


class DatagramReceiver(Protocol):
    """Where datagrams go: the layer. None of these raises."""

    def receive_datagram(self, data: bytes, address: Address, end: UdpEnd) -> None:
        """One datagram, whatever is in it."""

    def receive_new_end(self, end: LocalEnd) -> None:
        """A listener bound to all addresses was asked at one for the first time."""

    def receive_refused_request(self, method: str, branch: str, address: Address) -> None:
        """A request of ours met an unreachable port or host."""


class UdpListener(DatagramProtocol):
    """One bound socket."""

    noisy = False

    def __init__(self, host: str, port: int, receiver: DatagramReceiver, traffic: Traffic, metrics: Metrics) -> None:
        self.name = make_listener_name("UDP", host, port)
        self.host = host
        self.port = port
        self._receiver = receiver
        self._errors = metrics.transport_errors.child("udp")
        self.traffic = traffic
        self._send: Callable[[bytes, Address], object] = _refuse
        self._ends: dict[bytes, LocalEnd] = {}
        self._socket: DatagramSocket | None = None
        self._port: Any = None

    def open(self, reactor: Any, receive_buffer_bytes: int, handed: socket.socket | None = None) -> None:
        """Take the bound socket that was handed over, or bind, to any free port when it is 0; raises ListenError."""
        if IReactorFDSet.providedBy(reactor):
            bound = handed or bind_socket(self.name, socket.SOCK_DGRAM, self.host, self.port)
            for option in (socket.SO_RCVBUF, getattr(socket, "SO_RCVBUFFORCE", 33)):
                with suppress(OSError):  # the second is for root: it may pass the system's limit
                    bound.setsockopt(socket.SOL_SOCKET, option, receive_buffer_bytes)
            self._socket = DatagramSocket(bound, self, tells_local=self.host in WILDCARDS)
            self._socket.start(reactor)
            self._send = self._socket.send
            self.port = self._socket.getsockname()[1]
        else:
            try:
                self._port = reactor.listenUDP(self.port, self, self.host, LARGEST_DATAGRAM)
            except CannotListenError as error:
                raise ListenError(explain_refusal(self.name, error.socketError)) from None
            self._send = self._port.write
            self.port = self._port.getHost().port
        self.name = make_listener_name("UDP", self.host, self.port)

    def close(self) -> Deferred[Any]:
        """Stop listening; flows through this socket refuse from now on."""
        self._send = _refuse
        if self._socket is not None:
            self._socket.stop()
            return succeed(None)
        return maybeDeferred(self._port.stopListening)

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Called by Twisted."""
        self._receiver.receive_datagram(datagram, addr, self)

    def receive(self, data: bytes, address: Address, local: bytes) -> None:
        """A datagram from the socket."""
        if not local:
            self._receiver.receive_datagram(data, address, self)
            return
        end = self._ends.get(local)
        if end is None:
            end = self._make_end(local)
        self._receiver.receive_datagram(data, address, end or self)

    def _make_end(self, local: bytes) -> LocalEnd | None:
        assert self._socket is not None
        if len(self._ends) >= MOST_ENDS:
            return None
        end = self._ends[local] = LocalEnd(self, self._socket, local)
        self._receiver.receive_new_end(end)
        return end

    def receive_unreachable(self, quoted: bytes, address: Address) -> None:
        """ICMP from the socket, with the first bytes of what we sent."""
        self._errors.inc()
        match = _QUOTED.match(quoted)
        if match is not None:
            self._receiver.receive_refused_request(match[1].decode(), match[2].decode("latin-1"), address)

    def send(self, data: bytes, address: Address) -> bool:
        """Send a message; False when the network refuses it."""
        try:
            self._send(data, address)
        except (OSError, OverflowError, ValueError):
            self._errors.inc()
            return False
        self.traffic.count_sent(data)
        if self.traffic.watcher is not None:
            self.traffic.watcher.watch(data, "UDP", (self.host, self.port), address, sent=True)
        return True

    def send_keepalive(self, data: bytes, address: Address) -> None:
        """Send what is no message and is not counted as one."""
        with suppress(OSError, OverflowError, ValueError):
            self._send(data, address)

    def count_refused(self) -> None:
        """The network refused a message."""
        self._errors.inc()


class LocalEnd:
    """One address of the machine on a listener that is bound to all of them."""

    __slots__ = ("_control", "_listener", "_socket", "host", "name", "port")

    def __init__(self, listener: UdpListener, bound: DatagramSocket, local: bytes) -> None:
        self.host = socket.inet_ntop(socket.AF_INET6 if len(local) == 16 else socket.AF_INET, local)
        self.port = listener.port
        self.name = make_listener_name("UDP", self.host, self.port)
        self._listener = listener
        self._socket = bound
        self._control = bound.make_control(local)

    def send(self, data: bytes, address: Address) -> bool:
        """Send a message from this address; False when the network refuses it."""
        try:
            self._socket.send(data, address, self._control)
        except (OSError, OverflowError, ValueError):
            self._listener.count_refused()
            return False
        traffic = self._listener.traffic
        traffic.count_sent(data)
        if traffic.watcher is not None:
            traffic.watcher.watch(data, "UDP", (self.host, self.port), address, sent=True)
        return True

    def send_keepalive(self, data: bytes, address: Address) -> None:
        """Send what is no message and is not counted as one."""
        with suppress(OSError, OverflowError, ValueError):
            self._socket.send(data, address, self._control)


UdpEnd: TypeAlias = UdpListener | LocalEnd


class UdpFlow:
    """The way to one address from one of ours; not connected to anything, so it cannot break."""

    __slots__ = ("_end", "hop")

    reliable: Final = False
    breaks: Final = False
    transport: Final = "UDP"

    def __init__(self, end: UdpEnd, hop: Hop) -> None:
        self._end = end
        self.hop = hop

    def __repr__(self) -> str:
        return f"<UdpFlow {self.hop} from {self._end.name}>"

    @property
    def local_name(self) -> str:
        """The listener's name."""
        return self._end.name

    def send(self, data: bytes) -> bool:
        """Send a message; False when the network refuses it."""
        hop = self.hop
        return self._end.send(data, (hop[1], hop[2]))


def bind_socket(name: str, kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    """A bound, non-blocking socket; raises ListenError. IPv6 sockets serve IPv6 alone."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.socket(family, kind)
    except OSError as error:
        raise ListenError(explain_refusal(name, error)) from None
    try:
        bound.setblocking(False)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(1024)
    except OSError as error:
        bound.close()
        raise ListenError(explain_refusal(name, error)) from None
    return bound


def explain_refusal(name: str, error: Any) -> str:
    """Why a listener cannot be opened, in one line."""
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        why = "the port is in use by another program"
    elif number == errno.EADDRNOTAVAIL:
        why = "this machine does not have that address"
    elif number in (errno.EACCES, errno.EPERM):
        why = "not permitted (ports below 1024 are for root)"
    else:
        why = os.strerror(number).lower() if number else str(error)
    return f"cannot listen on {name}: {why}"


def _refuse(data: bytes, address: Address) -> object:
    """What a listener sends with while it is not open."""
    raise OSError(errno.EBADF, "the listener is closed")
