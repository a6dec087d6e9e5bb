"""Who has a key: the same on all nodes, evenly, and with as little change as can be when a node goes."""

from __future__ import annotations

from collections import Counter

from farm.rendezvous import Rendezvous

NODES = [bytes((number,)) * 32 for number in range(1, 6)]
KEYS = [f"z9hG4bK{number} 192.0.2.101 5060 INVITE" for number in range(2000)]


def choose(nodes: list[bytes], secret: bytes = b"farm") -> list[bytes]:
    rendezvous = Rendezvous(secret)
    rendezvous.set_nodes(nodes)
    return [rendezvous.choose(key) for key in KEYS]


def test_all_nodes_choose_the_same_whatever_order_they_know_each_other_in() -> None:
    assert choose(NODES) == choose(NODES[::-1])


def test_each_node_has_its_share() -> None:
    shares = Counter(choose(NODES))
    assert set(shares) == set(NODES)
    assert all(320 < share < 480 for share in shares.values())


def test_when_a_node_goes_only_what_it_had_moves() -> None:
    for before, after in zip(choose(NODES), choose(NODES[1:]), strict=True):
        assert before == after or before == NODES[0]


def test_who_does_not_know_the_secret_cannot_aim() -> None:
    same = sum(one == other for one, other in zip(choose(NODES), choose(NODES, b"other"), strict=True))
    assert 320 < same < 480


def test_where_there_is_nobody_nobody_has_it() -> None:
    assert choose([]) == [b""] * len(KEYS)
