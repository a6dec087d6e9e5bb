"""What has no transaction: the ACK of a 2xx (RFC 3261 §16.11), and answers that nobody waits for (RFC 6026 §8.2)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from farm.proxy.reach import Contact
from farm.proxy.stateless import Whose, hop_of_response
from farm.sip.hop import FlowName, Hop
from farm.sip.message import Request, make_response
from farm.sip.parser import parse
from farm.sip.status import SipError
from farm.sip.via import parse_via
from tests.support.element import NODE, OTHER_NODE, Bound, Element
from tests.support.messages import LIMITS, make_reply, make_request
from tests.support.recorders import Promise

TAGGED = "Bob <sip:bob@example.com>;tag=there"


@pytest.fixture
def element() -> Element:
    return Element()


def make_ack(element: Element, uri: str = "sip:bob@192.0.2.201", *, proven: bool = True) -> Request:
    user = f"{element.make_route()}@" if proven else ""
    via = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bKack"
    return make_request("ACK", uri, via=via, to=TAGGED, headers=[f"Route: <sip:{user}192.0.2.1;lr>"])


# ACK


def test_the_ack_of_an_answer_follows_the_dialog_s_route(element: Element) -> None:
    element.inject(make_ack(element))
    ack = element.script.expect_request("bob: ACK sip:bob@192.0.2.201")
    assert ack.all("route") == []
    assert ack.all("record-route") == []
    assert ack.find("max-forwards") == "69"
    hops = [via.partition(";")[0] for via in ack.all("via")]
    assert hops == ["SIP/2.0/UDP 192.0.2.1", "SIP/2.0/UDP 192.0.2.101:5060"]
    assert ack.top_via is not None
    assert element.tokens.is_branch(ack.top_via.branch, ack.all("via")[1])
    element.script.expect_end()


def test_an_ack_on_the_route_of_others_goes_there(element: Element) -> None:
    request = make_ack(element)
    request.headers.append(("route", "<sip:203.0.113.7;lr>", "Route: <sip:203.0.113.7;lr>"))
    element.inject(request)
    assert element.script.expect_request("stranger: ACK sip:bob@192.0.2.201").all("route") == ["<sip:203.0.113.7;lr>"]


def test_an_ack_of_a_stranger_reaches_our_users_and_nobody_else(element: Element) -> None:
    element.bind("sip:bob@example.com", "sip:bob@192.0.2.202")
    element.inject(make_ack(element, "sip:bob@example.com", proven=False))
    element.script.expect_wire("desk: ACK sip:bob@192.0.2.202")
    element.inject(make_ack(element, "sip:carol@foreign.example", proven=False))
    element.inject(make_ack(element, "sip:nobody@example.com", proven=False))
    element.script.expect_end()
    assert element.rejections.reasons == ["relay-refused", "not-registered"]


def test_an_ack_to_a_registered_user_takes_the_flow_of_their_phone(element: Element) -> None:
    flow = Hop("TCP", "192.0.2.203", 40000, "tcp:192.0.2.1:5060")
    element.bind("sip:bob@example.com", Bound("sip:bob@10.1.1.1", received=flow))
    element.inject(make_ack(element, "sip:bob@example.com", proven=False))
    element.script.expect_wire("mobile by TCP: ACK sip:bob@10.1.1.1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_forwards": 0}, "too-many-hops"),
        ({"uri": "mailto:bob@example.com"}, "unknown-scheme"),
        ({"headers": ["Route: <sip:broken"]}, "bad-uri"),
        ({"headers": ["Proxy-Require: foo"]}, "bad-extension"),
    ],
)
def test_an_ack_that_may_not_go_on_is_dropped_without_an_answer(
    element: Element, change: dict[str, object], reason: str
) -> None:
    element.inject(make_request("ACK", **change))  # type: ignore[arg-type]
    element.script.expect_end()
    assert element.rejections.reasons in ([reason], ["bad-address"])


def test_an_ack_in_a_dialog_takes_the_flow_of_the_side_that_it_goes_to(element: Element) -> None:
    """The phone's contact is an address behind its NAT."""
    flow = Hop("TCP", "192.0.2.203", 40000, "tcp:192.0.2.1:5060")
    route = f"Route: <sip:{element.make_route(callee=flow)}@192.0.2.1;lr>"
    via = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bKack"
    element.inject(make_request("ACK", "sip:bob@10.0.0.7", via=via, to=TAGGED, headers=[route]))
    ack = element.script.expect_request("mobile by TCP: ACK sip:bob@10.0.0.7")
    assert ack.all("route") == []
    element.refusing.add("mobile by TCP")
    element.inject(make_request("ACK", "sip:bob@10.0.0.7", via=f"{via}2", to=TAGGED, headers=[route]))
    element.script.expect("mobile by TCP: refused")
    element.script.expect_end()
    assert element.rejections.reasons == ["flow-gone"], "and the phone is registered nowhere else"


