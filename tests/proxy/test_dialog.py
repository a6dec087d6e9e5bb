"""What a Record-Route of ours proves: which requests are of its dialog, and where they may go."""

from __future__ import annotations

import pytest

from farm.frontend.token import RouteToken
from farm.proxy.dialog import (
    Passport,
    Side,
    contact_host,
    find_caller,
    find_phone,
    find_side,
    first_contact,
    flow_from,
    host_of,
    make_caller,
    make_facts,
    may_go_to,
    uri_of,
)
from farm.sip.address import parse_address
from farm.sip.hop import FlowName, Hop, Leg
from farm.sip.message import Request, make_response
from farm.sip.uri import Uri, parse_uri
from tests.support.element import ALICE_TAG, CALL_ID, NODE, OTHER_NODE, make_tokens
from tests.support.messages import make_request

ALICE = f'"Alice" <sip:alice@example.com>;tag={ALICE_TAG}'
BOB = "<sip:bob@example.com>;tag=there"
HOME, AWAY, PHONE, EDGE = "192.0.2.101", "203.0.113.7", "10.0.0.7", "192.0.2.201"
PHONE_ID = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"
ALICE_FLOW = FlowName(NODE, Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060"))
BOB_FLOW = FlowName(OTHER_NODE, Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.2:5060#7a"))


def seal(request: Request, *, member: bool = False, source: str = HOME) -> RouteToken:
    """What comes back of a first request that went to a phone at PHONE by way of EDGE."""
    request.source = Hop("UDP", source, 5060)
    tokens = make_tokens()
    facts = make_facts(request, contact_host(request), PHONE, EDGE, member)
    user = tokens.make_route(CALL_ID, facts, Leg(ALICE_FLOW), Leg(BOB_FLOW, PHONE_ID))
    token = tokens.open_route(user, CALL_ID)
    assert token is not None
    return token


def make_later(sender: str, to: str, source: str = AWAY) -> Request:
    request = make_request("INFO", from_=sender, to=to)
    request.source = Hop("UDP", source, 5060)
    return request


def go(token: RouteToken, side: Side, request: Request, uri: Uri) -> bool:
    """Whether a request that came to our node may go there."""
    return may_go_to(token, side, request, uri, NODE)


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
    tokens = make_tokens()
    token = tokens.open_route(tokens.make_route(CALL_ID, (), Leg(), Leg()), CALL_ID)
    assert token is not None
    later = make_later(ALICE, BOB)
    assert find_side(token, later) is None
    for side in Side:
        assert not go(token, side, later, parse_uri(f"sip:{HOME}"))


def test_each_side_has_the_flow_of_the_other() -> None:
    token = seal(make_request())
    found = flow_from(token, Side.CALLER), flow_from(token, Side.CALLEE)
    assert all(
        flow is not None and flow.is_same(expected)
        for flow, expected in zip(found, (BOB_FLOW, ALICE_FLOW), strict=True)
    )


# Where


def test_a_stranger_who_called_reaches_the_phone_that_was_called_and_nobody_else() -> None:
    token = seal(make_request(), source=AWAY)
    later = make_later(ALICE, BOB, AWAY)
    hosts = (HOME, AWAY, PHONE, EDGE, "198.51.100.1", "example.com", "victim.example")
    assert [host for host in hosts if go(token, Side.CALLER, later, parse_uri(f"sip:x@{host}"))] == [PHONE, EDGE]


def test_a_member_who_called_goes_anywhere_from_where_it_called_and_elsewhere_like_anybody() -> None:
    """The callee's Contact is not known when the token is made, and an ACK to it cannot be challenged."""
    token = seal(make_request(), member=True)
    contact = parse_uri("sip:bob@198.51.100.200")
    assert go(token, Side.CALLER, make_later(ALICE, BOB, HOME), contact)
    assert not go(token, Side.CALLER, make_later(ALICE, BOB, AWAY), contact)
    assert not go(token, Side.CALLEE, make_later(BOB, ALICE, HOME), contact)


@pytest.mark.parametrize("source", [EDGE, PHONE, AWAY])
def test_a_member_s_contact_is_reached_by_its_callee_wherever_that_is(source: str) -> None:
    token = seal(make_request(contact="<sip:alice@pc33.example.com>"), member=True)
    later = make_later(BOB, ALICE, source)
    assert go(token, Side.CALLEE, later, parse_uri("sip:alice@pc33.example.com"))
    assert not go(token, Side.CALLEE, later, parse_uri("sip:alice@pc34.example.com"))


def test_a_stranger_who_calls_himself_a_gateway_s_neighbour_does_not_reach_it_in_the_callee_s_name() -> None:
    """A caller writes its Contact, and its Record-Route, as it likes, and knows all that the callee knows."""
    gateway = parse_uri("sip:+4930123@198.51.100.1")
    headers = ["Record-Route: <sip:198.51.100.1;lr>"]
    for request in (make_request(contact="<sip:x@198.51.100.1>"), make_request(headers=headers)):
        token = seal(request, source=AWAY)
        assert not go(token, Side.CALLEE, make_later(BOB, ALICE, AWAY), gateway)
        assert go(token, Side.CALLEE, make_later(BOB, ALICE, EDGE), gateway), "from where the phone is"


def test_the_neighbour_of_a_caller_is_the_proxy_that_recorded_itself_or_where_the_request_came_from() -> None:
    later = make_later(BOB, ALICE, EDGE)
    beside = seal(make_request(), source=AWAY)
    behind = seal(make_request(headers=["Record-Route: <sip:p1.example;lr>, <sip:p0.example;lr>"]), source=AWAY)
    hosts = (HOME, AWAY, "p1.example", "p0.example")
    for token, reached in ((beside, [HOME, AWAY]), (behind, [HOME, "p1.example"])):
        found = [host for host in hosts if go(token, Side.CALLEE, later, parse_uri(f"sip:{host};lr"))]
        assert found == reached


@pytest.mark.parametrize("contact", [None, "*", "<sip:broken"])
def test_a_first_request_without_a_contact_to_read_opens_no_way_to_nowhere(contact: str | None) -> None:
    token = seal(make_request(contact=contact, headers=["Record-Route: <broken"]))
    later = make_later(BOB, ALICE, EDGE)
    for uri in ("tel:+4930123", f"sip:{HOME}"):
        assert not go(token, Side.CALLEE, later, parse_uri(uri))


def test_a_maddr_is_where_a_request_goes_so_it_is_what_counts() -> None:
    token = seal(make_request(contact="<sip:alice@pc33.example.com;maddr=192.0.2.150>"))
    later = make_later(BOB, ALICE, EDGE)
    assert go(token, Side.CALLEE, later, parse_uri("sip:alice@pc33.example.com;maddr=192.0.2.150"))
    assert not go(token, Side.CALLEE, later, parse_uri("sip:alice@192.0.2.150;maddr=198.51.100.1"))
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
        assert find_caller(request, first_contact(request)) == expected
        leg = Leg() if expected is None else Leg(FlowName(NODE, expected))
        assert make_caller(request, first_contact(request), NODE) == leg


def test_who_asks_for_its_flow_is_called_back_by_it_although_its_contact_would_serve() -> None:
    """RFC 5626 §4.3: the URI parameter "ob" of a Contact."""
    source = Hop("UDP", HOME, 5060, "udp:192.0.2.1:5060")
    for contact, expected in ((f"<sip:alice@{HOME}>", None), (f"<sip:alice@{HOME};ob>", source)):
        request = make_request(contact=contact)
        request.source = source
        assert find_caller(request, first_contact(request)) == expected


@pytest.mark.parametrize(
    ("contact", "phone"),
    [
        ("<sip:alice@10.0.0.9>", ""),
        ('<sip:alice@10.0.0.9>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"', PHONE_ID),
        (f"<sip:alice@example.com;gr={PHONE_ID.upper()}>", PHONE_ID),
        ("<sip:sealed@example.com;gr>", ""),
        ("<sip:alice@10.0.0.9>;+sip.instance", ""),
    ],
)
def test_a_contact_tells_which_phone_it_is_by_its_instance_or_as_a_public_gruu(contact: str, phone: str) -> None:
    assert find_phone(parse_address(contact)) == phone


def test_a_passport_knows_the_other_side_of_the_dialog_and_who_is_to_be_looked_for() -> None:
    token = seal(make_request())
    to_bob = Passport(token, Side.CALLER, make_later(ALICE, BOB), NODE)
    to_alice = Passport(token, Side.CALLEE, make_later(BOB, ALICE), NODE)
    assert (to_bob.receiver, to_alice.receiver) == (BOB, ALICE)
    assert (to_bob.knows_phone, to_alice.knows_phone) == (True, False)
    assert [to_bob.is_phone(text) for text in (PHONE_ID, "urn:uuid:another", "")] == [True, False, False]
    assert not to_alice.is_phone(PHONE_ID)


def test_without_its_flow_a_phone_is_reached_where_it_came_from_if_that_is_what_it_said() -> None:
    """Its Contact alone may be an address behind a NAT, or anybody's."""
    for source, listens in ((HOME, True), (AWAY, False)):
        token = seal(make_request(), source=source)
        passport = Passport(token, Side.CALLEE, make_later(BOB, ALICE, EDGE), NODE)
        assert passport.may_listen(parse_uri(f"sip:alice@{HOME}")) is listens
        assert not passport.may_listen(parse_uri("sip:alice@198.51.100.77"))
        assert not Passport(token, Side.CALLEE, make_later(BOB, ALICE, AWAY), NODE).may_listen(
            parse_uri(f"sip:alice@{HOME}")
        )
    token = seal(make_request(contact="<sip:alice@pc33.example.com>"))
    passport = Passport(token, Side.CALLEE, make_later(BOB, ALICE, EDGE), NODE)
    assert passport.may_listen(parse_uri("sip:alice@pc33.example.com"))


def test_an_answer_is_for_its_from_and_goes_to_no_contact() -> None:
    """It bears none of him who gets it, so that nothing says where he listens."""
    token = seal(make_request())
    answer = make_response(make_request(from_=ALICE), 200, to_tag="there")
    answer.source = Hop("UDP", EDGE, 5060)
    assert find_side(token, answer) is Side.CALLER
    passport = Passport(token, Side.CALLEE, answer, NODE)
    assert passport.receiver == ALICE
    assert not passport.may_listen(parse_uri(f"sip:alice@{HOME}"))


def test_a_callee_on_a_connection_proves_itself_by_the_connection() -> None:
    """Its address may be known to the node alone that has the connection."""
    token = seal(make_request(), source=AWAY)
    assert token.callee is not None
    for node, hop, allowed in (
        (OTHER_NODE, BOB_FLOW.hop, True),
        (NODE, BOB_FLOW.hop, False),
        (OTHER_NODE, Hop("TCP", AWAY, 20001, "tcp:192.0.2.2:5060#7b"), False),
    ):
        later = make_later(BOB, ALICE)
        later.source = hop
        assert may_go_to(token, Side.CALLEE, later, parse_uri(f"sip:alice@{HOME}"), node) is allowed


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
