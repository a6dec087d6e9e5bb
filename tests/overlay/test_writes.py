"""A write: who is sent it, when it counts, who stands in, and what is never acknowledged."""

from __future__ import annotations

import pytest

from farm.overlay.quorum import Failed, Found
from farm.overlay.store import Full
from farm.overlay.wire import BAD_RECORD, OWNER, RECORD_FULL, STRANGER, TOO_OFTEN, Contact, Error, Store, Stored
from farm.overlay.writes import Write
from tests.support.counts import read
from tests.support.owners import KEY, A, B, C, D, E, Owners


def write(owners: Owners, delta: bytes = b"x", base: bytes | None = None) -> Write:
    operation = Write(owners.means, "registration", KEY, delta, owners.done)
    operation.start(owners.now, base)
    return operation


def mark(owners: Owners, record: bytes) -> bytes:
    """What owners are told to expect."""
    return owners.means.store.mark("registration", KEY, record)


def test_a_lone_node_has_its_answer_at_once() -> None:
    owners = Owners(A)
    assert write(owners).outcome == Found(b"x")
    assert owners.outcomes == []
    assert owners.asked == []
    assert len(owners.deadlines) == 0


def test_all_owners_are_sent_it_and_the_last_answer_ends_it() -> None:
    owners = Owners(A, B, C)
    assert write(owners).outcome is None
    assert owners.names() == "bc"
    assert owners.asked[0].message == Store(0, "registration", KEY, b"x", mark(owners, b"x"))
    owners.find(B).answer(Stored(1))
    assert owners.outcomes == []  # a quorum, but the third is as near
    owners.find(C).answer(Stored(2))
    assert owners.outcomes == [Found(b"x")]
    assert len(owners.deadlines) == 0
    assert owners.held == b"x"


def test_a_quorum_will_do_when_the_third_is_late() -> None:
    owners = Owners(A, B, C)
    write(owners)
    owners.find(B).answer(Stored(1))
    owners.after(0.09)
    assert owners.outcomes == []
    owners.after(0.02)
    assert owners.outcomes == [Found(b"x")]


def test_somebody_stands_in_for_a_late_owner_although_the_answer_was_given() -> None:
    owners = Owners(A, B, C)
    owners.spare = [D, E]
    write(owners)
    owners.find(B).answer(Stored(1))
    owners.after(0.31)
    assert owners.names() == "cd"
    assert owners.find(D).message == Store(0, "registration", KEY, b"x", b"", C)
    owners.find(D).answer(Stored(3, standing=STRANGER))
    owners.find(C).answer(Stored(2))
    assert owners.outcomes == [Found(b"x")]
    owners.after(5)
    assert len(owners.deadlines) == 0


def test_a_suspect_is_sent_it_and_stood_in_for_at_once() -> None:
    owners = Owners(A, B, C)
    owners.suspects = {C}
    owners.spare = [D]
    write(owners)
    assert owners.names() == "bcd"
    owners.find(B).answer(Stored(1))
    owners.find(D).answer(Stored(3, standing=STRANGER))
    assert owners.outcomes == [Found(b"x")]


def test_a_suspect_that_is_well_and_who_stands_in_for_it_are_not_two_of_a_quorum() -> None:
    owners = Owners(B, C, E)
    owners.suspects = {C}
    owners.spare = [D]
    write(owners)
    owners.find(C).answer(Stored(1))
    owners.find(D).answer(Stored(2, standing=STRANGER))
    owners.after(0.2)
    assert owners.outcomes == []  # who reads from B and E would find nothing
    owners.find(E).answer(Stored(3))
    assert owners.outcomes == [Found(b"x")]


def test_when_a_stand_in_fails_another_stands_in_for_the_same_owner() -> None:
    owners = Owners(A, B, C)
    owners.spare = [D, E]
    write(owners)
    owners.find(B).answer(None)
    assert owners.find(D).message == Store(0, "registration", KEY, b"x", b"", B)
    owners.find(D).answer(None)
    assert owners.find(E).message == Store(0, "registration", KEY, b"x", b"", B)


def test_a_broken_link_has_somebody_stand_in_at_once() -> None:
    owners = Owners(A, B, C)
    owners.spare = [D]
    write(owners)
    owners.find(B).answer(None)
    assert owners.names() == "cd"
    owners.find(C).answer(Stored(2))
    owners.find(D).answer(None)
    owners.after(0.2)
    assert owners.outcomes == [Found(b"x")]


def test_what_only_the_coordinator_has_is_not_acknowledged() -> None:
    owners = Owners(A, B, C)
    write(owners)
    owners.find(B).answer(None)
    owners.find(C).answer(None)
    assert owners.outcomes == []
    owners.after(2.1)
    assert owners.outcomes == [Failed("too-few-owners")]
    assert read(owners.metrics.quorum_failures.child("store")) == 1


@pytest.mark.parametrize("strict", [False, True])
def test_one_other_node_is_enough_in_the_end_unless_the_operator_is_strict(strict: bool) -> None:
    owners = Owners(B, C, D, strict=strict)
    write(owners)
    owners.find(B).answer(Stored(1))
    owners.find(C).answer(None)
    owners.find(D).answer(None)
    owners.after(2.1)
    assert owners.outcomes == [Failed("too-few-owners") if strict else Found(b"x")]
    assert read(owners.metrics.degraded_writes.child()) == (0 if strict else 1)


def test_when_the_other_owner_has_died_meanwhile_this_node_is_alone() -> None:
    owners = Owners(A, B)
    write(owners)
    owners.find(B).answer(None)
    owners.list = [A]
    owners.after(2.1)
    assert owners.outcomes == [Found(b"x")]


