"""TCP as peers see it: reuse, reconnecting for answers, refusal, limits."""

from __future__ import annotations

import pytest

from farm.config import LimitSettings, SipSettings
from farm.transport.stream import source_key
from tests.support.edge import NODE, PHONE, Edge, Server, StreamPeer, connect, make_edge
from tests.support.messages import request_bytes, response_bytes
from tests.support.network import Host

OPTIONS = request_bytes("OPTIONS", via=f"SIP/2.0/TCP {PHONE}:5062;branch=z9hG4bK1")
INVITE = request_bytes("INVITE", via=f"SIP/2.0/TCP {PHONE}:5062;branch=z9hG4bK2", body=b"v=0\r\n")
ANSWER = response_bytes(200, method="OPTIONS")


def talk(edge: Edge, peer: StreamPeer, data: bytes, seconds: float = 0.1) -> None:
    """Send on a connection and let it arrive."""
    peer.transport.write(data)
    edge.network.run(seconds)


def hang_up(edge: Edge, peer: StreamPeer) -> None:
    """Close from the peer's side."""
    peer.transport.loseConnection()
    edge.network.run(0.1)


def test_a_stream_cut_anywhere_gives_the_same_messages() -> None:
    _, edge, phone = make_edge()
    data = OPTIONS + INVITE
    for cut in range(1, len(data)):
        peer = connect(phone)
        talk(edge, peer, data[:cut])
        talk(edge, peer, data[cut:])
        hang_up(edge, peer)
        came = [(request.method, request.body) for request in edge.requests]
        assert came == [("OPTIONS", b""), ("INVITE", b"v=0\r\n")], cut
        edge.receiver.requests.clear()


def test_a_stream_cut_at_every_byte_gives_the_same_messages() -> None:
    network, edge, phone = make_edge()
    network.set_path(phone, edge.host, segment_bytes=1)
    peer = connect(phone)
    talk(edge, peer, OPTIONS + INVITE + OPTIONS, 1)
    assert [request.method for request in edge.requests] == ["OPTIONS", "INVITE", "OPTIONS"]


def test_a_stream_request_is_stamped_and_its_source_names_the_connection() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, request_bytes("OPTIONS", via="SIP/2.0/TCP 10.0.0.5;rport;branch=z9hG4bK1"))
    port = peer.transport.getHost().port
    request = edge.requests[0]
    assert request.find("via") == f"SIP/2.0/TCP 10.0.0.5;rport={port};branch=z9hG4bK1;received={PHONE}"
    assert request.source.remote == ("TCP", PHONE, port)
    assert request.source.local.startswith(f"tcp:{NODE}:5060#")
    assert (edge.flow.reliable, edge.flow.transport, edge.flow.local_name) == (True, "TCP", f"tcp:{NODE}:5060")
    assert edge.layer.sent_by(edge.flow) == NODE


def test_an_answer_goes_over_the_connection_of_its_request_whatever_the_via_says() -> None:
    _, edge, phone = make_edge()
    server = Server(phone, 5062)
    peer = connect(phone)
    edge.receiver.answer = ANSWER
    talk(edge, peer, request_bytes("OPTIONS", via=f"SIP/2.0/TCP {PHONE}:5062;maddr=192.0.2.9;branch=z9hG4bK1"))
    assert (peer.data, server.peers) == (ANSWER, [])


@pytest.mark.parametrize(("sent_by", "port"), [(f"{PHONE}:5062", 5062), ("pc.example.net", 5060)])
def test_an_answer_after_the_connection_closed_goes_to_the_source_and_the_sent_by_port(sent_by: str, port: int) -> None:
    _, edge, phone = make_edge()
    server = Server(phone, port)
    peer = connect(phone)
    talk(edge, peer, request_bytes("OPTIONS", via=f"SIP/2.0/TCP {sent_by};branch=z9hG4bK1"))
    hang_up(edge, peer)
    assert edge.flow.send(ANSWER)
    assert edge.flow.send(ANSWER)
    edge.network.run(1)
    assert [peer.data for peer in server.peers] == [ANSWER * 2]


def test_an_answer_that_finds_nobody_is_reported_for_its_own_flow() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, OPTIONS)
    flow = edge.flow
    hang_up(edge, peer)
    edge.receiver.failures.clear()
    assert flow.send(ANSWER)
    assert edge.receiver.failures == []
    edge.network.run(1)
    assert flow in edge.receiver.failures


