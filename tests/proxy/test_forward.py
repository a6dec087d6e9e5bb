"""The copy that leaves (RFC 3261 §16.6): what a proxy may touch, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from farm.frontend.token import RouteToken
from farm.proxy.admission import Caller
from farm.proxy.forward import Forwarder, Passage, next_hop_of, size_of, strip_via
from farm.proxy.request import read_route
from farm.sip.hop import FlowName, Hop, Leg
from farm.sip.message import Request, Response
from farm.sip.parser import parse
from tests.support.element import CALL_ID, NODE, OTHER_NODE, Element, without_via
from tests.support.messages import LIMITS, SDP, make_reply, make_request
from tests.support.recorders import RecordedFlow

VECTORS = Path(__file__).parent.parent / "vectors" / "rfc4475"
TARGET = "sip:bob@192.0.2.201"
IN_DIALOG = "Bob <sip:bob@example.com>;tag=8321234356"
BOB_FLOW = FlowName(OTHER_NODE, Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.2:5060#7a"))


@pytest.fixture
def element() -> Element:
    return Element()


def forward(
    element: Element,
    request: Request,
    *,
    path: tuple[str, ...] = (),
    out: RecordedFlow | None = None,
    inbound: RecordedFlow | None = None,
    realm: str = "example.com",
    breadth: int = 60,
    forwarder: Forwarder | None = None,
    target: str = TARGET,
    caller: Caller = Caller.OURS,
    callee: FlowName | None = None,
) -> Request:
    request.source = (inbound or element.alice).hop
    route = read_route(request, element.domains, element.tokens, NODE)
    passage = Passage(request, route, inbound or element.alice, "l" * 12, realm, caller)
    out = out or element.flow_to(Hop("UDP", "192.0.2.201", 5060))
    copy, branch = (forwarder or element.forwarder).make_copy(passage, target, path, breadth, out, Leg(callee))
    assert branch in (copy.find("via") or "")
    parsed = parse(copy.write(), LIMITS)
    assert isinstance(parsed, Request)
    return parsed


def record_routes(request: Request) -> list[str]:
    return request.all("record-route")


def without_token(value: str) -> str:
    """A Record-Route or Path of ours; its user is another each time."""
    head, _, tail = value.partition("@")
    assert head.startswith("<sip:")
    assert len(head) > 40
    return f"<sip:TOKEN@{tail}"


def open_token(element: Element, value: str) -> RouteToken:
    """What a Record-Route or Path of ours will tell us when it comes back."""
    token = element.tokens.open_route(value.removeprefix("<sip:").partition("@")[0], CALL_ID)
    assert token is not None
    return token


# Untouched


def test_a_plain_invite_changes_where_a_proxy_must_change_it(element: Element) -> None:
    request = make_request(body=SDP, headers=["X-Odd:   keeps  its   spaces", "s: in short form"])
    copy = forward(element, request)
    lines = copy.write().decode().split("\r\n\r\n")[0].split("\r\n")
    assert lines[0] == "INVITE sip:bob@192.0.2.201 SIP/2.0"
    assert lines[1].startswith("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK")
    assert lines[1].endswith(";rport")
    assert without_token(lines[2].removeprefix("Record-Route: ")) == "<sip:TOKEN@192.0.2.1;lr>"
    assert lines[3:] == [
        "Via: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf9",
        "Max-Forwards: 69",
        "From: Alice <sip:alice@example.com>;tag=9fxced76sl",
        "To: Bob <sip:bob@example.com>",
        f"Call-ID: {CALL_ID}",
        "CSeq: 1 INVITE",
        "Contact: <sip:alice@192.0.2.101:5060>",
        "X-Odd:   keeps  its   spaces",
        "s: in short form",
        f"Content-Length: {len(SDP)}",
        "Max-Breadth: 60",
    ]
    assert copy.body == SDP


@pytest.mark.parametrize("name", ["wsinv", "intmeth", "esc01", "lwsdisp", "longreq", "semiuri", "mpart01"])
def test_a_torturous_message_leaves_with_every_other_line_as_it_came(element: Element, name: str) -> None:
    """RFC 4475 §3.1.1: odd spacing, folds, escapes, compact names and foreign bytes are not ours to mend."""
    request = parse((VECTORS / f"{name}.dat").read_bytes(), LIMITS)
    assert isinstance(request, Request)
    edited = {"via", "max-forwards", "max-breadth", "route", "record-route", "path"}
    kept = [header[2] for header in request.headers if header[0] not in edited]
    copy = forward(element, request)
    assert [header[2] for header in copy.headers if header[0] not in edited] == kept
    assert copy.all("via")[1:] == request.all("via")
    assert copy.body == request.body
    if name != "mpart01":  # whose Route is a strict router's
        assert copy.all("route") == request.all("route")


def test_bytes_that_are_no_utf8_survive(element: Element) -> None:
    request = make_request(headers=["Subject: caf\udce9"])
    assert b"Subject: caf\xe9\r\n" in forward(element, request).write()


# Max-Forwards and Max-Breadth


def test_max_forwards_is_counted_down_in_place_and_added_where_it_lacks(element: Element) -> None:
    assert forward(element, make_request(max_forwards=1)).all("max-forwards") == ["0"]
    assert forward(element, make_request(max_forwards="0070")).all("max-forwards") == ["69"]
    assert forward(element, make_request(max_forwards=None)).all("max-forwards") == ["70"]


def test_the_breadth_given_replaces_the_breadth_that_came(element: Element) -> None:
    copy = forward(element, make_request(headers=["Max-Breadth: 60"]), breadth=30)
    assert copy.all("max-breadth") == ["30"]


# Record-Route


@pytest.mark.parametrize("method", ["INVITE", "SUBSCRIBE", "REFER", "NOTIFY"])
def test_what_can_open_a_dialog_is_record_routed(element: Element, method: str) -> None:
    assert len(record_routes(forward(element, make_request(method)))) == 1


@pytest.mark.parametrize("method", ["MESSAGE", "OPTIONS", "BYE", "PUBLISH", "INFO"])
def test_what_opens_no_dialog_is_not(element: Element, method: str) -> None:
    assert record_routes(forward(element, make_request(method))) == []


def test_what_is_inside_a_dialog_is_not_record_routed_again(element: Element) -> None:
    assert record_routes(forward(element, make_request(to=IN_DIALOG))) == []


def test_record_routing_can_be_switched_off() -> None:
    assert record_routes(forward(Element(record_route=False), make_request())) == []


def test_ours_stands_before_those_of_earlier_proxies(element: Element) -> None:
    copy = forward(element, make_request(headers=["Record-Route: <sip:p1.foreign.example;lr>"]))
    assert record_routes(copy)[1:] == ["<sip:p1.foreign.example;lr>"]


@pytest.mark.parametrize(
    ("transport", "expected"),
    [
        ("UDP", "<sip:TOKEN@192.0.2.1;lr>"),
        ("TCP", "<sip:TOKEN@192.0.2.1;transport=tcp;lr>"),
        ("TLS", "<sip:TOKEN@192.0.2.1:5061;transport=tls;lr>"),
        ("WS", "<sip:TOKEN@192.0.2.1:80;transport=ws;lr>"),
        ("WSS", "<sip:TOKEN@192.0.2.1:443;transport=ws;lr>"),
    ],
)
def test_one_value_is_for_the_side_that_it_goes_to(element: Element, transport: str, expected: str) -> None:
    out = element.flow_to(Hop(transport, "192.0.2.201", 5060))
    (recorded,) = record_routes(forward(element, make_request(), out=out))
    assert without_token(recorded) == expected


def test_a_change_of_listener_shows_each_side_the_one_it_sees(element: Element) -> None:
    out = RecordedFlow(element.script.record, "inside", Hop("UDP", "10.0.0.5", 5060), local_name="udp:10.0.0.1:5060")
    copy = forward(element, make_request(), out=out)
    (recorded,) = record_routes(copy)
    assert without_token(recorded) == "<sip:TOKEN@10.0.0.1;lr>"
    assert (copy.find("via") or "").startswith("SIP/2.0/UDP 10.0.0.1;")
    answer = make_reply(via=["SIP/2.0/UDP 192.0.2.101"], headers=[f"Record-Route: {recorded}"])
    element.forwarder.face_caller(answer, element.alice)
    assert answer.all("record-route") == [recorded.replace("10.0.0.1", "192.0.2.1")]


@pytest.mark.parametrize(
    ("target", "routes", "scheme"),
    [
        ("sips:bob@192.0.2.201", [], "sips"),
        ("sip:bob@192.0.2.201", [], "sip"),
        ("sip:bob@192.0.2.201", ["<sips:p1.foreign.example;lr>"], "sips"),
        ("sip:bob@192.0.2.201", ["<sip:p1.foreign.example;lr>", "<sips:p2.foreign.example;lr>"], "sip"),
        ("sip:bob@192.0.2.201", ["<sips:strict.foreign.example>"], "sips"),
    ],
)
def test_who_goes_on_securely_is_record_routed_securely(
    element: Element, target: str, routes: list[str], scheme: str
) -> None:
    """§16.6 step 4: when Request-URI or topmost Route are sips."""
    out = element.flow_to(Hop("TLS", "192.0.2.201", 5061))
    request = make_request(uri="sips:bob@example.com", headers=[f"Route: {route}" for route in routes])
    (recorded,) = record_routes(forward(element, request, out=out, target=target))
    assert recorded.startswith(f"<{scheme}:")
    assert recorded.endswith("@192.0.2.1:5061;lr>" if scheme == "sips" else ";transport=tls;lr>")


# Answers, for the caller's side (§16.7 step 8)


def answer_with(*recorded: str, via: Sequence[str] = ("SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK1",)) -> Response:
    return make_reply(via=list(via), headers=[f"Record-Route: {value}" for value in recorded])


def test_an_answer_shows_the_caller_his_own_side(element: Element) -> None:
    out = element.flow_to(Hop("TCP", "192.0.2.201", 5060))
    (ours,) = record_routes(forward(element, make_request(), out=out))
    answer = answer_with("<sip:p2.foreign.example;lr>", ours, "<sip:p1.foreign.example;lr>")
    element.forwarder.face_caller(answer, element.alice)
    rewritten = ours.replace(";transport=tcp", "")
    assert answer.all("record-route") == ["<sip:p2.foreign.example;lr>", rewritten, "<sip:p1.foreign.example;lr>"]
    element.forwarder.face_caller(answer, element.alice)
    assert answer.all("record-route")[1] == rewritten, "and the same again"


def test_values_in_one_line_are_found_and_stay_in_order(element: Element) -> None:
    out = element.flow_to(Hop("TCP", "192.0.2.201", 5060))
    (ours,) = record_routes(forward(element, make_request(), out=out))
    answer = answer_with(f"<sip:p2.foreign.example;lr>, {ours},<sip:p1.foreign.example;lr>")
    before = [header for header in answer.headers if header[0] != "record-route"]
    element.forwarder.face_caller(answer, element.alice)
    expected = ["<sip:p2.foreign.example;lr>", ours.replace(";transport=tcp", ""), "<sip:p1.foreign.example;lr>"]
    assert answer.all("record-route") == expected
    assert [header for header in answer.headers if header[0] != "record-route"] == before


def test_a_call_that_came_by_us_twice_is_shown_each_side_by_its_own_passage(element: Element) -> None:
    out = element.flow_to(Hop("TCP", "192.0.2.201", 5060))
    first = forward(element, make_request(), out=out)
    (lower,) = record_routes(first)
    (upper,) = record_routes(forward(element, make_request(), out=out))
    again = answer_with(upper, lower, via=first.all("via"))
    element.forwarder.face_caller(again, element.alice)
    assert again.all("record-route") == [upper.replace(";transport=tcp", ""), lower], "the second time"
    element.forwarder.face_caller(last := answer_with(upper, lower), element.alice)
    assert last.all("record-route") == [upper, lower.replace(";transport=tcp", "")], "the first time"


def test_a_call_that_came_by_another_node_first_is_shown_each_side_by_its_own_passage(element: Element) -> None:
    out = element.flow_to(Hop("TCP", "192.0.2.201", 5060))
    first = forward(element, make_request(), out=out)
    upper, lower = record_routes(first)[0], record_routes(first)[0].replace("@192.0.2.1", "@192.0.2.77")
    again = answer_with(upper, lower, via=first.all("via"))
    element.forwarder.face_caller(again, element.alice)
    assert again.all("record-route") == [upper.replace(";transport=tcp", ""), lower]


def test_a_value_of_a_node_that_is_gone_is_known_by_its_token(element: Element) -> None:
    out = element.flow_to(Hop("TCP", "192.0.2.201", 5060))
    (ours,) = record_routes(forward(element, make_request(), out=out))
    answer = answer_with(ours.replace("@192.0.2.1", "@192.0.2.77"))
    element.forwarder.face_caller(answer, element.alice)
    assert answer.all("record-route") == [ours.replace(";transport=tcp", "")]


def test_a_secure_value_is_not_shown_to_a_side_that_is_not(element: Element) -> None:
    out = element.flow_to(Hop("TLS", "192.0.2.201", 5061))
    (ours,) = record_routes(forward(element, make_request(), out=out, target="sips:bob@192.0.2.201"))
    token = ours.partition(":")[2].partition("@")[0]
    for flow, expected in (
        (element.alice, f"<sip:{token}@192.0.2.1;lr>"),
        (element.flow_to(Hop("WSS", "192.0.2.101", 9)), f"<sips:{token}@192.0.2.1:443;transport=ws;lr>"),
    ):
        element.forwarder.face_caller(answer := answer_with(ours), flow)
        assert answer.all("record-route") == [expected]


@pytest.mark.parametrize(
    "recorded",
    [
        "<sip:p1.foreign.example;lr>",
        "<sip:192.0.2.1;transport=tcp;lr>",
        "<tel:+1>",
        "<broken",
        f"<sip:{'A' * 60}@192.0.2.1>",
    ],
)
def test_what_is_not_ours_in_an_answer_stays(element: Element, recorded: str) -> None:
    answer = answer_with(recorded)
    element.forwarder.face_caller(answer, element.alice)
    assert answer.all("record-route") == [recorded]


def test_our_record_route_brings_the_dialog_s_requests_back_as_proven(element: Element) -> None:
    recorded = record_routes(forward(element, make_request()))
    bye = make_request("BYE", TARGET, to=IN_DIALOG, headers=[f"Route: {recorded[0]}"])
    route = read_route(bye, element.domains, element.tokens, NODE)
    assert (route.proven, route.routes) == (True, [])


@pytest.mark.parametrize(
    ("source", "contact", "callee"),
    [
        (Hop("UDP", "192.0.2.101", 5060), "<sip:alice@192.0.2.101:5060>", None),
        (Hop("UDP", "192.0.2.101", 5060), "<sip:alice@192.0.2.101:5060>", BOB_FLOW),
        (Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060"), "<sip:alice@192.0.2.101:5060>", None),
        (Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060"), None, BOB_FLOW),
        (Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060"), "<sip:alice", BOB_FLOW),  # not ours to judge
        (Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060"), "*", BOB_FLOW),
        (Hop("TCP", "192.0.2.101", 40000, "tcp:192.0.2.1:5060"), "<sip:alice@192.0.2.101:5060>", BOB_FLOW),
    ],
)
def test_our_record_route_keeps_the_flows_that_the_sides_can_only_be_reached_by(
    element: Element, source: Hop, contact: str | None, callee: FlowName | None
) -> None:
    readable = contact is not None and contact.endswith(">")
    caller = FlowName(NODE, source.short) if readable and source.port != 5060 else None
    request = make_request(contact=contact)
    (recorded, *_) = record_routes(forward(element, request, inbound=element.flow_to(source), callee=callee))
    token = open_token(element, recorded)
    assert token.caller == caller
    assert token.callee == (None if callee is None else FlowName(OTHER_NODE, callee.hop.short))


def test_a_caller_behind_another_proxy_is_that_proxy_s_to_reach(element: Element) -> None:
    vias = ["SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK2", "SIP/2.0/UDP 10.0.0.7;branch=z9hG4bK1"]
    request = make_request(via=vias, contact="<sip:alice@10.0.0.7>")
    copy = forward(element, request, inbound=element.flow_to(Hop("UDP", "198.51.100.9", 5060)))
    assert open_token(element, record_routes(copy)[0]).caller is None


def open_path(element: Element, value: str) -> FlowName | None:
    return element.tokens.open_flow(value.removeprefix("<sip:").partition("@")[0])


def test_a_register_for_another_domain_gets_our_path_when_its_sender_knows_path(element: Element) -> None:
    """RFC 3327 §5.1; by it the phone is reached through its flow."""
    source = Hop("TCP", "192.0.2.101", 40000, "tcp:192.0.2.1:5060#7a")
    for supported in ("Supported: path", "Supported: gruu, PATH", "k: path"):
        headers = [supported, "Path: <sip:edge.example;lr>"]
        request = make_request("REGISTER", "sip:foreign.example", headers=headers)
        copy = forward(element, request, inbound=element.flow_to(source))
        ours, theirs = copy.all("path")
        assert (without_token(ours), theirs) == ("<sip:TOKEN@192.0.2.1;lr>", "<sip:edge.example;lr>")
        assert (open_path(element, ours), record_routes(copy)) == (FlowName(NODE, source.short), [])


def test_a_path_says_that_outbound_is_done_where_the_phone_asks_and_we_are_its_first_hop(element: Element) -> None:
    """RFC 5626 §5.1: the first node MUST write "ob", any other MUST NOT."""
    contact = '<sip:alice@192.0.2.101>;reg-id=1;+sip.instance="<urn:uuid:1>"'
    first = ["SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1"]
    for supported, sent, via, expected in (
        ("path, outbound", contact, first, "<sip:TOKEN@192.0.2.1;lr;ob>"),
        ("path", contact, first, "<sip:TOKEN@192.0.2.1;lr>"),
        ("path, outbound", "<sip:alice@192.0.2.101>", first, "<sip:TOKEN@192.0.2.1;lr>"),
    ):
        request = make_request(
            "REGISTER", "sip:foreign.example", headers=[f"Supported: {supported}"], contact=sent, via=via
        )
        assert without_token(forward(element, request).find("path") or "") == expected
    request = make_request(
        "REGISTER", "sip:foreign.example", headers=["Supported: path, outbound"], contact=contact, via=[*first, *first]
    )
    assert forward(element, request).all("path") == ["<sip:192.0.2.1;lr>"], "it is the other proxy's to reach"


def test_a_path_of_a_phone_that_can_be_reached_where_it_is_needs_no_node(element: Element) -> None:
    copy = forward(element, make_request("REGISTER", "sip:foreign.example", headers=["Supported: path"]))
    assert open_path(element, copy.find("path") or "") == FlowName(NODE, Hop("UDP", "192.0.2.101", 5060))


def test_a_register_of_a_phone_that_knows_no_path_goes_on_without(element: Element) -> None:
    """§5.3: the registrar may refuse a Path that its user agent does not know of."""
    for headers in ([], ["Supported: gruu"], ["Supported:"]):
        assert forward(element, make_request("REGISTER", "sip:foreign.example", headers=headers)).all("path") == []


# Asserted identities (RFC 3325)


ASSERTED = ['"Alice" <sip:alice@example.com>', "<tel:+4930123>"]


@pytest.mark.parametrize("caller", list(Caller))
def test_an_identity_that_nobody_trusted_asserts_is_taken_off(element: Element, caller: Caller) -> None:
    """§5: phones and strangers would call as whom they like."""
    request = make_request(headers=[f"P-Asserted-Identity: {value}" for value in ASSERTED])
    copy = forward(element, request, caller=caller)
    assert copy.all("p-asserted-identity") == (ASSERTED if caller is Caller.TRUSTED else [])


@pytest.mark.parametrize(
    ("privacy", "kept"),
    [
        ("none", True),
        ("header;user", True),
        ("identity", True),
        ("id", False),
        ("critical;id", False),
        ("header; id ;critical", False),
        ("ID", False),
    ],
)
def test_an_identity_whose_owner_wants_privacy_goes_no_further(element: Element, privacy: str, kept: bool) -> None:
    """§7, §9.3."""
    headers = [f"P-Asserted-Identity: {ASSERTED[0]}", f"Privacy: {privacy}"]
    copy = forward(element, make_request(headers=headers), caller=Caller.TRUSTED)
    assert copy.has("p-asserted-identity") == kept
    assert copy.all("privacy") == [privacy]


# Credentials


@pytest.mark.parametrize("spelling", ['realm="example.com"', 'REALM = "example.com"', 'realm\t=  "example.com"'])
def test_the_credentials_that_were_meant_for_us_end_here(element: Element, spelling: str) -> None:
    headers = [f'Proxy-Authorization: Digest username="alice", {spelling}, nonce="n"']
    assert forward(element, make_request(headers=headers)).all("proxy-authorization") == []


def test_credentials_for_others_travel_on(element: Element) -> None:
    """§20.28, and Authorization is the callee's."""
    ours = 'Digest username="alice", realm="example.com"'
    others = ['Digest username="alice", realm="foreign.example"', 'Digest nonce="realm", xrealm="example.com"']
    headers = [*[f"Proxy-Authorization: {value}" for value in [others[0], ours, others[1]]], f"Authorization: {ours}"]
    copy = forward(element, make_request(headers=headers))
    assert copy.all("proxy-authorization") == others
    assert copy.all("authorization") == [ours]


