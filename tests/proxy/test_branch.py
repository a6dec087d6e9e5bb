"""One target: its hops in order, fail-over, timer C, and a CANCEL that must wait for its moment."""

from __future__ import annotations

import pytest

from farm.sip.hop import FlowName, Hop
from farm.sip.message import Request
from farm.sip.status import SipError
from tests.support.counts import read
from tests.support.element import CALL_ID, NODE, Bound, Element, without_via
from tests.support.messages import make_request
from tests.support.recorders import Promise

BOB = "sip:bob@example.com"
GW1, GW2 = Hop("UDP", "198.51.100.1", 5060), Hop("UDP", "198.51.100.2", 5060)
URI = "sip:carol@foreign.example"


@pytest.fixture
def element() -> Element:
    element = Element()
    element.trust_alice()
    return element


def call_out(element: Element, *hops: Hop, method: str = "INVITE") -> None:
    """Alice calls a domain that those hops serve."""
    element.next_hops["foreign.example"] = list(hops)
    element.inject(make_request(method, URI))


def branch_of(request: Request) -> str:
    assert request.top_via is not None
    return request.top_via.branch


# Fail-over


def test_a_server_that_says_503_is_left_for_the_next_one_with_a_new_branch(element: Element) -> None:
    """RFC 3263 §4.3."""
    call_out(element, GW1, GW2)
    first = element.script.expect_request(f"gw1: INVITE {URI}")
    element.reply(first, 503)
    element.script.expect_wire(f"gw1: ACK {URI}")
    second = element.script.expect_request(f"gw2: INVITE {URI}")
    assert branch_of(second) != branch_of(first)
    assert [line for line in without_via(second) if "@192.0.2.1;lr" not in line] == [
        line for line in without_via(first) if "@192.0.2.1;lr" not in line
    ], "but for Via and Record-Route, which are each attempt's own"
    element.reply(second, 200)
    element.script.expect_wire("alice: 200 OK")
    element.script.expect_nothing()
    assert (element.failed_hops, element.worked_hops) == (["gw1"], ["gw2"])
    assert read(element.script.metrics.sip_failovers.child("status-503")) == 1


def test_a_server_that_is_silent_is_left_after_timer_b(element: Element) -> None:
    call_out(element, GW1, GW2)
    element.after(31.9)
    element.script.record.texts()
    element.after(0.1)
    second = element.script.expect_request(f"gw2: INVITE {URI}")
    element.reply(second, 200)
    element.script.expect_wire("alice: 200 OK")
    assert element.failed_hops == ["gw1"]
    assert read(element.script.metrics.sip_failovers.child("timeout")) == 1


def test_a_server_that_cannot_be_reached_is_left_at_once(element: Element) -> None:
    element.refusing.add("gw1")
    call_out(element, GW1, GW2)
    element.after(0)
    element.script.expect("gw1: refused", f"gw2: INVITE {URI}")
    element.script.expect_nothing()
    assert read(element.script.metrics.sip_failovers.child("transport")) == 1


def test_a_connection_that_breaks_before_anything_was_said_is_left_for_the_next(element: Element) -> None:
    tcp = Hop("TCP", "198.51.100.1", 5060)
    call_out(element, tcp, GW2)
    element.script.expect_wire(f"gw1 by TCP: INVITE {URI}")
    element.script.break_flow(element.flows[tcp])
    element.script.expect_wire(f"gw2: INVITE {URI}")


def test_when_all_servers_fail_the_caller_hears_500_and_not_503(element: Element) -> None:
    """§16.7 step 6."""
    call_out(element, GW1, GW2)
    element.reply(element.script.expect_request(f"gw1: INVITE {URI}"), 503)
    element.script.expect_wire(f"gw1: ACK {URI}")
    element.reply(element.script.expect_request(f"gw2: INVITE {URI}"), 503)
    element.script.expect("gw2: ACK " + URI, "alice: 500 Server Internal Error")
    element.script.expect_nothing()


