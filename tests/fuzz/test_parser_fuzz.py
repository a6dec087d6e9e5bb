"""Any bytes become a message or a SipError, nothing else: whole, cut, and in everything that is read on demand.

SIPFARM_FUZZ_MESSAGES (200,000), SIPFARM_FUZZ_SECONDS (120) and SIPFARM_FUZZ_SEED (another each time, printed) say how
much; a run that does not get through its messages in time fails.
"""

from __future__ import annotations

import os
import random
import re
import time

from farm.sip import headers
from farm.sip.address import check_address, parse_address
from farm.sip.digest import find_credentials
from farm.sip.framing import Broken, Frame, StreamFramer
from farm.sip.message import Message, Request, Response, make_response
from farm.sip.parser import Malformed, ParserLimits, parse
from farm.sip.status import SipError
from farm.sip.uri import aor_of, parse_uri, uri_key, uris_equal
from tests.sip.verdicts import VERDICTS
from tests.support.messages import SDP, register_bytes, request_bytes, response_bytes

LIMITS = ParserLimits(body_bytes=4096)

CREDENTIALS = (
    'Digest username="alice", realm="example.com", nonce="84a4cc6f", uri="sip:example.com", '
    'response="7587245234b3434cc3412213e5f113a5", algorithm=MD5, qop=auth, nc=00000001, cnonce="0a4f"'
)

SEEDS: tuple[bytes, ...] = (
    request_bytes(body=SDP, headers=["Content-Type: application/sdp", "Route: <sip:a.example;lr>, <sip:b.example;lr>"]),
    request_bytes(
        "BYE", to="<sip:bob@[2001:db8::7]:5070>;tag=x", via="SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK1;rport"
    ),
    request_bytes("ACK", max_forwards=0, via=["SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b", "SIP/2.0/TLS c"]),
    request_bytes("OPTIONS", "tel:+49-30-12;phone-context=x.de", headers=["Require: path, gruu", "Proxy-Require: sec"]),
    register_bytes(
        contact='"A, B" <sip:a@h;x=%41?Route=%3Csip:b%3E>;q=0.7;expires=60, sip:c@d', headers=["Expires: 7200"]
    ),
    register_bytes(headers=[f"Authorization: {CREDENTIALS}", f"Proxy-Authorization: {CREDENTIALS}"]),
    register_bytes(contact="*", headers=["Expires: 0", "Path: <sip:edge;lr;ob>", "Supported: path,outbound"]),
    response_bytes(200, "OK", body=SDP, contact="<sip:bob@192.0.2.4:5060;transport=tcp>"),
    response_bytes(180, "Ringing", headers=["Record-Route: <sip:p1;lr>, <sip:p2;lr>", "Max-Breadth: 60"]),
    *[verdict.data for verdict in VERDICTS],
)

PIECES: tuple[bytes, ...] = (
    *[
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n ",
        b"\r\n\t",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b'"',
        b'\\"',
        b"\\",
        b"<",
        b">",
        b",",
        b";",
        b"=",
    ],
    *[
        b":",
        b"?",
        b"@",
        b"%",
        b"%00",
        b"%4",
        b"[",
        b"]",
        b":::",
        b"\x00",
        b"\x7f",
        b"\xff",
        b"\xc3\xa4",
        b"\xe2\x80\xa8",
    ],
    *[
        b"\xc2\x85",
        b"\xd9\xa3",
        b"0",
        b"-1",
        b"4294967296",
        b"99999999999",
        b"1_0",
        b"SIP/2.0",
        b"SIP/7.0",
        b"sip:",
        b"tel:",
    ],
    *[
        b"l: 5\r\n",
        b"Via: SIP/2.0/UDP h\r\n",
        b"t: ",
        b";tag=",
        b";branch=z9hG4bK",
        b";rport",
        b";received=",
        b";q=",
        b"*",
    ],
    *[
        b"Contact: ",
        b"Route: ",
        b"Expires: ",
        b"Max-Forwards: ",
        b"CSeq: 1 INVITE\r\n",
        b";expires=",
        b"[::1]",
        b"1.2.3.4",
    ],
    *[b"A" * 300, b";a" * 50, b"," * 60, b'"' * 33, b"Via: SIP/2.0/UDP h\r\n" * 71],
)

