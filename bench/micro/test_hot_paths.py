"""Micro-benchmarks of what every message passes: parse, write, answer, URI, merge. By hand, with pytest-benchmark:

    pytest bench/micro --benchmark-columns=min,median,stddev

They find where time goes and show what a change did; no figure is a test, since a loaded machine would fail it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.registrar.binding import RegistrationKind
from farm.registrar.record import Contact, Entry, Record, Register
from farm.sip.framing import StreamFramer
from farm.sip.message import Request, make_response
from farm.sip.parser import ParserLimits, parse
from farm.sip.uri import aor_of, parse_uri, uri_key

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

LIMITS = ParserLimits()
REGISTER = (
    b"REGISTER sip:example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-1---1f5a2b3c4d;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Alice" <sip:alice@example.com>;tag=4f1c2b\r\n'
    b'To: "Alice" <sip:alice@example.com>\r\n'
    b"Call-ID: 88716-1f5a2b3c4d@192.0.2.10\r\n"
    b"CSeq: 1 REGISTER\r\n"
    b"Contact: <sip:alice@192.0.2.10:5060;transport=udp>;expires=3600\r\n"
    b"User-Agent: Phone/1.0\r\n"
    b"Supported: path, outbound\r\n"
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n"
    b"Content-Length: 0\r\n\r\n"
)
SDP = b"v=0\r\no=a 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
INVITE = (
    b"INVITE sip:bob@example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-1---1f5a2b3c4d;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:alice@example.com>;tag=4f1c2b\r\n"
    b"To: <sip:bob@example.com>\r\n"
    b"Call-ID: 88716-1f5a2b3c4d@192.0.2.10\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: <sip:alice@192.0.2.10:5060>\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(SDP), SDP)
)
CONTACT = "sip:alice@192.0.2.10:5060;transport=udp"


def make_record(key: str, call_id: str, cseq: int) -> Record:
    """A record of one binding with one register."""
    return Record([Entry(key, [Register(call_id, cseq, cseq << 16, 1, 1000 * cseq, 3600, Contact(""))])])


def test_parse_a_register(benchmark: BenchmarkFixture) -> None:
    benchmark(parse, REGISTER, LIMITS)


def test_parse_an_invite(benchmark: BenchmarkFixture) -> None:
    benchmark(parse, INVITE, LIMITS)


def test_write_an_invite(benchmark: BenchmarkFixture) -> None:
    benchmark(parse(INVITE, LIMITS).write)


def test_answer_an_invite(benchmark: BenchmarkFixture) -> None:
    request = parse(INVITE, LIMITS)
    assert isinstance(request, Request)
    benchmark(lambda: make_response(request, 100).write())


def test_frame_an_invite_from_a_stream(benchmark: BenchmarkFixture) -> None:
    framer = StreamFramer(LIMITS)
    benchmark(framer.receive, INVITE)


def test_parse_a_uri(benchmark: BenchmarkFixture) -> None:
    benchmark(parse_uri, CONTACT)


def test_canonical_forms_of_a_uri(benchmark: BenchmarkFixture) -> None:
    uri = parse_uri(CONTACT)
    benchmark(lambda: (aor_of(uri), uri_key(uri)))


def test_merge_a_refresh_into_a_record(benchmark: BenchmarkFixture) -> None:
    kind = RegistrationKind()
    held = kind.pack(make_record(CONTACT, "one", 1))
    refresh = kind.pack(make_record(CONTACT, "one", 2))
    benchmark(kind.merge, held, refresh, 3.0)