def test_when_all_servers_are_silent_the_caller_hears_408(element: Element) -> None:
    call_out(element, GW1, GW2)
    element.after(63.9)
    element.script.record.texts()
    element.after(0.1)
    element.script.expect_wire("alice: 408 Request Timeout")
    element.script.expect_nothing()


def test_any_other_answer_is_no_reason_to_ask_another_server(element: Element) -> None:
    call_out(element, GW1, GW2)
    element.reply(element.script.expect_request(f"gw1: INVITE {URI}"), 500)
    element.script.expect(f"gw1: ACK {URI}", "alice: 500 Server Internal Error")
    assert element.failed_hops == []


def test_a_request_other_than_invite_fails_over_too(element: Element) -> None:
    call_out(element, GW1, GW2, method="MESSAGE")
    element.reply(element.script.expect_request(f"gw1: MESSAGE {URI}"), 503)
    element.reply(element.script.expect_request(f"gw2: MESSAGE {URI}"), 200)
    element.script.expect_wire("alice: 200 OK")
    element.script.expect_nothing()


def test_a_gateway_that_fails_is_suspected_and_the_next_one_gets_a_uri_of_its_own(element: Element) -> None:
    element.routes["+4930123"] = ["sip:198.51.100.1", "sip:198.51.100.2"]
    element.inject(make_request(uri="tel:+4930123"))
    first = element.script.expect_request("gw1: INVITE sip:+4930123@198.51.100.1;user=phone")
    element.reply(first, 503)
    element.script.expect(
        "gw1: ACK sip:+4930123@198.51.100.1;user=phone",
        "gw2: INVITE sip:+4930123@198.51.100.2;user=phone",
    )
    assert element.suspects == ["sip:198.51.100.1"]


def test_a_gateway_whose_name_cannot_be_found_is_left_for_the_next(element: Element) -> None:
    element.routes["+4930123"] = ["sip:gw.nowhere.example", "sip:198.51.100.2"]
    element.next_hops["gw.nowhere.example"] = SipError(503, reason="unresolvable")
    element.inject(make_request(uri="tel:+4930123"))
    element.script.expect_wire("gw2: INVITE sip:+4930123@198.51.100.2;user=phone")


@pytest.mark.parametrize(("status", "heard"), [(503, "500 Server Internal Error"), (504, "504 Server Time-out")])
def test_a_domain_that_cannot_be_found_is_told_to_the_caller(element: Element, status: int, heard: str) -> None:
    element.next_hops["foreign.example"] = SipError(status)
    element.inject(make_request(uri=URI))
    element.script.expect_wire(f"alice: {heard}")
    element.script.expect_nothing()


def test_a_domain_that_serves_nobody_is_told_to_the_caller(element: Element) -> None:
    call_out(element)
    element.script.expect_wire("alice: 500 Server Internal Error")


def test_a_contact_that_cannot_be_read_fails_alone(element: Element) -> None:
    element.bind(BOB, "sip:bob@192.0.2.201", "sip:bob@[broken")
    element.inject(make_request())
    first = element.script.expect_request("bob: INVITE sip:bob@192.0.2.201")
    element.reply(first, 486)
    element.script.expect("bob: ACK sip:bob@192.0.2.201", "alice: 486 Busy Here")


def test_a_path_that_cannot_be_read_fails_alone(element: Element) -> None:
    element.bind(BOB, Bound("sip:bob@192.0.2.201", path=("nonsense <",)))
    element.inject(make_request())
    element.script.expect_wire("alice: 400 Bad Request")