def test_an_ack_on_a_flow_that_has_just_broken_goes_on_the_phone_s_other_one(element: Element) -> None:
    """The re-INVITE before it did, and a callee without the ACK would hang up."""
    flow = Hop("TCP", "192.0.2.203", 40000, "tcp:192.0.2.1:5060")
    route = f"Route: <sip:{element.make_route(callee=flow)}@192.0.2.1;lr>"
    element.bind("sip:bob@example.com", Bound("sip:bob@192.0.2.202"))
    element.refusing.add("mobile by TCP")
    via = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bKack"
    element.inject(make_request("ACK", "sip:bob@192.0.2.202", via=via, to=TAGGED, headers=[route]))
    element.script.expect("mobile by TCP: refused")
    element.script.expect_request("desk: ACK sip:bob@192.0.2.202")
    element.script.expect_end()
    assert element.rejections.reasons == []


def test_an_ack_of_an_answer_of_our_own_ends_here(element: Element) -> None:
    element.inject(make_request("ACK", "sip:example.com"))
    element.inject(make_request("ACK", "sip:192.0.2.1"))
    element.script.expect_end()


def test_an_ack_whose_way_must_be_looked_up_goes_when_it_is_known(element: Element) -> None:
    hops: Promise[list[Hop]] = Promise()
    contacts: Promise[Sequence[Contact]] = Promise()
    element.bindings["sip:bob@example.com"] = contacts
    element.next_hops["phone.example"] = hops
    element.inject(make_ack(element, "sip:bob@example.com", proven=False))
    element.script.expect_nothing()
    contacts.resolve([Bound("sip:bob@phone.example")])
    element.script.expect_nothing()
    hops.resolve([Hop("UDP", "192.0.2.201", 5060)])
    element.script.expect_wire("bob: ACK sip:bob@phone.example")


def test_an_ack_whose_way_is_not_found_is_dropped(element: Element) -> None:
    hops: Promise[list[Hop]] = Promise()
    element.next_hops["phone.example"] = hops
    element.next_hops["gone.example"] = SipError(503, reason="unresolvable")
    element.inject(make_ack(element, "sip:bob@phone.example"))
    hops.fail(SipError(504, reason="dns-timeout"))
    element.inject(make_ack(element, "sip:bob@gone.example"))
    contacts: Promise[Sequence[Contact]] = Promise()
    element.bindings["sip:bob@example.com"] = contacts
    element.inject(make_ack(element, "sip:bob@example.com", proven=False))
    contacts.resolve([])
    element.next_hops["empty.example"] = []
    element.inject(make_ack(element, "sip:bob@empty.example"))
    element.script.expect_end()
    assert element.rejections.reasons == ["dns-timeout", "unresolvable", "not-registered", "unresolvable"]
    assert element.spawner.failures == []


def test_an_ack_that_the_transport_refuses_is_counted(element: Element) -> None:
    element.refusing.add("bob")
    element.inject(make_ack(element))
    element.script.expect("bob: refused")
    assert element.rejections.reasons == ["not-sent"]


def test_an_ack_that_loops_is_dropped(element: Element) -> None:
    again = make_ack(element)
    element.inject(again)
    copy = element.script.expect_request("bob: ACK sip:bob@192.0.2.201")
    again.headers = [header for header in again.headers if header[0] != "via"]
    again.headers[:0] = [header for header in copy.headers if header[0] == "via"]
    again.top_via = copy.top_via
    element.inject(again)
    element.script.expect_end()
    assert element.rejections.reasons == ["loop"]


# Answers


