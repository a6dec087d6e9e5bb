"""A node dies while calls ring or are up. In each test the callee's flow is node A's (the first), the call came in at
node B (the second), and C is there as well."""

from __future__ import annotations

import pytest

from tests.support.faces import add_face, add_phone, check_response, exchange, run_until, sees_dead, set_up, turn_to
from tests.support.farms import Farm, FarmNode
from tests.support.parties import Dialog, Message, Party

A, B, C = 0, 1, 2
FLOWS = ["nat", "tcp"]  # by which only the node that has them reaches a phone
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'
DETECTION_SECONDS = 15.0  # of a machine that vanished; a process that died is found out in about one
DEATHS = ["killed", "vanished"]


def end(node: FarmNode, how: str) -> None:
    """The process dies, or the whole machine does and nobody is told."""
    if how == "killed":
        node.kill()
    else:
        node.power_off()


def add_parties(farm: Farm, how: str, caller: str = "udp") -> tuple[list[FarmNode], Party, Party]:
    """Nodes, a caller at B and a callee at A."""
    nodes = add_face(farm)
    alice, bob = add_phone(farm, "alice", caller, B), add_phone(farm, "bob", how, A)
    bob.register()
    return nodes, alice, bob


def ring(alice: Party, bob: Party) -> tuple[Message, Message]:
    """A call that rings: the INVITE as sent, and as it came."""
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    return sent, invite


def repeat_until_acknowledged(bob: Party, alice: Party, invite: Message, answered: Message) -> Message:
    """A callee repeats its 200 until the ACK comes (§13.3.1.4); the 200 as the caller gets it."""
    wait = 0.5
    for _ in range(10):
        final = alice.wait(wait)
        if final is not None:
            assert final.status == 200, final.text
            return final
        bob.repeat(invite, answered)
        wait = min(2 * wait, 4.0)
    raise AssertionError(f"the 200 never came; {alice.received}{alice.network}")


# B, which has the transactions


@pytest.mark.parametrize("how", FLOWS)
@pytest.mark.parametrize("death", DEATHS)
def test_a_call_whose_node_dies_while_it_rings_completes(farm: Farm, how: str, death: str) -> None:
    nodes, alice, bob = add_parties(farm, how)
    _, invite = ring(alice, bob)
    end(nodes[B], death)
    began = farm.network.clock.seconds()
    answered = bob.answer(invite, 200)
    final = repeat_until_acknowledged(bob, alice, invite, answered)
    taken = farm.network.clock.seconds() - began
    assert taken < (4.0 if death == "killed" else DETECTION_SECONDS)
    turn_to(alice, C)
    ours, theirs = Dialog.of_caller(alice, final), Dialog.of_callee(bob, invite, answered)
    ours.acknowledge()
    bob.expect("ACK")
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "BYE")


@pytest.mark.parametrize("how", FLOWS)
def test_a_call_whose_node_is_known_to_be_dead_when_the_phone_answers_completes_at_once(farm: Farm, how: str) -> None:
    nodes, alice, bob = add_parties(farm, how)
    _, invite = ring(alice, bob)
    nodes[B].kill()
    farm.wait_until_synchronised()
    answered = bob.answer(invite, 200)
    final = alice.expect(200, within=0.1)
    turn_to(alice, C)
    ours, theirs = Dialog.of_caller(alice, final), Dialog.of_callee(bob, invite, answered)
    ours.acknowledge()
    bob.expect("ACK")
    exchange(theirs, ours, "BYE")


def test_a_caller_on_a_connection_to_the_node_that_died_gets_the_200_on_another(farm: Farm) -> None:
    """§18.2.2: the connection is gone, so the response goes to where the Via says that the caller listens."""
    nodes, alice, bob = add_parties(farm, "tcp", "tcp")
    _, invite = ring(alice, bob)
    nodes[B].kill()
    farm.wait_until_synchronised()
    answered = bob.answer(invite, 200)
    final = alice.expect(200, within=2)
    turn_to(alice, C)
    ours, theirs = Dialog.of_caller(alice, final), Dialog.of_callee(bob, invite, answered)
    ours.acknowledge()
    bob.expect("ACK")
    exchange(ours, theirs, "BYE")


def add_connected(farm: Farm, caller: str) -> tuple[list[FarmNode], Party, Party]:
    """The same, the caller being on a flow of B's and found nowhere else."""
    nodes = add_face(farm, transports=sorted({"udp", "tcp", caller.replace("nat", "udp")}))
    alice, bob = add_phone(farm, "alice", caller, B), add_phone(farm, "bob", "tcp", A)
    bob.register()
    return nodes, alice, bob


