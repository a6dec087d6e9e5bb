"""Three nodes and one location service: what a phone at one of them is to callers at the others, whatever breaks."""

from __future__ import annotations

import random
import re

import pytest

from farm.admin.control import Control
from farm.frontend.token import Tokens
from farm.sip.hop import FlowName, Hop
from tests.support.farms import Farm, FarmNode
from tests.support.network import Host
from tests.support.parties import Dialog, Message, Party, exchange, set_up_call

SQLITE = {"backend": "sqlite", "flush_seconds": 0.5}
AT = [(f"192.0.2.{number}", 5060) for number in range(1, 5)]


def follow_routes(dialog: Dialog) -> Dialog:
    """A UDP phone sends what belongs to a dialog to its first Route, not to the node it calls by; where that is the
    farm's name, to any node."""
    if dialog.party.transport == "udp" and dialog.routes:
        found = re.search(r"@([0-9.]+)(?::([0-9]+))?[;>]", dialog.routes[0])
        dialog.party.target = (found[1], int(found[2] or 5060)) if found is not None else AT[1]
    return dialog


def call(caller: Party, callee: Party) -> tuple[Dialog, Dialog]:
    """A call that is up."""
    ours, theirs = set_up_call(caller, callee)
    return follow_routes(ours), follow_routes(theirs)


def add_phone(farm: Farm, user: str, how: str, node: int) -> Party:
    """A phone that registers at a node: on UDP, on a connection, or from behind a NAT."""
    target = AT[node][0]
    if how == "nat":
        return farm.add_party(user, address="10.0.0.7", behind=farm.network.add_nat("198.51.100.9"), target=target)
    return farm.add_party(user, transport=how, target=target)


def fetch(party: Party) -> list[str]:
    """The contacts in the 200 to a REGISTER that changes nothing."""
    sent = party.request("REGISTER", "sip:example.com", to=f"<{party.aor}>")
    party.ask_again(sent, party.expect(401), to=f"<{party.aor}>")
    return [value.partition(";expires")[0] for value in party.expect(200).all("contact")]


def refuse(caller: Party, uri: str) -> tuple[Message, float]:
    """The final answer to a call that does not succeed, and the seconds that it took."""
    began = caller.network.clock.seconds()
    sent = caller.ask("INVITE", uri)
    final = caller.wait()
    assert final is not None
    caller.acknowledge(sent, final)
    return final, caller.network.clock.seconds() - began


def hosts(nodes: list[FarmNode], *parties: Party) -> list[Host]:
    return [*(node.host for node in nodes), *(party.host for party in parties)]


@pytest.mark.parametrize("how", ["udp", "tcp", "nat"])
@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_a_phone_of_one_node_is_called_through_another_and_either_side_hangs_up(
    farm: Farm, how: str, ends: str
) -> None:
    farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[2][0])
    bob = add_phone(farm, "bob", how, 1)
    bob.register()
    ours, theirs = call(alice, bob)
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "INFO")
    if ends == "caller":
        exchange(ours, theirs, "BYE")
    else:
        exchange(theirs, ours, "BYE")


@pytest.mark.parametrize("how", ["tcp", "nat"])
def test_two_phones_with_flows_of_two_nodes_speak_to_each_other(farm: Farm, how: str) -> None:
    farm.add_nodes(2)
    bob = add_phone(farm, "bob", how, 1)
    alice = farm.add_party(
        "alice", address="10.0.0.8", behind=farm.network.add_nat("198.51.100.10"), transport="tcp", target=AT[0][0]
    )
    bob.register()
    ours, theirs = set_up_call(alice, bob)
    exchange(theirs, ours, "INFO")
    exchange(ours, theirs, "INVITE")
    exchange(theirs, ours, "INVITE")
    exchange(theirs, ours, "BYE")


@pytest.mark.parametrize("how", ["tcp", "nat"])
@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_where_all_nodes_have_one_name_a_dialog_comes_by_any_of_them_and_reaches_the_flow(
    farm: Farm, how: str, ends: str
) -> None:
    farm.add_nodes(3, sip={"farm_name": "sip.example.com"})
    alice = farm.add_party("alice", target=AT[2][0])
    bob = add_phone(farm, "bob", how, 0)
    bob.register()
    ours, theirs = call(alice, bob)
    assert [route.partition("@")[2] for route in ours.routes] == ["sip.example.com;lr>"]
    transport = ";transport=tcp" if how == "tcp" else ""
    assert [route.partition("@")[2] for route in theirs.routes] == [f"sip.example.com{transport};lr>"]
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "INFO")
    exchange(*((ours, theirs) if ends == "caller" else (theirs, ours)), "BYE")


