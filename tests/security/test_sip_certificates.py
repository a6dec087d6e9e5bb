"""The files of `[tls]`: what can be wrong with them, what is taken anew, and what stays."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, load_certificate

from farm.config import ConfigError, TlsSettings
from farm.security.certificate import make_key, pack_key
from farm.security.sip_certificates import SipCertificates, explain, reason_of_failure
from farm.security.sip_identity import IdentityFault
from tests.support.certificates import (
    EXPIRED,
    NOON,
    make_node_key,
    make_signer,
    make_sip_certificate,
    seconds_of,
    shake_hands,
    write_sip_files,
)
from tests.support.tls_peers import make_context


def settings_of(section: dict[str, Any], **more: Any) -> TlsSettings:
    """The section of the files."""
    return TlsSettings(
        certificates=tuple(section["certificates"]), keys=tuple(section["keys"]), **{"trust": section["trust"], **more}
    )


def shown_by(certificates: SipCertificates, name: str = "") -> int:
    """The serial number of what a client is shown."""
    client = SSL.Connection(make_context(), None)
    client.set_connect_state()
    if name:
        client.set_tlsext_host_name(name.encode())
    assert shake_hands(client, certificates.accept()) == {}
    shown = client.get_peer_certificate(as_cryptography=True)
    assert shown is not None
    return shown.serial_number


def append_half(path: Path, other: Path) -> None:
    """A chain, or a list of authorities, that somebody is just copying."""
    half = other.read_bytes()
    path.write_bytes(path.read_bytes() + half[: len(half) // 2])


def change_curve(path: Path) -> None:
    """A key on a curve that the library lacks."""
    spoil(path, bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030163"))


def spoil_name(path: Path) -> None:
    """A subject that OpenSSL cannot read, and `cryptography` does not look at."""
    name = x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string().split("=")[-1].encode()
    spoil(path, name, b"\xff" * len(name))


def spoil(path: Path, old: bytes, new: bytes) -> None:
    """Other bytes in a certificate's DER."""
    der = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(serialization.Encoding.DER)
    assert old in der
    text = base64.encodebytes(der.replace(old, new)).decode()
    path.write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")


def test_without_certificates_there_is_nothing_to_expire() -> None:
    certificates = SipCertificates(TlsSettings(), NOON)
    assert certificates.not_after == 0.0
    assert not certificates.reload(NOON)


def test_the_first_to_expire_is_the_expiry_of_all(tmp_path: Path) -> None:
    one = write_sip_files(tmp_path, "DNS:a.example", label="one", validity=("2020-01-01", "2119-01-01"))
    two = write_sip_files(tmp_path, "DNS:b.example", label="two", validity=("2020-01-01", "2100-01-01"))
    both = TlsSettings(certificates=(*one["certificates"], *two["certificates"]), keys=(*one["keys"], *two["keys"]))
    assert SipCertificates(both, NOON).not_after == seconds_of("2100-01-01")


def test_the_key_may_stand_in_the_certificate_s_file(tmp_path: Path) -> None:
    section = write_sip_files(tmp_path)
    path = Path(section["certificates"][0])
    path.write_bytes(path.read_bytes() + Path(section["keys"][0]).read_bytes())
    settings = TlsSettings(certificates=(str(path),))
    with pytest.raises(ConfigError, match=r"sip\.pem has a private key and is open to others \(mode 0644\): chmod 600"):
        SipCertificates(settings, NOON)
    path.chmod(0o600)
    assert shown_by(SipCertificates(settings, NOON))


