"""The connections of a scripted party: TCP as it is, TLS, and WebSocket on either.

TLS is Twisted's, which trusts whatever certificate it is shown (`Stream.certificate`). WebSocket is written out by
hand, as far as a browser's side of SIP needs it (RFC 6455 §4.1, §5; RFC 7118): whole messages, masked.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.agents import split_stream

if TYPE_CHECKING:
    from tests.support.parties import Party

_MASK = b"mask"
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class Stream(Protocol):
    """One connection of a party."""

    transport: Any

    def __init__(self, party: Party) -> None:
        self._party = party
        self._left = b""
        self.is_open = False
        self.ended = False

    def connectionMade(self) -> None:
        self.is_open = True

    @property
    def certificate(self) -> bytes:
        """What the element has shown on TLS, in DER; b"" elsewhere."""
        shown = getattr(self.transport, "getPeerCertificate", lambda: None)()
        return b"" if shown is None else dump_certificate(FILETYPE_ASN1, shown)

    def write(self, data: bytes) -> None:
        """Send a message, or a piece of one."""
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        messages, self._left = split_stream(self._left + data)
        for message in messages:
            self._hand_up(message)

    def _hand_up(self, message: bytes) -> None:
        peer = self.transport.getPeer()
        self._party.receive(message, (peer.host, peer.port), self.write)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.is_open = False
        self.ended = True


class WebSocketStream(Stream):
    """A browser's connection. `answer` is the head of the server's answer to the upgrade."""

    answer = b""

    def connectionMade(self) -> None:
        key = base64.b64encode(b"sixteen bytes...").decode()
        host, port = self._party.target
        lines = [
            "GET / HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: sip",
            f"Origin: https://{self._party.domain}",
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode())

    def write(self, data: bytes) -> None:
        self._send(_TEXT, data)

    def _send(self, kind: int, data: bytes) -> None:
        head = bytes((0x80 | kind,))
        if len(data) < 126:
            head += bytes((0x80 | len(data),))
        else:
            head += bytes((0x80 | 126,)) + len(data).to_bytes(2, "big")
        masked = bytes(byte ^ _MASK[place % 4] for place, byte in enumerate(data))
        self.transport.write(head + _MASK + masked)

    def dataReceived(self, data: bytes) -> None:
        self._left += data
        if not self.is_open:
            head, end, rest = self._left.partition(b"\r\n\r\n")
            if not end:
                return
            self.answer, self._left = head, rest
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.is_open = True
        while (frame := _cut_frame(self._left)) is not None:
            kind, content, self._left = frame
            if kind == _PING:
                self._send(_PONG, content)
            elif kind == _CLOSE:
                self.transport.loseConnection()
            elif content.strip():
                self._hand_up(content)


def _cut_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """The first whole frame of a server: its kind, its content, and what follows; None when there is none yet."""
    if len(data) < 2:
        return None
    assert not data[1] & 0x80, "a server masks nothing"
    begin, size = 2, data[1]
    if size == 126:
        begin, size = 4, int.from_bytes(data[2:4], "big")
    elif size == 127:
        begin, size = 10, int.from_bytes(data[2:10], "big")
    if len(data) < begin + size:
        return None
    assert data[0] & 0x80, "it sends whole messages"
    return data[0] & 0x0F, data[begin : begin + size], data[begin + size :]


class Accepting(Factory):
    """A party's listening socket."""

    noisy = False

    def __init__(self, party: Party) -> None:
        self._party = party

    def buildProtocol(self, addr: object) -> Stream:
        return Stream(self._party)


class _Dialer(ClientFactory):
    """Makes a party's connection to its target."""

    noisy = False

    def __init__(self, party: Party) -> None:
        self.stream: Stream = WebSocketStream(party) if party.transport in ("ws", "wss") else Stream(party)

    def buildProtocol(self, addr: object) -> Stream:
        return self.stream


@implementer(IOpenSSLClientConnectionCreator)
class _Trusting:
    """TLS to whoever answers."""

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        connection.set_tlsext_host_name(b"sip.example.com")
        return connection


def dial(party: Party) -> Stream:
    """A new connection of a party to its target, open."""
    dialer = _Dialer(party)
    factory: Any = dialer
    if party.transport in ("tls", "wss"):
        factory = TLSMemoryBIOFactory(_Trusting(), True, dialer, clock=party.host)
        factory.noisy = False
    party.host.connectTCP(*party.target, factory, bindAddress=(party.address, 0))
    assert party.network.run_until(lambda: dialer.stream.is_open, 10), f"{party} cannot connect"
    return dialer.stream
