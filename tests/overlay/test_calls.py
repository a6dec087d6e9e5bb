"""Two nodes that call each other through recorded links: what travels together, who gets which answer, and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.calls import FULL_BYTES, MOST_CALLS, Calls
from farm.overlay.clock import HybridClock, make_stamp
from farm.overlay.requests import RECORDS, REPAIR
from farm.overlay.rtt import FIRST_PATIENCE
from farm.overlay.wire import (
    FRAME_BYTES,
    Answer,
    Codec,
    Contact,
    Diagnose,
    Diagnosis,
    Error,
    Fetch,
    Fetched,
    Gossip,
    Hello,
    Nodes,
    Notice,
    Ping,
    Pong,
    Pull,
    Pulled,
    Relay,
    Request,
    Row,
    Store,
    Stored,
)

ALICE, BOB = b"a" * 32, b"b" * 32


class Time:
    """The time of both sides, and what they asked to be called later."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def later(self, delay: float, action: Callable[[], None]) -> None:
        self.waiting.append((self.now + delay, action))

    def turn(self) -> None:
        """One turn of the reactor at this time: what was due before it began."""
        due = [entry for entry in self.waiting if entry[0] <= self.now]
        self.waiting = [entry for entry in self.waiting if entry[0] > self.now]
        for _, action in due:
            action()


class Side:
    """One node: its Calls, the frames that it sent, and what it was asked."""

    def __init__(self, node: bytes, time: Time, ahead: float = 0.0) -> None:
        self.node = node
        self.time = time
        self.mono_ahead = ahead
        self.wall_ahead = 0.0
        self.frames: list[bytes] = []
        self.open = True
        self.full = False
        self.asked: list[Request | Notice] = []
        self.shifts: list[float] = []
        self.lost: list[Relay] = []
        self.reply: Callable[[Request], Answer | None] = lambda request: Pong(0)
        self.answers: list[tuple[Answer | None, float]] = []
        self.failures: list[str] = []
        self.clocks: list[tuple[bytes, float]] = []
        self.metrics = Metrics()
        self.deadlines = Deadlines()
        self.stamps = HybridClock()
        self.calls = Calls(
            self,
            Codec(),
            self.deadlines,
            time.later,
            self.stamps,
            self.clock,
            lambda: 1_000_000.0 + time.now + self.wall_ahead,
            self.metrics,
            server=self,
            log_failure=self.failures.append,
            note_clock=lambda node, ahead: self.clocks.append((node, round(ahead, 3))),
        )

    def clock(self) -> float:
        return self.time.now + self.mono_ahead

    def send(self, node: bytes, frame: bytes) -> bool:
        if self.open and not self.full:
            assert int.from_bytes(frame[:4], "big") == len(frame) - 4 <= FRAME_BYTES
            self.frames.append(frame[4:])
        return self.open and not self.full

    def is_open(self, node: bytes) -> bool:
        return self.open

    def connect(self, contact: Contact) -> None:
        raise AssertionError

    def connect_address(self, host: str, port: int) -> None:
        raise AssertionError

    def close(self, node: bytes, reason: str) -> None:
        raise AssertionError

    def receive_request(self, node: bytes, message: Request, shift: float, now: float) -> Answer | None:
        self.asked.append(message)
        self.shifts.append(shift)
        return self.reply(message)

    def receive_notice(self, node: bytes, message: Notice, now: float) -> None:
        self.asked.append(message)

    def relays_lost(self, node: bytes, relays: list[Relay], now: float) -> None:
        self.lost.extend(relays)

    def done(self, answer: Answer | None, now: float) -> None:
        self.answers.append((answer, now))

    def rejected(self, reason: str) -> float:
        return float(self.metrics.peer_rejections.child(reason)._value.get())

    def bytes_counted(self, direction: str, name: str) -> float:
        return float(self.metrics.overlay_bytes.child(direction, name)._value.get())

    @property
    def unexpected(self) -> float:
        return float(self.metrics.unexpected_errors.child("overlay")._value.get())


