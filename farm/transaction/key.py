"""Which transaction a message belongs to, as one hashable text (RFC 3261 §17.1.3 and §17.2.3).

A request with the magic cookie in its branch is matched by branch, sent-by and method, where ACK counts as INVITE.
A request without it comes from an RFC 2543 element, and is matched by what retransmissions of it have in common:
Request-URI, From tag, Call-ID, CSeq number and the whole top Via. A bare cookie (`z9hG4bK` and nothing behind it,
RFC 4475 §3.2.1 badbranch) identifies nothing and is matched the RFC 2543 way too.

Decided: a text instead of a tuple or a class: it is hashed once, in C, and is the smallest thing to keep.
"""

from __future__ import annotations

from farm.sip.message import Request, Response
from farm.sip.via import Via


def server_key(request: Request, via: Via, method: str) -> str:
    """The server transaction that `request` belongs to, seen as a `method` request.

    `method` is the request's own, INVITE for an ACK, and INVITE again to find what a CANCEL cancels (§9.2).
    """
    branch = via.branch
    if via.is_magic:
        return f"{branch} {via.host.lower()} {via.port} {method}"
    to_tag = "" if method == "INVITE" else request.to_tag  # an ACK has a tag that its INVITE had not
    top_via = request.find("via")
    return "\n".join(
        (request.uri_text, to_tag, request.from_tag, request.call_id, str(request.cseq), top_via or "", method)
    )


def is_rfc2543(via: Via) -> bool:
    """Whether the branch identifies nothing, so that matching falls back on RFC 2543's rules."""
    return not via.is_magic


def client_key(branch: str, method: str) -> str:
    """The client transaction of ours with that branch and CSeq method (§17.1.3)."""
    return f"{branch} {method}"


def response_key(response: Response, via: Via) -> str:
    """The client transaction that `response` belongs to."""
    return f"{via.branch} {response.cseq_method}"
