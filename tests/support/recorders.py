"""Neighbours that write down what they are asked to do, in one list that all of them share.

An `Effect` says when, by whom and what, so that a test can hold the whole order of events against what it expects. A
`RecordedFlow` can refuse to send; a `Promise` is an answer that the test gives later; `Spawner` runs coroutines as far
as their promises allow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, NamedTuple, TypeVar

from farm.sip.hop import Hop
from farm.sip.message import Request, Response
from farm.sip.parser import ParserLimits, parse
from farm.transaction.transaction import ClientTransaction, Flow, ServerTransaction

_Value = TypeVar("_Value")

PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}
_LIMITS = ParserLimits()


class Effect(NamedTuple):
    """Something that the code under test did: `place` names a flow or "user", `data` is what was sent, if anything."""

    at: float
    place: str
    what: str
    message: Request | Response | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class Record:
    """The one list, with the time that the test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.effects: list[Effect] = []

    def note(self, place: str, what: str, message: Request | Response | None = None) -> None:
        """Add an effect."""
        self.effects.append(Effect(round(self.now, 6), place, what, message))

    def texts(self) -> list[str]:
        """All effects so far as text; they are forgotten."""
        found = [str(effect) for effect in self.effects]
        self.effects.clear()
        return found


class RecordedFlow:
    """A flow that records what is sent. `refusing` has it refuse as a transport does that knows no way."""

    def __init__(self, record: Record, name: str, hop: Hop, *, local_name: str = "") -> None:
        self._record = record
        self.name = name
        self.hop = hop
        self.local_name = local_name or f"{hop.transport.lower()}:192.0.2.1:{PORTS[hop.transport]}"
        self.refusing = False
        self.sent: list[bytes] = []
        self.deliver: Callable[[bytes], None] | None = None

    def __repr__(self) -> str:
        return f"<RecordedFlow {self.name}>"

    @property
    def reliable(self) -> bool:
        """Whether this stands for a stream."""
        return self.hop.transport != "UDP"

    breaks = reliable

    @property
    def transport(self) -> str:
        """UDP, TCP and so on."""
        return self.hop.transport

    def send(self, data: bytes) -> bool:
        """Note the message by its first line; the whole is parsed, so that nothing malformed ever leaves."""
        if self.refusing:
            self._record.note(self.name, "refused")
            return False
        message = parse(data, _LIMITS)
        self.sent.append(data)
        self._record.note(self.name, message.first_line.removesuffix(" SIP/2.0").removeprefix("SIP/2.0 "), message)
        if self.deliver is not None:
            self.deliver(data)
        return True

    @property
    def last(self) -> Request | Response:
        """The latest message sent, parsed."""
        return parse(self.sent[-1], _LIMITS)


class RecordedUser:
    """A transaction user, and the user of client transactions, that acts only when the test tells it to."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.servers: list[ServerTransaction] = []
        self.responses: list[Response] = []

    @property
    def server(self) -> ServerTransaction:
        """The latest server transaction that was handed up."""
        return self.servers[-1]

    def receive_request(self, transaction: ServerTransaction, now: float) -> None:
        """A new request."""
        self.servers.append(transaction)
        self._record.note("user", f"request {transaction.request.method}", transaction.request)

    def receive_cancel(self, invite: ServerTransaction, cancel: Request, now: float) -> None:
        """An INVITE is cancelled."""
        self._record.note("user", "cancelled", cancel)

    def receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        """The ACK of a 2xx."""
        self._record.note("user", "ACK", request)

    def receive_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response of nobody."""
        self._record.note("user", f"stray {response.status}", response)

    def receive_server_failure(self, transaction: ServerTransaction, now: float) -> None:
        """A response could not be sent, or was not acknowledged."""
        self._record.note("user", "server failure")

    def receive_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A response to what we sent."""
        self.responses.append(response)
        self._record.note("user", f"response {response.status}", response)

    def receive_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """No response to what we sent."""
        self._record.note("user", "timeout")

    def receive_transport_error(self, transaction: ClientTransaction, now: float) -> None:
        """What we sent did not go out."""
        self._record.note("user", "transport error")


class RecordedRejections:
    """The counter of what is turned away."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.reasons: list[str] = []

    def note(self, reason: str, now: float, *, source: str = "", method: str = "", detail: str = "") -> None:
        """One message was turned away."""
        self.reasons.append(reason)


class Promise(Generic[_Value]):
    """An answer that comes when the test says so; it may be awaited once or more."""

    def __init__(self) -> None:
        self._value: list[_Value] = []
        self._error: Exception | None = None
        self._waiting: list[Callable[[], None]] = []

    def __await__(self) -> Generator[Promise[Any], None, _Value]:
        if not self._value and self._error is None:
            yield self
        if self._error is not None:
            raise self._error
        return self._value[0]

    def when_known(self, resume: Callable[[], None]) -> None:
        """Have `resume` called once there is an answer."""
        self._waiting.append(resume)

    def resolve(self, value: _Value) -> None:
        """Answer."""
        self._value.append(value)
        self._resume()

    def fail(self, error: Exception) -> None:
        """Answer with an error."""
        self._error = error
        self._resume()

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()


class Spawner:
    """Runs coroutines that wait for promises; `failures` are the errors that came out of them."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    def __call__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start one."""
        self._step(coroutine)

    def _step(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            promise = coroutine.send(None)
        except StopIteration:
            return
        except Exception as error:
            self.failures.append(error)
            return
        assert isinstance(promise, Promise)
        promise.when_known(lambda: self._step(coroutine))


def run(awaitable: Awaitable[_Value]) -> _Value:
    """The value of an awaitable whose promises are all kept already."""
    found: list[_Value] = []

    async def wait() -> None:
        found.append(await awaitable)

    spawner = Spawner()
    spawner(wait())
    if spawner.failures:
        raise spawner.failures[0]
    return found[0]
