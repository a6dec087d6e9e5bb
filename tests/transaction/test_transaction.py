"""A transaction alive: every event in every state, its timers to the millisecond, and what it lets go."""

from __future__ import annotations

import pytest

from farm.sip.message import make_response
from farm.transaction.machines import Do, Event, Machine, State, Timings
from farm.transaction.transaction import RELEASED, ClientTransaction, Transaction
from tests.support.counts import read
from tests.support.messages import make_reply, make_request
from tests.support.recorders import RecordedFlow
from tests.support.script import Script
from tests.transaction.test_machines import MACHINES, STATES

METHODS = {"INVITE client": "INVITE", "INVITE server": "INVITE", "client": "OPTIONS", "server": "OPTIONS"}
STATUSES = {Event.PROVISIONAL: 180, Event.SUCCESS: 200, Event.FAILURE: 404}


class Stage:
    """One transaction of one machine, with a peer that is a recorder."""

    def __init__(self, name: str, transport: str = "UDP", timings: Timings | None = None) -> None:
        self.name = name
        self.machine: Machine = MACHINES[name]
        self.script = Script(timings=timings)
        self.flow: RecordedFlow = self.script.make_flow("peer", transport)
        self.request = make_request(METHODS[name])
        if "client" in name:
            self.transaction: Transaction = self.script.send(self.request, self.flow)
        else:
            self.script.inject_wire(self.request, self.flow)
            self.transaction = self.script.user.server

    @property
    def state(self) -> State:
        return self.transaction.state

    def feed(self, event: Event) -> None:
        """An event as it comes in life; timers and what has no way in are given to the transaction itself."""
        transaction, script = self.transaction, self.script
        if event in STATUSES:
            if isinstance(transaction, ClientTransaction):
                script.inject_wire(make_reply(STATUSES[event], method=METHODS[self.name]), self.flow)
            else:
                self.answer(STATUSES[event])
        elif event is Event.REQUEST and "server" in self.name:
            script.inject_wire(make_request(METHODS[self.name]), self.flow)
        elif event is Event.ACK and self.name == "INVITE server":
            script.inject_wire(make_request("ACK", to="Bob <sip:bob@example.com>;tag=ours"), self.flow)
        elif event in self.machine[self.state].timers:
            for deadline in transaction._timers:
                if deadline.argument is event:
                    script.deadlines.cancel(deadline)
            transaction.receive_timer(event, script.now)
        else:
            transaction.receive(event, None, script.now)

    def answer(self, status: int) -> None:
        """The transaction user of a server answers."""
        self.script.user.server.send_response(
            make_response(self.request, status, to_tag="ours" if status > 100 else ""), self.script.now
        )

    def bring_to(self, state: State) -> None:
        """By the shortest way through the machine."""
        ways: list[tuple[State, list[Event]]] = [(self.state, [])]
        seen = {self.state}
        while ways[0][0] is not state:
            here, way = ways.pop(0)
            for event, step in self.machine[here].steps.items():
                if step.enter not in seen:
                    seen.add(step.enter)
                    ways.append((step.enter, [*way, event]))
        for event in ways[0][1]:
            self.feed(event)
        assert self.state is state

    def timers(self) -> set[str]:
        return {deadline.argument.value for deadline in self.transaction._timers if deadline.pending}


def words_of(do: Do, stage: Stage, event: Event, sent: str) -> str:
    """What the recorders hear of an action."""
    client = "client" in stage.name
    if do is Do.SEND:
        return f"peer: {sent}"
    if do is Do.SEND_TRYING:
        return "peer: 100 Trying"
    if do is Do.SEND_ACK:
        return "peer: ACK sip:bob@example.com"
    if do is Do.PASS_UP:
        return f"user: response {STATUSES[event]}" if client else "user: ACK"
    if not client:
        return "user: server failure"
    return "user: timeout" if do is Do.TELL_TIMEOUT else "user: transport error"


