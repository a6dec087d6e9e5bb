"""One message from bytes (RFC 3261 §7, §18.3, §25): a datagram, or what the framing cut from a stream.

Exact where a fault could make two hops see two messages: every name a token, no stray control character, no header
twice that must be there once, one Content-Length. The five headers that every message must have are read here; all
others stay text. What is refused leaves as `Malformed`, with as much of the request as an answer needs.

Decided: white space before a header's colon is taken (HCOLON in §25.1, and torture case wsinv has it), white space or
control characters inside a name are a 400. Lines may end in a bare LF; a bare CR is a 400.
Decided: Via lists are split, so that the top Via is always a header line of its own, and a missing Content-Length is
added, so that any message can leave over a stream (§16.6 step 11 allows both).
Decided: a datagram whose body ends in a whole line, a few octets before its Content-Length, is taken and its header
mended. §18.3 calls it an error, but address translators that rewrite SDP without counting again send it every day, and
RFC 5118 §4.7 (ipv6-in-sdp) prints one as a valid message. What lacks more, as torture case clerr, is a 400.
Decided: a request can be answered when its Via and CSeq can be read. From, To and Call-ID are copied when present:
torture case insuf lacks them and wants its 400.
"""

from __future__ import annotations

import re
from typing import Final

from farm.sip.address import check_address
from farm.sip.grammar import (
    CANONICAL,
    HOST,
    NAMES,
    TOKEN,
    canonical_name,
    is_token,
    parse_number,
    parse_params,
    split_commas,
)
from farm.sip.headers import parse_cseq
from farm.sip.message import Header, Request, Response
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_host, parse_uri
from farm.sip.via import Via, parse_via

_MOST_REGISTRARS: Final = 64
_REWRITTEN_OCTETS: Final = 64  # two IPv6 addresses written out, made into two short IPv4 ones
_CONTROLS: Final = bytes([*range(9), *range(10, 32), 127])
_METHODS: Final = frozenset(
    ["REGISTER", "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE"]
)
# What a proxy or registrar acts on, and so may find once only (§7.3.1).
_SINGLE: Final = frozenset(
    (
        "call-id",
        "content-length",
        "content-type",
        "cseq",
        "event",
        "expires",
        "from",
        "max-breadth",
        "max-forwards",
        "min-expires",
        "refer-to",
        "to",
    )
)
_MANDATORY: Final = ("via", "from", "to", "call-id", "cseq")

_REQUEST_LINE: Final = re.compile(rf"({TOKEN}) ([^ \t]++) [sS][iI][pP]/([0-9]++\.[0-9]++)")
_STATUS_LINE: Final = re.compile(r"[sS][iI][pP]/2\.0 ([1-6][0-9][0-9]) (.*+)")
_LINE_END: Final = re.compile(rb"\n\r?\n")
_BARE_LF: Final = re.compile(r"(?<!\r)\n")
_BARE_CR: Final = re.compile(r"\r(?!\n)")
_CLEAN: Final = re.compile(r"(?:[^\x00-\x08\x0a-\x1f\x7f\\]++|\\[^\r\n]?+)*")
_CALL_ID: Final = re.compile(
    r"""[A-Za-z0-9\-.!%*_+`'~()<>:\\"/\[\]?{}]++(?:@[A-Za-z0-9\-.!%*_+`'~()<>:\\"/\[\]?{}]++)?"""
)

_METHOD: Final = re.compile(rf"({TOKEN})[ \t]")
_READABLE_VIA: Final = re.compile(
    rf"[sS][iI][pP][ \t]*+/[ \t]*+[0-9.]++[ \t]*+/[ \t]*+({TOKEN})[ \t]++({HOST})(?:[ \t]*+:[ \t]*+([0-9]{{1,5}}))?"
    rf"((?:[ \t]*+;[ \t]*+{TOKEN}(?:[ \t]*+=[ \t]*+{TOKEN})?)*)"
)
_READABLE_CSEQ: Final = re.compile(rf"[0-9]++[ \t]++({TOKEN})")
_READABLE_TAG: Final = re.compile(rf">[ \t]*+;[ \t]*+tag[ \t]*+=[ \t]*+({TOKEN})")


