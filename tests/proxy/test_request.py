"""Validation (RFC 3261 §16.3), loops (RFC 5393 §4.2) and route information (§16.4)."""

from __future__ import annotations

import random

import pytest

from farm.frontend.token import Tokens
from farm.proxy.domains import Domains
from farm.proxy.request import RouteInformation, check_loop, check_request, read_route
from farm.sip.hop import FlowName, Hop, Leg
from farm.sip.message import Request
from farm.sip.status import SipError
from tests.support.element import (
    ALICE_TAG,
    CALL_ID,
    NODE,
    OTHER_NODE,
    Addresses,
    make_dialog_facts,
    make_tokens,
)
from tests.support.messages import make_request

DOMAINS = Domains(["example.com"], Addresses())
ALICE = f"Alice <sip:alice@example.com>;tag={ALICE_TAG}"
IN_DIALOG = "Bob <sip:bob@example.com>;tag=8321234356"
ALICE_FLOW = FlowName(NODE, Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060").short)
BOB_FLOW = FlowName(OTHER_NODE, Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.2:5060#7a").short)


@pytest.fixture
def tokens() -> Tokens:
    return make_tokens()


def read(request: Request, tokens: Tokens, source: str = "203.0.113.7") -> RouteInformation:
    request.source = Hop("UDP", source, 5060)
    return read_route(request, DOMAINS, tokens, NODE)


def make_route(tokens: Tokens, call_id: str = CALL_ID) -> str:
    """The user of our Record-Route in the dialog that alice opened; both phones are behind a NAT."""
    return tokens.make_route(call_id, make_dialog_facts(), Leg(ALICE_FLOW), Leg(BOB_FLOW))


# §16.3


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (make_request(uri="nobodyKnowsThisScheme:totallyopaquecontent"), 416, "unknown-scheme"),
        (make_request(uri="soap.beep://192.0.2.103:3002"), 416, "unknown-scheme"),
        (make_request(max_forwards=0), 483, "too-many-hops"),
        (make_request("OPTIONS", max_forwards=0), 483, "too-many-hops"),
        (make_request(max_forwards=300), 400, "bad-max-forwards"),
        (make_request(max_forwards="-1"), 400, "bad-max-forwards"),
        (make_request(headers=["Proxy-Require: nothingWeKnow"]), 420, "bad-extension"),
        (make_request(headers=["Proxy-Require: a b"]), 400, "bad-proxy-require"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_must_not_go_on_is_refused(request_: Request, status: int, reason: str) -> None:
    with pytest.raises(SipError) as refusal:
        check_request(request_)
    assert (refusal.value.status, refusal.value.reason) == (status, reason)


def test_the_refusal_names_the_extensions_that_we_lack() -> None:
    with pytest.raises(SipError) as refusal:
        check_request(make_request(headers=["Proxy-Require: foo, BAR", "Proxy-Require: foo"]))
    assert refusal.value.headers == (("unsupported", "foo, bar"),)


@pytest.mark.parametrize(
    "request_",
    [
        make_request(),
        make_request(uri="tel:+358-555-1234567;postd=pp22"),
        make_request(uri="sips:bob@foreign.example"),
        make_request("NEWMETHOD", max_forwards=1),
        make_request(max_forwards=None),
        make_request(headers=["Require: whatEndpointsMustKnow"]),  # not a proxy's to judge
    ],
    ids=lambda request: request.first_line,
)
def test_what_may_go_on_passes(request_: Request) -> None:
    check_request(request_)


# §16.3 step 4


def with_our_via(request: Request, tokens: Tokens) -> list[str]:
    """The Vias of a copy of ours that comes back over somebody else."""
    branch = tokens.make_branch(check_loop(request, tokens))
    return [
        "SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKother",
        f"SIP/2.0/UDP 192.0.2.1;branch={branch};rport",
        "SIP/2.0/UDP 192.0.2.101;branch=z9hG4bKfirst",
    ]


def test_a_request_that_comes_back_unchanged_has_looped(tokens: Tokens) -> None:
    vias = with_our_via(make_request(), tokens)
    with pytest.raises(SipError) as refusal:
        check_loop(make_request(via=vias, max_forwards=67), tokens)
    assert (refusal.value.status, refusal.value.reason) == (482, "loop")


@pytest.mark.parametrize(
    "change",
    [
        {"uri": "sip:bob@192.0.2.1"},
        {"headers": ["Route: <sip:192.0.2.1;lr>"]},
        {"cseq": 2},
        {"call_id": "another@192.0.2.101"},
        {"from_": "<sip:alice@example.com>;tag=another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_request_that_comes_back_to_go_elsewhere_is_a_spiral(tokens: Tokens, change: dict[str, object]) -> None:
    """Call forwarding brings a request back with another Request-URI: that is legal (§6, RFC 5393 §4.2)."""
    vias = with_our_via(make_request(), tokens)
    check_loop(make_request(via=vias, **change), tokens)  # type: ignore[arg-type]


def test_a_stranger_cannot_make_us_see_a_loop_without_having_seen_our_via(tokens: Tokens) -> None:
    stranger = Tokens(b"somebody else's secret", random.Random(1))
    check_loop(make_request(via=with_our_via(make_request(), stranger)), tokens)


# §16.4


def test_a_request_without_route_is_left_as_it_is(tokens: Tokens) -> None:
    route = read(make_request(), tokens)
    assert (route.uri_text, route.routes, route.edited, route.proven) == ("sip:bob@example.com", [], False, False)


def test_our_own_route_values_are_taken_away_and_others_stay(tokens: Tokens) -> None:
    """Two of ours come in a row where a call was forwarded by us to us."""
    headers = [
        "Route: <sip:192.0.2.1;lr>, <sip:192.0.2.1;transport=tcp;lr>",
        "Route: <sip:p1.foreign.example;lr>,<sip:192.0.2.1;lr>",
    ]
    route = read(make_request(headers=headers), tokens)
    assert route.routes == ["<sip:p1.foreign.example;lr>", "<sip:192.0.2.1;lr>"]
    assert (route.edited, route.proven) == (True, False)


def test_a_foreign_route_is_left_as_it_is(tokens: Tokens) -> None:
    route = read(make_request(headers=["Route: <sip:p1.foreign.example>"]), tokens)
    assert (route.routes, route.edited) == (["<sip:p1.foreign.example>"], False)


def test_a_route_with_our_token_proves_its_dialog(tokens: Tokens) -> None:
    ours = f"<sip:{make_route(tokens)}@192.0.2.1;lr>"
    assert read(make_request("BYE", to=IN_DIALOG, headers=[f"Route: {ours}"]), tokens).proven


def test_the_token_of_either_side_of_a_transport_change_proves_it(tokens: Tokens) -> None:
    ours = f"<sip:{make_route(tokens)}@192.0.2.1;transport=tcp;lr>"
    request = make_request("BYE", to=IN_DIALOG, headers=[f"Route: <sip:192.0.2.1;lr>, {ours}"])
    assert read(request, tokens).proven


def test_a_proven_request_takes_the_flow_of_the_side_that_it_goes_to(tokens: Tokens) -> None:
    """Even when it comes by a new connection: its From tag tells who sends it."""
    headers = [f"Route: <sip:{make_route(tokens)}@192.0.2.1;lr>"]
    from_alice = read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens)
    from_bob = read(make_request("BYE", from_=IN_DIALOG, to=ALICE, headers=headers), tokens)
    assert (from_alice.flow, from_bob.flow) == (BOB_FLOW, ALICE_FLOW)


def test_a_proven_request_whose_sides_can_be_reached_has_no_flow(tokens: Tokens) -> None:
    headers = [f"Route: <sip:{tokens.make_route(CALL_ID, make_dialog_facts(), Leg(), Leg())}@192.0.2.1;lr>"]
    for sender, to, uri in ((ALICE, IN_DIALOG, "sip:bob@192.0.2.201"), (IN_DIALOG, ALICE, "sip:alice@192.0.2.101")):
        route = read(make_request("BYE", uri, from_=sender, to=to, headers=headers), tokens)
        assert (route.proven, route.flow) == (True, None)


def test_a_proven_request_with_more_routes_goes_to_the_next_proxy(tokens: Tokens) -> None:
    """Who is behind that one's flow is not for us to reach."""
    headers = [f"Route: <sip:{make_route(tokens)}@192.0.2.1;lr>, <sip:p1.foreign.example;lr>"]
    route = read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens, "192.0.2.101")
    assert (route.proven, route.flow, route.routes) == (True, None, ["<sip:p1.foreign.example;lr>"])


@pytest.mark.parametrize(
    ("uri", "further"),
    [
        ("sip:victim@203.0.113.99", ""),
        ("sip:bob@192.0.2.201;maddr=203.0.113.99", ""),
        ("sip:bob@192.0.2.201", ", <sip:203.0.113.99;lr>"),
        ("sip:bob@192.0.2.201", ", <sip:192.0.2.201;maddr=203.0.113.99;lr>"),
        ("sip:+4930123@example.com", ""),
        ("tel:+4930123", ""),
    ],
)
def test_a_token_leads_nowhere_but_to_the_other_side(tokens: Tokens, uri: str, further: str) -> None:
    ours = tokens.make_route(CALL_ID, make_dialog_facts(), Leg(), Leg())
    headers = [f"Route: <sip:{ours}@192.0.2.1;lr>{further}"]
    for sender, to in ((ALICE, IN_DIALOG), (IN_DIALOG, ALICE)):
        route = read(make_request("BYE", uri, from_=sender, to=to, headers=headers), tokens)
        assert (route.proven, route.flow) == (False, None)


def test_a_flow_is_not_for_who_is_none_of_the_two(tokens: Tokens) -> None:
    headers = [f"Route: <sip:{make_route(tokens)}@192.0.2.1;lr>"]
    ceo = "<sip:ceo@example.com>;tag=1"
    for sender, to in ((ceo, ALICE), (ceo, IN_DIALOG), (ALICE, ceo), (IN_DIALOG, ceo), (ALICE, ALICE)):
        route = read(make_request("MESSAGE", from_=sender, to=to, headers=headers), tokens)
        assert (route.proven, route.flow) == (False, None)


def test_of_two_passages_of_ours_with_nobody_between_the_last_tells_the_flow(tokens: Tokens) -> None:
    first = tokens.make_route(CALL_ID, make_dialog_facts(), Leg(), Leg())
    headers = [f"Route: <sip:{first}@192.0.2.1;transport=tcp;lr>, <sip:{make_route(tokens)}@192.0.2.1;lr>"]
    route = read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens)
    assert (route.flow, route.routes) == (BOB_FLOW, [])


def test_of_two_tokens_one_of_which_opens_to_nothing_the_other_counts(tokens: Tokens) -> None:
    headers = [f"Route: <sip:{make_route(tokens)}@192.0.2.1;lr>, <sip:{'A' * 60}@192.0.2.1;lr>"]
    assert read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens).flow == BOB_FLOW


def test_a_second_token_elsewhere_is_the_next_proxy_s_to_open(tokens: Tokens) -> None:
    onward = f"<sip:{make_route(tokens)}@192.0.2.77;lr>"
    headers = [f"Route: <sip:{make_route(tokens)}@192.0.2.1;lr>, {onward}"]
    assert read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens).routes == [onward]


@pytest.mark.parametrize("user", ["", "AAAAAAAAAAAA", "A" * 60, "bob"])
def test_a_forged_route_proves_nothing(tokens: Tokens, user: str) -> None:
    forged = f"<sip:{user + '@' if user else ''}192.0.2.1;lr>"
    route = read(make_request("BYE", to=IN_DIALOG, headers=[f"Route: {forged}"]), tokens)
    assert (route.edited, route.proven, route.flow) == (True, False, None)


def test_the_token_of_another_call_proves_nothing(tokens: Tokens) -> None:
    ours = f"<sip:{make_route(tokens, 'another call')}@192.0.2.1;lr>"
    assert not read(make_request("BYE", to=IN_DIALOG, headers=[f"Route: {ours}"]), tokens).proven


def test_a_token_does_not_let_its_holder_open_another_dialog(tokens: Tokens) -> None:
    """A stranger who was called once has our Record-Route: an INVITE of theirs with it must still be judged anew."""
    ours = f"sip:{make_route(tokens)}@192.0.2.1;lr"
    for request in (
        make_request(headers=[f"Route: <{ours}>"]),
        make_request(uri=ours, headers=["Route: <sip:carol@foreign.example>"]),
    ):
        route = read(request, tokens)
        assert (route.proven, route.flow) == (False, None)


def test_what_a_strict_router_did_is_undone(tokens: Tokens) -> None:
    """§16.4: our Record-Route value is the Request-URI, the true target the last Route."""
    ours = f"sip:{make_route(tokens)}@192.0.2.1;lr"
    headers = ["Route: <sip:p1.foreign.example;lr>", "Route: <sip:bob@192.0.2.201>"]
    route = read(make_request("BYE", ours, to=IN_DIALOG, headers=headers), tokens, "192.0.2.101")
    assert (route.uri_text, str(route.uri)) == ("sip:bob@192.0.2.201", "sip:bob@192.0.2.201")
    assert route.routes == ["<sip:p1.foreign.example;lr>"]
    assert (route.edited, route.proven, route.flow) == (True, True, None)
    route = read(make_request("BYE", ours, to=IN_DIALOG, headers=headers[1:]), tokens)
    assert (route.uri_text, route.routes, route.flow) == ("sip:bob@192.0.2.201", [], BOB_FLOW)


def test_a_user_of_ours_with_lr_in_its_uri_is_no_strict_router_s_work(tokens: Tokens) -> None:
    route = read(make_request(uri="sip:bob@example.com;lr", headers=["Route: <sip:carol@192.0.2.203>"]), tokens)
    assert (route.uri_text, route.routes) == ("sip:bob@example.com;lr", ["<sip:carol@192.0.2.203>"])


def test_a_strict_request_that_lost_its_route_is_left_as_it_is(tokens: Tokens) -> None:
    ours = f"sip:{make_route(tokens)}@192.0.2.1;lr"
    assert read(make_request("BYE", ours, to=IN_DIALOG), tokens).uri_text == ours


def test_a_maddr_that_is_ours_is_taken_off_with_its_port_and_transport(tokens: Tokens) -> None:
    route = read(make_request(uri="sip:bob@example.com:5060;maddr=192.0.2.1;transport=udp;user=phone"), tokens)
    assert route.uri_text == "sip:bob@example.com;user=phone"
    assert str(route.uri) == "sip:bob@example.com;user=phone"


def test_a_maddr_elsewhere_stays(tokens: Tokens) -> None:
    uri = "sip:bob@example.com;maddr=203.0.113.9"
    assert read(make_request(uri=uri), tokens).uri_text == uri


@pytest.mark.parametrize("value", ["", "sip:", "<sip:p1.example", "<sip:192.0.2.1;lr>,", "<sip:192.0.2.1;lr>, <>"])
def test_a_route_that_cannot_be_read_is_a_400(tokens: Tokens, value: str) -> None:
    with pytest.raises(SipError) as refusal:
        read(make_request(headers=[f"Route: {value}"]), tokens)
    assert refusal.value.status == 400


def test_a_route_of_another_scheme_is_nobody_s_address_of_ours(tokens: Tokens) -> None:
    assert read(make_request(headers=["Route: <tel:+1>"]), tokens).routes == ["<tel:+1>"]


def test_a_token_of_ours_is_known_whichever_node_s_address_stands_beside_it(tokens: Tokens) -> None:
    headers = [f"Route: <sip:{make_route(tokens)}@192.0.2.77;lr>"]
    route = read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens)
    assert (route.flow, route.proven, route.routes) == (BOB_FLOW, True, [])
    foreign = make_tokens(b"another farm's secret")
    headers = [f"Route: <sip:{make_route(foreign)}@192.0.2.77;lr>"]
    route = read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens)
    assert (route.flow, route.proven, len(route.routes), route.unproven) == (None, False, 1, False)


