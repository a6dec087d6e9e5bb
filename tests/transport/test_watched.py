"""What whoever watches the wire is shown, of every transport; the port is `traffic.Watcher`."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.transport.datagrams import Control
from farm.transport.stream import StreamWire
from farm.transport.udp import LocalEnd
from tests.support.edge import NODE, PHONE, DatagramPeer, Edge, Endpoint, Server, StreamPeer, connect, make_edge
from tests.support.messages import request_bytes, response_bytes
from tests.support.tls_peers import connect_tls, make_certificates
from tests.support.web_sockets import TEXT, make_frame, make_upgrade

OPTIONS = request_bytes("OPTIONS", via=f"SIP/2.0/UDP {PHONE}:5062;branch=z9hG4bK1")
ANSWER = response_bytes(200, method="OPTIONS")
END = (NODE, 5060)


class Watcher:
    """Keeps what it is shown."""

    def __init__(self, edge: Edge) -> None:
        self.seen: list[tuple[bytes, str, Endpoint, Endpoint, bool]] = []
        edge.layer.traffic.watcher = self

    def watch(self, data: bytes, transport: str, local: Endpoint, remote: Endpoint, *, sent: bool) -> None:
        self.seen.append((data, transport, local, remote, sent))


def talk(edge: Edge, peer: StreamPeer, data: bytes) -> Endpoint:
    """Send on a connection and let it arrive; where the connection comes from."""
    peer.transport.write(data)
    edge.network.run(0.2)
    end = peer.transport.getHost()
    return end.host, end.port


def test_datagrams_are_shown_as_they_come_and_go() -> None:
    _, edge, phone = make_edge()
    watcher = Watcher(edge)
    edge.receiver.answer = ANSWER
    DatagramPeer(phone, 5062).send(OPTIONS)
    there = (PHONE, 5062)
    assert watcher.seen == [(OPTIONS, "UDP", END, there, False), (ANSWER, "UDP", END, there, True)]


def test_keepalives_are_not_shown() -> None:
    _, edge, phone = make_edge()
    watcher = Watcher(edge)
    udp, tcp = DatagramPeer(phone), connect(phone)
    for data in (b"\r\n\r\n", b"\0", b"", b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)):
        udp.send(data)
    talk(edge, tcp, b"\r\n\r\n")
    assert tcp.data == b"\r\n"
    assert watcher.seen == []


def test_what_the_parser_refuses_is_shown_with_our_answer() -> None:
    _, edge, phone = make_edge()
    watcher = Watcher(edge)
    bad = OPTIONS.replace(b"Content-Length: 0", b"Content-Length: nine")
    DatagramPeer(phone, 5062).send(bad)
    assert [(data[:11], sent) for data, *_, sent in watcher.seen] == [(b"OPTIONS sip", False), (b"SIP/2.0 400", True)]
    assert watcher.seen[0][0] == bad
    DatagramPeer(phone, 5063).send(b"no message of SIP whatsoever, but long")
    assert watcher.seen[-1][0] == b"no message of SIP whatsoever, but long"


def test_what_the_gate_turns_away_is_shown() -> None:
    class Closed:
        def admit(self, host: str, now: float) -> bool:
            return False

    _, edge, phone = make_edge(gate=Closed())
    watcher = Watcher(edge)
    DatagramPeer(phone, 5062).send(OPTIONS)
    assert [data for data, *_ in watcher.seen] == [OPTIONS]


def test_what_the_network_refuses_to_carry_is_not_shown() -> None:
    _, edge, _ = make_edge()
    watcher = Watcher(edge)
    edge.host.send_error = 1
    assert not edge.flow_to("UDP", PHONE, 5062).send(OPTIONS)
    assert watcher.seen == []


def test_a_stream_is_shown_message_by_message_with_both_ends() -> None:
    _, edge, phone = make_edge()
    watcher = Watcher(edge)
    edge.receiver.answer = ANSWER
    there = talk(edge, connect(phone), OPTIONS + OPTIONS)
    one = [(OPTIONS, "TCP", END, there, False), (ANSWER, "TCP", END, there, True)]
    assert watcher.seen == one * 2


def test_the_end_of_a_stream_that_cannot_be_framed_is_shown() -> None:
    _, edge, phone = make_edge()
    watcher = Watcher(edge)
    peer = connect(phone)
    talk(edge, peer, OPTIONS.replace(b"Content-Length: 0\r\n", b""))
    assert [(data[:11], sent) for data, *_, sent in watcher.seen] == [(b"OPTIONS sip", False), (b"SIP/2.0 400", True)]


@pytest.mark.parametrize("error", [OSError(9, "Bad file descriptor"), AttributeError("socket")])
def test_a_socket_that_is_gone_has_no_address_and_costs_no_message(error: Exception) -> None:
    class Gone:
        def getHost(self) -> None:
            raise error

    wire = StreamWire(None)  # type: ignore[arg-type]
    wire.transport = Gone()
    assert wire.find_local() == ("", 0)


def test_what_waits_for_a_connection_is_shown_when_it_leaves_from_the_port_it_got() -> None:
    network, edge, phone = make_edge()
    watcher = Watcher(edge)
    server = Server(phone, 5070)
    assert edge.flow_to("TCP", PHONE, 5070).send(OPTIONS)
    assert watcher.seen == []
    network.run(0.5)
    assert server.peers[0].data == OPTIONS
    ((data, transport, local, remote, sent),) = watcher.seen
    assert (data, transport, remote, sent) == (OPTIONS, "TCP", (PHONE, 5070), True)
    assert local[0] == NODE
    assert local[1] not in (0, 5060)


def test_what_waits_for_a_connection_that_cannot_be_made_is_never_shown() -> None:
    network, edge, _ = make_edge()
    watcher = Watcher(edge)
    assert edge.flow_to("TCP", PHONE, 5070).send(OPTIONS)
    network.run(10)
    assert watcher.seen == []


def test_of_tls_the_clear_text_is_shown(tmp_path: Path) -> None:
    _, edge, phone = make_edge(
        listen=(f"udp:{NODE}:5060", f"tls:{NODE}:5061"), certificates=make_certificates(tmp_path)
    )
    watcher = Watcher(edge)
    edge.receiver.answer = ANSWER
    peer = connect_tls(phone)
    there = talk(edge, peer, OPTIONS)
    assert watcher.seen == [
        (OPTIONS, "TLS", (NODE, 5061), there, False),
        (ANSWER, "TLS", (NODE, 5061), there, True),
    ]


def test_of_a_websocket_the_messages_are_shown() -> None:
    _, edge, phone = make_edge(listen=[f"ws:{NODE}:8080"])
    watcher = Watcher(edge)
    edge.receiver.answer = ANSWER
    peer = connect(phone, port=8080)
    talk(edge, peer, make_upgrade())
    assert watcher.seen == []
    there = talk(edge, peer, make_frame(OPTIONS, TEXT))
    here = (NODE, 8080)
    assert watcher.seen == [(OPTIONS, "WS", here, there, False), (ANSWER, "WS", here, there, True)]


def test_a_message_that_waits_for_a_browser_to_read_is_shown_before_it_is_wrapped() -> None:
    """Afterwards its bytes do not tell it any more."""
    _, edge, phone = make_edge(listen=[f"ws:{NODE}:8080"])
    watcher = Watcher(edge)
    peer = connect(phone, port=8080)
    talk(edge, peer, make_upgrade())
    there = talk(edge, peer, make_frame(OPTIONS, TEXT))
    (connection,) = edge.layer._streams
    connection.pause()
    assert edge.flow.send(ANSWER)
    connection.resume()
    assert watcher.seen[1:] == [(ANSWER, "WS", (NODE, 8080), there, True)]


class Bound:
    """A socket bound to all addresses, as `DatagramSocket`."""

    def __init__(self) -> None:
        self.fails = False

    def make_control(self, local: bytes) -> Control:
        return (0, 0, local)

    def send(self, data: bytes, address: Endpoint, control: Control | None = None) -> None:
        if self.fails:
            raise OSError(101, "Network is unreachable")


def test_of_a_listener_bound_to_all_addresses_the_one_that_was_asked_is_shown() -> None:
    _, edge, _ = make_edge()
    watcher, bound = Watcher(edge), Bound()
    end = LocalEnd(edge.layer._udp[0], bound, bytes((192, 0, 2, 7)))  # type: ignore[arg-type]
    assert end.send(ANSWER, (PHONE, 5062))
    bound.fails = True
    assert not end.send(ANSWER, (PHONE, 5062))
    assert watcher.seen == [(ANSWER, "UDP", ("192.0.2.7", 5060), (PHONE, 5062), True)]
