"""What is read from a message on demand: contacts, routes, hop counts, lifetimes, option tags (RFC 3261 §20).

Each function reads the header text when asked and keeps nothing; each raises SipError 400 when the header is there and
cannot be read, except where the RFC says what a malformed value means.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from farm.sip.address import Address, parse_address
from farm.sip.grammar import is_token, parse_number
from farm.sip.message import Message
from farm.sip.status import SipError
from farm.sip.via import Via, parse_via

STAR: Final = "*"

LIFETIME_DEFAULT: Final = 3600  # §20.10: "Malformed values SHOULD be treated as equivalent to 3600"
LIFETIME_LIMIT: Final = 2**32 - 1
_CSEQ: Final = re.compile(r"([0-9]{1,10})[ \t]++([A-Za-z0-9\-.!%*_+`'~]++)")
_Q: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def parse_cseq(text: str) -> tuple[int, str]:
    """Sequence number, below 2^31 (§8.1.1.5), and method."""
    match = _CSEQ.fullmatch(text)
    if match is None or (number := int(match[1])) >= 0x80000000:
        raise SipError(400, "Bad CSeq", reason="bad-cseq")
    return number, match[2]


def vias(message: Message) -> list[Via]:
    """Every Via, the top one first."""
    return [parse_via(text) for text in message.values("via")]


def contacts(message: Message) -> list[Address] | Literal["*"]:
    """The contacts over all Contact headers, or STAR for "Contact: *"; a star beside anything else is a 400 (§10.3)."""
    values = message.values("contact")
    if STAR in values:
        if len(values) > 1:
            raise SipError(400, "Bad Contact", reason="bad-contact")
        return STAR
    return [parse_address(text) for text in values]


def _name_addrs(message: Message, name: str) -> list[Address]:
    found: list[Address] = []
    for text in message.values(name):
        if "<" not in text:  # Route, Record-Route, Path and Service-Route know no bare addr-spec
            raise SipError(400, f"Bad {name.title()}", reason=f"bad-{name}")
        found.append(parse_address(text))
    return found


def routes(message: Message) -> list[Address]:
    """The Route set, topmost first."""
    return _name_addrs(message, "route")


def paths(message: Message) -> list[Address]:
    """The Path vector (RFC 3327), topmost first."""
    return _name_addrs(message, "path")


def _number(message: Message, name: str, limit: int) -> int | None:
    text = message.find(name)
    if text is None:
        return None
    try:
        return parse_number(text, limit)
    except SipError:
        raise SipError(400, f"Bad {name.title()}", reason=f"bad-{name}") from None


def max_forwards(message: Message) -> int | None:
    """Max-Forwards, 0..255; None when absent."""
    return _number(message, "max-forwards", 255)


def max_breadth(message: Message) -> int | None:
    """Max-Breadth (RFC 5393); None when absent."""
    return _number(message, "max-breadth", 2**31 - 1)


def parse_lifetime(text: str) -> int:
    """Seconds of an Expires header or parameter: an hour when malformed (§20.10), 2^32-1 when larger."""
    if not (text.isascii() and text.isdigit()):
        return LIFETIME_DEFAULT
    return int(text) if len(text) < 10 or (len(text) == 10 and int(text) < LIFETIME_LIMIT) else LIFETIME_LIMIT


def expires(message: Message) -> int | None:
    """The Expires header in seconds; None when absent, an hour when malformed, 2^32-1 when larger."""
    text = message.find("expires")
    return None if text is None else parse_lifetime(text)


def contact_expires(contact: Address) -> int | None:
    """The expires parameter of a contact in seconds; None when absent, an hour when malformed (§20.10)."""
    if "expires" not in contact.params:
        return None
    return parse_lifetime(contact.params["expires"] or "")


def quality(contact: Address) -> int:
    """The q of a contact in thousandths; 1000 when absent."""
    if "q" not in contact.params:
        return 1000
    text = contact.params["q"] or ""
    if _Q.fullmatch(text) is None:
        raise SipError(400, "Bad Contact", reason="bad-q")
    whole, _, fraction = text.partition(".")
    return int(whole) * 1000 + int(fraction.ljust(3, "0"))


def option_tags(message: Message, name: str) -> list[str]:
    """The option tags of Require, Proxy-Require, Supported or Unsupported, lower-case, each once, in order."""
    tags: dict[str, None] = {}
    for text in message.values(name):
        if not text and name == "supported":  # "Supported:" may be empty (§20.37)
            continue
        if not is_token(text):
            raise SipError(400, f"Bad {name.title()}", reason=f"bad-{name}")
        tags[text.lower()] = None
    return list(tags)


def require(message: Message) -> list[str]:
    """The option tags that the far end must know."""
    return option_tags(message, "require")


def proxy_require(message: Message) -> list[str]:
    """The option tags that a proxy must know (§16.3 step 5)."""
    return option_tags(message, "proxy-require")


def supported(message: Message) -> list[str]:
    """The option tags that the sender knows."""
    return option_tags(message, "supported")