def test_credentials_that_nobody_checked_travel_on(element: Element) -> None:
    headers = ['Proxy-Authorization: Digest username="alice", realm="example.com"']
    assert len(forward(element, make_request(headers=headers), realm="").all("proxy-authorization")) == 1


def test_a_body_s_length_is_told_to_a_stream(element: Element) -> None:
    request = make_request(body=SDP)
    request.headers = [header for header in request.headers if header[0] != "content-length"]
    copy = forward(element, request, out=element.flow_to(Hop("TCP", "192.0.2.201", 5060)))
    assert copy.find("content-length") == str(len(SDP))


# Route and Path


def test_an_untouched_route_keeps_its_lines_and_its_place(element: Element) -> None:
    headers = ["Route: <sip:p1.foreign.example;lr>,  <sip:p2.foreign.example;lr>", "Subject: x"]
    copy = forward(element, make_request(headers=headers), target="sip:carol@foreign.example")
    assert copy.first_line == "INVITE sip:carol@foreign.example SIP/2.0"
    assert "Route: <sip:p1.foreign.example;lr>,  <sip:p2.foreign.example;lr>" in without_via(copy)


def test_our_route_is_gone_and_the_rest_remains(element: Element) -> None:
    headers = ["Route: <sip:192.0.2.1;lr>, <sip:p1.foreign.example;lr>"]
    assert forward(element, make_request(headers=headers)).all("route") == ["<sip:p1.foreign.example;lr>"]
    assert forward(element, make_request(headers=["Route: <sip:192.0.2.1;lr>"])).all("route") == []


