"""Which names are ours: the served domains, and this element's own addresses."""

from __future__ import annotations

import pytest

from farm.proxy.domains import Domains
from farm.sip.uri import parse_uri
from tests.support.element import Addresses
from tests.support.messages import make_request


@pytest.fixture
def domains() -> Domains:
    return Domains(["Example.com", "example.net."], Addresses())


@pytest.mark.parametrize(
    ("uri", "domain"),
    [
        ("sip:bob@example.com", "example.com"),
        ("sips:bob@EXAMPLE.COM", "example.com"),
        ("sip:bob@example.com.", "example.com"),
        ("sip:bob@example.net:5060;transport=tcp", "example.net"),
        ("sip:example.com", "example.com"),
        ("sip:bob@192.0.2.1", "example.com"),
        ("sip:bob@192.0.2.1:5060", "example.com"),
        ("sip:bob@192.0.2.1:5070", None),  # another program on our machine
        ("sip:bob@sub.example.com", None),
        ("sip:bob@foreign.example", None),
        ("tel:+4930123", None),
        ("mailto:bob@example.com", None),
    ],
)
def test_users_of_a_served_domain_or_of_our_address_are_ours(domains: Domains, uri: str, domain: str | None) -> None:
    assert domains.domain_of(parse_uri(uri)) == domain


@pytest.mark.parametrize(
    ("uri", "aor"),
    [
        ("sip:bob@example.com;transport=tcp", "sip:bob@example.com"),
        ("sip:bob@EXAMPLE.com:5060", "sip:bob@example.com"),
        ("sips:bob@example.com", "sip:bob@example.com"),
        ("sip:b%6fb@example.com", "sip:bob@example.com"),
        ("sip:bob@192.0.2.1", "sip:bob@example.com"),  # a phone that knows the proxy's address and nothing else
        ("sip:bob@example.com.", "sip:bob@example.com"),
        ("sip:example.com", None),
        ("sip:bob@foreign.example", None),
        ("tel:+4930123", None),
    ],
)
def test_the_address_of_record_is_canonical_whatever_the_spelling(domains: Domains, uri: str, aor: str | None) -> None:
    assert domains.aor_of(parse_uri(uri)) == aor


@pytest.mark.parametrize(
    ("text", "aor", "domain"),
    [
        ("<sip:bob@example.com>", "sip:bob@example.com", "example.com"),
        ('"Bob <B>" <sip:bob@example.com>;tag=1', "sip:bob@example.com", "example.com"),
        ("Bob <sip:bob@Example.COM:5060;transport=tcp>", "sip:bob@example.com", "example.com"),
        ("<sips:b%6fb@example.net>", "sip:bob@example.net", "example.net"),
        ("<sip:bob:secret@example.com>", "sip:bob@example.com", "example.com"),
        ("sip:bob@192.0.2.1;tag=2", "sip:bob@example.com", "example.com"),
        ("<sip:example.com>", None, "example.com"),
        ("<sip:bob@foreign.example>", None, None),
        ("<tel:+4930123>", None, None),
    ],
)
def test_an_address_is_ours_as_its_uri_is(domains: Domains, text: str, aor: str | None, domain: str | None) -> None:
    assert domains.aor_of_address(text) == aor
    assert domains.domain_of_address(text) == domain


@pytest.mark.parametrize(
    ("route", "ours"),
    [
        ("sip:192.0.2.1;lr", True),
        ("sip:token@192.0.2.1:5060;transport=tcp;lr", True),
        ("sip:example.com;lr", True),
        ("sip:example.com:5060;lr", True),
        ("sip:example.com:5070;lr", False),  # another proxy of the house
        ("sip:192.0.2.1:5070;lr", False),
        ("sip:p1.foreign.example;lr", False),
        ("tel:+1", False),
    ],
)
def test_a_route_is_ours_when_it_names_our_address_or_our_domain(domains: Domains, route: str, ours: bool) -> None:
    assert domains.is_route_to_us(parse_uri(route)) is ours


def test_a_maddr_with_our_name_or_address_is_ours(domains: Domains) -> None:
    assert domains.serves("EXAMPLE.net", None)
    assert domains.serves("192.0.2.1", 5060)
    assert not domains.serves("192.0.2.2", None)


def test_the_sender_s_domain_is_that_of_from(domains: Domains) -> None:
    assert domains.domain_of_sender(make_request()) == "example.com"
    assert domains.domain_of_sender(make_request(from_="<sip:x@foreign.example>;tag=1")) == ""
    assert domains.domain_of_sender(make_request(from_="<tel:+4930123>;tag=1")) == ""


def test_other_domains_are_served_after_a_change() -> None:
    class Nowhere:
        def is_local(self, host: str, port: int | None) -> bool:
            return False

    domains = Domains(("example.com",), Nowhere())
    assert not domains.serves("example.net", None)
    domains.change(("Example.NET.", "example.org"))
    assert domains.serves("example.net", None)
    assert not domains.serves("example.com", None)
    assert domains.first == "example.net"