def test_requests_to_one_hop_share_a_connection_whose_name_finds_it_again() -> None:
    _, edge, phone = make_edge()
    server = Server(phone, 5062)
    first = edge.flow_to("TCP", PHONE, 5062)
    assert first.send(INVITE)
    assert edge.flow_to("TCP", PHONE, 5062) is first
    edge.network.run(1)
    assert edge.layer.flow_to(first.hop) is first
    assert first.send(OPTIONS)
    edge.network.run(1)
    assert [peer.data for peer in server.peers] == [INVITE + OPTIONS]
    assert [address.host for address in server.addresses] == [NODE]
    assert edge.value("flows_opened", "tcp", "out") == 1


def test_a_response_comes_up_over_the_connection_that_we_made() -> None:
    _, edge, phone = make_edge()
    server = Server(phone, 5062)
    flow = edge.flow_to("TCP", PHONE, 5062)
    flow.send(INVITE)
    edge.network.run(1)
    server.peers[0].transport.write(response_bytes(200, method="INVITE", via=f"SIP/2.0/TCP {NODE};branch=z9hG4bK2"))
    edge.network.run(1)
    assert [(response.status, way) for response, way in edge.receiver.responses] == [(200, flow)]


def test_a_phone_is_reached_over_the_connection_it_opened() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, OPTIONS)
    source = edge.requests[0].source
    assert edge.layer.flow_to(source).send(INVITE)
    assert edge.flow_to(*source.remote).send(INVITE)
    edge.network.run(1)
    assert peer.data == INVITE * 2


def test_a_closed_connection_that_is_named_is_never_replaced_by_another() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, OPTIONS)
    source = edge.requests[0].source
    hang_up(edge, peer)
    assert edge.layer.flow_to(source).send(INVITE) is False
    assert edge.layer.flow_to(source.short).send(INVITE) is False
    assert edge.value("flows_opened", "tcp", "out") == 0


def test_a_connection_is_found_by_its_number_alone_as_a_token_brings_it_back() -> None:
    _, edge, phone = make_edge()
    peer, other = connect(phone), connect(phone)
    talk(edge, peer, OPTIONS)
    talk(edge, other, OPTIONS)
    first = edge.requests[0].source
    assert first.short.host == ""
    assert edge.layer.flow_to(first.short) is edge.layer.flow_to(first)
    assert edge.layer.flow_to(first.short).send(INVITE)
    edge.network.run(1)
    assert (peer.data, other.data) == (INVITE, b"")


@pytest.mark.parametrize("situation", ["refused", "silent", "unknown"])
def test_a_peer_that_cannot_be_reached_is_reported_later_and_once(situation: str) -> None:
    network, edge, phone = make_edge(connect_seconds=8.0)
    host = "192.0.2.200" if situation == "unknown" else PHONE
    if situation == "silent":
        network.cut(phone, edge.host)
    flow = edge.flow_to("TCP", host, 5062)
    assert flow.send(INVITE)
    assert edge.receiver.failures == []
    network.run(7.9)
    assert edge.receiver.failures == ([flow] if situation == "refused" else [])
    network.run(0.2)
    assert edge.receiver.failures == [flow]
    assert flow.send(INVITE) is False
    assert edge.value("flows", "tcp") == 0
    assert edge.value("flows_closed", "tcp", "failed") == 1


def test_a_connection_that_breaks_is_reported_and_the_next_request_connects_anew() -> None:
    network, edge, phone = make_edge()
    server = Server(phone, 5062)
    flow = edge.flow_to("TCP", PHONE, 5062)
    flow.send(INVITE)
    network.run(1)
    server.peers[0].transport.abortConnection()
    network.run(1)
    assert edge.receiver.failures == [flow]
    again = edge.flow_to("TCP", PHONE, 5062)
    assert again is not flow
    assert again.send(INVITE)
    network.run(1)
    assert server.peers[1].data == INVITE


def test_a_node_without_tcp_listener_connects_under_the_name_of_another() -> None:
    network, edge, phone = make_edge(listen=[f"udp:{NODE}:5060"])
    server = Server(phone, 5062)
    flow = edge.flow_to("TCP", PHONE, 5062)
    assert flow.send(INVITE)
    network.run(1)
    assert server.peers[0].data == INVITE
    assert edge.layer.sent_by(flow) == NODE


