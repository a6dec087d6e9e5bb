"""One link, its two ends wired by hand: what passes, byte by byte if need be, and what ends it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.link import CLOSED, GREETING, HELLO_BYTES, MOST_UNSENT, OPEN, RETIRING, STEP_SECONDS, Link
from farm.overlay.wire import FRAME_BYTES, VERSION, Codec, Contact, Gossip, Hello
from farm.security.identity import Identity
from farm.security.peer import Peer
from tests.support.certificates import NOON, OVERLAY, make_identity, node_id


@cache
def identity(number: int) -> Identity:
    return make_identity(Path(mkdtemp()), number)


def frame_of(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


class Wire:
    """A transport that keeps what was written until the test carries it over."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = ""

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def loseConnection(self) -> None:
        self.closed = self.closed or "lose"

    def abortConnection(self) -> None:
        self.closed = "abort"


class Socket(Wire):
    """A transport as Twisted's are: what is written at once goes past its buffer, as far as the kernel has `room`."""

    def __init__(self) -> None:
        super().__init__()
        self.dataBuffer = b""
        self.buffered: list[bytes] = []
        self.room = 1_000_000
        self.broken = False

    @property
    def _tempDataLen(self) -> int:
        return sum(map(len, self.buffered))

    def write(self, data: bytes) -> None:
        self.buffered.append(data)

    def writeSomeData(self, data: bytes) -> int | Exception:
        if self.broken:
            return ConnectionDone()
        taken = data[: self.room]
        self.room -= len(taken)
        self.written.append(taken)
        return len(taken)

    def drain(self) -> None:
        """The reactor finds that the kernel has room."""
        self.written.extend(self.buffered)
        self.buffered.clear()


class End:
    """One side: the owner of its end of the link, and what that was told."""

    def __init__(self, number: int, dialled: bool, pair: Pair) -> None:
        self.codec = Codec()
        self.deadlines = Deadlines()
        self.metrics = Metrics()
        self.unexpected = self.metrics.unexpected_errors.child("overlay")
        self.pair = pair
        self.identity = identity(number)
        contact = Contact(node_id(number), "192.0.2.1", 7400, zone="east")
        self.hello = Hello(OVERLAY, contact, 1, 1, 0)
        self.events: list[str] = []
        self.frames: list[bytes] = []
        self.take: Callable[[bytes], str] = lambda frame: ""
        self.wire = Wire()
        self.link = Link(self, self.identity.make_connection(not dialled), "192.0.2.9", 7400, dialled, b"")

    def start(self) -> None:
        self.link.makeConnection(self.wire)

    def clock(self) -> float:
        return self.pair.now

    def check_peer(self, link: Link) -> Peer:
        return self.identity.check_peer(link.tls, NOON)

    def make_hello(self) -> Hello:
        return self.hello

    def link_greeted(self, link: Link, now: float) -> None:
        self.events.append("greeted")
        link.open(now)

    def receive_frame(self, link: Link, frame: bytes, now: float) -> str:
        self.frames.append(frame)
        return self.take(frame)

    def link_refused(self, link: Link, reason: str, detail: str, now: float) -> None:
        self.events.append(f"refused {reason}")

    def link_ended(self, link: Link, reason: str, now: float) -> None:
        self.events.append(f"ended {reason}")

    def link_gone(self, link: Link) -> None:
        self.events.append("gone")

    def wait(self, seconds: float) -> None:
        self.pair.now += seconds
        self.deadlines.run_due(self.pair.now)


class Pair:
    """Two ends. `cut` is how many bytes arrive at a time."""

    def __init__(self) -> None:
        self.now = 50.0
        self.cut = 1 << 20
        self.one = End(1, True, self)
        self.two = End(2, False, self)

    def start(self) -> Pair:
        self.two.start()
        self.one.start()
        return self

    def carry(self) -> None:
        moved = True
        while moved:
            moved = False
            for source, target in ((self.one, self.two), (self.two, self.one)):
                data = b"".join(source.wire.written)
                source.wire.written.clear()
                moved = moved or bool(data)
                for at in range(0, len(data), self.cut):
                    target.link.dataReceived(data[at : at + self.cut])


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def opened(pair: Pair) -> Pair:
    pair.start().carry()
    assert (pair.one.link.state, pair.two.link.state) == (OPEN, OPEN)
    return pair


def test_both_sides_know_each_other_and_the_proof_of_the_link_once_it_is_open(opened: Pair) -> None:
    one, two = opened.one.link, opened.two.link
    assert (one.node, two.node) == (node_id(2), node_id(1))
    assert one.hello is not None
    assert one.hello.contact.node == node_id(2)
    assert one.proof == two.proof != b""
    assert opened.one.events == opened.two.events == ["greeted"]
    opened.one.wait(60.0)
    assert opened.one.events == ["greeted"]


