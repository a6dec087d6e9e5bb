"""hosts(5), resolv.conf(5) and the addresses of name servers."""

from __future__ import annotations

import pytest

from farm.resolve.hosts import parse_hosts, parse_resolv_conf, parse_server
from farm.resolve.records import Question


def test_every_name_of_a_line_has_its_address() -> None:
    hosts = parse_hosts("# comment\n127.0.0.1 localhost\n\n192.0.2.9\tPBX.example.com pbx # the old one\n")
    assert hosts[Question("A", "localhost")] == ("127.0.0.1",)
    assert hosts[Question("A", "pbx.example.com")] == ("192.0.2.9",)
    assert hosts[Question("A", "pbx")] == ("192.0.2.9",)
    assert Question("A", "the") not in hosts


def test_several_lines_add_up_and_each_family_has_its_own() -> None:
    hosts = parse_hosts("192.0.2.1 gw\n192.0.2.2 gw\n2001:DB8::1 gw\n192.0.2.1 gw\n")
    assert hosts[Question("A", "gw")] == ("192.0.2.1", "192.0.2.2")
    assert hosts[Question("AAAA", "gw")] == ("2001:db8::1",)


def test_a_name_with_one_family_only_has_none_of_the_other() -> None:
    assert parse_hosts("192.0.2.1 gw\n")[Question("AAAA", "gw")] == ()


def test_lines_that_are_no_addresses_are_passed_over() -> None:
    assert parse_hosts("nonsense gw\n999.1.1.1 gw\n192.0.2.1\n") == {}


def test_name_servers_come_from_resolv_conf() -> None:
    text = "search example.com\nnameserver 192.0.2.53\n# nameserver 192.0.2.54\nnameserver 2001:db8::53\nnameserver x\n"
    assert parse_resolv_conf(text) == [("192.0.2.53", 53), ("2001:db8::53", 53)]


def test_without_any_this_machine_is_asked() -> None:
    assert parse_resolv_conf("options edns0\n") == [("127.0.0.1", 53)]


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_a_configured_server_is_an_address_with_or_without_a_port(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize(
    "text", ["", "dns.example.com", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:70000", ":53", "1.2:x"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the numeric address of a name server"):
        parse_server(text)
