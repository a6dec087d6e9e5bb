"""Behind a balancer: the far client is the source, and nobody but the balancer says who that is."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from farm.transport.proxied import is_within
from farm.transport.proxy_protocol import SIGNATURE
from tests.support.edge import NODE, PHONE, Edge, StreamPeer, connect, make_edge
from tests.support.messages import request_bytes
from tests.support.network import Host, Network
from tests.support.web_sockets import TEXT, make_frame, make_upgrade, read_frames

CLIENT = "198.51.100.7"
HEADER = f"PROXY TCP4 {CLIENT} {NODE} 56324 5070\r\n".encode()
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
OPTIONS = request_bytes("OPTIONS", via="SIP/2.0/TCP 10.0.0.5:5060;rport;branch=z9hG4bK1")
PORT = 5070


class Closed:
    """A gate that lets nobody in, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def admit(self, host: str, now: float) -> bool:
        self.asked.append(host)
        return False


def make_proxied(
    *listen: str, networks: tuple[str, ...] = (f"{PHONE}/32",), **options: Any
) -> tuple[Network, Edge, Host]:
    """A node with a listener for balancers, of which the phone's host is one."""
    network, edge, balancer = make_edge(**options)
    edge.layer.listen(listen or [f"tcp:{NODE}:{PORT}"], networks)
    return network, edge, balancer


def talk(edge: Edge, peer: StreamPeer, data: bytes, seconds: float = 0.1) -> None:
    """Send on a connection and let it arrive."""
    peer.transport.write(data)
    edge.network.run(seconds)


def test_the_far_client_is_the_source_of_what_comes_behind_the_header() -> None:
    _, edge, balancer = make_proxied()
    edge.receiver.answer = b"SIP/2.0 200 OK\r\n\r\n"
    peer = connect(balancer, port=PORT)
    talk(edge, peer, HEADER + OPTIONS)
    (request,) = edge.requests
    assert request.source.remote == ("TCP", CLIENT, 56324)
    assert request.source.local.startswith(f"tcp:{NODE}:{PORT}#")
    assert request.find("via") == f"SIP/2.0/TCP 10.0.0.5:5060;rport=56324;branch=z9hG4bK1;received={CLIENT}"
    assert peer.data == b"SIP/2.0 200 OK\r\n\r\n"
    peer.transport.loseConnection()
    edge.network.run(0.1)
    assert edge.value("flows", "tcp") == 0


def test_a_header_that_comes_byte_by_byte_is_one() -> None:
    _, edge, balancer = make_proxied()
    peer = connect(balancer, port=PORT)
    for octet in HEADER + OPTIONS:
        talk(edge, peer, bytes([octet]), 0.01)
    assert [request.source.host for request in edge.requests] == [CLIENT]


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_balancer_that_speaks_for_itself_is_the_source(header: bytes) -> None:
    _, edge, balancer = make_proxied()
    peer = connect(balancer, port=PORT)
    talk(edge, peer, header + OPTIONS)
    assert edge.requests[0].source.remote == ("TCP", PHONE, peer.transport.getHost().port)


def test_who_is_no_balancer_is_cut_off_unread() -> None:
    _, edge, stranger = make_proxied(networks=("192.0.2.0/28", "2001:db8::/64"))
    peer = connect(stranger, port=PORT)
    talk(edge, peer, HEADER + OPTIONS)
    assert peer.ended
    assert edge.requests == []
    assert edge.rejections.reasons == ["proxy-not-trusted"]


@pytest.mark.parametrize("data", [OPTIONS, b"PROXY TCP4 a b c d\r\n", b"\r\n\r\n" + OPTIONS])
def test_what_brings_no_header_is_cut_off(data: bytes) -> None:
    _, edge, balancer = make_proxied()
    peer = connect(balancer, port=PORT)
    talk(edge, peer, data)
    assert (peer.ended, peer.data, edge.requests) == (True, b"", [])
    assert edge.rejections.reasons == ["proxy-header"]


def test_a_header_that_is_not_whole_in_time_is_cut_off() -> None:
    _, edge, balancer = make_proxied(proxy_header_seconds=5.0)
    slow, quick = connect(balancer, port=PORT), connect(balancer, port=PORT)
    talk(edge, quick, HEADER)
    for octet in HEADER[:4]:
        talk(edge, slow, bytes([octet]), 1)
    assert not slow.ended
    talk(edge, slow, HEADER[4:5], 1)
    assert slow.ended
    assert edge.rejections.reasons == ["proxy-header-slow"]
    edge.network.run(5)
    assert not quick.ended


def test_connections_that_wait_for_their_header_count_against_the_limit() -> None:
    _, edge, balancer = make_proxied(connections=3)
    waiting = [connect(balancer, port=PORT) for _ in range(3)]
    assert connect(balancer, port=PORT).ended
    assert edge.rejections.reasons == ["too-many-connections"]
    waiting[0].transport.loseConnection()
    edge.network.run(0.1)
    assert not connect(balancer, port=PORT).ended


def test_limits_by_source_are_the_far_clients() -> None:
    _, edge, balancer = make_proxied(connections_per_source=1)
    first, second, other = (connect(balancer, port=PORT) for _ in range(3))
    talk(edge, first, HEADER + OPTIONS)
    talk(edge, second, HEADER + OPTIONS)
    talk(edge, other, HEADER.replace(b"100.7", b"100.8") + OPTIONS)
    assert (first.ended, second.ended, other.ended) == (False, True, False)
    assert edge.rejections.reasons == ["too-many-connections-from-source"]
    assert len(edge.requests) == 2


def test_the_gate_is_asked_for_the_far_client() -> None:
    gate = Closed()
    _, edge, balancer = make_proxied(gate=gate)
    talk(edge, connect(balancer, port=PORT), HEADER + OPTIONS)
    assert gate.asked == [CLIENT]


def test_a_page_behind_a_balancer_is_the_far_client_too() -> None:
    _, edge, balancer = make_proxied(f"ws:{NODE}:{PORT}")
    peer = connect(balancer, port=PORT)
    talk(edge, peer, HEADER + make_upgrade() + make_frame(OPTIONS))
    assert edge.requests[0].source.remote == ("WS", CLIENT, 56324)
    peer.data = b""
    assert edge.flow.send(OPTIONS)
    edge.network.run(0.1)
    assert read_frames(peer.data) == [(TEXT, OPTIONS)]


def test_nothing_is_dialled_from_a_balancers_listener() -> None:
    _, edge, _ = make_edge(listen=[f"udp:{NODE}:5060"])
    edge.layer.listen([f"tcp:{NODE}:{PORT}"], (f"{PHONE}/32",))
    assert edge.flow_to("TCP", PHONE, 5062).local_name == f"udp:{NODE}:5060"


def test_a_stop_ends_what_waits_for_its_header_as_well() -> None:
    _, edge, balancer = make_proxied()
    waiting, open_ = connect(balancer, port=PORT), connect(balancer, port=PORT)
    talk(edge, open_, HEADER + OPTIONS)
    edge.layer.stop()
    edge.network.run(1)
    assert (waiting.ended, open_.ended) == (True, True)
    assert edge.stop()


def test_an_address_is_within_a_network_in_whatever_clothes_it_comes() -> None:
    networks = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
    assert is_within("10.255.0.1", networks)
    assert is_within("::ffff:10.0.0.1", networks)
    assert is_within("2001:db8::9", networks)
    assert not is_within("11.0.0.1", networks)
    assert not is_within("::1", networks)
