"""Who may have a request forwarded: RFC 3261 §16.3 step 6 and §22.3, and no relaying between strangers.

- A request that proves by our Route that it belongs to a dialog we let through, or that leads over a flow by the token
  of our Path, passes.
- A caller from a domain of ours is challenged (407) and must be who From says, unless the farm is open or the source
  is a trusted network (a gateway, another proxy of the house), or has proved a trusted domain by its certificate.
- A caller who withholds its name (anonymous.invalid, RFC 3323) or gives a number may be a user of ours all the same:
  who calls elsewhere than our users is challenged then, and any user of ours will do.
- Everybody else is a stranger, who may reach our users and nothing else.
- ACK and CANCEL cannot be challenged (§22.1); an ACK without proof reaches our users only.

It answers with a `Caller`, or raises SipError; where the credentials are not here yet, with an awaitable of that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Final, Protocol

from farm.proxy.domains import Domains
from farm.proxy.gateways import find_number
from farm.proxy.request import RouteInformation
from farm.security.credentials import Authenticated, Refused, Verdict
from farm.security.sip_identity import normalise
from farm.sip.address import parse_address
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.status import SipError


class Caller(Enum):
    """What is known of whoever sent a request."""

    TRUSTED = "trusted"  # of a trusted network or domain: may go anywhere, and is believed who it says is calling
    OURS = "ours"  # a user of ours who proved it, or an open farm's: may go anywhere
    DIALOG = "dialog"  # inside a dialog that we let through
    STRANGER = "stranger"  # may reach our users only


_ANYBODY: Final = ""
MEMBERS: Final = frozenset((Caller.TRUSTED, Caller.OURS))


class Authenticator(Protocol):
    """Checks digest credentials; satisfied by security/credentials."""

    def check(self, request: Request, realm: str, header_name: str, now: float) -> Verdict | Awaitable[Verdict]:
        """Who sent this, or how to refuse."""


class Admission:
    """The rules above for one configuration. `domains_of` tells which domains a sender has proved, by its hop."""

    def __init__(
        self,
        domains: Domains,
        authenticator: Authenticator,
        *,
        open_farm: bool,
        trusted: tuple[str, ...],
        trusted_domains: Iterable[str] = (),
        domains_of: Callable[[Hop], Iterable[str]] | None = None,
    ) -> None:
        self._domains = domains
        self._authenticator = authenticator
        self._domains_of = domains_of
        self.change(open_farm=open_farm, trusted=trusted, trusted_domains=trusted_domains)

    def change(self, *, open_farm: bool, trusted: Iterable[str], trusted_domains: Iterable[str]) -> None:
        """Trust these from now on."""
        self._open = open_farm
        self._trusted = tuple(ip_network(network, strict=False) for network in trusted)
        self._trusted_domains = frozenset(map(normalise, trusted_domains))

    def admit(self, request: Request, route: RouteInformation, now: float) -> Caller | Awaitable[Caller]:
        """Who sent the request; raises SipError 401/407/403/400 when it must not go on."""
        if self._trusted and self._is_trusted(request.source.host):
            return Caller.TRUSTED
        if self._trusted_domains and self._has_proved(request.source):
            return Caller.TRUSTED
        if route.proven:
            return Caller.DIALOG
        sender = request.find("from") or ""
        domain = self._domains.domain_of_address(sender)
        withheld = domain is None and _is_withheld(sender) and self._leaves(route)
        if domain is None and (self._open or not withheld):
            return Caller.STRANGER
        if self._open:
            return Caller.OURS
        if request.method == "ACK":
            return Caller.STRANGER
        aor = _ANYBODY if withheld else self._domains.aor_of_address(sender)
        domain = domain or self._domains.first
        verdict = self._authenticator.check(request, domain, "proxy-authorization", now)
        if isinstance(verdict, Authenticated | Refused):
            return _judge(verdict, aor, route)
        return self._judge_later(verdict, aor, route)

    def _leaves(self, route: RouteInformation) -> bool:
        """Whether the request is for anybody but a user of ours: a foreign domain, or a number."""
        return self._domains.domain_of(route.uri) is None or bool(find_number(route.uri))

    async def _judge_later(self, verdict: Awaitable[Verdict], aor: str | None, route: RouteInformation) -> Caller:
        return _judge(await verdict, aor, route)

    def _has_proved(self, source: Hop) -> bool:
        return self._domains_of is not None and not self._trusted_domains.isdisjoint(self._domains_of(source))

    def _is_trusted(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _is_withheld(sender: str) -> bool:
    """Whether a From names nobody (RFC 3323 §4.1.1.3), or a number, which is no user of a domain."""
    uri = parse_address(sender).uri
    return uri.scheme == "tel" or uri.host == "anonymous.invalid"


def _judge(verdict: Verdict, aor: str | None, route: RouteInformation) -> Caller:
    """`aor` is who From says is calling: a user, None for nobody who could be one, or anybody. `route` learns who it
    was."""
    if isinstance(verdict, Refused):
        raise SipError(verdict.status, reason=verdict.reason, headers=tuple(verdict.headers))
    if aor != _ANYBODY and verdict.user != aor:
        raise SipError(403, reason="not-the-sender")
    route.user = verdict.user
    return Caller.OURS