@pytest.mark.parametrize("caller", ["tls", "ws", "wss", "nat"])
@pytest.mark.parametrize("death", DEATHS)
def test_a_caller_who_has_registered_anew_gets_the_answers_there(farm: Farm, caller: str, death: str) -> None:
    nodes, alice, bob = add_connected(farm, caller)
    alice.register()
    _, invite = ring(alice, bob)
    end(nodes[B], death)
    run_until(farm, lambda: sees_dead(nodes[A], nodes[B]), DETECTION_SECONDS)
    farm.wait_until_synchronised()
    turn_to(alice, C)
    alice.register()
    bob.answer(invite, 183)
    alice.expect(183, within=0.1)
    answered = bob.answer(invite, 200)
    final = alice.expect(200, within=0.1)
    check_response(final)
    ours, theirs = Dialog.of_caller(alice, final), Dialog.of_callee(bob, invite, answered)
    ours.acknowledge()
    bob.expect("ACK")
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "BYE")


def call_as(alice: Party, bob: Party, instance: str) -> Message:
    """A call whose INVITE says in its Contact which phone it is; the INVITE as sent."""

    def write(sent: Message | None = None, headers: tuple[str, ...] = ()) -> str:
        call_id, cseq = (sent.first("call-id"), sent.cseq + 1) if sent else ("", 1)
        text = alice.make_request("INVITE", bob.aor, call_id=call_id, cseq=cseq, headers=headers)
        return text.replace(f"<{alice.contact}>", f"<{alice.contact}>{instance}")

    sent = alice.send(write())
    challenge = alice.expect(407)
    alice.acknowledge(sent, challenge)
    return alice.send(write(sent, (alice.make_credentials(sent, challenge),)))


@pytest.mark.parametrize("caller", ["tls", "ws", "nat"])
@pytest.mark.parametrize("known", [True, False])
def test_a_caller_with_a_flow_at_another_node_gets_the_200_there(farm: Farm, caller: str, known: bool) -> None:
    """RFC 5626: two flows of one phone, which its INVITE names or not; if it does, the user may have others."""
    nodes, alice, bob = add_connected(farm, caller)
    second, desk = (add_phone(farm, "alice", how, C, account=False) for how in (caller, "tcp"))
    second.password = desk.password = alice.password
    for number, flow in enumerate((alice, second), 1):
        contact = f"<{flow.contact}>;reg-id={number};{INSTANCE}"
        flow.register(contact=contact, headers=["Supported: path, outbound"])
    if known:
        desk.register()
    sent = call_as(alice, bob, f";{INSTANCE}" if known else "")
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    nodes[B].kill()
    farm.wait_until_synchronised()
    answered = bob.answer(invite, 200)
    final = second.expect(200, within=0.1)
    assert final.first("call-id") == sent.first("call-id")
    ours, theirs = Dialog.of_caller(second, final), Dialog.of_callee(bob, invite, answered)
    ours.acknowledge()
    bob.expect("ACK")
    exchange(theirs, ours, "BYE")
    assert not desk.count("INVITE") + desk.count("BYE")


@pytest.mark.parametrize("caller", ["ws", "wss"])
def test_the_200_for_a_caller_who_has_not_come_back_is_dropped_and_counted(farm: Farm, caller: str) -> None:
    nodes, alice, bob = add_connected(farm, caller)
    alice.register()
    _, invite = ring(alice, bob)
    nodes[B].kill()
    farm.wait_until_synchronised()
    answered = bob.answer(invite, 200)
    alice.expect_nothing(1)
    assert nodes[A].value("sip_rejected", "stray-response") == 1
    turn_to(alice, C)
    alice.register()
    bob.repeat(invite, answered)
    alice.expect(200, within=0.1)


@pytest.mark.parametrize("how", FLOWS)
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_a_call_that_is_up_goes_on_through_another_node(farm: Farm, how: str, death: str, ends: str) -> None:
    nodes, alice, bob = add_parties(farm, how)
    ours, theirs = set_up(alice, bob)
    end(nodes[B], death)
    turn_to(alice, C)
    exchange(ours, theirs, "INVITE")
    exchange(theirs, ours, "INVITE")
    turn_to(bob, C)
    exchange(theirs, ours, "INVITE")
    exchange(*((ours, theirs) if ends == "caller" else (theirs, ours)), "BYE")


@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_a_caller_whose_connection_was_to_the_node_that_died_is_found_again_by_its_registration(
    farm: Farm, ends: str
) -> None:
    nodes, alice, bob = add_parties(farm, "tcp", "tcp")
    alice.register()
    ours, theirs = set_up(alice, bob)
    nodes[B].kill()
    farm.wait_until_synchronised()
    turn_to(alice, C)
    alice.register()
    exchange(theirs, ours, "INVITE")
    exchange(*((ours, theirs) if ends == "caller" else (theirs, ours)), "BYE")


