"""Those who are not ours: they reach our users and nothing else, and learn nothing."""

from __future__ import annotations

import pytest

from tests.support.farms import NODE, Farm
from tests.support.messages import request_bytes
from tests.support.parties import Dialog, exchange, set_up_call


def test_a_stranger_calls_a_user_of_ours_and_both_can_hang_up(farm: Farm) -> None:
    farm.add_node()
    bob = farm.add_party("bob")
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    bob.register()
    for first in (True, False):
        ours, theirs = set_up_call(zoe, bob)
        exchange(*((ours, theirs) if first else (theirs, ours)), "BYE")


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "OPTIONS", "REGISTER", "SUBSCRIBE", "BYE", "FROBNICATE"])
@pytest.mark.parametrize(
    "target",
    ["sip:victim@elsewhere.org", "sip:victim@192.0.2.222", "tel:+4930123456", "sip:+4930123@example.com;user=phone"],
)
def test_a_stranger_reaches_nobody_through_us(farm: Farm, method: str, target: str) -> None:
    node = farm.add_node(gateways=[{"prefix": "+", "to": ["sip:192.0.2.222"], "probe_seconds": 0}])
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    victim = farm.add_party("victim", address="192.0.2.222", account=False)
    sent = zoe.request(method, target, to="<sip:victim@elsewhere.org>")
    final = zoe.wait()
    assert final is not None
    expected = {403} | ({480} if "example.com" in target else set()) | ({400, 404} if method == "REGISTER" else set())
    assert final.status in expected
    if method == "INVITE":
        zoe.acknowledge(sent, final)
    victim.expect_nothing(5)
    assert node.value("sip_requests", method if method != "FROBNICATE" else "other", "out") == 0


@pytest.mark.parametrize(
    "route",
    [f"<sip:{NODE};lr>", "<sip:192.0.2.222;lr>", f"<sip:{NODE};lr>, <sip:192.0.2.222;lr>", f"<sip:x@{NODE};lr>"],
)
def test_a_route_of_a_stranger_s_making_leads_nowhere(farm: Farm, route: str) -> None:
    farm.add_node()
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    victim = farm.add_party("victim", address="192.0.2.222", account=False)
    tags = ("", ";tag=made-up")
    for tag in tags:
        zoe.request(
            "MESSAGE", "sip:victim@192.0.2.222", to=f"<sip:victim@192.0.2.222>{tag}", headers=[f"Route: {route}"]
        )
        zoe.expect(403)
    victim.expect_nothing(5)


def test_a_route_of_one_dialog_opens_no_other(farm: Farm) -> None:
    """The token in our Record-Route proves one Call-ID."""
    farm.add_node()
    bob = farm.add_party("bob")
    bob.register()
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    victim = farm.add_party("victim", address="192.0.2.222", account=False)
    ours, theirs = set_up_call(zoe, bob)
    forged = Dialog(zoe, "another-call", ours.local, ours.remote, "sip:victim@192.0.2.222", ours.routes, 1)
    forged.send("MESSAGE")
    zoe.expect(481)
    victim.expect_nothing(2)
    exchange(ours, theirs, "BYE")


def test_a_stranger_cannot_tell_who_is_a_user_of_ours(farm: Farm) -> None:
    farm.add_node()
    farm.add_party("bob")
    registered = farm.add_party("carol")
    registered.register()
    registered.register(expires=0)
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    for name in ("bob", "carol", "nobody"):
        zoe.request("OPTIONS", f"sip:{name}@example.com")
        zoe.expect(480)


def test_our_own_users_learn_who_is_not_there_and_who_is_not(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    farm.add_party("bob")
    alice.ask("OPTIONS", "sip:bob@example.com")
    alice.expect(480)
    alice.ask("OPTIONS", "sip:nobody@example.com")
    alice.expect(404)


def test_a_trusted_network_is_not_challenged_and_may_call_out(farm: Farm) -> None:
    farm.add_node(sip={"domains": ["example.com"], "listen": [f"udp:{NODE}:5060"], "trusted_networks": ["192.0.2.222"]})
    gateway = farm.add_party("gateway", address="192.0.2.222", account=False)
    friend = farm.add_party("friend", address="192.0.2.223", account=False)
    gateway.request("MESSAGE", "sip:friend@192.0.2.223")
    friend.answer(friend.expect("MESSAGE"), 200)
    gateway.expect(200)


def test_an_open_farm_relays_for_who_says_he_is_ours_and_for_nobody_else(farm: Farm) -> None:
    farm.add_node(auth={"open": True})
    alice = farm.add_party("alice")
    zoe = farm.add_party("zoe", domain="elsewhere.net")
    friend = farm.add_party("friend", address="192.0.2.223")
    alice.request("MESSAGE", "sip:friend@192.0.2.223")
    friend.answer(friend.expect("MESSAGE"), 200)
    alice.expect(200)
    zoe.request("MESSAGE", "sip:friend@192.0.2.223")
    zoe.expect(403)


def test_a_flood_of_malformed_requests_is_answered_sparingly_and_calls_go_on(farm: Farm) -> None:
    node = farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    eve = farm.add_party("eve", account=False)
    for number in range(2000):
        via = f"SIP/2.0/UDP {eve.address};branch=z9hG4bK{number}"
        eve.write(request_bytes("OPTIONS", "sip:bob@example.com", via=via, headers=["Bad\x01Name: x"]))
        if number % 100 == 0:
            farm.run(0.01)
    farm.run(1)
    assert 100 <= len(eve.received) <= 150
    assert {message.status for message in eve.received} == {400}
    assert node.value("sip_rejected", "control-character") == 2000
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "BYE")