def test_the_same_server_is_not_asked_again_over_another_transport_unless_it_was_not_reached(element: Element) -> None:
    """§18.1.1 has TCP before UDP for a large request: a 503 is the server's word, a refused connection is not."""
    tcp = Hop("TCP", "198.51.100.1", 5060)
    call_out(element, tcp, GW1, GW2)
    element.reply(element.script.expect_request(f"gw1 by TCP: INVITE {URI}"), 503)
    element.script.expect_wire(f"gw1 by TCP: ACK {URI}", f"gw2: INVITE {URI}")
    other = Element()
    other.trust_alice()
    other.refusing.add("gw1 by TCP")
    call_out(other, tcp, GW1, GW2)
    other.after(0)
    other.script.expect("gw1 by TCP: refused", f"gw1: INVITE {URI}")


# Phones on a connection


PHONE = Hop("TCP", "192.0.2.201", 40000, "tcp:192.0.2.1:5060/7")


def test_a_phone_whose_connection_is_gone_is_reached_where_its_contact_says(element: Element) -> None:
    element.refusing.add("bob by TCP")
    element.bind(BOB, Bound("sip:bob@192.0.2.201", received=PHONE))
    element.inject(make_request())
    element.after(0)
    element.script.expect("bob by TCP: refused", "bob: INVITE sip:bob@192.0.2.201")


@pytest.mark.parametrize(
    ("contact", "flow"),
    [
        ("sip:bob@192.168.1.5", PHONE),  # behind a NAT, or anybody's address
        ("sip:bob@[2001:db8::5]", PHONE),
        ("sip:bob@192.0.2.201", Hop("UDP", "192.0.2.201", 40000, "udp:192.0.2.1:5060")),
    ],
)
def test_a_phone_that_cannot_be_reached_but_by_its_flow_is_not_tried_elsewhere(
    element: Element, contact: str, flow: Hop
) -> None:
    element.refusing |= {"bob by TCP", "bob"}
    element.bind(BOB, Bound(contact, received=flow))
    element.inject(make_request())
    element.after(0)
    element.script.expect(f"bob{' by TCP' if flow.transport == 'TCP' else ''}: refused")
    element.script.expect_wire("alice: 480 Temporarily Unavailable")


def test_a_phone_that_refuses_over_its_connection_is_not_rung_a_second_time(element: Element) -> None:
    element.bind(BOB, Bound("sip:bob@192.0.2.201", received=PHONE))
    element.inject(make_request())
    element.reply(element.script.expect_request("bob by TCP: INVITE sip:bob@192.0.2.201"), 503)
    element.script.expect("bob by TCP: ACK sip:bob@192.0.2.201", "alice: 500 Server Internal Error")
    element.script.expect_nothing()
    assert read(element.script.metrics.sip_failovers.child("status-503")) == 0


def callee_of(element: Element, request: Request) -> FlowName | None:
    """The flow that the Record-Route of a copy keeps for requests to its callee."""
    token = element.tokens.open_route((request.find("record-route") or "")[5:].partition("@")[0], CALL_ID)
    assert token is not None
    return token.callee


def test_a_dialog_keeps_the_flow_that_its_callee_was_reached_by(element: Element) -> None:
    element.bind(BOB, Bound("sip:bob@10.0.0.7", received=PHONE))
    element.inject(make_request())
    found = callee_of(element, element.script.expect_request("bob by TCP: INVITE sip:bob@10.0.0.7"))
    assert found == FlowName(NODE, PHONE.short)


def test_a_dialog_with_a_phone_that_was_reached_where_its_contact_says_keeps_no_flow(element: Element) -> None:
    """Be it a contact without a flow, or one whose connection is gone."""
    assert callee_of(element, element.call_bob()) is None
    element.refusing.add("bob by TCP")
    element.bind(BOB, Bound("sip:bob@192.0.2.201", received=PHONE))
    element.inject(make_request(via="SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK2"))
    element.after(0)
    element.script.expect("bob by TCP: refused")
    assert callee_of(element, element.script.expect_request("bob: INVITE sip:bob@192.0.2.201")) is None


# Resolving takes time


