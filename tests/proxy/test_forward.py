"""The copy that leaves (RFC 3261 §16.6): what a proxy may touch, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.frontend.token import RouteToken
from farm.proxy.admission import Caller
from farm.proxy.forward import Forwarder, Passage, next_hop_of, size_of, strip_via
from farm.proxy.request import read_route
from farm.sip.hop import Hop
from farm.sip.message import Request, Response
from farm.sip.parser import parse
from tests.support.element import CALL_ID, Element, without_via
from tests.support.messages import LIMITS, SDP, make_reply, make_request
from tests.support.recorders import RecordedFlow

VECTORS = Path(__file__).parent.parent / "vectors" / "rfc4475"
TARGET = "sip:bob@192.0.2.201"
IN_DIALOG = "Bob <sip:bob@example.com>;tag=8321234356"
BOB_FLOW = Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.1:5060")


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
    callee: Hop | None = None,
) -> Request:
    request.source = (inbound or element.alice).hop
    route = read_route(request, element.domains, element.tokens)
    passage = Passage(request, route, inbound or element.alice, "l" * 12, realm, caller)
    out = out or element.flow_to(Hop("UDP", "192.0.2.201", 5060))
    copy, branch = (forwarder or element.forwarder).make_copy(passage, target, path, breadth, out, callee)
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


def test_a_change_of_transport_is_recorded_on_both_sides(element: Element) -> None:
    """RFC 5658 §5: the callee sees the TCP side first, the caller, who reads the list backwards, the UDP side."""
    out = element.flow_to(Hop("TCP", "192.0.2.201", 5060))
    recorded = record_routes(forward(element, make_request(), out=out))
    assert [without_token(value) for value in recorded] == [
        "<sip:TOKEN@192.0.2.1;transport=tcp;lr>",
        "<sip:TOKEN@192.0.2.1;lr>",
    ]
    assert len({value.partition("@")[0] for value in recorded}) == 1, "one token, whichever comes back"


def test_a_change_of_listener_is_recorded_on_both_sides(element: Element) -> None:
    out = RecordedFlow(element.script.record, "inside", Hop("UDP", "10.0.0.5", 5060), local_name="udp:10.0.0.1:5060")
    copy = forward(element, make_request(), out=out)
    recorded = [without_token(value) for value in record_routes(copy)]
    assert recorded == ["<sip:TOKEN@10.0.0.1;lr>", "<sip:TOKEN@192.0.2.1;lr>"]
    assert (copy.find("via") or "").startswith("SIP/2.0/UDP 10.0.0.1;")


def test_our_record_route_brings_the_dialog_s_requests_back_as_proven(element: Element) -> None:
    recorded = record_routes(forward(element, make_request()))
    bye = make_request("BYE", TARGET, to=IN_DIALOG, headers=[f"Route: {recorded[0]}"])
    route = read_route(bye, element.domains, element.tokens)
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
    element: Element, source: Hop, contact: str | None, callee: Hop | None
) -> None:
    readable = contact is not None and contact.endswith(">")
    caller = source if readable and source.port != 5060 else None
    request = make_request(contact=contact)
    (recorded, *_) = record_routes(forward(element, request, inbound=element.flow_to(source), callee=callee))
    token = open_token(element, recorded)
    assert (token.caller, token.callee) == (caller, callee)


def test_a_caller_behind_another_proxy_is_that_proxy_s_to_reach(element: Element) -> None:
    vias = ["SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK2", "SIP/2.0/UDP 10.0.0.7;branch=z9hG4bK1"]
    request = make_request(via=vias, contact="<sip:alice@10.0.0.7>")
    copy = forward(element, request, inbound=element.flow_to(Hop("UDP", "198.51.100.9", 5060)))
    assert open_token(element, record_routes(copy)[0]).caller is None


def test_a_register_for_another_domain_gets_our_path_when_its_sender_knows_path(element: Element) -> None:
    """RFC 3327 §5.1; by it the phone is reached through its flow."""
    source = Hop("TCP", "192.0.2.101", 40000, "tcp:192.0.2.1:5060")
    for supported in ("Supported: path", "Supported: gruu, PATH", "k: path"):
        headers = [supported, "Path: <sip:edge.example;lr>"]
        request = make_request("REGISTER", "sip:foreign.example", headers=headers)
        copy = forward(element, request, inbound=element.flow_to(source))
        ours, theirs = copy.all("path")
        assert (without_token(ours), theirs) == ("<sip:TOKEN@192.0.2.1;lr>", "<sip:edge.example;lr>")
        assert (open_token(element, ours).caller, record_routes(copy)) == (source, [])


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
    assert next_hop_of(read_route(request, element.domains, element.tokens), TARGET, path) == expected


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
    """§18.1.1: 1300 bytes are those of what leaves; with two Record-Routes it may be somewhat more than we say."""
    request = make_request(body=body)
    actual = len(forward(element, request).write())
    assert actual <= size_of(request) <= actual + 120


def test_flows_in_the_record_route_take_no_more_than_what_1300_leaves_of_1500(element: Element) -> None:
    """§18.1.1: who is behind a NAT is not known when the size is told."""
    alice = element.flow_to(Hop("UDP", "198.51.100.109", 20000, "udp:192.0.2.1:5060"))
    bob = Hop("UDP", "198.51.100.110", 20001, "udp:192.0.2.1:5060")
    request = make_request(body=SDP, headers=["Max-Breadth: 60"])
    actual = len(forward(element, request, inbound=alice, callee=bob).write())
    assert actual <= size_of(request) + 100
