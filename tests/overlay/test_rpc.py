"""Nodes that dial each other over the in-memory network with real TLS: which links there are, and who gets none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.protocol import ClientFactory, Protocol

from farm.deadlines import Deadlines
from farm.logs import Rejections
from farm.metrics import Metrics
from farm.overlay import rpc as rpc_module
from farm.overlay.admission import SOURCE_BURST
from farm.overlay.rpc import Rpc
from farm.overlay.wire import Codec, Contact, Hello
from farm.security.identity import Identity
from tests.support.certificates import (
    EXPIRED,
    NOON,
    OVERLAY,
    make_certificate,
    make_identity,
    make_node_key,
    make_signer,
    node_id,
    uri_of,
    write_identity,
)
from tests.support.network import Network

PORT = 7400


class Node:
    """A host with an Rpc; it is its user, too, and writes down what it is told."""

    def __init__(self, network: Network, number: int, directory: Path) -> None:
        self.number = number
        self.id = node_id(number)
        self.address = f"10.0.0.{number}"
        self.network = network
        self.host = network.add_host(self.address, f"10.0.1.{number}")
        self.identity = make_identity(directory, number)
        self.events: list[str] = []
        self.frames: list[tuple[int, bytes]] = []
        self.refuse = ""
        self.verdict: Callable[[], str] = lambda: ""
        self.incarnation = 1
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        self.metrics = Metrics()
        self.deadlines = Deadlines(self._wake)
        rejections = Rejections(
            self.metrics.peer_rejections, lambda level, text, fields: self.lines.append(str(fields["reason"])), 1
        )
        times = (self.deadlines, self.clock, self.wall)
        self.rpc = Rpc(self.host, self.identity, Codec(), *times, self.metrics, rejections, user=self)
        self.rpc.listen("0.0.0.0", PORT)

    def _wake(self, at: float) -> None:
        self.host.callLater(max(0.0, at - self.clock()), self._run_due)

    def _run_due(self) -> None:
        self.deadlines.run_due(self.clock())
        following = self.deadlines.next_at()
        if following is not None:
            self._wake(following)

    def clock(self) -> float:
        return self.network.clock.rightNow

    def wall(self) -> float:
        return NOON + self.clock()

    @property
    def contact(self) -> Contact:
        return Contact(self.id, self.address, PORT, self.incarnation, zone="east")

    def make_hello(self) -> Hello:
        return Hello(OVERLAY, self.contact, 1, 1, int(self.wall() * 1000))

    def link_opened(self, hello: Hello, dialled: bool, now: float) -> str:
        self.events.append(f"opened {hello.contact.node[0]} {'out' if dialled else 'in'}")
        return self.refuse

    def link_closed(self, node: bytes, reason: str, now: float) -> None:
        self.events.append(f"closed {node[0]} {reason}")

    def link_failed(self, host: str, port: int, reason: str, now: float) -> None:
        self.events.append(f"failed {host} {reason}")

    def receive_frame(self, node: bytes, frame: bytes, now: float) -> str:
        self.frames.append((node[0], frame))
        return self.verdict()

    def send(self, other: Node, content: bytes) -> bool:
        return self.rpc.send(other.id, len(content).to_bytes(4, "big") + content)

    def rejected(self, reason: str) -> float:
        return float(self.metrics.peer_rejections.child(reason)._value.get())

    @property
    def links(self) -> float:
        return float(self.metrics.links.child()._value.get())


@pytest.fixture
def network() -> Network:
    return Network(seed=5)


@pytest.fixture
def nodes(network: Network, tmp_path: Path) -> Iterator[list[Node]]:
    nodes = [Node(network, number, tmp_path) for number in (1, 2, 3)]
    yield nodes
    for node in nodes:
        assert node.metrics.unexpected_errors.child("overlay")._value.get() == 0


def test_a_node_that_is_dialled_and_the_one_that_dials_get_one_link(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    one.rpc.connect(two.contact)
    one.rpc.connect(two.contact)
    network.run(1.0)
    assert one.events == ["opened 2 out"]
    assert two.events == ["opened 1 in"]
    assert (one.links, two.links) == (1, 1)
    assert one.send(two, b"hello")
    assert two.send(one, b"and you")
    network.run(1.0)
    assert (one.frames, two.frames) == ([(2, b"and you")], [(1, b"hello")])
    one.rpc.connect(two.contact)
    network.run(1.0)
    assert len(one.events) == 1
    assert one.metrics.links_opened.child("out")._value.get() == two.metrics.links_opened.child("in")._value.get() == 1


def test_a_seed_is_dialled_by_its_address_and_not_again_while_it_is_linked(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    one.rpc.connect_address(two.address, PORT)
    one.rpc.connect_address(two.address, PORT)
    network.run(1.0)
    one.rpc.connect_address(two.address, PORT)
    network.run(1.0)
    assert one.events == ["opened 2 out"]
    assert two.events == ["opened 1 in"]


def test_a_seed_that_turns_out_to_be_linked_under_another_address_says_so(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    one.rpc.connect(two.contact)
    network.run(1.0)
    one.rpc.connect_address("10.0.1.2", PORT)
    network.run(1.0)
    assert one.events == ["opened 2 out", "failed 10.0.1.2 linked"]
    assert sum(child._value.get() for _, child in one.metrics.peer_rejections) == 0
    assert sum(child._value.get() for _, child in two.metrics.peer_rejections) == 0


@pytest.mark.parametrize("ahead", [-0.025, 0.0, 0.025])
def test_of_two_dials_at_once_that_of_the_smaller_node_stays_and_no_frame_is_lost(
    network: Network, nodes: list[Node], ahead: float
) -> None:
    one, two, _ = nodes
    network.set_path(one.host, two.host, delay=0.03)
    network.set_path(two.host, one.host, delay=0.005)
    one.host.callLater(max(0.0, -ahead), one.rpc.connect, two.contact)
    two.host.callLater(max(0.0, ahead), two.rpc.connect, one.contact)
    sent = 0
    for _ in range(400):
        network.run(0.001)
        for node, other in ((one, two), (two, one)):
            if node.send(other, b"%d" % sent):
                sent += 1
    network.run(2.0)
    assert sent > 500
    assert len(one.frames) + len(two.frames) == sent
    assert [event for node in nodes for event in node.events if event.startswith(("closed", "failed"))] == []
    assert one.rpc._links[two.id].dialled
    assert not two.rpc._links[one.id].dialled
    assert len(one.rpc._all) == len(two.rpc._all) == 1


@pytest.mark.parametrize("first", [0, 1])
def test_a_node_that_dials_back_proves_the_way_and_one_link_remains(
    network: Network, nodes: list[Node], first: int
) -> None:
    one, two = nodes[first], nodes[1 - first]
    one.rpc.connect(two.contact)
    network.run(1.0)
    two.rpc.connect(one.contact)
    network.run(10.0)
    assert f"opened {one.number} out" in two.events
    assert [event for event in one.events + two.events if "closed" in event] == []
    assert len(one.rpc._all) == len(two.rpc._all) == 1
    assert nodes[0].rpc._links[nodes[1].id].dialled
    assert one.send(two, b"x")
    network.run(0.1)
    assert two.frames == [(one.number, b"x")]


def test_a_node_that_dials_long_after_has_no_link_so_its_new_one_replaces_the_old(
    network: Network, nodes: list[Node]
) -> None:
    one, two, _ = nodes
    one.rpc.connect(two.contact)
    network.run(60.0)
    two.host.power_off()
    network.run(1.0)
    two.host.power_on()
    two.events.clear()
    two.start()
    two.rpc.connect(one.contact)
    network.run(1.0)
    assert one.send(two, b"x")
    network.run(10.0)
    assert one.events == ["opened 2 out", "opened 2 in"]
    assert two.events == ["opened 1 out"]
    assert two.frames == [(1, b"x")]
    assert len(one.rpc._all) == 1


def test_a_dial_that_comes_to_nothing_says_why(network: Network, nodes: list[Node]) -> None:
    one, two, three = nodes
    one.rpc.connect(Contact(node_id(9), two.address, 7999))
    one.rpc.connect(Contact(node_id(8), two.address, PORT))
    one.rpc.connect_address(one.address, PORT)
    network.cut(one.host, three.host)
    one.rpc.connect(three.contact)
    network.run(10.0)
    assert sorted(one.events) == [
        "failed 10.0.0.1 same-node-id",
        "failed 10.0.0.2 node-id-mismatch",
        "failed 10.0.0.2 refused",
        "failed 10.0.0.3 timeout",
    ]
    network.heal()
    one.events.clear()
    one.rpc.connect(three.contact)
    network.run(1.0)
    assert one.events == ["opened 3 out"]


def test_the_user_may_refuse_a_link(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    two.refuse = "denied"
    one.rpc.connect(two.contact)
    network.run(1.0)
    assert two.events == ["opened 1 in"]
    assert one.events == ["opened 2 out", "closed 2 peer"]
    assert two.rejected("denied") == 1
    assert (one.rpc.nodes, two.rpc.nodes) == ([], [])


def test_a_frame_that_the_user_refuses_closes_the_link(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    one.rpc.connect(two.contact)
    network.run(1.0)
    two.verdict = lambda: "bad-frame"
    one.send(two, b"x")
    network.run(1.0)
    assert two.events == ["opened 1 in", "closed 1 bad-frame"]
    assert one.events == ["opened 2 out", "closed 2 peer"]
    assert two.rejected("bad-frame") == 1
    assert (one.links, two.links) == (0, 0)


def test_links_of_a_node_denied_from_now_on_close_at_once(network: Network, nodes: list[Node]) -> None:
    one, two, three = nodes
    two.rpc.connect(one.contact)
    three.rpc.connect(one.contact)
    network.run(1.0)
    one.rpc.close_denied([two.id])
    network.run(1.0)
    assert one.events[2:] == ["closed 2 denied"]
    assert one.rpc.nodes == [three.id]
    assert one.rejected("denied") == 1


def test_a_link_ends_when_the_certificate_of_its_peer_does(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    one.rpc.connect(two.contact)
    network.run(1.0)
    (link,) = one.rpc._all
    assert link.peer is not None
    deadline = one.rpc._all[link]
    assert deadline is not None
    assert deadline.at == pytest.approx(link.peer.not_after - NOON, abs=1.0)
    one.rpc._expire(link, one.clock())
    network.run(1.0)
    assert one.events[1:] == ["closed 2 expired"]
    assert deadline.action is None


def test_a_killed_node_closes_its_links_everywhere(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    one.rpc.connect(two.contact)
    network.run(1.0)
    two.host.kill()
    network.run(1.0)
    assert one.events == ["opened 2 out", "closed 2 lost"]
    assert not one.rpc.is_open(two.id)


def test_stopping_writes_what_is_left_and_closes_all(network: Network, nodes: list[Node]) -> None:
    one, two, three = nodes
    one.rpc.connect(two.contact)
    network.run(1.0)
    one.rpc.connect(three.contact)
    one.send(two, b"last words")
    gone: list[Any] = []
    one.rpc.stop().addCallback(gone.append)
    assert gone == []
    network.run(2.0)
    assert gone == [None]
    assert two.frames == [(1, b"last words")]
    assert two.events == ["opened 1 in", "closed 1 peer"]
    one.rpc.connect(two.contact)
    two.rpc.connect(one.contact)
    network.run(1.0)
    assert two.events[2:] == ["failed 10.0.0.1 refused"]
    assert len(one.rpc._all) == 0


# Strangers


class Stranger(Protocol):
    """Speaks what it is told over plain TCP, or over a TLS connection of its own."""

    transport: Any

    def __init__(self, tls: SSL.Connection | None = None, first: bytes = b"") -> None:
        self.tls = tls
        self.first = first
        self.closed = False
        self.heard = b""

    def connectionMade(self) -> None:
        if self.tls is None:
            self.transport.write(self.first)
        else:
            self.step()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.tls is not None:
            self.tls.bio_write(data)
            self.step()

    def step(self) -> None:
        assert self.tls is not None
        try:
            self.tls.do_handshake()
            if self.first:
                self.tls.sendall(self.first)
                self.first = b""
            self.tls.recv(4096)
        except SSL.Error:
            pass
        try:
            while True:
                self.transport.write(self.tls.bio_read(65536))
        except SSL.Error:
            pass

    def connectionLost(self, reason: object = None) -> None:
        self.closed = True


def visit(network: Network, node: Node, stranger: Stranger) -> Stranger:
    factory = ClientFactory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: stranger  # type: ignore[method-assign]
    host = network.find_host(node.host, "10.9.9.9") or network.add_host("10.9.9.9")
    host.connectTCP(node.address, PORT, factory)
    return stranger


def make_tls(certificate: x509.Certificate | None, number: int = 2) -> SSL.Connection:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_alpn_protos([b"sipfarm/1"])
    if certificate is not None:
        context.use_certificate(certificate)
        context.use_privatekey(make_node_key(f"n{number}"))
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    return connection


CERTIFICATES: dict[str, Callable[[], x509.Certificate | None]] = {
    "no-certificate": lambda: None,
    "wrong-ca": lambda: make_certificate(2, signer=make_signer("theirs")),
    "expired": lambda: make_certificate(2, validity=EXPIRED),
    "wrong-overlay": lambda: make_certificate(2, names=(uri_of(2, "other.example"),)),
}


@pytest.mark.parametrize("reason", CERTIFICATES)
def test_a_stranger_with_the_wrong_certificate_is_refused_and_counted(
    network: Network, nodes: list[Node], reason: str
) -> None:
    one = nodes[0]
    stranger = visit(network, one, Stranger(make_tls(CERTIFICATES[reason]())))
    network.run(2.0)
    assert one.rejected(reason) == 1
    assert one.lines == [reason]
    assert stranger.closed
    assert one.events == []
    assert len(one.rpc._all) == 0


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", bytes(70_000), b"OPTIONS sip:x SIP/2.0\r\n\r\n"])
def test_garbage_is_refused_at_once_and_leaves_nothing_behind(
    network: Network, nodes: list[Node], first: bytes
) -> None:
    one = nodes[0]
    strangers = [visit(network, one, Stranger(first=first)) for _ in range(20)]
    network.run(1.0)
    assert one.rejected("handshake") + one.rejected("version") == 20
    assert len(one.lines) == 1
    assert all(stranger.closed for stranger in strangers)
    assert len(one.rpc._all) == one.rpc._accepted == len(one.rpc._strangers) == len(one.deadlines) == 0


def test_who_says_nothing_or_no_hello_is_gone_after_its_time(network: Network, nodes: list[Node]) -> None:
    one = nodes[0]
    silent = visit(network, one, Stranger())
    mute = visit(network, one, Stranger(make_tls(make_certificate(2))))
    loud = visit(network, one, Stranger(make_tls(make_certificate(2)), b"\x00\x04\x00\x00"))
    wrong = visit(network, one, Stranger(make_tls(make_certificate(2)), b"\x00\x00\x00\x01\xc0"))
    network.run(12.0)
    assert all(stranger.closed for stranger in (silent, mute, loud, wrong))
    assert one.rejected("handshake-timeout") == 1
    assert one.rejected("no-hello") == 3
    assert one.events == []
    assert len(one.rpc._all) == 0


def test_strangers_have_two_hundred_places_and_the_oldest_makes_room(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    strangers = [visit(network, one, Stranger()) for _ in range(rpc_module.MOST_STRANGERS + 5)]
    network.run(1.0)
    assert one.rejected("too-many-links") == 5
    assert [stranger.closed for stranger in strangers].count(True) == 5
    two.rpc.connect(one.contact)
    network.run(1.0)
    assert two.events == ["opened 1 out"]


def test_a_flood_from_one_address_is_turned_away_before_any_cryptography(network: Network, nodes: list[Node]) -> None:
    one, two, _ = nodes
    made: list[bool] = []
    make_connection = one.identity.make_connection

    def make(server: bool) -> SSL.Connection:
        made.append(server)
        return make_connection(server)

    one.identity.make_connection = make  # type: ignore[method-assign]
    for _ in range(SOURCE_BURST + 50):
        visit(network, one, Stranger())
    network.run(0.5)
    assert one.rejected("rate") == 50
    assert len(made) == SOURCE_BURST
    two.rpc.connect(one.contact)
    network.run(1.0)
    assert two.events == ["opened 1 out"]
    visit(network, one, Stranger())
    network.run(0.5)
    assert one.rejected("rate") == 50  # it is a second later
    assert list(one.rpc._admission._known) == [two.address]


def test_the_number_of_accepted_links_is_limited(
    network: Network, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = nodes
    monkeypatch.setattr(rpc_module, "MOST_LINKS", 1)
    two.rpc.connect(one.contact)
    network.run(1.0)
    three.rpc.connect(one.contact)
    network.run(1.0)
    assert three.events == ["failed 10.0.0.1 lost"]
    assert one.rejected("too-many-links") == 1
    two.rpc.close(one.id, "done")
    network.run(1.0)
    three.rpc.connect(one.contact)
    network.run(1.0)
    assert one.rpc.nodes == [three.id]


def test_a_certificate_that_was_renewed_serves_new_links_and_old_ones_stay(
    network: Network, nodes: list[Node], tmp_path: Path
) -> None:
    one, two, three = nodes
    two.rpc.connect(one.contact)
    network.run(1.0)
    renewed = make_certificate(1, validity=("2020-01-01", "2100-01-01"))
    write_identity(tmp_path / "n1", 1, certificate=renewed)
    assert one.identity.reload(one.wall())
    three.rpc.connect(one.contact)
    network.run(1.0)
    old, new = two.rpc._links[one.id].peer, three.rpc._links[one.id].peer
    assert old is not None
    assert new is not None
    assert new.not_after < old.not_after
    assert one.events == ["opened 2 in", "opened 3 in"]


def test_a_user_that_raises_closes_one_link_and_is_counted(network: Network, tmp_path: Path) -> None:
    one, two = Node(network, 1, tmp_path), Node(network, 2, tmp_path)

    def verdict() -> str:
        raise ZeroDivisionError

    one.verdict = verdict
    two.rpc.connect(one.contact)
    network.run(1.0)
    two.send(one, b"x")
    network.run(1.0)
    assert one.events == ["opened 2 in", "closed 2 other"]
    assert one.metrics.unexpected_errors.child("overlay")._value.get() == 1


def test_the_identity_of_the_farm_satisfies_the_port(tmp_path: Path) -> None:
    identity: rpc_module.Identity = make_identity(tmp_path)
    assert isinstance(identity, Identity)