@pytest.mark.parametrize(
    ("user", "unproven"),
    [("", False), ("bob", False), ("bob.of.the.department.of.very.long.names.indeed", False), ("A" * 60, True)],
)
def test_a_token_in_a_dialog_that_opens_to_nothing_is_told_from_none(tokens: Tokens, user: str, unproven: bool) -> None:
    headers = [f"Route: <sip:{user + '@' if user else ''}192.0.2.1;lr>"]
    route = read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens)
    assert (route.unproven, route.proven) == (unproven, False)


# Flows that our Path names (RFC 5626 §5.3)

PHONE = "sip:bob@10.0.0.7:5060"


def test_our_path_brings_back_the_flow_that_a_phone_registered_over(tokens: Tokens) -> None:
    headers = [f"Route: <sip:{tokens.make_flow(BOB_FLOW)}@192.0.2.1;lr;ob>"]
    route = read(make_request(uri=PHONE, headers=headers), tokens)
    assert (route.flow, route.proven, route.passport, route.routes) == (BOB_FLOW, True, None, [])
    headers = [f"Route: <sip:{tokens.make_flow(BOB_FLOW)}@192.0.2.77;lr;ob>"]
    assert read(make_request(uri=PHONE, headers=headers), tokens).flow == BOB_FLOW, "by the address of another node"


