"""What a contact comes to: the target that a request goes to, over which flow, or none (RFC 5626 §5.3, §7).

A flow that is gone is no target: the contact is passed over, unless the phone that registered it listens where it says.
Flows of a node that may be dead come last, and those of one that is dead know no such exception: a caller hears at once
that a phone is away, not after the time that a connection to a firewall takes. A phone with several flows is
`targets`' to put together.

RFC 5630 §5.3: what is asked securely goes to a sips: contact only, over TLS to the phone; a phone that registered one
and is asked for by a sip: URI gets a sip: Request-URI, over TLS where it can be reached so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeAlias

from farm.sip.gruu import instance_of
from farm.sip.hop import FlowName, Hop
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri
from farm.transaction.transaction import Flow

SECURE: Final = frozenset(("TLS", "WSS"))
LISTENING: Final = frozenset(("TCP", "TLS"))  # UDP never breaks, and by WebSocket no phone listens (RFC 7118 §5)
AWAY: Final = 480  # what a phone whose connection is gone is: no fault of a server's
_LAST: Final = -1  # the q of what is tried when all else has failed


class Contact(Protocol):
    """One live binding, as the location service gives it."""

    @property
    def uri(self) -> str:
        """The contact's URI as the phone wrote it."""

    @property
    def q(self) -> int:
        """Preference in thousandths, 1000 the best."""

    @property
    def path(self) -> tuple[str, ...]:
        """The Path that the registration came by, the Route preset of requests to it (RFC 3327 §5.3)."""

    @property
    def received(self) -> Hop | None:
        """The flow that reaches it, where its URI does not."""

    @property
    def node(self) -> int:
        """The node that has this flow."""

    @property
    def instance(self) -> str:
        """The instance-id of the phone, "" when it gave none."""

    @property
    def reg_id(self) -> int:
        """Which of the phone's flows this is (RFC 5626 §4.2), 0 when it does not use outbound."""

    @property
    def call_id(self) -> str:
        """The Call-ID it was registered with."""

    @property
    def stamp(self) -> int:
        """What orders it among registrations, the latest the greatest."""


class Flows(Protocol):
    """The flows of all nodes."""

    def flow_to(self, hop: Hop) -> Flow:
        """The flow to an address from this node, opened where there is none."""

    def find_flow(self, name: FlowName) -> Flow | None:
        """That very flow, wherever it is; None when it is gone, or its node is."""

    def doubts(self, node: int) -> bool:
        """Whether a node may be dead, or cannot be reached just now."""


class Target:
    """One member of the target set.

    `uri_text` becomes the Request-URI; `path` is put before the Route; `flow` is the one to use at once; `next_hops`
    are URIs to resolve one after another instead of the Request-URI, each with the Request-URI that goes there;
    `spares` are other flows of the same phone, for when this one is broken; `phone` is the phone's instance-id without
    <>. When the flow is gone, `listens` says whether the phone may be reached where its URI says, `again` looks for it
    anew when it is told the time, and `lost` is the answer when nothing can be sent.
    """

    __slots__ = ("again", "flow", "listens", "lost", "next_hops", "path", "phone", "q", "spares", "uri_text")

    def __init__(
        self,
        uri_text: str,
        q: int = 1000,
        path: tuple[str, ...] = (),
        flow: FlowName | None = None,
        next_hops: tuple[tuple[str, str], ...] = (),
        *,
        phone: str = "",
        lost: int = 503,
        listens: bool = False,
        again: Callable[[float], TargetSet | Awaitable[TargetSet]] | None = None,
    ) -> None:
        self.uri_text = uri_text
        self.q = q
        self.path = path
        self.flow = flow
        self.next_hops = next_hops
        self.phone = phone
        self.lost = lost
        self.listens = listens
        self.again = again
        self.spares: list[Target] = []


TargetSet: TypeAlias = list[Target]


def in_order(flows: Flows, contacts: Sequence[Contact]) -> Sequence[Contact]:
    """As they came, those on a node that may be dead last."""
    doubted = [contact.received is not None and flows.doubts(contact.node) for contact in contacts]
    if True not in doubted:
        return contacts
    return [contact for _, contact in sorted(zip(doubted, contacts, strict=True), key=_doubt)]


def make_target(flows: Flows, contact: Contact, asked: Uri, gone: FlowName | None = None) -> Target | None:
    """What a contact comes to for who asked for that URI; None when it cannot be had securely, where that was asked, or
    was reached over a flow that is gone, as that one is, and does not listen itself."""
    uri_text = contact.uri
    scheme = uri_text[:5].lower()
    secure = scheme == "sips:"
    # Others can be asked for, not forwarded to (§10.3); and what is asked securely goes on securely (§26.2.2).
    if not secure and (asked.scheme == "sips" or not scheme.startswith("sip:")):
        return None
    uri_text = _as_request_uri(uri_text)
    next_hops: tuple[tuple[str, str], ...] = ()
    if secure and asked.scheme != "sips":
        plain = "sip" + uri_text[4:]
        if not contact.path:
            next_hops = ((uri_text, plain),)
        uri_text = plain
    phone = instance_of(contact.instance) if contact.instance else ""
    hop = contact.received
    if hop is None:
        return Target(uri_text, contact.q, contact.path, None, next_hops, phone=phone)
    name = FlowName(contact.node, hop)
    listens = not contact.reg_id and may_listen(uri_text, hop)
    if name.is_same(gone) or find_way(flows, name, secure=asked.scheme == "sips") is None:
        if not listens or flows.doubts(contact.node):
            return None
        return Target(uri_text, contact.q, contact.path, None, next_hops, phone=phone, lost=AWAY)
    q = _LAST if flows.doubts(contact.node) else contact.q
    return Target(uri_text, q, contact.path, name, next_hops, phone=phone, lost=AWAY, listens=listens)


def find_way(flows: Flows, name: FlowName, *, secure: bool) -> Flow | None:
    """The flow of that name, None when it is gone, or cannot carry what was asked for securely. A flow without a near
    end is an address alone, which any node may send to."""
    if secure and name.hop.transport not in SECURE:
        return None
    return flows.find_flow(name) if name.hop.local else flows.flow_to(name.hop)


def may_listen(contact: str, hop: Hop) -> bool:
    """Whether a contact that registered over `hop` may be reached where it says: on a transport that it may listen on,
    and not at another address than it came from, which lies behind a NAT or is anybody's."""
    if hop.transport not in LISTENING:
        return False
    try:
        host = parse_uri(contact).host
    except SipError:
        return False
    return host == hop.host or not (host[-1:].isdigit() or ":" in host)


def _doubt(item: tuple[bool, Contact]) -> bool:
    return item[0]


def _as_request_uri(contact: str) -> str:
    """A contact without what no Request-URI may have, headers and a method parameter (§16.6 step 2, §19.1.1)."""
    if "?" not in contact and ";method=" not in contact.lower():
        return contact
    try:
        uri = parse_uri(contact)
    except SipError:
        return contact  # the branch finds the fault again, and ends with it
    return str(uri.with_params({k: v for k, v in uri.params.items() if k != "method"}).without_headers())
