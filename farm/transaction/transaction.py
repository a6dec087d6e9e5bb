"""One transaction: a row of a machine, the timers that row owns, and the last message sent.

The tables of `machines.py` say what happens; this module does it: it starts and stops timers on the one heap of the
process, writes to the flow, and tells the transaction user. What a state no longer needs is let go: a completed
transaction lives for half a minute only to answer retransmissions, and keeps the bytes for that and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from farm.deadlines import Deadline
from farm.sip.hop import Hop
from farm.sip.message import Message, Request, Response, make_response
from farm.transaction.hop_by_hop import make_ack
from farm.transaction.machines import (
    CLIENT,
    INVITE_CLIENT,
    INVITE_SERVER,
    RETRANSMIT_TIMERS,
    SERVER,
    Do,
    Event,
    Machine,
    State,
    next_interval,
)

if TYPE_CHECKING:
    from farm.transaction.layer import TransactionLayer

RELEASED: Final = Request("", "", [])  # stands where a request was let go


class Flow(Protocol):
    """A way to the other side of one hop, and back (RFC 5626 §2); satisfied by the transport."""

    @property
    def reliable(self) -> bool:
        """Whether the transport retransmits by itself (TCP does, UDP does not)."""

    @property
    def breaks(self) -> bool:
        """Whether it may end some day, of which the layer is told then."""

    @property
    def transport(self) -> str:
        """UDP, TCP, TLS, WS or WSS."""

    @property
    def hop(self) -> Hop:
        """The far end, `local` naming the listener or connection on ours."""

    @property
    def local_name(self) -> str:
        """The listener the flow belongs to."""

    def send(self, data: bytes) -> bool:
        """Send a message; False when the transport refuses at once (§18.4). Never raises."""


class ResponseUser(Protocol):
    """Who hears what became of a client transaction."""

    def receive_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A response that is not a retransmission; of a 2xx to INVITE, retransmissions too (RFC 6026 §7.2)."""

    def receive_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """Timer B or F fired: no (final) response came."""

    def receive_transport_error(self, transaction: ClientTransaction, now: float) -> None:
        """The request could not be sent, or its connection broke before a final response."""


