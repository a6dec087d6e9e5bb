"""Iterative lookups: told step by step, and against small networks."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.overlay.ids import sort_nearest
from farm.overlay.lookup import Ask, Finished, Lookup, Wait, is_askable
from farm.overlay.wire import ALIVE, DEAD, JOINING, LEFT, SUSPECT, Contact

TARGET = bytes(32)
OWN = b"\xff" * 32


def contact(number: int, host: str = "192.0.2.1", port: int = 7000) -> Contact:
    """A contact at this distance from the target, in units of 2^240."""
    return Contact(number.to_bytes(2, "big") + bytes(30), host, port, 1, ALIVE)


def lookup_of(*known: int, want: int = 2, patience: float = 1.0, hedge: float | None = None, **more: Any) -> Lookup:
    return Lookup(
        TARGET,
        want,
        [contact(number) for number in known],
        own=OWN,
        deadline_at=more.pop("deadline_at", 10.0),
        patience=lambda node: patience,
        hedge_after=None if hedge is None else lambda node: hedge,
        **more,
    )


def ask_all(lookup: Lookup, now: float) -> list[int]:
    """Take questions until there are none for now; answers whom they are for."""
    asked = []
    while isinstance(step := lookup.next(now), Ask):
        asked.append(int.from_bytes(step.contact.node[:2], "big"))
    return asked


def answer(lookup: Lookup, number: int, *contacts: int, now: float = 0.0) -> None:
    lookup.receive_nodes(contact(number).node, [contact(each) for each in contacts], now)


def found(lookup: Lookup, now: float) -> tuple[list[int], int, int, bool]:
    step = lookup.next(now)
    assert isinstance(step, Finished)
    return (
        [int.from_bytes(each.node[:2], "big") for each in step.contacts],
        step.hops,
        step.rpcs,
        step.in_time,
    )


def test_three_are_asked_at_once_nearest_first_and_one_more_with_each_answer() -> None:
    lookup = lookup_of(50, 40, 30, 20, 10)
    assert ask_all(lookup, 0.0) == [10, 20, 30]
    assert lookup.next(0.0) == Wait(1.0)
    answer(lookup, 30, 5)
    assert ask_all(lookup, 0.1) == [5]
    assert lookup.in_flight == 3


def test_it_ends_when_the_nearest_that_answered_are_stable() -> None:
    lookup = lookup_of(10, 20, 30)
    ask_all(lookup, 0.0)
    answer(lookup, 30)
    answer(lookup, 10, 20, 30)
    assert lookup.next(0.1) == Wait(1.0)  # 20 is nearer than 30, and may still answer
    answer(lookup, 20, 10)
    assert found(lookup, 0.2) == ([10, 20], 1, 3, True)
    assert found(lookup, 99.0) == ([10, 20], 1, 3, True)


def test_those_further_away_are_not_waited_for() -> None:
    lookup = lookup_of(10, 20, 30)
    ask_all(lookup, 0.0)
    answer(lookup, 10)
    answer(lookup, 20)
    assert found(lookup, 0.1) == ([10, 20], 1, 3, True)


def test_hops_are_counted_along_the_chain_that_led_to_what_was_found() -> None:
    lookup = lookup_of(90, want=1)
    assert ask_all(lookup, 0.0) == [90]
    answer(lookup, 90, 50, 60)
    assert ask_all(lookup, 0.1) == [50, 60]
    answer(lookup, 60, 7)
    assert ask_all(lookup, 0.2) == [7]
    answer(lookup, 7, 50)
    assert found(lookup, 0.3) == ([7], 3, 4, True)


def test_who_never_answers_is_not_among_the_found_however_near() -> None:
    """js-libp2p #3536."""
    lookup = lookup_of(30, 40, want=2)
    ask_all(lookup, 0.0)
    answer(lookup, 30, 1, 2, 3)
    answer(lookup, 40, 1)
    assert ask_all(lookup, 0.1) == [1, 2, 3]
    lookup.receive_failure(contact(2).node, 0.2)
    assert lookup.next(0.3) == Wait(1.1)
    assert lookup.next(1.1) == Wait(1.35)  # late, but a segment may be lost
    assert found(lookup, 1.35) == ([30, 40], 1, 5, True)


