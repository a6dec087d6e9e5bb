"""Replicas stay equal: joins, crashes, departures, cuts and what they may not lose. The real upkeep of several nodes in
made-up time (tests/support/replicas)."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from farm.overlay.ids import PARTITIONS, partition_of
from farm.overlay.owners import Place, Placement
from farm.overlay.store import Row as StoredRow
from farm.overlay.wire import Digest, Error, Keys, Pull, Push, Row
from farm.registrar.binding import KIND, is_alive, value_of
from tests.support.counts import read
from tests.support.replicas import MAX_EXPIRES, Node, Replicas


def make_farm(nodes: int, replicas: int = 3, **settings: object) -> tuple[Replicas, list[Node]]:
    """A farm at rest."""
    farm = Replicas(replicas, **settings)  # type: ignore[arg-type]
    made = []
    for place in range(nodes):
        made.append(farm.add(bytes([(place * 256 // nodes + 7) % 256]) * 32))
        farm.run(2)
    assert farm.is_quiet()
    return farm, made


def moved(nodes: Iterable[Node]) -> float:
    """Records that repair brought to these nodes, ever."""
    return sum(read(node.metrics.repair_records.child("in")) for node in nodes)


def fill(farm: Replicas, records: int) -> None:
    for number in range(records):
        farm.write(b"user%d" % number, "call", 1)


def test_a_lone_node_is_settled_at_once_and_becomes_alive() -> None:
    farm = Replicas()
    node = farm.add()
    assert node.upkeep.synchronised
    assert node.upkeep.is_settled(17)
    assert node.upkeep.progress() == 1.0
    farm.run(1)
    assert (node.state, node.synchronisations) == ("alive", 1)
    assert node.asked == []


def test_a_joining_node_gets_everything_before_it_is_alive_and_its_answers_count() -> None:
    farm, (first,) = make_farm(1)
    fill(farm, 200)
    second = farm.add()
    assert not second.upkeep.is_settled(partition_of(b"user0"))
    assert first.upkeep.is_settled(partition_of(b"user0"))  # a fresh node unsettles nobody
    assert second.upkeep.progress() < 1.0
    farm.run(2)
    assert second.state == "alive"
    assert len(second.store) == 200
    assert second.upkeep.is_settled(partition_of(b"user0"))
    assert farm.differences() == []
    assert moved([second]) == 200


def test_a_node_that_comes_back_gets_only_what_it_missed() -> None:
    farm, nodes = make_farm(3)
    fill(farm, 100)
    farm.crash(nodes[1])
    farm.write(b"user3", "call", 2)
    farm.write(b"new", "call", 1)
    before = moved(farm.nodes.values())
    back = farm.add(nodes[1].id, store_of=nodes[1])
    farm.run(2)
    assert back.state == "alive"
    assert farm.differences() == []
    assert moved(farm.nodes.values()) - before <= 4  # user3 and new: once from each of the others, at most


def test_all_start_at_once_with_what_each_had() -> None:
    farm, nodes = make_farm(3)
    for node in nodes:
        farm.crash(node)
    apart = [Node(farm, node.id, 0.0) for node in nodes]
    for place, node in enumerate(apart):
        node.current.set_nodes([Place(node.id)])
        record = farm.write(b"user%d" % place, "call", 1, through=_stand_alone(farm, node))
        del farm.nodes[node.id]
        assert record.entries
    started = [farm.add(node.id, store_of=node) for node in apart]
    farm.run(5)
    assert [node.state for node in started] == ["alive"] * 3
    assert [len(node.store) for node in started] == [3, 3, 3]


def _stand_alone(farm: Replicas, node: Node) -> Node:
    farm.nodes[node.id] = node
    node.coming.set_nodes([Place(node.id)])
    return node


def test_after_a_crash_nothing_is_copied_for_30_seconds_and_then_everything() -> None:
    farm, nodes = make_farm(4)
    fill(farm, 100)
    farm.run(1)
    farm.crash(nodes[0])
    farm.run(29)
    assert farm.differences() != []
    owned_anew = [
        (node, partition)
        for node in nodes[1:]
        for partition in range(0, PARTITIONS, 7)
        if node.id in node.current.owners(partition) and not node.upkeep.is_settled(partition)
    ]
    assert owned_anew  # their answers do not count
    farm.run(10)
    assert farm.differences() == []
    assert farm.is_quiet()


def test_a_crash_that_passes_costs_nothing() -> None:
    farm, nodes = make_farm(4)
    fill(farm, 50)
    farm.run(70)  # strangers have let go
    before = moved(nodes)
    farm.part([nodes[0]])
    farm.run(20)
    farm.heal()
    farm.run(60)
    assert farm.is_quiet()
    assert moved(nodes) == before


def test_the_last_copy_is_copied_at_once() -> None:
    farm, nodes = make_farm(4)
    fill(farm, 100)
    farm.run(1)
    owners = nodes[0].current.owners(partition_of(b"user0"))
    for owner in owners[:2]:
        node = farm.nodes[owner]
        node.up = False
        node.upkeep.stop()
        del farm.nodes[owner]
    farm.tell_members()
    farm.run(3)
    assert all(node.store.get(KIND, b"user0") is not None for node in farm.nodes.values())


def test_both_sides_of_a_cut_are_unsettled_until_they_have_heard_each_other() -> None:
    farm, nodes = make_farm(4)
    farm.part(nodes[:2])
    farm.write(b"left", "call", 1, through=nodes[0])
    farm.write(b"right", "call", 1, through=nodes[3])
    farm.run(60)
    farm.heal()
    partition = partition_of(b"left")
    owners = nodes[0].current.owners(partition)
    assert not any(farm.nodes[owner].upkeep.is_settled(partition) for owner in owners)
    farm.run(5)
    assert all(farm.nodes[owner].upkeep.is_settled(partition) for owner in owners)
    farm.run(70)
    assert farm.differences() == []
    assert farm.losses() == []
    assert farm.is_quiet()


def test_a_node_that_leaves_has_handed_over_everything_when_it_says_so() -> None:
    farm, nodes = make_farm(4, replicas=1)
    fill(farm, 100)
    leaver = nodes[2]
    assert len(leaver.store) > 10
    after = Placement(1)
    after.set_nodes([Place(node.id) for node in nodes if node is not leaver])
    left: list[float] = []
    leaver.upkeep.leave(after, left.append, leaver.now)
    assert left == []
    farm.run(2)
    assert len(left) == 1
    farm.crash(leaver)
    assert farm.losses() == []


def test_what_was_stored_for_another_is_given_to_it_as_soon_as_it_is_back() -> None:
    farm, nodes = make_farm(4, replicas=1)
    (owner,) = nodes[0].current.owners(partition_of(b"hinted"))
    farm.crash(farm.nodes[owner])
    farm.run(7)
    (heir,) = next(iter(farm.nodes.values())).current.owners(partition_of(b"hinted"))
    stranger = next(node for node in farm.nodes.values() if node.id != heir)
    farm.put(stranger, b"hinted", farm.write(b"another", "call", 1), stranger)
    back = farm.add(owner)
    farm.run(1)
    assert back.store.get(KIND, b"hinted") is not None


def test_a_change_of_members_is_followed_up_a_little_at_a_time() -> None:
    """Calls cannot wait for 4096 partitions to be looked at."""
    farm, _ = make_farm(5, replicas=6)
    made = farm.add()
    turns = []
    for _ in range(4):
        turns.append([len(message.digests) for _, message in made.asked if isinstance(message, Digest)])
        made.asked.clear()
        made.deadlines.run_due(made.now)
    turns.append([len(message.digests) for _, message in made.asked if isinstance(message, Digest)])
    assert turns == [[], [], [512, 512], [512, 512], [512]]  # first it looks for what it holds for others


def test_a_lone_node_leaves_at_once() -> None:
    farm, (node,) = make_farm(1)
    fill(farm, 3)
    left: list[float] = []
    node.upkeep.leave(Placement(3), left.append, node.now)
    farm.run(1)
    assert len(left) == 1


def test_what_was_stored_for_another_is_handed_over_and_dropped_a_minute_later() -> None:
    farm, nodes = make_farm(4, replicas=1)
    record = farm.write(b"hinted", "call", 1)
    (owner,) = nodes[0].current.owners(partition_of(b"hinted"))
    stranger = next(node for node in nodes if node.id != owner)
    newer = farm.write(b"hinted", "call", 2)
    farm.nodes[owner].store.drop(partition_of(b"hinted"), farm.nodes[owner].now)
    writer = next(iter(farm.nodes.values()))
    farm.put(stranger, b"hinted", record, writer)
    farm.put(stranger, b"hinted", newer, writer)
    farm.run(7)
    assert farm.losses() == []
    farm.write(b"hinted", "call", 3)  # what comes meanwhile does not hold it up
    assert stranger.store.get(KIND, b"hinted") is not None
    farm.run(70)
    assert stranger.store.get(KIND, b"hinted") is None
    assert StoredRow(KIND, b"hinted", b"") in stranger.store.take_unwritten(1000)
    assert farm.losses() == []


def test_what_one_owner_missed_is_found_within_a_minute() -> None:
    farm, nodes = make_farm(3)
    fill(farm, 20)
    farm.run(60)
    writer = nodes[0]
    record = farm.write(b"missed", "call", 1)
    nodes[1].store.drop(partition_of(b"missed"), nodes[1].now)
    assert record
    farm.run(60)
    assert farm.differences() == []
    assert sum(read(node.metrics.antientropy_mismatch.child()) for node in nodes) >= 1
    assert writer.upkeep.is_settled(partition_of(b"missed"))


def test_three_idle_nodes_compare_all_they_hold_for_a_few_kilobytes_a_minute() -> None:
    farm, nodes = make_farm(3)
    fill(farm, 200)
    farm.run(120)
    for node in nodes:
        node.asked.clear()
    farm.run(60)
    asked = [message for node in nodes for _, message in node.asked]
    assert asked
    assert all(isinstance(message, Digest) for message in asked)
    digests = sum(len(message.digests) for message in asked if isinstance(message, Digest))
    assert 3 * 64 <= digests <= 3 * 64 * 2  # three pairs, once or twice; 21 bytes each


def test_tombstones_that_end_at_slightly_different_times_are_not_given_back_and_forth() -> None:
    farm, nodes = make_farm(2)
    for number in range(50):
        farm.write(b"user%d" % number, "call", 1, granted=0)
    farm.run(MAX_EXPIRES + 40)
    before = moved(nodes)
    farm.run(60)
    assert [len(node.store) for node in nodes] == [0, 0]
    assert moved(nodes) == before


def test_no_number_of_comparisons_makes_a_phone_immortal() -> None:
    """Each hop makes a copy seem younger by the transfer's delay; what is equal is not exchanged."""
    farm, nodes = make_farm(2, delay=0.02, skewed=False)
    farm.write(b"phone", "call", 1, granted=300)
    for _ in range(14):
        farm.part([nodes[0]])
        farm.run(10)
        farm.heal()
        farm.run(10)
    farm.run(21)
    for node in nodes:
        held = node.store.get(KIND, b"phone")
        assert held is not None
        assert not is_alive(value_of(node.kind.unpack(held).entries[0]), node.now)


