"""What the records of calls say: one line for every call that ended, whichever node saw what of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.farms import NODE, Farm, FarmNode
from tests.support.parties import Dialog, Party, exchange, set_up_call

Line = dict[str, Any]


def keep(farm: Farm, name: str = "n1", **more: Any) -> dict[str, Any]:
    """A section that has a node write its records to a file of that name."""
    return {"accounting": {"file": str(farm.directory / f"{name}.calls"), **more}}


def read(farm: Farm, name: str = "n1", event: str = "") -> list[Line]:
    """The lines of that file once all is written, those of one event where it is named."""
    farm.run(1.1)
    path = Path(farm.directory / f"{name}.calls")
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if event in ("", line["event"])]


def add_two(farm: Farm, **sections: Any) -> tuple[Party, Party]:
    """A node that keeps records, alice, and bob who is registered."""
    farm.add_node(**{**keep(farm), **sections})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    return alice, bob


def refuse(caller: Party, callee: Party, status: int) -> None:
    """A call that the callee refuses."""
    sent = caller.ask("INVITE", callee.aor)
    callee.answer(callee.expect("INVITE"), status)
    callee.expect("ACK")
    caller.acknowledge(sent, caller.expect(status))


@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_a_call_has_one_record_that_says_who_called_whom_how_long_and_who_hung_up(farm: Farm, ends: str) -> None:
    alice, bob = add_two(farm)
    alice.ask("INVITE", bob.aor)
    farm.run(2)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    farm.run(5)
    answered = bob.answer(invite, 200)
    ours, theirs = Dialog.of_caller(alice, alice.expect(200)), Dialog.of_callee(bob, invite, answered)
    ours.acknowledge()
    bob.expect("ACK")
    farm.run(60)
    exchange(*((ours, theirs) if ends == "caller" else (theirs, ours)), "BYE")
    (line,) = read(farm, event="ended")
    assert line["ended_by"] == ends
    assert (line["src_user"], line["src_domain"]) == ("alice", "example.com")
    assert (line["dst_ouser"], line["dst_user"], line["dst_domain"]) == ("bob", "bob", bob.address)
    assert (line["from_tag"], line["to_tag"], line["callid"]) == (alice.tag, bob.tag, ours.call_id)
    assert (line["method"], line["sip_code"], line["sip_reason"], line["result"]) == (
        "INVITE", 200, "Scripted", "answered",
    )  # fmt: skip
    assert line["src_ip"] == alice.address
    assert (line["ingress_node"], line["ingress_transport"]) == ("n1", "udp")
    assert (line["egress_node"], line["egress_transport"], line["egress_target"]) == (
        "n1", "udp", f"{bob.address}:5060",
    )  # fmt: skip
    assert line["duration"] == pytest.approx(60, abs=0.5)
    assert line["setup_duration"] == pytest.approx(7, abs=0.5)
    assert line["setup_time"] < line["ring_time"] < line["answer_time"] < line["end_time"] == line["time"]
    assert (line["branches"], line["branch_codes"]) == (1, [200])
    assert not line["partial"]
    (begun,) = read(farm, event="answered")
    assert (begun["callid"], begun["answer_time"]) == (line["callid"], line["answer_time"])
    assert begun["end_time"] is begun["duration"] is None
    node = farm.node
    assert node.value("calls_total", "answered") == node.value("calls_ended", ends) == node.value("call_seconds") == 1
    assert node.value("calls", "answered") == node.value("calls", "ringing") == 0
    assert node.value("accounting_records", "file", "written") == 2


REFUSALS = [(486, "busy"), (603, "refused"), (480, "no-answer"), (404, "unreachable"), (302, "redirected")]


@pytest.mark.parametrize(("status", "result"), REFUSALS)
def test_a_call_that_is_refused_has_a_record_of_the_answer(farm: Farm, status: int, result: str) -> None:
    alice, bob = add_two(farm)
    refuse(alice, bob, status)
    (line,) = read(farm)
    assert (line["event"], line["sip_code"], line["result"], line["ended_by"]) == ("failed", status, result, "callee")
    assert line["answer_time"] is line["duration"] is line["ring_time"] is None
    assert line["branch_codes"] == [status]
    assert farm.node.value("calls_total", result) == 1
    assert farm.node.value("sip_session_request_delay", "failed") == (status >= 400)


def test_a_caller_who_hangs_up_before_anybody_answers_has_a_record_too(farm: Farm) -> None:
    alice, bob = add_two(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    assert farm.node.value("calls", "ringing") == 1
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    bob.answer(bob.expect("CANCEL"), 200)
    bob.answer(invite, 487)
    alice.acknowledge(sent, alice.expect(487))
    (line,) = read(farm)
    assert (line["event"], line["result"], line["ended_by"]) == ("failed", "cancelled", "caller")
    assert line["ring_time"] is not None
    assert farm.node.value("calls", "ringing") == 0


def test_nobody_at_home_and_nobody_of_that_name_are_told_apart_and_a_challenge_is_no_call(farm: Farm) -> None:
    alice, _ = add_two(farm)
    nobody = alice.ask("INVITE", "sip:nobody@example.com")
    alice.acknowledge(nobody, alice.expect(404))
    away = farm.add_party("away")
    sent = alice.ask("INVITE", away.aor)
    alice.acknowledge(sent, alice.expect(480))
    lines = read(farm)
    assert [(line["result"], line["ended_by"], line["branches"]) for line in lines] == [
        ("unreachable", "farm", 0), ("no-answer", "farm", 0),
    ]  # fmt: skip
    assert sum(farm.node.value("calls_total", result) for (result,), _ in farm.node.node.metrics.calls_total) == 2


def test_attempts_have_no_record_where_nobody_wants_them_and_are_counted_all_the_same(farm: Farm) -> None:
    alice, bob = add_two(farm, **keep(farm, failed=False, answers=False))
    refuse(alice, bob, 486)
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "BYE")
    assert [line["event"] for line in read(farm)] == ["ended"]
    assert farm.node.value("calls_total", "busy") == 1


def test_without_a_place_for_records_calls_are_counted(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    ours, theirs = set_up_call(alice, bob)
    assert farm.node.value("calls", "answered") == 1
    exchange(ours, theirs, "BYE")
    assert farm.node.value("calls_ended", "caller") == 1
    assert farm.node.node.calls.problems() == []


def test_of_a_fork_the_phone_that_answers_is_in_the_record_and_another_that_does_has_one_of_its_own(farm: Farm) -> None:
    farm.add_node(**keep(farm, answers=False))
    alice = farm.add_party("alice")
    phones = []
    for number in range(2):
        phone = farm.add_party("bob", account=number == 0)
        phone.password, phone.tag = "bob", f"bob-{number}"
        phone.register()
        phones.append(phone)
    alice.ask("INVITE", "sip:bob@example.com")
    invites = [phone.expect("INVITE") for phone in phones]
    dialogs = []
    for phone, invite in zip(phones, invites, strict=True):  # both lift the handset at once
        answered = phone.answer(invite, 200)
        farm.run(0.1)
        phone.repeat(invite, answered)
        ours = Dialog.of_caller(alice, alice.expect(200))
        ours.acknowledge()
        assert phone.wait() is not None
        dialogs.append((ours, Dialog.of_callee(phone, invite, answered)))
    for phone in phones:
        phone._news.clear()
    farm.run(1)
    alice._news.clear()
    for ours, theirs in dialogs:
        theirs.party._news.clear()
        exchange(ours, theirs, "BYE")
    first, second = read(farm)
    assert (first["to_tag"], first["fork"], second["to_tag"], second["fork"]) == ("bob-0", False, "bob-1", True)
    assert first["branches"] == 2
    assert farm.node.value("calls_total", "answered") == 1


def test_repeated_and_crossing_byes_end_a_call_once(farm: Farm) -> None:
    alice, bob = add_two(farm, **keep(farm, answers=False))
    ours, theirs = set_up_call(alice, bob)
    ours.send("BYE")
    theirs.send("BYE")
    for party in (alice, bob):
        party.answer(party.expect("BYE"), 200)
    for party in (alice, bob):
        party.expect(200)
    exchange(ours, theirs, "BYE")
    assert len(read(farm)) == 1
    assert sum(farm.node.value("calls_ended", by) for by in ("caller", "callee", "farm", "lost")) == 1


@pytest.mark.parametrize(("status", "ends"), [(401, False), (403, False), (500, False), (481, True)])
def test_a_bye_that_the_other_side_refuses_ends_no_bill(farm: Farm, status: int, ends: bool) -> None:
    alice, bob = add_two(farm, **keep(farm, answers=False))
    ours, theirs = set_up_call(alice, bob)
    ours.send("BYE")
    bob.answer(bob.expect("BYE"), status)
    alice.expect(status)
    assert len(read(farm)) == ends
    if not ends:
        exchange(ours, theirs, "BYE")
        assert [line["ended_by"] for line in read(farm)] == ["caller"]


def test_a_bye_that_nobody_answers_ends_the_call(farm: Farm) -> None:
    alice, bob = add_two(farm, **keep(farm, answers=False))
    ours, _ = set_up_call(alice, bob)
    bob.go_away()
    ours.send("BYE")
    farm.run(40)
    assert [line["ended_by"] for line in read(farm)] == ["caller"]


def test_a_call_of_which_the_phone_knows_nothing_any_more_is_lost(farm: Farm) -> None:
    alice, bob = add_two(farm, **keep(farm, answers=False))
    ours, _ = set_up_call(alice, bob)
    sent = ours.send("INVITE")
    bob.answer(bob.expect("INVITE"), 481)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(481))
    (line,) = read(farm)
    assert line["ended_by"] == "lost"


def test_a_change_of_the_call_makes_no_record(farm: Farm) -> None:
    alice, bob = add_two(farm)
    ours, theirs = set_up_call(alice, bob)
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "UPDATE")
    assert [line["event"] for line in read(farm)] == ["answered"]


def test_what_nobody_ends_is_ended_by_the_farm(farm: Farm) -> None:
    alice, bob = add_two(farm, **keep(farm, answers=False, longest_call_seconds=100.0))
    set_up_call(alice, bob)
    farm.run(99)
    assert read(farm) == []
    farm.run(2)
    (line,) = read(farm)
    assert (line["ended_by"], round(line["duration"])) == ("farm", 100)


def test_the_bytes_of_a_stranger_stay_on_one_line(farm: Farm) -> None:
    alice, bob = add_two(farm)
    call_id = 'x"\\' + "y" * 1000
    sent = alice.ask("INVITE", bob.aor, call_id=call_id, sender=f'"a\\"<" <{alice.aor}>;tag=1')
    invite = bob.expect("INVITE")
    answer = bob.make_answer(invite, 486).replace("Scripted", 'No "\x9b31m\u2028\udcff')
    assert invite.reply is not None
    invite.reply(answer.encode("utf-8", "surrogateescape"))
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    (line,) = read(farm)
    assert line["sip_reason"] == 'No "\ufffd31m\ufffd\ufffd'
    assert line["callid"].startswith('x"\\yyy')
    assert len(line["callid"]) == 256
    assert line["src_user"] == "alice"


# More than one node


def add_farm(farm: Farm, how: str = "udp") -> tuple[list[FarmNode], Party, Party]:
    """Three nodes that keep records; alice calls by the second, bob is registered at the first."""
    farm.add_zone({})
    for number in (1, 2, 3):
        farm.add_member(**keep(farm, f"n{number}"))
    farm.wait_until_synchronised()
    behind = farm.network.add_nat("198.51.100.9") if how == "nat" else None
    alice = farm.add_party("alice", address="10.0.0.7" if behind else "", behind=behind, target="192.0.2.2")
    bob = farm.add_party("bob", target=NODE)
    bob.register()
    return farm.nodes, alice, bob


@pytest.mark.parametrize(("how", "ends"), [("udp", "caller"), ("udp", "callee"), ("nat", "callee")])
def test_a_call_that_ends_by_another_node_has_its_record_where_it_began(farm: Farm, how: str, ends: str) -> None:
    nodes, alice, bob = add_farm(farm, how)
    ours, theirs = set_up_call(alice, bob)
    bob.target = ("192.0.2.3", 5060)
    if how == "udp":  # behind the NAT she knows no other way than her own
        alice.target = bob.target
    exchange(*((ours, theirs) if ends == "caller" else (theirs, ours)), "BYE")
    (line,) = read(farm, "n2", "ended")
    assert (line["ended_by"], line["ingress_node"], line["partial"]) == (ends, "n2", False)
    assert line["callid"] == ours.call_id
    assert read(farm, "n1") == read(farm, "n3") == []
    assert nodes[1].value("calls_ended", ends) == 1


def test_of_a_call_whose_node_died_both_ends_of_the_record_are_written(farm: Farm) -> None:
    nodes, alice, bob = add_farm(farm)
    ours, theirs = set_up_call(alice, bob)
    farm.run(2)
    nodes[1].kill()
    farm.run(30)
    alice.target = bob.target = ("192.0.2.3", 5060)
    exchange(theirs, ours, "BYE")
    (begun,) = read(farm, "n2")
    (ended,) = read(farm, "n3")
    assert (begun["event"], ended["event"], ended["partial"]) == ("answered", "ended", True)
    assert (begun["callid"], begun["from_tag"], begun["to_tag"]) == (
        ended["callid"], ended["from_tag"], ended["to_tag"],
    )  # fmt: skip
    assert (ended["src_user"], ended["dst_user"], ended["setup_time"]) == ("alice", "bob", None)
    assert ended["ended_by"] == "callee"


def test_a_node_that_was_started_again_writes_the_end_of_a_call_that_it_has_forgotten(farm: Farm) -> None:
    nodes, alice, bob = add_farm(farm)
    ours, theirs = set_up_call(alice, bob)
    farm.run(2)
    nodes[1].restart()
    farm.wait_until_synchronised()
    exchange(ours, theirs, "BYE")
    exchange(ours, theirs, "BYE")
    begun, ended = read(farm, "n2")
    assert (begun["event"], ended["partial"], ended["ended_by"]) == ("answered", True, "caller")


def test_a_node_that_stops_says_what_it_knows_of_the_calls_that_go_on(farm: Farm) -> None:
    nodes, alice, bob = add_farm(farm)
    ours, theirs = set_up_call(alice, bob)
    farm.run(30)
    nodes[1].stop()
    begun, cut = read(farm, "n2")
    assert (cut["event"], cut["ended_by"], cut["end_time"]) == ("interrupted", "lost", None)
    assert cut["answer_time"] == begun["answer_time"]
    assert cut["duration"] >= 30
    alice.target = bob.target = ("192.0.2.3", 5060)
    exchange(ours, theirs, "BYE")
    (ended,) = read(farm, "n3")
    assert (ended["partial"], ended["callid"]) == (True, begun["callid"])


def test_a_node_that_is_drained_keeps_its_calls_to_their_end(farm: Farm) -> None:
    nodes, alice, bob = add_farm(farm)
    ours, theirs = set_up_call(alice, bob)
    nodes[1].node.drain()
    farm.run(30)
    alice.target = ("192.0.2.3", 5060)
    exchange(ours, theirs, "BYE")
    assert [line["event"] for line in read(farm, "n2")] == ["answered", "ended"]
    assert read(farm, "n3") == []
