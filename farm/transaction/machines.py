"""The four transaction machines as tables (RFC 3261 figures 5 to 8, with RFC 6026 and RFC 4320).

Two rules give the tables their meaning:

1. An event that a state's row does not list is absorbed. It is counted, never an error.
2. **A state owns its timers.** Entering a state stops the timers that its row does not list and starts those it lists
   unless they already run; a timer that fires while its state stays starts again. So no start or stop stands among
   the actions: timer F spans Trying and Proceeding because both rows list it.

A timer of length zero (D, I, J and K on a reliable transport) fires at once, so its state is passed through.

The INVITE server has a state that the RFC only implies: TRYING, before Proceeding, which owns the 200 ms after which
the transaction says 100 itself (§17.2.1). The non-INVITE server's TRYING owns the time after which RFC 4320 §4.1
allows and asks for a 100: when the client's timer E has reached T2.

Where the tables leave RFC 3261: Accepted in both INVITE machines, and a transport error that leaves the INVITE server
where it is (RFC 6026 §7.1); ABANDON, which completes a non-INVITE server without an answer instead of a 408 nobody
waits for (RFC 4320 §4.2): timer J then keeps retransmissions from being taken for a new request; FLOW_DEATH, which
ends an INVITE that rings on a flow whose node has died: a connection that only broke leaves it ringing, since the other
side may answer on a new one (§18.2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple


class Event(Enum):
    """What can happen to a transaction."""

    __hash__ = object.__hash__  # members are single objects; Enum's own hash is a Python function

    REQUEST = "request"  # server: a retransmission of it
    ACK = "ACK"
    PROVISIONAL = "1xx"  # client: received; server: the TU sends one
    SUCCESS = "2xx"
    FAILURE = "300-699"
    TRANSPORT_ERROR = "transport error"
    FLOW_DEATH = "flow death"  # a transport error after which no answer can come any more
    ABANDON = "abandon"  # the TU will not answer
    TIMER_A = "timer A"  # INVITE client: retransmit
    TIMER_B = "timer B"  # INVITE client: give up
    TIMER_D = "timer D"  # INVITE client: response retransmissions have ended
    TIMER_E = "timer E"  # non-INVITE client: retransmit
    TIMER_F = "timer F"  # non-INVITE client: give up
    TIMER_G = "timer G"  # INVITE server: retransmit the final response
    TIMER_H = "timer H"  # INVITE server: no ACK came
    TIMER_I = "timer I"  # INVITE server: ACK retransmissions have ended
    TIMER_J = "timer J"  # non-INVITE server: request retransmissions have ended
    TIMER_K = "timer K"  # non-INVITE client: response retransmissions have ended
    TIMER_L = "timer L"  # INVITE server: 2xx retransmissions from the TU have ended
    TIMER_M = "timer M"  # INVITE client: 2xx retransmissions have ended
    TIMER_TRYING = "timer 100"  # servers: time to say 100


class State(Enum):
    """Where a transaction can be. One set for all four machines; each table lists its own."""

    __hash__ = object.__hash__

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"


class Do(Enum):
    """What a step has the transaction do."""

    __hash__ = object.__hash__

    SEND = "send"  # the request, or the latest response, (again)
    SEND_TRYING = "send 100"
    SEND_ACK = "send ACK"
    PASS_UP = "to TU"  # the response, or the ACK, that the event brought
    TELL_TIMEOUT = "timeout to TU"
    TELL_FAILURE = "transport error to TU"


class Step(NamedTuple):
    """What an event does: the state that follows, and the actions in order."""

    enter: State
    do: tuple[Do, ...] = ()


class Row(NamedTuple):
    """One state of one machine: the timers it owns, and its answer to each event it knows."""

    timers: tuple[Event, ...]
    steps: Mapping[Event, Step]


Machine = Mapping[State, Row]

_TERMINATED: Final = Row((), {})

# RFC 3261 figure 5 with RFC 6026 figure 3.
INVITE_CLIENT: Final[Machine] = {
    State.CALLING: Row(
        (Event.TIMER_A, Event.TIMER_B),
        {
            Event.TIMER_A: Step(State.CALLING, (Do.SEND,)),
            Event.TIMER_B: Step(State.TERMINATED, (Do.TELL_TIMEOUT,)),
            Event.TRANSPORT_ERROR: Step(State.TERMINATED, (Do.TELL_FAILURE,)),
            Event.PROVISIONAL: Step(State.PROCEEDING, (Do.PASS_UP,)),
            Event.SUCCESS: Step(State.ACCEPTED, (Do.PASS_UP,)),
            Event.FAILURE: Step(State.COMPLETED, (Do.SEND_ACK, Do.PASS_UP)),
        },
    ),
    State.PROCEEDING: Row(
        (),
        {
            Event.PROVISIONAL: Step(State.PROCEEDING, (Do.PASS_UP,)),
            Event.SUCCESS: Step(State.ACCEPTED, (Do.PASS_UP,)),
            Event.FAILURE: Step(State.COMPLETED, (Do.SEND_ACK, Do.PASS_UP)),
            Event.FLOW_DEATH: Step(State.TERMINATED, (Do.TELL_FAILURE,)),
            # The proxy's timer C, or the end of its patience after a CANCEL (§9.1, §16.8).
            Event.ABANDON: Step(State.TERMINATED),
        },
    ),
    State.COMPLETED: Row(
        (Event.TIMER_D,),
        {
            Event.FAILURE: Step(State.COMPLETED, (Do.SEND_ACK,)),
            Event.TRANSPORT_ERROR: Step(State.TERMINATED, (Do.TELL_FAILURE,)),
            Event.TIMER_D: Step(State.TERMINATED),
        },
    ),
    State.ACCEPTED: Row(
        (Event.TIMER_M,),
        {
            Event.SUCCESS: Step(State.ACCEPTED, (Do.PASS_UP,)),
            Event.TIMER_M: Step(State.TERMINATED),
        },
    ),
    State.TERMINATED: _TERMINATED,
}

# RFC 3261 figure 7 with RFC 6026 figures 1 and 2.
INVITE_SERVER: Final[Machine] = {
    State.TRYING: Row(
        (Event.TIMER_TRYING,),
        {
            Event.TIMER_TRYING: Step(State.PROCEEDING, (Do.SEND_TRYING,)),
            Event.PROVISIONAL: Step(State.PROCEEDING, (Do.SEND,)),
            Event.SUCCESS: Step(State.ACCEPTED, (Do.SEND,)),
            Event.FAILURE: Step(State.COMPLETED, (Do.SEND,)),
            Event.TRANSPORT_ERROR: Step(State.TRYING, (Do.TELL_FAILURE,)),
        },
    ),
    State.PROCEEDING: Row(
        (),
        {
            Event.REQUEST: Step(State.PROCEEDING, (Do.SEND,)),
            Event.PROVISIONAL: Step(State.PROCEEDING, (Do.SEND,)),
            Event.SUCCESS: Step(State.ACCEPTED, (Do.SEND,)),
            Event.FAILURE: Step(State.COMPLETED, (Do.SEND,)),
            Event.TRANSPORT_ERROR: Step(State.PROCEEDING, (Do.TELL_FAILURE,)),
        },
    ),
    State.COMPLETED: Row(
        (Event.TIMER_G, Event.TIMER_H),
        {
            Event.REQUEST: Step(State.COMPLETED, (Do.SEND,)),
            Event.TIMER_G: Step(State.COMPLETED, (Do.SEND,)),
            Event.TIMER_H: Step(State.TERMINATED, (Do.TELL_TIMEOUT,)),
            Event.ACK: Step(State.CONFIRMED),
            Event.TRANSPORT_ERROR: Step(State.COMPLETED, (Do.TELL_FAILURE,)),
        },
    ),
    State.CONFIRMED: Row(
        (Event.TIMER_I,),
        {
            Event.TIMER_I: Step(State.TERMINATED),
        },
    ),
    State.ACCEPTED: Row(
        (Event.TIMER_L,),
        {
            Event.SUCCESS: Step(State.ACCEPTED, (Do.SEND,)),
            Event.ACK: Step(State.ACCEPTED, (Do.PASS_UP,)),
            Event.TRANSPORT_ERROR: Step(State.ACCEPTED, (Do.TELL_FAILURE,)),
            Event.TIMER_L: Step(State.TERMINATED),
        },
    ),
    State.TERMINATED: _TERMINATED,
}

# RFC 3261 figure 6.
CLIENT: Final[Machine] = {
    State.TRYING: Row(
        (Event.TIMER_E, Event.TIMER_F),
        {
            Event.TIMER_E: Step(State.TRYING, (Do.SEND,)),
            Event.TIMER_F: Step(State.TERMINATED, (Do.TELL_TIMEOUT,)),
            Event.TRANSPORT_ERROR: Step(State.TERMINATED, (Do.TELL_FAILURE,)),
            Event.PROVISIONAL: Step(State.PROCEEDING, (Do.PASS_UP,)),
            Event.SUCCESS: Step(State.COMPLETED, (Do.PASS_UP,)),
            Event.FAILURE: Step(State.COMPLETED, (Do.PASS_UP,)),
        },
    ),
    State.PROCEEDING: Row(
        (Event.TIMER_E, Event.TIMER_F),
        {
            Event.TIMER_E: Step(State.PROCEEDING, (Do.SEND,)),
            Event.TIMER_F: Step(State.TERMINATED, (Do.TELL_TIMEOUT,)),
            Event.TRANSPORT_ERROR: Step(State.TERMINATED, (Do.TELL_FAILURE,)),
            Event.PROVISIONAL: Step(State.PROCEEDING, (Do.PASS_UP,)),
            Event.SUCCESS: Step(State.COMPLETED, (Do.PASS_UP,)),
            Event.FAILURE: Step(State.COMPLETED, (Do.PASS_UP,)),
        },
    ),
    State.COMPLETED: Row(
        (Event.TIMER_K,),
        {
            Event.TIMER_K: Step(State.TERMINATED),
        },
    ),
    State.TERMINATED: _TERMINATED,
}

# RFC 3261 figure 8 with RFC 4320.
SERVER: Final[Machine] = {
    State.TRYING: Row(
        (Event.TIMER_TRYING,),
        {
            Event.TIMER_TRYING: Step(State.PROCEEDING, (Do.SEND_TRYING,)),
            Event.PROVISIONAL: Step(State.PROCEEDING, (Do.SEND,)),
            Event.SUCCESS: Step(State.COMPLETED, (Do.SEND,)),
            Event.FAILURE: Step(State.COMPLETED, (Do.SEND,)),
            Event.ABANDON: Step(State.COMPLETED),
        },
    ),
    State.PROCEEDING: Row(
        (),
        {
            Event.REQUEST: Step(State.PROCEEDING, (Do.SEND,)),
            Event.PROVISIONAL: Step(State.PROCEEDING, (Do.SEND,)),
            Event.SUCCESS: Step(State.COMPLETED, (Do.SEND,)),
            Event.FAILURE: Step(State.COMPLETED, (Do.SEND,)),
            Event.ABANDON: Step(State.COMPLETED),
            Event.TRANSPORT_ERROR: Step(State.TERMINATED, (Do.TELL_FAILURE,)),
        },
    ),
    State.COMPLETED: Row(
        (Event.TIMER_J,),
        {
            Event.REQUEST: Step(State.COMPLETED, (Do.SEND,)),
            Event.TRANSPORT_ERROR: Step(State.TERMINATED, (Do.TELL_FAILURE,)),
            Event.TIMER_J: Step(State.TERMINATED),
        },
    ),
    State.TERMINATED: _TERMINATED,
}


MACHINES: Final[Mapping[str, Machine]] = {
    "invite-client": INVITE_CLIENT,
    "invite-server": INVITE_SERVER,
    "client": CLIENT,
    "server": SERVER,
}


class Timings(NamedTuple):
    """The three numbers all timers derive from, in seconds (RFC 3261 §17.1.1.1, table 4)."""

    t1: float = 0.5  # estimate of the round-trip time
    t2: float = 4.0  # longest interval between retransmissions of non-INVITE requests and INVITE responses
    t4: float = 5.0  # longest time that a message stays in the network


RETRANSMIT_TIMERS: Final = frozenset((Event.TIMER_A, Event.TIMER_E, Event.TIMER_G))


def timer_length(timer: Event, timings: Timings, reliable: bool) -> float | None:
    """How long a timer runs when its state is entered; None where it does not run, 0.0 where it is over at once.

    RFC 3261 table 4, RFC 6026 §7. Retransmission timers start here and grow by `next_interval`.
    """
    if timer in RETRANSMIT_TIMERS:
        return None if reliable else timings.t1
    if timer in (Event.TIMER_I, Event.TIMER_K):
        return 0.0 if reliable else timings.t4
    if timer in (Event.TIMER_D, Event.TIMER_J):
        return 0.0 if reliable else 64 * timings.t1
    return 64 * timings.t1  # B, F, H, L and M


def next_interval(timer: Event, state: State, interval: float, timings: Timings) -> float:
    """The interval after `interval` of a retransmission timer: A doubles, E and G double up to T2, and E waits T2
    once the other side has answered provisionally (§17.1.1.2, §17.1.2.2, §17.2.1)."""
    if timer is Event.TIMER_A:
        return 2 * interval
    if timer is Event.TIMER_E and state is State.PROCEEDING:
        return timings.t2
    return min(2 * interval, timings.t2)


def trying_after(invite: bool, timings: Timings) -> float:
    """When a server says 100 by itself: an INVITE's after 200 ms (§17.2.1), any other's when the client's timer E has
    reached T2, which it does with the intervals T1, 2·T1, 4·T1 (RFC 4320 §4.1)."""
    if invite:
        return 0.2
    at = interval = timings.t1
    while interval < timings.t2:
        interval = min(2 * interval, timings.t2)
        if interval < timings.t2:
            at += interval
    return at
