"""TLS: listeners and outgoing connections whose streams are enciphered (RFC 3261 §26.3, RFC 5922).

A `TlsSession` stands between the socket and the wire of a connection, which sees a plain stream and nothing before the
handshake is done and the certificates are checked. Whoever has connected has `handshake_seconds` for it; what fails is
counted by its reason. What a certificate proves stays with the connection (`Connection.domains`). WebSocket over TLS is
the same with its own session in the connection.

A chunk that is exactly one record is read without asking OpenSSL for more, whose "nothing there" is an exception and
whose room for the largest record costs more than the deciphering.

Decided: OpenSSL is fed by memory here, as the overlay's links do it, and not by twisted.protocols.tls, which keeps
what the socket has no room for in a buffer of its own, whose size nobody limits, and lets the protocol above it send
before it is known who is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from farm.deadlines import Deadline
from farm.security.sip_certificates import SipCertificates, explain, reason_of_failure
from farm.security.sip_identity import IdentityFault
from farm.transport.connection import CLOSING_SECONDS, Connection, Phase, Session, StreamContext
from farm.transport.stream import StreamTable, StreamWire, TcpConnector, TcpListener
from farm.transport.websocket import WebSocketRules, WebSocketSession

MOST_UNSENT: Final = 65_536  # bytes of TLS's own to a peer that does not read
_RECORD_BYTES: Final = 16_384
_RECORD_ROOM: Final = 256  # what TLS adds to a record

Check = Callable[[SSL.Connection], tuple[str, ...]]


@implementer(IPushProducer)
class TlsSession(Protocol):
    """TLS on one socket: a protocol to Twisted, and the transport of `inner`, the wire of the connection.

    `check` answers what the other side's certificate proves, or raises IdentityFault.
    """

    transport: Any

    def __init__(
        self,
        context: StreamContext,
        connection: Connection,
        inner: Protocol,
        tls: SSL.Connection,
        check: Check,
        handshake_seconds: float,
    ) -> None:
        self._context = context
        self._connection = connection
        self._inner = inner
        self._tls = tls
        self._check = check
        self._handshake_seconds = handshake_seconds
        self._shaken = False  # the handshake is done
        self._ending = False
        self._heard = False
        self._producer: Any = None
        self._paused = False
        self._unsent = 0
        self._deadline: Deadline | None = None

    # From the socket

    def connectionMade(self) -> None:
        """Called by Twisted: the socket is connected."""
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        if self._connection.phase is not Phase.CONNECTING:  # given up meanwhile
            self.abortConnection()
            return
        self._connection.prepare(self)
        self._arm(self._handshake_seconds)
        if not self._connection.accepted:
            self._shake_hands()

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        if self._ending:
            return
        self._heard = True
        try:
            self._tls.bio_write(data)
            size = len(data)
            if not self._shaken:
                self._shake_hands()
            elif size > 5 and data[0] == 23 and data[1] == 3 and data[3] << 8 | data[4] == size - 5:
                self._inner.dataReceived(self._tls.recv(size))
                return
            while self._shaken and not self._ending:
                self._inner.dataReceived(self._tls.recv(_RECORD_BYTES))
        except SSL.WantReadError:
            self._flush(_RECORD_BYTES)
        except SSL.ZeroReturnError:
            if self._shaken:
                self._connection.close("peer")
            else:
                self.loseConnection()
        except SSL.Error as error:
            self._fail(reason_of_failure(self._tls, error), explain(error))

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        """Called by Twisted."""
        self._disarm()
        if not self._shaken and not self._ending and self._heard:  # balancers connect and say nothing, as a test
            self._note("tls-handshake")
        self._ending = True
        self._producer = None
        if self._shaken:
            self._inner.connectionLost(reason)
            self._inner.transport = None  # else the two hold each other, and OpenSSL's memory with them
        else:
            self._connection.end("handshake")

    def pauseProducing(self) -> None:
        """Called by Twisted: the socket is full."""
        self._paused = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Called by Twisted: the socket is empty."""
        self._paused = False
        self._unsent = 0
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """Called by Twisted before connectionLost."""

    # The handshake

    def _shake_hands(self) -> None:
        """Go on with it; when it is done, the wire is connected."""
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._flush(_RECORD_BYTES)
            return
        except SSL.Error as error:
            self._fail(reason_of_failure(self._tls, error), explain(error))
            return
        try:
            domains = self._check(self._tls)
        except IdentityFault as fault:
            self._fail(fault.reason, str(fault))
            return
        self._disarm()
        self._flush(_RECORD_BYTES)
        self._connection.domains = domains
        self._shaken = True
        self._inner.makeConnection(self)

    def _fail(self, reason: str, detail: str) -> None:
        """Something is wrong with what came: it is counted, and the peer told by TLS's alert."""
        if self._ending:
            return
        self._note(reason, detail)
        self._flush(_RECORD_BYTES)
        if self._shaken:
            self._connection.close("malformed")
            return
        self._ending = True
        self._arm(CLOSING_SECONDS)
        self._close_socket()
        if not self._connection.accepted:
            self._connection.end("handshake")  # whoever waits for it goes on at once

    def _note(self, reason: str, detail: str = "") -> None:
        context, hop = self._context, self._connection.hop
        context.receiver.note_rejection(reason, hop, context.clock(), detail)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        context = self._context
        self._deadline = context.deadlines.add(context.clock() + seconds, self._give_up)

    def _disarm(self) -> None:
        self._context.deadlines.cancel(self._deadline)
        self._deadline = None

    def _give_up(self, _argument: object, now: float) -> None:
        self._deadline = None
        if not self._ending:
            self._note("tls-timeout")
        self._ending = True
        self.transport.abortConnection()

    # What the wire asks of its transport, and the connection of its wire while there is none

    def write(self, data: bytes) -> None:
        """Encipher and send."""
        if self._ending or not self._shaken or not data:
            return
        try:
            self._tls.sendall(data)
        except SSL.Error as error:
            self._fail(reason_of_failure(self._tls, error), explain(error))
            return
        self._send_out(len(data) + _RECORD_ROOM * (1 + len(data) // _RECORD_BYTES))

    def _send_out(self, most: int) -> int:
        """Hand what TLS has ready, up to so many bytes, to the socket; how many it was."""
        try:
            ready = self._tls.bio_read(most)
        except SSL.Error:  # there is nothing
            return 0
        self.transport.write(ready)
        return len(ready)

    def _flush(self, most: int) -> None:
        """Send what TLS itself has to say; a peer that makes it talk and does not read is cut off."""
        while sent := self._send_out(most):
            if self._paused:
                self._unsent += sent
                if self._unsent > MOST_UNSENT:
                    self.abortConnection()
                    return

    def close(self) -> None:
        """Give up a handshake."""
        self.abortConnection()

    def abort(self) -> None:
        """Give up a handshake."""
        self.abortConnection()

    def find_local(self) -> tuple[str, int]:
        """The wire within is asked once the handshake is done."""
        return "", 0

    def loseConnection(self) -> None:
        """Close once all is written."""
        if self._ending:
            return
        self._ending = True
        try:
            self._tls.shutdown()
        except SSL.Error:
            pass  # there is nobody to say it to
        else:
            self._flush(_RECORD_BYTES)
        self._close_socket()

    def _close_socket(self) -> None:
        self.transport.unregisterProducer()  # a paused producer would keep the transport from closing
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """Reset."""
        self._ending = True
        self.transport.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """The wire is told when there is no room, and when there is again."""
        self._producer = producer
        if self._paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """The wire wants to hear no more of room."""
        self._producer = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It is so already."""

    def getPeer(self) -> Any:
        """The far end of the socket."""
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """Our end of it."""
        return self.transport.getHost()


class TlsListener(TcpListener):
    """A listener whose connections are TLS."""

    transport: ClassVar[str] = "TLS"

    def __init__(self, host: str, port: int, table: StreamTable, certificates: SipCertificates) -> None:
        super().__init__(host, port, table)
        self._certificates = certificates

    def make_wire(self, connection: Connection) -> Protocol:
        """TLS with the certificates of this moment."""
        certificates = self._certificates
        return TlsSession(
            self._table.context,
            connection,
            StreamWire(connection),
            certificates.accept(),
            certificates.check_client,
            certificates.settings.handshake_seconds,
        )


class WssListener(TlsListener):
    """A listener whose connections are WebSockets over TLS (RFC 7118)."""

    transport: ClassVar[str] = "WSS"

    def __init__(
        self, host: str, port: int, table: StreamTable, certificates: SipCertificates, rules: WebSocketRules
    ) -> None:
        super().__init__(host, port, table, certificates)
        self._rules = rules

    def make_session(self) -> Session:
        """A session of its own for each connection."""
        return WebSocketSession(self._rules)


class TlsConnector(TcpConnector):
    """One outgoing connection to whoever proves to be `domain`, being made."""

    def __init__(
        self, connection: Connection, context: StreamContext, certificates: SipCertificates, domain: str
    ) -> None:
        super().__init__(connection)
        self._context = context
        self._certificates = certificates
        self._domain = domain

    def make_wire(self, connection: Connection) -> Protocol:
        """TLS with the certificates of this moment."""
        certificates, domain = self._certificates, self._domain
        return TlsSession(
            self._context,
            connection,
            StreamWire(connection),
            certificates.dial(domain),
            lambda tls: certificates.check_server(tls, domain),
            certificates.settings.handshake_seconds,
        )
