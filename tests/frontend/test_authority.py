"""The name server's sockets, on the in-memory network: what comes in by UDP and TCP, and what a stranger cannot do."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from dns import flags, message
from dns.opcode import Opcode
from dns.rcode import Rcode
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Protocol

from farm.config import DnsSettings
from farm.deadlines import Deadlines
from farm.frontend.authority import CONNECTIONS_PER_SOURCE, Authority, _Connection
from farm.frontend.zone import Edge, Listener, ZoneSettings
from farm.metrics import Metrics
from tests.support.counts import read
from tests.support.network import Host, Network

SERVER = "192.0.2.1"
CLIENT = "203.0.113.1"
SECONDARY = "198.51.100.53"


def make_edge(number: int) -> Edge:
    host = f"192.0.2.{number}"
    return Edge(b"%d" % number, (Listener("UDP", host, 5060),), (host,))


class Farm:
    """A roster that says what it is told to."""

    def __init__(self, count: int) -> None:
        self.shown = [make_edge(number + 1) for number in range(count)]
        self.knows = True

    def edges(self) -> list[Edge]:
        return self.shown

    def knows_farm(self) -> bool:
        return self.knows


class Client(DatagramProtocol):
    """A resolver's UDP socket."""

    noisy = False

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Any]] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append((datagram, addr))

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data, (SERVER, 53))


