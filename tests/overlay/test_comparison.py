"""One partition made equal on two nodes: what is asked, what moves, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.antientropy import Answers, Intake, Traffic
from farm.overlay.budget import Budget
from farm.overlay.comparison import Comparison, Outcome, Tools
from farm.overlay.ids import partition_of
from farm.overlay.store import Store
from farm.overlay.wire import Answer, Error, Keys, Pull, Pulled, Push, Request, Row
from farm.registrar.binding import KIND, RegistrationKind
from farm.registrar.record import Contact, Entry, Record, Register

PARTITION = 5
KEYS = [key for number in range(1_300_000) if partition_of(key := b"%d" % number) == PARTITION][:300]
NODE = b"n" * 32


class Nobody:
    """What the answering side knows of others."""

    def shared_group(self, node: bytes, group: int, now: float) -> list[int]:
        return []

    def is_settled(self, partition: int) -> bool:
        return True

    def found_equal(self, partitions: Sequence[int], node: bytes, now: float) -> None:
        pass

    def heard_of(self, node: bytes, now: float) -> None:
        pass


class Side:
    """One node's store and what works on it."""

    def __init__(self, rate: float = 1e9, most: int = 1000) -> None:
        self.kind = RegistrationKind()
        self.store = Store([self.kind], most_records=most)
        self.store.track()
        self.deadlines = Deadlines()
        self.traffic = Traffic(Budget(rate), Metrics())
        self.intake = Intake(self.store, self.traffic, lambda stamp: stamp < 1 << 62)
        self.answers = Answers(self.store, self.intake, self.traffic, Nobody())

    def put(self, key: bytes, stamp: int, *, at: int = 0, granted: int = 3600, pad: int = 0) -> None:
        contact = Contact("", user_agent="x" * pad) if granted else None
        record = Record([Entry("sip:phone", [Register("c", stamp, stamp, 1, at, granted, contact)])])
        self.store.put(KIND, key, self.kind.pack(record), 0.0)

    def held(self) -> dict[bytes, bytes]:
        return dict(self.store.shelves[KIND].records)


class Pair:
    """Ours and theirs; a transfer takes `delay`, which is all that a clock difference does not explain."""

    def __init__(self, *, delay: float = 0.0, theirs: Side | None = None) -> None:
        self.ours = Side()
        self.theirs = theirs or Side()
        self.delay = delay
        self.asked: list[Request] = []
        self.outcomes: list[Outcome] = []
        self.answer: Callable[[Request], Answer | None] = self._answer
        self.now = 10.0
        self.version = 2

    def _answer(self, message: Request) -> Answer | None:
        return self.theirs.answers.answer(NODE, message, self.delay, self.now)

    def _ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Callable[[Answer | None, float], None],
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int:
        assert (node, size_class) == (NODE, "repair")
        self.asked.append(message)
        self.ours.deadlines.add(now, lambda _, then: done(self.answer(message), then))
        return 0

    def start(self, theirs: int, *, covers: bool = False) -> Comparison:
        ours = self.ours
        tools = Tools(
            ours.store,
            self._ask,
            lambda: self.delay,
            ours.intake,
            ours.traffic,
            ours.deadlines,
            lambda _node: self.version,
        )
        comparison = Comparison(
            tools, PARTITION, NODE, theirs, lambda _c, outcome, _n: self.outcomes.append(outcome), covers=covers
        )
        comparison.start(self.now)
        return comparison

    def run(self, *, theirs: int | None = None, covers: bool = False) -> list[Request]:
        """Compare; what was asked."""
        self.asked = []
        self.start(self.theirs.store.count(PARTITION) if theirs is None else theirs, covers=covers)
        while self.ours.deadlines.run_due(self.now):
            pass
        return self.asked

    def are_equal(self) -> bool:
        return self.ours.held() == self.theirs.held()


def test_an_empty_partition_is_pulled_whole_without_key_lists() -> None:
    pair = Pair()
    for key in KEYS:
        pair.theirs.put(key, 1)
    asked = pair.run()
    assert [type(message) for message in asked] == [Pull] * 2  # 250 at a time
    assert pair.outcomes == [Outcome("", 300)]
    assert pair.are_equal()


def test_large_records_are_pulled_in_smaller_portions() -> None:
    pair = Pair()
    for key in KEYS[:8]:
        pair.theirs.put(key, 1, pad=30_000)
    assert len(pair.run()) == 8
    assert pair.are_equal()


def test_what_the_other_lacks_altogether_is_pushed_without_key_lists() -> None:
    pair = Pair()
    for key in KEYS:
        pair.ours.put(key, 1)
    asked = pair.run()
    assert [type(message) for message in asked] == [Push] * 2
    assert pair.outcomes == [Outcome("", 300)]
    assert pair.are_equal()


def test_only_differences_move_and_in_both_directions() -> None:
    pair = Pair()
    for key in KEYS[:200]:
        for side in (pair.ours, pair.theirs):
            side.put(key, 1)
    pair.ours.put(KEYS[0], 2)
    pair.theirs.put(KEYS[1], 2)
    pair.ours.put(KEYS[250], 1)
    pair.theirs.put(KEYS[251], 1)
    asked = pair.run()
    assert [type(message) for message in asked] == [Keys, Pull, Push]
    assert isinstance(asked[1], Pull)
    assert len(asked[1].wanted) == 3  # of KEYS[0] nobody knows yet that ours is newer
    assert isinstance(asked[2], Push)
    assert {row.key for row in asked[2].rows} == {KEYS[0], KEYS[250]}
    assert pair.are_equal()
    assert [type(message) for message in pair.run()] == [Keys]