class Transaction:
    """What all four share: a state, its timers, a flow."""

    __slots__ = (
        "_census",
        "_interval",
        "_layer",
        "_machine",
        "_row",
        "_timers",
        "data",
        "flow",
        "key",
        "machine_name",
        "request",
        "state",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        key: str,
        request: Request,
        flow: Flow,
        machine_name: str,
        machine: Machine,
        state: State,
    ) -> None:
        self.key = key
        self.machine_name = machine_name
        self.request = request
        self.flow = flow
        self.data = b""  # the last message sent, for retransmissions
        self.state = state
        self._layer = layer
        self._census = layer.census[machine_name]
        self._census[state] += 1
        self._machine = machine
        self._row = machine[state]
        self._timers: list[Deadline] = []
        self._interval = 0.0

    def start(self, now: float) -> None:
        """Start the timers of the state it is in."""
        self._run_timers(now)

    def receive(self, event: Event, message: Message | None, now: float) -> None:
        """Take one event through the table. `message` is what came with it, if anything did."""
        step = self._row.steps.get(event)
        if step is None:
            self._layer.count_absorbed(self)
            return
        if step.enter is not self.state:
            self._enter(step.enter, now)
        for do in step.do:
            self._do(do, message, now)

    def receive_flow_failure(self, for_good: bool, now: float) -> None:
        """The flow has broken; `for_good` says that no answer can come on another."""
        dead = for_good and Event.FLOW_DEATH in self._row.steps
        self.receive(Event.FLOW_DEATH if dead else Event.TRANSPORT_ERROR, None, now)

    def _enter(self, state: State, now: float) -> None:
        census = self._census
        census[self.state] -= 1
        census[state] += 1
        self.state = state
        self._row = self._machine[state]
        self._run_timers(now)
        if state is State.TERMINATED:
            self._layer.remove(self)

    def _run_timers(self, now: float) -> None:
        """Make the timers that run be those that the state's row lists."""
        wanted = self._row.timers
        if not wanted and not self._timers:
            return
        deadlines = self._layer.deadlines
        running: list[Deadline] = []
        for deadline in self._timers:
            if deadline.action is None:
                continue
            if deadline.argument in wanted:
                running.append(deadline)
            else:
                deadlines.cancel(deadline)
        self._timers = running
        for timer in wanted:
            for deadline in running:
                if deadline.argument is timer:
                    break
            else:
                self._start_timer(timer, now)

    def _start_timer(self, timer: Event, now: float) -> None:
        layer = self._layer
        if timer is Event.TIMER_TRYING:
            length: float | None = layer.trying_after[self._machine is INVITE_SERVER]
        else:
            length = layer.timer_lengths[self.flow.reliable][timer]
        if length is None:
            return
        if timer in RETRANSMIT_TIMERS:
            self._interval = length
        if length == 0.0:
            self.receive(timer, None, now)
        else:
            self._timers.append(layer.deadlines.add_after(length, now, self.receive_timer, timer))

    def receive_timer(self, timer: Event, now: float) -> None:
        """A deadline of ours is due."""
        state = self.state
        self.receive(timer, None, now)
        if timer in RETRANSMIT_TIMERS and self.state is state:
            self._interval = next_interval(timer, state, self._interval, self._layer.timings)
            self._timers = [deadline for deadline in self._timers if deadline.pending]
            self._timers.append(self._layer.deadlines.add(now + self._interval, self.receive_timer, timer))
            self._layer.count_retransmission()

    def _do(self, do: Do, message: Message | None, now: float) -> None:
        if do is Do.SEND:
            self._send(now)
        elif do is Do.PASS_UP:
            self._pass_up(message, now)
        elif do is Do.TELL_FAILURE:
            self._tell_failure(now)
        elif do is Do.TELL_TIMEOUT:
            self._tell_timeout(now)
        elif do is Do.SEND_ACK:
            self._send_ack(message, now)
        else:
            self._send_trying(now)

    def _send(self, now: float) -> None:
        if self.data and not self.flow.send(self.data):  # an abandoned request may have no answer to repeat
            # Told in the next turn: whoever started this transaction is still busy with it.
            self._layer.deadlines.add(now, self._receive_refusal, None)

    def _receive_refusal(self, _argument: object, now: float) -> None:
        self.receive(Event.TRANSPORT_ERROR, None, now)

    def _pass_up(self, message: Message | None, now: float) -> None:
        raise NotImplementedError

    def _tell_failure(self, now: float) -> None:
        raise NotImplementedError

    def _tell_timeout(self, now: float) -> None:
        raise NotImplementedError

    def _send_ack(self, message: Message | None, now: float) -> None:
        raise NotImplementedError

    def _send_trying(self, now: float) -> None:
        raise NotImplementedError


