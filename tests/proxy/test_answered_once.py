"""Who proved nothing hears one answer, and nothing is kept of the request (RFC 3261 §26.3.2.4)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from farm.proxy.reach import Contact
from tests.support.element import Bound, Element
from tests.support.messages import make_request
from tests.support.recorders import Promise

BOB = "sip:bob@example.com"
FOREIGN = "<sip:mallory@foreign.example>;tag=m"


@pytest.fixture
def element() -> Element:
    return Element()


def test_a_stranger_is_redirected_once_and_a_member_until_the_ack() -> None:
    """The INVITE may have come in another's name: it is not to be told eleven times."""
    for sender, heard in ((FOREIGN, 1), (None, 11)):
        element = Element(redirect=True)
        element.trust_alice()
        element.bind(BOB, "sip:bob@192.0.2.201")
        element.inject(make_request(from_=sender) if sender else make_request())
        element.after(40)
        assert element.script.record.texts() == ["alice: 302 Moved Temporarily"] * heard
        element.script.expect_end()


@pytest.mark.parametrize(
    ("change", "heard"),
    [
        ({}, "407 Proxy Authentication Required"),
        ({"max_forwards": 0}, "483 Too Many Hops"),
        ({"from_": FOREIGN, "uri": "sip:nobody@example.com"}, "480 Temporarily Unavailable"),
        ({"from_": FOREIGN, "uri": "sip:carol@foreign.example"}, "403 Forbidden"),
        ({"method": "OPTIONS", "uri": "sip:example.com"}, "200 OK"),
        ({"method": "CANCEL"}, "481 Call/Transaction Does Not Exist"),
    ],
)
def test_who_proved_nothing_hears_one_answer_and_nothing_is_kept(
    element: Element, change: dict[str, str], heard: str
) -> None:
    """Or a small packet in another's name would have eleven large ones sent to that other."""
    request = make_request(**change)  # type: ignore[arg-type]
    element.inject(request)
    answer = element.script.expect_response(f"alice: {heard}")
    element.script.expect_end()
    element.inject(request)
    assert element.script.expect_response(f"alice: {heard}").write() == answer.write()
    element.after(40)
    element.script.expect_end()


def test_a_member_hears_a_refusal_until_the_ack(element: Element) -> None:
    """Served anew, a repeated INVITE would look replayed by its nonce count."""
    element.trust_alice()
    element.inject(make_request(uri="sip:nobody@example.com"))
    element.after(40)
    assert element.script.record.texts() == ["alice: 404 Not Found"] * 11


def test_a_caller_who_cancels_while_we_look_hears_487_until_the_ack(element: Element) -> None:
    contacts: Promise[Sequence[Contact]] = Promise()
    element.bindings[BOB] = contacts
    element.inject(make_request(from_=FOREIGN))
    element.inject(make_request("CANCEL", from_=FOREIGN))
    element.script.expect_wire("alice: 200 OK", "alice: 487 Request Terminated")
    element.inject(make_request(from_=FOREIGN))
    element.script.expect_wire("alice: 487 Request Terminated")
    contacts.resolve([Bound("sip:bob@192.0.2.201")])
    element.script.expect_nothing()