@pytest.mark.parametrize("how", FLOWS)
@pytest.mark.parametrize("status", [200, 486])
def test_a_call_whose_node_was_started_again_while_it_rings_ends_as_the_phone_says(
    farm: Farm, how: str, status: int
) -> None:
    """Nobody has taken the node for dead, and it knows nothing of the call."""
    nodes, alice, bob = add_parties(farm, how)
    sent, invite = ring(alice, bob)
    nodes[B].restart()
    farm.wait_until_synchronised()
    bob.answer(invite, status)
    final = alice.expect(status, within=0.1)
    if status == 200:
        Dialog.of_caller(alice, final).acknowledge()
    else:
        alice.acknowledge(sent, final)
    bob.expect("ACK")


def test_a_call_whose_node_dies_while_it_rings_can_be_given_up(farm: Farm) -> None:
    """The CANCEL reaches a node that knows nothing of the call, and says so at once; the phone is not told."""
    nodes, alice, bob = add_parties(farm, "tcp")
    sent, _invite = ring(alice, bob)
    nodes[B].kill()
    farm.wait_until_synchronised()
    turn_to(alice, C)
    alice.cancel(sent)
    alice.expect(481, method="CANCEL", within=0.1)
    bob.expect_nothing(1)


# A, which has the callee's flow


def final_of(alice: Party, within: float) -> Message:
    final = alice.wait(within)
    assert final is not None
    assert final.status >= 300, final.text
    return final


@pytest.mark.parametrize("how", FLOWS)
@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("rings", [True, False])
def test_a_caller_hears_at_once_that_the_way_to_the_phone_is_gone(
    farm: Farm, how: str, death: str, rings: bool
) -> None:
    nodes, alice, bob = add_parties(farm, how)
    sent = alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    if rings:
        bob.answer(invite, 180)
        alice.expect(180)
    end(nodes[A], death)
    detected = run_until(farm, lambda: sees_dead(nodes[B], nodes[A]), DETECTION_SECONDS)
    final = next((message for message in alice.received if message.status >= 300 and message.cseq == sent.cseq), None)
    if final is None:
        final = final_of(alice, 1.0)
    else:
        alice.wait(0)
    assert final.status in (408, 480, 500, 503), (final.text, detected)
    alice.acknowledge(sent, final)
    turn_to(bob, C)
    bob.register()
    ours, theirs = set_up(alice, bob)
    exchange(theirs, ours, "BYE")


@pytest.mark.parametrize("how", FLOWS)
def test_the_next_phone_is_rung_when_the_way_to_the_first_is_gone(farm: Farm, how: str) -> None:
    nodes, alice, bob = add_parties(farm, how)
    desk = farm.add_party("bob", transport="tcp", target="192.0.2.3", account=False)
    desk.password = "bob"
    desk.register(contact=f"<{desk.contact}>;q=0.5")
    sent, _invite = ring(alice, bob)
    desk.expect_nothing(1)
    nodes[A].kill()
    detected = run_until(farm, lambda: sees_dead(nodes[B], nodes[A]), DETECTION_SECONDS)
    invite = desk.expect("INVITE", within=1.0)
    assert detected < 5.0
    answered = desk.answer(invite, 200)
    final = alice.expect(200)
    assert final.first("call-id") == sent.first("call-id")
    ours, theirs = Dialog.of_caller(alice, final), Dialog.of_callee(desk, invite, answered)
    ours.acknowledge()
    desk.expect("ACK")
    exchange(theirs, ours, "BYE")


def test_a_caller_hears_at_once_that_the_node_of_a_ringing_phone_was_started_again(farm: Farm) -> None:
    """Before anybody took it for dead, but the phone's connection is gone."""
    nodes = add_face(farm)
    alice = add_phone(farm, "alice", "udp", B)
    nat = farm.network.add_nat("198.51.100.77")
    bob = farm.add_party("bob", transport="tcp", target="192.0.2.1", address="10.0.0.77", behind=nat)
    bob.register()
    sent, _invite = ring(alice, bob)
    farm.run(5)
    nodes[A].restart()
    final = alice.expect(480, within=2)
    assert not sees_dead(nodes[B], nodes[A])
    alice.acknowledge(sent, final)


@pytest.mark.parametrize("how", FLOWS)
def test_a_call_that_is_up_goes_on_over_the_new_flow_of_a_phone_whose_node_died(farm: Farm, how: str) -> None:
    nodes, alice, bob = add_parties(farm, how)
    ours, theirs = set_up(alice, bob)
    nodes[A].kill()
    farm.wait_until_synchronised()
    turn_to(bob, C)
    bob.register()
    exchange(ours, theirs, "INVITE")
    exchange(theirs, ours, "INFO")
    exchange(ours, theirs, "BYE")


def test_in_a_dialog_with_a_phone_that_is_nowhere_any_more_the_answer_comes_at_once(farm: Farm) -> None:
    nodes, alice, bob = add_parties(farm, "nat")
    ours, _theirs = set_up(alice, bob)
    nodes[A].kill()
    farm.wait_until_synchronised()
    ours.send("BYE")
    answer = alice.wait(0.5)
    assert answer is not None
    assert (answer.status, answer.cseq_method) == (480, "BYE")
