"""The way from this node to a flow of another one: `proxy.targets.Nodes`.

Part of the composition root. A connection, or the pinhole in a NAT, belongs to the node that the phone registered by; a
request for it goes there by SIP, with a Route that says which flow is meant, sealed under the key that all nodes share.
A node that is dead takes its flows with it.
"""

from __future__ import annotations

from typing import Final

from farm.config import parse_listen
from farm.frontend.token import Tokens
from farm.member import Member, stamp_node_of
from farm.overlay.wire import ALIVE, JOINING, SUSPECT, Contact
from farm.sip.hop import Hop

_THERE: Final = frozenset((JOINING, ALIVE, SUSPECT))
_WILDCARDS: Final = frozenset(("0.0.0.0", "::"))


class Siblings:
    """The other nodes, as `member` knows them."""

    def __init__(self, member: Member, tokens: Tokens) -> None:
        self._member = member
        self._tokens = tokens
        self._own = stamp_node_of(member.identity.node_id)

    def route_to(self, node: int, flow: Hop, uri_text: str) -> str | None:
        """The Route value that makes that node send a request for `uri_text` over its flow; "" for this node, None for
        one that is gone, or has no SIP listener that we could use."""
        if node == self._own:
            return ""
        contact = self._member.find_by_stamp(node)
        if contact is None or contact.state not in _THERE:
            return None
        address = _find_address(contact)
        return None if address is None else f"<sip:{self._tokens.make_onward(flow, uri_text)}@{address};lr>"


def _find_address(contact: Contact) -> str | None:
    """Host and port of a node's SIP listener, UDP if it has one, with the transport where it is another."""
    try:
        listeners = [parse_listen(text) for text in contact.sip]
    except ValueError:
        return None
    for transport in ("UDP", "TCP"):
        for listener in listeners:
            if listener.transport == transport:
                host = contact.host if listener.host in _WILDCARDS else listener.host
                bracketed = f"[{host}]" if ":" in host else host
                suffix = "" if transport == "UDP" else ";transport=tcp"
                return f"{bracketed}:{listener.port}{suffix}"
    return None
