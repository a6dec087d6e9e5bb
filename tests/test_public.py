"""Where strangers reach a node: its own listeners, or what the operator says in their place."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from farm.addresses import write_listen
from farm.config import Config
from farm.public import MOST_LISTENERS, find_public, find_servers, find_warnings


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


def warned_of(**sections: dict[str, Any]) -> list[str]:
    """The settings that there is a warning of."""
    tree: dict[str, dict[str, Any]] = {"node": {"name": "n1", "state_dir": "x"}, **sections}
    tree["sip"] = {"domains": ["example.com"], **tree.get("sip", {})}
    return [warning.partition(":")[0] for warning in find_warnings(msgspec.convert(tree, Config))]


OVERLAY = {"listen": "10.0.0.1:7400"}


@pytest.mark.parametrize(
    ("overlay", "sip", "warned"),
    [
        (OVERLAY, {}, True),
        (OVERLAY, {"listen": [], "proxy_listen": ["tcp:10.0.0.1:5070"]}, True),
        (OVERLAY, {"advertise": "192.0.2.9"}, True),
        (OVERLAY, {"shared_address": True, "listen": ["udp:192.0.2.9:5060"]}, True),
        (OVERLAY, {"shared_address": True, "listen": ["udp:192.0.2.9:5060"], "advertise": "192.0.2.9"}, False),
        (OVERLAY, {"farm_name": "sip.example.com"}, False),
        (OVERLAY, {"listen": []}, False),
        ({}, {}, False),
    ],
)
def test_several_nodes_that_name_themselves_instead_of_the_farm_are_warned_of(
    overlay: dict[str, Any], sip: dict[str, Any], warned: bool
) -> None:
    assert warned_of(overlay=overlay, sip=sip) == ["sip.farm_name"] * warned


@pytest.mark.parametrize(
    ("sip", "dns", "warned"),
    [
        ({}, {}, True),
        ({"advertise": "sip.example.com"}, {}, True),
        ({"listen": ["udp:[::]:5060"]}, {"addresses": ["192.0.2.9"]}, True),
        ({}, {"addresses": ["192.0.2.9"]}, False),
        ({"advertise": "192.0.2.9"}, {}, False),
        ({"listen": ["udp:0.0.0.0:5060", "udp:192.0.2.1:5060"]}, {}, False),
        ({"listen": []}, {}, False),
        ({}, {"listen": []}, False),
    ],
)
def test_a_name_server_that_would_not_be_in_its_own_zone_is_warned_of(
    sip: dict[str, Any], dns: dict[str, Any], warned: bool
) -> None:
    zone = {"zone": "sip.example.com", "listen": ["192.0.2.1:53"], **dns}
    assert warned_of(sip=sip, dns=zone) == ["dns.addresses"] * warned


@pytest.mark.parametrize(
    ("listen", "shared", "warned"),
    [
        (["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"], True, True),
        (["udp:192.0.2.9:5060", "udp:[::]:5060"], True, True),
        (["udp:192.0.2.9:5060", "tcp:0.0.0.0:5060"], True, False),
        (["udp:0.0.0.0:5060"], False, False),
    ],
)
def test_nodes_that_do_not_name_the_address_that_they_share_are_warned_of(
    listen: list[str], shared: bool, warned: bool
) -> None:
    assert warned_of(sip={"listen": listen, "shared_address": shared}) == ["sip.listen"] * warned
