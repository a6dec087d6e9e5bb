"""What a node's transport does with messages, seen from the wire and from above."""

from __future__ import annotations

import errno
from pathlib import Path as FilePath

import pytest

from farm.config import LimitSettings, SipSettings
from farm.sip.hop import Hop
from farm.transport.layer import ListenError
from tests.support.edge import NODE, PHONE, DatagramPeer, Edge, Server, connect, make_edge
from tests.support.messages import request_bytes, response_bytes
from tests.support.network import Network, Packet

OUR_VIA = f"SIP/2.0/UDP {NODE};branch=z9hG4bKours"


def via_of(edge: Edge) -> str:
    """The top Via line of the last request, and that header list and value agree on it."""
    request = edge.requests[-1]
    value = next(header[1] for header in request.headers if header[0] == "via")
    line = next(header[2] for header in request.headers if header[0] == "via")
    assert request.top_via is not None
    assert request.top_via.text == value
    assert line == f"Via: {value}"
    return value


# §18.2.1, RFC 3581: what is noted about the source


def test_a_request_from_where_its_via_says_goes_up_as_it_came() -> None:
    _, edge, phone = make_edge()
    DatagramPeer(phone).send(request_bytes("OPTIONS"))
    assert via_of(edge) == "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf9"
    request = edge.requests[0]
    assert (request.source, request.top_via and request.top_via.received) == (
        ("UDP", PHONE, 5060, f"udp:{NODE}:5060"),
        None,
    )


@pytest.mark.parametrize("sent_by", ["bobspc.biloxi.com:5060", "10.1.1.1", "[2001:db8::9]"])
def test_a_via_that_names_another_place_gets_received(sent_by: str) -> None:
    _, edge, phone = make_edge()
    DatagramPeer(phone).send(request_bytes("OPTIONS", via=f"SIP/2.0/UDP {sent_by};branch=z9hG4bK1"))
    assert via_of(edge) == f"SIP/2.0/UDP {sent_by};branch=z9hG4bK1;received={PHONE}"
    assert edge.requests[0].top_via is not None
    assert edge.requests[0].top_via.received == PHONE


def test_rport_is_filled_and_brings_received_even_when_the_address_is_right() -> None:
    _, edge, phone = make_edge()
    DatagramPeer(phone, 40000).send(request_bytes("OPTIONS", via=f"SIP/2.0/UDP {PHONE};rport;branch=z9hG4bK1"))
    assert via_of(edge) == f"SIP/2.0/UDP {PHONE};rport=40000;branch=z9hG4bK1;received={PHONE}"
    via = edge.requests[0].top_via
    assert via is not None
    assert (via.rport, via.received, via.params["rport"]) == (40000, PHONE, "40000")


def test_a_forged_received_or_rport_is_replaced() -> None:
    _, edge, phone = make_edge()
    peer = DatagramPeer(phone)
    peer.send(request_bytes("OPTIONS", via=f"SIP/2.0/UDP {PHONE};branch=z9hG4bK1;received=198.51.100.7"))
    assert via_of(edge) == f"SIP/2.0/UDP {PHONE};branch=z9hG4bK1"
    assert edge.flow.hop.host == PHONE
    peer.send(request_bytes("OPTIONS", via=f"SIP/2.0/UDP {PHONE};rport=7;branch=z9hG4bK1;received=198.51.100.7"))
    assert via_of(edge) == f"SIP/2.0/UDP {PHONE};rport=5060;branch=z9hG4bK1;received={PHONE}"
    assert edge.flow.hop.remote == ("UDP", PHONE, 5060)


def test_only_the_top_via_is_touched() -> None:
    _, edge, phone = make_edge()
    vias = ["SIP/2.0/UDP edge.example.net;branch=z9hG4bK2", "SIP/2.0/UDP 10.0.0.9;rport;branch=z9hG4bK1"]
    DatagramPeer(phone).send(request_bytes("OPTIONS", via=vias))
    assert edge.requests[0].all("via") == [f"{vias[0]};received={PHONE}", vias[1]]


