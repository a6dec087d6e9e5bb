"""WebSocket as browsers see it: the upgrade, messages, pings, closing, and what is turned away."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.sip.framing import PING as SIP_PING
from farm.sip.framing import PONG as SIP_PONG
from farm.transport.connection import Ending, Reply
from farm.transport.websocket import MOST_IDLE_FRAMES, UPGRADE_BYTES, WebSocketRules, WebSocketSession
from tests.support.edge import NODE, PHONE, Edge, StreamPeer, connect, make_edge
from tests.support.messages import request_bytes, response_bytes
from tests.support.network import Host, Network
from tests.support.web_sockets import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    make_close,
    make_frame,
    make_upgrade,
    read_frames,
)

VIA = "SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK1"
OPTIONS = request_bytes("OPTIONS", via=VIA)
ANSWER = response_bytes(200, method="OPTIONS", via=VIA)
PORT = 8080


def make_session(*origins: str, ping_seconds: float = 30.0, largest: int = 1000) -> WebSocketSession:
    return WebSocketSession(WebSocketRules(frozenset(origins), ping_seconds, lambda: largest))


def open_session(**rules: Any) -> WebSocketSession:
    """A session that has been upgraded."""
    session = make_session(**rules)
    assert isinstance(session.receive(make_upgrade())[0], Reply)
    return session


def show(found: list[Any]) -> list[Any]:
    """What a session answered, in values that can be compared."""
    return [
        ("reply", read_frames(frame.data))
        if isinstance(frame, Reply)
        else ("end", frame.rejection, read_frames(frame.data))
        if isinstance(frame, Ending)
        else frame
        for frame in found
    ]


def make_web_edge(**options: Any) -> tuple[Network, Edge, Host]:
    return make_edge(listen=[f"ws:{NODE}:{PORT}"], **options)


def open_page(edge: Edge, phone: Host) -> StreamPeer:
    """A browser's connection, upgraded."""
    peer = connect(phone, port=PORT)
    talk(edge, peer, make_upgrade())
    assert peer.data.startswith(b"HTTP/1.1 101 "), peer.data
    peer.data = b""
    return peer


def talk(edge: Edge, peer: StreamPeer, data: bytes, seconds: float = 0.1) -> None:
    """Send on a connection and let it arrive."""
    peer.transport.write(data)
    edge.network.run(seconds)


# The upgrade


def test_the_upgrade_answers_the_key_and_names_the_subprotocol() -> None:
    session = make_session()
    (reply,) = session.receive(make_upgrade())
    assert isinstance(reply, Reply)
    start, _, rest = reply.data.decode().partition("\r\n")
    assert start == "HTTP/1.1 101 Switching Protocols"
    assert sorted(line.lower() for line in rest.split("\r\n") if line) == sorted(
        [
            "upgrade: websocket",
            "connection: upgrade",
            f"sec-websocket-accept: {ACCEPT}".lower(),
            "sec-websocket-protocol: sip",
        ]
    )
    assert session.ready
    assert not session.partial


def test_an_upgrade_cut_at_every_byte_is_one() -> None:
    session = make_session()
    found: list[Any] = []
    data = make_upgrade(sec_websocket_protocol="chat, sip")
    for place in range(len(data) - 1):
        assert session.receive(data[place : place + 1]) == []
        assert session.partial
        assert not session.ready
    found = session.receive(data[-1:])
    assert len(found) == 1
    assert session.ready


