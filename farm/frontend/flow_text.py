"""A flow of the farm as the few bytes that a token has room for.

13 bytes for a connection and for an IPv4 address, 25 for IPv6: one for transport and form, four that tell the node, and
the number of the connection, or address and port of the far end with a hash of the listener's name. The name of a flow
comes back in its short form (`Hop.short`), which the owner's transport finds as it finds the long one, and in which the
same flow has one name on every node.

Decided: a connection without the far end's address. Its number is enough, nobody else's connection has it, and a token
with both would be longer than what a phone of 2005 has room for.
Decided: a node by the first 32 bits of its number. It is looked up among those known (`nodes`), so a node that nobody
knows any more is one that cannot be reached: `nobody`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Final

from farm.sip.hop import FlowName, Hop, short_local

Nodes = Callable[[int], int | None]  # the number of a node whose tag is known

_TRANSPORTS: Final = ("UDP", "TCP", "TLS", "WS", "WSS")
_CONNECTION: Final = 0
_IPV4: Final = 1
_IPV6: Final = 2
_AS_CONNECTION: Final = struct.Struct(">BIQ")
_AS_IPV4: Final = struct.Struct(">BI4sHH")
_AS_IPV6: Final = struct.Struct(">BI16sHH")
_TAG_SHIFT: Final = 31  # of the 63 bits that stamps have for a node


def tag_of(node: int) -> int:
    """What tokens and branches have room for of a node's number: its first 32 bits."""
    return node >> _TAG_SHIFT


def nobody(tag: int) -> int:
    """A number with that tag that no node has, for one that is not known."""
    return tag << _TAG_SHIFT | 1


def pack_flow(flow: FlowName) -> bytes:
    """The bytes of a flow. Raises ValueError or OSError for one that no transport of ours has."""
    transport, host, port, local = flow.hop
    kind = _TRANSPORTS.index(transport)
    tag = flow.node >> _TAG_SHIFT
    short = short_local(local)
    if short.startswith("#"):
        return _AS_CONNECTION.pack(kind | _CONNECTION << 3, tag, int(short[1:], 16))
    listener = int(short[1:], 16) if short else 0
    if ":" in host:
        return _AS_IPV6.pack(kind | _IPV6 << 3, tag, socket.inet_pton(socket.AF_INET6, host), port, listener)
    return _AS_IPV4.pack(kind | _IPV4 << 3, tag, socket.inet_pton(socket.AF_INET, host), port, listener)


def unpack_flow(data: bytes, at: int, nodes: Nodes) -> tuple[FlowName, int]:
    """The flow that begins there, and where it ends. Raises ValueError for bytes that are none."""
    if at >= len(data):
        raise ValueError("no flow")
    form, kind = data[at] >> 3, data[at] & 7
    if kind >= len(_TRANSPORTS):
        raise ValueError("no transport")
    transport = _TRANSPORTS[kind]
    try:
        if form == _CONNECTION:
            _, tag, number = _AS_CONNECTION.unpack_from(data, at)
            return _name(nodes, tag, Hop(transport, "", 0, f"#{number:x}")), at + _AS_CONNECTION.size
        if form == _IPV4:
            _, tag, packed, port, listener = _AS_IPV4.unpack_from(data, at)
            host = socket.inet_ntop(socket.AF_INET, packed)
            end = at + _AS_IPV4.size
        elif form == _IPV6:
            _, tag, packed, port, listener = _AS_IPV6.unpack_from(data, at)
            host = socket.inet_ntop(socket.AF_INET6, packed)
            end = at + _AS_IPV6.size
        else:
            raise ValueError("no form of a flow")
    except struct.error:
        raise ValueError("half a flow") from None
    return _name(nodes, tag, Hop(transport, host, port, f"~{listener:04x}" if listener else "")), end


def _name(nodes: Nodes, tag: int, hop: Hop) -> FlowName:
    node = nodes(tag)
    return FlowName(nobody(tag) if node is None else node, hop)
