"""What our Record-Route remembers of a dialog, and what that allows later.

A request inside a dialog brings our Record-Route back, with a token that nobody else could have made. Both sides of the
dialog have it, though, and either may be a stranger, so it is no pass: it lets a request through only if the request
looks as one of this dialog's must. Its From and To are those of the first request, either way round, and it goes where
the other side is: over the flow we remember, or to the host of its Contact, or of the hop or proxy beside us. A
caller who proved to be a member goes anywhere, from the address it called from. A caller who did not may have named
anybody's host as its own: what goes there must come from the host, or over the flow, that we sent the first request
to. All else is treated like a request without a token: a user of ours is challenged, a stranger reaches our users only.

Decided: hosts are remembered as hashes, so that the token stays short; the callee's are those we sent the first
request to, because its Contact is not known when the token is made. A callee that answers with a Contact elsewhere is
challenged for its own requests, and out of reach for a stranger's.
Decided: when a flow is gone, the phone that had it is looked for under the To of the request, which the token vouches
for, and not under an address-of-record in the token: To is in every request, and costs the token no bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from farm.sip.address import Address, parse_address
from farm.sip.grammar import unquote
from farm.sip.gruu import gr_of, instance_of
from farm.sip.headers import STAR, contacts
from farm.sip.hop import FlowName, Hop, Leg
from farm.sip.message import Message, Request, Response
from farm.sip.nat import find_flow
from farm.sip.status import SipError
from farm.sip.uri import Uri

# The order of the facts in a token.
_DIALOG: Final = 0
_CALLER_HOSTS: Final = (1, 2)
_CALLEE_HOSTS: Final = (3, 4)
_MEMBER: Final = 5
_ANSWERS_FROM: Final = 6
_HOME: Final = 7

_ANYWHERE: Final = "*"  # no host's name


class Side(Enum):
    """Who sends a request of a dialog."""

    CALLER = "caller"
    CALLEE = "callee"


class RouteToken(Protocol):
    """An opened token."""

    @property
    def caller(self) -> FlowName | None:
        """The flow that the caller can only be reached by."""

    @property
    def callee(self) -> FlowName | None:
        """The flow that the callee can only be reached by."""

    def holds(self, index: int, text: str) -> bool:
        """Whether the fact of that number is this text."""

    def is_phone(self, side_is_caller: bool, text: str) -> bool:
        """Whether that side's phone is known, and has this instance-id (without <>)."""

    def knows_phone(self, side_is_caller: bool) -> bool:
        """Whether that side's phone is known."""


class Passport:
    """What an opened token says of one message of its dialog, a request or an answer that the side sends, for when the
    flow to the other side is gone."""

    __slots__ = ("_message", "_node", "_side", "_token")

    def __init__(self, token: RouteToken, side: Side, message: Message, node: int) -> None:
        self._node = node
        self._token = token
        self._side = side
        self._message = message

    @property
    def receiver(self) -> str:
        """The To of a request, the From of an answer: who is looked for, as the dialog knows him."""
        return self._message.find("from" if isinstance(self._message, Response) else "to") or ""

    def is_phone(self, instance: str) -> bool:
        """Whether the other side is the phone of that instance-id (without <>)."""
        return bool(instance) and self._token.is_phone(self._side is Side.CALLEE, instance)

    @property
    def knows_phone(self) -> bool:
        """Whether it is known which phone the other side is."""
        return self._token.knows_phone(self._side is Side.CALLEE)

    def may_listen(self, uri: Uri) -> bool:
        """Whether the other side may be reached at that URI without its flow: a name that the request may go to, or an
        address that is both what its Contact said and where it came from, or was reached. An answer bears no Contact
        of who gets it, and has a Via instead."""
        if not isinstance(self._message, Request):
            return False
        if not may_go_to(self._token, self._side, self._message, uri, self._node):
            return False
        host = host_of(uri)
        facts = _CALLEE_HOSTS if self._side is Side.CALLER else _CALLER_HOSTS
        numeric = host[-1:].isdigit() or ":" in host
        return not numeric or all(self._token.holds(index, host) for index in facts)


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


def name_home(node: int) -> str:
    """What a token of a dialog remembers of the node that took its first request, where the caller has no flow that
    names it."""
    return f"{node:x}"


def is_home(token: RouteToken, node: int) -> bool:
    """Whether the node of that number took the first request of the dialog."""
    if token.caller is not None:
        return token.caller.node == node
    return token.holds(_HOME, name_home(node))


def find_caller(request: Request, contact: Address | None) -> Hop | None:
    """The flow that the sender of a request can only be reached by, or wants to be (RFC 5626 §4.3), `contact` being its
    Contact; another proxy before us keeps it to itself."""
    if contact is None or not host_of(contact.uri) or not is_first_hop(request):
        return None
    return find_flow(request, host_of(contact.uri), outbound="ob" in contact.uri.params)


def make_caller(request: Request, contact: Address | None, node: int) -> Leg:
    """The caller's side of the dialog that a request opens, on the node of that number."""
    flow = find_caller(request, contact)
    if flow is None:
        return Leg()
    return Leg(FlowName(node, flow), "" if contact is None else find_phone(contact))


def find_phone(contact: Address) -> str:
    """The instance-id that a Contact tells, by its parameter or as a public GRUU, without <>; "" for none."""
    if not contact.params and not contact.uri.params:
        return ""
    return instance_of(unquote(contact.params.get("+sip.instance") or "")) or gr_of(contact.uri) or ""


def is_first_hop(request: Request) -> bool:
    """Whether a request came straight from who made it."""
    vias = request.all("via")
    return len(vias) == 1 and "," not in vias[0]


def find_side(token: RouteToken, message: Message) -> Side | None:
    """Who sends it, or sent what it answers; None when From, To and the caller's tag are not those of the dialog,
    either way round."""
    sender, receiver = message.find("from"), message.find("to")
    if token.holds(_DIALOG, _identify(message.from_tag, sender, receiver)):
        return Side.CALLER
    if token.holds(_DIALOG, _identify(message.to_tag, receiver, sender)):
        return Side.CALLEE
    return None


def flow_from(token: RouteToken, side: Side) -> FlowName | None:
    """The flow that the other side of the dialog can only be reached by."""
    return token.callee if side is Side.CALLER else token.caller


def may_go_to(token: RouteToken, side: Side, request: Request, uri: Uri, node: int) -> bool:
    """Whether a request of the dialog, which came to the node of that number, may go to that URI."""
    source = request.source.host
    if side is Side.CALLER:
        if token.holds(_MEMBER, source):
            return True
        hosts = _CALLEE_HOSTS
    elif (
        token.holds(_ANSWERS_FROM, _ANYWHERE)
        or token.holds(_ANSWERS_FROM, source)
        or FlowName(node, request.source).is_same(token.callee)
    ):
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


def first_contact(request: Request) -> Address | None:
    """The first Contact, None where there is none that can be read."""
    try:
        found = contacts(request)
    except SipError:
        return None  # a fault in it is for the other side to find
    return None if found == STAR or not found else found[0]


def contact_host(request: Request) -> str:
    """The host of the first Contact, "" where there is none that can be read."""
    contact = first_contact(request)
    return "" if contact is None else host_of(contact.uri)


def _route_host(value: str) -> str:
    try:
        return host_of(parse_address(value).uri)
    except SipError:
        return ""  # so is this
