"""Messages for tests: plain requests and responses as bytes or values, every part of which can be said otherwise.

`request_bytes` and `response_bytes` give what is on the wire, `make_request` and `make_reply` the parsed value. An
argument that is None leaves its header out; `headers` are lines added before Content-Length.
"""

from __future__ import annotations

from collections.abc import Sequence

from farm.sip.message import Request, Response
from farm.sip.parser import ParserLimits, parse

LIMITS = ParserLimits()

SDP = (
    b"v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.101\r\ns=-\r\nc=IN IP4 192.0.2.101\r\nt=0 0\r\n"
    b"m=audio 49172 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


def _head(
    start: str,
    method: str,
    via: str | Sequence[str] | None,
    from_: str | None,
    to: str | None,
    call_id: str | None,
    cseq: int | str | None,
    max_forwards: int | str | None,
    contact: str | None,
    headers: Sequence[str],
    body: bytes,
    content_length: int | str | None,
) -> bytes:
    lines = [start]
    lines.extend([f"Via: {line}" for line in ([via] if isinstance(via, str) else via or [])])
    if max_forwards is not None:
        lines.append(f"Max-Forwards: {max_forwards}")
    for name, value in (("From", from_), ("To", to), ("Call-ID", call_id)):
        if value is not None:
            lines.append(f"{name}: {value}")
    if cseq is not None:
        lines.append(f"CSeq: {cseq} {method}" if isinstance(cseq, int) else f"CSeq: {cseq}")
    if contact is not None:
        lines.append(f"Contact: {contact}")
    lines.extend(headers)
    if content_length is not None:
        lines.append(f"Content-Length: {len(body) if content_length == '' else content_length}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def request_bytes(
    method: str = "INVITE",
    uri: str = "sip:bob@example.com",
    *,
    via: str | Sequence[str] | None = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf9",
    from_: str | None = "Alice <sip:alice@example.com>;tag=9fxced76sl",
    to: str | None = "Bob <sip:bob@example.com>",
    call_id: str | None = "3848276298220188511@192.0.2.101",
    cseq: int | str | None = 1,
    max_forwards: int | str | None = 70,
    contact: str | None = "<sip:alice@192.0.2.101:5060>",
    headers: Sequence[str] = (),
    body: bytes = b"",
    content_length: int | str | None = "",
) -> bytes:
    """A request on the wire; `cseq` as text holds number and method, `content_length` "" counts the body."""
    start = f"{method} {uri} SIP/2.0"
    return _head(start, method, via, from_, to, call_id, cseq, max_forwards, contact, headers, body, content_length)


def make_request(
    method: str = "INVITE",
    uri: str = "sip:bob@example.com",
    *,
    via: str | Sequence[str] | None = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf9",
    from_: str | None = "Alice <sip:alice@example.com>;tag=9fxced76sl",
    to: str | None = "Bob <sip:bob@example.com>",
    call_id: str | None = "3848276298220188511@192.0.2.101",
    cseq: int | str | None = 1,
    max_forwards: int | str | None = 70,
    contact: str | None = "<sip:alice@192.0.2.101:5060>",
    headers: Sequence[str] = (),
    body: bytes = b"",
    content_length: int | str | None = "",
) -> Request:
    """The same, parsed."""
    message = parse(
        request_bytes(
            method,
            uri,
            via=via,
            from_=from_,
            to=to,
            call_id=call_id,
            cseq=cseq,
            max_forwards=max_forwards,
            contact=contact,
            headers=headers,
            body=body,
            content_length=content_length,
        ),
        LIMITS,
    )
    assert isinstance(message, Request)
    return message


def register_bytes(
    user: str = "alice",
    domain: str = "example.com",
    *,
    contact: str | None = "<sip:alice@192.0.2.101:5060>",
    cseq: int = 1,
    call_id: str = "reg-1@192.0.2.101",
    branch: str = "z9hG4bKreg1",
    host: str = "192.0.2.101:5060",
    transport: str = "UDP",
    headers: Sequence[str] = (),
) -> bytes:
    """A REGISTER of one contact on the wire; `headers` such as "Expires: 60" come on top."""
    return request_bytes(
        "REGISTER",
        f"sip:{domain}",
        via=f"SIP/2.0/{transport} {host};branch={branch}",
        from_=f"<sip:{user}@{domain}>;tag=reg",
        to=f"<sip:{user}@{domain}>",
        call_id=call_id,
        cseq=cseq,
        contact=contact,
        headers=headers,
    )


def make_register(
    user: str = "alice",
    domain: str = "example.com",
    *,
    contact: str | None = "<sip:alice@192.0.2.101:5060>",
    cseq: int = 1,
    call_id: str = "reg-1@192.0.2.101",
    branch: str = "z9hG4bKreg1",
    host: str = "192.0.2.101:5060",
    transport: str = "UDP",
    headers: Sequence[str] = (),
) -> Request:
    """The same, parsed."""
    data = register_bytes(
        user,
        domain,
        contact=contact,
        cseq=cseq,
        call_id=call_id,
        branch=branch,
        host=host,
        transport=transport,
        headers=headers,
    )
    message = parse(data, LIMITS)
    assert isinstance(message, Request)
    return message


def response_bytes(
    status: int = 200,
    phrase: str = "OK",
    *,
    method: str = "INVITE",
    via: str | Sequence[str] | None = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf9",
    from_: str | None = "Alice <sip:alice@example.com>;tag=9fxced76sl",
    to: str | None = "Bob <sip:bob@example.com>;tag=8321234356",
    call_id: str | None = "3848276298220188511@192.0.2.101",
    cseq: int | str | None = 1,
    contact: str | None = None,
    headers: Sequence[str] = (),
    body: bytes = b"",
    content_length: int | str | None = "",
) -> bytes:
    """A response on the wire."""
    start = f"SIP/2.0 {status} {phrase}"
    return _head(start, method, via, from_, to, call_id, cseq, None, contact, headers, body, content_length)


def make_reply(
    status: int = 200,
    phrase: str = "OK",
    *,
    method: str = "INVITE",
    via: str | Sequence[str] | None = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf9",
    from_: str | None = "Alice <sip:alice@example.com>;tag=9fxced76sl",
    to: str | None = "Bob <sip:bob@example.com>;tag=8321234356",
    call_id: str | None = "3848276298220188511@192.0.2.101",
    cseq: int | str | None = 1,
    contact: str | None = None,
    headers: Sequence[str] = (),
    body: bytes = b"",
) -> Response:
    """The same, parsed."""
    data = response_bytes(
        status,
        phrase,
        method=method,
        via=via,
        from_=from_,
        to=to,
        call_id=call_id,
        cseq=cseq,
        contact=contact,
        headers=headers,
        body=body,
    )
    message = parse(data, LIMITS)
    assert isinstance(message, Response)
    return message
