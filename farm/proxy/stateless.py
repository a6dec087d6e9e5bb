"""What has no transaction: the ACK of a 2xx (RFC 3261 §16.11), and responses that match none (§16.7, §18.1.2).

An ACK takes the same steps as a request, validation, route, admission, targets, and leaves over the first hop there
is. Nobody can be told that it failed, so what may not go on is dropped and counted; and nobody hears when it is lost
on the way to another node, so that one for the flow of a node that may be dead goes to wherever the phone is by now,
too: an ACK that comes twice does no harm.

A response that matches no transaction of this element goes to the next Via only if its branch carries our MAC over
that Via, and only as the 2xx of an INVITE: others are of no use to a client that has given up (RFC 4320 §4.2). Where
the node that sent the INVITE is dead, its provisional and failing answers go on too: the caller still waits. A caller
who has a flow may have lost it with the node. Our Record-Route in the answer remembers it, if From, To and tag are its
dialog's, so that he is looked for as for a request of the callee's (`targets`); the Via is for who is not found so.

Decided: RFC 6026 §7.3 would have such a 2xx dropped too. It goes on here, because a node that restarted, or another one
that its peer reached instead, must not cut the answer to a call; the MAC keeps strangers from using us as a
reflector, which is the reason the RFC gives.
Decided: a dead node's INVITE that failed is told to the caller as §16.11 has it, who would hear it ring for minutes, at
the price of a fork whose first phone refuses: nothing in the answer tells the one from the other. We send the ACK that
the node would have sent: the caller's cannot get there, since its branch derives from no request (§16.11), and the
phone would repeat its answer for 32 s. A CANCEL finds its INVITE no more and is answered 481.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from enum import Enum
from typing import Protocol

from farm.proxy.admission import Admission, Caller
from farm.proxy.context import Means
from farm.proxy.domains import Domains
from farm.proxy.forward import Passage, next_hop_of, size_of, strip_via
from farm.proxy.reach import Target, TargetSet, find_way
from farm.proxy.request import RouteInformation, Tokens, check_loop, check_request, read_route
from farm.proxy.targets import Targets
from farm.sip.hop import Hop
from farm.sip.message import Request, Response
from farm.sip.status import SipError
from farm.sip.uri import parse_uri
from farm.sip.via import Via, parse_via
from farm.transaction.hop_by_hop import make_orphan_ack
from farm.transaction.transaction import Flow


class Whose(Enum):
    """Whose a response is that no transaction here takes."""

    OURS = "ours"  # or was, once
    ANOTHERS = "another's"  # a live node's, and it has it now
    NOBODYS = "nobody's"  # the node that sent the request is gone


def hop_of_response(via: Via, whose: Whose) -> Hop | None:
    """Where a response goes by what was noted in its Via when the request came (§18.2.2, RFC 3581); None: nothing. A
    connection to a dead node is gone, and `rport` was its port: the client listens at its sent-by, if anywhere."""
    if via.received is None and not via.rport:
        return None
    default = 5061 if via.transport in ("TLS", "WSS") else 5060
    rport = None if whose is Whose.NOBODYS and via.transport != "UDP" else via.rport
    return Hop(via.transport, via.received or via.host, rport or via.port or default)


class Owners(Protocol):
    """The nodes of the farm, as those who have transactions."""

    def take_stray(self, response: Response, branch: str, flow: Flow) -> Whose:
        """Whose a response with that branch on top is, which came over `flow`. Another node's has gone there."""


class BranchProof(Tokens, Protocol):
    """Knows our branches too."""

    def is_branch(self, branch: str, onward: str) -> bool:
        """Whether we made that branch, for a request whose top Via was `onward`."""


class _Errand(Protocol):
    """A message on its way to a target, and what is done when it gets to none."""

    route: RouteInformation
    caller: Caller

    @property
    def size(self) -> int:
        """About how many bytes will be sent; 0 when that is not to change the transport (§18.1.1)."""

    def send(self, target: Target, flow: Flow) -> bool:
        """Send it to the target over that flow; whether it went."""

    def fail(self, reason: str, now: float) -> None:
        """There is no such target, or no way to it."""


