"""The copy that leaves: RFC 3261 §16.6, steps 1 to 8; Content-Length (step 9) is there since the parser.

One pass over the header list, touching what a proxy may touch: Max-Forwards, Max-Breadth (RFC 5393 §5.3), Route,
Record-Route, the credentials that were meant for us, identities that nobody trusted asserts, Via on top. Everything
else leaves as it came. Where it goes (steps 7, 10) is the branch's business, which calls this once for each hop it
tries, as each needs its own Via.

Record-Route is added to requests that can form a dialog, once: its user part proves the dialog and holds the flows of
phones behind a NAT or on a connection, for the requests inside it (`frontend/token`). It is a sips: URI where the next
hop's is (step 4). A REGISTER for another registrar gets a Path with the token of its flow (RFC 3327, RFC 5626 §5.1).

Decided: where transport or listener change between the sides, the one value is written for the side that it goes to,
and written anew in answers for the caller's (§16.7 step 8). RFC 5658 advises two values, because a proxy that rewrites
answers must know its own among others, and a callee whose answer is signed sees it changed. The token tells ours, few
sign, and the farm is to look like one element, from either side.
Decided: for a sip: URI, WebSocket is `transport=ws` whether secure or not, as in RFC 7118 §8; TLS is `transport=tls`,
which RFC 3261 deprecates and all phones understand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from farm.proxy.admission import MEMBERS, Caller
from farm.proxy.dialog import (
    Passport,
    Side,
    find_side,
    first_contact,
    host_of,
    is_first_hop,
    make_caller,
    make_facts,
    name_home,
)
from farm.proxy.reach import SECURE
from farm.proxy.request import RouteInformation
from farm.proxy.request import Tokens as RouteTokens
from farm.sip.address import parse_address
from farm.sip.grammar import split_commas
from farm.sip.headers import max_forwards, supported
from farm.sip.hop import FlowName, Leg
from farm.sip.message import Header, Request, Response, make_header
from farm.sip.status import SipError
from farm.sip.uri import parse_uri
from farm.sip.via import parse_via
from farm.transaction.transaction import Flow

DIALOG_FORMING: Final = frozenset(("INVITE", "SUBSCRIBE", "REFER", "NOTIFY"))
_EDITED: Final = frozenset(("max-forwards", "route", "max-breadth", "proxy-authorization", "p-asserted-identity"))
_REALM: Final = re.compile(r'(?<![A-Za-z0-9])realm[ \t]*+=[ \t]*+"([^"]*)"', re.IGNORECASE)


class Tokens(RouteTokens, Protocol):
    """Makes the values that we must know again, and knows them."""

    def make_branch(self, loop_part: str, onward: str = "") -> str:
        """A branch that no other request has; `onward` is the Via that a response goes to next."""

    def make_route(self, call_id: str, facts: Sequence[str], caller: Leg, callee: Leg) -> str:
        """The user part of our Record-Route in the dialog that a request with that Call-ID opens, with what it is to
        be known by, and how its sides are found."""

    def is_branch(self, branch: str, onward: str) -> bool:
        """Whether one of us made that branch, for a request whose top Via was `onward`."""

    def make_flow(self, flow: FlowName) -> str:
        """The user part of a Path that leads over that flow."""


class Listeners(Protocol):
    """Knows what to call the near end of a flow, and what is so called."""

    def sent_by(self, flow: Flow) -> str:
        """Host and port for a Via or Record-Route on that flow."""

    def is_local(self, host: str, port: int | None) -> bool:
        """Whether that is an address or name of ours."""


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

    def __init__(
        self, tokens: Tokens, listeners: Listeners, node: int, *, record_route: bool, max_forwards: int
    ) -> None:
        """`node` is the number of this node in the names of flows."""
        self._tokens = tokens
        self._listeners = listeners
        self._node = node
        self.change(record_route=record_route, max_forwards=max_forwards)

    def change(self, *, record_route: bool, max_forwards: int) -> None:
        """Make copies so from now on."""
        self._record_route = record_route
        self._max_forwards = make_header("max-forwards", str(max_forwards))

    def make_copy(
        self,
        passage: Passage,
        uri_text: str,
        path: tuple[str, ...],
        breadth: int,
        flow: Flow,
        callee: Leg = Leg(),  # noqa: B008
    ) -> tuple[Request, str]:
        """The copy of the request that goes to `uri_text` over `flow`, and the branch in its Via.

        `callee` is the flow that the target can only be reached by, if any, and which phone it is.
        """
        request = passage.request
        route = passage.route
        sent_by = self._listeners.sent_by(flow)
        via = request.top_via
        branch = self._tokens.make_branch(passage.loop_part, "" if via is None else via.text)
        headers: list[Header] = [_make_via(flow.transport, sent_by, branch)]
        target_text = uri_text
        routes = [*path, *route.routes]
        reroute = route.edited or bool(path)
        if routes and not _is_loose(routes[0]):
            routes.append(f"<{uri_text}>")  # step 6: the next hop is a strict router
            uri_text = str(parse_address(routes.pop(0)).uri)
            reroute = True
        if self._record_route and request.method in DIALOG_FORMING and not request.to_tag:
            secure = _is_secure(uri_text) or (bool(routes) and _is_secure(str(parse_address(routes[0]).uri)))
            where = next_hop_of(route, target_text, path)
            headers.append(self._make_record_route(passage, where, flow, callee, secure))
        elif request.method == "REGISTER" and "path" in supported(request):
            headers.append(self._make_path(request, flow, _is_secure(uri_text)))
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

    def _make_record_route(self, passage: Passage, where: str, flow: Flow, callee: Leg, secure: bool) -> Header:
        request = passage.request
        contact = first_contact(request)
        facts = make_facts(
            request,
            "" if contact is None else host_of(contact.uri),
            host_of(parse_uri(where)),
            flow.hop.host,
            passage.caller in MEMBERS,
        )
        caller = make_caller(request, contact, self._node)
        if caller.flow is None:  # the token has room, then, to say which node has the call
            facts = (*facts, name_home(self._node))
        token = self._tokens.make_route(request.call_id, facts, caller, callee)
        value = _make_route_value(token, flow, self._listeners.sent_by(flow), secure)
        return ("record-route", value, f"Record-Route: {value}")

    def _make_path(self, request: Request, flow: Flow, secure: bool) -> Header:
        """Of what came through another proxy it has no token: that proxy's Path leads on."""
        sent_by = self._listeners.sent_by(flow)
        if not is_first_hop(request):
            return make_header("path", _make_route_value("", flow, sent_by, secure))
        contact = first_contact(request)
        caller = make_caller(request, contact, self._node).flow
        if caller is None:  # any node reaches the phone where it is
            caller = FlowName(self._node, request.source._replace(local=""))
        value = _make_route_value(self._tokens.make_flow(caller), flow, sent_by, secure)
        if contact is not None and "reg-id" in contact.params and "outbound" in supported(request):
            value = f"{value[:-1]};ob>"
        return make_header("path", value)

    def face_caller(self, response: Response, flow: Flow) -> None:
        """Write our Record-Route in an answer, our Via taken off, for the side that `flow` leads to (§16.7 step 8).

        A request may have come by us more than once. Of our values, the lowest is of the first time, and so many of our
        Vias are still on the answer as there were times before this one. What cannot be read stays as it is.
        """
        with suppress(SipError):
            self._face_caller(response, flow)

    def _face_caller(self, response: Response, flow: Flow) -> None:
        values = response.values("record-route")
        passed = response.values("via")
        before = 0
        for text, onward in pairwise(passed):
            before += self._tokens.is_branch(parse_via(text).branch, onward)
        ours = self._find_ours(values, response.call_id, by_name=True)
        if len(ours) <= before:
            ours = self._find_ours(values, response.call_id, by_name=False)
        if len(ours) <= before:
            return
        index, user = ours[before]
        secure = values[index].startswith("<sips:") and flow.transport in SECURE
        value = _make_route_value(user, flow, self._listeners.sent_by(flow), secure)
        if value != values[index]:
            values[index] = value
            _replace_values(response, "record-route", values)

    def find_caller(self, response: Response) -> RouteInformation | None:
        """The way to who sent the INVITE that an answer is for, our Via taken off, as our Record-Route remembers it:
        the flow of a caller next to us. None where there is none, and the Via serves. Raises SipError for a
        Record-Route that cannot be read."""
        values = response.values("record-route")
        if not values or len(response.values("via")) != 1:
            return None
        for index, user in self._find_ours(values, response.call_id, by_name=False):
            token = self._tokens.open_route(user, response.call_id)
            if token is None or token.caller is None or find_side(token, response) is not Side.CALLER:
                continue
            uri = parse_address(values[index]).uri  # says whether the call is to be secure, and nothing else
            route = RouteInformation(uri, uri.text, [], False)
            route.flow = token.caller
            route.passport = Passport(token, Side.CALLEE, response, self._node)
            return route
        return None

    def _find_ours(self, values: list[str], call_id: str, *, by_name: bool) -> list[tuple[int, str]]:
        """The places and tokens of our Record-Routes, the lowest first: of those that bear a name of this node, or of
        all, since another node's are ours too."""
        found: list[tuple[int, str]] = []
        for index in range(len(values) - 1, -1, -1):
            uri = parse_address(values[index]).uri
            named = uri.is_sip and uri.user and (not by_name or self._listeners.is_local(uri.host, uri.port))
            if named and self._tokens.open_route(uri.user or "", call_id) is not None:
                found.append((index, uri.user or ""))
        return found