class ParserLimits:
    """How large a message may be. `via_depth` Vias are more hops than Max-Forwards allows; bodies are in bytes.

    It also remembers the Request-URIs of REGISTER, which are the few domains of the farm, over and over.
    """

    __slots__ = ("_registrars", "body_bytes", "header_bytes", "header_count", "uri_bytes", "via_depth")

    def __init__(
        self,
        *,
        header_bytes: int = 32768,
        header_count: int = 200,
        uri_bytes: int = 2048,
        via_depth: int = 70,
        body_bytes: int = 65535,
    ) -> None:
        self.header_bytes = header_bytes
        self.header_count = header_count
        self.uri_bytes = uri_bytes
        self.via_depth = via_depth
        self.body_bytes = body_bytes
        self._registrars: dict[str, Uri] = {}

    def find_registrar(self, text: str) -> Uri:
        """The URI that a REGISTER is sent to; raises SipError 400. What strangers send cannot fill the memory."""
        uri = self._registrars.get(text)
        if uri is None:
            uri = parse_uri(text)
            if len(self._registrars) >= _MOST_REGISTRARS:
                self._registrars.clear()
            self._registrars[text] = uri
        return uri


class Malformed(SipError):
    """A message that could not be taken.

    `request` is what an answer can be made from, None when there is nothing to answer: its Via or CSeq cannot be read,
    or it is an ACK or a response. It is good for `make_response` and nothing else.
    """

    def __init__(self, error: SipError, request: Request | None) -> None:
        super().__init__(error.status, error.phrase, reason=error.reason, headers=error.headers)
        self.request = request


def parse(data: bytes, limits: ParserLimits) -> Request | Response:
    """The message that is all of `data`; raises Malformed and nothing else."""
    try:
        return _parse(data, limits, False)
    except SipError as error:
        raise make_malformed(error, data, limits) from None


def _parse(data: bytes, limits: ParserLimits, unusual: bool) -> Request | Response:
    head, blank, body = data.partition(b"\r\n\r\n")
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    if unusual or not blank or not head or len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
        unusual = True
        head, lines, body = _read_unusual(data, limits)
    if len(head) > limits.header_bytes:
        raise SipError(513, reason="header-too-large")
    if len(lines) > limits.header_count + 1:
        raise SipError(513, reason="too-many-headers")

    headers: list[Header] = []
    found: dict[str, str] = {}
    start = lines.pop(0)
    for line in lines:
        spelling, colon, value = line.partition(":")
        name = CANONICAL.get(spelling)
        if name is None:
            if line[:1] in (" ", "\t") and not unusual:
                return _parse(data, limits, True)
            if not colon:
                raise SipError(400, "Bad Header", reason="bad-header")
            name = canonical_name(spelling)
        value = value.strip(" \t")
        headers.append((name, value, line))
        found[name] = value
    if unusual:
        _unfold(headers, found)

    message: Request | Response
    if start[3:4] == "/" and start[:3].upper() == "SIP":
        message = _read_status_line(start, headers)
        method = ""
    else:
        message = request = _read_request_line(start, headers, limits)
        method = request.method

    try:
        via, from_, to, call_id, cseq = found["via"], found["from"], found["to"], found["call-id"], found["cseq"]
    except KeyError as missing:
        name = NAMES[missing.args[0]]
        raise SipError(400, f"Missing {name}", reason=f"missing-{missing.args[0]}") from None
    if len(found) != len(headers) or "," in via:
        via = _read_repeated(message, limits)
    message.top_via = parse_via(via)
    message.from_tag = tag = check_address(from_)
    if method != "REGISTER" or from_ != f"{to};tag={tag}":  # who registers himself has To and From alike
        message.to_tag = check_address(to)
    if _CALL_ID.fullmatch(call_id) is None:
        raise SipError(400, "Bad Call-ID", reason="bad-call-id")
    message.call_id = call_id
    digits, _, cseq_method = cseq.partition(" ")
    if cseq_method == method and method and len(digits) < 10 and digits.isdigit() and digits.isascii():
        message.cseq = int(digits)
        message.cseq_method = method
    else:
        message.cseq, message.cseq_method = parse_cseq(cseq)
        if method and message.cseq_method != method:
            raise SipError(400, "CSeq Method Mismatch", reason="cseq-mismatch")

    text = found.get("content-length")
    if text is None:
        length = len(body)
        headers.append(("content-length", str(length), f"Content-Length: {length}"))
    elif text == "0":
        length = 0
    else:
        try:
            length = parse_number(text, 2**32 - 1)
        except SipError:
            raise SipError(400, "Bad Content-Length", reason="bad-content-length") from None
    if length > len(body):
        length = _mend_length(headers, length, body)
    if length > limits.body_bytes:
        raise SipError(413, reason="body-too-large")
    message.body = body[:length] if length < len(body) else body
    return message


