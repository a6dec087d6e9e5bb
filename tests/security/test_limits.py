"""Rates and bans: what a source may do, when it may again, and what a flood of sources costs."""

from __future__ import annotations

from typing import Any

import pytest

from farm.security.limits import Allowed, Ban, Limited, RateTable, SourceLimits

PHONE = "192.0.2.7"


def fail(limits: SourceLimits, host: str, times: int, now: float) -> None:
    for _ in range(times):
        limits.record_failure(host, now)


class TestARate:
    def test_a_bucket_gives_its_burst_then_its_rate(self) -> None:
        table = RateTable(2.0, 3, 10)
        assert [table.take("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 100.5]
        assert table.take("a", 100.5) == 0.0
        assert table.take("a", 100.5) == 101.0
        assert [table.take("a", 200.0) for _ in range(4)] == [0.0, 0.0, 0.0, 200.5]

    def test_a_burst_below_one_still_lets_one_through(self) -> None:
        table = RateTable(1.0, 0, 10)
        assert [table.take("a", 5.0), table.take("a", 5.0)] == [0.0, 6.0]

    def test_keys_have_buckets_of_their_own_and_the_least_recently_seen_goes(self) -> None:
        table = RateTable(1.0, 1, 2)
        assert [table.take(key, 1.0) for key in ("a", "b", "a")] == [0.0, 0.0, 2.0]
        assert table.take("c", 1.0) == 0.0
        assert len(table) == 2
        assert table.take("a", 1.0) == 2.0
        assert table.take("b", 1.0) == 0.0


class TestRequests:
    def test_no_limit_is_set_by_default(self) -> None:
        limits = SourceLimits()
        assert all(isinstance(limits.admit_request(PHONE, 1.0), Allowed) for _ in range(10_000))

    def test_a_source_above_its_rate_is_told_until_when(self) -> None:
        limits = SourceLimits(requests_per_second=10, burst=2)
        answers = [limits.admit_request(PHONE, 50.0) for _ in range(3)]
        assert [type(answer) for answer in answers] == [Allowed, Allowed, Limited]
        assert answers[2] == Limited("request-rate", 50.1)
        assert isinstance(limits.admit_request("192.0.2.8", 50.0), Allowed)
        assert isinstance(limits.admit_request(PHONE, 50.1), Allowed)

    def test_exempt_networks_are_left_alone(self) -> None:
        limits = SourceLimits(requests_per_second=1, burst=1, exempt_networks=("192.0.2.0/24", "2001:db8::/32"))
        for host in (PHONE, "::ffff:192.0.2.9", "2001:db8::1"):
            assert all(isinstance(limits.admit_request(host, 1.0), Allowed) for _ in range(3)), host

    def test_a_network_that_is_none_is_refused_at_once(self) -> None:
        with pytest.raises(ValueError, match="240"):
            SourceLimits(exempt_networks=("192.0.2.0/240",))


class TestBans:
    def test_one_failure_too_many_bans_the_source_for_a_while(self) -> None:
        limits = SourceLimits(failures_per_minute=3, ban_seconds=600)
        assert [type(limits.record_failure(PHONE, 10.0)) for _ in range(3)] == [Allowed] * 3
        assert isinstance(limits.admit_credentials(PHONE, 10.0), Allowed)
        assert limits.record_failure(PHONE, 10.0) == Limited("banned", 610.0)
        assert limits.admit_credentials(PHONE, 609.9) == Limited("banned", 610.0)
        assert isinstance(limits.admit_credentials("192.0.2.8", 11.0), Allowed)
        assert isinstance(limits.admit_credentials(PHONE, 610.0), Allowed)
        assert limits.bans(610.0) == []

    def test_failures_spread_over_time_ban_nobody(self) -> None:
        limits = SourceLimits(failures_per_minute=3)
        assert all(isinstance(limits.record_failure(PHONE, 20.0 * step), Allowed) for step in range(100))

    def test_zero_bans_nobody(self) -> None:
        limits = SourceLimits(failures_per_minute=0)
        fail(limits, PHONE, 10_000, 1.0)
        assert limits.bans(1.0) == []

    def test_a_ban_leaves_requests_without_credentials_alone(self) -> None:
        limits = SourceLimits(failures_per_minute=1, requests_per_second=100)
        fail(limits, PHONE, 2, 1.0)
        assert isinstance(limits.admit_credentials(PHONE, 1.0), Limited)
        assert isinstance(limits.admit_request(PHONE, 1.0), Allowed)

    def test_ipv6_sources_count_by_their_64(self) -> None:
        limits = SourceLimits(failures_per_minute=2, ban_seconds=60)
        for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"):
            limits.record_failure(host, 1.0)
        assert limits.bans(1.0) == [Ban("2001:db8::/64", "auth-failures", 61.0)]
        assert isinstance(limits.admit_credentials("2001:db8::abcd", 1.0), Limited)
        assert isinstance(limits.admit_credentials("2001:db8:0:1::1", 1.0), Allowed)

    def test_an_ipv4_address_mapped_into_ipv6_is_the_ipv4_address(self) -> None:
        limits = SourceLimits(failures_per_minute=1, ban_seconds=60)
        fail(limits, "::ffff:192.0.2.7", 2, 1.0)
        assert limits.bans(1.0) == [Ban(PHONE, "auth-failures", 61.0)]

    def test_a_scoped_link_local_address_and_a_name_do_not_hurt(self) -> None:
        limits = SourceLimits(failures_per_minute=1, ban_seconds=60)
        fail(limits, "fe80::1%eth0", 2, 1.0)
        fail(limits, "not-an-address", 2, 1.0)
        assert [ban.source for ban in limits.bans(1.0)] == ["fe80::/64", "not-an-address"]

    def test_exempt_networks_are_never_banned(self) -> None:
        limits = SourceLimits(failures_per_minute=1, exempt_networks=("127.0.0.0/8",))
        fail(limits, "127.0.0.1", 100, 1.0)
        assert isinstance(limits.admit_credentials("127.0.0.1", 1.0), Allowed)

    def test_the_operator_lists_and_lifts_bans(self) -> None:
        limits = SourceLimits(failures_per_minute=1, ban_seconds=60)
        for now, host in ((1.0, PHONE), (2.0, "192.0.2.8"), (3.0, "2001:db8::1")):
            fail(limits, host, 2, now)
        assert [(ban.source, ban.until) for ban in limits.bans(4.0)] == [
            (PHONE, 61.0),
            ("192.0.2.8", 62.0),
            ("2001:db8::/64", 63.0),
        ]
        assert limits.clear("2001:db8::/64")
        assert limits.clear(PHONE)
        assert not limits.clear(PHONE)
        assert isinstance(limits.record_failure(PHONE, 4.0), Allowed)
        assert [ban.source for ban in limits.bans(4.0)] == ["192.0.2.8"]

    def test_tables_stay_bounded_and_the_ban_that_ends_first_goes(self) -> None:
        limits = SourceLimits(failures_per_minute=1, ban_seconds=60, table_entries=3)
        for number in range(5):
            fail(limits, f"192.0.2.{number}", 2, float(number))
        assert [ban.source for ban in limits.bans(5.0)] == ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
        for number in range(1000):
            limits.record_failure(f"198.51.{number // 250}.{number % 250}", 6.0)
        assert len(limits.bans(6.0)) == 3
        assert len(limits._sources) == 3


class TestAChange:
    def test_bans_go_on_and_new_ones_last_as_long_as_is_set_now(self) -> None:
        limits = SourceLimits(failures_per_minute=1, ban_seconds=600)
        fail(limits, PHONE, 2, 0.0)
        change(limits, failures_per_minute=1, ban_seconds=10)
        fail(limits, "192.0.2.8", 2, 1.0)
        assert [(ban.source, ban.until) for ban in limits.bans(2.0)] == [(PHONE, 600.0), ("192.0.2.8", 11.0)]
        assert [ban.source for ban in limits.bans(12.0)] == [PHONE]
        assert isinstance(limits.admit_credentials("192.0.2.8", 12.0), Allowed)

    def test_a_limit_is_set_where_there_was_none_and_lifted_again(self) -> None:
        limits = SourceLimits()
        change(limits, requests_per_second=1, burst=1)
        assert [type(limits.admit_request(PHONE, 1.0)) for _ in range(2)] == [Allowed, Limited]
        change(limits, requests_per_second=1, burst=1, exempt_networks=("192.0.2.0/24",))
        assert [type(limits.admit_request(PHONE, 1.0)) for _ in range(2)] == [Allowed, Allowed]


def change(limits: SourceLimits, **changed: Any) -> None:
    limits.change(
        **{
            "requests_per_second": 0.0,
            "burst": 100,
            "failures_per_minute": 300,
            "ban_seconds": 600.0,
            "exempt_networks": (),
            "table_entries": 100,
            **changed,
        }
    )
