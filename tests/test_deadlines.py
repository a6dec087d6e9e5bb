"""The one heap of timers: order, cancelling, and what a shell with a reactor is told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.deadlines import Deadline, Deadlines


class Clockwork:
    """Deadlines whose actions write down their argument and the time."""

    def __init__(self) -> None:
        self.woken: list[float] = []
        self.ran: list[tuple[object, float]] = []
        self.deadlines = Deadlines(self.woken.append)

    def note(self, argument: object, now: float) -> None:
        self.ran.append((argument, now))

    def add(self, at: float, argument: object = None) -> Deadline:
        return self.deadlines.add(at, self.note, argument)


@pytest.fixture
def clockwork() -> Clockwork:
    return Clockwork()


def test_what_is_due_runs_in_the_order_of_time(clockwork: Clockwork) -> None:
    for at in (3.0, 1.0, 2.0, 5.0):
        clockwork.add(at, at)
    assert clockwork.deadlines.run_due(3.0) == 3
    assert clockwork.ran == [(1.0, 3.0), (2.0, 3.0), (3.0, 3.0)]
    assert clockwork.deadlines.next_at() == 5.0


def test_equal_times_keep_the_order_they_were_added_in(clockwork: Clockwork) -> None:
    for name in "abcd":
        clockwork.add(1.0, name)
    clockwork.deadlines.run_due(1.0)
    assert [name for name, _ in clockwork.ran] == list("abcd")


def test_a_cancelled_deadline_never_runs_and_is_not_counted(clockwork: Clockwork) -> None:
    first, second = clockwork.add(1.0, "first"), clockwork.add(2.0, "second")
    clockwork.deadlines.cancel(first)
    clockwork.deadlines.cancel(first)
    clockwork.deadlines.cancel(None)
    assert (first.pending, second.pending, len(clockwork.deadlines)) == (False, True, 1)
    assert clockwork.deadlines.next_at() == 2.0
    assert clockwork.deadlines.run_due(9.0) == 1
    clockwork.deadlines.cancel(second)
    assert clockwork.ran == [("second", 9.0)]
    assert (len(clockwork.deadlines), clockwork.deadlines.next_at()) == (0, None)


def test_a_cancelled_deadline_lets_its_argument_go(clockwork: Clockwork) -> None:
    deadline = clockwork.add(1.0, "a large thing")
    clockwork.deadlines.cancel(deadline)
    assert deadline.argument is None
    assert deadline.action is None


def test_the_shell_is_woken_only_for_a_deadline_before_all_others(clockwork: Clockwork) -> None:
    clockwork.add(5.0)
    clockwork.add(7.0)
    clockwork.add(3.0)
    clockwork.add(3.0)
    assert clockwork.woken == [5.0, 3.0]
    clockwork.deadlines.run_due(3.0)
    clockwork.add(6.0)
    assert clockwork.woken == [5.0, 3.0], "5.0 is the next one, for which the shell looks after each run"
    clockwork.add(4.0)
    assert clockwork.woken == [5.0, 3.0, 4.0]
    clockwork.deadlines.run_due(9.0)
    clockwork.add(99.0)
    assert clockwork.woken == [5.0, 3.0, 4.0, 99.0]


def test_an_action_that_adds_itself_for_now_does_not_hold_the_process(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    runs: list[float] = []

    def again(_argument: object, now: float) -> None:
        runs.append(now)
        deadlines.add(now, again)

    deadlines.add(1.0, again)
    assert deadlines.run_due(1.0) == 1
    assert runs == [1.0]
    assert deadlines.next_at() == 1.0
    assert deadlines.run_due(1.0) == 1
    assert len(deadlines) == 1


def test_what_an_action_adds_for_earlier_waits_but_does_not_hide_what_is_due(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines

    def add_earlier(_argument: object, now: float) -> None:
        clockwork.add(0.5, "added")

    deadlines.add(1.0, add_earlier)
    clockwork.add(2.0, "due")
    assert deadlines.run_due(2.0) == 2
    assert clockwork.ran == [("due", 2.0)]
    assert deadlines.run_due(2.0) == 1
    assert clockwork.ran == [("due", 2.0), ("added", 2.0)]


def test_what_waits_for_the_next_run_may_be_cancelled_in_this_one(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    added: list[Deadline] = []
    deadlines.add(1.0, lambda _, now: added.append(clockwork.add(0.5, "added")))
    deadlines.add(2.0, lambda _, now: deadlines.cancel(added[0]))
    assert deadlines.run_due(2.0) == 2
    assert (len(deadlines), deadlines.next_at(), deadlines._heap_cancelled) == (0, None, 0)
    assert clockwork.ran == []


def test_an_action_may_cancel_what_is_due_in_the_same_run(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    deadlines.add(1.0, lambda argument, now: deadlines.cancel(doomed))
    doomed = clockwork.add(1.0, "doomed")
    assert deadlines.run_due(1.0) == 1
    assert clockwork.ran == []
    assert len(deadlines) == 0


def test_an_action_that_raises_costs_itself_alone(clockwork: Clockwork) -> None:
    def fail(_argument: object, _now: float) -> None:
        raise RuntimeError("a fault")

    clockwork.deadlines.add(1.0, fail)
    clockwork.add(1.0, "kept")
    with pytest.raises(RuntimeError, match="a fault"):
        clockwork.deadlines.run_due(1.0)
    assert clockwork.deadlines.next_at() == 1.0
    assert clockwork.deadlines.run_due(1.0) == 1
    assert clockwork.ran == [("kept", 1.0)]


def test_cancelling_nearly_everything_gives_the_memory_back(clockwork: Clockwork) -> None:
    """Most SIP timers are cancelled: the heap must not keep half a minute of them."""
    kept = clockwork.add(50.0, "kept")
    for number in range(10_000):
        clockwork.deadlines.cancel(clockwork.add(32.0 + number / 1000, number))
    assert len(clockwork.deadlines) == 1
    assert len(clockwork.deadlines._heap) < 2100
    assert kept.pending
    clockwork.deadlines.run_due(60.0)
    assert clockwork.ran == [("kept", 60.0)]


def test_the_count_stays_right_when_the_heap_is_rebuilt_in_the_middle_of_a_run(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    crowd = [clockwork.add(100.0 + number, number) for number in range(3000)]

    def cancel_all(_argument: object, now: float) -> None:
        late = clockwork.add(now, "late")
        soon.append(late)

    def cancel_late(_argument: object, now: float) -> None:
        deadlines.cancel(soon[0])
        for deadline in crowd:
            deadlines.cancel(deadline)

    soon: list[Deadline] = []
    deadlines.add(1.0, cancel_all)
    deadlines.add(2.0, cancel_late)
    assert deadlines.run_due(2.0) == 2
    assert len(deadlines) == 0
    assert deadlines.next_at() is None
    assert deadlines.run_due(500.0) == 0
    assert clockwork.ran == []


# Lanes


def test_deadlines_of_one_length_and_others_run_in_the_order_of_time(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    deadlines.add_after(5.0, 0.0, clockwork.note, "lane 5")
    clockwork.add(4.0, "heap 4")
    deadlines.add_after(2.0, 1.0, clockwork.note, "lane 3")
    clockwork.add(5.0, "heap 5")
    deadlines.add_after(5.0, 1.0, clockwork.note, "lane 6")
    assert clockwork.woken == [5.0, 4.0, 3.0]
    assert (len(deadlines), deadlines.next_at()) == (5, 3.0)
    assert deadlines.run_due(6.0) == 5
    assert [name for name, _ in clockwork.ran] == ["lane 3", "heap 4", "lane 5", "heap 5", "lane 6"]
    assert len(deadlines) == 0


def test_a_lane_that_is_told_an_earlier_time_keeps_its_order(clockwork: Clockwork) -> None:
    """Two threads of time, or a clock that was read before another: nothing may be run late for it."""
    clockwork.deadlines.add_after(5.0, 10.0, clockwork.note, "15")
    clockwork.deadlines.add_after(5.0, 8.0, clockwork.note, "13")
    assert clockwork.deadlines.run_due(14.0) == 1
    assert clockwork.ran == [("13", 14.0)]


def test_what_is_cancelled_in_a_lane_never_runs(clockwork: Clockwork) -> None:
    made = [clockwork.deadlines.add_after(5.0, float(now), clockwork.note, now) for now in range(4)]
    for index in (0, 2):
        clockwork.deadlines.cancel(made[index])
    assert (len(clockwork.deadlines), clockwork.deadlines.next_at()) == (2, 6.0)
    clockwork.deadlines.run_due(99.0)
    assert [number for number, _ in clockwork.ran] == [1, 3]


def test_a_cancelled_entry_stays_in_its_lane_until_it_reaches_the_head_and_never_counts(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    first = deadlines.add_after(32.0, 0.0, clockwork.note, "first")
    crowd = [deadlines.add_after(32.0, 1.0 + number / 10_000, clockwork.note, number) for number in range(5000)]
    for deadline in crowd:
        deadlines.cancel(deadline)
        deadlines.cancel(deadline)
    assert (len(deadlines), deadlines._heap_cancelled, len(deadlines._lanes[32.0])) == (1, 0, 5001)
    assert all(deadline.argument is None for deadline in crowd)
    assert (first.pending, crowd[0].pending, deadlines.next_at()) == (True, False, 32.0)
    deadlines.run_due(32.0)
    assert clockwork.ran == [("first", 32.0)]
    assert (deadlines.next_at(), len(deadlines._lanes[32.0])) == (None, 0)


def test_rebuilding_the_heap_leaves_the_lanes_alone(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    deadlines.add_after(5.0, 0.0, clockwork.note, "lane 5")
    deadlines.cancel(deadlines.add_after(5.0, 0.5, clockwork.note, "doomed"))
    deadlines.add_after(5.0, 1.0, clockwork.note, "lane 6")
    kept = clockwork.add(5.5, "heap 5.5")
    for number in range(3000):
        deadlines.cancel(clockwork.add(100.0, number))
    assert len(deadlines._heap) < 2100
    assert (kept.pending, len(deadlines)) == (True, 3)
    deadlines.run_due(7.0)
    assert [name for name, _ in clockwork.ran] == ["lane 5", "heap 5.5", "lane 6"]


def test_an_action_of_a_lane_that_raises_costs_itself_alone(clockwork: Clockwork) -> None:
    def fail(_argument: object, _now: float) -> None:
        raise RuntimeError("a fault")

    clockwork.deadlines.add_after(1.0, 0.0, fail)
    clockwork.deadlines.add_after(1.0, 0.0, clockwork.note, "kept")
    with pytest.raises(RuntimeError, match="a fault"):
        clockwork.deadlines.run_due(1.0)
    assert (clockwork.deadlines.next_at(), len(clockwork.deadlines)) == (1.0, 1)
    assert clockwork.deadlines.run_due(1.0) == 1
    assert clockwork.ran == [("kept", 1.0)]


def test_the_shell_is_woken_for_a_lane_as_for_the_heap(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    deadlines.add_after(32.0, 0.0, clockwork.note)
    deadlines.add_after(32.0, 1.0, clockwork.note)
    deadlines.add_after(0.5, 1.0, clockwork.note)
    deadlines.add_after(32.0, 0.5, clockwork.note, "told an earlier time")
    assert clockwork.woken == [32.0, 1.5]
    deadlines.run_due(1.5)
    assert deadlines.next_at() == 32.0


def test_a_lane_that_was_added_to_for_now_waits_for_the_next_run_and_may_be_cancelled(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    added: list[Deadline] = []

    def add(_argument: object, now: float) -> None:
        added.append(deadlines.add_after(0.0, now, clockwork.note, "late"))
        added.append(deadlines.add_after(0.0, now, clockwork.note, "doomed"))

    deadlines.add(1.0, add)
    deadlines.add(1.0, lambda _, now: deadlines.cancel(added[1]))
    assert deadlines.run_due(1.0) == 2
    assert (clockwork.ran, len(deadlines), deadlines.next_at()) == ([], 1, 1.0)
    deadlines.run_due(1.0)
    assert [name for name, _ in clockwork.ran] == ["late"]
    assert deadlines._heap_cancelled == 0


def test_the_shell_is_not_woken_for_every_one_of_many_that_waited_for_long(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    for number in range(100):
        deadlines.add_after(32.0, number / 1000.0, clockwork.note, number)
    deadlines.run_due(32.0)
    assert (deadlines.next_at(), deadlines.wake_at()) == (32.001, 32.05)
    deadlines.run_due(32.05)
    assert len(clockwork.ran) == 51
    assert deadlines.wake_at() == pytest.approx(32.1)
    deadlines.run_due(32.1)
    assert (len(clockwork.ran), deadlines.wake_at()) == (100, None)


def test_what_waits_for_long_is_on_time_after_a_quiet_moment(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    deadlines.add_after(0.5, 0.0, clockwork.note)
    deadlines.add_after(0.5, 0.0625, clockwork.note)
    assert clockwork.woken == [0.5]
    deadlines.run_due(0.5)
    assert deadlines.wake_at() == 0.5625


def test_what_is_on_the_heap_or_waits_only_briefly_is_on_time_whatever_ran_before(clockwork: Clockwork) -> None:
    deadlines = clockwork.deadlines
    deadlines.add_after(32.0, 0.0, clockwork.note)
    deadlines.add_after(32.0, 0.001, clockwork.note)
    deadlines.run_due(32.0)
    short = deadlines.add_after(0.05, 31.98, clockwork.note)
    heaped = deadlines.add(32.02, clockwork.note)
    assert deadlines.wake_at() == 32.02
    deadlines.cancel(heaped)
    assert deadlines.wake_at() == short.at
    deadlines.cancel(short)
    assert deadlines.wake_at() == 32.05
    deadlines.add(32.01, clockwork.note)
    assert clockwork.woken[-1] == 32.01


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from([0, 1, 5]), st.booleans()), max_size=60),
    st.integers(0, 1000),
)
def test_every_deadline_runs_once_in_order_or_was_cancelled(entries: list[tuple[int, int, bool]], seed: int) -> None:
    """Those in lanes (length above 0) and those on the heap alike."""
    clockwork = Clockwork()
    deadlines = clockwork.deadlines
    made: list[Deadline] = []
    for number, (now, length, _) in enumerate(entries):
        if length:
            made.append(deadlines.add_after(float(length), float(now), clockwork.note, number))
        else:
            made.append(clockwork.add(float(now), number))
    for deadline, (_, _, doomed) in zip(made, entries, strict=True):
        if doomed:
            deadlines.cancel(deadline)
    expected = sorted((now + length, number) for number, (now, length, doomed) in enumerate(entries) if not doomed)
    assert len(deadlines) == len(expected)
    rng = random.Random(seed)
    at = 0.0
    while (following := deadlines.next_at()) is not None:
        at = max(following, at + rng.random() * 5)
        deadlines.run_due(at)
    assert [number for number, _ in clockwork.ran] == [number for _, number in expected]
    assert len(deadlines) == 0
