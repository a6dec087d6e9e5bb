"""Who owns what, as members come and go."""

from __future__ import annotations

from collections.abc import Sequence

from farm.overlay.ids import PARTITIONS, partition_id
from farm.overlay.ownership import Ownership
from farm.overlay.wire import ALIVE, DEAD, EDGE, JOINING, LEFT, STORES, SUSPECT, VERSION, Contact

A, B, C, D = (bytes((number,)) + bytes(31) for number in (0x10, 0x50, 0x90, 0xD0))


def contact(node: bytes, state: int = ALIVE, roles: int = STORES | EDGE) -> Contact:
    return Contact(node, "192.0.2.1", 7400, 1, state, roles=roles)


def make(*contacts: Contact, replicas: int = 2) -> Ownership:
    learned: list[Contact] = []

    def learn(contacts: Sequence[Contact], now: float) -> None:
        learned.extend(contacts)

    ownership = Ownership(A, replicas, lambda partition: partition == 7, learn)
    ownership.update(contacts)
    return ownership


def everybody(ownership: Ownership) -> set[bytes]:
    return {owner for partition in range(PARTITIONS) for owner in ownership.owners(partition)}


def test_alive_and_suspected_nodes_own() -> None:
    ownership = make(contact(A), contact(B, SUSPECT), contact(C, DEAD), contact(D, LEFT))
    assert everybody(ownership) == {A, B}
    assert ownership.is_suspect(B)
    assert not ownership.is_suspect(A)


def test_a_node_without_the_role_owns_nothing() -> None:
    assert everybody(make(contact(A), contact(B, roles=EDGE), contact(C))) == {A, C}


def test_a_farm_without_a_node_that_stores_says_so() -> None:
    alone = make(contact(A, roles=EDGE))
    assert everybody(alone) == set()
    assert "role store" in alone.problem()
    assert make(contact(A, roles=EDGE), contact(B, JOINING)).problem() == ""


def test_a_joining_node_is_sent_writes_and_owns_nothing_yet() -> None:
    ownership = make(contact(A), contact(B), contact(C, JOINING))
    assert everybody(ownership) == {A, B}
    near_c = C[0] << 4
    assert list(ownership.joining(near_c)) == [C]
    assert list(make(contact(A), contact(B)).joining(near_c)) == []


def test_after_a_power_loss_everywhere_the_joining_are_the_owners() -> None:
    ownership = make(contact(A, JOINING), contact(B, JOINING))
    assert everybody(ownership) == {A, B}
    assert list(ownership.joining(0)) == []


def test_the_next_nearest_stand_in() -> None:
    ownership = make(contact(A), contact(B), contact(C), contact(D))
    assert list(ownership.owners(A[0] << 4)) == [A, B]
    assert list(ownership.stand_ins(A[0] << 4, 5)) == [C, D]
    assert list(ownership.stand_ins(A[0] << 4, 1)) == [C]


def test_the_nearest_are_named_nearest_first() -> None:
    ownership = make(contact(A), contact(B), contact(C), contact(D))
    partition = D[0] << 4
    assert [found.node for found in ownership.nearest(partition, 3)] == [D, C, B]
    assert partition_id(partition) == D


def test_a_change_of_nobody_is_none() -> None:
    ownership = make(contact(A), contact(B))
    assert not ownership.update([contact(A), contact(B)])
    assert not ownership.update([contact(A), contact(B, SUSPECT)])
    assert ownership.update([contact(A)])


def test_the_number_of_replicas_can_change() -> None:
    ownership = make(contact(A), contact(B), contact(C))
    assert ownership.replicas == 2
    assert ownership.change_replicas(3)
    assert not ownership.change_replicas(3)
    assert len(ownership.owners(0)) == 3


def test_it_passes_on_what_others_decide() -> None:
    ownership = make(contact(A))
    assert ownership.is_settled(7)
    assert not ownership.is_settled(8)
    ownership.receive_nearer([contact(B)], 1.0)


def test_the_lowest_version_is_that_of_the_oldest_node_that_lives() -> None:
    def of(state: int, version: int) -> Contact:
        return Contact(bytes((state, version)) * 16, "192.0.2.1", 7400, 1, state, version=version)

    assert make().lowest_version == VERSION
    assert make(of(ALIVE, 4), of(ALIVE, 5), of(DEAD, 1), of(LEFT, 2)).lowest_version == 4
    assert make(of(ALIVE, 4), of(SUSPECT, 3)).lowest_version == 3
    assert make(of(ALIVE, 4), of(JOINING, 2)).lowest_version == 2
