"""The checker finds what it is there for: each history that must not be is one that it refuses, and no other is."""

from __future__ import annotations

import pytest

from farm.registrar.record import Contact, Entry, Record, Register
from tests.support.checker import READ, REGISTER, REMOVE, STAR, Checker, Operation, has_effect

AOR = "sip:bob@example.com"
KEY = "sip:bob@192.0.2.1"
OTHER_KEY = "sip:bob@192.0.2.2"


class Story:
    """Tells a checker what happened, an operation a second, each of half a second."""

    def __init__(self) -> None:
        self.checker = Checker()
        self.now = 0.0

    def _tell(self, what: str, result: str, node: int, found: dict[str, tuple[str, int]], **said: object) -> Operation:
        self.now += 0.5
        operation = self.checker.begin(AOR, what, node, self.now, **said)  # type: ignore[arg-type]
        self.now += 0.5
        self.checker.end(operation, result, self.now, found=found)
        return operation

    def register(
        self, cseq: int, call_id: str = "a", *, key: str = KEY, granted: int = 600, result: str = "ok", node: int = 0
    ) -> Operation:
        return self._tell(REGISTER, result, node, {}, key=key, call_id=call_id, cseq=cseq, granted=granted)

    def remove(self, cseq: int, call_id: str = "a", *, result: str = "ok", node: int = 0) -> Operation:
        return self._tell(REMOVE, result, node, {}, key=KEY, call_id=call_id, cseq=cseq)

    def star(self, cseq: int, call_id: str = "a", *, result: str = "ok") -> Operation:
        return self._tell(STAR, result, 0, {}, call_id=call_id, cseq=cseq)

    def read(self, *found: tuple[str, int], key: str = KEY, node: int = 0) -> Operation:
        return self._tell(READ, "ok", node, {key: found[0]} if found else {})

    @property
    def verdict(self) -> str:
        """What kind of violation was found first, "" for none."""
        for text in self.checker.violations:
            for word in ("lost", "back again", "out of order", "overdue", "nobody wrote", "last copy"):
                if word in text:
                    return word
        return "".join(self.checker.violations)


@pytest.fixture
def story() -> Story:
    return Story()


def test_what_was_acknowledged_is_found(story: Story) -> None:
    story.register(1)
    story.read(("a", 1))
    story.register(2)
    story.read(("a", 2))
    assert story.verdict == ""


def test_a_lost_acknowledgement_is_caught(story: Story) -> None:
    story.register(1)
    story.read()
    assert story.verdict == "lost"


def test_a_registration_that_timed_out_may_be_there_or_not(story: Story) -> None:
    story.register(1, result="maybe")
    story.read()
    story.read(("a", 1))
    story.read()
    assert story.verdict == ""


def test_a_registration_that_certainly_failed_is_never_found(story: Story) -> None:
    story.register(1, result="fail")
    story.read(("a", 1))
    assert story.verdict == "nobody wrote"


def test_a_removed_binding_that_is_back_is_caught(story: Story) -> None:
    story.register(1)
    story.remove(2)
    story.read()
    assert story.verdict == ""
    story.read(("a", 1))
    assert story.verdict == "back again"


def test_a_removed_binding_that_timed_out_before_is_caught_too(story: Story) -> None:
    """The removal has the higher CSeq of the same Call-ID, whenever the registration arrives."""
    story.register(1, result="maybe")
    story.remove(2)
    story.read(("a", 1))
    assert story.verdict == "back again"


def test_an_older_cseq_is_caught(story: Story) -> None:
    story.register(1)
    story.register(2)
    story.read(("a", 1))
    assert story.verdict == "out of order"


def test_a_removal_that_timed_out_may_have_happened(story: Story) -> None:
    story.register(1)
    story.remove(2, result="maybe")
    story.read()
    story.read(("a", 1))
    assert story.verdict == ""


def test_a_lapsed_binding_is_gone(story: Story) -> None:
    story.register(1, granted=60)
    story.now += 59.5
    story.read()  # it ends this second
    story.now += 5.0
    story.read()
    assert story.verdict == ""
    story.read(("a", 1))
    assert story.verdict == "overdue"


def test_a_lapsed_registration_still_hides_what_it_outranked(story: Story) -> None:
    story.register(1, granted=600)
    story.register(2, granted=60)
    story.now += 70.0
    story.read()
    assert story.verdict == ""
    story.read(("a", 1))
    assert story.verdict == "out of order"


def test_a_star_removes_every_binding_for_good(story: Story) -> None:
    story.register(1, "b", key=OTHER_KEY)
    story.star(5)
    story.read()
    assert story.verdict == ""
    story.read(("b", 1), key=OTHER_KEY)
    assert story.verdict == "back again"


