"""The front door (RFC 3261 §16.2): each way that a request can take through the core, and each refusal."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from farm.proxy.reach import Contact
from farm.security.credentials import Authenticated, Verdict
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.parser import parse
from farm.sip.status import SipError
from tests.support.element import CHALLENGE, Bound, Element
from tests.support.messages import LIMITS, make_register, make_request
from tests.support.recorders import Promise, RecordedFlow

BOB = "sip:bob@example.com"
FOREIGN = "<sip:mallory@foreign.example>;tag=m"
TAGGED = "Bob <sip:bob@example.com>;tag=there"


@pytest.fixture
def element() -> Element:
    return Element()


def stranger(element: Element) -> RecordedFlow:
    return element.flow_to(Hop("UDP", "203.0.113.7", 5060))


# A whole call


def test_a_call_from_beginning_to_end(element: Element) -> None:
    """INVITE, 100, 180, 200, ACK and a BYE from the callee, all through the Record-Route."""
    invite = element.call_bob()
    element.after(0.2)
    recorded = [header for header in invite.headers if header[0] == "record-route"]
    element.reply(invite, 180, tag="b")
    element.reply(invite, 200, tag="b", headers=recorded)
    element.script.expect_wire("alice: 100 Trying", "alice: 180 Ringing")
    ok = element.script.expect_response("alice: 200 OK")
    route = f"Route: {ok.find('record-route')}"
    contact = "sip:bob@192.0.2.201"
    to = "Bob <sip:bob@example.com>;tag=b"
    element.inject(make_request("ACK", contact, via="SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK2", to=to, headers=[route]))
    element.script.expect_wire(f"bob: ACK {contact}")
    bye = make_request(
        "BYE",
        "sip:alice@192.0.2.101:5060",
        via="SIP/2.0/UDP 192.0.2.201;branch=z9hG4bK3",
        from_=to,
        to="Alice <sip:alice@example.com>;tag=9fxced76sl",
        headers=[route],
    )
    element.inject(bye, element.flow_to(Hop("UDP", "192.0.2.201", 5060)))
    element.reply(element.script.expect_request("alice: BYE sip:alice@192.0.2.101:5060"), 200)
    element.script.expect_wire("bob: 200 OK")
    element.after(100)
    element.script.expect_end()
    assert element.rejections.reasons == []


def test_two_phones_behind_nats_reach_each_other_in_their_dialog(element: Element) -> None:
    """Neither contact leads anywhere: requests go by the flows that the Record-Route brings back, either way."""
    element.trust_alice()
    alice = element.flow_to(Hop("UDP", "192.0.2.101", 20000, "udp:192.0.2.1:5060"))
    bob = element.flow_to(Hop("TCP", "192.0.2.201", 40000, "tcp:192.0.2.1:5060"))
    element.bind(BOB, Bound("sip:bob@10.0.0.7", received=bob.hop))
    invite = make_request(via="SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1", contact="<sip:alice@10.0.0.9>")
    element.inject(invite, alice)
    forwarded = element.script.expect_request("bob by TCP: INVITE sip:bob@10.0.0.7")
    theirs = forwarded.all("record-route")
    element.reply(forwarded, 200, headers=[header for header in forwarded.headers if header[0] == "record-route"])
    ours = element.script.expect_response("alice: 200 OK").all("record-route")
    assert [value.partition("@")[2] for value in (*ours, *theirs)] == ["192.0.2.1;lr>", "192.0.2.1;transport=tcp;lr>"]
    requests = {
        "ACK": (invite.find("from"), TAGGED, "sip:bob@10.0.0.7", ours),
        "INFO": (invite.find("from"), TAGGED, "sip:bob@10.0.0.7", ours),
        "BYE": (TAGGED, invite.find("from"), "sip:alice@10.0.0.9", theirs),
    }
    for method, (sender, to, uri, routes) in requests.items():
        request = make_request(
            method,
            uri,
            via=f"SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK{method}",
            from_=sender,
            to=to,
            headers=[f"Route: {route}" for route in routes],
        )
        element.inject(request, bob if method == "BYE" else alice)
    _ack, info, bye = element.script.expect_wire(
        "bob by TCP: ACK sip:bob@10.0.0.7", "bob by TCP: INFO sip:bob@10.0.0.7", "alice: BYE sip:alice@10.0.0.9"
    )
    assert alice.sent[-1] == bye.write()
    assert bob.sent[-1] == info.write()
    assert (info.all("route"), bye.all("route")) == ([], [])


# Refusals


@pytest.mark.parametrize(
    ("change", "heard", "reason"),
    [
        ({"uri": "nobodyKnowsThisScheme:x"}, "416 Unsupported URI Scheme", "unknown-scheme"),
        ({"max_forwards": 0}, "483 Too Many Hops", "too-many-hops"),
        ({"max_forwards": 256}, "400 Bad Max-Forwards", "bad-max-forwards"),
        ({"headers": ["Proxy-Require: foo"]}, "420 Bad Extension", "bad-extension"),
        ({"headers": ["Route: <sip:[x]>"]}, "400 Bad URI", "bad-uri"),
        ({"headers": ["Max-Breadth: 0"]}, "440 Max-Breadth Exceeded", "max-breadth"),
        ({"headers": ["Max-Breadth: many"]}, "400 Bad Max-Breadth", "bad-max-breadth"),
        ({"uri": "sip:nobody@example.com"}, "404 Not Found", "unknown-user"),
        ({"uri": "sip:alice@example.com"}, "480 Temporarily Unavailable", "not-registered"),
        ({"uri": "tel:+4930123"}, "404 Not Found", "no-gateway"),
        ({"from_": "<sip:bob@example.com>;tag=1"}, "403 Forbidden", "not-the-sender"),
        ({"from_": FOREIGN, "uri": "sip:carol@foreign.example"}, "403 Forbidden", "relay-refused"),
        ({"from_": FOREIGN, "uri": "sip:nobody@example.com"}, "480 Temporarily Unavailable", "not-registered"),
    ],
)
def test_a_request_that_may_not_go_on_is_answered_and_counted(
    element: Element, change: dict[str, object], heard: str, reason: str
) -> None:
    element.trust_alice()
    element.bind(BOB, "sip:bob@192.0.2.201")
    element.inject(make_request(**change))  # type: ignore[arg-type]
    answer = element.script.expect_response(f"alice: {heard}")
    assert len(answer.to_tag) == 16
    element.script.expect_nothing()
    assert element.rejections.reasons == [reason]
    sender = str(change.get("from_", "Alice <sip:alice@example.com>;tag=9fxced76sl"))
    element.inject(make_request("ACK", from_=sender, to=f"Bob <sip:bob@example.com>;tag={answer.to_tag}"))
    element.after(100)
    element.script.expect_end()


def test_a_refusal_carries_what_the_sender_must_know() -> None:
    element = Element(server_header="sipfarm")
    element.inject(make_request(headers=["Proxy-Require: foo"]))
    refused = element.script.expect_response("alice: 420 Bad Extension")
    assert (refused.find("unsupported"), refused.find("server")) == ("foo", "sipfarm")
    element.inject(make_request("MESSAGE"))
    challenged = element.script.expect_response("alice: 407 Proxy Authentication Required")
    assert challenged.find("proxy-authenticate") == CHALLENGE.headers[0][1]


def test_a_request_that_comes_back_is_a_loop_and_one_that_was_redirected_is_not(element: Element) -> None:
    invite = element.call_bob()
    vias = ["SIP/2.0/UDP 192.0.2.201;branch=z9hG4bKback", *invite.all("via")]
    bob = element.flow_to(Hop("UDP", "192.0.2.201", 5060))
    element.inject(make_request(via=vias), bob)
    element.script.expect_wire("bob: 482 Loop Detected")
    element.bind("sip:carol@example.com", "sip:carol@192.0.2.203")
    vias[0] += "2"
    element.inject(make_request(via=vias, uri="sip:carol@example.com"), bob)
    element.script.expect_wire("mobile: INVITE sip:carol@192.0.2.203")


# Who may


def test_our_own_caller_is_challenged_and_then_passes(element: Element) -> None:
    element.bind(BOB, "sip:bob@192.0.2.201")
    element.inject(make_request())
    challenge = element.script.expect_response("alice: 407 Proxy Authentication Required")
    element.inject(make_request("ACK", to=f"Bob <sip:bob@example.com>;tag={challenge.to_tag}"))
    element.trust_alice()
    headers = ['Proxy-Authorization: Digest username="alice", realm="example.com"']
    element.inject(make_request(via="SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK2", cseq=2, headers=headers))
    assert not element.script.expect_request("bob: INVITE sip:bob@192.0.2.201").has("proxy-authorization")
    element.script.expect_nothing()


def test_a_stranger_calls_our_user_without_a_challenge(element: Element) -> None:
    element.bind(BOB, "sip:bob@192.0.2.201")
    element.inject(make_request(from_=FOREIGN), stranger(element))
    element.script.expect_wire("bob: INVITE sip:bob@192.0.2.201")


def test_a_stranger_who_was_called_cannot_call_on_our_account(element: Element) -> None:
    """Mallory has our Record-Route from a call with us; neither it nor an invented tag opens the gateway."""
    element.routes["+900123"] = ["sip:198.51.100.1"]
    route = f"Route: <sip:{element.make_route()}@192.0.2.1;lr>"
    uris = ("tel:+900123", "sip:+900123@example.com", "sip:+900123@198.51.100.1")
    for number, uri in enumerate(uris):
        for to in ("<sip:x@example.com>", "<sip:x@example.com>;tag=invented"):
            via = f"SIP/2.0/UDP 203.0.113.7;branch=z9hG4bK{number}{len(to)}"
            element.inject(make_request(uri=uri, via=via, from_=FOREIGN, to=to, headers=[route]), stranger(element))
    forbidden, away = "stranger: 403 Forbidden", "stranger: 480 Temporarily Unavailable"
    element.script.expect(forbidden, forbidden, away, away, forbidden, forbidden)
    element.after(40)
    element.script.expect_end()


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "OPTIONS", "NEWMETHOD", "REGISTER"])
def test_nobody_relays_between_foreign_domains(element: Element, method: str) -> None:
    element.inject(make_request(method, "sip:carol@other.example", from_=FOREIGN), stranger(element))
    element.script.expect_wire("stranger: 403 Forbidden")


def test_a_forged_route_opens_nothing(element: Element) -> None:
    headers = ["Route: <sip:AAAAAAAAAAAA@192.0.2.1;lr>"]
    element.inject(make_request("BYE", "sip:carol@other.example", from_=FOREIGN, to=TAGGED, headers=headers))
    element.script.expect_wire("alice: 403 Forbidden")


def test_a_trusted_network_is_believed_who_calls_and_nobody_else_is() -> None:
    """RFC 3325 §5."""
    element = Element(trusted=("10.0.0.0/8",))
    element.trust_alice()
    element.bind(BOB, "sip:bob@192.0.2.201")
    trunk = element.flow_to(Hop("UDP", "10.0.0.9", 5060))
    headers = ["P-Asserted-Identity: <tel:+4930123>"]
    for flow, asserted in ((trunk, ["<tel:+4930123>"]), (element.alice, []), (stranger(element), [])):
        sender = "<sip:alice@example.com>;tag=1" if flow is element.alice else FOREIGN
        via = f"SIP/2.0/UDP {flow.hop.host};branch=z9hG4bK1"
        element.inject(make_request(via=via, from_=sender, headers=headers), flow)
        invite = element.script.expect_request("bob: INVITE sip:bob@192.0.2.201")
        assert invite.all("p-asserted-identity") == asserted


def test_a_trusted_network_relays_anywhere() -> None:
    element = Element(trusted=("10.0.0.0/8",))
    trunk = element.flow_to(Hop("UDP", "10.0.0.9", 5060))
    element.inject(make_request(uri="sip:carol@203.0.113.7", from_=FOREIGN), trunk)
    element.script.expect_wire("stranger: INVITE sip:carol@203.0.113.7")


def test_an_open_farm_asks_nobody() -> None:
    element = Element(open_farm=True)
    element.inject(make_request(uri="sip:carol@203.0.113.7"))
    element.script.expect_wire("stranger: INVITE sip:carol@203.0.113.7")


# What is for us


@pytest.mark.parametrize("uri", ["sip:example.com", "sip:example.net", "sip:192.0.2.1", "sip:192.0.2.1:5060"])
def test_a_register_for_our_domain_goes_to_the_registrar(element: Element, uri: str) -> None:
    element.inject(make_request("REGISTER", uri))
    element.script.expect(f"registrar: {uri}")
    element.script.expect_nothing()


def test_a_register_that_comes_by_our_route_goes_to_the_registrar(element: Element) -> None:
    element.inject(make_request("REGISTER", "sip:example.com", headers=["Route: <sip:192.0.2.1;lr>"]))
    element.script.expect("registrar: sip:example.com")


def test_a_register_for_another_domain_goes_there_with_our_path(element: Element) -> None:
    element.trust_alice()
    element.inject(make_request("REGISTER", "sip:203.0.113.7", headers=["Supported: path"]))
    copy = element.script.expect_request("stranger: REGISTER sip:203.0.113.7")
    assert len(copy.all("path")) == 1


def test_a_register_that_is_routed_elsewhere_goes_there(element: Element) -> None:
    element.trust_alice()
    element.inject(make_request("REGISTER", "sip:example.com", headers=["Route: <sip:203.0.113.7;lr>"]))
    element.script.expect_wire("stranger: REGISTER sip:example.com")


def test_a_register_with_a_route_that_cannot_be_read_is_a_400(element: Element) -> None:
    element.inject(make_request("REGISTER", "sip:example.com", headers=["Route: <sip:[x]>"]))
    element.script.expect_wire("alice: 400 Bad URI")


def test_a_registrar_that_raises_is_answered_for(element: Element, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(transaction: object, now: float) -> None:
        raise SipError(423, headers=(("min-expires", "60"),))

    monkeypatch.setattr(element, "receive_register", fail)
    element.inject(make_register())
    assert element.script.expect_response("alice: 423 Interval Too Brief").find("min-expires") == "60"


@pytest.mark.parametrize("uri", ["sip:example.com", "sip:192.0.2.1"])
def test_options_for_this_element_are_answered_by_it(uri: str) -> None:
    """§11.2; monitors ask so, without credentials and with any Max-Forwards."""
    element = Element(server_header="sipfarm")
    element.inject(make_request("OPTIONS", uri, max_forwards=0))
    answer = element.script.expect_response("alice: 200 OK")
    assert "INVITE" in (answer.find("allow") or "")
    assert (answer.find("supported"), answer.find("server")) == ("gruu, outbound, path", "sipfarm")
    assert answer.to_tag


@pytest.mark.parametrize("required", ["100rel", "foo, Bar"])
def test_options_for_this_element_that_demand_an_extension_are_refused(element: Element, required: str) -> None:
    """§8.2.2.3: it is the far end here, so Require is its own to judge."""
    element.inject(make_request("OPTIONS", "sip:example.com", headers=[f"Require: {required}"]))
    answer = element.script.expect_response("alice: 420 Bad Extension")
    assert answer.find("unsupported") == required.lower()
    assert element.rejections.reasons == ["bad-extension"]


def test_options_for_a_user_are_the_user_s(element: Element) -> None:
    element.trust_alice()
    element.bind(BOB, "sip:bob@192.0.2.201")
    element.inject(make_request("OPTIONS"))
    element.script.expect_wire("bob: OPTIONS sip:bob@192.0.2.201")


# Redirect mode


def test_a_redirect_server_says_where_the_phones_are() -> None:
    """§8.3."""
    element = Element(redirect=True)
    element.trust_alice()
    element.bind(BOB, Bound("sip:bob@192.0.2.201", 1000), Bound("sip:bob@192.0.2.202;transport=tcp", 300))
    element.inject(make_request())
    answer = element.script.expect_response("alice: 302 Moved Temporarily")
    assert answer.all("contact") == [
        "<sip:bob@192.0.2.201>;q=1",
        "<sip:bob@192.0.2.202;transport=tcp>;q=0.3",
    ]
    element.inject(make_request("ACK", to=f"<{BOB}>;tag={answer.to_tag}"))
    element.after(10)
    element.script.expect_end()


def test_a_redirect_server_refuses_as_a_proxy_does() -> None:
    element = Element(redirect=True)
    element.inject(make_request(from_=FOREIGN, uri="sip:nobody@example.com"))
    element.script.expect_wire("alice: 480 Temporarily Unavailable")


# Draining


def test_a_node_that_is_about_to_stop_refuses_what_is_new_and_goes_on_with_what_is_not(element: Element) -> None:
    invite = element.call_bob()
    element.proxy.draining = True
    element.inject(make_request("MESSAGE", via="SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK2"))
    assert element.script.expect_response("alice: 503 Service Unavailable").find("retry-after")
    element.reply(invite, 200)
    element.script.expect_wire("alice: 200 OK")
    headers = [f"Route: <sip:{element.make_route()}@192.0.2.1;lr>"]
    element.inject(make_request("BYE", "sip:bob@192.0.2.201", to=TAGGED, headers=headers))
    element.script.expect_wire("bob: BYE sip:bob@192.0.2.201")


# What takes time


def test_a_digest_check_that_takes_time_holds_nobody_else_up(element: Element) -> None:
    promise: Promise[Verdict] = Promise()
    element.verdict = promise
    element.bind(BOB, "sip:bob@192.0.2.201")
    element.inject(make_request())
    element.after(0.2)
    element.script.expect_wire("alice: 100 Trying")
    promise.resolve(Authenticated("sip:alice@example.com"))
    element.script.expect_wire("bob: INVITE sip:bob@192.0.2.201")


def test_a_digest_check_that_takes_time_may_refuse(element: Element) -> None:
    promise: Promise[Verdict] = Promise()
    element.verdict = promise
    element.inject(make_request())
    promise.resolve(CHALLENGE)
    element.script.expect_wire("alice: 407 Proxy Authentication Required")
    assert element.rejections.reasons == ["no-credentials"]


def test_a_location_service_that_takes_time_is_waited_for(element: Element) -> None:
    element.trust_alice()
    promise: Promise[Sequence[Contact]] = Promise()
    element.bindings[BOB] = promise
    element.inject(make_request())
    element.script.expect_nothing()
    promise.resolve([Bound("sip:bob@192.0.2.201")])
    element.script.expect_wire("bob: INVITE sip:bob@192.0.2.201")


def test_a_location_service_that_finds_nobody_later_is_answered_for(element: Element) -> None:
    element.trust_alice()
    promise: Promise[Sequence[Contact]] = Promise()
    element.bindings[BOB] = promise
    element.inject(make_request())
    promise.resolve([])
    element.script.expect_wire("alice: 480 Temporarily Unavailable")


@pytest.mark.parametrize("waiting_for", ["credentials", "bindings"])
@pytest.mark.parametrize("outcome", ["found", "refused", "broken"])
def test_a_call_cancelled_while_we_wait_ends_at_once_and_is_answered_once(
    element: Element, waiting_for: str, outcome: str
) -> None:
    verdict: Promise[Verdict] = Promise()
    contacts: Promise[Sequence[Contact]] = Promise()
    element.trust_alice()
    element.bind(BOB, "sip:bob@192.0.2.201")
    if waiting_for == "credentials":
        element.verdict = verdict
    else:
        element.bindings[BOB] = contacts
    element.inject(make_request())
    element.inject(make_request("CANCEL"))
    element.script.expect_wire("alice: 200 OK", "alice: 487 Request Terminated")
    if outcome == "broken":
        (verdict if waiting_for == "credentials" else contacts).fail(RuntimeError("a fault"))
    elif waiting_for == "credentials":
        verdict.resolve(CHALLENGE if outcome == "refused" else Authenticated("sip:alice@example.com"))
    else:
        contacts.resolve([] if outcome == "refused" else [Bound("sip:bob@192.0.2.201")])
    element.script.expect_nothing()
    assert element.rejections.reasons == ["cancelled"]
    element.inject(make_request("ACK", to="Bob <sip:bob@example.com>;tag=x"))
    element.after(100)
    element.script.expect_end()


@pytest.mark.parametrize("waiting_for", ["nothing", "credentials", "bindings"])
def test_a_fault_of_ours_is_a_500_and_is_reported(
    element: Element, waiting_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict: Promise[Verdict] = Promise()
    contacts: Promise[Sequence[Contact]] = Promise()
    element.trust_alice()
    if waiting_for == "credentials":
        element.verdict = verdict
    elif waiting_for == "bindings":
        element.bindings[BOB] = contacts
    else:
        monkeypatch.setattr(element, "bindings", None)
    element.inject(make_request())
    if waiting_for == "credentials":
        verdict.fail(RuntimeError("a fault"))
    elif waiting_for == "bindings":
        contacts.fail(RuntimeError("a fault"))
    element.script.expect_wire("alice: 500 Server Internal Error")
    assert (element.reports, element.rejections.reasons) == (["a request failed"], ["internal-error"])
    assert element.spawner.failures == []


def test_a_fault_while_forking_stops_the_phones_that_ring_already(
    element: Element, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller has heard 500: nobody may answer a call that is over."""
    element.trust_alice()
    element.bind(BOB, "sip:bob@192.0.2.201", "sip:bob@192.0.2.202")
    usual = element.locate

    def locate(uri: object, now: float, size: int) -> object:
        if "192.0.2.202" in str(uri):
            raise RuntimeError("a fault")
        return usual(uri, now, size)  # type: ignore[arg-type]

    monkeypatch.setattr(element, "locate", locate)
    element.inject(make_request())
    invite = element.script.expect_request("bob: INVITE sip:bob@192.0.2.201")
    element.script.expect_wire("alice: 500 Server Internal Error")
    element.reply(invite, 180)
    element.script.expect_wire("bob: CANCEL sip:bob@192.0.2.201")