def test_ipv6_addresses_equal_in_other_spellings_get_no_received() -> None:
    _, edge, phone = make_edge(listen=["udp:[2001:db8::1]:5060"])
    peer = DatagramPeer(phone, interface="::")
    peer.send(request_bytes("OPTIONS", via="SIP/2.0/UDP [2001:DB8:0::101];branch=z9hG4bK1"), "2001:db8::1")
    assert via_of(edge) == "SIP/2.0/UDP [2001:DB8:0::101];branch=z9hG4bK1"
    peer.send(request_bytes("OPTIONS", via="SIP/2.0/UDP [2001:db8::9];rport;branch=z9hG4bK1"), "2001:db8::1")
    assert via_of(edge) == "SIP/2.0/UDP [2001:db8::9];rport=5060;branch=z9hG4bK1;received=2001:db8::101"
    assert edge.flow.send(b"SIP/2.0 200 OK\r\n\r\n")
    edge.network.run(1)
    assert peer.received[0][1] == ("2001:db8::1", 5060)


# §18.2.2: where answers go


@pytest.mark.parametrize(
    ("via", "from_port", "at"),
    [
        (f"{PHONE};branch=z9hG4bK1", 40000, 5060),
        (f"{PHONE}:5080;branch=z9hG4bK1", 40000, 5080),
        ("pc.example.net:5080;branch=z9hG4bK1", 40000, 5080),
        (f"{PHONE}:5080;rport;branch=z9hG4bK1", 40000, 40000),
        ("10.0.0.7:5080;rport;branch=z9hG4bK1", 40000, 40000),
        (f"{PHONE};maddr=224.0.1.75;branch=z9hG4bK1", 40000, 5060),
        (f"{PHONE};maddr=255.255.255.255;rport;branch=z9hG4bK1", 40000, 40000),
        (f"{PHONE};maddr=127.0.0.1;rport;branch=z9hG4bK1", 40000, 40000),
        (f"{PHONE};maddr=group.example.net;branch=z9hG4bK1", 40000, 5060),
        (f"{PHONE};maddr=0.0.0.0;branch=z9hG4bK1", 40000, 5060),
    ],
)
def test_a_udp_answer_goes_to_the_source_and_the_port_that_the_via_wants(via: str, from_port: int, at: int) -> None:
    _, edge, phone = make_edge()
    edge.receiver.answer = response_bytes(200, method="OPTIONS")
    listening = DatagramPeer(phone, at) if at != from_port else None
    sender = DatagramPeer(phone, from_port)
    sender.send(request_bytes("OPTIONS", via=f"SIP/2.0/UDP {via}"))
    receiver = listening or sender
    assert receiver.received == [(edge.receiver.answer, (NODE, 5060))]
    assert edge.receiver.sent == [True]


def test_maddr_of_one_other_machine_is_obeyed() -> None:
    network, edge, phone = make_edge()
    other = DatagramPeer(network.add_host("192.0.2.150"), 5070)
    edge.receiver.answer = response_bytes(200, method="OPTIONS")
    DatagramPeer(phone, 5060).send(
        request_bytes("OPTIONS", via=f"SIP/2.0/UDP {PHONE}:5070;maddr=192.0.2.150;rport;branch=z9hG4bK1")
    )
    assert other.data == [edge.receiver.answer]


def test_a_phone_behind_nat_gets_its_answer_through_the_hole_it_made() -> None:
    network, edge, _ = make_edge()
    nat = network.add_nat("203.0.113.1")
    phone = DatagramPeer(network.add_host("10.0.0.5", behind=nat))
    edge.receiver.answer = response_bytes(200, method="REGISTER")
    phone.send(request_bytes("REGISTER", via="SIP/2.0/UDP 10.0.0.5:5060;rport;branch=z9hG4bK1"))
    assert via_of(edge) == "SIP/2.0/UDP 10.0.0.5:5060;rport=20000;branch=z9hG4bK1;received=203.0.113.1"
    assert len(phone.received) == 1
    assert edge.layer.flow_to(edge.requests[0].source).send(request_bytes("INVITE"))
    network.run(1)
    assert phone.data[1].startswith(b"INVITE")


