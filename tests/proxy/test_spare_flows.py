"""A phone with several connections (RFC 5626): one rings, and another only when the first one is broken."""

from __future__ import annotations

import pytest

from farm.sip.hop import Hop
from tests.support.counts import read
from tests.support.element import Bound, Element
from tests.support.messages import make_request

BOB = "sip:bob@example.com"
PHONE = Hop("TCP", "192.0.2.201", 40000, "tcp:192.0.2.1:5060/7")


@pytest.fixture
def element() -> Element:
    element = Element()
    element.trust_alice()
    return element


def bind_two_flows(element: Element) -> None:
    """One phone of bob's with two connections, the second the older."""
    first = PHONE
    second = Hop("TCP", "192.0.2.202", 40001, "tcp:192.0.2.1:5060/8")
    element.bind(
        BOB,
        Bound("sip:bob@10.0.0.7", received=first, instance="<urn:uuid:1>", reg_id=1),
        Bound("sip:bob@10.0.0.7", received=second, instance="<urn:uuid:1>", reg_id=2),
    )


def test_a_phone_that_lost_one_of_its_connections_rings_on_the_other(element: Element) -> None:
    bind_two_flows(element)
    element.refusing.add("bob by TCP")
    element.inject(make_request())
    element.after(0)
    element.script.expect("bob by TCP: refused", "desk by TCP: INVITE sip:bob@10.0.0.7")
    element.script.expect_nothing()
    assert read(element.script.metrics.sip_failovers.child("transport")) == 1


def test_a_phone_that_lost_all_its_connections_is_away(element: Element) -> None:
    bind_two_flows(element)
    element.refusing |= {"bob by TCP", "desk by TCP"}
    element.inject(make_request())
    element.after(0)
    element.script.expect("bob by TCP: refused", "desk by TCP: refused", "alice: 480 Temporarily Unavailable")


def test_a_phone_that_an_edge_has_lost_rings_on_its_other_connection(element: Element) -> None:
    """RFC 5626 §5.3.1: 430 says that the flow failed, not the phone."""
    bind_two_flows(element)
    element.inject(make_request())
    element.reply(element.script.expect_request("bob by TCP: INVITE sip:bob@10.0.0.7"), 430)
    element.script.expect("bob by TCP: ACK sip:bob@10.0.0.7", "desk by TCP: INVITE sip:bob@10.0.0.7")
    element.script.expect_nothing()


@pytest.mark.parametrize("status", [486, 503, 600])
def test_a_phone_that_answered_is_not_rung_again_on_its_other_connection(element: Element, status: int) -> None:
    bind_two_flows(element)
    element.inject(make_request())
    element.reply(element.script.expect_request("bob by TCP: INVITE sip:bob@10.0.0.7"), status)
    element.after(1)
    texts = element.script.record.texts()
    assert texts[0] == "bob by TCP: ACK sip:bob@10.0.0.7"
    assert {text.partition(":")[0] for text in texts[1:]} == {"alice"}


def test_a_phone_that_is_silent_is_not_rung_again_on_its_other_connection(element: Element) -> None:
    bind_two_flows(element)
    element.inject(make_request())
    element.after(32)
    texts = element.script.record.texts()
    assert texts[0] == "bob by TCP: INVITE sip:bob@10.0.0.7"
    assert texts[-1] == "alice: 408 Request Timeout"
    assert not any(text.startswith("desk") for text in texts)


def test_a_caller_who_gives_up_while_a_connection_fails_rings_no_other(element: Element) -> None:
    bind_two_flows(element)
    element.refusing.add("bob by TCP")
    element.inject(make_request())
    element.inject(make_request("CANCEL"))
    element.after(0)
    element.script.expect("bob by TCP: refused", "alice: 200 OK", "alice: 487 Request Terminated")
    element.script.expect_nothing()
