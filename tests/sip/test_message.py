"""Messages as values: reading headers, writing, answering."""

from __future__ import annotations

import pytest

from farm.sip.message import Message, Request, Response, make_header, make_response
from farm.sip.parser import ParserLimits, parse
from farm.sip.status import SipError
from tests.support.messages import SDP, make_request, request_bytes


def test_a_header_of_ours_has_its_usual_spelling() -> None:
    assert make_header("call-id", "x") == ("call-id", "x", "Call-ID: x")
    assert make_header("www-authenticate", "x")[2] == "WWW-Authenticate: x"
    assert make_header("x-new-thing", "x")[2] == "X-New-Thing: x"


def test_headers_are_found_by_their_canonical_name() -> None:
    request = make_request(headers=["Route: <sip:a;lr>, <sip:b;lr>", "X-A: 1", "ROUTE: <sip:c;lr>"])
    assert request.find("route") == "<sip:a;lr>, <sip:b;lr>"
    assert request.all("route") == ["<sip:a;lr>, <sip:b;lr>", "<sip:c;lr>"]
    assert request.values("route") == ["<sip:a;lr>", "<sip:b;lr>", "<sip:c;lr>"]
    assert request.has("x-a")
    assert not request.has("x-b")
    assert request.find("x-b") is None


def test_a_list_in_one_line_equals_the_header_repeated() -> None:
    one = make_request(headers=['Contact: "a, b" <sip:x>;q=1, sip:y'], contact=None)
    other = make_request(headers=['m: "a, b" <sip:x>;q=1', "Contact: sip:y"], contact=None)
    assert one.values("contact") == other.values("contact") == ['"a, b" <sip:x>;q=1', "sip:y"]


def test_what_nobody_edits_leaves_as_it_came() -> None:
    data = (
        b"INVITE sip:bob@example.com SIP/2.0\r\nv :  SIP/2.0/UDP h;branch=z9hG4bK1\r\nf:<sip:a@h>;tag=1\r\n"
        b"tO: \t<sip:b@h>\r\nX-Folded: one\r\n  two\r\n\tthree\r\ni: x@y\r\ncseq:  1   INVITE\r\nX-Latin: \xe9\xff\r\n"
        b"L: 3\r\n\r\nab\xff"
    )
    message = parse(data, ParserLimits())
    assert message.write() == data
    assert message.find("x-folded") == "one two three"
    assert message.find("x-latin") == "\udce9\udcff"


def test_the_request_uri_is_parsed_when_asked_for() -> None:
    request = Request("INVITE", "sip:bob@h", [])
    assert request.uri is request.uri
    assert request.uri.user == "bob"
    with pytest.raises(SipError):
        _ = Request("INVITE", "<sip:bob@h>", []).uri


def test_a_bare_message_has_no_first_line() -> None:
    with pytest.raises(NotImplementedError):
        _ = Message([]).first_line


def test_an_answer_copies_what_the_rfc_says_and_counts_its_body() -> None:
    request = make_request(
        via=["SIP/2.0/UDP a;branch=z9hG4bK1", "SIP/2.0/UDP b;branch=z9hG4bK2"], headers=["Timestamp: 5", "Subject: x"]
    )
    response = make_response(request, 404, to_tag="new", headers=[make_header("server", "x")], body=b"gone")
    assert response.write() == (
        b"SIP/2.0 404 Not Found\r\n"
        b"Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n"
        b"Via: SIP/2.0/UDP b;branch=z9hG4bK2\r\n"
        b"From: Alice <sip:alice@example.com>;tag=9fxced76sl\r\n"
        b"To: Bob <sip:bob@example.com>;tag=new\r\n"
        b"Call-ID: 3848276298220188511@192.0.2.101\r\n"
        b"CSeq: 1 INVITE\r\n"
        b"Server: x\r\n"
        b"Content-Length: 4\r\n\r\ngone"
    )
    again = parse(response.write(), ParserLimits())
    assert isinstance(again, Response)
    assert (again.to_tag, again.from_tag, again.call_id) == (response.to_tag, response.from_tag, response.call_id)
    assert (again.cseq, again.cseq_method, again.status) == (response.cseq, response.cseq_method, 404)


def test_an_answer_keeps_the_tag_that_the_request_had() -> None:
    request = make_request(to="<sip:bob@example.com>;tag=old")
    assert make_response(request, 200, to_tag="new").to_tag == "old"
    assert make_response(request, 200, to_tag="new").find("to") == "<sip:bob@example.com>;tag=old"


def test_a_response_is_written_with_its_phrase() -> None:
    assert Response(299, "Да", []).write() == "SIP/2.0 299 Да\r\n\r\n".encode()


def test_a_built_request_is_the_text_that_was_parsed() -> None:
    assert make_request(body=SDP).write() == request_bytes(body=SDP)