class Pair:
    """Alice and Bob."""

    def __init__(self) -> None:
        self.time = Time()
        self.alice = Side(ALICE, self.time)
        self.bob = Side(BOB, self.time, ahead=5000.0)

    def ask(self, message: Request | None = None, within: float = 2.0, patient: bool = False) -> int:
        alice = self.alice
        return alice.calls.ask(BOB, message or Ping(0), within, alice.done, self.time.now, patient=patient)

    def carry(self) -> list[str]:
        """Take all frames over at once; what the receivers answered of each."""
        verdicts = []
        for side, other in ((self.alice, self.bob), (self.bob, self.alice)):
            frames, side.frames = side.frames, []
            verdicts += [other.calls.receive_frame(side.node, frame, other.clock()) for frame in frames]
        return verdicts

    def settle(self) -> None:
        for _ in range(6):
            self.time.turn()
            self.carry()

    def expire(self, now: float) -> None:
        self.time.now = now
        self.alice.deadlines.run_due(now)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def messages_of(frame: bytes) -> list[object]:
    return list(Codec().unpack(frame).messages)


def test_a_call_is_answered_once_with_what_the_other_node_said(pair: Pair) -> None:
    news = [Contact(ALICE, "192.0.2.1", 7400)]
    pair.bob.reply = lambda request: Pong(0, news)
    number = pair.ask()
    assert pair.alice.answers == []
    pair.time.turn()
    pair.time.now += 0.25
    pair.settle()
    assert pair.bob.asked == [Ping(number, [])]
    assert pair.alice.answers == [(Pong(number, news), 100.25)]
    pair.expire(200.0)
    assert len(pair.alice.answers) == 1


def test_what_is_asked_in_one_turn_travels_in_one_frame(pair: Pair) -> None:
    first, second = pair.ask(), pair.ask(Fetch(0, "registration", b"key"))
    pair.alice.calls.tell(BOB, Gossip(()), 100.0)
    assert pair.alice.frames == []
    pair.time.turn()
    (frame,) = pair.alice.frames
    assert messages_of(frame) == [Ping(first, []), Fetch(second, "registration", b"key"), Gossip([])]
    pair.bob.reply = lambda request: Pong(0) if isinstance(request, Ping) else Fetched(0, b"record")
    pair.carry()
    pair.time.turn()
    (frame,) = pair.bob.frames
    assert messages_of(frame) == [Pong(first, []), Fetched(second, b"record", nearer=[])]


def test_patient_messages_wait_for_the_next_tick_of_the_wall_clock_also_after_a_pause(pair: Pair) -> None:
    pair.time.now += 0.005
    pair.ask(patient=True)
    pair.time.turn()
    pair.time.now += 0.010
    pair.ask(patient=True)
    pair.time.now += 0.0049  # 19.9 ms after a tick
    pair.time.turn()
    assert pair.alice.frames == []
    pair.time.now += 0.0002
    pair.time.turn()
    assert [len(messages_of(frame)) for frame in pair.alice.frames] == [2]
    pair.time.now += 0.001
    pair.ask(patient=True)
    pair.time.now += 0.02
    pair.time.turn()
    assert [len(messages_of(frame)) for frame in pair.alice.frames] == [2, 1]


def test_all_nodes_send_what_waited_at_the_same_moments(pair: Pair) -> None:
    """Whatever their monotonic clocks show: so a node is woken once for all others."""
    pair.time.now += 0.0071
    pair.ask(patient=True)
    pair.time.now += 0.0071
    pair.bob.calls.ask(ALICE, Ping(0), 2.0, pair.bob.done, pair.bob.clock(), patient=True)
    assert {round(at, 6) for at, _ in pair.time.waiting} == {100.02}


def test_without_a_window_patient_messages_leave_at_the_end_of_the_turn(pair: Pair) -> None:
    pair.alice.calls._coalesce_seconds = 0.0
    pair.ask(patient=True)
    pair.time.turn()
    assert len(pair.alice.frames) == 1


