"""Calls to which everything happens that can: whatever the order, each ends, once, and leaves nothing behind.

A seeded hand deals answers, silence, refusals, CANCELs, broken connections, late lookups and retransmissions. Held
against the one sentence that matters to a caller: a request is answered by one final answer (a 2xx to INVITE may come
from several phones), or, if it is no INVITE, perhaps by none.
"""

from __future__ import annotations

import random

import pytest

from farm.sip.hop import Hop
from farm.sip.message import Request, Response, make_response
from farm.sip.parser import parse
from farm.sip.status import SipError
from farm.transaction.key import client_key
from tests.support.element import Bound, Element
from tests.support.messages import LIMITS, make_request
from tests.support.recorders import Promise

BOB = "sip:bob@example.com"
STATUSES = [100, 180, 183, 199, 200, 200, 202, 302, 401, 404, 407, 408, 486, 487, 500, 503, 503, 600, 603]
HOSTS = ["192.0.2.201", "192.0.2.202", "192.0.2.203", "198.51.100.1", "198.51.100.2"]


class Storm:
    """One request, several phones, one hand of cards."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.element = Element(max_breadth=self.rng.choice([1, 2, 60]))
        self.element.trust_alice()
        self.method = self.rng.choice(["INVITE", "INVITE", "INVITE", "MESSAGE", "SUBSCRIBE"])
        self.cut_off = False  # alice could not be reached for some time
        self.promises: list[Promise[list[Hop]]] = []
        self.element.bind(BOB, *[self.make_contact(number) for number in range(self.rng.randint(1, 4))])

    def make_contact(self, number: int) -> Bound:
        """A phone at an address, behind a name with several servers, one that is looked up late, or nowhere."""
        rng, element = self.rng, self.element
        q = rng.choice([1000, 1000, 500])
        transport = rng.choice(["UDP", "TCP"])
        host = rng.choice(HOSTS)
        kind = rng.choice(["plain", "plain", "servers", "late", "nowhere", "flow"])
        if kind == "plain":
            return Bound(f"sip:b{number}@{host};transport={transport.lower()}", q)
        if kind == "flow":
            return Bound(f"sip:b{number}@10.0.0.1", q, received=Hop(transport, host, 5060))
        name = f"h{number}.example"
        hops = [Hop(rng.choice(["UDP", "TCP"]), rng.choice(HOSTS), 5060) for _ in range(rng.randint(0, 3))]
        if kind == "servers":
            element.next_hops[name] = hops
        elif kind == "nowhere":
            element.next_hops[name] = SipError(rng.choice([503, 504]))
        else:
            promise: Promise[list[Hop]] = Promise()
            element.next_hops[name] = promise
            self.promises.append(promise)
        return Bound(f"sip:b{number}@{name}", q)

    def run(self) -> None:
        """The request, then up to thirty cards, then silence."""
        self.element.inject(make_request(self.method))
        for _ in range(self.rng.randint(0, 30)):
            self.deal()
        for promise in self.promises:
            self.settle(promise)
        self.promises.clear()
        for _ in range(12):
            self.element.after(40)
            self.acknowledge()

    def deal(self) -> None:
        """One thing happens."""
        rng, element = self.rng, self.element
        card = rng.choice(["answer"] * 6 + ["time", "time", "cancel", "again", "break", "refuse", "lookup"])
        if card == "answer":
            self.answer()
        elif card == "time":
            element.after(rng.choice([0.0, 0.1, 0.5, 5.0, 20.0, 33.0, 190.0]))
            self.acknowledge()
        elif card == "cancel" and self.method == "INVITE" and rng.random() < 0.4:
            element.inject(make_request("CANCEL"))
        elif card == "again" and element.script.now < 30 and all(heard.status < 200 for heard in self.heard()):
            element.inject(make_request(self.method))  # a client repeats itself until it hears an answer, or timer B
        elif card == "break":
            for flow in list(element.flows.values()):
                if flow.reliable and rng.random() < 0.5:
                    element.script.break_flow(flow)
        elif card == "refuse":
            flow = rng.choice(list(element.flows.values()))
            flow.refusing = not flow.refusing
            (element.refusing.add if flow.refusing else element.refusing.discard)(flow.name)
            self.cut_off |= flow is element.alice
        elif card == "lookup" and self.promises:
            self.settle(self.promises.pop())

    def settle(self, promise: Promise[list[Hop]]) -> None:
        if self.rng.random() < 0.3:
            promise.fail(SipError(504))
        else:
            promise.resolve([Hop("UDP", self.rng.choice(HOSTS), 5060) for _ in range(self.rng.randint(0, 2))])

    def answer(self) -> None:
        """Somebody answers something that reached them, with anything."""
        sent = [
            (flow, data)
            for flow in self.element.flows.values()
            if flow is not self.element.alice
            for data in flow.sent
            if not data.startswith((b"ACK", b"SIP/"))
        ]
        if not sent:
            return
        flow, data = self.rng.choice(sent)
        request = parse(data, LIMITS)
        assert isinstance(request, Request)
        assert request.top_via is not None
        status = self.rng.choice(STATUSES)
        known = client_key(request.top_via.branch, request.method) in self.element.script.layer._clients
        if not known and status < 300:
            return  # a 2xx that outlived its transaction goes up as a stray, whatever the caller heard (test_stateless)
        response = make_response(request, status, to_tag=self.rng.choice("abc") if status > 100 else "")
        if self.rng.random() < 0.03 and response.headers[1][0] == "via":
            del response.headers[1]  # alice's Via is lost
        self.element.script.inject_wire(response.write(), flow)

    def acknowledge(self) -> None:
        """Alice acknowledges every failure that she heard."""
        for heard in self.heard():
            if self.method == "INVITE" and heard.status >= 300:
                self.element.inject(make_request("ACK", to=heard.find("to")))

    def heard(self) -> list[Response]:
        """The answers to alice's request, retransmissions included."""
        found = [parse(data, LIMITS) for data in self.element.alice.sent if data.startswith(b"SIP/")]
        return [heard for heard in found if isinstance(heard, Response) and heard.cseq_method == self.method]


@pytest.mark.parametrize("block", range(5))
def test_whatever_happens_a_request_has_one_end_and_leaves_nothing_behind(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        storm = Storm(seed)
        storm.run()
        element = storm.element
        element.script.record.effects.clear()
        try:
            element.script.expect_end()
            assert element.reports == []
            assert element.spawner.failures == []
            finals = {(heard.status, heard.to_tag) for heard in storm.heard() if heard.status >= 200}
            failures = {final for final in finals if final[0] >= 300}
            assert len(failures) <= 1, f"two failures for one request: {finals}"
            assert not failures or failures == finals, f"success and failure for one request: {finals}"
            if storm.method != "INVITE":
                assert len(finals) <= 1
                assert not any(heard.status == 408 or 100 < heard.status < 200 for heard in storm.heard())
            elif not storm.cut_off:
                assert finals, "a caller must hear how it ended"
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
