"""Requests and responses as values (RFC 3261 §7): a first line, a list of header lines, a body.

A header is the triple (canonical lower-case long name, unfolded value, line as it goes out). Reading uses name and
value; writing joins the lines, so what nobody edits leaves as it came, unknown headers, odd spacing and folds
included. The parser fills the fields that every message must have (`top_via`, the tags, `call_id`, `cseq`);
everything else stays text until `headers.py` is asked for it.

Decided: a list of triples, scanned linearly, instead of a dict of lists: a message has a dozen headers, forwarding
copies the list and touches three, and order and spelling survive by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from farm.sip.grammar import NAMES, split_commas
from farm.sip.hop import Hop
from farm.sip.status import phrase_of
from farm.sip.uri import Uri, parse_uri

if TYPE_CHECKING:
    from farm.sip.via import Via

Header = tuple[str, str, str]

_ECHOED: Final = frozenset(("via", "from", "call-id", "cseq"))
_NOWHERE: Final = Hop("", "", 0)


def make_header(name: str, value: str) -> Header:
    """A header line of ours: `name` in its canonical lower-case form, written in its usual spelling."""
    return (name, value, f"{NAMES.get(name) or name.title()}: {value}")


class Message:
    """What requests and responses share. Values are `str`, UTF-8 with surrogateescape, so foreign bytes survive."""

    __slots__ = (
        "body",
        "call_id",
        "cseq",
        "cseq_method",
        "from_tag",
        "headers",
        "source",
        "to_tag",
        "top_via",
    )

    def __init__(self, headers: list[Header], body: bytes = b"") -> None:
        self.headers = headers
        self.body = body
        self.top_via: Via | None = None
        self.from_tag = ""
        self.to_tag = ""
        self.call_id = ""
        self.cseq = 0
        self.cseq_method = ""
        self.source: Hop = _NOWHERE  # where the packet really came from; set by the transport

    def find(self, name: str) -> str | None:
        """The value of the first header of that canonical name, None when there is none."""
        for header in self.headers:
            if header[0] == name:
                return header[1]
        return None

    def all(self, name: str) -> list[str]:
        """The value of every header line of that name, in order, lists not split."""
        return [header[1] for header in self.headers if header[0] == name]

    def values(self, name: str) -> list[str]:
        """Every element of a comma-separated header, over all its lines (RFC 3261 §7.3.1)."""
        found: list[str] = []
        for header in self.headers:
            if header[0] == name:
                value = header[1]
                if "," in value:
                    found.extend(split_commas(value))
                else:
                    found.append(value)
        return found

    def has(self, name: str) -> bool:
        """Whether a header of that name is there."""
        return self.find(name) is not None

    @property
    def first_line(self) -> str:
        """The request line or the status line."""
        raise NotImplementedError

    def write(self) -> bytes:
        """The message as it goes on the wire."""
        lines = [self.first_line]
        lines.extend([header[2] for header in self.headers])
        lines.append("\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


class Request(Message):
    """A request. `uri_text` is the Request-URI as it came; `uri` is parsed when first asked for."""

    __slots__ = ("_uri", "method", "uri_text")

    def __init__(self, method: str, uri_text: str, headers: list[Header], body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri_text = uri_text
        self._uri: Uri | None = None

    @property
    def uri(self) -> Uri:
        """The Request-URI; raises SipError 400, 414 or 416 as `parse_uri` does."""
        uri = self._uri
        if uri is None:
            uri = self._uri = parse_uri(self.uri_text)
        return uri

    @property
    def first_line(self) -> str:
        return f"{self.method} {self.uri_text} SIP/2.0"


class Response(Message):
    """A response; `status` is 100..699."""

    __slots__ = ("phrase", "status")

    def __init__(self, status: int, phrase: str, headers: list[Header], body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.status = status
        self.phrase = phrase

    @property
    def first_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.phrase}"


def make_response(
    request: Request,
    status: int,
    phrase: str = "",
    *,
    to_tag: str = "",
    headers: Iterable[Header] = (),
    body: bytes = b"",
) -> Response:
    """An answer to a request (RFC 3261 §8.2.6): Via, From, To, Call-ID and CSeq copied, Content-Length counted.

    `to_tag` is added to To when the request had none and the answer is not a 100, which carries none here.
    """
    copied: list[Header] = []
    for header in request.headers:
        name = header[0]
        if name in _ECHOED:
            copied.append(header)
        elif name == "to":
            if to_tag and not request.to_tag:
                value = f"{header[1]};tag={to_tag}"
                header = (name, value, f"To: {value}")
            copied.append(header)
    copied.extend(headers)
    copied.append(("content-length", str(len(body)), f"Content-Length: {len(body)}"))
    response = Response(status, phrase or phrase_of(status), copied, body)
    response.top_via = request.top_via
    response.from_tag = request.from_tag
    response.to_tag = request.to_tag or to_tag
    response.call_id = request.call_id
    response.cseq = request.cseq
    response.cseq_method = request.method
    return response
