"""A bound UDP socket in the reactor: datagrams with the address they came to, and what ICMP says of those we sent.

A socket bound to all addresses of a machine must answer from the address that was asked (RFC 3581 §4), which the kernel
tells and takes beside the data (IP_PKTINFO). It also keeps the ICMP errors of sent datagrams (IP_RECVERR) with the
datagram's first bytes: "port unreachable" is the §18.4 of RFC 3261 that lets a request go to its next server at once
instead of after 32 seconds. Both are Linux's; elsewhere datagrams come without.

Decided: what is sent while a batch of datagrams is read leaves after it. Each send wakes whoever it is for, so that
answering one by one switches between the two of us for every message; a fifth of a REGISTER's processor time was that.
Decided: a reader of our own instead of Twisted's UDP port, which knows neither, and which the reactor closes when an
ICMP error waits and no datagram does.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

Address = tuple[str, int]
Control = tuple[int, int, bytes]

LARGEST_DATAGRAM: Final = 65535
BATCH: Final = 64  # datagrams a turn, so that a flood leaves time for streams and timers

_LINUX: Final = sys.platform == "linux"
# of <linux/in.h> and <linux/in6.h>; Python's socket module lacks them
_IP_PKTINFO: Final = 8
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_ORIGIN_ICMP: Final = (2, 3)  # SO_EE_ORIGIN_ICMP and _ICMP6 of <linux/errqueue.h>
_UNREACHABLE: Final = {2: 3, 3: 1}  # the type "destination unreachable", by origin
_FRAGMENTATION_NEEDED: Final = 4  # a code of ICMP's type 3 that says nothing of the peer


class DatagramUser(Protocol):
    """Who is called; none of these raises."""

    def receive(self, data: bytes, address: Address, local: bytes) -> None:
        """A datagram. `local` is the packed address it came to, b"" when the socket is bound to one."""

    def receive_unreachable(self, quoted: bytes, address: Address) -> None:
        """What began with these bytes, sent to that address, was refused by ICMP."""


@implementer(IReadDescriptor)
class DatagramSocket:
    """Reads one socket. `tells_local` asks for the address that each datagram came to."""

    def __init__(self, bound: socket.socket, user: DatagramUser, *, tells_local: bool) -> None:
        self._socket = bound
        self._user = user
        self._six = bound.family == socket.AF_INET6
        self._room = memoryview(bytearray(LARGEST_DATAGRAM))  # one for all: 64 KiB a datagram would be page faults
        self._outgoing: list[tuple[bytes, Address, Control | None]] | None = None  # gathers while reading
        self._reactor: Any = None
        self.tells_local = tells_local and _LINUX
        if _LINUX:
            level = socket.IPPROTO_IPV6 if self._six else socket.IPPROTO_IP
            with suppress(OSError):
                bound.setsockopt(level, _IPV6_RECVERR if self._six else _IP_RECVERR, 1)
            if self.tells_local:
                bound.setsockopt(level, _IPV6_RECVPKTINFO if self._six else _IP_PKTINFO, 1)

    def start(self, reactor: Any) -> None:
        """Read from now on."""
        self._reactor = reactor
        reactor.addReader(self)

    def stop(self) -> None:
        """Close."""
        reactor, self._reactor = self._reactor, None
        if reactor is not None:
            reactor.removeReader(self)
            self._socket.close()

    def send(self, data: bytes, address: Address, control: Control | None = None) -> None:
        """Send, with the source address of `make_control` if there is one; raises OSError, OverflowError or ValueError.

        What is sent while datagrams are being read leaves when they have been, and what is wrong with it is told by
        `receive_unreachable`.
        """
        if self._outgoing is None:
            self._send_now(data, address, control)
        else:
            self._outgoing.append((data, address, control))

    def _send_now(self, data: bytes, address: Address, control: Control | None) -> None:
        try:
            self._write(data, address, control)
        except OSError:  # perhaps of an earlier datagram: an ICMP error is told to the next who sends
            if not self._read_errors():
                raise
            self._write(data, address, control)

    def _write(self, data: bytes, address: Address, control: Control | None) -> None:
        if control is None:
            self._socket.sendto(data, address)
        else:
            self._socket.sendmsg((data,), (control,), 0, address)

    def _flush(self) -> None:
        """Send what has gathered."""
        outgoing, self._outgoing = self._outgoing, None
        if self._reactor is None or not outgoing:  # stopped by what came
            return
        for data, address, control in outgoing:
            try:
                self._send_now(data, address, control)
            except (OSError, OverflowError, ValueError):
                self._user.receive_unreachable(data, address)

    def make_control(self, local: bytes) -> Control:
        """What makes a datagram leave from a packed address of ours."""
        if self._six:
            return (socket.IPPROTO_IPV6, _IPV6_PKTINFO, local + struct.pack("=i", 0))
        return (socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, local, local))

    def getsockname(self) -> Address:
        """Where it is bound."""
        host, port, *_ = self._socket.getsockname()
        return host, port

    # Called by Twisted

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What log lines of this reader begin with."""
        return "sip"

    def doRead(self) -> None:
        """Datagrams wait."""
        self._outgoing = []
        try:
            if self.tells_local:
                self._read_with_local()
            else:
                self._read()
        except BlockingIOError:
            pass
        except OSError:  # an ICMP error, told before the datagrams behind it
            self._read_errors()
        finally:
            self._flush()

    def connectionLost(self, reason: Failure) -> None:
        """Only errors wait, which the reactor takes for the end of a connection."""
        if self._reactor is not None and self._socket.fileno() != -1:
            self._read_errors()
            self._reactor.addReader(self)

    def _read(self) -> None:
        receive_into, receive, six, room = self._socket.recvfrom_into, self._user.receive, self._six, self._room
        for _ in range(BATCH):
            size, address = receive_into(room)
            receive(room[:size].tobytes(), address[:2] if six else address, b"")
            if self._reactor is None:  # stopped by what came
                return

    def _read_with_local(self) -> None:
        receive_message, receive, six = self._socket.recvmsg, self._user.receive, self._six
        kind = _IPV6_PKTINFO if six else _IP_PKTINFO
        room = socket.CMSG_SPACE(20 if six else 12)
        for _ in range(BATCH):
            data, control, _, address = receive_message(LARGEST_DATAGRAM, room)
            local = b""
            for _, type_, payload in control:
                if type_ == kind:
                    local = payload[:16] if six else payload[4:8]
            receive(data, address[:2] if six else address, local)
            if self._reactor is None:
                return

    def _read_errors(self) -> int:
        """Take the ICMP errors that wait; how many there were."""
        for number in range(BATCH):
            try:
                quoted, control, _, address = self._socket.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return number
            for level, type_, payload in control:
                told = (level, type_) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR))
                if told and address and is_unreachable(payload):
                    self._user.receive_unreachable(quoted, address[:2])
        return BATCH


def is_unreachable(error: bytes) -> bool:
    """Whether a `sock_extended_err` says that host, network, port or protocol is unreachable (§18.4)."""
    if len(error) < 7:
        return False
    origin, kind, code = error[4], error[5], error[6]
    if origin not in _ORIGIN_ICMP or kind != _UNREACHABLE[origin]:
        return False
    return not (origin == _ORIGIN_ICMP[0] and code == _FRAGMENTATION_NEEDED)
