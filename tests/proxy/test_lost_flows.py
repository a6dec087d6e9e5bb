"""Flows that are gone, before a request is sent over them or while it waits there: who is reached instead, and what the
caller hears (RFC 5626 §5.3, §7)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from farm.proxy.reach import Contact
from farm.sip.hop import FlowName, Hop
from farm.sip.message import Request
from tests.support.counts import read
from tests.support.element import NODE, OTHER_NODE, Bound, Element
from tests.support.messages import make_request
from tests.support.recorders import Promise

BOB = "sip:bob@example.com"
REMOTE = "sip:bob@10.0.0.7;transport=tcp"
TAGGED = f"Bob <{BOB}>;tag=there"
INSTANCE = "<urn:uuid:1>"
BEFORE = Hop("TCP", "192.0.2.201", 40000, "tcp:192.0.2.1:5060#7a")
AFTER = Hop("TCP", "192.0.2.202", 40001, "tcp:192.0.2.2:5060#7b")


@pytest.fixture
def element() -> Element:
    element = Element()
    element.trust_alice()
    element.flow_to(BEFORE)
    element.bind(BOB, bound(BEFORE))
    return element


def bound(hop: Hop, node: int = OTHER_NODE, uri: str = REMOTE, reg_id: int = 0) -> Bound:
    return Bound(uri, received=hop, node=node, instance=INSTANCE, reg_id=reg_id)


def speak(element: Element, method: str, branch: str = "z9hG4bKnew") -> Request:
    """Alice says something in the call that bob took over his first connection, on another node."""
    route = element.make_route(callee=BEFORE, callee_phone="urn:uuid:1", node=OTHER_NODE)
    request = make_request(
        method,
        REMOTE,
        via=f"SIP/2.0/UDP 192.0.2.101:5060;branch={branch}",
        to=TAGGED,
        headers=[f"Route: <sip:{route}@192.0.2.1;lr>"],
    )
    element.inject(request)
    return request


def break_flow(element: Element, hop: Hop, *, dead: bool = False) -> None:
    """The connection ends, as its node says, or with its node."""
    element.script.layer.receive_flow_failure(element.flows[hop], element.script.now, for_good=dead)


@pytest.mark.parametrize("method", ["BYE", "INVITE", "UPDATE", "INFO"])
def test_a_phone_that_has_connected_anew_hears_its_call_over_the_new_connection(element: Element, method: str) -> None:
    element.gone.append(FlowName(OTHER_NODE, BEFORE))
    element.bind(BOB, bound(AFTER, NODE, "sip:bob@10.0.0.7:9;transport=tcp"))
    speak(element, method)
    sent = element.script.expect_request(f"desk by TCP: {method} {REMOTE}")
    assert sent.all("route") == []
    element.reply(sent, 200)
    element.script.expect("alice: 200 OK")
    element.script.expect_nothing()


def test_an_ack_finds_it_too(element: Element) -> None:
    element.gone.append(FlowName(OTHER_NODE, BEFORE))
    element.bind(BOB, bound(AFTER))
    speak(element, "ACK")
    element.script.expect_wire(f"desk by TCP: ACK {REMOTE}")


@pytest.mark.parametrize("later", [False, True])
def test_an_ack_whose_way_is_cut_when_it_is_sent_finds_it_as_well(element: Element, later: bool) -> None:
    element.refusing.add("bob by TCP")
    element.bind(BOB, bound(AFTER))
    promise: Promise[Sequence[Contact]] = Promise()
    if later:
        element.bindings[BOB] = promise
    speak(element, "ACK")
    element.script.expect("bob by TCP: refused")
    promise.resolve([bound(AFTER)])
    element.script.expect_wire(f"desk by TCP: ACK {REMOTE}")
    element.refusing.add("desk by TCP")
    speak(element, "ACK")
    element.script.expect("bob by TCP: refused", "desk by TCP: refused")
    element.script.expect_nothing()
    assert element.rejections.reasons == ["not-sent"]


def test_an_ack_for_a_node_that_may_be_dead_goes_both_ways(element: Element) -> None:
    """The relay may wait for a link that never comes, and no transaction would hear of it."""
    element.doubted.add(OTHER_NODE)
    speak(element, "ACK")
    element.script.expect_wire(f"bob by TCP: ACK {REMOTE}")
    element.script.expect_nothing()
    element.bind(BOB, bound(AFTER, NODE))
    speak(element, "ACK")
    first, second = element.script.expect_wire(f"bob by TCP: ACK {REMOTE}", f"desk by TCP: ACK {REMOTE}")
    assert [len(sent.all("via")) for sent in (first, second)] == [2, 2]
    assert [sent.all("route") for sent in (first, second)] == [[], []]
    element.doubted.clear()
    speak(element, "ACK")
    element.script.expect_wire(f"bob by TCP: ACK {REMOTE}")
    element.script.expect_nothing()


def test_a_phone_that_is_away_ends_the_request_with_480(element: Element) -> None:
    element.gone.append(FlowName(OTHER_NODE, BEFORE))
    speak(element, "BYE")
    element.script.expect("alice: 480 Temporarily Unavailable")
    speak(element, "ACK")
    element.script.expect_nothing()
    assert element.rejections.reasons == ["flow-gone", "flow-gone"]


def test_a_connection_that_breaks_under_the_request_has_the_phone_looked_for_at_once(element: Element) -> None:
    """The other node lives and says that its flow is gone."""
    speak(element, "BYE")
    element.script.expect_wire(f"bob by TCP: BYE {REMOTE}")
    element.bind(BOB, bound(AFTER))
    break_flow(element, BEFORE)
    element.reply(element.script.expect_request(f"desk by TCP: BYE {REMOTE}"), 200)
    element.script.expect("alice: 200 OK")
    assert read(element.script.metrics.sip_failovers.child("transport")) == 1
    assert read(element.script.metrics.sip_failovers.child("flow-failed")) == 0


def test_it_is_not_looked_for_twice_nor_rung_over_what_broke(element: Element) -> None:
    speak(element, "BYE")
    element.script.expect_wire(f"bob by TCP: BYE {REMOTE}")
    break_flow(element, BEFORE)
    element.script.expect("alice: 480 Temporarily Unavailable")
    speak(element, "INFO", "z9hG4bKother")
    element.script.expect_wire(f"bob by TCP: INFO {REMOTE}")
    element.bind(BOB, bound(AFTER))
    break_flow(element, BEFORE)
    element.script.expect_wire(f"desk by TCP: INFO {REMOTE}")
    break_flow(element, AFTER)
    element.script.expect("alice: 480 Temporarily Unavailable")
    element.script.expect_nothing()


def test_looking_for_it_may_take_time_and_the_caller_may_give_up_meanwhile(element: Element) -> None:
    speak(element, "INVITE", "z9hG4bKone")
    element.script.expect_wire(f"bob by TCP: INVITE {REMOTE}")
    promise: Promise[Sequence[Contact]] = Promise()
    element.bindings[BOB] = promise
    break_flow(element, BEFORE)
    element.script.expect_nothing()
    promise.resolve([bound(AFTER)])
    element.script.expect_wire(f"desk by TCP: INVITE {REMOTE}")
    element.bind(BOB, bound(BEFORE))
    speak(element, "INVITE", "z9hG4bKtwo")
    element.script.expect_wire(f"bob by TCP: INVITE {REMOTE}")
    late: Promise[Sequence[Contact]] = Promise()
    element.bindings[BOB] = late
    break_flow(element, BEFORE)
    cancel = make_request("CANCEL", REMOTE, via="SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bKtwo", to=TAGGED)
    element.inject(cancel)
    element.script.expect("alice: 200 OK", "alice: 487 Request Terminated")
    late.resolve([bound(AFTER)])
    element.script.expect_nothing()


@pytest.mark.parametrize("status", [408, 481, 486])
def test_what_the_phone_itself_answers_ends_it(element: Element, status: int) -> None:
    speak(element, "INVITE")
    element.bind(BOB, bound(AFTER))
    element.reply(element.script.expect_request(f"bob by TCP: INVITE {REMOTE}"), status)
    texts = element.script.record.texts()
    assert texts[0] == f"bob by TCP: ACK {REMOTE}"
    assert texts[1].startswith(f"alice: {status}")


# Calls that are being set up


def test_a_phone_whose_node_dies_while_it_rings_is_rung_over_its_other_flow_at_once(element: Element) -> None:
    element.bind(BOB, bound(BEFORE, reg_id=1), bound(AFTER, NODE, reg_id=2))
    element.inject(make_request())
    element.reply(element.script.expect_request(f"bob by TCP: INVITE {REMOTE}"), 180)
    element.script.expect("alice: 180 Ringing")
    element.dead_nodes.add(OTHER_NODE)
    break_flow(element, BEFORE, dead=True)
    element.reply(element.script.expect_request(f"desk by TCP: INVITE {REMOTE}"), 200)
    element.script.expect("alice: 200 OK")


def test_a_phone_whose_node_dies_is_not_called_at_an_address_that_may_not_answer(element: Element) -> None:
    listening = "sip:bob@192.0.2.201;transport=tcp"
    element.bind(BOB, bound(BEFORE, uri=listening))
    element.inject(make_request())
    element.script.expect_wire(f"bob by TCP: INVITE {listening}")
    element.doubted.add(OTHER_NODE)
    break_flow(element, BEFORE)
    element.script.expect("alice: 480 Temporarily Unavailable")
    element.script.expect_nothing()


def test_flows_that_may_be_dead_are_rung_when_the_others_have_refused(element: Element) -> None:
    element.doubted.add(OTHER_NODE)
    element.bind(BOB, bound(BEFORE), bound(AFTER, NODE))
    element.inject(make_request())
    element.reply(element.script.expect_request(f"desk by TCP: INVITE {REMOTE}"), 486)
    element.script.expect(f"desk by TCP: ACK {REMOTE}")
    element.script.expect_wire(f"bob by TCP: INVITE {REMOTE}")


# Paths


def call_by_path(element: Element) -> None:
    """A registrar elsewhere calls a phone that registered with it by way of us."""
    route = element.tokens.make_flow(FlowName(OTHER_NODE, BEFORE))
    headers = [f"Route: <sip:{route}@192.0.2.1;lr;ob>"]
    stranger = element.flow_to(Hop("UDP", "203.0.113.7", 5060))
    request = make_request(
        uri=REMOTE,
        via="SIP/2.0/UDP 203.0.113.7;branch=z9hG4bK1",
        from_="<sip:zoe@foreign.example>;tag=1",
        to="<sip:yan@foreign.example>",
        headers=headers,
    )
    element.inject(request, stranger)


def test_a_registrar_elsewhere_reaches_its_phone_over_the_flow_in_our_path(element: Element) -> None:
    call_by_path(element)
    sent = element.script.expect_request(f"bob by TCP: INVITE {REMOTE}")
    assert sent.all("route") == []
    assert len(sent.all("record-route")) == 1


def test_it_hears_430_when_that_flow_is_gone(element: Element) -> None:
    element.gone.append(FlowName(OTHER_NODE, BEFORE))
    call_by_path(element)
    element.script.expect("stranger: 430 Flow Failed")
    assert element.rejections.reasons == ["flow-gone"]


def test_it_hears_430_when_that_flow_breaks_under_the_request(element: Element) -> None:
    call_by_path(element)
    element.script.expect_wire(f"bob by TCP: INVITE {REMOTE}")
    break_flow(element, BEFORE)
    element.script.expect("stranger: 430 Flow Failed")
    element.script.expect_nothing()


def test_a_stranger_s_altered_token_is_refused_and_counted(element: Element) -> None:
    zoe = element.flow_to(Hop("UDP", "203.0.113.7", 5060))
    request = make_request(
        uri=REMOTE,
        via="SIP/2.0/UDP 203.0.113.7;branch=z9hG4bK1",
        from_="<sip:zoe@foreign.example>;tag=1",
        headers=[f"Route: <sip:{'A' * 60}@192.0.2.1;lr>"],
    )
    element.inject(request, zoe)
    element.script.expect("stranger: 403 Flow Token Refused")
    assert element.rejections.reasons == ["token-refused"]


# Edges of another house


def bind_paths(element: Element, *flows: str) -> None:
    """One phone of bob's behind an edge, by that many flows."""
    contacts = [
        Bound("sip:bob@10.0.0.7", path=(f"<sip:{flow}@192.0.2.203;lr;ob>",), instance=INSTANCE, reg_id=number)
        for number, flow in enumerate(flows, 1)
    ]
    element.bind(BOB, *contacts)


def test_a_caller_never_hears_430_but_that_the_phone_is_away(element: Element) -> None:
    """RFC 5626 §11.5: it is between an edge and us."""
    bind_paths(element, "one", "two")
    element.inject(make_request())
    first = element.script.expect_request("mobile: INVITE sip:bob@10.0.0.7")
    assert first.all("route") == ["<sip:one@192.0.2.203;lr;ob>"]
    element.reply(first, 430)
    element.script.expect("mobile: ACK sip:bob@10.0.0.7")
    second = element.script.expect_request("mobile: INVITE sip:bob@10.0.0.7")
    assert second.all("route") == ["<sip:two@192.0.2.203;lr;ob>"]
    element.reply(second, 430)
    element.script.expect("mobile: ACK sip:bob@10.0.0.7", "alice: 480 Temporarily Unavailable")
