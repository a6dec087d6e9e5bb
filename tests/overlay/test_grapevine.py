"""The grapevine: rounds of gossip, what a ping carries, what a new link brings."""

from __future__ import annotations

import random

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.circle import Circle
from farm.overlay.gossip import make_hearsay, most_sent
from farm.overlay.grapevine import SAMPLE, WHOLE, Grapevine
from farm.overlay.roster import Roster
from farm.overlay.wire import ALIVE, DEAD, SUSPECT, Contact, Gossip


def contact(number: int, state: int = ALIVE, incarnation: int = 1) -> Contact:
    return Contact(number.to_bytes(32, "big"), f"10.0.0.{number % 250}", 7400, incarnation, state, zone="east")


class Desk:
    def __init__(self, members: int) -> None:
        self.told: list[tuple[int, float, list[Contact]]] = []
        self.deadlines = Deadlines()
        self.roster = Roster(contact(1000), self, Metrics())
        rng = random.Random(6)
        self.circle = Circle(self.roster.members, rng)
        self.grapevine = Grapevine(self.roster, self.circle, self.tell, self.deadlines, rng)
        for number in range(members):
            self.roster.put(contact(number), "link", 0.0)
            self.circle.open(contact(number).node)

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        pass

    def member_forgotten(self, contact: Contact, now: float) -> None:
        pass

    def tell(self, node: bytes, message: Gossip, now: float) -> None:
        self.told.append((int.from_bytes(node, "big"), round(now, 3), list(message.updates)))

    def run(self, until: float) -> None:
        while (at := self.deadlines.next_at()) is not None and at <= until:
            self.deadlines.run_due(at)


def test_news_go_to_three_at_once_in_rounds_until_they_are_old() -> None:
    desk = Desk(20)
    desk.grapevine.spread(contact(7, DEAD), 1.0)
    desk.run(60.0)
    assert sorted({at for _, at, _ in desk.told}) == [1.05, 1.25, 1.45, 1.65]
    assert len(desk.told) == most_sent(21) == 10
    assert all(updates == [make_hearsay(contact(7, DEAD))] for _, _, updates in desk.told)
    assert len(desk.deadlines) == 0


def test_urgent_news_do_not_wait_for_the_next_round() -> None:
    desk = Desk(20)
    desk.grapevine.spread(contact(7, DEAD), 1.0)
    desk.grapevine.spread(desk.roster.own, 1.01, after=0.0)
    desk.run(1.02)
    assert [(at, len(updates)) for _, at, updates in desk.told] == [(1.01, 2)] * 3


def test_this_node_s_own_word_is_passed_on_whole() -> None:
    desk = Desk(1)
    desk.grapevine.spread(contact(1000), 1.0)
    assert desk.grapevine.take(contact(0).node) == [contact(1000)]


def test_the_gone_are_not_gossiped_with() -> None:
    desk = Desk(2)
    desk.roster.put(contact(0, DEAD), "timeout", 0.0)
    desk.grapevine.spread(contact(0, DEAD), 1.0)
    desk.run(60.0)
    assert {number for number, _, _ in desk.told} == {1}


def test_nothing_is_said_when_nobody_is_there() -> None:
    desk = Desk(0)
    desk.grapevine.spread(contact(1000), 1.0)
    desk.run(60.0)
    assert desk.told == []
    assert desk.grapevine.take(contact(0).node) == [contact(1000)]


def test_a_suspect_hears_it_first() -> None:
    desk = Desk(3)
    desk.roster.put(contact(1, SUSPECT), "probe", 0.0)
    desk.grapevine.spread(contact(2, DEAD), 1.0)
    assert desk.grapevine.take(contact(1).node) == [make_hearsay(contact(1, SUSPECT)), make_hearsay(contact(2, DEAD))]
    desk.grapevine.tell_held(contact(1).node, 2.0)
    assert desk.told == [(1, 2.0, [make_hearsay(contact(1, SUSPECT))])]


def test_one_without_a_link_is_told_nothing() -> None:
    desk = Desk(2)
    desk.circle.close(contact(1).node)
    desk.grapevine.tell_held(contact(1).node, 2.0)
    desk.grapevine.tell_held(contact(77).node, 2.0)
    assert desk.told == []


def test_without_news_each_member_has_its_turn() -> None:
    desk = Desk(5)
    said = [desk.grapevine.take(b"") for _ in range(5)]
    assert sorted(each.node for (each,) in said) == [contact(number).node for number in range(5)]
    assert all(each.zone == "" for (each,) in said)


def test_a_new_link_brings_everybody_or_a_sample_of_many() -> None:
    desk = Desk(WHOLE + 1)
    desk.grapevine.exchange(contact(0).node, 1.0)
    assert sum(len(updates) for _, _, updates in desk.told) == WHOLE
    assert all(number == 0 for number, _, _ in desk.told)
    large = Desk(WHOLE + 2)
    large.grapevine.exchange(contact(0).node, 1.0)
    ((_, _, sample),) = large.told
    assert len({each.node for each in sample}) == SAMPLE
    assert contact(0).node not in {each.node for each in sample}


def test_after_a_stop_there_are_no_rounds() -> None:
    desk = Desk(5)
    desk.grapevine.spread(contact(1, DEAD), 1.0)
    desk.grapevine.forget(contact(2).node)
    desk.grapevine.stop()
    assert len(desk.deadlines) == 0
