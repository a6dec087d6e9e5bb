"""A client and a server transaction on a network that loses, delays, doubles and reorders: both end, and agree."""

from __future__ import annotations

import random

import pytest

from farm.sip.message import Request, Response, make_response
from farm.sip.parser import parse
from tests.support.messages import LIMITS, make_request
from tests.support.recorders import RecordedFlow
from tests.support.script import Script


class Wire:
    """Two layers over one bad network: what each sends, the other receives later, twice or never."""

    def __init__(self, method: str, seed: int, loss: float) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.client, self.server = Script(seed=seed), Script(seed=seed + 1)
        self.server.record = self.client.record  # one time for both
        self.server.deadlines = self.server.layer.deadlines = self.client.deadlines
        self.server.user._record = self.client.user._record
        self.to_server = self.client.make_flow("to server")
        self.to_client = self.client.make_flow("to client")
        self.to_server.deliver = lambda data: self.carry(data, self.server, self.to_client)
        self.to_client.deliver = lambda data: self.carry(data, self.client, self.to_server)
        self.transaction = self.client.send(make_request(method), self.to_server)

    def carry(self, data: bytes, script: Script, back: RecordedFlow) -> None:
        copies = 0 if self.rng.random() < self.loss else 2 if self.rng.random() < 0.1 else 1
        for _ in range(copies):
            at = self.client.now + self.rng.uniform(0.001, 0.3)
            self.client.deadlines.add(at, lambda _, now: self.arrive(data, script, back))

    def arrive(self, data: bytes, script: Script, back: RecordedFlow) -> None:
        message = parse(data, LIMITS)
        assert isinstance(message, Request | Response)
        script.inject_wire(message, back)


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("method", "status"), [("INVITE", 486), ("INVITE", 200), ("OPTIONS", 404), ("OPTIONS", 200)])
def test_both_sides_of_a_lossy_network_end_and_agree(method: str, status: int, loss: float) -> None:
    """However messages are lost, delayed, doubled and reordered, both end; who hears an answer hears the right one."""
    heard = 0
    request = make_request(method)
    for seed in range(25):
        wire = Wire(method, seed, loss)
        answered = 0
        for second in range(80):
            wire.client.after(1.0)
            arrived = any(response.status == status for response in wire.client.user.responses)
            repeating = (method, status) == ("INVITE", 200) and second < 20 and not arrived
            if wire.server.user.servers and (not answered or repeating):  # an UA repeats its own 2xx (§13.3.1.4)
                wire.server.user.server.send_response(make_response(request, status, to_tag="callee"), wire.client.now)
                answered += 1
        finals = [response.status for response in wire.client.user.responses if response.status >= 200]
        assert set(finals) <= {status}
        if method != "INVITE" or status != 200:
            assert len(finals) <= 1, "an answer goes up once"
        heard += bool(finals)
        timeouts = [text for text in wire.client.record.texts() if text == "user: timeout"]
        assert bool(finals) != bool(timeouts), "the caller hears an answer or a timeout, never both or neither"
        assert len(wire.server.user.servers) <= 1, "no retransmission is taken for a new request"
        assert (len(wire.client.layer), len(wire.server.layer), len(wire.client.deadlines)) == (0, 0, 0)
    assert heard >= (25 if loss < 0.5 else 15)
