"""A node that is stopped, killed, restarted, or has no disk left: what its users notice."""

from __future__ import annotations

import pytest

from farm.registrar.location import Located
from tests.support.farms import NODE, Farm, FarmNode
from tests.support.network import Path
from tests.support.parties import Dialog, Party, exchange, set_up_call

SQLITE = {"backend": "sqlite", "flush_seconds": 0.5}


def contacts_of(node: FarmNode, aor: str) -> list[str]:
    """The contacts that a node knows of an address-of-record."""
    found = node.node.core.location.find(aor, node.seconds())
    assert isinstance(found, Located)
    return [binding.uri for binding in found.bindings]


@pytest.mark.parametrize("rebooted", [False, True], ids=["killed", "rebooted"])
def test_a_restarted_node_knows_its_registrations_and_users(farm: Farm, rebooted: bool) -> None:
    node = farm.add_node(store=SQLITE)
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    farm.run(1000)
    alice.register(expires=60)
    bob.register(expires=300)
    farm.run(2)
    node.restart(rebooted=rebooted)
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "BYE")
    assert contacts_of(node, alice.aor) == [alice.contact]
    farm.run(60)
    assert contacts_of(node, alice.aor) == []
    assert contacts_of(node, bob.aor) == [bob.contact]
    farm.run(240)
    assert contacts_of(node, bob.aor) == []


def test_what_was_removed_before_the_restart_stays_removed(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE)
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    alice.register()
    bob.register()
    farm.run(2)
    alice.register(expires=0)
    bob.register(contact="*", expires=0)
    farm.run(2)
    for _ in range(2):
        node.restart()
        assert contacts_of(node, alice.aor) == []
        assert contacts_of(node, bob.aor) == []
        farm.run(2)
    assert node.value("registrations") == 0


def test_a_late_copy_of_an_old_registration_brings_nothing_back_after_the_restart(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE, auth={"open": True})
    bob = farm.add_party("bob")
    headers = [f"Contact: <{bob.contact}>"]
    parts = {"to": f"<{bob.aor}>", "call_id": "always"}
    bob.request("REGISTER", "sip:example.com", cseq=1, headers=headers, **parts)
    bob.expect(200)
    bob.request("REGISTER", "sip:example.com", cseq=2, headers=[*headers, "Expires: 0"], **parts)
    bob.expect(200)
    farm.run(2)
    node.restart()
    bob.request("REGISTER", "sip:example.com", cseq=1, headers=headers, **parts)
    bob.expect(500)
    assert contacts_of(node, bob.aor) == []


def test_a_call_that_was_up_is_ended_after_the_restart(farm: Farm) -> None:
    """The secret outlives the process, and with it the proof in our Record-Route."""
    node = farm.add_node(store=SQLITE)
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    ours, theirs = set_up_call(alice, bob)
    farm.run(2)
    node.restart()
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "BYE")


def test_an_answer_that_comes_after_the_restart_still_reaches_the_caller(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE)
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    farm.run(1)
    node.restart()
    answered = bob.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    ours.acknowledge()
    bob.expect("ACK")
    exchange(Dialog.of_callee(bob, invite, answered), ours, "BYE")


def test_a_challenge_from_before_the_restart_costs_one_round_trip_more_after_it(farm: Farm) -> None:
    """Nobody knows any more what was used of it. The phone's human is not asked."""
    node = farm.add_node(store=SQLITE)
    alice = farm.add_party("alice")
    sent = alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
    challenge = alice.expect(401)
    farm.run(1)
    node.restart()
    again = alice.ask_again(sent, challenge, to=f"<{alice.aor}>", headers=[f"Contact: <{alice.contact}>"])
    challenge = alice.expect(401)
    assert "stale=true" in challenge.text
    alice.ask_again(again, challenge, to=f"<{alice.aor}>", headers=[f"Contact: <{alice.contact}>"])
    alice.expect(200)


def test_a_stopped_node_writes_everything_before_it_ends(farm: Farm) -> None:
    node = farm.add_node(store={"backend": "sqlite", "flush_seconds": 30.0})
    alice = farm.add_party("alice")
    alice.register()
    node.stop()
    node.start()
    assert contacts_of(node, alice.aor) == [alice.contact]


def test_a_crash_costs_no_more_than_what_was_registered_since_the_last_flush(farm: Farm) -> None:
    node = farm.add_node(store={"backend": "sqlite", "flush_seconds": 5.0})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    alice.register()
    farm.run(6)
    bob.register()
    node.restart()
    assert contacts_of(node, alice.aor) == [alice.contact]
    assert contacts_of(node, bob.aor) == []