def test_a_copy_that_lapsed_too_early_is_made_good() -> None:
    """A clock that jumped while a node was down has it believe that all phones are gone."""
    farm, nodes = make_farm(2)
    record = farm.write(b"phone", "call", 1)
    nodes[1].store.drop(partition_of(b"phone"), nodes[1].now)
    packed = nodes[1].kind.shift(nodes[0].kind.pack(record), nodes[1].skew - nodes[0].skew - MAX_EXPIRES - 5)
    nodes[1].store.put(KIND, b"phone", packed, nodes[1].now)
    farm.run(60)
    held = nodes[1].store.get(KIND, b"phone")
    assert held is not None
    assert is_alive(value_of(nodes[1].kind.unpack(held).entries[0]), nodes[1].now)


@pytest.mark.parametrize(
    "message",
    [
        Digest(1, [(-1, b"")]),
        Digest(1, [(PARTITIONS + 64, b"")]),
        Keys(1, PARTITIONS),
        Pull(1, -1),
        Pull(1, 0, [b""] * 5000),
        Push(1, [Row("registration", b"k", b"")] * 5000),
    ],
)
def test_questions_that_make_no_sense_are_refused(message: Digest | Keys | Pull | Push) -> None:
    _farm, (node,) = make_farm(1)
    answer = node.upkeep.receive(b"x" * 32, message, 0.0, node.now)
    assert answer == Error(1, "bad-request")


