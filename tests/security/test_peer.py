"""Who may be at the other end of a link, and the word for why not."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from farm.labels import PEER_REASONS
from farm.security.peer import Peer, PeerRefused, check_certificate, reason_of_failure, reason_of_verification
from tests.support.certificates import (
    BOTH,
    EXPIRED,
    NOON,
    NOT_YET,
    OVERLAY,
    VALID,
    make_certificate,
    make_signer,
    node_id,
    seconds_of,
    uri_of,
)

TRUSTED = (make_signer().certificate,)


def check(certificate: x509.Certificate | None, *, wall: float = NOON, expected: bytes = b"") -> Peer:
    return check_certificate(certificate, OVERLAY, TRUSTED, {node_id(9)}, wall, expected)


def reason(certificate: x509.Certificate | None, *, wall: float = NOON, expected: bytes = b"") -> str:
    """The slug of the refusal, "" for none."""
    try:
        check(certificate, wall=wall, expected=expected)
    except PeerRefused as refused:
        return refused.reason
    return ""


def test_a_node_of_ours_is_told_with_all_that_its_certificate_says() -> None:
    assert check(make_certificate(1)) == Peer(node_id(1), OVERLAY, "n1", "east", BOTH, seconds_of(VALID[1]))
    assert check(make_certificate(1), expected=node_id(1)).node_id == node_id(1)


def test_the_node_that_was_dialled_must_be_the_one_that_answers() -> None:
    assert reason(make_certificate(1), expected=node_id(2)) == "node-id-mismatch"


REFUSED = {
    "no certificate": (None, "no-certificate"),
    "another authority": (make_certificate(1, signer=make_signer("foreign")), "wrong-ca"),
    "another overlay": (make_certificate(1, names=[uri_of(1, "other.example")]), "wrong-overlay"),
    "an overlay that begins like ours": (make_certificate(1, names=[uri_of(1, OVERLAY + ".net")]), "wrong-overlay"),
    "our overlay in capitals": (make_certificate(1, names=[uri_of(1, OVERLAY.upper())]), "wrong-overlay"),
    "a port": (make_certificate(1, names=[uri_of(1, OVERLAY + ":5060")]), "wrong-overlay"),
    "a wildcard overlay": (make_certificate(1, names=[uri_of(1, "*")]), "wrong-overlay"),
    "no overlay": (make_certificate(1, names=[uri_of(1, "")]), "wrong-overlay"),
    "expired": (make_certificate(1, validity=EXPIRED), "expired"),
    "not valid yet": (make_certificate(1, validity=NOT_YET), "expired"),
    "no Node-ID": (make_certificate(1, names=[]), "node-id-mismatch"),
    "a wildcard": (
        make_certificate(1, names=[x509.UniformResourceIdentifier(f"sipfarm://{OVERLAY}/*")]),
        "node-id-mismatch",
    ),
    "two URIs": (make_certificate(1, names=[uri_of(1), uri_of(2)]), "node-id-mismatch"),
    "one end only": (make_certificate(1, usage=(ExtendedKeyUsageOID.SERVER_AUTH,)), "wrong-role"),
    "no role": (make_certificate(1, roles=()), "wrong-role"),
    "the authority itself": (make_signer().certificate, "node-id-mismatch"),
    "denied": (make_certificate(9), "denied"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_everybody_else_is_refused_with_a_word_for_it(case: str) -> None:
    certificate, expected = REFUSED[case]
    assert reason(certificate) == expected
    assert expected in PEER_REASONS, "it can be counted"


def test_a_certificate_is_good_to_its_last_second() -> None:
    certificate = make_certificate(1, validity=("2026-01-01", "2026-02-01"))
    first, last = seconds_of("2026-01-01"), seconds_of("2026-02-01")
    assert [reason(certificate, wall=wall) for wall in (first - 1, first, last, last + 1)] == [
        "expired",
        "",
        "",
        "expired",
    ]


def test_a_foreign_overlay_with_our_authority_s_name_is_not_ours() -> None:
    """Two authorities of one name differ in their keys."""
    assert make_signer("foreign").certificate.subject == make_signer().certificate.subject
    assert reason(make_certificate(1, signer=make_signer("foreign"))) == "wrong-ca"


@pytest.mark.parametrize(
    ("error", "slug"), [(10, "expired"), (9, "expired"), (26, "wrong-role"), (20, "wrong-ca"), (18, "wrong-ca")]
)
def test_what_openssl_finds_has_a_word(error: int, slug: str) -> None:
    assert reason_of_verification(error) == slug


def test_a_failed_handshake_has_a_word_whatever_failed() -> None:
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    for error, slug in (
        (SSL.Error([("SSL routines", "", "peer did not return a certificate")]), "no-certificate"),
        (SSL.Error([("SSL routines", "", "unsupported protocol")]), "version"),
        (SSL.Error([("SSL routines", "", "wrong version number")]), "handshake"),
        (SSL.Error([("SSL routines", "", "tlsv1 alert unknown ca")]), "handshake"),
        (SSL.Error(), "handshake"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "handshake"),
        (OSError("reset"), "handshake"),
    ):
        assert reason_of_failure(connection, error) == slug
    connection.set_app_data("expired")
    assert reason_of_failure(connection, OSError("reset")) == "expired"
