"""UDP listeners and flows; more of them in test_layer.py."""

from __future__ import annotations

import errno

import pytest

from farm.metrics import Metrics
from farm.sip.hop import Hop
from farm.transport.datagrams import Address
from farm.transport.traffic import Traffic
from farm.transport.udp import ListenError, LocalEnd, UdpEnd, UdpFlow, UdpListener, explain_refusal
from tests.support.counts import read
from tests.support.edge import NODE, PHONE, DatagramPeer
from tests.support.network import Host, Network


class Inbox:
    """Keeps datagrams."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address, UdpEnd]] = []
        self.refused: list[tuple[str, str, Address]] = []

    def receive_datagram(self, data: bytes, address: Address, end: UdpEnd) -> None:
        self.received.append((data, address, end))

    def receive_new_end(self, end: LocalEnd) -> None:
        raise AssertionError("this listener is bound to one address")

    def receive_refused_request(self, method: str, branch: str, address: Address) -> None:
        self.refused.append((method, branch, address))


def make_listener(host: Host) -> tuple[UdpListener, Inbox, Metrics]:
    inbox, metrics = Inbox(), Metrics()
    listener = UdpListener(NODE, 5060, inbox, Traffic(metrics), metrics)
    listener.open(host, 1 << 20)
    return listener, inbox, metrics


def test_a_datagram_of_60_kilobytes_comes_whole() -> None:
    network = Network()
    listener, inbox, _ = make_listener(network.add_host(NODE))
    DatagramPeer(network.add_host(PHONE)).send(b"x" * 60_000)
    assert inbox.received == [(b"x" * 60_000, (PHONE, 5060), listener)]


def test_a_flow_sends_from_its_listener_and_counts() -> None:
    network = Network()
    listener, _, metrics = make_listener(network.add_host(NODE))
    peer = DatagramPeer(network.add_host(PHONE))
    flow = UdpFlow(listener, Hop("UDP", PHONE, 5060, listener.name))
    assert (flow.reliable, flow.transport, flow.local_name) == (False, "UDP", listener.name)
    assert flow.send(b"BYE sip:a SIP/2.0\r\n\r\n")
    network.run(1)
    assert peer.received == [(b"BYE sip:a SIP/2.0\r\n\r\n", (NODE, 5060))]
    assert read(metrics.sip_requests.child("BYE", "out")) == 1


def test_a_port_or_host_that_no_socket_takes_is_false() -> None:
    network = Network()
    listener, _, metrics = make_listener(network.add_host(NODE))
    assert not UdpFlow(listener, Hop("UDP", "2001:db8::1", 5060)).send(b"x")
    assert read(metrics.transport_errors.child("udp")) == 1


def test_a_closed_listener_refuses() -> None:
    network = Network()
    host = network.add_host(NODE)
    listener, _, _ = make_listener(host)
    flow = UdpFlow(listener, Hop("UDP", PHONE, 5060))
    done: list[object] = []
    listener.close().addCallback(done.append)
    network.run(1)
    assert len(done) == 1
    assert flow.send(b"x") is False
    make_listener(host)


def test_a_port_in_use_is_one_clear_line() -> None:
    host = Network().add_host(NODE)
    make_listener(host)
    with pytest.raises(ListenError, match=r"^cannot listen on udp:192.0.2.1:5060: the port is in use by another"):
        make_listener(host)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EACCES, "x"), "not permitted (ports below 1024 are for root)"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "this machine does not have that address"),
        (OSError(errno.EMFILE, "x"), "too many open files"),
        (RuntimeError("odd"), "odd"),
    ],
)
def test_why_a_listener_cannot_be_opened(error: Exception, text: str) -> None:
    assert explain_refusal("udp:1.2.3.4:5", error) == f"cannot listen on udp:1.2.3.4:5: {text}"


def test_what_icmp_refused_is_told_by_method_and_branch_and_nothing_else_is() -> None:
    network = Network()
    listener, inbox, metrics = make_listener(network.add_host(NODE))
    address = (PHONE, 5060)
    for quoted in (
        b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK77;rport\r\nVia: x",
        b"INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK7",  # cut: it may go on
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK77\r\n",
        b"",
        b"\xff" * 100,
    ):
        listener.receive_unreachable(quoted, address)
    assert inbox.refused == [("INVITE", "z9hG4bK77", address)]
    assert read(metrics.transport_errors.child("udp")) == 5