@pytest.mark.parametrize(("name", "state"), STATES, ids=[f"{name}-{state.value}" for name, state in STATES])
def test_each_event_does_its_step_and_nothing_more_or_is_absorbed(name: str, state: State) -> None:
    for event in Event:
        check_pair(name, state, event)


def check_pair(name: str, state: State, event: Event) -> None:
    """What one event does in one state."""
    stage = Stage(name)
    stage.bring_to(state)
    before = stage.script.record.texts()
    sent = next((text[6:] for text in reversed(before) if text.startswith("peer: ")), "")
    timers = stage.timers()
    absorbed = stage.script.metrics.sip_absorbed.child(stage.transaction.machine_name)
    count = read(absorbed)
    step = stage.machine[state].steps.get(event)
    if event in STATUSES and "server" in name:
        sent = make_response(stage.request, STATUSES[event]).first_line[8:]
    if step is None:
        stage.transaction.receive(event, None, stage.script.now)
        assert (event, stage.state, stage.script.record.texts()) == (event, state, [])
        assert (event, stage.timers()) == (event, timers)
        assert (event, read(absorbed)) == (event, count + 1)
        return
    stage.feed(event)
    assert (event, stage.state) == (event, step.enter)
    assert (event, stage.script.record.texts()) == (event, [words_of(do, stage, event, sent) for do in step.do])
    assert (event, stage.timers()) == (event, {timer.value for timer in stage.machine[step.enter].timers})
    assert (event, read(absorbed)) == (event, count)


# Timers of clients


def repeat(words: str, *times: float) -> list[tuple[float, str]]:
    return [(at, words) for at in times]


def test_an_invite_that_nobody_answers_is_sent_seven_times_and_given_up_after_32_seconds() -> None:
    """§17.1.1.2: timer A at 0.5, 1, 2, 4, 8 and 16 s, B at 32 s."""
    stage = Stage("INVITE client")
    stage.script.after(100)
    assert stage.script.log() == [
        *repeat("peer: INVITE sip:bob@example.com", 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5),
        (32, "user: timeout"),
    ]
    stage.script.expect_end()


def test_an_invite_over_tcp_is_sent_once() -> None:
    stage = Stage("INVITE client", "TCP")
    stage.script.after(100)
    assert stage.script.log() == [(0, "peer: INVITE sip:bob@example.com"), (32, "user: timeout")]
    stage.script.expect_end()


def test_a_ringing_invite_is_not_repeated_and_has_no_end_of_its_own() -> None:
    """§17.1.1.2: timer C, by which it ends, is the proxy's."""
    stage = Stage("INVITE client")
    stage.script.after(1)
    stage.feed(Event.PROVISIONAL)
    stage.script.record.texts()
    stage.script.after(1000)
    stage.script.expect_nothing()
    assert stage.state is State.PROCEEDING
    assert len(stage.script.deadlines) == 0


def test_another_request_that_nobody_answers_is_repeated_at_most_every_4_seconds_and_given_up_after_32() -> None:
    """§17.1.2.2: timer E at 0.5, 1, 2, 4, 4 s and so on, F at 32 s."""
    stage = Stage("client")
    stage.script.after(100)
    assert stage.script.log() == [
        *repeat("peer: OPTIONS sip:bob@example.com", 0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5),
        (32, "user: timeout"),
    ]
    stage.script.expect_end()


def test_another_request_over_tcp_is_sent_once() -> None:
    stage = Stage("client", "TCP")
    stage.script.after(100)
    assert stage.script.log() == [(0, "peer: OPTIONS sip:bob@example.com"), (32, "user: timeout")]
    stage.script.expect_end()


def test_after_a_provisional_answer_it_is_repeated_every_4_seconds() -> None:
    """§17.1.2.2: timer E as it runs is let run out, then it is T2; F goes on."""
    stage = Stage("client")
    stage.script.after(0.6)
    stage.feed(Event.PROVISIONAL)
    stage.script.after(100)
    assert stage.script.log() == [
        *repeat("peer: OPTIONS sip:bob@example.com", 0, 0.5),
        (0.6, "user: response 180"),
        *repeat("peer: OPTIONS sip:bob@example.com", 1.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5),
        (32, "user: timeout"),
    ]
    stage.script.expect_end()


