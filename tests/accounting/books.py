"""INVITEs, answers and BYEs for the account of calls, and writers that remember what they were given."""

from __future__ import annotations

from typing import NamedTuple

from farm.accounting.call import Call
from farm.accounting.calls import Calls
from farm.metrics import Metrics
from farm.sip.hop import Hop
from farm.sip.message import Request, Response, make_response
from farm.sip.parser import ParserLimits, parse
from tests.support.counts import read

SOURCE = Hop("UDP", "192.0.2.101", 5060, "udp:192.0.2.1:5060")
PHONE = Hop("TCP", "192.0.2.102", 5070, "#7")
_LIMITS = ParserLimits()


class Way(NamedTuple):
    """Where an INVITE went."""

    node: int = 7
    hop: Hop = PHONE
    uri_text: str = "sip:bob@192.0.2.102:5070;transport=tcp"


def make_invite(call_id: str = "c1", *, to: str = "<sip:bob@example.com>", method: str = "INVITE") -> Request:
    """Alice calls bob."""
    text = (
        f"{method} sip:bob@example.com SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1\r\n"
        'From: "Alice" <sip:alice@example.com>;tag=a\r\n'
        f"To: {to}\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    request = parse(text.encode(), _LIMITS)
    assert isinstance(request, Request)
    request.source = SOURCE
    return request


def make_answer(request: Request, tag: str = "b", status: int = 200) -> Response:
    """Somebody answers."""
    return make_response(request, status, to_tag=tag)


def make_bye(call_id: str = "c1", *, by_callee: bool = False, tag: str = "b", method: str = "BYE") -> Request:
    """One of them hangs up."""
    request = make_invite(call_id, to=f"<sip:bob@example.com>;tag={tag}", method=method)
    if by_callee:
        request.from_tag, request.to_tag = request.to_tag, request.from_tag
    return request


class Written:
    """`calls.Writer`."""

    def __init__(self) -> None:
        self.answers: list[Call] = []
        self.ends: list[Call] = []
        self.interruptions: list[Call] = []

    def write_answer(self, call: Call, now: float) -> None:
        """It was answered."""
        self.answers.append(call)

    def write_end(self, call: Call, now: float) -> None:
        """It ended."""
        self.ends.append(call)

    def write_interruption(self, call: Call, now: float) -> None:
        """It goes on."""
        self.interruptions.append(call)


class Desk:
    """Calls, with what they write and count."""

    def __init__(self, *, most_calls: int = 100, longest_seconds: float = 1000.0) -> None:
        self.metrics = Metrics()
        self.written = Written()
        self.calls = Calls(self.metrics, self.written, most_calls=most_calls, longest_seconds=longest_seconds)

    def answer(self, call_id: str = "c1", tag: str = "b", at: float = 10.0) -> Call:
        """A call that was answered at that time, two seconds after its INVITE."""
        request = make_invite(call_id)
        call = self.calls.begin(request, at - 2, "sip:alice@example.com")
        call.answer(make_answer(request, tag), Way(), [200], at)
        return call

    def count(self, family: str, *labels: str) -> float:
        """What a metric reads."""
        return read(getattr(self.metrics, family).child(*labels))