def test_late_ones_are_waited_for_when_nothing_else_is_to_be_done() -> None:
    lookup = lookup_of(10, 20, 30, patience=0.1)
    ask_all(lookup, 0.0)
    answer(lookup, 20, now=0.05)
    answer(lookup, 30, now=0.05)
    assert lookup.next(0.2) == Wait(0.35)
    answer(lookup, 10, now=0.3)
    assert found(lookup, 0.3) == ([10, 20], 1, 3, True)


def test_late_ones_that_have_failed_or_are_further_away_are_not_waited_for() -> None:
    lookup = lookup_of(10, 20, 30, 40, want=2, patience=0.1)
    ask_all(lookup, 0.0)
    assert ask_all(lookup, 0.1) == [40]
    answer(lookup, 20, now=0.1)
    answer(lookup, 30, now=0.1)
    lookup.receive_failure(contact(10).node, 0.15)
    assert found(lookup, 0.15) == ([20, 30], 1, 4, True)


def test_an_answer_that_comes_late_still_counts() -> None:
    lookup = lookup_of(10, 20, 30, 40, want=4, patience=0.5)
    assert ask_all(lookup, 0.0) == [10, 20, 30]
    assert ask_all(lookup, 0.5) == [40]
    assert lookup.in_flight == 1
    answer(lookup, 10, 5, now=0.6)
    assert ask_all(lookup, 0.6) == [5]
    answer(lookup, 40, now=0.7)
    answer(lookup, 5, now=0.7)
    assert lookup.next(0.7) == Wait(0.75)
    assert found(lookup, 0.75) == ([5, 10, 40], 2, 5, True)


def test_a_slow_answer_lets_one_more_be_asked_and_no_more() -> None:
    lookup = lookup_of(10, 20, 30, 40, 50, patience=1.0, hedge=0.2)
    ask_all(lookup, 0.0)
    answer(lookup, 20, now=0.1)
    assert ask_all(lookup, 0.1) == [40]
    assert lookup.next(0.1) == Wait(0.2)
    # 10 and 30 are slow now, 40 is not; only 50 is left
    step = lookup.next(0.2)
    assert step == Ask(contact(50), True)
    assert lookup.hedges == 1
    assert lookup.next(0.2) == Wait(pytest.approx(0.3))  # type: ignore[arg-type]
    assert lookup.in_flight == 4


def test_hedges_are_at_most_as_many_as_the_questions() -> None:
    lookup = lookup_of(*range(10, 30), hedge=0.1, patience=5.0)
    assert len(ask_all(lookup, 0.0)) == 3
    assert len(ask_all(lookup, 0.1)) == 3
    assert len(ask_all(lookup, 0.2)) == 0
    assert lookup.next(0.2) == Wait(5.0)


def test_the_deadline_ends_it_with_those_who_answered() -> None:
    lookup = lookup_of(10, 20, 30, deadline_at=0.5)
    ask_all(lookup, 0.0)
    assert lookup.next(0.1) == Wait(0.5)
    answer(lookup, 20)
    assert found(lookup, 0.5) == ([20], 1, 3, False)
    answer(lookup, 10)
    assert found(lookup, 0.6) == ([20], 1, 3, False)


def test_with_nobody_to_ask_it_ends_at_once() -> None:
    assert found(lookup_of(), 0.0) == ([], 0, 0, True)


def test_what_was_not_asked_is_not_heard() -> None:
    lookup = lookup_of(10, 20, 30, 40, want=1)
    ask_all(lookup, 0.0)
    answer(lookup, 40, 1)
    answer(lookup, 99, 1)
    lookup.receive_failure(contact(40).node, 0.0)
    answer(lookup, 10)
    answer(lookup, 10, 1)
    assert found(lookup, 0.1) == ([10], 1, 3, True)