@pytest.mark.parametrize("moved", ["same-instance", "same-contact", "only-contact"])
def test_a_phone_that_lost_its_node_during_a_call_is_found_where_it_registered_again(farm: Farm, moved: str) -> None:
    """The dialog's Request-URI is what it knows the call by, whatever Contact it has now."""
    nodes = farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[0][0])
    nat = farm.network.add_nat("198.51.100.9")
    bob = farm.add_party("bob", address="10.0.0.7", behind=nat, transport="tcp", target=AT[1][0])
    params = ';+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"' if moved == "same-instance" else ""
    bob.register(contact=f"<{bob.contact}>{params}")
    ours, theirs = set_up_call(alice, bob)
    nodes[1].kill()
    farm.wait_until_synchronised()
    bob.disconnect()
    bob.target = AT[2]
    contact = bob.contact if moved == "same-contact" else "sip:bob@10.0.0.7:5099;transport=tcp"
    bob.register(contact=f"<{contact}>{params}")
    if moved == "only-contact":  # its registration with the dead node has lapsed
        farm.wait(nodes[2].node.core.location.remove(bob.aor, nodes[2].seconds()))
        bob.register(contact=f"<{contact}>{params}")
    exchange(ours, theirs, "INVITE")
    assert [message.first_line.split()[1] for message in bob.received[-2:]] == [ours.target] * 2, "INVITE and ACK"
    exchange(ours, theirs, "INFO")
    exchange(theirs, ours, "BYE")


@pytest.mark.parametrize("which", ["another-farm", "another-dialog"])
def test_a_token_that_is_none_of_a_stranger_s_leads_nowhere(farm: Farm, which: str) -> None:
    """Answered 403, counted, never followed (RFC 5626 §5.3)."""
    nodes = farm.add_nodes(2)
    bob = add_phone(farm, "bob", "tcp", 1)
    bob.register()
    alice = farm.add_party("alice", target=AT[0][0])
    ours, theirs = call(alice, bob)
    seen = ours.routes[0].partition(":")[2].partition("@")[0]
    exchange(ours, theirs, "BYE")
    foreign = Tokens(bytes(range(32)), random.Random(1)).make_flow(FlowName(1, Hop("UDP", "192.0.2.9", 5060)))
    route = {"another-farm": foreign, "another-dialog": seen}[which]
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False, target=AT[1][0])
    sent = zoe.request("INVITE", bob.contact, headers=[f"Route: <sip:{route}@{AT[1][0]};lr>"])
    zoe.acknowledge(sent, zoe.expect(403))
    assert nodes[1].value("sip_rejected", "token-refused") == 1


def test_a_call_to_a_flow_of_another_node_can_be_cancelled(farm: Farm) -> None:
    farm.add_nodes(2)
    alice = farm.add_party("alice", target=AT[0][0])
    bob = add_phone(farm, "bob", "tcp", 1)
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    bob.answer(bob.expect("CANCEL"), 200)
    bob.answer(invite, 487)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(487))


def test_the_bindings_of_a_phone_are_shown_by_every_node(farm: Farm) -> None:
    nodes = farm.add_nodes(4)
    bob = farm.add_party("bob", target=AT[0][0])
    bob.register()
    for node, place in zip(nodes, AT, strict=True):
        bob.target = place
        assert fetch(bob) == [f"<{bob.contact}>"]
        shown = farm.wait(node.node.reports.find_bindings(bob.aor, node.seconds()))
        assert shown is not None
        assert [binding["contact"] for binding in shown] == [bob.contact]
    bob.register(expires=0)
    assert [node.contacts_of(bob.aor) for node in nodes] == [[]] * 4