def test_what_follows_the_upgrade_in_one_packet_is_not_lost() -> None:
    found = make_session().receive(make_upgrade() + make_frame(OPTIONS))
    assert found[1:] == [OPTIONS]


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (make_upgrade(upgrade=None), "426", "websocket-upgrade"),
        (make_upgrade(upgrade=None, connection=None), "426", "websocket-upgrade"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "426", "websocket-upgrade"),
        (make_upgrade(sec_websocket_version="8"), "426", "websocket-upgrade"),
        (make_upgrade(connection=None), "400", "websocket-upgrade"),
        (make_upgrade(sec_websocket_key="AAAA"), "400", "websocket-upgrade"),
        (make_upgrade(sec_websocket_key="!" * 22 + "=="), "400", "websocket-upgrade"),
        (make_upgrade(upgrade="h2c"), "400", "websocket-upgrade"),
        (make_upgrade(sec_websocket_version=None), "400", "websocket-upgrade"),
        (make_upgrade(sec_websocket_key=None), "400", "websocket-upgrade"),
        (make_upgrade(host=None), "400", "websocket-upgrade"),
        (make_upgrade(host="xn--\xff"), "400", "websocket-upgrade"),
        (make_upgrade(sec_websocket_protocol="s\xefp"), "400", "websocket-upgrade"),
        (make_upgrade("POST / HTTP/1.1"), "400", "websocket-upgrade"),
        (make_upgrade("POST / HTTP/1.1", content_length="5"), "400", "websocket-upgrade"),
        (make_upgrade("GET / HTTP/1.0"), "400", "websocket-upgrade"),
        (make_upgrade("GET /\xff HTTP/1.1"), "400", "websocket-upgrade"),
        (b"\x16\x03\x01\x02\0\r\n\r\n", "400", "websocket-upgrade"),
        (b"\r\n\r\n", "400", "websocket-upgrade"),
        (OPTIONS, "400", "websocket-upgrade"),
        (make_upgrade(sec_websocket_protocol=None), "400", "websocket-subprotocol"),
        (make_upgrade(sec_websocket_protocol="sips, SIP2, xmpp"), "400", "websocket-subprotocol"),
        (b"GET / HTTP/1.1\r\nCookie: " + b"x" * UPGRADE_BYTES, "431", "websocket-upgrade"),
        (make_upgrade(cookie="x" * UPGRADE_BYTES), "431", "websocket-upgrade"),
    ],
)
def test_what_is_no_upgrade_to_sip_is_refused_and_the_connection_ends(data: bytes, status: str, reason: str) -> None:
    session = make_session()
    (end,) = session.receive(data)
    assert isinstance(end, Ending)
    assert end.data.startswith(f"HTTP/1.1 {status} ".encode()), end.data
    assert end.data.endswith(b"\r\n\r\n")
    assert b"content-length: 0\r\n" in end.data.lower()
    assert end.rejection == reason
    assert not session.ready
    assert not session.partial
    assert session.receive(make_upgrade()) == []


def test_who_asks_for_a_page_is_told_what_is_spoken_here() -> None:
    (end,) = make_session().receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(end, Ending)
    head = end.data.decode().lower()
    assert "upgrade: websocket\r\n" in head
    assert "sec-websocket-version: 13\r\n" in head


def test_pages_of_other_origins_are_refused_and_what_is_no_browser_is_not() -> None:
    origins = ("https://phone.example.com",)
    for origin, welcome in (
        ("https://phone.example.com", True),
        ("HTTPS://Phone.Example.Com", True),
        (None, True),
        ("https://phone.example.com.evil.net", False),
        ("http://phone.example.com", False),
        ("null", False),
    ):
        (answer,) = make_session(*origins).receive(make_upgrade(origin=origin))
        if welcome:
            assert isinstance(answer, Reply), origin
        else:
            assert isinstance(answer, Ending), origin
            assert answer.data.startswith(b"HTTP/1.1 403 ")
            assert answer.rejection == "websocket-origin"


# Messages


@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_one_message_is_one_sip_message_whatever_its_length_says(kind: int) -> None:
    session = open_session()
    short = OPTIONS.replace(b"Content-Length: 0\r\n", b"")
    assert session.receive(make_frame(OPTIONS, kind) + make_frame(short, kind)) == [OPTIONS, short]


def test_messages_cut_at_every_byte_come_whole() -> None:
    session = open_session()
    data = make_frame(OPTIONS) + make_frame(b"caf\xc3\xa9") + make_frame(OPTIONS, BINARY)
    found = [frame for place in range(len(data)) for frame in session.receive(data[place : place + 1])]
    assert found == [OPTIONS, b"caf\xc3\xa9", OPTIONS]
    assert not session.partial


def test_a_fragmented_message_is_put_together_around_pings() -> None:
    session = open_session()
    assert session.receive(make_frame(OPTIONS[:9], final=False)) == []
    assert session.partial
    assert show(session.receive(make_frame("are you there", PING))) == [("reply", [(PONG, b"are you there")]), SIP_PONG]
    assert session.receive(make_frame(OPTIONS[9:11], CONTINUATION, final=False)) == []
    assert session.receive(make_frame(b"", CONTINUATION, final=False)) == []
    assert session.receive(make_frame(OPTIONS[11:], CONTINUATION)) == [OPTIONS]
    assert not session.partial