class _Ack:
    """The ACK of a 2xx: nobody can be told."""

    __slots__ = ("_max_breadth", "_means", "_passage", "caller", "route")

    def __init__(self, means: Means, passage: Passage, max_breadth: int) -> None:
        self._means = means
        self._passage = passage
        self._max_breadth = max_breadth
        self.route = passage.route
        self.caller = passage.caller

    @property
    def size(self) -> int:
        return size_of(self._passage.request)

    def send(self, target: Target, flow: Flow) -> bool:
        forwarder = self._means.forwarder
        copy, _branch = forwarder.make_copy(self._passage, target.uri_text, target.path, self._max_breadth, flow)
        return flow.send(copy.write())

    def fail(self, reason: str, now: float) -> None:
        source = self._passage.request.source.host
        self._means.rejections.note(reason, now, source=source, method="ACK")


class _Answer:
    """A response to a caller whose flow we remember; failing that, it goes where his Via says."""

    __slots__ = ("_means", "_response", "_stateless", "_whose", "caller", "route")

    def __init__(
        self, stateless: Stateless, means: Means, response: Response, route: RouteInformation, whose: Whose
    ) -> None:
        self._stateless = stateless
        self._means = means
        self._response = response
        self._whose = whose
        self.route = route
        self.caller = Caller.STRANGER

    @property
    def size(self) -> int:
        return 0

    def send(self, target: Target, flow: Flow) -> bool:
        # A Path is for requests: a proxy that the caller went to since then has no Via on this.
        return not target.path and send_answer(self._means, self._response, flow)

    def fail(self, reason: str, now: float) -> None:
        self._stateless.follow_via(self._response, self._whose, now)


def send_answer(means: Means, response: Response, flow: Flow) -> bool:
    """Send a response, our Via taken off, to the caller over that flow; whether it went."""
    means.forwarder.face_caller(response, flow)
    return flow.send(response.write())


