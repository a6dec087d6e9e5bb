"""A redirect node: it tells callers where users are and forwards nothing (RFC 3261 §8.3, §13.3.1)."""

from __future__ import annotations

import re

from tests.support.farms import NODE, Farm
from tests.support.parties import Dialog


def test_a_caller_is_told_the_contacts_best_first_and_calls_the_phone_itself(farm: Farm) -> None:
    farm.add_node(
        sip={"domains": ["example.com"], "listen": [f"udp:{NODE}:5060", f"tcp:{NODE}:5060"], "role": "redirect"}
    )
    alice = farm.add_party("alice")
    bob = farm.add_party("bob")
    bob.register(contact=f"<{bob.contact}>;q=0.8, <sip:bob@192.0.2.250>;q=0.3")
    sent = alice.ask("INVITE", bob.aor)
    redirect = alice.expect(302)
    alice.acknowledge(sent, redirect)
    contacts = redirect.all("contact")
    assert [re.sub(r";expires=\d+", "", value) for value in contacts] == [
        f"<{bob.contact}>;q=0.8",
        "<sip:bob@192.0.2.250>;q=0.3",
    ]
    bob.expect_nothing(1)
    alice.target = (bob.address, 5060)
    alice.request("INVITE", redirect.contact)
    bob.answer(bob.expect("INVITE"), 200)
    dialog = Dialog.of_caller(alice, alice.expect(200))
    assert dialog.routes == []
    dialog.acknowledge()
    bob.expect("ACK")


def test_a_redirect_node_challenges_its_users_and_says_who_is_not_there(farm: Farm) -> None:
    farm.add_node(sip={"domains": ["example.com"], "listen": [f"udp:{NODE}:5060"], "role": "redirect"})
    alice = farm.add_party("alice")
    farm.add_party("bob")
    sent = alice.ask("INVITE", "sip:bob@example.com")
    alice.acknowledge(sent, alice.expect(480))
    sent = alice.ask("INVITE", "sip:nobody@example.com")
    alice.acknowledge(sent, alice.expect(404))


def test_a_stranger_is_redirected_to_a_user_and_to_nobody_else(farm: Farm) -> None:
    farm.add_node(sip={"domains": ["example.com"], "listen": [f"udp:{NODE}:5060"], "role": "redirect"})
    bob = farm.add_party("bob")
    bob.register()
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    zoe.request("OPTIONS", bob.aor)
    assert bob.contact in zoe.expect(302).first("contact")
    zoe.request("OPTIONS", "sip:x@elsewhere.org")
    zoe.expect(403)
