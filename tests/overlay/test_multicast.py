"""Asking the local link for other nodes: what is sent, what is answered, and what is refused. No socket is opened."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from farm.metrics import Metrics
from farm.overlay.multicast import ANSWER_SECONDS, GROUP, GROUP_6, MOST_BYTES, PORT, RATE, Multicast
from tests.support.counts import read

OWN = ("10.0.0.1", 7400)


class Handle:
    """A socket's options."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int]] = []

    def setsockopt(self, level: int, option: int, value: object) -> None:
        self.options.append((level, option))


class Listener:
    """A port; what it sends goes to everybody on the link, itself included."""

    def __init__(self, link: Link) -> None:
        self.handle = Handle()
        self.link = link
        self.stopped = False
        self.broken = False

    def getHandle(self) -> Handle:
        return self.handle

    def write(self, datagram: bytes, target: tuple[str, int]) -> None:
        if self.broken:
            raise OSError(101, "Network is unreachable")
        self.link.sent.append((datagram, target))
        for node in list(self.link.nodes):
            node.datagramReceived(datagram, ("10.0.0.99", 7400))

    def stopListening(self) -> None:
        self.stopped = True


class Link(Clock):
    """A reactor with a link of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.nodes: list[Multicast] = []
        self.listeners: list[Listener] = []
        self.interfaces: list[str] = []
        self.fails = False

    def listenMulticast(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192, listenMultiple: bool = False
    ) -> Listener:
        if self.fails:
            raise CannotListenError(interface, port, OSError(98, "in use"))
        assert listenMultiple
        assert port == PORT
        self.interfaces.append(interface)
        self.nodes.append(protocol)
        self.listeners.append(Listener(self))
        return self.listeners[-1]


class Node:
    """A node on a link, with whom it heard."""

    def __init__(self, link: Link, own: tuple[str, int] = OWN, overlay: str = "farm.example.com") -> None:
        self.heard: list[tuple[str, int, float]] = []
        self.metrics = Metrics()
        self.inside = Multicast(
            link, overlay, own, own[0], self._hear, self.metrics, link.seconds, random.Random(own[0])
        )
        self.inside.start()

    def _hear(self, host: str, port: int, now: float) -> None:
        self.heard.append((host, port, now))

    def refused(self, reason: str) -> float:
        return read(self.metrics.peer_rejections.child(reason))


@pytest.fixture
def link() -> Link:
    return Link()


def line(word: str = "here", overlay: str = "farm.example.com", host: str = "10.0.0.2", port: object = 7400) -> bytes:
    return f"sipfarm/1 {word} {overlay} {host} {port}\n".encode()


def test_two_nodes_on_a_link_find_each_other_when_one_asks(link: Link) -> None:
    first, second = Node(link), Node(link, ("10.0.0.2", 7401))
    first.inside.ask()
    assert link.sent == [(line("who", host="10.0.0.1"), (GROUP, PORT))]
    assert second.heard == [("10.0.0.1", 7400, 0.0)]
    assert first.heard == []
    link.advance(ANSWER_SECONDS)
    assert link.sent[1:] == [(line("here", port=7401), (GROUP, PORT))]
    assert first.heard == [("10.0.0.2", 7401, ANSWER_SECONDS)]
    link.advance(100.0)
    assert len(link.sent) == 2, "answers must not be answered"


def test_the_group_is_joined_at_the_overlays_own_interface_and_left_behind_no_router(link: Link) -> None:
    Node(link)
    assert link.interfaces == [""]
    assert link.listeners[0].handle.options == [
        (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP),
        (socket.IPPROTO_IP, socket.IP_MULTICAST_IF),
        (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL),
    ]


def test_a_node_with_an_ipv6_address_asks_the_group_of_ipv6(link: Link) -> None:
    node = Node(link, ("2001:db8::1", 7400))
    assert link.interfaces == ["::"]
    assert (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP) in link.listeners[0].handle.options
    node.inside.ask()
    assert link.sent == [(line("who", host="2001:db8::1"), (GROUP_6, PORT))]


def test_in_a_large_farm_a_few_answer_and_the_rest_stay_silent(link: Link) -> None:
    nodes = [Node(link, (f"10.0.1.{number}", 7400)) for number in range(1, 31)]
    nodes[0].inside.ask()
    for _ in range(100):
        link.advance(0.01)
    assert 3 <= len(link.sent) - 1 <= 4


def test_many_questions_at_once_get_one_answer(link: Link) -> None:
    node = Node(link)
    for _ in range(10):
        node.inside.datagramReceived(line("who"), ("10.0.0.2", 7400))
    link.advance(1.0)
    assert len(link.sent) == 1


def test_nodes_of_another_overlay_on_the_same_link_are_counted_and_left_alone(link: Link) -> None:
    node = Node(link)
    Node(link, ("10.0.0.2", 7400), "other.example.com").inside.ask()
    link.advance(1.0)
    assert node.heard == []
    assert node.refused("wrong-overlay") == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00\xff",
        line()[:-1],
        line() + b"x",
        line(word="gone"),
        line(host="n2.example.com"),
        line(host="224.0.0.1"),
        line(host="0.0.0.0"),
        line(host="127.0.0.1"),
        line(host="::1"),
        line(host="1.2.3"),
        line(port=0),
        line(port=65_536),
        line(port=-1),
        line(overlay="a b"),
        line(overlay="x" * MOST_BYTES),
        line().replace(b"sipfarm/1", b"sipfarm/2"),
    ],
)
def test_garbage_is_counted_and_heard_by_nobody(link: Link, garbage: bytes) -> None:
    node = Node(link)
    node.inside.datagramReceived(garbage, ("10.0.0.2", 7400))
    assert node.heard == []
    assert node.refused("bad-message") == 1
    link.advance(1.0)
    assert link.sent == []


def test_a_node_on_loopback_finds_others_on_loopback(link: Link) -> None:
    node = Node(link, ("127.0.0.11", 7400))
    node.inside.datagramReceived(line(host="127.0.0.12"), ("127.0.0.12", 7400))
    assert node.heard == [("127.0.0.12", 7400, 0.0)]


def test_beyond_a_rate_nothing_is_read_until_the_next_second(link: Link) -> None:
    node = Node(link)
    for _ in range(RATE + 5):
        node.inside.datagramReceived(line(), ("10.0.0.2", 7400))
    assert len(node.heard) == RATE
    assert node.refused("rate") == 5
    link.advance(1.0)
    node.inside.datagramReceived(line(), ("10.0.0.2", 7400))
    assert len(node.heard) == RATE + 1


def test_a_machine_without_multicast_says_so_and_goes_on(link: Link) -> None:
    link.fails = True
    node = Node(link)
    assert node.inside.problem.startswith("no multicast on this machine: ")
    node.inside.ask()
    node.inside.stop()


def test_a_link_that_is_down_is_a_problem_until_it_is_up(link: Link) -> None:
    node = Node(link)
    link.listeners[0].broken = True
    node.inside.ask()
    assert node.inside.problem == "the local link cannot be asked: Network is unreachable"
    link.listeners[0].broken = False
    node.inside.ask()
    assert node.inside.problem == ""


def test_after_the_stop_nothing_is_sent(link: Link) -> None:
    node = Node(link)
    node.inside.datagramReceived(line("who"), ("10.0.0.2", 7400))
    node.inside.stop()
    assert link.getDelayedCalls() == []
    link.advance(1.0)
    node.inside.ask()
    assert link.sent == []
    assert link.listeners[0].stopped


def test_a_fault_of_a_neighbour_is_counted_and_stays_inside(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(link)
    monkeypatch.setattr(node.inside, "_heard", lambda *_: 1 / 0)
    node.inside.datagramReceived(line(), ("10.0.0.2", 7400))
    assert read(node.metrics.unexpected_errors.child("overlay")) == 1
