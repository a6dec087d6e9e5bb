"""Register and call, over every transport, with requests inside the dialog both ways through the farm."""

from __future__ import annotations

import pytest
from twisted.names import dns

from tests.support.farms import NODE, Farm
from tests.support.parties import Dialog, Party, exchange, set_up_call


@pytest.mark.parametrize("callee_transport", ["udp", "tcp"])
@pytest.mark.parametrize("caller_transport", ["udp", "tcp"])
def test_a_registered_user_is_called_and_both_sides_can_speak_in_the_dialog(
    farm: Farm, caller_transport: str, callee_transport: str
) -> None:
    farm.add_node()
    alice = farm.add_party("alice", transport=caller_transport)
    bob = farm.add_party("bob", transport=callee_transport)
    bob.register()
    ours, theirs = set_up_call(alice, bob)
    for dialog, transport in ((ours, caller_transport), (theirs, callee_transport)):
        (route,) = dialog.routes  # one element, one Record-Route, each side's transport in its own
        assert route.partition("@")[2] == f"{NODE}{';transport=tcp' if transport == 'tcp' else ''};lr>"
    exchange(ours, theirs, "INVITE")
    exchange(theirs, ours, "INVITE")
    exchange(theirs, ours, "INFO")
    exchange(ours, theirs, "UPDATE")
    exchange(theirs, ours, "BYE")


def test_a_user_calls_himself_on_his_only_phone(farm: Farm) -> None:
    farm.add_node(auth={"open": True})
    alice = farm.add_party("alice")
    alice.register()
    sent = alice.request("INVITE", alice.aor)
    invite = alice.expect("INVITE")
    alice.answer(invite, 486, tag="callee")
    news = [alice.wait(), alice.wait()]
    assert {message.method or message.status for message in news if message} == {"ACK", 486}
    alice.acknowledge(sent, next(message for message in news if message and message.status == 486))


@pytest.mark.parametrize("sender", [f"<sip:alice@{NODE}>;tag=1", '"A, B" <sip:alice@EXAMPLE.com:5060;user=ip>;tag=1'])
def test_a_phone_that_writes_its_name_another_way_is_the_same_user(farm: Farm, sender: str) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    sent = alice.ask("INVITE", f"sip:bob@{NODE}", sender=sender)
    bob.answer(bob.expect("INVITE"), 486)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))


def test_users_of_two_domains_with_one_name_are_two_users(farm: Farm) -> None:
    farm.add_node(sip={"domains": ["example.com", "example.net"], "listen": [f"udp:{NODE}:5060"]})
    here = farm.add_party("bob")
    there = farm.add_party("bob", domain="example.net")
    alice = farm.add_party("alice", domain="example.net")
    for phone in (here, there):
        phone.register()
    for phone in (here, there):
        ours, theirs = set_up_call(alice, phone)
        exchange(theirs, ours, "BYE")
    alice.request("MESSAGE", "sip:bob@example.com")
    assert 'realm="example.net"' in alice.expect(407).first("proxy-authenticate")