def test_a_name_that_must_be_looked_up_holds_nobody_else_up(element: Element) -> None:
    promise: Promise[list[Hop]] = Promise()
    element.next_hops["foreign.example"] = promise
    element.inject(make_request(uri=URI))
    element.after(0.2)
    element.script.expect_wire("alice: 100 Trying")
    promise.resolve([GW1])
    element.script.expect_wire(f"gw1: INVITE {URI}")


def test_a_lookup_that_fails_is_told_to_the_caller(element: Element) -> None:
    promise: Promise[list[Hop]] = Promise()
    element.next_hops["foreign.example"] = promise
    element.inject(make_request(uri=URI))
    promise.fail(SipError(504, reason="dns-timeout"))
    element.script.expect_wire("alice: 504 Server Time-out")


def test_a_lookup_that_breaks_ends_the_call_and_is_reported(element: Element) -> None:
    """A fault of ours: the caller's transaction has no timer that would end it."""
    promise: Promise[list[Hop]] = Promise()
    element.next_hops["foreign.example"] = promise
    element.inject(make_request(uri=URI))
    promise.fail(RuntimeError("a fault"))
    element.script.expect_wire("alice: 500 Server Internal Error")
    assert [str(failure) for failure in element.spawner.failures] == ["a fault"]


@pytest.mark.parametrize("outcome", ["found", "not found", "broken"])
def test_a_call_cancelled_during_a_lookup_ends_at_once_and_nobody_is_rung(element: Element, outcome: str) -> None:
    promise: Promise[list[Hop]] = Promise()
    element.next_hops["foreign.example"] = promise
    element.inject(make_request(uri=URI))
    element.inject(make_request("CANCEL", URI))
    element.script.expect_wire("alice: 200 OK", "alice: 487 Request Terminated")
    if outcome == "found":
        promise.resolve([GW1])
    else:
        promise.fail(SipError(503) if outcome == "not found" else RuntimeError("a fault"))
    element.script.expect_nothing()
    assert len(element.spawner.failures) == (outcome == "broken")


def test_a_call_cancelled_while_the_next_server_is_looked_up_ends_at_once(element: Element) -> None:
    promise: Promise[list[Hop]] = Promise()
    element.routes["+4930123"] = ["sip:198.51.100.1", "sip:gw.example"]
    element.next_hops["gw.example"] = promise
    element.inject(make_request(uri="tel:+4930123"))
    first = element.script.expect_request("gw1: INVITE sip:+4930123@198.51.100.1;user=phone")
    element.reply(first, 503)
    element.inject(make_request("CANCEL", "tel:+4930123"))
    element.script.expect(
        "gw1: ACK sip:+4930123@198.51.100.1;user=phone", "alice: 200 OK", "alice: 487 Request Terminated"
    )
    promise.resolve([GW2])
    element.script.expect_nothing()


# Timer C


def test_a_phone_that_rings_for_ever_is_cancelled_after_timer_c(element: Element) -> None:
    """§16.8: a CANCEL, and the answer that follows it goes up."""
    invite = element.call_bob()
    element.reply(invite, 180)
    element.script.expect_wire("alice: 180 Ringing")
    element.after(184.9)
    element.script.expect_nothing()
    element.after(0.1)
    cancel = element.script.expect_request("bob: CANCEL sip:bob@192.0.2.201")
    element.reply(cancel, 200)
    element.reply(invite, 487)
    element.script.expect("bob: ACK sip:bob@192.0.2.201", "alice: 487 Request Terminated")
    assert read(element.script.metrics.sip_timeouts.child("C")) == 1


def test_every_provisional_answer_but_100_winds_timer_c_up_again(element: Element) -> None:
    """§16.7 step 2."""
    invite = element.call_bob()
    element.reply(invite, 180)
    element.after(184)
    element.reply(invite, 183)
    element.after(184)
    element.reply(invite, 100)
    element.script.expect_wire("alice: 180 Ringing", "alice: 183 Session Progress")
    element.script.expect_nothing()
    element.after(1)
    element.script.expect_wire("bob: CANCEL sip:bob@192.0.2.201")