def test_a_path_goes_before_the_route(element: Element) -> None:
    """RFC 3327 §5.3: the stored Path is the Route preset."""
    path = ("<sip:edge1.example;lr>", "<sip:edge2.example;lr>")
    copy = forward(element, make_request(), path=path)
    assert (copy.uri_text, copy.all("route")) == (TARGET, list(path))


def test_a_strict_router_gets_its_own_uri_and_the_target_last(element: Element) -> None:
    """§16.6 step 6."""
    headers = ["Route: <sip:strict.example;x=y>, <sip:p2.foreign.example;lr>"]
    copy = forward(element, make_request(headers=headers), target="sip:carol@foreign.example")
    assert copy.uri_text == "sip:strict.example;x=y"
    assert copy.all("route") == ["<sip:p2.foreign.example;lr>", "<sip:carol@foreign.example>"]


def test_a_strict_router_behind_us_gets_the_same(element: Element) -> None:
    headers = ["Route: <sip:192.0.2.1;lr>, <sip:strict.example>"]
    copy = forward(element, make_request(headers=headers), target="sip:carol@foreign.example")
    assert (copy.uri_text, copy.all("route")) == ("sip:strict.example", ["<sip:carol@foreign.example>"])


def test_a_strict_router_in_a_path_gets_the_same(element: Element) -> None:
    copy = forward(element, make_request(), path=("<sip:edge.example>",))
    assert (copy.uri_text, copy.all("route")) == ("sip:edge.example", [f"<{TARGET}>"])


