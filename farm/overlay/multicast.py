"""Finds nodes on the local link: asks a multicast group who is there, and answers when others ask.

A datagram is one line of ASCII, `sipfarm/1 who|here OVERLAY HOST PORT`: the sender's overlay, and where its peers dial
it. Groups are 239.255.74.0 (administratively scoped, RFC 2365) and ff12::7400 (link-local, transient, RFC 4291 §2.7) on
port 7400, with a hop limit of 1. An answer waits for up to 0.3 s and is left out when three others have answered.

Nothing here is believed: what comes out are addresses to dial (`seeds`), a few of them, and who is there must prove
itself by certificate. Whatever comes beyond a rate is dropped unread.
"""

from __future__ import annotations

import ipaddress
import random
import re
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from farm.metrics import Metrics

GROUP: Final = "239.255.74.0"
GROUP_6: Final = "ff12::7400"
PORT: Final = 7400
MOST_BYTES: Final = 400  # more than the longest line
RATE: Final = 50  # datagrams a second that are read
ANSWER_SECONDS: Final = 0.3
ENOUGH_ANSWERS: Final = 3
_LINE: Final = re.compile(rb"sipfarm/1 (who|here) ([A-Za-z0-9._-]{1,253}) ([0-9a-fA-F.:]{2,45}) ([0-9]{1,5})\n")


class Reactor(Protocol):
    """What is used of a reactor."""

    def listenMulticast(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192, listenMultiple: bool = False
    ) -> Any: ...

    def callLater(self, delay: float, function: Callable[..., object], /, *args: object) -> Any: ...


class Multicast(DatagramProtocol):
    """One node's place in the group. `own` is where its peers dial it, `interface` the address that it listens at;
    `heard(host, port, now)` is told of each node that shows; `clock` is monotonic."""

    noisy = False
    _log: Final = Logger(namespace="overlay")

    def __init__(
        self,
        reactor: Reactor,
        overlay: str,
        own: tuple[str, int],
        interface: str,
        heard: Callable[[str, int, float], None],
        metrics: Metrics,
        clock: Callable[[], float],
        rng: random.Random,
        *,
        port: int = PORT,
    ) -> None:
        self.problem = ""  # why nobody is asked, a sentence; "" when all is well
        self._reactor = reactor
        self._overlay = overlay
        self._own = own
        self._heard = heard
        self._clock = clock
        self._rng = rng
        self._port = port
        self._interface = interface
        self._is_6 = ":" in interface
        self._group = GROUP_6 if self._is_6 else GROUP
        self._refused = {
            reason: metrics.peer_rejections.child(reason) for reason in ("bad-message", "wrong-overlay", "rate")
        }
        self._unexpected = metrics.unexpected_errors.child("overlay")
        self._listener: Any = None
        self._answer_call: Any = None
        self._answers = 0  # heard since the question that waits for ours
        self._window_at = float("-inf")
        self._window = 0

    def start(self) -> None:
        """Join the group. Where that cannot be done `problem` says so, and seeds must do."""
        try:
            everywhere = "::" if self._is_6 else ""
            self._listener = self._reactor.listenMulticast(
                self._port, self, interface=everywhere, maxPacketSize=MOST_BYTES + 1, listenMultiple=True
            )
            self._join(self._listener.getHandle())
        except (CannotListenError, OSError) as error:
            self.problem = f"no multicast on this machine: {error}"
            self._log.warn("{problem}", problem=self.problem)
            self.stop()

    def stop(self) -> Any:
        """Leave; answers what Twisted gives to wait for, if anything."""
        listener, self._listener = self._listener, None
        if self._answer_call is not None:
            self._answer_call.cancel()
            self._answer_call = None
        return listener.stopListening() if listener is not None else None

    def ask(self) -> None:
        """Ask who is there."""
        self._send("who")

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """One from the group, ourselves perhaps."""
        try:
            reason = self._receive(datagram, self._clock())
        except Exception:
            self._unexpected.inc()
            self._log.failure("a datagram of the multicast group could not be read")
            return
        if reason:
            self._refused[reason].inc()

    def _receive(self, datagram: bytes, now: float) -> str:
        """Take a datagram; answers the reason when it is refused."""
        if now >= self._window_at + 1.0:
            self._window_at, self._window = now, 0
        self._window += 1
        if self._window > RATE:
            return "rate"
        found = _LINE.fullmatch(datagram)
        address = _read_address(found[3], found[4], self._own[0]) if found else None
        if found is None or address is None:
            return "bad-message"
        if found[2].decode() != self._overlay:
            return "wrong-overlay"
        if address == self._own:
            return ""
        if found[1] == b"here":
            self._answers += 1
        elif self._answer_call is None:
            self._answers = 0
            delay = self._rng.uniform(0.0, ANSWER_SECONDS)
            self._answer_call = self._reactor.callLater(delay, self._answer)
        self._heard(*address, now)
        return ""

    def _answer(self) -> None:
        self._answer_call = None
        if self._answers < ENOUGH_ANSWERS:
            self._send("here")

    def _send(self, word: str) -> None:
        if self._listener is None:
            return
        host, port = self._own
        line = f"sipfarm/1 {word} {self._overlay} {host} {port}\n".encode()
        try:
            self._listener.write(line, (self._group, self._port))
        except OSError as error:
            self.problem = f"the local link cannot be asked: {error.strerror or error}"
        else:
            self.problem = ""

    def _join(self, handle: socket.socket) -> None:
        """By hand: Twisted's joinGroup fails in a Deferred, and takes no interface for IPv6."""
        if self._is_6:
            group = socket.inet_pton(socket.AF_INET6, self._group)
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@I", 0))
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
            return
        interface = socket.inet_aton(self._interface)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(self._group) + interface)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)


def _read_address(host: bytes, port: bytes, own: str) -> tuple[str, int] | None:
    """An address that a node may have; loopback ones only for a node that is there itself."""
    try:
        address = ipaddress.ip_address(host.decode())
    except ValueError:
        return None
    if address.is_multicast or address.is_unspecified or not 0 < int(port) < 65_536:
        return None
    if address.is_loopback and not ipaddress.ip_address(own).is_loopback:
        return None
    return str(address), int(port)
