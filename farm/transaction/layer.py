"""The door of the transactions: messages come in from the transport, retransmissions end here, the rest goes up.

It finds the transaction of each request and response (RFC 3261 §17.1.3, §17.2.3), makes a server transaction for a
request that has none, answers CANCEL hop by hop (§9.2), and hands to the transaction user what no transaction of this
element takes: the ACK of a 2xx, and stray responses. It knows nothing of sockets (it is given flows) nor of
routing (it is given a transaction user).

Decided: a CANCEL that matches nothing is answered 481 instead of being forwarded statelessly (§16.10): the branch that
it would carry onwards could match nothing there either, since our branches are not derived from the request. Nor is it
looked for at other nodes, unless they share our address (`Elsewhere`): it goes where its INVITE went (§9.1), and what a
client cancels that has lost its connection to that node rings on for as long as the other side lets it.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from typing import Final, Protocol

from farm.deadlines import Deadlines
from farm.draws import Draws
from farm.metrics import Metrics
from farm.sip.message import Request, Response, make_header, make_response
from farm.sip.via import Via
from farm.transaction.key import client_key, is_rfc2543, response_key, server_key
from farm.transaction.machines import MACHINES, Event, State, Timings, timer_length, trying_after
from farm.transaction.transaction import (
    ClientTransaction,
    Flow,
    ResponseUser,
    ServerTransaction,
    Transaction,
)

_RUNNING: Final = frozenset((State.CALLING, State.TRYING, State.PROCEEDING))
_RETRY_AFTER: Final = make_header("retry-after", "5")


class TransactionUser(Protocol):
    """The core above: the proxy's front door."""

    def receive_request(self, transaction: ServerTransaction, now: float) -> None:
        """A new request, neither ACK nor CANCEL."""

    def receive_cancel(self, invite: ServerTransaction, cancel: Request, now: float) -> None:
        """The INVITE that this transaction carries is cancelled; the CANCEL itself has been answered."""

    def receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        """The ACK of a 2xx, to be forwarded: no transaction of this element ends it."""

    def receive_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that matches no client transaction of this element."""

    def receive_server_failure(self, transaction: ServerTransaction, now: float) -> None:
        """A response could not be sent, or no ACK came for it (timer H)."""


class Elsewhere(Protocol):
    """The nodes that share our address, any of which may get what belongs to a transaction of another."""

    def take(self, request: Request, key: str, flow: Flow, now: float) -> bool:
        """Whether a request that starts or belongs to the server transaction `key`, unknown here, is another node's;
        it has gone there then, and its answers come over `flow`."""


class Rejections(Protocol):
    """Where what is turned away is counted and logged."""

    def note(self, reason: str, now: float, *, source: str = "", method: str = "") -> None:
        """One message was turned away."""


class TransactionLayer:
    """All transactions of a node. `user` is set once, by the composition root, before the first message."""

    def __init__(
        self,
        deadlines: Deadlines,
        metrics: Metrics,
        rng: random.Random,
        *,
        rejections: Rejections,
        max_transactions: int = 500_000,
        timings: Timings | None = None,
    ) -> None:
        self.deadlines = deadlines
        self.timings = timings or Timings()
        self.user: TransactionUser
        self.elsewhere: Elsewhere | None = None  # set where several nodes share one address
        self.max_transactions = max_transactions
        self.census = {name: dict.fromkeys(State, 0) for name in MACHINES}  # how many of each type are in each state
        self.timer_lengths = {
            reliable: {timer: timer_length(timer, self.timings, reliable) for timer in Event}
            for reliable in (False, True)
        }
        self.trying_after = {invite: trying_after(invite, self.timings) for invite in (False, True)}
        self._draws = Draws(rng)
        self._tag_mac = blake2b(digest_size=8, key=rng.getrandbits(256).to_bytes(32, "big"))
        self._servers: dict[str, ServerTransaction] = {}
        self._clients: dict[str, ClientTransaction] = {}
        self._by_flow: dict[Flow, dict[Transaction, None]] = {}  # of flows alone that can break
        self._metrics = metrics
        self._rejections = rejections
        self._retransmissions_in = metrics.sip_retransmissions.child("in")
        self._retransmissions_out = metrics.sip_retransmissions.child("out")

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    @property
    def running(self) -> int:
        """How many wait for a final response, ours or another's; the rest only linger for retransmissions."""
        return sum(states[state] for states in self.census.values() for state in _RUNNING)

    def make_tag(self) -> str:
        """A fresh To or From tag: 64 random bits (§19.3)."""
        return self._draws.make_text()

    def derive_tag(self, request: Request) -> str:
        """The To tag of an answer that nothing is kept of (§8.2.7): the same for a repeated request and for its ACK."""
        via = request.top_via
        branch = "" if via is None else via.branch
        mac = self._tag_mac.copy()
        mac.update(
            f"{request.call_id}\0{request.from_tag}\0{request.cseq}\0{branch}".encode("utf-8", "surrogateescape")
        )
        return mac.hexdigest()

    def find_unanswered(self) -> list[ServerTransaction]:
        """The INVITEs that have no final response yet, the oldest first."""
        return [server for server in self._servers.values() if server.is_invite and server.state in _RUNNING]

    def busy_connections(self) -> set[str]:
        """The names of connections on which somebody waits for a final response, ours or another's."""
        return {
            flow.hop.local
            for flow, transactions in self._by_flow.items()
            if any(transaction.state in _RUNNING for transaction in transactions)
        }

    # From the transport

    def receive_request(self, request: Request, flow: Flow, now: float) -> None:
        """A request that the transport has checked and stamped (§18.2.1); answers will go to `flow` (§18.2.2)."""
        via = request.top_via
        if via is None:
            self._rejections.note("no-via", now, source=flow.hop.host, method=request.method)
            return
        method = request.method
        if method == "ACK":
            self._receive_ack(request, flow, now)
            return
        key = server_key(request, via, method)
        transaction = self._servers.get(key)
        if transaction is not None:
            self._retransmissions_in.inc()
            if self.elsewhere is not None and not flow.breaks and transaction.flow.hop.remote == flow.hop.remote:
                transaction.flow = flow  # by another node than before, which may be no more
            transaction.receive(Event.REQUEST, request, now)
            return
        if self.elsewhere is not None and self._is_elsewhere(request, via, flow, now):
            return
        if len(self._servers) >= self.max_transactions:
            self._rejections.note("too-many-transactions", now, source=flow.hop.host, method=method)
            flow.send(make_response(request, 503, to_tag=self.derive_tag(request), headers=(_RETRY_AFTER,)).write())
            return
        transaction = ServerTransaction(self, key, request, flow, now)
        self._servers[key] = transaction
        if flow.breaks:
            self._by_flow.setdefault(flow, {})[transaction] = None
        if method == "CANCEL":
            self._receive_cancel(transaction, now)
        else:
            self.user.receive_request(transaction, now)
        if transaction.state is State.TRYING:
            transaction.start(now)  # not before: most are answered by now, and their timers would be stopped again

    def _is_elsewhere(self, request: Request, via: Via, flow: Flow, now: float) -> bool:
        """Whether another node has, or is to have, the transaction of a request that none of ours takes; of a CANCEL
        and an ACK it is the INVITE's."""
        method = request.method
        assert self.elsewhere is not None
        if method == "CANCEL" or method == "ACK":
            key = server_key(request, via, "INVITE")
            return key not in self._servers and self.elsewhere.take(request, key, flow, now)
        return self.elsewhere.take(request, server_key(request, via, method), flow, now)

    def receive_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response whose top Via is ours (§18.1.2)."""
        via = response.top_via
        transaction = self._clients.get(response_key(response, via)) if via is not None else None
        if transaction is not None:
            transaction.receive_response(response, now)
        else:
            self.user.receive_stray_response(response, flow, now)

    def receive_flow_failure(self, flow: Flow, now: float, *, for_good: bool = False) -> None:
        """A connection has broken or was never made: who waits for an answer on it, or sent one, hears so (§18.4).
        `for_good`: the node that had it is dead, so what rings there rings no more."""
        for transaction in list(self._by_flow.get(flow, ())):
            transaction.receive_flow_failure(for_good, now)

    def waited_on(self) -> list[Flow]:
        """The flows that can break and that some transaction has."""
        return list(self._by_flow)

    def receive_refusal(self, branch: str, method: str, now: float) -> None:
        """ICMP says that our request with that branch reached nobody (§18.4)."""
        transaction = self._clients.get(client_key(branch, method))
        if transaction is not None:
            transaction.receive(Event.TRANSPORT_ERROR, None, now)

    # From the transaction user

    def send_request(
        self, request: Request, branch: str, flow: Flow, user: ResponseUser, now: float
    ) -> ClientTransaction:
        """Send `request`, whose top Via carries our `branch`, and tell `user` what becomes of it."""
        transaction = ClientTransaction(self, client_key(branch, request.method), request, flow, user, now)
        self._clients[transaction.key] = transaction
        if flow.breaks:
            self._by_flow.setdefault(flow, {})[transaction] = None
        transaction.start(now)
        return transaction

    # From the transactions

    def remove(self, transaction: Transaction) -> None:
        """Forget a terminated transaction."""
        if isinstance(transaction, ServerTransaction):
            self._servers.pop(transaction.key, None)
        elif isinstance(transaction, ClientTransaction):
            self._clients.pop(transaction.key, None)
        waiting = self._by_flow.get(transaction.flow) if self._by_flow else None
        if waiting is not None:
            waiting.pop(transaction, None)
            if not waiting:
                del self._by_flow[transaction.flow]
        self.census[transaction.machine_name][State.TERMINATED] -= 1

    def count_absorbed(self, transaction: Transaction) -> None:
        """An event that the state does not list was absorbed."""
        self._metrics.sip_absorbed.child(transaction.machine_name).inc()

    def count_timeout(self, timer: str) -> None:
        """Timer B, F or H ended a transaction."""
        self._metrics.sip_timeouts.child(timer).inc()

    def count_retransmission(self) -> None:
        """A message of ours went out again by timer."""
        self._retransmissions_out.inc()

    # ACK and CANCEL

    def _receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        via = request.top_via
        assert via is not None
        transaction = self._servers.get(server_key(request, via, "INVITE"))
        # §17.2.3: under RFC 2543 matching, the ACK's To tag must be the one of our response.
        if transaction is None or (is_rfc2543(via) and request.to_tag != transaction.local_tag):
            if self.elsewhere is not None and self._is_elsewhere(request, via, flow, now):
                return
            if request.to_tag != self.derive_tag(request):  # else of an answer that nothing was kept of
                self.user.receive_ack(request, flow, now)
        else:
            transaction.receive(Event.ACK, request, now)

    def _receive_cancel(self, transaction: ServerTransaction, now: float) -> None:
        request = transaction.request
        via = request.top_via
        assert via is not None
        invite = self._servers.get(server_key(request, via, "INVITE"))
        if invite is None:
            transaction.answer_once(make_response(request, 481, to_tag=self.derive_tag(request)), now)
            return
        transaction.send_response(make_response(request, 200, to_tag=invite.local_tag or self.make_tag()), now)
        self.user.receive_cancel(invite, request, now)
