"""The four tables against the RFCs' figures, written down a second time, and the lengths of the timers.

Each line of a figure is "state  event -> state  actions"; what no line names must be absorbed. The figures are RFC 3261
5 to 8, changed where RFC 6026 §7 and §8.7 and RFC 4320 §4 change them.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from farm.transaction.machines import (
    CLIENT,
    INVITE_CLIENT,
    INVITE_SERVER,
    RETRANSMIT_TIMERS,
    SERVER,
    Do,
    Event,
    Machine,
    State,
    Step,
    Timings,
    next_interval,
    timer_length,
    trying_after,
)

FIGURES: Mapping[str, str] = {
    # RFC 3261 figure 5, with Accepted and timer M of RFC 6026 figure 3
    "INVITE client": """
        calling     timer A          -> calling     send
        calling     timer B          -> terminated  timeout to TU
        calling     transport error  -> terminated  transport error to TU
        calling     1xx              -> proceeding  to TU
        calling     2xx              -> accepted    to TU
        calling     300-699          -> completed   send ACK, to TU
        proceeding  1xx              -> proceeding  to TU
        proceeding  2xx              -> accepted    to TU
        proceeding  300-699          -> completed   send ACK, to TU
        proceeding  flow death       -> terminated  transport error to TU
        proceeding  abandon          -> terminated
        completed   300-699          -> completed   send ACK
        completed   transport error  -> terminated  transport error to TU
        completed   timer D          -> terminated
        accepted    2xx              -> accepted    to TU
        accepted    timer M          -> terminated
    """,
    # RFC 3261 figure 7, with Accepted and timer L of RFC 6026 figure 1, and trying before the 100 of §17.2.1
    "INVITE server": """
        trying      timer 100        -> proceeding  send 100
        trying      1xx              -> proceeding  send
        trying      2xx              -> accepted    send
        trying      300-699          -> completed   send
        trying      transport error  -> trying      transport error to TU
        proceeding  request          -> proceeding  send
        proceeding  1xx              -> proceeding  send
        proceeding  2xx              -> accepted    send
        proceeding  300-699          -> completed   send
        proceeding  transport error  -> proceeding  transport error to TU
        completed   request          -> completed   send
        completed   timer G          -> completed   send
        completed   timer H          -> terminated  timeout to TU
        completed   transport error  -> completed   transport error to TU
        completed   ACK              -> confirmed
        confirmed   timer I          -> terminated
        accepted    ACK              -> accepted    to TU
        accepted    2xx              -> accepted    send
        accepted    transport error  -> accepted    transport error to TU
        accepted    timer L          -> terminated
    """,
    # RFC 3261 figure 6
    "client": """
        trying      timer E          -> trying      send
        trying      timer F          -> terminated  timeout to TU
        trying      transport error  -> terminated  transport error to TU
        trying      1xx              -> proceeding  to TU
        trying      2xx              -> completed   to TU
        trying      300-699          -> completed   to TU
        proceeding  timer E          -> proceeding  send
        proceeding  timer F          -> terminated  timeout to TU
        proceeding  transport error  -> terminated  transport error to TU
        proceeding  1xx              -> proceeding  to TU
        proceeding  2xx              -> completed   to TU
        proceeding  300-699          -> completed   to TU
        completed   timer K          -> terminated
    """,
    # RFC 3261 figure 8, with the 100 of RFC 4320 §4.1 and the silence of its §4.2
    "server": """
        trying      timer 100        -> proceeding  send 100
        trying      1xx              -> proceeding  send
        trying      2xx              -> completed   send
        trying      300-699          -> completed   send
        trying      abandon          -> completed
        proceeding  request          -> proceeding  send
        proceeding  1xx              -> proceeding  send
        proceeding  2xx              -> completed   send
        proceeding  300-699          -> completed   send
        proceeding  abandon          -> completed
        proceeding  transport error  -> terminated  transport error to TU
        completed   request          -> completed   send
        completed   transport error  -> terminated  transport error to TU
        completed   timer J          -> terminated
    """,
}

OWNED: Mapping[str, Mapping[str, set[str]]] = {
    "INVITE client": {
        "calling": {"timer A", "timer B"},
        "proceeding": set(),
        "completed": {"timer D"},
        "accepted": {"timer M"},
        "terminated": set(),
    },
    "INVITE server": {
        "trying": {"timer 100"},
        "proceeding": set(),
        "completed": {"timer G", "timer H"},
        "confirmed": {"timer I"},
        "accepted": {"timer L"},
        "terminated": set(),
    },
    "client": {
        "trying": {"timer E", "timer F"},
        "proceeding": {"timer E", "timer F"},
        "completed": {"timer K"},
        "terminated": set(),
    },
    "server": {
        "trying": {"timer 100"},
        "proceeding": set(),
        "completed": {"timer J"},
        "terminated": set(),
    },
}

MACHINES: Mapping[str, Machine] = {
    "INVITE client": INVITE_CLIENT,
    "INVITE server": INVITE_SERVER,
    "client": CLIENT,
    "server": SERVER,
}

STATES = [(name, state) for name, machine in MACHINES.items() for state in machine]


def read_figure(text: str) -> dict[tuple[State, Event], Step]:
    """The lines of a figure as steps."""
    steps: dict[tuple[State, Event], Step] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        before, _, after = line.partition(" -> ")
        state, _, event = before.partition(" ")
        following, _, actions = after.strip().partition(" ")
        do = tuple(Do(action) for action in actions.strip().split(", ") if action)
        steps[State(state), Event(event.strip())] = Step(State(following), do)
    return steps


@pytest.mark.parametrize(("name", "state"), STATES, ids=[f"{name}-{state.value}" for name, state in STATES])
def test_every_event_in_every_state_does_what_the_figure_shows_or_nothing(name: str, state: State) -> None:
    figure = read_figure(FIGURES[name])
    expected = {event: figure.get((state, event)) for event in Event}
    assert {event: MACHINES[name][state].steps.get(event) for event in Event} == expected


@pytest.mark.parametrize("name", MACHINES)
def test_each_state_owns_the_timers_that_the_figure_starts_on_entering_it(name: str) -> None:
    owned = {state.value: {timer.value for timer in row.timers} for state, row in MACHINES[name].items()}
    assert owned == OWNED[name]


@pytest.mark.parametrize("name", MACHINES)
def test_a_state_answers_each_timer_it_owns_and_no_other(name: str) -> None:
    for row in MACHINES[name].values():
        assert {event for event in row.steps if event.value.startswith("timer")} == set(row.timers)


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_can_be_reached_and_leads_to_the_end(name: str) -> None:
    machine = MACHINES[name]
    following = {state: {step.enter for step in row.steps.values()} for state, row in machine.items()}
    first = next(iter(machine))
    reached = {first}
    while more := {after for state in reached for after in following[state]} - reached:
        reached |= more
    assert reached == set(machine)
    ending = {State.TERMINATED}
    while more := {state for state in machine if following[state] & ending} - ending:
        ending |= more
    assert ending == set(machine)


@pytest.mark.parametrize(
    ("timer", "unreliable", "reliable"),
    [
        (Event.TIMER_A, 0.5, None),
        (Event.TIMER_B, 32.0, 32.0),
        (Event.TIMER_D, 32.0, 0.0),
        (Event.TIMER_E, 0.5, None),
        (Event.TIMER_F, 32.0, 32.0),
        (Event.TIMER_G, 0.5, None),
        (Event.TIMER_H, 32.0, 32.0),
        (Event.TIMER_I, 5.0, 0.0),
        (Event.TIMER_J, 32.0, 0.0),
        (Event.TIMER_K, 5.0, 0.0),
        (Event.TIMER_L, 32.0, 32.0),
        (Event.TIMER_M, 32.0, 32.0),
    ],
    ids=lambda value: value.value if isinstance(value, Event) else str(value),
)
def test_timers_are_as_long_as_table_4_says(timer: Event, unreliable: float, reliable: float | None) -> None:
    assert timer_length(timer, Timings(), False) == unreliable
    assert timer_length(timer, Timings(), True) == reliable


def intervals(timer: Event, state: State, count: int, timings: Timings | None = None) -> list[float]:
    timings = timings or Timings()
    first = timer_length(timer, timings, False)
    assert first is not None
    found = [first]
    while len(found) < count:
        found.append(next_interval(timer, state, found[-1], timings))
    return found


def test_timer_a_doubles_without_bound() -> None:
    assert intervals(Event.TIMER_A, State.CALLING, 7) == [0.5, 1, 2, 4, 8, 16, 32]


def test_timer_e_doubles_up_to_t2() -> None:
    assert intervals(Event.TIMER_E, State.TRYING, 7) == [0.5, 1, 2, 4, 4, 4, 4]


def test_timer_e_waits_t2_once_the_other_side_has_said_something() -> None:
    assert intervals(Event.TIMER_E, State.PROCEEDING, 3) == [0.5, 4, 4]


def test_timer_g_doubles_up_to_t2() -> None:
    assert intervals(Event.TIMER_G, State.COMPLETED, 7) == [0.5, 1, 2, 4, 4, 4, 4]


def test_a_slower_network_stretches_every_timer_alike() -> None:
    slow = Timings(t1=1.0, t2=8.0, t4=10.0)
    assert intervals(Event.TIMER_G, State.COMPLETED, 6, slow) == [1, 2, 4, 8, 8, 8]
    assert timer_length(Event.TIMER_H, slow, False) == 64
    assert timer_length(Event.TIMER_K, slow, False) == 10


def test_only_a_e_and_g_are_started_again() -> None:
    assert {Event.TIMER_A, Event.TIMER_E, Event.TIMER_G} == RETRANSMIT_TIMERS


def test_an_invite_hears_100_after_200_ms() -> None:
    assert trying_after(True, Timings()) == 0.2


@pytest.mark.parametrize(
    ("timings", "at"),
    [
        (Timings(), 3.5),  # intervals 0.5, 1 and 2; the fourth is T2
        (Timings(t1=1.0), 3.0),
        (Timings(t1=0.5, t2=3.0), 3.5),  # the third interval, 2, is followed by min(4, 3)
        (Timings(t1=4.0), 4.0),
        (Timings(t1=8.0), 8.0),
    ],
)
def test_another_request_hears_100_when_its_sender_s_timer_e_is_set_to_t2(timings: Timings, at: float) -> None:
    """RFC 4320 §4.1: not before, and no later."""
    assert trying_after(False, timings) == at
