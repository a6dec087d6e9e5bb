"""A farm in which some nodes speak an older wire and some a newer one: everything works, and nobody is offended."""

from __future__ import annotations

import pytest

from farm.overlay.quorum import Failed, Found, Outcome
from farm.overlay.scanning import Collected
from farm.overlay.wire import VERSION, Codec, Relay
from farm.registrar.binding import KIND
from farm.security.farm_keys import FarmKeys, KeysKind, Schedule
from tests.overlay.test_node import PHONE, contacts, put
from tests.support.counts import read
from tests.support.overlays import Overlay
from tests.support.versions import NewerCodec, OlderCodec, speak

OFFENCES = ("bad-frame", "bad-message", "bad-record", "bad-contact", "version", "rate", "oversize-frame")
KEYS = [f"sip:user{number}@example.com".encode() for number in range(12)]


def make_farm(versions: str, seed: int = 1) -> Overlay:
    """A node a letter: `o`lder, `n`ewer, or `-` of this version."""
    overlay = Overlay(seed, len(versions))
    for station, version in zip(overlay.stations, versions, strict=True):
        if version == "o":
            speak(station, OlderCodec, VERSION - 1)
        elif version == "n":
            speak(station, NewerCodec, VERSION + 1)
    overlay.start()
    return overlay


def find_offences(overlay: Overlay) -> list[str]:
    """What nodes have counted against others."""
    return [
        f"n{station.index} {reason}"
        for station in overlay.stations
        for reason in OFFENCES
        if read(station.metrics.peer_rejections.child(reason))
    ]


def write_all(overlay: Overlay, cseq: int = 1) -> None:
    nodes = overlay.running()
    for number, key in enumerate(KEYS):
        assert isinstance(put(overlay, nodes[number % len(nodes)].index, cseq, key=key), Found)


def read_all(overlay: Overlay) -> None:
    """Everything is found through every node."""
    for station in overlay.running():
        assert [contacts(overlay, station.index, key) for key in KEYS] == [[PHONE]] * len(KEYS)


@pytest.mark.parametrize("versions", ["o-n-o", "-o", "n-"])
def test_nodes_of_all_versions_join_write_read_and_remove(versions: str) -> None:
    overlay = make_farm(versions)
    write_all(overlay)
    read_all(overlay)
    for index in range(len(versions)):
        assert isinstance(put(overlay, index, 2, removes=True, key=KEYS[index]), Found)
    for index in range(len(versions)):
        assert [contacts(overlay, index, key) for key in KEYS[: len(versions)]] == [[]] * len(versions)
    overlay.run(65)  # a round of comparing
    assert overlay.find_differences() == []
    assert find_offences(overlay) == []
    assert overlay.failures == []


@pytest.mark.parametrize("dying", range(3))
def test_a_crash_is_repaired_whatever_the_versions_of_those_who_are_left(dying: int) -> None:
    overlay = make_farm("on-o-", seed=2)
    write_all(overlay)
    overlay.kill(dying)
    overlay.run(90)  # hold-down, and copying
    assert overlay.find_differences() == []
    read_all(overlay)
    overlay.restart(dying, wiped=True)
    overlay.run(60)
    assert overlay.is_synchronised()
    assert overlay.find_differences() == []
    assert find_offences(overlay) == []
    assert overlay.failures == []


@pytest.mark.parametrize("leaving", range(3))
def test_a_node_of_any_version_leaves_in_order(leaving: int) -> None:
    overlay = make_farm("on-o", seed=3)
    write_all(overlay)
    overlay.leave(leaving)
    overlay.run(30)
    assert overlay.stations[leaving].gone
    assert overlay.find_differences() == []
    read_all(overlay)
    assert find_offences(overlay) == []
    assert overlay.failures == []


def test_a_rolling_upgrade_loses_nothing_of_what_is_acknowledged() -> None:
    overlay = make_farm("ooo", seed=4)
    write_all(overlay)
    for index, station in enumerate(overlay.stations):
        overlay.kill(index)
        overlay.run(2)
        speak(station, Codec, VERSION)
        overlay.restart(index)
        assert overlay.run_until(overlay.is_synchronised, 60)
        write_all(overlay, index + 2)
    read_all(overlay)
    assert [station.node.ownership.lowest_version for station in overlay.stations] == [VERSION] * 3
    assert find_offences(overlay) == []


