"""Request validation and route information: RFC 3261 §16.3 and §16.4.

`check_request` refuses what must not be forwarded, `check_loop` what has been here before; `read_route` takes away the
Route values that lead to us, undoes what a strict router did, and says whether one of them proves that the request
belongs to a dialog we let through. Who may send it is `admission.py`'s question, where it goes `targets.py`'s.
"""

from __future__ import annotations

from typing import Final, Protocol

from farm.proxy.dialog import RouteToken, find_side, flow_from, may_go_to
from farm.proxy.domains import Domains
from farm.sip.address import parse_address
from farm.sip.headers import max_forwards, proxy_require
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri

SCHEMES: Final = frozenset(("sip", "sips", "tel"))
SUPPORTED: Final[frozenset[str]] = frozenset()  # option tags that this proxy understands in Proxy-Require


class Tokens(Protocol):
    """Makes and recognises what we put into messages."""

    def loop_part(self, parts: list[str]) -> str:
        """A keyed hash of what decides where a request goes (RFC 5393 §4.2.1)."""

    def open_route(self, user: str, call_id: str) -> RouteToken | None:
        """What we put into a Record-Route of the dialog with that Call-ID, None when `user` is not ours."""

    def open_onward(self, user: str, uri_text: str) -> Hop | None:
        """The flow of ours over which another node of the farm wants a request for that URI sent, None when `user` is
        no such order."""


class RouteInformation:
    """What is left to route by, once our own part is taken away.

    `uri` and `uri_text` are the Request-URI after §16.4, `routes` the Route values that remain; `edited` says whether
    they differ from what came. `proven` says whether the request belongs to a dialog that we let through and goes where
    that dialog may (`dialog.py`); `flow` is the one that our Route brought back for the other side, None where the
    Request-URI is enough.
    """

    __slots__ = ("edited", "flow", "inner", "proven", "routes", "uri", "uri_text")

    def __init__(self, uri: Uri, uri_text: str, routes: list[str], edited: bool) -> None:
        self.uri = uri
        self.uri_text = uri_text
        self.routes = routes
        self.edited = edited
        self.proven = False
        self.flow: Hop | None = None
        self.inner = False  # another node of the farm sent it here, for the sake of that flow


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


def read_route(request: Request, domains: Domains, tokens: Tokens) -> RouteInformation:
    """§16.4: route information preprocessing."""
    uri = request.uri
    uri_text = request.uri_text
    routes = request.values("route")
    edited = False
    token: RouteToken | None = None
    onward_flow: Hop | None = None
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
    while routes:
        first = parse_address(routes[0]).uri
        if not domains.is_route_to_us(first):
            break
        del routes[0]
        edited = True
        if first.user and token is None:
            token = tokens.open_route(first.user, request.call_id)
            onward_flow = onward_flow or tokens.open_onward(first.user, uri_text)
    route = RouteInformation(uri, uri_text, routes, edited)
    # What opens a dialog is no part of one, whatever Route it brings.
    side = find_side(token, request) if token is not None and request.to_tag else None
    if token is not None and side is not None:
        if not routes:
            route.flow = flow_from(token, side)
        onward = parse_address(routes[0]).uri if routes else uri
        route.proven = route.flow is not None or may_go_to(token, side, request, onward)
    elif onward_flow is not None:
        route.flow = onward_flow  # the node that sealed this has let it through
        route.inner = True
        route.proven = True
    return route


def _without_maddr(uri: Uri) -> Uri:
    """§16.4: strip maddr with the port and transport that went with it."""
    params = {name: value for name, value in uri.params.items() if name not in ("maddr", "transport")}
    text = f"{uri.scheme}:{uri.user + '@' if uri.user else ''}{uri.host_text}"
    for name, value in params.items():
        text += f";{name}" if value is None else f";{name}={value}"
    return parse_uri(text)