@pytest.mark.parametrize(
    ("name", "event", "transport", "end"),
    [
        ("INVITE client", Event.FAILURE, "UDP", 32),  # D
        ("INVITE client", Event.FAILURE, "TCP", 0),
        ("INVITE client", Event.SUCCESS, "UDP", 32),  # M
        ("INVITE client", Event.SUCCESS, "TCP", 32),
        ("client", Event.SUCCESS, "UDP", 5),  # K
        ("client", Event.SUCCESS, "TCP", 0),
        ("INVITE server", Event.SUCCESS, "UDP", 32),  # L
        ("INVITE server", Event.SUCCESS, "TCP", 32),
        ("server", Event.SUCCESS, "UDP", 32),  # J
        ("server", Event.FAILURE, "TCP", 0),
        ("server", Event.ABANDON, "UDP", 32),
        ("server", Event.ABANDON, "TCP", 0),
    ],
)
def test_an_answered_transaction_lingers_for_retransmissions_as_long_as_table_4_says(
    name: str, event: Event, transport: str, end: float
) -> None:
    stage = Stage(name, transport)
    stage.script.after(1)
    stage.feed(event)
    stage.script.record.texts()
    stage.script.after(end - 0.001 if end else 0)
    assert len(stage.script.layer) == (1 if end else 0)
    stage.script.after(0.001)
    stage.script.expect_end()


def test_a_busy_phone_that_says_so_again_hears_the_same_ack_again_and_the_user_nothing() -> None:
    stage = Stage("INVITE client")
    stage.feed(Event.FAILURE)
    stage.feed(Event.FAILURE)
    assert stage.script.record.texts() == [
        "peer: INVITE sip:bob@example.com",
        "peer: ACK sip:bob@example.com",
        "user: response 404",
        "peer: ACK sip:bob@example.com",
    ]
    assert stage.flow.sent[1] == stage.flow.sent[2]


def test_a_failure_over_tcp_is_acknowledged_although_its_transaction_is_over_at_once() -> None:
    stage = Stage("INVITE client", "TCP")
    stage.feed(Event.FAILURE)
    assert stage.script.record.texts() == [
        "peer: INVITE sip:bob@example.com",
        "peer: ACK sip:bob@example.com",
        "user: response 404",
    ]
    stage.script.expect_end()


# Timers of servers


def test_a_caller_hears_100_after_200_milliseconds_when_nothing_else_was_said() -> None:
    """§17.2.1."""
    stage = Stage("INVITE server")
    stage.script.after(10)
    assert stage.script.log() == [(0, "user: request INVITE"), (0.2, "peer: 100 Trying")]


def test_a_caller_who_hears_ringing_before_that_hears_no_100() -> None:
    stage = Stage("INVITE server")
    stage.script.after(0.1)
    stage.answer(180)
    stage.script.after(10)
    assert stage.script.log() == [(0, "user: request INVITE"), (0.1, "peer: 180 Ringing")]


def test_the_100_echoes_the_timestamp_and_has_no_tag() -> None:
    """§8.2.6.1."""
    script = Script()
    peer = script.make_flow("peer")
    script.inject_wire(make_request(headers=["Timestamp: 54.21"]), peer)
    script.after(0.2)
    assert (peer.last.find("timestamp"), peer.last.to_tag, peer.last.find("contact")) == ("54.21", "", None)


def test_the_sender_of_another_request_hears_100_after_three_and_a_half_seconds() -> None:
    """RFC 4320 §4.1, over TCP too."""
    for transport in ("UDP", "TCP"):
        stage = Stage("server", transport)
        stage.script.after(3.499)
        stage.script.expect_user("request OPTIONS")
        stage.script.expect_nothing()
        stage.script.after(10)
        assert stage.script.log() == [(3.5, "peer: 100 Trying")]