def test_a_chain_is_shown_whole_and_rsa_keys_serve(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    section = write_sip_files(tmp_path)
    plain = make_sip_certificate("DNS:example.com")
    signer = make_signer("sip", "sip")
    del plain
    certificate = make_sip_certificate("DNS:example.com", key=key)  # type: ignore[arg-type]
    pem = serialization.Encoding.PEM
    Path(section["certificates"][0]).write_bytes(certificate.public_bytes(pem) + signer.certificate.public_bytes(pem))
    Path(section["keys"][0]).write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
    client = SSL.Connection(make_context(), None)
    client.set_connect_state()
    assert shake_hands(client, SipCertificates(settings_of(section), NOON).accept()) == {}
    chain = client.get_peer_cert_chain(as_cryptography=True)
    assert chain is not None
    assert [shown.serial_number for shown in chain] == [certificate.serial_number, signer.certificate.serial_number]


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda d: (d / "sip.pem").unlink(), r"tls\.certificates: .*sip\.pem cannot be read: No such file"),
        (lambda d: (d / "sip.key").unlink(), r"tls\.keys: .*sip\.key cannot be read: No such file"),
        (lambda d: (d / "sip.key").chmod(0o644), r"tls\.keys: .*open to others \(mode 0644\): chmod 600 it"),
        (lambda d: (d / "sip.pem").write_text("nothing"), r"tls\.certificates: .*sip\.pem is no certificate in PEM"),
        (lambda d: (d / "sip.key").write_text("nothing"), r"tls\.keys: .*sip\.key has no private key without a passph"),
        (lambda d: (d / "sip.key").write_bytes(pack_key(make_key())), r"sip\.pem is not for the key in .*sip\.key"),
        (lambda d: (d / "sip.trust").write_text("nothing"), r"tls\.trust: .*sip\.trust is no certificate in PEM"),
        (lambda d: append_half(d / "sip.pem", d / "sip.trust"), r"tls\.certificates: .*sip\.pem is cut short"),
        (lambda d: append_half(d / "sip.trust", d / "sip.pem"), r"tls\.trust: .*sip\.trust is cut short"),
        (lambda d: change_curve(d / "sip.pem"), r"tls\.certificates: .*sip\.pem cannot be used: Curve .*not supported"),
        (lambda d: spoil_name(d / "sip.trust"), r"tls\.trust: .*sip\.trust cannot be used: .*utf8string"),
    ],
)
def test_what_is_wrong_with_the_files_is_one_line_and_the_old_ones_stay(
    tmp_path: Path, harm: Any, problem: str
) -> None:
    settings = settings_of(write_sip_files(tmp_path))
    certificates = SipCertificates(settings, NOON)
    before = shown_by(certificates)
    harm(tmp_path)
    with pytest.raises(ConfigError, match=problem):
        SipCertificates(settings, NOON)
    with pytest.raises(ConfigError, match=problem):
        certificates.reload(NOON)
    assert shown_by(certificates) == before


def test_renewed_files_are_taken_once_and_expired_ones_never(tmp_path: Path) -> None:
    settings = settings_of(write_sip_files(tmp_path, "DNS:old.example"))
    certificates = SipCertificates(settings, NOON)
    before = shown_by(certificates)
    assert not certificates.reload(NOON)
    write_sip_files(tmp_path, "DNS:new.example", validity=EXPIRED)
    with pytest.raises(ConfigError, match=r"tls\.certificates: a certificate that is offered has expired"):
        certificates.reload(NOON)
    assert shown_by(certificates) == before
    write_sip_files(tmp_path, "DNS:new.example")
    assert certificates.reload(NOON)
    assert shown_by(certificates) != before
    assert not certificates.reload(NOON)


def test_a_node_whose_certificate_has_expired_starts_all_the_same(tmp_path: Path) -> None:
    """Its UDP phones are not to suffer for it; the metric and its alert say so."""
    certificates = SipCertificates(settings_of(write_sip_files(tmp_path, validity=EXPIRED)), NOON)
    assert certificates.not_after < NOON


def test_an_offer_changes_nothing_until_it_is_taken(tmp_path: Path) -> None:
    section = write_sip_files(tmp_path, "DNS:example.com")
    certificates = SipCertificates(settings_of(section), NOON)
    assert certificates.prepare(settings_of(section), NOON) is None
    offer = certificates.prepare(settings_of(section, client_certificates="require"), NOON)
    assert offer is not None
    assert certificates.settings.client_certificates == "off"
    client = SSL.Connection(make_context(), None)
    client.set_connect_state()
    certificates.take(offer)
    failed = shake_hands(client, certificates.accept())
    assert set(failed) == {"client", "server"}


