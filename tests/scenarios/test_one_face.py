"""Several nodes are one SIP element: whichever a message reaches, it works, and nothing in it tells which that was."""

from __future__ import annotations

import pytest

from tests.support.faces import add_face, add_phone, exchange, set_up, turn_to
from tests.support.farms import Farm, FarmNode
from tests.support.parties import Message, Party

HOWS = ["udp", "nat", "tcp", "tls", "ws", "wss"]


def add_open_face(farm: Farm, *hows: str, nodes: int = 3, **sections: object) -> list[FarmNode]:
    """A farm that listens on what these phones speak."""
    transports = {"udp", "tcp", *("udp" if how == "nat" else how for how in hows)}
    return add_face(farm, nodes, transports=sorted(transports), **sections)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_a_phone_of_one_node_is_called_at_another_and_sees_one_element(farm: Farm, how: str, ends: str) -> None:
    add_open_face(farm, how)
    bob = add_phone(farm, "bob", how, 0)
    alice = add_phone(farm, "alice", "udp", 1)
    bob.register()
    ours, theirs = set_up(alice, bob)
    exchange(theirs, ours, "INFO")
    exchange(ours, theirs, "INVITE")
    exchange(*((ours, theirs) if ends == "caller" else (theirs, ours)), "BYE")


@pytest.mark.parametrize("one", ["nat", "tcp", "tls", "ws"])
@pytest.mark.parametrize("other", ["nat", "tcp", "tls", "ws"])
def test_two_phones_that_only_their_own_nodes_reach_speak_to_each_other(farm: Farm, one: str, other: str) -> None:
    add_open_face(farm, one, other)
    alice, bob = add_phone(farm, "alice", one, 2), add_phone(farm, "bob", other, 0)
    alice.register()
    bob.register()
    ours, theirs = set_up(alice, bob)
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "INFO")
    exchange(theirs, ours, "BYE")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("node", [0, 1, 2])
def test_either_side_hangs_up_through_any_node(farm: Farm, how: str, node: int) -> None:
    """The callee's flow is the first node's and the call came in at the second."""
    add_open_face(farm, how)
    bob = add_phone(farm, "bob", how, 0)
    alice = add_phone(farm, "alice", "udp", 1)
    bob.register()
    ours, theirs = set_up(alice, bob)
    turn_to(alice, node)
    exchange(ours, theirs, "INVITE")
    exchange(ours, theirs, "BYE")
    turn_to(alice, 1)
    ours, theirs = set_up(alice, bob)
    turn_to(bob, node)
    exchange(theirs, ours, "INVITE")
    exchange(theirs, ours, "BYE")


@pytest.mark.parametrize("how", ["nat", "tcp"])
def test_a_call_to_a_phone_of_another_node_is_cancelled_refused_and_declined(farm: Farm, how: str) -> None:
    add_open_face(farm, how)
    bob = add_phone(farm, "bob", how, 0)
    alice = add_phone(farm, "alice", "udp", 1)
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
    for status in (486, 603):
        sent = alice.ask("INVITE", bob.aor)
        bob.answer(bob.expect("INVITE"), status)
        bob.expect("ACK")
        alice.acknowledge(sent, alice.expect(status))


def test_a_call_forks_to_phones_of_all_nodes_and_one_answers(farm: Farm) -> None:
    add_open_face(farm, "tls", "ws")
    phones = [farm.add_party("bob", transport="tcp", target="192.0.2.1")]
    phones += [add_phone(farm, "bob", how, node, account=False) for node, how in ((1, "tls"), (2, "ws"))]
    for phone in phones:
        phone.password = "bob"
        phone.register()
    alice = add_phone(farm, "alice", "udp", 1)
    alice.ask("INVITE", "sip:bob@example.com")
    invites = [phone.expect("INVITE") for phone in phones]
    for phone, invite in zip(phones[:2], invites, strict=False):
        phone.answer(invite, 180)
        alice.expect(180)
    phones[2].answer(invites[2], 200, tag="third")
    alice.expect(200)
    for phone, invite in zip(phones[:2], invites, strict=False):
        phone.answer(phone.expect("CANCEL"), 200)
        phone.answer(invite, 487)
        phone.expect("ACK")