def test_answers_leave_from_the_socket_that_the_request_came_to() -> None:
    _, edge, phone = make_edge(listen=[f"udp:{NODE}:5060", f"udp:{NODE}:5080"])
    edge.receiver.answer = response_bytes(200, method="OPTIONS")
    peer = DatagramPeer(phone)
    peer.send(request_bytes("OPTIONS"), port=5080)
    assert peer.received[0][1] == (NODE, 5080)
    assert edge.flow.local_name == f"udp:{NODE}:5080"


# §18.1.2: responses


def test_a_response_goes_up_when_its_top_via_is_ours() -> None:
    _, edge, phone = make_edge()
    DatagramPeer(phone).send(response_bytes(180, method="INVITE", via=OUR_VIA))
    [(response, flow)] = edge.receiver.responses
    assert (response.status, response.source.host, flow.hop.host) == (180, PHONE, PHONE)
    assert edge.value("sip_responses", "INVITE", "1xx", "in") == 1


@pytest.mark.parametrize("sent_by", ["192.0.2.198", f"{NODE}:5070", "sip.example.org"])
def test_a_response_for_somebody_else_is_dropped_in_silence(sent_by: str) -> None:
    network, edge, phone = make_edge()
    seen: list[Packet] = []
    peer = DatagramPeer(phone)
    network.watch(seen.append)
    peer.send(response_bytes(200, method="INVITE", via=f"SIP/2.0/UDP {sent_by};branch=z9hG4bK1"))
    assert (edge.receiver.responses, edge.rejections.reasons, len(seen)) == ([], ["response-not-ours"], 1)


def test_the_broadcast_response_of_rfc_4475_is_never_sent_on() -> None:
    network, edge, phone = make_edge()
    seen: list[Packet] = []
    peer = DatagramPeer(phone)
    network.watch(seen.append)
    data = FilePath(__file__).parent.parent.joinpath("vectors/rfc4475/bcast.dat")
    text = data.read_bytes() if data.exists() else response_bytes(200, via="SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1")
    peer.send(text)
    for host in ("255.255.255.255", "224.0.1.75", "ff02::1", "0.0.0.0", "::ffff:255.255.255.255", "host.example"):
        assert not edge.flow_to("UDP", host, 5060).send(b"SIP/2.0 200 OK\r\n\r\n")
        assert not edge.flow_to("TCP", host, 5060).send(b"SIP/2.0 200 OK\r\n\r\n")
    network.run(60)
    assert [packet.target[0] for packet in seen] == [NODE]


# What is no message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\r\n", None),
        (b"\r\n\r\n", None),
        (b"\0\0\0\0", None),
        (b"\r\n" * 5000, None),
        (b"\x00\x11\x00\x00\x21\x12\xa4\x42" + b"x" * 12, "stun"),
    ],
)
def test_line_ends_and_bad_stun_on_udp_are_counted_and_not_answered(data: bytes, reason: str | None) -> None:
    _, edge, phone = make_edge()
    peer = DatagramPeer(phone)
    peer.send(data)
    assert (peer.received, edge.requests) == ([], [])
    assert edge.rejections.reasons == ([] if reason is None else [reason])
    assert edge.value("keepalives", "udp") == (1 if reason is None else 0)


def test_stun_on_a_sip_port_is_answered_from_that_port_and_is_no_message() -> None:
    """RFC 5626 §8."""
    _, edge, phone = make_edge(listen=(f"udp:{NODE}:5060", f"udp:{NODE}:5070"))
    peer = DatagramPeer(phone, 40000)
    peer.send(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"x" * 12, port=5070)
    ((answer, address),) = peer.received
    assert address == (NODE, 5070)
    assert answer[:20] == b"\x01\x01\x00\x0c\x21\x12\xa4\x42" + b"x" * 12
    assert answer[26:] == (40000 ^ 0x2112).to_bytes(2, "big") + bytes((192 ^ 0x21, 0 ^ 0x12, 2 ^ 0xA4, 101 ^ 0x42))
    assert (edge.requests, edge.rejections.reasons) == ([], [])
    assert edge.value("keepalives", "udp") == 1
    assert edge.value("sip_responses", "other", "1xx", "out") == 0


