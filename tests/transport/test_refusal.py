"""The stateless answer to what cannot be taken."""

from __future__ import annotations

from farm.sip.status import SipError
from farm.transport.refusal import AnswerBudget, make_refusal
from tests.support.messages import make_request

REQUEST = make_request("OPTIONS")


def test_it_carries_what_an_answer_must_and_the_headers_of_the_error() -> None:
    error = SipError(420, reason="bad-extension", headers=(("Unsupported", "nothing"),))
    answer = make_refusal(error, REQUEST, 10_000)
    assert answer is not None
    lines = answer.decode().split("\r\n")
    assert lines[0] == "SIP/2.0 420 Bad Extension"
    assert "Unsupported: nothing" in lines
    assert [line.split(":")[0] for line in lines[1:6]] == ["Via", "From", "To", "Call-ID", "CSeq"]
    assert lines[3].startswith("To: Bob <sip:bob@example.com>;tag=")


def test_the_same_request_gets_the_same_tag_and_another_one_another() -> None:
    error = SipError(400)
    first = make_refusal(error, REQUEST, 10_000)
    assert first == make_refusal(error, make_request("OPTIONS"), 10_000)
    assert first != make_refusal(error, make_request("OPTIONS", cseq=2), 10_000)


def test_an_answer_that_would_be_too_long_is_none() -> None:
    assert make_refusal(SipError(400), REQUEST, 100) is None


def test_the_budget_holds_a_burst_and_refills_by_the_second() -> None:
    budget = AnswerBudget()
    assert sum(budget.take(5.0) for _ in range(500)) == 100
    assert sum(budget.take(5.5) for _ in range(500)) == 50
    assert sum(budget.take(1000.0) for _ in range(500)) == 100
