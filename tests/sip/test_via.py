"""The Via header: reading, matching, and what a server adds to it."""

from __future__ import annotations

import pytest
from hypothesis import given

from farm.sip.status import SipError
from farm.sip.via import parse_via
from tests.support.strategies import vias


def test_every_part_of_a_via_is_read() -> None:
    via = parse_via(
        'SIP/2.0/udp Host.Example.com:5070;branch=z9hG4bKa;rport=5071;received=192.0.2.7;maddr=224.0.0.1;ttl=16;X="y;z"'
    )
    assert (via.transport, via.host, via.port, via.branch) == ("UDP", "Host.Example.com", 5070, "z9hG4bKa")
    assert (via.rport, via.received, via.maddr, via.ttl) == (5071, "192.0.2.7", "224.0.0.1", 16)
    assert via.params["x"] == '"y;z"'
    assert via.sent_by == "host.example.com:5070"


@pytest.mark.parametrize(
    ("text", "branch", "rport"),
    [
        ("SIP/2.0/UDP 192.0.2.1", "", None),
        ("SIP/2.0/UDP 192.0.2.1;branch=x", "x", None),
        ("SIP/2.0/UDP 192.0.2.1;branch=x;rport", "x", 0),
        ("SIP/2.0/UDP 192.0.2.1;rport;branch=x", "x", 0),
        ("SIP/2.0/UDP 192.0.2.1;rport", "", 0),
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=x;rport=99", "x", 99),
        ("sip / 2.0 / UDP \t 192.0.2.1 : 5060 ; branch = x ;rport", "x", 0),
    ],
)
def test_branch_and_rport_are_found_in_any_order(text: str, branch: str, rport: int | None) -> None:
    via = parse_via(text)
    assert (via.transport, via.host, via.branch, via.rport) == ("UDP", "192.0.2.1", branch, rport)
    assert str(via) == text


@pytest.mark.parametrize(
    ("text", "sent_by"),
    [
        ("SIP/2.0/TLS HOST", "host"),
        ("SIP/2.0/TLS host:5061", "host:5061"),
        ("SIP/2.0/TLS [2001:DB8::1]:5061", "[2001:db8::1]:5061"),
        ("SIP/2.0/TLS [2001:DB8::1]", "[2001:db8::1]"),
    ],
)
def test_the_sent_by_is_compared_in_lower_case_with_the_port_as_written(text: str, sent_by: str) -> None:
    assert parse_via(text).sent_by == sent_by


@pytest.mark.parametrize("received", ["2001:db8::9:255", "[2001:db8::9:255]", "2001:DB8:0::9:255"])
def test_an_ipv6_address_in_received_is_read_with_and_without_brackets(received: str) -> None:
    via = parse_via(f"SIP/2.0/UDP [2001:db8::9:1];received={received};branch=z9hG4bKas3")
    assert via.received == "2001:db8::9:255"
    assert via.host == "2001:db8::9:1"


@pytest.mark.parametrize(
    ("branch", "magic"),
    [("z9hG4bKa", True), ("Z9HG4BKa", True), ("z9hG4bK", False), ("z9hG4b", False), ("x", False), ("", False)],
)
def test_only_the_cookie_and_something_after_it_names_a_transaction(branch: str, magic: bool) -> None:
    via = parse_via(f"SIP/2.0/UDP h;branch={branch}" if branch else "SIP/2.0/UDP h")
    assert via.is_magic is magic


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0 UDP h",
        "SIP/7.0/UDP h",
        "SIP/2.0/UDPh",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDP h;;",
        "SIP/2.0/UDP h;",
        "SIP/2.0/UDP h,",
        "SIP/2.0/UDP h:;branch=x",
        "SIP/2.0/UDP h:65536",
        "SIP/2.0/UDP h:5_0",
        "SIP/2.0/UDP h:-1",
        "SIP/2.0/UDP a b",
        "SIP/2.0/UDP a_b;branch=x",
        "SIP/2.0/UDP 1.2.3.256;branch=x",
        "SIP/2.0/UDP 2001:db8::1;branch=x",
        "SIP/2.0/UDP [2001:db8::1;branch=x",
        "SIP/2.0/UDP h;branch=a b",
        "SIP/2.0/UDP h;branch=a;branch=b",
        "SIP/2.0/UDP h;branch=",
        "SIP/2.0/UDP h;branch",
        'SIP/2.0/UDP h;branch="a"',
        "SIP/2.0/UDP h;branch=a\x00",
        "SIP/2.0/UDP h;branch=a\n",
        "SIP/2.0/UDP h;received=example.com",
        "SIP/2.0/UDP h;received",
        "SIP/2.0/UDP h;received=1.2.3.4:5",
        "SIP/2.0/UDP h;rport=x",
        "SIP/2.0/UDP h;rport=65536",
        "SIP/2.0/UDP h;ttl=256",
    ],
)
def test_a_broken_via_is_a_400(text: str) -> None:
    with pytest.raises(SipError) as caught:
        parse_via(text)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=x", "SIP/2.0/UDP 192.0.2.1:5060;branch=x"),
        ("SIP/2.0/UDP 10.0.0.1;branch=x", "SIP/2.0/UDP 10.0.0.1;branch=x;received=192.0.2.1"),
        ("SIP/2.0/UDP host;branch=x;q", "SIP/2.0/UDP host;branch=x;q;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;branch=x;rport", "SIP/2.0/UDP 192.0.2.1;branch=x;rport=5099;received=192.0.2.1"),
        ("SIP/2.0/UDP h;rport=1;branch=x", "SIP/2.0/UDP h;rport=5099;branch=x;received=192.0.2.1"),
        ("SIP/2.0/UDP h;received=6.6.6.6;branch=x", "SIP/2.0/UDP h;branch=x;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;received=6.6.6.6;branch=x", "SIP/2.0/UDP 192.0.2.1;branch=x"),
        ("sip / 2.0 / udp h ; branch = x", "sip / 2.0 / udp h;branch=x;received=192.0.2.1"),
    ],
)
def test_the_server_notes_where_the_packet_came_from(text: str, stored: str) -> None:
    assert parse_via(text).with_source("192.0.2.1", 5099) == stored
    parse_via(stored)


def test_an_ipv6_source_is_compared_as_an_address_and_noted_without_brackets() -> None:
    same = "SIP/2.0/TCP [2001:DB8:0::1]:5060;branch=x"
    assert parse_via(same).with_source("2001:db8::1", 5099) == same
    noted = parse_via("SIP/2.0/TCP [2001:db8::2];branch=x").with_source("2001:db8::1", 5099)
    assert noted == "SIP/2.0/TCP [2001:db8::2];branch=x;received=2001:db8::1"
    assert parse_via(noted).received == "2001:db8::1"


@given(vias())
def test_a_via_keeps_its_text_and_what_is_noted_reads_back(text: str) -> None:
    via = parse_via(text)
    assert str(via) == text
    noted = parse_via(via.with_source("198.51.100.9", 4000))
    assert (noted.transport, noted.sent_by, noted.branch) == (via.transport, via.sent_by, via.branch)
    assert noted.received == "198.51.100.9" or noted.host == "198.51.100.9"
    assert noted.rport == (None if via.rport is None else 4000)
