"""What is compared with whom as members come and go, and whose answers count meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterable

from farm.overlay.errands import COPY, PERIODIC, SYNC, URGENT, Errand
from farm.overlay.ids import PARTITIONS
from farm.overlay.replication import Plan

A, B, C, D = (bytes([letter]) * 32 for letter in b"abcd")
P = 9


class Farm:
    """One partition, its owners given by hand; D, unless said otherwise, is who plans."""

    def __init__(self, own: bytes = A) -> None:
        self.plan = Plan(own, 30.0)
        self.now = 100.0

    def update(
        self,
        current: Iterable[bytes],
        coming: Iterable[bytes] | None = None,
        *,
        alive: Iterable[bytes] | None = None,
        joining: Iterable[bytes] = (),
        filled: Iterable[int] = (),
    ) -> list[tuple[float, int, bytes]]:
        owners: list[tuple[bytes, ...]] = [()] * PARTITIONS
        to_come = list(owners)
        owners[P] = tuple(current)
        to_come[P] = owners[P] if coming is None else tuple(coming)
        nodes = frozenset(owners[P] if alive is None else alive)
        live = nodes.union(to_come[P], joining)
        errands = self.plan.update(owners, to_come, nodes, live, set(filled), self.now)
        assert all(isinstance(errand, Errand) and list(errand.partitions) == [P] for errand in errands)
        return [(errand.at - self.now, errand.priority, errand.node) for errand in errands]


def test_the_only_owner_is_settled_at_once() -> None:
    farm = Farm()
    assert not farm.plan.is_settled(P)
    assert farm.update([A]) == []
    assert farm.plan.is_settled(P)
    assert not farm.plan.is_settled(P + 1)
    assert farm.plan.count_missing() == (0, 0, 0)


def test_a_joining_node_hears_out_all_owners_of_now_and_of_then() -> None:
    farm = Farm()
    assert farm.update([B, C], [A, B, D]) == [(0, SYNC, B), (0, SYNC, C), (0, SYNC, D)]
    assert not farm.plan.is_settled(P)
    assert not farm.plan.found_equal([P], B)
    assert not farm.plan.found_equal([P], B)
    assert not farm.plan.found_equal([P], C)
    assert farm.plan.found_equal([P], D)  # the last of the last
    assert farm.plan.is_settled(P)
    assert farm.update([A, B, D]) == []  # it is alive
    assert farm.plan.is_settled(P)


def test_a_fresh_joiner_unsettles_nobody_when_it_has_compared() -> None:
    farm = Farm()
    farm.update([A, B])
    farm.plan.found_equal([P], B)
    assert farm.update([A, B], [A, D]) == [(10, COPY, D)]  # in case it does not
    assert farm.plan.is_settled(P)
    farm.plan.found_equal([P], D)
    assert farm.update([A, D], alive=[A, B, D]) == []
    assert farm.plan.is_settled(P)


def test_one_that_comes_unheard_unsettles_the_owners_and_the_smaller_asks_first() -> None:
    farm = Farm(B)
    farm.update([B, C])
    farm.plan.found_equal([P], C)
    assert farm.plan.is_settled(P)
    assert farm.update([A, B, C]) == [(1, SYNC, A)]
    assert not farm.plan.is_settled(P)
    assert farm.update([B, C, D]) == [(0, SYNC, D)]  # A has gone and is not waited for
    assert not farm.plan.is_settled(P)
    farm.plan.found_equal([P], D)
    assert farm.plan.is_settled(P)


def test_a_node_that_moves_up_for_a_dead_one_copies_after_the_hold_down_the_nearest_first() -> None:
    farm = Farm(D)
    farm.update([A, B, C], alive=[A, B, C, D])
    assert farm.update([B, C, D]) == [(30, COPY, B), (31, COPY, C)]
    assert not farm.plan.is_settled(P)


def test_one_that_moves_up_and_holds_the_partition_compares_at_once() -> None:
    farm = Farm(D)
    farm.update([A, B, C], alive=[A, B, C, D])
    assert farm.update([B, C, D], filled=[P]) == [(0, COPY, B), (0, COPY, C)]


def test_the_owners_stay_settled_and_look_after_the_one_who_moves_up() -> None:
    farm = Farm(B)
    farm.update([A, B, C], alive=[A, B, C, D])
    farm.plan.found_equal([P], A)
    farm.plan.found_equal([P], C)
    assert farm.update([B, C, D]) == [(40, COPY, D)]
    assert farm.plan.is_settled(P)
    assert farm.plan.count_missing() == (1, 0, 0)
    farm.plan.found_equal([P], D)
    assert farm.plan.count_missing() == (0, 0, 0)


def test_the_last_copy_is_given_and_taken_at_once() -> None:
    farm = Farm(C)
    farm.update([A, B, C], alive=[A, B, C, D])
    farm.plan.found_equal([P], A)
    farm.plan.found_equal([P], B)
    assert farm.update([B, C, D]) == [(41, COPY, D)]
    assert farm.update([C, D]) == [(0, URGENT, D)]
    farm = Farm(D)
    farm.update([A, B], alive=[A, B, D])
    assert farm.update([B, D]) == [(0, URGENT, B)]
    farm = Farm(C)
    farm.update([A, B, C], alive=[A, B, C, D])
    assert farm.update([C, D]) == [(0, URGENT, D)]  # two at once


def test_who_owned_before_and_does_again_may_have_missed_something() -> None:
    farm = Farm()
    farm.update([A, B], alive=[A, B, C])
    farm.plan.found_equal([P], B)
    farm.update([A, C], alive=[A, B, C])
    farm.plan.found_equal([P], C)
    farm.update([A, B], alive=[A, B, C])
    assert farm.plan.count_missing() == (1, 0, 0)


def test_a_joining_node_is_no_missing_copy() -> None:
    farm = Farm()
    farm.update([A, B], [A, C])
    farm.plan.found_equal([P], B)
    assert farm.plan.count_missing() == (0, 0, 0)


def test_an_owner_that_restarts_is_compared_again_before_it_counts_as_a_copy() -> None:
    farm = Farm()
    farm.update([A, B])
    farm.plan.found_equal([P], B)
    assert farm.update([A], [A, B], alive=[A]) == [(10, COPY, B)]
    assert farm.plan.is_settled(P)
    assert farm.update([A, B]) == [(0, SYNC, B)]
    assert not farm.plan.is_settled(P)


def test_what_is_no_longer_owned_is_forgotten() -> None:
    farm = Farm()
    farm.update([A, B])
    assert farm.plan.unsettled == {P}
    assert farm.update([B, C], alive=[A, B, C]) == []
    assert farm.plan.unsettled == set()
    assert not farm.plan.is_settled(P)
    assert not farm.plan.found_equal([P], B)
    assert list(farm.plan.peers) == []


def test_a_round_compares_what_is_equal_or_overdue() -> None:
    farm = Farm()
    farm.update([A, B])
    assert farm.plan.owners(P) == (A, B)
    assert farm.plan.shared(B, 0, PARTITIONS, 149.9) == []
    assert farm.plan.shared(B, 0, PARTITIONS, 150.0) == [P]
    farm.plan.found_equal([P], B)
    assert farm.plan.shared(B, 0, PARTITIONS, 100.0) == [P]
    assert farm.plan.shared(B, P, P + 1, 100.0) == [P]
    assert farm.plan.shared(B, P + 1, PARTITIONS, 100.0) == []
    assert farm.plan.shared(B, 0, P, 100.0) == []
    assert farm.plan.shared(C, 0, PARTITIONS, 100.0) == []


def test_missing_copies_are_counted_up_to_more() -> None:
    farm = Farm()
    farm.update([A, B, C, D])
    assert farm.plan.count_missing() == (0, 0, 1)
    farm.plan.found_equal([P], B)
    assert farm.plan.count_missing() == (0, 1, 0)


def test_partitions_that_are_dealt_with_together_come_to_the_same_as_each_alone() -> None:
    """Owners by chance, and who is found equal by chance: one plan for 12 partitions and 12 plans for one each."""
    for seed in range(6):
        rng = random.Random(seed)
        numbers = rng.sample(range(PARTITIONS), 12)
        together = Plan(A, 30.0)
        alone = {number: Plan(A, 30.0) for number in numbers}
        for step in range(8):
            now = 100.0 + step * rng.choice((1.0, 40.0))
            live = frozenset([A, *rng.sample([B, C, D], rng.randrange(4))])
            nodes = frozenset(rng.sample(sorted(live), rng.randrange(1, len(live) + 1)))
            some = [_choose(rng, nodes) for _ in range(3)]
            to_come = [_choose(rng, live) for _ in range(3)]
            current: list[tuple[bytes, ...]] = [()] * PARTITIONS
            coming = list(current)
            for number in numbers:
                current[number], coming[number] = rng.choice(some), rng.choice(to_come)
            filled = set(rng.sample(numbers, 6))
            errands = together.update(current, coming, nodes, live, filled, now)
            done = sorted((each.at, each.priority, number, each.node) for each in errands for number in each.partitions)
            expected = []
            for number in numbers:
                lone, to_be = _only(number, current), _only(number, coming)
                for each in alone[number].update(lone, to_be, nodes, live, filled, now):
                    assert list(each.partitions) == [number]
                    expected.append((each.at, each.priority, number, each.node))
            assert done == sorted(expected)
            for node in rng.sample([B, C, D], 2):
                found = rng.sample(numbers, 9)
                together.found_equal(found, node)
                for number in found:
                    alone[number].found_equal([number], node)
            assert together.unsettled == {number for number in numbers if alone[number].unsettled}
            assert together.duties == {number for number in numbers if alone[number].duties}
            for node in (B, C, D):
                shared = [number for number in sorted(numbers) if alone[number].shared(node, 0, PARTITIONS, now)]
                assert together.shared(node, 0, PARTITIONS, now) == shared
            missing = [alone[number].count_missing() for number in numbers]
            assert together.count_missing() == tuple(map(sum, zip(*missing, strict=True)))


def _choose(rng: random.Random, nodes: frozenset[bytes]) -> tuple[bytes, ...]:
    return tuple(rng.sample(sorted(nodes), rng.randrange(1, min(3, len(nodes)) + 1)))


def _only(number: int, owners: list[tuple[bytes, ...]]) -> list[tuple[bytes, ...]]:
    return [each if partition == number else () for partition, each in enumerate(owners)]


def test_an_errand_is_done_for_those_of_its_partitions_that_still_need_it() -> None:
    plan = Plan(A, 30.0)
    owners: list[tuple[bytes, ...]] = [(B, C)] * PARTITIONS
    owners[:4] = [(A, B)] * 4
    (errand,) = plan.update(owners, owners, frozenset([A, B, C]), frozenset([A, B, C]), (), 100.0)
    assert errand == Errand(100.0, SYNC, [0, 1, 2, 3], B)
    assert not plan.found_equal([1, 2, 70], B)
    assert plan.choose([0, 1, 2, 3, 4], B, SYNC) == [0, 3]
    assert plan.choose([0, 1, 2, 3, 4], B, PERIODIC) == [0, 1, 2, 3]
    assert plan.choose([0, 1], C, SYNC) == []
    assert plan.found_equal([0, 3], B)
    assert not plan.found_equal([0, 3], B)
    assert plan.count_missing() == (0, 0, 0)


def test_which_partitions_lack_what_is_told_with_those_owned_here() -> None:
    farm = Farm()
    farm.update([A, B, C])
    assert (farm.plan.owned(), farm.plan.missing(), farm.plan.count_missing()) == ([P], {P: 2}, (0, 1, 0))
    farm.plan.found_equal([P], C)
    assert (farm.plan.missing(), farm.plan.count_missing()) == ({P: 1}, (1, 0, 0))
    farm.update([B, C], [A, B, C])
    assert farm.plan.owned() == [], "it is to be owned here, and is not yet"