def test_an_impatient_message_carries_along_what_waits(pair: Pair) -> None:
    pair.ask()
    pair.time.turn()
    pair.time.now += 0.001
    waiting = pair.ask(Store(0, "registration", b"key", b"delta"), patient=True)
    urgent = pair.ask()
    pair.time.turn()
    assert messages_of(pair.alice.frames[1]) == [Store(waiting, "registration", b"key", b"delta"), Ping(urgent, [])]
    pair.time.now += 0.02
    pair.time.turn()
    assert len(pair.alice.frames) == 2


def test_the_acknowledgement_of_a_store_waits_for_company_and_another_answer_does_not(pair: Pair) -> None:
    pair.bob.reply = lambda request: Stored(0) if isinstance(request, Store) else Pong(0)
    pair.time.now += 0.001
    pair.ask(Store(0, "registration", b"key", b"delta"))
    pair.settle()
    assert pair.alice.answers == []
    pair.ask(Ping(0))
    pair.settle()
    assert len(pair.alice.answers) == 2


def test_a_full_queue_leaves_at_once(pair: Pair) -> None:
    row = Row("registration", b"key", bytes(10_000))
    pair.ask()
    for _ in range(3):
        pair.alice.calls.answer(BOB, Pulled(7, [row]), 100.0)
    assert pair.alice.frames == []
    for _ in range(3):
        pair.alice.calls.answer(BOB, Pulled(7, [row]), 100.0)
    (frame,) = pair.alice.frames
    assert len(frame) > FULL_BYTES
    pair.time.turn()
    assert [len(messages_of(frame)) for frame in pair.alice.frames] == [5, 2]


def test_a_frame_is_split_before_it_exceeds_what_a_link_takes(pair: Pair) -> None:
    small, large = Row("registration", b"key", bytes(30_000)), Row("registration", b"key", bytes(250_000))
    first = pair.ask(Pull(0, 1))
    pair.alice.calls.answer(BOB, Pulled(7, [small]), 100.0)
    pair.alice.calls.answer(BOB, Pulled(8, [large]), 100.0)
    assert [[type(message) for message in messages_of(frame)] for frame in pair.alice.frames] == [
        [Pull, Pulled],
        [Pulled],
    ]
    assert pair.alice.calls.outstanding(BOB) == 1
    pair.carry()
    assert pair.bob.asked == [Pull(first, 1, [])]


def test_what_no_frame_can_hold_fails_in_the_next_turn_and_its_asker_hears_of_an_error(pair: Pair) -> None:
    pair.ask(Store(0, "registration", b"key", bytes(FRAME_BYTES)))
    assert pair.alice.answers == []
    pair.time.turn()
    assert pair.alice.answers == [(None, 100.0)]
    assert pair.alice.calls.outstanding(BOB) == 0
    pair.bob.reply = lambda request: Pulled(0, [Row("registration", b"key", bytes(FRAME_BYTES))])
    number = pair.ask(Pull(0, 1))
    pair.settle()
    assert pair.alice.answers[1:] == [(Error(number, "internal"), 100.0)]
    assert (pair.alice.rejected("oversize-frame"), pair.bob.rejected("oversize-frame")) == (1, 1)


def test_a_message_that_cannot_be_packed_fails_alone(pair: Pair) -> None:
    pair.ask(Fetch(0, "registration", object()))  # type: ignore[arg-type]
    pair.ask()
    pair.settle()
    assert [type(answer) for answer, _ in pair.alice.answers] == [type(None), Pong]
    assert (pair.alice.unexpected, len(pair.alice.failures)) == (1, 1)


def test_no_answer_in_time_is_none_and_one_that_comes_later_is_passed_over(pair: Pair) -> None:
    pair.ask(within=0.5)
    pair.ask(within=0.75)
    pair.time.turn()
    pair.expire(100.49)
    assert pair.alice.answers == []
    pair.expire(100.517)
    assert pair.alice.answers == [(None, 100.517)]
    pair.settle()
    assert [type(answer) for answer, _ in pair.alice.answers] == [type(None), Pong]
    assert pair.alice.metrics.rpc_timeouts.child("ping")._value.get() == 1
    pair.expire(300.0)
    assert len(pair.alice.answers) == 2
    assert len(pair.alice.deadlines) == 0