@pytest.mark.parametrize("target", ["sip:bob@example.com", "sip:x@elsewhere.org", "sip:nobody@example.com"])
@pytest.mark.parametrize("sender", ["<sip:alice@example.com>;tag=1", "<sip:x@elsewhere.net>;tag=1"])
def test_an_invite_in_another_s_name_has_one_answer_sent_to_that_other(farm: Farm, sender: str, target: str) -> None:
    """Who never asked sends no ACK either: eleven answers would be an attack of ours."""
    node = farm.add_node()
    farm.add_party("bob")
    victim = farm.add_party("victim", account=False)
    victim.request("INVITE", target, sender=sender)
    farm.run(0.1)
    assert node.is_idle()
    assert node.find_leaks() == []
    farm.run(40)
    assert len(victim.received) == 1
    assert victim.received[0].status in (403, 407, 480)


def test_who_sends_thousands_of_requests_without_credentials_shuts_nobody_out(farm: Farm) -> None:
    node = farm.add_node(limits={"transactions": 20})
    eve = farm.add_party("eve", account=False)
    for number in range(1000):
        method = ("REGISTER", "INVITE", "OPTIONS", "MESSAGE", "BYE", "CANCEL")[number % 6]
        eve.request(method, "sip:example.com" if method == "REGISTER" else "sip:bob@example.com", to=f"<{eve.aor}>")
        if number % 100 == 0:
            farm.run(0.01)
    farm.run(0.1)
    assert node.is_idle()
    assert {message.status for message in eve.received} == {401, 407, 481}
    assert len(eve.received) == 1000
    assert node.value("sip_rejected", "too-many-transactions") == 0
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    exchange(*set_up_call(alice, bob), "BYE")


def test_who_was_called_once_cannot_have_the_answer_sent_to_another(farm: Farm) -> None:
    """Our Via of an old INVITE with a victim's below, over UDP or to a port that speaks no SIP."""
    node = farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    victim = farm.add_party("victim", address="192.0.2.222", account=False)
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    ended = bob.answer(invite, 486)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    farm.settle()
    theirs = invite.all("via")[1]
    for below in (
        "SIP/2.0/UDP 192.0.2.222:5060;branch=z9hG4bK1",
        theirs.replace(alice.address, "192.0.2.222"),
        "SIP/2.0/TCP 192.0.2.222:6379;branch=z9hG4bK1",
    ):
        bob.send(ended.text.replace("SIP/2.0 486", "SIP/2.0 200").replace(f"via: {theirs}", f"via: {below}"))
    victim.expect_nothing(2)
    assert node.value("flows_opened", "tcp", "out") == 0
    assert node.value("sip_rejected", "stray-response") == 3


def test_noise_is_never_answered_and_harms_nobody(farm: Farm) -> None:
    node = farm.add_node()
    eve = farm.add_party("eve", account=False)
    rng = farm.network.rng
    for size in (1, 2, 3, 19, 20, 21, 100, 8000, 65_000):
        for _ in range(10):
            eve.write(rng.randbytes(size))
    eve.write(b"SIP/2.0 200 OK\r\n\r\n")
    eve.write(b"INVITE\r\n\r\n")
    eve.write(b"ACK sip:bob@example.com SIP/2.0\r\n\r\n")
    farm.run(5)
    assert eve.received == []
    alice = farm.add_party("alice")
    alice.register()
    assert node.value("registrations") == 1


def test_a_response_that_nobody_asked_for_goes_nowhere(farm: Farm) -> None:
    """No reflection: a forged Via behind ours names a victim."""
    farm.add_node()
    eve = farm.add_party("eve", account=False)
    victim = farm.add_party("victim", address="192.0.2.222", account=False)
    for branch in ("z9hG4bKmade-up", f"z9hG4bK{'0' * 16}{'A' * 24}"):
        for status in (180, 200, 404):
            vias = f"SIP/2.0/UDP {NODE}:5060;branch={branch}", "SIP/2.0/UDP 192.0.2.222:5060;branch=z9hG4bK1"
            lines = [
                f"SIP/2.0 {status} X",
                *(f"Via: {via}" for via in vias),
                "From: <sip:a@b>;tag=1",
                "To: <sip:c@d>;tag=2",
            ]
            eve.send("\r\n".join([*lines, "Call-ID: 1", "CSeq: 1 INVITE", "Content-Length: 0", "", ""]))
    victim.expect_nothing(2)


def test_one_source_may_send_only_so_much_when_that_is_configured(farm: Farm) -> None:
    node = farm.add_node(limits={"requests_per_second": 10, "burst": 20})
    eve = farm.add_party("eve", account=False)
    for _ in range(100):
        eve.request("OPTIONS", f"sip:{NODE}")
    farm.run(0.5)
    assert eve.count(200) == 20
    assert node.value("sip_rejected", "request-rate") == 80
    other = farm.add_party("alice")
    other.register()
