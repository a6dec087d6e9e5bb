"""Requests that come back: loops end at once, and forking cannot multiply them (RFC 3261 §16.3, RFC 5393)."""

from __future__ import annotations

import pytest
from twisted.names import dns

from tests.support.faces import add_face, add_phone, address_of, turn_to
from tests.support.farms import NODE, Farm
from tests.support.parties import exchange, set_up_call

HOME = {"example.com": [dns.Record_A(NODE)]}


def test_a_contact_that_points_back_to_us_is_a_loop_and_not_a_storm(farm: Farm) -> None:
    node = farm.add_node(auth={"open": True})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    farm.add_zone(HOME)
    bob.register(contact="<sip:bob@example.com>")
    sent = alice.request("INVITE", bob.aor)
    alice.acknowledge(sent, alice.expect(482))
    assert node.value("sip_rejected", "loop") == 1
    assert node.value("sip_requests", "INVITE", "out") == 1


def test_two_users_that_point_at_each_other_are_a_loop(farm: Farm) -> None:
    node = farm.add_node(auth={"open": True})
    alice, bob, carol = (farm.add_party(name) for name in ("alice", "bob", "carol"))
    bob.register(contact="<sip:carol@example.com>")
    carol.register(contact="<sip:bob@example.com>")
    farm.add_zone(HOME)
    sent = alice.request("INVITE", bob.aor)
    alice.acknowledge(sent, alice.expect(482))
    assert node.value("sip_requests", "INVITE", "out") == 2


def test_the_attack_of_rfc_5393_ends_with_few_messages(farm: Farm) -> None:
    """Two users, each with contacts for both: every arrival forks in two, 2^70 requests without the corrections."""
    node = farm.add_node(auth={"open": True})
    alice, bob, carol = (farm.add_party(name) for name in ("alice", "bob", "carol"))
    farm.add_zone(HOME)
    contacts = ", ".join(f"<sip:{name}@example.com;unused={number}>" for number, name in enumerate(("bob", "carol")))
    bob.register(contact=contacts)
    carol.register(contact=contacts)
    alice.request("INVITE", bob.aor)
    final = alice.wait(120)
    assert final is not None
    assert final.status in (440, 482, 483)
    assert node.value("sip_requests", "INVITE", "out") <= 130


def test_a_spiral_is_no_loop(farm: Farm) -> None:
    """A request that comes back changed goes on: bob's calls are diverted to carol through ourselves."""
    farm.add_node(auth={"open": True})
    alice, bob, carol = (farm.add_party(name) for name in ("alice", "bob", "carol"))
    farm.add_zone(HOME)
    bob.register(contact="<sip:carol@example.com>")
    carol.register()
    sent = alice.request("INVITE", bob.aor)
    invite = carol.expect("INVITE")
    assert len(invite.all("via")) == 3
    carol.answer(invite, 486)
    carol.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))


@pytest.mark.parametrize("how", ["nat", "tcp"])
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_diverted_call_goes_on_over_the_flow_of_the_phone_that_took_it(farm: Farm, nodes: int, how: str) -> None:
    """Both of its Record-Routes are ours, and neither of its requests needs to come by us twice."""
    farm.add_zone({"example.com": [dns.Record_A(address_of(nodes - 1))]})
    add_face(farm, nodes, auth={"open": True})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    carol = add_phone(farm, "carol", how, 0)
    bob.register(contact="<sip:carol@example.com>")
    carol.register()
    ours, theirs = set_up_call(alice, carol, bob.aor)
    for node in range(nodes):
        turn_to(alice, node)
        assert len(exchange(ours, theirs, "INVITE").all("via")) == 2
        assert len(exchange(theirs, ours, "INVITE").all("via")) == 2
    exchange(theirs, ours, "BYE")


def test_a_request_out_of_hops_is_refused(farm: Farm) -> None:
    farm.add_node(auth={"open": True})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.request("MESSAGE", bob.aor, max_forwards=0)
    alice.expect(483)
    alice.request("MESSAGE", bob.aor, max_forwards=1)
    message = bob.expect("MESSAGE")
    assert message.first("max-forwards") == "0"
    bob.answer(message, 200)
    alice.expect(200)


def test_breadth_is_shared_among_phones_and_none_is_left_for_zero(farm: Farm) -> None:
    farm.add_node(auth={"open": True}, proxy={"max_breadth": 10})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    other = farm.add_party("bob")
    bob.register()
    other.register()
    sent = alice.request("INVITE", bob.aor)
    for phone in (bob, other):
        invite = phone.expect("INVITE")
        assert invite.first("max-breadth") == "5"
        phone.answer(invite, 486)
        phone.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    sent = alice.request("INVITE", bob.aor, headers=["Max-Breadth: 1"])
    first = bob.wait(0.5) or other.wait(0.5)
    assert first is not None
    assert first.first("max-breadth") == "1"
    phone, last = (bob, other) if bob.count("INVITE") == 2 else (other, bob)
    last.expect_nothing(2)
    phone.answer(first, 486)
    phone.expect("ACK")
    last.answer(last.expect("INVITE"), 486)
    last.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    alice.request("MESSAGE", bob.aor, headers=["Max-Breadth: 0"])
    alice.expect(440)
