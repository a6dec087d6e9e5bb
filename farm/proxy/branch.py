"""One target of a response context: its hops in order, the client transaction to one of them, timer C.

A target may have several hops (SRV records, gateways, TCP before UDP for a large request). They are tried one after
another, each with a transaction and a branch parameter of its own, when one refuses, times out or answers 503
(RFC 3263 §4.3, RFC 3261 §16.7 step 6). A flow that is gone, at once or while the request is on it, gives way to the
other flows of the phone, and a dialog's to wherever the phone is now (RFC 5626 §5.3, §7). The branch tells its context
what matters to a fork: a provisional answer, a 2xx, or that it ended, and with what.

A CANCEL must wait for a provisional answer (§9.1), so cancelling is a wish that the branch fulfils when it may.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from farm.deadlines import Deadline
from farm.proxy.forward import next_hop_of, size_of, strip_via
from farm.proxy.reach import AWAY, TargetSet, find_way
from farm.sip.hop import FlowName, Hop, Leg
from farm.sip.message import Response, make_response
from farm.sip.status import SipError
from farm.sip.uri import parse_uri
from farm.transaction.hop_by_hop import make_cancel
from farm.transaction.machines import State
from farm.transaction.transaction import ClientTransaction, Flow

if TYPE_CHECKING:
    from farm.proxy.context import ResponseContext
    from farm.proxy.reach import Target

T = TypeVar("T")

_PATIENCE: Final = 64  # times T1: how long a cancelled branch may take to answer (§9.1)


class Way(NamedTuple):
    """Where an attempt went: over which node's flow (its number in stamps), to which hop, with which Request-URI."""

    node: int
    hop: Hop
    uri_text: str


class _Unheard:
    """The user of a CANCEL: whatever answers it changes nothing."""

    def receive_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        pass

    def receive_timeout(self, transaction: ClientTransaction, now: float) -> None:
        pass

    def receive_transport_error(self, transaction: ClientTransaction, now: float) -> None:
        pass


_UNHEARD: Final = _Unheard()


