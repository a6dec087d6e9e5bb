"""What a REGISTER asks for, read once: its contacts as values, the header fields that apply to all of them, and where
it came from.

RFC 3261 §10.3 steps 6 and 7 as far as they need the request alone: which contact, for how long, with what parameters;
RFC 5626 §6: whether outbound is used; and whether the UA is behind NAT. What the record makes of it is `registrar`'s.

A UA counts as behind NAT when its Via names another address than its packet came from, or its contact a private or
unspecified address that is not the source's. Otherwise its contact is taken at its word, port included.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from farm.registrar.binding import find_entry, value_of
from farm.registrar.record import Entry, Record
from farm.sip.address import parse_address
from farm.sip.grammar import unquote, write_params
from farm.sip.headers import STAR, contact_expires, parse_lifetime, paths, quality, supported
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.nat import find_flow
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri, uri_key, uris_equal

_USER_AGENT_CHARACTERS: Final = 128
# The ordinary contact, whose URI may be in the record as it stands, and then was checked when it first came.
_ORDINARY: Final = re.compile(
    r'<(sips?:(?:[^@<>"]*+@)?(\[[0-9a-f:.]++\]|[0-9a-z.\-]++)[^<>"]*+)>(?:;expires=([0-9]{1,9}))?'
)
# Those with a field of their own, and those that are the registrar's to say (RFC 5627 §5.1).
_OWN_PARAMS: Final = ("expires", "q", "pub-gruu", "temp-gruu", "reg-id", "+sip.instance")
_LARGEST_REG_ID: Final = 2**31 - 1
_REG_ID: Final = re.compile(r"[1-9][0-9]{0,9}")


class AskedContact(msgspec.Struct, eq=False, gc=False):
    """One contact of a REGISTER. `key` names its binding and `entry` is what is remembered of that; `expires` is what
    was asked for, None when nothing was."""

    key: str
    entry: Entry | None
    uri: str
    host: str
    expires: int | None
    params: str = ""
    q: int = -1
    instance: str = ""
    reg_id: int = 0


class Asked:
    """The header fields of a REGISTER that the registrar wants. `hops` is how many Vias it has."""

    __slots__ = ("contacts", "expires", "has_require", "hops", "path", "supported", "to", "user_agent")

    def __init__(self, request: Request) -> None:
        headers = request.headers
        found = {name: value for name, value, _ in headers}
        contact = found.get("contact")
        if len(found) == len(headers) and contact is not None and "," not in contact:  # each header stands once
            self.contacts = [contact]
            self.hops = 1
        else:
            self.contacts = request.values("contact")
            self.hops = len(request.values("via"))
        self.to = found["to"]
        lifetime = found.get("expires")
        self.expires = None if lifetime is None else parse_lifetime(lifetime)
        user_agent = found.get("user-agent", "")
        if len(user_agent) > _USER_AGENT_CHARACTERS or not user_agent.isascii():
            user_agent = user_agent[:_USER_AGENT_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
        self.user_agent = user_agent
        self.has_require = "require" in found
        self.supported = supported(request) if "supported" in found else []
        self.path: tuple[str, ...] = tuple([address.text for address in paths(request)]) if "path" in found else ()

    @property
    def may_remove(self) -> bool:
        """Whether some contact may be on its way out."""
        return self.expires == 0 or any("=0" in text or text == STAR for text in self.contacts)

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
        uri_text, host, seconds = match.groups()
        for entry in record.entries:
            key = entry.key
            if key == uri_text or _is_written(entry, uri_text):
                return AskedContact(key, entry, uri_text, host, None if seconds is None else int(seconds))
    address = parse_address(text)
    uri = address.uri
    params = address.params
    instance = ""
    reg_id = 0
    if params:
        instance = unquote(params.get("+sip.instance") or "")
        reg_id_text = params.get("reg-id") or ""
        if outbound and instance and reg_id_text:
            if _REG_ID.fullmatch(reg_id_text) is None or int(reg_id_text) > _LARGEST_REG_ID:
                raise SipError(400, "Bad reg-id", reason="bad-reg-id")
            reg_id = int(reg_id_text)
    own: tuple[str, ...] = _OWN_PARAMS
    if not reg_id and "reg-id" in params:
        own = tuple(name for name in own if name != "reg-id")
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


def _is_written(entry: Entry, uri_text: str) -> bool:
    """Whether the UA has written the URI of a binding so before."""
    held = value_of(entry).contact
    return held is not None and held.uri == uri_text and entry.key[0] != "<"


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


def uses_outbound(asked: Asked) -> bool:
    """Whether a reg-id is what RFC 5626 §6 says: we are the first hop, or the first hop has left its flow token in the
    Path. Raises SipError 439 where the phone counts on it and that is not so.

    "The first URI" of a Path with several is taken for any: who adds "ob" says that it is the first hop (§5.1), and
    whether the nearest to the phone stands first or last is read both ways.
    """
    if asked.hops <= 1:
        return True
    if any("ob" in parse_address(text).uri.params for text in asked.path):
        return True
    if "outbound" in asked.supported and any("reg-id" in text.lower() for text in asked.contacts):
        raise SipError(439, reason="first-hop-lacks-outbound")
    return False


def find_received(request: Request, asked: Asked, contact: AskedContact) -> Hop | None:
    """The flow that requests to a contact must take: where this REGISTER came from, when it came by a stream, its UA is
    behind NAT, or it registers a flow; None when it came through another proxy, or the contact is as good as it looks.
    """
    if asked.hops > 1 or asked.path:
        return None
    outbound = contact.reg_id > 0 or (";ob" in contact.uri and "ob" in parse_uri(contact.uri).params)
    return find_flow(request, contact.host, outbound)
