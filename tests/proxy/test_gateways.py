"""Which next hops a number or a foreign domain has, and what probing makes of their order."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from farm.config import GatewaySettings, RouteSettings
from farm.metrics import Metrics
from farm.proxy.domains import Domains
from farm.proxy.gateways import DOWN_AFTER, LOST_AFTER, Gateways, Health, find_number, is_alive
from farm.sip.uri import parse_uri
from tests.support.counts import read

ONE, TWO, THREE = "sip:10.0.0.1", "sip:10.0.0.2;transport=tcp", "sip:10.0.0.3"


class Nowhere:
    """An element without addresses of its own, but for 127.0.0.1."""

    def is_local(self, host: str, port: int | None) -> bool:
        return host == "127.0.0.1"


def make_gateways(
    *gateways: GatewaySettings, routes: tuple[RouteSettings, ...] = (), metrics: Metrics | None = None
) -> Gateways:
    domains = Domains(["example.com"], Nowhere())
    return Gateways(routes, gateways, domains, metrics or Metrics(), random.Random(1))


def gateway(prefix: str, *to: str, probe_seconds: float = 30.0) -> GatewaySettings:
    return GatewaySettings(prefix=prefix, to=to, probe_seconds=probe_seconds)


def find(gateways: Gateways, uri: str) -> list[str]:
    return gateways.find(parse_uri(uri))


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("tel:+49-30-1234", "+49301234"),
        ("tel:+1(201)555-0123", "+12015550123"),
        ("tel:+49.30.1234;ext=5", "+49301234"),
        ("tel:7042;phone-context=example.com", "7042"),
        ("tel:*21#;phone-context=+49", "*21#"),
        ("tel:7042", ""),  # RFC 3966 §3: a local number must have its context
        ("sip:+49-30-1234@example.com;user=phone", "+49301234"),
        ("sip:+49301234@example.com", "+49301234"),
        ("sip:%2B49301234@example.com;user=PHONE", "+49301234"),
        ("sip:+49301234;ext=5@example.com;user=phone", "+49301234"),
        ("sip:1000@example.com;user=phone", "1000"),
        ("sip:1000@example.com", ""),
        ("sip:1000@example.com;user=ip", ""),
        ("sip:+alice@example.com", ""),
        ("sip:+49301234x@example.com;user=phone", ""),
        ("sip:alice@example.com;user=phone", ""),
        ("sip:+@example.com", ""),
        ("sip:example.com;user=phone", ""),
        ("mailto:+49301234@example.com", ""),
    ],
)
def test_a_number_is_recognised_and_written_plainly(uri: str, number: str) -> None:
    assert find_number(parse_uri(uri)) == number


def test_the_longest_prefix_wins() -> None:
    gateways = make_gateways(gateway("+", THREE), gateway("+49", ONE), gateway("+4930", TWO))
    assert find(gateways, "tel:+49-30-1234") == [TWO]
    assert find(gateways, "tel:+49-89-1234") == [ONE]
    assert find(gateways, "sip:+15551234@example.com;user=phone") == [THREE]
    assert find(gateways, "tel:+49-3") == [ONE]
    assert find(gateways, "tel:110;phone-context=+49") == []


def test_the_empty_prefix_fits_all_numbers_and_nothing_else() -> None:
    gateways = make_gateways(gateway("", ONE))
    assert find(gateways, "tel:+49301234") == [ONE]
    assert find(gateways, "tel:110;phone-context=+49") == [ONE]
    assert find(gateways, "sip:alice@example.com") == []


def test_a_local_number_is_never_taken_for_a_part_of_its_context() -> None:
    """RFC 3966 §5.1.5: the context is no prefix; 911 in +1 is not +1911."""
    gateways = make_gateways(gateway("+1", ONE), gateway("911", TWO))
    assert find(gateways, "tel:911;phone-context=+1") == [TWO]
    assert find(gateways, "tel:411;phone-context=+1") == []


def test_a_number_of_a_foreign_domain_is_not_ours_to_route() -> None:
    gateways = make_gateways(gateway("+49", ONE))
    assert find(gateways, "sip:+49301234@other.example;user=phone") == []
    assert find(gateways, "sip:+49301234@127.0.0.1;user=phone") == [ONE]


def test_a_route_takes_all_requests_for_its_domain() -> None:
    gateways = make_gateways(gateway("+49", ONE), routes=(RouteSettings(domain="Other.Example.", to=(TWO, THREE)),))
    assert find(gateways, "sip:alice@other.example") == [TWO, THREE]
    assert find(gateways, "sip:+49301234@OTHER.example;user=phone") == [TWO, THREE]
    assert find(gateways, "sip:alice@sub.other.example") == []


def test_entries_with_the_same_prefix_are_one_group_in_their_order() -> None:
    gateways = make_gateways(gateway("+49", TWO, ONE), gateway("+49", ONE, THREE))
    assert find(gateways, "tel:+491") == [TWO, ONE, THREE]


def probe(gateways: Gateways, uri: str, *outcomes: bool) -> list[Health | None]:
    return [gateways.probed(uri, alive) for alive in outcomes]


def test_a_target_goes_down_after_failures_in_a_row_and_is_then_the_last_resort() -> None:
    gateways = make_gateways(gateway("+49", ONE, TWO, THREE))
    assert probe(gateways, ONE, False) == [None]
    assert find(gateways, "tel:+491") == [ONE, TWO, THREE]
    assert probe(gateways, ONE, False) == [Health.DOWN]
    assert find(gateways, "tel:+491") == [TWO, THREE, ONE]
    assert probe(gateways, ONE, False) == [None]


def test_a_single_lost_probe_changes_nothing() -> None:
    gateways = make_gateways(gateway("+49", ONE, TWO))
    assert probe(gateways, ONE, True, False, True, False, True) == [Health.UP, None, None, None, None]


def test_a_target_that_was_down_must_answer_twice() -> None:
    gateways = make_gateways(gateway("+49", ONE, TWO))
    probe(gateways, ONE, False, False)
    assert probe(gateways, ONE, True, False, True, True) == [None, None, None, Health.UP]
    assert find(gateways, "tel:+491") == [ONE, TWO]


def test_when_all_are_down_all_are_still_tried_in_order() -> None:
    gateways = make_gateways(gateway("+49", ONE, TWO))
    for uri in (TWO, ONE):
        probe(gateways, uri, *[False] * DOWN_AFTER)
    assert find(gateways, "tel:+491") == [ONE, TWO]


def test_a_target_that_routes_and_gateways_share_is_one() -> None:
    gateways = make_gateways(
        gateway("+49", ONE, TWO), routes=(RouteSettings(domain="other.example", to=(ONE, THREE), probe_seconds=5.0),)
    )
    probe(gateways, ONE, False, False)
    assert find(gateways, "tel:+491") == [TWO, ONE]
    assert find(gateways, "sip:other.example") == [THREE, ONE]
    assert [uri for uri, _ in gateways.states()] == [ONE, THREE, TWO]


def test_first_probes_are_spread_and_then_come_at_their_interval() -> None:
    gateways = make_gateways(gateway("+49", ONE, TWO), gateway("+1", THREE, probe_seconds=0.0))
    assert gateways.next_at(100.0) == 100.0
    sent: list[tuple[float, str]] = []
    for tenth in range(1000):
        now = 100.0 + tenth / 10
        for uri in gateways.due(now):
            sent.append((now, uri))
            gateways.probed(uri, True)
    for uri in (ONE, TWO):
        times = [now for now, probed in sent if probed == uri]
        assert times[0] <= 102.1
        assert all(26.9 < later - earlier < 33.2 for earlier, later in pairwise(times))
        assert 3 <= len(times) <= 4
    assert THREE not in [uri for _, uri in sent]


def test_a_probe_under_way_is_not_sent_twice_but_one_that_nobody_reports_is_given_up() -> None:
    gateways = make_gateways(gateway("+49", ONE, probe_seconds=5.0))
    gateways.due(100.0)
    assert gateways.due(102.0) == [ONE]
    assert gateways.due(102.0 + LOST_AFTER - 1) == []
    assert gateways.next_at(103.0) == 102.0 + LOST_AFTER
    assert gateways.due(102.0 + LOST_AFTER) == [ONE]


def test_next_at_is_when_the_next_probe_is_due() -> None:
    gateways = make_gateways(gateway("+49", ONE, probe_seconds=10.0))
    gateways.due(100.0)
    first_at = gateways.next_at(100.0)
    assert first_at is not None
    assert gateways.due(first_at - 0.001) == []
    assert gateways.due(first_at) == [ONE]
    gateways.probed(ONE, True)
    next_at = gateways.next_at(first_at)
    assert next_at is not None
    assert 9.0 <= next_at - first_at <= 11.0
    assert make_gateways(gateway("+49", ONE, probe_seconds=0.0)).next_at(100.0) is None


def test_a_failed_call_has_its_target_probed_at_once() -> None:
    gateways = make_gateways(gateway("+49", ONE))
    gateways.due(100.0)
    gateways.due(102.0)
    gateways.probed(ONE, True)
    assert gateways.due(103.0) == []
    gateways.suspect(ONE, 104.0)
    gateways.suspect("sip:unknown.example", 104.0)
    assert gateways.due(104.0) == [ONE]


def test_a_report_about_an_unknown_target_is_nothing() -> None:
    assert make_gateways().probed("sip:unknown.example", False) is None


def test_the_state_of_each_probed_target_is_a_metric() -> None:
    metrics = Metrics()
    gateways = make_gateways(gateway("+49", ONE, TWO), gateway("+1", THREE, probe_seconds=0.0), metrics=metrics)
    probe(gateways, ONE, False, False)
    probe(gateways, TWO, True)
    assert {values[0]: read(child) for values, child in metrics.gateway_up} == {ONE: 0.0, TWO: 1.0}
    assert read(metrics.gateway_probes.child("failed")) == 2
    assert read(metrics.gateway_probes.child("answered")) == 1
    assert gateways.states() == [(ONE, Health.DOWN), (TWO, Health.UP)]


def test_any_answer_but_408_and_503_is_a_sign_of_life() -> None:
    assert [status for status in (200, 302, 404, 405, 408, 481, 483, 500, 501, 503, 603) if not is_alive(status)] == [
        408,
        503,
    ]


def test_a_change_keeps_what_the_probes_say_of_targets_that_stay() -> None:
    metrics = Metrics()
    gateways = make_gateways(gateway("+49", ONE, TWO), metrics=metrics)
    gateways.due(100.0)
    for _ in range(DOWN_AFTER):
        gateways.probed(ONE, False)
    gateways.change(
        [RouteSettings(domain="partner.example", to=(THREE,))], [gateway("+4930", ONE, THREE), gateway("+1", TWO)]
    )
    assert dict(gateways.states()) == {ONE: Health.DOWN, THREE: Health.UNKNOWN, TWO: Health.UNKNOWN}
    assert find(gateways, "tel:+49301") == [THREE, ONE]
    assert find(gateways, "tel:+49401") == []
    assert find(gateways, "tel:+12") == [TWO]
    assert find(gateways, "sip:x@partner.example") == [THREE]
    assert read(metrics.gateway_up.child(ONE)) == 0


def test_targets_that_a_change_drops_or_probes_no_more_are_no_longer_counted_or_down() -> None:
    metrics = Metrics()
    gateways = make_gateways(gateway("+49", ONE, TWO), metrics=metrics)
    gateways.due(100.0)
    for _ in range(DOWN_AFTER):
        gateways.probed(ONE, False)
    gateways.change([], [gateway("+49", ONE, THREE, probe_seconds=0.0)])
    assert find(gateways, "tel:+49301") == [ONE, THREE]
    assert gateways.states() == []
    assert gateways.next_at(101.0) is None
    assert gateways.probed(TWO, False) is None
    assert not any(values in ((ONE,), (TWO,)) for values, _ in metrics.gateway_up)
