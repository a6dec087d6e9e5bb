"""What a Record-Route of ours proves: which requests are of its dialog, and where they may go."""

from __future__ import annotations

import random

import pytest

from farm.frontend.token import RouteToken, Tokens
from farm.proxy.dialog import (
    Side,
    contact_host,
    find_caller,
    find_side,
    flow_from,
    host_of,
    make_facts,
    may_go_to,
    uri_of,
)
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.uri import parse_uri
from tests.support.element import ALICE_TAG, CALL_ID, SECRET
from tests.support.messages import make_request

ALICE = f'"Alice" <sip:alice@example.com>;tag={ALICE_TAG}'
BOB = "<sip:bob@example.com>;tag=there"
HOME, AWAY, PHONE, EDGE = "192.0.2.101", "203.0.113.7", "10.0.0.7", "192.0.2.201"
ALICE_FLOW = Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060")
BOB_FLOW = Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.1:5060")


def seal(request: Request, *, member: bool = False, source: str = HOME) -> RouteToken:
    """What comes back of a first request that went to a phone at PHONE by way of EDGE."""
    request.source = Hop("UDP", source, 5060)
    tokens = Tokens(SECRET, random.Random(7))
    user = tokens.make_route(
        CALL_ID, make_facts(request, contact_host(request), PHONE, EDGE, member), ALICE_FLOW, BOB_FLOW
    )
    token = tokens.open_route(user, CALL_ID)
    assert token is not None
    return token


def make_later(sender: str, to: str, source: str = AWAY) -> Request:
    request = make_request("INFO", from_=sender, to=to)
    request.source = Hop("UDP", source, 5060)
    return request


# Who


@pytest.mark.parametrize(
    ("sender", "to", "side"),
    [
        (ALICE, BOB, Side.CALLER),
        (BOB, ALICE, Side.CALLEE),
        (ALICE, "<sip:bob@example.com>;tag=another-fork", Side.CALLER),
        (f"sip:alice@example.com;tag={ALICE_TAG}", "B <sip:bob@example.com> ; tag=there", Side.CALLER),
        (f'"<sip:bob@example.com>" <sip:alice@example.com>;tag={ALICE_TAG}', BOB, Side.CALLER),
        ("<sip:ceo@example.com>;tag=1", ALICE, None),
        (f"<sip:ceo@example.com>;tag={ALICE_TAG}", BOB, None),
        (ALICE, "<sip:ceo@example.com>;tag=there", None),
        ("<sip:alice@example.com>;tag=another", BOB, None),
        (BOB, "<sip:alice@example.com>;tag=another", None),
        (ALICE, f"<sip:alice@example.com>;tag={ALICE_TAG}", None),
        (BOB, BOB, None),
        (f"<sip:ALICE@example.com>;tag={ALICE_TAG}", BOB, None),
    ],
)
def test_only_the_two_of_a_dialog_are_of_it(sender: str, to: str, side: Side | None) -> None:
    """By their URIs to the letter, either way round, and by the caller's tag; the callee's is not known yet."""
    token = seal(make_request())
    assert find_side(token, make_later(sender, to)) is side


def test_nobody_is_of_a_dialog_that_a_token_tells_nothing_of() -> None:
    tokens = Tokens(SECRET, random.Random(7))
    token = tokens.open_route(tokens.make_route(CALL_ID, (), None, None), CALL_ID)
    assert token is not None
    later = make_later(ALICE, BOB)
    assert find_side(token, later) is None
    for side in Side:
        assert not may_go_to(token, side, later, parse_uri(f"sip:{HOME}"))


def test_each_side_has_the_flow_of_the_other() -> None:
    token = seal(make_request())
    assert (flow_from(token, Side.CALLER), flow_from(token, Side.CALLEE)) == (BOB_FLOW, ALICE_FLOW)


# Where


def test_a_stranger_who_called_reaches_the_phone_that_was_called_and_nobody_else() -> None:
    token = seal(make_request(), source=AWAY)
    later = make_later(ALICE, BOB, AWAY)
    hosts = (HOME, AWAY, PHONE, EDGE, "198.51.100.1", "example.com", "victim.example")
    assert [host for host in hosts if may_go_to(token, Side.CALLER, later, parse_uri(f"sip:x@{host}"))] == [PHONE, EDGE]


def test_a_member_who_called_goes_anywhere_from_where_it_called_and_elsewhere_like_anybody() -> None:
    """The callee's Contact is not known when the token is made, and an ACK to it cannot be challenged."""
    token = seal(make_request(), member=True)
    contact = parse_uri("sip:bob@198.51.100.200")
    assert may_go_to(token, Side.CALLER, make_later(ALICE, BOB, HOME), contact)
    assert not may_go_to(token, Side.CALLER, make_later(ALICE, BOB, AWAY), contact)
    assert not may_go_to(token, Side.CALLEE, make_later(BOB, ALICE, HOME), contact)