@pytest.mark.parametrize("cut", [1, 7, 1000, 1 << 20])
def test_frames_arrive_whole_and_in_order_however_the_stream_is_cut(pair: Pair, cut: int) -> None:
    pair.cut = cut
    pair.start().carry()
    sent = [b"a", bytes(300), b"", bytes(20_000), b"z" * 5]
    for content in sent:
        assert pair.one.link.send(frame_of(content))
    pair.carry()
    assert pair.two.frames == sent
    pair.one.link.send(frame_of(b"again"))
    pair.carry()
    assert pair.two.frames[5:] == [b"again"]


def test_many_frames_in_one_record_are_all_delivered(opened: Pair) -> None:
    opened.one.link.send(b"".join(frame_of(bytes((number,))) for number in range(100)) + b"\x00\x00")
    opened.one.link.send(b"\x00\x02no" + frame_of(b"more"))
    opened.carry()
    assert opened.two.frames == [bytes((number,)) for number in range(100)] + [b"no", b"more"]


def test_a_frame_leaves_at_once_and_one_that_the_kernel_takes_in_part_leaves_whole_and_in_order(opened: Pair) -> None:
    socket = opened.one.wire = Socket()
    opened.one.link.transport = socket
    frames = [frame_of(bytes([number]) * 100) for number in range(5)]
    assert opened.one.link.send(frames[0])
    assert (len(socket.written), socket.buffered) == (1, [])
    socket.room = 50
    assert all(opened.one.link.send(frame) for frame in frames[1:3])
    assert len(socket.written) == 2
    assert len(socket.buffered) == 2, "the rest of one, and one that must not overtake it"
    socket.drain()
    socket.room = 0
    assert opened.one.link.send(frames[3])
    assert len(socket.buffered) == 1
    socket.drain()
    socket.broken = True
    assert opened.one.link.send(frames[4])
    assert len(socket.buffered) == 1, "the reactor finds out that the connection is broken"
    socket.drain()
    opened.carry()
    assert opened.two.frames == [frame[4:] for frame in frames]


def test_the_largest_frame_passes_and_a_larger_one_ends_the_link_before_it_is_stored(opened: Pair) -> None:
    opened.one.link.send(frame_of(bytes(FRAME_BYTES)))
    opened.carry()
    assert [len(frame) for frame in opened.two.frames] == [FRAME_BYTES]
    opened.one.link.send((FRAME_BYTES + 1).to_bytes(4, "big"))
    opened.carry()
    assert opened.two.events == ["greeted", "refused oversize-frame", "ended oversize-frame"]
    assert len(opened.two.link._inbound) == 0


def test_a_frame_that_the_owner_refuses_ends_the_link_and_what_follows_is_not_read(opened: Pair) -> None:
    opened.two.take = lambda frame: "bad-frame"
    opened.one.link.send(frame_of(b"x") + frame_of(b"y"))
    opened.carry()
    assert opened.two.frames == [b"x"]
    assert opened.two.events == ["greeted", "refused bad-frame", "ended bad-frame"]
    assert opened.one.events == ["greeted", "ended peer"]
    assert (opened.one.wire.closed, opened.two.wire.closed) == ("lose", "lose")


def test_an_exception_ends_one_link_and_is_counted(opened: Pair) -> None:
    def take(frame: bytes) -> str:
        raise ZeroDivisionError

    opened.two.take = take
    opened.one.link.send(frame_of(b"x"))
    opened.carry()
    assert opened.two.events == ["greeted", "ended other"]
    assert opened.two.unexpected._value.get() == 1


def _claim(**changed: Any) -> Callable[[Hello], Hello]:
    def change(hello: Hello) -> Hello:
        contact = hello.contact
        fields = {name: getattr(contact, name) for name in contact.__struct_fields__} | changed
        return Hello(hello.overlay, Contact(**fields), 1, 1, 0)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_claim(node=node_id(9)), "node-id-mismatch"),
        (_claim(zone="west"), "wrong-role"),
        (_claim(roles=4), "wrong-role"),
        (lambda hello: Hello("other.example", hello.contact, 1, 1, 0), "wrong-overlay"),
        (lambda hello: Hello(OVERLAY, hello.contact, VERSION + 1, VERSION + 2, 0), "version"),
        (lambda hello: Hello(OVERLAY, hello.contact, 0, 0, 0), "version"),
        (lambda hello: Gossip([]), "no-hello"),
        (_claim(name="n" * HELLO_BYTES), "no-hello"),
    ],
)
def test_a_hello_must_be_one_and_say_what_the_certificate_says(
    pair: Pair, change: Callable[[Hello], Hello], reason: str
) -> None:
    pair.one.hello = change(pair.one.hello)
    pair.start().carry()
    assert pair.two.events == [f"refused {reason}", f"ended {reason}"]


