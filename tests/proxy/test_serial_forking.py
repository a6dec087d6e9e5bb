"""Phones that ring one after another: whose turn it is, and what becomes of one that was silent in its turn (§16.6)."""

from __future__ import annotations

import pytest

from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.status import SipError
from tests.proxy.test_context import DESK, ELSEWHERE, HOME, MOBILE, acknowledge, call, end, ring
from tests.support.element import Bound, Element
from tests.support.messages import make_request
from tests.support.recorders import Promise


@pytest.fixture
def element() -> Element:
    element = Element()
    element.trust_alice()
    return element


def test_phones_of_lower_q_ring_when_those_before_them_have_failed(element: Element) -> None:
    """§16.6: groups of equal q."""
    call(element, Bound(DESK, 1000), Bound(MOBILE, 1000), Bound(HOME, 500))
    desk, mobile = ring(element, DESK, MOBILE)
    element.reply(desk, 486)
    element.script.expect_wire(f"desk: ACK {DESK}")
    element.script.expect_nothing()
    element.reply(mobile, 480)
    element.script.expect_wire(f"mobile: ACK {MOBILE}")
    (home,) = ring(element, HOME)
    element.reply(home, 200)
    element.script.expect_wire("alice: 200 OK")
    element.script.expect_nothing()
    element.after(100)
    element.script.expect_end()


def test_a_phone_that_rings_too_long_gives_way_to_the_next(element: Element) -> None:
    call(element, Bound(DESK, 1000), Bound(HOME, 500))
    (desk,) = ring(element, DESK)
    element.reply(desk, 180)
    element.script.expect_wire("alice: 180 Ringing")
    element.after(19.9)
    element.script.expect_nothing()
    element.after(0.1)
    element.script.expect_wire(f"desk: CANCEL {DESK}")
    element.reply(desk, 487)
    element.script.expect_wire(f"desk: ACK {DESK}")
    ring(element, HOME)


def expect_between_retransmissions(element: Element, phone: str, *wanted: str) -> list[Request]:
    """The messages that left, but for what is repeated to a phone that says nothing."""
    effects, element.script.record.effects[:] = list(element.script.record.effects), []
    found = [effect for effect in effects if str(effect) != phone]
    assert [str(effect) for effect in found] == list(wanted)
    return [effect.message for effect in found if isinstance(effect.message, Request)]


def test_a_phone_that_says_nothing_gives_way_to_the_next_at_once(element: Element) -> None:
    """§9.1 forbids to cancel it before it has spoken, and 408 is all that will come of it."""
    call(element, Bound(DESK, 1000), Bound(HOME, 500))
    ring(element, DESK)
    element.after(19.9)
    expect_between_retransmissions(element, f"desk: INVITE {DESK}", "alice: 100 Trying")
    element.after(0.1)
    (home,) = ring(element, HOME)
    element.reply(home, 200)
    element.script.expect_wire("alice: 200 OK")
    element.after(100)
    expect_between_retransmissions(element, f"desk: INVITE {DESK}")
    element.script.expect_end()


@pytest.mark.parametrize("status", [100, 180])
def test_a_phone_that_speaks_after_it_was_given_up_is_cancelled_and_not_heard(element: Element, status: int) -> None:
    call(element, Bound(DESK, 1000), Bound(HOME, 500))
    (desk,) = ring(element, DESK)
    element.after(20)
    (home,) = expect_between_retransmissions(
        element, f"desk: INVITE {DESK}", "alice: 100 Trying", f"bob: INVITE {HOME}"
    )[-1:]
    element.reply(home, 180)
    element.reply(desk, status)
    element.reply(desk, 180)
    element.script.expect_wire("alice: 180 Ringing", f"desk: CANCEL {DESK}")
    element.reply(desk, 487)
    element.script.expect_wire(f"desk: ACK {DESK}")
    element.script.expect_nothing()
    element.reply(home, 486)
    element.script.expect(f"bob: ACK {HOME}", "alice: 486 Busy Here")
    acknowledge(element)
    end(element)


def test_a_phone_that_was_given_up_and_then_answers_is_heard(element: Element) -> None:
    """Who took the call must not be left alone with it; the other phone stops ringing."""
    call(element, Bound(DESK, 1000), Bound(HOME, 500))
    (desk,) = ring(element, DESK)
    element.after(20)
    (home,) = expect_between_retransmissions(
        element, f"desk: INVITE {DESK}", "alice: 100 Trying", f"bob: INVITE {HOME}"
    )[-1:]
    element.reply(home, 180)
    element.reply(desk, 200)
    element.script.expect_wire("alice: 180 Ringing", "alice: 200 OK")
    assert element.script.expect_request(f"bob: CANCEL {HOME}").all("reason") == [ELSEWHERE]
    element.reply(home, 487)
    element.script.expect_wire(f"bob: ACK {HOME}")
    end(element)