def test_a_failure_is_repeated_until_it_is_acknowledged() -> None:
    """§17.2.1: timer G at 0.5, 1, 2, 4, 4 s; I, 5 s, takes in the ACK's retransmissions."""
    stage = Stage("INVITE server")
    stage.answer(486)
    stage.script.after(8)
    stage.feed(Event.ACK)
    stage.script.after(4.999)
    assert stage.script.log() == [(0, "user: request INVITE"), *repeat("peer: 486 Busy Here", 0, 0.5, 1.5, 3.5, 7.5)]
    assert stage.state is State.CONFIRMED
    stage.feed(Event.ACK)
    stage.script.after(0.001)
    stage.script.expect_end()


def test_a_failure_that_is_never_acknowledged_is_given_up_after_32_seconds() -> None:
    """§17.2.1: timer H, and the user is told."""
    stage = Stage("INVITE server")
    stage.answer(486)
    stage.script.after(100)
    assert stage.script.log() == [
        (0, "user: request INVITE"),
        *repeat("peer: 486 Busy Here", 0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5),
        (32, "user: server failure"),
    ]
    assert read(stage.script.metrics.sip_timeouts.child("H")) == 1
    stage.script.expect_end()


def test_over_tcp_a_failure_is_sent_once_and_its_ack_ends_all() -> None:
    stage = Stage("INVITE server", "TCP")
    stage.answer(486)
    stage.script.after(31)
    assert stage.script.log() == [(0, "user: request INVITE"), (0, "peer: 486 Busy Here")]
    stage.feed(Event.ACK)
    stage.script.expect_end()


def test_a_2xx_is_never_repeated_by_the_transaction_but_passes_each_time_the_callee_repeats_it() -> None:
    """RFC 6026 §7.1."""
    stage = Stage("INVITE server")
    stage.answer(200)
    stage.script.after(0.5)
    stage.answer(200)
    stage.script.after(1)
    stage.answer(486)  # a confused callee: too late
    stage.feed(Event.REQUEST)
    stage.feed(Event.ACK)
    assert stage.script.log() == [
        (0, "user: request INVITE"),
        (0, "peer: 200 OK"),
        (0.5, "peer: 200 OK"),
        (1.5, "user: ACK"),
    ]


def test_only_the_first_final_answer_to_another_request_goes_out() -> None:
    stage = Stage("server")
    stage.answer(404)
    stage.answer(200)
    stage.feed(Event.REQUEST)
    assert stage.script.record.texts() == ["user: request OPTIONS", "peer: 404 Not Found", "peer: 404 Not Found"]


def test_a_request_that_was_abandoned_is_not_served_again_when_it_is_repeated() -> None:
    """RFC 4320 §4.2 forbids the 408; a retransmission must not become a new request all the same."""
    stage = Stage("server")
    stage.script.user.server.abandon(0.0)
    stage.feed(Event.REQUEST)
    stage.script.expect_user("request OPTIONS")
    stage.script.expect_nothing()
    stage.script.after(32)
    stage.script.expect_end()


def test_an_abandoned_request_that_heard_100_hears_it_again() -> None:
    stage = Stage("server")
    stage.script.after(4)
    stage.script.user.server.abandon(stage.script.now)
    stage.feed(Event.REQUEST)
    assert stage.script.log() == [
        (0, "user: request OPTIONS"),
        (3.5, "peer: 100 Trying"),
        (4, "peer: 100 Trying"),
    ]


# Transports that refuse


@pytest.mark.parametrize("name", ["INVITE client", "client"])
def test_a_refused_request_is_reported_but_not_before_the_sender_has_its_transaction(name: str) -> None:
    """§18.4. Who sent it is still busy with sending: told at once, it would not know which transaction is meant."""
    script = Script()
    peer = script.make_flow("peer")
    peer.refusing = True
    transaction = script.send(make_request(METHODS[name]), peer)
    script.expect("peer: refused")
    script.expect_nothing()
    assert transaction.state is not State.TERMINATED
    script.after(0)
    script.expect_user("transport error")
    script.expect_end()


