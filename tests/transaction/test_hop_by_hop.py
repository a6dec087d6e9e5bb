"""ACK of a failure and CANCEL: made from the request that they follow, for the one hop that it went."""

from __future__ import annotations

from farm.sip.message import Request
from farm.sip.parser import parse
from farm.sip.via import parse_via
from farm.transaction.hop_by_hop import make_ack, make_cancel, make_orphan_ack
from tests.support.messages import LIMITS, make_reply, make_request

VIAS = ["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours", "SIP/2.0/UDP 192.0.2.101;branch=z9hG4bKtheirs"]
HEADERS = [
    "Route: <sip:p1.example.com;lr>",
    "Require: 100rel",
    "Proxy-Require: sec-agree",
    "Supported: timer",
    "Route: <sip:p2.example.com;lr>",
    "Record-Route: <sip:192.0.2.1;lr>",
    "Proxy-Authorization: Digest username=alice",
    "Content-Type: application/sdp",
]


def make_invite(**changes: object) -> Request:
    return make_request("INVITE", "sip:bob@192.0.2.201", via=VIAS, headers=HEADERS, cseq=314159, body=b"v=0\r\n")


def lines(request: Request) -> list[str]:
    return request.write().decode().split("\r\n")


def test_the_ack_of_a_busy_phone_carries_its_tag_and_our_via_alone() -> None:
    """§17.1.1.3."""
    invite = make_invite()
    busy = make_reply(486, "Busy Here", via=VIAS, to="Bob <sip:bob@example.com>;tag=busy", cseq=314159)
    assert lines(make_ack(invite, busy)) == [
        "ACK sip:bob@192.0.2.201 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours",
        "Max-Forwards: 70",
        "From: Alice <sip:alice@example.com>;tag=9fxced76sl",
        "To: Bob <sip:bob@example.com>;tag=busy",
        "Call-ID: 3848276298220188511@192.0.2.101",
        "CSeq: 314159 ACK",
        "Route: <sip:p1.example.com;lr>",
        "Route: <sip:p2.example.com;lr>",
        "Content-Length: 0",
        "",
        "",
    ]


def test_a_cancel_looks_like_its_invite_and_demands_nothing() -> None:
    """§9.1: To as in the request, no Require, no Proxy-Require."""
    assert lines(make_cancel(make_invite())) == [
        "CANCEL sip:bob@192.0.2.201 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours",
        "Max-Forwards: 70",
        "From: Alice <sip:alice@example.com>;tag=9fxced76sl",
        "To: Bob <sip:bob@example.com>",
        "Call-ID: 3848276298220188511@192.0.2.101",
        "CSeq: 314159 CANCEL",
        "Route: <sip:p1.example.com;lr>",
        "Route: <sip:p2.example.com;lr>",
        "Content-Length: 0",
        "",
        "",
    ]


def test_a_cancel_says_why_when_there_is_a_reason() -> None:
    """RFC 3326."""
    reason = 'SIP;cause=200;text="Call completed elsewhere"'
    with_reason = lines(make_cancel(make_invite(), reason))
    assert with_reason[-4:] == [f"Reason: {reason}", "Content-Length: 0", "", ""]
    assert [line for line in with_reason if not line.startswith("Reason")] == lines(make_cancel(make_invite()))


def test_odd_white_space_in_cseq_does_not_spoil_what_follows() -> None:
    for cseq in ("7\tINVITE", "7   INVITE", "0007 INVITE"):
        cancel = parse(make_cancel(make_request(cseq=cseq)).write(), LIMITS)
        assert (cancel.cseq, cancel.cseq_method) == (7, "CANCEL")


def test_lines_are_copied_as_they_came() -> None:
    """Two hops that read a From differently must read both messages alike."""
    invite = make_request(from_='"Ali\\"ce"   <sip:alice@example.com>  ;  tag=1;x="y"')
    line = next(line for line in lines(invite) if line.startswith("From"))
    assert line in lines(make_cancel(invite))


def test_an_answer_without_to_is_acknowledged_with_ours() -> None:
    busy = make_reply(486, "Busy Here")
    busy.headers = [header for header in busy.headers if header[0] != "to"]
    assert "To: Bob <sip:bob@example.com>" in lines(make_ack(make_invite(), busy))


def test_the_ack_for_an_element_that_is_no_more_has_its_branch() -> None:
    """What a server knows an ACK by (§17.2.3); what its phone added to the Via stays behind."""
    top = "SIP/2.0/TCP [2001:db8::1]:5070;received=2001:db8::1;branch=z9hG4bKours;rport=9"
    busy = make_reply(486, "Busy Here", via=[top, VIAS[1]], to="Bob <sip:bob@example.com;x=1>;tag=busy", cseq=314159)
    assert lines(make_orphan_ack(busy, parse_via(top))) == [
        "ACK sip:bob@example.com;x=1 SIP/2.0",
        "Via: SIP/2.0/TCP [2001:db8::1]:5070;branch=z9hG4bKours",
        "Max-Forwards: 70",
        "From: Alice <sip:alice@example.com>;tag=9fxced76sl",
        "To: Bob <sip:bob@example.com;x=1>;tag=busy",
        "Call-ID: 3848276298220188511@192.0.2.101",
        "CSeq: 314159 ACK",
        "Content-Length: 0",
        "",
        "",
    ]
