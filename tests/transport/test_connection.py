"""One stream connection: its buffers, keep-alives and time limits, in made-up time."""

from __future__ import annotations

import pytest

from tests.support.edge import NODE, PHONE, Edge, Server, StreamPeer, connect, make_edge
from tests.support.messages import request_bytes, response_bytes

OPTIONS = request_bytes("OPTIONS", via=f"SIP/2.0/TCP {PHONE}:5062;branch=z9hG4bK1")


def talk(edge: Edge, peer: StreamPeer, data: bytes, seconds: float = 0.1) -> None:
    """Send on a connection and let it arrive."""
    peer.transport.write(data)
    edge.network.run(seconds)


def test_a_ping_gets_a_pong_and_a_pong_gets_nothing() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, b"\r\n\r\n")
    assert peer.data == b"\r\n"
    talk(edge, peer, b"\r\n")
    assert peer.data == b"\r\n"
    assert edge.value("keepalives", "tcp") >= 2


def test_pings_between_messages_are_answered_each() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, b"\r\n\r\n" + OPTIONS + b"\r\n\r\n\r\n\r\n" + OPTIONS)
    assert peer.data == b"\r\n" * 3
    assert len(edge.requests) == 2


def test_a_ping_cut_in_pieces_is_answered() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    for octet in (b"\r", b"\n", b"\r", b"\n"):
        talk(edge, peer, octet)
    assert peer.data == b"\r\n"


def test_a_silent_connection_is_reset_when_no_first_message_comes() -> None:
    _, edge, phone = make_edge(first_message_seconds=30.0)
    silent, pinging, good = connect(phone), connect(phone), connect(phone)
    talk(edge, good, OPTIONS)
    for _ in range(29):
        talk(edge, pinging, b"\r\n\r\n", 1)
    assert (silent.ended, pinging.ended) == (False, False)
    edge.network.run(2)
    assert (silent.ended, pinging.ended, good.ended) == (True, True, False)
    assert edge.rejections.reasons == ["no-first-message"] * 2


def test_a_message_sent_byte_by_byte_is_cut_off() -> None:
    _, edge, phone = make_edge(message_seconds=10.0)
    peer = connect(phone)
    talk(edge, peer, OPTIONS)
    for octet in OPTIONS[:9]:
        talk(edge, peer, bytes([octet]), 1)
    assert not peer.ended
    talk(edge, peer, OPTIONS[9:10], 2)
    assert peer.ended
    assert edge.rejections.reasons == ["slow-message"]
    assert edge.value("flows_closed", "tcp", "slow") == 1


def test_a_slow_but_finished_message_is_taken_and_the_next_has_its_own_time() -> None:
    _, edge, phone = make_edge(message_seconds=10.0)
    peer = connect(phone)
    half = len(OPTIONS) // 2
    talk(edge, peer, OPTIONS[:half], 8)
    for _ in range(3):
        talk(edge, peer, OPTIONS[half:] + OPTIONS[:half], 8)
    talk(edge, peer, OPTIONS[half:], 100)
    assert len(edge.requests) == 4
    assert not peer.ended


def test_an_idle_connection_is_closed_and_traffic_of_either_side_keeps_it() -> None:
    _, edge, phone = make_edge(idle_seconds=900.0)
    idle, heard, told = connect(phone), connect(phone), connect(phone)
    for peer in (idle, heard, told):
        talk(edge, peer, OPTIONS)
    edge.network.run(800)
    talk(edge, heard, b"\r\n\r\n")
    assert edge.flow.send(b"x")
    edge.network.run(200)
    assert (idle.ended, heard.ended, told.ended) == (True, False, False)
    assert not idle.reset
    edge.network.run(800)
    assert (heard.ended, told.ended) == (True, True)
    assert edge.value("flows_closed", "tcp", "idle") == 3


def test_our_own_connection_needs_no_first_message() -> None:
    _, edge, phone = make_edge(first_message_seconds=30.0)
    server = Server(phone, 5062)
    edge.flow_to("TCP", PHONE, 5062).send(OPTIONS)
    edge.network.run(100)
    assert not server.peers[0].ended


