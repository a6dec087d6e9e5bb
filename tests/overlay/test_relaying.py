"""Relays: what leaves at once, what waits for a link and how long, whom a node takes them from."""

from __future__ import annotations

import pytest

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.relaying import (
    MOST_DATA_BYTES,
    MOST_HEAD_BYTES,
    MOST_WAITING_BYTES,
    MOST_WAITING_NODES,
    WAIT_SECONDS,
    Relaying,
)
from farm.overlay.wire import ALIVE, DEAD, EDGE, JOINING, LEFT, STORES, SUSPECT, Contact, Relay

NODE = b"b" * 32
BYE = Relay(1, b"head", b"BYE")


class Desk:
    """A `Relaying` and all its neighbours: what they were told, in order."""

    def __init__(self, *, edge: bool = True) -> None:
        self.now = 100.0
        self.linked: set[bytes] = set()
        self.contacts = {NODE: Contact(NODE, "10.0.0.2", 7400, state=ALIVE, version=2)}
        self.events: list[str] = []
        self.deadlines = Deadlines()
        self.metrics = Metrics()
        self.relaying = Relaying(self, self, self.contacts.get, self.deadlines, self.metrics, edge=edge)
        self.relaying.user = self

    def tell(self, node: bytes, message: Relay, now: float) -> None:
        self.events.append(f"told {message.data.decode()}")

    def connect(self, contact: Contact) -> None:
        self.events.append(f"dialled {contact.host}")

    def is_open(self, node: bytes) -> bool:
        return node in self.linked

    def receive_relay(self, node: bytes, relay: Relay, now: float) -> None:
        self.events.append(f"received {relay.data.decode()}")

    def receive_relay_failure(self, node: bytes, relay: Relay, now: float) -> None:
        self.events.append(f"failed {relay.data.decode()} at {now:g}")

    def receive_link_end(self, node: bytes, now: float) -> None:
        self.events.append("unlinked")

    def send(self, relay: Relay = BYE, node: bytes = NODE) -> bool:
        return self.relaying.send(node, relay, self.now)

    def change(self, state: int, version: int = 2) -> None:
        self.contacts[NODE] = Contact(NODE, "10.0.0.2", 7400, state=state, version=version)

    def rejected(self, reason: str) -> float:
        return float(self.metrics.peer_rejections.child(reason)._value.get())

    def take(self) -> list[str]:
        events, self.events = self.events, []
        return events


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("state", [JOINING, ALIVE, SUSPECT, LEFT])
def test_over_a_link_it_leaves_at_once(desk: Desk, state: int) -> None:
    """A node that has left still has the connections of those who call, as long as its link is open."""
    desk.linked.add(NODE)
    desk.change(state)
    assert desk.send()
    assert desk.relaying.has_link(NODE)
    assert desk.take() == ["told BYE"]


def test_a_node_without_a_link_is_dialled_and_gets_all_that_waited_in_order(desk: Desk) -> None:
    assert desk.send()
    assert desk.send(Relay(1, b"", b"ACK"))
    assert desk.take() == ["dialled 10.0.0.2"]
    desk.linked.add(NODE)
    desk.relaying.link_opened(NODE, 100.2)
    assert desk.take() == ["told BYE", "told ACK"]
    desk.deadlines.run_due(200.0)
    desk.relaying.link_opened(NODE, 300.0)
    assert desk.take() == []


def test_without_a_link_in_time_it_fails(desk: Desk) -> None:
    assert desk.send()
    desk.deadlines.run_due(100.0 + WAIT_SECONDS - 0.01)
    assert desk.take() == ["dialled 10.0.0.2"]
    desk.deadlines.run_due(100.0 + WAIT_SECONDS)
    assert desk.take() == ["failed BYE at 101"]
    assert desk.send()
    assert desk.take() == ["dialled 10.0.0.2"]


