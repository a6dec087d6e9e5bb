"""Who calls whom, whatever strangers write around it."""

from __future__ import annotations

import pytest

from farm.accounting.parties import clean, keep_uri, split_address, split_uri, write_hop
from farm.sip.hop import Hop


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("sip:bob@example.com", ("bob", "example.com")),
        ("SIPS:bob:secret@[2001:db8::1]:5061;transport=tcp", ("bob", "2001:db8::1")),
        ("sip:+49;phone-context=x?y@h:5060?Subject=a@b", ("+49;phone-context=x?y", "h")),
        ("sip:192.0.2.1;maddr=1.2.3.4", ("", "192.0.2.1")),
        ("tel:+4930123;ext=1", ("+4930123", "")),
        ("sip:%2b49%20123@h", ("+49 123", "h")),
        ("sip:+49:" + "x" * 2000 + "@h", ("+49", "h")),
        ("mailto:a@b", ("", "")),
        ("", ("", "")),
    ],
)
def test_user_and_domain_of_a_uri(uri: str, parts: tuple[str, str]) -> None:
    assert split_uri(uri) == parts


@pytest.mark.parametrize(
    "address",
    [
        "<sip:bob@h>;tag=1", "sip:bob@h;tag=1", 'Bob <sip:bob@h;x>;tag=<2>', '"a <sip:eve@x> b" <sip:bob@h>',
        '"\\"<" <sip:bob@h>',
        f'"{"x" * 5000}" <sip:%62ob@h>;tag=1',
    ],
)  # fmt: skip
def test_user_and_domain_of_a_from(address: str) -> None:
    assert split_address(address) == ("bob", "h")


def test_a_from_that_cannot_be_read_is_nobody_s() -> None:
    assert split_address('"unended <sip:bob@h>') == ("", "")
    assert split_address("") == ("", "")


def test_text_of_strangers_is_short_and_prints() -> None:
    assert clean('"\\ ü ☎') == '"\\ ü ☎'
    assert clean("a\r\nb\x00\x1b[31m\x9b\u2028\udcff") == "a\ufffd\ufffdb\ufffd\ufffd[31m\ufffd\ufffd\ufffd"
    assert len(clean("x" * 100_000)) == 256


@pytest.mark.parametrize(
    "uri",
    [
        "sip:bob@h", "sip:bob:" + "x" * 1000 + "@[2001:db8::1]", "sip:%40%3a%2525:" + "x" * 1000 + "@h",
        "tel:+4930;" + "x" * 1000, "sip:h;" + "x" * 1000, "sip:" + "u" * 10_000 + "@" + "h" * 10_000,
    ],
)  # fmt: skip
def test_a_uri_that_is_kept_is_short_and_names_the_same(uri: str) -> None:
    assert len(keep_uri(uri)) < 2_000
    assert split_uri(keep_uri(uri)) == split_uri(uri)


def test_address_and_port_of_a_hop() -> None:
    assert write_hop(Hop("UDP", "192.0.2.1", 5060)) == "192.0.2.1:5060"
    assert write_hop(Hop("TLS", "2001:db8::1", 5061)) == "[2001:db8::1]:5061"
    assert write_hop(Hop("TCP", "", 0, "#7")) == ""
