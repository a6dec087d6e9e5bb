"""The metric `records`: what a node holds, by its part in it."""

from __future__ import annotations

from farm.labels import ROLES
from farm.metrics import Metrics
from farm.overlay.holdings import Holdings
from farm.overlay.owners import Place, Placement
from farm.overlay.store import Store
from farm.security.credentials import KIND, CredentialKind, make_credential, pack_credential
from farm.security.overlay_config import ConfigKind
from tests.support.counts import read

NODES = [bytes([number]) * 32 for number in (0x10, 0x50, 0x90, 0xD0)]


class World:
    """Four nodes that all hold the same users, each of which has two owners."""

    def __init__(self, users: int, nodes: int = 4) -> None:
        self.now = 1000.0
        self.placement = Placement(2)
        self.placement.set_nodes([Place(node) for node in NODES[:nodes]])
        self.stores = [Store([CredentialKind(), ConfigKind("live.example", list)]) for _ in NODES]
        for store in self.stores:
            store.track()
        for number in range(users):
            self.write(number)
        self.holdings = [
            Holdings(node, store, self.placement, lambda: self.now)
            for node, store in zip(NODES, self.stores, strict=True)
        ]

    def write(self, number: int) -> None:
        packed = pack_credential(make_credential(f"u{number}", "example.com", "secret", (1, 1)))
        for store in self.stores:
            store.put(KIND, b"sip:u%d@example.com" % number, packed, 0.0)

    def counts(self, kind: str = KIND) -> list[tuple[float, ...]]:
        return [tuple(holdings.count(kind, role) for role in ROLES) for holdings in self.holdings]


def test_over_all_nodes_each_record_has_one_owner_and_its_further_replicas() -> None:
    counts = World(200).counts()
    assert [sum(column) for column in zip(*counts, strict=True)] == [200, 200, 400]
    assert all(owner and replica and guest for owner, replica, guest in counts)


def test_what_a_newcomer_takes_over_is_a_guest_where_it_was_and_is_counted_a_second_later() -> None:
    world = World(200, nodes=3)
    before = world.counts()
    assert [row[2] for row in before] == [*[200 - row[0] - row[1] for row in before[:3]], 200]
    world.placement.set_nodes([Place(node) for node in NODES])
    world.now += 0.9
    assert world.counts() == before
    world.now += 0.1
    after = world.counts()
    assert after[3][0] > 0
    assert sum(row[0] for row in after) == 200
    assert sum(row[2] for row in after) == 400


def test_what_is_gone_counts_no_more() -> None:
    world = World(1)
    owner = next(index for index, row in enumerate(world.counts()) if row[0])
    world.stores[owner].shelves[KIND].drop(b"sip:u0@example.com", 0.0)
    world.now += 1
    assert world.counts()[owner] == (0, 0, 0)


def test_what_every_node_holds_has_no_first_owner() -> None:
    world = World(0)
    world.stores[0].shelves["config"].records[b"live.example"] = b"x"
    assert world.counts("config") == [(0, 1, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)]


def test_a_node_that_knows_no_owners_owns_nothing() -> None:
    world = World(3)
    world.placement.set_nodes([])
    assert world.counts() == [(0, 0, 3)] * 4


def test_the_metric_reads_it() -> None:
    metrics = Metrics()
    world = World(10)
    world.holdings[0].show(metrics)
    assert tuple(read(metrics.records.child(KIND, role)) for role in ROLES) == world.counts()[0]
    assert read(metrics.records.child("config", "replica")) == 0
