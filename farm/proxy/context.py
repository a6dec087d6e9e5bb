"""The response context: what became of the branches of one request, and what the caller hears (RFC 3261 §16.7-16.10).

A request may go to several targets: at once where their q is equal, one group after another where it is not. Each
target is a `Branch`. A provisional answer or a 2xx goes up as it comes; other final answers are collected until every
branch has one, then the best goes up (`best.py`) or the next group is tried. Of an INVITE, the first 2xx or 6xx
cancels the others, and 2xx that come later from another fork go up all the same, for the caller to hang up
(RFC 6026 §8.2).

A request other than INVITE is bound by RFC 4320: nothing provisional but the 100 of its transaction goes up, and where
no final answer came in time, none is made up, because the client has stopped waiting too.

A request that forks has its breadth shared among the branches (RFC 5393 §5.3): more targets than breadth are tried
one group after another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from farm.deadlines import Deadline
from farm.metrics import Metrics
from farm.proxy.best import find_best, finish_best
from farm.proxy.branch import Branch, Way
from farm.proxy.dialog import RouteToken
from farm.proxy.forward import Forwarder, Passage
from farm.proxy.reach import Flows, Target, TargetSet
from farm.sip.hop import Hop
from farm.sip.message import Request, Response
from farm.sip.uri import Uri
from farm.sip.via import Via
from farm.transaction.layer import TransactionLayer
from farm.transaction.transaction import ClientTransaction, Flow, ServerTransaction

_ANSWERED: Final = 'SIP;cause=200;text="Call completed elsewhere"'  # so that a phone counts no missed call (RFC 3326)
_RINGING: Final = frozenset((180, 183))


class Call(Protocol):
    """One INVITE that would open a dialog, for whoever keeps the account of calls. Nothing of it raises."""

    def ring(self, now: float) -> None:
        """A 180 or 183 goes to the caller."""

    def cancel(self) -> None:
        """The caller has cancelled."""

    def answer(self, response: Response, way: Way | None, codes: Sequence[int], now: float) -> None:
        """A 2xx goes to the caller, perhaps again, or another phone's; the INVITE had gone that `way`, and `codes` are
        the final answers of its branches, 0 where there was none."""

    def fail(
        self, status: int, phrase: str, way: Way | None, codes: Sequence[int], *, by_callee: bool, now: float
    ) -> None:
        """Another final answer goes to the caller, `by_callee` if somebody out there gave it."""


class Calls(Protocol):
    """Keeps the account of calls. Nothing of it raises or waits."""

    def begin(self, request: Request, setup_at: float, user: str = "") -> Call:
        """An INVITE that would open a dialog goes on; it came at `setup_at`, and `user` has proved to have sent it."""

    def adopt(self, request: Request, response: Response, way: Way | None, user: str, at: float, now: float) -> None:
        """An INVITE that says it is in a dialog, for which no token of ours vouches, was answered 2xx."""

    def refuse(self, request: Request, status: int, phrase: str, known: bool, setup_at: float, now: float) -> None:
        """One was answered here, before it went anywhere, of a sender who is `known` or not."""

    def end(
        self, request: Request, status: int, dialogs: Sequence[RouteToken], at: float, *, hop: Hop | None, made: bool
    ) -> None:
        """A BYE, or an INVITE inside a dialog, which came at `at` and went to `hop`, had that final answer (408: none);
        `made` says that nobody out there gave it. `dialogs` is what its Route told."""


class NextHops(Protocol):
    """RFC 3263 as a client."""

    def locate(self, uri: Uri, now: float, size: int) -> list[Hop] | Awaitable[list[Hop]]:
        """The hops that serve `uri`, in order, for a request of `size` bytes; raises SipError where there are none."""

    def locate_response(self, via: Via, now: float) -> list[Hop] | Awaitable[list[Hop]]:
        """The hops that a response goes to by its top Via (RFC 3263 §5), none where there is nowhere to go."""

    def failed(self, hop: Hop, now: float) -> None:
        """That hop refused, timed out or said 503: others come first for a while."""

    def worked(self, hop: Hop) -> None:
        """That hop answered: it has its place again."""


class Rejections(Protocol):
    """Where what is turned away is counted and logged."""

    def note(self, reason: str, now: float, *, source: str = "", method: str = "", detail: str = "") -> None:
        """One message was turned away."""


@dataclass(slots=True)
class Means:
    """What every response context of a node works with. The times may change under those that run."""

    transactions: TransactionLayer
    forwarder: Forwarder
    next_hops: NextHops
    flows: Flows
    node: int  # the number of this node in the names of flows
    metrics: Metrics
    rejections: Rejections
    suspect: Callable[[str, float], None]  # hears of a configured next hop that failed
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    calls: Calls
    clock: Callable[[], float]
    timer_c_seconds: float
    serial_seconds: float


class ResponseContext:
    """One forwarded request. It lives as long as one of its transactions."""

    __slots__ = (
        "_active",
        "_best",
        "_branches",
        "_breadth",
        "_call",
        "_final",
        "_groups",
        "_method",
        "_observed",
        "_passage",
        "_serial",
        "_server",
        "is_invite",
        "means",
    )

    def __init__(
        self, means: Means, server: ServerTransaction, passage: Passage, targets: TargetSet, breadth: int
    ) -> None:
        self.means = means
        self._passage: Passage | None = passage
        self._method = passage.request.method
        self.is_invite = server.is_invite
        self._server = server
        self._breadth = breadth
        self._groups = group_targets(targets, breadth)
        self._branches: list[Branch] = []
        self._active = 0  # branches of the group being tried that have not ended
        self._best: list[Response] = []
        self._final = False  # a final response went up
        self._observed = False
        self._serial: Deadline | None = None
        request = passage.request
        self._call: Call | None = None
        if server.is_invite and not request.to_tag:
            self._call = means.calls.begin(request, server.received_at, passage.route.user)

    @property
    def passage(self) -> Passage:
        """The request and its routing; gone once the last branch has ended, for none asks any more."""
        assert self._passage is not None
        return self._passage

    def start(self, now: float) -> None:
        """Try the first group of targets."""
        self._try_group(now)

    def _try_group(self, now: float) -> None:
        group = self._groups.popleft()
        share = max(1, self._breadth // len(group))
        started = [Branch(self, target, share) for target in group]
        self._active = len(started)
        self._branches.extend(started)
        if self._groups and self.is_invite:
            deadlines = self.means.transactions.deadlines
            self._serial = deadlines.add(now + self.means.serial_seconds, self._receive_serial, None)
        for branch in started:
            branch.start(now)

    def _receive_serial(self, _argument: object, now: float) -> None:
        """This group has had its time: the next one's turn comes when its branches have ended."""
        for branch in list(self._branches):
            branch.give_up(now)

    # From the branches

    def face_caller(self, response: Response, flow: Flow) -> None:
        """Let an answer that came over `flow` show the caller our Record-Route as his side has it (§16.7 step 8)."""
        server = self._server.flow
        if server.transport != flow.transport or server.local_name != flow.local_name:
            self.means.forwarder.face_caller(response, server)

    def receive_provisional(self, response: Response, now: float) -> None:
        """A 101-199: up at once (§16.7 step 5), of an INVITE only (RFC 4320 §4.1)."""
        if self.is_invite and not self._final:
            self._server.send_response(response, now)
            if self._call is not None and response.status in _RINGING:
                self._call.ring(now)

    def receive_success(self, branch: Branch, response: Response, now: float) -> None:
        """A 2xx: up at once; of an INVITE, every one (§16.7 step 5), and the other branches are cancelled (step 10)."""
        if self._final and not self.is_invite:
            return
        self._final = True
        self._groups.clear()
        self._server.send_response(response, now)
        if self._call is not None:
            codes = [response.status] + [other.status for other in self._best] + [0] * (self._active - 1)
            self._call.answer(response, branch.way, codes, now)
        elif self._method == "BYE":
            self._end_call(response.status, branch.hop, made=False)
        elif self.is_invite and self._passage is not None and not self._passage.route.dialogs:
            user, at = self._passage.route.user, self._server.received_at
            self.means.calls.adopt(self._passage.request, response, branch.way, user, at, now)
        if self.is_invite:
            self._cancel_branches(now, _ANSWERED)
        self._release()

    def receive_end(self, branch: Branch, response: Response, now: float) -> None:
        """A branch ended without a 2xx, with that answer, its own or one made up for it (§16.9)."""
        self._active -= 1
        if self._final:
            self._release()
            return
        self._best.append(response)
        if response.status >= 600:
            self._groups.clear()
            if self.is_invite:
                self._cancel_branches(now, f"SIP;cause={response.status}")
        if self._active > 0 or self._final:
            return
        self.means.transactions.deadlines.cancel(self._serial)
        if self._groups:
            self._try_group(now)
        else:
            self._send_best(now)

    def _send_best(self, now: float) -> None:
        self._final = True
        best = find_best(self._best)
        if best is None or (best.status == 408 and not self.is_invite):
            self._server.abandon(now)  # RFC 4320 §4.2
        else:
            self._server.send_response(finish_best(best, self._best), now)
        if self._call is not None and best is not None:
            self.fail_call(best.status, best.phrase, now, by_callee=bool(best.source.host))
        elif self._method == "BYE" or self.is_invite:
            made = best is None or not best.source.host
            self._end_call(408 if best is None else best.status, self._branches[-1].hop, made=made)
        self._release()

    # The account of calls

    def fail_call(self, status: int, phrase: str, now: float, *, by_callee: bool = False) -> None:
        """The caller hears that nothing comes of his call."""
        if self._call is not None:
            way = next((branch.way for branch in reversed(self._branches) if branch.way is not None), None)
            codes = [other.status for other in self._best] + [0] * self._active
            self._call.fail(status, phrase, way, codes, by_callee=by_callee, now=now)

    def _end_call(self, status: int, hop: Hop | None, *, made: bool) -> None:
        """A request that may have ended a call had that answer."""
        passage = self._passage
        if passage is not None:
            at = self._server.received_at
            self.means.calls.end(passage.request, status, passage.route.dialogs, at, hop=hop, made=made)

    def _release(self) -> None:
        """Let go what only the search for an answer needed; late 2xx still pass."""
        self._best = []
        self.means.transactions.deadlines.cancel(self._serial)
        if all(branch.ended for branch in self._branches):
            self._passage = None

    # From the caller

    def cancel(self, now: float, reason: str = "") -> None:
        """The caller cancelled (§16.10): no further targets, and all branches are cancelled, for its reason if any."""
        self._groups.clear()
        if self._call is not None:
            self._call.cancel()
        self._cancel_branches(now, reason)

    def _cancel_branches(self, now: float, reason: str) -> None:
        for branch in list(self._branches):
            branch.cancel(now, reason)

    # Figures

    def observe_added(self) -> None:
        """How long the farm held a call's first INVITE before it went on."""
        if not self._observed:
            self._observed = True
            self.means.metrics.sip_setup_added.child().observe(self.means.clock() - self._server.received_at)

    def observe_delay(self, transaction: ClientTransaction, now: float) -> None:
        """How long the next element took to its final answer."""
        self.means.metrics.sip_request_delay.child(self._method).observe(now - transaction.started_at)


def group_targets(targets: TargetSet, breadth: int) -> deque[TargetSet]:
    """Targets of equal q together, best first (§16.6), no group wider than the breadth (RFC 5393 §5.3.3)."""
    groups: deque[list[Target]] = deque()
    for target in sorted(targets, key=lambda target: -target.q):
        if groups and groups[-1][0].q == target.q and len(groups[-1]) < breadth:
            groups[-1].append(target)
        else:
            groups.append([target])
    return groups
