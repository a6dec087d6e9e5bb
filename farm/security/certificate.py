"""The certificates of the overlay: what they say, how they are made, and how they are read.

RFC 5280. The farm has its own authority, which signs node certificates directly. A node certificate has exactly one
subjectAltName, `URI:sipfarm://<overlay>/<Node-ID as 64 hex digits>`; its subject has the node's name as CN, its roles
as OU, `store` and `edge`, and its zone as L, which is left out where there are no zones. It serves both ends of a link
(clientAuth and serverAuth).

Decided: roles and zone stand in the subject, not in more subjectAltNames, so that a certificate with a second name of
any sort can be refused as it is; `openssl x509 -subject` shows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey

SCHEME: Final = "sipfarm"
STORE: Final = 1  # bits of a node's roles, the same as on the wire
EDGE: Final = 2
ROLES: Final = {"store": STORE, "edge": EDGE}

OVERLAY_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
NODE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,63}")
ZONE_NAME: Final = re.compile(r"[A-Za-z0-9._-]{0,63}")
_NODE_URI: Final = re.compile(r"sipfarm://([^/]*)/([0-9a-f]{64})")

_EARLY_SECONDS: Final = 3600  # so that a node whose clock is behind takes a new certificate at once
_AUTHORITY_SECONDS: Final = 20 * 365.25 * 86_400


class Subject(NamedTuple):
    """Whom a certificate is for. `roles` are bits of STORE and EDGE; `zone` may be ""."""

    overlay: str
    node_id: bytes
    name: str
    zone: str
    roles: int


class CertificateFault(ValueError):
    """A certificate that is none of a node; `reason` is a slug: node-id-mismatch, wrong-role."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def make_key() -> Key:
    """A new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def pack_key(key: Key) -> bytes:
    """A private key as PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def unpack_key(pem: bytes) -> Key:
    """A private key out of PEM. Raises ValueError for what is none of ours."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, ValueError) as error:
        raise ValueError(f"is no private key without a passphrase in PEM ({error})") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("is no EC key")
    return key


def pack_certificate(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def unpack_certificates(pem: bytes) -> list[x509.Certificate]:
    """The certificates out of PEM, one at least. Raises ValueError, for a file that is only half copied too."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise ValueError(f"is no certificate in PEM ({error})") from None
    if pem.count(b"-----BEGIN ") != pem.count(b"-----END ") or pem.count(b"-----BEGIN CERTIFICATE-") > len(found):
        raise ValueError("is cut short")  # the parser passes over a block without its end
    return found


def is_pair(key: Key, certificate: x509.Certificate) -> bool:
    """Whether a certificate is for that key."""
    return certificate.public_key() == key.public_key()


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others, with a key of the sort that ours have."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return constraints.ca and isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def is_signed_by(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> bool:
    """Whether one of these signed it directly."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
            continue
        return True
    return False


def lifetime_of(certificate: x509.Certificate) -> tuple[float, float]:
    """From when to when it is valid, seconds since 1970."""
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def make_authority_certificate(key: Key, overlay: str, wall: float) -> x509.Certificate:
    """The self-signed certificate of an overlay's authority, for 20 years."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, overlay),
            x509.NameAttribute(NameOID.COMMON_NAME, "sipfarm authority"),
        ]
    )
    builder = _begin(key, name, name, wall, wall + _AUTHORITY_SECONDS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def overlay_of_authority(certificate: x509.Certificate) -> str:
    """The overlay whose authority this is, "" for another's."""
    values = _values(certificate.subject, NameOID.ORGANIZATION_NAME)
    return values[0] if len(values) == 1 else ""


def make_node_certificate(
    authority_key: Key,
    authority: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    subject: Subject,
    wall: float,
    days: float,
) -> x509.Certificate:
    """The certificate of a node, from an hour ago until in so many days."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject.name)]
    attributes += [
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role) for role, bit in ROLES.items() if subject.roles & bit
    ]
    if subject.zone:
        attributes.append(x509.NameAttribute(NameOID.LOCALITY_NAME, subject.zone))
    uri = x509.UniformResourceIdentifier(make_uri(subject.overlay, subject.node_id))
    builder = _begin(public_key, x509.Name(attributes), authority.subject, wall, wall + days * 86_400)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def make_uri(overlay: str, node_id: bytes) -> str:
    """A node as its certificate names it."""
    return f"{SCHEME}://{overlay}/{node_id.hex()}"


def subject_of(certificate: x509.Certificate) -> Subject:
    """Whom a certificate is for. Raises CertificateFault for one that says it in any other way than ours."""
    try:
        extensions = certificate.extensions
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        usage = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise CertificateFault("node-id-mismatch", f"the certificate is no node's: {error}") from None
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise CertificateFault("node-id-mismatch", "the certificate has other names than one Node-ID")
    matched = _NODE_URI.fullmatch(names[0].value)
    if matched is None:
        raise CertificateFault("node-id-mismatch", f"the certificate names no Node-ID: {names[0].value!r}")
    if not usage >= {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}:
        raise CertificateFault("wrong-role", "the certificate does not serve both ends of a link")
    common_names = _values(certificate.subject, NameOID.COMMON_NAME)
    zones = _values(certificate.subject, NameOID.LOCALITY_NAME)
    roles = 0
    for role in _values(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME):
        roles |= ROLES.get(role, 0)
    if not roles or len(common_names) != 1 or len(zones) > 1:
        raise CertificateFault("wrong-role", "the certificate does not say one name, one role at least and one zone")
    zone = zones[0] if zones else ""
    return Subject(matched[1], bytes.fromhex(matched[2]), common_names[0], zone, roles)


def _begin(
    key: Key | ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name, wall: float, until: float
) -> x509.CertificateBuilder:
    public_key = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    builder = x509.CertificateBuilder(
        issuer,
        subject,
        public_key,
        x509.random_serial_number(),
        datetime.fromtimestamp(int(wall) - _EARLY_SECONDS, UTC),
        datetime.fromtimestamp(int(until), UTC),
    )
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,  # an authority's: the configuration of the overlay
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _values(name: x509.Name, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(oid)]
