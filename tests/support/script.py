"""A conversation in made-up time: what goes in, what must come out, and nothing else.

    script.inject_wire(make_request(), alice)
    script.expect_user("request INVITE")
    script.after(0.2)
    script.expect_wire("alice: 100 Trying")
    script.expect_nothing()

`expect_*` take the next effects in order and fail with both lists side by side. `after` lets time pass, running each
deadline at its own moment, so that the moments in `log` are exact.
"""

from __future__ import annotations

import random

from farm.deadlines import Deadlines
from farm.logs import Fields, Rejections
from farm.metrics import Metrics
from farm.sip.hop import Hop
from farm.sip.message import Request, Response
from farm.sip.parser import ParserLimits, parse
from farm.transaction.layer import TransactionLayer
from farm.transaction.machines import Timings
from farm.transaction.transaction import ClientTransaction
from tests.support.recorders import PORTS, Effect, Record, RecordedFlow, RecordedUser

LIMITS = ParserLimits()


class Script:
    """A transaction layer between recorders. Tests of what stands above replace `user`."""

    def __init__(self, *, max_transactions: int = 1000, timings: Timings | None = None, seed: int = 1) -> None:
        self.record = Record()
        self.metrics = Metrics()
        self.deadlines = Deadlines()
        self.lines: list[dict[str, object]] = []  # the log of rejections
        self.layer = TransactionLayer(
            self.deadlines,
            self.metrics,
            random.Random(seed),
            rejections=Rejections(self.metrics.sip_rejected, self._write_line, 1),
            max_transactions=max_transactions,
            timings=timings,
        )
        self.user = RecordedUser(self.record)
        self.layer.user = self.user

    def _write_line(self, _level: str, _message: str, fields: Fields) -> None:
        self.lines.append(dict(fields))

    @property
    def now(self) -> float:
        """The time."""
        return self.record.now

    def make_flow(self, name: str, transport: str = "UDP", host: str = "192.0.2.101") -> RecordedFlow:
        """A flow to `host` whose messages are recorded under `name`."""
        hop = Hop(transport, host, PORTS[transport], f"{transport.lower()}:192.0.2.1:5060")
        return RecordedFlow(self.record, name, hop)

    # In

    def inject_wire(self, message: Request | Response | bytes, flow: RecordedFlow) -> None:
        """A message arrives; bytes are parsed first."""
        if isinstance(message, bytes):
            message = parse(message, LIMITS)
        message.source = flow.hop
        if isinstance(message, Request):
            self.layer.receive_request(message, flow, self.now)
        else:
            self.layer.receive_response(message, flow, self.now)

    def send(self, request: Request, flow: RecordedFlow) -> ClientTransaction:
        """The transaction user sends a request."""
        assert request.top_via is not None
        return self.layer.send_request(request, request.top_via.branch, flow, self.user, self.now)

    def break_flow(self, flow: RecordedFlow) -> None:
        """The connection breaks."""
        self.layer.receive_flow_failure(flow, self.now)

    def after(self, seconds: float) -> None:
        """Let time pass."""
        until = round(self.now + seconds, 9)
        while (at := self.deadlines.next_at()) is not None and at <= until + 1e-9:
            self.record.now = max(self.now, at)
            self.deadlines.run_due(self.now)
        self.record.now = until

    # Out

    def expect(self, *wanted: str) -> list[Effect]:
        """The next effects, in order, each given as its text; answers them."""
        found = self.record.effects[: len(wanted)]
        if [str(effect) for effect in found] != list(wanted):
            raise AssertionError(self._explain(wanted))
        del self.record.effects[: len(wanted)]
        return found

    def expect_wire(self, *wanted: str) -> list[Request | Response]:
        """The next effects are messages that left: "flow: first line"; answers them, parsed."""
        messages: list[Request | Response] = []
        for effect in self.expect(*wanted):
            assert effect.place != "user"
            assert effect.message is not None
            messages.append(effect.message)
        return messages

    def expect_request(self, wanted: str) -> Request:
        """The next effect is this request."""
        (message,) = self.expect_wire(wanted)
        assert isinstance(message, Request)
        return message

    def expect_response(self, wanted: str) -> Response:
        """The next effect is this response."""
        (message,) = self.expect_wire(wanted)
        assert isinstance(message, Response)
        return message

    def expect_user(self, *wanted: str) -> list[Effect]:
        """The next effects are these words to the transaction user."""
        return self.expect(*[f"user: {what}" for what in wanted])

    def expect_nothing(self) -> None:
        """Nothing more has happened."""
        if self.record.effects:
            raise AssertionError(self._explain(()))

    def expect_end(self) -> None:
        """Nothing more has happened, and nothing is left: no transaction and no timer."""
        self.expect_nothing()
        assert len(self.layer) == 0, f"transactions left: {self.census()}"
        assert len(self.deadlines) == 0
        assert self.census() == {}

    def log(self) -> list[tuple[float, str]]:
        """When and what since the last look; forgotten then."""
        found = [(effect.at, str(effect)) for effect in self.record.effects]
        self.record.effects.clear()
        return found

    def census(self) -> dict[str, int]:
        """How many transactions are in each state, as "type state"."""
        census = self.layer.census
        return {
            f"{name} {state.value}": count
            for name, states in census.items()
            for state, count in states.items()
            if count
        }

    def _explain(self, wanted: tuple[str, ...]) -> str:
        found = [f"{effect.at:8.3f}  {effect}" for effect in self.record.effects]
        lines = [f"at {self.now:.3f} the conversation went another way", "expected next:"]
        lines.extend([f"          {text}" for text in wanted] or ["          nothing"])
        lines.append("came:")
        lines.extend(found or ["          nothing"])
        return "\n".join(lines)