def fill_disk(node: FarmNode) -> None:
    """From now on the journal's file cannot grow."""
    journal = node.node.records._journal
    assert journal is not None
    assert journal._database is not None
    (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
    journal.most_pages = pages
    journal.close()


def free_disk(node: FarmNode) -> None:
    """It can again."""
    journal = node.node.records._journal
    assert journal is not None
    journal.most_pages = 0
    journal.close()


def register_phones(farm: Farm, count: int) -> list[Party]:
    """So many registered phones, enough to fill pages of the journal."""
    phones = [farm.add_party(f"phone{number}") for number in range(count)]
    for phone in phones:
        phone.register(contact=f"<{phone.contact};note={'x' * 2000}>")
    return phones


def test_a_full_disk_is_reported_and_calls_and_registrations_go_on_until_there_is_room_again(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE)
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    farm.run(2)
    fill_disk(node)
    phones = register_phones(farm, 10)
    farm.run(10)
    problems = node.node.reports.problems()
    assert len(problems) == 1
    assert "the journal cannot be written" in problems[0]
    assert "full" in problems[0]
    assert node.value("journal_errors", "write") >= 4
    assert node.value("journal_pending") >= 10
    assert node.value("journal_lag") >= 9
    for callee in (bob, phones[3]):
        ours, theirs = set_up_call(alice, callee)
        exchange(theirs, ours, "BYE")
    free_disk(node)
    farm.run(4)
    assert node.node.reports.problems() == []
    assert (node.value("journal_pending"), node.value("journal_lag")) == (0, 0)
    node.restart()
    assert contacts_of(node, phones[9].aor) != []


def test_a_draining_node_refuses_what_is_new_and_lets_call_set_ups_finish(farm: Farm) -> None:
    node = farm.add_node()
    alice, bob, carol = (farm.add_party(name) for name in ("alice", "bob", "carol"))
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    done = node.begin_stop()
    assert not node.node.reports.ready()
    carol.request("INVITE", bob.aor)
    refused = carol.expect(503)
    assert refused.first("retry-after") == "5"
    carol.acknowledge(carol.request("OPTIONS", f"sip:{NODE}"), refused)
    carol.expect(503)
    carol.request("REGISTER", "sip:example.com", to=f"<{carol.aor}>")
    carol.expect(503)
    farm.run(5)
    assert done == []
    bob.answer(invite, 200)
    Dialog.of_caller(alice, alice.expect(200)).acknowledge()
    bob.expect("ACK")
    farm.run(5)
    assert len(done) == 1
    node.running = False
    assert node.host.getDelayedCalls() == []


def test_the_ack_of_the_last_call_set_up_still_passes_on_a_slow_network(farm: Farm) -> None:
    """A node that closed its sockets with the 200 would leave a call that its callee ends after 32 s."""
    node = farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    farm.network.path = Path(delay=0.15)
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    done = node.begin_stop()
    bob.answer(invite, 200)
    Dialog.of_caller(alice, alice.expect(200)).acknowledge()
    bob.expect("ACK")
    farm.run(5)
    assert len(done) == 1
    node.running = False


def test_a_call_that_only_rings_for_half_a_minute_of_draining_is_ended_for_both_sides(farm: Farm) -> None:
    node = farm.add_node()
    alice, bob, carol = farm.add_party("alice"), farm.add_party("bob"), farm.add_party("carol", transport="tcp")
    bob.register()
    carol.register()
    calls = [alice.ask("INVITE", bob.aor), alice.ask("INVITE", carol.aor)]
    invites = [(callee, callee.expect("INVITE")) for callee in (bob, carol)]
    for callee, invite in invites:
        callee.answer(invite, 180)
        alice.expect(180)
    done = node.begin_stop()
    farm.run(31)
    assert done == []
    for callee, invite in invites:
        callee.answer(callee.expect("CANCEL"), 200)
        callee.answer(invite, 487)
        callee.expect("ACK")
    for sent in calls:
        alice.acknowledge(sent, alice.expect(503))
    farm.run(3)
    assert len(done) == 1
    node.running = False
    assert node.host.getDelayedCalls() == []


def test_a_call_whose_callee_has_not_answered_at_all_is_ended_too(farm: Farm) -> None:
    node = farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    bob.expect("INVITE")
    farm.run(3)
    done = node.begin_stop()
    node.node.hurry()
    alice.acknowledge(sent, alice.expect(503))
    assert len(done) == 1
    node.running = False


def test_a_node_in_a_hurry_ends_calls_at_once(farm: Farm) -> None:
    node = farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    bob.answer(bob.expect("INVITE"), 180)
    alice.expect(180)
    done = node.begin_stop()
    farm.run(5)
    assert done == []
    began = farm.network.clock.seconds()
    node.node.hurry()
    bob.expect("CANCEL")
    alice.expect(503)
    assert farm.network.run_until(lambda: bool(done), 60)
    assert farm.network.clock.seconds() - began < 0.5
    node.running = False
    assert sent


def test_an_idle_node_stops_at_once_and_leaves_nothing_behind(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE)
    alice = farm.add_party("alice", transport="tcp")
    alice.register()
    began = farm.network.clock.seconds()
    node.stop()
    assert farm.network.clock.seconds() - began < 1.5
    assert node.host.getDelayedCalls() == []
    assert not node.host.connections
    alice.network.run(1)
    node.start()
    alice.register()
