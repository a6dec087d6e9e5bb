"""RFC 3263 on a table of answers: which questions are asked, and which hops come of it, in order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Generator
from typing import Any

import pytest

from farm.resolve.failed import FailedHops
from farm.resolve.locate import MAX_HOPS, MAX_TARGETS, Locator, NotLocated, Reach
from farm.resolve.records import Answer, Naptr, Question, Srv
from farm.sip.hop import Hop
from farm.sip.uri import parse_uri
from farm.sip.via import parse_via

NOW = 1000.0
BOTH = Reach()
SECURE = Reach(transports=("UDP", "TCP", "TLS"))
IPV4 = Reach(families=("A",))


class LaterAnswer:
    """An awaitable that gives its answer after one suspension, as a Deferred would."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def __await__(self) -> Generator[None, None, Answer]:
        yield
        return self.answer


class Table:
    """A `Dns` that knows a table; names in `later` are answered by an awaitable."""

    def __init__(self, zone: dict[tuple[str, str], Any] | None = None, later: tuple[str, ...] = ()) -> None:
        self.zone = zone or {}
        self.later = later
        self.asked: list[tuple[str, str]] = []

    def answer(self, question: Question) -> Answer | Awaitable[Answer]:
        self.asked.append((question.kind, question.name))
        records = self.zone.get((question.kind, question.name), ())
        if isinstance(records, Answer):
            answer = records
        elif question.kind == "NAPTR":
            answer = Answer(naptrs=tuple(records))
        elif question.kind == "SRV":
            answer = Answer(srvs=tuple(records))
        else:
            answer = Answer(addresses=tuple(records))
        return LaterAnswer(answer) if question.name in self.later else answer


def finish(awaited: Awaitable[list[Hop]]) -> list[Hop]:
    """Run a coroutine of `Locator` to its end."""
    running = awaited.__await__()
    while True:
        try:
            next(running)
        except StopIteration as stop:
            found: list[Hop] = stop.value
            return found


def make_locator(table: Table, reach: Reach = BOTH, failed: FailedHops | None = None, seed: int = 1) -> Locator:
    return Locator(table, failed or FailedHops(30.0), random.Random(seed), reach)


def locate(uri: str, table: Table | None = None, reach: Reach = BOTH, size: int = 0) -> list[str]:
    """Hops as text, for a table that knows everything at once."""
    hops = make_locator(table or Table(), reach).locate(parse_uri(uri), NOW, size)
    assert isinstance(hops, list)
    return [str(hop) for hop in hops]


def refusal(uri: str, table: Table | None = None, reach: Reach = BOTH) -> tuple[int, str]:
    with pytest.raises(NotLocated) as caught:
        locate(uri, table, reach)
    return caught.value.status, caught.value.reason


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:192.0.2.1", "udp:192.0.2.1:5060"),
        ("sip:alice@192.0.2.1:5080", "udp:192.0.2.1:5080"),
        ("sip:192.0.2.1;transport=tcp", "tcp:192.0.2.1:5060"),
        ("sip:192.0.2.1;transport=UDP", "udp:192.0.2.1:5060"),
        ("sip:192.0.2.1;transport=tls", "tls:192.0.2.1:5061"),
        ("sips:192.0.2.1", "tls:192.0.2.1:5061"),
        ("sips:192.0.2.1:5060;transport=tcp", "tls:192.0.2.1:5060"),
        ("sip:[2001:DB8::0:1]", "udp:[2001:db8::1]:5060"),
        ("sip:example.com;maddr=192.0.2.9", "udp:192.0.2.9:5060"),
        ("sip:192.0.2.1:5070;maddr=[2001:db8::9]", "udp:[2001:db8::9]:5070"),
    ],
)
def test_a_numeric_target_needs_no_dns(uri: str, hop: str) -> None:
    table = Table()
    assert locate(uri, table, SECURE) == [hop]
    assert table.asked == []