def late(element: Element, request: Request, status: int) -> None:
    """An answer that comes when its transaction is gone."""
    element.script.layer._clients.clear()
    response = make_response(request, status, to_tag="there")
    response.source = Hop("UDP", "192.0.2.201", 5060)
    element.inject(response)


def test_a_2xx_that_outlived_its_transaction_finds_the_caller_all_the_same(element: Element) -> None:
    invite = element.call_bob(via="SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1;received=192.0.2.101;rport=5060")
    late(element, invite, 200)
    answer = element.script.expect_response("alice: 200 OK")
    assert answer.all("via") == invite.all("via")[1:]
    element.script.expect_nothing()


def test_a_late_2xx_shows_the_caller_our_record_route_as_his_side_has_it(element: Element) -> None:
    """§16.7 step 8: it is the answer that makes the caller's route set."""
    element.trust_alice()
    element.bind("sip:bob@example.com", "sip:bob@192.0.2.201;transport=tcp")
    element.inject(make_request(via="SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1;received=192.0.2.101;rport=5060"))
    invite = element.script.expect_request("bob by TCP: INVITE sip:bob@192.0.2.201;transport=tcp")
    (theirs,) = invite.all("record-route")
    element.script.layer._clients.clear()
    response = make_response(
        invite, 200, to_tag="there", headers=[header for header in invite.headers if header[0] == "record-route"]
    )
    element.inject(response, element.flow_to(Hop("TCP", "192.0.2.201", 5060)))
    (ours,) = element.script.expect_response("alice: 200 OK").all("record-route")
    assert theirs.endswith("@192.0.2.1;transport=tcp;lr>")
    assert ours == theirs.replace(";transport=tcp", "")


@pytest.mark.parametrize("status", [180, 302, 404, 487, 603])
def test_any_other_late_answer_is_dropped(element: Element, status: int) -> None:
    late(element, element.call_bob(), status)
    element.script.expect_nothing()
    assert element.rejections.reasons == ["late-response"]


def test_a_late_answer_to_another_request_is_dropped(element: Element) -> None:
    """RFC 4320 §4.2."""
    element.bind("sip:bob@example.com", "sip:bob@192.0.2.201")
    element.trust_alice()
    element.inject(make_request("MESSAGE"))
    late(element, element.script.expect_request("bob: MESSAGE sip:bob@192.0.2.201"), 200)
    element.script.expect_nothing()
    assert element.rejections.reasons == ["late-response"]


@pytest.mark.parametrize(
    "branch", ["z9hG4bK776asdhds", "z9hG4bK" + "A" * 40, "1", "z9hG4bK0123456789abcdefAAAAAAAAAAAABBBBBBBBBBBB"]
)
def test_we_are_no_reflector_for_answers_that_were_never_asked_for(element: Element, branch: str) -> None:
    """A stranger would have us send what they like to whom they like."""
    vias = [f"SIP/2.0/UDP 192.0.2.1;branch={branch}", "SIP/2.0/UDP 203.0.113.7;branch=z9hG4bKvictim"]
    element.inject(make_reply(200, via=vias))
    element.script.expect_end()
    assert element.rejections.reasons == ["stray-response"]


@pytest.mark.parametrize(
    "victim",
    [
        "SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bK1",
        "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1;received=203.0.113.7;rport=5060",
        "SIP/2.0/TCP 127.0.0.1:6379;branch=z9hG4bK1",
        "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK2",
    ],
)
def test_who_was_called_once_cannot_have_us_write_to_whom_they_like(element: Element, victim: str) -> None:
    """Our own Via from an INVITE of long ago, and below it another than the caller's."""
    invite = element.call_bob(via="SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1;received=192.0.2.101;rport=5060")
    ours = invite.all("via")[0]
    element.script.layer._clients.clear()
    element.inject(make_reply(200, via=[ours, victim]), element.flow_to(Hop("UDP", "203.0.113.7", 5060)))
    element.script.expect_nothing()
    assert element.rejections.reasons == ["stray-response"]


def test_a_late_answer_to_a_request_with_its_vias_in_one_line_finds_the_caller(element: Element) -> None:
    first = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1;received=192.0.2.101;rport=5060"
    late(element, element.call_bob(via=f"{first}, SIP/2.0/UDP 10.0.0.7;branch=z9hG4bK0"), 200)
    element.script.expect_wire("alice: 200 OK")


