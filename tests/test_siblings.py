"""The way to a phone whose flow another node has: by which address, sealed for whom, and when there is none."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest

from farm.frontend.token import Tokens
from farm.member import stamp_node_of
from farm.overlay.wire import ALIVE, DEAD, JOINING, LEFT, SUSPECT, Contact
from farm.siblings import Siblings
from farm.sip.address import parse_address
from farm.sip.hop import Hop

OWN, OTHER, STRANGER = (bytes((number,)) * 32 for number in (1, 2, 3))
FLOW = Hop("TCP", "203.0.113.7", 40000, "tcp:192.0.2.2:5060#7")
PHONE = "sip:bob@10.0.0.7;transport=tcp"
LISTENERS = ("udp:192.0.2.2:5060", "tcp:192.0.2.2:5060")


class Members:
    """What `Siblings` asks of a member: this node, and one other."""

    def __init__(self, *sip: str, state: int = ALIVE, host: str = "10.0.0.2") -> None:
        self.identity = self
        self.node_id = OWN
        self.other = Contact(OTHER, host, 7400, state=state, sip=sip or LISTENERS)

    def find_by_stamp(self, stamp_node: int) -> Contact | None:
        return self.other if stamp_node == stamp_node_of(OTHER) else None


def make(members: Members) -> tuple[Siblings, Tokens]:
    tokens = Tokens(b"f" * 32, random.Random(1))
    return Siblings(cast("Any", members), tokens), tokens


def find_route(members: Members, node: bytes = OTHER) -> str | None:
    siblings, _ = make(members)
    return siblings.route_to(stamp_node_of(node), FLOW, PHONE)


def place_of(route: str | None) -> str:
    """The address in a Route value."""
    assert route is not None
    return route.rpartition("@")[2].removesuffix(";lr>")


def test_a_flow_of_our_own_needs_no_way() -> None:
    assert find_route(Members(), OWN) == ""


def test_another_node_is_told_by_a_route_which_flow_is_meant() -> None:
    siblings, tokens = make(Members())
    route = siblings.route_to(stamp_node_of(OTHER), FLOW, PHONE)
    assert route is not None
    uri = parse_address(route).uri
    assert (uri.host, uri.port, "lr" in uri.params) == ("192.0.2.2", 5060, True)
    assert tokens.open_onward(uri.user or "", PHONE) == FLOW
    assert tokens.open_onward(uri.user or "", "sip:bob@10.0.0.8") is None


@pytest.mark.parametrize("state", [JOINING, ALIVE, SUSPECT])
def test_a_node_that_may_be_there_is_tried(state: int) -> None:
    assert find_route(Members(state=state))


@pytest.mark.parametrize("state", [DEAD, LEFT])
def test_the_flows_of_a_node_that_is_gone_are_gone(state: int) -> None:
    assert find_route(Members(state=state)) is None


def test_the_flows_of_a_node_that_nobody_knows_are_gone() -> None:
    assert find_route(Members(), STRANGER) is None


@pytest.mark.parametrize(
    ("listeners", "place"),
    [
        (("udp:192.0.2.2:5070",), "192.0.2.2:5070"),
        (("tcp:192.0.2.2:5060", "udp:192.0.2.2:5070"), "192.0.2.2:5070"),
        (("tcp:192.0.2.2:5080",), "192.0.2.2:5080;transport=tcp"),
        (("udp:0.0.0.0:5060",), "10.0.0.2:5060"),
        (("udp:[2001:db8::2]:5060",), "[2001:db8::2]:5060"),
    ],
)
def test_udp_is_taken_before_tcp_and_a_wildcard_means_the_node_s_own_address(
    listeners: tuple[str, ...], place: str
) -> None:
    assert place_of(find_route(Members(*listeners))) == place


def test_a_wildcard_of_ipv6_is_written_in_brackets() -> None:
    assert place_of(find_route(Members("udp:[::]:5060", host="2001:db8::2"))) == "[2001:db8::2]:5060"


@pytest.mark.parametrize("listeners", [("tls:192.0.2.2:5061",), ("nonsense",), ("udp:192.0.2.2:port",)])
def test_a_node_without_a_listener_that_we_can_use_is_no_way(listeners: tuple[str, ...]) -> None:
    """Whatever a node says of itself, it does not raise."""
    assert find_route(Members(*listeners)) is None