def test_a_node_that_does_not_answer_in_time_is_given_more_time(pair: Pair) -> None:
    assert pair.alice.calls.patience(BOB) == FIRST_PATIENCE
    pair.ask()
    pair.time.turn()
    pair.time.now += 0.02
    pair.settle()
    assert pair.alice.calls.rtt(BOB).srtt == pytest.approx(0.02)
    assert pair.alice.calls.patience(BOB) == pytest.approx(0.06)
    assert pair.alice.calls.hedge_after(BOB) == pytest.approx(0.04)
    pair.ask(within=0.06)
    pair.ask(Pull(0, 1), within=0.06)  # takes as long as it takes: says nothing of the way
    pair.expire(101.0)
    assert pair.alice.calls.patience(BOB) == pytest.approx(0.12)


def test_an_answer_that_waited_for_company_does_not_tell_the_round_trip(pair: Pair) -> None:
    pair.bob.reply = lambda request: Stored(0)
    pair.ask(Store(0, "registration", b"key", b"delta"), patient=True)
    for _ in range(2):
        pair.time.now += 0.02
        pair.settle()
    assert [type(answer) for answer, _ in pair.alice.answers] == [Stored]
    assert pair.alice.calls.rtt(BOB).samples == 0
    assert pair.alice.metrics.rpc_seconds.child("store")._sum.get() == pytest.approx(0.04)


def test_without_a_link_all_calls_fail_in_the_turn_after(pair: Pair) -> None:
    pair.alice.open = False
    pair.ask()
    pair.ask(patient=True)
    assert pair.alice.answers == []
    pair.time.turn()
    pair.time.turn()
    assert pair.alice.answers == [(None, 100.0)] * 2
    assert pair.alice.rejected("queue-full") == 0


def test_calls_that_the_link_takes_no_more_fail_and_those_sent_before_do_not(pair: Pair) -> None:
    sent = pair.ask()
    pair.time.turn()
    pair.alice.full = True
    pair.ask()
    pair.time.turn()
    pair.time.turn()
    assert pair.alice.answers == [(None, 100.0)]
    assert pair.alice.rejected("queue-full") == 1
    pair.alice.full = False
    pair.settle()
    assert pair.alice.answers[1:] == [(Pong(sent, []), 100.0)]


def test_a_broken_link_fails_its_calls_at_once_and_what_was_queued_never_leaves(pair: Pair) -> None:
    pair.ask()
    pair.time.turn()
    pair.ask()
    pair.alice.calls.link_closed(BOB, 100.0)
    pair.alice.calls.link_closed(BOB, 100.0)
    assert pair.alice.answers == [(None, 100.0)] * 2
    pair.time.turn()
    assert len(pair.alice.frames) == 1
    pair.carry()
    pair.settle()
    assert len(pair.alice.answers) == 2


def test_what_is_asked_again_while_the_calls_of_a_broken_link_fail_is_a_new_call(pair: Pair) -> None:
    def done(answer: Answer | None, now: float) -> None:
        pair.ask()

    pair.alice.calls.ask(BOB, Ping(0), 2.0, done, 100.0)
    pair.alice.calls.link_closed(BOB, 100.0)
    pair.settle()
    assert [type(answer) for answer, _ in pair.alice.answers] == [Pong]


def test_a_node_that_never_answers_gets_ten_thousand_calls_and_no_more(pair: Pair) -> None:
    for _ in range(MOST_CALLS + 1):
        pair.ask()
    assert pair.alice.calls.outstanding(BOB) == MOST_CALLS
    pair.time.turn()
    assert pair.alice.answers == [(None, 100.0)]
    assert pair.alice.rejected("queue-full") == 1


