"""A throw-away authority for SIP over TLS, and one certificate by it: for the demo, tests and benchmarks.

The certificate has everything that a phone or a proxy may look for: the domains as `sip:` URIs and as DNS names, and
the addresses. The authority stays in its directory, so that a phone which trusts it once does so the next time; the
certificate is made anew each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from farm.security.certificate import (
    is_pair,
    make_authority_certificate,
    make_key,
    pack_certificate,
    pack_key,
    unpack_certificates,
    unpack_key,
)
from farm.security.durable import PUBLIC_MODE, SECRET_MODE, read_file, write_file

_OWNER: Final = "sipfarm demo"  # the authority's organisation
_DAYS: Final = 365.0
_EARLY_SECONDS: Final = 3600.0


class ThrowAway(NamedTuple):
    """Paths of the certificate, its key, and the authority to trust."""

    certificate: str
    key: str
    trust: str


def paths_in(directory: str) -> ThrowAway:
    """Where the files are."""
    return ThrowAway(*(os.path.join(directory, name) for name in ("sip.pem", "sip.key", "ca.pem")))


def write_throw_away(directory: str, domains: Iterable[str], hosts: Iterable[str], wall: float) -> ThrowAway:
    """Make the certificate of these domains and numeric addresses, valid for a year from `wall` (seconds since 1970),
    and the authority where there is none. Raises OSError, and ValueError for an authority that cannot be used."""
    os.makedirs(directory, exist_ok=True)
    paths = paths_in(directory)
    authority_key = os.path.join(directory, "ca.key")
    known, known_key = read_file(paths.trust), read_file(authority_key)
    if known is None or known_key is None:
        signing = make_key()
        authority = make_authority_certificate(signing, _OWNER, wall)
        write_file(authority_key, pack_key(signing), SECRET_MODE)
        write_file(paths.trust, pack_certificate(authority), PUBLIC_MODE)
    else:
        signing, authority = unpack_key(known_key), unpack_certificates(known)[0]
        if not is_pair(signing, authority):
            raise ValueError(f"{paths.trust} is not for the key in {authority_key}")
    names: list[x509.GeneralName] = []
    for domain in dict.fromkeys(domains):
        names += [x509.UniformResourceIdentifier(f"sip:{domain}"), x509.DNSName(domain)]
    names += [x509.IPAddress(ip_address(host)) for host in dict.fromkeys(hosts)]
    key = make_key()
    builder = x509.CertificateBuilder(
        authority.subject,
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sipfarm demo")]),
        key.public_key(),
        x509.random_serial_number(),
        datetime.fromtimestamp(int(wall - _EARLY_SECONDS), UTC),
        datetime.fromtimestamp(int(wall + _DAYS * 86_400), UTC),
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(issuer, critical=False)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signing, hashes.SHA256())
    )
    write_file(paths.key, pack_key(key), SECRET_MODE)
    write_file(paths.certificate, pack_certificate(certificate), PUBLIC_MODE)
    return paths