def test_we_do_not_ask_ourselves_nor_anybody_twice() -> None:
    lookup = lookup_of(10, want=9)
    ask_all(lookup, 0.0)
    lookup.receive_nodes(contact(10).node, [Contact(OWN, "192.0.2.1", 7000), contact(20), contact(20), contact(10)], 0)
    assert ask_all(lookup, 0.0) == [20]
    answer(lookup, 20, 10, 20)
    assert found(lookup, 0.1) == ([10, 20], 2, 2, True)


def test_an_address_that_worked_is_not_replaced_by_hearsay() -> None:
    lookup = lookup_of(10, 20, want=2, alpha=1)
    ask_all(lookup, 0.0)
    lookup.receive_nodes(contact(10).node, [contact(20, host="203.0.113.66")], 0.0)
    assert lookup.next(0.0) == Ask(contact(20), False)


@pytest.mark.parametrize(
    "bad",
    [
        Contact(b"short", "192.0.2.1", 7000),
        Contact(bytes(33), "192.0.2.1", 7000),
        contact(1, host=""),
        contact(1, host="a" * 256),
        contact(1, host="two words"),
        contact(1, host="line\nbreak"),
        contact(1, host="bücher.example"),
        contact(1, port=0),
        contact(1, port=65_536),
        contact(1, port=-1),
        Contact(contact(1).node, "192.0.2.1", 7000, 1, DEAD),
        Contact(contact(1).node, "192.0.2.1", 7000, 1, LEFT),
        Contact(contact(1).node, "192.0.2.1", 7000, 1, 77),
        Contact(contact(1).node, "192.0.2.1", 7000, 1, -1),
    ],
)
def test_what_is_no_contact_is_passed_over_and_counted(bad: Contact) -> None:
    lookup = lookup_of(10, want=1)
    ask_all(lookup, 0.0)
    lookup.receive_nodes(contact(10).node, [bad, contact(5)], 0.0)
    assert ask_all(lookup, 0.0) == [5]
    assert lookup.refused == 1


@pytest.mark.parametrize("state", [JOINING, ALIVE, SUSPECT])
def test_nodes_that_join_or_are_suspected_are_asked(state: int) -> None:
    assert is_askable(Contact(contact(1).node, "node.example.com", 65_535, 1, state))
    assert is_askable(Contact(contact(1).node, "2001:db8::1", 1, 1, state))


def test_an_answer_of_thousands_is_read_as_far_as_it_is_reasonable() -> None:
    lookup = lookup_of(20_000, 30_000, want=1, most_of_answer=4)
    ask_all(lookup, 0.0)
    answer(lookup, 20_000, *range(9999, 4999, -1))
    assert lookup.refused == 4996
    assert ask_all(lookup, 0.0) == [9996, 9997]


def test_nearer_candidates_push_out_the_furthest_that_was_not_asked() -> None:
    lookup = lookup_of(10, 20, 30, 40, 50, want=5, most_candidates=5, alpha=1)
    assert ask_all(lookup, 0.0) == [10]
    answer(lookup, 10, 1, 2, 60)
    asked = []
    while isinstance(step := lookup.next(0.1), Ask):
        asked.append(int.from_bytes(step.contact.node[:2], "big"))
        lookup.receive_nodes(step.contact.node, [], 0.1)
    assert asked == [1, 2, 20, 30]


def test_who_has_answered_is_never_pushed_out() -> None:
    lookup = lookup_of(50, want=3, most_candidates=3)
    assert ask_all(lookup, 0.0) == [50]
    answer(lookup, 50, 10, 20, 30, 40)
    assert ask_all(lookup, 0.0) == [10, 20]
    answer(lookup, 10)
    answer(lookup, 20)
    assert found(lookup, 0.0) == ([10, 20, 50], 2, 3, True)


def test_who_names_nodes_that_do_not_answer_is_doubted_after_four() -> None:
    lookup = lookup_of(100, 200, want=2, alpha=1, patience=0.1)
    assert ask_all(lookup, 0.0) == [100]
    answer(lookup, 100, *range(1, 30))
    now, asked = 0.0, []
    for _ in range(5):
        asked += ask_all(lookup, now)
        now += 0.1
    assert asked == [1, 2, 3, 4, 200]
    answer(lookup, 200, 7, now=now)  # somebody else says so too
    assert ask_all(lookup, now) == [7]
    answer(lookup, 7, now=now)
    assert found(lookup, now + 0.25) == ([7, 100], 2, 7, True)


