"""All calls of a node: which one a BYE ends, what is counted, and that there is an end to everything."""

from __future__ import annotations

import pytest

from farm.accounting import calls
from farm.accounting.calls import REMEMBERED_SECONDS
from tests.accounting.books import PHONE, Desk, Way, make_answer, make_bye, make_invite
from tests.support.counts import read_sample


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize(("by_callee", "by"), [(False, "caller"), (True, "callee")])
def test_a_bye_ends_the_call_whose_tags_it_has(desk: Desk, by_callee: bool, by: str) -> None:
    call, other = desk.answer(), desk.answer("c2")
    assert desk.count("calls", "answered") == 2
    assert desk.calls.end(make_bye(by_callee=by_callee), 200, 70.0)
    assert (call.by, call.ended_at) == (by, 70.0)
    assert list(desk.calls) == [other]
    assert desk.written.ends == [call]
    assert desk.count("calls_ended", by) == desk.count("calls_total", "answered") - 1 == 1
    assert read_sample(desk.metrics.call_seconds.child(), "_sum") == 60.0


def test_another_tag_or_another_call_id_ends_nothing(desk: Desk) -> None:
    desk.answer()
    assert not desk.calls.end(make_bye(tag="x"), 200, 70.0)
    assert not desk.calls.end(make_bye("c3"), 200, 70.0)
    assert len(desk.calls) == 1


@pytest.mark.parametrize(
    ("status", "ends"),
    [
        (200, True),
        (481, True),
        (408, True),
        (480, True),
        (404, True),
        (401, False),
        (403, False),
        (500, False),
        (483, False),
        (302, False),
    ],
)
def test_which_answers_of_a_bye_end_a_call(desk: Desk, status: int, ends: bool) -> None:
    desk.answer()
    assert desk.calls.end(make_bye(), status, 70.0)
    assert len(desk.calls) == (not ends)


@pytest.mark.parametrize(("status", "ends"), [(481, True), (408, False), (488, False), (200, False)])
def test_another_request_ends_a_call_only_when_nobody_knows_it(desk: Desk, status: int, ends: bool) -> None:
    call = desk.answer()
    assert desk.calls.end(make_bye(method="INVITE"), status, 70.0)
    assert len(desk.calls) == (not ends)
    assert call.by == ("lost" if ends else "")
    assert not desk.calls.end(make_bye("c9", method="INVITE"), 481, 70.0)


def test_the_second_of_two_byes_belongs_to_something_for_a_while(desk: Desk) -> None:
    desk.answer()
    desk.calls.end(make_bye(), 200, 70.0)
    assert desk.calls.end(make_bye(by_callee=True), 200, 71.0)
    assert desk.calls.end(make_bye(), 200, 71.0)
    assert len(desk.written.ends) == 1
    desk.calls.sweep(70.0 + REMEMBERED_SECONDS - 0.1)
    assert desk.calls.end(make_bye(), 200, 71.0)
    desk.calls.sweep(70.0 + REMEMBERED_SECONDS)
    assert not desk.calls.end(make_bye(), 200, 200.0)


def test_what_is_remembered_has_a_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST_REMEMBERED", 3)
    for number in range(5):
        desk.answer(f"c{number}")
        desk.calls.end(make_bye(f"c{number}"), 200, 20.0)
    assert len(desk.calls._lately) == 3
    assert not desk.calls.remember(("x", "a", "b"), 20.0)
    desk.calls.sweep(500.0)
    assert desk.calls.remember(("x", "a", "b"), 500.0)
    assert not desk.calls.remember(("x", "a", "b"), 501.0)


def test_what_runs_for_too_long_is_ended_by_the_farm(desk: Desk) -> None:
    first, second = desk.answer("c1", at=10.0), desk.answer("c2", at=20.0)
    desk.calls.sweep(1009.9)
    assert len(desk.calls) == 2
    desk.calls.sweep(1010.0)
    assert (first.by, second.by) == ("farm", "")
    assert desk.count("calls_ended", "farm") == 1


def test_beyond_the_limit_the_oldest_has_its_record(desk: Desk) -> None:
    desk.calls.most_calls = 3
    kept = [desk.answer(f"c{number}") for number in range(5)]
    assert desk.written.ends == kept[:2]
    assert list(desk.calls) == kept[2:]
    assert {call.by for call in kept[:2]} == {"farm"}


def test_invites_that_nobody_answers_leave_nothing_when_they_fail(desk: Desk) -> None:
    begun = [desk.calls.begin(make_invite(f"c{number}"), 1.0) for number in range(1000)]
    assert desk.count("calls", "ringing") == 1000
    for call in begun:
        call.fail(408, "Request Timeout", None, [408], by_callee=False, now=181.0)
    assert desk.count("calls", "ringing") == 0
    assert desk.count("calls_total", "failed") == 1000
    assert len(desk.calls) == len(desk.calls._lately) == 0


def test_the_delay_of_a_session_is_to_its_ringing_or_to_its_answer(desk: Desk) -> None:
    request = make_invite()
    call = desk.calls.begin(request, 1.0)
    call.ring(1.5)
    call.answer(make_answer(request), Way(), [200], 9.0)
    desk.answer("c2")
    call = desk.calls.begin(make_invite("c3"), 1.0)
    call.fail(486, "Busy Here", None, [486], by_callee=True, now=1.25)
    delay = desk.metrics.sip_session_request_delay
    assert read_sample(delay.child("answered"), "_sum") == 0.5 + 2.0
    assert read_sample(delay.child("failed"), "_sum") == 0.25