def test_a_phone_that_ignores_timer_c_s_cancel_is_given_up_after_32_seconds(element: Element) -> None:
    invite = element.call_bob()
    element.reply(invite, 180)
    element.after(185)
    element.script.record.texts()
    element.after(31.9)
    element.script.record.texts()  # the CANCEL's retransmissions
    element.after(0.1)
    assert element.script.record.texts()[-1] == "alice: 487 Request Terminated"
    element.inject(make_request("ACK", to="<sip:bob@example.com>;tag=there"))
    element.after(40)
    element.script.expect_end()


# CANCEL


def test_a_cancel_after_ringing_goes_to_the_phone_and_its_487_comes_back(element: Element) -> None:
    invite = element.call_bob()
    element.reply(invite, 180)
    element.inject(make_request("CANCEL"))
    element.script.expect_wire("alice: 180 Ringing", "alice: 200 OK")
    cancel = element.script.expect_request("bob: CANCEL sip:bob@192.0.2.201")
    assert cancel.all("via") == invite.all("via")[:1]
    element.reply(cancel, 200)
    element.reply(invite, 487)
    element.script.expect("bob: ACK sip:bob@192.0.2.201", "alice: 487 Request Terminated")
    element.inject(make_request("ACK", to="<sip:bob@example.com>;tag=there"))
    element.after(40)
    element.script.expect_end()


WHY = 'SIP;cause=200;text="Call completed elsewhere", Q.850;cause=16'


@pytest.mark.parametrize("headers", [[f"Reason: {WHY}"], [f"Reason: {value}" for value in WHY.split(", ")]])
@pytest.mark.parametrize("rang", [True, False])
def test_the_caller_s_reason_for_the_cancel_reaches_the_phone(element: Element, headers: list[str], rang: bool) -> None:
    """RFC 3326; also when the CANCEL has to wait for the phone's first word."""
    invite = element.call_bob()
    if rang:
        element.reply(invite, 180)
    element.inject(make_request("CANCEL", headers=headers))
    if not rang:
        element.reply(invite, 180)
    (cancel,) = [effect.message for effect in element.script.record.effects if effect.what.startswith("CANCEL")]
    assert cancel is not None
    assert cancel.values("reason") == WHY.split(", ")


def test_a_cancel_without_a_reason_is_given_none(element: Element) -> None:
    """Nor is that of timer C: it is the caller who must find out."""
    invite = element.call_bob()
    element.reply(invite, 180)
    element.inject(make_request("CANCEL"))
    other = Element()
    element.script.expect_wire("alice: 180 Ringing", "alice: 200 OK")
    assert not element.script.expect_request("bob: CANCEL sip:bob@192.0.2.201").has("reason")
    other.reply(other.call_bob(), 180)
    other.after(185)
    other.script.expect_wire("alice: 180 Ringing")
    assert not other.script.expect_request("bob: CANCEL sip:bob@192.0.2.201").has("reason")


@pytest.mark.parametrize("status", [100, 180])
def test_a_cancel_before_any_answer_waits_for_the_first(element: Element, status: int) -> None:
    """§9.1. The ringing does not go up any more: the caller has hung up."""
    invite = element.call_bob()
    element.inject(make_request("CANCEL"))
    element.script.expect_wire("alice: 200 OK")
    element.after(0.2)
    element.script.expect_wire("alice: 100 Trying")
    element.script.expect_nothing()
    element.reply(invite, status)
    element.script.expect_wire("bob: CANCEL sip:bob@192.0.2.201")
    element.reply(invite, status)
    element.script.expect_nothing()


def test_a_cancelled_phone_that_never_said_anything_is_given_up_by_timer_b(element: Element) -> None:
    element.call_bob()
    element.inject(make_request("CANCEL"))
    element.after(31.9)
    element.script.record.texts()
    element.after(0.1)
    element.script.expect_wire("alice: 487 Request Terminated")


