"""OPTIONS to gateways: what is sent, and which outcomes prove a gateway alive."""

from __future__ import annotations

import pytest

from farm.proxy.probe import Probe
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.status import SipError
from tests.support.element import Addresses, Element
from tests.support.recorders import Promise

URI = "sip:198.51.100.1"


class Asked:
    """One probe of the first gateway."""

    def __init__(self, uri: str = URI) -> None:
        self.element = Element()
        self.outcomes: list[tuple[str, bool]] = []
        self.uri = uri

    def start(self) -> None:
        element = self.element
        Probe(
            element.means, element.tokens, Addresses(), self.uri, lambda uri, alive: self.outcomes.append((uri, alive))
        ).start(element.script.now)


@pytest.fixture
def asked() -> Asked:
    return Asked()


def sent(asked: Asked) -> Request:
    return asked.element.script.expect_request(f"gw1: OPTIONS {asked.uri}")


def test_the_question_is_a_complete_request_that_names_no_user(asked: Asked) -> None:
    asked.start()
    request = sent(asked)
    assert [header[0] for header in request.headers] == [
        "via", "max-forwards", "from", "to", "call-id", "cseq", "content-length",
    ]  # fmt: skip
    assert request.find("to") == f"<{URI}>"
    assert (request.find("from") or "").startswith("<sip:192.0.2.1>;tag=")
    assert (request.cseq, request.cseq_method) == (1, "OPTIONS")


@pytest.mark.parametrize(
    ("status", "alive"), [(200, True), (404, True), (405, True), (500, True), (603, True), (408, False), (503, False)]
)
def test_any_answer_but_408_and_503_proves_it_alive(asked: Asked, status: int, alive: bool) -> None:
    asked.start()
    request = sent(asked)
    asked.element.reply(request, 100)
    assert asked.outcomes == []
    asked.element.reply(request, status)
    asked.element.reply(request, status)
    assert asked.outcomes == [(URI, alive)]


def test_silence_and_refusal_prove_it_dead(asked: Asked) -> None:
    asked.start()
    asked.element.after(33)
    assert asked.outcomes == [(URI, False)]
    refused = Asked()
    refused.element.refusing.add("gw1")
    refused.start()
    refused.element.after(0)
    assert refused.outcomes == [(URI, False)]


def test_a_name_that_is_not_found_proves_it_dead() -> None:
    asked = Asked("sip:gw.example;transport=tcp")
    asked.element.next_hops["gw.example"] = SipError(503)
    asked.start()
    promise: Promise[list[Hop]] = Promise()
    asked.element.next_hops["gw.example"] = promise
    asked.start()
    promise.fail(SipError(504))
    assert asked.outcomes == [("sip:gw.example;transport=tcp", False)] * 2


def test_a_name_that_is_found_later_is_asked_then() -> None:
    asked = Asked("sip:gw.example;transport=tcp")
    promise: Promise[list[Hop]] = Promise()
    asked.element.next_hops["gw.example"] = promise
    asked.start()
    promise.resolve([Hop("TCP", "198.51.100.1", 5060)])
    request = asked.element.script.expect_request("gw1 by TCP: OPTIONS sip:gw.example;transport=tcp")
    assert (request.find("via") or "").startswith("SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK")
    asked.element.reply(request, 200)
    assert asked.outcomes == [("sip:gw.example;transport=tcp", True)]