@pytest.mark.parametrize(
    ("flow", "source", "outgoing"),
    [
        (FlowName(NODE, Hop("TCP", "", 0, "#7a")), Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.1:5060#7a"), True),
        (FlowName(NODE, Hop("TCP", "", 0, "#7a")), Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.1:5060#7b"), False),
        (FlowName(OTHER_NODE, Hop("TCP", "", 0, "#7a")), Hop("TCP", "203.0.113.7", 9, "tcp:192.0.2.1:5060#7a"), False),
        (FlowName(OTHER_NODE, Hop("UDP", "203.0.113.7", 5060)), Hop("UDP", "203.0.113.7", 5060, "udp:x:5060"), True),
        (FlowName(OTHER_NODE, Hop("UDP", "203.0.113.7", 5061)), Hop("UDP", "203.0.113.7", 5060, "udp:x:5060"), False),
    ],
)
def test_what_comes_over_that_very_flow_is_on_its_way_out(
    tokens: Tokens, flow: FlowName, source: Hop, outgoing: bool
) -> None:
    request = make_request(headers=[f"Route: <sip:{tokens.make_flow(flow)}@192.0.2.1;lr;ob>"])
    request.source = source
    route = read_route(request, DOMAINS, tokens, NODE)
    assert (route.flow, route.proven) == ((None, False) if outgoing else (flow, True))
    assert route.routes == []


def test_a_flow_token_leads_to_the_phone_and_not_through_it(tokens: Tokens) -> None:
    headers = [f"Route: <sip:{tokens.make_flow(BOB_FLOW)}@192.0.2.1;lr>, <sip:p1.foreign.example;lr>"]
    route = read(make_request(uri=PHONE, headers=headers), tokens)
    assert (route.flow, route.proven, route.routes) == (None, False, ["<sip:p1.foreign.example;lr>"])


def test_a_flow_token_is_no_proof_of_a_dialog(tokens: Tokens) -> None:
    headers = [f"Route: <sip:{tokens.make_flow(BOB_FLOW)}@192.0.2.1;lr>"]
    route = read(make_request("BYE", to=IN_DIALOG, headers=headers), tokens)
    assert (route.flow, route.proven, route.unproven) == (None, False, True)


def test_a_flow_token_that_was_altered_or_is_another_farm_s_is_refused(tokens: Tokens) -> None:
    """RFC 5626 §5.3: 403; it is not followed, not even by who may go anywhere."""
    ours = tokens.make_flow(BOB_FLOW)
    altered = ours[:20] + ("A" if ours[20] != "A" else "B") + ours[21:]
    foreign = make_tokens(b"another farm's secret").make_flow(BOB_FLOW)
    for user in (altered, foreign):
        with pytest.raises(SipError) as refusal:
            read(make_request(uri=PHONE, headers=[f"Route: <sip:{user}@192.0.2.1;lr>"]), tokens)
        assert (refusal.value.status, refusal.value.reason) == (403, "token-refused")