def test_a_cancelled_call_is_not_carried_to_the_next_server(element: Element) -> None:
    call_out(element, GW1, GW2)
    first = element.script.expect_request(f"gw1: INVITE {URI}")
    element.inject(make_request("CANCEL", URI))
    element.reply(first, 503)
    element.script.expect("alice: 200 OK", f"gw1: ACK {URI}", "alice: 500 Server Internal Error")
    element.script.expect_nothing()


def test_an_answer_that_crosses_the_cancel_wins(element: Element) -> None:
    """§9.2: the caller gets the 200 and hangs up with a BYE."""
    invite = element.call_bob()
    element.reply(invite, 180)
    element.inject(make_request("CANCEL"))
    element.script.expect_wire("alice: 180 Ringing", "alice: 200 OK")
    cancel = element.script.expect_request("bob: CANCEL sip:bob@192.0.2.201")
    element.reply(invite, 200)
    element.script.expect_wire("alice: 200 OK")
    element.reply(cancel, 481)
    element.after(100)
    element.script.expect_end()


def test_an_answer_before_the_waiting_cancel_could_leave_wins(element: Element) -> None:
    invite = element.call_bob()
    element.inject(make_request("CANCEL"))
    element.reply(invite, 200)
    element.script.expect_wire("alice: 200 OK", "alice: 200 OK")
    element.after(100)
    element.script.expect_end()


def test_a_cancelled_phone_that_does_not_answer_its_invite_is_given_up_after_32_seconds(element: Element) -> None:
    """§9.1: 64*T1 after the CANCEL."""
    invite = element.call_bob()
    element.reply(invite, 180)
    element.inject(make_request("CANCEL"))
    element.script.expect("alice: 180 Ringing", "alice: 200 OK", "bob: CANCEL sip:bob@192.0.2.201")
    element.reply(invite, 180)
    element.after(31.9)
    assert set(element.script.record.texts()) == {"bob: CANCEL sip:bob@192.0.2.201"}
    element.after(0.1)
    element.script.expect_wire("alice: 487 Request Terminated")


def test_a_cancel_that_cannot_be_sent_does_not_hold_the_call_up(element: Element) -> None:
    invite = element.call_bob()
    element.reply(invite, 180)
    element.refusing.add("bob")
    element.flow_to(Hop("UDP", "192.0.2.201", 5060))
    element.inject(make_request("CANCEL"))
    element.after(32)
    assert element.script.record.texts() == [
        "alice: 180 Ringing",
        "alice: 200 OK",
        "bob: refused",
        "alice: 487 Request Terminated",
    ]


# Answers that are not in order


def test_an_answer_without_the_caller_s_via_is_not_passed_on(element: Element) -> None:
    """§16.7 step 3: it could not find its way; the caller hears that the other side is broken."""
    invite = element.call_bob()
    element.reply(invite, 180, edit=lambda response: response.headers.pop(1))
    element.script.expect_nothing()
    element.reply(invite, 404, edit=lambda response: response.headers.pop(1))
    element.script.expect("bob: ACK sip:bob@192.0.2.201", "alice: 502 Bad Gateway")


def test_a_request_other_than_invite_that_is_answered_without_via_ends_too(element: Element) -> None:
    element.bind(BOB, "sip:bob@192.0.2.201")
    element.inject(make_request("MESSAGE"))
    message = element.script.expect_request("bob: MESSAGE sip:bob@192.0.2.201")
    element.reply(message, 200, edit=lambda response: response.headers.pop(1))
    element.script.expect_wire("alice: 502 Bad Gateway")


def test_an_answer_of_a_server_that_was_given_up_changes_nothing(element: Element) -> None:
    call_out(element, GW1, GW2)
    first = element.script.expect_request(f"gw1: INVITE {URI}")
    element.reply(first, 503)
    element.reply(first, 503)
    element.script.expect(f"gw1: ACK {URI}", f"gw2: INVITE {URI}", f"gw1: ACK {URI}")
    element.script.expect_nothing()