@pytest.mark.parametrize("source", [EDGE, PHONE, AWAY])
def test_a_member_s_contact_is_reached_by_its_callee_wherever_that_is(source: str) -> None:
    token = seal(make_request(contact="<sip:alice@pc33.example.com>"), member=True)
    later = make_later(BOB, ALICE, source)
    assert may_go_to(token, Side.CALLEE, later, parse_uri("sip:alice@pc33.example.com"))
    assert not may_go_to(token, Side.CALLEE, later, parse_uri("sip:alice@pc34.example.com"))


def test_a_stranger_who_calls_himself_a_gateway_s_neighbour_does_not_reach_it_in_the_callee_s_name() -> None:
    """A caller writes its Contact, and its Record-Route, as it likes, and knows all that the callee knows."""
    gateway = parse_uri("sip:+4930123@198.51.100.1")
    headers = ["Record-Route: <sip:198.51.100.1;lr>"]
    for request in (make_request(contact="<sip:x@198.51.100.1>"), make_request(headers=headers)):
        token = seal(request, source=AWAY)
        assert not may_go_to(token, Side.CALLEE, make_later(BOB, ALICE, AWAY), gateway)
        assert may_go_to(token, Side.CALLEE, make_later(BOB, ALICE, EDGE), gateway), "from where the phone is"


def test_the_neighbour_of_a_caller_is_the_proxy_that_recorded_itself_or_where_the_request_came_from() -> None:
    later = make_later(BOB, ALICE, EDGE)
    beside = seal(make_request(), source=AWAY)
    behind = seal(make_request(headers=["Record-Route: <sip:p1.example;lr>, <sip:p0.example;lr>"]), source=AWAY)
    hosts = (HOME, AWAY, "p1.example", "p0.example")
    for token, reached in ((beside, [HOME, AWAY]), (behind, [HOME, "p1.example"])):
        found = [host for host in hosts if may_go_to(token, Side.CALLEE, later, parse_uri(f"sip:{host};lr"))]
        assert found == reached


@pytest.mark.parametrize("contact", [None, "*", "<sip:broken"])
def test_a_first_request_without_a_contact_to_read_opens_no_way_to_nowhere(contact: str | None) -> None:
    token = seal(make_request(contact=contact, headers=["Record-Route: <broken"]))
    later = make_later(BOB, ALICE, EDGE)
    for uri in ("tel:+4930123", f"sip:{HOME}"):
        assert not may_go_to(token, Side.CALLEE, later, parse_uri(uri))


def test_a_maddr_is_where_a_request_goes_so_it_is_what_counts() -> None:
    token = seal(make_request(contact="<sip:alice@pc33.example.com;maddr=192.0.2.150>"))
    later = make_later(BOB, ALICE, EDGE)
    assert may_go_to(token, Side.CALLEE, later, parse_uri("sip:alice@pc33.example.com;maddr=192.0.2.150"))
    assert not may_go_to(token, Side.CALLEE, later, parse_uri("sip:alice@192.0.2.150;maddr=198.51.100.1"))
    assert host_of(parse_uri("sip:a@b.example;maddr=[2001:db8::1]")) == "2001:db8::1"


# What a first request tells


def test_the_flow_of_a_caller_is_kept_where_its_contact_does_not_serve() -> None:
    nat = Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060")
    for contact, vias, expected in (
        ("<sip:alice@10.0.0.9>", ["SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1"], nat),
        ("<sip:alice@10.0.0.9>", ["SIP/2.0/UDP p1.example;branch=z9hG4bK2", "SIP/2.0/UDP 10.0.0.9"], None),
        (None, ["SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1"], None),
    ):
        request = make_request(via=vias, contact=contact)
        request.source = nat
        assert find_caller(request, contact_host(request)) == expected


@pytest.mark.parametrize(
    ("value", "uri"),
    [
        ("<sip:a@b>;tag=1", "sip:a@b"),
        ('"A" <sip:a@b;user=phone>', "sip:a@b;user=phone"),
        ('"<x>" <sip:a@b>;tag=1', "sip:a@b"),
        ("sip:a@b ;tag=1", "sip:a@b"),
        ("tel:+1;tag=1", "tel:+1"),
        (None, ""),
    ],
)
def test_the_uri_of_an_address_is_taken_as_it_was_written(value: str | None, uri: str) -> None:
    assert uri_of(value) == uri