def test_certificates_that_are_named_no_more_stay_until_the_restart_that_their_listeners_want(tmp_path: Path) -> None:
    certificates = SipCertificates(settings_of(write_sip_files(tmp_path)), NOON)
    assert certificates.prepare(TlsSettings(), NOON) is None
    assert shown_by(certificates)


@pytest.mark.parametrize(
    ("before", "label", "reason"), [("off", "", "tls-no-certificate"), ("request", "other", "tls-wrong-ca")]
)
def test_a_client_whose_handshake_began_before_certificates_were_required_is_refused(
    tmp_path: Path, before: Literal["off", "request"], label: str, reason: str
) -> None:
    section = write_sip_files(tmp_path)
    certificates = SipCertificates(settings_of(section, client_certificates=before), NOON)
    shown = make_sip_certificate("DNS:example.com", signer=make_signer(label, "x")) if label else None
    client, server = SSL.Connection(make_context(shown), None), certificates.accept()
    client.set_connect_state()
    offer = certificates.prepare(settings_of(section, client_certificates="require"), NOON)
    assert offer is not None
    certificates.take(offer)
    assert shake_hands(client, server) == {}
    with pytest.raises(IdentityFault) as refused:
        certificates.check_client(server)
    assert refused.value.reason == reason


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")  # `cryptography` refuses to make such a certificate
@pytest.mark.parametrize("mode", ["request", "require"])
def test_a_certificate_that_only_openssl_can_read_proves_nothing(tmp_path: Path, mode: str) -> None:
    """Any stranger may show one of a version that there is not, where certificates are asked for."""
    section = write_sip_files(tmp_path)
    requesting = SipCertificates(settings_of(section, client_certificates="request"), NOON)
    der = make_sip_certificate("DNS:example.com").public_bytes(serialization.Encoding.DER)
    odd = load_certificate(FILETYPE_ASN1, der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1))
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(odd)
    context.use_privatekey(make_node_key("sip"))
    client, server = SSL.Connection(context, None), requesting.accept()
    client.set_connect_state()
    assert shake_hands(client, server) == {}
    server.set_app_data(None)  # as if one of our authorities had signed it
    if mode == "request":
        assert requesting.check_client(server) == ()
        return
    with pytest.raises(IdentityFault, match="cannot be read: 5 is not a valid X509 version"):
        SipCertificates(settings_of(section, client_certificates="require"), NOON).check_client(server)
    with pytest.raises(IdentityFault, match="cannot be read"):
        requesting.check_server(server, "example.com")


def test_authorities_of_the_system_are_trusted_where_no_others_are_named(tmp_path: Path) -> None:
    """Ours is none of them."""
    section = write_sip_files(tmp_path, "URI:sip:example.com")
    for trust, reason in ((section["trust"], ""), ("", "tls-wrong-ca")):
        certificates = SipCertificates(settings_of(section, trust=trust), NOON)
        client = certificates.dial("example.com")
        server = SSL.Connection(make_context(make_sip_certificate("URI:sip:example.com"), make_node_key("sip")), None)
        server.set_accept_state()
        failed = shake_hands(client, server)
        if reason:
            assert reason_of_failure(client, failed["client"]) == reason
            assert explain(failed["client"]) == "certificate verify failed"
        else:
            assert failed == {}
            assert certificates.check_server(client, "example.com") == ("example.com",)


def test_a_client_s_session_is_resumed_by_ticket_only_where_it_need_not_prove_who_it_is(tmp_path: Path) -> None:
    section = write_sip_files(tmp_path)
    for wanted, resumed in (("off", True), ("request", False)):
        certificates = SipCertificates(settings_of(section, client_certificates=wanted), NOON)
        context = make_context(version=SSL.TLS1_2_VERSION)
        first = SSL.Connection(context, None)
        first.set_connect_state()
        assert shake_hands(first, certificates.accept()) == {}
        again, server = SSL.Connection(context, None), certificates.accept()
        again.set_connect_state()
        session = first.get_session()
        assert session is not None
        again.set_session(session)
        assert shake_hands(again, server) == {}
        assert (again.get_session() is not None, server.get_session() is not None) == (True, True)
        assert (first.master_key() == again.master_key()) is resumed