def test_one_that_answers_makes_up_for_one_that_does_not() -> None:
    lookup = lookup_of(100, 200, want=2, alpha=1, patience=0.1)
    ask_all(lookup, 0.0)
    answer(lookup, 100, *range(1, 12))
    for number in (1, 2, 3):
        assert ask_all(lookup, 0.0) == [number]
        lookup.receive_failure(contact(number).node, 0.0)
    assert ask_all(lookup, 0.0) == [4]
    answer(lookup, 4)
    for number in (5, 6):
        assert ask_all(lookup, 0.0) == [number]
        lookup.receive_failure(contact(number).node, 0.0)
    assert found(lookup, 0.0) == ([4, 100], 2, 7, True)


def test_what_is_doubted_is_asked_when_nothing_else_is_left() -> None:
    lookup = lookup_of(100, want=2, patience=0.1)
    ask_all(lookup, 0.0)
    answer(lookup, 100, *range(1, 8))
    assert ask_all(lookup, 0.0) == [1, 2, 3]
    assert ask_all(lookup, 0.1) == [4, 5, 6]
    assert ask_all(lookup, 0.2) == [7]
    answer(lookup, 7)
    assert found(lookup, 0.5) == ([7, 100], 2, 8, True)


def test_an_old_table_that_answers_late_is_not_doubted() -> None:
    lookup = lookup_of(100, 200, want=2, alpha=1, patience=0.1)
    ask_all(lookup, 0.0)
    answer(lookup, 100, *range(1, 12))
    now = 0.0
    for number in range(1, 5):
        assert ask_all(lookup, now) == [number]
        now += 0.1
    answer(lookup, 1, now=now)
    for number in (5, 6):
        assert ask_all(lookup, now) == [number]
        lookup.receive_failure(contact(number).node, now)
    assert ask_all(lookup, now) == []


def test_liars_cannot_keep_it_busy() -> None:
    """Each answers with nodes nearer than all before, none of which exists: they cost little, and the truth comes
    out."""
    lookup = lookup_of(60_000, 61_000, 62_000, want=3, patience=0.1)
    now = 0.0
    lie = 50_000
    while not isinstance(step := lookup.next(now), Finished):
        if isinstance(step, Wait):
            now = step.until
        elif step.contact.node >= contact(60_000).node:
            lookup.receive_nodes(step.contact.node, [contact(lie - number) for number in range(32)], now)
            lie -= 100
    assert [each.node for each in step.contacts] == [contact(number).node for number in (60_000, 61_000, 62_000)]
    assert step.rpcs <= 3 + 3 * (4 + 2)
    assert step.in_time
    assert now < 1.0


def test_the_number_of_questions_is_bounded() -> None:
    lookup = lookup_of(*range(1000, 1100), want=3, patience=0.1, most_asks=10)
    now = 0.0
    while not isinstance(step := lookup.next(now), Finished):
        if isinstance(step, Wait):
            now = step.until
    assert (step.contacts, step.rpcs, step.in_time) == ((), 10, False)


