"""The target set of a request: RFC 3261 §16.5, and who may have which targets.

In order: the flow that our Record-Route brought back is used; a remaining Route or a maddr leaves the Request-URI
alone; a domain of ours is looked up in the location service; numbers go to the gateway of their longest prefix, as a
SIP URI of that gateway (§19.1.6), because few gateways take a tel: URI or another domain's name; other domains go by
their static route, or by RFC 3263. Only callers of ours reach anything but our own users.

What a target needs beyond its URI travels with it: the Path that its registration came by (RFC 3327), the flow it
is behind (a NAT or a connection), or a list of next hops to try one after another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from farm.proxy.admission import MEMBERS, Caller
from farm.proxy.domains import Domains
from farm.proxy.gateways import find_number
from farm.proxy.request import RouteInformation
from farm.sip.hop import Hop
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri


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


class Located(Protocol):
    """What the location service has of an address-of-record."""

    @property
    def bindings(self) -> Sequence[Contact]:
        """Its live bindings, best q first."""

    @property
    def known(self) -> bool:
        """Whether anything was ever registered for it that is remembered."""


class Locator(Protocol):
    """The location service."""

    def find(self, aor: str, now: float) -> Located | Awaitable[Located]:
        """What there is of an address-of-record. Raises SipError when that cannot be found out."""


class Directory(Protocol):
    """Who has an account."""

    def exists(self, aor: str) -> bool | Awaitable[bool]:
        """Whether there is a user of that address-of-record."""


class Gateways(Protocol):
    """Static routes and gateways."""

    def find(self, uri: Uri) -> Sequence[str]:
        """Next-hop URIs for a foreign domain with a static route, or for a number; best first, empty for neither."""


class Nodes(Protocol):
    """The other nodes of the farm."""

    def route_to(self, node: int, flow: Hop, uri_text: str) -> str | None:
        """The Route value that makes that node send a request for `uri_text` over a flow of its own; "" when the flow
        is ours, None when the node is gone and its flows with it."""


class Target:
    """One member of the target set.

    `uri_text` becomes the Request-URI; `path` is put before the Route; `hop` is the flow to use at once; `next_hops`
    are URIs to resolve one after another instead of the Request-URI, each with the Request-URI that goes there;
    `spares` are other flows of the same phone, for when this one is broken; `inner` says that another node of the farm
    is on the way.
    """

    __slots__ = ("hop", "inner", "next_hops", "path", "q", "spares", "uri_text")

    def __init__(
        self,
        uri_text: str,
        q: int = 1000,
        path: tuple[str, ...] = (),
        hop: Hop | None = None,
        next_hops: tuple[tuple[str, str], ...] = (),
        *,
        inner: bool = False,
    ) -> None:
        self.uri_text = uri_text
        self.inner = inner
        self.q = q
        self.path = path
        self.hop = hop
        self.next_hops = next_hops
        self.spares: list[Target] = []


TargetSet = list[Target]


class Targets:
    """Determines target sets for one configuration."""

    def __init__(
        self,
        domains: Domains,
        locator: Locator,
        directory: Directory,
        gateways: Gateways,
        nodes: Nodes | None = None,
        *,
        max_targets: int,
    ) -> None:
        """Without `nodes` every flow is ours."""
        self._domains = domains
        self._locator = locator
        self._directory = directory
        self._gateways = gateways
        self._nodes = nodes
        self._max_targets = max_targets

    def find(self, route: RouteInformation, caller: Caller, now: float) -> TargetSet | Awaitable[TargetSet]:
        """The target set, never empty; raises SipError 403, 404 or 480 where there is none."""
        uri = route.uri
        if route.flow is not None:
            return [Target(route.uri_text, hop=route.flow)]
        if route.routes or (uri.is_sip and "maddr" in uri.params):
            _demand(caller)
            return [Target(route.uri_text)]
        if uri.is_sip:
            domain = self._domains.domain_of(uri)
            if domain is None:
                _demand(caller)
                return [self._elsewhere(route)]
            return self._at_home(uri, caller, now)
        return [self._number(uri, caller)]

    def _at_home(self, uri: Uri, caller: Caller, now: float) -> TargetSet | Awaitable[TargetSet]:
        aor = self._domains.aor_of(uri)
        if aor is None:
            raise SipError(404, reason="no-user-in-uri")
        found = self._locator.find(aor, now)
        if isinstance(found, Awaitable):
            return self._at_home_later(uri, aor, found, caller)
        return self._choose(found, uri, caller) or self._nowhere(aor, found.known, caller)

    async def _at_home_later(self, uri: Uri, aor: str, finding: Awaitable[Located], caller: Caller) -> TargetSet:
        found = await finding
        targets = self._choose(found, uri, caller)
        if not targets:
            nowhere = self._nowhere(aor, found.known, caller)
            return nowhere if isinstance(nowhere, list) else await nowhere
        return targets

    def _choose(self, found: Located, uri: Uri, caller: Caller) -> TargetSet:
        """The targets among what was found; failing that, a number's gateway."""
        targets: list[Target] = []
        phones: dict[str, Target] = {}
        # Others can be asked for, not forwarded to (§10.3); and what is asked securely goes on securely (§26.2.2).
        schemes = ("sips",) if uri.scheme == "sips" else ("sip:", "sips")
        for contact in found.bindings:
            if contact.uri[:4].lower() not in schemes:
                continue
            target = self._make_target(contact)
            if target is None:
                continue
            if contact.reg_id:
                first = phones.setdefault(contact.instance, target)
                if first is not target:
                    first.spares.append(target)  # one flow of a phone at a time, the latest first (RFC 5626 §7)
                    continue
            targets.append(target)
        if not targets and caller in MEMBERS and self._gateways.find(uri):
            return [self._number(uri, caller)]
        return targets[: self._max_targets]

    def _make_target(self, contact: Contact) -> Target | None:
        """What a contact comes to; None when it was reached over a flow that is gone with its node."""
        uri_text = _as_request_uri(contact.uri)
        flow = contact.received
        if flow is None or self._nodes is None:
            return Target(uri_text, contact.q, contact.path, flow)
        way = self._nodes.route_to(contact.node, flow, uri_text)
        if way is None:
            return None
        if not way:
            return Target(uri_text, contact.q, contact.path, flow)
        return Target(uri_text, contact.q, (way, *contact.path), inner=True)

    def _nowhere(self, aor: str, known: bool, caller: Caller) -> TargetSet | Awaitable[TargetSet]:
        """Why there are no targets. A stranger, and a dialog may be one's, learns nothing about which users exist."""
        if caller in MEMBERS and not known:
            exists = self._directory.exists(aor)
            if isinstance(exists, Awaitable):
                return self._nowhere_later(exists)
            if not exists:
                raise SipError(404, reason="unknown-user")
        raise SipError(480, reason="not-registered")

    async def _nowhere_later(self, asking: Awaitable[bool]) -> TargetSet:
        if await asking:
            raise SipError(480, reason="not-registered")
        raise SipError(404, reason="unknown-user")

    def _number(self, uri: Uri, caller: Caller) -> Target:
        if caller not in MEMBERS:  # nor a dialog's: its requests go to contacts, and a call costs money
            raise SipError(403, reason="relay-refused")
        hops = self._gateways.find(uri)
        if not hops:
            raise SipError(404, reason="no-gateway")
        number = find_number(uri)
        context = uri.params.get("phone-context")
        if context and not number.startswith("+"):
            number += f";phone-context={context}"  # a local number means nothing without it (RFC 3966 §5.1.5)
        next_hops = tuple((hop, _at_gateway(number, hop)) for hop in hops)
        return Target(next_hops[0][1], next_hops=next_hops)

    def _elsewhere(self, route: RouteInformation) -> Target:
        hops = self._gateways.find(route.uri)
        return Target(route.uri_text, next_hops=tuple((hop, route.uri_text) for hop in hops))


def _demand(caller: Caller) -> None:
    if caller is Caller.STRANGER:
        raise SipError(403, reason="relay-refused")


def _as_request_uri(contact: str) -> str:
    """A contact without what no Request-URI may have, headers and a method parameter (§16.6 step 2, §19.1.1)."""
    if "?" not in contact and ";method=" not in contact.lower():
        return contact
    try:
        uri = parse_uri(contact)
    except SipError:
        return contact  # the branch finds the fault again, and ends with it
    return str(uri.with_params({k: v for k, v in uri.params.items() if k != "method"}).without_headers())


def _at_gateway(number: str, hop: str) -> str:
    """The Request-URI for a number at a gateway: the gateway's address, and user=phone (RFC 3261 §19.1.6)."""
    address = hop.partition(";")[0]
    scheme, _, host = address.partition(":")
    return f"{scheme}:{number}@{host.rpartition('@')[2]};user=phone"
