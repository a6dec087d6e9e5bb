"""The limit on answers over UDP: per network, and every second one beyond it is short."""

from __future__ import annotations

from farm.frontend.response_rate import ENTRIES, ResponseRate, Verdict


def judge(rate: ResponseRate, host: str, count: int, now: float = 0.0) -> list[Verdict]:
    return [rate.judge(host, now) for _ in range(count)]


def test_beyond_the_rate_every_second_answer_is_short_and_the_others_are_left_out() -> None:
    rate = ResponseRate(2.0)
    assert judge(rate, "192.0.2.1", 8) == [Verdict.SEND] * 4 + [Verdict.DROP, Verdict.SHORTEN] * 2


def test_neighbours_share_a_rate_and_others_do_not() -> None:
    rate = ResponseRate(1.0)
    judge(rate, "192.0.2.1", 2)
    assert rate.judge("192.0.2.254", 0.0) is Verdict.DROP
    assert rate.judge("192.0.3.1", 0.0) is Verdict.SEND
    judge(rate, "2001:db8:0:100::1", 2)
    assert rate.judge("2001:db8:0:1ff::2%eth0", 0.0) is not Verdict.SEND
    assert rate.judge("2001:db8:0:200::1", 0.0) is Verdict.SEND


def test_time_gives_it_back() -> None:
    rate = ResponseRate(2.0)
    judge(rate, "192.0.2.1", 5)
    assert judge(rate, "192.0.2.1", 2, now=0.5) == [Verdict.SEND, Verdict.SHORTEN]


def test_zero_is_no_limit_and_a_rate_can_be_changed() -> None:
    rate = ResponseRate(0.0)
    assert set(judge(rate, "192.0.2.1", 500)) == {Verdict.SEND}
    rate.change(0.5)
    assert judge(rate, "192.0.2.1", 2) == [Verdict.SEND, Verdict.DROP]


def test_over_tcp_a_network_is_told_when_it_may_ask_again_whatever_comes_over_udp_in_its_name() -> None:
    rate = ResponseRate(50.0)
    judge(rate, "192.0.2.1", 500)
    assert [rate.pace("192.0.2.1", 7.0) for _ in range(10)] == [0.0] * 10
    until = rate.pace("192.0.2.2", 7.0)
    assert 7.0 < until <= 7.02 + 1e-9
    assert rate.pace("192.0.3.1", 7.0) == 0.0
    assert rate.pace("192.0.2.1", until) == 0.0
    assert rate.pace("192.0.2.1", until) > until
    rate.change(0.0)
    assert {rate.pace("192.0.2.1", 7.0) for _ in range(100)} == {0.0}


def test_a_flood_from_many_networks_costs_no_more_memory() -> None:
    rate = ResponseRate(1.0)
    for number in range(ENTRIES + 10):
        rate.judge(f"10.{number >> 8 & 255}.{number & 255}.{number >> 16}", 0.0)
    assert len(rate._networks) <= ENTRIES


def test_what_is_no_address_is_counted_as_it_stands() -> None:
    rate = ResponseRate(0.5)
    assert judge(rate, "somewhere", 2) == [Verdict.SEND, Verdict.DROP]
