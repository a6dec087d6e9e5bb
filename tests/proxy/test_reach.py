"""What a contact comes to: a flow, an address, or nothing (RFC 5626 §5.3, RFC 5630 §5.3)."""

from __future__ import annotations

import pytest

from farm.proxy.reach import find_way, in_order, make_target, may_listen
from farm.sip.hop import FlowName, Hop
from farm.sip.uri import parse_uri
from tests.support.element import NODE, OTHER_NODE, Bound, Element

ASKED = parse_uri("sip:bob@example.com")
SECURELY = parse_uri("sips:bob@example.com")
TCP = Hop("TCP", "192.0.2.201", 40000, "tcp:192.0.2.1:5060#7a")
TLS = Hop("TLS", "192.0.2.201", 40001, "tls:192.0.2.1:5061#7b")
UDP = Hop("UDP", "192.0.2.201", 20000, "udp:192.0.2.1:5060")


@pytest.fixture
def element() -> Element:
    return Element()


def test_a_contact_with_a_flow_is_reached_by_that_flow(element: Element) -> None:
    bound = Bound("sip:bob@10.0.0.7", 300, received=TCP, instance="<URN:uuid:1>", node=OTHER_NODE)
    target = make_target(element, bound, ASKED)
    assert target is not None
    assert (target.uri_text, target.q, target.flow) == ("sip:bob@10.0.0.7", 300, FlowName(OTHER_NODE, TCP))
    assert (target.phone, target.lost, target.listens, target.next_hops) == ("urn:uuid:1", 480, False, ())


def test_a_contact_without_one_is_reached_where_it_says(element: Element) -> None:
    target = make_target(element, Bound("sip:bob@192.0.2.201", node=OTHER_NODE), ASKED)
    assert target is not None
    assert (target.flow, target.lost, target.next_hops) == (None, 503, ())


@pytest.mark.parametrize("uri", ["mailto:bob@example.com", "tel:+4930123", "x"])
def test_a_contact_that_is_no_sip_uri_is_no_target(element: Element, uri: str) -> None:
    assert make_target(element, Bound(uri), ASKED) is None


# Flows that are gone


@pytest.mark.parametrize(
    ("uri", "hop", "reg_id", "listens"),
    [
        ("sip:bob@192.0.2.201;transport=tcp", TCP, 0, True),
        ("sip:bob@phone.example.com;transport=tcp", TCP, 0, True),
        ("sip:bob@192.0.2.201;transport=tcp", TCP, 1, False),  # outbound has a way of its own (RFC 5626 §7)
        ("sip:bob@10.0.0.7;transport=tcp", TCP, 0, False),
        ("sip:bob@192.0.2.201", UDP, 0, False),
        ("sip:bob@192.0.2.201;transport=ws", Hop("WS", "192.0.2.201", 9, "ws:192.0.2.1:80#1"), 0, False),
        ("sip:bob@[broken", TCP, 0, False),
    ],
)
def test_without_its_flow_a_phone_is_reached_where_it_listens_or_not_at_all(
    element: Element, uri: str, hop: Hop, reg_id: int, listens: bool
) -> None:
    bound = Bound(uri, received=hop, reg_id=reg_id)
    there = make_target(element, bound, ASKED)
    assert there is not None
    assert (there.flow, there.listens) == (FlowName(NODE, hop), listens)
    element.gone.append(FlowName(NODE, hop))
    gone = make_target(element, bound, ASKED)
    assert (gone is not None) is listens
    if gone is not None:
        assert (gone.flow, gone.uri_text, gone.lost) == (None, uri, 480)


def test_a_phone_of_a_dead_node_is_away_although_it_may_listen(element: Element) -> None:
    """Its firewall would keep the caller waiting."""
    bound = Bound("sip:bob@192.0.2.201;transport=tcp", received=TCP, node=OTHER_NODE)
    element.dead_nodes.add(OTHER_NODE)
    element.doubted.add(OTHER_NODE)
    assert make_target(element, bound, ASKED) is None


