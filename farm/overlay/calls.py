"""Calls between nodes and their answers: what goes into which frame, who waits for what, and for how long.

Messages to one node queue up and leave in one frame: at the end of this reactor turn, or, when they are patient
(stores and their acknowledgements), at the next tick. Ticks are the multiples of the window on the wall clock, so all
nodes send at the same moments, and one is woken once for the frames of all others. Whatever is impatient takes along
what waits for the same node; a full queue leaves at once.

Every call has a number, and ends in exactly one `done`: with the answer; with an Error that the other node sent; or
with None when no answer came in time, when the link is not there or broke, or when its queue is full. `done` is never
called from inside `ask`. The time to answer gives each node's round trip (RFC 6298), from which those who ask in turn
take their patience, and its 95th percentile, after which a hedge is worth a call.

Each frame carries the sender's stamp, which ours learns from, and its monotonic time. A stamp more than 5 s ahead
teaches nothing: what the frame asks is refused with the Error "clock", and what it answers counts as no answer. Either
side says then how far the other's clock is ahead (`note_clock`), and says so again when that is over.

What one node asks and tells in a second is limited; a request above that gets the Error "busy". Pings are answered: to
refuse one costs the same and makes the one who asked take this node for dead.

The links are `rpc.py`'s, the bytes `wire.py`'s, and what a request means is the node's.

Decided: timeouts are kept in buckets of 1/64 s, of 1/8 s for a second and more, one deadline each, and answered calls
stay in theirs until it is due. That costs 0.2 µs a call where a lane's deadline and its cancelling cost 0.5, and it
takes any length; what is missed is missed up to 16 or 125 ms late. Every bucket wakes the reactor once: with one width
a farm of nine nodes spent a tenth of its processor time on waking for calls that had long been answered.

Decided: a patient message waits for its tick also when nothing went before it. To wake a node, and to write and read a
TLS record and a TCP segment, costs more than the whole work on a message; the sooner one of two that come one after
the other is sent, the less often they travel together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay import wire
from farm.overlay.clock import HybridClock, stamp_seconds
from farm.overlay.requests import CLASS_OF, RANK, RELAYS, UPKEEP, RequestKind, make_kinds
from farm.overlay.rtt import FIRST_PATIENCE, LEAST_PATIENCE, Rtt
from farm.overlay.wire import Answer, Codec, Contact, Error, Hello, Message, Notice, Relay, Request, WireError

Done = Callable[[Answer | None, float], None]
Later = Callable[[float, Callable[[], None]], object]

FULL_BYTES: Final = 32_768  # a queue above this leaves at once
MESSAGE_BYTES: Final = wire.FRAME_BYTES - 64  # of all messages in a frame; the rest is for its head
MOST_CALLS: Final = 10_000  # to one node and not answered yet
_BUCKETS: Final = 64  # a second
_WIDE_BUCKETS: Final = 8  # for calls of a second and more
_NOTICES: Final = frozenset((wire.Gossip, wire.Leave, wire.NewConfig, wire.Relay))
_PATIENT: Final = frozenset((wire.Stored,))
_UNLIMITED: Final = frozenset((wire.Ping, wire.PingRequest))
_RELAYS_RANK: Final = RANK[RELAYS]
_BURST_SECONDS: Final = 2.0  # of requests at the highest rate, which may come at once


class Links(Protocol):
    """The links to other nodes: `rpc.Rpc`, or the simulator's."""

    def send(self, node: bytes, frame: bytes) -> bool:
        """Write a frame, its length included. False: no link is open or its buffer is full; nothing was sent."""

    def connect(self, contact: Contact) -> None:
        """Dial, unless a link is open or being dialled; the outcome is told to the LinkUser."""

    def connect_address(self, host: str, port: int) -> None:
        """Dial a seed of which only the address is known."""

    def close(self, node: bytes, reason: str) -> None:
        """Close the link to a node, if there is one."""

    def is_open(self, node: bytes) -> bool:
        """Whether there is a link to a node."""