def test_an_answer_may_come_later(pair: Pair) -> None:
    pair.bob.reply = lambda request: None
    number = pair.ask(Pull(0, 7))
    pair.settle()
    assert pair.alice.answers == []
    pair.bob.calls.answer(ALICE, Pulled(number, more=True), pair.bob.clock())
    pair.settle()
    assert pair.alice.answers == [(Pulled(number, [], more=True), 100.0)]
    pair.bob.calls.answer(b"c" * 32, Pulled(number), pair.bob.clock())
    pair.time.turn()
    assert pair.bob.frames == []


def test_an_answer_of_the_wrong_type_is_an_error_and_so_is_one_that_says_so(pair: Pair) -> None:
    pair.bob.reply = lambda request: Nodes(0)
    first = pair.ask()
    pair.settle()
    pair.bob.reply = lambda request: Error(0, "busy", "later")
    second = pair.ask()
    pair.settle()
    assert [answer for answer, _ in pair.alice.answers] == [Error(first, "bad-answer"), Error(second, "busy", "later")]
    assert pair.alice.calls.rtt(BOB).samples == 0


def test_nobody_answers_in_the_place_of_another(pair: Pair) -> None:
    number = pair.ask()
    pair.time.turn()
    frame = Codec().frame(make_stamp(1_000_100.0), 1.0, [Codec().pack(Pong(number))])
    assert pair.alice.calls.receive_frame(b"c" * 32, frame[4:], 100.0) == ""
    assert pair.alice.answers == []
    pair.settle()
    assert len(pair.alice.answers) == 1


def test_times_of_records_are_moved_by_the_difference_of_the_two_clocks(pair: Pair) -> None:
    shifts: list[float] = []
    pair.alice.calls.ask(BOB, Ping(0), 2.0, lambda answer, now: shifts.append(pair.alice.calls.shift), 100.0)
    pair.settle()
    assert pair.bob.shifts == [5000.0]
    assert shifts == [-5000.0]


def test_stamps_follow_those_of_the_other_node(pair: Pair) -> None:
    pair.alice.wall_ahead = 3.0
    pair.ask()
    pair.settle()
    assert pair.bob.stamps.last >= make_stamp(1_000_103.0)


def test_a_node_whose_clock_is_more_than_5_s_ahead_is_refused_and_teaches_nothing(pair: Pair) -> None:
    pair.alice.wall_ahead = 5.5
    number = pair.ask()
    pair.alice.calls.tell(BOB, Gossip(()), 100.0)
    pair.settle()
    assert pair.bob.asked == []
    assert pair.alice.answers == [(Error(number, "clock"), 100.0)]
    assert pair.bob.rejected("clock") == 2
    assert pair.bob.stamps.last < make_stamp(1_000_101.0)


def test_an_answer_of_a_node_whose_clock_is_ahead_is_none(pair: Pair) -> None:
    pair.bob.wall_ahead = 6.0
    pair.ask()
    pair.settle()
    assert pair.alice.answers == [(None, 100.0)]


def test_both_sides_say_that_a_clock_was_set_while_the_link_was_open_and_that_it_is_right_again(pair: Pair) -> None:
    pair.ask()
    pair.settle()
    pair.alice.wall_ahead = 6.0
    pair.ask()
    pair.settle()
    assert pair.bob.clocks == [(ALICE, 6.0)]
    assert pair.alice.clocks == [(BOB, -6.0)]
    pair.alice.wall_ahead = 0.0
    pair.alice.stamps.last = pair.bob.stamps.last = 0
    pair.ask()
    pair.settle()
    assert pair.bob.clocks == [(ALICE, 6.0), (ALICE, 0.0)]
    assert pair.alice.clocks == [(BOB, -6.0), (BOB, 0.0)]
    pair.ask()
    pair.settle()
    assert len(pair.bob.clocks) == len(pair.alice.clocks) == 2


