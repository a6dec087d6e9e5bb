"""The target set of a request: RFC 3261 §16.5, and who may have which targets.

In order: the flow that our Record-Route brought back is used; a remaining Route or a maddr leaves the Request-URI
alone; a domain of ours is looked up in the location service; numbers go to the gateway of their longest prefix, as a
SIP URI of that gateway (§19.1.6), because few gateways take a tel: URI or another domain's name; other domains go by
their static route, or by RFC 3263. Only callers of ours reach anything but our own users.

A flow that is gone is no target. A phone whose registration named it is passed over, or is reached by another flow of
its own (RFC 5626 §7); one that a dialog names is looked for again, by its instance-id, and gets the request with the
Request-URI that the dialog has, since its new Contact is no part of that dialog (RFC 3261 §12.2); where a Path names
it, the registrar hears 430. Flows of a node that may be dead are tried last. A GRUU of ours is one phone of a user, and
all its flows (RFC 5627 §5).

What a target needs beyond its URI travels with it: the Path that its registration came by (RFC 3327), the flow it
is behind (a NAT or a connection), or a list of next hops to try one after another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from farm.proxy.admission import MEMBERS, Caller
from farm.proxy.dialog import Passport
from farm.proxy.domains import Domains
from farm.proxy.gateways import find_number
from farm.proxy.reach import AWAY, LISTENING, Contact, Flows, Target, TargetSet, find_way, in_order, make_target
from farm.proxy.request import RouteInformation
from farm.sip.gruu import gr_of, instance_of
from farm.sip.hop import FlowName
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri, uris_equal


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


class Gruu(Protocol):
    """An opened temporary GRUU."""

    @property
    def aor(self) -> str:
        """The address-of-record that it was made for."""

    @property
    def instance(self) -> str:
        """The phone, by its instance-id as `sip.gruu.instance_of` writes it."""

    def is_valid(self, bindings: Sequence[Contact]) -> bool:
        """Whether it still stands, all live bindings of the address-of-record being these (RFC 5627 §5.1)."""


class Gruus(Protocol):
    """Makes temporary GRUUs."""

    def open(self, user: str) -> Gruu | None:
        """What the user part of one means, None when it is none of ours."""


class Targets:
    """Determines target sets for one configuration."""

    def __init__(
        self,
        domains: Domains,
        locator: Locator,
        directory: Directory,
        gateways: Gateways,
        flows: Flows,
        gruus: Gruus | None = None,
        *,
        max_targets: int,
    ) -> None:
        """Without `gruus` no temporary GRUU is ours."""
        self._domains = domains
        self._locator = locator
        self._directory = directory
        self._gateways = gateways
        self._flows = flows
        self._gruus = gruus
        self.max_targets = max_targets

    def find(self, route: RouteInformation, caller: Caller, now: float) -> TargetSet | Awaitable[TargetSet]:
        """The target set, never empty; raises SipError 403, 404, 430, 480 or 481 where there is none."""
        uri = route.uri
        if route.flow is not None and not self._is_gruu(route):
            return self._along(route, route.flow, now)
        if route.routes or (uri.is_sip and "maddr" in uri.params):
            _demand(caller, route)
            return [Target(route.uri_text)]
        if uri.is_sip:
            domain = self._domains.domain_of(uri)
            if domain is None:
                _demand(caller, route)
                return [self._elsewhere(route)]
            return self._at_home(uri, caller, now)
        return [self._number(uri, caller)]

    # Flows of dialogs and Paths

    def _along(self, route: RouteInformation, flow: FlowName, now: float) -> TargetSet | Awaitable[TargetSet]:
        """Over the flow that our own Route named; when it is gone, over another of that phone."""
        passport = route.passport
        gone = find_way(self._flows, flow, secure=route.uri.scheme == "sips") is None
        if passport is None:
            if gone:
                raise SipError(430, reason="flow-gone")
            return [Target(route.uri_text, flow=flow, lost=430)]
        again = partial(self._look_again, route, flow, passport)
        return again(now) if gone else [Target(route.uri_text, flow=flow, lost=AWAY, again=again)]

    def _look_again(
        self, route: RouteInformation, flow: FlowName, passport: Passport, now: float
    ) -> TargetSet | Awaitable[TargetSet]:
        """Where the phone is to which a dialog's flow led that is gone. Raises SipError 480 when nowhere."""
        aor = self._domains.aor_of_address(passport.receiver)
        found = None if aor is None else self._locator.find(aor, now)
        if isinstance(found, Awaitable):
            return self._look_again_later(found, route, flow, passport)
        return self._find_phone(() if found is None else found.bindings, route, flow, passport)

    async def _look_again_later(
        self, finding: Awaitable[Located], route: RouteInformation, flow: FlowName, passport: Passport
    ) -> TargetSet:
        return self._find_phone((await finding).bindings, route, flow, passport)

    def _find_phone(
        self, bindings: Sequence[Contact], route: RouteInformation, gone: FlowName, passport: Passport
    ) -> TargetSet:
        """The phone of a dialog among the bindings of its user: the one of its instance-id, else the one with the
        Contact that the dialog knows, else the only one there is; by any of its flows."""
        contacts = [contact for contact in bindings if passport.is_phone(instance_of(contact.instance))]
        if not contacts:
            named = {one.instance for one in bindings if one.instance and _is_at(one, route.uri)}
            contacts = [one for one in bindings if one.instance in named or _is_at(one, route.uri)]
        phones = {contact.instance for contact in bindings}
        only = len(bindings) == 1 or (len(phones) == 1 and "" not in phones)
        if not contacts and only and not passport.knows_phone:
            contacts = list(bindings)
        targets: list[Target] = []
        for contact in in_order(self._flows, contacts):
            target = make_target(self._flows, contact, route.uri, gone)
            if target is not None:
                if target.flow is None and not target.path:
                    where = target.next_hops[0][0] if target.next_hops else target.uri_text
                    target.next_hops = ((where, route.uri_text),)
                target.uri_text = route.uri_text  # by which the phone knows the dialog
                targets.append(target)
        if targets:
            targets[0].spares = targets[1:]
            return targets[:1]
        if gone.hop.transport in LISTENING and passport.may_listen(route.uri):
            return [Target(route.uri_text, lost=AWAY)]
        raise SipError(480, reason="flow-gone")

    # Users of ours

    def _is_gruu(self, route: RouteInformation) -> bool:
        uri = route.uri
        return route.passport is not None and gr_of(uri) is not None and self._domains.domain_of(uri) is not None

    def _at_home(self, uri: Uri, caller: Caller, now: float) -> TargetSet | Awaitable[TargetSet]:
        aor = self._domains.aor_of(uri)
        if aor is None:
            raise SipError(404, reason="no-user-in-uri")
        instance = gr_of(uri)
        gruu: Gruu | None = None
        if instance == "":
            gruu = None if self._gruus is None else self._gruus.open(uri.user or "")
            if gruu is None:
                raise SipError(404, reason="unknown-gruu")
            aor, instance = gruu.aor, gruu.instance

        def choose(found: Located) -> TargetSet | Awaitable[TargetSet]:
            if gruu is not None and not gruu.is_valid(found.bindings):
                raise SipError(404, reason="unknown-gruu")
            return self._choose(found, uri, caller, instance) or self._nowhere(aor, found, uri, caller)

        found = self._locator.find(aor, now)
        return self._at_home_later(found, choose) if isinstance(found, Awaitable) else choose(found)

    async def _at_home_later(
        self, finding: Awaitable[Located], choose: Callable[[Located], TargetSet | Awaitable[TargetSet]]
    ) -> TargetSet:
        chosen = choose(await finding)
        return chosen if isinstance(chosen, list) else await chosen

    def _choose(self, found: Located, uri: Uri, caller: Caller, instance: str | None) -> TargetSet:
        """The targets among what was found, of one phone when there is an `instance`; failing that, a number's
        gateway."""
        targets: list[Target] = []
        phones: dict[str, Target] = {}
        for contact in in_order(self._flows, found.bindings):
            if instance and instance_of(contact.instance) != instance:
                continue
            target = make_target(self._flows, contact, uri)
            if target is None:
                continue
            if contact.reg_id:
                first = phones.setdefault(contact.instance, target)
                if first is not target:
                    first.spares.append(target)  # one flow of a phone at a time, the latest first (RFC 5626 §7)
                    continue
            targets.append(target)
        if not targets and instance is None and caller in MEMBERS and self._gateways.find(uri):
            return [self._number(uri, caller)]
        return targets[: self.max_targets]

    def _nowhere(self, aor: str, found: Located, uri: Uri, caller: Caller) -> TargetSet | Awaitable[TargetSet]:
        """Why there are no targets. A stranger, and a dialog may be one's, learns nothing about which users exist."""
        if uri.scheme == "sips" and found.bindings:
            warning = f'380 {self._domains.first} "SIPS Not Allowed"'
            raise SipError(480, reason="not-secure", headers=(("warning", warning),))
        if caller in MEMBERS and not found.known:
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


def _is_at(contact: Contact, uri: Uri) -> bool:
    try:
        return uris_equal(parse_uri(contact.uri), uri)
    except SipError:
        return False


def _demand(caller: Caller, route: RouteInformation) -> None:
    if caller is Caller.STRANGER:
        if route.unproven:
            raise SipError(481, reason="token-refused")  # its dialog ends with that (§12.2.1.2)
        raise SipError(403, reason="relay-refused")


def _at_gateway(number: str, hop: str) -> str:
    """The Request-URI for a number at a gateway: the gateway's address, and user=phone (RFC 3261 §19.1.6)."""
    address = hop.partition(";")[0]
    scheme, _, host = address.partition(":")
    return f"{scheme}:{number}@{host.rpartition('@')[2]};user=phone"
