"""The throw-away certificate: what it proves, and that its authority lasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.config import TlsSettings
from farm.security.certificate import is_signed_by, lifetime_of, make_key, pack_key, unpack_certificates
from farm.security.sip_certificates import SipCertificates
from farm.security.sip_identity import check_domain, find_server_names
from farm.security.throw_away import ThrowAway, write_throw_away
from tests.support.certificates import NOON

DOMAINS = ("example.com", "sip.example.com")


def read(paths: ThrowAway) -> bytes:
    return Path(paths.certificate).read_bytes()


def test_phones_and_proxies_find_what_they_look_for(tmp_path: Path) -> None:
    paths = write_throw_away(str(tmp_path / "tls"), DOMAINS, ("127.0.0.11", "127.0.0.12"), NOON)
    (certificate,) = unpack_certificates(read(paths))
    assert check_domain(certificate, "example.com") == DOMAINS
    assert check_domain(certificate, "sip.example.com") == DOMAINS
    assert find_server_names(certificate) == DOMAINS
    text = str(certificate.extensions)
    assert "127.0.0.11" in text
    assert "127.0.0.12" in text
    not_before, not_after = lifetime_of(certificate)
    assert not_before < NOON
    assert not_after == NOON + 365 * 86_400


def test_a_node_takes_the_files_as_they_are(tmp_path: Path) -> None:
    paths = write_throw_away(str(tmp_path), DOMAINS, (), NOON)
    settings = TlsSettings(certificates=(paths.certificate,), keys=(paths.key,), trust=paths.trust)
    assert SipCertificates(settings, NOON).not_after == NOON + 365 * 86_400


def test_the_authority_stays_and_the_certificate_is_made_anew(tmp_path: Path) -> None:
    first = read(write_throw_away(str(tmp_path), DOMAINS, (), NOON))
    paths = write_throw_away(str(tmp_path), DOMAINS, (), NOON + 1)
    assert read(paths) != first
    authorities = unpack_certificates(Path(paths.trust).read_bytes())
    for pem in (first, read(paths)):
        assert is_signed_by(unpack_certificates(pem)[0], authorities)


def test_an_authority_whose_key_is_another_s_is_refused(tmp_path: Path) -> None:
    write_throw_away(str(tmp_path), DOMAINS, (), NOON)
    (tmp_path / "ca.key").write_bytes(pack_key(make_key()))
    with pytest.raises(ValueError, match=r"ca\.pem is not for the key in .*ca\.key"):
        write_throw_away(str(tmp_path), DOMAINS, (), NOON)