NUMBER = re.compile(rb"[0-9]+")
CONTROL = re.compile(rb"(?<!\\)[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

READERS = (
    headers.vias,
    headers.contacts,
    headers.routes,
    headers.paths,
    headers.max_forwards,
    headers.max_breadth,
    headers.expires,
    headers.require,
    headers.proxy_require,
    headers.supported,
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """The message with one to four things done to it that nobody would do on purpose."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        size = len(data)
        at = rng.randrange(size + 1)
        to = min(size, at + rng.choice((1, 1, 2, 5, 20, 100)))
        kind = rng.randrange(9)
        if kind == 0:
            data = data[:at] + data[to:]
        elif kind <= 2:
            data = data[:at] + rng.choice(PIECES) + data[at:]
        elif kind == 3:
            data = data[:at] + rng.choice(PIECES) + data[to:]
        elif kind == 4:
            data = data[:at] + rng.randbytes(to - at) + data[to:]
        elif kind == 5:
            data = data[:to] + data[at:]
        elif kind == 6:
            other = rng.choice(SEEDS)
            data = data[:at] + other[rng.randrange(len(other)) :]
        elif kind == 7:
            lines = data.split(b"\r\n")
            one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[one], lines[two] = lines[two], lines[one]
            data = b"\r\n".join(lines)
        else:
            number = rng.choice((b"0", b"5", b"00000000000", b"2147483648", b"-1", b"65536", b""))
            data = NUMBER.sub(number, data, count=rng.randrange(1, 12)) if rng.random() < 0.5 else data[:at]
    return data


def read_everything(message: Message) -> None:
    """Whatever a proxy or registrar may ask a message for."""
    for read in READERS:
        try:
            read(message)
        except SipError as error:
            check_error(error)
    for name in ("from", "to", "contact", "refer-to"):
        for text in message.values(name):
            try:
                address = parse_address(text)
                headers.contact_expires(address)
                headers.quality(address)
                check_address(text)
            except SipError as error:
                check_error(error)
    for name in ("authorization", "proxy-authorization"):
        try:
            find_credentials(message, name, "example.com")
        except SipError as error:
            check_error(error)
    assert message.top_via is not None
    message.top_via.with_source("192.0.2.1", 5060)
    message.top_via.with_source("2001:db8::1", 5060)
    assert message.top_via.sent_by
    if isinstance(message, Request):
        uri = message.uri
        assert uris_equal(uri, parse_uri(str(uri)))
        assert uri_key(uri)
        assert parse_uri(aor_of(uri))
        make_response(message, 200, to_tag="x").write()


def check_error(error: SipError) -> None:
    """A refusal that could be sent and counted."""
    assert 400 <= error.status <= 699
    assert error.reason.isascii()
    assert error.reason
    assert len(error.reason) < 40


def check_answer(request: Request, error: SipError) -> None:
    """A refused request of which an answer can be made."""
    assert request.top_via is not None
    assert request.cseq_method
    request.top_via.with_source("192.0.2.1", 5060)
    answer = make_response(request, error.status, error.phrase, to_tag="x").write()
    assert CONTROL.search(answer) is None


def check_whole(data: bytes) -> None:
    """These bytes as one datagram."""
    try:
        message = parse(data, LIMITS)
    except Malformed as error:
        check_error(error)
        if error.request is not None:
            check_answer(error.request, error)
        return
    written = message.write()
    again = parse(written, LIMITS)
    assert again.headers == message.headers
    assert again.body == message.body
    assert again.write() == written
    assert isinstance(message, (Request, Response))
    read_everything(message)


def show(frames: list[Frame]) -> list[object]:
    """Frames in a form that compares."""
    return [frame.error.reason if isinstance(frame, Broken) else frame for frame in frames]


def check_stream(data: bytes, rng: random.Random, *, singly: bool) -> None:
    """These bytes as a stream: the same however it is cut, and every frame ends where its parser says."""
    whole = StreamFramer(LIMITS).receive(data)
    framer = StreamFramer(LIMITS)
    frames: list[Frame] = []
    if singly:
        for index in range(len(data)):
            frames += framer.receive(data[index : index + 1])
    else:
        begin = 0
        for cut in sorted([rng.randrange(len(data) + 1) for _ in range(3)] + [len(data)]):
            frames += framer.receive(data[begin:cut])
            begin = cut
    assert show(frames) == show(whole)
    for frame in whole:
        if isinstance(frame, bytes):
            try:
                message = parse(frame, LIMITS)
            except Malformed as error:
                check_error(error)
            else:
                head = frame[: len(frame) - len(message.body)]
                assert frame.endswith(message.body)
                assert head.endswith((b"\n\r\n", b"\n\n"))


def test_any_bytes_become_a_message_or_a_sip_error() -> None:
    count = int(os.environ.get("SIPFARM_FUZZ_MESSAGES", "200000"))
    seconds = float(os.environ.get("SIPFARM_FUZZ_SECONDS", "120"))
    seed = int(os.environ.get("SIPFARM_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"SIPFARM_FUZZ_SEED={seed}")
    rng = random.Random(seed)
    until = time.monotonic() + seconds
    for done in range(count):
        data = mutate(rng.choice(SEEDS), rng)
        try:
            check_whole(data)
            check_stream(data, rng, singly=done % 16 == 0)
        except Exception as error:
            raise AssertionError(f"SIPFARM_FUZZ_SEED={seed}, message {done}: {error!r} from {data!r}") from error
        if time.monotonic() > until:
            raise AssertionError(f"only {done + 1} of {count} messages in {seconds:.0f} s (SIPFARM_FUZZ_SEED={seed})")