def test_a_peer_that_does_not_read_is_cut_when_too_much_waits() -> None:
    _, edge, phone = make_edge(write_buffer_bytes=1_000_000)
    peer = connect(phone)
    talk(edge, peer, OPTIONS)
    peer.transport.pauseProducing()
    flow = edge.flow
    sent = 0
    while flow.send(b"x" * 10_000):
        sent += 1
        edge.network.run(0.001)
        assert sent < 1000
    assert 1_000_000 <= sent * 10_000 <= 1_300_000
    edge.network.run(1)
    assert edge.rejections.reasons == ["write-buffer-full"]
    assert edge.value("flows_closed", "tcp", "buffer") == 1
    assert len(edge.receiver.failures) >= 1


def test_a_peer_that_reads_late_gets_everything_in_order() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, OPTIONS)
    peer.transport.pauseProducing()
    pieces = [b"%06d" % number * 1000 for number in range(100)]
    for piece in pieces:
        assert edge.flow.send(piece)
    edge.network.run(5)
    peer.transport.resumeProducing()
    edge.network.run(5)
    assert peer.data == b"".join(pieces)


def test_what_is_sent_while_connecting_goes_out_in_order_and_is_bounded() -> None:
    network, edge, phone = make_edge(write_buffer_bytes=1000)
    server = Server(phone, 5062)
    flow = edge.flow_to("TCP", PHONE, 5062)
    assert [flow.send(b"%d" % number * 400) for number in range(4)] == [True, True, False, False]
    network.run(1)
    assert server.peers[0].data == b"0" * 400 + b"1" * 400
    assert flow.send(b"later")
    network.run(1)
    assert server.peers[0].data.endswith(b"later")


def test_a_peer_that_pings_by_the_thousand_is_cut_off() -> None:
    """Calls wait while its line ends are counted; twenty such peers held them up for a second and a half."""
    _, edge, phone = make_edge()
    eager, flooding = connect(phone), connect(phone)
    talk(edge, eager, OPTIONS + b"\r\n\r\n" * 1000)
    talk(edge, flooding, OPTIONS + b"\r\n\r\n" * 1001, 6)
    assert (eager.ended, flooding.ended) == (False, True)
    assert (eager.data, flooding.data) == (b"\r\n" * 1000, b"")
    assert edge.rejections.reasons == ["keepalive-rate"]
    assert edge.value("flows_closed", "tcp", "malformed") == 1


def test_a_peer_that_pings_and_never_reads_costs_no_memory() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, OPTIONS)
    peer.transport.pauseProducing()
    for _ in range(800):
        talk(edge, peer, b"\r\n\r\n" * 1000, 0.1)
    [connection] = edge.host.connections
    assert len(connection._unsent) < 200_000


def test_a_message_over_the_body_limit_ends_the_stream_with_413() -> None:
    _, edge, phone = make_edge(body_bytes=1000)
    peer = connect(phone)
    talk(edge, peer, request_bytes("MESSAGE", body=b"x" * 1001))
    assert peer.data.startswith(b"SIP/2.0 413 ")
    assert peer.ended
    assert edge.requests == []


def test_a_large_message_within_the_limits_comes_whole() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    body = bytes(range(256)) * 250
    talk(edge, peer, request_bytes("MESSAGE", body=body), 2)
    assert edge.requests[0].body == body


@pytest.mark.parametrize("status", [200, 404])
def test_messages_on_streams_are_counted(status: int) -> None:
    _, edge, phone = make_edge()
    edge.receiver.answer = response_bytes(status, method="OPTIONS")
    peer = connect(phone)
    talk(edge, peer, OPTIONS)
    assert edge.value("sip_requests", "OPTIONS", "in") == 1
    assert edge.value("sip_responses", "OPTIONS", f"{status // 100}xx", "out") == 1
    assert edge.value("flows", "tcp") == 1
    assert edge.flow.hop.remote[:2] == ("TCP", PHONE)
    assert edge.flow.local_name == f"tcp:{NODE}:5060"