def test_what_we_only_keep_for_others_is_pushed_and_nothing_is_pulled() -> None:
    pair = Pair()
    pair.ours.put(KEYS[0], 2)
    pair.ours.put(KEYS[1], 1)
    pair.theirs.put(KEYS[0], 1)
    pair.theirs.put(KEYS[2], 1)
    assert [type(message) for message in pair.run(covers=True)] == [Keys, Push]
    assert sorted(pair.ours.held()) == sorted(KEYS[:2])
    assert sorted(pair.theirs.held()) == sorted(KEYS[:3])


def test_it_goes_through_more_keys_than_one_list_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.overlay.antientropy._KEYS", 60)
    pair = Pair()
    for place, key in enumerate(KEYS):
        if place % 3 != 1:
            pair.ours.put(key, 1)
        if place % 3 != 2:
            pair.theirs.put(key, 1)
    asked = pair.run()
    assert sum(isinstance(message, Keys) for message in asked) == 4
    assert len(pair.ours.held()) == 300
    assert pair.are_equal()


def test_no_answer_ends_it_and_what_was_done_stays_done() -> None:
    pair = Pair()
    for key in KEYS:
        pair.theirs.put(key, 1)
    answers = 0

    def answer(message: Request) -> Answer | None:
        nonlocal answers
        answers += 1
        return None if answers == 2 else pair._answer(message)

    pair.answer = answer
    pair.run()
    assert pair.outcomes == [Outcome("unanswered", 250)]
    assert len(pair.ours.held()) == 250
    pair.run()
    assert pair.outcomes[1] == Outcome("", 50)
    assert pair.are_equal()


def test_one_who_is_busy_says_so() -> None:
    theirs = Side(rate=10.0)
    pair = Pair(theirs=theirs)
    for key in KEYS:
        theirs.put(key, 1)
    pair.run()
    assert pair.outcomes == [Outcome("busy", 250)]
    pair.answer = lambda message: Error(message.call, "internal")
    pair.run()
    assert pair.outcomes[1] == Outcome("unanswered", 0)


def test_one_record_that_cannot_be_taken_does_not_keep_a_node_from_joining() -> None:
    pair = Pair()
    pair.theirs.put(KEYS[0], 1 << 63)  # from a clock that nobody believes
    pair.theirs.put(KEYS[1], 1)
    pair.run()
    assert pair.outcomes == [Outcome("", 2)]
    assert sorted(pair.ours.held()) == [KEYS[1]]


def test_what_belongs_to_another_partition_is_refused() -> None:
    pair = Pair()
    pair.theirs.put(b"elsewhere", 1)
    pair.theirs.put(KEYS[0], 1)
    packed = pair.theirs.held()[b"elsewhere"]
    pair.answer = lambda message: Pulled(message.call, [Row(KIND, b"elsewhere", packed)])
    pair.run(theirs=1)
    assert pair.outcomes == [Outcome("", 1)]
    assert pair.ours.held() == {}


def test_a_node_is_not_shown_records_of_a_kind_that_came_after_it() -> None:
    """It would refuse them for ever, and a node that joins would wait for ever to be equal with it."""
    pair = Pair()
    pair.ours.put(KEYS[0], 1)
    pair.ours.kind.since = 2
    pair.version = 1
    for theirs in (0, 1):
        assert not [message for message in pair.run(theirs=theirs, covers=True) if isinstance(message, Push)]
    assert pair.outcomes == [Outcome("", 0)] * 2
    pair.version = 2
    pair.run()
    assert pair.are_equal()


def test_where_there_is_no_room_it_is_no_success() -> None:
    pair = Pair(theirs=Side(most=1))
    for key in KEYS[:3]:
        pair.ours.put(key, 1)
    pair.run()
    assert pair.outcomes == [Outcome("refused", 3)]
    full = Pair(theirs=pair.ours)
    full.ours = pair.theirs
    full.run()
    assert full.outcomes == [Outcome("refused", 2)]  # they came, and could not be kept


def test_after_a_stop_nothing_is_heard_of_it() -> None:
    pair = Pair()
    pair.theirs.put(KEYS[0], 1)
    comparison = pair.start(1)
    comparison.stop()
    while pair.ours.deadlines.run_due(pair.now):
        pass
    assert pair.outcomes == []
    assert pair.ours.held() == {}


def test_what_ends_within_20_seconds_is_not_compared() -> None:
    """Two nodes need not sweep at the same time; what one has forgotten already is not given back to it."""
    pair = Pair()
    keep = pair.ours.kind.keep_ms
    for side in (pair.ours, pair.theirs):
        side.put(KEYS[0], 1)
    pair.theirs.put(KEYS[1], 1, at=29_000 - keep, granted=0)
    assert [type(message) for message in pair.run()] == [Keys]
    pair.theirs.put(KEYS[2], 1, at=31_000 - keep, granted=0)
    assert [type(message) for message in pair.run()] == [Keys, Pull]
    assert sorted(pair.ours.held()) == sorted([KEYS[0], KEYS[2]])


def test_a_thousand_exchanges_make_nobody_live_longer_than_one_transfer_takes() -> None:
    """Each hop makes a copy seem younger by its delay, and the younger copy is believed."""
    pair = Pair(delay=0.02)
    pair.ours.put(KEYS[0], 1, at=5000)
    pair.ours.put(KEYS[1], 1, at=5000)
    back = Pair(delay=0.02, theirs=pair.ours)
    back.ours = pair.theirs
    for place in range(1000):
        pair.ours.put(KEYS[2 + place % 3], place)  # so that there always is a difference
        pair.run()
        back.run()
    for side in (pair.ours, pair.theirs):
        record = side.kind.unpack(side.held()[KEYS[0]])
        assert 5000 <= record.entries[0].registers[0].at <= 5020
    assert pair.ours.held().keys() == pair.theirs.held().keys()