def test_what_a_newer_node_asks_is_answered_as_unsupported_and_the_rest_is_served(pair: Pair) -> None:
    codec = Codec()
    unknown = b"\x93\xcc\xc8\x4d\xa1x"  # [200, 77, "x"]
    frame = codec.frame(make_stamp(1_000_100.0), 1.0, [unknown, codec.pack(Ping(5))])
    assert pair.bob.calls.receive_frame(ALICE, frame[4:], 5100.0) == ""
    pair.time.turn()
    assert messages_of(pair.bob.frames[0]) == [Pong(5, []), Error(77, "unsupported")]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "bad-frame"),
        (b"GET / HTTP/1.1\r\n\r\n", "bad-frame"),
        (Codec().frame(1, 1.0, [b"\x91\x01"])[4:], "bad-message"),
        (Codec().frame(1, 1.0, [Codec().pack(Hello("farm", Contact(ALICE, "h", 1), 1, 1, 0))])[4:], "bad-message"),
    ],
)
def test_a_broken_frame_or_a_second_hello_closes_the_link(pair: Pair, frame: bytes, reason: str) -> None:
    assert pair.bob.calls.receive_frame(ALICE, frame, 5100.0) == reason


def test_an_exception_while_a_request_is_served_is_counted_and_answered(pair: Pair) -> None:
    def reply(request: Request) -> Answer | None:
        raise ZeroDivisionError

    pair.bob.reply = reply
    number = pair.ask()
    pair.settle()
    assert pair.alice.answers == [(Error(number, "internal"), 100.0)]
    assert (pair.bob.unexpected, len(pair.bob.failures)) == (1, 1)


def test_an_exception_in_what_follows_a_call_or_a_notice_stops_nobody(pair: Pair) -> None:
    def done(answer: Answer | None, now: float) -> None:
        raise ZeroDivisionError

    pair.alice.calls.ask(BOB, Ping(0), 2.0, done, 100.0)
    pair.ask()
    pair.settle()
    assert len(pair.alice.answers) == 1
    pair.bob.asked = None  # type: ignore[assignment]
    pair.alice.calls.tell(BOB, Gossip(()), 100.0)
    pair.settle()
    assert (pair.alice.unexpected, pair.bob.unexpected) == (1, 1)


def test_a_link_that_raises_fails_its_calls(pair: Pair) -> None:
    def send(node: bytes, frame: bytes) -> bool:
        raise OSError

    pair.alice.send = send  # type: ignore[method-assign]
    pair.ask()
    pair.time.turn()
    pair.time.turn()
    assert pair.alice.answers == [(None, 100.0)]
    assert pair.alice.unexpected == 1


def test_bytes_are_counted_as_what_they_carry(pair: Pair) -> None:
    pair.bob.reply = lambda request: Fetched(0, bytes(1000)) if isinstance(request, Fetch) else Diagnosis(0, {})
    calls = pair.alice.calls
    calls.ask(BOB, Fetch(0, "registration", bytes(500)), 2.0, pair.alice.done, 100.0, size_class=RECORDS)
    pair.settle()
    calls.ask(BOB, Diagnose(0), 2.0, pair.alice.done, 100.0)
    pair.settle()
    calls.ask(BOB, Pull(0, 1, [bytes(200)]), 2.0, pair.alice.done, 100.0, size_class=REPAIR)
    pair.settle()
    for side, way in ((pair.alice, "out"), (pair.bob, "in")):
        assert 500 < side.bytes_counted(way, "records") < 560
        assert 200 < side.bytes_counted(way, "repair") < 260
        assert 0 < side.bytes_counted(way, "upkeep") < 60
    assert 1000 < pair.alice.bytes_counted("in", "records") < 1060
    assert 1000 < pair.bob.bytes_counted("out", "records") < 1060


def test_a_goodbye_leaves_before_the_links_are_closed_in_the_same_turn(pair: Pair) -> None:
    pair.ask()
    pair.time.turn()
    pair.time.now += 0.001
    pair.ask(Store(0, "registration", b"key", b"delta"), patient=True)
    pair.alice.calls.tell(BOB, Gossip([]), pair.time.now)
    pair.alice.calls.flush()
    assert [[type(message) for message in messages_of(frame)] for frame in pair.alice.frames[1:]] == [[Store, Gossip]]
    pair.time.turn()
    assert len(pair.alice.frames) == 2