def test_a_phone_that_was_given_up_and_rings_on_through_its_cancel_leaves_nothing_behind(element: Element) -> None:
    call(element, Bound(DESK, 1000), Bound(HOME, 500))
    (desk,) = ring(element, DESK)
    element.after(20)
    (home,) = expect_between_retransmissions(
        element, f"desk: INVITE {DESK}", "alice: 100 Trying", f"bob: INVITE {HOME}"
    )[-1:]
    element.reply(home, 486)
    element.script.expect_wire(f"bob: ACK {HOME}", "alice: 486 Busy Here")
    acknowledge(element)
    element.reply(desk, 180)
    element.script.expect_wire(f"desk: CANCEL {DESK}")
    element.after(31.9)
    assert element.script.census()["invite-client proceeding"] == 1
    element.after(0.1)
    assert "invite-client proceeding" not in element.script.census()
    end(element)


def test_of_a_group_the_silent_are_given_up_and_the_ringing_cancelled(element: Element) -> None:
    call(element, Bound(DESK, 1000), Bound(MOBILE, 1000), Bound(HOME, 500))
    _silent, mobile = ring(element, DESK, MOBILE)
    element.reply(mobile, 180)
    element.after(20)
    expect_between_retransmissions(element, f"desk: INVITE {DESK}", "alice: 180 Ringing", f"mobile: CANCEL {MOBILE}")
    element.reply(mobile, 487)
    element.script.expect_wire(f"mobile: ACK {MOBILE}")
    ring(element, HOME)


def test_when_nobody_in_any_group_says_a_word_the_caller_hears_408(element: Element) -> None:
    call(element, Bound(DESK, 1000), Bound(MOBILE, 500), Bound(HOME, 100))
    element.after(71.9)
    heard = [entry for entry in element.script.log() if entry[1].startswith("alice")]
    assert heard == [(0.2, "alice: 100 Trying")]
    element.after(0.1)
    element.script.expect_wire("alice: 408 Request Timeout")
    acknowledge(element)
    end(element)


def test_a_phone_that_is_still_looked_up_gives_way_too(element: Element) -> None:
    promise: Promise[list[Hop]] = Promise()
    element.next_hops["phone.example"] = promise
    call(element, Bound("sip:bob@phone.example", 1000), Bound(HOME, 500))
    element.after(20)
    element.script.expect_wire("alice: 100 Trying")
    ring(element, HOME)
    promise.resolve([Hop("UDP", "192.0.2.202", 5060)])
    element.script.expect_nothing()


def test_a_phone_that_was_given_up_is_not_tried_at_another_address(element: Element) -> None:
    element.next_hops["phone.example"] = [Hop("UDP", "192.0.2.202", 5060), Hop("UDP", "192.0.2.203", 5060)]
    call(element, Bound("sip:bob@phone.example", 1000), Bound(HOME, 500))
    element.after(100)
    assert not [text for text in element.script.record.texts() if text.startswith("mobile")]


def test_the_last_phone_may_ring_as_long_as_timer_c_lets_it(element: Element) -> None:
    call(element, Bound(DESK, 1000), Bound(HOME, 500))
    (desk,) = ring(element, DESK)
    element.reply(desk, 486)
    element.script.expect_wire(f"desk: ACK {DESK}")
    (home,) = ring(element, HOME)
    element.reply(home, 180)
    element.script.expect_wire("alice: 180 Ringing")
    element.after(184)
    element.script.expect_nothing()


def test_a_phone_that_answers_while_it_gives_way_wins(element: Element) -> None:
    call(element, Bound(DESK, 1000), Bound(HOME, 500))
    (desk,) = ring(element, DESK)
    element.reply(desk, 180)
    element.after(20)
    element.reply(desk, 200)
    element.script.expect("alice: 180 Ringing", f"desk: CANCEL {DESK}", "alice: 200 OK")
    element.after(40)
    assert f"bob: INVITE {HOME}" not in element.script.record.texts()


def test_a_decline_or_a_cancel_lets_no_further_phone_ring(element: Element) -> None:
    for reason in ("decline", "cancel"):
        element = Element()
        element.trust_alice()
        call(element, Bound(DESK, 1000), Bound(HOME, 500))
        (desk,) = ring(element, DESK)
        element.reply(desk, 180)
        if reason == "cancel":
            element.inject(make_request("CANCEL"))
        element.reply(desk, 603 if reason == "decline" else 487)
        texts = element.script.record.texts()
        assert texts[-1] == ("alice: 603 Decline" if reason == "decline" else "alice: 487 Request Terminated")
        assert f"bob: INVITE {HOME}" not in texts


def test_phones_that_cannot_be_reached_at_all_are_passed_over_at_once(element: Element) -> None:
    contacts = [Bound(f"sip:bob@gone{number}.example", 1000 - number) for number in range(5)]
    for number in range(5):
        element.next_hops[f"gone{number}.example"] = SipError(503)
    call(element, *contacts, Bound(HOME, 1))
    ring(element, HOME)


def test_the_best_answer_is_chosen_over_all_groups(element: Element) -> None:
    call(element, Bound(DESK, 1000), Bound(HOME, 500))
    (desk,) = ring(element, DESK)
    element.reply(desk, 486)
    element.script.expect_wire(f"desk: ACK {DESK}")
    (home,) = ring(element, HOME)
    element.reply(home, 503)
    element.script.expect(f"bob: ACK {HOME}", "alice: 486 Busy Here")