def test_garbage_is_counted_and_not_answered() -> None:
    _, edge, phone = make_edge()
    peer = DatagramPeer(phone)
    for data in (
        b"hello",
        bytes(range(256)),
        b"\x80\x00" * 40,
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\n\r\n",
    ):
        peer.send(data)
    assert (peer.received, edge.requests, len(edge.rejections.reasons)) == ([], [], 5)


def test_a_message_after_line_ends_in_a_datagram_is_taken() -> None:
    _, edge, phone = make_edge()
    DatagramPeer(phone).send(b"\r\n\r\n" + request_bytes("OPTIONS"))
    assert len(edge.requests) == 1


# Malformed messages


def test_a_malformed_request_gets_its_400_by_the_rules_for_answers() -> None:
    network, edge, _ = make_edge()
    nat = network.add_nat("203.0.113.1")
    phone = DatagramPeer(network.add_host("10.0.0.5", behind=nat))
    phone.send(request_bytes("OPTIONS", via="SIP/2.0/UDP 10.0.0.5;rport;branch=z9hG4bK1", cseq="1 INVITE"))
    [answer] = phone.data
    assert answer.startswith(b"SIP/2.0 400 ")
    assert b"\r\nVia: SIP/2.0/UDP 10.0.0.5;rport=20000;branch=z9hG4bK1;received=203.0.113.1\r\n" in answer
    assert b"\r\nTo: Bob <sip:bob@example.com>;tag=" in answer
    assert edge.rejections.reasons == ["cseq-mismatch"]
    assert edge.requests == []


def test_a_retransmitted_malformed_request_gets_the_same_answer() -> None:
    _, _, phone = make_edge()
    peer = DatagramPeer(phone)
    for _ in range(2):
        peer.send(request_bytes("OPTIONS", cseq="1 INVITE"))
    assert len(peer.data) == 2
    assert peer.data[0] == peer.data[1]


def test_malformed_acks_and_responses_are_never_answered() -> None:
    _, edge, phone = make_edge()
    peer = DatagramPeer(phone)
    peer.send(request_bytes("ACK", cseq="1 INVITE"))
    peer.send(response_bytes(200, method="INVITE", via=OUR_VIA).replace(b"CSeq: 1", b"CSeq: 99999999999"))
    assert (peer.received, len(edge.rejections.reasons)) == ([], 2)


def test_a_flood_of_malformed_requests_gets_few_answers() -> None:
    network, edge, phone = make_edge()
    peer = DatagramPeer(phone)
    for _ in range(1000):
        peer.port.write(request_bytes("OPTIONS", cseq="1 INVITE"), (NODE, 5060))
    network.run(0.1)
    assert len(edge.rejections.reasons) == 1000
    assert len(peer.received) == 100
    network.run(10)
    peer.send(request_bytes("OPTIONS", cseq="1 INVITE"))
    assert len(peer.received) == 101


def test_an_answer_is_no_larger_than_its_request_but_for_what_is_added() -> None:
    _, _, phone = make_edge()
    peer = DatagramPeer(phone)
    data = request_bytes("OPTIONS", cseq="1 INVITE")
    peer.send(data)
    assert len(peer.data[0]) <= len(data) + 200


def test_a_fault_above_costs_one_message_and_is_counted() -> None:
    _, edge, phone = make_edge()
    peer = DatagramPeer(phone)
    edge.receiver.fault = RuntimeError("as the test asked")
    peer.send(request_bytes("OPTIONS"))
    stream = connect(phone)
    stream.transport.write(request_bytes("OPTIONS"))
    edge.network.run(0.1)
    edge.receiver.fault = None
    peer.send(request_bytes("OPTIONS"))
    assert edge.value("unexpected_errors", "transport") == 2
    assert len(edge.requests) == 3
    assert not stream.ended


def test_who_is_over_the_rate_is_not_even_parsed() -> None:
    class Closed:
        def admit(self, host: str, now: float) -> bool:
            return host != PHONE

    _, edge, phone = make_edge(gate=Closed())
    peer = DatagramPeer(phone)
    peer.send(request_bytes("OPTIONS"))
    peer.send(b"garbage")
    stream = connect(phone)
    stream.transport.write(request_bytes("OPTIONS"))
    edge.network.run(0.1)
    assert (edge.requests, edge.rejections.reasons) == ([], ["request-rate"] * 3)


