"""Whether the one at the other end of a link may be there: a verdict on its certificate, or why there is none.

OpenSSL has checked the chain and the time in the handshake; all that makes a certificate one of *this* overlay is
checked here, and the chain and the time once more, since trust may have been reloaded in between. service_identity
compares the names: its own URI_ID knows hosts alone and would not take a path, so it is given one that compares whole
URIs, exactly. It does away with case and wildcards in what it reads, therefore `certificate.subject_of` has insisted on
our spelling before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from cryptography import x509
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.exceptions import URIMismatch
from service_identity.hazmat import CertificatePattern, URIPattern, verify_service_identity

from farm.security.certificate import CertificateFault, is_signed_by, lifetime_of, make_uri, subject_of

PROTOCOL: Final = b"sipfarm/1"  # ALPN

# X509_V_ERR_…: those that say when; purpose; all others say who signed
_TIMES: Final = frozenset((9, 10, 13, 14))
_PURPOSE: Final = 26


class Peer(NamedTuple):
    """A node of our overlay, as its certificate says. `roles` are bits of STORE and EDGE; `not_after` is in seconds
    since 1970."""

    node_id: bytes
    overlay: str
    name: str
    zone: str
    roles: int
    not_after: float


class PeerRefused(Exception):
    """Not to be talked to. `reason` is a slug: no-certificate, wrong-ca, expired (or not valid yet), wrong-overlay,
    node-id-mismatch, wrong-role, denied, version (it does not speak our protocol), handshake."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


class _NodeUri:
    """The URI that a certificate must have, as service_identity wants such things."""

    pattern_class = URIPattern
    error_on_mismatch = URIMismatch

    def __init__(self, uri: str) -> None:
        protocol, _, rest = uri.encode().partition(b":")
        self._protocol = protocol
        self._rest = rest

    def verify(self, pattern: CertificatePattern) -> bool:
        """Whether a name out of a certificate is this one."""
        if not isinstance(pattern, URIPattern):
            return False
        return pattern.protocol_pattern == self._protocol and pattern.dns_pattern.pattern == self._rest


def check_certificate(
    certificate: x509.Certificate | None,
    overlay: str,
    authorities: Iterable[x509.Certificate],
    denied: Collection[bytes],
    wall: float,
    expected: bytes = b"",
) -> Peer:
    """The node whose certificate it is, `expected` when that is given. Raises PeerRefused."""
    if certificate is None:
        raise PeerRefused("no-certificate")
    if not is_signed_by(certificate, authorities):
        raise PeerRefused("wrong-ca", "the certificate is from another authority")
    not_before, not_after = lifetime_of(certificate)
    if not not_before <= wall <= not_after:
        raise PeerRefused("expired", "the certificate is not valid now")
    try:
        subject = subject_of(certificate)
    except CertificateFault as fault:
        raise PeerRefused(fault.reason, str(fault)) from None
    if subject.overlay != overlay:
        raise PeerRefused("wrong-overlay", f"a node of {subject.overlay}, not of {overlay}")
    wanted = expected or subject.node_id
    try:
        verify_service_identity(extract_patterns(certificate), [_NodeUri(make_uri(overlay, wanted))], [])
    except (CertificateError, VerificationError, ValueError):
        raise PeerRefused("node-id-mismatch", f"the certificate is not that of {wanted.hex()}") from None
    if subject.node_id in denied:
        raise PeerRefused("denied", f"{subject.name} is denied")
    return Peer(subject.node_id, overlay, subject.name, subject.zone, subject.roles, not_after)


def reason_of_verification(error: int) -> str:
    """The slug for what OpenSSL found wrong with a chain."""
    if error in _TIMES:
        return "expired"
    return "wrong-role" if error == _PURPOSE else "wrong-ca"


def reason_of_failure(connection: SSL.Connection, error: Exception) -> str:
    """The slug for a handshake that failed: what our side found, or "handshake", also when the peer refused us."""
    found = connection.get_app_data()
    if isinstance(found, str):
        return found
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        texts = [str(entry[-1]) for entry in error.args[0]]
        if "peer did not return a certificate" in texts:
            return "no-certificate"
        if "unsupported protocol" in texts:
            return "version"
    return "handshake"
