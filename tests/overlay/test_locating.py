"""Finding the owners of a partition far away, and believing it for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from farm.overlay.ids import partition_id
from farm.overlay.locating import BELIEVED_SECONDS, Locating
from farm.overlay.lookup import Finished
from farm.overlay.ownership import Ownership
from farm.overlay.routing import Result
from farm.overlay.wire import ALIVE, EDGE, STORES, Contact

A, B, C, D = (bytes((number,)) + bytes(31) for number in (0x10, 0xD0, 0x90, 0x50))
FAR = 0x905


class World:
    """A node A that knows A and B, and lookups that end when the test says so. It is its own table and routing."""

    def __init__(self, whole: bool = False) -> None:
        self.now = 10.0
        self.is_whole = whole
        self.members = {node: Contact(node, "192.0.2.1", 7400, 1, ALIVE) for node in (A, B, C, D)}
        self.ownership = Ownership(A, 1, lambda partition: True, self.learn)
        self.ownership.update([self.members[A], self.members[B]])
        self.searches: list[tuple[bytes, Callable[[Result, float], None]]] = []
        self.gone: list[float] = []
        self.locating = Locating(self, self.ownership, self.members.get, lambda: self.now)  # type: ignore[arg-type]
        self.locating.refresh()

    @property
    def table(self) -> World:
        return self

    def learn(self, contacts: Sequence[Contact], now: float) -> None:
        raise AssertionError

    def find(
        self, target: bytes, want: int, done: Callable[[Result, float], None], now: float, *, kind: str = ""
    ) -> None:
        assert kind == "owners"
        assert want > 1
        self.searches.append((target, done))

    def end(self, *nodes: bytes) -> None:
        """The lookup ends with these, nearest first."""
        _, done = self.searches.pop()
        done(Result(Finished(tuple(self.members[node] for node in nodes), 2, 4, True), []), self.now)


def test_in_a_whole_farm_everything_is_known() -> None:
    world = World(whole=True)
    assert world.locating.knows(FAR)


def test_what_we_own_ourselves_is_known() -> None:
    assert World().locating.knows(0x100)


def test_one_lookup_serves_all_who_wait_and_is_believed_for_a_while() -> None:
    world = World()
    assert not world.locating.knows(FAR)
    world.locating.find(FAR, world.gone.append, world.now)
    world.locating.find(FAR, world.gone.append, world.now)
    assert [target for target, _ in world.searches] == [partition_id(FAR)]
    assert list(world.ownership.owners(FAR)) == [B]  # as far as its own table goes
    world.end(C, D)
    assert world.gone == [10.0, 10.0]
    assert list(world.ownership.owners(FAR)) == [C]
    assert world.locating.knows(FAR)
    world.now += BELIEVED_SECONDS + 1
    assert not world.locating.knows(FAR)
    assert list(world.ownership.owners(FAR)) == [B]


def test_who_stores_nothing_owns_nothing() -> None:
    world = World()
    world.members[C] = Contact(C, "192.0.2.1", 7400, 1, ALIVE, roles=EDGE)
    assert not world.members[C].roles & STORES
    world.locating.find(FAR, world.gone.append, world.now)
    world.end(C, D)
    assert list(world.ownership.owners(FAR)) == [D]


def test_a_death_makes_what_was_found_worth_another_look() -> None:
    world = World()
    world.locating.find(FAR, world.gone.append, world.now)
    world.end(C)
    world.locating.drop(D)
    assert world.locating.knows(FAR)
    world.locating.drop(C)
    assert not world.locating.knows(FAR)


def test_when_nobody_is_found_whoever_waits_goes_on_with_what_is_known() -> None:
    world = World()
    world.locating.find(FAR, world.gone.append, world.now)
    world.end()
    assert world.gone == [10.0]
    assert not world.locating.knows(FAR)
    assert list(world.ownership.owners(FAR)) == [B]


def test_a_farm_that_has_shrunk_is_known_whole_again() -> None:
    world = World()
    world.locating.find(FAR, world.gone.append, world.now)
    world.end(C)
    world.is_whole = True
    world.locating.refresh()
    assert world.locating.knows(FAR)
    assert list(world.ownership.owners(FAR)) == [B]


def test_one_that_fails_when_the_owners_are_known_keeps_nobody_else_waiting() -> None:
    world = World()

    def fail(now: float) -> None:
        raise ZeroDivisionError

    for go in (world.gone.append, fail, world.gone.append, fail, world.gone.append):
        world.locating.find(FAR, go, world.now)
    with pytest.raises(ZeroDivisionError):
        world.end(C)
    assert world.gone == [10.0, 10.0, 10.0]


def test_a_lookup_whose_result_cannot_be_used_keeps_nobody_waiting_nor_those_who_come_later() -> None:
    world = World()
    world.locating.find(FAR, world.gone.append, world.now)
    world.locating._find_member = lambda node: 1 / 0  # type: ignore[assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        world.end(C)
    assert world.gone == [10.0]
    world.locating.find(FAR, world.gone.append, world.now)
    assert len(world.searches) == 1
