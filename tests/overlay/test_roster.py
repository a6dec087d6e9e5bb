"""The roster: what is held, counted and told."""

from __future__ import annotations

import msgspec

from farm.metrics import Metrics
from farm.overlay.roster import Roster, is_gone, is_live
from farm.overlay.wire import ALIVE, DEAD, JOINING, LEFT, SUSPECT, Contact

OWN, BOB, CAROL = (bytes([number]) * 32 for number in (1, 2, 3))


def contact(node: bytes, incarnation: int = 1, state: int = ALIVE) -> Contact:
    return Contact(node, "10.0.0.1", 7400, incarnation, state)


class Desk:
    def __init__(self) -> None:
        self.heard: list[tuple[Contact | None, Contact, str]] = []
        self.forgotten: list[Contact] = []
        self.metrics = Metrics()
        self.roster = Roster(contact(OWN, state=JOINING), self, self.metrics)

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        self.heard.append((before, after, cause))

    def member_forgotten(self, contact: Contact, now: float) -> None:
        self.forgotten.append(contact)


def test_states_mean_what_they_say() -> None:
    states = [contact(BOB, state=state) for state in (JOINING, ALIVE, SUSPECT, DEAD, LEFT)]
    assert [is_live(each) for each in states] == [False, True, True, False, False]
    assert [is_gone(each) for each in states] == [False, False, False, True, True]


def test_every_change_is_told_once_and_what_is_the_same_is_not() -> None:
    desk = Desk()
    desk.roster.put(contact(BOB), "link", 1.0)
    desk.roster.put(contact(BOB), "gossip", 2.0)
    moved = msgspec.structs.replace(contact(BOB), port=7500)
    desk.roster.put(moved, "link", 3.0)
    assert desk.heard == [(None, contact(BOB), "link"), (contact(BOB), moved, "link")]


def test_this_node_is_counted_and_is_no_member() -> None:
    desk = Desk()
    desk.roster.put(contact(OWN, 2), "self", 1.0)
    assert desk.roster.members == {}
    assert desk.roster.own == contact(OWN, 2)
    assert (desk.roster.count(JOINING), desk.roster.count(ALIVE), desk.roster.present()) == (0, 1, 1)
    assert desk.heard == [(contact(OWN, state=JOINING), contact(OWN, 2), "self")]


def test_all_are_counted_by_state() -> None:
    desk = Desk()
    for node in (BOB, CAROL):
        desk.roster.put(contact(node), "link", 1.0)
    desk.roster.put(contact(CAROL, state=SUSPECT), "probe", 2.0)
    assert desk.roster.present() == 3
    desk.roster.put(contact(CAROL, state=DEAD), "timeout", 3.0)
    assert [desk.roster.count(state) for state in range(5)] == [1, 1, 0, 1, 0]
    assert desk.roster.present() == 2
    desk.roster.forget(CAROL, 4.0)
    desk.roster.forget(CAROL, 5.0)
    assert [desk.roster.count(state) for state in range(5)] == [1, 1, 0, 0, 0]
    assert desk.forgotten == [contact(CAROL, state=DEAD)]


def test_who_is_gone_longest_is_known_and_who_came_back_is_not_gone() -> None:
    desk = Desk()
    for node in (BOB, CAROL):
        desk.roster.put(contact(node), "link", 0.0)
    desk.roster.put(contact(CAROL, state=LEFT), "gossip", 1.0)
    desk.roster.put(contact(BOB, state=DEAD), "timeout", 2.0)
    assert desk.roster.longest_gone() == CAROL
    desk.roster.put(contact(CAROL, 2), "link", 3.0)
    assert desk.roster.longest_gone() == BOB
    assert desk.roster.gone_at == {BOB: 2.0}
    desk.roster.put(contact(BOB, state=LEFT), "gossip", 9.0)
    assert desk.roster.gone_at == {BOB: 9.0}


def test_this_node_is_never_in_the_graveyard() -> None:
    desk = Desk()
    desk.roster.put(contact(OWN, state=LEFT), "self", 1.0)
    assert desk.roster.longest_gone() is None
