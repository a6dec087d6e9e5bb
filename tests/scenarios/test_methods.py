"""Whatever the method, the scheme or the body: what passes through, unchanged, and what ends here."""

from __future__ import annotations

import pytest

from tests.support.farms import NODE, Farm
from tests.support.messages import SDP
from tests.support.parties import Dialog, exchange, set_up_call


@pytest.mark.parametrize(
    "method",
    ["MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER", "PUBLISH", "INFO", "OPTIONS", "BYE", "UPDATE", "PRACK", "FROBNICATE"],
)
@pytest.mark.parametrize("status", [200, 404, 603])
def test_every_method_reaches_the_phone_and_its_answer_comes_back(farm: Farm, method: str, status: int) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.ask(method, bob.aor, headers=["Event: presence", "X-Unknown:  kept\t as  it is "])
    request = bob.expect(method)
    assert request.uri == bob.contact
    assert "X-Unknown:  kept\t as  it is \r\n" in request.text
    assert len(request.all("record-route")) == (method in ("SUBSCRIBE", "REFER", "NOTIFY"))
    bob.answer(request, status, headers=["X-Answer: kept"])
    answer = alice.expect(status)
    assert answer.first("x-answer") == "kept"
    assert len(answer.all("via")) == 1


def test_a_body_passes_byte_for_byte(farm: Farm) -> None:
    farm.add_node(auth={"open": True})
    alice, bob = farm.add_party("alice"), farm.add_party("bob", transport="tcp")
    bob.register()
    body = bytes(range(256)) + SDP
    head = alice.make_request("MESSAGE", bob.aor).replace("Content-Length: 0", f"Content-Length: {len(body)}")
    alice.write(head.encode() + body + b"what follows is no part of it")
    message = bob.expect("MESSAGE")
    assert message.body == body
    bob.answer(message, 200)
    alice.expect(200)


def test_a_subscription_runs_both_ways_for_as_long_as_it_lasts(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.ask("SUBSCRIBE", bob.aor, headers=["Event: presence", "Expires: 600"])
    request = bob.expect("SUBSCRIBE")
    accepted = bob.answer(request, 200)
    ours, theirs = Dialog.of_caller(alice, alice.expect(200)), Dialog.of_callee(bob, request, accepted)
    for _ in range(3):
        exchange(theirs, ours, "NOTIFY")
        farm.run(200)
    exchange(ours, theirs, "SUBSCRIBE")


def test_provisional_answers_pass_in_order_and_are_acknowledged_by_prack(farm: Farm) -> None:
    """RFC 3262 is between the two ends."""
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.ask("INVITE", bob.aor, headers=["Supported: 100rel"])
    invite = bob.expect("INVITE")
    for number in (1, 2):
        progress = bob.answer(invite, 183, headers=["Require: 100rel", f"RSeq: {number}"])
        early = Dialog.of_caller(alice, alice.expect(183))
        early.cseq += number
        early.send("PRACK", headers=[f"RAck: {number} {invite.cseq} INVITE"])
        prack = bob.expect("PRACK")
        bob.answer(prack, 200)
        alice.expect(200, method="PRACK")
    bob.answer(invite, 486)
    bob.expect("ACK")
    alice.expect(486)
    assert progress.status == 183


def test_a_100_of_the_phone_is_not_passed_on_and_the_node_s_own_comes_after_200_ms(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 100)
    trying = alice.expect(100, within=1)
    assert trying.at - sent.at == pytest.approx(0.2 + 0.002, abs=0.011)
    assert ";tag=" not in trying.first("to")
    alice.expect_nothing(5)
    assert alice.count(100) == 1
    bob.answer(invite, 486)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))


@pytest.mark.parametrize(
    "uri", [f"sip:{NODE}", "sip:example.com", f"sip:{NODE}:5060;transport=udp", "sips:example.com"]
)
def test_options_to_the_element_is_answered_by_the_element(farm: Farm, uri: str) -> None:
    farm.add_node()
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    zoe.request("OPTIONS", uri)
    answer = zoe.expect(200)
    assert "INVITE" in answer.first("allow")
    assert answer.first("accept") != ""
    assert answer.tag != ""
    assert answer.first("server") == ""


