"""Addresses and listeners as operators write them: `HOST:PORT`, `udp:HOST:PORT`.

Numeric addresses are told from names where it matters, by whoever calls; IPv6 stands in brackets before a port.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

_TRANSPORTS: Final = ("udp", "tcp", "tls", "ws", "wss")


class Listen(NamedTuple):
    """One listener: `transport` is "UDP", "TCP", "TLS", "WS" or "WSS", `host` a numeric address without brackets, port
    0 any free one."""

    transport: str
    host: str
    port: int


def parse_listen(text: str) -> Listen:
    """A listener from `udp:HOST:PORT`; raises ValueError with what is wrong."""
    transport, _, rest = text.partition(":")
    if transport.lower() not in _TRANSPORTS:
        known = f"{', '.join(_TRANSPORTS[:-1])} or {_TRANSPORTS[-1]}"
        raise ValueError(f'"{text}" must start with {known}, as in "udp:0.0.0.0:5060"')
    host, port = parse_host_port(rest)
    if port is None:
        raise ValueError(f'"{text}" lacks a port, as in "{transport}:{rest or "0.0.0.0"}:5060"')
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f'"{host}" in "{text}" is not a numeric address') from None
    return Listen(transport.upper(), str(address), port)


def write_listen(listen: Listen) -> str:
    """`udp:HOST:PORT`, as `parse_listen` reads it."""
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{listen.transport.lower()}:{host}:{listen.port}"


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Host (brackets of IPv6 taken off) and port (None when there is none) of `HOST`, `HOST:PORT` or `[IPv6]:PORT`.

    Raises ValueError with what is wrong.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f'"{text}" is not [IPv6] or [IPv6]:PORT')
        colon, port_text = rest[:1], rest[1:]
    else:
        host, colon, port_text = text.partition(":")
        if ":" in port_text:
            raise ValueError(f'"{text}": write an IPv6 address in brackets')
    if not host:
        raise ValueError(f'"{text}" lacks a host')
    if not colon:
        return host, None
    if not re.fullmatch("[0-9]{1,5}", port_text) or int(port_text) > 65_535:
        raise ValueError(f'"{text}": the port must be 0 (any free one) to 65535')
    return host, int(port_text)


def is_address(host: str) -> bool:
    """Whether it is a numeric address of one machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not address.is_unspecified and not address.is_multicast