def test_a_message_goes_out_as_text_and_in_binary_when_it_is_no_utf_8() -> None:
    session = open_session()
    assert read_frames(session.wrap(ANSWER)) == [(TEXT, ANSWER)]
    assert read_frames(session.wrap(ANSWER + b"\xff")) == [(BINARY, ANSWER + b"\xff")]
    assert read_frames(session.wrap(b"x" * 70_000)) == [(TEXT, b"x" * 70_000)]


def test_line_ends_alone_are_keep_alives() -> None:
    session = open_session()
    assert session.receive(make_frame("\r\n\r\n")) == [SIP_PING]
    assert session.receive(make_frame("\r\n")) == [SIP_PONG]
    assert session.receive(make_frame("")) == [SIP_PONG]


@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_a_message_over_the_limit_ends_the_session_before_it_has_come(kind: int) -> None:
    session = open_session(largest=1000)
    for _ in range(3):
        assert session.receive(make_frame(b"x" * 1000, kind)) == [b"x" * 1000]
    assert show(session.receive(make_frame(b"x" * 1001, kind, length=2**40))) == [
        ("end", "websocket-message-too-large", [make_close(1009)])
    ]
    assert not session.partial
    assert session.receive(make_frame(OPTIONS)) == []
    assert session.wrap(ANSWER) == b""


def test_fragments_count_together() -> None:
    session = open_session(largest=1000)
    assert session.receive(make_frame(b"x" * 600, final=False)) == []
    assert show(session.receive(make_frame(b"x" * 600, CONTINUATION, final=False)))[0][1] == (
        "websocket-message-too-large"
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (make_frame("a", mask=b""), 1002),
        (make_frame("a", 0x3), 1002),
        (make_frame("a", CONTINUATION), 1002),
        (make_frame("a", final=False) + make_frame("b"), 1002),
        (make_frame("a", PING, final=False), 1002),
        (make_frame(b"x" * 126, PING), 1002),
        (make_frame(b"\x03", CLOSE), 1002),
        (make_frame((1005).to_bytes(2, "big"), CLOSE), 1002),
        (make_frame(b"\xff\xfe"), 1007),
        (b"\xc1\x81" + b"\0\0\0\0" + b"a", 1002),  # a compressed message, which nobody agreed on
        (b"\0" * 50, 1002),
        (OPTIONS, 1002),
    ],
)
def test_who_breaks_the_rules_is_told_by_the_code_and_cut_off(data: bytes, code: int) -> None:
    session = open_session()
    assert show(session.receive(data))[-1] == ("end", "websocket-frame", [make_close(code)])
    assert session.receive(make_frame(OPTIONS)) == []
    assert not session.ready


def test_a_close_is_answered_with_its_code_and_is_no_offence() -> None:
    session = open_session()
    found = session.receive(make_frame((1001).to_bytes(2, "big") + b"bye", CLOSE))
    ((what, rejection, frames),) = show(found)
    assert (what, rejection) == ("end", "")
    assert [(kind, data[:2]) for kind, data in frames] == [make_close(1001)]
    assert session.farewell("stopped") == b""


def test_our_own_close_says_why_once() -> None:
    session = open_session()
    assert read_frames(open_session().farewell("malformed")) == [make_close(1002)]
    assert read_frames(session.farewell("stopped")) == [make_close(1001)]
    assert session.farewell("stopped") == b""
    assert session.wrap(ANSWER) == b""
    assert not session.ready


def test_nothing_is_sent_before_the_upgrade() -> None:
    session = make_session()
    assert (session.wrap(ANSWER), session.ping(), session.farewell("idle")) == (b"", b"", b"")


@given(st.lists(st.binary(max_size=60) | st.sampled_from([make_upgrade(), make_frame(OPTIONS)]), max_size=8))
def test_any_bytes_give_messages_or_an_end(pieces: list[bytes]) -> None:
    session = make_session()
    for piece in pieces:
        for frame in session.receive(piece):
            assert isinstance(frame, (bytes, Reply, Ending)) or frame in (SIP_PING, SIP_PONG)


@given(st.lists(st.binary(max_size=40) | st.just(make_frame(OPTIONS)), max_size=8))
def test_any_bytes_after_the_upgrade_give_messages_or_an_end(pieces: list[bytes]) -> None:
    session = open_session()
    for piece in pieces:
        for frame in session.receive(piece):
            assert isinstance(frame, (bytes, Reply, Ending)) or frame in (SIP_PING, SIP_PONG)