def test_what_is_registered_after_a_star_must_stay(story: Story) -> None:
    story.star(5)
    story.register(6)
    story.read(("a", 6))
    assert story.verdict == ""
    story.read()
    assert story.verdict == "lost"


def test_a_star_that_timed_out_may_still_come(story: Story) -> None:
    story.star(5, result="maybe")
    story.register(6)
    story.read(("a", 6))
    story.read()
    assert story.verdict == ""


def test_another_call_id_takes_over(story: Story) -> None:
    story.register(7, "a")
    story.register(1, "b")
    story.read(("b", 1))
    assert story.verdict == ""
    story.read(("a", 7))
    assert story.verdict == "out of order"


def test_an_old_request_that_comes_again_changes_nothing_and_demands_nothing(story: Story) -> None:
    story.register(1)
    story.remove(2)
    operation = story.checker.begin(
        AOR, REGISTER, 0, story.now, key=KEY, call_id="a", cseq=1, granted=600, repeated=True
    )
    story.checker.end(operation, "ok", story.now + 0.1)
    story.now += 1.0
    story.read()
    assert story.verdict == ""
    story.read(("a", 1))
    assert story.verdict == "back again"


def test_a_side_of_a_partition_answers_for_what_it_was_told(story: Story) -> None:
    story.checker.split(story.now, {0: 0, 1: 1}, lambda side, operation: False)
    story.register(1, node=0)
    story.read(node=1)
    story.read(("a", 1), node=0)
    assert story.verdict == ""
    story.read(node=0)
    assert story.verdict == "lost"


def test_a_side_that_held_a_copy_when_it_was_cut_must_find_it(story: Story) -> None:
    story.register(1, node=0)
    story.checker.split(story.now, {0: 0, 1: 1, 2: 2}, lambda side, operation: side == 1)
    story.read(node=2)
    assert story.verdict == ""
    story.read(node=1)
    assert story.verdict == "lost"


def test_a_minute_after_a_partition_has_healed_nothing_is_excused(story: Story) -> None:
    split = story.checker.split(story.now, {0: 0, 1: 1}, lambda side, operation: False)
    story.register(1, node=0)
    split.healed = story.now
    story.read(node=1)
    assert story.verdict == ""
    story.now += 60.0
    story.read(node=1)
    assert story.verdict == "lost"


def test_a_removal_on_one_side_holds_on_both_after_the_merge(story: Story) -> None:
    story.register(1, node=0)
    split = story.checker.split(story.now, {0: 0, 1: 1}, lambda side, operation: True)
    story.remove(2, node=0)
    story.read(("a", 1), node=1)
    assert story.verdict == ""
    split.healed = story.now
    story.now += 61.0
    story.read(("a", 1), node=1)
    assert story.verdict == "back again"


def test_a_crash_may_take_what_it_had_just_acknowledged(story: Story) -> None:
    story.register(1)
    story.checker.crash(story.now, lambda operation: False, grace=2.0)
    story.read()
    assert story.verdict == ""


def test_a_crash_may_not_take_what_was_acknowledged_before(story: Story) -> None:
    story.register(1)
    story.now += 2.0
    story.checker.crash(story.now, lambda operation: False, grace=2.0)
    assert story.verdict == "last copy"


def test_failures_count_in_peace_alone(story: Story) -> None:
    story.register(1, result="maybe")
    assert len(story.checker.find_failures([(0.0, 10.0)])) == 1
    assert story.checker.find_failures([(0.75, 10.0)]) == []


def test_a_record_shows_what_took_effect() -> None:
    contact = Contact("")
    record = Record([Entry(KEY, [Register("a", 3, 30, 1, 0, 600, contact)])], 10, 0)
    assert has_effect(record, Operation(1, AOR, REGISTER, 0, 0.0, KEY, "a", 3, stamp=30))
    assert has_effect(record, Operation(1, AOR, REGISTER, 0, 0.0, KEY, "a", 2, stamp=20))
    assert has_effect(record, Operation(1, AOR, REGISTER, 0, 0.0, KEY, "b", 9, stamp=25))
    assert has_effect(record, Operation(1, AOR, STAR, 0, 0.0, stamp=10))
    assert not has_effect(record, Operation(1, AOR, STAR, 0, 0.0, stamp=11))
    assert not has_effect(record, Operation(1, AOR, REGISTER, 0, 0.0, KEY, "a", 4, stamp=40))
    assert not has_effect(record, Operation(1, AOR, REGISTER, 0, 0.0, OTHER_KEY, "a", 1, stamp=30))
    assert not has_effect(None, Operation(1, AOR, REGISTER, 0, 0.0, KEY, "a", 1, stamp=30))
