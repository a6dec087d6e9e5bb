"""One call: what changes it, and what does not."""

from __future__ import annotations

import pytest

from farm.accounting.call import ANSWERED, ENDED, MOST_FORKS, NEVER, RINGING, Call, make_key, result_of
from tests.accounting.books import SOURCE, Way, make_answer, make_invite


class Book:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Call, float]] = []

    def note_answer(self, call: Call, now: float) -> None:
        """It was answered."""
        self.heard.append(("answer", call, now))

    def note_failure(self, call: Call, now: float) -> None:
        """It was not."""
        self.heard.append(("failure", call, now))


@pytest.fixture
def book() -> Book:
    return Book()


def test_a_call_rings_is_answered_and_ends(book: Book) -> None:
    request = make_invite()
    call = Call(book, request, 1.0)
    assert (call.state, call.result, call.facts.source) == (RINGING, "", SOURCE)
    call.ring(2.0)
    call.ring(3.0)
    call.answer(make_answer(request), Way(), [200], 5.0)
    assert (call.state, call.ring_at, call.answered_at, call.key) == (ANSWERED, 2.0, 5.0, ("c1", "a", "b"))
    assert (call.status, call.phrase, call.result, call.way, call.codes) == (200, "OK", "answered", Way(), [200])
    assert book.heard == [("answer", call, 5.0)]
    assert call.end("callee", 9.0)
    assert not call.end("caller", 10.0)
    assert (call.state, call.by, call.ended_at) == (ENDED, "callee", 9.0)


def test_a_phone_that_answers_under_another_name_does_not_change_whose_call_it_is(book: Book) -> None:
    request = make_invite()
    call = Call(book, request, 1.0)
    answer = make_answer(request)
    answer.from_tag, answer.call_id = "x", "y"
    call.answer(answer, Way(), [200], 4.0)
    assert call.key == ("c1", "a", "b")


def test_a_2xx_that_is_repeated_is_the_same_answer(book: Book) -> None:
    request = make_invite()
    call = Call(book, request, 1.0)
    for now in (5.0, 5.5, 6.5):
        call.answer(make_answer(request), Way(), [200], now)
    assert len(book.heard) == 1


def test_another_phone_s_2xx_is_a_call_of_its_own_and_there_are_not_many_of_them(book: Book) -> None:
    request = make_invite()
    call = Call(book, request, 1.0)
    call.ring(2.0)
    for number in range(50):
        call.answer(make_answer(request, f"b{number}"), Way(number), [200], 5.0 + number)
    assert len(book.heard) == MOST_FORKS
    _, fork, now = book.heard[1]
    assert (fork.key, fork.is_fork, fork.setup_at, fork.ring_at, fork.answered_at, now) == (
        ("c1", "a", "b1"), True, 1.0, 2.0, 6.0, 6.0,
    )  # fmt: skip
    assert fork.facts == call.facts
    assert fork.way == Way(1)
    assert not call.is_fork
    assert call.end("caller", 9.0)
    assert fork.end("caller", 9.0)


@pytest.mark.parametrize(
    ("cancelled", "by_callee", "by"), [(True, True, "caller"), (False, True, "callee"), (False, False, "farm")]
)
def test_who_ended_an_attempt(book: Book, cancelled: bool, by_callee: bool, by: str) -> None:
    call = Call(book, make_invite(), 1.0)
    if cancelled:
        call.cancel()
    call.fail(487, "Request Terminated", None, [487], by_callee=by_callee, now=4.0)
    assert (call.state, call.by, call.ended_at, call.answered_at) == (ENDED, by, 4.0, NEVER)
    assert (call.result, call.key) == ("cancelled", ("c1", "a", ""))
    assert book.heard == [("failure", call, 4.0)]


def test_what_has_failed_is_not_answered_any_more_nor_fails_twice_and_what_was_answered_does_not_fail(
    book: Book,
) -> None:
    request = make_invite()
    failed, answered = Call(book, request, 1.0), Call(book, request, 1.0)
    failed.fail(503, "Service Unavailable", None, [], by_callee=False, now=2.0)
    failed.fail(486, "Busy Here", None, [], by_callee=True, now=3.0)
    failed.answer(make_answer(request), Way(), [200], 4.0)
    assert (failed.status, failed.end("caller", 5.0)) == (503, False)
    answered.answer(make_answer(request), Way(), [200], 4.0)
    answered.fail(486, "Busy Here", None, [], by_callee=True, now=5.0)
    assert answered.result == "answered"
    assert [what for what, _, _ in book.heard] == ["failure", "answer"]


def test_the_request_is_let_go_with_the_answer(book: Book) -> None:
    request = make_invite()
    call = Call(book, request, 1.0)
    call.answer(make_answer(request), Way(), [200], 4.0)
    assert call._request is None
    assert call.facts.sender == "sip:alice@example.com"


def test_what_is_kept_of_a_stranger_s_texts_is_bounded_and_two_calls_of_his_are_two(book: Book) -> None:
    request = make_invite("x" * 10_000)
    call = Call(book, request, 1.0)
    request.uri_text = "sip:" + "u" * 10_000
    call.answer(make_answer(request, "t" * 10_000), Way(), [200], 4.0)
    assert sum(map(len, (*call.key, *call.facts[:3]))) < 5_000
    assert call.key == make_key("x" * 10_000, "a", "t" * 10_000)
    assert make_key("x" * 10_000, "a", "b") != make_key("x" * 10_001, "a", "b")
    assert make_key("x" * 100, "a", "b") == ("x" * 100, "a", "b")


@pytest.mark.parametrize(
    ("statuses", "result"),
    [
        ((200, 202), "answered"), ((300, 302), "redirected"), ((486, 600), "busy"), ((480,), "no-answer"),
        ((487,), "cancelled"), ((603,), "refused"), ((404, 410, 484, 604), "unreachable"),
        ((408, 500, 503, 504), "failed"), ((400, 401, 403, 407, 488, 502, 606), "other"),
    ],
)  # fmt: skip
def test_the_results_are_the_classes_of_rfc_6076(statuses: tuple[int, ...], result: str) -> None:
    assert {result_of(status) for status in statuses} == {result}