def test_a_late_answer_that_has_no_via_but_ours_is_dropped(element: Element) -> None:
    branch = element.tokens.make_branch("l" * 12)
    element.inject(make_reply(200, via=f"SIP/2.0/UDP 192.0.2.1;branch={branch}"))
    element.script.expect_end()


@pytest.mark.parametrize("via", ["nonsense", "SIP/2.0/UDP nowhere.example;branch=z9hG4bK1"])
def test_a_late_answer_that_leads_nowhere_is_dropped(element: Element, via: str) -> None:
    element.next_hops["nowhere.example"] = SipError(503)
    ours = f"SIP/2.0/UDP 192.0.2.1;branch={element.tokens.make_branch('l' * 12, via)}"
    element.inject(make_reply(200, via=[ours, via]))
    element.script.expect_end()
    assert element.rejections.reasons == ["stray-response"]


def test_a_late_answer_whose_way_must_be_looked_up_goes_when_it_is_known(element: Element) -> None:
    for hops in ([Hop("UDP", "192.0.2.101", 5060)], []):
        promise: Promise[list[Hop]] = Promise()
        element.next_hops["pc33.example"] = promise
        theirs = "SIP/2.0/UDP pc33.example;branch=z9hG4bK1"
        ours = f"SIP/2.0/UDP 192.0.2.1;branch={element.tokens.make_branch('l' * 12, theirs)}"
        element.inject(make_reply(200, via=[ours, theirs]))
        element.script.expect_nothing()
        promise.resolve(hops)
        if hops:
            element.script.expect_wire("alice: 200 OK")
    element.script.expect_end()
    assert element.rejections.reasons == ["stray-response"]


@pytest.mark.parametrize(
    ("via", "hop"),
    [
        ("SIP/2.0/UDP a.example;branch=z9hG4bK1;received=192.0.2.7", Hop("UDP", "192.0.2.7", 5060)),
        ("SIP/2.0/UDP a.example:5070;branch=z9hG4bK1;received=192.0.2.7", Hop("UDP", "192.0.2.7", 5070)),
        ("SIP/2.0/UDP a.example:5070;branch=z9hG4bK1;received=192.0.2.7;rport=1", Hop("UDP", "192.0.2.7", 1)),
        ("SIP/2.0/TLS a.example;branch=z9hG4bK1;received=192.0.2.7", Hop("TLS", "192.0.2.7", 5061)),
        ("SIP/2.0/TCP 192.0.2.7;branch=z9hG4bK1;received=2001:db8::1;rport=9", Hop("TCP", "2001:db8::1", 9)),
        ("SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bK1", None),
        ("SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bK1;rport", None),
    ],
)
def test_an_answer_goes_where_the_request_really_came_from(via: str, hop: Hop | None) -> None:
    """§18.2.2, RFC 3581: what we noted in the Via; without a note, the locator is asked."""
    assert hop_of_response(parse_via(via), Whose.OURS) == hop


@pytest.mark.parametrize(
    ("via", "hop"),
    [
        ("SIP/2.0/TCP a.example:5070;branch=z9hG4bK1;received=192.0.2.7;rport=40000", Hop("TCP", "192.0.2.7", 5070)),
        ("SIP/2.0/TLS a.example;branch=z9hG4bK1;received=192.0.2.7;rport=40000", Hop("TLS", "192.0.2.7", 5061)),
        ("SIP/2.0/UDP a.example;branch=z9hG4bK1;received=192.0.2.7;rport=1024", Hop("UDP", "192.0.2.7", 1024)),
    ],
)
def test_an_answer_to_a_request_over_a_dead_node_s_connection_goes_where_the_client_listens(via: str, hop: Hop) -> None:
    assert hop_of_response(parse_via(via), Whose.NOBODYS) == hop


# Answers for other nodes


def late_at(element: Element, request: Request, status: int, whose: Whose) -> None:
    """The same for the request of another node, from bob's phone."""
    via = request.top_via
    assert via is not None
    element.strays[via.branch] = whose
    element.script.layer._clients.clear()
    response = make_response(request, status, to_tag="there")
    element.inject(response, element.flow_to(Hop("UDP", "192.0.2.201", 5060)))