def test_a_node_that_asks_without_end_is_answered_busy_until_it_slows_down(pair: Pair) -> None:
    bob = pair.bob
    bob.calls._interval = 0.125
    bob.reply = lambda request: Fetched(0, b"record")
    numbers = [pair.ask(Fetch(0, "registration", b"key")) for _ in range(40)]
    pair.settle()
    assert len(bob.asked) == 17  # two seconds' worth, and the one that comes then
    busy = [answer for answer, _ in pair.alice.answers if isinstance(answer, Error)]
    assert busy == [Error(number, "busy") for number in numbers[17:]]
    assert bob.rejected("rate") == 23
    pair.time.now += 1.0
    for _ in range(40):
        pair.ask(Fetch(0, "registration", b"key"))
    pair.settle()
    assert len(bob.asked) == 17 + 8


def test_a_busy_node_still_answers_pings_and_hears_no_more_news(pair: Pair) -> None:
    bob = pair.bob
    bob.calls._interval = 10.0
    for _ in range(3):
        pair.alice.calls.tell(BOB, Gossip(()), pair.time.now)
    number = pair.ask(Ping(0))
    pair.settle()
    assert bob.asked == [Gossip([]), Ping(number, [])]
    assert bob.rejected("rate") == 2
    assert [type(answer) for answer, _ in pair.alice.answers] == [Pong]


def test_no_limit_is_no_limit(pair: Pair) -> None:
    side = Side(ALICE, pair.time)
    assert side.calls._interval == 1 / 20_000
    calls = Calls(
        side, Codec(), side.deadlines, pair.time.later, side.stamps, side.clock, side.clock, side.metrics,
        requests_per_second=0,
    )  # fmt: skip
    peer = calls._add_peer(BOB)
    assert not any(calls._is_too_much(peer, 100.0) for _ in range(100_000))


BYE, ACK = Relay(1, b"head", b"BYE"), Relay(2, b"", b"ACK")


def test_relays_leave_at_the_end_of_the_turn_in_order_and_count_as_such(pair: Pair) -> None:
    pair.alice.calls.tell(BOB, BYE, pair.time.now)
    pair.alice.calls.tell(BOB, ACK, pair.time.now)
    assert pair.alice.frames == []
    pair.settle()
    assert pair.bob.asked == [BYE, ACK]
    assert pair.alice.bytes_counted("out", "relays") == pair.bob.bytes_counted("in", "relays") > 0
    assert pair.alice.bytes_counted("out", "upkeep") == 0


@pytest.mark.parametrize("full", [False, True])
def test_who_relayed_what_did_not_leave_hears_of_it_in_a_turn_of_its_own(pair: Pair, full: bool) -> None:
    alice = pair.alice
    alice.full, alice.open = full, full
    for message in (BYE, Gossip([]), ACK):
        alice.calls.tell(BOB, message, pair.time.now)
    pair.time.turn()
    assert alice.lost == []
    pair.time.turn()
    assert alice.lost == [BYE, ACK]


def test_what_waits_for_the_end_of_the_turn_in_which_its_link_closes_is_lost(pair: Pair) -> None:
    alice = pair.alice
    alice.calls.tell(BOB, BYE, pair.time.now)
    alice.calls.link_closed(BOB, pair.time.now)
    pair.time.turn()
    pair.time.turn()
    assert alice.lost == [BYE]
    assert alice.frames == []


def test_a_node_that_relays_too_much_can_still_ask(pair: Pair) -> None:
    """20,000 a second each, of which two seconds' may come at once."""
    bob = pair.bob
    frame = Codec().frame(0, pair.time.now, [Codec().pack(BYE)] * 10_000)[4:]
    for _ in range(6):
        bob.calls.receive_frame(ALICE, frame, bob.clock())
    assert len(bob.asked) == pytest.approx(40_000, abs=1)
    assert bob.rejected("rate") == 60_000 - len(bob.asked)
    bob.reply = lambda request: Fetched(0)
    pair.ask(Fetch(0, "registration", b"key"))
    pair.settle()
    assert [type(answer) for answer, _ in pair.alice.answers] == [Fetched]
