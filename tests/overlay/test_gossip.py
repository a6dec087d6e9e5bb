"""Gossip: which saying counts, what is passed on, how often."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from farm.overlay.gossip import MOST_RUMOURS, Rumours, chunk, is_sound, make_hearsay, most_sent, outranks, size_of
from farm.overlay.wire import ALIVE, DEAD, JOINING, LEFT, SUSPECT, Contact


def contact(number: int = 2, incarnation: int = 10, state: int = ALIVE) -> Contact:
    return Contact(number.to_bytes(32, "big"), "10.0.0.2", 7400, incarnation, state, zone="east", name="bob")


def test_at_equal_incarnation_the_later_state_counts() -> None:
    for earlier, later in pairwise((JOINING, ALIVE, SUSPECT, DEAD, LEFT)):
        assert outranks(contact(state=later), contact(state=earlier))
        assert not outranks(contact(state=earlier), contact(state=later))
        assert not outranks(contact(state=later), contact(state=later))


@pytest.mark.parametrize("state", range(5))
@pytest.mark.parametrize("held", range(5))
def test_a_higher_incarnation_counts_whatever_the_states(state: int, held: int) -> None:
    assert outranks(contact(incarnation=11, state=state), contact(state=held))
    assert not outranks(contact(state=held), contact(incarnation=11, state=state))


def test_of_others_the_address_is_passed_on_until_they_are_gone() -> None:
    for state in (JOINING, ALIVE, SUSPECT):
        assert make_hearsay(contact(state=state)) == Contact(contact().node, "10.0.0.2", 7400, 10, state)
    for state in (DEAD, LEFT):
        assert make_hearsay(contact(state=state)) == Contact(contact().node, "", 0, 10, state)


@pytest.mark.parametrize(
    ("change", "sound"),
    [
        ({}, True),
        ({"node": b"x" * 31}, False),
        ({"state": -1}, False),
        ({"state": 5}, False),
        ({"incarnation": -1}, False),
        ({"incarnation": (1 << 53) - 1}, True),
        ({"incarnation": 1 << 53}, False),
        ({"host": ""}, False),
        ({"host": "", "port": 0, "state": DEAD}, True),
        ({"port": 65536}, False),
        ({"host": "h" * 256}, False),
        ({"zone": "z" * 256}, False),
        ({"name": "n" * 256}, False),
        ({"sip": ("udp:10.0.0.1:5060",) * 17}, False),
        ({"sip": ("u" * 256,)}, False),
    ],
)
def test_what_cannot_be_worked_with_is_not_sound(change: dict[str, object], sound: bool) -> None:
    assert is_sound(msgspec.structs.replace(contact(), **change)) is sound


def test_a_contact_takes_no_more_bytes_than_is_reckoned() -> None:
    full = Contact(
        b"x" * 32, "h" * 200, 65535, (1 << 53) - 1, LEFT, "z" * 100, 3, "n" * 60, ("udp:10.0.0.1:5060",) * 15,
        2, 100, True, ("198.51.100.1",) * 15,
    )  # fmt: skip
    for each in (contact(), make_hearsay(contact(state=DEAD)), full):
        assert len(msgspec.msgpack.encode(each)) <= size_of(each)
    assert size_of(make_hearsay(contact(state=DEAD))) < 60


@pytest.mark.parametrize(("nodes", "times"), [(1, 10), (100, 10), (1000, 13), (10_000, 17)])
def test_news_are_sent_as_often_as_the_logarithm_of_the_nodes_wants(nodes: int, times: int) -> None:
    assert most_sent(nodes) == times


def test_the_least_sent_go_first_and_of_these_the_newest() -> None:
    rumours = Rumours()
    room = 2 * size_of(contact())
    for number in (1, 2, 3):
        rumours.add(contact(number))
    assert rumours.take(room, 3) == [contact(3), contact(2)]
    assert rumours.take(room, 3) == [contact(1), contact(3)]
    rumours.add(contact(4))
    assert rumours.take(room, 3) == [contact(4), contact(1)]
    assert len(rumours) == 4


def test_what_was_sent_often_enough_is_news_no_longer() -> None:
    rumours = Rumours()
    rumours.add(contact())
    assert [rumours.take(1200, 3) for _ in range(4)] == [[contact()], [contact()], [contact()], []]
    assert len(rumours) == 0


def test_a_newer_word_takes_the_place_of_the_older_and_starts_again() -> None:
    rumours = Rumours()
    rumours.add(contact())
    rumours.take(1200, 2)
    rumours.add(contact(state=SUSPECT))
    assert [rumours.take(1200, 2) for _ in range(3)] == [[contact(state=SUSPECT)], [contact(state=SUSPECT)], []]


def test_a_message_is_not_overfilled() -> None:
    rumours = Rumours()
    for number in range(100):
        rumours.add(contact(number))
    taken = rumours.take(1200, 5)
    assert sum(map(size_of, taken)) <= 1200 < sum(map(size_of, taken)) + size_of(contact())


def test_there_is_a_limit_and_what_was_sent_most_makes_room() -> None:
    rumours = Rumours()
    for number in range(MOST_RUMOURS):
        rumours.add(contact(number))
    sent = rumours.take(size_of(contact()), 5)
    rumours.add(contact(MOST_RUMOURS))
    assert len(rumours) == MOST_RUMOURS
    assert sent == [contact(MOST_RUMOURS - 1)]
    taken = rumours.take(1 << 30, 5)
    assert sent[0] not in taken
    assert len(taken) == MOST_RUMOURS


def test_a_forgotten_node_is_not_passed_on() -> None:
    rumours = Rumours()
    rumours.add(contact(1))
    rumours.add(contact(2))
    rumours.forget(contact(2).node)
    rumours.forget(contact(3).node)
    assert rumours.take(1200, 5) == [contact(1)]


def test_a_long_list_goes_in_parts() -> None:
    contacts = [contact(number) for number in range(10)]
    parts = list(chunk(contacts, 3 * size_of(contact())))
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert [each for part in parts for each in part] == contacts
    assert list(chunk([contact()], 1)) == [[contact()]]
    assert list(chunk([], 1000)) == []