CALLER_VIA = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1;received=192.0.2.101;rport=5060"


@pytest.mark.parametrize("status", [180, 200, 486])
def test_an_answer_for_a_live_node_s_request_is_none_of_our_business(element: Element, status: int) -> None:
    late_at(element, element.call_bob(via=CALLER_VIA), status, Whose.ANOTHERS)
    element.script.expect_nothing()
    assert element.rejections.reasons == []


@pytest.mark.parametrize(("status", "line"), [(183, "183 Session Progress"), (200, "200 OK")])
def test_an_answer_to_a_dead_node_s_invite_finds_the_caller(element: Element, status: int, line: str) -> None:
    """A 183 too, for who sent it may wait for its PRACK (RFC 3262)."""
    invite = element.call_bob(via=CALLER_VIA)
    late_at(element, invite, status, Whose.NOBODYS)
    answer = element.script.expect_response(f"alice: {line}")
    assert answer.all("via") == invite.all("via")[1:]
    element.script.expect_nothing()


@pytest.mark.parametrize(
    ("status", "line"), [(302, "302 Moved Temporarily"), (486, "486 Busy Here"), (603, "603 Decline")]
)
def test_a_dead_node_s_call_that_fails_is_told_to_the_caller_and_acknowledged(
    element: Element, status: int, line: str
) -> None:
    invite = element.call_bob(via=CALLER_VIA)
    late_at(element, invite, status, Whose.NOBODYS)
    ack = element.script.expect_request("bob: ACK sip:bob@example.com")
    assert ack.all("via") == [invite.all("via")[0].removesuffix(";rport")]
    assert (ack.to_tag, ack.call_id, ack.cseq) == ("there", invite.call_id, invite.cseq)
    element.script.expect_response(f"alice: {line}")
    element.script.expect_nothing()


def test_a_dead_node_s_100_ends_here(element: Element) -> None:
    late_at(element, element.call_bob(via=CALLER_VIA), 100, Whose.NOBODYS)
    element.script.expect_nothing()
    assert element.rejections.reasons == ["late-response"]


def test_a_dead_node_s_other_requests_are_repeated_by_who_sent_them(element: Element) -> None:
    """RFC 4320 §4.2: an answer without a transaction helps nobody."""
    element.bind("sip:bob@example.com", "sip:bob@192.0.2.201")
    element.trust_alice()
    element.inject(make_request("MESSAGE", via=CALLER_VIA))
    message = element.script.expect_request("bob: MESSAGE sip:bob@192.0.2.201")
    late_at(element, message, 200, Whose.NOBODYS)
    element.script.expect_nothing()
    assert element.rejections.reasons == ["late-response"]


@pytest.mark.parametrize("status", [200, 486])
def test_what_only_looks_like_a_dead_node_s_is_neither_forwarded_nor_acknowledged(
    element: Element, status: int
) -> None:
    invite = element.call_bob(via=CALLER_VIA)
    via = invite.top_via
    assert via is not None
    element.strays[via.branch] = Whose.NOBODYS
    element.script.layer._clients.clear()
    forged = make_reply(status, via=[via.text, "SIP/2.0/UDP 203.0.113.7;branch=z9hG4bKvictim"])
    element.inject(forged, element.flow_to(Hop("UDP", "192.0.2.201", 5060)))
    element.script.expect_nothing()
    assert element.rejections.reasons == ["stray-response"]


# Callers on flows that died with their node


PHONE = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"
LOST = Hop("WSS", "192.0.2.101", 40000, "wss:192.0.2.1:443#7")
ANEW = Hop("WSS", "192.0.2.101", 40001, "wss:192.0.2.1:443#9")
LOST_VIA = "SIP/2.0/WSS a.invalid;branch=z9hG4bK1;received=192.0.2.101;rport=40000"
ALICE = "sip:alice@example.com"


def ring(element: Element, *, phone: str = "") -> Request:
    """The INVITE of a caller on WebSocket as it reached bob; then the transaction and the caller's flow are gone."""
    element.alice = element.flow_to(LOST)
    contact = "<sip:alice@a.invalid;transport=ws>" + (f';+sip.instance="<{phone}>"' if phone else "")
    invite = element.call_bob(via=LOST_VIA, contact=contact)
    element.gone.append(FlowName(NODE, LOST))
    return invite


