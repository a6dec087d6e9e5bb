"""Handover: what is held for others goes when all of them have it, and not before."""

from __future__ import annotations

from farm.overlay.handover import Handover
from farm.overlay.ids import partition_of
from farm.overlay.store import Store
from farm.security.credentials import KIND, CredentialKind, make_credential, pack_credential

OWN, OTHER, THIRD = b"o" * 32, b"1" * 32, b"2" * 32
KEY = b"sip:alice@example.com"
PARTITION = partition_of(KEY)


def make_store() -> Store:
    store = Store([CredentialKind()])
    store.track()
    write(store, 1)
    return store


def write(store: Store, stamp: int) -> None:
    store.put(KIND, KEY, pack_credential(make_credential("alice", "example.com", "secret", (stamp, 1))), 0.0)


def test_what_is_owned_here_is_kept() -> None:
    store = make_store()
    handover = Handover(OWN, store, {PARTITION}, lambda _: (OTHER, OWN), 60.0)
    assert not handover.concerns(PARTITION)
    assert handover.look(0.0) == []
    assert handover.look(1000.0) == []
    assert len(store) == 1
    assert handover.is_done()


def test_what_all_owners_have_goes_after_a_minute_without_change() -> None:
    store = make_store()
    handover = Handover(OWN, store, (), lambda _: (OTHER, THIRD), 60.0)
    assert handover.look(0.0) == [(PARTITION, OTHER), (PARTITION, THIRD)]
    digest = store.digest(PARTITION)
    handover.note(PARTITION, OTHER, digest)
    assert handover.look(70.0) == [(PARTITION, THIRD)]
    assert not handover.is_done()
    handover.note(PARTITION, THIRD, digest)
    assert handover.is_done()
    write(store, 2)
    assert handover.look(71.0) == [(PARTITION, OTHER), (PARTITION, THIRD)]
    assert not handover.is_done()
    handover.note(PARTITION, OTHER, store.digest(PARTITION))
    handover.note(PARTITION, THIRD, store.digest(PARTITION))
    assert handover.look(130.9) == []
    assert len(store) == 1
    assert handover.look(131.0) == []
    assert len(store) == 0
    assert handover.look(132.0) == []
    assert not handover.tracks([PARTITION])


def test_nothing_goes_where_nobody_owns() -> None:
    store = make_store()
    handover = Handover(OWN, store, (), lambda _: (), 60.0)
    assert handover.look(0.0) == []
    assert handover.look(100.0) == []
    assert len(store) == 1


def test_one_who_leaves_hands_over_what_it_owns_and_drops_nothing() -> None:
    store = make_store()
    handover = Handover(OWN, store, {PARTITION}, lambda _: (OWN, OTHER), 60.0)
    handover.note(PARTITION, OTHER, store.digest(PARTITION))  # nobody asked
    handover.leave([(OTHER, THIRD)] * 4096)
    assert handover.is_leaving
    assert handover.takers(PARTITION) == [OTHER, THIRD]
    assert handover.look(0.0) == [(PARTITION, OTHER), (PARTITION, THIRD)]
    for node in (OTHER, THIRD):
        assert not handover.is_done()
        handover.note(PARTITION, node, store.digest(PARTITION))
    assert handover.is_done()
    assert handover.look(100.0) == []
    assert len(store) == 1


def test_what_is_written_while_a_node_leaves_does_not_keep_it() -> None:
    """Under a steady load some partition always differs; whoever writes, writes to all owners."""
    store = make_store()
    second = b"sip:bob@example.com"
    handover = Handover(OWN, store, {PARTITION, partition_of(second)}, lambda _: (OWN, OTHER), 60.0)
    handover.leave([(OTHER,)] * 4096)
    assert handover.look(0.0) == [(PARTITION, OTHER)]
    handover.note(PARTITION, OTHER, store.digest(PARTITION))
    write(store, 2)
    assert partition_of(second) != PARTITION
    store.put(KIND, second, pack_credential(make_credential("bob", "example.com", "secret", (3, 1))), 0.0)
    assert handover.is_done()
    assert handover.look(0.5) == [(partition_of(second), OTHER)]
    handover.stay()
    assert handover.look(1.0) == []
    handover.leave([(OTHER,)] * 4096)
    assert not handover.is_done()


def test_how_far_a_leaving_node_is_counts_partitions_that_all_takers_have() -> None:
    store = make_store()
    second = b"sip:bob@example.com"
    store.put(KIND, second, pack_credential(make_credential("bob", "example.com", "secret", (3, 1))), 0.0)
    handover = Handover(OWN, store, {PARTITION, partition_of(second)}, lambda _: (OWN, OTHER, THIRD), 60.0)
    assert handover.progress() == 1.0, "it does not leave"
    handover.leave([(OTHER, THIRD)] * 4096)
    handover.note(PARTITION, OTHER, store.digest(PARTITION))
    assert handover.progress() == 0.0
    handover.note(PARTITION, THIRD, store.digest(PARTITION))
    assert handover.progress() == 0.5
    store.drop(partition_of(second), 1.0)
    assert handover.progress() == 1.0
    handover.stay()
    assert handover.progress() == 1.0


def test_who_goes_while_we_leave_need_not_get_anything_any_more() -> None:
    store = make_store()
    handover = Handover(OWN, store, {PARTITION}, lambda _: (OWN, OTHER, THIRD), 60.0)
    handover.leave([(OTHER, THIRD)] * 4096)
    assert handover.look(0.0) == [(PARTITION, OTHER), (PARTITION, THIRD)]
    handover.note(PARTITION, OTHER, store.digest(PARTITION))
    write(store, 2)
    assert not handover.is_done()
    handover.leave([(OTHER,)] * 4096)
    assert handover.is_done(), "what the other has got by now still counts"
    handover.leave([()] * 4096)
    assert handover.is_done()


def test_it_wants_to_hear_of_what_it_keeps_for_others_and_of_what_it_gives_away() -> None:
    store = make_store()
    handover = Handover(OWN, store, (), lambda _: (OTHER,), 60.0)
    assert handover.tracks([PARTITION, PARTITION + 1]) == []
    handover.look(0.0)
    assert handover.tracks([PARTITION, PARTITION + 1]) == [PARTITION]
    handover = Handover(OWN, store, {PARTITION}, lambda _: (OTHER, OWN), 60.0)
    handover.leave([(OTHER,)] * 4096)
    assert handover.tracks([PARTITION, PARTITION + 1]) == [PARTITION]
