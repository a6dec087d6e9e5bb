"""Whole nodes on made-up links: joining, reading and writing through any of them, leaving, and what can be wrong."""

from __future__ import annotations

import pytest

from farm.overlay.quorum import Failed, Found, Outcome
from farm.overlay.routing import Result
from farm.overlay.settings import NodeSettings
from farm.overlay.wire import Relay
from farm.registrar.binding import KIND, RegistrationKind, bindings_of
from farm.registrar.record import Contact, Entry, Record, Register
from tests.support.counts import read
from tests.support.overlays import Overlay, Station

KEY = b"sip:bob@example.com"
PHONE = "sip:bob@192.0.2.7"


def make_delta(station: Station, cseq: int = 1, granted: int = 3600, *, removes: bool = False) -> bytes:
    """An update of bob's record, stamped by that node."""
    now = station.process.clock()
    stamp = station.stamps.tick(station.process.wall())
    contact = None if removes else Contact("")
    register = Register("call-1", cseq, stamp, station.stamps.node, int(now * 1000), granted, contact)
    return RegistrationKind().pack(Record([Entry(PHONE, [register])]))


def put(overlay: Overlay, index: int, cseq: int = 1, *, removes: bool = False, key: bytes = KEY) -> Outcome | None:
    return overlay.put(index, key, make_delta(overlay.stations[index], cseq, removes=removes))


def contacts(overlay: Overlay, index: int, key: bytes = KEY) -> list[str] | None:
    """Bob's contacts as a node finds them; None when it does not answer with a record."""
    outcome = overlay.get(index, key)
    if not isinstance(outcome, Found):
        return None
    if outcome.record is None:
        return []
    record = RegistrationKind().unpack(outcome.record)
    return [binding.uri for binding in bindings_of(record, overlay.stations[index].process.clock())]


def test_a_node_without_seeds_is_a_farm_of_one_at_once() -> None:
    overlay = Overlay(1, 1)
    overlay.start()
    assert overlay.now <= 0.25
    assert isinstance(put(overlay, 0), Found)
    assert contacts(overlay, 0) == [PHONE]


@pytest.mark.parametrize("nodes", [2, 3, 5, 9])
def test_what_is_written_through_one_node_is_found_through_any_other(nodes: int) -> None:
    overlay = Overlay(2, nodes)
    overlay.start()
    assert isinstance(put(overlay, 0), Found)
    assert [contacts(overlay, index) for index in range(nodes)] == [[PHONE]] * nodes
    assert isinstance(put(overlay, nodes - 1, 2, removes=True), Found)
    assert [contacts(overlay, index) for index in range(nodes)] == [[]] * nodes


def test_r_nodes_hold_a_record_and_no_more() -> None:
    overlay = Overlay(3, 7)
    overlay.start()
    put(overlay, 4)
    assert sum(station.bindings(KEY) is not None for station in overlay.stations) == 3


def test_two_crashes_at_once_lose_nothing_of_three_copies() -> None:
    overlay = Overlay(4, 6)
    overlay.start()
    keys = [f"sip:user{number}@example.com".encode() for number in range(40)]
    for number, key in enumerate(keys):
        assert isinstance(put(overlay, number % 6, key=key), Found)
    overlay.kill(1)
    overlay.kill(4)
    overlay.run(5)
    assert [contacts(overlay, 0, key) for key in keys] == [[PHONE]] * 40
    overlay.run(60)  # hold-down, and copying
    assert overlay.find_differences() == []


def test_a_node_that_comes_back_brings_nothing_removed_back() -> None:
    overlay = Overlay(5, 3)
    overlay.start()
    put(overlay, 0)
    overlay.run(2)
    overlay.kill(2)
    overlay.run(5)
    assert isinstance(put(overlay, 0, 2, removes=True), Found)
    overlay.restart(2)
    overlay.run(20)
    assert [contacts(overlay, index) for index in range(3)] == [[], [], []]


def test_a_node_that_leaves_hands_over_first_and_is_no_member_then() -> None:
    overlay = Overlay(6, 5)
    overlay.start()
    keys = [f"sip:user{number}@example.com".encode() for number in range(30)]
    for key in keys:
        put(overlay, 0, key=key)
    overlay.leave(3)
    overlay.run(30)
    assert overlay.stations[3].gone
    assert overlay.stations[0].node.membership.counts()["left"] == 1
    assert overlay.find_differences() == []
    assert [contacts(overlay, 0, key) for key in keys] == [[PHONE]] * 30


