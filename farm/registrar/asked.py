"""What a REGISTER asks for, read once: its contacts as values, the header fields that apply to all of them, and where
it came from.

RFC 3261 §10.3 steps 6 and 7 as far as they need the request alone: which contact, for how long, with what parameters;
RFC 5626 §6: whether outbound is used; and whether the UA is behind NAT. What the record makes of it is `registrar`'s.

A UA counts as behind NAT when its Via names another address than its packet came from, or its contact a private or
unspecified address that is not the source's. Otherwise its contact is taken at its word, port included.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from farm.registrar.binding import Entry, Record, value_of
from farm.sip.address import parse_address
from farm.sip.grammar import split_commas, unquote, write_params
from farm.sip.headers import STAR, contact_expires, expires, paths, quality, supported
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri, uri_key, uris_equal

_USER_AGENT_CHARACTERS: Final = 128
# The ordinary contact, whose URI may be in the record as it stands, and then was checked when it first came.
_ORDINARY: Final = re.compile(
    r'<(sips?:(?:[^@<>"]*+@)?+(\[[0-9a-f:.]++\]|[0-9a-z.\-]++)[^<>"]*+)>(?:;expires=([0-9]{1,9}))?+'
)
_OWN_PARAMS: Final = ("expires", "q", "reg-id", "+sip.instance")
_REG_ID: Final = re.compile(r"[1-9][0-9]{0,9}")


class AskedContact:
    """One contact of a REGISTER. `key` names its binding and `entry` is what is remembered of that; `expires` is what
    was asked for, None when nothing was."""

    __slots__ = ("entry", "expires", "host", "instance", "key", "params", "q", "reg_id", "uri")

    def __init__(
        self,
        key: str,
        entry: Entry | None,
        uri: str,
        host: str,
        expires: int | None,
        params: str = "",
        q: int = -1,
        instance: str = "",
        reg_id: int = 0,
    ) -> None:
        self.key = key
        self.entry = entry
        self.uri = uri
        self.host = host
        self.expires = expires
        self.params = params
        self.q = q
        self.instance = instance
        self.reg_id = reg_id


class Asked:
    """The header fields of a REGISTER that the registrar wants, gathered in one pass."""

    __slots__ = ("contacts", "expires", "has_require", "hops", "path", "supported", "to", "user_agent")

    def __init__(self, request: Request) -> None:
        self.contacts: list[str] = []
        self.expires: int | None = None
        self.path: tuple[str, ...] = ()
        self.supported: tuple[str, ...] = ()
        self.has_require = False
        self.to = ""
        self.user_agent = ""
        self.hops = 0
        has_path = False
        for name, value, _ in request.headers:
            if name == "contact":
                if "," in value:
                    self.contacts += split_commas(value)
                else:
                    self.contacts.append(value)
            elif name == "via":
                self.hops += 1 if "," not in value else len(split_commas(value))
            elif name == "to":
                self.to = value
            elif name == "expires":
                self.expires = expires(request)
            elif name == "user-agent":
                self.user_agent = value[:_USER_AGENT_CHARACTERS]
            elif name == "require":
                self.has_require = True
            elif name == "path":
                has_path = True
            elif name == "supported" and not self.supported:
                self.supported = tuple(supported(request))
        if has_path:
            self.path = tuple(address.text for address in paths(request))
        if not self.user_agent.isascii():
            self.user_agent = self.user_agent.encode("utf-8", "replace").decode("utf-8")

    @property
    def is_star(self) -> bool:
        """Whether it is `Contact: *`; raises SipError 400 when that stands beside other contacts (§10.3 step 6)."""
        if STAR not in self.contacts:
            return False
        if len(self.contacts) > 1:
            raise SipError(400, "Invalid Request", reason="bad-contact")
        return True


def read_contact(text: str, record: Record, outbound: bool) -> AskedContact:
    """A contact and the binding of `record` it belongs to, or would make. Raises SipError 400.

    `outbound` says whether reg-id may name a binding (RFC 5626 §6); where it may not, it is a parameter like others.
    """
    match = _ORDINARY.fullmatch(text)
    if match is not None:
        uri_text = match[1]
        for entry in record.entries:
            contact = value_of(entry).contact
            if contact is not None and (contact.uri or entry.key) == uri_text and entry.key[0] != "<":
                seconds = match[3]
                return AskedContact(entry.key, entry, uri_text, match[2], None if seconds is None else int(seconds))
    address = parse_address(text)
    uri = address.uri
    params = address.params
    instance = ""
    reg_id = 0
    if params:
        instance = unquote(params.get("+sip.instance") or "")
        reg_id_text = params.get("reg-id") or ""
        if outbound and instance and reg_id_text:
            if _REG_ID.fullmatch(reg_id_text) is None:
                raise SipError(400, "Bad reg-id", reason="bad-reg-id")
            reg_id = int(reg_id_text)
    own = _OWN_PARAMS if reg_id or "reg-id" not in params else ("expires", "q", "+sip.instance")
    key = f"{instance};reg-id={reg_id}" if reg_id else _find_key(uri, record)
    return AskedContact(
        key,
        find_entry(record, key),
        uri.text,
        uri.host,
        contact_expires(address),
        write_params({name: value for name, value in params.items() if name not in own}) if params else "",
        quality(address) if "q" in params else -1,
        instance,
        reg_id,
    )


def _find_key(uri: Uri, record: Record) -> str:
    """The key of the binding whose URI equals this one by §19.1.4, or the key that a new one gets.

    That equality is no equivalence (parameters that only one side has do not count), so it cannot decide a merge: it
    is applied here, once, to what this node knows, and from then on the key does.
    """
    key = uri_key(uri)
    entries = record.entries
    if not entries or any(entry.key == key for entry in entries) or not uri.is_sip:
        return key
    for entry in entries:
        if entry.key[0] != "<" and uris_equal(uri, parse_uri(entry.key)):
            return entry.key
    return key


def find_entry(record: Record, key: str) -> Entry | None:
    """The entry of a binding, None when nothing is remembered of it."""
    for entry in record.entries:
        if entry.key == key:
            return entry
    return None


def find_received(request: Request, asked: Asked, contact: AskedContact) -> Hop | None:
    """The flow that requests to a contact must take: where this REGISTER came from, when it came by a stream or its
    UA is behind NAT; None when it came through another proxy, or the contact is as good as it looks."""
    if asked.hops > 1:
        return None
    source = request.source
    if source.transport != "UDP":
        return source if source.transport else None
    via = request.top_via
    if via is None:
        return None
    if (via.port or 5060) != source.port or not _same_host(via.host, source.host):
        return source
    host = contact.host.strip("[]")
    if host == source.host or not host or not (host[-1].isdigit() or ":" in host):
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    came_from = ip_address(source.host)
    if address.is_loopback and came_from.is_loopback:
        return None  # all of 127.0.0.0/8 is one machine: no NAT can be in between
    if (address.is_private or address.is_unspecified) and address != came_from:
        return source
    return None


def _same_host(one: str, other: str) -> bool:
    if one == other:
        return True
    if ":" not in one:
        return False
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return False
