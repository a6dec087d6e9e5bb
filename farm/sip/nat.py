"""Whether a user agent can be reached where it says, or only through the flow that its request came by.

A UA on a stream is reached over its connection. Over UDP it counts as behind a NAT when the sent-by of its Via is not
the packet's source, or its Contact is an address of a private network that is not the source's; otherwise its Contact
is taken at its word, port included, since a contact on another port of the same host is normal. A Contact with the URI
parameter "ob" asks for the flow whatever it looks like (RFC 5626 §4.3), and so does a registration by outbound (§6).
"""

from __future__ import annotations

from ipaddress import ip_address

from farm.sip.hop import Hop
from farm.sip.message import Request


def find_flow(request: Request, contact_host: str, outbound: bool = False) -> Hop | None:
    """The flow that requests to the sender's Contact must take, None where `contact_host` is as good as it looks;
    `outbound` says that the sender asks for it: its Contact has the parameter "ob", or registers a flow.

    For requests that came straight from their sender: what came through another proxy is that proxy's to reach.
    """
    via = request.top_via
    source = request.source
    if via is None or not source.transport:
        return None
    if outbound or source.transport != "UDP":
        return source
    if (via.port or 5060) != source.port or not _same_host(via.host, source.host):
        return source
    host = contact_host
    if host == source.host or not host or not (host[-1] in "0123456789]" or ":" in host):
        return None
    if host.startswith("127.") and source.host.startswith("127."):
        return None  # all of 127.0.0.0/8 is one machine: no NAT can be in between
    host = host.strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if not address.is_global and address != ip_address(source.host):  # private, unspecified, a carrier's (RFC 6598)
        return source
    return None


def _same_host(one: str, other: str) -> bool:
    if one == other:
        return True
    if ":" not in one:
        return False
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return False