class Stateless:
    """Forwards without keeping anything."""

    def __init__(
        self,
        means: Means,
        domains: Domains,
        tokens: BranchProof,
        admission: Admission,
        targets: Targets,
        owners: Owners,
        *,
        max_breadth: int,
    ) -> None:
        self._owners = owners
        self._means = means
        self._domains = domains
        self._tokens = tokens
        self._admission = admission
        self._targets = targets
        self.max_breadth = max_breadth
        self._rejections = means.rejections

    def receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        """Forward an ACK, or drop it."""
        try:
            route = read_route(request, self._domains, self._tokens, self._means.node)
            if not route.uri.user and not route.routes and self._domains.domain_of(route.uri):
                return  # of an answer that this element gave itself
            check_request(request)
            loop_part = check_loop(request, self._tokens)
            admitted = self._admission.admit(request, route, now)
            # An ACK is never challenged, so admission never has to wait for credentials.
            caller = admitted if isinstance(admitted, Caller) else Caller.STRANGER
            ack = _Ack(self._means, Passage(request, route, flow, loop_part, "", caller), self.max_breadth)
        except SipError as error:
            self._rejections.note(error.reason, now, source=request.source.host, method="ACK")
            return
        self._find(ack, now)

    # Towards a target

    def _find(self, errand: _Errand, now: float) -> None:
        try:
            targets = self._targets.find(errand.route, errand.caller, now)
            if isinstance(targets, list):
                self._forward(errand, targets[0], now)
            else:
                self._means.spawn(self._forward_later(errand, targets))
        except SipError as error:
            errand.fail(error.reason, now)

    async def _forward_later(self, errand: _Errand, targets: Awaitable[TargetSet]) -> None:
        try:
            found = await targets
            self._forward(errand, found[0], self._means.clock())
        except SipError as error:
            errand.fail(error.reason, self._means.clock())

    def _forward(self, errand: _Errand, target: Target, now: float) -> None:
        if target.flow is not None:
            flows = self._means.flows
            flow = find_way(flows, target.flow, secure=target.uri_text[:5].lower() == "sips:")
            sent = flow is not None and errand.send(target, flow)
            doubtful = isinstance(errand, _Ack) and target.again is not None and flows.doubts(target.flow.node)
            if not sent or doubtful:  # a callee repeats what gets lost
                self._look_again(errand, target, now)
            return
        where = target.next_hops[0][0] if target.next_hops else ""
        uri = parse_uri(where or next_hop_of(errand.route, target.uri_text, target.path))
        found = self._means.next_hops.locate(uri, now, errand.size)
        if isinstance(found, list):
            self._send(errand, target, found)
        else:
            self._means.spawn(self._send_later(errand, target, found))

    async def _send_later(self, errand: _Errand, target: Target, found: Awaitable[list[Hop]]) -> None:
        try:
            hops = await found
            self._send(errand, target, hops)
        except SipError as error:
            errand.fail(error.reason, self._means.clock())

    def _send(self, errand: _Errand, target: Target, hops: list[Hop]) -> None:
        if not hops:
            raise SipError(503, reason="unresolvable")
        if not errand.send(target, self._means.flows.flow_to(hops[0])):
            raise SipError(target.lost, reason="not-sent")

    def _look_again(self, errand: _Errand, target: Target, now: float) -> None:
        """The dialog's flow is gone, or the way to it is: the phone may be elsewhere by now."""
        if target.again is None:
            raise SipError(target.lost, reason="not-sent")
        found = target.again(now)
        if isinstance(found, list):
            self._forward(errand, found[0], now)
        else:
            self._means.spawn(self._forward_later(errand, found))

    # Answers

    def receive_response(self, response: Response, flow: Flow, now: float) -> None:
        """Forward a response that no transaction takes, or drop it."""
        via = response.top_via
        whose = Whose.OURS if via is None else self._owners.take_stray(response, via.branch, flow)
        if whose is Whose.ANOTHERS:
            return
        strip_via(response)
        following = response.find("via")
        if via is None or following is None or not self._tokens.is_branch(via.branch, following):
            self._drop_response(response, "stray-response", now)
            return
        status = response.status
        wanted = status > 100 if whose is Whose.NOBODYS else 200 <= status < 300
        if response.cseq_method != "INVITE" or not wanted:
            self._drop_response(response, "late-response", now)
            return
        if status >= 300:
            flow.send(make_orphan_ack(response, via).write())
        route: RouteInformation | None = None
        with suppress(SipError):
            route = self._means.forwarder.find_caller(response)
        if route is not None:
            self._find(_Answer(self, self._means, response, route, whose), now)
        else:
            self.follow_via(response, whose, now)

    def follow_via(self, response: Response, whose: Whose, now: float) -> None:
        """Send a response to where its Via, ours taken off, says that it came from, or drop it."""
        try:
            onward = parse_via(response.find("via") or "")
            hop = hop_of_response(onward, whose)
            found = [hop] if hop is not None else self._means.next_hops.locate_response(onward, now)
        except SipError:
            self._drop_response(response, "stray-response", now)
            return
        if isinstance(found, list):
            self._send_response(response, found, now)
        else:
            self._means.spawn(self._send_response_later(response, found))

    async def _send_response_later(self, response: Response, found: Awaitable[list[Hop]]) -> None:
        hops = await found
        self._send_response(response, hops, self._means.clock())

    def _send_response(self, response: Response, hops: list[Hop], now: float) -> None:
        if hops and send_answer(self._means, response, self._means.flows.flow_to(hops[0])):
            return
        self._drop_response(response, "stray-response", now)

    def _drop_response(self, response: Response, reason: str, now: float) -> None:
        self._rejections.note(reason, now, source=response.source.host, method=response.cseq_method)