# Sending


def test_messages_are_counted_both_ways() -> None:
    _, edge, phone = make_edge()
    edge.receiver.answer = response_bytes(404, method="OPTIONS")
    peer = DatagramPeer(phone)
    peer.send(request_bytes("OPTIONS"))
    peer.send(request_bytes("FROBNICATE"))
    assert edge.flow_to("UDP", PHONE, 5060).send(request_bytes("INVITE"))
    assert edge.value("sip_requests", "OPTIONS", "in") == 1
    assert edge.value("sip_requests", "other", "in") == 1
    assert edge.value("sip_requests", "INVITE", "out") == 1
    assert edge.value("sip_responses", "OPTIONS", "4xx", "out") == 2


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EPERM, errno.ENETUNREACH, errno.EMSGSIZE, errno.ECONNREFUSED])
def test_a_datagram_that_the_network_refuses_is_false_and_counted(number: int) -> None:
    _, edge, _ = make_edge()
    edge.host.send_error = number
    assert edge.flow_to("UDP", PHONE, 5060).send(request_bytes("INVITE")) is False
    assert edge.value("transport_errors", "udp") == 1
    assert edge.value("sip_requests", "INVITE", "out") == 0


def test_a_message_too_large_for_udp_is_refused() -> None:
    _, edge, _ = make_edge()
    assert edge.flow_to("UDP", PHONE, 5060).send(b"x" * 65508) is False


def test_the_listener_is_chosen_by_name_then_family_and_never_loopback_for_the_world() -> None:
    _, edge, phone = make_edge(
        listen=["udp:127.0.0.1:5060", f"udp:{NODE}:5060", f"udp:{NODE}:5080", "udp:[2001:db8::1]:5060"]
    )
    assert edge.flow_to("UDP", PHONE, 5060).local_name == f"udp:{NODE}:5060"
    assert edge.flow_to("UDP", PHONE, 5060, f"udp:{NODE}:5080").local_name == f"udp:{NODE}:5080"
    assert edge.flow_to("UDP", "2001:db8::101", 5060).local_name == "udp:[2001:db8::1]:5060"
    assert edge.flow_to("UDP", "127.0.0.1", 5070).local_name == "udp:127.0.0.1:5060"
    assert edge.flow_to("UDP", PHONE, 5060, "udp:gone:1").hop == ("UDP", PHONE, 5060, f"udp:{NODE}:5060")
    for port in (5060, 5080):  # by the short name that a token brings back, too
        hop = Hop("UDP", PHONE, 5060, f"udp:{NODE}:{port}")
        assert edge.layer.flow_to(hop.short).hop == hop
    peer = DatagramPeer(phone, interface="::")
    assert edge.flow_to("UDP", "2001:db8::101", 5060).send(b"x")
    edge.network.run(1)
    assert peer.received == [(b"x", ("2001:db8::1", 5060))]


def test_a_family_without_listener_leads_nowhere() -> None:
    _, edge, _ = make_edge(listen=[f"udp:{NODE}:5060"])
    flow = edge.flow_to("UDP", "2001:db8::101", 5060)
    assert (flow.send(b"x"), flow.reliable, flow.transport) == (False, False, "UDP")
    assert edge.flow_to("TLS", PHONE, 5061).send(b"x") is False


# Names


def test_sent_by_is_the_listeners_own_address_its_default_port_left_out() -> None:
    _, edge, _ = make_edge(listen=[f"udp:{NODE}:5060", f"udp:{NODE}:5080", "udp:[2001:db8::1]:5060"])
    flows = [edge.flow_to("UDP", PHONE, 5060, name) for name in edge.layer.listener_names[:2]]
    assert [edge.layer.sent_by(flow) for flow in flows] == [NODE, f"{NODE}:5080"]
    assert edge.layer.sent_by(edge.flow_to("UDP", "2001:db8::101", 5060)) == "[2001:db8::1]"


