"""Sockets that somebody else has bound and handed over, systemd's of a socket unit say: which listener takes which.

A socket is known by what it is bound to, not by its order or name: `udp:0.0.0.0:5060` in the settings takes the
datagram socket bound to 0.0.0.0 port 5060, and `tls:` or `ws:` the stream socket of its port. `TransportLayer` asks
before it binds one of its own, and refuses to start while one is left that no listener wants: whoever connects to it
would wait for ever.

Decided: no FileDescriptorName=: a name beside the address would be a second thing to get wrong, and says less.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

_KINDS: Final = {socket.SOCK_DGRAM: "udp", socket.SOCK_STREAM: "tcp"}


class HandedOver(Exception):
    """A socket that cannot be used; `str()` of it is one line for the operator."""


class HandedSockets:
    """The sockets, each until a listener takes it."""

    def __init__(self, sockets: Iterable[socket.socket] = ()) -> None:
        self._left = list(sockets)

    def take(self, kind: socket.SocketKind, host: str, port: int) -> socket.socket | None:
        """The socket of that kind that is bound there, not blocking and no child's; None when there is none. Raises
        HandedOver for one of IPv6 that takes the messages of IPv4 as well, for their addresses would look mapped, and
        for a connection."""
        for number, found in enumerate(self._left):
            if found.type != kind or found.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if found.getsockname()[:2] != (host, port):
                continue
            if found.family == socket.AF_INET6 and not found.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
                raise HandedOver(f"{_name(found)} was handed over for IPv4 too: say BindIPv6Only=ipv6-only")
            if kind == socket.SOCK_STREAM and not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise HandedOver(f"{_name(found)} is a connection, no listener: say Accept=no")
            del self._left[number]
            found.setblocking(False)
            found.set_inheritable(False)
            return found
        return None

    def refuse_rest(self) -> None:
        """Raises HandedOver when one is left."""
        if self._left:
            raise HandedOver(f"{_name(self._left[0])} was handed over, but no listener of [sip] is there")


def _name(found: socket.socket) -> str:
    """What a socket is bound to, as settings name it."""
    kind = _KINDS.get(found.type, "socket")
    if found.family == socket.AF_INET6:
        host, port = found.getsockname()[:2]
        return f"{kind}:[{host}]:{port}"
    if found.family == socket.AF_INET:
        host, port = found.getsockname()
        return f"{kind}:{host}:{port}"
    return f"{kind}:{found.getsockname()!s}"
