"""The transport layer on real loopback sockets and Twisted's reactor: what the in-memory network cannot show."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from farm.config import LimitSettings, SipSettings
from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.sip.hop import Hop
from farm.transport.layer import ListenError, TransportLayer
from tests.support.counts import read
from tests.support.edge import RecordingReceiver, RecordingRejections
from tests.support.loopback import reserve_addresses
from tests.support.messages import request_bytes, response_bytes
from tests.support.tools import give_up

pytestmark = pytest.mark.live

PORT = 5060


class Live:
    """A layer on a reactor of its own, turned by hand."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.reactor: Any = EPollReactor()
        self.reactor.startRunning(installSignalHandlers=False)
        self.receiver = RecordingReceiver()
        self.rejections = RecordingRejections()
        self.refused: list[tuple[str, str]] = []
        self.metrics = Metrics()
        self.layer = TransportLayer(
            self.reactor,
            self.receiver,
            SipSettings(domains=("example.com",)),
            LimitSettings(),
            self.metrics,
            time.monotonic,
            deadlines=Deadlines(),
            rejections=self.rejections,
            rng=random.Random(1),
            report_refused=lambda branch, method, now: self.refused.append((method, branch)),
        )

    def turn_until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Let the reactor run until the condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            self.reactor.iterate(0.01)

    def stop(self) -> None:
        """Stop, and check that nothing is left."""
        done: list[object] = []
        self.layer.stop().addCallback(done.append)
        self.turn_until(lambda: bool(done))
        internal = self.reactor._internalReaders
        assert [reader for reader in self.reactor.getReaders() if reader not in internal] == []
        assert self.reactor.getWriters() == []
        assert self.reactor.getDelayedCalls() == []


@pytest.fixture
def addresses() -> Iterator[list[str]]:
    with reserve_addresses(2) as reserved:
        yield reserved


@pytest.fixture
def live(addresses: list[str]) -> Iterator[Live]:
    live = Live(addresses[0])
    live.layer.listen([f"udp:{addresses[0]}:{PORT}", f"tcp:{addresses[0]}:{PORT}"])
    yield live
    live.stop()
    live.reactor.disconnectAll()


@pytest.fixture
def peer(addresses: list[str]) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((addresses[1], PORT))
        sock.settimeout(5)
        yield sock


def test_a_datagram_of_60_kilobytes_is_not_cut(live: Live, peer: socket.socket) -> None:
    body = bytes(range(256)) * 240
    data = request_bytes("MESSAGE", body=body)
    assert 61_000 < len(data) < 65_507
    peer.sendto(data, (live.address, PORT))
    live.turn_until(lambda: bool(live.receiver.requests))
    request, flow = live.receiver.requests[0]
    assert request.body == body
    assert flow.send(data)
    assert peer.recv(65_535) == data


def test_a_datagram_over_the_limit_of_udp_is_refused_without_an_exception(live: Live, peer: socket.socket) -> None:
    flow = live.layer.flow_to(Hop("UDP", peer.getsockname()[0], PORT))
    assert flow.send(b"x" * 65_508) is False
    assert live.layer.flow_to(Hop("UDP", "127.0.0.1", 70_000)).send(b"x") is False
    assert read(live.metrics.transport_errors.child("udp")) == 2


def test_the_receive_buffer_holds_a_burst(live: Live, peer: socket.socket) -> None:
    data = request_bytes("OPTIONS")
    for _ in range(150):
        peer.sendto(data, (live.address, PORT))
    live.turn_until(lambda: len(live.receiver.requests) == 150)


def test_a_request_to_a_closed_port_is_reported_by_its_branch(live: Live, peer: socket.socket) -> None:
    host = peer.getsockname()[0]
    request = request_bytes("OPTIONS", via=f"SIP/2.0/UDP {live.address};branch=z9hG4bK123abc")
    assert live.layer.flow_to(Hop("UDP", host, PORT + 9)).send(request)
    live.turn_until(lambda: bool(live.refused))
    assert live.refused == [("OPTIONS", "z9hG4bK123abc")]
    assert live.layer.flow_to(Hop("UDP", host, PORT + 9)).send(request)
    time.sleep(0.01)
    assert live.layer.flow_to(Hop("UDP", host, PORT)).send(b"to somebody else")
    assert peer.recv(100) == b"to somebody else"
    live.turn_until(lambda: len(live.refused) == 2)
    peer.sendto(request_bytes("OPTIONS"), (live.address, PORT))
    live.turn_until(lambda: bool(live.receiver.requests))