def test_nodes_that_all_leave_at_once_do_not_wait_for_each_other() -> None:
    overlay = Overlay(9, 3)
    overlay.start()
    for number in range(30):
        put(overlay, 0, key=f"sip:user{number}@example.com".encode())
    overlay.kill(2)
    for index in (0, 1):
        station = overlay.stations[index]
        station.node.leave(lambda _now: None, station.process.clock())
    overlay.run(10)
    assert [overlay.stations[index].node.state for index in (0, 1)] == ["left", "left"]


def test_a_drained_node_can_come_back() -> None:
    overlay = Overlay(7, 3)
    overlay.start()
    station = overlay.stations[1]
    station.node.leave(lambda _now: None, station.process.clock())
    overlay.run(10)
    assert station.node.state == "left"
    station.node.rejoin(station.process.clock())
    overlay.run(10)
    assert station.node.is_synchronised
    assert overlay.is_synchronised()


def test_a_node_that_reaches_nobody_serves_alone_after_a_while_and_says_whom_it_misses() -> None:
    overlay = Overlay(8, 2, settings=NodeSettings("test", join=10.0))
    station = overlay.stations[1]
    station.boot()
    overlay.run(3)
    assert put(overlay, 1) == Failed("no-owners")
    assert overlay.get(1, KEY) == Failed("no-owners")
    assert station.node.state == "joining"
    assert any("10.0.0.1:" in problem for problem in station.node.problems())
    overlay.run(10)
    assert station.node.is_synchronised
    assert isinstance(put(overlay, 1), Found)
    overlay.stations[0].boot()
    overlay.run(40)
    assert contacts(overlay, 0) == [PHONE]
    assert station.node.problems() == []


def test_two_newcomers_do_not_take_themselves_for_the_farm() -> None:
    """They meet each other before they meet anybody who is there, as after a restart while the seeds are away."""
    overlay = Overlay(14, 6)
    overlay.start()
    assert isinstance(put(overlay, 3), Found)
    overlay.leave(0)
    overlay.leave(1)
    overlay.leave(2)
    overlay.run(10)
    newcomers = [overlay.add(), overlay.add()]
    overlay.partition([0, 6, 7], [3, 4, 5])
    for index in (0, 6, 7):
        overlay.stations[index].boot()
    overlay.run(2)
    assert newcomers[0].node.membership.counts()["joining"] == 3
    assert put(overlay, 6) == Failed("no-owners")
    overlay.heal()
    overlay.run(40)
    assert contacts(overlay, 7) == [PHONE]


def test_a_clock_that_is_ten_seconds_off_takes_no_part() -> None:
    overlay = Overlay(9, 3, settings=NodeSettings("test", join=5.0))
    overlay.stations[2].machine.wall_offset = 10.0
    for station in overlay.stations:
        station.boot()
    overlay.run(10)
    assert put(overlay, 2) == Failed("clock")
    assert [station.node.is_ready for station in overlay.stations] == [True, True, False]
    assert any(
        problem.startswith("the clock is 10.0 s ahead of the other nodes'")
        for problem in overlay.stations[2].node.problems()
    )
    assert isinstance(put(overlay, 0), Found)
    assert contacts(overlay, 1) == [PHONE]


@pytest.mark.parametrize("offset", [-10.0, 10.0])
def test_a_node_whose_clock_is_set_wrong_while_it_runs_acknowledges_nothing_that_it_alone_has(offset: float) -> None:
    overlay = Overlay(9, 3)
    overlay.start()
    overlay.stations[0].machine.wall_offset = offset
    overlay.run(30)
    assert put(overlay, 0) == Failed("clock")
    assert overlay.stations[0].node.problems() != []
    assert isinstance(put(overlay, 1), Found)
    assert contacts(overlay, 2) == [PHONE]
    assert overlay.stations[1].node.problems() == []


def test_a_node_whose_clock_was_an_hour_ahead_while_it_was_alone_acknowledges_nothing_that_others_refuse() -> None:
    overlay = Overlay(6, 3, settings=NodeSettings("test", join=5.0))
    first = overlay.stations[0]
    first.machine.wall_offset = 3600.0
    first.boot()
    overlay.run(10)
    assert isinstance(put(overlay, 0), Found)
    first.machine.wall_offset = 0.0
    assert isinstance(put(overlay, 0), Found)  # nobody is there to mind
    overlay.stations[1].boot()
    overlay.stations[2].boot()
    overlay.run(30)
    assert put(overlay, 0) == Failed("clock")
    assert any("the clock was set back" in problem for problem in first.node.problems())
    assert isinstance(put(overlay, 1), Found)


