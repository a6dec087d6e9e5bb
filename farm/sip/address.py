"""Addresses as they stand in From, To, Contact, Route and their like (RFC 3261 §20.10, §25.1: name-addr, addr-spec).

`check_address` looks at From and To at the door, without building anything; `parse_address` builds the value.
Parameters after a bare addr-spec belong to the header, and a URI with a comma, a semicolon or a question mark must
stand in <> (§20).
"""

from __future__ import annotations

import re
from typing import Final

from farm.sip.grammar import ORDINARY_HOST, QUOTED, TOKEN, is_token, parse_params, unquote
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri

# The ordinary shape, with nothing escaped, matched in one step: display name, <sip URI>, and no parameter but the tag.
_ORDINARY: Final = re.compile(
    rf"""(?:{QUOTED}[ \t]*+|[A-Za-z0-9\-.!%*_+`'~ \t]++)?<sips?+:"""
    rf"""(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]++@)?{ORDINARY_HOST}"""
    r"""(?::[1-9][0-9]{0,3})?(?:;(?:user=phone|transport=[A-Za-z]++|lr))?>(?:;tag=([A-Za-z0-9\-.!%*_+`'~]++))?"""
)
_NAME_ADDR: Final = re.compile(rf"(?:({QUOTED})[ \t]*+|((?:{TOKEN}[ \t]*+)*))<([^<>]++)>[ \t]*+")
_ADDR_SPEC: Final = re.compile(r"""([^<>"?,; \t]++)[ \t]*+""")


class Address:
    """An address: `display` unquoted, `uri`, header parameters with lower-case names, and the text it came as."""

    __slots__ = ("display", "params", "text", "uri")

    def __init__(self, display: str, uri: Uri, params: dict[str, str | None], text: str) -> None:
        self.display = display
        self.uri = uri
        self.params = params
        self.text = text

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Address {self.text}>"

    @property
    def tag(self) -> str:
        """The tag parameter, "" when there is none."""
        return self.params.get("tag") or ""


def _split(text: str) -> tuple[str, str, dict[str, str | None]]:
    """Display name as written, URI text, parameters."""
    match = _NAME_ADDR.match(text)
    if match is not None:
        display = match[1] or match[2].strip(" \t")
        uri = match[3]
    else:
        match = _ADDR_SPEC.match(text)
        if match is None:
            raise SipError(400, "Bad Address", reason="bad-address")
        display = ""
        uri = match[1]
    end = match.end()
    return display, uri, parse_params(text[end:]) if end < len(text) else {}


def parse_address(text: str) -> Address:
    """The one address that is all of `text`; raises SipError 400."""
    display, uri, params = _split(text)
    return Address(unquote(display), parse_uri(uri), params, text)


def check_address(text: str) -> str:
    """The tag of an address, "" when it has none; raises SipError 400 wherever `parse_address` does."""
    match = _ORDINARY.fullmatch(text)
    if match is not None:
        return match[1] or ""
    _, uri, params = _split(text)
    parse_uri(uri)
    if "tag" not in params:
        return ""
    tag = params["tag"]
    if tag is None or not is_token(tag):
        raise SipError(400, "Bad Tag", reason="bad-tag")
    return tag