def test_a_newer_node_that_speaks_our_version_too_is_welcome(pair: Pair) -> None:
    pair.one.hello.version = 7
    pair.start().carry()
    assert pair.two.events == ["greeted"]


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: farm\r\n\r\n", bytes(500), b"\x16\x03\x01" + b"\xff" * 900]
)
def test_what_is_no_tls_is_refused_at_once(pair: Pair, first: bytes) -> None:
    pair.two.start()
    pair.two.link.dataReceived(first)
    assert pair.two.events in (["refused handshake", "ended handshake"], ["refused version", "ended version"])
    assert pair.two.wire.closed == "lose"


def test_a_handshake_may_take_five_seconds_however_slowly_its_bytes_trickle(pair: Pair) -> None:
    pair.start()
    hello = b"".join(pair.one.wire.written)
    for at in range(9):
        pair.two.link.dataReceived(hello[at : at + 1])
        pair.two.wait(0.5)
    assert pair.two.events == []
    pair.two.wait(0.6)
    assert pair.two.events == ["refused handshake-timeout", "ended handshake-timeout"]
    pair.two.wait(STEP_SECONDS)
    assert pair.two.wire.closed == "abort"


def test_a_peer_that_says_no_hello_has_five_seconds_more(pair: Pair) -> None:
    pair.two.make_hello = lambda: Gossip([])  # type: ignore[method-assign, return-value, assignment]
    pair.start()
    real, pair.one.link._greet = pair.one.link._greet, lambda frame, now: None  # type: ignore[method-assign]
    assert real is not None
    pair.carry()
    assert pair.one.link.state == GREETING
    pair.one.wait(4.9)
    assert pair.one.events == []
    pair.one.wait(0.2)
    assert pair.one.events == ["refused no-hello", "ended no-hello"]


def test_a_retired_link_delivers_what_the_other_side_still_sends_and_then_both_close(opened: Pair) -> None:
    opened.two.link.send(frame_of(b"on its way"))
    opened.one.link.send(frame_of(b"last"))
    opened.one.link.retire(opened.now)
    assert opened.one.link.state == RETIRING
    assert not opened.one.link.send(frame_of(b"no more"))
    opened.two.link.retire(opened.now)
    opened.carry()
    assert (opened.one.frames, opened.two.frames) == ([b"on its way"], [b"last"])
    assert opened.one.events == opened.two.events == ["greeted", "ended peer"]


def test_a_retired_link_whose_other_side_never_ends_is_closed_after_five_seconds(opened: Pair) -> None:
    opened.one.link.retire(opened.now)
    opened.one.wait(5.1)
    assert opened.one.events == ["greeted", "ended retired"]
    opened.one.wait(5.1)
    assert opened.one.wire.closed == "abort"


def test_a_peer_that_reads_nothing_costs_eight_megabytes_and_no_more(opened: Pair) -> None:
    link = opened.one.link
    link.pauseProducing()
    frame = frame_of(bytes(FRAME_BYTES))
    taken = 0
    while link.send(frame):
        taken += len(frame)
    assert MOST_UNSENT - len(frame) < taken <= MOST_UNSENT
    link.resumeProducing()
    assert link.send(frame)


def test_what_is_closed_is_told_once_and_takes_nothing_more(opened: Pair) -> None:
    link = opened.one.link
    link.close("stopped", opened.now)
    link.close("again", opened.now)
    assert not link.send(frame_of(b"x"))
    link.connectionLost(Failure(ConnectionDone()))
    assert opened.one.events == ["greeted", "ended stopped", "gone"]
    assert link.state == CLOSED
    opened.one.wait(60.0)
    assert opened.one.wire.closed == "lose"


def test_a_connection_that_breaks_is_lost(opened: Pair) -> None:
    opened.one.link.connectionLost(Failure(ConnectionDone()))
    assert opened.one.events == ["greeted", "ended lost", "gone"]


def test_ciphertext_that_was_tampered_with_ends_the_link(opened: Pair) -> None:
    opened.one.link.send(frame_of(b"x"))
    (record,) = opened.one.wire.written
    opened.two.link.dataReceived(record[:-1] + bytes((record[-1] ^ 1,)))
    assert opened.two.frames == []
    assert opened.two.events == ["greeted", "refused bad-frame", "ended bad-frame"]


def test_a_client_of_ours_that_offers_no_protocol_or_no_tls_1_3_is_refused() -> None:
    for minimum, offers in ((SSL.TLS1_3_VERSION, False), (SSL.TLS1_2_VERSION, True)):
        pair = Pair()
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(minimum)
        if offers:
            context.set_alpn_protos([b"sipfarm/1"])
        pair.one.link.tls = SSL.Connection(context, None)
        pair.one.link.tls.set_connect_state()
        pair.start().carry()
        assert pair.two.events[0].startswith("refused ")
        assert pair.two.frames == []
