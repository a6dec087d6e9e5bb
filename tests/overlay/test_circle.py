"""The circle: who is linked, and who is drawn."""

from __future__ import annotations

import random

from farm.overlay.circle import Circle
from farm.overlay.wire import ALIVE, DEAD, Contact


def make(count: int) -> tuple[Circle, list[bytes]]:
    nodes = [number.to_bytes(32, "big") for number in range(count)]
    members = {
        node: Contact(node, "10.0.0.1", 7400, 1, ALIVE if index % 2 else DEAD) for index, node in enumerate(nodes)
    }
    circle = Circle(members, random.Random(4))
    for node in nodes:
        circle.open(node)
    return circle, nodes


def test_only_members_with_a_link_are_drawn() -> None:
    members: dict[bytes, Contact] = {}
    circle = Circle(members, random.Random(4))
    circle.open(b"b")
    assert circle.linked() == []
    members[b"b"] = Contact(b"b", "10.0.0.1", 7400)
    members[b"c"] = Contact(b"c", "10.0.0.2", 7400)
    circle.changed()
    assert circle.linked() == [b"b"]
    assert list(circle) == [b"b"]
    circle.unverified[b"b"] = members[b"b"]
    circle.close(b"b")
    assert (b"b" in circle, circle.linked(), circle.unverified) == (False, [], {})


def test_as_many_as_are_wanted_are_drawn_all_different_and_all_allowed() -> None:
    for count in (10, 400):
        circle, nodes = make(count)
        drawn = circle.draw(3, lambda contact: contact.state == ALIVE)
        assert len(set(drawn)) == 3
        assert all(nodes.index(node) % 2 for node in drawn)


def test_when_there_are_fewer_all_of_them_are_drawn() -> None:
    circle, nodes = make(5)
    assert circle.draw(3, lambda contact: contact.state == ALIVE) == [nodes[1], nodes[3]]
    assert circle.draw(3, lambda contact: False) == []


def test_of_many_everybody_is_drawn_sooner_or_later() -> None:
    circle, nodes = make(50)
    drawn: set[bytes] = set()
    for _ in range(300):
        drawn.update(circle.draw(3, lambda contact: True))
    assert drawn == set(nodes)
