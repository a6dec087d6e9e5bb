"""A farm whose nodes have roles of their own: those at the edge speak SIP and keep nothing, those inside keep all."""

from __future__ import annotations

import pytest

from farm.config import ConfigError
from tests.support.farms import PEER_PORT, Farm, FarmNode
from tests.support.parties import exchange, set_up_call

AT = [f"192.0.2.{number}" for number in range(1, 6)]
KINDS = ("registration", "credential")


def add_farm(farm: Farm, edges: int = 2, stores: int = 3) -> tuple[list[FarmNode], list[FarmNode]]:
    """A farm of so many nodes at the edge, which come first, and so many inside."""
    farm.add_zone({})
    for _ in range(edges):
        farm.add_member(roles=("edge",))
    for _ in range(stores):
        farm.add_member(roles=("store",))
    farm.wait_until_synchronised()
    return farm.nodes[:edges], farm.nodes[edges:]


def held(node: FarmNode, kind: str) -> int:
    """How many records of a kind a node holds."""
    return len(node.node.records.store.shelves[kind].records)


def test_phones_register_at_the_edge_and_their_records_are_kept_inside(farm: Farm) -> None:
    edges, stores = add_farm(farm)
    phones = [farm.add_party(f"phone{number}", target=AT[number % 2]) for number in range(6)]
    for phone in phones:
        phone.register()
    for edge in edges:
        assert [held(edge, kind) for kind in KINDS] == [0, 0]
    for store in stores:
        assert [held(store, kind) for kind in KINDS] == [6, 6]
    for number, phone in enumerate(phones):
        ours, theirs = set_up_call(phones[number - 1], phone)
        exchange(theirs, ours, "BYE")
    for node in farm.nodes:
        assert [len(node.contacts_of(phone.aor)) for phone in phones] == [1] * 6


def test_a_node_at_the_edge_is_ready_and_keeps_nothing_through_the_loss_of_others(farm: Farm) -> None:
    edges, stores = add_farm(farm)
    bob = farm.add_party("bob", target=AT[0])
    alice = farm.add_party("alice", target=AT[1])
    bob.register()
    assert all(node.node.reports.ready() for node in farm.nodes)
    stores[0].kill()
    edges[0].kill()
    farm.wait_until_synchronised()
    farm.run(60)
    assert edges[1].node.reports.ready()
    assert held(edges[1], "registration") == 0
    bob.target = (AT[1], 5060)
    exchange(*set_up_call(alice, bob), "BYE")
    bob.register()
    stores[0].start()
    edges[0].start()
    farm.wait_until_synchronised()
    farm.run(60)
    assert held(edges[0], "registration") == 0
    assert [held(store, "registration") for store in stores] == [1, 1, 1]


def test_a_node_inside_opens_no_sip_port_and_says_none_to_others(farm: Farm) -> None:
    edges, stores = add_farm(farm)
    for store in stores:
        assert not store.host._udp
        assert [port for _, port in store.host._tcp if port] == [PEER_PORT]
        assert store.node.reports.status()["listen"] == []
    member = edges[0].node.member
    assert member is not None
    said = {contact.name: bool(contact.sip) for contact in member.contacts()}
    assert said == {"n1": True, "n2": True, "n3": False, "n4": False, "n5": False}


def test_a_node_inside_does_not_ask_gateways_how_they_are(farm: Farm) -> None:
    """It speaks no SIP; the file may be the one that all nodes share."""
    farm.add_zone({})
    farm.add_member(roles=("edge",))
    inside = farm.add_member(roles=("store",), gateways=[{"prefix": "+49", "to": ["sip:192.0.2.90"]}])
    farm.wait_until_synchronised()
    farm.run(120)
    assert inside.node.reports.problems() == []


def test_a_node_inside_that_is_drained_hands_over_what_it_has(farm: Farm) -> None:
    edges, stores = add_farm(farm, edges=1, stores=4)
    phones = [farm.add_party(f"phone{number}", target=AT[0]) for number in range(8)]
    for phone in phones:
        phone.register()
    stores[0].node.reports.drain()
    assert not stores[0].node.reports.ready()
    assert farm.network.run_until(lambda: stores[0].state == "left", 30)
    stores[0].stop()
    stores[1].kill()
    farm.wait_until_synchronised()
    assert [edges[0].contacts_of(phone.aor) for phone in phones] == [[phone.contact] for phone in phones]


def test_a_node_at_the_edge_that_is_drained_leaves_at_once_and_comes_back(farm: Farm) -> None:
    edges, _ = add_farm(farm)
    reports = edges[0].node.reports
    reports.drain()
    assert farm.network.run_until(lambda: edges[0].state == "left", 2)
    reports.undrain()
    farm.wait_until_synchronised()
    assert reports.ready()


def test_an_edge_without_a_node_that_stores_is_not_ready_and_says_why(farm: Farm) -> None:
    farm.add_zone({})
    edge = farm.add_member(roles=("edge",))
    farm.run(60)
    assert not edge.node.reports.ready()
    assert any("store" in problem for problem in edge.node.reports.problems())
    farm.add_member(roles=("store",))
    farm.wait_until_synchronised()
    assert edge.node.reports.ready()
    assert edge.node.reports.problems() == []


def test_edges_that_restart_while_all_others_are_away_serve_when_these_come_back(farm: Farm) -> None:
    edges = add_farm(farm, edges=1, stores=2)[0]
    bob = farm.add_party("bob", target=AT[0])
    bob.register()
    edges[0].restart()
    farm.wait_until_synchronised()
    assert edges[0].contacts_of(bob.aor) == [bob.contact]


def test_nobody_writes_through_a_node_inside(farm: Farm) -> None:
    """Its certificate does not let it; what it wrote nevertheless must not come in by repair."""
    edges, stores = add_farm(farm)
    with pytest.raises(Exception, match="not-an-edge"):
        stores[0].add_user("mallory")
    farm.run(120)
    assert [held(store, "credential") for store in stores] == [0, 0, 0]
    assert edges[0].contacts_of("sip:mallory@example.com") == []


@pytest.mark.parametrize("listen", [["udp:192.0.2.2:5060"], ["tcp:192.0.2.2:5060"]])
def test_a_node_inside_is_refused_listeners_at_its_start(farm: Farm, listen: list[str]) -> None:
    farm.add_zone({})
    farm.add_member(roles=("edge",))
    with pytest.raises(ConfigError, match=r"sip.listen.*role store alone"):
        farm.add_member(roles=("store",), sip={"listen": listen})
    farm.nodes.pop()


def test_a_node_at_the_edge_without_listeners_is_refused_at_its_start(farm: Farm) -> None:
    farm.add_zone({})
    with pytest.raises(ConfigError, match=r"sip.listen.*nothing could come in"):
        farm.add_member(roles=("edge",), sip={"listen": []})
    farm.nodes.pop()