@pytest.mark.parametrize("status", [302, 401, 402, 407])
def test_the_delay_of_who_is_challenged_or_sent_elsewhere_is_no_failures(desk: Desk, status: int) -> None:
    """RFC 6076 section 4.3.2: a failure is 4xx but for these, 5xx and 6xx."""
    desk.calls.begin(make_invite(), 1.0).fail(status, "Elsewhere", None, [status], by_callee=True, now=1.25)
    desk.calls.refuse(make_invite("c2"), status, "Elsewhere", False, 1.0, 1.5)
    assert desk.count("sip_session_request_delay", "failed") == 0


def test_what_is_refused_here_is_counted_and_has_a_record_if_the_sender_is_known(desk: Desk) -> None:
    desk.calls.refuse(make_invite(), 404, "Not Found", False, 1.0, 1.5)
    assert desk.written.ends == []
    desk.calls.refuse(make_invite(), 404, "Not Found", True, 1.0, 1.5)
    desk.calls.refuse(make_invite(), 487, "Request Terminated", True, 1.0, 1.5)
    assert [(call.result, call.by) for call in desk.written.ends] == [("unreachable", "farm"), ("cancelled", "caller")]
    assert desk.count("calls_total", "unreachable") == 2
    assert desk.count("sip_session_request_delay", "failed") == 3
    assert desk.calls.ringing == 0


def test_forks_are_counted_once_and_end_each_by_itself(desk: Desk) -> None:
    call = desk.answer()
    call.answer(make_answer(make_invite(), "b2"), Way(), [200], 11.0)
    assert len(desk.calls) == 2
    assert len(desk.written.answers) == 2
    assert desk.count("calls_total", "answered") == 1
    assert desk.calls.ringing == 0
    desk.calls.end(make_bye(tag="b2"), 200, 12.0)
    assert list(desk.calls) == [call]


def test_a_call_that_came_by_twice_has_a_record_of_each_time_and_one_bye_ends_both(desk: Desk) -> None:
    request = make_invite()
    outer, inner = desk.calls.begin(request, 1.0), desk.calls.begin(request, 1.1)
    inner.answer(make_answer(request), Way(), [200], 5.0)
    outer.answer(make_answer(request), Way(), [200], 5.1)
    assert desk.calls.ringing == 0
    desk.calls.end(make_bye(), 200, 9.0)
    assert desk.written.ends == [inner, outer]
    assert (inner.is_again, outer.is_again) == (True, False)
    assert len(desk.calls) == len(desk.calls._ringing) == 0


def test_a_node_that_stops_writes_what_goes_on(desk: Desk) -> None:
    call = desk.answer()
    desk.calls.interrupt(30.0)
    assert desk.written.interruptions == [call]
    assert (desk.written.ends, len(desk.calls), call.by) == ([], 0, "lost")
    assert desk.count("calls_ended", "lost") == 1


def test_a_call_that_another_hides_by_the_same_tags_has_its_record(desk: Desk) -> None:
    """The caller has set up a call to a friend beforehand, who answers with the tag of the gateway."""
    request = make_invite()
    friend = desk.calls.begin(request, 1.0)
    dear = desk.answer(at=10.0)
    friend.answer(make_answer(request), Way(1), [200], 11.0)
    desk.calls.end(make_bye(), 200, 70.0)
    assert desk.written.ends == [dear, friend]
    assert dear.is_again


def test_there_are_not_many_calls_of_one_dialog(desk: Desk) -> None:
    for number in range(25):
        desk.answer(at=10.0 + number)
    assert len(desk.written.ends) == 20
    desk.calls.interrupt(90.0)
    assert len(desk.written.interruptions) == 5


def test_a_bye_that_could_not_be_delivered_ends_a_call_whatever_the_farm_said(desk: Desk) -> None:
    call = desk.answer()
    assert desk.calls.end(make_bye(), 503, 70.0, hop=PHONE, made=True)
    assert (call.by, call.bye_code, call.bye_address) == ("caller", 503, "192.0.2.102:5070")


def test_a_bye_for_what_still_rings_is_the_end_of_no_call(desk: Desk) -> None:
    request = make_invite()
    call = desk.calls.begin(request, 1.0)
    assert desk.calls.end(make_bye(), 200, 2.0)
    call.answer(make_answer(request), Way(), [200], 3.0)
    assert list(desk.calls) == [call]
    assert not desk.calls.end(make_bye("c2"), 200, 4.0)


def test_a_bye_that_overtakes_the_answer_makes_no_negative_bill(desk: Desk) -> None:
    call = desk.answer(at=10.0)
    desk.calls.end(make_bye(), 200, 9.0)
    assert call.ended_at - call.answered_at == 0.0


def test_the_address_of_a_bye_is_the_callees_whoever_hangs_up(desk: Desk) -> None:
    call = desk.answer()
    desk.calls.end(make_bye(by_callee=True), 200, 70.0, hop=PHONE)
    assert (call.by, call.bye_address) == ("callee", "192.0.2.101:5060")


def test_an_invite_that_says_it_is_in_a_dialog_that_nobody_knows_is_a_call(desk: Desk) -> None:
    known = desk.answer("c1")
    for call_id in ("c1", "c2", "c2"):
        request = make_bye(call_id, method="INVITE")
        desk.calls.adopt(request, make_answer(request), Way(), "", 20.0, 21.0)
    first, second = desk.calls
    assert (first, second.key, second.setup_at) == (known, ("c2", "a", "b"), 20.0)
    assert desk.calls.ringing == 0