def test_a_new_configuration_reaches_everybody_and_who_comes_later() -> None:
    overlay = Overlay(10, 3, settings=NodeSettings("test", join=2.0))
    overlay.stations[0].boot()
    overlay.stations[1].boot()
    overlay.run(5)
    heard: dict[int, list[bytes]] = {0: [], 1: [], 2: []}

    def listen(index: int) -> None:
        def receive(record: bytes, now: float) -> None:
            heard[index].append(record)

        overlay.stations[index].config_received = receive  # type: ignore[method-assign]

    listen(0)
    listen(1)
    station = overlay.stations[0]
    station.node.set_config(b"signed", 7, 2, station.process.clock())
    overlay.run(1)
    assert heard == {0: [], 1: [b"signed"], 2: []}
    assert station.node.ownership.replicas == 2
    listen(2)
    overlay.stations[2].boot()
    overlay.run(5)
    assert heard[2][:1] == [b"signed"]


def test_a_trace_names_every_node_that_was_asked() -> None:
    overlay = Overlay(11, 6)
    overlay.start()
    node = overlay.stations[0].node
    results: list[Result] = []
    node.trace(node.target_of(KEY), lambda result, _now: results.append(result), overlay.stations[0].process.clock())
    overlay.run(3)
    (result,) = results
    found = [contact.node for contact in result.finished.contacts]
    others = [owner for owner in node.owners_of(KEY) if owner != node.own]
    assert found[: len(others)] == others
    assert {step.answer for step in result.steps} == {"nodes"}
    assert read(overlay.stations[0].metrics.lookup_seconds.child("trace", "found")) == 1


def test_how_a_node_is_for_another_node_s_console() -> None:
    overlay = Overlay(12, 2)
    overlay.start()
    put(overlay, 0)
    assert overlay.stations[1].node.describe() == {
        "name": "n1",
        "state": "alive",
        "records": 1,
        "synchronised": True,
        "progress": 1.0,
    }


def test_a_record_is_kept_by_kind_and_only_known_kinds_are_read() -> None:
    overlay = Overlay(13, 2)
    overlay.start()
    put(overlay, 0)
    assert overlay.stations[0].store.get(KIND, KEY) is not None
    assert overlay.failures == []


class Above:
    """What runs above the overlay on one node, as far as relays go."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.heard: list[tuple[bytes, Relay]] = []
        self.failed: list[tuple[bytes, Relay]] = []
        self.unlinked: list[bytes] = []
        station.node.relaying.user = self

    def receive_relay(self, node: bytes, relay: Relay, now: float) -> None:
        self.heard.append((node, relay))

    def receive_relay_failure(self, node: bytes, relay: Relay, now: float) -> None:
        self.failed.append((node, relay))

    def receive_link_end(self, node: bytes, now: float) -> None:
        self.unlinked.append(node)

    def send(self, other: Station, relay: Relay) -> bool:
        return self.station.node.relaying.send(other.node_id, relay, self.station.process.clock())


BYE = Relay(1, b"head", b"BYE")


def test_what_one_node_relays_another_gets() -> None:
    overlay = Overlay(7, 3)
    overlay.start()
    above = [Above(station) for station in overlay.stations]
    assert above[0].send(overlay.stations[1], BYE)
    overlay.run(0.25)
    assert above[1].heard == [(overlay.stations[0].node_id, BYE)]
    assert above[2].heard == above[0].failed == []


def test_for_a_relay_to_a_node_without_a_link_one_is_made() -> None:
    overlay = Overlay(7, 2)
    overlay.start()
    one, two = overlay.stations
    above, other = Above(one), Above(two)
    one.node.links.close(two.node_id, "stopped")
    assert above.unlinked == [two.node_id]
    assert above.send(two, BYE)
    overlay.run(0.5)
    assert other.heard == [(one.node_id, BYE)]
    assert above.failed == []


def test_a_relay_to_a_node_that_was_killed_fails_when_its_port_refuses() -> None:
    overlay = Overlay(7, 3)
    overlay.start()
    above = Above(overlay.stations[0])
    overlay.kill(1)
    assert overlay.run_until(lambda: bool(above.unlinked), 1, step=0.01)
    assert above.send(overlay.stations[1], BYE), "nobody knows yet that it is dead"
    assert overlay.run_until(lambda: bool(above.failed), 0.5, step=0.01)
    assert above.failed == [(overlay.stations[1].node_id, BYE)]
    overlay.run(20)
    assert not above.send(overlay.stations[1], BYE)
