"""A node that is drained or stopped sends its phones away one by one, those in the middle of something last."""

from __future__ import annotations

from farm.transport.shedding import CLOSES_PER_SECOND
from tests.support.farms import Farm, FarmNode
from tests.support.parties import Party

PHONES = 100


def add_phones(farm: Farm, count: int) -> list[Party]:
    """Phones on connections of their own."""
    phones = [farm.add_party(f"phone{number}", transport="tcp") for number in range(count)]
    for phone in phones:
        phone.register()
    return phones


def closed(node: FarmNode) -> float:
    """Connections that a drain has closed."""
    return node.value("flows_closed", "tcp", "drained")


def test_a_node_that_is_stopped_closes_the_phones_connections_over_a_while(farm: Farm) -> None:
    node = farm.add_node()
    add_phones(farm, PHONES)
    done = node.begin_stop()
    spread = PHONES / CLOSES_PER_SECOND
    farm.run(spread / 2)
    assert PHONES * 0.3 < closed(node) < PHONES * 0.7
    assert not done
    farm.run(spread / 2 + 0.1)
    assert closed(node) == PHONES
    farm.run(2)
    assert done
    node.running = False


def test_a_phone_that_rings_keeps_its_connection_until_the_call_is_answered(farm: Farm) -> None:
    node = farm.add_node()
    bob = farm.add_party("bob", transport="tcp")
    bob.register()
    alice = farm.add_party("alice")
    alice.ask("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180)
    alice.expect(180)
    done = node.begin_stop()
    farm.run(5)
    assert closed(node) == 0
    bob.answer(invite, 200)
    assert alice.expect(200).status == 200
    farm.run(3)
    assert closed(node) == 1
    assert done
    node.running = False


def test_a_phone_that_rings_for_another_node_s_caller_keeps_its_connection_too(farm: Farm) -> None:
    """Otherwise it would ring on when that one gives up: the CANCEL has no way to it any more."""
    first, _second = farm.add_nodes(2)
    bob = farm.add_party("bob", transport="tcp", target="192.0.2.1")
    bob.register()
    alice = farm.add_party("alice", target="192.0.2.2")
    for gives_up in (False, True):
        sent = alice.ask("INVITE", bob.aor)
        invite = bob.expect("INVITE")
        bob.answer(invite, 180)
        alice.expect(180)
        if gives_up:
            done = first.begin_stop()
            farm.run(5)
            assert closed(first) == 0
            alice.cancel(sent)
            alice.expect(200, method="CANCEL")
            bob.answer(bob.expect("CANCEL"), 200)
            bob.answer(invite, 487)
            bob.expect("ACK")
            alice.acknowledge(sent, alice.expect(487))
        else:
            bob.answer(invite, 486)
            bob.expect("ACK")
            alice.acknowledge(sent, alice.expect(486))
    farm.run(3)
    assert closed(first) == 1
    assert done
    first.running = False


def test_who_is_told_to_hurry_waits_for_no_phone(farm: Farm) -> None:
    node = farm.add_node()
    add_phones(farm, PHONES)
    done = node.begin_stop()
    node.node.hurry()
    assert farm.network.run_until(lambda: bool(done), 5)
    assert node.value("flows_closed", "tcp", "stopped") > 0
    node.running = False


def test_a_drained_node_sends_the_phones_away_and_keeps_those_that_are_left_when_it_is_undrained(farm: Farm) -> None:
    node = farm.add_node()
    add_phones(farm, PHONES)
    node.node.drain()
    node.node.drain()
    farm.run(1)
    before = closed(node)
    node.node.undrain()
    farm.run(10)
    assert closed(node) == before
    assert 0 < before < PHONES


def test_a_node_without_connections_stops_as_fast_as_ever(farm: Farm) -> None:
    node = farm.add_node()
    farm.add_party("alice").register()
    done = node.begin_stop()
    assert farm.network.run_until(lambda: bool(done), 2)
    node.running = False