@pytest.mark.parametrize(
    "idle", [make_frame("", PING), make_frame("", PONG), make_frame("", CONTINUATION, final=False), make_frame("\r\n")]
)
def test_who_sends_frames_without_end_and_no_message_is_cut_off(idle: bytes) -> None:
    session = open_session()
    begun = make_frame("O", final=False) if idle == make_frame("", CONTINUATION, final=False) else b""
    for _ in range(3):
        assert OPTIONS in session.receive(make_frame(OPTIONS) + make_frame("", PING) * 999 + make_frame(OPTIONS))
    session.receive(begun)
    left = MOST_IDLE_FRAMES - bool(begun)
    assert not any(isinstance(frame, Ending) for frame in session.receive(idle * left))
    assert show(session.receive(idle)) == [("end", "websocket-frame", [make_close(1008)])]


def test_a_long_frame_may_come_in_many_pieces() -> None:
    session = open_session(largest=10_000)
    message = b"x" * 5000
    found = [frame for octet in make_frame(message) for frame in session.receive(bytes([octet]))]
    assert found == [message]


# On the wire


def test_a_request_of_a_page_is_stamped_and_answered_over_its_connection() -> None:
    _, edge, phone = make_web_edge(farm_name="sip.example.com")
    edge.receiver.answer = ANSWER
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    port = page.transport.getHost().port
    (request,) = edge.requests
    assert request.find("via") == f"{VIA};received={PHONE}"
    assert request.source.remote == ("WS", PHONE, port)
    assert request.source.local.startswith(f"ws:{NODE}:{PORT}#")
    assert (edge.flow.reliable, edge.flow.transport, edge.flow.local_name) == (True, "WS", f"ws:{NODE}:{PORT}")
    assert edge.layer.sent_by(edge.flow) == f"sip.example.com:{PORT}"
    assert read_frames(page.data) == [(TEXT, ANSWER)]
    assert (edge.value("flows", "ws"), edge.value("flows_opened", "ws", "in")) == (1, 1)


def test_a_page_is_called_over_the_connection_that_it_opened_and_over_no_other() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    source = edge.requests[0].source
    flow = edge.layer.flow_to(source)
    assert flow.send(OPTIONS)
    edge.network.run(0.1)
    assert read_frames(page.data) == [(TEXT, OPTIONS)]
    page.transport.loseConnection()
    edge.network.run(0.1)
    assert flow in edge.receiver.failures
    assert edge.layer.flow_to(source).send(OPTIONS) is False


def test_nobody_is_dialled_by_web_socket() -> None:
    _, edge, _ = make_web_edge()
    assert edge.flow_to("WS", PHONE, 80).send(OPTIONS) is False
    assert edge.flow_to("WSS", PHONE, 443).send(OPTIONS) is False
    assert edge.value("flows_opened", "ws", "out") == 0


def test_an_answer_to_a_page_that_is_gone_is_not_sent() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    page.transport.abortConnection()
    edge.network.run(0.1)
    assert edge.flow.send(ANSWER) is False


def test_a_connection_that_is_not_upgraded_yet_carries_no_request() -> None:
    _, edge, phone = make_web_edge()
    page = connect(phone, port=PORT)
    assert edge.flow_to("WS", PHONE, page.transport.getHost().port).send(OPTIONS) is False
    edge.network.run(0.1)
    assert page.data == b""


