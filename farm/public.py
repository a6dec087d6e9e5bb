"""Where strangers reach a node: its listeners, with `dns.addresses` or `sip.advertise` in place of their own addresses.

What a node says of itself to the others, for the zone and whoever else sends strangers there. Nothing is guessed: the
address where its peers reach a node may be an inner one.
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


def _find_addresses(config: Config) -> tuple[tuple[str, ...], int | None]:
    """What is said of this node's addresses, and the port where that is another too."""
    if config.dns.addresses:
        return tuple(str(ipaddress.ip_address(text)) for text in config.dns.addresses), None
    if not config.sip.advertise:
        return (), None
    host, port = parse_host_port(config.sip.advertise)
    return ((host,), port) if is_address(host) else ((), None)
