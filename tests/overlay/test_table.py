"""The routing table."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.overlay.ids import common_prefix, distance, sort_nearest, widest_gap_id
from farm.overlay.table import Added, Full, Known, Table
from farm.overlay.wire import Contact

OWN = bytes(32)


def contact(number: int, incarnation: int = 0) -> Contact:
    """A contact whose ID begins with these 16 bits."""
    return Contact(number.to_bytes(2, "big") + bytes(29) + b"\1", "192.0.2.1", 7000, incarnation)


def random_contacts(count: int, seed: int = 1) -> list[Contact]:
    rng = random.Random(seed)
    return [Contact(rng.randbytes(32), "192.0.2.1", 7000) for _ in range(count)]


def table_of(contacts: list[Contact], **settings: int) -> Table:
    table = Table(OWN, **settings)
    for number, each in enumerate(contacts):
        table.add(each, float(number))
    return table


def small(*numbers: int) -> Table:
    """Three contacts a bucket, one waiting, two siblings."""
    return table_of([contact(number) for number in numbers], replicas=1, bucket_contacts=3, cache_contacts=1)


def test_a_contact_is_added_once_and_renewed_after_that() -> None:
    table = Table(OWN)
    assert table.add(contact(1), 0.0) == Added(contact(1))
    assert table.add(contact(1, incarnation=5), 1.0) == Known(contact(1, incarnation=5))
    assert table.get(contact(1).node) == contact(1, incarnation=5)
    assert (len(table), list(table)) == (1, [contact(1, incarnation=5)])
    assert contact(1).node in table
    assert contact(2).node not in table


def test_we_are_not_in_our_own_table() -> None:
    table = Table(OWN)
    with pytest.raises(ValueError, match="not another node's ID"):
        table.add(Contact(OWN, "192.0.2.1", 7000), 0.0)
    with pytest.raises(ValueError, match="not another node's ID"):
        table.add(Contact(b"short", "192.0.2.1", 7000), 0.0)
    with pytest.raises(ValueError, match="32 bytes"):
        Table(b"short")
    assert not table.wants(OWN)
    assert not table.wants(b"short")
    assert table.get(b"short") is None
    assert table.remove(b"short", 0.0) is None


def test_a_full_bucket_keeps_its_long_lived_contacts_and_names_the_one_to_ping() -> None:
    table = small(0x8001, 0x8002, 0x8003)
    table.add(contact(1), 0.0)
    table.add(contact(2), 0.0)
    table.touch(contact(0x8001).node)
    assert table.add(contact(0x8004), 9.0) == Full(contact(0x8002))
    assert contact(0x8004).node not in table
    assert table.wants(contact(3).node)
    assert not table.wants(contact(0x8004).node)
    assert not table.wants(contact(1).node)
    assert table.wants(contact(0x4001).node)


def test_being_added_again_counts_as_being_heard_of() -> None:
    table = small(0x8001, 0x8002, 0x8003, 1, 2)
    table.add(contact(0x8001), 8.0)
    assert table.add(contact(0x8004), 9.0) == Full(contact(0x8002))


def test_who_was_turned_away_last_moves_up_when_somebody_goes() -> None:
    table = small(0x8001, 0x8002, 0x8003, 1, 2, 0x8004, 0x8005)
    assert table.remove(contact(0x8002).node, 10.0) == contact(0x8005)
    assert contact(0x8005).node in table
    assert table.remove(contact(0x8001).node, 10.0) is None  # 0x8004 was forgotten: one waits
    assert table.remove(contact(0x8001).node, 10.0) is None
    assert len(table) == 4


def test_of_several_that_wait_the_latest_moves_up_first() -> None:
    contacts = [contact(0x8000 + number) for number in range(6)]
    table = table_of([contact(1), *contacts], replicas=1, bucket_contacts=3, cache_contacts=3)
    table.add(contact(2), 9.0)
    table.add(contacts[3], 9.0)  # it comes back
    assert table.remove(contacts[0].node, 10.0) == contacts[3]
    assert table.remove(contacts[1].node, 10.0) == contacts[5]


def test_the_uptimes_of_contacts_come_from_their_incarnations_least_first() -> None:
    booted = 1_700_000_000_000
    table = table_of([contact(1, booted), contact(2, booted + 60_500), contact(3, booted + 200_000)])
    assert table.uptimes(1_700_000_100.0) == [0.0, 39.5, 100.0]


def test_who_waits_and_dies_does_not_move_up() -> None:
    table = small(0x8001, 0x8002, 0x8003, 1, 2, 0x8004)
    assert table.remove(contact(0x8004).node, 10.0) is None
    assert table.remove(contact(0x8001).node, 10.0) is None
    assert len(table) == 4


def test_a_sibling_is_never_turned_away() -> None:
    """Those nearest to us own what we own: the newest of a full bucket gives way."""
    table = small(0x4001, 0x4002, 0x4003)
    assert table.add(contact(0x4000), 9.0) == Added(contact(0x4000))
    assert contact(0x4003).node not in table
    assert [sibling.node for sibling in table.siblings] == [contact(0x4000).node, contact(0x4001).node]
    assert len(table) == 3
    assert table.remove(contact(0x4002).node, 10.0) == contact(0x4003)


def test_a_sibling_takes_the_place_of_the_latest_that_is_none() -> None:
    contacts = [contact(number) for number in (0x4001, 0x4002, 0x4008, 0x4009, 0x4007)]
    table = table_of(contacts, replicas=1, bucket_contacts=5)
    table.touch(contact(0x4007).node)
    assert table.add(contact(0x4000), 9.0) == Added(contact(0x4000))
    assert [each for each in contacts if each.node not in table] == [contact(0x4007)]


def test_the_table_is_whole_until_somebody_is_turned_away() -> None:
    table = small(0x8001, 0x8002, 0x8003, 1, 2)
    assert table.is_whole
    assert table.size_estimate() == 6
    table.add(contact(0x8004), 9.0)
    assert not table.is_whole
    table.remove(contact(0x8001).node, 10.0)
    table.remove(contact(0x8002).node, 10.0)
    assert not table.is_whole
    rng = random.Random(1)
    for _ in range(20):
        table.next_refresh(rng)
    assert table.is_whole


def test_a_farm_of_250_is_known_whole() -> None:
    nodes = [OWN]
    for _ in range(249):
        nodes.append(widest_gap_id(nodes))
    table = table_of([Contact(node, "192.0.2.1", 7000) for node in nodes[1:]])
    assert table.is_whole
    assert len(table) == 249
    assert table.size_estimate() == 250


@pytest.mark.parametrize(("count", "farms"), [(1000, 20), (10_000, 3)])
def test_the_size_of_a_large_farm_is_estimated_from_those_near_us(count: int, farms: int) -> None:
    estimates = []
    for seed in range(farms):
        table = table_of(random_contacts(count, seed))
        assert not table.is_whole
        assert len(table) < 128 * 8
        estimates.append(table.size_estimate() / count)
    assert all(0.6 < estimate < 1.5 for estimate in estimates)
    assert 0.85 < sum(estimates) / farms < 1.15


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400), st.integers(0, 99), st.binary(min_size=32, max_size=32), st.integers(0, 40))
def test_the_nearest_contacts_are_the_nearest_of_all_in_the_table(
    size: int, seed: int, target: bytes, count: int
) -> None:
    table = table_of(random_contacts(size, seed))
    exclude = {each.node for each in list(table)[:3]}
    expected = sort_nearest(table, target, lambda each: each.node)
    assert table.nearest(target, count) == expected[:count]
    assert table.nearest(target, count, exclude) == [each for each in expected if each.node not in exclude][:count]


def test_the_nearest_to_a_contact_is_itself_and_to_us_our_siblings() -> None:
    contacts = random_contacts(100)
    table = table_of(contacts)
    assert all(table.nearest(each.node, 1) == [each] for each in contacts)
    assert table.siblings == sort_nearest(contacts, OWN, lambda each: each.node)[:6]


def test_siblings_stay_complete_whatever_the_order_of_arrival() -> None:
    contacts = random_contacts(2000)
    expected = sorted(contacts, key=lambda each: distance(each.node, OWN))[:6]
    assert table_of(contacts).siblings == expected
    assert table_of(contacts[::-1]).siblings == expected
    assert table_of(contacts, bucket_contacts=8).siblings == expected


def test_refreshes_go_round_ourselves_and_all_buckets_that_have_anybody() -> None:
    table = table_of([contact(0x8001), contact(0x1001)])
    rng = random.Random(3)
    prefixes = [common_prefix(table.next_refresh(rng), OWN) for _ in range(10)]
    assert prefixes == [0, 1, 2, 3, 256, 0, 1, 2, 3, 256]
    assert Table(OWN).next_refresh(rng) == OWN


def test_refreshes_of_a_bucket_look_for_different_nodes() -> None:
    table = table_of([contact(0x8001)])
    rng = random.Random(3)
    assert len({table.next_refresh(rng) for _ in range(20)}) == 11


def test_buckets_that_have_emptied_are_not_refreshed() -> None:
    table = table_of([contact(0x8001), contact(0x0001)])
    table.remove(contact(0x0001).node, 1.0)
    rng = random.Random(3)
    assert [common_prefix(table.next_refresh(rng), OWN) for _ in range(3)] == [0, 256, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("atr"), st.integers(0, 15)), max_size=120))
def test_no_order_of_events_loses_count_or_overfills_a_bucket(events: list[tuple[str, int]]) -> None:
    table = Table(OWN, replicas=1, bucket_contacts=2, cache_contacts=2)
    for now, (event, number) in enumerate(events):
        node = contact(number << 12)
        if event == "a":
            table.add(node, float(now))
        elif event == "t":
            table.touch(node.node)
        else:
            table.remove(node.node, float(now))
            assert node.node not in table
        contacts = list(table)
        assert len(contacts) == len(table) == len({each.node for each in contacts})
        for bits in range(5):
            assert sum(common_prefix(each.node, OWN) == bits for each in contacts) <= 2
        assert table.siblings == sort_nearest(contacts, OWN, lambda each: each.node)[:2]