# Limits, and messages that are odd


def test_a_cancel_after_the_answer_changes_nothing(element: Element) -> None:
    invite = element.call_bob()
    element.reply(invite, 200)
    element.inject(make_request("CANCEL"))
    element.script.expect_wire("alice: 200 OK", "alice: 200 OK")
    element.script.expect_nothing()


def test_the_breadth_that_comes_is_held_to_ours() -> None:
    for came, left in (("5", "5"), ("500", "60"), (None, "60")):
        element = Element(max_breadth=60)
        invite = element.call_bob(headers=[f"Max-Breadth: {came}"] if came else [])
        assert invite.find("max-breadth") == left


@pytest.mark.parametrize("missing", ["max_forwards", "contact", "content_length"])
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_a_request_that_lacks_what_it_may_lack_goes_on(element: Element, method: str, missing: str) -> None:
    element.trust_alice()
    element.bind(BOB, "sip:bob@192.0.2.201")
    element.inject(make_request(method, **{missing: None}))  # type: ignore[arg-type]
    element.script.expect_wire(f"bob: {method} sip:bob@192.0.2.201")


def test_a_storm_of_odd_requests_leaves_nothing_behind(element: Element) -> None:
    """Whatever they were answered: when the timers have run out, no transaction and no timer is left."""
    element.trust_alice()
    element.bind(BOB, "sip:bob@192.0.2.201", "sip:bob@192.0.2.202")
    element.script.layer.max_transactions = 10_000
    uris = [BOB, "sip:nobody@example.com", "sip:x@foreign.example", "tel:+1", "sip:example.com", "sips:bob@example.com"]
    extras = ["Subject: x", "Max-Breadth: 1", "Route: <sip:192.0.2.1;lr>", "Route: <sip:strict.example>"]
    extras += ["Max-Breadth: 0", "Proxy-Require: x", "Route: <tel:+1>", "Route: ,"]
    count = 0
    for method in ("INVITE", "MESSAGE", "OPTIONS", "SUBSCRIBE", "BYE", "PRACK", "NEWMETHOD", "ACK"):
        for uri in uris:
            for extra in extras:
                count += 1
                via = f"SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK{count}"
                element.inject(make_request(method, uri, via=via, call_id=f"c{count}", headers=[extra]))
                if count % 3 == 0:
                    element.inject(make_request("CANCEL", uri, via=via, call_id=f"c{count}", headers=[extra]))
    element.after(1000)
    element.script.record.effects.clear()
    element.script.expect_end()
    assert element.reports == []
    assert element.spawner.failures == []


def test_everything_that_leaves_can_be_read_again(element: Element) -> None:
    """And names us in its top Via, once."""
    invite = element.call_bob(headers=["X-Unknown: yes"])
    again = parse(invite.write(), LIMITS)
    assert isinstance(again, Request)
    assert again.write() == invite.write()
    assert again.top_via is not None
    assert again.top_via.sent_by == "192.0.2.1"
    assert len(again.all("via")) == 2