def test_what_an_owner_has_beyond_our_knowledge_comes_back() -> None:
    owners = Owners(A, B, C)
    owners.shift = 7.5
    write(owners)
    owners.find(B).answer(Stored(1, record=b"xy"))
    owners.find(C).answer(Stored(2))
    assert owners.outcomes == [Found(b"xy")]
    assert owners.held == b"xy"
    assert owners.kind.shifts == [7.5]


def test_a_coordinator_that_is_no_owner_keeps_no_copy() -> None:
    owners = Owners(B, C, D)
    write(owners, base=b"w")
    assert owners.find(B).message == Store(0, "registration", KEY, b"x", mark(owners, b"wx"))
    owners.find(B).answer(Stored(1, record=b"uwx"))
    owners.find(C).answer(Stored(1))
    owners.find(D).answer(Stored(1))
    assert owners.outcomes == [Found(b"uwx")]
    assert owners.held is None


def test_who_is_about_to_own_gets_it_and_does_not_count() -> None:
    owners = Owners(A, B)
    owners.coming = [C]
    write(owners)
    assert owners.names() == "bc"
    owners.find(C).answer(Stored(2))
    assert owners.outcomes == []
    owners.find(B).answer(Stored(1))
    assert owners.outcomes == [Found(b"x")]


def test_a_lone_owner_waits_for_nobody_who_joins() -> None:
    owners = Owners(A)
    owners.coming = [B]
    assert write(owners).outcome == Found(b"x")
    assert owners.names() == "b"


def test_a_record_that_grows_too_large_is_refused_by_its_owner_at_once() -> None:
    owners = Owners(A)
    owners.hold(b"1234567")
    assert write(owners, b"89").outcome == Full("record")
    assert owners.held == b"1234567"


def test_a_record_that_grows_too_large_is_refused_by_whoever_takes_the_update_in() -> None:
    owners = Owners(B, C, D)
    assert write(owners, b"89", base=b"1234567").outcome == Full("record")
    assert owners.asked == []


def test_owners_that_refuse_end_it() -> None:
    owners = Owners(B, C, D)
    write(owners)
    owners.find(B).answer(Stored(1, RECORD_FULL))
    assert owners.outcomes == []
    owners.find(C).answer(Stored(1, RECORD_FULL))
    assert owners.outcomes == [Full("record")]


def test_an_owner_that_does_not_know_it_names_nearer_ones() -> None:
    owners = Owners(B, C, D)
    owners.spare = [E]
    write(owners)
    nearer = Contact(E, "192.0.2.5", 7400)
    owners.find(B).answer(Stored(1, standing=STRANGER, nearer=[nearer]))
    assert owners.nearer == [nearer]
    assert owners.names() == "cde"


def test_a_broken_record_from_an_owner_is_counted_and_nothing_else() -> None:
    owners = Owners(A, B)
    write(owners)
    owners.find(B).answer(Stored(1, record=b"!"))
    assert owners.outcomes == [Found(b"x")]
    assert read(owners.metrics.peer_rejections.child("bad-record")) == 1


def test_an_error_counts_as_no_answer() -> None:
    owners = Owners(A, B, C)
    write(owners)
    owners.find(B).answer(Error(1, "internal"))
    owners.find(C).answer(Stored(1, BAD_RECORD, standing=OWNER))
    owners.after(3)
    assert owners.outcomes == [Failed("too-few-owners")] or owners.outcomes == [Full("bad-record")]


def test_without_owners_it_fails_at_once() -> None:
    assert write(Owners()).outcome == Failed("no-owners")


def test_owners_that_find_it_written_too_often_are_not_stood_in_for_and_it_fails_for_now() -> None:
    owners = Owners(B, C, D)
    owners.spare = [E]
    write(owners)
    owners.find(B).answer(Stored(1, TOO_OFTEN))
    assert owners.outcomes == []
    owners.find(C).answer(Stored(1, TOO_OFTEN))
    assert owners.outcomes == [Failed("rate")]
    assert owners.names() == "d"


def test_one_owner_that_finds_it_written_too_often_does_not_spoil_a_quorum() -> None:
    owners = Owners(B, C, D)
    owners.spare = [E]
    write(owners)
    owners.find(B).answer(Stored(1, TOO_OFTEN))
    owners.find(C).answer(Stored(2))
    owners.find(D).answer(Stored(3))
    assert owners.outcomes == [Found(b"x")]
    assert owners.asked == []


def test_an_owner_that_is_busy_is_stood_in_for() -> None:
    owners = Owners(B, C, D)
    owners.spare = [E]
    write(owners)
    owners.find(B).answer(Error(1, "busy"))
    assert owners.names() == "cde"


def test_nobody_is_asked_any_more_for_a_write_whose_time_is_over() -> None:
    owners = Owners(B, C, D)
    owners.spare = [E]
    write(owners)
    owners.coming = []
    owners.after(2.0)
    assert owners.outcomes == [Failed("too-few-owners")]
    owners.spare = [E, A[:1] * 32, bytes(32)]
    owners.find(B).answer(None)
    assert {asked.node for asked in owners.asked} <= {C, D, E}


def test_a_bug_that_an_answer_shows_ends_the_write_and_nobody_waits_for_it() -> None:
    owners = Owners(B, C, D)
    write(owners)
    with pytest.raises(TypeError):
        owners.find(B).answer(Stored(1, record=7))  # type: ignore[arg-type]
    assert owners.outcomes == [Failed("internal")]
    assert len(owners.deadlines) == 0