def test_the_flow_that_has_just_failed_is_gone_whatever_its_node_says(element: Element) -> None:
    bound = Bound("sip:bob@10.0.0.7", received=TCP)
    assert make_target(element, bound, ASKED, FlowName(NODE, TCP.short)) is None
    assert make_target(element, bound, ASKED, FlowName(OTHER_NODE, TCP.short)) is not None


def test_what_a_doubtful_node_has_comes_last(element: Element) -> None:
    element.doubted.add(OTHER_NODE)
    first, second = Bound("sip:1@10.0.0.7", received=TCP, node=OTHER_NODE), Bound("sip:2@10.0.0.7", received=UDP)
    third = Bound("sip:3@192.0.2.201", 1, node=OTHER_NODE)
    contacts = [first, second, third]
    assert in_order(element, contacts) == [second, third, first]
    found = [make_target(element, contact, ASKED) for contact in contacts]
    assert [target.q for target in found if target is not None] == [-1, 1000, 1]
    element.doubted.clear()
    assert in_order(element, contacts) is contacts


# sips


def test_what_is_asked_for_securely_goes_to_a_sips_contact_over_tls_alone(element: Element) -> None:
    """RFC 5630 §5.3: no last hop is excepted."""
    for uri, hop, reached in (
        ("sips:bob@192.0.2.201", None, True),
        ("sips:bob@192.0.2.201", TLS, True),
        ("SIPS:bob@10.0.0.7", TLS, True),
        ("sips:bob@10.0.0.7", TCP, False),
        ("sips:bob@10.0.0.7", UDP, False),
        ("sips:bob@10.0.0.7;transport=ws", Hop("WSS", "192.0.2.201", 9, "wss:192.0.2.1:443#1"), True),
        ("sip:bob@192.0.2.201;transport=tls", TLS, False),
    ):
        target = make_target(element, Bound(uri, received=hop), SECURELY)
        assert (target is not None) is reached, uri
        if target is not None:
            assert target.uri_text == uri


def test_a_secure_phone_that_is_asked_for_plainly_hears_a_plain_uri_over_tls(element: Element) -> None:
    """RFC 5630 §4.1: a sips: Request-URI would ask the caller for sips: in the whole dialog."""
    target = make_target(element, Bound("sips:bob@192.0.2.201"), ASKED)
    assert target is not None
    assert (target.uri_text, target.next_hops) == (
        "sip:bob@192.0.2.201",
        (("sips:bob@192.0.2.201", "sip:bob@192.0.2.201"),),
    )
    over_flow = make_target(element, Bound("sips:bob@10.0.0.7", received=TLS), ASKED)
    assert over_flow is not None
    assert (over_flow.uri_text, over_flow.flow) == ("sip:bob@10.0.0.7", FlowName(NODE, TLS))
    by_path = make_target(element, Bound("sips:bob@10.0.0.7", path=("<sip:edge.example;lr>",)), ASKED)
    assert by_path is not None
    assert (by_path.uri_text, by_path.next_hops) == ("sip:bob@10.0.0.7", ())


# Ways


def test_a_flow_without_a_near_end_is_an_address_that_any_node_sends_to(element: Element) -> None:
    element.dead_nodes.add(OTHER_NODE)
    plain, pinhole = Hop("UDP", "192.0.2.201", 5060), UDP
    assert find_way(element, FlowName(OTHER_NODE, plain), secure=False) is element.flow_to(plain)
    assert find_way(element, FlowName(OTHER_NODE, pinhole), secure=False) is None
    assert find_way(element, FlowName(NODE, pinhole), secure=False) is element.flow_to(pinhole)
    assert find_way(element, FlowName(NODE, pinhole), secure=True) is None


def test_an_address_of_another_family_is_told_from_a_name() -> None:
    assert may_listen("sip:bob@[2001:db8::1]", Hop("TCP", "2001:db8::1", 9))
    assert not may_listen("sip:bob@[2001:db8::2]", Hop("TCP", "2001:db8::1", 9))
    assert may_listen("sip:bob@phone.example.com", Hop("TLS", "2001:db8::1", 9))