def test_a_port_leads_to_addresses_without_naptr_and_srv() -> None:
    """§4.1, §4.2: also when the port is 5060, which was different in RFC 2543."""
    table = Table({("A", "example.com"): ["192.0.2.1"], ("AAAA", "example.com"): ["2001:db8::1"]})
    assert locate("sip:example.com:5060", table) == ["udp:192.0.2.1:5060", "udp:[2001:db8::1]:5060"]
    assert table.asked == [("A", "example.com"), ("AAAA", "example.com")]
    assert locate("sip:example.com:5070;transport=tcp", table, IPV4) == ["tcp:192.0.2.1:5070"]
    assert locate("sips:example.com:5071", table, SECURE._replace(families=("A",))) == ["tls:192.0.2.1:5071"]


EXAMPLE = {
    ("NAPTR", "example.com"): [
        Naptr(100, 50, "s", "SIP+D2U", "", "_sip._udp.example.com"),
        Naptr(50, 50, "s", "SIPS+D2T", "", "_sips._tcp.example.com"),
        Naptr(90, 50, "s", "SIP+D2T", "", "_sip._tcp.example.com"),
    ],
    ("SRV", "_sip._tcp.example.com"): [Srv(0, 1, 5060, "server1.example.com"), Srv(1, 2, 5060, "server2.example.com")],
    ("SRV", "_sips._tcp.example.com"): [Srv(0, 1, 5061, "server1.example.com")],
    ("SRV", "_sip._udp.example.com"): [Srv(0, 1, 5070, "server2.example.com")],
    ("A", "server1.example.com"): ["192.0.2.1"],
    ("A", "server2.example.com"): ["192.0.2.2"],
}


def test_the_example_of_rfc_3263() -> None:
    """§4.1: a client of TCP and UDP takes TCP by NAPTR, and the servers of its SRV records."""
    table = Table(dict(EXAMPLE))
    assert locate("sip:user@example.com", table, IPV4) == ["tcp:192.0.2.1:5060", "tcp:192.0.2.2:5060"]
    assert table.asked == [
        ("NAPTR", "example.com"),
        ("SRV", "_sip._tcp.example.com"),
        ("A", "server1.example.com"),
        ("A", "server2.example.com"),
    ]


def test_a_client_of_tls_takes_it_for_sip_uris_too() -> None:
    assert locate("sip:user@example.com", Table(dict(EXAMPLE)), SECURE) == ["tls:192.0.2.1:5061"]


def test_a_sips_uri_takes_sips_services_only() -> None:
    zone: dict[tuple[str, str], Any] = dict(EXAMPLE)
    assert locate("sips:user@example.com", Table(zone), SECURE) == ["tls:192.0.2.1:5061"]
    zone[("NAPTR", "example.com")] = [Naptr(1, 1, "s", "SIP+D2T", "", "_sip._tcp.example.com")]
    table = Table(zone)
    assert locate("sips:user@example.com", table, SECURE) == ["tls:192.0.2.1:5061"]
    assert ("SRV", "_sip._tcp.example.com") not in table.asked


def test_records_of_other_kinds_do_not_matter() -> None:
    """SCTP, an unknown service, flags "u" and a regular expression are passed over; upper and lower case are equal."""
    table = Table(
        {
            ("NAPTR", "example.com"): [
                Naptr(1, 1, "s", "SIP+D2S", "", "_sip._sctp.example.com"),
                Naptr(2, 1, "s", "E2U+sip", "", "_sip._tcp.example.com"),
                Naptr(3, 1, "u", "SIP+D2T", "", "_sip._tcp.example.com"),
                Naptr(4, 1, "s", "SIP+D2T", "!^.*$!sip:x@y!", "_sip._tcp.example.com"),
                Naptr(5, 1, "S", "sip+d2u", "", "_sip._udp.other.example"),
            ],
            ("SRV", "_sip._udp.other.example"): [Srv(0, 1, 5060, "host.other.example")],
            ("A", "host.other.example"): ["192.0.2.7"],
            ("SRV", "_sip._tcp.example.com"): [Srv(0, 1, 5060, "host.other.example")],
        }
    )
    assert locate("sip:example.com", table) == ["udp:192.0.2.7:5060"]