def _may_assert(passage: Passage) -> bool:
    """Whether an identity asserted in the request goes on: only what a trusted peer said, and not to the phones and
    strangers beyond us when its owner asked for privacy (RFC 3325 §5, §7)."""
    if passage.caller is not Caller.TRUSTED:
        return False
    wishes = ";".join(passage.request.values("privacy")).lower().split(";")
    return not any(wish.strip() == "id" for wish in wishes)


def _make_route_value(token: str, flow: Flow, sent_by: str, secure: bool) -> str:
    transport = flow.transport.lower()
    if transport == "udp" or (secure and transport == "tls"):
        param = ""
    else:
        param = f";transport={transport.removesuffix('s') if transport == 'wss' else transport}"
    return f"<{'sips' if secure else 'sip'}:{token}{'@' if token else ''}{sent_by}{param};lr>"


def _replace_values(response: Response, name: str, values: list[str]) -> None:
    """Write these values where the first header of that name stands, one line each."""
    headers = response.headers
    at = next(index for index, header in enumerate(headers) if header[0] == name)
    rest = [header for header in headers if header[0] != name]
    response.headers = [*rest[:at], *[make_header(name, value) for value in values], *rest[at:]]


def _is_secure(uri_text: str) -> bool:
    return uri_text[:5].lower() == "sips:"


def next_hop_of(route: RouteInformation, uri_text: str, path: tuple[str, ...]) -> str:
    """The URI that RFC 3263 is asked about (§16.6 step 7): the first Route value, else the Request-URI."""
    if path:
        return str(parse_address(path[0]).uri)
    if route.routes:
        return str(parse_address(route.routes[0]).uri)
    return uri_text


def size_of(request: Request) -> int:
    """About how many bytes the copy will have: the request, our Via and Record-Route (§18.1.1)."""
    return len(request.body) + sum([len(header[2]) + 2 for header in request.headers]) + len(request.uri_text) + 250


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
