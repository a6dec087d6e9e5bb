"""A network that loses, repeats and reorders packets: calls succeed or fail cleanly, and nothing is left behind."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path as FilePath

import pytest

from tests.support.farms import Farm
from tests.support.network import Path
from tests.support.parties import Dialog
from tests.support.robots import FOREVER, Manner, RobotCallee, RobotCaller

CALLS = 50


@pytest.mark.parametrize(("seed", "open_farm"), [(1, True), (2, True), (3, False)])
def test_fifty_calls_at_20_percent_loss_all_end_and_leave_nothing(
    tmp_path: FilePath, seed: int, open_farm: bool
) -> None:
    path = Path(delay=0.02, jitter=0.02, loss=0.2, duplicate=0.1, reorder=0.1, reorder_delay=0.3)
    farm = Farm(tmp_path, seed)
    node = farm.add_node(auth={"open": open_farm})
    phone = farm.add_party("bob")
    phone.register()
    farm.network.path = path
    bob = RobotCallee(phone, lambda: Manner(ring=2.0))
    callers = [RobotCaller(farm.add_party(f"caller{number}"), bob.party.aor) for number in range(CALLS)]
    for number, caller in enumerate(callers):
        caller.party.host.callLater(number * 0.1, caller.start)
    farm.run(140)
    farm.close()
    outcomes = Counter(caller.outcome for caller in callers)
    finals = Counter(status for caller in callers for status in caller.statuses)
    assert outcomes["ended"] >= 0.9 * CALLS, (outcomes, finals)
    assert set(outcomes) <= {"ended", "unanswered", "refused 408", "bye unanswered"}, (outcomes, finals)
    assert set(bob.calls.values()) <= {"over", "lost", "up"}, bob.calls
    assert set(bob.rings.values()) == {1}  # no call rang twice
    assert node.value("sip_retransmissions", "in") > 50
    farm.check_end()
    assert farm.find_contexts() == []


def test_a_phone_that_declines_over_a_lossy_network_declines_once(tmp_path: FilePath) -> None:
    farm = Farm(tmp_path, 7)
    farm.add_node(auth={"open": True})
    phone = farm.add_party("bob")
    phone.register()
    farm.network.path = Path(delay=0.02, jitter=0.02, loss=0.2, duplicate=0.2, reorder=0.2)
    bob = RobotCallee(phone, lambda: Manner(0.5, 486))
    callers = [RobotCaller(farm.add_party(f"caller{number}"), bob.party.aor) for number in range(CALLS)]
    for caller in callers:
        caller.start()
    farm.run(140)
    farm.close()
    outcomes = Counter(caller.outcome for caller in callers)
    assert outcomes["refused 486"] >= 0.95 * CALLS, outcomes
    assert set(outcomes) <= {"refused 486", "refused 408", "unanswered"}
    farm.check_end()
    assert farm.find_contexts() == []


def choose_manner(rng: random.Random) -> Manner:
    """Anything that a phone may do. Who says nothing before its answer must come to one: no CANCEL can reach it."""
    ring = rng.choice([0.0, 0.3, 1.0, 3.0, 8.0, 30.0, FOREVER])
    status = rng.choice([200, 200, 200, 302, 404, 486, 486, 500, 503, 603])
    return Manner(ring, status, ringing=ring == FOREVER or rng.random() < 0.9)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_phones_and_callers_do_everything_ends_and_no_phone_rings_on(tmp_path: FilePath, seed: int) -> None:
    """Forked calls, one group after another, cancelled or not, over a network that loses, repeats and reorders."""
    rng = random.Random(seed)
    farm = Farm(tmp_path, seed)
    farm.add_node(auth={"open": True}, proxy={"timer_c_seconds": 181, "serial_seconds": 5})
    callees = []
    for user in ("bob", "carol", "dave"):
        for _ in range(rng.randint(1, 4)):
            phone = farm.add_party(user)
            phone.tag = phone.address
            phone.register(contact=f"<{phone.contact}>;q={rng.choice(['1', '0.5', '0.1'])}")
            callees.append(RobotCallee(phone, lambda: choose_manner(rng)))
    farm.network.path = Path(
        delay=0.02, jitter=0.03, loss=rng.choice([0, 0.1, 0.2]), duplicate=0.1, reorder=0.1, reorder_delay=0.4
    )
    callers = []
    for number in range(40):
        uri = f"sip:{rng.choice(('bob', 'carol', 'dave'))}@example.com"
        patience = rng.choice([FOREVER, 0.05, 1.0, 4.0, 20.0])
        caller = RobotCaller(farm.add_party(f"caller{number}"), uri, patience=patience)
        callers.append(caller)
        caller.party.host.callLater(rng.uniform(0, 20), caller.start)
    farm.run(20)
    farm.settle(1500)
    farm.run(40)
    farm.close()
    assert [caller.outcome for caller in callers if not caller.outcome] == []
    open_calls = [
        (callee.party, call_id, state)
        for callee in callees
        for call_id, state in callee.calls.items()
        if state in ("ringing", "answered", "refusing")
    ]
    assert open_calls == []
    assert all(count == 1 for callee in callees for count in callee.rings.values())
    farm.check_end()
    assert farm.find_contexts() == []


def test_repeated_requests_reach_the_phone_once_and_are_answered_each_time(farm: Farm) -> None:
    """§17.2: retransmissions end at the node."""
    node = farm.add_node(auth={"open": True})
    alice = farm.add_party("alice", account=False)
    bob = farm.add_party("bob", account=False)
    bob.register()
    sent = alice.request("MESSAGE", bob.aor)
    for _ in range(3):
        alice.send(sent.data)
    message = bob.expect("MESSAGE")
    answer = bob.answer(message, 200)
    alice.expect(200)
    for _ in range(3):
        alice.send(sent.data)
        bob.repeat(message, answer)
    farm.run(3)
    assert bob.count("MESSAGE") == 1
    assert alice.count(200) == 4
    assert node.value("sip_retransmissions", "in") == 6


def test_a_2xx_is_repeated_by_the_phone_and_reaches_the_caller_each_time_until_its_ack(farm: Farm) -> None:
    """RFC 6026 §8.1: the 2xx and its ACK are end to end, the node repeats neither."""
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    answered = bob.answer(invite, 200)
    final = alice.expect(200)
    for number in range(2, 5):
        farm.run(4)
        assert alice.count(200) == number - 1
        bob.repeat(invite, answered)
        farm.run(0.1)
        assert alice.count(200) == number
    dialog = Dialog.of_caller(alice, final)
    for _ in range(3):
        dialog.acknowledge()
    farm.run(1)
    assert bob.count("ACK") == 3


def test_a_2xx_that_is_repeated_after_the_transactions_are_gone_still_reaches_the_caller(farm: Farm) -> None:
    farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    answered = bob.answer(invite, 200)
    alice.expect(200)
    farm.settle()
    bob.repeat(invite, answered)
    farm.run(1)
    assert alice.count(200) == 2