def test_a_naptr_record_may_lead_to_addresses_directly() -> None:
    table = Table(
        {
            ("NAPTR", "example.com"): [Naptr(1, 1, "a", "SIP+D2T", "", "h.example.com")],
            ("A", "h.example.com"): ["192.0.2.8"],
        }
    )
    assert locate("sip:example.com", table) == ["tcp:192.0.2.8:5060"]


def test_a_naptr_record_that_leads_nowhere_gives_way_to_the_next() -> None:
    zone: dict[tuple[str, str], Any] = dict(EXAMPLE)
    del zone[("SRV", "_sip._tcp.example.com")]
    assert locate("sip:example.com", Table(zone), IPV4) == ["udp:192.0.2.2:5070"]


def test_without_naptr_the_srv_records_of_our_transports_are_asked_for_at_once() -> None:
    table = Table(
        {("SRV", "_sip._tcp.example.com"): [Srv(0, 1, 5062, "h.example.com")], ("A", "h.example.com"): ["192.0.2.3"]}
    )
    assert locate("sip:example.com", table) == ["tcp:192.0.2.3:5062"]
    assert table.asked[:3] == [
        ("NAPTR", "example.com"),
        ("SRV", "_sip._udp.example.com"),
        ("SRV", "_sip._tcp.example.com"),
    ]


def test_without_naptr_our_preference_decides_among_the_transports_offered() -> None:
    zone = {key: value for key, value in EXAMPLE.items() if key[0] != "NAPTR"}
    assert locate("sip:example.com", Table(dict(zone)), IPV4) == ["udp:192.0.2.2:5070"]
    tcp_first = IPV4._replace(transports=("TCP", "UDP"))
    assert locate("sip:example.com", Table(dict(zone)), tcp_first) == ["tcp:192.0.2.1:5060", "tcp:192.0.2.2:5060"]


def test_a_stated_transport_skips_naptr() -> None:
    table = Table(dict(EXAMPLE))
    assert locate("sip:example.com;transport=udp", table, IPV4) == ["udp:192.0.2.2:5070"]
    assert table.asked[0] == ("SRV", "_sip._udp.example.com")
    assert locate("sip:example.com;transport=tls", Table(dict(EXAMPLE)), SECURE) == ["tls:192.0.2.1:5061"]


def test_without_srv_records_the_domain_itself_is_the_server() -> None:
    zone = {("A", "example.com"): ["192.0.2.4"]}
    assert locate("sip:example.com", Table(zone)) == ["udp:192.0.2.4:5060"]
    assert locate("sip:example.com;transport=tcp", Table(zone)) == ["tcp:192.0.2.4:5060"]
    assert locate("sips:example.com", Table(zone), SECURE) == ["tls:192.0.2.4:5061"]
    assert locate("sip:example.com", Table(zone), Reach(transports=("TCP",))) == ["tcp:192.0.2.4:5060"]


def test_maddr_is_the_domain_to_ask_for() -> None:
    table = Table({("A", "relay.example.net"): ["192.0.2.5"]})
    assert locate("sip:alice@example.com:5065;maddr=relay.example.net", table) == ["udp:192.0.2.5:5065"]


def test_addresses_of_the_family_that_we_prefer_come_first() -> None:
    zone = {("A", "example.com"): ["192.0.2.1"], ("AAAA", "example.com"): ["2001:db8::1"]}
    ipv6_first = Reach(families=("AAAA", "A"))
    assert locate("sip:example.com:5060", Table(zone), ipv6_first) == ["udp:[2001:db8::1]:5060", "udp:192.0.2.1:5060"]


def test_several_addresses_of_one_name_share_the_load() -> None:
    zone = {("A", "example.com"): ["192.0.2.1", "192.0.2.2", "192.0.2.3"]}
    locator = make_locator(Table(zone))
    first = set()
    for _ in range(50):
        hops = locator.locate(parse_uri("sip:example.com:5060"), NOW)
        assert isinstance(hops, list)
        first.add(hops[0].host)
    assert first == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}