def test_when_the_dial_is_refused_it_fails_at_once(desk: Desk) -> None:
    desk.send()
    desk.take()
    desk.relaying.link_failed("10.0.0.3", 7400, 100.1)
    assert desk.take() == []
    desk.relaying.link_failed("10.0.0.2", 7400, 100.1)
    assert desk.take() == ["failed BYE at 100.1"]
    desk.now = 100.5
    desk.send()
    desk.deadlines.run_due(101.4)
    assert desk.take() == ["dialled 10.0.0.2"], "its time begins anew"


@pytest.mark.parametrize(("state", "version"), [(DEAD, 2), (LEFT, 2), (ALIVE, 1)])
def test_nothing_is_sent_to_a_node_that_is_gone_or_too_old(desk: Desk, state: int, version: int) -> None:
    desk.change(state, version)
    assert not desk.send()
    assert desk.take() == []


def test_nothing_is_sent_to_a_stranger_or_an_old_node_even_over_a_link(desk: Desk) -> None:
    desk.linked |= {NODE, b"s" * 32}
    desk.change(ALIVE, 1)
    assert not desk.send()
    assert not desk.send(node=b"s" * 32)
    assert desk.take() == []


@pytest.mark.parametrize(
    ("relay", "sent"),
    [
        (Relay(1, b"", b"x" * MOST_DATA_BYTES), True),
        (Relay(1, b"", b"x" * (MOST_DATA_BYTES + 1)), False),
        (Relay(1, b"x" * MOST_HEAD_BYTES, b""), True),
        (Relay(1, b"x" * (MOST_HEAD_BYTES + 1), b""), False),
    ],
)
def test_what_is_too_long_is_neither_sent_nor_taken(desk: Desk, relay: Relay, sent: bool) -> None:
    desk.linked.add(NODE)
    assert desk.send(relay) is sent
    desk.take()
    desk.relaying.receive(NODE, relay, EDGE, 100.0)
    assert bool(desk.take()) is sent
    assert desk.rejected("bad-message") == (not sent)


def test_so_much_waits_for_one_node_and_no_more(desk: Desk) -> None:
    piece = Relay(1, b"", b"x" * 65_535)
    sent = [desk.send(piece) for _ in range(6)]
    assert sent == [True] * (MOST_WAITING_BYTES // 65_535) + [False] * 2


def test_so_many_nodes_are_waited_for_and_no_more(desk: Desk) -> None:
    for number in range(MOST_WAITING_NODES + 1):
        node = bytes((number,)) * 32
        desk.contacts[node] = Contact(node, "10.0.0.2", number, state=ALIVE, version=2)
        assert desk.send(node=node) == (number < MOST_WAITING_NODES)


def test_what_the_link_took_no_more_fails(desk: Desk) -> None:
    desk.relaying.lost(NODE, [BYE], 101.0)
    desk.relaying.link_closed(NODE, 101.0)
    assert desk.take() == ["failed BYE at 101", "unlinked"]


def test_a_node_that_stops_waits_for_no_link(desk: Desk) -> None:
    desk.send()
    desk.relaying.stop()
    desk.deadlines.run_due(200.0)
    assert desk.take() == ["dialled 10.0.0.2"]


@pytest.mark.parametrize(("edge", "roles", "taken"), [(True, EDGE, 1), (True, STORES, 0), (True, 0, 0), (False, 3, 0)])
def test_only_nodes_that_speak_sip_say_it_to_each_other(edge: bool, roles: int, taken: int) -> None:
    desk = Desk(edge=edge)
    desk.relaying.receive(NODE, BYE, roles, 100.0)
    assert desk.take() == ["received BYE"] * taken
    assert desk.rejected("wrong-role") == 1 - taken


def test_a_purpose_may_have_a_user_of_its_own(desk: Desk) -> None:
    """The others stay with the first."""
    other = Desk()
    desk.relaying.users[7] = other
    word = Relay(7, b"", b"WORD")
    for relay in (word, BYE):
        desk.relaying.receive(NODE, relay, EDGE, 100.0)
        desk.relaying.lost(NODE, [relay], 101.0)
    assert other.take() == ["received WORD", "failed WORD at 101"]
    assert desk.take() == ["received BYE", "failed BYE at 101"]
