"""One stream connection as a flow: its messages, its buffers, its time limits (RFC 3261 §18, RFC 5626 §3.5.1).

It is told of bytes, time and the wire's state by `stream.py`, so it needs no socket. Three limits guard against peers
that only hold a connection: the first whole message must come soon, a message once begun must be completed soon, and
a silent connection ends. A peer that does not read is cut when too much waits for it.

Decided: one deadline a connection, looked at again when it fires, instead of one moved at every message: traffic then
costs no timer. Decided: what the wire has no room for waits here and not in Twisted's buffer, whose size it does not
tell.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol, TypeAlias

from farm.config import LimitSettings
from farm.deadlines import Deadline, Deadlines
from farm.metrics import Metrics
from farm.sip.framing import PING, Broken, Frame, KeepAlive, StreamFramer
from farm.sip.hop import Hop
from farm.sip.parser import Malformed, ParserLimits
from farm.transport.traffic import Traffic

MOST_PINGS: Final = 1000  # in what was read at once: a phone sends one a minute, and each costs us more than its sender
CLOSING_SECONDS: Final = 5.0  # how long a closing connection may take to write what is left


class Wire(Protocol):
    """The socket side."""

    def write(self, data: bytes) -> None:
        """Send; the wire calls `pause` when it is full and `resume` when it has room again."""

    def close(self) -> None:
        """Close when all is written."""

    def abort(self) -> None:
        """Close now, whatever is unwritten."""

    def find_local(self) -> tuple[str, int]:
        """Address and port of our end of it."""


class StreamReceiver(Protocol):
    """Where messages go: the layer. None of these raises."""

    def receive_stream_message(self, data: bytes, connection: Connection, now: float) -> None:
        """One framed message."""

    def receive_broken_stream(self, error: Malformed, connection: Connection, now: float) -> None:
        """The stream cannot be framed any more; it is closed after this."""

    def receive_connection_end(self, connection: Connection, now: float) -> None:
        """The connection is gone, or could not be made."""

    def note_rejection(self, reason: str, source: Hop, now: float, detail: str = "") -> None:
        """A peer was turned away."""


class Reply:
    """What a session answers by itself: bytes to write as they are, left out when the peer does not read."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Ending:
    """The end of a session: the last bytes to write, and what the peer did wrong, "" when it only leaves."""

    __slots__ = ("data", "rejection")

    def __init__(self, data: bytes, rejection: str) -> None:
        self.data = data
        self.rejection = rejection


SessionFrame: TypeAlias = "Frame | Reply | Ending"


class Session(Protocol):
    """A protocol between the stream and its messages, WebSocket's; plain streams have none."""

    @property
    def ready(self) -> bool:
        """Whether messages can be sent."""

    @property
    def partial(self) -> bool:
        """Whether something unfinished waits for its rest."""

    @property
    def ping_seconds(self) -> float:
        """How long the peer may say nothing before it is asked, 0 for ever."""

    def receive(self, data: bytes) -> list[SessionFrame]:
        """What these bytes complete, in order."""

    def wrap(self, message: bytes) -> bytes:
        """The bytes that carry a message."""

    def ping(self) -> bytes:
        """What the peer must answer when it is there."""

    def farewell(self, reason: str) -> bytes:
        """What is written before we close for that reason, b"" when nothing is."""