def test_what_is_known_is_answered_at_once_and_what_is_not_is_awaited() -> None:
    uri = parse_uri("sip:example.com")
    expected = [Hop("TCP", "192.0.2.1", 5060), Hop("TCP", "192.0.2.2", 5060)]
    assert make_locator(Table(dict(EXAMPLE)), IPV4).locate(uri, NOW) == expected
    for later in ("example.com", "_sip._tcp.example.com", "server1.example.com", "server2.example.com"):
        hops = make_locator(Table(dict(EXAMPLE), later=(later,)), IPV4).locate(uri, NOW)
        assert not isinstance(hops, list)
        assert finish(hops) == expected
    names = tuple(name for _, name in EXAMPLE)
    hops = make_locator(Table(dict(EXAMPLE), later=names), IPV4).locate(uri, NOW)
    assert not isinstance(hops, list)
    assert finish(hops) == expected


def test_questions_that_do_not_depend_on_each_other_are_under_way_together() -> None:
    table = Table(dict(EXAMPLE), later=("_sip._udp.example.com", "_sip._tcp.example.com"))
    table.zone.pop(("NAPTR", "example.com"))
    hops = make_locator(table, IPV4).locate(parse_uri("sip:example.com"), NOW)
    assert not isinstance(hops, list)
    assert table.asked[1:] == [("SRV", "_sip._udp.example.com"), ("SRV", "_sip._tcp.example.com")]
    assert finish(hops) == [Hop("UDP", "192.0.2.2", 5070)]


def test_an_error_comes_out_of_the_awaitable_when_it_had_to_wait() -> None:
    hops = make_locator(Table(later=("example.com",))).locate(parse_uri("sip:example.com"), NOW)
    assert not isinstance(hops, list)
    with pytest.raises(NotLocated) as caught:
        finish(hops)
    assert (caught.value.status, caught.value.reason) == (503, "unresolvable")


def test_a_large_request_goes_over_tcp_first_and_falls_back_to_udp() -> None:
    """RFC 3261 §18.1.1: over 1300 bytes, when the path MTU is not known."""
    assert locate("sip:192.0.2.1", size=1300) == ["udp:192.0.2.1:5060"]
    assert locate("sip:192.0.2.1", size=1301) == ["tcp:192.0.2.1:5060", "udp:192.0.2.1:5060"]
    assert locate("sip:192.0.2.1;transport=udp", size=1301) == ["tcp:192.0.2.1:5060", "udp:192.0.2.1:5060"]
    assert locate("sip:192.0.2.1", size=1301, reach=Reach(transports=("UDP",))) == ["udp:192.0.2.1:5060"]


def test_with_a_known_path_mtu_200_bytes_are_left_free() -> None:
    jumbo = Reach(path_mtu=9000)
    assert locate("sip:192.0.2.1", reach=jumbo, size=8800) == ["udp:192.0.2.1:5060"]
    assert locate("sip:192.0.2.1", reach=jumbo, size=8801) == ["tcp:192.0.2.1:5060", "udp:192.0.2.1:5060"]


def test_each_server_has_its_tcp_twin_when_the_domain_offers_udp_alone() -> None:
    zone = {
        ("SRV", "_sip._udp.example.com"): [Srv(0, 1, 5060, "a.example.com"), Srv(1, 1, 5070, "b.example.com")],
        ("A", "a.example.com"): ["192.0.2.1"],
        ("A", "b.example.com"): ["192.0.2.2"],
    }
    assert locate("sip:example.com", Table(zone), size=2000) == [
        "tcp:192.0.2.1:5060",
        "udp:192.0.2.1:5060",
        "tcp:192.0.2.2:5070",
        "udp:192.0.2.2:5070",
    ]


def test_a_large_request_takes_the_tcp_servers_that_the_domain_offers() -> None:
    zone = {key: value for key, value in EXAMPLE.items() if key[0] != "NAPTR"}
    assert locate("sip:example.com", Table(dict(zone)), IPV4, size=2000) == [
        "tcp:192.0.2.1:5060",
        "tcp:192.0.2.2:5060",
        "udp:192.0.2.2:5070",
    ]


