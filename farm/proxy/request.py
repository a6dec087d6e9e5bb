"""Request validation and route information: RFC 3261 §16.3 and §16.4.

`check_request` refuses what must not be forwarded, `check_loop` what has been here before; `read_route` takes away the
Route values that lead to us, undoes what a strict router did, and says whether one of them proves that the request
belongs to a dialog we let through, or names a flow by the token that we gave another registrar (Path, RFC 5626 §5.3).
Who may send it is `admission.py`'s question, where it goes `targets.py`'s.

Decided: whoever shows a flow token may use it, for a request that opens a dialog. The registrar that we gave it to
hands it to whom it lets call, and it reaches one phone and nothing else: no domain, no gateway, no further Route.
Decided: what has the shape of a token and opens to nothing is not followed. Outside a dialog that is 403 (RFC 5626
§5.3); inside one the request is judged as if it had no token, so that a user of ours whose token is older than our keys
still ends his call, and a stranger hears 481, which ends it too.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from farm.proxy.dialog import Passport, RouteToken, find_side, flow_from, may_go_to
from farm.proxy.domains import Domains
from farm.sip.address import parse_address
from farm.sip.headers import max_forwards, proxy_require
from farm.sip.hop import FlowName
from farm.sip.message import Request
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri

SCHEMES: Final = frozenset(("sip", "sips", "tel"))
SUPPORTED: Final[frozenset[str]] = frozenset()  # option tags that this proxy understands in Proxy-Require
_TOKEN_SHAPE: Final = re.compile(r"[A-Za-z0-9_\-]{38,}")  # no user of a phone is so long and without a dot


class Tokens(Protocol):
    """Makes and recognises what we put into messages."""

    def loop_part(self, parts: list[str]) -> str:
        """A keyed hash of what decides where a request goes (RFC 5393 §4.2.1)."""

    def open_route(self, user: str, call_id: str) -> RouteToken | None:
        """What we put into a Record-Route of the dialog with that Call-ID, None when `user` is not ours."""

    def open_flow(self, user: str) -> FlowName | None:
        """The flow that we put into a Path, None when `user` is not ours."""


class RouteInformation:
    """What is left to route by, once our own part is taken away.

    `uri` and `uri_text` are the Request-URI after §16.4, `routes` the Route values that remain; `edited` says whether
    they differ from what came. `proven` says whether the request belongs to a dialog that we let through and goes where
    that dialog may (`dialog.py`), or brings a flow token of ours; `flow` is the one that our Route brought back, None
    where the Request-URI is enough; `passport` is what its dialog's token says besides, None outside a dialog;
    `dialogs` is that token, if From and To are the dialog's, and those of the other times that its first request came
    by us.
    `unproven`: a Route of ours inside a dialog has a token that opens to nothing. `user`: the canonical
    address-of-record whose credentials it brings, "" for none that were asked for (`admission`).
    """

    __slots__ = ("dialogs", "edited", "flow", "passport", "proven", "routes", "unproven", "uri", "uri_text", "user")

    def __init__(self, uri: Uri, uri_text: str, routes: list[str], edited: bool) -> None:
        self.uri = uri
        self.uri_text = uri_text
        self.routes = routes
        self.edited = edited
        self.proven = False
        self.unproven = False
        self.flow: FlowName | None = None
        self.passport: Passport | None = None
        self.dialogs: tuple[RouteToken, ...] = ()
        self.user = ""


def check_request(request: Request) -> None:
    """§16.3 steps 2, 3 and 5; step 1 was done by the parser. Raises SipError 416, 483 or 420."""
    if request.uri.scheme not in SCHEMES:
        raise SipError(416, reason="unknown-scheme")
    if max_forwards(request) == 0:
        raise SipError(483, reason="too-many-hops")
    if request.has("proxy-require"):
        unknown = [tag for tag in proxy_require(request) if tag.lower() not in SUPPORTED]
        if unknown:
            raise SipError(420, reason="bad-extension", headers=(("unsupported", ", ".join(unknown)),))


def check_loop(request: Request, tokens: Tokens) -> str:
    """§16.3 step 4 with RFC 5393 §4.2: the loop part for our branch. Raises SipError 482 when a Via brings it back."""
    parts = [request.uri_text, *request.all("route"), request.call_id, request.from_tag, str(request.cseq)]
    loop_part = tokens.loop_part(parts)
    for header in request.headers:
        if header[0] == "via" and loop_part in header[1]:
            raise SipError(482, reason="loop")
    return loop_part


def read_route(request: Request, domains: Domains, tokens: Tokens, node: int) -> RouteInformation:
    """§16.4: route information preprocessing, on the node of that number. Raises SipError 403 for a token that opens
    to nothing on a request that is in no dialog."""
    uri = request.uri
    uri_text = request.uri_text
    routes = request.values("route")
    edited = False
    token: RouteToken | None = None
    others: tuple[RouteToken, ...] = ()
    if "lr" in uri.params and uri.user and routes:
        token = tokens.open_route(uri.user, request.call_id)
        if token is not None:
            # A strict router put our Record-Route value into the Request-URI and the true target last.
            uri_text = str(parse_address(routes.pop()).uri)
            uri = parse_uri(uri_text)
            edited = True
    maddr = uri.params.get("maddr") if uri.is_sip else None
    if maddr and domains.serves(maddr, uri.port):
        uri = _without_maddr(uri)
        uri_text = str(uri)
    user = ""
    flow: FlowName | None = None
    while routes:
        first = parse_address(routes[0]).uri
        opened: RouteToken | FlowName | None = None
        if first.user and request.to_tag:
            # A call that was diverted came by us twice, with nobody between: where it went in the end counts.
            if token is None or domains.is_route_to_us(first):
                opened = tokens.open_route(first.user, request.call_id)
                if opened is not None and token is not None:
                    others = (*others, token)
                token = opened or token
        elif first.user and flow is None:
            # What opens a dialog is no part of one, whatever Route it brings.
            opened = flow = tokens.open_flow(first.user)
        if opened is None and not domains.is_route_to_us(first):  # the address may be another node's, the token is ours
            break
        del routes[0]
        edited = True
        user = user or first.user or ""
    route = RouteInformation(uri, uri_text, routes, edited)
    if request.to_tag:
        if token is not None:
            _follow_dialog(route, token, request, node)
            if others and route.dialogs:
                route.dialogs += others
        else:
            route.unproven = _TOKEN_SHAPE.fullmatch(user) is not None
    elif flow is not None:
        # RFC 5626 §5.3: towards the phone, unless it comes from there.
        if not routes and not _came_by(flow, request, node):
            route.flow = flow
            route.proven = True
    elif _TOKEN_SHAPE.fullmatch(user) is not None and tokens.open_route(user, request.call_id) is None:
        raise SipError(403, "Flow Token Refused", reason="token-refused")
    return route


def _came_by(flow: FlowName, request: Request, node: int) -> bool:
    source = request.source
    if flow.hop.local:
        return flow.node == node and flow.hop.short == source.short
    return flow.hop.remote == source.remote


def _follow_dialog(route: RouteInformation, token: RouteToken, request: Request, node: int) -> None:
    """Where the token of its dialog leads a request, and whether the request is one of that dialog."""
    side = find_side(token, request)
    if side is None:
        return
    route.dialogs = (token,)
    routes = route.routes
    if not routes:
        route.flow = flow_from(token, side)
        if route.flow is not None:
            route.passport = Passport(token, side, request, node)
            route.proven = True
            return
    onward = parse_address(routes[0]).uri if routes else route.uri
    route.proven = may_go_to(token, side, request, onward, node)


def _without_maddr(uri: Uri) -> Uri:
    """§16.4: strip maddr with the port and transport that went with it."""
    params = {name: value for name, value in uri.params.items() if name not in ("maddr", "transport")}
    text = f"{uri.scheme}:{uri.user + '@' if uri.user else ''}{uri.host_text}"
    for name, value in params.items():
        text += f";{name}" if value is None else f";{name}={value}"
    return parse_uri(text)
