"""The UDP socket in the reactor, on a scripted socket; tests/live/test_sockets.py has a real one."""

from __future__ import annotations

import socket
import struct
from typing import Any, cast

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from farm.transport.datagrams import BATCH, Address, DatagramSocket, is_unreachable

Arrival = tuple[bytes, list[tuple[int, int, bytes]], int, Any]


def make_error(origin: int = 2, kind: int = 3, code: int = 3) -> bytes:
    """A sock_extended_err: port unreachable when nothing is said."""
    return struct.pack("=IBBBBII", 111, origin, kind, code, 0, 0, 0)


class ScriptedSocket:
    """Gives what is on its lists, then blocks."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.family = family
        self.options: list[tuple[int, int]] = []
        self.arrivals: list[Arrival | OSError] = []
        self.errors: list[Arrival] = []
        self.sent: list[tuple[Any, ...]] = []
        self.failures: list[OSError] = []
        self.closed = False

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option))

    def fileno(self) -> int:
        return -1 if self.closed else 7

    def close(self) -> None:
        self.closed = True

    def recvfrom_into(self, room: memoryview) -> tuple[int, Any]:
        data, _, _, address = self.recvmsg(len(room))
        room[: len(data)] = data
        return len(data), address

    def recvmsg(self, size: int, room: int = 0, flags: int = 0) -> Arrival:
        waiting: list[Any] = self.errors if flags == socket.MSG_ERRQUEUE else self.arrivals
        if not waiting:
            raise BlockingIOError
        if isinstance(waiting[0], OSError):
            raise waiting.pop(0)
        return cast(Arrival, waiting.pop(0))

    def sendto(self, *args: Any) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(args)

    def sendmsg(self, *args: Any) -> None:
        self.sendto(*args)


class User:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address, bytes]] = []
        self.refused: list[tuple[bytes, Address]] = []

    def receive(self, data: bytes, address: Address, local: bytes) -> None:
        self.received.append((data, address, local))

    def receive_unreachable(self, quoted: bytes, address: Address) -> None:
        self.refused.append((quoted, address))


class Reactor:
    """Counts who reads."""

    def __init__(self) -> None:
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.remove(reader)


def make_socket(
    *, tells_local: bool = False, family: socket.AddressFamily = socket.AF_INET
) -> tuple[DatagramSocket, ScriptedSocket, User, Reactor]:
    scripted, user, reactor = ScriptedSocket(family), User(), Reactor()
    datagrams = DatagramSocket(cast(socket.socket, scripted), user, tells_local=tells_local)
    datagrams.start(reactor)
    return datagrams, scripted, user, reactor


PEER = ("192.0.2.101", 5060)
PORT_UNREACHABLE: Arrival = (b"OPTIONS", [(socket.IPPROTO_IP, 11, make_error())], 0, PEER)


def test_all_that_waits_is_read_in_one_turn_but_no_more_than_a_batch() -> None:
    datagrams, scripted, user, _ = make_socket()
    scripted.arrivals += [(b"%d" % number, [], 0, PEER) for number in range(BATCH + 2)]
    datagrams.doRead()
    assert len(user.received) == BATCH
    datagrams.doRead()
    assert user.received[-1] == (b"%d" % (BATCH + 1), PEER, b"")


def test_ipv6_addresses_come_without_flow_and_scope() -> None:
    datagrams, scripted, user, _ = make_socket(family=socket.AF_INET6)
    scripted.arrivals.append((b"x", [], 0, ("2001:db8::1", 5060, 0, 0)))
    datagrams.doRead()
    assert user.received == [(b"x", ("2001:db8::1", 5060), b"")]


def test_the_address_that_was_asked_is_told_and_answered_from() -> None:
    datagrams, scripted, user, _ = make_socket(tells_local=True)
    local = socket.inet_aton("192.0.2.7")
    scripted.arrivals.append((b"x", [(socket.IPPROTO_IP, 8, struct.pack("=i4s4s", 2, local, b"\xe0\0\0\1"))], 0, PEER))
    scripted.arrivals.append((b"y", [], 0, PEER))
    datagrams.doRead()
    assert user.received == [(b"x", PEER, local), (b"y", PEER, b"")]
    datagrams.send(b"answer", PEER, datagrams.make_control(local))
    control = (socket.IPPROTO_IP, 8, b"\0\0\0\0" + local + local)
    assert scripted.sent == [((b"answer",), (control,), 0, PEER)]


def test_the_same_over_ipv6() -> None:
    datagrams, scripted, user, _ = make_socket(tells_local=True, family=socket.AF_INET6)
    local = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    address = ("2001:db8::9", 5060, 0, 0)
    scripted.arrivals.append((b"x", [(socket.IPPROTO_IPV6, 50, local + b"\2\0\0\0")], 0, address))
    datagrams.doRead()
    assert user.received == [(b"x", address[:2], local)]
    assert datagrams.make_control(local) == (socket.IPPROTO_IPV6, 50, local + bytes(4))


def test_an_icmp_error_before_a_datagram_is_told_and_the_datagram_comes() -> None:
    datagrams, scripted, user, _ = make_socket()
    scripted.arrivals += [ConnectionRefusedError(), (b"x", [], 0, PEER)]
    scripted.errors.append(PORT_UNREACHABLE)
    datagrams.doRead()
    datagrams.doRead()
    assert user.refused == [(b"OPTIONS", PEER)]
    assert [data for data, _, _ in user.received] == [b"x"]


def test_an_icmp_error_alone_is_read_and_the_socket_stays_in_the_reactor() -> None:
    datagrams, scripted, user, reactor = make_socket()
    scripted.errors.append(PORT_UNREACHABLE)
    reactor.removeReader(datagrams)  # as the reactor does before it says so
    datagrams.connectionLost(Failure(ConnectionDone()))
    assert user.refused == [(b"OPTIONS", PEER)]
    assert reactor.readers == [datagrams]


@pytest.mark.parametrize("error", [ConnectionRefusedError(), OSError(113, "No route to host")])
def test_a_send_that_hears_of_an_earlier_datagrams_error_goes_out_all_the_same(error: OSError) -> None:
    datagrams, scripted, user, _ = make_socket()
    for send in (
        lambda: datagrams.send(b"x", PEER),
        lambda: datagrams.send(b"x", PEER, datagrams.make_control(bytes(4))),
    ):
        scripted.sent.clear()
        scripted.failures.append(error)
        scripted.errors.append(PORT_UNREACHABLE)
        send()
        assert len(scripted.sent) == 1
    assert len(user.refused) == 2


class Echo(User):
    """Answers all it hears at once."""

    def __init__(self, scripted: ScriptedSocket) -> None:
        super().__init__()
        self.datagrams: DatagramSocket
        self._scripted = scripted
        self.sent_meanwhile = 0
        self.stops = False

    def receive(self, data: bytes, address: Address, local: bytes) -> None:
        super().receive(data, address, local)
        self.datagrams.send(data.upper(), address)
        self.sent_meanwhile += len(self._scripted.sent)
        if self.stops:
            self.datagrams.stop()


def make_echo() -> tuple[DatagramSocket, ScriptedSocket, Echo]:
    scripted = ScriptedSocket(socket.AF_INET)
    echo = Echo(scripted)
    echo.datagrams = DatagramSocket(cast(socket.socket, scripted), echo, tells_local=False)
    echo.datagrams.start(Reactor())
    return echo.datagrams, scripted, echo


def test_answers_leave_in_order_once_all_that_waits_has_been_read() -> None:
    datagrams, scripted, echo = make_echo()
    scripted.arrivals += [(b"a", [], 0, PEER), (b"b", [], 0, PEER)]
    datagrams.doRead()
    assert scripted.sent == [(b"A", PEER), (b"B", PEER)]
    assert echo.sent_meanwhile == 0
    datagrams.send(b"later", PEER)
    assert scripted.sent[-1] == (b"later", PEER), "outside of a turn nothing waits"


def test_an_answer_that_the_network_refuses_after_the_turn_is_told_and_the_others_leave() -> None:
    datagrams, scripted, echo = make_echo()
    scripted.arrivals += [(b"a", [], 0, PEER), (b"b", [], 0, PEER)]
    scripted.failures.append(OSError(101, "Network is unreachable"))
    datagrams.doRead()
    assert echo.refused == [(b"A", PEER)]
    assert scripted.sent == [(b"B", PEER)]


def test_a_socket_that_is_closed_by_what_came_sends_nothing_more() -> None:
    datagrams, scripted, echo = make_echo()
    scripted.arrivals.append((b"a", [], 0, PEER))
    echo.stops = True
    datagrams.doRead()
    assert echo.received == [(b"a", PEER, b"")]
    assert scripted.sent == []


def test_a_send_that_fails_by_itself_raises() -> None:
    datagrams, scripted, _, _ = make_socket()
    scripted.failures.append(OSError(101, "Network is unreachable"))
    with pytest.raises(OSError, match="unreachable"):
        datagrams.send(b"x", PEER)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (make_error(2, 3, 0), True),  # network
        (make_error(2, 3, 1), True),  # host
        (make_error(2, 3, 3), True),  # port
        (make_error(2, 3, 4), False),  # fragmentation needed
        (make_error(2, 11, 0), False),  # TTL exceeded: §18.4 ignores it
        (make_error(2, 4, 0), False),  # source quench: likewise
        (make_error(3, 1, 4), True),  # ICMPv6, port
        (make_error(3, 2, 0), False),  # ICMPv6, packet too big
        (make_error(1, 3, 3), False),  # of our own machine
        (b"", False),
    ],
)
def test_which_icmp_errors_count(error: bytes, expected: bool) -> None:
    assert is_unreachable(error) is expected


def test_stop_leaves_the_reactor_and_closes_once() -> None:
    datagrams, scripted, _, reactor = make_socket()
    datagrams.stop()
    datagrams.stop()
    datagrams.connectionLost(Failure(ConnectionDone()))
    assert (reactor.readers, scripted.closed, datagrams.fileno()) == ([], True, -1)
