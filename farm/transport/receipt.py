"""What a server does with a request on receipt: notes where it came from, and so where its answers go (RFC 3261 §18.2).

`stamp` writes `received` and `rport` into the top Via (§18.2.1, RFC 3581 §4) and answers the hop of §18.2.2. What the
sender itself wrote into `received` or `rport` is replaced: it would choose where answers go.

Decided: `maddr` is obeyed only when it is a numeric unicast address, and no loopback address for a source elsewhere:
§18.2.2 would have us send to any group, or to our own machine's other servers, as a stranger says.
"""

from __future__ import annotations

from farm.sip.hop import Hop
from farm.sip.message import Message, Request
from farm.sip.via import Via
from farm.transport.local import DEFAULT_PORTS, canonical_host, is_loopback, is_unicast


def stamp(request: Request, source: Hop) -> Hop:
    """Note the packet's source in a request and its top Via; the hop that answers go to.

    Over a stream that is where to connect when the connection is gone.
    """
    request.source = source
    via = request.top_via
    assert via is not None
    transport, host, port, local = source
    if via.rport is not None or via.received is not None or via.host != host:
        stamp_via(request, via, host, port)
    if transport != "UDP":
        return Hop(transport, host, via.port or DEFAULT_PORTS[transport])
    if via.maddr is not None and may_answer_at(via.maddr, host):
        return Hop("UDP", canonical_host(via.maddr), via.port or DEFAULT_PORTS["UDP"], local)
    if via.rport is not None or via.port == port:
        return source
    return Hop("UDP", host, via.port or DEFAULT_PORTS["UDP"], local)


def stamp_via(message: Message, via: Via, host: str, port: int) -> None:
    """Write the packet's source into the top Via, the header line as well as the value."""
    text = via.with_source(host, port)
    if text == via.text:
        return
    headers = message.headers
    for index, header in enumerate(headers):
        if header[0] == "via":
            headers[index] = ("via", text, f"Via: {text}")
            break
    via.text = text
    params = via.params
    if ";received=" in text:
        via.received = params["received"] = host
    else:
        via.received = None
        params.pop("received", None)
    if "rport" in params:
        via.rport = port
        params["rport"] = str(port)


def may_answer_at(maddr: str, source: str) -> bool:
    """Whether answers may go to the `maddr` of a Via: numeric, of the family, one machine's, and no loopback address
    for a source that is elsewhere."""
    maddr = canonical_host(maddr)
    if (":" in maddr) != (":" in source) or not is_unicast(maddr):
        return False
    return is_loopback(source) or not is_loopback(maddr)


def find_noise(data: bytes) -> str:
    """What a datagram that starts with no SIP token, or is too short for a message, is: "" when it may be one yet.

    "keepalive": only line ends, NULs or blanks (RFC 5626 §3.5.1 has them on streams, phones send them over UDP too);
    "stun": a STUN message (RFC 5389 §6); "empty".
    """
    if not data:
        return "empty"
    if not data.strip(b"\r\n\0\t "):
        return "keepalive"
    if data[0] < 4 and len(data) >= 20 and data[4:8] == b"\x21\x12\xa4\x42":
        return "stun"
    return ""
