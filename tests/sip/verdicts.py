"""The verdict on every torture message of RFC 4475 and RFC 5118: what the parser says, what a stream makes of it, and
what the whole element owes the sender.

`parser` is "valid", "answer" (refused with `status`, and the request can be answered) or "drop" (refused, nothing to
answer); `reason` the slug it is counted by. `messages` and `ending` say what a stream holds: so many messages, then a
clean end, or octets that wait for more, or a stream that must be closed.

`element` is what a node that serves the message's domain does: "refused" or "challenged" with one of `answers`,
"forwarded" (or whatever its routing says to an ordinary request: 404, 480, 407), "registered" (or 401, 403, 404 when it
does not serve that domain or user), "silent".
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


class Verdict(NamedTuple):
    """What is owed to one torture message."""

    name: str
    parser: Literal["valid", "answer", "drop"]
    element: Literal["forwarded", "registered", "refused", "challenged", "silent"]
    why: str
    status: int = 0
    reason: str = ""
    answers: tuple[int, ...] = ()
    messages: int = 1
    ending: Literal["clean", "waits", "closes"] = "clean"

    @property
    def data(self) -> bytes:
        """The message, bit-exact."""
        return (VECTORS / f"{self.name}.dat").read_bytes()


VERDICTS: tuple[Verdict, ...] = (
    Verdict(
        "rfc4475/wsinv",
        "valid",
        "forwarded",
        "white space and folds wherever the grammar has them, space before colons, a compact name, 0068",
    ),
    Verdict(
        "rfc4475/intmeth",
        "valid",
        "forwarded",
        "every character that a method, a URI, a name and a quoted string may hold, escaped NUL included",
    ),
    Verdict(
        "rfc4475/esc01",
        "valid",
        "forwarded",
        "escapes in users and parameters equal their characters when compared, and stay as written",
    ),
    Verdict("rfc4475/escnull", "valid", "registered", "%00 does not shorten a user: the two contacts are two bindings"),
    Verdict(
        "rfc4475/esc02",
        "valid",
        "forwarded",
        "a percent sign is a token character: an unknown method, an unknown header, not REGISTER and Contact",
    ),
    Verdict("rfc4475/lwsdisp", "valid", "forwarded", "a display name needs no white space before <"),
    Verdict("rfc4475/longreq", "valid", "forwarded", "long values are within the limits, and 34 Vias within the depth"),
    Verdict(
        "rfc4475/dblreq",
        "valid",
        "registered",
        "over UDP the octets past Content-Length are no part of the message; a stream holds two messages and a rest",
        messages=2,
        ending="closes",
    ),
    Verdict("rfc4475/semiuri", "valid", "forwarded", "a semicolon in the user part is no parameter"),
    Verdict("rfc4475/transports", "valid", "forwarded", "a Via may name any transport"),
    Verdict("rfc4475/mpart01", "valid", "forwarded", "a binary body is kept to the octet"),
    Verdict("rfc4475/unreason", "valid", "silent", "a response with a UTF-8 phrase; nothing of ours matches it"),
    Verdict("rfc4475/noreason", "valid", "silent", "an empty phrase is a phrase; nothing of ours matches it"),
    Verdict(
        "rfc4475/badinv01",
        "answer",
        "refused",
        "empty parameters in Via (and Contact); its sent-by can be read, so the 400 has an address",
        status=400,
        reason="bad-parameter",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/clerr",
        "answer",
        "refused",
        "fewer octets than Content-Length is an error in a datagram; a stream waits for the rest",
        status=400,
        reason="short-body",
        answers=(400,),
        messages=0,
        ending="waits",
    ),
    Verdict(
        "rfc4475/ncl",
        "answer",
        "refused",
        "a negative length is no number; a stream cannot go on after it",
        status=400,
        reason="bad-content-length",
        answers=(400,),
        messages=0,
        ending="closes",
    ),
    Verdict(
        "rfc4475/scalar02",
        "answer",
        "refused",
        "CSeq must be below 2^31",
        status=400,
        reason="bad-cseq",
        answers=(400,),
    ),
    Verdict("rfc4475/scalarlg", "drop", "silent", "a malformed response is dropped", status=400, reason="bad-cseq"),
    Verdict(
        "rfc4475/quotbal",
        "answer",
        "refused",
        "the quote in To never closes",
        status=400,
        reason="bad-address",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/ltgtruri", "answer", "refused", "a Request-URI in <>", status=400, reason="bad-uri", answers=(400,)
    ),
    Verdict(
        "rfc4475/lwsruri",
        "answer",
        "refused",
        "white space inside the Request-URI",
        status=400,
        reason="bad-start-line",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/lwsstart",
        "answer",
        "refused",
        "more than one space in the request line",
        status=400,
        reason="bad-start-line",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/trws",
        "answer",
        "refused",
        "space after the version",
        status=400,
        reason="bad-start-line",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/escruri",
        "answer",
        "refused",
        "headers in the Request-URI",
        status=400,
        reason="uri-headers",
        answers=(400,),
    ),
    Verdict("rfc4475/baddate", "valid", "forwarded", "Date is not ours to judge"),
    Verdict(
        "rfc4475/regbadct",
        "valid",
        "refused",
        "the registrar reads Contact: a URI with a question mark must stand in <>",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/badaspec",
        "answer",
        "refused",
        "spaces within the <> of To",
        status=400,
        reason="bad-uri",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/baddn",
        "answer",
        "refused",
        "a comma in a display name without quotes; the vector has no empty line, so a stream waits",
        status=400,
        reason="bad-parameter",
        answers=(400,),
        messages=0,
        ending="waits",
    ),
    Verdict("rfc4475/badvers", "answer", "refused", "SIP/7.0", status=505, reason="bad-version", answers=(505,)),
    Verdict(
        "rfc4475/mismatch01",
        "answer",
        "refused",
        "the methods of request line and CSeq differ",
        status=400,
        reason="cseq-mismatch",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/mismatch02",
        "answer",
        "refused",
        "the same with a method nobody knows",
        status=400,
        reason="cseq-mismatch",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/bigcode", "drop", "silent", "a malformed response is dropped", status=400, reason="bad-start-line"
    ),
    Verdict(
        "rfc4475/badbranch",
        "valid",
        "forwarded",
        "the bare cookie names no transaction: matched by the rules of RFC 2543",
    ),
    Verdict(
        "rfc4475/insuf",
        "answer",
        "refused",
        "no From, To and Call-ID; Via and CSeq are enough for an answer",
        status=400,
        reason="missing-from",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/unkscm",
        "valid",
        "refused",
        "a scheme nobody knows is a URI all the same; routing refuses it",
        answers=(416,),
    ),
    Verdict("rfc4475/novelsc", "valid", "refused", "the same with a scheme of dots", answers=(416,)),
    Verdict(
        "rfc4475/unksm2",
        "valid",
        "refused",
        "a proxy forwards it; the registrar of example.com cannot serve an isbn",
        answers=(
            400,
            401,
            404,
        ),
    ),
    Verdict(
        "rfc4475/bext01",
        "valid",
        "refused",
        "Proxy-Require names what we do not know: 420 with Unsupported",
        answers=(420,),
    ),
    Verdict("rfc4475/invut", "valid", "forwarded", "the type of the body is for the far end"),
    Verdict(
        "rfc4475/regaut01",
        "valid",
        "challenged",
        "credentials of an unknown scheme are no credentials: challenge anew",
        answers=(401,),
    ),
    Verdict(
        "rfc4475/multi01",
        "answer",
        "refused",
        "From, To, Call-ID, CSeq and Max-Forwards each twice",
        status=400,
        reason="repeated-cseq",
        answers=(400,),
    ),
    Verdict(
        "rfc4475/mcl01",
        "answer",
        "refused",
        "two lengths; a stream cannot go on after them",
        status=400,
        reason="repeated-content-length",
        answers=(400,),
        messages=0,
        ending="closes",
    ),
    Verdict(
        "rfc4475/bcast",
        "valid",
        "silent",
        "nothing of ours matches it, and nothing is ever sent to a broadcast address",
    ),
    Verdict("rfc4475/zeromf", "valid", "refused", "no hop is left", answers=(483,)),
    Verdict("rfc4475/cparam01", "valid", "registered", "unknownparam belongs to the contact"),
    Verdict("rfc4475/cparam02", "valid", "registered", "unknownparam belongs to the URI"),
    Verdict("rfc4475/regescrt", "valid", "registered", "the escaped Route stays in the contact and is never applied"),
    Verdict("rfc4475/sdp01", "valid", "forwarded", "what the offer holds is for the far end"),
    Verdict(
        "rfc4475/inv2543",
        "valid",
        "forwarded",
        "no branch, no From tag, no Max-Forwards; without Content-Length a datagram only: a stream is closed",
        messages=0,
        ending="closes",
    ),
    Verdict("rfc5118/ipv6-good", "valid", "registered", "an IPv6 reference as the Request-URI's host"),
    Verdict(
        "rfc5118/ipv6-bad", "answer", "refused", "IPv6 without brackets", status=400, reason="bad-uri", answers=(400,)
    ),
    Verdict("rfc5118/port-ambiguous", "valid", "registered", "[...:5070] is an address without a port"),
    Verdict("rfc5118/port-unambiguous", "valid", "registered", "the port stands after the bracket"),
    Verdict(
        "rfc5118/via-received-param-no-delim",
        "valid",
        "forwarded",
        "received without brackets, as the grammar of RFC 3261 has it",
    ),
    Verdict("rfc5118/via-received-param-with-delim", "valid", "forwarded", "received with brackets, as many wrote it"),
    Verdict(
        "rfc5118/ipv6-in-sdp",
        "valid",
        "forwarded",
        "IPv6 in SDP; the vector says 268 octets and has 251, which a datagram is forgiven and a stream waits for",
        messages=0,
        ending="waits",
    ),
    Verdict("rfc5118/mult-ip-in-header", "valid", "forwarded", "IPv4 and IPv6 mixed in Via"),
    Verdict(
        "rfc5118/mult-ip-in-sdp",
        "valid",
        "forwarded",
        "Content-Length is 8 octets short: cut in a datagram, refused as the next message in a stream",
        messages=1,
        ending="closes",
    ),
    Verdict(
        "rfc5118/ipv4-mapped-ipv6",
        "valid",
        "forwarded",
        "IPv4-mapped addresses; Content-Length is 9 octets short",
        messages=1,
        ending="waits",
    ),
    Verdict(
        "rfc5118/ipv6-bug-abnf-3-colons",
        "valid",
        "forwarded",
        "three colons count as two; the vector has no empty line, so a stream waits",
        messages=0,
        ending="waits",
    ),
    Verdict(
        "rfc5118/ipv6-correct-abnf-2-colons",
        "valid",
        "forwarded",
        "two colons before the IPv4 part; the vector has no empty line, so a stream waits",
        messages=0,
        ending="waits",
    ),
)


def find_verdict(name: str) -> Verdict:
    """The verdict on one message, by its name with or without the RFC's folder."""
    return next(verdict for verdict in VERDICTS if name in (verdict.name, verdict.name.partition("/")[2]))
