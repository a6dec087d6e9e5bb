"""The requests that belong to one hop: the ACK of a failure (RFC 3261 §17.1.1.3) and CANCEL (§9.1).

They are made from the request they follow: its Request-URI, its top Via alone, its From, Call-ID, CSeq number and
Route set. A CANCEL takes To from the request, an ACK from the response, where the other side added its tag.
"""

from __future__ import annotations

from typing import Final

from farm.sip.address import parse_address
from farm.sip.message import Header, Request, Response, make_header
from farm.sip.via import Via

_COPIED: Final = frozenset(("from", "call-id", "route"))
_MAX_FORWARDS: Final = make_header("max-forwards", "70")
_EMPTY: Final = make_header("content-length", "0")


def make_ack(request: Request, response: Response) -> Request:
    """The ACK of a 300-699 `response` to our INVITE `request`."""
    to = next((header for header in response.headers if header[0] == "to"), None)
    return _follow(request, "ACK", to)


def make_orphan_ack(response: Response, via: Via) -> Request:
    """The ACK of a 300-699 `response` to an INVITE that the element with that top `via` sent, and that nobody has any
    more. The Request-URI is the To's: the server knows the ACK by its branch (§17.2.3), and its own is not in the
    response."""
    to = response.find("to") or ""
    headers = [make_header("via", f"SIP/2.0/{via.transport} {via.sent_by};branch={via.branch}"), _MAX_FORWARDS]
    headers.extend(header for header in response.headers if header[0] in ("from", "to", "call-id"))
    headers.append(make_header("cseq", f"{response.cseq} ACK"))
    headers.append(_EMPTY)
    return Request("ACK", str(parse_address(to).uri), headers)


def make_cancel(request: Request, reason: str = "") -> Request:
    """The CANCEL of our `request`, with its Reason if there is one (RFC 3326). Require and Proxy-Require are left out,
    as §9.1 demands."""
    cancel = _follow(request, "CANCEL", None)
    if reason:
        cancel.headers.insert(-1, make_header("reason", reason))
    return cancel


def _follow(request: Request, method: str, to: Header | None) -> Request:
    headers: list[Header] = []
    for header in request.headers:
        name = header[0]
        if name in _COPIED:
            headers.append(header)
        elif name == "via":
            if not headers:  # ours is the first line of what we sent
                headers.append(header)
                headers.append(_MAX_FORWARDS)
        elif name == "to":
            headers.append(to or header)
        elif name == "cseq":
            headers.append(make_header("cseq", f"{request.cseq} {method}"))
    headers.append(_EMPTY)
    following = Request(method, request.uri_text, headers)
    following.top_via = request.top_via
    following.call_id = request.call_id
    following.from_tag = request.from_tag
    following.cseq = request.cseq
    following.cseq_method = method
    return following
