"""What may be asked for, what is numeric, and the order of NAPTR and SRV records."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from farm.resolve.records import (
    Answer,
    Naptr,
    Srv,
    is_host_name,
    numeric_address,
    order_naptrs,
    order_srvs,
)


@pytest.mark.parametrize(
    "name",
    ["example.com", "_sip._udp.example.com", "proxy1", "3com.com", "a-b.example", "x" * 63 + ".example", "1.2.3.4.in"],
)
def test_a_name_that_dns_can_hold_may_be_asked_for(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        ".com",
        "example.com.",
        "x" * 64 + ".example",  # the length octet would be a compression pointer
        ".".join(["x" * 63] * 4) + ".y",
        "exa mple.com",
        "exämple.com",
        "example.com\n",
        "1.2.3",
        "256.1.1.1",
        "-a.example",
        "a%2eb.example",
    ],
)
def test_what_dns_cannot_hold_never_gets_there(name: str) -> None:
    assert not is_host_name(name)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("255.255.255.255", "255.255.255.255"),
        ("192.0.2.256", ""),
        ("192.0.2", ""),
        ("010.0.0.1", ""),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("[2001:db8::9:1]", "2001:db8::9:1"),
        ("[2001:db8::9:1]]", ""),
        ("::ffff:192.0.2.10", "::ffff:c000:20a"),
        ("2001:db8:::1", ""),
        ("example.com", ""),
        ("", ""),
        ("192.0.2.1\n", ""),
    ],
)
def test_numeric_hosts_have_one_spelling(host: str, address: str) -> None:
    assert numeric_address(host) == address


def test_an_answer_without_records_is_empty_whatever_the_reason() -> None:
    assert Answer().is_empty
    assert Answer(failure="timeout").is_empty
    assert not Answer(addresses=("192.0.2.1",)).is_empty


def test_naptr_records_go_by_order_then_preference() -> None:
    def record(order: int, preference: int) -> Naptr:
        return Naptr(order, preference, "s", "SIP+D2U", "", "_sip._udp.example.com")

    records = [record(90, 50), record(50, 60), record(50, 50), record(100, 1)]
    assert order_naptrs(records) == [record(50, 50), record(50, 60), record(90, 50), record(100, 1)]


def test_the_lowest_srv_priority_always_comes_first() -> None:
    records = [Srv(20, 100, 5060, "backup"), Srv(10, 0, 5060, "main"), Srv(30, 7, 5060, "last")]
    for seed in range(50):
        ordered = order_srvs(records, random.Random(seed), 8)
        assert [srv.target for srv in ordered] == ["main", "backup", "last"]


def test_srv_weights_share_the_load_as_rfc_2782_says() -> None:
    """The RFC's own example, 1 to 3. It draws from 0 to 4 inclusive: 3 or 4 of 5 for the fast box, by its place."""
    rng = random.Random(1)
    records = [Srv(0, 1, 9, "old-slow-box"), Srv(0, 3, 9, "new-fast-box")]
    drawn = Counter(order_srvs(records, rng, 8)[0].target for _ in range(8000))
    assert 0.68 < drawn["new-fast-box"] / 8000 < 0.72


def test_large_srv_weights_share_the_load_in_proportion() -> None:
    rng = random.Random(7)
    records = [Srv(0, 100, 5060, "a"), Srv(0, 300, 5060, "b"), Srv(0, 600, 5060, "c")]
    drawn = Counter(order_srvs(records, rng, 8)[0].target for _ in range(8000))
    assert [round(drawn[name] / 8000, 1) for name in "abc"] == [0.1, 0.3, 0.6]


def test_equal_weights_share_the_load_evenly() -> None:
    rng = random.Random(2)
    for weight in (0, 10, 65535):
        records = [Srv(0, weight, 5060, name) for name in ("a", "b", "c")]
        drawn = Counter(order_srvs(records, rng, 8)[0].target for _ in range(3000))
        assert all(850 < count < 1150 for count in drawn.values()), (weight, drawn)


def test_weight_zero_beside_others_is_hardly_ever_first() -> None:
    rng = random.Random(3)
    records = [Srv(0, 0, 5060, "spare"), Srv(0, 99, 5060, "main")]
    drawn = Counter(order_srvs(records, rng, 8)[0].target for _ in range(5000))
    assert 35 < drawn["spare"] < 70  # one drawn number of a hundred


def test_every_srv_record_is_tried_once() -> None:
    records = [Srv(index % 3, index, 5060, f"t{index}") for index in range(30)]
    ordered = order_srvs(records, random.Random(4), 100)
    assert sorted(ordered) == sorted(records)
    assert [srv.priority for srv in ordered] == sorted(srv.priority for srv in records)


def test_a_thousand_srv_records_cost_no_more_than_the_limit() -> None:
    records = [Srv(0, 1, 5060, f"t{index}") for index in range(1000)]
    assert len(order_srvs(records, random.Random(5), 8)) == 8


def test_the_same_seed_gives_the_same_order() -> None:
    records = [Srv(0, index, 5060, f"t{index}") for index in range(10)]
    assert order_srvs(records, random.Random(6), 10) == order_srvs(records, random.Random(6), 10)