def test_a_listener_on_all_addresses_answers_from_the_one_that_was_asked(addresses: list[str]) -> None:
    live = Live("0.0.0.0")
    live.layer.listen(["udp:0.0.0.0:0"])
    port = int(live.layer.listener_names[0].rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect((addresses[1], port))  # a connected socket hears nobody else
        peer.settimeout(5)
        peer.send(request_bytes("OPTIONS", via="SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bK1"))
        live.turn_until(lambda: bool(live.receiver.requests))
        request, flow = live.receiver.requests[0]
        assert flow.send(b"answer")
        assert peer.recv(100) == b"answer"
        assert flow.local_name == request.source.local == f"udp:{addresses[1]}:{port}"
        assert live.layer.sent_by(flow) == f"{addresses[1]}:{port}"
        assert live.layer.flow_to(request.source).send(b"later")
        assert peer.recv(100) == b"later"
    live.stop()
    assert not flow.send(b"x")
    live.reactor.disconnectAll()


def test_a_port_in_use_is_one_clear_line(live: Live) -> None:
    other = Live(live.address)
    for transport in ("udp", "tcp"):
        with pytest.raises(
            ListenError, match=f"^cannot listen on {transport}:.*: the port is in use by another program$"
        ):
            other.layer.listen([f"{transport}:{live.address}:{PORT}"])
    other.reactor.disconnectAll()


def test_both_families_may_have_the_same_port() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        give_up("this machine has no IPv6")
    with socket.socket(socket.AF_INET) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    live = Live("127.0.0.1")
    live.layer.listen([f"{transport}:{host}:{port}" for transport in ("udp", "tcp") for host in ("0.0.0.0", "[::]")])
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
        six.bind(("::1", 0))
        six.sendto(request_bytes("OPTIONS", via="SIP/2.0/UDP [::1];rport;branch=z9hG4bK1"), ("::1", port))
        live.turn_until(lambda: bool(live.receiver.requests))
        assert live.receiver.requests[0][1].send(b"answer")
        six.settimeout(5)
        assert six.recv(100) == b"answer"
    assert live.layer.is_local("127.0.0.1", port)
    live.stop()
    live.reactor.disconnectAll()


def test_a_request_and_its_answer_over_tcp_and_back_over_a_new_connection(live: Live, addresses: list[str]) -> None:
    answer = response_bytes(200, method="OPTIONS")
    with socket.create_server((addresses[1], 5062)) as server, socket.socket() as client:
        client.bind((addresses[1], 0))
        client.connect((live.address, PORT))
        client.settimeout(5)
        server.settimeout(5)
        client.sendall(b"\r\n\r\n" + request_bytes("OPTIONS", via=f"SIP/2.0/TCP {addresses[1]}:5062;branch=z9hG4bK1"))
        live.turn_until(lambda: bool(live.receiver.requests))
        live.reactor.iterate(0.01)
        assert client.recv(2) == b"\r\n"
        flow = live.receiver.requests[0][1]
        assert flow.send(answer)
        live.reactor.iterate(0)
        assert client.recv(4096) == answer
        client.close()
        live.turn_until(lambda: bool(live.receiver.failures))
        assert flow.send(answer)
        for _ in range(10):
            live.reactor.iterate(0.01)
        accepted, source = server.accept()
        with accepted:
            assert source[0] == live.address
            for _ in range(5):
                live.reactor.iterate(0.01)
            assert accepted.recv(4096) == answer


def test_a_refused_connection_is_reported(live: Live, addresses: list[str]) -> None:
    flow = live.layer.flow_to(Hop("TCP", addresses[1], 5063))
    assert flow.send(request_bytes("OPTIONS"))
    live.turn_until(lambda: live.receiver.failures == [flow])


def test_a_peer_that_does_not_read_is_cut(live: Live) -> None:
    with socket.create_connection((live.address, PORT)) as client:
        client.sendall(request_bytes("OPTIONS", via="SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1"))
        live.turn_until(lambda: bool(live.receiver.requests))
        flow = live.receiver.requests[0][1]
        for _ in range(5000):
            if not flow.send(b"x" * 60_000):
                break
            live.reactor.iterate(0)
        live.turn_until(lambda: bool(live.receiver.failures))
        assert live.rejections.reasons == ["write-buffer-full"]