def test_a_phone_that_redirects_has_the_caller_decide(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    bob.answer(bob.expect("INVITE"), 302, headers=["Contact: <sip:bob@elsewhere.net>"])
    bob.expect("ACK")
    moved = alice.expect(302)
    assert moved.contact == "sip:bob@elsewhere.net"
    alice.acknowledge(sent, moved)


def test_a_phone_that_forks_further_on_has_both_its_answers_passed_on(farm: Farm) -> None:
    """One branch, two 2xx of different tags: an exchange behind it rang two phones (RFC 6026 §7.2)."""
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    dialogs = []
    for tag in ("one", "two"):
        answered = bob.answer(invite, 200, tag=tag)
        ours = Dialog.of_caller(alice, alice.expect(200))
        assert tag in ours.remote
        ours.acknowledge()
        bob.expect("ACK")
        dialogs.append((ours, Dialog.of_callee(bob, invite, answered)))
    for ours, theirs in dialogs:
        exchange(ours, theirs, "BYE")


def test_a_phone_that_vanished_without_a_word_is_given_up_after_half_a_minute(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    bob.go_away()
    sent = alice.ask("INVITE", bob.aor)
    alice.expect(100, within=1)
    alice.expect_nothing(31)
    alice.acknowledge(sent, alice.expect(408, within=2))


def test_a_caller_who_vanishes_before_the_refusal_is_forgotten_after_half_a_minute(farm: Farm) -> None:
    node = farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    alice.go_away()
    bob.answer(invite, 486)
    bob.expect("ACK")
    farm.run(70)
    assert node.is_idle()
    assert node.value("sip_timeouts", "H") == 1


def test_a_node_that_is_full_turns_new_calls_away_and_serves_the_old_ones(farm: Farm) -> None:
    node = farm.add_node(auth={"open": True}, limits={"transactions": 4})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    sent = alice.request("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    others = [farm.add_party(f"caller{number}") for number in range(6)]
    for other in others:
        other.request("OPTIONS", bob.aor)
    for _ in range(3):
        bob.answer(bob.expect("OPTIONS"), 200)
    farm.run(0.1)
    assert sorted(other.received[0].status for other in others) == [200, 200, 200, 503, 503, 503]
    assert node.value("sip_rejected", "too-many-transactions") == 3
    bob.answer(invite, 486)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))


def make_two_domains(farm: Farm) -> tuple[Party, Party]:
    """Alice of atlanta.com and bob of biloxi.com, each with a node of their own: the trapezoid of RFC 3261 figure 1."""
    homes = {"atlanta.com": "192.0.2.11", "biloxi.com": "192.0.2.12"}
    for domain, address in homes.items():
        listen = [f"udp:{address}:5060", f"tcp:{address}:5060"]
        farm.add_node(domain.partition(".")[0], address, sip={"domains": [domain], "listen": listen})
    zone: dict[str, list[object]] = {domain: [dns.Record_A(address)] for domain, address in homes.items()}
    farm.add_zone(zone)
    alice, bob = (
        farm.add_party(user, domain=domain, account=False, target=homes[domain])
        for user, domain in (("alice", "atlanta.com"), ("bob", "biloxi.com"))
    )
    for node, party in zip(farm.nodes, (alice, bob), strict=True):
        node.add_user(party.user)
        party.password = party.user
    bob.register()
    return alice, bob


def test_a_call_between_two_domains_passes_both_their_nodes_and_back(farm: Farm) -> None:
    alice, bob = make_two_domains(farm)
    ours, theirs = set_up_call(alice, bob)
    assert [route.rpartition("@")[2] for route in ours.routes] == ["192.0.2.11;lr>", "192.0.2.12;lr>"]
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "INFO")
    exchange(ours, theirs, "BYE")


def test_a_call_between_two_domains_is_cancelled_through_both(farm: Farm) -> None:
    alice, bob = make_two_domains(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    bob.answer(bob.expect("CANCEL"), 200)
    bob.answer(invite, 487)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(487, method="INVITE"))


def test_a_large_call_between_two_domains_goes_over_tcp_between_them(farm: Farm) -> None:
    alice, bob = make_two_domains(farm)
    alice.ask("INVITE", bob.aor, body="x" * 1500)
    invite = bob.expect("INVITE")
    answered = bob.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    theirs = Dialog.of_callee(bob, invite, answered)
    ours.acknowledge()
    bob.expect("ACK")
    assert [route.partition("@")[2] for route in ours.routes] == ["192.0.2.11;lr>", "192.0.2.12;transport=tcp;lr>"]
    assert [route.partition("@")[2] for route in theirs.routes] == ["192.0.2.12;lr>", "192.0.2.11;transport=tcp;lr>"]
    exchange(theirs, ours, "BYE")
