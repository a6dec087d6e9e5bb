"""The keys of what we write into messages rotate, and nobody on the phone notices."""

from __future__ import annotations

import pytest

from tests.support.faces import FARM_NAME, add_face, add_phone, exchange, set_up, turn_to
from tests.support.farms import Farm, FarmNode
from tests.support.parties import Dialog, Message

SQLITE = {"backend": "sqlite", "flush_seconds": 0.1}
MARGIN = 700.0  # until a key that was made now seals on every node


def sealing(node: FarmNode) -> int:
    """The number of the key that a node seals with; 0 is the farm's own."""
    return max([row.number for row in node.node.core.keyring.rows() if row.seals], default=0)


def rotate(farm: Farm, node: FarmNode) -> int:
    """As `sipfarm keys rotate` does."""
    return farm.wait(node.node.core.keyring.rotate(node.seconds()))


def begin(farm: Farm, **sections: object) -> list[FarmNode]:
    """Three nodes that seal with their first common key."""
    nodes = add_face(farm, 3, limits={"idle_seconds": 100_000.0}, **sections)
    farm.run(MARGIN + 120)
    assert [sealing(node) for node in nodes] == [1, 1, 1]
    return nodes


@pytest.mark.parametrize("how", ["udp", "nat", "tcp"])
def test_a_rotation_during_a_call_breaks_nothing_whichever_node_ends_it(farm: Farm, how: str) -> None:
    nodes = begin(farm)
    bob, alice = add_phone(farm, "bob", how, 0), add_phone(farm, "alice", "udp", 1)
    bob.register()
    ours, theirs = set_up(alice, bob)
    assert rotate(farm, nodes[2]) == 2
    exchange(ours, theirs, "INFO")
    for _ in range(12):  # a NAT forgets a phone that is silent
        farm.run(MARGIN / 12)
        bob.register()
    assert [sealing(node) for node in nodes] == [2, 2, 2]
    turn_to(alice, 2)
    exchange(ours, theirs, "INVITE")
    exchange(theirs, ours, "INFO")
    exchange(theirs, ours, "BYE")
    set_up(alice, bob)


def test_there_is_no_key_until_the_last_node_of_before_there_were_any_has_been_upgraded(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr("farm.member.VERSION", 1)
        add_face(farm, 1)
    nodes = add_face(farm, 2)
    farm.run(MARGIN + 120)
    assert [node.node.core.keyring.rows() for node in nodes] == [[], [], []]
    nodes[0].restart()
    farm.run(MARGIN + 120)
    assert [sealing(node) for node in nodes] == [1, 1, 1]


def test_a_rotation_while_it_rings_breaks_nothing(farm: Farm) -> None:
    nodes = begin(farm)
    bob, alice = add_phone(farm, "bob", "udp", 0), add_phone(farm, "alice", "udp", 1)
    bob.register()
    rotate(farm, nodes[0])
    farm.run(MARGIN - 160)
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    farm.run(170)
    assert sealing(nodes[1]) == 2
    answered = bob.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    ours.acknowledge()
    bob.expect("ACK")
    exchange(Dialog.of_callee(bob, invite, answered), ours, "BYE")


def test_a_challenge_from_before_a_rotation_is_answered_after_it(farm: Farm) -> None:
    nodes = begin(farm)
    bob = add_phone(farm, "bob", "udp", 0)
    rotate(farm, nodes[0])
    farm.run(MARGIN - 160)
    sent = bob.request("REGISTER", "sip:example.com", to=f"<{bob.aor}>")
    challenge = bob.expect(401)
    farm.run(170)
    assert sealing(nodes[0]) == 2
    bob.ask_again(sent, challenge, to=f"<{bob.aor}>", headers=[f"Contact: <{bob.contact}>"])
    bob.expect(200)


def test_a_restarted_node_ends_a_call_from_two_keys_ago(farm: Farm) -> None:
    nodes = begin(farm, store=SQLITE)
    bob, alice = add_phone(farm, "bob", "udp", 0), add_phone(farm, "alice", "udp", 1)
    bob.register()
    ours, theirs = set_up(alice, bob)
    for number in (2, 3):
        assert rotate(farm, nodes[1]) == number
        farm.run(MARGIN)
    nodes[2].restart()
    assert next(row.number for row in nodes[2].node.core.keyring.rows()) == 3, "before it has reached anybody"
    farm.wait_until_synchronised()
    turn_to(alice, 2)
    exchange(ours, theirs, "BYE")


def test_a_node_that_joins_knows_the_keys_before_anybody_turns_to_it(farm: Farm) -> None:
    nodes = begin(farm)
    bob, alice = add_phone(farm, "bob", "udp", 0), add_phone(farm, "alice", "udp", 1)
    bob.register()
    ours, theirs = set_up(alice, bob)
    nodes = add_face(farm, 1)
    farm.run(3)
    assert sealing(nodes[3]) == 1
    turn_to(alice, 3)
    exchange(ours, theirs, "BYE")


def test_a_lone_node_rotates_by_itself_and_a_restart_ends_no_call(farm: Farm) -> None:
    keys = {"rotation_seconds": 3600.0, "token_life_seconds": 36_000.0}
    node = farm.add_node(store=SQLITE, keys=keys, sip={"farm_name": FARM_NAME})
    bob, alice = farm.add_party("bob"), farm.add_party("alice")
    bob.register()
    ours, theirs = set_up(alice, bob)
    farm.run(2 * 3600 + MARGIN)
    assert sealing(node) == 3
    node.restart()
    assert sealing(node) == 3
    exchange(ours, theirs, "BYE")


def test_a_token_that_somebody_altered_is_counted_and_followed_nowhere(farm: Farm) -> None:
    node = farm.add_node()
    bob, alice = farm.add_party("bob"), farm.add_party("alice")
    bob.register()
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    route = invite.first("record-route")
    user = route.partition("sip:")[2].partition("@")[0]
    altered = route.replace(user, user[:40] + ("A" if user[40] != "A" else "B") + user[41:])
    mallory = farm.add_party("mallory", account=False)
    mallory.request("BYE", "sip:victim@203.0.113.9", to="<sip:victim@203.0.113.9>;tag=x", headers=[f"Route: {altered}"])
    answer = mallory.wait()
    assert isinstance(answer, Message)
    assert answer.status in (403, 404, 407, 481)
    assert node.value("sip_rejected", "token-altered") == 1
    bob.answer(invite, 486)
    bob.expect("ACK")
