"""When a node reads and writes at all, and in a farm too large to be known whole, whom it asks."""

from __future__ import annotations

import pytest

from farm.overlay.access import Access
from farm.overlay.offset import ClockOffset
from farm.overlay.quorum import Failed, Found, Outcome
from farm.overlay.settings import NodeSettings
from farm.security.limits import RateTable
from tests.overlay.test_node import PHONE, contacts, put
from tests.support.overlays import Overlay
from tests.support.owners import KEY, A, B, Owners


class Known:
    """Owners that have to be looked up, or not."""

    def __init__(self, known: bool) -> None:
        self.known = known
        self.waiting: list[object] = []

    def knows(self, partition: int) -> bool:
        return self.known

    def find(self, partition: int, go: object, now: float) -> None:
        self.waiting.append(go)


def make(*owners: bytes, known: bool = True) -> tuple[Owners, Known, Access]:
    world = Owners(*owners)
    locating = Known(known)
    return world, locating, Access(world.means, locating, ClockOffset())  # type: ignore[arg-type]


def test_a_node_that_has_reached_nobody_answers_nothing() -> None:
    world, _, access = make(A)
    assert access.fetch("registration", KEY, world.done, world.now) == Failed("no-owners")
    assert access.store("registration", KEY, b"x", world.done, world.now) == Failed("no-owners")
    access.open = True
    assert access.store("registration", KEY, b"x", world.done, world.now) == Found(b"x")
    assert access.fetch("registration", KEY, world.done, world.now) == Found(b"x")


def test_a_node_whose_clock_is_far_off_coordinates_nothing() -> None:
    world = Owners(A)
    offset = ClockOffset()
    access = Access(world.means, Known(True), offset)  # type: ignore[arg-type]
    access.open = True
    offset.note(B, 20.0)
    assert access.fetch("registration", KEY, world.done, world.now) == Failed("clock")


def test_what_is_written_too_often_is_refused_here_before_anything_has_changed() -> None:
    world = Owners(A)
    access = Access(world.means, Known(True), ClockOffset(), RateTable(20.0, 2.0, 10))  # type: ignore[arg-type]
    access.open = True
    for delta in (b"x", b"y"):
        assert isinstance(access.store("registration", KEY, delta, world.done, world.now), Found)
    assert access.store("registration", KEY, b"z", world.done, world.now) == Failed("rate")
    assert world.held == b"xy"
    assert access.store("registration", KEY + b"2", b"z", world.done, world.now) == Found(b"z")
    assert access.fetch("registration", KEY, world.done, world.now) == Found(b"xy")
    world.now += 0.05
    assert access.store("registration", KEY, b"z", world.done, world.now) == Found(b"xyz")


def test_a_node_that_is_no_edge_reads_and_writes_nothing_not_even_here() -> None:
    """The others would get its copy by repair, which asks nobody who wrote a record."""
    world = Owners(A)
    access = Access(world.means, Known(True), ClockOffset(), may_write=False)  # type: ignore[arg-type]
    access.open = True
    assert access.store("registration", KEY, b"x", world.done, world.now) == Failed("not-an-edge")
    assert not world.held
    assert isinstance(access.fetch("registration", KEY, world.done, world.now), Found)


def test_what_cannot_begin_when_the_owners_are_known_fails_and_nobody_waits_for_it() -> None:
    world, locating, access = make(A, known=False)
    access.open = True
    assert access.store("no such kind", KEY, b"x", world.done, world.now) is None
    (go,) = locating.waiting
    with pytest.raises(KeyError):
        go(world.now)  # type: ignore[operator]
    assert world.outcomes == [Failed("internal")]


def test_what_waits_for_the_owners_is_done_when_they_are_known() -> None:
    world, locating, access = make(A, known=False)
    access.open = True
    assert access.store("registration", KEY, b"x", world.done, world.now) is None
    assert access.fetch("registration", KEY, world.done, world.now) is None
    outcomes: list[Outcome] = world.outcomes
    assert outcomes == []
    for go in locating.waiting:
        go(world.now)  # type: ignore[operator]
    assert outcomes == [Found(b"x"), Found(b"x")]


@pytest.mark.parametrize("seed", [1])
def test_in_a_farm_that_nobody_knows_whole_every_node_reads_what_any_wrote(seed: int) -> None:
    overlay = Overlay(seed, 14, settings=NodeSettings("test", bucket=3))
    for station in overlay.stations:
        station.boot()
    assert overlay.run_until(lambda: all(each.node.is_synchronised for each in overlay.stations), 60)
    assert not any(station.node.routing.table.is_whole for station in overlay.stations)
    for number in range(10):
        key = f"sip:user{number}@example.com".encode()
        assert isinstance(put(overlay, number, key=key), Found)
        assert contacts(overlay, (number * 7 + 3) % 14, key) == [PHONE]
    overlay.kill(4)
    overlay.kill(9)
    overlay.run(5)
    for number in range(10):
        key = f"sip:user{number}@example.com".encode()
        reader = next(index for index in (number + 11, number + 12, number + 13) if index % 14 not in (4, 9)) % 14
        assert contacts(overlay, reader, key) == [PHONE]
    assert overlay.failures == []