def test_a_late_register_through_a_third_node_does_not_undo_a_removal(farm: Farm) -> None:
    """One phone, one Call-ID, each request at another node; CSeq tells their order."""
    nodes = farm.add_nodes(3)
    bob = farm.add_party("bob")

    def register(node: int, cseq: int, expires: int) -> Message:
        bob.target = AT[node]
        headers = [f"Contact: <{bob.contact}>", f"Expires: {expires}"]
        sent = bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>", call_id="one", cseq=cseq, headers=headers)
        bob.ask_again(sent, bob.expect(401), to=f"<{bob.aor}>", headers=headers)
        answer = bob.wait()
        assert answer is not None
        return answer

    assert register(0, 10, 3600).status == 200
    assert register(1, 20, 0).status == 200
    assert register(2, 12, 3600).status == 500
    assert [node.contacts_of(bob.aor) for node in nodes] == [[]] * 3
    assert register(2, 30, 3600).status == 200
    assert [node.contacts_of(bob.aor) for node in nodes] == [[bob.contact]] * 3


def test_a_nonce_of_one_node_is_good_at_another(farm: Farm) -> None:
    farm.add_nodes(2)
    bob = farm.add_party("bob", target=AT[0][0])
    sent = bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>")
    challenge = bob.expect(401)
    bob.target = AT[1]
    bob.ask_again(sent, challenge, to=f"<{bob.aor}>", headers=[f"Contact: <{bob.contact}>"])
    bob.expect(200)


def test_with_too_few_owners_a_phone_hears_500_and_when_to_come_again(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    bob = farm.add_party("bob", target=AT[0][0])
    bob.register()
    for node in nodes[1:]:
        node.host.pause()
    assert fetch(bob) == [f"<{bob.contact}>"], "what is found is answered, however few have it"
    headers = [f"Contact: <{bob.contact}>"]
    sent = bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>", headers=headers)
    bob.ask_again(sent, bob.expect(401), to=f"<{bob.aor}>", headers=headers)
    assert bob.expect(500).first("retry-after") == "2"
    assert nodes[0].value("sip_rejected", "store-unavailable") == 1
    for node in nodes[1:]:
        node.host.resume()
    farm.wait_until_synchronised()
    bob.register()


def test_a_machine_that_vanishes_without_a_word_is_found_out(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[0][0])
    bob, carol = farm.add_party("bob", target=AT[1][0]), add_phone(farm, "carol", "nat", 1)
    bob.register()
    carol.register()
    nodes[1].power_off()
    exchange(*call(alice, bob), "BYE")  # it may take a little longer, no more
    alice.target = AT[0]
    farm.wait_until_synchronised(30)
    final, seconds = refuse(alice, carol.aor)
    assert (final.status, seconds < 0.1) == (480, True)


def test_a_user_added_through_one_node_is_a_user_of_all_and_one_removed_of_none(farm: Farm) -> None:
    nodes = farm.add_nodes(4)
    alice = farm.add_party("alice", target=AT[0][0])
    for place in AT:
        alice.target = place
        alice.register()
    farm.wait(nodes[3].node.users.remove("alice", nodes[3].seconds()))
    for place in AT:
        alice.target = place
        sent = alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
        alice.ask_again(sent, alice.expect(401), to=f"<{alice.aor}>")
        alice.expect(401)


def test_the_list_of_users_is_whole_on_every_node_although_none_holds_all(farm: Farm) -> None:
    nodes = farm.add_nodes(5)
    for number in range(20):
        nodes[number % 5].add_user(f"user{number:02}")
    farm.wait(nodes[0].node.users.set_disabled("user07", True, nodes[0].seconds()))
    aors = [f"sip:user{number:02}@example.com" for number in range(20)]
    for node in nodes:
        assert node.node.records.store.shelves["credential"].live < 20
        listed = farm.wait(Control(node.node.reports, node.node.reports).run("list-users", {}))
        assert listed == {"users": [{"aor": aor, "disabled": "07" in aor} for aor in aors]}


def test_a_call_to_nobody_and_to_a_user_who_is_away_are_told_apart_by_every_node(farm: Farm) -> None:
    farm.add_nodes(4)
    alice = farm.add_party("alice")
    away = farm.add_party("away")
    for place in AT:
        alice.target = place
        assert refuse(alice, "sip:nobody@example.com")[0].status == 404
        assert refuse(alice, away.aor)[0].status == 480


def test_when_a_node_dies_phones_with_an_address_are_reached_through_the_others(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[0][0])
    bob = farm.add_party("bob", target=AT[1][0])
    bob.register()
    nodes[1].kill()
    farm.run(1)
    exchange(*call(alice, bob), "BYE")
    farm.run(30)
    exchange(*call(alice, bob), "BYE")


@pytest.mark.parametrize("how", ["tcp", "nat"])
def test_when_a_node_dies_its_flows_are_dead_at_once(farm: Farm, how: str) -> None:
    nodes = farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[0][0])
    bob = add_phone(farm, "bob", how, 1)
    bob.register()
    nodes[1].kill()
    farm.wait_until_synchronised()
    assert nodes[0].node.member is not None
    final, seconds = refuse(alice, bob.aor)
    assert (final.status, seconds < 0.1) == (480, True)
    bob.target = AT[2]
    bob.register(headers=["Supported: path"])  # it finds another node
    exchange(*call(alice, bob), "BYE")