class Server(Protocol):
    """Who answers: the node."""

    def receive_request(self, node: bytes, message: Request, shift: float, now: float) -> Answer | None:
        """The answer; None when it comes later through `Calls.answer`. `shift` is to be added to record times."""

    def receive_notice(self, node: bytes, message: Notice, now: float) -> None:
        """Something that wants no answer."""

    def relays_lost(self, node: bytes, relays: list[Relay], now: float) -> None:
        """Relays that were told, and did not leave: the link is gone or takes no more."""


class _Peer:
    """One node: what waits to be sent to it and which calls it has not answered. `calls` are by number, oldest first:
    (done, when asked, kind, whether it waited in the queue)."""

    __slots__ = ("asks_at", "calls", "node", "off", "queue", "queued", "rank", "relays_at", "rtt", "unsent", "waiting")

    def __init__(self, node: bytes) -> None:
        self.node = node
        self.queue: list[bytes] = []
        self.queued = 0
        self.rank = 0
        self.unsent: list[int] = []  # the calls in the queue
        self.waiting = 0  # 0: nothing is queued; 1: it waits for the tick; 2: it leaves at the end of this turn
        self.calls: dict[int, tuple[Done, float, RequestKind, bool]] = {}
        self.rtt = Rtt()
        self.off = False  # one of us refused what the other said, for its clock
        self.asks_at = 0.0  # when it has used up no more than its rate gives it
        self.relays_at = 0.0  # the same of relays: a flood of SIP there stops no record here


