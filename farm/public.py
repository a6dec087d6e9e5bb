"""Where strangers reach a node: its listeners, with `dns.addresses` or `sip.advertise` in place of their own addresses.

What a node says of itself to the others, for the zone and whoever else sends strangers there. Nothing is guessed: the
address where its peers reach a node may be an inner one. And what of it the operator may have forgotten to say, which
is no mistake where it is meant.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from farm.addresses import Listen, is_address, parse_host_port, parse_listen
from farm.config import Config

MOST_LISTENERS: Final = 16


def find_public(config: Config) -> list[Listen]:
    """Where strangers reach the listeners of a node; a wildcard without an address to say for it is left out, and so
    is a port that nobody knows yet."""
    addresses, port = _find_addresses(config)
    found: dict[Listen, None] = {}
    for listen in map(parse_listen, config.sip.listen):
        address = ipaddress.ip_address(listen.host)
        hosts = [host for host in addresses if ipaddress.ip_address(host).version == address.version]
        if not hosts and not address.is_unspecified:
            hosts = [listen.host]
        for host in hosts:
            if port or listen.port:
                found[Listen(listen.transport, host, port or listen.port)] = None
    return list(found)[:MOST_LISTENERS]


def find_servers(config: Config) -> tuple[str, ...]:
    """Where strangers reach the name server of a node."""
    addresses, _port = _find_addresses(config)
    found: set[str] = set()
    for text in config.dns.listen:
        own = ipaddress.ip_address(parse_host_port(text)[0])
        hosts = [host for host in addresses if ipaddress.ip_address(host).version == own.version]
        found.update(hosts or [str(own)])
    return tuple(sorted(found))[:MOST_LISTENERS]


def find_warnings(config: Config) -> list[str]:
    """What strangers will not find as one expects of a farm, a line each that names the setting. The configuration is
    as the node's roles leave it: one that speaks no SIP has no listeners."""
    sip, dns = config.sip, config.dns
    if not sip.listen and not sip.proxy_listen:
        return []
    found: list[str] = []
    said_once = sip.shared_address and sip.advertise  # the same in the Via of each
    if config.overlay.listen and not sip.farm_name and not said_once:
        found.append(
            "sip.farm_name: is empty, so each node writes its own address into Via and Record-Route, and what it has "
            "begun ends with it: name the farm where several nodes are to be one"
        )
    if sip.shared_address and any(map(_is_wildcard_udp, sip.listen)):
        found.append(
            "sip.listen: takes UDP at all addresses of this node, and what goes on after another node's end leaves "
            "from its own: name the address that the nodes share"
        )
    if dns.listen and not find_public(config):
        found.append(
            "dns.addresses: no listener in sip.listen has an address that strangers could be told, so this node will "
            "not be in its own zone: say its addresses here, or in sip.advertise"
        )
    return found


def _is_wildcard_udp(text: str) -> bool:
    listen = parse_listen(text)
    return listen.transport == "UDP" and ipaddress.ip_address(listen.host).is_unspecified


def _find_addresses(config: Config) -> tuple[tuple[str, ...], int | None]:
    """What is said of this node's addresses, and the port where that is another too."""
    if config.dns.addresses:
        return tuple(str(ipaddress.ip_address(text)) for text in config.dns.addresses), None
    if not config.sip.advertise:
        return (), None
    host, port = parse_host_port(config.sip.advertise)
    return ((host,), port) if is_address(host) else ((), None)