def test_an_extension_that_the_proxy_must_understand_is_refused_by_name(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.request("MESSAGE", bob.aor, headers=["Proxy-Require: privacy, teleport"])
    assert alice.expect(420).first("unsupported") == "privacy, teleport"
    alice.ask("MESSAGE", bob.aor, headers=["Require: teleport"])  # the phone's affair
    bob.answer(bob.expect("MESSAGE"), 420)
    alice.expect(420)


@pytest.mark.parametrize(
    "uri", ["http://example.com/", "urn:service:sos", "mailto:bob@example.com", "soap.beep://192.0.2.9"]
)
def test_a_scheme_nobody_routes_is_refused(farm: Farm, uri: str) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    alice.request("MESSAGE", uri, to="<sip:bob@example.com>")
    alice.expect(416)


def test_a_sips_uri_elsewhere_is_never_forwarded_without_tls(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    friend = farm.add_party("friend", address="192.0.2.222", account=False)
    alice.ask("MESSAGE", "sips:friend@192.0.2.222")
    alice.expect(500)
    assert friend.received == []


def test_who_is_called_securely_is_not_rung_in_clear(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    sent = alice.ask("INVITE", "sips:bob@example.com")
    alice.acknowledge(sent, alice.expect(480))
    bob.expect_nothing(1)


def test_a_user_is_found_by_whichever_spelling_of_his_name_is_equal(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    for uri in ("sip:bob@EXAMPLE.com", "sip:%62ob@example.com", f"sip:bob@{NODE}", "sip:bob@example.com:5060;user=ip"):
        alice.ask("MESSAGE", uri)
        bob.answer(bob.expect("MESSAGE"), 200)
        alice.expect(200)
    alice.ask("MESSAGE", "sip:BOB@example.com")  # §19.1.4: the user part has case
    alice.expect(404)


def test_a_request_with_a_route_to_us_and_one_further_goes_that_way(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    other = farm.add_party("proxy", address="192.0.2.222", account=False)
    routes = [f"Route: <sip:{NODE};lr>", "Route: <sip:192.0.2.222;lr>"]
    alice.ask("MESSAGE", "sip:zoe@elsewhere.net", headers=routes)
    message = other.expect("MESSAGE")
    assert (message.uri, message.all("route")) == ("sip:zoe@elsewhere.net", ["<sip:192.0.2.222;lr>"])
    other.answer(message, 200)
    alice.expect(200)


def test_a_strict_router_gets_the_request_uri_that_it_expects(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    strict = farm.add_party("proxy", address="192.0.2.222", account=False)
    alice.ask("MESSAGE", "sip:zoe@elsewhere.net", headers=[f"Route: <sip:{NODE};lr>, <sip:192.0.2.222>"])
    message = strict.expect("MESSAGE")
    assert (message.uri, message.all("route")) == ("sip:192.0.2.222", ["<sip:zoe@elsewhere.net>"])
    strict.answer(message, 200)
    alice.expect(200)


def test_a_phone_that_registered_through_another_proxy_is_called_through_it(farm: Farm) -> None:
    """RFC 3327."""
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob", address="192.0.2.222")  # the proxy of bob's office
    path = "<sip:token@192.0.2.222;lr>"
    headers = ["Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKbob", "Supported: path", f"Path: {path}"]
    answer = bob.register(headers=headers, contact="<sip:bob@10.0.0.9>")
    assert answer.all("path") == [path]
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    assert (invite.uri, invite.all("route")) == ("sip:bob@10.0.0.9", [path])
    bob.answer(invite, 486)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))


def test_a_call_of_an_rfc_2543_phone_goes_through(farm: Farm) -> None:
    """No magic cookie, no rport: matched by the old rules."""
    farm.add_node(auth={"open": True})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    text = alice.make_request("INVITE", bob.aor, via=f"SIP/2.0/UDP {alice.address}:5060;branch=1")
    sent = alice.send(text)
    alice.send(text)
    invite = bob.expect("INVITE")
    bob.answer(invite, 486)
    bob.expect("ACK")
    final = alice.expect(486)
    alice.acknowledge(sent, final)
    farm.run(5)
    assert alice.count(486) == 1
    assert bob.count("INVITE") == 1


def test_a_call_over_ipv6_and_one_that_changes_family(farm: Farm) -> None:
    six = "2001:db8::1"
    listen = [f"udp:{NODE}:5060", f"udp:[{six}]:5060", f"tcp:[{six}]:5060"]
    farm.add_node("n1", NODE, six, sip={"listen": listen})
    alice = farm.add_party("alice")
    bob = farm.add_party("bob", address="2001:db8::101", target=six)
    carol = farm.add_party("carol", address="2001:db8::102", target=six, transport="tcp")
    for phone in (bob, carol):
        phone.register()
        ours, theirs = set_up_call(alice, phone)
        assert [f"@{NODE};lr>" in route for route in ours.routes] == [True], "each side's address in its own"
        assert [f"@[{six}]" in route for route in theirs.routes] == [True]
        exchange(ours, theirs, "INVITE")
        exchange(theirs, ours, "BYE")
    ours, theirs = set_up_call(carol, bob)
    exchange(theirs, ours, "BYE")
