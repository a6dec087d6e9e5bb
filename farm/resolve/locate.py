"""Where a request or response goes next: RFC 3263 §4 and §5, with the size rule of RFC 3261 §18.1.1.

The procedure is written once, as a generator that yields the questions whose answers it needs (several at a time when
they do not depend on each other) and returns the hops. `Locator` runs it on what the `Dns` port knows already and
answers at once; only when an answer has to be waited for does a coroutine take over where the generator stopped.

What DNS can be made to say is bounded: so many targets, addresses and hops are looked at, and no more. Fail-over over
the list, with a new branch a hop, is the proxy's; TTLs, CNAMEs and time limits are the resolver's.

Decided: nothing found is 503, which is what RFC 3261 §16.9 and §8.1.3.1 make of a request that cannot be sent at all;
the response context turns it into 500 for the caller (§16.7 step 6), since a 503 would make the caller avoid this
element. 404 was rejected: it is a statement about a user by whoever is responsible for the domain, and we are not.
A DNS that is silent is 504 (§21.5.5: no timely response from an external server), the one case where the same
request can succeed a minute later.
Decided: of several NAPTR records the first that leads to addresses is used, and no other as a fall-back (RFC 3403
§4.1 forbids going on to a higher order), because falling from TLS to UDP is for the domain's owner to allow.
Decided: DNS without NAPTR records and NAPTR questions that end in an error are the same, since some resolvers and
middleboxes know no NAPTR; SRV questions that end in an error are not the same as no SRV records, since a domain's own
address is often its web server.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Generator, Iterable
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol

from farm.resolve.failed import FailedHops
from farm.resolve.records import (
    Answer,
    Question,
    Srv,
    is_host_name,
    numeric_address,
    order_naptrs,
    order_srvs,
)
from farm.sip.hop import Hop
from farm.sip.status import SipError
from farm.sip.uri import Uri
from farm.sip.via import Via

LARGE_BYTES: Final = 1300  # §18.1.1, when the path MTU is unknown
MTU_RESERVE_BYTES: Final = 200  # §18.1.1, when it is known
MAX_TARGETS: Final = 8
MAX_ADDRESSES: Final = 8
MAX_HOPS: Final = 16
_MAX_NAPTRS: Final = 8

# A new transport is a line in each of these. WebSocket has none: only its clients open connections (RFC 7118).
_DEFAULT_PORTS: Final = {"UDP": 5060, "TCP": 5060, "TLS": 5061}
_SRV_PREFIXES: Final = {"UDP": "_sip._udp.", "TCP": "_sip._tcp.", "TLS": "_sips._tcp."}
_NAPTR_SERVICES: Final = {"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS"}
_SECURE: Final = {"": "TLS", "TCP": "TLS", "TLS": "TLS"}  # what a transport parameter means in a sips URI

Search = Generator[list[Question], list[Answer], list[Hop]]
Found = Generator[list[Question], list[Answer], dict[str, list[str]]]


class Dns(Protocol):
    """What `Locator` needs of a resolver."""

    def answer(self, question: Question) -> Answer | Awaitable[Answer]:
        """The answer when it is known, or else an awaitable of it; the question is then already under way.

        Neither the call nor the awaitable raises: a failure is an answer too.
        """


class Reach(NamedTuple):
    """What this node can reach.

    `transports` are those it has listeners for, in our order of preference where the other side states none;
    `families` the kinds of address records, in order of preference ("A" alone on a node without IPv6);
    `path_mtu` the MTU of the paths in bytes, 0 when unknown.
    """

    transports: tuple[str, ...] = ("UDP", "TCP")
    families: tuple[str, ...] = ("A", "AAAA")
    path_mtu: int = 0


class NotLocated(SipError):
    """There is nowhere to send the request; 503, or 504 when DNS did not answer, or 416.

    `reason` is "unresolvable" (no such name, or no address), "no-service" (the domain says that it has no such
    server), "no-transport" (none that we speak), "dns-timeout", "dns-broken", "dns-busy" or "unlocatable-scheme".
    """


class Locator:
    """From a URI to hops, best first. `dns` answers questions, `failed` remembers, `rng` draws among SRV weights."""

    __slots__ = ("_dns", "_failed", "_reach", "_rng", "_speaks_udp")

    def __init__(self, dns: Dns, failed: FailedHops, rng: random.Random, reach: Reach) -> None:
        self._dns = dns
        self._failed = failed
        self._rng = rng
        self.change(reach)

    def change(self, reach: Reach) -> None:
        """Reach so from now on."""
        self._reach = reach
        self._speaks_udp = "UDP" in reach.transports and (not reach.families or "A" in reach.families)

    def locate(self, uri: Uri, now: float, size: int = 0) -> list[Hop] | Awaitable[list[Hop]]:
        """Where to send a request of `size` bytes for this URI (RFC 3263 §4): one hop or more, best first.

        A list when it is known already, otherwise an awaitable of one. Raises NotLocated, or the awaitable does.
        Hops over TCP that stand before their UDP twins because of the size are followed by these (§18.1.1); where
        TCP failed lately they come first, so that a server without TCP costs one refusal in a while.
        """
        hop = self._find_plain(uri, size)
        if hop is not None:
            return [hop]
        if not uri.is_sip:
            raise NotLocated(416, reason="unlocatable-scheme")
        search = _RequestSearch(uri, self._rng, self._reach, self._is_large(size))
        return self._run(search.run(), now)

    def locate_response(self, via: Via, now: float) -> list[Hop] | Awaitable[list[Hop]]:
        """Where to send a response whose first attempt failed (RFC 3263 §5), from the sent-by of its top Via.

        The first attempt, by connection or by received and rport (RFC 3261 §18.2.2), is the transport's. The list
        is empty when there is nowhere to send it; nobody would hear of an error. Broadcast, multicast and
        unspecified addresses are left out: no response is ever sent there.
        """
        return self._run(_ResponseSearch(via, self._rng, self._reach).run(), now)

    def failed(self, hop: Hop, now: float) -> None:
        """A hop has failed (RFC 3263 §4.3: 503, timeout, transport error): try it last for a while."""
        self._failed.add(hop, now)

    def worked(self, hop: Hop) -> None:
        """A hop has answered."""
        self._failed.remove(hop)

    def _find_plain(self, uri: Uri, size: int) -> Hop | None:
        """The hop of most contacts, an IPv4 address over UDP, without a search; None for all others."""
        if uri.scheme != "sip" or "maddr" in uri.params or not uri.host.replace(".", "").isdigit():
            return None  # a host of digits and dots is an IPv4 address: the parser takes no other
        transport = uri.params.get("transport")
        if (transport is not None and transport.lower() != "udp") or not self._speaks_udp or self._is_large(size):
            return None
        return Hop("UDP", uri.host, uri.port or _DEFAULT_PORTS["UDP"])

    def _is_large(self, size: int) -> bool:
        mtu = self._reach.path_mtu
        return size > LARGE_BYTES if mtu <= 0 else size > mtu - MTU_RESERVE_BYTES

    def _run(self, search: Search, now: float) -> list[Hop] | Awaitable[list[Hop]]:
        """Run a search as far as answers are there, and hand the rest to a coroutine."""
        answer = self._dns.answer
        try:
            questions = next(search)
            while True:
                known: list[Answer] = []
                replies: list[Answer | Awaitable[Answer]] = []
                for question in questions:
                    reply = answer(question)
                    replies.append(reply)
                    if isinstance(reply, Answer):
                        known.append(reply)
                if len(known) < len(replies):
                    return self._wait(search, replies, now)
                questions = search.send(known)
        except StopIteration as stop:
            return self._finish(stop.value, now)

    async def _wait(self, search: Search, replies: list[Answer | Awaitable[Answer]], now: float) -> list[Hop]:
        """The rest of a search; all questions of a step are under way before the first is waited for."""
        try:
            while True:
                known = [reply if isinstance(reply, Answer) else await reply for reply in replies]
                replies = [self._dns.answer(question) for question in search.send(known)]
        except StopIteration as stop:
            return self._finish(stop.value, now)

    def _finish(self, hops: list[Hop], now: float) -> list[Hop]:
        return self._failed.sort(list(dict.fromkeys(hops))[:MAX_HOPS], now)


class _Candidate(NamedTuple):
    """A way to go on: SRV records to look for (or found already), or addresses of a name at the default port."""

    transport: str
    name: str
    is_service: bool
    srvs: tuple[Srv, ...] = ()


class _Lookup:
    """What both searches share: from names to addresses, and from SRV records to hops."""

    __slots__ = ("_trouble", "reach", "rng")

    def __init__(self, rng: random.Random, reach: Reach) -> None:
        self.rng = rng
        self.reach = reach
        self._trouble = ""

    def note(self, answer: Answer) -> Answer:
        """Keep the reason of the first failure, to be told when nothing is found."""
        if answer.failure and not self._trouble:
            self._trouble = f"dns-{answer.failure}"
        return answer

    def nothing_found(self) -> NotLocated:
        """The error that tells why."""
        reason = self._trouble or "unresolvable"
        return NotLocated(504 if reason == "dns-timeout" else 503, reason=reason)

    def find_addresses(self, names: Iterable[str]) -> Found:
        """The addresses of each name, all asked for at once; families in our order of preference.

        Within a family they are shuffled: DNS spreads load by turning its answers, and a cache would freeze one turn.
        """
        questions = [Question(family, name) for name in dict.fromkeys(names) for family in self.reach.families]
        found: dict[str, list[str]] = {}
        for question, answer in zip(questions, (yield questions), strict=True):
            self.note(answer)
            if answer.addresses:
                addresses = list(answer.addresses[:MAX_ADDRESSES])
                if len(addresses) > 1:
                    self.rng.shuffle(addresses)
                found.setdefault(question.name, []).extend(addresses)
        return found

    def follow_srvs(self, transport: str, srvs: Iterable[Srv]) -> Search:
        """Hops from SRV records, in the order of RFC 2782."""
        usable = [srv for srv in srvs if srv.port and is_host_name(srv.target)]
        if not usable:
            self._trouble = self._trouble or "no-service"  # RFC 2782: a single target "." is a decided no
            return []
        ordered = order_srvs(usable, self.rng, MAX_TARGETS)
        found = yield from self.find_addresses(srv.target for srv in ordered)
        return [Hop(transport, address, srv.port) for srv in ordered for address in found.get(srv.target, ())]

    def follow_name(self, transport: str, name: str, port: int) -> Search:
        """Hops from the address records of a name."""
        found = yield from self.find_addresses((name,))
        return [Hop(transport, address, port) for address in found.get(name, ())]


class _RequestSearch(_Lookup):
    """RFC 3263 §4 for one URI."""

    __slots__ = ("large", "uri")

    def __init__(self, uri: Uri, rng: random.Random, reach: Reach, large: bool) -> None:
        super().__init__(rng, reach)
        self.uri = uri
        self.large = large

    def run(self) -> Search:
        """All of it; raises NotLocated instead of returning no hop."""
        uri = self.uri
        target = uri.maddr or uri.host  # §4: "TARGET"
        stated = self.stated_transport()
        address = numeric_address(target)
        if address:
            transport = stated or self.default_transport()
            hops = self.with_twins([Hop(transport, address, uri.port or _DEFAULT_PORTS[transport])])
            return require_proof(hops, address)
        name = target.lower().removesuffix(".")
        if not is_host_name(name):
            raise self.nothing_found()
        if uri.port:
            hops = yield from self.follow_name(stated or self.default_transport(), name, uri.port)
            hops = self.with_twins(hops)
        else:
            if stated:
                candidates = yield from self.candidates_by_srv((stated,), name)
            else:
                candidates = yield from self.candidates_by_naptr(name)
            hops = yield from self.follow(candidates)
        if not hops:
            raise self.nothing_found()
        return require_proof(hops, name)

    def stated_transport(self) -> str:
        """The transport that the URI itself demands, "" when it leaves the choice; §4.1, first paragraphs."""
        transport = self.uri.transport
        if self.uri.scheme == "sips":
            # TLS alone keeps the promise of the scheme, whichever of its records leads there
            transport = _SECURE.get(transport, "")
            if "TLS" not in self.reach.transports or not transport:
                raise NotLocated(503, reason="no-transport")
            return "TLS" if self.uri.transport else ""
        if transport and (transport not in self.reach.transports or transport not in _DEFAULT_PORTS):
            raise NotLocated(503, reason="no-transport")
        return transport

    def usable_transports(self) -> tuple[str, ...]:
        """The transports that may serve this URI, in our order."""
        if self.uri.scheme == "sips":
            return ("TLS",)
        return tuple(transport for transport in self.reach.transports if transport in _DEFAULT_PORTS)

    def default_transport(self) -> str:
        """The transport where neither URI nor DNS names one: TLS for sips, otherwise UDP if we have it."""
        usable = self.usable_transports()
        if not usable:
            raise NotLocated(503, reason="no-transport")
        return "UDP" if "UDP" in usable else usable[0]

    def candidates_by_naptr(self, name: str) -> Generator[list[Question], list[Answer], list[_Candidate]]:
        """The ways that the domain offers, best first; §4.1."""
        (answer,) = yield [Question("NAPTR", name)]
        if answer.failure in ("timeout", "busy"):
            self.note(answer)
            return []  # whoever does not answer this will not answer SRV in time either
        usable = self.usable_transports()
        candidates = []
        for record in order_naptrs(answer.naptrs):
            transport = _NAPTR_SERVICES.get(record.service.upper())
            flags = record.flags.upper()
            if transport in usable and flags in ("S", "A") and not record.regexp and is_host_name(record.replacement):
                candidates.append(_Candidate(transport, record.replacement, flags == "S"))
        if candidates:
            return candidates[:_MAX_NAPTRS]
        wanted = tuple(transport for transport in usable if transport != "TLS" or self.uri.scheme == "sips")
        return (yield from self.candidates_by_srv(wanted, name))

    def candidates_by_srv(
        self, transports: tuple[str, ...], name: str
    ) -> Generator[list[Question], list[Answer], list[_Candidate]]:
        """The transports for which the domain has SRV records, or else its own addresses; §4.1 end, §4.2."""
        names = [_SRV_PREFIXES[transport] + name for transport in transports]
        answers = yield [Question("SRV", service) for service in names]
        offered = zip(transports, names, answers, strict=True)
        found = [_Candidate(way, service, True, answer.srvs) for way, service, answer in offered if answer.srvs]
        if found or any(self.note(answer).failure for answer in answers):
            return found
        transport = transports[0] if len(transports) == 1 else self.default_transport()
        return [_Candidate(transport, name, False)]

    def follow(self, candidates: list[_Candidate]) -> Search:
        """Hops of the first candidate that has any.

        When the request is too large for the datagrams that would be first, a reliable transport that the domain
        offers comes before them, or else TCP to the very same addresses (§18.1.1).
        """
        if self.large and candidates and candidates[0].transport == "UDP":
            reliable = yield from self.follow_first([way for way in candidates if way.transport != "UDP"])
            datagrams = yield from self.follow_first([way for way in candidates if way.transport == "UDP"])
            return reliable[: MAX_HOPS // 2] + datagrams if reliable else self.with_twins(datagrams)
        hops = yield from self.follow_first(candidates)
        return self.with_twins(hops)

    def follow_first(self, candidates: list[_Candidate]) -> Search:
        """Hops of the first candidate that has any."""
        for candidate in candidates:
            hops = yield from self.follow_one(candidate)
            if hops:
                return hops
        return []

    def follow_one(self, candidate: _Candidate) -> Search:
        """Hops of one candidate."""
        transport = candidate.transport
        if not candidate.is_service:
            return (yield from self.follow_name(transport, candidate.name, _DEFAULT_PORTS[transport]))
        srvs = candidate.srvs
        if not srvs:
            (answer,) = yield [Question("SRV", candidate.name)]
            srvs = self.note(answer).srvs
            if not srvs:
                return []
        return (yield from self.follow_srvs(transport, srvs))

    def with_twins(self, hops: list[Hop]) -> list[Hop]:
        """The hops, each UDP one preceded by its TCP twin when the request is too large for a datagram (§18.1.1)."""
        if not self.large or "TCP" not in self.reach.transports:
            return hops
        spread: list[Hop] = []
        for hop in hops:
            if hop.transport == "UDP":
                spread.append(Hop("TCP", hop.host, hop.port))
            spread.append(hop)
        return spread


class _ResponseSearch(_Lookup):
    """RFC 3263 §5 for one Via."""

    __slots__ = ("via",)

    def __init__(self, via: Via, rng: random.Random, reach: Reach) -> None:
        super().__init__(rng, reach)
        self.via = via

    def run(self) -> Search:
        """All of it; no hop when there is nowhere to go."""
        transport = self.via.transport
        if transport not in self.reach.transports or transport not in _DEFAULT_PORTS:
            return []
        port = self.via.port or _DEFAULT_PORTS[transport]
        address = numeric_address(self.via.host)
        if address:
            hops = require_proof([Hop(transport, address, port)], address)
        else:
            name = self.via.host.lower().removesuffix(".")
            if not is_host_name(name):
                return []
            hops = []
            if not self.via.port:
                (answer,) = yield [Question("SRV", _SRV_PREFIXES[transport] + name)]
                if answer.failure:
                    return []
                if answer.srvs:
                    hops = yield from self.follow_srvs(transport, answer.srvs)
                    return [hop for hop in require_proof(hops, name) if _is_unicast(hop.host)]
            hops = require_proof((yield from self.follow_name(transport, name, port)), name)
        return [hop for hop in hops if _is_unicast(hop.host)]


def require_proof(hops: list[Hop], name: str) -> list[Hop]:
    """The hops, those over TLS with the name that was located, which the certificate must prove: never the name that
    DNS led to, since DNS proves nothing (RFC 5922 §7.3)."""
    if not any(hop.transport == "TLS" for hop in hops):
        return hops
    return [hop._replace(local=f"@{name}") if hop.transport == "TLS" else hop for hop in hops]


def _is_unicast(host: str) -> bool:
    address = ip_address(host)
    return not (address.is_multicast or address.is_unspecified or host == "255.255.255.255")
