"""Static routes and gateways: next hops that the configuration names, in order, with those that seem dead last.

A route takes the requests for a foreign domain; a gateway takes telephone numbers, `tel:` URIs (RFC 3966) and
`sip:+…;user=phone` of domains of ours (RFC 3261 §19.1.6), by the longest prefix that fits. Targets with a probe
interval are asked with OPTIONS: `due` says which, the caller sends them and reports with `probed`. Any final response
but 408 and 503 proves a target alive, also one that dislikes OPTIONS. Pure and told the time; sending, and which
Request-URI goes to a next hop, is the caller's.

Numbers are compared without their visual separators. A local number, one without "+", is meant within its
phone-context, which RFC 3966 §5.1.5 forbids to use as a prefix; it matches prefixes without "+" only.

Decided: a target that is down is still the last resort, never left out: when all are down, refusing every call would
make a lost probe an outage. `sip:+4930123@ours` counts as a number without `user=phone` too, because few phones
write it and nothing else starts with "+" and goes on in digits; digits alone need `user=phone`, as they name users.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Final
from urllib.parse import unquote

from farm.config import GatewaySettings, RouteSettings
from farm.metrics import Metrics
from farm.proxy.domains import Domains
from farm.sip.uri import Uri

DOWN_AFTER: Final = 2  # failed probes in a row; one may be a lost datagram of a busy minute
UP_AFTER: Final = 2  # answered probes in a row, for a target that was down
LOST_AFTER: Final = 64.0  # seconds after which a probe that nobody reported is given up (64*T1 is 32)
_FIRST_WITHIN: Final = 2.0  # seconds over which the first probes are spread
_JITTER: Final = 0.1

_SEPARATORS: Final = re.compile(r"[\-.()]")
_GLOBAL: Final = re.compile(r"\+[0-9]+")
_LOCAL: Final = re.compile(r"[0-9A-F*#]+")


class Health(Enum):
    """What the probes say of a target; UNKNOWN is taken for up."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Target:
    """A next hop of the configuration, `uri` as written there. One, however many routes name it."""

    __slots__ = ("failures", "health", "interval", "probe_at", "sent_at", "successes", "uri")

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.interval = 0.0  # seconds between probes, 0 for none
        self.health = Health.UNKNOWN
        self.failures = 0
        self.successes = 0
        self.probe_at: float | None = None  # None before the first `due`
        self.sent_at: float | None = None  # a probe is under way since then

    def resume(self, before: Target | None) -> None:
        """Go on with what the probes have said of it before, if anything."""
        if before is not None and before.interval:
            self.health = before.health
            self.failures = before.failures
            self.successes = before.successes
            self.probe_at = before.probe_at
            self.sent_at = before.sent_at