@pytest.mark.parametrize("wiped", [False, True])
def test_records_of_a_later_kind_hold_up_nobody_among_nodes_that_do_not_know_it(wiped: bool) -> None:
    """A rolling upgrade waits until a node is ready before it goes on to the next one."""
    overlay = make_farm("---")
    keys = FarmKeys(b"x" * 32, "farm", Schedule(86_400, 604_800)).make_next(overlay.stations[0].process.wall())
    for station in overlay.stations:
        station.kinds.append(KeysKind())
    for index in (1, 2):
        overlay.kill(index)
        overlay.restart(index)
        assert overlay.run_until(overlay.is_synchronised, 60)
    for station in overlay.stations[1:]:
        assert station.store.put("keys", b"farm", keys, station.process.clock()) == keys
    older = overlay.stations[0]
    overlay.kill(0)
    older.kinds.pop()
    speak(older, Codec, VERSION - 1)
    overlay.restart(0)
    assert overlay.run_until(overlay.is_synchronised, 60)
    overlay.run(10)  # it is written down
    overlay.kill(2)
    overlay.restart(2, wiped=wiped)
    assert overlay.run_until(overlay.is_synchronised, 60)
    assert overlay.stations[2].store.get("keys", b"farm") == keys
    overlay.leave(2)
    overlay.run(10)
    assert overlay.stations[2].gone
    assert find_offences(overlay) == []
    assert overlay.failures == []


def test_what_is_asked_in_a_later_version_is_answered_as_unsupported() -> None:
    overlay = make_farm("no-", seed=5)
    overlay.run(10)
    codec = overlay.stations[0].node.calls._codec
    assert isinstance(codec, NewerCodec)
    assert len(codec.asked) > 3
    assert {answer.code for answer in codec.answers} == {"unsupported"}
    assert {answer.call for answer in codec.answers} >= set(codec.asked[:-3])


def test_a_feature_is_used_once_nobody_who_lives_is_too_old_for_it() -> None:
    overlay = make_farm("on-", seed=6)

    def lowest() -> list[int]:
        return [station.node.ownership.lowest_version for station in overlay.running()]

    assert lowest() == [VERSION - 1] * 3
    overlay.kill(0)
    overlay.run(20)
    assert lowest() == [VERSION] * 2
    overlay.restart(0)
    overlay.run(20)
    assert lowest() == [VERSION - 1] * 3
    overlay.leave(0)
    overlay.run(20)
    assert lowest() == [VERSION] * 2
    overlay.kill(2)
    overlay.run(20)
    assert lowest() == [VERSION + 1]


def collect(overlay: Overlay, index: int) -> Collected | Failed:
    """All registrations, as a console gets them."""
    came: list[Collected | Failed] = []
    station = overlay.stations[index]
    others = [contact.node for contact in station.node.membership.live()]
    station.node.access.collect(KIND, others, lambda outcome, _now: came.append(outcome), station.process.clock())
    overlay.run(10)
    (outcome,) = came
    return outcome


def test_a_list_of_everything_misses_one_node_that_cannot_give_its_part_and_fails_with_two() -> None:
    overlay = make_farm("--n--o", seed=7)
    write_all(overlay)
    outcome = collect(overlay, 0)
    assert not isinstance(outcome, Failed)
    assert sorted(outcome) == sorted(KEYS)
    overlay = make_farm("--n-oo", seed=7)
    write_all(overlay)
    assert collect(overlay, 0) == Failed("too-few-owners")
    assert find_offences(overlay) == []


def test_nobody_waits_for_a_node_that_does_not_know_the_question() -> None:
    overlay = make_farm("-oo", seed=8)
    ended: list[tuple[Outcome, float]] = []
    station = overlay.stations[0]
    others = [contact.node for contact in station.node.membership.live()]
    at = station.process.clock()
    station.node.access.collect(KIND, others, lambda outcome, now: ended.append((outcome, now - at)), at)  # type: ignore[arg-type]
    overlay.run(1)
    ((outcome, seconds),) = ended
    assert outcome == Failed("too-few-owners")
    assert seconds < 0.1


def test_nothing_is_relayed_to_a_node_that_does_not_know_what_that_is() -> None:
    """Its phones' flows count as gone: what it cannot understand it would pass over without a word."""
    overlay = make_farm("o-n")
    older, same, newer = overlay.stations
    sender = same.node.relaying
    now = same.process.clock()
    assert not sender.send(older.node_id, Relay(1, b"", b"BYE"), now)
    assert sender.send(newer.node_id, Relay(1, b"", b"BYE"), now)
    overlay.run(1)
    assert find_offences(overlay) == []
