"""The simulated farm is a farm: what is put through one node is found through another, whatever happens to a third."""

from __future__ import annotations

import pytest

from farm.overlay.quorum import Found
from farm.registrar.record import Contact, Entry, Record, Register
from tests.support.overlays import Overlay

KEY = b"sip:bob@example.com"


def put(overlay: Overlay, index: int, cseq: int, *, granted: int = 3600) -> None:
    station = overlay.stations[index]
    stamp = station.stamps.tick(station.process.wall())
    register = Register(
        "a", cseq, stamp, station.stamps.node, int(station.process.clock() * 1000), granted, Contact("")
    )
    delta = station.kind.pack(Record([Entry("sip:bob@192.0.2.1", [register])]))
    assert isinstance(overlay.put(index, KEY, delta), Found)


def find(overlay: Overlay, index: int) -> int:
    """The CSeq of the binding, 0 when there is none."""
    found = overlay.get(index, KEY)
    assert isinstance(found, Found), found
    if found.record is None:
        return 0
    station = overlay.stations[index]
    register = station.kind.unpack(found.record).entries[0].registers[0]
    now = station.process.clock() * 1000
    return register.cseq if register.at <= now < register.at + register.granted * 1000 else 0


@pytest.fixture
def overlay() -> Overlay:
    overlay = Overlay(seed=1, nodes=5)
    overlay.start()
    return overlay


def test_what_one_node_takes_another_finds_until_it_lapses(overlay: Overlay) -> None:
    put(overlay, 0, 7, granted=60)
    assert [find(overlay, index) for index in range(5)] == [7] * 5
    overlay.run(61.0)
    assert [find(overlay, index) for index in range(5)] == [0] * 5


def test_a_restart_finds_what_the_journal_had(overlay: Overlay) -> None:
    put(overlay, 0, 7)
    overlay.run(1.0)
    for index in range(5):
        overlay.power_off(index)
    overlay.run(10.0)
    for index in range(5):
        overlay.restart(index)
    assert overlay.run_until(overlay.is_synchronised, 60.0), overlay.describe()
    assert [find(overlay, index) for index in range(5)] == [7] * 5
    assert overlay.find_leaks() == []


def test_wiped_disks_of_two_lose_nothing_and_all_are_equal_again(overlay: Overlay) -> None:
    put(overlay, 0, 7)
    overlay.kill(1)
    overlay.power_off(2)
    overlay.run(5.0)
    overlay.restart(1, wiped=True)
    overlay.restart(2, wiped=True)
    assert overlay.run_until(lambda: overlay.is_synchronised() and not overlay.find_differences(), 120.0)
    assert [find(overlay, index) for index in range(5)] == [7] * 5


def test_a_copy_that_is_missing_or_kept_by_a_stranger_is_noticed(overlay: Overlay) -> None:
    put(overlay, 0, 7)
    assert overlay.find_differences() == []
    holders = [station for station in overlay.stations if station.bindings(KEY) is not None]
    strangers = [station for station in overlay.stations if station not in holders]
    shelf = holders[0].store.shelves["registration"]
    record = shelf.records.pop(KEY)
    assert "is missing on" in overlay.find_differences()[0]
    shelf.records[KEY] = record
    strangers[0].store.put("registration", KEY, record, strangers[0].process.clock())
    assert overlay.find_differences() == []
    assert "do not own it" in overlay.find_differences(strictly=True)[0]


def test_one_that_leaves_hands_over_and_one_more_joins(overlay: Overlay) -> None:
    put(overlay, 0, 7)
    for index in (0, 1):
        overlay.leave(index)
        overlay.run(70.0)
        assert not overlay.stations[index].running
    overlay.add().boot()
    assert overlay.run_until(overlay.is_synchronised, 60.0), overlay.describe()
    assert [find(overlay, index) for index in range(2, 6)] == [7] * 4
