"""One message from bytes: what is taken, what is refused, and what can be answered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.sip.message import Request, Response, make_response
from farm.sip.parser import Malformed, ParserLimits, parse
from tests.support.messages import SDP, make_request, request_bytes, response_bytes
from tests.support.strategies import messages, requests, texts, unknown_names

LIMITS = ParserLimits()


def refuse(data: bytes, limits: ParserLimits = LIMITS) -> Malformed:
    """The refusal of these bytes."""
    with pytest.raises(Malformed) as caught:
        parse(data, limits)
    return caught.value


def test_the_fields_every_request_has_are_filled() -> None:
    request = make_request("MESSAGE", "sip:bob@h", to="<sip:b@h>;tag=t", cseq=7, body=b"hi")
    assert (request.method, request.uri_text, str(request.uri)) == ("MESSAGE", "sip:bob@h", "sip:bob@h")
    assert request.top_via is not None
    assert request.top_via.branch == "z9hG4bK74bf9"
    assert (request.from_tag, request.to_tag, request.call_id) == ("9fxced76sl", "t", "3848276298220188511@192.0.2.101")
    assert (request.cseq, request.cseq_method, request.body) == (7, "MESSAGE", b"hi")


@pytest.mark.parametrize(
    ("from_", "to", "tags"),
    [
        ("<sip:a@h>;tag=1", "<sip:a@h>", ("1", "")),
        ("A <sip:a@h>;x;tag=1", "A <sip:a@h>;x", ("1", "")),
        ("<sip:a@h>;tag=1", "<sip:a@h>;tag=2", ("1", "2")),
        ("<sip:a@h>", "<sip:b@h>;tag=2", ("", "2")),
    ],
)
def test_who_registers_himself_has_his_tags_read_all_the_same(from_: str, to: str, tags: tuple[str, str]) -> None:
    request = make_request("REGISTER", "sip:h", from_=from_, to=to)
    assert (request.from_tag, request.to_tag) == tags


def test_where_registers_go_is_remembered_and_does_not_pile_up() -> None:
    limits = ParserLimits()
    first = limits.find_registrar("sip:example.com")
    assert limits.find_registrar("sip:example.com") is first
    for number in range(1000):
        limits.find_registrar(f"sip:{number}.example.com")
    assert limits.find_registrar("sip:example.com") is not first
    data = request_bytes("REGISTER", "sip:example.com")
    assert [str(parse(data, limits).uri) for _ in range(2)] == ["sip:example.com"] * 2  # type: ignore[union-attr]


def test_the_fields_every_response_has_are_filled() -> None:
    response = parse(response_bytes(183, "Session  Progress ", body=SDP), LIMITS)
    assert isinstance(response, Response)
    assert (response.status, response.phrase, response.body) == (183, "Session  Progress ", SDP)
    assert (response.to_tag, response.cseq, response.cseq_method) == ("8321234356", 1, "INVITE")
    assert response.first_line == "SIP/2.0 183 Session  Progress "


def test_octets_past_the_length_are_no_part_of_a_datagram() -> None:
    request = make_request(body=b"abcdef", content_length=3)
    assert request.body == b"abc"
    assert request.write().endswith(b"\r\n\r\nabc")


def test_without_a_length_the_body_is_the_rest_and_a_length_is_added() -> None:
    request = make_request(body=b"abc", content_length=None)
    assert request.body == b"abc"
    assert request.headers[-1] == ("content-length", "3", "Content-Length: 3")


def test_a_list_of_vias_becomes_a_line_each() -> None:
    request = make_request(via=["SIP/2.0/UDP a;branch=z9hG4bK1 ,SIP/2.0/UDP b", 'SIP/2.0/UDP c;x="1,2"'])
    assert [header for header in request.headers if header[0] == "via"] == [
        ("via", "SIP/2.0/UDP a;branch=z9hG4bK1", "Via: SIP/2.0/UDP a;branch=z9hG4bK1"),
        ("via", "SIP/2.0/UDP b", "Via: SIP/2.0/UDP b"),
        ("via", 'SIP/2.0/UDP c;x="1,2"', 'Via: SIP/2.0/UDP c;x="1,2"'),
    ]
    assert request.top_via is not None
    assert request.top_via.host == "a"


def test_lines_may_end_in_a_bare_line_feed() -> None:
    data = request_bytes(body=b"a\nb")
    bare = data.replace(b"\r\n", b"\n")
    assert parse(bare, LIMITS).write() == data
    assert parse(b"\r\n\r\n\n" + data, LIMITS).write() == data
    assert parse(data.replace(b"\r\n", b"\n", 3), LIMITS).write() == data


def test_a_datagram_may_lack_its_empty_line_but_not_end_mid_line() -> None:
    data = request_bytes()
    assert parse(data[:-2], LIMITS).write() == data
    assert refuse(data[:-4]).reason == "truncated"


def test_methods_are_case_sensitive_and_versions_are_not() -> None:
    request = parse(request_bytes("invite").replace(b"SIP/2.0\r", b"sip/2.0\r"), LIMITS)
    assert isinstance(request, Request)
    assert request.method == "invite"
    assert request.write().startswith(b"invite sip:bob@example.com SIP/2.0\r\n")
    assert isinstance(parse(response_bytes().replace(b"SIP/2.0 200", b"Sip/2.0 200"), LIMITS), Response)


@pytest.mark.parametrize(
    ("old", "new", "status", "reason"),
    [
        (b"INVITE sip:bob@example.com SIP/2.0", b"INVITE sip:bob@example.com", 400, "bad-start-line"),
        (b"INVITE sip:bob@example.com SIP/2.0", b"INVITE sip:bob@example.com SIP/2.0 ", 400, "bad-start-line"),
        (b"INVITE sip:bob@example.com SIP/2.0", b"INVITE\tsip:bob@example.com SIP/2.0", 400, "bad-start-line"),
        (b"SIP/2.0\r\n", b"SIP/3.0\r\n", 505, "bad-version"),
        (b"SIP/2.0\r\n", b"SIP/2\r\n", 400, "bad-start-line"),
        (b"SIP/2.0\r\n", b"HTTP/1.1\r\n", 400, "bad-start-line"),
        (b"sip:bob@example.com SIP", b"sip:bob@exa_mple.com SIP", 400, "bad-uri"),
        (b"sip:bob@example.com SIP", b"sip:bob@example.com?a=b SIP", 400, "uri-headers"),
        (b"sip:bob@example.com SIP", b"sip:" + b"b" * 2045 + b" SIP", 414, "uri-too-long"),
        (b"Max-Forwards:", b"Max Forwards:", 400, "bad-header-name"),
        (b"Max-Forwards:", b"Max-Forwards\x01:", 400, "control-character"),
        (b"Max-Forwards:", b"Max-Forwards\x00 :", 400, "control-character"),
        (b"Max-Forwards:", b"Max-Forwards\xc2\xa0:", 400, "bad-header-name"),
        (b"Max-Forwards:", b"Max-Forwards\x0b:", 400, "control-character"),
        (b"Max-Forwards: 70", b"Max-Forwards 70", 400, "bad-header"),
        (b"Max-Forwards:", b":", 400, "bad-header-name"),
        (b"Max-Forwards: 70", b"Max-Forwards: 7\r0", 400, "control-character"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r", 400, "control-character"),
        (b"Max-Forwards: 70", b"Max-Forwards: 7\x000", 400, "control-character"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\x7f", 400, "control-character"),
        (b"Via: SIP/2.0/UDP", b"Via: SIP/2.0 UDP", 400, "bad-via"),
        (b"From: Alice <", b"From: Alice, A. <", 400, "bad-parameter"),
        (b"From: ", b"X-From: ", 400, "missing-from"),
        (b"To: ", b"X-To: ", 400, "missing-to"),
        (b"Via: ", b"X-Via: ", 400, "missing-via"),
        (b"CSeq: ", b"X-CSeq: ", 400, "missing-cseq"),
        (b"Call-ID: ", b"X-Call-ID: ", 400, "missing-call-id"),
        (b"Call-ID: 3848276298220188511@", b"Call-ID: a b@", 400, "bad-call-id"),
        (b"Call-ID: 3848276298220188511@", b"Call-ID: a@b@", 400, "bad-call-id"),
        (b"CSeq: 1 INVITE", b"CSeq: 1 invite", 400, "cseq-mismatch"),
        (b"CSeq: 1 INVITE", b"CSeq: 2147483648 INVITE", 400, "bad-cseq"),
        (b"CSeq: 1 INVITE", b"CSeq: \xd9\xa3 INVITE", 400, "bad-cseq"),
        (b"CSeq: 1 INVITE", b"CSeq: INVITE", 400, "bad-cseq"),
        (b"CSeq: 1 INVITE", b"CSeq: 1", 400, "bad-cseq"),
        (b"Content-Length: 0", b"Content-Length: +0", 400, "bad-content-length"),
        (b"Content-Length: 0", b"Content-Length: 00000000000", 400, "bad-content-length"),
        (b"Content-Length: 0", b"Content-Length: 1", 400, "short-body"),
        (b"Content-Length: 0", b"Content-Length: 0\r\nl: 0", 400, "repeated-content-length"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nMAX-FORWARDS : 70", 400, "repeated-max-forwards"),
        (b"To: ", b"t: sip:x@h\r\nTo: ", 400, "repeated-to"),
    ],
)
def test_a_broken_request_is_refused_with_its_reason(old: bytes, new: bytes, status: int, reason: str) -> None:
    data = request_bytes()
    assert data.count(old) == 1
    error = refuse(data.replace(old, new))
    assert (error.status, error.reason) == (status, reason)


@pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq", "Max-Forwards", "Expires", "Content-Type"])
def test_what_may_stand_once_is_refused_twice(name: str) -> None:
    request = make_request(headers=["Expires: 5", "Content-Type: text/plain"])
    line = next(header[2] for header in request.headers if header[0] == name.lower())
    data = request.write().replace(b"\r\nContact:", f"\r\n{line}\r\nContact:".encode())
    assert refuse(data).reason == f"repeated-{name.lower()}"


@pytest.mark.parametrize("name", ["Allow", "Supported", "Route", "X-Any", "Authorization", "Contact"])
def test_other_headers_may_stand_as_often_as_they_like(name: str) -> None:
    assert make_request(headers=[f"{name}: <a>", f"{name}: <b>"]).all(name.lower())[-2:] == ["<a>", "<b>"]


def test_a_control_character_may_stand_escaped_in_a_quoted_string() -> None:
    request = make_request(to='"NUL:\\\x00 BEL:\\\x07" <sip:bob@example.com>')
    assert request.find("to") == '"NUL:\\\x00 BEL:\\\x07" <sip:bob@example.com>'


def test_line_separators_of_unicode_separate_no_lines() -> None:
    request = make_request(headers=["Subject: a\u2028To: x\u0085b\u2029c"])
    assert request.find("subject") == "a\u2028To: x\u0085b\u2029c"


def test_values_lose_no_white_space_but_spaces_and_tabs() -> None:
    assert make_request(headers=["Subject: \t\u00a0a\u3000 "]).find("subject") == "\u00a0a\u3000"


def test_a_header_folded_before_its_first_line_is_no_message() -> None:
    data = request_bytes()
    assert refuse(b" " + data).request is None
    assert refuse(data.replace(b"SIP/2.0\r\n", b"SIP/2.0\r\n folded: x\r\n", 1)).reason == "bad-start-line"


def test_limits_have_clear_answers() -> None:
    limits = ParserLimits(header_bytes=2000, header_count=20, uri_bytes=40, via_depth=3, body_bytes=10)
    assert parse(request_bytes(headers=[f"X: {'x' * 1500}"]), limits)
    assert refuse(request_bytes(headers=[f"X: {'x' * 2000}"]), limits).status == 513
    assert refuse(request_bytes(headers=[f"X: {'x' * 2000}", " fold"]), limits).status == 513
    assert parse(request_bytes(headers=["X: x"] * 12), limits)
    assert refuse(request_bytes(headers=["X: x"] * 15), limits).status == 513
    assert refuse(request_bytes(uri="sip:" + "a" * 37), limits).status == 414
    assert parse(request_bytes(via=["SIP/2.0/UDP h"] * 3), limits)
    assert refuse(request_bytes(via=["SIP/2.0/UDP h"] * 4), limits).status == 483
    assert refuse(request_bytes(via=", ".join(["SIP/2.0/UDP h"] * 4)), limits).status == 483
    assert parse(request_bytes(body=b"a" * 10), limits)
    error = refuse(request_bytes(body=b"a" * 11), limits)
    assert error.status == 413
    assert error.request is not None


def test_a_refused_request_can_be_answered_with_what_could_be_read() -> None:
    data = request_bytes(
        via=["SIP/2.0/UDP a;branch=z9hG4bK1", "SIP/2.0/UDP b:5070;branch=z9hG4bK2, SIP/2.0/UDP c"],
        to='"never closed <sip:bob@h>;tag=x',
        headers=["Via: SIP/2.0/UDP d", "To: <sip:second@h>"],
    )
    error = refuse(data)
    assert error.request is not None
    assert error.request.top_via is not None
    assert (error.request.top_via.host, error.request.top_via.branch) == ("a", "z9hG4bK1")
    assert make_response(error.request, error.status, error.phrase, to_tag="mine").write() == (
        b"SIP/2.0 400 Repeated To\r\n"
        b"Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n"
        b"Via: SIP/2.0/UDP b:5070;branch=z9hG4bK2\r\n"
        b"Via: SIP/2.0/UDP c\r\n"
        b"Via: SIP/2.0/UDP d\r\n"
        b"From: Alice <sip:alice@example.com>;tag=9fxced76sl\r\n"
        b'To: "never closed <sip:bob@h>;tag=x\r\n'
        b"Call-ID: 3848276298220188511@192.0.2.101\r\n"
        b"CSeq: 1 INVITE\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


def test_a_broken_via_is_answered_as_far_as_it_can_be_read() -> None:
    error = refuse(request_bytes(via="SIP/2.0/UDP 192.0.2.15:5070;branch=z9hG4bKx;;,;,,"))
    assert error.request is not None
    assert error.request.all("via") == ["SIP/2.0/UDP 192.0.2.15:5070;branch=z9hG4bKx"]
    assert error.request.top_via is not None
    assert error.request.top_via.with_source("192.0.2.9", 4) == (
        "SIP/2.0/UDP 192.0.2.15:5070;branch=z9hG4bKx;received=192.0.2.9"
    )


def test_an_answer_to_another_version_keeps_its_via() -> None:
    data = request_bytes(via="SIP/7.0/UDP h;branch=z9hG4bKx;rport").replace(b" SIP/2.0\r\n", b" SIP/7.0\r\n")
    error = refuse(data)
    assert error.status == 505
    assert error.request is not None
    assert error.request.top_via is not None
    assert error.request.top_via.with_source("192.0.2.9", 4) == (
        "SIP/7.0/UDP h;branch=z9hG4bKx;rport=4;received=192.0.2.9"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\x00",
        b"hello",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"INVITE\r\n\r\n",
        request_bytes(via=None),
        request_bytes(via="nonsense"),
        request_bytes(via="SIP/2.0/UDP 999.1.1.1"),
        request_bytes(cseq=None),
        request_bytes(cseq="x"),
        request_bytes("ACK", to=None),
        request_bytes("ACK", content_length=5),
        request_bytes("BAD\x01", to=None),
        response_bytes(to=None),
        response_bytes(cseq="x"),
        response_bytes(content_length=5),
        response_bytes(99),
        response_bytes(700),
        response_bytes(4294967301),
        response_bytes().replace(b"SIP/2.0 200 OK", b"SIP/2.0 200"),
        response_bytes().replace(b"SIP/2.0 200 OK", b"SIP/2.0  200 OK"),
        response_bytes().replace(b"SIP/2.0 200 OK", b"SIP/3.0 200 OK"),
        response_bytes().replace(b"SIP/2.0 200 OK", "SIP/2.0 ٢٠٠ OK".encode()),
    ],
)
def test_what_cannot_be_answered_is_dropped(data: bytes) -> None:
    error = refuse(data)
    assert error.request is None


def test_a_line_cut_short_is_not_answered_with() -> None:
    data = request_bytes(max_forwards=None, contact=None, content_length=None)
    assert data.endswith(b"CSeq: 1 INVITE\r\n\r\n")
    assert refuse(data[:-6]).request is None
    big = request_bytes(call_id=None, cseq=None, headers=["CSeq: 1 " + "A" * 40000, "Call-ID: x"])
    assert refuse(big).request is None


def test_an_answer_never_carries_control_characters_back() -> None:
    error = refuse(request_bytes(to="<sip:bob@h>\x01", call_id="a\rVia: x"))
    assert error.request is not None
    assert [header[0] for header in error.request.headers] == ["via", "from", "cseq"]


@settings(max_examples=40)
@given(messages)
def test_a_message_written_reads_the_same(data: bytes) -> None:
    message = parse(data, LIMITS)
    assert message.write() == data
    again = parse(message.write(), LIMITS)
    assert again.headers == message.headers
    assert again.body == message.body
    assert (again.from_tag, again.to_tag, again.call_id) == (message.from_tag, message.to_tag, message.call_id)
    assert (again.cseq, again.cseq_method) == (message.cseq, message.cseq_method)


@given(unknown_names, texts)
def test_unknown_headers_survive(name: str, value: str) -> None:
    request = make_request(headers=[f"{name}: {value}"])
    assert request.find(name.lower()) == value
    assert f"\r\n{name}: {value}\r\n".encode() in request.write()


@settings(max_examples=30)
@given(requests(), st.data())
def test_folding_a_value_changes_nothing_but_its_line(data: bytes, draw: st.DataObject) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    index = draw.draw(st.integers(1, len(lines) - 1))
    name, _, value = lines[index].partition(b":")
    lines[index] = name + b" :\r\n\t" + value
    message = parse(b"\r\n".join(lines) + b"\r\n\r\n" + body, LIMITS)
    plain = parse(data, LIMITS)
    assert [header[:2] for header in message.headers] == [header[:2] for header in plain.headers]
    assert parse(message.write(), LIMITS).headers == message.headers
