"""Which addresses and names are ours, and what our Via says (RFC 3261 §18.1.1, §18.1.2).

A listener answers for its address and port, for the names that the settings give the farm, and, when it is bound to
all addresses, for every address of the machine. Asked for each Route, Request-URI and response, so it is one look into
a set. The addresses are asked of the system once, at the start.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

DEFAULT_PORTS: Final = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}
WILDCARDS: Final = ("0.0.0.0", "::")
_MAPPED: Final = bytes(10) + b"\xff\xff"  # an IPv4 address in IPv6 clothes (RFC 4291 §2.5.5.2)


def canonical_host(host: str) -> str:
    """A host in the form that is compared: lower case, no brackets, no final dot, IPv6 in its shortest spelling."""
    host = host.lower().rstrip(".")
    if ":" in host:
        with suppress(ValueError):
            return ipaddress.ip_address(host.strip("[]")).compressed
    return host


def format_address(host: str, port: int, transport: str) -> str:
    """Host and port as a sent-by, the port left out when it is the transport's default."""
    text = f"[{host}]" if ":" in host else host
    return text if port == DEFAULT_PORTS[transport] else f"{text}:{port}"


def make_listener_name(transport: str, host: str, port: int) -> str:
    """What a listener is called: `udp:192.0.2.1:5060`."""
    return f"{transport.lower()}:[{host}]:{port}" if ":" in host else f"{transport.lower()}:{host}:{port}"


def is_unicast(host: str) -> bool:
    """Whether a host is a numeric address that one machine can have: not multicast, broadcast or unspecified."""
    try:
        if ":" in host:
            packed = socket.inet_pton(socket.AF_INET6, host)
            if packed[:12] != _MAPPED:
                return packed[0] != 0xFF and any(packed)
            packed = packed[12:]
        else:
            packed = socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return 0 < packed[0] < 224


def is_loopback(host: str) -> bool:
    """Whether a numeric address is the machine's own, in whatever spelling."""
    if not host.startswith("::"):
        return host.startswith("127.")
    with suppress(ValueError):
        address = ipaddress.IPv6Address(host)
        return address.is_loopback or (address.ipv4_mapped is not None and address.ipv4_mapped.is_loopback)
    return False


def find_own_addresses() -> list[str]:
    """The addresses of this machine that other machines may know, without loopback.

    The one that packets to the world would leave from (a connected UDP socket sends nothing), those that the host
    name resolves to, and the IPv6 addresses that Linux lists.
    """
    found: dict[str, None] = {}
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            found[probe.getsockname()[0]] = None
    with suppress(OSError):
        for entry in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_DGRAM):
            found[str(entry[4][0])] = None
    with suppress(OSError), open("/proc/net/if_inet6", encoding="ascii") as table:
        for line in table:
            found[str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))] = None
    return [host for host in found if not ipaddress.ip_address(host.partition("%")[0]).is_loopback]


class LocalAddresses:
    """What is ours. `farm_name` and `advertise` are as in the settings, the latter without its port. `zone` is the name
    whose addresses are the farm's: it leads to us as `farm_name` does, and our Via never says it."""

    __slots__ = (
        "_advertise",
        "_advertise_port",
        "_farm_name",
        "_find_own",
        "_loopback_ports",
        "_own",
        "_pairs",
        "_sent_by",
        "_zone",
    )

    def __init__(
        self,
        farm_name: str = "",
        advertise: str = "",
        advertise_port: int = 0,
        find_own: Callable[[], Iterable[str]] = find_own_addresses,
        zone: str = "",
    ) -> None:
        self._farm_name = canonical_host(farm_name)
        self._zone = canonical_host(zone)
        self._advertise = canonical_host(advertise)
        self._advertise_port = advertise_port
        self._find_own = find_own
        self._own: list[str] | None = None
        self._pairs: set[tuple[str, int | None]] = set()
        self._loopback_ports: set[int | None] = set()
        self._sent_by: dict[str, str] = {}

    def add(self, name: str, transport: str, host: str, port: int) -> None:
        """A listener of that name is open."""
        hosts = [host]
        if host in WILDCARDS:
            if self._own is None:
                self._own = [canonical_host(own) for own in self._find_own()]
            hosts = [own for own in self._own if (":" in own) == (":" in host)]
            if host == "::":
                hosts.append("::1")
            else:
                self._loopback_ports.update(self._spellings(port, transport))
        for own in hosts:
            self._pairs.update((own, spelling) for spelling in self._spellings(port, transport))
        public_port = self._advertise_port or port
        for own in (self._farm_name, self._zone, self._advertise):
            if own:
                # A name without a port leads to us by SRV whatever the port is (RFC 3263 §4.2).
                self._pairs.update(((own, public_port), (own, port), (own, None)))
        public = self._farm_name or self._advertise
        if not public:
            public, public_port = (hosts[0] if hosts else host), port
        self._sent_by[name] = format_address(public, public_port, transport)

    def is_local(self, host: str, port: int | None) -> bool:
        """Whether host and port (None when not written) name one of our listeners."""
        pairs = self._pairs
        if (host, port) in pairs:
            return True
        host = canonical_host(host)
        if (host, port) in pairs:
            return True
        return host.startswith("127.") and port in self._loopback_ports and is_unicast(host)

    def sent_by(self, name: str) -> str:
        """The sent-by of our Via on the listener of that name."""
        return self._sent_by[name]

    @staticmethod
    def _spellings(port: int, transport: str) -> tuple[int | None, ...]:
        return (port, None) if port == DEFAULT_PORTS[transport] else (port,)
