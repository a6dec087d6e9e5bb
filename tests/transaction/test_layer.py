"""The door of the transactions: what goes up, what ends here, CANCEL and ACK, broken connections, limits."""

from __future__ import annotations

import pytest

from farm.sip.hop import Hop
from farm.sip.message import Request, make_response
from farm.sip.status import phrase_of
from farm.transaction.transaction import Flow, ServerTransaction
from tests.support.counts import read
from tests.support.messages import make_reply, make_request
from tests.support.recorders import RecordedFlow, RecordedUser
from tests.support.script import Script

OLD_VIA = "SIP/2.0/UDP 192.0.2.101:5060"
OURS = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours"
TAGGED = "Bob <sip:bob@example.com>;tag=bob"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def alice(script: Script) -> RecordedFlow:
    return script.make_flow("alice")


def answer(script: Script, status: int, to_tag: str = "bob") -> None:
    """The user answers the latest request."""
    server = script.user.server
    server.send_response(make_response(server.request, status, to_tag=to_tag), script.now)


# Requests


def test_a_retransmission_ends_here_and_repeats_the_latest_answer(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    script.expect_user("request INVITE")
    script.inject_wire(make_request(), alice)
    script.expect_nothing()
    answer(script, 180)
    script.inject_wire(make_request(), alice)
    script.expect_wire("alice: 180 Ringing", "alice: 180 Ringing")
    script.expect_nothing()
    assert read(script.metrics.sip_retransmissions.child("in")) == 2


def test_a_retransmission_from_an_rfc_2543_phone_ends_here_too(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request("OPTIONS", via=OLD_VIA), alice)
    answer(script, 200)
    script.inject_wire(make_request("OPTIONS", via=OLD_VIA), alice)
    script.inject_wire(make_request("OPTIONS", via=OLD_VIA, cseq=2), alice)
    assert script.record.texts() == [
        "user: request OPTIONS",
        "alice: 200 OK",
        "alice: 200 OK",
        "user: request OPTIONS",
    ]


def test_two_calls_with_a_bare_cookie_are_two_calls(script: Script, alice: RecordedFlow) -> None:
    """RFC 4475 §3.2.1: taken by its branch, the second would hear the answer of the first."""
    via = f"{OLD_VIA};branch=z9hG4bK"
    script.inject_wire(make_request(via=via, call_id="one"), alice)
    script.inject_wire(make_request(via=via, call_id="two"), alice)
    script.expect_user("request INVITE", "request INVITE")


class AnsweringUser(RecordedUser):
    """Answers each request before it returns."""

    def __init__(self, script: Script, status: int) -> None:
        super().__init__(script.record)
        self._status = status

    def receive_request(self, transaction: ServerTransaction, now: float) -> None:
        super().receive_request(transaction, now)
        transaction.send_response(make_response(transaction.request, self._status, to_tag="bob"), now)


@pytest.mark.parametrize(
    ("method", "status", "timers"),
    [("OPTIONS", 200, [32.0]), ("INVITE", 200, [32.0]), ("INVITE", 486, [0.5, 32.0]), ("INVITE", 180, [])],
)
def test_a_request_that_is_answered_at_once_never_starts_the_timer_of_its_100(
    script: Script, alice: RecordedFlow, method: str, status: int, timers: list[float]
) -> None:
    script.layer.user = AnsweringUser(script, status)
    script.inject_wire(make_request(method), alice)
    deadlines = script.deadlines
    assert (len(deadlines), deadlines.next_at()) == (len(timers), min(timers, default=None))
    added = deadlines.add(100.0, lambda _argument, _now: None)
    assert added.sequence == len(timers) + 1  # none was started and stopped again
    deadlines.cancel(added)
    assert script.record.texts() == [f"user: request {method}", f"alice: {status} {phrase_of(status)}"]
    if not timers:
        script.after(10)
        script.expect_nothing()


def test_a_request_that_waits_for_its_answer_hears_100_meanwhile(script: Script, alice: RecordedFlow) -> None:
    for method in ("INVITE", "OPTIONS"):
        script.inject_wire(make_request(method), alice)
    script.after(4)
    assert script.log() == [
        (0.0, "user: request INVITE"),
        (0.0, "user: request OPTIONS"),
        (0.2, "alice: 100 Trying"),
        (3.5, "alice: 100 Trying"),
    ]


def test_a_request_without_via_is_dropped(script: Script, alice: RecordedFlow) -> None:
    request = make_request()
    request.top_via = None
    script.inject_wire(request, alice)
    script.expect_end()


# ACK


def test_the_ack_of_a_failure_ends_here(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    answer(script, 486)
    script.record.texts()
    script.inject_wire(make_request("ACK", to=TAGGED), alice)
    script.inject_wire(make_request("ACK", to=TAGGED), alice)
    script.expect_nothing()
    assert script.census() == {"invite-server confirmed": 1}
    script.after(5)
    script.expect_end()


def test_the_ack_of_a_2xx_has_a_branch_of_its_own_and_goes_up(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    answer(script, 200)
    script.inject_wire(make_request("ACK", to=TAGGED, via="SIP/2.0/UDP 192.0.2.101;branch=z9hG4bKack"), alice)
    script.expect("user: request INVITE", "alice: 200 OK", "user: ACK")


def test_an_ack_of_a_2xx_with_the_branch_of_its_invite_goes_up_too(script: Script, alice: RecordedFlow) -> None:
    """Some phones have it so; RFC 6026 §7.1 hands up what matches an accepted INVITE."""
    script.inject_wire(make_request(), alice)
    answer(script, 200)
    script.inject_wire(make_request("ACK", to=TAGGED), alice)
    script.expect("user: request INVITE", "alice: 200 OK", "user: ACK")


def test_an_rfc_2543_ack_is_matched_by_the_tag_of_our_answer(script: Script, alice: RecordedFlow) -> None:
    """§17.2.3: with another tag it belongs to another answer."""
    script.inject_wire(make_request(via=OLD_VIA), alice)
    answer(script, 486)
    script.record.texts()
    script.inject_wire(make_request("ACK", via=OLD_VIA, to="<sip:bob@example.com>;tag=carol"), alice)
    script.expect_user("ACK")
    assert script.census() == {"invite-server completed": 1}
    script.inject_wire(make_request("ACK", via=OLD_VIA, to=TAGGED), alice)
    script.expect_nothing()
    assert script.census() == {"invite-server confirmed": 1}


def test_an_ack_before_any_answer_changes_nothing(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    script.inject_wire(make_request("ACK"), alice)
    script.expect_user("request INVITE")
    script.expect_nothing()
    assert read(script.metrics.sip_absorbed.child("invite-server")) == 1


# CANCEL


def test_a_cancel_is_answered_here_and_the_user_hears_of_it(script: Script, alice: RecordedFlow) -> None:
    """§9.2: the answer has the tag that the INVITE's answers have."""
    script.inject_wire(make_request(), alice)
    answer(script, 180, "bob")
    script.record.texts()
    script.inject_wire(make_request("CANCEL"), alice)
    ok = script.expect_response("alice: 200 OK")
    assert (ok.to_tag, ok.find("cseq"), ok.find("via")) == ("bob", "1 CANCEL", make_request().find("via"))
    script.expect_user("cancelled")


def test_the_user_gets_the_cancel_itself_with_its_reason(script: Script, alice: RecordedFlow) -> None:
    """RFC 3326: whoever is cancelled next should hear why."""
    script.inject_wire(make_request(), alice)
    script.inject_wire(make_request("CANCEL", headers=["Reason: SIP;cause=200"]), alice)
    (effect,) = [effect for effect in script.record.effects if effect.what == "cancelled"]
    assert effect.message is not None
    assert (effect.message.cseq_method, effect.message.find("reason")) == ("CANCEL", "SIP;cause=200")


def test_a_cancel_before_any_answer_gets_a_tag_of_its_own(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    script.inject_wire(make_request("CANCEL"), alice)
    script.expect_user("request INVITE")
    assert len(script.expect_response("alice: 200 OK").to_tag) == 16
    script.expect_user("cancelled")


def test_a_repeated_cancel_is_answered_again_and_the_user_hears_nothing(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    script.inject_wire(make_request("CANCEL"), alice)
    script.record.texts()
    script.inject_wire(make_request("CANCEL"), alice)
    script.expect_wire("alice: 200 OK")
    script.expect_nothing()
    assert alice.sent[-1] == alice.sent[-2]


def test_a_cancel_of_nothing_gets_481(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request("CANCEL"), alice)
    gone = script.expect_response("alice: 481 Call/Transaction Does Not Exist")
    assert len(gone.to_tag) == 16
    script.expect_end()  # nothing is kept of it: anybody may send thousands


def test_a_cancel_of_another_sender_with_the_same_branch_gets_481(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    mallory = "SIP/2.0/UDP 198.51.100.66:5060;branch=z9hG4bK74bf9"
    script.inject_wire(make_request("CANCEL", via=mallory), script.make_flow("mallory", host="198.51.100.66"))
    script.expect("user: request INVITE", "mallory: 481 Call/Transaction Does Not Exist")


def test_a_cancel_of_anything_but_an_invite_changes_nothing(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request("OPTIONS"), alice)
    script.inject_wire(make_request("CANCEL"), alice)
    script.expect("user: request OPTIONS", "alice: 481 Call/Transaction Does Not Exist")
    script.expect_nothing()


def test_a_cancel_that_crosses_the_answer_is_answered_and_the_user_decides(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    answer(script, 200)
    script.inject_wire(make_request("CANCEL"), alice)
    script.expect("user: request INVITE", "alice: 200 OK", "alice: 200 OK", "user: cancelled")


def test_an_rfc_2543_cancel_finds_its_invite(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(via=OLD_VIA), alice)
    script.inject_wire(make_request("CANCEL", via=OLD_VIA), alice)
    script.expect("user: request INVITE", "alice: 200 OK", "user: cancelled")


# Responses


def test_a_response_goes_to_whoever_sent_its_request(script: Script, alice: RecordedFlow) -> None:
    script.send(make_request("OPTIONS", via=OURS), alice)
    script.inject_wire(make_reply(200, method="OPTIONS", via=OURS), alice)
    script.inject_wire(make_reply(200, method="OPTIONS", via=OURS), alice)
    script.expect("alice: OPTIONS sip:bob@example.com", "user: response 200")
    script.expect_nothing()


@pytest.mark.parametrize(
    ("method", "via"),
    [
        ("INVITE", OURS),  # the branch of our OPTIONS, but another method
        ("OPTIONS", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKother"),
        ("OPTIONS", "SIP/2.0/UDP 192.0.2.1"),
    ],
)
def test_a_response_to_nothing_of_ours_goes_up_as_a_stray(
    script: Script, alice: RecordedFlow, method: str, via: str
) -> None:
    script.send(make_request("OPTIONS", via=OURS), alice)
    script.inject_wire(make_reply(200, method=method, via=via), alice)
    script.expect("alice: OPTIONS sip:bob@example.com", "user: stray 200")


def test_the_answer_to_our_cancel_is_not_taken_for_the_answer_to_our_invite(
    script: Script, alice: RecordedFlow
) -> None:
    script.send(make_request("INVITE", via=OURS), alice)
    script.send(make_request("CANCEL", via=OURS), alice)
    script.inject_wire(make_reply(200, method="CANCEL", via=OURS), alice)
    assert script.census() == {"invite-client calling": 1, "client completed": 1}


# Connections that break


def test_whoever_waits_on_a_broken_connection_hears_so_in_the_order_of_sending(script: Script) -> None:
    broken, other = script.make_flow("broken", "TCP"), script.make_flow("other", "TCP")
    for number in range(5):
        flow = other if number == 2 else broken
        script.send(make_request("OPTIONS", via=f"SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK{number}"), flow)
    script.record.texts()
    script.break_flow(broken)
    script.expect_user(*["transport error"] * 4)
    script.expect_nothing()
    assert script.census() == {"client trying": 1}
    script.break_flow(broken)
    script.expect_nothing()


def test_a_ringing_call_outlives_its_connection(script: Script) -> None:
    """Nothing is to be sent now, and the answer may come over a new connection (§18.2.2)."""
    flow = script.make_flow("callee", "TCP")
    script.send(make_request("INVITE", via=OURS), flow)
    script.inject_wire(make_reply(180, via=OURS), flow)
    script.record.texts()
    script.break_flow(flow)
    script.expect_nothing()
    script.inject_wire(make_reply(200, via=OURS), flow)
    script.expect_user("response 200")


def test_an_answer_that_finds_no_way_back_is_reported(script: Script) -> None:
    """§18.2.2: the connection is gone, and the new one to the caller could not be made."""
    back = script.make_flow("caller", "TCP")
    script.inject_wire(make_request(), back)
    answer(script, 180)
    script.record.texts()
    script.break_flow(back)
    script.expect_user("server failure")
    answer(script, 486)
    script.record.texts()
    script.break_flow(back)
    script.expect_user("server failure")


def test_nothing_is_remembered_of_a_connection_once_its_transactions_are_over(script: Script) -> None:
    flow = script.make_flow("peer", "TCP")
    script.send(make_request("OPTIONS", via=OURS), flow)
    script.inject_wire(make_request("OPTIONS"), flow)
    answer(script, 200)
    script.inject_wire(make_reply(200, method="OPTIONS", via=OURS), flow)
    assert script.layer._by_flow == {}
    script.record.texts()
    script.expect_end()


def test_a_connection_is_busy_while_somebody_waits_for_an_answer_on_it(script: Script) -> None:
    """A node that is drained closes the others first."""
    asking = script.make_flow("asking", "TCP")
    asked = script.make_flow("asked", "TCP")
    script.inject_wire(make_request("OPTIONS"), asking)
    assert script.layer.busy_connections() == {asking.hop.local}
    script.send(make_request("OPTIONS", via=OURS), asked)
    assert script.layer.busy_connections() == {asking.hop.local, asked.hop.local}
    answer(script, 200)
    script.inject_wire(make_reply(100, method="OPTIONS", via=OURS), asked)
    assert script.layer.busy_connections() == {asked.hop.local}
    script.inject_wire(make_reply(200, method="OPTIONS", via=OURS), asked)
    script.inject_wire(make_request(), asking)
    assert script.layer.busy_connections() == {asking.hop.local}
    answer(script, 486)
    assert len(script.layer) == 1, "an ACK is still to come"
    assert script.layer.busy_connections() == set()


def test_a_request_that_icmp_says_reached_nobody_is_over_at_once(script: Script, alice: RecordedFlow) -> None:
    """§18.4: instead of 32 seconds of silence."""
    for method in ("INVITE", "OPTIONS"):
        script.send(make_request(method, via=OURS), alice)
        script.layer.receive_refusal("z9hG4bKours", method, script.now)
        script.layer.receive_refusal("z9hG4bKours", method, script.now)
        script.expect(f"alice: {method} sip:bob@example.com", "user: transport error")
    script.expect_end()


def test_icmp_that_comes_after_an_answer_changes_nothing(script: Script, alice: RecordedFlow) -> None:
    script.send(make_request("INVITE", via=OURS), alice)
    script.inject_wire(make_reply(180, via=OURS), alice)
    script.layer.receive_refusal("z9hG4bKours", "INVITE", script.now)
    script.expect("alice: INVITE sip:bob@example.com", "user: response 180")
    script.expect_nothing()
    assert script.census() == {"invite-client proceeding": 1}


# Limits and figures


def test_a_full_table_refuses_new_requests_with_503_and_goes_on_with_old_ones() -> None:
    script = Script(max_transactions=1)
    alice = script.make_flow("alice")
    script.inject_wire(make_request(), alice)
    script.inject_wire(make_request("OPTIONS", via="SIP/2.0/UDP 192.0.2.102;branch=z9hG4bKnew"), alice)
    script.expect_user("request INVITE")
    refused = script.expect_response("alice: 503 Service Unavailable")
    assert refused.find("retry-after") == "5"
    assert refused.to_tag
    answer(script, 180)
    script.inject_wire(make_request(), alice)
    script.expect_wire("alice: 180 Ringing", "alice: 180 Ringing")
    script.inject_wire(make_request("ACK", via="SIP/2.0/UDP 192.0.2.102;branch=z9hG4bKack"), alice)
    script.expect_user("ACK")
    assert len(script.layer) == 1
    assert script.lines == [
        {"reason": "too-many-transactions", "source": "192.0.2.101", "method": "OPTIONS"},
    ]


def test_the_census_tells_how_many_transactions_are_in_which_state(script: Script, alice: RecordedFlow) -> None:
    script.inject_wire(make_request(), alice)
    script.send(make_request("OPTIONS", via=OURS), alice)
    assert script.census() == {"invite-server trying": 1, "client trying": 1}
    assert script.layer.running == 2
    answer(script, 180)
    script.inject_wire(make_reply(200, method="OPTIONS", via=OURS), alice)
    assert script.census() == {"invite-server proceeding": 1, "client completed": 1}
    assert script.layer.running == 1
    answer(script, 200)
    assert script.census() == {"invite-server accepted": 1, "client completed": 1}
    script.after(32)
    script.record.texts()
    script.expect_end()


def test_tags_differ_and_the_same_seed_gives_the_same(script: Script) -> None:
    tags = [script.layer.make_tag() for _ in range(100)]
    assert len(set(tags)) == 100
    again = Script()
    assert [again.layer.make_tag() for _ in range(100)] == tags


def test_two_thousand_requests_leave_nothing_behind(script: Script, alice: RecordedFlow) -> None:
    script.layer.max_transactions = 2000
    for number in range(2000):
        script.inject_wire(make_request("OPTIONS", via=f"SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{number}"), alice)
        answer(script, 200)
    script.record.effects.clear()
    script.after(32)
    script.expect_end()


# Answers that nothing is kept of


def test_the_ack_of_an_answer_that_was_forgotten_goes_nowhere(script: Script, alice: RecordedFlow) -> None:
    invite = make_request()
    for _ in range(2):
        script.inject_wire(invite, alice)
        tag = script.layer.derive_tag(invite)
        script.user.server.answer_once(make_response(invite, 407, to_tag=tag), script.now)
        script.expect("user: request INVITE", "alice: 407 Proxy Authentication Required")
    assert alice.sent[0] == alice.sent[1], "a repeated request hears the same"
    script.inject_wire(make_request("ACK", to=f"Bob <sip:bob@example.com>;tag={tag}"), alice)
    script.expect_end()
    script.inject_wire(make_request("ACK", to=TAGGED), alice)
    script.expect_user("ACK")


@pytest.mark.parametrize(
    "change",
    [
        {"call_id": "another"},
        {"cseq": 2},
        {"from_": "<sip:alice@example.com>;tag=another"},
        {"via": "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bKanother"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_tag_of_a_forgotten_answer_is_of_one_request(script: Script, change: dict[str, object]) -> None:
    tag = script.layer.derive_tag(make_request())
    assert script.layer.derive_tag(make_request(**change)) != tag  # type: ignore[arg-type]
    assert Script(seed=2).layer.derive_tag(make_request()) != tag, "no stranger can make one up"
    assert len(tag) == 16


# The flows of other nodes


class NodeFlow(RecordedFlow):
    """A flow over UDP that dies with its node."""

    reliable = False
    breaks = True


def test_when_the_node_of_a_flow_dies_its_user_hears_although_the_phone_rings(script: Script) -> None:
    flow = NodeFlow(script.record, "nat", Hop("UDP", "198.51.100.9", 1024))
    script.layer.send_request(make_request(via=OURS), "z9hG4bKours", flow, script.user, script.now)
    script.expect_wire("nat: INVITE sip:bob@example.com")
    script.inject_wire(make_reply(180, via=OURS), flow)
    script.expect_user("response 180")
    assert script.layer.waited_on() == [flow]
    script.layer.receive_flow_failure(flow, script.now)
    script.expect_nothing()  # it may answer on another connection
    script.layer.receive_flow_failure(flow, script.now, for_good=True)
    script.expect_user("transport error")
    script.expect_end()
    assert script.layer.waited_on() == []


@pytest.mark.parametrize("for_good", [False, True])
def test_before_the_phone_rings_there_is_no_difference(script: Script, for_good: bool) -> None:
    flow = NodeFlow(script.record, "nat", Hop("UDP", "198.51.100.9", 1024))
    script.layer.send_request(make_request("BYE", via=OURS), "z9hG4bKours", flow, script.user, script.now)
    script.expect_wire("nat: BYE sip:bob@example.com")
    script.layer.receive_flow_failure(flow, script.now, for_good=for_good)
    script.expect_user("transport error")
    script.expect_end()


# One address for several nodes


class OtherNodes:
    """Takes what has one of its keys."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.asked: list[str] = []
        self.taken: list[str] = []

    def take(self, request: Request, key: str, flow: Flow, now: float) -> bool:
        self.asked.append(key)
        if key in self.keys:
            self.taken.append(request.method)
        return key in self.keys


KEY = "z9hG4bK74bf9 192.0.2.101 5060 INVITE"


def test_what_belongs_to_another_node_s_invite_goes_there(script: Script, alice: RecordedFlow) -> None:
    others = script.layer.elsewhere = OtherNodes(KEY)
    for method in ("INVITE", "CANCEL", "ACK"):
        script.inject_wire(make_request(method), alice)
    script.expect_end()
    assert others.taken == ["INVITE", "CANCEL", "ACK"]


def test_what_is_ours_stays_here(script: Script, alice: RecordedFlow) -> None:
    others = script.layer.elsewhere = OtherNodes()
    script.inject_wire(make_request(), alice)
    script.inject_wire(make_request(), alice)
    script.expect_user("request INVITE")
    script.inject_wire(make_request("CANCEL"), alice)
    script.expect_wire("alice: 200 OK")
    script.expect_user("cancelled")
    answer(script, 487)
    script.inject_wire(make_request("ACK"), alice)
    script.expect_wire("alice: 487 Request Terminated")
    assert others.asked == [KEY], "the key of the first INVITE alone was not known"


def test_what_is_nobody_else_s_is_served_as_ever(script: Script, alice: RecordedFlow) -> None:
    others = script.layer.elsewhere = OtherNodes()
    script.inject_wire(make_request("CANCEL"), alice)
    script.expect_wire("alice: 481 Call/Transaction Does Not Exist")
    script.inject_wire(make_request("ACK", to=TAGGED), alice)
    script.expect_user("ACK")
    assert others.asked == [KEY, KEY]


def test_a_repeated_request_is_answered_the_way_that_it_came_last(script: Script, alice: RecordedFlow) -> None:
    """The node that it came by at first may be no more."""
    script.layer.elsewhere = OtherNodes()
    again = script.make_flow("alice through another")
    stranger = script.make_flow("stranger", host="203.0.113.7")
    script.inject_wire(make_request(), alice)
    script.expect_user("request INVITE")
    answer(script, 180)
    script.expect_wire("alice: 180 Ringing")
    script.inject_wire(make_request(), again)
    script.expect_wire("alice through another: 180 Ringing")
    script.inject_wire(make_request(), stranger)
    script.expect_wire("alice through another: 180 Ringing")
