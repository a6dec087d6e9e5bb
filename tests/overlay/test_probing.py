"""Probing: the ping, the helpers, the verdict."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from farm.overlay.awareness import Awareness
from farm.overlay.probing import MOST_RELAYS, Prober
from farm.overlay.wire import ALIVE, Answer, Contact, Error, Nack, Ping, PingRequest, Pong, Request

OWN, BOB, CAROL, DAVE, ERIN = (bytes([number]) * 32 for number in range(1, 6))
NEWS = [Contact(ERIN, "10.0.0.5", 7400, 3, ALIVE)]


class Desk:
    """Calls and verdicts, written down."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Request, float]] = []
        self.done: list[Callable[[Answer | None, float], None]] = []
        self.answers: list[tuple[bytes, Answer]] = []
        self.verdicts: list[tuple[object, ...]] = []
        self.gossip: list[tuple[bytes, int]] = []
        self.help: list[bytes] = [CAROL, DAVE, ERIN]
        self.stopped = False
        self.awareness = Awareness(1.0)
        self.prober = Prober(OWN, self, self, lambda node: list(NEWS), self.awareness, random.Random(1))

    def ask(
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
        self.asked.append((node, message, within))
        self.done.append(done)
        return 0

    def answer(self, node: bytes, message: Answer, now: float) -> None:
        self.answers.append((node, message))

    def helpers(self, target: bytes, most: int) -> Sequence[bytes]:
        return self.help[:most]

    def receive_gossip(self, updates: Sequence[Contact], source: bytes, now: float) -> None:
        self.gossip.append((source, len(updates)))

    def check_time(self, now: float) -> None:
        if self.stopped:
            self.prober.void()

    def found_alive(self, node: bytes, directly: bool, now: float) -> None:
        self.verdicts.append((node, "directly" if directly else "by others"))

    def found_silent(self, node: bytes, cause: str, confirmers: set[bytes], helped: bool, now: float) -> None:
        self.verdicts.append((node, cause, confirmers, helped))


def test_a_pong_ends_it_and_brings_news() -> None:
    desk = Desk()
    desk.awareness.worsen(2)
    desk.prober.probe(BOB, 1.0)
    desk.prober.probe(BOB, 1.0)
    assert desk.asked == [(BOB, Ping(0, NEWS), 1.5)]
    assert desk.prober.is_probing(BOB)
    desk.done[0](Pong(0, NEWS), 1.1)
    assert desk.verdicts == [(BOB, "directly")]
    assert desk.gossip == [(BOB, 1)]
    assert desk.awareness.score == 1
    assert not desk.prober.is_probing(BOB)


def test_silence_has_three_others_asked_and_one_pong_of_theirs_is_enough() -> None:
    desk = Desk()
    desk.prober.probe(BOB, 1.0)
    desk.done[0](None, 1.5)
    assert desk.asked[1:] == [(helper, PingRequest(0, BOB, NEWS), 0.8) for helper in (CAROL, DAVE, ERIN)]
    desk.done[1](Nack(0), 1.6)
    desk.done[2](Pong(0), 1.6)
    desk.done[3](Nack(0), 1.7)
    assert desk.verdicts == [(BOB, "by others")]
    assert desk.awareness.score == 0


def test_nacks_confirm_and_are_not_held_against_us() -> None:
    desk = Desk()
    desk.prober.probe(BOB, 1.0)
    desk.done[0](None, 1.5)
    for done in desk.done[1:]:
        done(Nack(0), 2.0)
    assert desk.verdicts == [(BOB, "probe", {CAROL, DAVE, ERIN}, True)]
    assert desk.awareness.score == 0


def test_each_helper_that_says_nothing_is_held_against_us() -> None:
    desk = Desk()
    desk.prober.probe(BOB, 1.0)
    desk.done[0](None, 1.5)
    desk.done[1](None, 2.3)
    desk.done[2](Nack(0), 2.3)
    assert desk.verdicts == []
    desk.done[3](Error(0, "busy"), 2.3)
    assert desk.verdicts == [(BOB, "probe", {DAVE}, True)]
    assert desk.awareness.score == 2


def test_with_nobody_to_help_the_verdict_is_at_once_and_our_own_fault_is_possible() -> None:
    desk = Desk()
    desk.help = []
    desk.prober.probe(BOB, 1.0)
    desk.done[0](None, 1.5)
    desk.prober.probe_by_others(CAROL, 2.0)
    assert desk.verdicts == [(BOB, "probe", set(), False), (CAROL, "link", set(), False)]
    assert desk.awareness.score == 1


def test_without_a_link_others_are_asked_at_once() -> None:
    desk = Desk()
    desk.prober.probe_by_others(BOB, 1.0)
    desk.prober.probe_by_others(BOB, 1.0)
    assert [node for node, _, _ in desk.asked] == [CAROL, DAVE, ERIN]
    for done in desk.done:
        done(Nack(0), 1.1)
    assert desk.verdicts == [(BOB, "link", {CAROL, DAVE, ERIN}, True)]


def test_what_was_under_way_when_we_were_stopped_says_nothing() -> None:
    desk = Desk()
    desk.prober.probe(BOB, 1.0)
    desk.stopped = True
    desk.done[0](None, 31.0)
    assert len(desk.asked) == 1
    desk.stopped = False
    desk.prober.probe_by_others(BOB, 32.0)
    desk.stopped = True
    for done in desk.done[1:]:
        done(None, 60.0)
    assert desk.verdicts == []


def test_a_pong_counts_even_after_a_stop() -> None:
    desk = Desk()
    desk.prober.probe(BOB, 1.0)
    desk.prober.void()
    desk.done[0](Pong(0), 31.0)
    assert desk.verdicts == [(BOB, "directly")]


def test_a_helper_pings_and_says_what_it_found() -> None:
    desk = Desk()
    assert desk.prober.receive_request(BOB, PingRequest(7, CAROL, NEWS), 1.0) is None
    assert desk.prober.receive_request(BOB, PingRequest(8, DAVE), 1.0) is None
    assert desk.asked == [(CAROL, Ping(0, NEWS), 0.5), (DAVE, Ping(0, NEWS), 0.5)]
    desk.done[0](Pong(0, NEWS), 1.1)
    desk.done[1](None, 1.5)
    assert desk.answers == [(BOB, Pong(7, NEWS)), (BOB, Nack(8, NEWS))]
    assert desk.gossip == [(BOB, 1), (BOB, 0), (CAROL, 1)]
    assert desk.verdicts == []


def test_a_helper_that_is_the_target_answers_itself() -> None:
    assert Desk().prober.receive_request(BOB, PingRequest(7, OWN), 1.0) == Pong(7, NEWS)


def test_there_is_a_limit_to_help() -> None:
    desk = Desk()
    for call in range(MOST_RELAYS):
        assert desk.prober.receive_request(BOB, PingRequest(call, CAROL), 1.0) is None
    assert desk.prober.receive_request(BOB, PingRequest(999, CAROL), 1.0) == Error(999, "busy")
    desk.done[0](None, 1.5)
    assert desk.prober.receive_request(BOB, PingRequest(999, CAROL), 1.0) is None


def test_each_member_has_its_turn_before_anybody_has_a_second() -> None:
    desk = Desk()
    linked = [BOB, CAROL, DAVE, ERIN]
    turns = [desk.prober.next_target(linked, lambda node: True) for _ in range(40)]
    for first in range(0, 40, 4):
        assert sorted(turns[first : first + 4]) == linked  # type: ignore[type-var]
    assert len({tuple(turns[first : first + 4]) for first in range(0, 40, 4)}) > 1
    assert desk.prober.next_target(linked, lambda node: node == DAVE) == DAVE
    assert desk.prober.next_target(linked, lambda node: False) is None
    desk.prober.probe(DAVE, 1.0)
    assert desk.prober.next_target([DAVE], lambda node: True) is None
