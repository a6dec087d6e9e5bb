"""The replicated store as registrar and users see it: at once what is here, later what is not."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from farm.overlay import shared
from farm.overlay.quorum import Done, Failed, Found
from farm.overlay.settings import NodeSettings
from farm.overlay.shared import SharedStore
from farm.registrar.binding import KIND
from tests.overlay.test_node import make_delta
from tests.support.overlays import Overlay

BOB = "sip:bob@example.com"


def make(nodes: int, settings: NodeSettings | None = None) -> tuple[Overlay, list[SharedStore]]:
    overlay = Overlay(1, nodes, settings=settings)
    overlay.start()
    return overlay, [SharedStore(station.node, station.store) for station in overlay.stations]


def put(overlay: Overlay, stores: list[SharedStore], index: int, cseq: int = 1) -> object:
    station = overlay.stations[index]
    return wait(overlay, stores[index].put(KIND, BOB, make_delta(station, cseq), station.process.clock()))


def wait(overlay: Overlay, answer: object) -> object:
    if not isinstance(answer, Deferred):
        return answer
    came: list[object] = []
    answer.addCallback(came.append)
    overlay.run(3)
    return came[0]


def is_owner(overlay: Overlay, index: int) -> bool:
    node = overlay.stations[index].node
    return node.own in node.owners_of(BOB.encode())


def test_alone_everything_is_answered_at_once() -> None:
    overlay, (store,) = make(1)
    now = overlay.stations[0].process.clock()
    assert store.get(KIND, BOB, now) is None
    assert store.peek(KIND, BOB, now) is None
    merged = store.put(KIND, BOB, make_delta(overlay.stations[0]), now)
    assert isinstance(merged, bytes)
    assert store.get(KIND, BOB, now) == merged
    assert list(store.items(KIND, now)) == [(BOB, merged)]


def test_among_others_it_is_waited_for() -> None:
    overlay, stores = make(3)
    merged = put(overlay, stores, 0)
    assert isinstance(merged, bytes)
    now = overlay.stations[1].process.clock()
    found = stores[1].get(KIND, BOB, now)
    assert isinstance(found, Deferred)
    assert overlay.stations[1].kind.version(merged) == overlay.stations[1].kind.version(wait(overlay, found))  # type: ignore[arg-type]


def test_who_awaits_nothing_is_told_what_a_write_came_to() -> None:
    overlay, stores = make(3)
    station = overlay.stations[0]
    told: list[object] = []
    begun = stores[0].begin_put(
        KIND, BOB, make_delta(station, 1), lambda answer, _now: told.append(answer), station.process.clock()
    )
    assert (begun, told) == (None, [])
    overlay.run(3)
    assert told == [station.bindings(BOB.encode())]
    overlay.kill(1)
    overlay.kill(2)
    stores[0].begin_put(
        KIND, BOB, make_delta(station, 2), lambda answer, _now: told.append(answer), station.process.clock()
    )
    overlay.run(4)
    assert told[1:] == [Failed("too-few-owners")]


def test_alone_a_write_is_answered_at_once_and_nobody_told() -> None:
    overlay, (store,) = make(1)
    station = overlay.stations[0]
    told: list[object] = []
    now = station.process.clock()
    merged = store.begin_put(KIND, BOB, make_delta(station), lambda answer, _now: told.append(answer), now)
    assert merged == store.get(KIND, BOB, now)
    assert told == []


def test_an_owner_peeks_into_its_own_copy() -> None:
    overlay, stores = make(3)
    put(overlay, stores, 0)
    station = overlay.stations[2]
    assert stores[2].peek(KIND, BOB, station.process.clock()) == station.bindings(BOB.encode())


def test_who_is_no_owner_peeks_at_one_and_remembers() -> None:
    overlay, stores = make(6)
    stranger = next(index for index in range(6) if not is_owner(overlay, index))
    put(overlay, stores, (stranger + 1) % 6)
    clock = overlay.stations[stranger].process.clock
    first = stores[stranger].peek(KIND, BOB, clock())
    assert isinstance(first, Deferred)
    record = wait(overlay, first)
    assert stores[stranger].peek(KIND, BOB, clock()) is record
    merged = put(overlay, stores, stranger, 2)
    assert stores[stranger].peek(KIND, BOB, clock()) is merged


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "RECENT_RECORDS", 3)
    overlay, stores = make(6)
    station = overlay.stations[0]
    for number in range(20):
        name = f"sip:user{number}@example.com"
        wait(overlay, stores[0].put(KIND, name, make_delta(station), station.process.clock()))
    assert len(stores[0]._recent) == 3


def test_what_is_large_or_gone_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    overlay, stores = make(6)
    stranger = next(index for index in range(6) if not is_owner(overlay, index))
    put(overlay, stores, stranger)
    assert len(stores[stranger]._recent) == 1
    stores[stranger]._keep(KIND, BOB.encode(), Found(None))
    assert stores[stranger]._recent == {}
    monkeypatch.setattr(shared, "RECENT_BYTES", 10)
    put(overlay, stores, stranger, 2)
    assert stores[stranger]._recent == {}


def test_an_operation_that_ends_before_anybody_waits_is_answered_all_the_same() -> None:
    overlay, (store,) = make(1)
    node = overlay.stations[0].node
    now = overlay.stations[0].process.clock()

    def fetch(kind: str, key: bytes, done: Done, now: float, **_: object) -> None:
        done(Found(b"record"), now)

    node.fetch = fetch  # type: ignore[method-assign]
    assert wait(overlay, store.get(KIND, BOB, now)) == b"record"


def test_a_list_has_what_all_nodes_hold() -> None:
    overlay, stores = make(6)
    names = [f"sip:user{number}@example.com" for number in range(30)]
    for number, name in enumerate(names):
        station = overlay.stations[number % 6]
        wait(overlay, stores[number % 6].put(KIND, name, make_delta(station), station.process.clock()))
    for index, station in enumerate(overlay.stations):
        now = station.process.clock()
        assert len(list(stores[index].items(KIND, now))) < 30
        listed = wait(overlay, stores[index].collect(KIND, now))
        assert isinstance(listed, list)
        assert sorted(name for name, _ in listed) == sorted(names)


def test_a_list_of_a_lone_node_is_there_at_once() -> None:
    overlay, (store,) = make(1)
    merged = put(overlay, [store], 0)
    assert store.collect(KIND, overlay.stations[0].process.clock()) == [(BOB, merged)]


def test_a_list_that_may_lack_something_is_refused() -> None:
    overlay, stores = make(4)
    overlay.pause(1)
    overlay.pause(2)
    station = overlay.stations[0]
    answer = stores[0].collect(KIND, station.process.clock())
    assert isinstance(answer, Deferred)
    came: list[object] = []
    answer.addCallback(came.append)
    overlay.run(6)
    assert came == [Failed("too-few-owners")]


def test_a_refusal_is_an_answer() -> None:
    overlay, stores = make(2, NodeSettings("test", write=0.5))
    overlay.pause(1)
    station = overlay.stations[0]
    answer = stores[0].put(KIND, BOB, make_delta(station), station.process.clock())
    assert wait(overlay, answer) == Failed("too-few-owners")


def test_foreign_bytes_in_a_name_survive() -> None:
    overlay, (store,) = make(1)
    now = overlay.stations[0].process.clock()
    name = b"sip:\xff@example.com".decode("utf-8", "surrogateescape")
    store.put(KIND, name, make_delta(overlay.stations[0]), now)
    assert [key for key, _ in store.items(KIND, now)] == [name]