class Stream(Protocol):
    """A resolver's TCP connection."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.closed = True

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(struct.pack(">H", len(data)) + data)

    def messages(self) -> list[message.Message]:
        found, rest = [], self.data
        while rest:
            (length,) = struct.unpack_from(">H", rest)
            found.append(message.from_wire(rest[2 : 2 + length]))
            rest = rest[2 + length :]
        return found


class Town:
    """A server, and a machine that asks it."""

    def __init__(self, count: int = 2, **settings: Any) -> None:
        self.network = Network()
        self.host = self.network.add_host(SERVER)
        self.client = self.network.add_host(CLIENT)
        self.farm = Farm(count)
        self.metrics = Metrics()
        self.deadlines = Deadlines()
        self.authority = Authority(
            self.host,
            DnsSettings(listen=(f"{SERVER}:53",), **settings),
            ZoneSettings("sip.example.com", b"secret"),
            self.farm,
            self.deadlines,
            self.host.seconds,
            self.host.wall_time,
            random.Random(1),
            self.metrics,
        )
        self.authority.listen()
        self.authority.start()
        self.udp = Client()
        self.client.listenUDP(0, self.udp, CLIENT)

    def run(self, seconds: float = 0.1) -> None:
        """Let time pass, in steps in which timers run."""
        steps = max(round(seconds / 0.1), 1)
        for _ in range(steps):
            self.network.run(seconds / steps)
            self.deadlines.run_due(self.host.seconds())

    def ask(self, name: str = "sip.example.com", kind: str = "A") -> message.Message:
        """The answer over UDP."""
        self.udp.received.clear()
        self.udp.send(message.make_query(name, kind).to_wire())
        self.run()
        ((data, address),) = self.udp.received
        assert tuple(address) == (SERVER, 53)
        return message.from_wire(data)

    def connect(self, host: Host | None = None) -> Stream:
        """A connection."""
        stream = Stream()
        factory: Any = ClientFactory.forProtocol(lambda: stream)
        factory.noisy = False
        (host or self.client).connectTCP(SERVER, 53, factory)
        self.run()
        return stream

    def rejected(self, reason: str) -> float:
        return float(self.metrics.dns_rejections.child(reason)._value.get())


def addresses(answer: message.Message) -> list[str]:
    return sorted(record.to_text() for held in answer.answer for record in held)


def test_a_question_is_answered_over_udp_from_the_address_that_was_asked() -> None:
    assert addresses(Town().ask()) == ["192.0.2.1", "192.0.2.2"]


def test_several_questions_on_one_connection_are_answered_in_order() -> None:
    stream = Town().connect()
    assert stream.messages() == []
    town = Town()
    stream = town.connect()
    for kind in ("A", "NS", "SOA"):
        stream.send(message.make_query("sip.example.com", kind).to_wire())
    town.run()
    assert [answer.question[0].rdtype.name for answer in stream.messages()] == ["A", "NS", "SOA"]
    assert not stream.closed


def test_a_node_that_comes_or_goes_is_in_the_next_answer_but_one_at_most() -> None:
    town = Town()
    town.ask()
    town.run(2.0)
    town.farm.shown.append(make_edge(3))
    town.run(0.6)
    assert addresses(town.ask()) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    del town.farm.shown[0]
    town.run(1.6)
    assert addresses(town.ask()) == ["192.0.2.2", "192.0.2.3"]


def test_who_does_not_know_the_farm_does_not_answer_for_it() -> None:
    town = Town()
    town.ask()
    town.farm.knows = False
    town.run(1.0)
    assert town.ask().rcode() == Rcode.SERVFAIL
    town.farm.knows = True
    town.run(1.0)
    assert town.ask().rcode() == Rcode.NOERROR


def test_serial_and_number_of_nodes_are_metered() -> None:
    town = Town()
    town.ask()
    assert read(town.metrics.zone_nodes.child()) == 2
    assert read(town.metrics.zone_serial.child()) == town.authority.zone.serial > 1_000_000_000


def test_the_zone_keeps_its_last_nodes_when_the_meter_says_that_there_is_none() -> None:
    town = Town()
    town.ask()
    town.farm.shown = [make_edge(1)._replace(listeners=())]
    town.run(2.0)
    assert read(town.metrics.zone_nodes.child()) == 0
    assert addresses(town.ask()) == ["192.0.2.1", "192.0.2.2"]


def test_a_silent_connection_is_closed() -> None:
    town = Town(idle_seconds=3.0)
    stream = town.connect()
    town.run(2.0)
    stream.send(message.make_query("sip.example.com", "A").to_wire())
    town.run(2.0)
    assert not stream.closed
    town.run(2.0)
    assert stream.closed


def test_connections_from_ipv6_are_counted_by_the_network_of_one_customer() -> None:
    authority = Town().authority
    for number in range(CONNECTIONS_PER_SOURCE):
        assert authority.admit("2001:db8:0:1::1")
        authority.opened(_Connection(authority, f"2001:db8:0:1::{number:x}"))
    assert not authority.admit("2001:db8:0:1:ffff::1")
    assert authority.admit("2001:db8:0:2::1")
    for connection in list(authority._connections):
        authority.closed(connection)
    assert authority.admit("2001:db8:0:1::1")
    assert not authority._by_source


def test_connections_are_limited_in_all_and_of_one_address() -> None:
    town = Town(connections=CONNECTIONS_PER_SOURCE + 1)
    streams = [town.connect() for _ in range(CONNECTIONS_PER_SOURCE + 1)]
    assert [stream.closed for stream in streams] == [False] * CONNECTIONS_PER_SOURCE + [True]
    other = town.network.add_host("203.0.113.2")
    assert [town.connect(other).closed for _ in range(2)] == [False, True]
    assert town.rejected("too-many-connections") == 2
    transport: Any = streams[0].transport
    transport.loseConnection()
    town.run()
    assert not town.connect().closed


def test_a_question_that_is_too_long_ends_the_connection() -> None:
    town = Town()
    stream = town.connect()
    transport: Any = stream.transport
    transport.write(b"\xff\xff" + bytes(100))
    town.run()
    assert stream.closed
    assert town.rejected("oversize") == 1


def test_who_does_not_read_is_not_read() -> None:
    """What waits for a peer is bounded by what fits his connection, not by how much he asks."""
    town = Town(count=60)
    stream = town.connect()
    transport: Any = stream.transport
    transport.pauseProducing()
    query = message.make_query("_sip._udp.sip.example.com", "SRV").to_wire()
    for _ in range(400):
        stream.send(query)
    town.run(2.0)
    (connection,) = town.authority._connections
    assert connection.paused
    transport.resumeProducing()
    town.run(5.0)
    assert len(stream.messages()) == 400


def test_who_asks_in_thousands_at_once_is_read_at_his_rate() -> None:
    """Calls wait in the same thread."""
    town = Town(responses_per_second=50.0)
    stream, other = town.connect(), town.connect(town.network.add_host("203.0.113.200"))
    queries = [message.make_query(f"x{number}.sip.example.com", "A").to_wire() for number in range(100)]
    transport: Any = stream.transport
    transport.write(b"".join(struct.pack(">H", len(query)) + query for query in queries))
    town.run(0.1)
    assert len(stream.messages()) in range(11, 17)
    other.send(queries[0])
    assert addresses(town.ask()) == ["192.0.2.1", "192.0.2.2"]
    assert len(other.messages()) == 1
    town.run(1.0)
    assert len(stream.messages()) in range(58, 70)
    town.run(2.0)
    assert [answer.id for answer in stream.messages()] == [message.from_wire(query).id for query in queries]
    assert not stream.closed
    assert not town.authority._connections.pop().paused


def test_a_connection_whose_network_has_had_its_share_waits_whoever_has_room_and_may_end() -> None:
    town = Town(responses_per_second=1.0)
    stream = town.connect()
    query = message.make_query("sip.example.com", "A").to_wire()
    for _ in range(5):
        stream.send(query)
    town.run()
    (connection,) = town.authority._connections
    assert (connection.paused, len(stream.messages())) == (True, 2)
    connection.resumeProducing()  # as its transport does when what waited has been written
    town.run()
    assert (connection.paused, len(stream.messages())) == (True, 2)
    assert len(town.deadlines) == 3  # with the watch over the zone and the time of a silent connection
    transport: Any = stream.transport
    transport.abortConnection()
    town.run()
    assert not town.authority._connections
    assert len(town.deadlines) == 1


def test_a_connection_that_is_read_slowly_and_not_read_is_closed_all_the_same() -> None:
    town = Town(count=60, responses_per_second=50.0, idle_seconds=2.0)
    stream = town.connect()
    transport: Any = stream.transport
    transport.pauseProducing()
    query = message.make_query("_sip._udp.sip.example.com", "SRV").to_wire()
    for _ in range(400):
        stream.send(query)
    town.run(20.0)
    assert not town.authority._connections
    transport.resumeProducing()
    town.run(1.0)
    assert stream.closed
    assert town.deadlines.next_at() is not None  # the zone is watched
    assert len(town.deadlines) == 1


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 600, b"\x00" * 12])
def test_noise_changes_nothing(data: bytes) -> None:
    town = Town()
    town.udp.send(data)
    stream = town.connect()
    stream.send(data)
    town.run()
    assert addresses(town.ask()) == ["192.0.2.1", "192.0.2.2"]
    assert 'unexpected_errors_total{place="dns"} 0.0' in town.metrics.render().decode()


def test_an_error_of_ours_is_counted_and_answers_nothing() -> None:
    town = Town()

    def fail(*_: object) -> bytes:
        raise RuntimeError("a bug")

    town.authority.answers.answer_datagram = fail  # type: ignore[method-assign, assignment]
    town.authority.answers.answer_stream = fail  # type: ignore[assignment]
    town.udp.send(message.make_query("sip.example.com", "A").to_wire())
    stream = town.connect()
    stream.send(message.make_query("sip.example.com", "A").to_wire())
    town.run()
    assert town.udp.received == []
    assert stream.messages() == []
    assert 'unexpected_errors_total{place="dns"} 2.0' in town.metrics.render().decode()


def test_a_secondary_is_told_of_a_change_and_its_answer_heard() -> None:
    town = Town(secondaries=(SECONDARY,))
    town.run(0.3)
    machine = town.network.add_host(SECONDARY)
    secondary = Client()
    machine.listenUDP(53, secondary, SECONDARY)
    town.run(1.5)
    town.farm.shown.append(make_edge(3))
    town.run(1.0)
    ((data, address),) = secondary.received
    assert tuple(address) == (SERVER, 53)
    notice = message.from_wire(data)
    assert notice.opcode() == Opcode.NOTIFY
    assert notice.answer[0][0].serial == town.authority.zone.serial
    secondary.send(message.make_response(notice).to_wire())
    town.run(5.0)
    assert len(secondary.received) == 1
    assert 'dns_notices_total{result="acknowledged"} 1.0' in town.metrics.render().decode()


def test_secondaries_and_limits_change_while_it_runs() -> None:
    town = Town()
    stream = town.connect()
    query = message.make_query("sip.example.com", "AXFR").to_wire()
    stream.send(query)
    town.run()
    zone = ZoneSettings("sip.example.com", b"secret", ttl=77)
    town.authority.change(DnsSettings(secondaries=(CLIENT,), responses_per_second=0.5), zone)
    town.run()
    stream.send(query)
    town.run()
    refused, taken = stream.messages()
    assert (refused.rcode(), taken.rcode()) == (Rcode.REFUSED, Rcode.NOERROR)
    town.ask()
    town.udp.received.clear()
    town.udp.send(message.make_query("sip.example.com", "A").to_wire())
    town.run()
    assert town.udp.received == []


def test_a_short_answer_sends_the_client_to_tcp() -> None:
    answer = Town(count=60).ask("_sip._udp.sip.example.com", "SRV")
    assert answer.flags & flags.TC


def test_after_the_end_nobody_answers_and_nothing_waits() -> None:
    town = Town(secondaries=(SECONDARY,))
    stream = town.connect()
    assert town.authority.listener_addresses == [(SERVER, 53)]
    town.authority.stop()
    town.run()
    assert stream.closed
    assert len(town.deadlines) == 0
    town.udp.received.clear()
    town.udp.send(message.make_query("sip.example.com", "A").to_wire())
    town.run()
    assert town.udp.received == []
