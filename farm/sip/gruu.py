"""GRUUs as text: URIs that mean one phone of a user (RFC 5627 §3.1, §7).

A public GRUU is the address-of-record with the phone's instance-id in the URI parameter `gr`; a temporary one has a
user part that says nothing and a `gr` without a value. That user part is made and opened by `registrar.gruu`.

Instance-ids are compared without their angle brackets and in lower case: URI parameters are compared without regard to
case (RFC 3261 §19.1.4), and so are the UUID URNs that instance-ids are made of (RFC 4122 §3).
"""

from __future__ import annotations

import re
from typing import Final

from farm.sip.uri import Uri

_ESCAPED: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_PLAIN: Final = re.compile(r"[A-Za-z0-9\-_.!~*'()\[\]/:&+$]+")  # what stands in a URI parameter as it is (§25.1)


def gr_of(uri: Uri) -> str | None:
    """What a URI's `gr` parameter says: None when there is none, "" for a temporary GRUU, for a public one the instance
    as `instance_of` writes it."""
    if not uri.is_sip or "gr" not in uri.params:
        return None
    return instance_of(_unescape(uri.params["gr"] or ""))


def instance_of(instance: str) -> str:
    """An instance-id as GRUUs have it: `urn:uuid:…` of `<urn:uuid:…>`, in lower case."""
    return instance.removeprefix("<").removesuffix(">").lower()


def make_public_gruu(aor: str, instance: str) -> str:
    """The public GRUU of a phone (§5.1); `aor` is canonical, `instance` as the phone wrote it."""
    inner = instance.removeprefix("<").removesuffix(">")
    return f"{aor};gr={_escape(inner)}"


def make_temporary_gruu(aor: str, user: str) -> str:
    """The temporary GRUU with that user part, in the domain of `aor`."""
    scheme, _, address = aor.partition(":")
    return f"{scheme}:{user}@{address.rpartition('@')[2]};gr"


def _escape(text: str) -> str:
    if _PLAIN.fullmatch(text) is not None:
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return "".join([chr(octet) if _PLAIN.match(chr(octet)) else f"%{octet:02X}" for octet in octets])


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    octets = _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), text.encode("utf-8", "surrogateescape"))
    return octets.decode("utf-8", "surrogateescape")
