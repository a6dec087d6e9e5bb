"""Traces of one node: what it asks others, what it tells them, what it hands out, and when it stops."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from farm.capture.catch import MOST_MESSAGES
from farm.capture.reading import Sought
from farm.capture.seen import Seen
from farm.capture.words import Ask, Copy, Told, make_ask, pack, read_ask, read_told
from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.wire import ALIVE, DEAD, EDGE, STORES, SUSPECT, Contact, Relay
from farm.tracing import (
    ANSWER_MESSAGES,
    HOLD_SECONDS,
    LAPSE_SECONDS,
    MOST_TRACES,
    RENEW_SECONDS,
    TELL_BYTES,
    TELL_SECONDS,
    TRACE,
    TRACED,
    TraceError,
    Tracing,
)
from tests.support.counts import read

OWN, OTHER = b"a" * 32, b"b" * 32
NAME = bytes(range(16))
ALICE = Sought("sip:alice@h")


def see(at: int, text: str = "INVITE sip:alice@h SIP/2.0", body: str = "") -> Seen:
    data = f"{text}\r\nCall-ID: c1\r\n\r\n{body}".encode()
    return Seen(at, "UDP", False, ("192.0.2.1", 5060), ("192.0.2.9", 5070), data)


def copy_of(at: int) -> Copy:
    return Copy(at, "TCP", True, ("192.0.2.2", 5060), ("2001:db8::9", 40_000), 3, b"\xffyz")


class Desk:
    """A tracing node n1 and all its neighbours, at 100 s."""

    def __init__(self, *, alone: bool = False, edge: bool = True) -> None:
        self.now = 100.0
        self.deadlines = Deadlines()
        self.metrics = Metrics()
        self.changes: list[bool] = []
        self.said: list[tuple[bytes, int, Ask | Told]] = []
        self.unlinked = False
        self.users: dict[int, Any] = {}
        self.own = OWN
        self.contacts = [
            Contact(OTHER, "10.0.0.2", 7400, state=ALIVE, roles=EDGE | STORES, name="n2"),
            Contact(b"c" * 32, "10.0.0.3", 7400, state=DEAD, roles=EDGE, name="n3"),
            Contact(b"d" * 32, "10.0.0.4", 7400, state=ALIVE, roles=STORES, name="store"),
        ]
        self.tracing = Tracing(
            "n1",
            None if alone else self,  # type: ignore[arg-type]
            self.deadlines,
            lambda: self.now,
            random.Random(1),
            self.metrics,
            lambda data: data.replace(b"secret", b"xxxxxx"),
            lambda: self.changes.append(self.tracing.active),
            edge=edge,
        )

    @property
    def relaying(self) -> Desk:
        return self

    def others(self) -> Sequence[Contact]:
        return self.contacts

    def send(self, node: bytes, relay: Relay, now: float) -> bool:
        words = read_ask(relay.data) if relay.purpose == TRACE else read_told(relay.data)
        self.said.append((node, relay.purpose, words))
        return not self.unlinked

    def take(self) -> list[tuple[bytes, int, Any]]:
        said, self.said = self.said, []
        return said

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.deadlines.next_at()) is not None and at <= end:
            self.now = at
            self.deadlines.run_due(at)
        self.now = end

    def hear(self, words: Ask | Told, node: bytes = OTHER) -> None:
        purpose = TRACE if isinstance(words, Ask) else TRACED
        self.tracing.receive_relay(node, Relay(purpose, b"", pack(words)), self.now)

    def value(self, family: str, *labels: str) -> float:
        return read(getattr(self.metrics, family).child(*labels))


def begin(desk: Desk) -> str:
    return str(desk.tracing.follow(ALICE, "", 0)["trace"])


# At the node that is asked by its console


def test_a_trace_asks_the_living_nodes_that_speak_sip_and_again_until_it_ends() -> None:
    desk = Desk()
    name = begin(desk)
    ask = make_ask(bytes.fromhex(name), ALICE)
    assert desk.take() == [(OTHER, TRACE, ask)]
    assert desk.changes == [True]
    desk.pass_time(RENEW_SECONDS)
    assert desk.take() == [(OTHER, TRACE, ask)]
    desk.tracing.follow(None, name, 0, ends=True)
    assert desk.take() == [(OTHER, TRACE, make_ask(bytes.fromhex(name), ALICE, ends=True))]
    assert desk.changes == [True, False]
    assert len(desk.deadlines) == 0
    assert desk.value("traces") == 0


def test_what_all_nodes_saw_is_handed_out_in_the_order_of_its_time_after_a_moment() -> None:
    desk = Desk()
    name = begin(desk)
    desk.tracing.show(see(30, body="secret"))
    desk.tracing.show(see(10))
    assert desk.tracing.follow(None, name, 0)["messages"] == []
    desk.hear(Told(bytes.fromhex(name), (copy_of(20),), lost=4))
    desk.now += HOLD_SECONDS
    answer = desk.tracing.follow(None, name, 0)
    messages: Any = answer["messages"]
    assert [(one["number"], one["node"], one["time"]) for one in messages] == [
        (1, "n1", 0.00001),
        (2, "n2", 0.00002),
        (3, "n1", 0.00003),
    ]
    assert messages[1] == {
        "number": 2, "time": 0.00002, "node": "n2", "direction": "out", "transport": "TCP",
        "source": "192.0.2.2:5060", "destination": "[2001:db8::9]:40000", "size": 3, "raw": "\udcffyz",
    }  # fmt: skip
    assert (messages[0]["direction"], messages[0]["source"]) == ("in", "192.0.2.9:5070")
    assert messages[2]["raw"].endswith("xxxxxx")
    assert answer["lost"] == 4
    assert answer["nodes"] == [
        {"name": "n1", "state": "watching"},
        {"name": "n2", "state": "watching"},
        {"name": "n3", "state": "dead"},
    ]


def test_what_was_handed_out_is_handed_out_again_until_it_is_acknowledged() -> None:
    desk = Desk()
    name = begin(desk)
    for at in range(ANSWER_MESSAGES + 5):
        desk.tracing.show(see(at))
    desk.tracing.follow(None, name, 0)
    desk.now += HOLD_SECONDS
    for _ in range(2):
        answer = desk.tracing.follow(None, name, 0)
        assert len(answer["messages"]) == ANSWER_MESSAGES  # type: ignore[arg-type]
        assert answer["more"]
    answer = desk.tracing.follow(None, name, ANSWER_MESSAGES, ends=True)
    assert [one["number"] for one in answer["messages"]] == [201, 202, 203, 204, 205]  # type: ignore[attr-defined]
    assert not answer["more"]
    with pytest.raises(TraceError):
        desk.tracing.follow(None, name, 205)


def test_a_trace_does_not_end_before_its_last_message_was_handed_out() -> None:
    desk = Desk()
    name = begin(desk)
    for at in range(ANSWER_MESSAGES + 1):
        desk.tracing.show(see(at))
    assert desk.tracing.follow(None, name, 0, ends=True)["more"]
    assert not desk.tracing.follow(None, name, ANSWER_MESSAGES, ends=True)["more"]


def test_other_nodes_cannot_fill_the_memory() -> None:
    desk = Desk()
    name = begin(desk)
    for _ in range(2):
        desk.hear(Told(bytes.fromhex(name), (copy_of(1),) * MOST_MESSAGES))
    assert desk.tracing.follow(None, name, 0)["lost"] == MOST_MESSAGES
    assert desk.value("traced_messages", "lost") == MOST_MESSAGES


def test_a_trace_whose_console_is_gone_lapses() -> None:
    desk = Desk()
    begin(desk)
    desk.pass_time(LAPSE_SECONDS)
    assert desk.said[-1][2].ends  # type: ignore[union-attr]
    assert not desk.tracing.active
    assert len(desk.deadlines) == 0


@pytest.mark.parametrize("name", ["", "zz", "00" * 16])
def test_a_trace_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(TraceError, match="that trace has ended"):
        Desk().tracing.follow(None, name, 0)


def test_so_many_traces_and_no_more() -> None:
    desk = Desk()
    for _ in range(MOST_TRACES):
        begin(desk)
    with pytest.raises(TraceError, match="4 traces are running here already"):
        begin(desk)


def test_a_node_that_speaks_no_sip_says_so() -> None:
    with pytest.raises(TraceError, match="speaks no SIP"):
        begin(Desk(edge=False))


def test_a_lone_node_traces_itself() -> None:
    desk = Desk(alone=True)
    name = begin(desk)
    desk.tracing.show(see(1))
    answer = desk.tracing.follow(None, name, 0, ends=True)
    assert len(answer["messages"]) == 1  # type: ignore[arg-type]
    assert answer["nodes"] == [{"name": "n1", "state": "watching"}]


# At the others


def test_another_node_is_told_at_once_that_we_watch_and_soon_what_we_saw() -> None:
    desk = Desk()
    desk.hear(make_ask(NAME, ALICE))
    assert desk.take() == [(OTHER, TRACED, Told(NAME))]
    assert desk.changes == [True]
    for at in (1, 2):
        desk.tracing.show(see(at, body="secret"))
    desk.tracing.show(see(3, "INVITE sip:bob@h SIP/2.0")._replace(data=b"INVITE sip:bob@h SIP/2.0\r\n\r\n"))
    assert desk.take() == []
    desk.pass_time(TELL_SECONDS)
    ((node, purpose, told),) = desk.take()
    assert (node, purpose, told.trace) == (OTHER, TRACED, NAME)
    assert [(copy.time, copy.data[-6:]) for copy in told.copies] == [(1, b"xxxxxx"), (2, b"xxxxxx")]
    desk.pass_time(1)
    assert desk.take() == []


def test_much_is_told_in_pieces_and_what_did_not_fit_is_said() -> None:
    desk = Desk()
    desk.hear(make_ask(NAME, ALICE))
    for at in range(40):
        desk.tracing.show(see(at, body="x" * 40_000))
    desk.take()
    desk.pass_time(10 * TELL_SECONDS)
    told = [words for _, _, words in desk.take()]
    assert sum(len(words.copies) for words in told) == 32
    assert all(sum(len(copy.data) for copy in words.copies) <= TELL_BYTES for words in told)
    assert [words.lost for words in told] == [8] + [0] * 7
    assert desk.value("traced_messages", "lost") == 8


def test_who_asks_no_more_is_forgotten_and_who_asks_again_is_not() -> None:
    desk = Desk()
    desk.hear(make_ask(NAME, ALICE))
    desk.pass_time(LAPSE_SECONDS - 1)
    desk.hear(make_ask(NAME, ALICE))
    desk.pass_time(LAPSE_SECONDS - 1)
    assert desk.tracing.active
    desk.pass_time(RENEW_SECONDS)
    assert not desk.tracing.active
    assert desk.changes == [True, False]


def test_who_says_that_it_ends_is_forgotten_at_once_and_nobody_else() -> None:
    desk = Desk()
    desk.hear(make_ask(NAME, ALICE))
    desk.tracing.show(see(1))
    desk.hear(make_ask(NAME, ALICE, ends=True), node=b"e" * 32)
    assert desk.tracing.active
    desk.hear(make_ask(NAME, ALICE, ends=True))
    assert not desk.tracing.active
    assert len(desk.deadlines) == 0
    desk.hear(make_ask(NAME, ALICE, ends=True))


def test_too_many_who_ask_are_told_that_we_are_busy() -> None:
    desk = Desk()
    for number in range(MOST_TRACES + 1):
        desk.hear(make_ask(bytes([number]) * 16, ALICE))
    assert [words.busy for _, _, words in desk.take()] == [False] * MOST_TRACES + [True]
    name = bytes.fromhex(begin(other := Desk()))
    other.hear(Told(name, busy=True))
    assert other.tracing.follow(None, name.hex(), 0)["nodes"][1] == {"name": "n2", "state": "busy"}  # type: ignore[index]


def test_a_node_that_asks_for_traces_without_end_keeps_nobody_from_tracing_here() -> None:
    desk = Desk()
    for number in range(100):
        desk.hear(make_ask(bytes([number]) * 16, ALICE))
    assert desk.value("traces") == MOST_TRACES
    begin(desk)
    assert desk.value("traces") == MOST_TRACES + 1


def test_what_cannot_be_understood_is_counted_and_what_is_nobodys_is_dropped() -> None:
    desk = Desk()
    for purpose in (TRACE, TRACED):
        desk.tracing.receive_relay(OTHER, Relay(purpose, b"", b"\xc1"), 100.0)
    assert desk.value("relayed_messages", "bad") == 2
    desk.hear(Told(NAME, (copy_of(1),)))
    assert desk.said == []


def test_a_node_that_nobody_knows_by_name_is_shown_by_its_number() -> None:
    desk = Desk(alone=False)
    name = begin(desk)
    desk.hear(Told(bytes.fromhex(name), (copy_of(1),)), node=b"\xee" * 32)
    messages: Any = desk.tracing.follow(None, name, 0, ends=True)["messages"]
    assert messages[0]["node"] == "eeeeeeee"


def test_what_does_not_leave_is_lost_and_counted() -> None:
    desk = Desk()
    desk.hear(make_ask(NAME, ALICE))
    desk.unlinked = True
    desk.tracing.show(see(1))
    desk.pass_time(1)
    assert (desk.value("traced_messages", "caught"), desk.value("traced_messages", "lost")) == (1, 1)
    desk.tracing.receive_relay_failure(OTHER, Relay(TRACE), 100.0)
    desk.tracing.receive_link_end(OTHER, 100.0)


def test_a_node_that_stops_watches_no_more() -> None:
    desk = Desk()
    begin(desk)
    desk.hear(make_ask(NAME, ALICE))
    desk.contacts[0] = Contact(OTHER, "10.0.0.2", 7400, state=SUSPECT, roles=EDGE, name="n2")
    desk.tracing.stop()
    assert not desk.tracing.active
    assert len(desk.deadlines) == 0
