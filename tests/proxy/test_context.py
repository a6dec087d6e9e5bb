"""Forking: who is rung when, what the caller hears, when it is over (RFC 3261 §16.7-16.10, RFC 4320, 5393, 6026)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.proxy.context import group_targets
from farm.proxy.reach import Target
from farm.sip.message import Request, make_header
from tests.support.counts import read, read_sample
from tests.support.element import Bound, Element
from tests.support.messages import make_request

BOB = "sip:bob@example.com"
DESK, MOBILE, HOME = "sip:bob@192.0.2.202", "sip:bob@192.0.2.203", "sip:bob@192.0.2.201"
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
NAMES = {DESK: "desk", MOBILE: "mobile", HOME: "bob"}


@pytest.fixture
def element() -> Element:
    element = Element()
    element.trust_alice()
    return element


def call(element: Element, *contacts: str | Bound, method: str = "INVITE") -> None:
    element.bind(BOB, *contacts)
    element.inject(make_request(method))


def ring(element: Element, *uris: str, method: str = "INVITE") -> list[Request]:
    """The requests that left for those contacts, in that order, and nothing else did."""
    found = element.script.expect_wire(*[f"{NAMES[uri]}: {method} {uri}" for uri in uris])
    return [request for request in found if isinstance(request, Request)]


def acknowledge(element: Element) -> None:
    element.inject(make_request("ACK", to="<sip:bob@example.com>;tag=there"))


def end(element: Element) -> None:
    """Whatever is still repeated runs out, and nothing is left."""
    element.after(300)
    element.script.record.effects.clear()
    element.script.expect_end()


# At once


def test_two_phones_ring_at_once_one_is_busy_and_the_other_answers(element: Element) -> None:
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(mobile, 180, tag="m")
    element.reply(desk, 486, tag="d")
    element.reply(mobile, 200, tag="m")
    element.script.expect("alice: 180 Ringing", f"desk: ACK {DESK}", "alice: 200 OK")
    element.script.expect_nothing()
    element.after(100)
    element.script.expect_end()


def test_the_first_phone_that_answers_wins_and_the_others_stop_ringing(element: Element) -> None:
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(desk, 180)
    element.reply(mobile, 200)
    element.script.expect("alice: 180 Ringing", "alice: 200 OK")
    cancel = element.script.expect_request(f"desk: CANCEL {DESK}")
    assert cancel.all("reason") == [ELSEWHERE], "or the phone shows a missed call"
    element.reply(desk, 487)
    element.script.expect_wire(f"desk: ACK {DESK}")
    element.script.expect_nothing()


def test_a_second_phone_that_answers_all_the_same_is_heard_too(element: Element) -> None:
    """§16.7 step 5, RFC 6026 §8.2: the caller ends the call that it does not want."""
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(mobile, 200, tag="m")
    element.after(0.4)
    element.reply(desk, 200, tag="d")
    first, second = element.script.expect_wire("alice: 200 OK", "alice: 200 OK")
    assert (first.to_tag, second.to_tag) == ("m", "d")
    element.script.expect_nothing()
    element.after(100)
    element.script.expect_end()


def test_a_2xx_that_is_repeated_is_passed_on_each_time(element: Element) -> None:
    """Its repetition is the callee's (§13.3.1.4), until the caller's ACK reaches them."""
    invite = element.call_bob()
    for _ in range(3):
        element.reply(invite, 200)
        element.after(1)
    element.script.expect_wire(*["alice: 200 OK"] * 3)
    element.script.expect_nothing()
    element.inject(make_request())
    element.script.expect_nothing()


def test_every_ringing_is_passed_on_and_a_100_is_not(element: Element) -> None:
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(desk, 100)
    element.reply(desk, 180, tag="d")
    element.reply(mobile, 183, tag="m")
    element.reply(desk, 180, tag="d")
    found = element.script.expect_wire("alice: 180 Ringing", "alice: 183 Session Progress", "alice: 180 Ringing")
    assert [message.to_tag for message in found] == ["d", "m", "d"]
    element.script.expect_nothing()


def test_a_ringing_after_the_answer_is_not_passed_on(element: Element) -> None:
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(mobile, 200)
    element.reply(desk, 180)
    element.script.expect("alice: 200 OK", f"desk: CANCEL {DESK}")
    element.script.expect_nothing()


def test_the_caller_hears_no_failure_before_all_phones_have_answered(element: Element) -> None:
    call(element, DESK, MOBILE, HOME)
    desk, mobile, home = ring(element, DESK, MOBILE, HOME)
    element.reply(desk, 404)
    element.reply(home, 302)
    element.script.expect_wire(f"desk: ACK {DESK}", f"bob: ACK {HOME}")
    element.script.expect_nothing()
    element.reply(mobile, 486)
    element.script.expect_wire(f"mobile: ACK {MOBILE}", "alice: 302 Moved Temporarily")
    acknowledge(element)
    element.after(100)
    element.script.expect_end()


def test_a_decline_everywhere_stops_all_phones_and_goes_up_when_they_have_stopped(element: Element) -> None:
    """§16.7 step 5: a 6xx waits, as a 2xx may still come."""
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(mobile, 180)
    element.reply(desk, 603)
    element.script.expect("alice: 180 Ringing", f"desk: ACK {DESK}")
    cancel = element.script.expect_request(f"mobile: CANCEL {MOBILE}")
    assert cancel.all("reason") == ["SIP;cause=603"]
    element.script.expect_nothing()
    element.reply(mobile, 487)
    element.script.expect(f"mobile: ACK {MOBILE}", "alice: 603 Decline")


def test_an_answer_after_a_decline_wins(element: Element) -> None:
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(mobile, 180)
    element.reply(desk, 603)
    element.reply(mobile, 200)
    assert element.script.record.texts()[-1] == "alice: 200 OK"
    end(element)


def test_the_challenges_of_two_phones_reach_the_caller_together(element: Element) -> None:
    call(element, DESK, MOBILE)
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(desk, 401, headers=[make_header("www-authenticate", 'Digest realm="desk"')])
    element.reply(mobile, 407, headers=[make_header("proxy-authenticate", 'Digest realm="mobile"')])
    element.script.expect_wire(f"desk: ACK {DESK}", f"mobile: ACK {MOBILE}")
    answer = element.script.expect_response("alice: 401 Unauthorized")
    assert answer.all("www-authenticate") == ['Digest realm="desk"']
    assert answer.all("proxy-authenticate") == ['Digest realm="mobile"']


def test_a_cancel_stops_every_phone_and_the_caller_hears_487_when_all_have_stopped(element: Element) -> None:
    call(element, DESK, MOBILE, HOME)
    desk, mobile, home = ring(element, DESK, MOBILE, HOME)
    element.reply(desk, 180)
    element.reply(mobile, 180)
    element.reply(home, 486)
    element.script.record.texts()
    element.inject(make_request("CANCEL"))
    element.script.expect_wire("alice: 200 OK", f"desk: CANCEL {DESK}", f"mobile: CANCEL {MOBILE}")
    element.reply(desk, 487)
    element.reply(mobile, 487)
    element.script.expect_wire(f"desk: ACK {DESK}", f"mobile: ACK {MOBILE}", "alice: 486 Busy Here")
    element.script.expect_nothing()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([302, 401, 404, 407, 408, 480, 486, 487, 500, 503, 603]), min_size=3, max_size=3),
    st.permutations(range(3)),
)
def test_what_the_caller_hears_does_not_depend_on_the_order_of_the_answers(
    statuses: list[int], order: list[int]
) -> None:
    def outcome(order: list[int]) -> str:
        element = Element()
        element.trust_alice()
        call(element, DESK, MOBILE, HOME)
        requests = ring(element, DESK, MOBILE, HOME)
        for request in requests:
            element.reply(request, 180)
        for index in order:
            element.reply(requests[index], statuses[index])
        heard = [text for text in element.script.record.texts() if text.startswith("alice: ")]
        acknowledge(element)
        end(element)
        return heard[-1]

    assert outcome(order) == outcome([0, 1, 2])


# Other requests


def test_no_provisional_answer_to_another_request_is_passed_on(element: Element) -> None:
    """RFC 4320 §4.1: nothing but our own 100, after three and a half seconds."""
    call(element, HOME, method="MESSAGE")
    (message,) = ring(element, HOME, method="MESSAGE")
    element.reply(message, 183)
    element.script.expect_nothing()
    element.after(3.4)
    element.script.expect_wire(f"bob: MESSAGE {HOME}")  # the retransmission that was under way
    element.script.expect_nothing()
    element.after(0.1)
    element.script.expect_wire("alice: 100 Trying")
    element.reply(message, 200)
    element.script.expect_wire("alice: 200 OK")
    end(element)


def test_no_408_is_made_up_for_another_request(element: Element) -> None:
    """RFC 4320 §4.2: the client has given up by itself."""
    call(element, HOME, method="MESSAGE")
    element.after(40)
    assert {text for text in element.script.record.texts() if text.startswith("alice")} == {"alice: 100 Trying"}
    element.after(40)
    element.script.expect_end()


def test_a_408_to_another_request_is_not_passed_on_and_its_repetition_rings_nobody(element: Element) -> None:
    call(element, HOME, method="MESSAGE")
    (message,) = ring(element, HOME, method="MESSAGE")
    element.reply(message, 408)
    element.script.expect_nothing()
    element.inject(make_request("MESSAGE"))
    element.script.expect_nothing()
    element.after(100)
    element.script.expect_end()


def test_another_request_forks_and_the_first_success_is_the_answer(element: Element) -> None:
    call(element, DESK, MOBILE, method="MESSAGE")
    desk, mobile = ring(element, DESK, MOBILE, method="MESSAGE")
    element.reply(mobile, 404)
    element.script.expect_nothing()
    element.reply(desk, 202)
    element.script.expect_wire("alice: 202 Accepted")
    element.script.expect_nothing()


def test_of_two_successes_of_another_request_only_the_first_goes_up_and_nobody_is_cancelled(element: Element) -> None:
    call(element, DESK, MOBILE, method="SUBSCRIBE")
    desk, mobile = ring(element, DESK, MOBILE, method="SUBSCRIBE")
    element.reply(desk, 200)
    element.reply(mobile, 200)
    element.script.expect_wire("alice: 200 OK")
    element.script.expect_nothing()


# Breadth


def test_the_breadth_is_shared_among_the_branches(element: Element) -> None:
    """RFC 5393 §5.3.3: together they have no more than what came."""
    element.bind(BOB, DESK, MOBILE, HOME)
    element.inject(make_request(headers=["Max-Breadth: 10"]))
    shares = [int(request.find("max-breadth") or "") for request in ring(element, DESK, MOBILE, HOME)]
    assert shares == [3, 3, 3]


def test_more_targets_than_breadth_are_tried_one_group_after_another(element: Element) -> None:
    element.bind(BOB, DESK, MOBILE, HOME)
    element.inject(make_request(headers=["Max-Breadth: 2"]))
    first, second = ring(element, DESK, MOBILE)
    assert (first.find("max-breadth"), second.find("max-breadth")) == ("1", "1")
    element.reply(first, 486)
    element.reply(second, 486)
    element.script.expect_wire(f"desk: ACK {DESK}", f"mobile: ACK {MOBILE}")
    (third,) = ring(element, HOME)
    assert third.find("max-breadth") == "2"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 5))
def test_groups_are_of_one_q_best_first_and_never_wider_than_the_breadth(qs: list[int], breadth: int) -> None:
    targets = [Target(f"sip:{number}@192.0.2.1", q) for number, q in enumerate(qs)]
    groups = group_targets(targets, breadth)
    assert [target.q for group in groups for target in group] == sorted(qs, reverse=True)
    assert {target.uri_text for group in groups for target in group} == {target.uri_text for target in targets}
    for group in groups:
        assert 1 <= len(group) <= breadth
        assert len({target.q for target in group}) == 1


# The caller is gone


def test_a_caller_who_cannot_be_reached_lets_nobody_ring_on(element: Element) -> None:
    invite = element.call_bob()
    element.alice.refusing = True
    element.reply(invite, 180)
    element.after(0)
    element.script.expect("alice: refused", "bob: CANCEL sip:bob@192.0.2.201")
    assert element.rejections.reasons == ["caller-unreachable"]
    element.reply(invite, 487)
    end(element)


def test_a_caller_who_never_acknowledges_leaves_nothing_behind(element: Element) -> None:
    invite = element.call_bob()
    element.reply(invite, 486)
    end(element)
    assert "caller-unreachable" in element.rejections.reasons


# Memory


def test_the_request_is_let_go_when_nobody_asks_for_it_any_more(element: Element) -> None:
    invite = element.call_bob()
    context = next(iter(element.script.layer._servers.values())).context
    element.reply(invite, 200)
    assert getattr(context, "_passage") is None  # noqa: B009


def test_the_time_we_add_to_a_call_and_the_callee_takes_are_measured(element: Element) -> None:
    invite = element.call_bob()
    element.after(2)
    element.reply(invite, 200)
    metrics = element.script.metrics
    assert read(metrics.sip_setup_added.child()) == 1
    delay = metrics.sip_request_delay.child("INVITE")
    assert (read(delay), read_sample(delay, "_sum")) == (1, 2.0)
