"""The in-memory network keeps the promises that the tests on it rely on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Factory, Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from tests.support.network import Host, Network, Packet, Path

Endpoint = tuple[str, int]


class Inbox(DatagramProtocol):
    """Keeps what it receives."""

    def __init__(self, host: Host, port: int = 5060, interface: str = "") -> None:
        self.received: list[tuple[bytes, Endpoint]] = []
        self.times: list[float] = []
        self.host = host
        self.port = host.listenUDP(port, self, interface, maxPacketSize=65535)

    def datagramReceived(self, datagram: bytes, addr: Endpoint) -> None:
        self.received.append((datagram, addr))
        self.times.append(self.host.seconds())


class Ear(Protocol):
    """Keeps what a stream brings, and how it ended."""

    transport: Any

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.lost: type[BaseException] | None = None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost = reason.type


class Server(Factory):
    """Accepts and keeps its streams."""

    def __init__(self) -> None:
        self.ears: list[Ear] = []

    def buildProtocol(self, addr: object) -> Ear:
        ear = Ear()
        self.ears.append(ear)
        return ear


class Client(ClientFactory):
    """One outgoing stream."""

    noisy = False

    def __init__(self) -> None:
        self.ear = Ear()
        self.failed: type[BaseException] | None = None

    def buildProtocol(self, addr: object) -> Ear:
        return self.ear

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self.failed = reason.type


def make_pair(path: Path | None = None, seed: int = 1) -> tuple[Network, Host, Host]:
    network = Network(seed, path)
    return network, network.add_host("192.0.2.1", "2001:db8::1"), network.add_host("192.0.2.2", "2001:db8::2")


def make_stream(path: Path | None = None, seed: int = 1) -> tuple[Network, Host, Host, Ear, Ear]:
    network, a, b = make_pair(path, seed)
    server, client = Server(), Client()
    b.listenTCP(5060, server)
    a.connectTCP("192.0.2.2", 5060, client)
    assert network.run_until(lambda: client.ear.transport is not None)
    network.run(0.1)
    return network, a, b, client.ear, server.ears[0]


def test_a_datagram_arrives_after_the_paths_delay_from_the_senders_address() -> None:
    network, a, b = make_pair(Path(delay=0.02))
    sender, inbox = Inbox(a), Inbox(b)
    sender.port.write(b"x", ("192.0.2.2", 5060))
    network.run(0.0199)
    assert inbox.received == []
    network.run(1)
    assert inbox.received == [(b"x", ("192.0.2.1", 5060))]
    assert inbox.times == [pytest.approx(0.02)]


def test_ipv6_datagrams_have_ipv6_sources() -> None:
    network, a, b = make_pair()
    sender, inbox = Inbox(a, interface="::"), Inbox(b, interface="2001:db8::2")
    sender.port.write(b"x", ("2001:db8::2", 5060))
    network.run(1)
    assert inbox.received == [(b"x", ("2001:db8::1", 5060))]
    with pytest.raises(OSError, match="family"):
        sender.port.write(b"x", ("192.0.2.2", 5060))


def test_loopback_stays_on_the_host() -> None:
    network, a, b = make_pair()
    mine, theirs = Inbox(a), Inbox(b)
    mine.port.write(b"x", ("127.0.0.1", 5060))
    network.run(1)
    assert [data for data, _ in mine.received] == [b"x"]
    assert theirs.received == []


def test_binding_twice_or_to_a_foreign_address_is_refused_as_by_the_kernel() -> None:
    _, a, _ = make_pair()
    Inbox(a, interface="192.0.2.1")
    refusals = {"192.0.2.1": errno.EADDRINUSE, "": errno.EADDRINUSE, "9.9.9.9": errno.EADDRNOTAVAIL}
    for interface, number in refusals.items():
        with pytest.raises(CannotListenError) as caught:
            Inbox(a, interface=interface)
        assert caught.value.socketError.errno == number
    Inbox(a, interface="2001:db8::1")


def test_a_closed_port_is_free_again_and_writes_nothing() -> None:
    network, a, _ = make_pair()
    inbox = Inbox(a)
    done: list[None] = []
    inbox.port.stopListening().addCallback(done.append)
    assert done == []
    network.run(0)
    assert done == [None]
    with pytest.raises(OSError, match="Bad file"):
        inbox.port.write(b"x", ("192.0.2.2", 1))
    Inbox(a)


def test_a_datagram_too_large_for_udp_is_refused_and_a_small_reader_cuts() -> None:
    network, a, b = make_pair()
    sender = Inbox(a)
    with pytest.raises(OSError, match="too long"):
        sender.port.write(b"x" * 65508, ("192.0.2.2", 5060))
    small = Inbox.__new__(Inbox)
    small.received, small.times, small.host = [], [], b
    b.listenUDP(5060, small)
    sender.port.write(b"x" * 10000, ("192.0.2.2", 5060))
    network.run(1)
    assert len(small.received[0][0]) == 8192


def test_loss_duplication_and_reordering_follow_the_seed() -> None:
    def arrivals(seed: int) -> list[bytes]:
        network, a, b = make_pair(Path(loss=0.2, duplicate=0.2, reorder=0.3), seed)
        sender, inbox = Inbox(a), Inbox(b)
        for number in range(100):
            sender.port.write(b"%d" % number, ("192.0.2.2", 5060))
            network.run(0.001)
        network.run(1)
        return [data for data, _ in inbox.received]

    first = arrivals(7)
    assert first == arrivals(7)
    assert first != arrivals(8)
    assert 60 < len(set(first)) < 95
    assert len(first) > len(set(first))
    assert first != sorted(first, key=int)


def test_cuts_are_one_way_and_partitions_hold_until_healed() -> None:
    network, a, b = make_pair()
    one, two = Inbox(a), Inbox(b)

    def exchange() -> tuple[int, int]:
        one.received.clear()
        two.received.clear()
        one.port.write(b"x", ("192.0.2.2", 5060))
        two.port.write(b"y", ("192.0.2.1", 5060))
        network.run(1)
        return len(one.received), len(two.received)

    assert exchange() == (1, 1)
    network.cut(a, b)
    assert exchange() == (1, 0)
    network.heal()
    network.partition([a], [b])
    assert exchange() == (0, 0)
    network.heal()
    assert exchange() == (1, 1)


def test_watchers_see_everything_that_is_sent() -> None:
    network, a, _ = make_pair()
    seen: list[Packet] = []
    network.watch(seen.append)
    Inbox(a).port.write(b"x", ("192.0.2.9", 5060))
    assert seen == [Packet(0.0, "UDP", ("192.0.2.1", 5060), ("192.0.2.9", 5060), b"x")]


def test_nat_gives_one_public_port_and_lets_in_only_whom_the_host_wrote_to() -> None:
    network = Network()
    nat = network.add_nat("203.0.113.1", lifetime=60)
    phone = network.add_host("10.0.0.5", behind=nat)
    server, stranger = network.add_host("192.0.2.1"), network.add_host("192.0.2.2")
    inside, outside, other = Inbox(phone), Inbox(server), Inbox(stranger)
    inside.port.write(b"register", ("192.0.2.1", 5060))
    network.run(1)
    source = outside.received[0][1]
    assert source == ("203.0.113.1", 20000)
    outside.port.write(b"ok", source)
    other.port.write(b"scan", source)
    network.run(1)
    assert inside.received == [(b"ok", ("192.0.2.1", 5060))]
    network.run(60)
    outside.port.write(b"invite", source)
    network.run(1)
    assert len(inside.received) == 1
    nat.forget()
    inside.port.write(b"again", ("192.0.2.1", 5060))
    network.run(1)
    assert outside.received[-1][1] == ("203.0.113.1", 20001)


def test_a_stream_brings_all_bytes_in_order_whatever_the_path_does() -> None:
    network, _, _, near, far = make_stream(Path(jitter=0.05, loss=0.2, segment_bytes=1000))
    text = bytes(range(256)) * 1000
    near.transport.write(text)
    far.transport.write(b"answer")
    network.run(600)
    assert far.data == text
    assert near.data == b"answer"
    assert len(far.pieces) >= 256


def test_a_server_may_speak_first() -> None:
    network, a, b = make_pair()
    client = Client()

    class Greeter(Server):
        def buildProtocol(self, addr: object) -> Ear:
            ear = super().buildProtocol(addr)
            ear.connectionMade = lambda: ear.transport.write(b"hello")  # type: ignore[method-assign]
            return ear

    b.listenTCP(5060, Greeter())
    a.connectTCP("192.0.2.2", 5060, client)
    network.run(1)
    assert client.ear.data == b"hello"


def test_a_close_comes_after_all_bytes_and_both_ends_hear_of_it() -> None:
    network, _, _, near, far = make_stream()
    near.transport.write(b"bye")
    near.transport.loseConnection()
    near.transport.write(b"too late")
    network.run(1)
    assert (far.data, far.lost, near.lost) == (b"bye", ConnectionDone, ConnectionDone)


def test_an_abort_resets_the_peer() -> None:
    network, a, b, near, far = make_stream()
    near.transport.abortConnection()
    network.run(1)
    assert far.lost is ConnectionLost
    assert a.connections == {}
    assert b.connections == {}


def test_connecting_is_refused_times_out_or_finds_no_route() -> None:
    network, a, b = make_pair()
    refused, silent = Client(), Client()
    a.connectTCP("192.0.2.2", 5060, refused)
    network.run(1)
    assert refused.failed is error.ConnectionRefusedError
    b.listenTCP(5060, Server())
    network.cut(b, a)
    a.connectTCP("192.0.2.2", 5060, silent, timeout=5)
    network.run(4.9)
    assert silent.failed is None
    network.run(0.2)
    assert silent.failed is error.TimeoutError


@pytest.mark.parametrize("reads", [True, False])
def test_a_writer_is_paused_while_its_peer_does_not_read(reads: bool) -> None:
    network, _, _, near, far = make_stream()

    class Producer:
        events: list[str] = []

        def pauseProducing(self) -> None:
            self.events.append("pause")

        def resumeProducing(self) -> None:
            self.events.append("resume")

        def stopProducing(self) -> None:
            self.events.append("stop")

    Producer.events = []
    if not reads:
        far.transport.pauseProducing()
    near.transport.registerProducer(Producer(), True)
    near.transport.write(b"x" * 200_000)
    network.run(5)
    assert Producer.events == (["pause", "resume"] if reads else ["pause"])
    if not reads:
        assert far.data == b""
        far.transport.resumeProducing()
        network.run(5)
    assert len(far.data) == 200_000


def test_a_cut_delays_a_stream_and_in_the_end_breaks_it() -> None:
    network, a, b, near, far = make_stream()
    network.cut(a, b)
    near.transport.write(b"x")
    network.run(60)
    assert far.data == b""
    network.heal()
    network.run(11)
    assert far.data == b"x"
    network.cut(a, b)
    near.transport.write(b"y")
    network.run(1000)
    assert near.lost is error.TimeoutError
    assert far.lost is None


def test_a_killed_process_resets_its_streams_and_its_timers_never_fire() -> None:
    network, _, b, near, far = make_stream()
    fired: list[str] = []
    b.callLater(5, fired.append, "late")
    b.kill()
    network.run(10)
    assert (near.lost, far.lost, fired) == (ConnectionLost, None, [])
    b.listenTCP(5060, Server())


def test_a_powered_off_machine_says_nothing_until_it_is_back_and_then_resets() -> None:
    network, _, b, near, _ = make_stream()
    b.power_off()
    near.transport.write(b"x")
    network.run(30)
    assert near.lost is None
    b.power_on()
    network.run(30)
    assert near.lost is ConnectionLost


def test_a_paused_process_catches_up_when_it_goes_on() -> None:
    network, a, b = make_pair()
    sender, inbox = Inbox(a), Inbox(b)
    fired: list[float] = []
    b.callLater(1, lambda: fired.append(b.seconds()))
    b.pause()
    sender.port.write(b"x", ("192.0.2.2", 5060))
    network.run(30)
    assert (inbox.received, fired) == ([], [])
    b.resume()
    assert (len(inbox.received), fired) == (1, [30.0])


def test_calls_run_at_their_own_time_and_can_be_moved() -> None:
    network, a, _ = make_pair()
    ran: list[tuple[str, float]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: ran.append((name, a.seconds()))

    later = a.callLater(3, note("moved"))
    sooner = a.callLater(9, note("sooner"))
    a.callLater(1, note("cancelled")).cancel()
    a.callLater(2, lambda: a.callLater(0.5, note("nested")))
    later.reset(5)
    sooner.reset(4)
    network.run(10)
    assert ran == [("nested", 2.5), ("sooner", 4.0), ("moved", 5.0)]
    assert a.getDelayedCalls() == []


def test_work_for_threads_is_done_at_once_and_told_in_the_next_turn() -> None:
    network, a, _ = make_pair()
    told: list[object] = []

    def fail() -> None:
        raise ValueError("as the test asked")

    reactor: Any = a
    deferToThreadPool(reactor, reactor.getThreadPool(), lambda: 7).addCallback(told.append)
    deferToThreadPool(reactor, reactor.getThreadPool(), fail).addErrback(lambda failure: told.append(failure.type))
    assert told == []
    network.run(0)
    assert told == [7, ValueError]
