"""Whose certificate it is: RFC 5922 §7 as a table, and what the table does not say."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from farm.security.sip_identity import (
    MOST_IDENTITIES,
    IdentityFault,
    check_domain,
    find_identities,
    find_server_names,
    normalise,
)
from tests.support.certificate_matrix import MATRIX, OF_THE_CHAIN, Case
from tests.support.certificates import make_sip_certificate


@pytest.mark.parametrize("case", MATRIX, ids=lambda case: case.name)
def test_a_server_is_who_its_certificate_says(case: Case) -> None:
    certificate = case.make()
    if not case.verdict or case.verdict in OF_THE_CHAIN:
        assert case.domain in check_domain(certificate, case.domain)
    else:
        with pytest.raises(IdentityFault) as refused:
            check_domain(certificate, case.domain)
        assert refused.value.reason == case.verdict


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
        ("*.example.com", ""),
        ("exa mple.com", ""),
        ("example.com\0.example.org", ""),
        ("", ""),
        (".", ""),
        ("a" * 64 + ".com", ""),
    ],
)
def test_names_are_compared_whole_and_in_lower_case(written: str, compared: str) -> None:
    assert normalise(written) == compared


def test_a_domain_that_is_none_matches_nothing() -> None:
    with pytest.raises(IdentityFault, match=r"not for \*\.example\.com but for example\.com"):
        check_domain(make_sip_certificate("DNS:*.example.com", "DNS:example.com"), "*.example.com")


def test_all_that_a_certificate_proves_is_told_once() -> None:
    certificate = make_sip_certificate("URI:sip:b.example", "URI:sip:A.example:5061;transport=tls", "URI:sip:b.example")
    assert find_identities(certificate, dialled=False) == ("b.example", "a.example")


def test_a_port_in_a_sip_uri_and_an_address_in_one_are_read_past_and_read() -> None:
    certificate = make_sip_certificate("URI:sip:[2001:db8::1]:5061", "URI:sip:192.0.2.7")
    assert find_identities(certificate, dialled=False) == ("2001:db8::1", "192.0.2.7")


def test_who_dials_may_have_a_client_s_certificate_or_a_server_s() -> None:
    for usage in (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH):
        certificate = make_sip_certificate("URI:sip:example.com", usage=(usage,))
        assert find_identities(certificate, dialled=True) == ("example.com",)
    with pytest.raises(IdentityFault) as refused:
        find_identities(make_sip_certificate("DNS:a.b", usage=(ExtendedKeyUsageOID.CODE_SIGNING,)), dialled=True)
    assert refused.value.reason == "tls-wrong-usage"


@pytest.mark.parametrize("tag", [0xA0, 0xA3, 0xA5, 0x87])
def test_a_certificate_whose_names_cannot_be_read_proves_nothing(tag: int) -> None:
    """Of kinds that the library knows and does not read, or that are not what they say."""
    der = make_sip_certificate("DNS:example.com").public_bytes(Encoding.DER)
    name = b"\x0bexample.com"
    certificate = x509.load_der_x509_certificate(der.replace(b"\x82" + name, bytes((tag,)) + name))
    with pytest.raises(IdentityFault, match="cannot be read"):
        find_identities(certificate, dialled=True)


def test_a_certificate_with_ever_more_names_proves_only_so_many() -> None:
    certificate = make_sip_certificate(*(f"DNS:d{number}.example" for number in range(MOST_IDENTITIES + 50)))
    assert len(find_identities(certificate, dialled=True)) == MOST_IDENTITIES


def test_a_server_shows_a_certificate_for_each_name_in_it_also_for_a_wildcard() -> None:
    certificate = make_sip_certificate(
        "URI:sip:Example.com", "DNS:sip.example.com", "DNS:*.example.net", "IP:192.0.2.1"
    )
    assert find_server_names(certificate) == ("example.com", "sip.example.com", "*.example.net")
    assert find_server_names(make_sip_certificate(common_name="example.com")) == ("example.com",)