def answer_late(element: Element, invite: Request, status: int = 200, whose: Whose = Whose.NOBODYS) -> None:
    """Bob's phone answers, with the Record-Route."""
    assert invite.top_via is not None
    element.strays[invite.top_via.branch] = whose
    element.script.layer._clients.clear()
    routes = [header for header in invite.headers if header[0] == "record-route"]
    response = make_response(invite, status, to_tag="there", headers=routes)
    element.inject(response, element.flow_to(Hop("UDP", "192.0.2.201", 5060)))


def at(hop: Hop, uri: str = "sip:alice@b.invalid;transport=ws", phone: str = "", reg_id: int = 0) -> Bound:
    """A registration of alice's over a flow of another node."""
    return Bound(uri, received=hop, instance=f"<{phone}>" if phone else "", reg_id=reg_id, node=OTHER_NODE)


@pytest.mark.parametrize(("status", "line"), [(180, "180 Ringing"), (200, "200 OK")])
def test_a_caller_whose_flow_died_gets_the_answer_where_he_registered_anew(
    element: Element, status: int, line: str
) -> None:
    invite = ring(element)
    element.bind(ALICE, at(ANEW))
    answer_late(element, invite, status)
    answer = element.script.expect_response(f"alice by WSS: {line}")
    assert answer.all("via") == [LOST_VIA]
    assert "@192.0.2.1:443;transport=ws;lr>" in answer.all("record-route")[0]
    assert len(element.flows[ANEW].sent) == 1
    element.script.expect_nothing()
    assert element.rejections.reasons == []


def test_a_failure_that_shows_our_record_route_finds_the_caller_too(element: Element) -> None:
    invite = ring(element)
    element.bind(ALICE, at(ANEW))
    answer_late(element, invite, 486)
    element.script.expect_request("bob: ACK sip:bob@example.com")
    element.script.expect_wire("alice by WSS: 486 Busy Here")
    element.script.expect_nothing()


def test_a_caller_whose_flow_is_alive_gets_the_answer_over_it(element: Element) -> None:
    """Of a transaction that is over, or of a node that was taken for dead and is back."""
    invite = ring(element)
    element.gone.clear()
    element.bind(ALICE, at(ANEW))
    answer_late(element, invite, whose=Whose.OURS)
    element.script.expect_wire("alice by WSS: 200 OK")
    assert [hop for hop in element.flows if hop.transport == "WSS"] == [LOST]
    element.script.expect_nothing()


def test_an_answer_that_went_over_the_caller_s_flow_goes_nowhere_else(element: Element) -> None:
    """By the address that nodes share, what a dead node's NAT let in is let in from here; a callee repeats a 200."""
    invite = ring(element)
    element.gone.clear()
    element.doubted.add(NODE)
    element.bind(ALICE, at(ANEW))
    answer_late(element, invite)
    element.script.expect_wire("alice by WSS: 200 OK")
    element.script.expect_nothing()


def test_an_answer_whose_record_route_cannot_be_read_goes_by_its_via(element: Element) -> None:
    invite = ring(element)
    element.bind(ALICE, at(ANEW))
    name, _, _ = header = next(header for header in invite.headers if header[0] == "record-route")
    invite.headers[invite.headers.index(header)] = (name, "<sip:broken", "Record-Route: <sip:broken")
    answer_late(element, invite)
    element.script.expect_wire("alice by WSS: 200 OK")
    assert ANEW not in element.flows


def test_the_phone_that_called_gets_the_answer_and_no_other_of_the_user(element: Element) -> None:
    invite = ring(element, phone=PHONE)
    other = Hop("TCP", "192.0.2.202", 40000, "tcp:192.0.2.1:5060#3")
    element.bind(ALICE, at(other, phone="urn:uuid:another"), at(LOST, phone=PHONE, reg_id=1), at(ANEW, phone=PHONE))
    element.gone.append(FlowName(OTHER_NODE, LOST))
    answer_late(element, invite)
    element.script.expect_wire("alice by WSS: 200 OK")
    assert other not in element.flows
    element.script.expect_nothing()