def test_a_phone_with_flows_to_two_nodes_is_called_over_the_one_that_lives(farm: Farm) -> None:
    """RFC 5626: one instance, two registrations."""
    nodes = farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[2][0])
    bob = farm.add_party("bob", transport="tcp", target=AT[0][0])
    contact = f'<{bob.contact}>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'
    bob.register(contact=f"{contact};reg-id=1", headers=["Supported: outbound"])
    bob.target = AT[1]
    bob._stream = None
    bob.register(contact=f"{contact};reg-id=2", headers=["Supported: outbound"])
    assert len(nodes[2].contacts_of(bob.aor)) == 2
    nodes[1].kill()
    farm.wait_until_synchronised()
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "BYE")


def test_a_node_that_was_restarted_has_what_it_had_and_what_it_missed(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[0][0])
    bob = farm.add_party("bob", target=AT[1][0])
    bob.register()
    nodes[1].kill()
    farm.run(2)
    carol = farm.add_party("carol", target=AT[2][0])
    carol.register()
    nodes[1].start()
    farm.wait_until_synchronised()
    alice.target = AT[1]
    for callee in (bob, carol):
        exchange(*call(alice, callee), "BYE")
        alice.target = AT[1]
    assert nodes[1].value("registrations") == 2
    farm.run(5)


def test_a_connection_of_before_the_restart_is_not_used_after_it(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[0][0])
    nat = farm.network.add_nat("198.51.100.9")
    bob = farm.add_party("bob", address="10.0.0.7", behind=nat, transport="tcp", target=AT[1][0])
    bob.register()
    nodes[1].restart()
    farm.wait_until_synchronised()
    final, seconds = refuse(alice, bob.aor)
    assert (final.status, seconds < 0.2) == (480, True)


def test_a_node_that_is_drained_takes_nothing_new_and_hands_over(farm: Farm) -> None:
    nodes = farm.add_nodes(4)
    alice = farm.add_party("alice", target=AT[0][0])
    phones = [farm.add_party(f"phone{number}", target=AT[1][0]) for number in range(8)]
    for phone in phones:
        phone.register()
    ours, theirs = call(alice, phones[0])
    nodes[0].node.reports.drain()
    assert not nodes[0].node.reports.ready()
    assert network_runs_until(farm, lambda: nodes[0].state == "left", 30)
    alice.target = AT[0]
    sent = alice.request("INVITE", phones[1].aor)
    answer = alice.expect(503)
    assert answer.first("retry-after")
    alice.acknowledge(sent, answer)
    exchange(theirs, ours, "BYE")  # what runs goes on
    nodes[0].kill()
    farm.wait_until_synchronised()
    alice.target = AT[3]
    for phone in phones:
        exchange(*call(alice, phone), "BYE")
        alice.target = AT[3]
    assert all(sum(bool(member.contacts_of(phone.aor)) for member in nodes[1:]) == 3 for phone in phones)


def test_a_node_that_is_stopped_while_it_is_drained_hands_over_first(farm: Farm) -> None:
    """`sipfarm drain` and SIGTERM right after it, as a container's preStop does."""
    nodes = farm.add_nodes(4)
    phones = [farm.add_party(f"phone{number}", target=AT[1][0]) for number in range(8)]
    for phone in phones:
        phone.register()
    nodes[0].node.reports.drain()
    nodes[0].stop()
    members = [each.node.member for each in nodes[1:]]
    assert [each.node.membership.counts()["left"] for each in members if each is not None] == [1, 1, 1]
    assert all(sum(bool(member.contacts_of(phone.aor)) for member in nodes[1:]) == 3 for phone in phones)


