"""One hop as a value: a transport, a numeric address and a port (the outcome of RFC 3263, the source of a packet); and
a flow of the farm, which is a hop and the node that has it.

They are the words that resolve, proxy, registrar and transport share, and they belong to none of them.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import NamedTuple


class Hop(NamedTuple):
    """Where a message goes next, or where it came from.

    `transport` is "UDP", "TCP", "TLS", "WS" or "WSS"; `host` a numeric address, IPv6 without brackets.
    `local` names the listener whose socket must be used ("udp:127.0.0.1:5060"), because a NAT in between
    lets only its packets back in; "" leaves the choice to the transport. `@example.com` there, of a hop over TLS, is
    the domain that was located (or an address): its far end must prove it (RFC 5922 §7.3).
    """

    transport: str
    host: str
    port: int
    local: str = ""

    @property
    def remote(self) -> tuple[str, str, int]:
        """The far end alone, whichever of our sockets is used."""
        return (self.transport, self.host, self.port)

    @property
    def domain(self) -> str:
        """What the far end must prove, "" when nothing or when the flow is named."""
        local = self.local
        return local[1:] if local[:1] == "@" else ""

    @property
    def short(self) -> Hop:
        """The same as a token brings it back: a connection by its number alone, a listener by a hash of its name. Of
        two hops of one node that mean the same flow, it is equal, however long either was."""
        local = short_local(self.local)
        return Hop(self.transport, "", 0, local) if local.startswith("#") else self._replace(local=local)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport.lower()}:{host}:{self.port}"


def short_local(local: str) -> str:
    """A hop's `local` in its short form: `#number` for a connection, `~` and four digits (a CRC) for a listener, and
    what is short already as it is. The listeners of a node that differ in two characters side by side, or less, never
    have the same; of others two in 65,536 do."""
    _, named, number = local.rpartition("#")
    if named:
        return f"#{number}"
    if not local or local.startswith("~"):
        return local
    return f"~{crc_hqx(local.encode('utf-8', 'surrogateescape'), 0) or 1:04x}"


class FlowName(NamedTuple):
    """A flow of the farm: which node has it, by the number that its stamps carry, and what that node calls it.

    A connection, or the pinhole in a NAT, belongs to one node; the number of a connection is never given again, so the
    name of one that is gone means no other.
    """

    node: int
    hop: Hop

    def is_same(self, other: FlowName | None) -> bool:
        """Whether both mean the same flow, one perhaps as a token brought it back."""
        return other is not None and self.node == other.node and self.hop.short == other.hop.short


class Leg(NamedTuple):
    """One side of a dialog, as far as finding it again goes: the flow that alone reaches it, None where its contact
    serves; and which phone it is, by its instance-id without <> (RFC 5626 §4.1), "" when that is not known."""

    flow: FlowName | None = None
    phone: str = ""
