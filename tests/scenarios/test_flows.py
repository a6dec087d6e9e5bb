"""Phones behind NAT and on connections: reached through their own flow, and given up fast when it is gone."""

from __future__ import annotations

import pytest

from farm.registrar.location import Located
from tests.support.farms import NODE, Farm
from tests.support.parties import Dialog, Party, exchange, set_up_call


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.7", "100.64.3.7", "169.254.1.7"])
def test_a_phone_behind_nat_rings_through_the_pinhole_it_opened_and_hangs_up(farm: Farm, address: str) -> None:
    """100.64.0.0/10 is what a carrier's own NAT hands out (RFC 6598)."""
    farm.add_node()
    nat = farm.network.add_nat("198.51.100.9")
    alice = farm.add_party("alice")
    bob = farm.add_party("bob", address=address, behind=nat)
    via = f"SIP/2.0/UDP 198.51.100.9:20000;branch=z9hG4bK{bob.make_token()}"  # a router that rewrites the Via alone
    challenge = bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>", via=via)
    line = bob.make_credentials(challenge, bob.expect(401))
    contact = f"Contact: <{bob.contact}>"
    bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>", via=f"{via}2", headers=[contact, line])
    bob.expect(200)
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    answered = bob.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    assert ours.target == bob.contact
    exchange(Dialog.of_callee(bob, invite, answered), ours, "BYE")


@pytest.mark.parametrize("callee_transport", ["udp", "tcp"])
@pytest.mark.parametrize("caller_transport", ["udp", "tcp"])
def test_two_phones_behind_nat_speak_to_each_other_in_their_dialog(
    farm: Farm, caller_transport: str, callee_transport: str
) -> None:
    """Neither contact can be reached; both flows can."""
    farm.add_node()
    alice, bob = (
        farm.add_party(user, address="10.0.0.7", behind=farm.network.add_nat(public), transport=transport)
        for user, public, transport in (
            ("alice", "198.51.100.9", caller_transport),
            ("bob", "198.51.100.10", callee_transport),
        )
    )
    bob.register()
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "INFO")
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "INVITE")
    exchange(theirs, ours, "BYE")
    assert farm.node.value("flows_opened", "tcp", "out") == 0


def test_a_stranger_behind_nat_who_is_called_back_in_his_dialog_is_reached(farm: Farm) -> None:
    farm.add_node()
    bob = farm.add_party("bob")
    bob.register()
    nat = farm.network.add_nat("198.51.100.9")
    zoe = farm.add_party("zoe", domain="elsewhere.net", address="10.0.0.7", behind=nat, account=False)
    ours, theirs = set_up_call(zoe, bob)
    exchange(theirs, ours, "BYE")


def test_a_call_of_a_phone_whose_connection_broke_is_ended_by_the_other_side(farm: Farm) -> None:
    """The dialog's flow is gone: the request fails at once instead of going astray."""
    farm.add_node()
    alice = farm.add_party("alice")
    nat = farm.network.add_nat("198.51.100.9")
    bob = farm.add_party("bob", address="10.0.0.7", behind=nat, transport="tcp")
    bob.register()
    ours, theirs = set_up_call(alice, bob)
    bob.disconnect()
    began = farm.network.clock.seconds()
    ours.send("BYE")
    final = alice.wait()
    assert final is not None
    assert final.status == 480
    assert farm.network.clock.seconds() - began < 0.2
    theirs.send("BYE")  # over a new connection
    alice.answer(alice.expect("BYE"), 200)
    bob.expect(200)


def test_a_phone_behind_nat_calls_and_is_answered_where_it_came_from(farm: Farm) -> None:
    farm.add_node()
    nat = farm.network.add_nat("198.51.100.9")
    bob = farm.add_party("bob")
    alice = farm.add_party("alice", address="10.0.0.7", behind=nat)
    bob.register()
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "BYE")
    invite = next(message for message in bob.received if message.method == "INVITE")
    assert "rport=20000;" in f"{invite.all('via')[1]};"
    assert "received=198.51.100.9" in invite.all("via")[1]


