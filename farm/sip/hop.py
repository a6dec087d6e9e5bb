"""One hop as a value: a transport, a numeric address and a port (the outcome of RFC 3263, the source of a packet).

It is the word that resolve, proxy, registrar and transport share, and it belongs to none of them.
"""

from __future__ import annotations

from typing import NamedTuple


class Hop(NamedTuple):
    """Where a message goes next, or where it came from.

    `transport` is "UDP", "TCP", "TLS", "WS" or "WSS"; `host` a numeric address, IPv6 without brackets.
    `local` names the listener whose socket must be used ("udp:127.0.0.1:5060"), because a NAT in between
    lets only its packets back in; "" leaves the choice to the transport.
    """

    transport: str
    host: str
    port: int
    local: str = ""

    @property
    def remote(self) -> tuple[str, str, int]:
        """The far end alone, whichever of our sockets is used."""
        return (self.transport, self.host, self.port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport.lower()}:{host}:{self.port}"