def test_broken_records_of_others_are_refused_and_counted() -> None:
    _farm, (node,) = make_farm(1)
    rows = [
        Row(KIND, b"k", b"\xff"),
        Row(KIND, b"", b"\x93\x90\x00\x00"),
        Row("unknown", b"k", b"\x93\x90\x00\x00"),
    ]
    answer = node.upkeep.receive(b"x" * 32, Push(1, rows), 0.0, node.now)
    assert answer.refused == 3  # type: ignore[union-attr]
    assert read(node.metrics.peer_rejections.child("bad-record")) == 1
    assert len(node.store) == 0


def test_after_a_stop_nothing_happens_any_more() -> None:
    farm, nodes = make_farm(2)
    for node in nodes:
        node.upkeep.stop()
        node.asked.clear()
    farm.run(100)
    assert [node.asked for node in nodes] == [[], []]
    assert not nodes[0].upkeep.synchronised


def tell_story(seed: int, steps: int) -> Replicas:
    """A life of a farm: writes, crashes (as many at a time as may be), joins, cuts, lost messages."""
    farm = Replicas(3, seed=seed)
    rng = random.Random(seed)
    for _ in range(4):
        farm.add()
        farm.run(2)
    farm.loss = rng.choice((0.0, 0.0, 0.05))
    cseq = 0
    for _ in range(steps):
        what = rng.randrange(10)
        nodes = list(farm.nodes.values())
        if what < 6:
            for _ in range(30):
                cseq += 1
                farm.write(
                    b"user%d" % rng.randrange(60),
                    f"call{rng.randrange(3)}",
                    cseq,
                    granted=rng.choice((0, 100, MAX_EXPIRES, MAX_EXPIRES)),
                    through=rng.choice(nodes),
                )
        elif what == 6 and len(nodes) > 4 and not farm.sides:
            farm.run(30)  # what the last one left is copied, or has the copies it had
            if farm.is_quiet():
                for node in rng.sample(list(farm.nodes.values()), rng.randrange(1, 3)):
                    farm.crash(node)
                farm.run(rng.choice((1, 60)))
        elif what == 7 and len(nodes) < 7:
            farm.add()
        elif what == 8 and not farm.sides and all(node.state == "alive" for node in nodes):
            farm.part(rng.sample(nodes, rng.randrange(1, len(nodes))))
        elif what == 9 and farm.sides:
            farm.heal()
        farm.run(rng.choice((0.01, 1, 5, 20)))
    farm.heal()
    farm.loss = 0.0
    farm.run(200)
    return farm


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_all_owners_become_equal_and_nothing_is_lost_or_comes_back(seed: int) -> None:
    farm = tell_story(seed, 20)
    assert farm.differences() == []
    assert farm.losses() == []
    assert farm.is_quiet()
