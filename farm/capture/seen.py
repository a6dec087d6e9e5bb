"""One message as it was on the wire, of TLS and WebSocket what was inside: when, from where to where, and its bytes."""

from __future__ import annotations

from typing import NamedTuple

Address = tuple[str, int]


class Seen(NamedTuple):
    """`time` is microseconds since 1970 by this node's clock; `local` is the node's end, and `sent` says that it was
    the sender. `transport` is "UDP", "TCP", "TLS", "WS" or "WSS"."""

    time: int
    transport: str
    sent: bool
    local: Address
    remote: Address
    data: bytes

    @property
    def source(self) -> Address:
        """Who sent it."""
        return self.local if self.sent else self.remote

    @property
    def destination(self) -> Address:
        """Whom it was sent to."""
        return self.remote if self.sent else self.local