def _mend_length(headers: list[Header], length: int, body: bytes) -> int:
    """The true length of a body that Content-Length overstates by little, the header mended; see the module."""
    if length - len(body) > _REWRITTEN_OCTETS or body[-2:] != b"\r\n":
        raise SipError(400, "Body Shorter Than Content-Length", reason="short-body")
    for index, header in enumerate(headers):
        if header[0] == "content-length":
            headers[index] = ("content-length", str(len(body)), f"Content-Length: {len(body)}")
    return len(body)


def _read_unusual(data: bytes, limits: ParserLimits) -> tuple[bytes, list[str], bytes]:
    """Head, lines and body of a message with leading line ends, bare LFs, folded lines or escaped control characters,
    or without the empty line at its end, which a datagram does not need."""
    data = data.lstrip(b"\r\n")  # §7.5
    match = _LINE_END.search(data)
    if match is not None:
        head, body = data[: match.start()], data[match.end() :]
        if head[-1:] == b"\r":
            head = head[:-1]
    elif data[-1:] == b"\n":
        head, body = data[:-1].removesuffix(b"\r"), b""
    else:
        raise SipError(400, "Truncated Message", reason="truncated")
    if len(head) > limits.header_bytes:
        raise SipError(513, reason="header-too-large")
    text = _BARE_LF.sub("\r\n", head.decode("utf-8", "surrogateescape"))
    if _BARE_CR.search(text) is not None:
        raise SipError(400, "Bare CR", reason="control-character")
    lines: list[str] = []
    folded: list[str] = []
    for line in text.split("\r\n"):
        if _CLEAN.fullmatch(line) is None:
            raise SipError(400, "Control Character", reason="control-character")
        if line[:1] in (" ", "\t"):
            if len(lines) < 2:
                raise SipError(400, "Bad Request Line", reason="bad-start-line")
            folded.append(line)
            continue
        if folded:
            lines[-1] = "\r\n".join([lines[-1], *folded])
            folded = []
        lines.append(line)
    if folded:
        lines[-1] = "\r\n".join([lines[-1], *folded])
    return head, lines, body


def _unfold(headers: list[Header], found: dict[str, str]) -> None:
    """Folds in values become one space (§7.3.1); the lines keep them."""
    for index, (name, value, line) in enumerate(headers):
        if "\r" in value:
            parts = [part.strip(" \t") for part in value.split("\r\n")]
            found[name] = value = " ".join([part for part in parts if part])
            headers[index] = (name, value, line)


def _read_status_line(line: str, headers: list[Header]) -> Response:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise SipError(400, "Bad Status Line", reason="bad-start-line")
    return Response(int(match[1]), match[2], headers)


def _read_request_line(line: str, headers: list[Header], limits: ParserLimits) -> Request:
    parts = line.split(" ")
    if len(parts) != 3:
        raise SipError(400, "Bad Request Line", reason="bad-start-line")
    method, uri, version = parts
    if version != "SIP/2.0" and version.upper() != "SIP/2.0":
        if _REQUEST_LINE.fullmatch(line) is None:
            raise SipError(400, "Bad Request Line", reason="bad-start-line")
        raise SipError(505, reason="bad-version")
    if method not in _METHODS and not is_token(method):
        raise SipError(400, "Bad Method", reason="bad-method")
    if len(uri) > limits.uri_bytes:
        raise SipError(414, reason="uri-too-long")
    request = Request(method, uri, headers)
    if method == "REGISTER":
        request._uri = limits.find_registrar(uri)
    if request.uri.headers:  # §19.1.1, table 1: no headers in a Request-URI
        raise SipError(400, "Headers in Request-URI", reason="uri-headers")
    return request