def test_responses_to_the_farm_name_and_the_advertised_address_are_ours() -> None:
    _, edge, phone = make_edge(farm_name="Sip.Example.Com", advertise="203.0.113.9:5062")
    assert edge.layer.sent_by(edge.flow_to("UDP", PHONE, 5060)) == "sip.example.com:5062"
    peer = DatagramPeer(phone)
    for sent_by in ("sip.example.com:5062", "SIP.example.com", "203.0.113.9:5062", NODE):
        peer.send(response_bytes(200, method="INVITE", via=f"SIP/2.0/UDP {sent_by};branch=z9hG4bK1"))
    assert len(edge.receiver.responses) == 4


# Starting and stopping


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"udp:{NODE}:5060", "cannot listen on udp:192.0.2.1:5060: the port is in use by another program"),
        (f"tcp:{NODE}:5060", "cannot listen on tcp:192.0.2.1:5060: the port is in use by another program"),
        ("udp:192.0.2.77:5060", "cannot listen on udp:192.0.2.77:5060: this machine does not have that address"),
    ],
)
def test_a_listener_that_cannot_be_opened_says_why_in_one_line(text: str, why: str) -> None:
    network = Network()
    host = network.add_host(NODE)
    DatagramPeer(host)
    Server(host)
    with pytest.raises(ListenError) as caught:
        Edge(host, [text])
    assert str(caught.value) == why


@pytest.mark.parametrize(
    "text", ["tls:0.0.0.0:5061", "sctp:0.0.0.0:5060", "udp:nowhere.example:5060", "udp:0.0.0.0", ""]
)
def test_a_listener_that_we_cannot_offer_is_refused_by_name(text: str) -> None:
    with pytest.raises(ListenError, match="cannot listen"):
        Edge(Network().add_host(NODE), [text])


def test_port_0_is_any_free_port_under_its_real_number() -> None:
    _, edge, phone = make_edge(listen=[f"udp:{NODE}:0", f"tcp:{NODE}:0"])
    ports = [int(name.rpartition(":")[2]) for name in edge.layer.listener_names]
    assert all(ports)
    assert [edge.layer.is_local(NODE, port) for port in ports] == [True, True]
    edge.receiver.answer = response_bytes(200, method="OPTIONS")
    peer = DatagramPeer(phone)
    peer.send(request_bytes("OPTIONS"), port=ports[0])
    assert peer.received[0][1] == (NODE, ports[0])
    assert edge.layer.sent_by(edge.flow) == f"{NODE}:{ports[0]}"


def test_stop_leaves_nothing_behind() -> None:
    network, edge, phone = make_edge()
    stream = connect(phone)
    Server(phone, 5062)
    out = edge.flow_to("TCP", PHONE, 5062)
    never = edge.flow_to("TCP", "192.0.2.200", 5062)
    network.run(0.1)
    udp = edge.flow_to("UDP", PHONE, 5060)
    assert edge.stop()
    assert stream.ended
    assert [flow.send(b"x") for flow in (out, never, udp)] == [False, False, False]
    assert edge.flow_to("TCP", PHONE, 5062).send(b"x") is False
    assert (edge.value("flows", "tcp"), edge.value("flows", "udp")) == (0, 0)
    assert edge.receiver.failures == []
    Edge(edge.host)


def test_stop_resets_connections_whose_peers_do_not_read() -> None:
    _, edge, phone = make_edge()
    stream = connect(phone)
    stream.transport.write(request_bytes("OPTIONS"))
    edge.network.run(0.1)
    stream.transport.pauseProducing()
    assert edge.flow.send(b"x" * 900_000)
    assert edge.stop()


def test_another_gate_and_other_limits_hold_from_the_next_message_on() -> None:
    class Closed:
        def admit(self, host: str, now: float) -> bool:
            return False

    _, edge, phone = make_edge()
    peer = DatagramPeer(phone)
    peer.send(request_bytes("OPTIONS"))
    edge.layer.change(SipSettings(domains=("example.com",)), LimitSettings(header_count=1), None)
    peer.send(request_bytes("OPTIONS"))
    edge.layer.change(SipSettings(domains=("example.com",)), LimitSettings(), Closed())
    peer.send(request_bytes("OPTIONS"))
    assert len(edge.requests) == 1
    assert edge.rejections.reasons == ["too-many-headers", "request-rate"]
