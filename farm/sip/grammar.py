"""What all of the language shares: tokens, quoted strings, comma lists, parameters, numbers and header names
(RFC 3261 §7.3, §25.1).

Everything here works on unfolded text, knows SP and HT as its only white space, and is linear in its input: runs of
characters are possessive, and what is repeated around them begins with other characters than it can end with, so that
little is left to back-track over.

Decided: names of headers are looked up in a constant table of usual spellings, and only others are lowered and checked.
No cache grows with what strangers send.

Decided: what is possessive is a set of characters, never a group, here and in every other pattern of ours. A possessive
group that holds alternatives or repeats is matched wrongly before Python 3.11.5 (gh-106052), and Debian 12 has 3.11.2:
there it refused `sip:example.com` and took `;a=`.
"""

from __future__ import annotations

import re
from typing import Final

from farm.sip.status import SipError

WHITE: Final = " \t"
TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]++"
QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]++|\\[^\r\n\x80-\U0010ffff])*"'
LABEL: Final = r"[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*"
HOST: Final = rf"(?:{LABEL}(?:\.{LABEL})*\.?+|\[[0-9A-Fa-f:.]++\])"
# Hosts that need no second look: IPv4, and names whose last label holds a letter.
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
ORDINARY_HOST: Final = (
    rf"(?:(?:{_OCTET}\.){{3}}{_OCTET}(?![A-Za-z0-9.\-])|(?:{LABEL}\.)*(?=[0-9\-]*+[A-Za-z]){LABEL}(?!\.))"
)

COMPACT: Final[dict[str, str]] = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

_SPELLINGS: Final = """
    Accept Accept-Contact Accept-Encoding Accept-Language Accept-Resource-Priority Alert-Info Allow Allow-Events
    Answer-Mode Authentication-Info Authorization Call-ID Call-Info Contact Content-Disposition Content-Encoding
    Content-Language Content-Length Content-Type CSeq Date Diversion Error-Info Event Expires Feature-Caps
    Flow-Timer From Geolocation Geolocation-Error Geolocation-Routing History-Info Identity Identity-Info
    In-Reply-To Info-Package Join Max-Breadth Max-Forwards MIME-Version Min-Expires Min-SE Organization
    P-Access-Network-Info P-Asserted-Identity P-Associated-URI P-Called-Party-ID P-Charging-Vector P-Early-Media
    P-Preferred-Identity P-Visited-Network-ID Path Permission-Missing Priority Priv-Answer-Mode Privacy
    Proxy-Authenticate Proxy-Authorization Proxy-Require RAck Reason Record-Route Recv-Info Refer-Sub Refer-To
    Referred-By Reject-Contact Remote-Party-ID Replaces Reply-To Request-Disposition Require Resource-Priority
    Retry-After Route RSeq Security-Client Security-Server Security-Verify Server Service-Route Session-Expires
    Session-ID SIP-ETag SIP-If-Match Subject Subscription-State Supported Suppress-If-Match Target-Dialog Timestamp
    To Unsupported User-Agent User-To-User Via Warning WWW-Authenticate
"""


def _make_names() -> dict[str, str]:
    return {spelling.lower(): spelling for spelling in _SPELLINGS.split()}


def _make_canonical() -> dict[str, str]:
    table: dict[str, str] = {}
    for name, spelling in NAMES.items():
        for variant in (spelling, name, name.upper(), name.capitalize(), name.title()):
            table[variant] = name
    for short, name in COMPACT.items():
        table[short] = table[short.upper()] = name
    return table


NAMES: Final[dict[str, str]] = _make_names()
CANONICAL: Final[dict[str, str]] = _make_canonical()

_TOKEN: Final = re.compile(TOKEN)
_QUOTED: Final = re.compile(QUOTED)
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_COMMA: Final = re.compile(r'"(?:[^"\\]++|\\.)*"?+|<[^>]*+>?+|,', re.DOTALL)
_PARAM: Final = re.compile(
    rf"[ \t]*+;[ \t]*+({TOKEN})(?:[ \t]*+=[ \t]*+({QUOTED}|[A-Za-z0-9\-.!%*_+`'~\[\]:]++))?[ \t]*+"
)
_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def is_token(text: str) -> bool:
    """Whether text is one token."""
    return _TOKEN.fullmatch(text) is not None


def canonical_name(spelling: str) -> str:
    """The long lower-case name of a header as written, white space before the colon included (HCOLON).

    Raises SipError 400 for anything that is no token: a control character or a space inside a name has been used to
    show one header to one hop and another to the next.
    """
    name = CANONICAL.get(spelling)
    if name is None:
        spelling = spelling.rstrip(WHITE)
        name = CANONICAL.get(spelling)
        if name is None:
            if _TOKEN.fullmatch(spelling) is None:
                raise SipError(400, "Bad Header Name", reason="bad-header-name")
            name = spelling.lower()
            name = COMPACT.get(name, name)
    return name


def parse_number(text: str, limit: int) -> int:
    """A number of one to ten ASCII digits, at most `limit`; raises SipError 400 for all else."""
    if _NUMBER.fullmatch(text) is None or (number := int(text)) > limit:
        raise SipError(400, "Bad Number", reason="bad-number")
    return number


def split_commas(text: str) -> list[str]:
    """The elements of a comma-separated header, trimmed; commas within quotes or <> do not count.

    Empty elements are kept, and a quote or bracket that never closes holds all that follows: who reads the element
    refuses it.
    """
    if '"' not in text and "<" not in text:
        return [part.strip(WHITE) for part in text.split(",")]
    parts: list[str] = []
    start = 0
    for match in _COMMA.finditer(text):
        if match[0] == ",":
            parts.append(text[start : match.start()].strip(WHITE))
            start = match.end()
    parts.append(text[start:].strip(WHITE))
    return parts


def parse_params(text: str) -> dict[str, str | None]:
    """The generic parameters ";name=value;name" as a dict: names lower, order kept, quoted values keep their quotes.

    Raises SipError 400 for an empty parameter, a value that is neither token, host nor quoted string, and a name given
    twice (§7.3.1).
    """
    params: dict[str, str | None] = {}
    position = 0
    end = len(text)
    while position < end:
        match = _PARAM.match(text, position)
        if match is None:
            raise SipError(400, "Bad Parameter", reason="bad-parameter")
        name = match[1].lower()
        if name in params:
            raise SipError(400, "Repeated Parameter", reason="repeated-parameter")
        params[name] = match[2]
        position = match.end()
    return params


def write_params(params: dict[str, str | None]) -> str:
    """Parameters as text, each with its leading semicolon."""
    return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in params.items()])


def unquote(text: str) -> str:
    """The meaning of a quoted string; text that is not one is answered as it is."""
    if _QUOTED.fullmatch(text) is None:
        return text
    inner = text[1:-1]
    return _PAIR.sub(r"\1", inner) if "\\" in inner else inner


def quote(text: str) -> str:
    """Text as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
