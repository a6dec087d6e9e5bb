"""Whose certificate it is: the SIP domains that a certificate proves (RFC 5922 §7.1, §7.2; RFC 5924).

The chain and the time are OpenSSL's to check; this reads the names. The `sip:` URIs of subjectAltName are the
identities; its DNS names only where it has no such URI; the CN only where there is no subjectAltName at all. A `sips:`
URI is none, nor is a URI with a user. Names are equal as a whole, whatever their case: a wildcard matches nothing.

Decided: the patterns of service_identity are not used after all: it lowers them, drops the port and the user of a URI,
and takes a DNS name beside a `sip:` URI; `cryptography` has the names as they are.
Decided: RFC 5924 wants id-kp-sipDomain where a certificate states its usage at all, and public authorities have never
issued it. serverAuth is taken for it at both ends, clientAuth at the end that dialled: public authorities stop issuing
clientAuth, and who serves a domain sends for it as well.
Decided: where an address was dialled, no domain, an IP address in subjectAltName proves it as a DNS name proves a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIP_DOMAIN: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.20")  # id-kp-sipDomain
_SERVES: Final = frozenset((SIP_DOMAIN, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, ExtendedKeyUsageOID.SERVER_AUTH))
_DIALS: Final = _SERVES | {ExtendedKeyUsageOID.CLIENT_AUTH}
MOST_IDENTITIES: Final = 100  # of one certificate; a hoster's have tens

_SIP_URI: Final = re.compile(r"sip:(\[[0-9a-fA-F:.]+\]|[^@;?:\[\]]+)(?::[0-9]*)?(?:[;?].*)?", re.IGNORECASE)
_LABEL: Final = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,254}}$){_LABEL}(?:\.{_LABEL})*\.?")


_COMMON_NAME: Final = NameOID.COMMON_NAME

_Extension = TypeVar("_Extension", x509.ExtendedKeyUsage, x509.SubjectAlternativeName)


class IdentityFault(ValueError):
    """A certificate that proves no SIP domain; `reason` is a slug: tls-wrong-usage, tls-wrong-domain."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def normalise(name: str) -> str:
    """A domain or an address as it is compared (RFC 5922 §7.2): lower case, no final dot, no brackets; "" for what is
    neither, a wildcard for one."""
    try:
        return ip_address(name.strip("[]")).compressed
    except ValueError:
        pass
    return name.rstrip(".").lower() if _NAME.fullmatch(name) else ""


def find_identities(certificate: x509.Certificate, *, dialled: bool) -> tuple[str, ...]:
    """The domains and addresses that a certificate proves, as `normalise` writes them.

    `dialled` says that its owner has connected to us. Raises IdentityFault when it states a usage that is not SIP's, or
    cannot be read.
    """
    try:
        extensions = certificate.extensions
    except Exception as error:  # the library has a class for each fault, and Twisted's transports log what it raises
        raise IdentityFault("tls-wrong-domain", f"the certificate cannot be read: {error}") from None
    usage = _find(extensions, x509.ExtendedKeyUsage)
    if usage is not None and not (_DIALS if dialled else _SERVES).intersection(usage):
        raise IdentityFault("tls-wrong-usage", "the certificate is for something else than SIP")
    names = _find(extensions, x509.SubjectAlternativeName)
    if names is None:
        return _unique(str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(_COMMON_NAME))
    uris = [_SIP_URI.fullmatch(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    domains = [found[1] for found in uris if found is not None]
    if not domains:
        domains = names.get_values_for_type(x509.DNSName)
        domains += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return _unique(domains)


def check_domain(certificate: x509.Certificate, domain: str) -> tuple[str, ...]:
    """All that a server's certificate proves, when it proves to be the server of `domain` (RFC 5922 §7.3), which may be
    an address. Raises IdentityFault."""
    found = find_identities(certificate, dialled=False)
    wanted = normalise(domain)
    if not wanted or wanted not in found:
        raise IdentityFault("tls-wrong-domain", f"the certificate is not for {domain} but for {', '.join(found[:5])}")
    return found


def find_server_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names for which a server shows its certificate to those who ask for one (SNI, RFC 5922 §7.7): every name in
    it, lower case, DNS wildcards as they stand, since web browsers and phones take them."""
    names = _find(certificate.extensions, x509.SubjectAlternativeName)
    if names is None:
        return find_identities(certificate, dialled=True)
    uris = [_SIP_URI.fullmatch(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    found = [found[1].lower() for found in uris if found is not None]
    found += [name.lower().rstrip(".") for name in names.get_values_for_type(x509.DNSName)]
    return tuple(dict.fromkeys(found))


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """The usable ones of these, each once, and not without end."""
    found = dict.fromkeys(filter(None, map(normalise, names)))
    return tuple(found)[:MOST_IDENTITIES]
