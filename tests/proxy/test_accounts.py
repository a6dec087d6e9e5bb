"""What the account of calls is told, when, and that it is told nothing of what is no call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farm.proxy.dialog import is_home
from farm.sip.hop import Hop
from tests.proxy.test_context import BOB, DESK, MOBILE, acknowledge, call, ring
from tests.support.element import NODE, OTHER_NODE, Bound, Element
from tests.support.messages import make_request

BEGIN = f"begin {BOB} at 0 of sip:alice@example.com"
PHONE = "sip:bob@192.0.2.201"


@pytest.fixture
def element() -> Element:
    element = Element()
    element.trust_alice()
    return element


def test_a_call_that_rings_and_is_answered_and_what_is_repeated(element: Element) -> None:
    call(element, DESK)
    (invite,) = ring(element, DESK)
    for status in (100, 180, 181, 183, 200, 200):
        element.reply(invite, status)
    way = f"{DESK} at udp:192.0.2.202:5060 of {NODE}"
    assert element.calls.told == [BEGIN, "ring", "ring", *[f"answer 200 there {way} [200]"] * 2]


def test_a_fork_tells_of_every_branch_and_of_the_way_that_was_answered(element: Element) -> None:
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(desk, 486)
    element.reply(mobile, 200)
    way = f"{MOBILE} at udp:192.0.2.203:5060 of {NODE}"
    assert element.calls.told == [BEGIN, f"answer 200 there {way} [200, 486]"]


def test_a_fork_of_which_nobody_answers(element: Element) -> None:
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(desk, 486, "Busy")
    element.reply(mobile, 404, "Gone")
    (_, failed) = element.calls.told
    assert failed.startswith(("fail 404 Gone by callee ", "fail 486 Busy by callee "))
    assert failed.endswith("[486, 404]")


def test_a_phone_that_is_silent_is_the_farm_s_word(element: Element) -> None:
    call(element, DESK)
    ring(element, DESK)
    element.after(33)
    way = f"{DESK} at udp:192.0.2.202:5060 of {NODE}"
    assert element.calls.told == [BEGIN, f"fail 408 Request Timeout by farm {way} [408]"]


def test_a_flow_of_another_node_is_the_way(element: Element) -> None:
    received = Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.2:5060#7a")
    element.bind(BOB, Bound(PHONE, received=received, node=OTHER_NODE))
    element.inject(make_request())
    element.after(33)
    assert f" of {OTHER_NODE} " in element.calls.told[-1]


def test_a_caller_who_cancels(element: Element) -> None:
    call(element, DESK)
    (invite,) = ring(element, DESK)
    element.reply(invite, 180)
    element.inject(make_request("CANCEL"))
    element.reply(invite, 487)
    assert element.calls.told[:3] == [BEGIN, "ring", "cancel"]
    assert element.calls.told[3].startswith("fail 487 Request Terminated by callee")


def test_a_challenge_is_no_attempt_and_a_refusal_is_one_of_somebody_known_or_not(element: Element) -> None:
    element.inject(make_request(uri="sip:nobody@example.com"))
    assert element.calls.told == ["refuse 404 Not Found, of one known"]
    element.calls.told.clear()
    open_to_all = Element()
    open_to_all.inject(make_request(uri="sip:nobody@example.com", from_="<sip:zoe@elsewhere.net>;tag=z"))
    assert open_to_all.calls.told == ["refuse 480 Temporarily Unavailable, of a stranger"]
    challenging = Element()
    challenging.bind(BOB, DESK)
    challenging.inject(make_request())
    assert challenging.calls.told == []


def test_a_node_that_stops_ends_attempts_once(element: Element) -> None:
    call(element, DESK)
    (invite,) = ring(element, DESK)
    element.reply(invite, 180)
    element.proxy.end_calls(element.script.now)
    assert element.calls.told[2].startswith("fail 503 Service Unavailable by farm")
    assert element.calls.told[3:] == ["cancel"]


def test_in_redirect_mode_there_are_no_calls() -> None:
    element = Element(redirect=True)
    element.trust_alice()
    call(element, DESK)
    element.inject(make_request(uri="sip:nobody@example.com", via="SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK2"))
    assert element.calls.told == []


@pytest.mark.parametrize("method", ["MESSAGE", "OPTIONS", "SUBSCRIBE"])
def test_other_requests_are_no_calls(element: Element, method: str) -> None:
    call(element, DESK, method=method)
    (sent,) = ring(element, DESK, method=method)
    element.reply(sent, 200)
    assert element.calls.told == []


def send_inside(element: Element, method: str) -> Callable[[int], None]:
    """Alice sends it in the dialog; what answers it."""
    route = f"Route: <sip:{element.make_route()}@192.0.2.1;lr>"
    request = make_request(method, PHONE, to="<sip:bob@example.com>;tag=there", headers=[route], cseq=2)
    element.inject(request)
    (sent,) = element.script.expect_wire(f"bob: {method} {PHONE}")
    return lambda status: element.reply(sent, status)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [200, 403, 481])
def test_a_bye_is_told_with_its_answer_and_its_token(element: Element, status: int) -> None:
    send_inside(element, "BYE")(status)
    assert element.calls.told == [f"end by BYE {status}, proven, to 192.0.2.201, at 0"]


def test_a_bye_that_is_not_answered_is_told_as_408(element: Element) -> None:
    send_inside(element, "BYE")
    element.after(33)
    assert element.calls.told == ["end by BYE 408 of ours, proven, to 192.0.2.201, at 0"]


def test_a_change_of_the_call_is_told_only_when_it_fails(element: Element) -> None:
    answer = send_inside(element, "INVITE")
    answer(180)
    answer(200)
    acknowledge(element)
    assert element.calls.told == []
    other = Element()
    other.trust_alice()
    send_inside(other, "INVITE")(481)
    assert other.calls.told == ["end by INVITE 481, proven, to 192.0.2.201, at 0"]


@pytest.mark.parametrize("behind_nat", [False, True])
def test_the_token_of_a_call_tells_which_node_took_it(element: Element, behind_nat: bool) -> None:
    source = Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060") if behind_nat else element.alice.hop
    element.bind(BOB, DESK)
    element.inject(make_request(), element.flow_to(source))
    (invite,) = ring(element, DESK)
    (recorded,) = invite.values("record-route")
    user = recorded.partition(":")[2].partition("@")[0]
    assert len(user) <= 120
    token = element.tokens.open_route(user, invite.call_id)
    assert token is not None
    assert (token.caller is not None) == behind_nat
    assert is_home(token, NODE)
    assert not is_home(token, OTHER_NODE)


def test_a_bye_for_a_phone_that_is_gone_is_told_although_it_goes_nowhere(element: Element) -> None:
    element.inject(make_request("BYE", BOB, to="<sip:bob@example.com>;tag=there", cseq=2))
    assert element.calls.told == ["end by BYE 480, unproven, nowhere, at 0"]


def test_a_bye_that_a_stranger_may_not_send_is_not_told() -> None:
    element = Element()
    element.inject(make_request("BYE", BOB, from_="<sip:zoe@elsewhere.net>;tag=z", to="<sip:b@x.net>;tag=there"))
    assert element.calls.told == []


def test_an_invite_that_says_it_is_in_a_dialog_and_proves_it_not_is_told_when_it_is_answered(element: Element) -> None:
    element.bind(BOB, DESK)
    element.inject(make_request("INVITE", BOB, to="<sip:bob@example.com>;tag=there"))
    (invite,) = ring(element, DESK)
    element.reply(invite, 180)
    assert element.calls.told == []
    element.reply(invite, 200)
    assert element.calls.told == [f"adopt {BOB} {DESK} at udp:192.0.2.202:5060 of {NODE}"]