def _read_repeated(message: Request | Response, limits: ParserLimits) -> str:
    """Refuse what may stand only once, give each element of a Via list its own line; the top Via."""
    seen: set[str] = set()
    headers: list[Header] = []
    vias: list[str] = []
    for header in message.headers:
        name, value, _ = header
        if name == "via":
            if "," in value:
                elements = split_commas(value)
                vias += elements
                headers += [("via", element, f"Via: {element}") for element in elements]
                continue
            vias.append(value)
        elif name in _SINGLE:
            if name in seen:
                raise SipError(400, f"Repeated {NAMES[name]}", reason=f"repeated-{name}")
            seen.add(name)
        headers.append(header)
    if len(vias) > limits.via_depth:
        raise SipError(483, reason="too-many-vias")
    if len(headers) != len(message.headers):
        message.headers[:] = headers
    return vias[0]


def make_malformed(error: SipError, data: bytes | bytearray, limits: ParserLimits) -> Malformed:
    """The refusal of `data`, with what can be read of the request that an answer needs."""
    head = bytes(data[: limits.header_bytes]).lstrip(b"\r\n")
    match = _LINE_END.search(head)
    head = head[: match.start()] if match is not None else head[: head.rfind(b"\n") + 1]  # not a line cut short
    lines = head.decode("utf-8", "surrogateescape").split("\n")
    start = lines[0].rstrip("\r")
    if start[:4].upper() == "SIP/":
        return Malformed(error, None)
    return Malformed(error, _find_answerable(start, lines[1:]))


def _find_answerable(start: str, lines: list[str]) -> Request | None:
    match = _METHOD.match(start)
    if match is None or match[1] == "ACK":
        return None
    found: dict[str, list[str]] = {name: [] for name in _MANDATORY}
    into: list[str] | None = None
    for line in lines:
        line = line.strip("\r")
        if line[:1] in (" ", "\t"):
            if into:
                into.append(line.strip(" \t"))
            continue
        spelling, _, value = line.partition(":")
        name = spelling.rstrip(" \t")
        name = CANONICAL.get(name) or name.lower()
        into = None
        if name == "via" and found["via"]:
            into = found["via"]
            into.append(",")
            into.append(value.strip(" \t"))
        elif name in found and not found[name]:
            into = found[name]
            into.append(value.strip(" \t"))
    texts = {name: " ".join(parts) for name, parts in found.items() if parts}
    cseq = _READABLE_CSEQ.fullmatch(texts.get("cseq", ""))
    if cseq is None:
        return None
    vias: list[Via] = []
    for text in split_commas(texts.get("via", "")):
        via = _read_via(text)
        if via is None:
            break
        vias.append(via)
    if not vias:
        return None
    headers: list[Header] = [("via", via.text, f"Via: {via.text}") for via in vias]
    for name in ("from", "to", "call-id", "cseq"):
        text = texts.get(name, "")
        if text and _CLEAN.fullmatch(text) is not None:
            headers.append((name, text, f"{NAMES[name]}: {text}"))
    request = Request(match[1], start[match.end() :].strip(" \t").partition(" ")[0], headers)
    request.top_via = vias[0]
    request.cseq_method = cseq[1]
    request.call_id = request.find("call-id") or ""
    request.from_tag = _read_tag(request.find("from"))
    request.to_tag = _read_tag(request.find("to"))
    return request


def _read_via(text: str) -> Via | None:
    """A Via as far as it can be read: transport, sent-by, and the parameters before the first broken one."""
    try:
        return parse_via(text)
    except SipError:
        pass
    match = _READABLE_VIA.match(text)
    if match is None:
        return None
    try:
        host = parse_host(match[2])
        params = parse_params(match[4])
    except SipError:
        return None
    branch = params.get("branch") or ""
    via = Via(match[1].upper(), host, int(match[3]) if match[3] else None, params, match[0], branch)
    via.rport = 0 if "rport" in params else None
    return via


def _read_tag(text: str | None) -> str:
    if not text:
        return ""
    try:
        return check_address(text)
    except SipError:
        match = _READABLE_TAG.search(text)
        return "" if match is None else match[1]
