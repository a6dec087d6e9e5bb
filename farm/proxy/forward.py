"""The copy that leaves: RFC 3261 §16.6, steps 1 to 8; Content-Length (step 9) is there since the parser.

One pass over the header list, touching what a proxy may touch: Max-Forwards, Max-Breadth (RFC 5393 §5.3), Route,
Record-Route, the credentials that were meant for us, identities that nobody trusted asserts, Via on top. Everything
else leaves as it came. Where it goes (steps 7, 10) is the branch's business, which calls this once for each hop it
tries, as each needs its own Via.

Record-Route is added to requests that can form a dialog, once, or twice where the transport or the listener changes,
so that each side sees an address it can reach (RFC 5658 §5). Its user part proves the dialog and holds the flows of
phones behind a NAT or on a connection, for the requests inside it (`frontend/token`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from farm.proxy.admission import MEMBERS, Caller
from farm.proxy.dialog import contact_host, find_caller, host_of, make_facts
from farm.proxy.request import RouteInformation
from farm.sip.address import parse_address
from farm.sip.grammar import split_commas
from farm.sip.headers import max_forwards, supported
from farm.sip.hop import Hop
from farm.sip.message import Header, Request, Response, make_header
from farm.sip.uri import parse_uri
from farm.transaction.transaction import Flow

DIALOG_FORMING: Final = frozenset(("INVITE", "SUBSCRIBE", "REFER", "NOTIFY"))
_EDITED: Final = frozenset(("max-forwards", "route", "max-breadth", "proxy-authorization", "p-asserted-identity"))
_REALM: Final = re.compile(r'(?<![A-Za-z0-9])realm[ \t]*+=[ \t]*+"([^"]*)"', re.IGNORECASE)


class Tokens(Protocol):
    """Makes the values that we must know again."""

    def loop_part(self, parts: list[str]) -> str:
        """A keyed hash of what decides where a request goes (RFC 5393 §4.2.1)."""

    def make_branch(self, loop_part: str, onward: str = "") -> str:
        """A branch that no other request has; `onward` is the Via that a response goes to next."""

    def make_route(self, call_id: str, facts: Sequence[str], caller: Hop | None, callee: Hop | None) -> str:
        """The user part of our Record-Route in the dialog that a request with that Call-ID opens, with what it is to
        be known by, and the flows that its sides can only be reached by."""


class Listeners(Protocol):
    """Knows what to call the near end of a flow."""

    def sent_by(self, flow: Flow) -> str:
        """Host and port for a Via or Record-Route on that flow."""

    def own_address(self, flow: Flow) -> str:
        """The same for this node alone, where the farm's name would lead to any."""


class Passage(NamedTuple):
    """What all copies of one request have in common."""

    request: Request
    route: RouteInformation
    inbound: Flow
    loop_part: str
    realm: str  # whose Proxy-Authorization ends here; "" when none was checked
    caller: Caller