def test_hops_that_failed_lately_come_last() -> None:
    failed = FailedHops(30.0)
    locator = make_locator(Table(dict(EXAMPLE)), IPV4, failed)
    locator.failed(Hop("TCP", "192.0.2.1", 5060, "tcp:198.51.100.1:5060"), NOW)
    uri = parse_uri("sip:example.com")
    first, second = Hop("TCP", "192.0.2.1", 5060), Hop("TCP", "192.0.2.2", 5060)
    assert locator.locate(uri, NOW + 1) == [second, first]
    locator.worked(first)
    assert locator.locate(uri, NOW + 2) == [first, second]


def test_a_server_that_refused_tcp_has_its_large_requests_over_udp_for_a_while() -> None:
    locator = make_locator(Table())
    tcp, udp = Hop("TCP", "192.0.2.1", 5060), Hop("UDP", "192.0.2.1", 5060)
    locator.failed(tcp, NOW)
    assert locator.locate(parse_uri("sip:192.0.2.1"), NOW + 1, 2000) == [udp, tcp]
    assert locator.locate(parse_uri("sip:192.0.2.1"), NOW + 31, 2000) == [tcp, udp]


def test_each_answer_is_a_list_of_its_own() -> None:
    """The proxy takes hops off it."""
    locator = make_locator(Table(dict(EXAMPLE)))
    for uri in ("sip:192.0.2.1", "sip:example.com"):
        first = locator.locate(parse_uri(uri), NOW)
        assert isinstance(first, list)
        first.clear()
        assert locator.locate(parse_uri(uri), NOW)


def test_a_domain_that_says_it_has_no_such_service_is_believed() -> None:
    """RFC 2782: the target "." - its addresses are then not asked for."""
    table = Table({("SRV", "_sip._tcp.example.com"): [Srv(0, 0, 0, "")], ("A", "example.com"): ["192.0.2.1"]})
    assert refusal("sip:example.com;transport=tcp", table) == (503, "no-service")
    assert ("A", "example.com") not in table.asked


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sip:nowhere.example", (503, "unresolvable")),
        ("sip:nowhere.example:5060", (503, "unresolvable")),
        ("sip:" + "x" * 64 + ".example", (503, "unresolvable")),
        ("sip:example.com;maddr=300.1.1.1", (503, "unresolvable")),
        ("sip:192.0.2.1;transport=sctp", (503, "no-transport")),
        ("sip:192.0.2.1;transport=ws", (503, "no-transport")),
        ("sips:192.0.2.1", (503, "no-transport")),
        ("sips:192.0.2.1;transport=udp", (503, "no-transport")),
        ("tel:+4930123", (416, "unlocatable-scheme")),
        ("mailto:alice@example.com", (416, "unlocatable-scheme")),
    ],
)
def test_what_cannot_be_located_says_why(uri: str, reason: tuple[int, str]) -> None:
    assert refusal(uri) == reason


def test_sips_never_goes_over_udp() -> None:
    assert refusal("sips:192.0.2.1;transport=udp", reach=SECURE) == (503, "no-transport")


def test_a_silent_dns_is_504_at_once_and_not_once_for_each_step() -> None:
    table = Table({("NAPTR", "example.com"): Answer(failure="timeout")})
    assert refusal("sip:example.com", table) == (504, "dns-timeout")
    assert table.asked == [("NAPTR", "example.com")]


def test_a_dns_that_knows_no_naptr_still_serves() -> None:
    zone: dict[tuple[str, str], Any] = dict(EXAMPLE)
    zone[("NAPTR", "example.com")] = Answer(failure="broken")
    assert locate("sip:example.com", Table(zone), IPV4) == ["udp:192.0.2.2:5070"]