class Gateways:
    """The routes and gateways of a node. Entries with equal domain or prefix are one group, in the order given."""

    def __init__(
        self,
        routes: Sequence[RouteSettings],
        gateways: Sequence[GatewaySettings],
        domains: Domains,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self._domains = domains
        self._metrics = metrics
        self._rng = rng
        self._targets: dict[str, Target] = {}
        self._routes: dict[str, list[Target]] = {}
        self._prefixes: dict[str, list[Target]] = {}
        self._longest_prefix = 0
        self.change(routes, gateways)

    def change(self, routes: Sequence[RouteSettings], gateways: Sequence[GatewaySettings]) -> None:
        """Other routes and gateways from now on; what the probes say of a target that stays is kept."""
        known, self._targets = self._targets, {}
        self._routes = {}
        self._prefixes = {}
        for route in routes:
            self._add(self._routes, route.domain.lower().removesuffix("."), route.to, route.probe_seconds, known)
        for gateway in gateways:
            self._add(self._prefixes, gateway.prefix, gateway.to, gateway.probe_seconds, known)
        self._longest_prefix = max(map(len, self._prefixes), default=0)
        for uri, target in known.items():
            if target.interval and not self._is_probed(uri):
                self._metrics.gateway_up.forget(uri)

    def find(self, uri: Uri) -> list[str]:
        """URIs of the next hops for a Request-URI, best first; empty when no route and no gateway is meant for it."""
        if uri.is_sip:
            group = self._routes.get(uri.host)
            if group is not None:
                return _in_order(group)
            if not self._prefixes or self._domains.domain_of(uri) is None:
                return []  # a number of a foreign domain is that domain's to route
        number = find_number(uri)
        return [] if not number else _in_order(self._group_for(number))

    def due(self, now: float) -> list[str]:
        """URIs of the targets to probe now; each is reported with `probed`, or probed anew after a minute."""
        found: list[str] = []
        for target in self._targets.values():
            if not target.interval:
                continue
            if target.probe_at is None:
                target.probe_at = now + self._rng.random() * min(_FIRST_WITHIN, target.interval)
            if target.sent_at is not None and now - target.sent_at >= LOST_AFTER:
                target.sent_at = None
            if target.sent_at is None and target.probe_at <= now:
                target.sent_at = now
                target.probe_at = now + target.interval * (1 + _JITTER * (2 * self._rng.random() - 1))
                found.append(target.uri)
        return found

    def next_at(self, now: float) -> float | None:
        """When to ask `due` again; None when nothing is ever probed."""
        times = [
            now
            if target.probe_at is None
            else max(target.probe_at, target.sent_at + LOST_AFTER if target.sent_at is not None else target.probe_at)
            for target in self._targets.values()
            if target.interval
        ]
        return min(times, default=None)

    def probed(self, uri: str, alive: bool) -> Health | None:
        """Take the outcome of a probe; the new state when it changed, for the log, otherwise None."""
        target = self._targets.get(uri)
        if target is None:
            return None
        target.sent_at = None
        self._metrics.gateway_probes.child("answered" if alive else "failed").inc()
        before = target.health
        if alive:
            target.failures = 0
            target.successes += 1
            if before is Health.UNKNOWN or target.successes >= UP_AFTER:
                target.health = Health.UP
        else:
            target.successes = 0
            target.failures += 1
            if target.failures >= DOWN_AFTER:
                target.health = Health.DOWN
        if target.health is before:
            return None
        self._metrics.gateway_up.child(uri).set(0.0 if target.health is Health.DOWN else 1.0)
        return target.health

    def suspect(self, uri: str, now: float) -> None:
        """A request to a target has failed: have it probed at once instead of when its turn comes."""
        target = self._targets.get(uri)
        if target is not None and target.probe_at is not None:
            target.probe_at = min(target.probe_at, now)

    def states(self) -> list[tuple[str, Health]]:
        """Every target that is probed, with its state."""
        return [(target.uri, target.health) for target in self._targets.values() if target.interval]

    def _add(
        self,
        groups: dict[str, list[Target]],
        key: str,
        uris: Iterable[str],
        probe_seconds: float,
        known: Mapping[str, Target],
    ) -> None:
        group = groups.setdefault(key, [])
        for uri in uris:
            target = self._targets.get(uri)
            if target is None:
                target = self._targets[uri] = Target(uri)
            if probe_seconds:
                if not target.interval:
                    target.interval = probe_seconds
                    target.resume(known.get(uri))
                    self._metrics.gateway_up.declare(uri).set(0.0 if target.health is Health.DOWN else 1.0)
                target.interval = min(target.interval, probe_seconds)
            if target not in group:
                group.append(target)

    def _is_probed(self, uri: str) -> bool:
        target = self._targets.get(uri)
        return target is not None and target.interval > 0

    def _group_for(self, number: str) -> list[Target]:
        """The group of the longest prefix that the number starts with; the empty prefix fits all."""
        for length in range(min(len(number), self._longest_prefix), -1, -1):
            group = self._prefixes.get(number[:length])
            if group is not None:
                return group
        return []


def find_number(uri: Uri) -> str:
    """The telephone number that a URI names, without visual separators; "" when it names none.

    Global numbers start with "+". A local number in a tel URI must have its phone-context (RFC 3966 §3), one in a
    sip URI is taken in the context of its domain.
    """
    if uri.scheme == "tel":
        number = _plain_number(uri.user or "")
        return number if number.startswith("+") or uri.params.get("phone-context") else ""
    if not uri.is_sip or not uri.user:
        return ""
    number = _plain_number(unquote(uri.user).partition(";")[0])
    if number.startswith("+") or (uri.params.get("user") or "").lower() == "phone":
        return number
    return ""


def is_alive(status: int) -> bool:
    """Whether a final response to a probe proves its target alive (Kamailio's dispatcher agrees)."""
    return status not in (408, 503)


def _plain_number(text: str) -> str:
    number = _SEPARATORS.sub("", text).upper()
    return number if _GLOBAL.fullmatch(number) or _LOCAL.fullmatch(number) else ""


def _in_order(group: list[Target]) -> list[str]:
    """The URIs of a group, those of targets that are down at the end."""
    return [target.uri for target in sorted(group, key=lambda target: target.health is Health.DOWN)]
