"""Addresses and listeners as operators write them. How mistakes read is shown in `test_config`."""

from __future__ import annotations

import pytest

from farm.addresses import Listen, is_address, parse_host_port, parse_listen, write_listen


def test_a_listener_is_transport_host_and_port() -> None:
    assert parse_listen("udp:0.0.0.0:5060") == Listen("UDP", "0.0.0.0", 5060)
    assert parse_listen("WSS:[2001:DB8::1]:443") == Listen("WSS", "2001:db8::1", 443)


@pytest.mark.parametrize("text", ["udp:0.0.0.0:5060", "wss:[2001:db8::1]:443"])
def test_a_listener_is_written_as_it_is_read(text: str) -> None:
    assert write_listen(parse_listen(text)) == text


def test_a_port_may_be_missing_from_an_address() -> None:
    assert parse_host_port("example.com") == ("example.com", None)
    assert parse_host_port("[::1]") == ("::1", None)
    assert parse_host_port("[::1]:53") == ("::1", 53)


@pytest.mark.parametrize("text", ["udp:localhost:5060", "udp:127.0.0.1", "sctp:127.0.0.1:5060", "udp:::1:5060", ""])
def test_what_is_no_listener_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_listen(text)


@pytest.mark.parametrize("text", ["", ":5060", "[::1", "[::1]x", "a:b", "a:70000", "::1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_host_port(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("192.0.2.1", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("224.0.0.1", False), ("a.example", False)],
)
def test_an_address_is_of_one_machine(text: str, is_one: bool) -> None:
    assert is_address(text) is is_one
