"""The caller gives up: CANCEL in every order of events, and nobody keeps ringing."""

from __future__ import annotations

import pytest

from tests.support.farms import Farm
from tests.support.parties import Dialog, Message, Party, exchange


def make_pair(farm: Farm, transport: str = "udp", **sections: object) -> tuple[Party, Party]:
    """A caller, and a callee that is registered."""
    farm.add_node(**sections)  # type: ignore[arg-type]
    alice = farm.add_party("alice", transport=transport)
    bob = farm.add_party("bob", transport=transport)
    bob.register()
    return alice, bob


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_that_rings_is_cancelled_and_the_phone_stops_ringing(farm: Farm, transport: str) -> None:
    alice, bob = make_pair(farm, transport)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    cancel = bob.expect("CANCEL")
    assert (cancel.uri, cancel.first("via")) == (invite.uri, invite.first("via"))
    assert (cancel.first("to"), cancel.first("cseq")) == (invite.first("to"), f"{invite.cseq} CANCEL")
    bob.answer(cancel, 200)
    bob.answer(invite, 487)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(487, method="INVITE"))


def test_a_cancel_before_any_answer_waits_for_the_first_and_then_goes_on(farm: Farm) -> None:
    """§9.1: no CANCEL may leave before a provisional answer has come."""
    alice, bob = make_pair(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    bob.expect_nothing(3)
    bob.answer(invite, 180)
    cancel = bob.expect("CANCEL")
    bob.answer(cancel, 200)
    bob.answer(invite, 487)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(487, method="INVITE"))
    assert alice.count(180) == 0


def test_a_cancel_before_any_answer_to_a_phone_that_is_gone_ends_the_call(farm: Farm) -> None:
    alice, bob = make_pair(farm)
    sent = alice.ask("INVITE", bob.aor)
    bob.expect("INVITE")
    bob.go_away()
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    alice.acknowledge(sent, alice.expect(487, method="INVITE", within=33))
    assert bob.count("CANCEL") == 0


def test_an_answer_that_crosses_the_cancel_makes_a_call_that_the_caller_can_end(farm: Farm) -> None:
    alice, bob = make_pair(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    alice.cancel(sent)
    answered = bob.answer(invite, 200)
    news = [alice.wait(), alice.wait()]
    assert sorted(message.cseq_method for message in news if message) == ["CANCEL", "INVITE"]
    ours = Dialog.of_caller(alice, next(message for message in news if message and message.cseq_method == "INVITE"))
    ours.acknowledge()
    news = [bob.wait(), bob.wait()]
    assert {message.method for message in news if message} == {"CANCEL", "ACK"}
    bob.answer(next(message for message in news if message and message.method == "CANCEL"), 481)
    exchange(ours, Dialog.of_callee(bob, invite, answered), "BYE")
    alice.expect_nothing(2)


def test_a_cancel_after_the_answer_changes_nothing(farm: Farm) -> None:
    alice, bob = make_pair(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    answered = bob.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    ours.acknowledge()
    bob.expect("ACK")
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    bob.expect_nothing(1)
    exchange(Dialog.of_callee(bob, invite, answered), ours, "BYE")


def test_a_cancel_of_nothing_is_answered_481(farm: Farm) -> None:
    alice, bob = make_pair(farm)
    never_sent = Message(alice.make_request("INVITE", bob.aor).encode())
    alice.cancel(never_sent)
    alice.expect(481)
    bob.expect_nothing(1)


def test_a_cancelled_phone_that_never_answers_does_not_hold_the_caller(farm: Farm) -> None:
    """§9.1: 64*T1 after the CANCEL the branch is taken for cancelled."""
    alice, bob = make_pair(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    bob.go_away()
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    alice.acknowledge(sent, alice.expect(487, method="INVITE", within=33))


def test_a_cancel_that_the_phone_answers_with_another_refusal_ends_the_call_with_that(farm: Farm) -> None:
    alice, bob = make_pair(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    bob.answer(bob.expect("CANCEL"), 200)
    bob.answer(invite, 486)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486, method="INVITE"))


def test_a_lost_487_is_repeated_until_the_caller_acknowledges(farm: Farm) -> None:
    alice, bob = make_pair(farm)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    bob.answer(bob.expect("CANCEL"), 200)
    refused = bob.answer(invite, 487)
    bob.expect("ACK")
    bob.repeat(invite, refused)
    final = alice.expect(487, method="INVITE")
    farm.run(2)
    assert alice.count(487) == 3
    assert bob.count("ACK") == 2
    alice.acknowledge(sent, final)
    farm.run(10)
    assert alice.count(487) == 3


def test_a_caller_whose_connection_breaks_lets_nobody_ring_on(farm: Farm) -> None:
    """INVITE and away (AST-2018-005): the phone is cancelled as soon as the caller cannot be reached any more."""
    alice, bob = make_pair(farm, "tcp")
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    alice.host.kill()
    bob.answer(invite, 183)  # the next answer finds the caller gone
    bob.answer(bob.expect("CANCEL", within=15), 200)
    bob.answer(invite, 487)
    bob.expect("ACK")


def test_a_phone_that_rings_beyond_timer_c_is_cancelled_and_the_caller_hears_what_it_says_to_that(farm: Farm) -> None:
    """§16.8: a CANCEL; the 487 that follows is the branch's response and goes up as any other (§16.7 step 6)."""
    alice, bob = make_pair(farm, proxy={"timer_c_seconds": 181})
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    bob.expect_nothing(180)
    bob.answer(bob.expect("CANCEL", within=2), 200)
    bob.answer(invite, 487)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(487))
    assert farm.node.value("sip_timeouts", "C") == 1


def test_a_phone_that_reports_progress_may_ring_longer_than_timer_c(farm: Farm) -> None:
    alice, bob = make_pair(farm, proxy={"timer_c_seconds": 181})
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    for minute in range(4):
        bob.answer(invite, 183, headers=[f"X-Minute: {minute}"])
        alice.expect(183)
        bob.expect_nothing(120)
    bob.answer(invite, 200)
    answered = Dialog.of_caller(alice, alice.expect(200))
    answered.acknowledge()
    bob.expect("ACK")