@pytest.mark.parametrize("known", [True, False])
def test_which_of_several_phones_called_is_not_guessed(element: Element, known: bool) -> None:
    """Nor is the only one taken, when it is another than the one that called."""
    invite = ring(element, phone=PHONE if known else "")
    others = [at(ANEW, phone="urn:uuid:another"), *([] if known else [at(ANEW._replace(port=40002))])]
    element.bind(ALICE, *others)
    element.refusing.add("alice by WSS")
    answer_late(element, invite)
    element.script.expect("alice by WSS: refused")  # where the Via says
    element.script.expect_nothing()
    assert element.rejections.reasons == ["stray-response"]
    assert ANEW not in element.flows


def test_a_caller_who_has_not_come_back_is_sought_where_his_via_says(element: Element) -> None:
    invite = ring(element)
    answer_late(element, invite)
    element.script.expect_wire("alice by WSS: 200 OK")
    assert element.flows[Hop("WSS", "192.0.2.101", 5061)].sent
    element.script.expect_nothing()


def test_a_caller_whose_registrations_must_be_asked_for_gets_the_answer_when_they_are_known(element: Element) -> None:
    invite = ring(element)
    for found in ([at(ANEW)], []):
        contacts: Promise[Sequence[Contact]] = Promise()
        element.bindings[ALICE] = contacts
        answer_late(element, invite)
        element.script.expect_nothing()
        contacts.resolve(found)
        element.script.expect_wire("alice by WSS: 200 OK")
        used = ANEW if found else Hop("WSS", "192.0.2.101", 5061)
        assert len(element.flows[used].sent) == 1
    contacts = Promise()
    element.bindings[ALICE] = contacts
    answer_late(element, invite)
    contacts.fail(SipError(504, reason="lookup-timeout"))
    element.script.expect_wire("alice by WSS: 200 OK")
    assert len(element.flows[used].sent) == 2
    assert element.spawner.failures == []


def test_a_caller_who_registered_anew_without_a_flow_gets_the_answer_at_his_contact(element: Element) -> None:
    invite = ring(element)
    element.bind(ALICE, "sip:alice@192.0.2.202:5070")
    answer_late(element, invite)
    element.script.expect_wire("desk: 200 OK")
    assert element.flows[Hop("UDP", "192.0.2.202", 5070)].sent


def test_an_answer_does_not_follow_a_path(element: Element) -> None:
    """The proxy that the caller registered through since then has no Via on it."""
    invite = ring(element)
    element.bind(ALICE, Bound("sip:alice@10.0.0.7", path=("<sip:203.0.113.7;lr>",)))
    answer_late(element, invite)
    element.script.expect_wire("alice by WSS: 200 OK")
    element.script.expect_nothing()


def test_what_the_callee_changed_finds_no_other_user(element: Element) -> None:
    """Who was called once may name in From whom he likes, and show the Record-Route of another call."""
    invite = ring(element)
    element.bind("sip:victim@example.com", at(Hop("TCP", "192.0.2.203", 40000, "tcp:192.0.2.1:5060#3")))
    element.refusing.add("alice by WSS")
    for name, old, new in (
        ("from", "alice@", "victim@"),
        ("from", "tag=9fxc", "tag=8fxc"),
        ("call-id", "3848", "4848"),
        ("record-route", "<sip:", "<sip:A"),
    ):
        forged = parse(invite.write().replace(old.encode(), new.encode()), LIMITS)
        assert isinstance(forged, Request)
        assert forged.find(name) != invite.find(name)
        answer_late(element, forged)
        element.script.expect("alice by WSS: refused")
        element.script.expect_nothing()
    assert element.rejections.reasons == ["stray-response"] * 4


def test_an_answer_that_another_proxy_waits_for_goes_to_it(element: Element) -> None:
    """Below our Via there are two: the Record-Route's flow would pass the proxy by."""
    proxy = "SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bKp;received=203.0.113.7;rport=5060"
    invite = ring(element)
    element.bind(ALICE, at(ANEW))
    branch = element.tokens.make_branch("l" * 12, proxy)
    vias = [f"SIP/2.0/UDP 192.0.2.1;branch={branch}", proxy, LOST_VIA]
    routes = [f"Record-Route: {invite.find('record-route')}"]
    element.inject(make_reply(200, via=vias, headers=routes))
    element.script.expect_wire("stranger: 200 OK")
    element.script.expect_nothing()