# Challenges


def try_credentials(party: Party, node: int, challenge: Message, *, count: int, call_id: str) -> Message:
    """A REGISTER at a node with the answer to a challenge; its final response."""
    turn_to(party, node)
    to = f"<{party.aor}>"
    plain = Message(party.make_request("REGISTER", "sip:example.com", to=to).encode())
    line = party.make_credentials(plain, challenge, count=count)
    party.request("REGISTER", "sip:example.com", to=to, call_id=call_id, cseq=7, headers=[line])
    answer = party.wait()
    assert answer is not None
    return answer


@pytest.mark.parametrize("wait", [0.05, 2.0, 60.0])
def test_a_challenge_of_one_node_is_answered_at_another_and_once(farm: Farm, wait: float) -> None:
    add_face(farm)
    bob = add_phone(farm, "bob", "udp", 0)
    bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>")
    challenge = bob.expect(401)
    assert try_credentials(bob, 1, challenge, count=1, call_id="first").status == 200
    farm.run(wait)
    for node in (0, 1, 2):
        assert try_credentials(bob, node, challenge, count=1, call_id=f"again{node}").status == 401
    assert try_credentials(bob, 2, challenge, count=2, call_id="next").status == 200
    farm.run(wait)
    for node in (0, 1, 2):
        assert try_credentials(bob, node, challenge, count=2, call_id=f"anew{node}").status == 401


def test_a_node_that_was_started_again_within_a_second_takes_no_replay(farm: Farm) -> None:
    nodes = add_face(farm)
    bob = add_phone(farm, "bob", "udp", 0)
    bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>")
    challenge = bob.expect(401)
    assert try_credentials(bob, 0, challenge, count=1, call_id="first").status == 200
    nodes[0].restart()
    farm.wait_until_synchronised()
    for node in (0, 1, 2):
        assert try_credentials(bob, node, challenge, count=1, call_id=f"again{node}").status == 401


def test_a_nonce_of_a_node_that_died_is_no_replay_and_asks_no_human(farm: Farm) -> None:
    nodes = add_face(farm)
    bob = add_phone(farm, "bob", "udp", 0)
    bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>")
    challenge = bob.expect(401)
    assert try_credentials(bob, 0, challenge, count=1, call_id="first").status == 200
    farm.run(1)
    nodes[0].kill()
    farm.wait_until_synchronised()
    replayed = try_credentials(bob, 1, challenge, count=1, call_id="again")
    assert replayed.status == 401
    assert "stale=true" in replayed.first("www-authenticate")
    assert try_credentials(bob, 1, replayed, count=1, call_id="next").status == 200


# Keys


def test_calls_go_on_while_the_keys_change_once_and_again(farm: Farm) -> None:
    """A call set up under each key that there was is still re-INVITEd and hung up through any node."""
    nodes = add_face(
        farm,
        keys={"rotation_seconds": 1800.0, "token_life_seconds": 7200.0},
        overlay={"probe_seconds": 20.0, "compare_seconds": 300.0},
        limits={"idle_seconds": 40_000.0},
    )
    bob, carol = add_phone(farm, "bob", "tcp", 0), add_phone(farm, "carol", "udp", 2)
    alice = add_phone(farm, "alice", "udp", 1)
    for phone in (bob, carol):
        phone.register(expires=7200)
    numbers, up = set(), []
    for _ in range(7):
        turn_to(alice, 1)
        up += [set_up(alice, callee) for callee in (bob, carol)]
        numbers |= {node.node.core.tokens._number for node in nodes}
        farm.run(900)
    assert len(numbers) >= 3, numbers
    for number, (ours, theirs) in enumerate(up):
        turn_to(alice, number % 3)
        exchange(ours, theirs, "INVITE")
        exchange(theirs, ours, "INVITE")
        exchange(*((ours, theirs) if number % 4 < 2 else (theirs, ours)), "BYE")
