"""The certificates that a server of `example.com` may show, right ones and wrong ones, and what becomes of each.

RFC 5922 §7.1 to §7.3 as a table: it is tried on the rule itself, and through handshakes in memory.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from farm.security.sip_identity import SIP_DOMAIN
from tests.support.certificates import (
    EXPIRED,
    NOT_YET,
    Signer,
    make_node_key,
    make_signer,
    make_sip_certificate,
)

_DOMAIN: Final = "example.com"


class Case(NamedTuple):
    """One certificate: how it is made, whom it is shown to prove, and "" or the slug of its refusal."""

    name: str
    names: tuple[str, ...]
    verdict: str = ""
    parts: dict[str, Any] = {}
    domain: str = _DOMAIN

    def make(self) -> x509.Certificate:
        """The certificate."""
        parts = dict(self.parts)
        if parts.pop("self_signed", False):
            return make_self_signed(*self.names)
        if parts.pop("stranger", False):
            parts["signer"] = make_signer("stranger", "stranger")
        return make_sip_certificate(*self.names, **parts)


def make_self_signed(*names: str) -> x509.Certificate:
    """A certificate that its own key has signed."""
    key = make_node_key("sip")
    plain = make_sip_certificate(*names)
    builder = x509.CertificateBuilder(
        plain.subject, plain.subject, key.public_key(), 77, plain.not_valid_before_utc, plain.not_valid_after_utc
    )
    for extension in plain.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256())


def make_usage(*usages: x509.ObjectIdentifier) -> dict[str, Any]:
    """A certificate for these purposes."""
    return {"usage": usages or None}


_EMAIL: Final = ExtendedKeyUsageOID.EMAIL_PROTECTION
_WRONG: Final = "tls-wrong-domain"
MATRIX: Final = (
    Case("sip URI of the domain", ("URI:sip:example.com",)),
    Case("sip URI of another domain", ("URI:sip:example.org",), _WRONG),
    Case("sip URI of a subdomain", ("URI:sip:sip.example.com",), _WRONG),
    Case("sip URI of a user", ("URI:sip:alice@example.com",), _WRONG),
    Case("sips URI", ("URI:sips:example.com",), _WRONG),
    Case("sips URI beside the DNS name", ("URI:sips:example.com", "DNS:example.com")),
    Case("wildcard", ("DNS:*.example.com",), _WRONG, domain="sip.example.com"),
    Case("wildcard in a sip URI", ("URI:sip:*.example.com",), _WRONG, domain="sip.example.com"),
    Case("DNS name", ("DNS:example.com",)),
    Case("DNS name of another domain", ("DNS:example.org",), _WRONG),
    Case("DNS name beside a sip URI of another domain", ("DNS:example.com", "URI:sip:example.org"), _WRONG),
    Case("DNS name beside a URI of another scheme", ("DNS:example.com", "URI:https://example.org")),
    Case("several sip URIs", ("URI:sip:example.org", "URI:sip:example.com", "URI:sip:example.net")),
    Case("another case", ("URI:SIP:Example.COM",)),
    Case("another case in DNS", ("DNS:EXAMPLE.com",)),
    Case("CN only", (), parts={"common_name": _DOMAIN}),
    Case("CN of another", (), _WRONG, parts={"common_name": "example.org"}),
    Case("CN beside a subjectAltName", ("DNS:example.org",), _WRONG, parts={"common_name": _DOMAIN}),
    Case("address", ("IP:192.0.2.101",), domain="192.0.2.101"),
    Case("another address", ("IP:192.0.2.102",), _WRONG, domain="192.0.2.101"),
    Case("expired", ("URI:sip:example.com",), "tls-expired", {"validity": EXPIRED}),
    Case("not valid yet", ("URI:sip:example.com",), "tls-expired", {"validity": NOT_YET}),
    Case("usage: e-mail", ("URI:sip:example.com",), "tls-wrong-usage", make_usage(_EMAIL)),
    Case("usage: client", ("URI:sip:example.com",), "tls-wrong-usage", make_usage(ExtendedKeyUsageOID.CLIENT_AUTH)),
    Case("usage: SIP", ("URI:sip:example.com",), parts=make_usage(SIP_DOMAIN)),
    Case("usage: any", ("URI:sip:example.com",), parts=make_usage(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)),
    Case("usage not stated", ("URI:sip:example.com",), parts=make_usage()),
    Case("another authority", ("URI:sip:example.com",), "tls-wrong-ca", {"stranger": True}),
    Case("self-signed", ("URI:sip:example.com",), "tls-wrong-ca", {"self_signed": True}),
)  # fmt: skip
OF_THE_CHAIN: Final = ("tls-expired", "tls-wrong-ca")  # what OpenSSL says and not the rule


def signer_of(case: Case) -> Signer:
    """The authority behind a case."""
    return make_signer("stranger", "stranger") if case.parts.get("stranger") else make_signer("sip", "sip")