class Phase(Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class StreamContext:
    """What all connections of a node share."""

    __slots__ = ("clock", "deadlines", "limits", "metrics", "parser_limits", "receiver", "traffic")

    def __init__(
        self,
        receiver: StreamReceiver,
        limits: LimitSettings,
        parser_limits: ParserLimits,
        metrics: Metrics,
        traffic: Traffic,
        deadlines: Deadlines,
        clock: Callable[[], float],
    ) -> None:
        self.receiver = receiver
        self.limits = limits
        self.parser_limits = parser_limits
        self.metrics = metrics
        self.traffic = traffic
        self.deadlines = deadlines
        self.clock = clock


class Connection:
    """A flow over one stream. `hop.local` names this very connection, and no other until the process ends."""

    __slots__ = (
        "_active_at",
        "_context",
        "_deadline",
        "_framer",
        "_full",
        "_heard",
        "_keepalives",
        "_message_started_at",
        "_opened_at",
        "_pinged_at",
        "_received_at",
        "_session",
        "_waiting",
        "_waiting_bytes",
        "_wire",
        "accepted",
        "close_reason",
        "domains",
        "hop",
        "local_name",
        "phase",
        "replies",
        "transport",
    )

    reliable: Final = True
    breaks: Final = True

    def __init__(
        self, context: StreamContext, hop: Hop, local_name: str, *, accepted: bool, session: Session | None = None
    ) -> None:
        now = context.clock()
        self.hop = hop
        self.local_name = local_name
        self.transport = hop.transport
        self.accepted = accepted
        self.phase = Phase.CONNECTING
        self.close_reason = ""
        self.domains: tuple[str, ...] = ()  # what the certificate of the far end proves, once the handshake is done
        self.replies: set[object] = set()  # reply flows that lost their own connection and wait on this one
        self._context = context
        self._keepalives = context.metrics.keepalives.child(hop.transport.lower())
        self._session = session
        self._framer: StreamFramer | Session = session or StreamFramer(context.parser_limits)
        self._wire: Wire | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._full = False
        self._heard = False
        self._opened_at = self._active_at = self._received_at = now
        self._pinged_at: float | None = None  # when the peer was last asked whether it is there, unless it has answered
        self._message_started_at: float | None = None
        self._deadline: Deadline | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.hop} {self.phase.value}>"

    @property
    def usable(self) -> bool:
        """Whether messages can be sent on it, now or when it is open."""
        if self._session is not None:
            return self.phase is Phase.OPEN and self._session.ready
        return self.phase is Phase.OPEN or self.phase is Phase.CONNECTING

    def send(self, data: bytes) -> bool:
        """Send a message, or keep it until the peer is connected or reads; False when it cannot be."""
        phase = self.phase
        wrapped = data
        if self._session is not None:
            if not self.usable:
                return False
            wrapped = self._session.wrap(data)
        if phase is Phase.OPEN and not self._full:
            assert self._wire is not None
            self._wire.write(wrapped)
            if self._context.traffic.watcher is not None:
                self._show(data, sent=True)
        elif phase is Phase.OPEN or phase is Phase.CONNECTING:
            if self._waiting_bytes + len(wrapped) > self._context.limits.write_buffer_bytes:
                return self._overflow(phase)
            self._waiting.append(wrapped)
            self._waiting_bytes += len(wrapped)
            if self._session is not None and self._context.traffic.watcher is not None:
                self._show(data, sent=True)  # its bytes do not tell the message any more when they are written
        else:
            return False
        self._active_at = self._context.clock()
        self._context.traffic.count_sent(data)
        return True

    def _show(self, data: bytes, *, sent: bool) -> None:
        """To who watches the wire."""
        watcher, wire = self._context.traffic.watcher, self._wire
        if watcher is not None and wire is not None:
            watcher.watch(data, self.transport, wire.find_local(), (self.hop.host, self.hop.port), sent=sent)

    def _overflow(self, phase: Phase) -> bool:
        context = self._context
        context.receiver.note_rejection("write-buffer-full", self.hop, context.clock())
        if phase is Phase.OPEN:
            self.abort("buffer")
        return False

    def close(self, reason: str) -> None:
        """Close once what waits is written, or soon."""
        if self.phase is Phase.CONNECTING:
            self.abort(reason)
        elif self.phase is Phase.OPEN:
            self._flush(even_if_full=True)
            self.phase = Phase.CLOSING
            self.close_reason = reason
            self._arm(self._context.clock() + CLOSING_SECONDS)
            assert self._wire is not None
            if self._session is not None:
                self._wire.write(self._session.farewell(reason))
            self._wire.close()

    def abort(self, reason: str) -> None:
        """Close now."""
        if self.phase is Phase.CLOSED:
            return
        self.close_reason = self.close_reason or reason
        self.phase = Phase.CLOSING
        if self._wire is not None:
            self._wire.abort()

    # From the wire

    def prepare(self, wire: Wire) -> None:
        """A wire is being connected: `abort` gives it up."""
        self._wire = wire

    def open(self, wire: Wire) -> None:
        """The wire is there."""
        if self.phase is not Phase.CONNECTING:  # given up meanwhile
            wire.abort()
            self._wire = wire
            return
        self._wire = wire
        self.phase = Phase.OPEN
        self._opened_at = self._active_at = self._received_at = self._context.clock()
        self._arm(self._next_check())
        self._flush()

    def receive(self, data: bytes) -> None:
        """Bytes have come in."""
        context = self._context
        now = self._active_at = self._received_at = context.clock()
        receiver = context.receiver
        pongs = 0
        whole = 0
        watched = context.traffic.watcher is not None
        for frame in self._framer.receive(data):
            if self.phase is not Phase.OPEN:
                return
            if isinstance(frame, bytes):
                whole += 1
                self._heard = True
                if watched:
                    self._show(frame, sent=False)
                receiver.receive_stream_message(frame, self, now)
            elif isinstance(frame, KeepAlive):
                self._keepalives.inc()
                if frame is PING:
                    pongs += 1
            elif isinstance(frame, Broken):
                if watched:
                    self._show(frame.head, sent=False)
                receiver.receive_broken_stream(frame.error, self, now)
                self.close("malformed")
                return
            else:
                self._take(frame, now)
        if pongs > MOST_PINGS and self.phase is Phase.OPEN:
            receiver.note_rejection("keepalive-rate", self.hop, now)
            self.close("malformed")
        elif pongs and self.phase is Phase.OPEN:
            self._pong(pongs)
        if not self._framer.partial:
            self._message_started_at = None
        elif whole or self._message_started_at is None:
            self._message_started_at = now
            if self.phase is Phase.OPEN:
                self._arm(self._next_check())

    def _take(self, frame: Reply | Ending, now: float) -> None:
        """What the session wants written, or its end."""
        if isinstance(frame, Ending) and frame.rejection:
            self._context.receiver.note_rejection(frame.rejection, self.hop, now)
        if not self._full:
            assert self._wire is not None
            self._wire.write(frame.data)
        if isinstance(frame, Ending):
            self.close("malformed" if frame.rejection else "peer")

    def _pong(self, count: int) -> None:
        """RFC 5626 §4.4.1: one CRLF for each ping. A peer that pings and does not read gets none."""
        if not self._full:
            assert self._wire is not None
            data = b"\r\n" * count
            self._wire.write(data if self._session is None else self._session.wrap(data))

    def pause(self) -> None:
        """The wire is full."""
        self._full = True

    def resume(self) -> None:
        """The wire has room again."""
        self._full = False
        if self.phase is Phase.OPEN:
            self._flush()

    def end(self, reason: str) -> None:
        """The wire is gone, or could not be connected. `reason` is why, unless we closed it ourselves."""
        if self.phase is Phase.CLOSED:
            return
        context = self._context
        self.phase = Phase.CLOSED
        self.close_reason = self.close_reason or reason
        context.deadlines.cancel(self._deadline)
        self._deadline = None
        self._waiting.clear()
        self._waiting_bytes = 0
        self._wire = None
        context.receiver.receive_connection_end(self, context.clock())

    def _flush(self, *, even_if_full: bool = False) -> None:
        waiting = self._waiting
        if not waiting:
            return
        assert self._wire is not None
        watched = self._session is None and self._context.traffic.watcher is not None
        sent = 0
        for data in waiting:
            if self._full and not even_if_full:
                break
            self._wire.write(data)
            if watched:
                self._show(data, sent=True)
            sent += 1
            self._waiting_bytes -= len(data)
        del waiting[:sent]

    # Time

    def _next_check(self) -> float:
        limits = self._context.limits
        at = self._active_at + limits.idle_seconds
        if self.accepted and not self._heard:
            at = min(at, self._opened_at + limits.first_message_seconds)
        if self._message_started_at is not None:
            at = min(at, self._message_started_at + limits.message_seconds)
        if self._session is not None and self._session.ping_seconds:
            at = min(at, max(self._received_at, self._pinged_at or 0.0) + self._session.ping_seconds)
        return at

    def _ping(self, session: Session, now: float) -> None:
        """Ask a silent peer whether it is there, or give it up when it has not answered the last time."""
        if self._pinged_at is not None and self._received_at < self._pinged_at:
            self.close("idle")
            return
        self._pinged_at = now
        if not self._full:
            assert self._wire is not None
            self._wire.write(session.ping())
        self._arm(self._next_check())

    def _arm(self, at: float) -> None:
        deadlines = self._context.deadlines
        if self._deadline is not None:
            if self._deadline.pending and self._deadline.at <= at and self.phase is Phase.OPEN:
                return
            deadlines.cancel(self._deadline)
        self._deadline = deadlines.add(at, self._check)

    def _check(self, _argument: object, now: float) -> None:
        limits, receiver = self._context.limits, self._context.receiver
        self._deadline = None
        if self.phase is not Phase.OPEN:
            self.abort("stopped")
        elif self._message_started_at is not None and now >= self._message_started_at + limits.message_seconds:
            receiver.note_rejection("slow-message", self.hop, now)
            self.abort("slow")
        elif self.accepted and not self._heard and now >= self._opened_at + limits.first_message_seconds:
            receiver.note_rejection("no-first-message", self.hop, now)
            self.abort("slow")
        elif now >= self._active_at + limits.idle_seconds:
            self.close("idle")
        elif (
            self._session is not None
            and self._session.ping_seconds
            and now >= max(self._received_at, self._pinged_at or 0.0) + self._session.ping_seconds
        ):
            self._ping(self._session, now)
        else:
            self._arm(self._next_check())