def test_a_bad_message_is_answered_and_the_page_stays() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS.replace(b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE")))
    ((kind, answer),) = read_frames(page.data)
    assert (kind, answer[:12]) == (TEXT, b"SIP/2.0 400 ")
    talk(edge, page, make_frame("garbage") + make_frame(OPTIONS))
    assert (len(edge.requests), page.ended) == (1, False)
    assert edge.rejections.reasons == ["cseq-mismatch", "truncated"]


def test_a_message_needs_no_length() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    message = request_bytes("MESSAGE", via=VIA, body=b"hello").replace(b"Content-Length: 5\r\n", b"")
    assert b"Content-Length" not in message
    talk(edge, page, make_frame(message))
    assert [request.body for request in edge.requests] == [b"hello"]


def test_a_slow_upgrade_is_cut_off() -> None:
    _, edge, phone = make_web_edge(message_seconds=10.0)
    page = connect(phone, port=PORT)
    for octet in make_upgrade()[:9]:
        talk(edge, page, bytes([octet]), 1)
    assert not page.ended
    talk(edge, page, b" ", 2)
    assert page.ended
    assert edge.rejections.reasons == ["slow-message"]


def test_a_page_that_never_says_a_word_is_cut_off() -> None:
    _, edge, phone = make_web_edge(first_message_seconds=25.0)
    page = open_page(edge, phone)
    for _ in range(24):
        talk(edge, page, make_frame("", PING), 1)
    assert not page.ended
    edge.network.run(2)
    assert page.ended
    assert edge.rejections.reasons == ["no-first-message"]


def test_a_message_sent_in_drops_is_cut_off() -> None:
    _, edge, phone = make_web_edge(message_seconds=10.0)
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    talk(edge, page, make_frame("O", final=False))
    for _ in range(9):
        talk(edge, page, make_frame("O", CONTINUATION, final=False), 1)
    assert not page.ended
    talk(edge, page, make_frame("O", CONTINUATION, final=False), 2)
    assert page.ended


def test_a_silent_page_is_pinged_and_stays_while_it_answers() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    for _ in range(4):
        page.data = b""
        edge.network.run(29)
        assert page.data == b""
        edge.network.run(1.5)
        assert read_frames(page.data) == [(PING, b"")]
        talk(edge, page, make_frame("", PONG))
    assert not page.ended
    assert edge.value("keepalives", "ws") == 4


def test_a_page_that_does_not_answer_a_ping_is_closed() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    edge.network.run(59)
    assert read_frames(page.data) == [(PING, b"")]
    assert not page.ended
    edge.network.run(2)
    assert read_frames(page.data) == [(PING, b""), make_close(1001)]
    assert page.ended
    assert edge.value("flows_closed", "ws", "idle") == 1


def test_our_own_messages_do_not_stand_for_a_page_that_is_gone() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    for _ in range(8):
        edge.network.run(8)
        edge.flow.send(ANSWER)
    assert page.ended


def test_a_ping_in_line_ends_gets_a_line_end_in_a_message() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    talk(edge, page, make_frame("\r\n\r\n"))
    assert read_frames(page.data) == [(TEXT, b"\r\n")]


def test_who_pings_and_does_not_read_costs_no_memory() -> None:
    _, edge, phone = make_web_edge(write_buffer_bytes=100_000)
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    page.transport.pauseProducing()
    for _ in range(10):
        talk(edge, page, make_frame(b"x" * 125, PING) * 400 + make_frame(OPTIONS), 0.5)
    page.transport.resumeProducing()
    edge.network.run(1)
    assert 100 < len(read_frames(page.data)) < 1500
    assert not page.ended


def test_a_page_that_does_not_read_is_cut_when_too_much_waits() -> None:
    _, edge, phone = make_web_edge(write_buffer_bytes=1_000_000)
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    page.transport.pauseProducing()
    sent = 0
    while edge.flow.send(b"x" * 10_000):
        sent += 1
        edge.network.run(0.001)
        assert sent < 1000
    edge.network.run(1)
    assert edge.rejections.reasons == ["write-buffer-full"]


def test_refused_pages_hear_why_and_are_counted() -> None:
    _, edge, phone = make_web_edge()
    page = connect(phone, port=PORT)
    talk(edge, page, make_upgrade(sec_websocket_protocol="chat"), 1)
    assert page.data.startswith(b"HTTP/1.1 400 ")
    assert page.ended
    assert not page.reset
    assert edge.rejections.reasons == ["websocket-subprotocol"]
    assert edge.value("flows_closed", "ws", "malformed") == 1


def test_pages_are_told_that_the_node_goes_away() -> None:
    _, edge, phone = make_web_edge()
    page = open_page(edge, phone)
    talk(edge, page, make_frame(OPTIONS))
    assert edge.stop()
    assert read_frames(page.data) == [make_close(1001)]


def test_connections_of_one_source_are_limited_as_all_are() -> None:
    _, edge, phone = make_web_edge(connections_per_source=1)
    open_page(edge, phone)
    second = connect(phone, port=PORT)
    assert second.ended
    assert edge.rejections.reasons == ["too-many-connections-from-source"]
