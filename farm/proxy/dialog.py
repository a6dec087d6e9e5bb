"""What our Record-Route remembers of a dialog, and what that allows later.

A request inside a dialog brings our Record-Route back, with a token that nobody else could have made. Both sides of the
dialog have it, though, and either may be a stranger, so it is no pass: it lets a request through only if the request
looks as one of this dialog's must. Its From and To are those of the first request, either way round, and it goes where
the other side is: over the flow we remember, or to the host of its Contact, or of the hop or proxy beside us. A
caller who proved to be a member goes anywhere, from the address it called from. A caller who did not may have named
anybody's host as its own: what goes there must come from the host that we sent the first request to. All else is
treated like a request without a token: a user of ours is challenged, a stranger reaches our users only.

Decided: hosts are remembered as hashes, so that the token stays short; the callee's are those we sent the first
request to, because its Contact is not known when the token is made. A callee that answers with a Contact elsewhere is
challenged for its own requests, and out of reach for a stranger's.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from farm.sip.address import parse_address
from farm.sip.headers import STAR, contacts
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.nat import find_flow
from farm.sip.status import SipError
from farm.sip.uri import Uri

# The order of the facts in a token.
_DIALOG: Final = 0
_CALLER_HOSTS: Final = (1, 2)
_CALLEE_HOSTS: Final = (3, 4)
_MEMBER: Final = 5
_ANSWERS_FROM: Final = 6

_ANYWHERE: Final = "*"  # no host's name


class Side(Enum):
    """Who sends a request of a dialog."""

    CALLER = "caller"
    CALLEE = "callee"


class RouteToken(Protocol):
    """An opened token."""

    @property
    def caller(self) -> Hop | None:
        """The flow that the caller can only be reached by."""

    @property
    def callee(self) -> Hop | None:
        """The flow that the callee can only be reached by."""

    def holds(self, index: int, text: str) -> bool:
        """Whether the fact of that number is this text."""


def make_facts(request: Request, contact: str, target_host: str, hop_host: str, member: bool) -> Sequence[str]:
    """What to remember of a first request whose Contact has the host `contact` and that goes to `target_host` by way of
    `hop_host`."""
    routes = request.values("record-route")
    beside = _route_host(routes[0]) if routes else request.source.host
    return (
        _identify(request.from_tag, request.find("from"), request.find("to")),
        contact,
        beside,
        target_host,
        hop_host,
        request.source.host if member else "",
        _ANYWHERE if member else hop_host,
    )


def find_caller(request: Request, contact: str) -> Hop | None:
    """The flow that the sender of a request can only be reached by, its Contact having the host `contact`; another
    proxy before us keeps it to itself."""
    if not contact or len(request.all("via")) > 1:
        return None
    return find_flow(request, contact)


def find_side(token: RouteToken, request: Request) -> Side | None:
    """Who sends it, None when From, To and the caller's tag are not those of the dialog, either way round."""
    sender, receiver = request.find("from"), request.find("to")
    if token.holds(_DIALOG, _identify(request.from_tag, sender, receiver)):
        return Side.CALLER
    if token.holds(_DIALOG, _identify(request.to_tag, receiver, sender)):
        return Side.CALLEE
    return None


def flow_from(token: RouteToken, side: Side) -> Hop | None:
    """The flow that the other side of the dialog can only be reached by."""
    return token.callee if side is Side.CALLER else token.caller


def may_go_to(token: RouteToken, side: Side, request: Request, uri: Uri) -> bool:
    """Whether a request of the dialog may go to that URI."""
    source = request.source.host
    if side is Side.CALLER:
        if token.holds(_MEMBER, source):
            return True
        hosts = _CALLEE_HOSTS
    elif token.holds(_ANSWERS_FROM, _ANYWHERE) or token.holds(_ANSWERS_FROM, source):
        hosts = _CALLER_HOSTS
    else:
        return False
    host = host_of(uri)
    return any(token.holds(index, host) for index in hosts)


def host_of(uri: Uri) -> str:
    """The host that a request to this URI is sent to: maddr overrides the URI's own (§19.1.1)."""
    return uri.maddr or uri.host


def _identify(caller_tag: str, caller: str | None, callee: str | None) -> str:
    return f"{caller_tag} {uri_of(caller)} {uri_of(callee)}"


def uri_of(address: str | None) -> str:
    """The URI of a From or To as it was written: dialogs repeat it to the letter (§12.2.1.1)."""
    if address is None:
        return ""
    before, bracket, after = address.partition("<")
    if bracket and '"' not in before:
        return after.partition(">")[0]
    if bracket:
        return parse_address(address).uri.text
    return before.partition(";")[0].strip(" \t")


def contact_host(request: Request) -> str:
    """The host of the first Contact, "" where there is none that can be read."""
    try:
        found = contacts(request)
    except SipError:
        return ""  # a fault in it is for the other side to find
    return "" if found == STAR or not found else host_of(found[0].uri)


def _route_host(value: str) -> str:
    try:
        return host_of(parse_address(value).uri)
    except SipError:
        return ""  # so is this
