"""What a carrier bills by, against callers who would rather not be billed, and for those who hung up."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.names import dns

from tests.scenarios.test_call_records import add_farm, add_two, keep, read
from tests.support.faces import add_face, address_of, turn_to
from tests.support.farms import Farm, FarmNode
from tests.support.parties import Dialog, Party, exchange, set_up_call

GATEWAY = "192.0.2.201"
NUMBER = "sip:+493012345@example.com"


def add_gateway(farm: Farm) -> tuple[Party, Party, Party]:
    """A node that keeps records and has a gateway, alice, her friend, and the gateway."""
    alice, friend = add_two(
        farm, **keep(farm, answers=False), gateways=[{"prefix": "+49", "to": [f"sip:{GATEWAY}"], "probe_seconds": 0.0}]
    )
    return alice, friend, farm.add_party("gateway", address=GATEWAY, account=False)


def call_out(caller: Party, gateway: Party, uri: str = NUMBER, **parts: Any) -> tuple[Dialog, Dialog]:
    """A call that the gateway answers."""
    caller.ask("INVITE", uri, **parts)
    invite = gateway.expect("INVITE")
    answered = gateway.answer(invite, 200)
    ours = Dialog.of_caller(caller, caller.expect(200))
    ours.acknowledge()
    gateway.expect("ACK")
    return ours, Dialog.of_callee(gateway, invite, answered)


def nothing_runs(node: FarmNode) -> bool:
    """Whether nothing is left of any call."""
    calls = node.node.calls.calls
    return not calls.ringing and not calls._ringing and not calls._running


@pytest.mark.parametrize(
    ("sender", "user", "domain"),
    [
        ("<sip:anonymous@anonymous.invalid>;tag=1", "anonymous", "anonymous.invalid"),
        ("<tel:+4930999>;tag=1", "+4930999", ""),
        ("<sip:%61lice@example.com>;tag=1", "alice", "example.com"),
        ("<sip:alice:secret@EXAMPLE.COM>;tag=1", "alice", "EXAMPLE.COM"),
        (f'"{"x" * 3000}" <sip:alice@example.com>;tag=1', "alice", "example.com"),
    ],
)
def test_whatever_a_caller_calls_himself_the_record_names_whose_credentials_he_used(
    farm: Farm, sender: str, user: str, domain: str
) -> None:
    alice, _, gateway = add_gateway(farm)
    ours, theirs = call_out(alice, gateway, sender=sender)
    exchange(theirs, ours, "BYE")
    (line,) = read(farm)
    assert (line["src_user"], line["src_domain"], line["auth_user"]) == (user, domain, "alice@example.com")


@pytest.mark.parametrize(
    "uri", ["sip:%2b49%33012345@example.com", f"sip:+493012345:{'x' * 1500}@example.com", "tel:+49-30-12345"]
)
def test_however_a_number_is_written_the_record_has_it(farm: Farm, uri: str) -> None:
    alice, _, gateway = add_gateway(farm)
    ours, theirs = call_out(alice, gateway, uri, to="<sip:nobody@example.com>")
    exchange(ours, theirs, "BYE")
    (line,) = read(farm)
    assert line["dst_user"] == "+493012345"
    assert line["dst_ouser"].replace("-", "") == "+493012345"


def test_a_bye_that_went_to_a_friend_is_seen_by_where_it_went(farm: Farm) -> None:
    alice, friend, gateway = add_gateway(farm)
    ours, _ = call_out(alice, gateway)
    ours.target = friend.contact
    ours.send("BYE")
    friend.answer(friend.expect("BYE"), 200)
    alice.expect(200)
    (line,) = read(farm)
    assert (line["egress_target"], line["bye_address"], line["bye_code"]) == (
        f"{GATEWAY}:5060", f"{friend.address}:5060", 200,
    )  # fmt: skip


@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_an_honest_bye_has_the_address_of_the_gateway(farm: Farm, ends: str) -> None:
    alice, _, gateway = add_gateway(farm)
    ours, theirs = call_out(alice, gateway)
    exchange(*((ours, theirs) if ends == "caller" else (theirs, ours)), "BYE")
    (line,) = read(farm)
    assert line["ended_by"] == ends
    assert line["bye_address"] == line["egress_target"] == f"{GATEWAY}:5060"


def test_a_call_to_a_friend_with_the_same_tags_does_not_take_the_place_of_the_dear_one(farm: Farm) -> None:
    alice, friend, gateway = add_gateway(farm)
    first = alice.ask("INVITE", friend.aor, call_id="same")
    ringing = friend.expect("INVITE")
    friend.answer(ringing, 180)
    alice.expect(180)
    ours, theirs = call_out(alice, gateway, call_id="same")
    farm.run(1)
    friend.answer(ringing, 200, tag=gateway.tag)
    alice.expect(200)
    farm.run(60)
    gateway._news.clear()
    alice._news.clear()
    friend._news.clear()
    exchange(ours, theirs, "BYE")
    lines = read(farm)
    assert sorted((line["egress_target"], line["callid"], line["again"]) for line in lines) == sorted(
        [(f"{friend.address}:5060", "same", False), (f"{GATEWAY}:5060", "same", True)]
    )
    assert min(line["duration"] for line in lines) > 59
    assert first is not None
    assert nothing_runs(farm.node)


def test_a_tag_in_the_first_to_buys_no_free_call(farm: Farm) -> None:
    alice, _, gateway = add_gateway(farm)
    alice.ask("INVITE", NUMBER, to=f"<{NUMBER}>;tag=x")
    invite = gateway.expect("INVITE")
    gateway.answer(invite, 200)
    assert alice.expect(200) is not None
    (row,) = farm.node.node.calls.rows(10, 0.0)
    assert row["dst_ouser"] == "+493012345"


def test_a_caller_who_hangs_up_by_bye_while_it_rings_has_had_no_call(farm: Farm) -> None:
    alice, bob = add_two(farm)
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    early = Dialog.of_caller(alice, alice.expect(180))
    early.target = bob.contact
    early.send("BYE")
    bob.answer(bob.expect("BYE"), 200)
    bob.answer(invite, 487)
    bob.expect("ACK")
    (line,) = read(farm)
    assert (line["event"], line["result"], line["partial"]) == ("failed", "cancelled", False)
    assert nothing_runs(farm.node)


def test_the_seconds_that_a_bye_waits_for_its_answer_are_not_billed(farm: Farm) -> None:
    alice, bob = add_two(farm, **keep(farm, answers=False))
    ours, _ = set_up_call(alice, bob)
    farm.run(10)
    bob.go_away()
    ours.send("BYE")
    farm.run(40)
    (line,) = read(farm)
    assert line["duration"] == pytest.approx(10, abs=0.5)
    assert line["bye_code"] == 408


@pytest.mark.parametrize("registered", [True, False])
def test_who_hangs_up_on_a_phone_that_has_lost_its_connection_pays_no_longer(farm: Farm, registered: bool) -> None:
    farm.add_node(**keep(farm, answers=False))
    alice, bob = farm.add_party("alice"), farm.add_party("bob", transport="tcp")
    bob.register()
    ours, _ = set_up_call(alice, bob)
    farm.run(10)
    if not registered:
        bob.register(contact="*", expires=0)
    bob.disconnect()
    bob.go_away()
    farm.run(1)
    ours.send("BYE")
    farm.run(40)
    (line,) = read(farm)
    assert (line["ended_by"], round(line["duration"])) == ("caller", 11)
    assert nothing_runs(farm.node)


def test_a_bye_by_another_node_that_nobody_answers_ends_the_call_where_it_began(farm: Farm) -> None:
    _, alice, bob = add_farm(farm)
    ours, _ = set_up_call(alice, bob)
    farm.run(10)
    bob.go_away()
    alice.target = ("192.0.2.3", 5060)
    ours.send("BYE")
    farm.run(40)
    (line,) = read(farm, "n2", "ended")
    assert (line["ended_by"], line["bye_code"], round(line["duration"])) == ("caller", 408, 10)
    assert read(farm, "n3") == []


@pytest.mark.parametrize("by_callee", [True, False])
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_call_that_was_diverted_to_another_user_ends_at_every_node_that_has_it(
    farm: Farm, nodes: int, by_callee: bool
) -> None:
    farm.add_zone({"example.com": [dns.Record_A(address_of(nodes - 1))]})
    add_face(farm, nodes, auth={"open": True})
    alice, bob, carol = farm.add_party("alice"), farm.add_party("bob"), farm.add_party("carol")
    bob.register(contact="<sip:carol@example.com>")
    carol.register()
    ours, theirs = set_up_call(alice, carol, bob.aor)
    turn_to(alice, nodes - 1)
    exchange(*((theirs, ours) if by_callee else (ours, theirs)), "BYE")
    farm.run(2)
    assert [len(node.node.calls.calls) for node in farm.nodes] == [0] * nodes
    assert all(nothing_runs(node) for node in farm.nodes)