def test_ipv6_connects_both_ways() -> None:
    network, edge, phone = make_edge(listen=["tcp:[2001:db8::1]:5060"])
    server = Server(phone, 5062, "::")
    peer = connect(phone, "2001:db8::1")
    edge.receiver.answer = ANSWER
    talk(edge, peer, request_bytes("OPTIONS", via="SIP/2.0/TCP [2001:db8::101]:5062;branch=z9hG4bK1"))
    assert peer.data == ANSWER
    assert edge.flow_to("TCP", "2001:db8::101", 5062).send(INVITE)
    network.run(1)
    assert server.peers[0].data == INVITE
    assert server.addresses[0].host == "2001:db8::1"


def test_connections_over_the_limit_are_closed_at_once_and_counted() -> None:
    _, edge, phone = make_edge(connections=3)
    peers = [connect(phone) for _ in range(5)]
    assert [peer.ended for peer in peers] == [False] * 3 + [True] * 2
    assert edge.rejections.reasons == ["too-many-connections"] * 2
    assert edge.flow_to("TCP", "192.0.2.50", 5060).send(INVITE) is False
    hang_up(edge, peers[0])
    assert not connect(phone).ended


def test_one_source_cannot_take_all_connections() -> None:
    network, edge, phone = make_edge(connections_per_source=2)
    other = network.add_host("192.0.2.102")
    peers = [connect(phone) for _ in range(3)]
    assert [peer.ended for peer in peers] == [False, False, True]
    assert edge.rejections.reasons == ["too-many-connections-from-source"]
    assert not connect(other).ended
    hang_up(edge, peers[0])
    assert not connect(phone).ended


def test_ipv6_sources_count_by_their_64() -> None:
    assert source_key("2001:db8:0:1::1") == source_key("2001:db8:0:1:ffff::2") != source_key("2001:db8:0:2::1")
    assert source_key("192.0.2.1") == "192.0.2.1"


def test_a_response_on_a_stream_for_somebody_else_is_dropped_and_the_stream_goes_on() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, response_bytes(200, via="SIP/2.0/TCP 192.0.2.198;branch=z9hG4bK1") + OPTIONS)
    assert (edge.receiver.responses, len(edge.requests)) == ([], 1)
    assert edge.rejections.reasons == ["response-not-ours"]


def test_a_malformed_request_on_a_stream_is_answered_and_the_stream_goes_on() -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, request_bytes("OPTIONS", cseq="1 INVITE") + OPTIONS)
    assert peer.data.startswith(b"SIP/2.0 400 ")
    assert len(edge.requests) == 1
    assert not peer.ended


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request_bytes("OPTIONS", content_length=None), b"SIP/2.0 400 "),
        (request_bytes("OPTIONS", content_length="99999999"), b"SIP/2.0 413 "),
        (b"OPTIONS sip:a@example.com SIP/2.0\r\n" + b"X: " + b"y" * 40_000 + b"\r\n", b""),
        (b"\x16\x03\x01\x02\x00" + bytes(range(256)) * 200, b""),
    ],
)
def test_a_stream_that_cannot_be_framed_is_answered_where_possible_and_closed(data: bytes, status: bytes) -> None:
    _, edge, phone = make_edge()
    peer = connect(phone)
    talk(edge, peer, data + OPTIONS)
    assert peer.data.startswith(status)
    assert bool(peer.data) == bool(status)
    assert peer.ended
    assert (edge.requests, len(edge.rejections.reasons)) == ([], 1)
    assert edge.value("flows_closed", "tcp", "malformed") == 1


def test_a_broken_path_ends_the_connection_for_whoever_waits_on_it() -> None:
    network, edge, phone = make_edge()
    network.give_up_seconds = 60
    Server(phone, 5062)
    flow = edge.flow_to("TCP", PHONE, 5062)
    network.run(1)
    network.cut(edge.host, phone)
    flow.send(INVITE)
    network.run(100)
    assert edge.receiver.failures == [flow]


def test_a_killed_peer_leaves_no_connection_behind() -> None:
    network, edge, phone = make_edge()
    hosts: list[Host] = [phone, network.add_host("192.0.2.102")]
    for host in hosts:
        connect(host)
    phone.kill()
    network.run(1)
    assert edge.value("flows", "tcp") == 1


def test_other_limits_hold_for_connections_that_are_open_too() -> None:
    network, edge, phone = make_edge(connections=3, idle_seconds=100.0, first_message_seconds=1000.0)
    first = connect(phone)
    limits = LimitSettings(connections=1, idle_seconds=1000.0, first_message_seconds=1000.0)
    edge.layer.change(SipSettings(domains=("example.com",)), limits, None)
    assert connect(phone).ended
    network.run(200)
    assert not first.ended
