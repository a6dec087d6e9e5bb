"""Which addresses are ours, and what our Via says."""

from __future__ import annotations

from typing import Any

import pytest

from farm.transport.local import LocalAddresses, canonical_host, find_own_addresses, format_address, is_unicast

OWN = ("192.0.2.1", "10.0.0.1", "2001:db8::1")


def make_addresses(
    *listeners: tuple[str, str, int], farm_name: str = "", advertise: str = "", port: int = 0, zone: str = ""
) -> LocalAddresses:
    addresses = LocalAddresses(farm_name, advertise, port, lambda: OWN, zone)
    for transport, host, number in listeners:
        addresses.add(f"{transport}:{host}:{number}", transport, host, number)
    return addresses


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("192.0.2.1", 5060, True),
        ("192.0.2.1", None, True),
        ("192.0.2.1", 5061, False),
        ("192.0.2.2", 5060, False),
        ("127.0.0.1", 5060, False),
        ("2001:DB8:0::1", 5080, True),
        ("[2001:db8::1]", 5080, True),
        ("2001:db8::1", None, False),
        ("example.com", None, False),
    ],
)
def test_a_listener_answers_for_its_address_and_port(host: str, port: int | None, expected: bool) -> None:
    addresses = make_addresses(("UDP", "192.0.2.1", 5060), ("TCP", "2001:db8::1", 5080))
    assert addresses.is_local(host, port) is expected


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("192.0.2.1", 5070, True),
        ("10.0.0.1", 5070, True),
        ("127.0.0.1", 5070, True),
        ("127.9.9.9", 5070, True),
        ("127.9.9.9", 5060, False),
        ("127.0.0.1", None, False),
        ("127.evil.example", 5070, False),
        ("2001:db8::1", 5070, False),
        ("192.0.2.9", 5070, False),
        ("0.0.0.0", 5070, False),
    ],
)
def test_a_listener_on_all_addresses_answers_for_the_machines_own(host: str, port: int | None, expected: bool) -> None:
    assert make_addresses(("UDP", "0.0.0.0", 5070)).is_local(host, port) is expected


def test_a_listener_on_all_ipv6_addresses_answers_for_those() -> None:
    addresses = make_addresses(("UDP", "::", 5060))
    assert [addresses.is_local(host, 5060) for host in ("2001:db8::1", "::1", "192.0.2.1")] == [True, True, False]


def test_the_farm_name_is_ours_with_and_without_port_in_any_spelling() -> None:
    addresses = make_addresses(("UDP", "192.0.2.1", 5070), farm_name="Sip.Example.com.")
    for host, port in (("sip.example.com", None), ("SIP.EXAMPLE.COM.", 5070), ("192.0.2.1", 5070)):
        assert addresses.is_local(host, port)
    assert not addresses.is_local("sip.example.com", 5062)


@pytest.mark.parametrize(
    ("farm_name", "sent_by"), [("", "192.0.2.1:5070"), ("sip.example.com", "sip.example.com:5070")]
)
def test_the_zone_s_name_is_ours_too_and_our_via_does_not_say_it(farm_name: str, sent_by: str) -> None:
    addresses = make_addresses(("UDP", "192.0.2.1", 5070), farm_name=farm_name, zone="Zone.Example.net.")
    for host, port in (("zone.example.net", None), ("ZONE.example.net.", 5070)):
        assert addresses.is_local(host, port)
    assert not addresses.is_local("zone.example.net", 5062)
    assert not addresses.is_local("n1.zone.example.net", None)
    assert not addresses.is_local("", None)
    assert addresses.sent_by("UDP:192.0.2.1:5070") == sent_by


@pytest.mark.parametrize(
    ("options", "listener", "expected"),
    [
        ({}, ("UDP", "192.0.2.1", 5060), "192.0.2.1"),
        ({}, ("UDP", "192.0.2.1", 5080), "192.0.2.1:5080"),
        ({}, ("TCP", "2001:db8::1", 5060), "[2001:db8::1]"),
        ({}, ("UDP", "0.0.0.0", 5060), "192.0.2.1"),
        ({}, ("UDP", "::", 5080), "[2001:db8::1]:5080"),
        ({"farm_name": "sip.example.com"}, ("UDP", "0.0.0.0", 5060), "sip.example.com"),
        ({"farm_name": "sip.example.com"}, ("UDP", "0.0.0.0", 5080), "sip.example.com:5080"),
        ({"advertise": "203.0.113.9"}, ("UDP", "10.0.0.1", 5060), "203.0.113.9"),
        ({"advertise": "203.0.113.9", "port": 5090}, ("UDP", "10.0.0.1", 5060), "203.0.113.9:5090"),
        ({"advertise": "203.0.113.9", "farm_name": "a.example"}, ("UDP", "10.0.0.1", 5060), "a.example"),
    ],
)
def test_our_via_names_the_farm_then_the_advertised_then_the_listeners_address(
    options: dict[str, Any], listener: tuple[str, str, int], expected: str
) -> None:
    addresses = make_addresses(listener, **options)
    sent_by = addresses.sent_by("{}:{}:{}".format(*listener))
    assert sent_by == expected
    host, _, port = sent_by.rpartition(":") if sent_by[-4:-2].isdigit() and ":" in sent_by else (sent_by, "", "")
    assert addresses.is_local(host, int(port) if port else None)


def test_addresses_that_no_single_machine_has() -> None:
    yes = ["192.0.2.1", "127.0.0.1", "2001:db8::1", "::1", "::ffff:192.0.2.1", "10.255.255.255"]
    no = ["224.0.0.1", "239.1.1.1", "255.255.255.255", "0.0.0.0", "::", "ff02::1", "::ffff:224.0.0.1", "a.example", ""]
    assert [host for host in yes if not is_unicast(host)] == []
    assert [host for host in no if is_unicast(host)] == []


def test_hosts_are_compared_in_one_form() -> None:
    assert canonical_host("EXAMPLE.com.") == "example.com"
    assert canonical_host("[2001:DB8:0:0::1]") == "2001:db8::1"
    assert canonical_host("not:an:address") == "not:an:address"
    assert format_address("2001:db8::1", 5061, "TLS") == "[2001:db8::1]"


def test_this_machines_addresses_are_numeric_and_not_loopback() -> None:
    found = find_own_addresses()
    assert all(is_unicast(host) and not host.startswith("127.") and host != "::1" for host in found)