class ServerTransaction(Transaction):
    """A request we received and must answer. `context` is for the transaction user to hang its own state on."""

    __slots__ = ("context", "local_tag", "received_at")

    def __init__(self, layer: TransactionLayer, key: str, request: Request, flow: Flow, now: float) -> None:
        if request.method == "INVITE":
            super().__init__(layer, key, request, flow, "invite-server", INVITE_SERVER, State.TRYING)
        else:
            super().__init__(layer, key, request, flow, "server", SERVER, State.TRYING)
        self.received_at = now
        self.context: object = None
        self.local_tag = ""  # To tag of the last response that had one; an RFC 2543 ACK is matched by it

    @property
    def is_invite(self) -> bool:
        """Whether this is an INVITE server transaction."""
        return self._machine is INVITE_SERVER

    def send_response(self, response: Response, now: float) -> None:
        """The transaction user's answer, provisional or final. One that the state no longer takes is absorbed."""
        status = response.status
        event = Event.PROVISIONAL if status < 200 else Event.SUCCESS if status < 300 else Event.FAILURE
        if event in self._row.steps:
            self.data = response.write()
            if response.to_tag:
                self.local_tag = response.to_tag
        self.receive(event, None, now)

    def answer_once(self, response: Response, now: float) -> None:
        """Answer a request that proved nothing, and keep nothing of it: no timer repeats the answer to an address that
        may not have asked, and no stranger fills the table (§26.3.2.4). A repeated request is served anew; `response`
        should have the layer's `derive_tag`, by which the ACK is known. What was answered 100 already is answered
        statefully."""
        if self.state is State.TRYING:
            self.flow.send(response.write())
            self._enter(State.TERMINATED, now)
        else:
            self.send_response(response, now)

    def abandon(self, now: float) -> None:
        """No answer will come: forget a non-INVITE request instead of saying 408 (RFC 4320 §4.2)."""
        self.receive(Event.ABANDON, None, now)

    def _enter(self, state: State, now: float) -> None:
        super()._enter(state, now)
        if state is not State.PROCEEDING:
            self.request = RELEASED
            if state is State.TERMINATED or not self.is_invite:
                self.context = None

    def _send_trying(self, now: float) -> None:
        stamps = [header for header in self.request.headers if header[0] == "timestamp"]  # §8.2.6.1
        self.send_response(make_response(self.request, 100, headers=stamps), now)

    def _pass_up(self, message: Message | None, now: float) -> None:
        if isinstance(message, Request):
            self._layer.user.receive_ack(message, self.flow, now)

    def _tell_failure(self, now: float) -> None:
        self._layer.user.receive_server_failure(self, now)

    def _tell_timeout(self, now: float) -> None:
        self._layer.count_timeout("H")
        self._layer.user.receive_server_failure(self, now)


class ClientTransaction(Transaction):
    """A request we sent. `user` hears what becomes of it."""

    __slots__ = ("started_at", "user")

    def __init__(
        self, layer: TransactionLayer, key: str, request: Request, flow: Flow, user: ResponseUser, now: float
    ) -> None:
        if request.method == "INVITE":
            super().__init__(layer, key, request, flow, "invite-client", INVITE_CLIENT, State.CALLING)
        else:
            super().__init__(layer, key, request, flow, "client", CLIENT, State.TRYING)
        self.user: ResponseUser | None = user
        self.started_at = now

    def start(self, now: float) -> None:
        """Send the request and enter the first state."""
        self.data = self.request.write()
        super().start(now)
        self._send(now)

    def receive_response(self, response: Response, now: float) -> None:
        """A response that matches this transaction."""
        status = response.status
        event = Event.PROVISIONAL if status < 200 else Event.SUCCESS if status < 300 else Event.FAILURE
        self.receive(event, response, now)

    def abandon(self, now: float) -> None:
        """Stop waiting for a final response; a provisional one has come (§16.8)."""
        self.receive(Event.ABANDON, None, now)

    def _enter(self, state: State, now: float) -> None:
        super()._enter(state, now)
        if state is State.PROCEEDING and self._machine is INVITE_CLIENT:
            self.data = b""  # an INVITE is not retransmitted any more; its request is still needed for ACK and CANCEL
        elif state is State.ACCEPTED or (state is State.COMPLETED and self._machine is CLIENT):
            self.data = b""
            self.request = RELEASED

    def _send_ack(self, message: Message | None, now: float) -> None:
        if self.request is not RELEASED and isinstance(message, Response):
            self.data = make_ack(self.request, message).write()
            self.request = RELEASED
        self._send(now)

    def _pass_up(self, message: Message | None, now: float) -> None:
        if self.user is not None and isinstance(message, Response):
            self.user.receive_response(self, message, now)

    def _tell_failure(self, now: float) -> None:
        if self.user is not None:
            self.user.receive_transport_error(self, now)

    def _tell_timeout(self, now: float) -> None:
        self._layer.count_timeout("B" if self._machine is INVITE_CLIENT else "F")
        if self.user is not None:
            self.user.receive_timeout(self, now)
