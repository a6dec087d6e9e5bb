"""A read: who is asked, when it counts, what is repaired on the way."""

from __future__ import annotations

import pytest

from farm.overlay.quorum import Failed, Found
from farm.overlay.reads import Read, Recall
from farm.overlay.wire import STRANGER, UNSETTLED, Contact, Fetch, Fetched, Store
from tests.support.counts import read as count
from tests.support.owners import KEY, A, B, C, D, Owners


def read(owners: Owners, enough: int | None = None, recall: Recall | None = None) -> Read:
    operation = Read(owners.means, "registration", KEY, owners.done, recall or Recall(), enough=enough)
    operation.start(owners.now)
    return operation


def test_a_lone_node_answers_at_once() -> None:
    owners = Owners(A)
    owners.hold(b"x")
    assert read(owners).outcome == Found(b"x")
    assert owners.asked == []
    assert len(owners.deadlines) == 0


def test_its_own_copy_and_one_other_are_a_quorum_of_three() -> None:
    owners = Owners(A, B, C)
    owners.hold(b"x")
    read(owners)
    assert owners.names() == "b"
    assert owners.find(B).message == Fetch(0, "registration", KEY, b"v:x")
    owners.find(B).answer(Fetched(1, same=True))
    assert owners.outcomes == [Found(b"x")]
    assert owners.asked == []
    assert len(owners.deadlines) == 0


def test_who_is_no_owner_asks_two() -> None:
    owners = Owners(B, C, D)
    read(owners)
    assert owners.names() == "bc"
    owners.find(B).answer(Fetched(1, b"x"))
    assert owners.outcomes == []
    owners.find(C).answer(Fetched(1, b"x"))
    assert owners.outcomes == [Found(b"x")]


def test_nothing_is_believed_from_a_quorum_only() -> None:
    owners = Owners(A, B, C)
    read(owners)
    owners.find(B).answer(Fetched(1))
    assert owners.outcomes == [Found(None)]
    owners = Owners(A, B, C)
    read(owners)
    owners.find(B).answer(None)
    owners.find(C).answer(None)
    assert owners.outcomes == [Failed("too-few-owners")]
    assert count(owners.metrics.quorum_failures.child("fetch")) == 1


def test_what_was_found_is_answered_however_few_said_so() -> None:
    owners = Owners(A, B, C)
    owners.hold(b"x")
    read(owners)
    owners.find(B).answer(None)
    owners.find(C).answer(None)
    assert owners.outcomes == [Found(b"x")]
    assert count(owners.metrics.degraded_reads.child()) == 1


def test_a_slow_owner_is_hedged() -> None:
    owners = Owners(A, B, C)
    owners.hold(b"x")
    read(owners)
    owners.after(0.06)
    assert owners.names() == "bc"
    assert count(owners.metrics.hedges.child("fetch")) == 1
    owners.find(C).answer(Fetched(1, same=True))
    assert owners.outcomes == [Found(b"x")]
    owners.find(B).answer(Fetched(1, same=True))  # too late, and harmless
    assert len(owners.outcomes) == 1


def test_a_suspect_is_asked_last() -> None:
    owners = Owners(A, B, C)
    owners.suspects = {B}
    read(owners)
    assert owners.names() == "c"


def test_who_had_less_is_sent_the_rest() -> None:
    owners = Owners(A, B, C)
    owners.hold(b"x")
    recall = Recall()
    read(owners, recall=recall)
    owners.shift = -3.0
    owners.find(B).answer(Fetched(1, b"y"))
    assert owners.outcomes == [Found(b"xy")]
    assert owners.held == b"xy"
    assert owners.kind.shifts == [-3.0]
    (push,) = owners.asked
    assert (push.node, push.message) == (B, Store(0, "registration", KEY, b"xy", b"v:xy"))
    push.answer(None)
    assert count(owners.metrics.read_repairs.child()) == 2
    assert recall.ratio == 1.0


def test_an_owner_that_had_nothing_lowers_the_recall() -> None:
    owners = Owners(B, C, D)
    recall = Recall()
    read(owners, recall=recall)
    owners.find(B).answer(Fetched(1, b"x"))
    owners.find(C).answer(Fetched(1))
    assert owners.outcomes == [Found(b"x")]
    assert recall.ratio == 0.99
    assert owners.names() == "c"  # the push


def test_an_owner_that_has_just_come_does_not_count() -> None:
    owners = Owners(A, B, C)
    owners.settled = False
    read(owners)
    assert owners.names() == "bc"
    owners.find(B).answer(Fetched(1, standing=UNSETTLED))
    assert owners.outcomes == []
    owners.find(C).answer(Fetched(1, b"x", standing=UNSETTLED))
    assert owners.outcomes == [Found(b"x")]  # nobody else is left who could know more


def test_when_all_owners_have_just_come_nothing_is_nothing() -> None:
    owners = Owners(A, B)
    owners.settled = False
    read(owners)
    owners.find(B).answer(Fetched(1, standing=UNSETTLED))
    assert owners.outcomes == [Found(None)]


def test_one_answer_is_enough_for_who_is_going_to_write() -> None:
    owners = Owners(B, C, D)
    read(owners, enough=1)
    assert owners.names() == "b"
    owners.find(B).answer(Fetched(1))
    assert owners.outcomes == [Found(None)]


def test_a_stranger_names_nearer_nodes_and_the_next_is_asked() -> None:
    owners = Owners(B, C, D)
    read(owners, enough=1)
    nearer = Contact(D, "192.0.2.4", 7400)
    owners.find(B).answer(Fetched(1, standing=STRANGER, nearer=[nearer]))
    assert owners.nearer == [nearer]
    assert owners.names() == "c"


def test_a_broken_record_is_counted_and_the_next_is_asked() -> None:
    owners = Owners(B, C, D)
    read(owners, enough=1)
    owners.find(B).answer(Fetched(1, b"!"))
    assert owners.names() == "c"
    assert count(owners.metrics.peer_rejections.child("bad-record")) == 1


def test_a_node_that_stores_nothing_and_knows_no_owner_cannot_read() -> None:
    assert read(Owners()).outcome == Failed("no-owners")


def test_a_bug_that_an_answer_shows_ends_the_read_and_nobody_waits_for_it() -> None:
    owners = Owners(B, C, D)
    read(owners)
    with pytest.raises(TypeError):
        owners.find(B).answer(Fetched(1, record=7))  # type: ignore[arg-type]
    assert owners.outcomes == [Failed("internal")]
    assert len(owners.deadlines) == 0
    owners.find(C).answer(Fetched(1, b"x"))
    assert len(owners.outcomes) == 1


def test_nobody_is_asked_any_more_for_a_read_whose_time_is_over() -> None:
    owners = Owners(B, C, D)
    read(owners)
    asked = owners.find(B), owners.find(C)
    owners.now += 2.0
    for each in asked:
        each.answer(None)
    assert owners.names() == ""
    assert owners.outcomes == [Failed("too-few-owners")]