class Calls:
    """All calls of one node, to and from all others. `server` answers; it must be set before the first frame.

    `clock` answers monotonic, `wall` wall-clock seconds; `log_failure(text)` is called inside an `except`;
    `note_clock(node, seconds)` hears how far the clock of a node is ahead of ours when that is too much, and when it is
    well again. `shift` is, while `done` runs, what to add to the times of records in its answer.
    """

    def __init__(
        self,
        links: Links,
        codec: Codec,
        deadlines: Deadlines,
        later: Later,
        stamps: HybridClock,
        clock: Callable[[], float],
        wall: Callable[[], float],
        metrics: Metrics,
        *,
        coalesce_seconds: float = 0.02,
        requests_per_second: int = 20_000,
        server: Server | None = None,
        log_failure: Callable[[str], object] | None = None,
        note_clock: Callable[[bytes, float], object] | None = None,
    ) -> None:
        self.server = server
        self.shift = 0.0
        self._links = links
        self._codec = codec
        self._pack = codec.pack
        self._deadlines = deadlines
        self._later = later
        self._stamps = stamps
        self._clock = clock
        self._wall = wall
        self._coalesce_seconds = coalesce_seconds
        self.limit(requests_per_second)
        self._log_failure = log_failure
        self._note_clock = note_clock
        self._peers: dict[bytes, _Peer] = {}
        self._call = 0
        self._urgent: list[_Peer] = []
        self._patient: list[_Peer] = []
        self._failed: list[Done] = []
        self._buckets: dict[float, list[tuple[_Peer, int]]] = {}  # by when they are due
        self._kinds = make_kinds(metrics)
        self._rejections = metrics.peer_rejections
        self._unexpected = metrics.unexpected_errors.child("overlay")
        self._bytes_in = [metrics.overlay_bytes.child("in", name) for name in RANK]
        self._bytes_out = [metrics.overlay_bytes.child("out", name) for name in RANK]

    # Out

    def limit(self, requests_per_second: int) -> None:
        """Take so many requests of one peer each second from now on; 0 for any number."""
        self._interval = 1.0 / requests_per_second if requests_per_second else 0.0

    def ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Done,
        now: float,
        *,
        patient: bool = False,
        size_class: str = UPKEEP,
    ) -> int:
        """Call a node; `done(answer, now)` follows once, at the latest `within` seconds from now (and a bucket).

        Answers the number of the call, which is written into the message. `size_class` says what the bytes are
        counted as, UPKEEP, RECORDS or REPAIR (`requests.py`).
        """
        peer = self._peers.get(node)
        if peer is None:
            peer = self._add_peer(node)
        self._call = call = self._call + 1
        message.call = call
        if len(peer.calls) >= MOST_CALLS:
            self._rejections.child("queue-full").inc()
            self._fail_later(done)
            return call
        peer.calls[call] = (done, now, self._kinds[type(message)], patient)
        width = _BUCKETS if within < 1.0 else _WIDE_BUCKETS
        bucket = (int((now + within) * width) + 1) / width
        entries = self._buckets.get(bucket)
        if entries is None:
            entries = self._buckets[bucket] = []
            self._deadlines.add(bucket, self._expire, bucket)
        entries.append((peer, call))
        if not self._queue(peer, message, patient, size_class, now, call):
            del peer.calls[call]
            self._fail_later(done)
        return call

    def tell(self, node: bytes, message: Notice, now: float) -> None:
        """Say something that wants no answer; lost when there is no link, of relays the server hears so."""
        peer = self._peers.get(node) or self._add_peer(node)
        self._queue(peer, message, False, CLASS_OF.get(type(message), UPKEEP), now)

    def answer(self, node: bytes, message: Answer, now: float, patient: bool = False) -> None:
        """Answer a request later than in `receive_request`; `message.call` is the request's."""
        peer = self._peers.get(node)
        if peer is not None:  # else the link over which it was asked is gone
            self._answer(peer, message, patient, now)

    def _answer(self, peer: _Peer, message: Answer, patient: bool, now: float) -> None:
        if not self._queue(peer, message, patient, CLASS_OF.get(type(message), UPKEEP), now):
            self._queue(peer, Error(message.call, "internal"), patient, UPKEEP, now)

    def _queue(self, peer: _Peer, message: Message, patient: bool, size_class: str, now: float, call: int = 0) -> bool:
        """Have a message sent soon. False when it cannot be put into a frame."""
        try:
            packed = self._pack(message)
        except Exception:  # a value that no message may have: a bug of ours
            self._note_failure("a message could not be packed")
            return False
        size = len(packed)
        if size > MESSAGE_BYTES:
            self._rejections.child("oversize-frame").inc()
            return False
        if peer.queued + size > MESSAGE_BYTES:
            self._flush(peer, now)
        peer.queue.append(packed)
        peer.queued += size
        if call:
            peer.unsent.append(call)
        if RANK[size_class] > peer.rank:
            peer.rank = RANK[size_class]
        if peer.queued > FULL_BYTES:
            self._flush(peer, now)
        elif peer.waiting < 2:
            if not patient or not self._coalesce_seconds:
                peer.waiting = 2
                self._urgent.append(peer)
                if len(self._urgent) == 1:
                    self._later(0.0, self._flush_urgent)
            elif not peer.waiting:
                peer.waiting = 1
                self._patient.append(peer)
                if len(self._patient) == 1:
                    self._later(self._seconds_to_tick(), self._flush_patient)
        return True

    def _seconds_to_tick(self) -> float:
        window = self._coalesce_seconds
        return window - self._wall() % window

    def flush(self) -> None:
        """Send at once whatever waits for the end of the turn or for company; before links are closed, say."""
        self._flush_urgent()
        self._flush_patient()

    def _flush_urgent(self) -> None:
        peers = self._urgent
        self._urgent = []
        self._flush_all(peers)

    def _flush_patient(self) -> None:
        peers = self._patient
        self._patient = []
        self._flush_all(peers)

    def _flush_all(self, peers: list[_Peer]) -> None:
        now = self._clock()
        for peer in peers:
            if peer.queue:
                self._flush(peer, now)

    def _flush(self, peer: _Peer, now: float) -> None:
        """Send what is queued for a node as one frame."""
        queue = peer.queue
        unsent = peer.unsent
        peer.queue = []
        peer.unsent = []
        peer.queued = 0
        rank, peer.rank = peer.rank, 0
        peer.waiting = 0
        try:
            frame = self._codec.frame(self._stamps.tick(self._wall()), now, queue)
            sent = self._links.send(peer.node, frame)
            reason = "" if sent or not self._links.is_open(peer.node) else "queue-full"
        except Exception:
            self._note_failure("a frame could not be sent")
            sent, reason = False, "other"
        if sent:
            self._bytes_out[rank].inc(len(frame))
            return
        if reason:
            self._rejections.child(reason).inc()
        else:
            if self._peers.get(peer.node) is peer:
                del self._peers[peer.node]
            unsent = list(peer.calls)
        if rank == _RELAYS_RANK:
            self._lose_relays(peer.node, queue)
        for call in unsent:
            waiting = peer.calls.pop(call, None)
            if waiting is not None:
                self._fail_later(waiting[0])

    # In

    def receive_frame(self, node: bytes, frame: bytes, now: float) -> str:
        """A frame, without its length, has come. Answers "" or why the link must be closed."""
        try:
            received = self._codec.unpack(frame)
        except WireError as error:
            return error.reason
        peer = self._peers.get(node) or self._add_peer(node)
        refused = not self._stamps.observe(received.stamp, self._wall())
        if refused:
            self._rejections.child("clock").inc(len(received.messages))
        if refused or peer.off:
            self._compare_clocks(peer, received.stamp, refused)
        self.shift = shift = now - received.mono
        rank = 0
        for message in received.messages:
            type_ = type(message)
            size_class = CLASS_OF.get(type_)
            if size_class is not None and RANK[size_class] > rank:
                rank = RANK[size_class]
            kind = self._kinds.get(type_)
            if kind is not None:
                self._receive_request(peer, message, refused, shift, now)  # type: ignore[arg-type]
            elif type_ in _NOTICES:
                too_much = self._are_too_many if type_ is Relay else self._is_too_much
                if not refused and not too_much(peer, now):
                    self._receive_notice(node, message, now)  # type: ignore[arg-type]
            elif type_ is Hello:
                return "bad-message"
            else:
                if type_ is Error and message.code == "clock":  # type: ignore[union-attr]
                    self._compare_clocks(peer, received.stamp, True)
                self._receive_answer(peer, message, refused, now)  # type: ignore[arg-type]
        self._bytes_in[rank].inc(len(frame) + 4)
        for call in received.unknown_calls:
            self._answer(peer, Error(call, "unsupported"), False, now)
        return ""

    def _compare_clocks(self, peer: _Peer, stamp: int, off: bool) -> None:
        peer.off = off
        if self._note_clock is not None:
            self._note_clock(peer.node, stamp_seconds(stamp) - self._wall())

    def _receive_request(self, peer: _Peer, message: Request, refused: bool, shift: float, now: float) -> None:
        if refused or (type(message) not in _UNLIMITED and self._is_too_much(peer, now)):
            self._answer(peer, Error(message.call, "clock" if refused else "busy"), False, now)
            return
        server = self.server
        answer: Answer | None
        try:
            answer = None if server is None else server.receive_request(peer.node, message, shift, now)
        except Exception:
            self._note_failure("a request of another node failed")
            answer = Error(message.call, "internal")
        if answer is not None:
            answer.call = message.call
            self._answer(peer, answer, type(answer) in _PATIENT, now)

    def _is_too_much(self, peer: _Peer, now: float) -> bool:
        """Whether a node asks and tells more than it may."""
        if peer.asks_at > now + _BURST_SECONDS:
            self._rejections.child("rate").inc()
            return True
        peer.asks_at = max(peer.asks_at, now) + self._interval
        return False

    def _are_too_many(self, peer: _Peer, now: float) -> bool:
        """Whether a node relays more than it may."""
        if peer.relays_at > now + _BURST_SECONDS:
            self._rejections.child("rate").inc()
            return True
        peer.relays_at = max(peer.relays_at, now) + self._interval
        return False

    def _receive_notice(self, node: bytes, message: Notice, now: float) -> None:
        try:
            if self.server is not None:
                self.server.receive_notice(node, message, now)
        except Exception:
            self._note_failure("a notice of another node failed")

    def _receive_answer(self, peer: _Peer, message: Answer, refused: bool, now: float) -> None:
        waiting = peer.calls.pop(message.call, None)
        if waiting is None:
            return  # too late
        done, asked_at, kind, patient = waiting
        answer: Answer | None = message
        if refused:
            answer = None
        elif type(message) in kind.answers:
            seconds = now - asked_at
            kind.observe(seconds)
            if kind.timed and not patient:
                peer.rtt.note(seconds)
        elif type(message) is not Error:
            answer = Error(message.call, "bad-answer")
        self._finish(done, answer, now)

    # Ends

    def link_closed(self, node: bytes, now: float) -> None:
        """A link is gone: all calls over it have failed."""
        peer = self._peers.pop(node, None)
        if peer is None:
            return
        waiting = list(peer.calls.values())
        peer.calls.clear()
        if peer.rank == _RELAYS_RANK:
            self._lose_relays(node, list(peer.queue))
        peer.queue.clear()
        for done, _, _, _ in waiting:
            self._finish(done, None, now)

    def _lose_relays(self, node: bytes, packed: list[bytes]) -> None:
        """Say later which of these messages were relays."""
        messages = self._codec.unpack(self._codec.frame(0, 0.0, packed)[4:]).messages
        relays = [message for message in messages if isinstance(message, Relay)]

        def tell() -> None:
            try:
                if self.server is not None:
                    self.server.relays_lost(node, relays, self._clock())
            except Exception:
                self._note_failure("what followed a lost relay failed")

        self._later(0.0, tell)

    def _expire(self, bucket: float, now: float) -> None:
        """Fail the calls of a bucket that were not answered."""
        for peer, call in self._buckets.pop(bucket, ()):
            waiting = peer.calls.pop(call, None)
            if waiting is not None:
                done, _, kind, _ = waiting
                kind.timeouts.inc()
                if kind.timed:
                    peer.rtt.note_timeout()
                self._finish(done, None, now)

    def _fail_later(self, done: Done) -> None:
        self._failed.append(done)
        if len(self._failed) == 1:
            self._later(0.0, self._fail)

    def _fail(self) -> None:
        failed = self._failed
        self._failed = []
        now = self._clock()
        for done in failed:
            self._finish(done, None, now)

    def _finish(self, done: Done, answer: Answer | None, now: float) -> None:
        try:
            done(answer, now)
        except Exception:
            self._note_failure("what followed a call failed")

    # What is known

    def rtt(self, node: bytes) -> Rtt:
        """What is known of a node's round trip."""
        peer = self._peers.get(node)
        return Rtt() if peer is None else peer.rtt

    def patience(self, node: bytes) -> float:
        """How long to wait for a node's answer before it is worth asking another: 50 ms to 1 s."""
        peer = self._peers.get(node)
        return FIRST_PATIENCE if peer is None else peer.rtt.patience

    def hedge_after(self, node: bytes) -> float:
        """After how long without an answer of a node a hedge is worth a call: its 95th percentile."""
        peer = self._peers.get(node)
        return LEAST_PATIENCE if peer is None else peer.rtt.hedge_after

    def outstanding(self, node: bytes) -> int:
        """How many calls to a node are not answered yet."""
        peer = self._peers.get(node)
        return 0 if peer is None else len(peer.calls)

    def _add_peer(self, node: bytes) -> _Peer:
        peer = self._peers[node] = _Peer(node)
        return peer

    def _note_failure(self, text: str) -> None:
        self._unexpected.inc()
        if self._log_failure is not None:
            self._log_failure(text)