class Forwarder:
    """Makes the copies, for one configuration."""

    def __init__(self, tokens: Tokens, listeners: Listeners, *, record_route: bool, max_forwards: int) -> None:
        self._tokens = tokens
        self._listeners = listeners
        self._record_route = record_route
        self._max_forwards = make_header("max-forwards", str(max_forwards))

    def make_copy(
        self,
        passage: Passage,
        uri_text: str,
        path: tuple[str, ...],
        breadth: int,
        flow: Flow,
        callee: Hop | None = None,
        *,
        inner: bool = False,
    ) -> tuple[Request, str]:
        """The copy of the request that goes to `uri_text` over `flow`, and the branch in its Via.

        `callee` is the flow that the target can only be reached by, None where its URI serves. `inner`: it goes to
        another node of the farm, which has the flow; then both stay in the dialog's path by their own addresses.
        """
        request = passage.request
        route = passage.route
        sent_by = self._listeners.sent_by(flow)
        via = request.top_via
        branch = self._tokens.make_branch(passage.loop_part, "" if via is None else via.text)
        headers: list[Header] = [_make_via(flow.transport, sent_by, branch)]
        if self._record_route and request.method in DIALOG_FORMING and not request.to_tag:
            where = next_hop_of(route, uri_text, path)
            headers.extend(self._make_record_routes(passage, where, flow, callee, inner or route.inner))
        elif request.method == "REGISTER" and "path" in supported(request):
            token = self._tokens.make_route(request.call_id, (), find_caller(request, contact_host(request)), None)
            headers.append(make_header("path", _make_route_value(token, flow, sent_by)))
        routes = [*path, *route.routes]
        reroute = route.edited or bool(path)
        if routes and not _is_loose(routes[0]):
            routes.append(f"<{uri_text}>")  # step 6: the next hop is a strict router
            uri_text = str(parse_address(routes.pop(0)).uri)
            reroute = True
        if reroute:
            headers.extend([make_header("route", value) for value in routes])
        self._copy_rest(passage, headers, reroute, breadth)
        copy = Request(request.method, uri_text, headers, request.body)
        copy.call_id = request.call_id
        copy.from_tag = request.from_tag
        copy.to_tag = request.to_tag
        copy.cseq = request.cseq
        copy.cseq_method = request.cseq_method
        return copy, branch

    def _copy_rest(self, passage: Passage, headers: list[Header], reroute: bool, breadth: int) -> None:
        request = passage.request
        counted = False
        for header in request.headers:
            name = header[0]
            if name not in _EDITED:
                headers.append(header)
            elif name == "max-forwards":
                left = (max_forwards(request) or 1) - 1
                headers.append((name, str(left), f"Max-Forwards: {left}"))
                counted = True
            elif name == "route":
                if not reroute:
                    headers.append(header)
            elif name == "p-asserted-identity":
                if _may_assert(passage):
                    headers.append(header)
            elif name == "proxy-authorization" and not (passage.realm and _is_for(header[1], passage.realm)):
                headers.append(header)
        if not counted:
            headers.append(self._max_forwards)
        headers.append(("max-breadth", str(breadth), f"Max-Breadth: {breadth}"))

    def _make_record_routes(
        self, passage: Passage, where: str, flow: Flow, callee: Hop | None, inner: bool
    ) -> list[Header]:
        inbound = passage.inbound
        name_of = self._listeners.own_address if inner else self._listeners.sent_by
        request = passage.request
        contact = contact_host(request)
        facts = make_facts(request, contact, host_of(parse_uri(where)), flow.hop.host, passage.caller in MEMBERS)
        token = self._tokens.make_route(request.call_id, facts, find_caller(request, contact), callee)
        values = [_make_route_value(token, flow, name_of(flow))]
        if inbound.transport != flow.transport or inbound.local_name != flow.local_name:
            values.append(_make_route_value(token, inbound, name_of(inbound)))
        return [("record-route", value, f"Record-Route: {value}") for value in values]


def _may_assert(passage: Passage) -> bool:
    """Whether an identity asserted in the request goes on: only what a trusted peer said, and not to the phones and
    strangers beyond us when its owner asked for privacy (RFC 3325 §5, §7)."""
    if passage.caller is not Caller.TRUSTED:
        return False
    wishes = ";".join(passage.request.values("privacy")).lower().split(";")
    return not any(wish.strip() == "id" for wish in wishes)


def _make_route_value(token: str, flow: Flow, sent_by: str) -> str:
    transport = "" if flow.transport == "UDP" else f";transport={flow.transport.lower()}"
    return f"<sip:{token}@{sent_by}{transport};lr>"


def next_hop_of(route: RouteInformation, uri_text: str, path: tuple[str, ...]) -> str:
    """The URI that RFC 3263 is asked about (§16.6 step 7): the first Route value, else the Request-URI."""
    if path:
        return str(parse_address(path[0]).uri)
    if route.routes:
        return str(parse_address(route.routes[0]).uri)
    return uri_text


def size_of(request: Request) -> int:
    """About how many bytes the copy will have: the request, our Via and Record-Route (§18.1.1)."""
    return len(request.body) + sum([len(header[2]) + 2 for header in request.headers]) + len(request.uri_text) + 240


def strip_via(response: Response) -> None:
    """Take the topmost Via value, which is ours, off a response (§16.7 step 3)."""
    headers = response.headers
    for index, header in enumerate(headers):
        if header[0] == "via":
            rest = split_commas(header[1])[1:] if "," in header[1] else []
            headers[index : index + 1] = [make_header("via", value) for value in rest]
            return


def _make_via(transport: str, sent_by: str, branch: str) -> Header:
    value = f"SIP/2.0/{transport} {sent_by};branch={branch};rport"
    return ("via", value, f"Via: {value}")


def _is_loose(route_value: str) -> bool:
    return "lr" in parse_address(route_value).uri.params


def _is_for(credentials: str, realm: str) -> bool:
    match = _REALM.search(credentials)
    return match is not None and match[1] == realm