@pytest.mark.parametrize(
    ("routes", "path", "expected"),
    [
        ([], (), TARGET),
        (["<sip:p1.example;lr>"], (), "sip:p1.example;lr"),
        (["<sip:strict.example>"], (), "sip:strict.example"),
        (["<sip:p1.example;lr>"], ("<sip:edge.example;lr>",), "sip:edge.example;lr"),
    ],
)
def test_the_next_hop_is_the_first_route_or_else_the_target(
    element: Element, routes: list[str], path: tuple[str, ...], expected: str
) -> None:
    request = make_request(headers=[f"Route: {value}" for value in routes])
    assert next_hop_of(read_route(request, element.domains, element.tokens, NODE), TARGET, path) == expected


def test_an_answer_that_came_over_a_torturous_path_loses_our_via_alone() -> None:
    response = parse((VECTORS / "unreason.dat").read_bytes(), LIMITS)
    assert isinstance(response, Response)
    before = list(response.headers)
    strip_via(response)
    assert response.headers == [header for header in before if header[0] != "via"]


# Via and size


def test_every_copy_has_a_branch_of_its_own(element: Element) -> None:
    branches = {forward(element, make_request()).find("via") for _ in range(20)}
    assert len(branches) == 20


@pytest.mark.parametrize(
    "vias",
    [
        ["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours", "SIP/2.0/UDP 192.0.2.101;branch=z9hG4bKtheirs"],
        ["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours, SIP/2.0/UDP 192.0.2.101;branch=z9hG4bKtheirs"],
    ],
)
def test_our_via_is_taken_off_an_answer_and_no_other(vias: list[str]) -> None:
    response = make_reply(via=vias)
    strip_via(response)
    assert response.all("via") == ["SIP/2.0/UDP 192.0.2.101;branch=z9hG4bKtheirs"]


