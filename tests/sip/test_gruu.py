"""GRUUs as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.sip.gruu import gr_of, instance_of, make_public_gruu, make_temporary_gruu
from farm.sip.uri import parse_uri, uris_equal

INSTANCE = "<urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6>"


def test_the_public_one_is_the_address_with_the_instance() -> None:
    """The example of RFC 5627 §3.1.1; it equals its address-of-record (§5.4)."""
    text = make_public_gruu("sip:callee@example.com", "<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>")
    assert text == "sip:callee@example.com;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    assert uris_equal(parse_uri(text), parse_uri("sip:callee@example.com"))


def test_the_temporary_one_has_the_domain_alone_in_common_with_the_address() -> None:
    assert make_temporary_gruu("sip:alice@example.com", "Tx_y-z") == "sip:Tx_y-z@example.com;gr"


@pytest.mark.parametrize(
    ("uri", "gr"),
    [
        ("sip:alice@example.com", None),
        ("sip:alice@example.com;gr", ""),
        ("sip:alice@example.com;gr=", ""),
        ("sip:alice@example.com;GR=urn:uuid:ABC", "urn:uuid:abc"),
        ("sips:alice@example.com;gr=%75rn%3auuid:abc", "urn:uuid:abc"),
        ("tel:+4930123;gr=urn:uuid:abc", None),
        ("urn:service:sos", None),
    ],
)
def test_what_a_uri_says_of_one_phone(uri: str, gr: str | None) -> None:
    try:
        parsed = parse_uri(uri)
    except Exception:
        assert gr == "", "a parameter without its value is none of the grammar's"
        return
    assert gr_of(parsed) == gr


def test_an_instance_is_compared_without_brackets_and_case() -> None:
    assert instance_of(INSTANCE) == "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6" == instance_of(INSTANCE[1:-1])
    assert instance_of("") == ""


@given(st.text(min_size=1, max_size=60).filter(lambda text: text.strip("<>") == text))
def test_whatever_the_instance_its_gruu_is_a_uri_that_says_it(instance: str) -> None:
    uri = parse_uri(make_public_gruu("sip:alice@example.com", f"<{instance}>"))
    assert gr_of(uri) == instance_of(instance)
    assert (uri.user, uri.host) == ("alice", "example.com")