def test_a_refused_ack_is_reported_and_ends_the_transaction() -> None:
    stage = Stage("INVITE client")
    stage.flow.refusing = True
    stage.feed(Event.FAILURE)
    stage.script.after(0)
    assert stage.script.record.texts()[1:] == ["peer: refused", "user: response 404", "user: transport error"]
    stage.script.expect_end()


def test_a_refused_provisional_answer_is_reported_and_the_call_goes_on() -> None:
    """RFC 6026 §7.1: the transaction stays, the user decides."""
    stage = Stage("INVITE server")
    stage.flow.refusing = True
    stage.answer(180)
    stage.script.after(0)
    assert stage.script.record.texts() == ["user: request INVITE", "peer: refused", "user: server failure"]
    stage.flow.refusing = False
    stage.answer(200)
    stage.script.expect_wire("peer: 200 OK")


def test_a_refusal_that_is_reported_after_the_answer_came_changes_nothing() -> None:
    stage = Stage("client")
    stage.script.record.texts()
    stage.flow.refusing = True
    stage.feed(Event.TIMER_E)
    stage.feed(Event.SUCCESS)
    stage.script.after(0)
    assert stage.script.record.texts() == ["peer: refused", "user: response 200"]


# What is let go


def test_an_answered_server_keeps_the_answer_and_not_the_request() -> None:
    for name, event in [("server", Event.SUCCESS), ("INVITE server", Event.SUCCESS), ("INVITE server", Event.FAILURE)]:
        stage = Stage(name)
        stage.feed(event)
        assert stage.transaction.request is RELEASED
        assert stage.transaction.data.startswith(b"SIP/2.0 ")


def test_a_ringing_invite_keeps_the_request_for_ack_and_cancel_but_not_its_bytes() -> None:
    stage = Stage("INVITE client")
    stage.feed(Event.PROVISIONAL)
    assert stage.transaction.request is stage.request
    assert stage.transaction.data == b""
    stage.feed(Event.FAILURE)
    assert stage.transaction.request is RELEASED
    assert stage.transaction.data.startswith(b"ACK ")


def test_an_answered_client_keeps_nothing() -> None:
    for name in ("client", "INVITE client"):
        stage = Stage(name)
        stage.feed(Event.SUCCESS)
        assert (stage.transaction.request, stage.transaction.data) == (RELEASED, b"")


def test_the_tag_of_the_answer_is_kept_for_the_ack_and_for_cancel() -> None:
    stage = Stage("INVITE server")
    stage.script.after(0.2)
    assert stage.script.user.server.local_tag == ""
    stage.answer(180)
    assert stage.script.user.server.local_tag == "ours"


# Answered once


@pytest.mark.parametrize("name", ["INVITE server", "server"])
@pytest.mark.parametrize("status", [200, 407])
def test_who_proved_nothing_is_answered_once_and_forgotten(name: str, status: int) -> None:
    """§26.3.2.4: an answer that is sent again and again to an address that never asked is an attack of ours."""
    stage = Stage(name)
    server = stage.script.user.server
    server.context = stage
    server.answer_once(make_response(stage.request, status, to_tag="ours"), 0.0)
    stage.script.expect_user(f"request {METHODS[name]}")
    assert [effect.place for effect in stage.script.record.effects] == ["peer"]
    stage.script.record.effects.clear()
    assert server.request is RELEASED
    assert (server.context is stage, server.context is None) == (False, True)
    stage.script.expect_end()
    stage.script.after(64)
    stage.script.expect_end()


def test_what_was_answered_100_already_is_answered_as_ever() -> None:
    stage = Stage("INVITE server")
    stage.script.after(0.2)
    stage.script.user.server.answer_once(make_response(stage.request, 407, to_tag="ours"), stage.script.now)
    assert stage.state is State.COMPLETED


def test_an_answer_to_nobody_that_cannot_be_sent_ends_the_same() -> None:
    stage = Stage("server")
    stage.flow.refusing = True
    stage.script.user.server.answer_once(make_response(stage.request, 401, to_tag="ours"), 0.0)
    stage.script.expect("user: request OPTIONS", "peer: refused")
    stage.script.expect_end()