class Branch:
    """One target being tried. `ended` is set once, when no more can come of it but a late 2xx."""

    __slots__ = (
        "_again",
        "_asked",
        "_attempt",
        "_breadth",
        "_cancelled",
        "_context",
        "_deadline",
        "_flow",
        "_hop",
        "_hops",
        "_last",
        "_next",
        "_reason",
        "_spares",
        "_target",
        "_uri_text",
        "_where",
        "ended",
        "way",
    )

    def __init__(self, context: ResponseContext, target: Target, breadth: int) -> None:
        self._context = context
        self._breadth = breadth
        self._where = ""  # the configured next hop being tried, "" when the URI says by itself where it goes
        self._flow: FlowName | None = None  # the phone's own, to be tried first
        self._hops: list[Hop] = []
        self._next: list[tuple[str, str]] = []  # where to look for hops, and the Request-URI that goes there
        self._spares: list[Target] = []
        self._again: Callable[[float], TargetSet | Awaitable[TargetSet]] | None = None
        self._aim(target)
        self._hop: Hop | None = None
        self.way: Way | None = None  # of the last attempt
        self._attempt: ClientTransaction | None = None
        self._asked = False  # a CANCEL went out for this attempt
        self._cancelled = False
        self._reason = ""
        self._deadline: Deadline | None = None  # timer C, then the patience after a CANCEL
        self._last: Response | None = None  # why the hops before this one failed
        self.ended = False

    # Towards the target

    def _aim(self, target: Target) -> None:
        self._target = target
        self._where = ""
        self._uri_text = target.uri_text
        self._flow = target.flow
        self._again = target.again
        self._spares = [*target.spares, *self._spares]
        if target.flow is None or target.listens:
            # A connection that a contact was registered on may be gone; the contact itself may be reached anew.
            self._next.extend(target.next_hops or (("", target.uri_text),))

    def start(self, now: float) -> None:
        """Try the first hop."""
        self._try_next(now)

    def _try_next(self, now: float) -> None:
        """Try the next hop there is; without one, end with why the last failed."""
        means = self._context.means
        passage = self._context.passage
        while not self._cancelled:
            try:
                if self._flow is not None:
                    if self._try_flow(now):
                        return
                    continue
                if self._hops:
                    hop = self._hops.pop(0)
                    self._send(means.flows.flow_to(hop), hop, None, now)
                    return
                if not self._next:
                    if self._spares:
                        self._aim(self._spares.pop(0))
                        continue
                    if self._again is None:
                        break
                    again, self._again = self._again, None
                    sought = again(now)
                    if isinstance(sought, Awaitable):
                        means.spawn(self._try_later(sought, self._take_targets))
                        return
                    self._take_targets(sought)
                    continue
                self._where, self._uri_text = self._next.pop(0)
                uri = parse_uri(self._where or next_hop_of(passage.route, self._uri_text, self._target.path))
                found = means.next_hops.locate(uri, now, size_of(passage.request))
            except SipError as error:
                self._last = self._make_answer(error.status)
                continue
            if isinstance(found, Awaitable):
                means.spawn(self._try_later(found, self._take_hops))
                return
            self._hops = found
        self._end(self._make_answer(487) if self._cancelled else self._last or self._make_answer(503), now)

    def _try_flow(self, now: float) -> bool:
        """Send over the phone's flow; False when it is gone."""
        target = self._target
        name, self._flow = self._flow, None
        assert name is not None
        flow = find_way(self._context.means.flows, name, secure=target.uri_text[:5].lower() == "sips:")
        if flow is None:
            self._last = self._make_answer(target.lost)
            return False
        self._send(flow, name.hop, name, now)
        return True

    def _take_targets(self, targets: TargetSet) -> None:
        self._spares.extend(targets)

    def _take_hops(self, hops: list[Hop]) -> None:
        self._hops = list(hops)

    async def _try_later(self, finding: Awaitable[T], take: Callable[[T], None]) -> None:
        try:
            found = await finding
        except SipError as error:
            if self.ended:
                return
            self._last = self._make_answer(error.status)
        except Exception:
            if not self.ended:  # without an answer nothing would be left to end the caller's transaction
                self._end(self._make_answer(500), self._context.means.clock())
            raise
        else:
            if self.ended:
                return
            take(found)
        self._try_next(self._context.means.clock())

    def _send(self, flow: Flow, hop: Hop, name: FlowName | None, now: float) -> None:
        context = self._context
        means = context.means
        target = self._target
        callee = Leg() if name is None else Leg(name, target.phone)
        copy, branch = means.forwarder.make_copy(
            context.passage, self._uri_text, target.path, self._breadth, flow, callee
        )
        self._hop = hop
        self._asked = False
        self._attempt = means.transactions.send_request(copy, branch, flow, self, now)
        if context.is_invite:
            self.way = Way(means.node if name is None else name.node, hop, self._uri_text)
            self._arm(means.timer_c_seconds, now)
            context.observe_added()

    def _arm(self, seconds: float, now: float) -> None:
        deadlines = self._context.means.transactions.deadlines
        deadlines.cancel(self._deadline)
        self._deadline = deadlines.add(now + seconds, self._receive_deadline, None)

    # From the target

    def receive_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """§16.7, what concerns one branch; the context does the rest."""
        status = response.status
        context = self._context
        strip_via(response)
        if not response.has("via"):  # §16.7 step 3: whoever took off the caller's Via has spoilt the answer
            if status < 200 or transaction is not self._attempt or self.ended:
                return
            status = 502
            response = self._make_answer(status)
        if status < 300:
            context.face_caller(response, transaction.flow)
        if status < 200:
            if transaction is not self._attempt:
                return
            if self._cancelled:
                self._send_cancel(now)
            elif status > 100 and not self.ended:
                if context.is_invite:
                    self._arm(context.means.timer_c_seconds, now)  # §16.7 step 2
                context.receive_provisional(response, now)
            return
        context.observe_delay(transaction, now)
        if self._hop is not None and status != 503:
            context.means.next_hops.worked(self._hop)
        if status < 300:
            self._settle()
            context.receive_success(self, response, now)
        elif transaction is self._attempt and not self.ended:
            if status in (430, 503) and self._has_more and not self._cancelled:
                self._fail_hop("status-503" if status == 503 else "flow-failed", response, now)
            elif status == 430 and self._target.path:
                self._end(self._make_answer(AWAY), now)  # an edge told us; no endpoint is to hear it (RFC 5626 §11.5)
            else:
                self._end(response, now)

    def receive_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """Timer B or F: as a 408 (§16.9), after the other hops."""
        if transaction is self._attempt and not self.ended:
            self._fail_hop("timeout", self._make_answer(408), now)

    def receive_transport_error(self, transaction: ClientTransaction, now: float) -> None:
        """As a 503 (§16.9), after the other hops."""
        if transaction is self._attempt and not self.ended:
            target = self._target
            if target.flow is not None and self._context.means.flows.doubts(target.flow.node):
                self._next = []
            self._fail_hop("transport", self._make_answer(target.lost), now)

    @property
    def _has_more(self) -> bool:
        """Whether there is anything left to try."""
        return bool(self._hops or self._next or self._spares or self._again)

    def _fail_hop(self, reason: str, why: Response, now: float) -> None:
        means = self._context.means
        if self._hop is not None:
            means.next_hops.failed(self._hop, now)
            if reason != "transport":  # the same server over another transport would say the same (§18.1.1)
                here = (self._hop.host, self._hop.port)
                self._hops = [hop for hop in self._hops if (hop.host, hop.port) != here]
                if self._target.flow is not None:
                    self._next = []  # it was the phone itself that said so, or said nothing
                    if reason != "flow-failed":
                        self._spares = []
                        self._again = None
            if self._where:
                means.suspect(self._where, now)
        if self._has_more:
            means.metrics.sip_failovers.child(reason).inc()
        means.transactions.deadlines.cancel(self._deadline)
        self._attempt = None
        self._last = why
        self._try_next(now)

    # Cancelling

    def give_up(self, now: float) -> None:
        """Cancel it, and do not wait for a side that has said nothing: should it speak later, it is cancelled then."""
        self.cancel(now)
        if not self.ended and not self._asked:
            self._end(self._make_answer(408), now)

    def cancel(self, now: float, reason: str = "") -> None:
        """End this branch as soon as its other side allows (§9.1, §16.10), with `reason` (RFC 3326) if there is one."""
        self._reason = self._reason or reason
        if self.ended or self._cancelled:
            return
        self._cancelled = True
        attempt = self._attempt
        if attempt is None:
            self._end(self._make_answer(487), now)  # still looking for hops
        elif attempt.state is State.PROCEEDING:
            self._send_cancel(now)

    def _send_cancel(self, now: float) -> None:
        attempt = self._attempt
        if attempt is None or self._asked or not self._context.is_invite:
            return
        self._asked = True
        transactions = self._context.means.transactions
        branch = attempt.key.partition(" ")[0]
        transactions.send_request(make_cancel(attempt.request, self._reason), branch, attempt.flow, _UNHEARD, now)
        self._arm(_PATIENCE * transactions.timings.t1, now)

    def _receive_deadline(self, _argument: object, now: float) -> None:
        """Timer C (§16.8), or a cancelled branch that does not answer."""
        attempt = self._attempt
        if attempt is None:
            return
        if self.ended:
            attempt.abandon(now)  # given up, then cancelled, and silent still
            return
        if not self._cancelled:
            self._context.means.metrics.sip_timeouts.child("C").inc()
        if attempt.state is State.PROCEEDING and not self._asked:
            self._cancelled = True
            self._send_cancel(now)
            return
        attempt.abandon(now)
        self._end(self._make_answer(487 if self._asked else 408), now)

    # Ending

    @property
    def hop(self) -> Hop | None:
        """Where the last attempt went, None where there was none."""
        return self._hop

    def _end(self, response: Response, now: float) -> None:
        if not self.ended:
            self._settle()
            self._context.receive_end(self, response, now)

    def _settle(self) -> None:
        self.ended = True
        self._flow = None
        self._again = None
        self._hops = []
        self._next = []
        self._spares = []
        self._context.means.transactions.deadlines.cancel(self._deadline)

    def _make_answer(self, status: int) -> Response:
        """A response as if the other side had sent it (§16.9), our Via already taken off."""
        return make_response(self._context.passage.request, status, to_tag=self._context.means.transactions.make_tag())
