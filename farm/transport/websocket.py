"""SIP over WebSocket (RFC 7118, RFC 6455): what lies between a stream's bytes and its messages.

A session is told the bytes of one connection, upgrades it from HTTP, and cuts it into SIP messages: one message of
WebSocket, text or binary, is one of SIP, whatever its Content-Length says (§4.2, §5.2). It answers pings, refuses what
is no upgrade to `sip`, what comes from another origin, and what is too long; time, buffers and counting are
`connection.py`'s, the socket is `stream.py`'s, and TLS below it is `tls.py`'s. Browsers cannot be dialled, so all
connections are theirs: a binding on one is its flow.

Decided: wsproto. It does no I/O, so that our own limits on bytes, time and unread answers hold; autobahn brings its own
transport, timers and reactor glue. `twisted.web.websocket` is wsproto too, behind a web server, with no limit on a
message and no subprotocol.
Decided: no compression (RFC 7692): a SIP message is one packet or two, and inflating is a stranger's way to grow.
Decided: an upgrade without Origin passes a list of origins, as RFC 6455 §10.2 has it: the list guards users of
browsers against foreign pages, and what is no browser can write what it likes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import h11
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from farm.sip.framing import PING, PONG
from farm.transport.connection import Ending, Reply, SessionFrame
from farm.transport.stream import StreamTable, TcpListener

SUBPROTOCOL: Final = "sip"
UPGRADE_BYTES: Final = 8192  # of the HTTP request; browsers send some 600, cookies of the page's host included
LARGEST_ORIGIN: Final = 255
MOST_IDLE_FRAMES: Final = 1000  # without a message among them: a page that says nothing between two refreshes has 20

_LINE_ENDS: Final = b"\r\n"
_KEY: Final = re.compile(rb"\nsec-websocket-key:[ \t]*[a-z0-9+/]{22}==[ \t]*\r\n", re.IGNORECASE)
_VERSION: Final = (b"Sec-WebSocket-Version", b"13")
_UPGRADE: Final = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade, close"), _VERSION]
_CLOSE: Final = (b"Connection", b"close")


class WsListener(TcpListener):
    """A listener whose connections are WebSockets without TLS."""

    transport = "WS"

    def __init__(self, host: str, port: int, table: StreamTable, rules: WebSocketRules) -> None:
        super().__init__(host, port, table)
        self._rules = rules

    def make_session(self) -> WebSocketSession:
        """A session of its own for each connection."""
        return WebSocketSession(self._rules)


class WebSocketRules:
    """What a session allows. `origins` are those of the settings in lower case, none for any; the interval of pings is
    in seconds, 0 for none; `largest` tells the most bytes of a message. They may change under sessions that run."""

    __slots__ = ("largest", "origins", "ping_seconds")

    def __init__(self, origins: Iterable[str], ping_seconds: float, largest: Callable[[], int]) -> None:
        self.largest = largest
        self.change(origins, ping_seconds)

    def change(self, origins: Iterable[str], ping_seconds: float) -> None:
        """Allow so from now on."""
        self.origins = frozenset(origin.lower() for origin in origins)
        self.ping_seconds = ping_seconds


class WebSocketSession:
    """One connection's WebSocket, the server's side of it."""

    __slots__ = ("_ended", "_frames", "_head", "_idle_frames", "_parts", "_rules", "_size")

    def __init__(self, rules: WebSocketRules) -> None:
        self._rules = rules
        self._head = b""  # the HTTP request so far
        self._frames: Frames | None = None  # once upgraded
        self._parts: list[bytes] = []  # of the message that is coming
        self._size = 0
        self._idle_frames = 0  # since the last message
        self._ended = False

    @property
    def ready(self) -> bool:
        """Whether messages can be sent: it is upgraded and not yet closing."""
        return self._frames is not None and self._frames.state is ConnectionState.OPEN

    @property
    def partial(self) -> bool:
        """Whether something has begun and waits for its rest: the upgrade, or a message."""
        return bool(self._head) or bool(self._parts)

    @property
    def ping_seconds(self) -> float:
        """How long the peer may say nothing before it is asked; 0 asks never."""
        return self._rules.ping_seconds

    # Out

    def wrap(self, message: bytes) -> bytes:
        """The bytes that carry a message: as text, or in binary where it is no UTF-8 (RFC 7118 §5.2)."""
        try:
            return self._send(TextMessage(message.decode()))
        except UnicodeDecodeError:
            return self._send(BytesMessage(message))

    def ping(self) -> bytes:
        """A ping."""
        return self._send(Ping())

    def farewell(self, reason: str) -> bytes:
        """What is written before we close."""
        code = CloseReason.PROTOCOL_ERROR if reason == "malformed" else CloseReason.GOING_AWAY
        return self._send(CloseConnection(code))

    def _send(self, event: Event) -> bytes:
        """The bytes of an event; b"" before the upgrade and once closing."""
        if self._frames is None:
            return b""
        try:
            return bytes(self._frames.send(event))
        except LocalProtocolError:
            return b""

    # In

    def receive(self, data: bytes) -> list[SessionFrame]:
        """What these bytes complete, in order; an Ending is the last thing that ever comes."""
        found: list[SessionFrame] = []
        if self._ended:
            return found
        if self._frames is None:
            data = self._upgrade(self._head + data, found)
        if self._frames is not None and data:
            self._frames.receive_data(data)
            for event in self._frames.events():
                self._take(event, found)
                if self._ended:
                    break
        return found

    def _upgrade(self, data: bytes, found: list[SessionFrame]) -> bytes:
        """Take the HTTP request once it is whole; the bytes that follow it."""
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) <= UPGRADE_BYTES:
            self._head = data
            return b""
        self._head = b""
        handshake = H11Handshake(ConnectionType.SERVER)
        if end < 0 or end > UPGRADE_BYTES:
            self._refuse(handshake, RejectConnection(status_code=431, headers=[_CLOSE]), found)
            return b""
        try:
            # RFC 6455 §4.2.1; wsproto does not look at these
            if not data[: data.find(_LINE_ENDS)].endswith(b" HTTP/1.1") or not _KEY.search(data, 0, end + 2):
                raise RemoteProtocolError("not HTTP/1.1, or no key of 16 bytes")
            handshake.receive_data(data[: end + 4])
            request = next(event for event in handshake.events() if isinstance(event, Request))
        except RemoteProtocolError as error:
            hint = error.event_hint
            status = hint.status_code if isinstance(hint, RejectConnection) else 400
            if b"\nupgrade:" not in data[:end].lower():
                status = 426  # a page of a browser, a monitor: told what is spoken here
            if not data.startswith(b"GET "):
                status = 400
            headers = [*_UPGRADE] if status == 426 else [_CLOSE]
            self._refuse(handshake, RejectConnection(status_code=status, headers=headers), found)
            return b""
        except (StopIteration, ValueError):  # no whole request for h11; a host or a token that is no text
            self._refuse(handshake, RejectConnection(status_code=400, headers=[_CLOSE]), found)
            return b""
        if not self._is_welcome(request):
            self._refuse(handshake, RejectConnection(status_code=403, headers=[_CLOSE]), found, "websocket-origin")
        elif SUBPROTOCOL not in request.subprotocols:
            refusal = RejectConnection(status_code=400, headers=[_CLOSE])
            self._refuse(handshake, refusal, found, "websocket-subprotocol")
        else:
            found.append(Reply(handshake.send(AcceptConnection(subprotocol=SUBPROTOCOL))))
            self._frames = handshake.connection
        return data[end + 4 :]

    def _is_welcome(self, request: Request) -> bool:
        """Whether the page that connects may: RFC 6455 §10.2."""
        if not self._rules.origins:
            return True
        for name, value in request.extra_headers:
            if name == b"origin":
                return value[:LARGEST_ORIGIN].decode("latin-1").lower() in self._rules.origins
        return True

    def _refuse(
        self,
        handshake: H11Handshake,
        refusal: RejectConnection,
        found: list[SessionFrame],
        rejection: str = "websocket-upgrade",
    ) -> None:
        try:
            data = handshake.send(refusal)
        except (LocalProtocolError, h11.LocalProtocolError):  # after what it could not read it answers nothing
            data = b"HTTP/1.1 400 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        self._end(found, data, rejection)

    def _take(self, event: Event, found: list[SessionFrame]) -> None:
        if getattr(event, "frame_finished", True):  # what has come of a longer frame does not count
            self._idle_frames += 1
        if self._idle_frames > MOST_IDLE_FRAMES:  # pings, empty fragments: each costs us more than its sender
            self._end(found, self._send(CloseConnection(CloseReason.POLICY_VIOLATION)), "websocket-frame")
        elif isinstance(event, TextMessage):
            self._add(event.data.encode(), event.message_finished, found)
        elif isinstance(event, BytesMessage):
            self._add(bytes(event.data), event.message_finished, found)
        elif isinstance(event, Ping):
            found.append(Reply(self._send(event.response())))
            found.append(PONG)
        elif isinstance(event, Pong):
            found.append(PONG)
        elif isinstance(event, CloseConnection):
            assert self._frames is not None
            if self._frames.state is ConnectionState.OPEN:  # the peer broke the rules; wsproto says how
                self._end(found, self._send(CloseConnection(event.code)), "websocket-frame")
            else:
                self._end(found, self._send(event.response()), "")

    def _add(self, data: bytes, finished: bool, found: list[SessionFrame]) -> None:
        """A part of a message, which may be the whole."""
        self._size += len(data)
        if self._size > self._rules.largest():
            self._end(found, self._send(CloseConnection(CloseReason.MESSAGE_TOO_BIG)), "websocket-message-too-large")
            return
        if data:
            self._parts.append(data)
        if not finished:
            return
        message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._size = 0
        if message.strip(_LINE_ENDS):
            self._idle_frames = 0
            found.append(message)
        else:  # a client's own keep-alive: it counts on the answer of RFC 5626 §4.4.1
            found.append(PING if len(message) > len(_LINE_ENDS) else PONG)

    def _end(self, found: list[SessionFrame], last: bytes, rejection: str) -> None:
        found.append(Ending(last, rejection))
        self._ended = True
        self._parts = []
        self._head = b""
