"""Who calls whom, read from URIs that strangers wrote: user and domain, as a bill can compare them.

A number is the same however it is written: escapes are resolved, and a display name, a password or parameters, of
whatever length, hide nothing of it. Texts are cut to `MOST_TEXT` characters when all is read, and what does not print,
line breaks and bytes that are no UTF-8 among it, is written as U+FFFD, so that a line is a line and a terminal that
shows it stays as it is.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

from farm.sip.address import parse_address
from farm.sip.hop import Hop
from farm.sip.status import SipError

MOST_TEXT: Final = 256
_LONG: Final = 512  # beyond this a URI is kept as what a record shows of it
_URI: Final = re.compile(
    r"(?:sips?:(?:([^@:]*+)(?::[^@]*+)?@)?(?:\[([^\]]*+)\]|([^:;?>\s\[]*+))|tel:([^;?>\s]*+))", re.IGNORECASE
)


def keep_uri(text: str) -> str:
    """A URI to keep, in bounded memory: of a long one the user and the domain."""
    if len(text) <= _LONG:
        return text
    user, domain = split_uri(text)
    if not domain:
        return f"tel:{user}"
    host = f"[{domain}]" if ":" in domain else domain
    return f"sip:{user.replace('%', '%25').replace('@', '%40').replace(':', '%3a')}@{host}"


def write_hop(hop: Hop) -> str:
    """Address and port, "" where neither is known, as of another node's connection."""
    if not hop.host:
        return ""
    return f"[{hop.host}]:{hop.port}" if ":" in hop.host else f"{hop.host}:{hop.port}"


def uri_of(address: str) -> str:
    """The URI of a From or To, "" where it cannot be read."""
    before, bracket, after = address.partition("<")
    if bracket and '"' not in before:
        return after.partition(">")[0]
    if bracket:
        with suppress(SipError):
            return parse_address(address).uri.text
        return ""
    return before.partition(";")[0].strip(" \t")


def split_address(address: str) -> tuple[str, str]:
    """User and domain of a From or To."""
    return split_uri(uri_of(address))


def split_uri(text: str) -> tuple[str, str]:
    """User and domain of a SIP URI, the number and "" of a tel URI; both "" for others."""
    match = _URI.match(text)
    if match is None:
        return "", ""
    user, bracketed, domain, number = match.groups()
    if number is not None:
        return clean(number), ""
    return clean(unquote(user) if user and "%" in user else user or ""), clean(bracketed or domain)


def clean(text: str) -> str:
    """Text of a stranger as it may be written."""
    text = text[:MOST_TEXT]
    if text.isprintable():
        return text
    return "".join([character if character.isprintable() else "\ufffd" for character in text])