def test_a_drained_node_that_is_told_to_serve_again_does(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    alice = farm.add_party("alice", target=AT[0][0])
    bob = farm.add_party("bob", target=AT[0][0])
    reports = nodes[0].node.reports
    reports.drain()
    farm.run(5)
    reports.undrain()
    farm.wait_until_synchronised()
    assert reports.ready()
    bob.register()
    exchange(*call(alice, bob), "BYE")


def test_a_stopped_node_says_goodbye_and_loses_nothing(farm: Farm) -> None:
    nodes = farm.add_nodes(4)
    phones = [farm.add_party(f"phone{number}", target=AT[0][0]) for number in range(8)]
    for phone in phones:
        phone.register()
    nodes[0].stop()
    assert nodes[0].host.getDelayedCalls() == []
    assert not nodes[0].host.connections
    farm.wait_until_synchronised()
    member = nodes[1].node.member
    assert member is not None
    assert member.node.membership.counts()["left"] == 1
    assert [nodes[2].contacts_of(phone.aor) for phone in phones] == [[phone.contact] for phone in phones]


def test_both_halves_of_a_divided_farm_serve_and_are_one_again_when_it_heals(farm: Farm) -> None:
    nodes = farm.add_nodes(4)
    alice, bob, carol = (farm.add_party(user) for user in ("alice", "bob", "carol"))
    alice.target, bob.target, carol.target = AT[0], AT[1], AT[2]
    bob.register()
    farm.network.partition(hosts(nodes[:2], alice, bob), hosts(nodes[2:], carol))
    farm.run(40)
    alice.register()
    carol.register()
    bob.register(expires=0)
    exchange(*call(bob, alice), "BYE")
    bob.target = AT[1]
    assert nodes[2].contacts_of(bob.aor) == [bob.contact]
    assert nodes[3].contacts_of(alice.aor) == []
    farm.network.heal()
    farm.wait_until_synchronised()
    assert network_runs_until(farm, lambda: nodes[3].contacts_of(bob.aor) == [], 60)
    for node in nodes:
        found = [node.contacts_of(party.aor) for party in (alice, bob, carol)]
        assert found == [[alice.contact], [], [carol.contact]]


def test_after_the_power_was_out_everywhere_all_is_as_it_was(farm: Farm) -> None:
    nodes = farm.add_nodes(3, store=SQLITE)
    alice = farm.add_party("alice", target=AT[0][0])
    bob, carol = (farm.add_party(user, target=AT[1][0]) for user in ("bob", "carol"))
    bob.register()
    carol.register()
    carol.register(expires=0)
    farm.run(2)
    for node in nodes:
        node.kill()
    farm.run(20)
    for node in nodes:
        node.restart(rebooted=True)
    farm.wait_until_synchronised()
    assert [node.contacts_of(bob.aor) for node in nodes] == [[bob.contact]] * 3
    assert [node.contacts_of(carol.aor) for node in nodes] == [[]] * 3
    exchange(*call(alice, bob), "BYE")


def test_a_node_alone_of_three_serves_after_a_while_and_is_joined_by_the_others(farm: Farm) -> None:
    nodes = farm.add_nodes(3, store=SQLITE, overlay={"join_seconds": 5.0})
    bob = farm.add_party("bob", target=AT[2][0])
    bob.register()
    farm.run(2)
    for node in nodes:
        node.kill()
    farm.run(5)
    nodes[2].start()
    sent = bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>")
    bob.ask_again(sent, bob.expect(401), to=f"<{bob.aor}>")
    assert bob.expect(503).first("retry-after")
    farm.run(6)
    assert fetch(bob) == [f"<{bob.contact}>"]
    nodes[0].start()
    nodes[1].start()
    farm.wait_until_synchronised()
    assert nodes[0].contacts_of(bob.aor) == [bob.contact]


def network_runs_until(farm: Farm, condition: object, limit: float) -> bool:
    """Step by step, for a condition that lets time pass itself."""
    assert callable(condition)
    until = farm.network.clock.seconds() + limit
    while not condition():
        if farm.network.clock.seconds() > until:
            return False
        farm.run(0.25)
    return True