def test_broken_srv_records_do_not_send_calls_to_the_web_server() -> None:
    zone = {("SRV", "_sip._udp.example.com"): Answer(failure="broken"), ("A", "example.com"): ["192.0.2.80"]}
    assert refusal("sip:example.com", Table(zone)) == (503, "dns-broken")
    assert refusal("sip:example.com;transport=udp", Table(zone)) == (503, "dns-broken")


def test_one_broken_family_does_not_hide_the_other() -> None:
    zone = {("AAAA", "example.com"): Answer(failure="timeout"), ("A", "example.com"): ["192.0.2.1"]}
    assert locate("sip:example.com:5060", Table(zone)) == ["udp:192.0.2.1:5060"]
    assert refusal("sip:example.com:5060", Table({("AAAA", "example.com"): Answer(failure="timeout")})) == (
        504,
        "dns-timeout",
    )


def test_a_hostile_zone_costs_a_bounded_number_of_questions_and_hops() -> None:
    zone: dict[tuple[str, str], Any] = {
        ("NAPTR", "evil.example"): [Naptr(n, 1, "s", "SIP+D2U", "", f"_sip._udp.e{n}.example") for n in range(1000)],
    }
    for n in range(1000):
        zone[("SRV", f"_sip._udp.e{n}.example")] = [Srv(0, 1, 5060, f"t{k}.e{n}.example") for k in range(1000)]
    table = Table(zone)
    assert refusal("sip:evil.example", table) == (503, "unresolvable")
    assert len(table.asked) <= 1 + 8 * (1 + 2 * MAX_TARGETS)
    for k in range(1000):
        zone[("A", f"t{k}.e0.example")] = [f"192.0.{k // 250}.{n}" for n in range(100)]
    table = Table(zone)
    assert len(locate("sip:evil.example", table)) == MAX_HOPS
    assert len(table.asked) <= 2 + 2 * MAX_TARGETS


def test_srv_targets_that_are_no_host_names_are_passed_over() -> None:
    zone: dict[tuple[str, str], Any] = {
        ("SRV", "_sip._udp.example.com"): [
            Srv(0, 1, 5060, "x" * 64 + ".example.com"),
            Srv(0, 1, 5060, "192.0.2.1"),
            Srv(0, 1, 0, "h.example.com"),
            Srv(9, 1, 5060, "h.example.com"),
        ],
        ("A", "h.example.com"): ["192.0.2.3"],
    }
    table = Table(zone)
    assert locate("sip:example.com", table, IPV4) == ["udp:192.0.2.3:5060"]
    assert [name for kind, name in table.asked if kind == "A"] == ["h.example.com"]


def test_one_hop_is_not_tried_twice() -> None:
    zone = {
        ("SRV", "_sip._udp.example.com"): [Srv(0, 1, 5060, "a.example.com"), Srv(1, 1, 5060, "b.example.com")],
        ("A", "a.example.com"): ["192.0.2.1"],
        ("A", "b.example.com"): ["192.0.2.1"],
    }
    assert locate("sip:example.com", Table(zone)) == ["udp:192.0.2.1:5060"]


def locate_response(via: str, table: Table | None = None, reach: Reach = SECURE) -> list[str]:
    hops = make_locator(table or Table(), reach).locate_response(parse_via(via), NOW)
    assert isinstance(hops, list)
    return [str(hop) for hop in hops]


def test_a_response_goes_to_a_numeric_sent_by() -> None:
    assert locate_response("SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKa") == ["udp:192.0.2.1:5070"]
    assert locate_response("SIP/2.0/TLS 192.0.2.1;branch=z9hG4bKa") == ["tls:192.0.2.1:5061"]
    assert locate_response("SIP/2.0/TCP [2001:db8::1];branch=z9hG4bKa") == ["tcp:[2001:db8::1]:5060"]


def test_a_response_goes_to_each_address_of_a_sent_by_with_a_port() -> None:
    table = Table({("A", "p.example.com"): ["192.0.2.1"], ("AAAA", "p.example.com"): ["2001:db8::1"]})
    via = "SIP/2.0/TCP p.example.com:5070;branch=z9hG4bKa"
    assert locate_response(via, table) == ["tcp:192.0.2.1:5070", "tcp:[2001:db8::1]:5070"]


