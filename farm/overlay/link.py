"""One link to another node: TLS 1.3 in memory over a Twisted transport, HELLO both ways, then frames.

A link is HANDSHAKING, then GREETING, then OPEN, and at last CLOSING; the first two have five seconds each. What comes
is deciphered as it comes, at most one frame and one record are kept, and a length over the limit ends the link before
anything of the frame is stored. What is written goes to the transport; when that has paused us, at most `MOST_UNSENT`
more, then `send` refuses. Who gets a link for which node, and which of two stays, is decided in `rpc.py`.

A link that was outdone by another of the same pair is retired: it says that it will send no more, and goes on
delivering until the other side has said so too, so that nothing is lost on the way.

A frame is written at once as one TLS record, past the transport's buffer when that is empty, which spares a turn of
the reactor and two calls of epoll. A chunk that is exactly one record is read without asking OpenSSL for more, whose
"nothing there" is an exception and costs as much as the reading.

Decided: pyOpenSSL's Connection is driven here and not by twisted.protocols.tls. Measured on one machine, a frame of 300
bytes: 2.9 µs to write and 3.5 to read, framing included, against 5.4 and 6.1 there without. The stdlib's SSLObject
would save 1.5 each way, but has no certificates as objects, no reasons for what failed, and its keys in files.
"""

from __future__ import annotations

import socket
from typing import Any, Final, Protocol

from OpenSSL import SSL
from prometheus_client import Counter
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from farm.deadlines import Deadline, Deadlines
from farm.overlay.wire import FRAME_BYTES, OLDEST_VERSION, VERSION, Codec, Hello, WireError
from farm.security.peer import Peer, PeerRefused, reason_of_failure

HANDSHAKING: Final = 0
GREETING: Final = 1
OPEN: Final = 2
RETIRING: Final = 3
CLOSING: Final = 4
CLOSED: Final = 5

STEP_SECONDS: Final = 5.0  # for the handshake, for the HELLO, and for closing
MOST_UNSENT: Final = 8 * 1024 * 1024
HELLO_BYTES: Final = 16_384
SILENT_SECONDS: Final = 20.0  # data that the other side's kernel does not acknowledge for so long ends the link
_RECORD_BYTES: Final = 16_384
_RECORD_ROOM: Final = 512  # what TLS adds to a frame of the largest size
_EMPTY: Final = b""

_log: Final = Logger(namespace="overlay")


class Owner(Protocol):
    """Who made the link and gets what comes of it: `rpc.Rpc`."""

    codec: Codec
    deadlines: Deadlines
    unexpected: Counter

    def clock(self) -> float:
        """Monotonic seconds."""

    def check_peer(self, link: Link) -> Peer:
        """Who is at the other end; raises PeerRefused."""

    def make_hello(self) -> Hello:
        """What this node says first."""

    def link_greeted(self, link: Link, now: float) -> None:
        """The HELLO has come and fits the certificate."""

    def receive_frame(self, link: Link, frame: bytes, now: float) -> str:
        """A frame; "" or why the link must be closed."""

    def link_refused(self, link: Link, reason: str, detail: str, now: float) -> None:
        """The peer was turned away: to be counted."""

    def link_ended(self, link: Link, reason: str, now: float) -> None:
        """The link takes no more frames; told once."""

    def link_gone(self, link: Link) -> None:
        """Its connection is closed; told once, at last."""


