"""What of a message is looked at while somebody watches: its Call-ID, and whom it is about.

A message is not parsed for this: what the parser refuses is watched, too, and most of what is watched is about nobody
who is sought. Lines are found by their names, long or short (RFC 3261 §7.3.3), URIs by their looks; what a quoted name
says in passing may count as one, which shows an operator a message too many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from farm.sip.status import SipError
from farm.sip.uri import aor_of, parse_uri

MOST_URIS: Final = 16  # of one message; a stranger may write thousands

_CALL_ID: Final = re.compile(rb"\n(?:call-id|i)[ \t]*:[ \t]*(?:\r?\n[ \t]+)?([^\r\n]*)", re.IGNORECASE)
_PARTY: Final = re.compile(
    rb"\n(?:from|f|to|t|p-(?:asserted|preferred)-identity)[ \t]*:((?:[^\n]|\n[ \t])*)"
    rb"|\A[\r\n]*[!-~]{1,40} ([^\r\n ]+)",
    re.IGNORECASE,
)
_URI: Final = re.compile(rb"(?:sips?|tel):[^\s<>\",]+(?:,[^\s<>\",:]*@[^\s<>\",]+)?", re.IGNORECASE)
_MORE: Final = re.compile("[;?]")  # where parameters and headers begin, if not in the user


def split_head(data: bytes) -> tuple[bytes, bytes]:
    """The head of a message, with line ends before it, and the rest, which begins with the empty line."""
    begins = len(data) - len(data.lstrip(b"\r\n")) if data[:1] in (b"\r", b"\n") else 0
    at = data.find(b"\r\n\r\n", begins)
    if at < 0:
        at = data.find(b"\n\n", begins)
    return (data, b"") if at < 0 else (data[:at], data[at:])


def find_call_id(data: bytes) -> bytes:
    """The Call-ID, b"" when there is none."""
    match = _CALL_ID.search(split_head(data)[0])
    return b"" if match is None else match[1].strip()


def find_aors(data: bytes) -> Iterator[str]:
    """The addresses-of-record that a message is from, to, asserted to be from, and, of a request, sent to."""
    found = 0
    for match in _PARTY.finditer(split_head(data)[0]):
        for text in _URI.findall(match[1] or match[2] or b""):
            found += 1
            if found > MOST_URIS:
                return
            uri = text.decode("utf-8", "surrogateescape")
            aor = read_aor(uri) or read_aor(_MORE.split(uri, maxsplit=1)[0])
            if aor:
                yield aor


def read_aor(text: str) -> str:
    """The canonical address-of-record of a URI, without whose scheme it is a SIP URI; "" when it is none."""
    if not text.lower().startswith(("sip:", "sips:", "tel:")):
        text = f"sip:{text}"
    try:
        return aor_of(parse_uri(text))
    except SipError:
        return ""


class Sought(NamedTuple):
    """What a trace is after: an address-of-record in its canonical form, or one call."""

    aor: str = ""
    call_id: str = ""

    def is_in(self, data: bytes) -> bool:
        """Whether a message is about it."""
        if self.call_id:
            return find_call_id(data) == self.call_id.encode("utf-8", "surrogateescape")
        user = self.aor.partition(":")[2].partition("@")[0].encode("utf-8", "surrogateescape")
        if user not in data and b"%" not in data and not self.aor.startswith("tel:"):
            return False
        return any(aor == self.aor for aor in find_aors(data))
