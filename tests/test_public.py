"""Where strangers reach a node: its own listeners, or what the operator says in their place."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from farm.addresses import write_listen
from farm.config import Config
from farm.public import MOST_LISTENERS, find_public, find_servers


def make_config(*listen: str, advertise: str = "", **dns: Any) -> Config:
    return msgspec.convert(
        {
            "node": {"name": "n1", "state_dir": "x"},
            "sip": {"domains": ["example.com"], "listen": list(listen), "advertise": advertise},
            "dns": dns,
        },
        Config,
    )


def public(config: Config) -> list[str]:
    return [write_listen(listen) for listen in find_public(config)]


BOTH = ("udp:0.0.0.0:5060", "tls:[::]:5061")


@pytest.mark.parametrize(
    ("listen", "more", "found"),
    [
        (("udp:192.0.2.1:5060", "tcp:[2001:db8::1]:5060"), {}, ["udp:192.0.2.1:5060", "tcp:[2001:db8::1]:5060"]),
        (BOTH, {}, []),
        (BOTH, {"addresses": ["192.0.2.9"]}, ["udp:192.0.2.9:5060"]),
        (BOTH, {"addresses": ["192.0.2.9", "2001:DB8::9"]}, ["udp:192.0.2.9:5060", "tls:[2001:db8::9]:5061"]),
        (("udp:10.0.0.1:5060",), {"advertise": "192.0.2.9"}, ["udp:192.0.2.9:5060"]),
        (("udp:10.0.0.1:5060",), {"advertise": "192.0.2.9:5070"}, ["udp:192.0.2.9:5070"]),
        (("udp:10.0.0.1:5060",), {"advertise": "sip.example.com:5070"}, ["udp:10.0.0.1:5060"]),
        (("udp:10.0.0.1:5060",), {"advertise": "192.0.2.9:5070", "addresses": ["192.0.2.8"]}, ["udp:192.0.2.8:5060"]),
        (("udp:10.0.0.1:5060", "udp:10.0.0.2:5060"), {"addresses": ["192.0.2.8"]}, ["udp:192.0.2.8:5060"]),
        (("udp:192.0.2.1:0",), {}, []),
    ],
)
def test_what_is_public(listen: tuple[str, ...], more: dict[str, Any], found: list[str]) -> None:
    assert public(make_config(*listen, **more)) == found


def test_no_more_is_said_than_others_take() -> None:
    listen = [f"udp:192.0.2.{number}:5060" for number in range(1, 40)]
    assert len(find_public(make_config(*listen))) == MOST_LISTENERS


def test_a_name_server_is_reached_where_it_listens_or_where_the_operator_says() -> None:
    listen = ["10.0.0.1:53", "[2001:db8::1]:53"]
    assert find_servers(make_config(listen=listen)) == ("10.0.0.1", "2001:db8::1")
    assert find_servers(make_config(listen=listen, addresses=["192.0.2.9"])) == ("192.0.2.9", "2001:db8::1")
    assert find_servers(make_config()) == ()