class Network:
    """Nodes that know some of each other, and answer after a while or not at all."""

    def __init__(self, size: int, seed: int, knows: int = 24) -> None:
        self.rng = random.Random(seed)
        self.nodes = [Contact(self.rng.randbytes(32), "192.0.2.1", 7000, 1, ALIVE) for _ in range(size)]
        self.tables: dict[bytes, list[Contact]] = {}
        for node in self.nodes:
            # as Kademlia's tables: all that are near, and some of those that are far
            near = sort_nearest(self.nodes, node.node, lambda each: each.node)
            self.tables[node.node] = near[1 : knows + 1] + self.rng.sample(near, min(size, knows))
        self.dead: set[bytes] = set()
        self.lie: Callable[[bytes], Sequence[Contact]] | None = None

    def kill(self, share: float) -> None:
        self.dead = {node.node for node in self.rng.sample(self.nodes[1:], int(len(self.nodes) * share))}

    def nearest(self, target: bytes, count: int) -> list[Contact]:
        alive = [node for node in self.nodes[1:] if node.node not in self.dead]
        return sort_nearest(alive, target, lambda each: each.node)[:count]

    def answer_of(self, node: bytes, target: bytes) -> Sequence[Contact]:
        if self.lie is not None:
            return self.lie(node)
        return sort_nearest(self.tables[node], target, lambda each: each.node)[:12]

    def look_up(self, target: bytes, want: int = 6, alpha: int = 3, hedge: float | None = 0.1) -> Finished:
        own = self.nodes[0].node
        lookup = Lookup(
            target,
            want,
            self.tables[own],
            own=own,
            deadline_at=10.0,
            patience=lambda node: 0.5,
            hedge_after=None if hedge is None else lambda node: hedge,
            alpha=alpha,
        )
        now = 0.0
        steps = 0
        answers: list[tuple[float, int, bytes]] = []
        while not isinstance(step := lookup.next(now), Finished):
            steps += 1
            assert steps < 2000, "it never ends"
            if isinstance(step, Ask):
                assert lookup.in_flight <= (2 * alpha if hedge is not None else alpha)
                assert step.hedge == (lookup.in_flight > alpha)
                if step.contact.node not in self.dead:
                    heapq.heappush(answers, (now + self.rng.uniform(0.01, 0.4), steps, step.contact.node))
                continue
            assert step.until > now
            if answers and answers[0][0] < step.until:
                now, _, node = heapq.heappop(answers)
                lookup.receive_nodes(node, self.answer_of(node, target), now)
            else:
                now = step.until
        assert now <= 10.0
        assert step.hops <= step.rpcs
        assert lookup.next(now + 1.0) is step
        assert list(step.contacts) == sort_nearest(step.contacts, target, lambda each: each.node)
        assert len({each.node for each in step.contacts}) == len(step.contacts) <= want
        return step


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 10_000), st.binary(min_size=32, max_size=32), st.sampled_from([None, 0.1]))
def test_in_a_quiet_network_the_true_nearest_are_found(
    size: int, seed: int, target: bytes, hedge: float | None
) -> None:
    network = Network(size, seed)
    finished = network.look_up(target, hedge=hedge)
    assert list(finished.contacts) == network.nearest(target, 6)
    assert finished.in_time


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 60), st.integers(0, 10_000), st.floats(0.0, 1.0), st.integers(1, 5))
def test_it_ends_whoever_is_dead_and_finds_only_the_living(size: int, seed: int, share: float, alpha: int) -> None:
    network = Network(size, seed)
    network.kill(min(share, (size - 1) / size))
    finished = network.look_up(network.rng.randbytes(32), alpha=alpha)
    assert not {each.node for each in finished.contacts} & network.dead


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(0, 10_000), st.data())
def test_no_answer_whatsoever_makes_it_fail_or_run_on(size: int, seed: int, data: st.DataObject) -> None:
    network = Network(size, seed)
    anything = st.builds(
        Contact,
        st.one_of(st.binary(max_size=40), st.sampled_from([each.node for each in network.nodes])),
        st.text(max_size=20),
        st.integers(-(2**40), 2**40),
        state=st.integers(-9, 9),
    )
    lies = data.draw(st.lists(st.lists(anything, max_size=5), min_size=1, max_size=5))
    network.lie = lambda node: lies[node[0] % len(lies)]
    known = {each.node for each in network.nodes}
    network.dead = {each.node for answer in lies for each in answer} - known
    finished = network.look_up(bytes(32))
    assert {each.node for each in finished.contacts} <= known


@pytest.mark.parametrize(("share", "recall"), [(0.0, 0.995), (0.1, 0.99), (0.3, 0.97)])
def test_the_nearest_are_found_although_some_are_dead(share: float, recall: float) -> None:
    network = Network(300, seed=4)
    network.kill(share)
    hits = total = 0
    for _ in range(60):
        target = network.rng.randbytes(32)
        truth = set(network.nearest(target, 3))
        hits += len(truth & set(network.look_up(target).contacts))
        total += 3
    assert hits / total >= recall