@implementer(IPushProducer)
class Link(TwistedProtocol):
    """A connection to another node, dialled by us or by it. `expected` is the Node-ID that was dialled, if known.

    `peer` is known from the handshake on, `hello` from the HELLO on. `proof` is the same on both sides and different
    for each link: the dialler's Finished.
    """

    transport: Any

    def __init__(self, owner: Owner, tls: SSL.Connection, host: str, port: int, dialled: bool, expected: bytes) -> None:
        self.host = host
        self.port = port
        self.dialled = dialled
        self.expected = expected
        self.state = HANDSHAKING
        self.peer: Peer | None = None
        self.hello: Hello | None = None
        self.opened_at = 0.0
        self.proof = _EMPTY
        self.reason = ""
        self.tls = tls
        self._owner = owner
        self._inbound = bytearray()
        self._most_bytes = HELLO_BYTES
        self._paused = False
        self._unsent = 0
        self._ended = False
        self._deadline: Deadline | None = None

    @property
    def node(self) -> bytes:
        """The Node-ID in the peer's certificate; b"" before the handshake."""
        return _EMPTY if self.peer is None else self.peer.node_id

    # Out

    def send(self, frame: bytes) -> bool:
        """Write a frame with its length. False when the link is not open, or the other side does not read."""
        if self.state != OPEN:
            return False
        if self._paused:
            if self._unsent + len(frame) > MOST_UNSENT:
                return False
            self._unsent += len(frame)
        tls = self.tls
        tls.sendall(frame)
        record = tls.bio_read(len(frame) + _RECORD_ROOM)
        transport = self.transport
        # What waits in the transport goes first; one that cannot say whether anything does is not passed by.
        if not getattr(transport, "_tempDataLen", 1) and not transport.dataBuffer:
            sent = transport.writeSomeData(record)
            if isinstance(sent, int) and sent > 0:  # a broken connection is found by the reactor
                if sent >= len(record):
                    return True
                record = record[sent:]
        transport.write(record)
        return True

    def open(self, now: float) -> None:
        """The owner takes the link: frames may come and go."""
        self.state = OPEN
        self.opened_at = now
        self._most_bytes = FRAME_BYTES
        self._stop_clock()

    def retire(self, now: float) -> None:
        """Send no more, deliver what still comes, and close when the other side has ended too."""
        if self.state == OPEN:
            self.state = RETIRING
            self._say_goodbye()
            self._start_clock(now)

    def close(self, reason: str, now: float) -> None:
        """Close after what was written. The owner is told in this call."""
        if self.state >= CLOSING:
            return
        said = self.state in (GREETING, OPEN)
        self.state = CLOSING
        self.reason = self.reason or reason
        if said:
            self._say_goodbye()
        self._start_clock(now)
        self.transport.unregisterProducer()  # a paused producer would keep the transport from closing
        self.transport.loseConnection()
        self._end(now)

    def refuse(self, reason: str, now: float, detail: str = "") -> None:
        """Turn the peer away: counted by its reason, then closed."""
        if self.state < CLOSING:
            self._owner.link_refused(self, reason, detail, now)
            self.close(reason, now)

    def _say_goodbye(self) -> None:
        try:
            self.tls.shutdown()
        except SSL.Error:
            return  # there is nobody to say it to
        self._flush()

    def _flush(self) -> None:
        """Send what TLS itself has to say."""
        try:
            while True:
                self.transport.write(self.tls.bio_read(_RECORD_BYTES))
        except SSL.Error:  # nothing is left
            return

    # In

    def receive(self, data: bytes, now: float) -> None:
        """Bytes have come."""
        if self.state >= CLOSING:
            return
        self.tls.bio_write(data)
        if self.state == HANDSHAKING:
            self._shake_hands(now)
            if self.state == HANDSHAKING:
                return
        size = len(data)
        try:
            if size > 5 and data[0] == 23 and data[1] == 3 and data[3] << 8 | data[4] == size - 5:  # one whole record
                self._take(self.tls.recv(size), now)
                return
            while self.state < CLOSING:
                self._take(self.tls.recv(_RECORD_BYTES), now)
        except SSL.WantReadError:
            return
        except SSL.ZeroReturnError:
            self.close("peer", now)
        except SSL.Error as error:
            self._fail(error, now)

    def _shake_hands(self, now: float) -> None:
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        except SSL.Error as error:
            self._fail(error, now)
            return
        try:
            self.peer = self._owner.check_peer(self)
        except PeerRefused as refused:
            self._flush()
            self.refuse(refused.reason, now, str(refused))
            return
        finished = self.tls.get_finished() if self.dialled else self.tls.get_peer_finished()
        self.proof = finished or _EMPTY
        self._flush()
        if self.state >= CLOSING:
            return
        self.state = GREETING
        self._start_clock(now)
        codec = self._owner.codec
        self.tls.sendall(codec.frame(0, now, [codec.pack(self._owner.make_hello())]))
        self._flush()

    def _fail(self, error: Exception, now: float) -> None:
        """TLS has found something wrong, or the peer says that it has."""
        self._flush()  # the alert says what
        reason = reason_of_failure(self.tls, error) if self.state < OPEN else "bad-frame"
        self.refuse(reason, now, _text_of(error))

    def _take(self, plain: bytes, now: float) -> None:
        """Cut the stream into frames."""
        inbound = self._inbound
        data: bytes | bytearray = plain
        if inbound:
            inbound += plain
            data = inbound
        at, end = 0, len(data)
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if size > self._most_bytes:
                self.refuse("no-hello" if self.state == GREETING else "oversize-frame", now, f"a frame of {size} bytes")
                break
            if end - at - 4 < size:
                break
            frame = bytes(data[at + 4 : at + 4 + size])
            at += 4 + size
            if self.state == GREETING:
                self._greet(frame, now)
            else:
                reason = self._owner.receive_frame(self, frame, now)
                if reason:
                    self.refuse(reason, now)
            if self.state >= CLOSING:
                break
        if self.state >= CLOSING:
            inbound.clear()
        elif data is inbound:
            del inbound[:at]
        elif at < end:
            inbound += data[at:]

    def _greet(self, frame: bytes, now: float) -> None:
        """The first frame must be a HELLO, and that of the node in the certificate."""
        try:
            messages = self._owner.codec.unpack(frame).messages
        except WireError as error:
            self.refuse("no-hello", now, str(error))
            return
        hello = messages[0] if len(messages) == 1 else None
        if not isinstance(hello, Hello):
            self.refuse("no-hello", now)
            return
        assert self.peer is not None
        contact, peer = hello.contact, self.peer
        if contact.node != peer.node_id:
            self.refuse("node-id-mismatch", now, "its HELLO names another node than its certificate")
        elif hello.overlay != peer.overlay:
            self.refuse("wrong-overlay", now, "its HELLO names another overlay")
        elif hello.oldest_version > VERSION or hello.version < OLDEST_VERSION:
            self.refuse("version", now, f"it speaks {hello.oldest_version} to {hello.version}")
        elif contact.roles & ~peer.roles or contact.zone != peer.zone:
            self.refuse("wrong-role", now, "its HELLO claims another zone or role than its certificate")
        else:
            self.hello = hello
            self._owner.link_greeted(self, now)

    # Time and ends

    def _start_clock(self, now: float) -> None:
        self._stop_clock()
        self._deadline = self._owner.deadlines.add_after(STEP_SECONDS, now, self._give_up, None)

    def _stop_clock(self) -> None:
        self._owner.deadlines.cancel(self._deadline)
        self._deadline = None

    def _give_up(self, _: None, now: float) -> None:
        if self.state == HANDSHAKING:
            self.refuse("handshake-timeout", now)
        elif self.state == GREETING:
            self.refuse("no-hello", now, "none came in time")
        elif self.state == RETIRING:
            self.close("retired", now)
        else:
            self.transport.abortConnection()

    def _end(self, now: float) -> None:
        if not self._ended:
            self._ended = True
            self._owner.link_ended(self, self.reason, now)

    # Called by Twisted

    def connectionMade(self) -> None:
        """Called by Twisted."""
        transport = self.transport
        transport.setTcpNoDelay(True)
        handle = getattr(transport, "getHandle", None)
        if handle is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            handle().setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENT_SECONDS * 1000))
        transport.registerProducer(self, True)
        now = self._owner.clock()
        self._start_clock(now)
        if self.dialled:
            self._shake_hands(now)

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        now = self._owner.clock()
        try:
            self.receive(data, now)
        except Exception:
            self._owner.unexpected.inc()
            _log.failure("a link failed")
            self.close("other", now)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Called by Twisted."""
        self._stop_clock()
        self.state = CLOSED
        self.reason = self.reason or "lost"
        self._inbound.clear()
        self._end(self._owner.clock())
        self._owner.link_gone(self)

    def pauseProducing(self) -> None:
        """Called by Twisted: its buffer is full."""
        self._paused = True
        self._unsent = 0

    def resumeProducing(self) -> None:
        """Called by Twisted: its buffer is empty."""
        self._paused = False
        self._unsent = 0

    def stopProducing(self) -> None:
        """Called by Twisted before connectionLost."""


def _text_of(error: Exception) -> str:
    """What OpenSSL says, without its file names."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(entry[-1]) for entry in entries)