def test_two_phones_with_one_private_address_behind_two_nats_are_told_apart(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    phones = []
    for user, public in (("bob", "198.51.100.9"), ("carol", "198.51.100.10")):
        phones.append(farm.add_party(user, address="10.0.0.7", behind=farm.network.add_nat(public)))
        phones[-1].register()
    for phone in phones:
        sent = alice.ask("INVITE", phone.aor)
        phone.answer(phone.expect("INVITE"), 486)
        phone.expect("ACK")
        alice.acknowledge(sent, alice.expect(486))


def test_a_phone_on_a_connection_is_called_over_that_connection(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    nat = farm.network.add_nat("198.51.100.9")
    bob = farm.add_party("bob", transport="tcp", address="10.0.0.7", behind=nat)
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    answered = bob.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    exchange(Dialog.of_callee(bob, invite, answered), ours, "BYE")
    assert farm.node.value("flows_opened", "tcp", "out") == 0


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_phone_behind_nat_whose_connection_is_gone_fails_fast(farm: Farm, how: str) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    nat = farm.network.add_nat("198.51.100.9")
    bob = farm.add_party("bob", transport="tcp", address="10.0.0.7", behind=nat)
    bob.register()
    if how == "closed":
        bob.disconnect()
    else:
        bob.host.kill()
        farm.run(0.1)
    began = farm.network.clock.seconds()
    sent = alice.ask("INVITE", bob.aor)
    alice.acknowledge(sent, alice.expect(480))
    assert farm.network.clock.seconds() - began < 0.2


def test_a_phone_without_nat_whose_connection_is_gone_is_called_where_its_contact_says(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob", transport="tcp")
    bob.register()
    bob.disconnect()
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "BYE")
    bob.host.kill()
    farm.run(0.1)
    began = farm.network.clock.seconds()
    sent = alice.ask("INVITE", bob.aor)
    alice.acknowledge(sent, alice.expect(480))
    assert farm.network.clock.seconds() - began < 0.2


def test_a_phone_that_lost_its_connection_is_passed_over_for_its_other_one(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    gone = farm.add_party("bob", transport="tcp")
    there = farm.add_party("bob", account=False)
    there.password = "bob"
    gone.register()
    there.register()
    gone.disconnect()
    ours, theirs = set_up_call(alice, there)
    exchange(ours, theirs, "BYE")


def test_a_phone_that_loses_its_connection_while_it_rings_frees_the_caller_at_once(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob", transport="tcp")
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    bob.expect("INVITE")
    bob.host.kill()
    alice.acknowledge(sent, alice.expect(480, within=1))


def test_a_phone_that_connects_and_registers_again_is_called_on_its_new_connection(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob", transport="tcp")
    instance = f'<{bob.contact}>;+sip.instance="<urn:uuid:1>";reg-id=1'
    bob.register(contact=instance)
    bob.disconnect()
    bob.register(contact=instance)
    found = farm.node.node.core.location.find(bob.aor, farm.node.seconds())
    assert isinstance(found, Located)
    assert len(found.bindings) == 1
    ours, theirs = set_up_call(alice, bob)
    exchange(theirs, ours, "BYE")


def test_a_caller_s_answers_come_over_its_connection_or_a_new_one_to_where_it_listens(farm: Farm) -> None:
    """§18.2.2: when the connection that a request came on is closed, a new one is opened."""
    farm.add_node()
    alice = farm.add_party("alice", transport="tcp")
    bob = farm.add_party("bob")
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    alice.disconnect()
    bob.answer(invite, 180)
    ringing = alice.expect(180)
    assert ringing.source[0] == NODE
    assert farm.node.value("flows_opened", "tcp", "out") == 1
    bob.answer(invite, 486)
    alice.expect(486)
    bob.expect("ACK")


def test_a_keep_alive_is_answered_on_a_connection_and_taken_on_udp(farm: Farm) -> None:
    farm.add_node()
    bob = farm.add_party("bob", transport="tcp")
    stream = bob.connect()
    heard: list[bytes] = []
    stream.dataReceived = heard.append  # type: ignore[method-assign, assignment]
    stream.write(b"\r\n\r\n")
    farm.run(0.1)
    assert heard == [b"\r\n"]
    phone = farm.add_party("carol")
    phone.host.network.send_datagram(phone.host, (phone.address, 5060), (NODE, 5060), b"\r\n\r\n")
    farm.run(0.1)
    assert phone.received == []
    assert farm.node.value("keepalives", "udp") == 1


def test_a_silent_connection_is_closed_and_a_live_one_is_kept(farm: Farm) -> None:
    farm.add_node(limits={"idle_seconds": 100, "first_message_seconds": 20})
    silent = farm.add_party("alice", transport="tcp")
    live = farm.add_party("bob", transport="tcp")
    silent.connect()
    live.register()
    for _ in range(3):
        farm.run(60)
        live.connect().write(b"\r\n\r\n")
    assert farm.node.value("flows", "tcp") == 1
    assert farm.node.value("sip_rejected", "no-first-message") == 1


def test_a_message_may_come_byte_by_byte_but_not_for_ever(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice", transport="tcp")
    data = alice.make_request("OPTIONS", f"sip:{NODE}").encode()
    for byte in data:
        alice.connect().write(bytes([byte]))
        farm.run(0.001)
    alice.expect(200)
    alice.connect().write(data[:-10])
    farm.run(11)
    assert farm.node.value("sip_rejected", "slow-message") == 1
    assert farm.node.value("flows", "tcp") == 0


def register_many(farm: Farm, phone: Party, count: int) -> None:
    """So many contacts of one phone in one request."""
    contacts = ", ".join(f"<sip:bob@{phone.address}:{5060 + number}>" for number in range(count))
    phone.register(contact=contacts)


def test_a_user_with_sixteen_phones_is_rung_on_all_and_has_no_seventeenth(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob")
    register_many(farm, bob, 16)
    phones = [bob, *(Party(bob.host, "bob", port=5060 + number) for number in range(1, 16))]
    sent = alice.ask("INVITE", bob.aor)
    for phone in phones:
        phone.answer(phone.expect("INVITE"), 486)
        phone.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    request = bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>", headers=["Contact: <sip:bob@192.0.2.250>"])
    bob.ask_again(request, bob.expect(401), to=f"<{bob.aor}>", headers=["Contact: <sip:bob@192.0.2.250>"])
    bob.expect(403)