def test_the_via_that_a_copy_has_more_is_gone_from_its_answer(element: Element) -> None:
    request = make_request()
    copy = forward(element, request)
    response = make_reply(via=copy.all("via"))
    strip_via(response)
    assert response.all("via") == request.all("via")


@pytest.mark.parametrize("body", [b"", SDP, b"x" * 3000])
def test_the_size_told_to_the_locator_is_never_too_small(element: Element, body: bytes) -> None:
    """§18.1.1: 1300 bytes are those of what leaves; flows in the Record-Route make it somewhat more than we say."""
    request = make_request(body=body)
    actual = len(forward(element, request).write())
    assert actual <= size_of(request) <= actual + 120


def test_flows_in_the_record_route_take_no_more_than_what_1300_leaves_of_1500(element: Element) -> None:
    """§18.1.1: who is behind a NAT is not known when the size is told."""
    alice = element.flow_to(Hop("UDP", "198.51.100.109", 20000, "udp:192.0.2.1:5060"))
    bob = FlowName(NODE, Hop("UDP", "198.51.100.110", 20001, "udp:192.0.2.1:5060"))
    request = make_request(body=SDP, headers=["Max-Breadth: 60"])
    actual = len(forward(element, request, inbound=alice, callee=bob).write())
    assert actual <= size_of(request) + 100