def test_a_response_follows_srv_records_when_the_sent_by_has_no_port() -> None:
    table = Table(dict(EXAMPLE))
    assert locate_response("SIP/2.0/TCP example.com;branch=z9hG4bKa", table) == [
        "tcp:192.0.2.1:5060",
        "tcp:192.0.2.2:5060",
    ]
    assert locate_response("SIP/2.0/TLS example.com;branch=z9hG4bKa", table) == ["tls:192.0.2.1:5061"]
    assert ("NAPTR", "example.com") not in table.asked
    plain = Table({("A", "p.example.com"): ["192.0.2.1"]})
    assert locate_response("SIP/2.0/UDP p.example.com;branch=z9hG4bKa", plain) == ["udp:192.0.2.1:5060"]


@pytest.mark.parametrize(
    "sent_by", ["255.255.255.255", "224.0.1.75", "0.0.0.0", "[ff02::1]", "[::]", "nowhere.example", "broadcast.example"]
)
def test_a_response_never_goes_to_everybody_or_nobody(sent_by: str) -> None:
    table = Table({("A", "broadcast.example"): ["255.255.255.255"]})
    assert locate_response(f"SIP/2.0/UDP {sent_by};branch=z9hG4bKa", table) == []


def test_a_response_over_a_transport_that_we_do_not_speak_goes_nowhere() -> None:
    assert locate_response("SIP/2.0/SCTP 192.0.2.1;branch=z9hG4bKa") == []
    assert locate_response("SIP/2.0/TLS 192.0.2.1;branch=z9hG4bKa", reach=BOTH) == []


def test_a_response_whose_dns_fails_goes_nowhere() -> None:
    table = Table(
        {("SRV", "_sip._udp.p.example.com"): Answer(failure="timeout"), ("A", "p.example.com"): ["192.0.2.1"]}
    )
    assert locate_response("SIP/2.0/UDP p.example.com;branch=z9hG4bKa", table) == []


def test_a_hop_over_tls_names_what_was_located_and_not_what_dns_led_to() -> None:
    """RFC 5922 §7.3: the certificate must prove the domain of the URI, whatever SRV and NAPTR say."""
    zone = {
        ("SRV", "_sips._tcp.example.com"): (Srv(1, 1, 5061, "host.hoster.example"),),
        ("A", "host.hoster.example"): ("192.0.2.1",),
        ("A", "example.net"): ("192.0.2.2",),
    }

    def proofs(uri: str, size: int = 0) -> list[tuple[str, str]]:
        hops = make_locator(Table(dict(zone)), SECURE).locate(parse_uri(uri), NOW, size)
        assert isinstance(hops, list)
        return [(hop.transport, hop.domain) for hop in hops]

    assert proofs("sips:bob@Example.com.") == [("TLS", "example.com")]
    assert proofs("sip:example.com;transport=tls") == [("TLS", "example.com")]
    assert proofs("sips:example.net:5071") == [("TLS", "example.net")]
    assert proofs("sips:bob@example.org;maddr=example.com") == [("TLS", "example.com")]
    assert proofs("sips:192.0.2.9") == [("TLS", "192.0.2.9")]
    assert proofs("sips:[2001:db8:0::9]") == [("TLS", "2001:db8::9")]
    assert proofs("sip:example.net;transport=udp", 3000) == [("TCP", ""), ("UDP", "")]


def test_a_response_over_tls_goes_only_to_who_proves_the_sent_by() -> None:
    table = Table({("A", "proxy.example.com"): ("192.0.2.1",)})
    for sent_by, domain in (("Proxy.example.com:5071", "proxy.example.com"), ("192.0.2.7", "192.0.2.7")):
        via = parse_via(f"SIP/2.0/TLS {sent_by};branch=z9hG4bKa")
        hops = make_locator(table, SECURE).locate_response(via, NOW)
        assert isinstance(hops, list)
        assert [hop.domain for hop in hops] == [domain]
