"""The routing table in use: who is in it, lookups through nodes that answer, do not, or have to be dialled first."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.routing import LINK_SECONDS, Result, Routing
from farm.overlay.wire import ALIVE, Answer, Contact, FindNode, Nodes, Request
from tests.support.counts import read

OWN = bytes(32)
TARGET = b"\xff" * 32
WALL = 1_800_000_000.0


def make_contact(number: int) -> Contact:
    """A node whose distance to TARGET grows as its number falls."""
    return Contact(bytes((number,)) * 32, f"10.0.0.{number}", 7400, incarnation=int(WALL * 1000) - 60_000, state=ALIVE)


CONTACTS = [make_contact(number) for number in range(240, 250)]


class World:
    """What a routing table is used with: calls that the test answers, links that it opens, and time."""

    def __init__(self, *known: Contact, linked: bool = True) -> None:
        self.now = 100.0
        self.asked: list[tuple[bytes, FindNode, float, Callable[[Answer | None, float], None]]] = []
        self.linked = {contact.node for contact in known} if linked else set()
        self.dialled: list[Contact] = []
        self.learned: list[Contact] = []
        self.results: list[Result] = []
        self.deadlines = Deadlines()
        self.metrics = Metrics()
        self.shift = 0.0
        self.routing = Routing(
            OWN, 3, self, self, self.learn, self.deadlines, random.Random(1), self.metrics, lambda: WALL, self.now
        )
        for contact in known:
            self.routing.enter(contact, self.now)

    # quorum.Calls, Links

    def ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Callable[[Answer | None, float], None],
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int:
        assert isinstance(message, FindNode)
        self.asked.append((node, message, within, done))
        return len(self.asked)

    def patience(self, node: bytes) -> float:
        return 0.2

    def hedge_after(self, node: bytes) -> float:
        return 0.1

    def connect(self, contact: Contact) -> None:
        self.dialled.append(contact)

    def is_open(self, node: bytes) -> bool:
        return node in self.linked

    def learn(self, contacts: Sequence[Contact], now: float) -> None:
        self.learned += contacts

    # What the test does

    def find(self, want: int = 3, within: float = 2.0) -> None:
        self.routing.find(TARGET, want, lambda result, _now: self.results.append(result), self.now, within=within)

    def answer(self, node: bytes, *named: Contact) -> None:
        self._take(node)(Nodes(1, named), self.now)

    def fail(self, node: bytes) -> None:
        self._take(node)(None, self.now)

    def _take(self, node: bytes) -> Callable[[Answer | None, float], None]:
        place = next(place for place, asked in enumerate(self.asked) if asked[0] == node)
        return self.asked.pop(place)[3]

    def answer_all(self, known: Sequence[Contact]) -> None:
        """Everybody who is asked names all of `known`."""
        while self.asked:
            self.answer(self.asked[0][0], *known)

    def after(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := self.deadlines.next_at()) is not None and at <= until:
            self.now = max(self.now, at)
            self.deadlines.run_due(self.now)
        self.now = until


def nodes(result: Result) -> list[bytes]:
    return [contact.node for contact in result.finished.contacts]


def nearest(count: int, known: Sequence[Contact] = CONTACTS) -> list[bytes]:
    return [contact.node for contact in sorted(known, key=lambda contact: contact.node, reverse=True)[:count]]


# The table


def test_who_has_proved_to_be_there_is_in_the_table_until_it_dies() -> None:
    world = World(*CONTACTS)
    assert [contact.node for contact in world.routing.nearest(TARGET, 3)] == nearest(3)
    world.routing.drop(CONTACTS[-1].node, world.now)
    assert [contact.node for contact in world.routing.nearest(TARGET, 3)] == nearest(3, CONTACTS[:-1])


def test_a_node_is_not_in_its_own_table() -> None:
    world = World()
    world.routing.enter(Contact(OWN, "10.0.0.1", 7400, state=ALIVE), world.now)
    assert world.routing.nearest(TARGET, 3) == []


def test_a_node_that_is_in_the_table_or_has_room_there_is_worth_a_link() -> None:
    world = World(CONTACTS[0])
    assert world.routing.wants(CONTACTS[0])
    assert world.routing.wants(CONTACTS[1])
    world = World(*(Contact(bytes((255, number)) * 16, "10.0.0.9", 7400) for number in range(200)))
    assert not world.routing.wants(Contact(b"\xff" * 32, "10.0.0.9", 7400))


def test_coming_and_going_are_counted_for_an_hour() -> None:
    world = World(*CONTACTS)
    rate = world.metrics.churn_rate
    assert (read(rate.child("join")), read(rate.child("leave"))) == (10, 0)
    world.routing.drop(CONTACTS[0].node, world.now)
    world.routing.drop(CONTACTS[0].node, world.now)
    world.routing.enter(CONTACTS[1], world.now)
    assert (read(rate.child("join")), read(rate.child("leave"))) == (10, 1)
    assert read(world.metrics.size_estimate.child()) == 10
    world.routing.enter(CONTACTS[0], world.now + 3601)
    assert (read(rate.child("join")), read(rate.child("leave"))) == (1, 0)


# Lookups


def test_a_lookup_asks_the_nearest_and_ends_when_those_have_answered() -> None:
    world = World(*CONTACTS)
    world.find()
    assert [node for node, *_ in world.asked] == nearest(3)
    assert all(message.target == TARGET for _, message, _, _ in world.asked)
    world.answer_all(CONTACTS)
    (result,) = world.results
    assert nodes(result) == nearest(3)
    assert (result.finished.hops, result.finished.in_time) == (1, True)
    assert result.finished.rpcs <= 5
    assert [step.contact.node for step in result.steps[:3]] == nearest(3)
    assert {(step.hop, step.answer, len(step.named)) for step in result.steps} == {(1, "nodes", 10)}
    assert [contact.node for contact in world.learned[-3:]] == nearest(3)
    assert read(world.metrics.lookup_seconds.child("upkeep", "found")) == 1
    assert len(world.deadlines) == 0


def test_nodes_that_others_name_are_dialled_before_they_are_asked() -> None:
    world = World(CONTACTS[0])
    world.find(want=2)
    world.answer(CONTACTS[0].node, CONTACTS[0], CONTACTS[9])
    assert world.asked == []
    assert world.dialled == [CONTACTS[9]]
    world.linked.add(CONTACTS[9].node)
    world.routing.link_opened(CONTACTS[9].node, world.now)
    world.answer(CONTACTS[9].node)
    (result,) = world.results
    assert nodes(result) == [CONTACTS[9].node, CONTACTS[0].node]
    assert [(step.hop, step.contact.node) for step in result.steps] == [(1, CONTACTS[0].node), (2, CONTACTS[9].node)]
    assert result.finished.hops == 2


def test_a_node_that_cannot_be_dialled_is_passed_over() -> None:
    world = World(CONTACTS[0])
    world.find(want=2)
    world.answer(CONTACTS[0].node, CONTACTS[9])
    world.after(LINK_SECONDS + 0.5)
    (result,) = world.results
    assert nodes(result) == [CONTACTS[0].node]
    assert [step.contact.node for step in result.steps] == [CONTACTS[0].node]


def test_a_node_that_does_not_answer_is_passed_over() -> None:
    world = World(*CONTACTS)
    world.find()
    world.fail(CONTACTS[9].node)
    world.answer_all(CONTACTS)
    (result,) = world.results
    assert nodes(result) == nearest(3, CONTACTS[:9])
    assert [step.answer for step in result.steps].count("silent") == 1


def test_beside_one_that_is_slow_another_is_asked_and_that_is_counted() -> None:
    world = World(*CONTACTS)
    world.find()
    world.after(0.15)
    assert len(world.asked) > 3
    world.answer_all(CONTACTS)
    assert len(world.results) == 1
    assert read(world.metrics.hedges.child("lookup")) >= 1


def test_a_lookup_ends_in_time_whoever_is_silent() -> None:
    world = World(*CONTACTS)
    world.find(within=2.0)
    world.after(2.5)
    (result,) = world.results
    assert result.finished.contacts == ()
    assert read(world.metrics.lookup_seconds.child("upkeep", "failed")) == 1
    late = list(world.asked)
    for _, _, _, done in late:
        done(Nodes(1, CONTACTS), world.now)  # too late: nobody minds
    assert len(world.results) == 1


def test_who_knows_nobody_is_answered_at_once() -> None:
    world = World()
    world.find()
    (result,) = world.results
    assert result.finished.contacts == ()


def test_a_trace_begins_with_the_nodes_that_it_is_given() -> None:
    world = World(*CONTACTS)
    world.routing.find(TARGET, 3, lambda result, _now: None, world.now, known=[CONTACTS[0]])
    assert [node for node, *_ in world.asked] == [CONTACTS[0].node]


# Refresh


def test_the_table_is_refreshed_again_and_again_until_it_is_stopped() -> None:
    world = World(*CONTACTS)
    world.routing.start(world.now)
    for _ in range(3):
        world.after(1000)
        assert world.asked
        world.answer_all(CONTACTS)
    world.routing.stop()
    world.asked.clear()
    world.after(5000)
    assert world.asked == []
    assert len(world.deadlines) == 0


def test_an_empty_table_waits_for_somebody() -> None:
    world = World()
    world.routing.start(world.now)
    world.after(2000)
    assert world.asked == []
    assert len(world.deadlines) == 1


@pytest.mark.parametrize("within", [0.0, 2.0])
def test_a_lookup_under_way_ends_with_the_node_and_says_nothing_more(within: float) -> None:
    world = World(*CONTACTS)
    world.find(within=2.0)
    world.after(within / 8)
    world.routing.stop()
    assert len(world.deadlines) == 0
    world.after(5)
    assert world.results == []


def test_contacts_in_answers_that_are_none_are_counted() -> None:
    world = World(CONTACTS[0])
    world.find()
    lies = [Contact(b"short", "10.0.0.1", 7400), Contact(bytes((7,)) * 32, "", 0)]
    world.answer(CONTACTS[0].node, *lies, *[CONTACTS[0]] * 40)
    assert len(world.results) == 1
    assert read(world.metrics.peer_rejections.child("bad-contact")) == 2 + 10


def test_a_bug_in_what_follows_a_lookup_ends_it_all_the_same() -> None:
    world = World(CONTACTS[0])
    world.find()
    world.routing._learn = lambda contacts, now: 1 / 0  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):
        world.answer(CONTACTS[0].node)
    assert [nodes(result) for result in world.results] == [[CONTACTS[0].node]]


def test_a_bug_in_a_lookup_ends_it_with_nobody_found() -> None:
    world = World(CONTACTS[0])
    world.find()
    (search,) = world.routing._searches
    search.lookup.next = lambda now: 1 / 0  # type: ignore[assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        world.answer(CONTACTS[0].node)
    assert [nodes(result) for result in world.results] == [[]]
    assert world.routing._searches == set()
    assert len(world.deadlines) == 0
