"""A certificate says whom it is for in one way, and what says it in another is refused."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from farm.overlay import wire
from farm.security.certificate import (
    EDGE,
    STORE,
    CertificateFault,
    Subject,
    is_authority,
    is_pair,
    is_signed_by,
    lifetime_of,
    make_authority_certificate,
    make_key,
    make_node_certificate,
    overlay_of_authority,
    pack_certificate,
    pack_key,
    subject_of,
    unpack_certificates,
    unpack_key,
)
from tests.support.certificates import (
    BOTH,
    NOON,
    OVERLAY,
    make_certificate,
    make_node_key,
    make_signer,
    node_id,
    uri_of,
)

DAY = 86_400


def issue(subject: Subject, days: float = 30.0) -> x509.Certificate:
    signer = make_signer()
    key = make_node_key("n1")
    return make_node_certificate(signer.key, signer.certificate, key.public_key(), subject, NOON, days)


@pytest.mark.parametrize("roles", [STORE, EDGE, BOTH])
@pytest.mark.parametrize("zone", ["", "east", "Rack-7.b_2"])
def test_what_is_said_of_a_node_is_read_as_it_was_written(roles: int, zone: str) -> None:
    subject = Subject(OVERLAY, node_id(7), "n1", zone, roles)
    certificate = unpack_certificates(pack_certificate(issue(subject)))[0]
    assert subject_of(certificate) == subject
    assert is_signed_by(certificate, [make_signer("other").certificate, make_signer().certificate])
    assert not is_signed_by(certificate, [make_signer("other").certificate])
    assert not is_authority(certificate)


def test_the_bits_of_roles_are_those_on_the_wire() -> None:
    assert (STORE, EDGE) == (wire.STORES, wire.EDGE)


def test_a_certificate_is_valid_from_an_hour_ago_so_that_slow_clocks_take_it() -> None:
    certificate = issue(Subject(OVERLAY, node_id(7), "n1", "", BOTH), 30)
    assert lifetime_of(certificate) == (NOON - 3600, NOON + 30 * DAY)


def test_a_node_s_certificate_serves_both_ends_of_a_link_and_signs_nothing() -> None:
    extensions = issue(Subject(OVERLAY, node_id(7), "n1", "", BOTH)).extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }
    assert list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == [uri_of(7)]


def test_an_authority_signs_nodes_only_and_lives_long() -> None:
    key = make_key()
    authority = make_authority_certificate(key, OVERLAY, NOON)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign) == (True, True)
    assert lifetime_of(authority)[1] - NOON > 19 * 365 * DAY
    assert overlay_of_authority(authority) == OVERLAY
    assert is_authority(authority)
    assert is_signed_by(authority, [authority])
    assert is_pair(key, authority)
    assert not is_pair(make_key(), authority)


OTHER = uri_of(2, "other.example")
REFUSED: dict[str, tuple[list[x509.GeneralName], str]] = {
    "no name": ([], "node-id-mismatch"),
    "a host": ([x509.DNSName("n1.example.com")], "node-id-mismatch"),
    "the URI and a host": ([uri_of(1), x509.DNSName("n1.example.com")], "node-id-mismatch"),
    "two URIs": ([uri_of(1), uri_of(2)], "node-id-mismatch"),
    "one URI twice": ([uri_of(1), uri_of(1)], "node-id-mismatch"),
    "ours and another overlay's": ([uri_of(1), OTHER], "node-id-mismatch"),
    "a wildcard": ([x509.UniformResourceIdentifier(f"sipfarm://{OVERLAY}/*")], "node-id-mismatch"),
    "a URI of another scheme": ([x509.UniformResourceIdentifier("sip:example.com")], "node-id-mismatch"),
    "a short Node-ID": ([x509.UniformResourceIdentifier(f"sipfarm://{OVERLAY}/{'0' * 63}")], "node-id-mismatch"),
    "a long Node-ID": ([x509.UniformResourceIdentifier(f"sipfarm://{OVERLAY}/{'0' * 65}")], "node-id-mismatch"),
    "capital digits": ([x509.UniformResourceIdentifier(f"sipfarm://{OVERLAY}/{'A' * 64}")], "node-id-mismatch"),
    "a capital scheme": ([x509.UniformResourceIdentifier(f"SIPFARM://{OVERLAY}/{'0' * 64}")], "node-id-mismatch"),
    "a line end": ([x509.UniformResourceIdentifier(f"sipfarm://{OVERLAY}/{'0' * 64}\n")], "node-id-mismatch"),
    "a query": ([x509.UniformResourceIdentifier(f"sipfarm://{OVERLAY}/{'0' * 64}?a")], "node-id-mismatch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_any_other_name_than_one_node_id_is_refused(case: str) -> None:
    names, reason = REFUSED[case]
    with pytest.raises(CertificateFault) as fault:
        subject_of(make_certificate(1, names=names))
    assert fault.value.reason == reason


@pytest.mark.parametrize(
    "usage",
    [None, (ExtendedKeyUsageOID.CLIENT_AUTH,), (ExtendedKeyUsageOID.SERVER_AUTH,)],
    ids=["none", "one", "other"],
)
def test_a_certificate_for_one_end_alone_is_refused(usage: tuple[x509.ObjectIdentifier, ...] | None) -> None:
    with pytest.raises(CertificateFault):
        subject_of(make_certificate(1, usage=usage))


def test_no_role_two_zones_or_two_names_are_refused() -> None:
    for certificate in (
        make_certificate(1, roles=()),
        make_certificate(1, roles=("king",)),
        make_certificate(1, zones=("a", "b")),
        make_certificate(1, common_names=("a", "b")),
    ):
        with pytest.raises(CertificateFault) as fault:
            subject_of(certificate)
        assert fault.value.reason == "wrong-role"
    assert subject_of(make_certificate(1, roles=("edge", "king"))).roles == EDGE, "a role of a later version"


def test_a_key_is_read_as_it_was_written_and_nothing_else_is_taken_for_one() -> None:
    key = make_node_key("n1")
    assert is_pair(unpack_key(pack_key(key)), make_certificate(1))
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    edwards = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for pem, problem in ((b"", "no private key"), (locked, "no private key"), (edwards, "no EC key")):
        with pytest.raises(ValueError, match=problem):
            unpack_key(pem)
    with pytest.raises(ValueError, match="no certificate"):
        unpack_certificates(b"nonsense")


def test_a_file_that_is_half_copied_is_no_shorter_chain() -> None:
    one = pack_certificate(make_certificate(1))
    assert len(unpack_certificates(one + pack_key(make_node_key("n1")) + one)) == 2
    for cut in range(len("-----BEGIN "), len(one) - 1):
        with pytest.raises(ValueError, match="cut short"):
            unpack_certificates(one + one[:cut])


def test_an_authority_of_another_sort_of_key_signs_nothing_of_ours() -> None:
    """Comparing it must not raise."""
    key = rsa.generate_private_key(65537, 2048)
    ours = make_signer().certificate
    builder = x509.CertificateBuilder(
        ours.subject, ours.subject, key.public_key(), 1, ours.not_valid_before_utc, ours.not_valid_after_utc
    )
    foreign = builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    assert not is_authority(foreign)
    assert not is_signed_by(make_certificate(1), [foreign])
    assert not is_authority(builder.sign(key, hashes.SHA256()))
