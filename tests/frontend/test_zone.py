"""The zone from the nodes: which records there are, what they tell of the nodes, and when they change."""

from __future__ import annotations

from typing import Any

import pytest
from dns.name import Name
from dns.rdatatype import RdataType

from farm.frontend.zone import MOST_EDGES, Edge, Listener, Zone, ZoneSettings, make_mailbox, make_name, next_serial

WALL = 1_800_000_000.0
SECRET = b"secret of the farm's nodes"
SIP = (Listener("UDP", "192.0.2.1", 5060), Listener("TCP", "192.0.2.1", 5060))
ONE = Edge(b"one", SIP, ("192.0.2.1",))
TWO = Edge(b"two", tuple(item._replace(host="192.0.2.2") for item in SIP), ("192.0.2.2",))


def make_zone(*edges: Edge, **settings: Any) -> Zone:
    """A zone that shows these nodes."""
    zone = Zone(ZoneSettings("Sip.Example.com", SECRET, **settings))
    zone.update(edges, 0.0, WALL)
    return zone


def at(zone: Zone, name: str, kind: RdataType) -> list[str]:
    """The data of the records at a name below the zone's ("" is the zone's own), sorted."""
    records = zone.find(make_name(f"{name}.sip.example.com" if name else "sip.example.com"))
    return sorted(record.to_text() for record in (records or {}).get(kind, ()))


def label_of(target: str) -> str:
    return target.split(".")[0]


def test_the_farm_s_name_has_the_addresses_of_all_nodes() -> None:
    six = Edge(b"six", (Listener("TCP", "2001:db8::6", 5060),))
    zone = make_zone(ONE, TWO, six)
    assert at(zone, "", RdataType.A) == ["192.0.2.1", "192.0.2.2"]
    assert at(zone, "", RdataType.AAAA) == ["2001:db8::6"]


def test_transports_that_somebody_listens_on_are_named_in_the_order_preferred() -> None:
    more = (
        *SIP,
        Listener("TLS", "192.0.2.1", 5061),
        Listener("WSS", "192.0.2.1", 443),
        Listener("WS", "192.0.2.1", 80),
    )
    assert at(make_zone(ONE._replace(listeners=more)), "", RdataType.NAPTR) == [
        '10 50 "s" "SIPS+D2T" "" _sips._tcp.sip.example.com.',
        '20 50 "s" "SIP+D2T" "" _sip._tcp.sip.example.com.',
        '30 50 "s" "SIP+D2U" "" _sip._udp.sip.example.com.',
        '40 50 "s" "SIPS+D2W" "" _sips._ws.sip.example.com.',
        '50 50 "s" "SIP+D2W" "" _sip._ws.sip.example.com.',
    ]
    assert at(make_zone(ONE, prefer=("UDP", "TLS")), "", RdataType.NAPTR) == [
        '10 50 "s" "SIP+D2U" "" _sip._udp.sip.example.com.'
    ]


@pytest.mark.parametrize(
    ("transport", "name"),
    [("UDP", "_sip._udp"), ("TCP", "_sip._tcp"), ("TLS", "_sips._tcp"), ("WS", "_sip._ws"), ("WSS", "_sips._ws")],
)
def test_a_listener_is_a_service_record_whose_target_has_its_address(transport: str, name: str) -> None:
    zone = make_zone(Edge(b"one", (Listener(transport, "192.0.2.1", 5070), Listener(transport, "2001:db8::1", 5070))))
    (record,) = at(zone, name, RdataType.SRV)
    priority, weight, port, target = record.split()
    assert (priority, weight, port) == ("10", "100", "5070")
    assert at(zone, label_of(target), RdataType.A) == ["192.0.2.1"]
    assert at(zone, label_of(target), RdataType.AAAA) == ["2001:db8::1"]


def test_two_ports_are_two_records_and_only_theirs_are_the_addresses() -> None:
    zone = make_zone(Edge(b"one", (Listener("UDP", "192.0.2.1", 5060), Listener("UDP", "192.0.2.9", 5070))))
    found = {record.split()[2]: label_of(record.split()[3]) for record in at(zone, "_sip._udp", RdataType.SRV)}
    assert at(zone, found["5060"], RdataType.A) == ["192.0.2.1"]
    assert at(zone, found["5070"], RdataType.A) == ["192.0.2.9"]


@pytest.mark.parametrize(("load", "weight"), [(0, "100"), (40, "60"), (99, "1"), (100, "1")])
def test_a_busy_node_gets_less(load: int, weight: str) -> None:
    (record,) = at(make_zone(ONE._replace(load=load)), "_sip._udp", RdataType.SRV)
    assert record.split()[1] == weight


def test_a_node_in_doubt_is_tried_last_and_the_name_leads_elsewhere() -> None:
    zone = make_zone(ONE._replace(doubtful=True), TWO)
    assert [record.split()[0] for record in at(zone, "_sip._udp", RdataType.SRV)] == ["10", "20"]
    assert at(zone, "", RdataType.A) == ["192.0.2.2"]
    assert len(at(zone, "", RdataType.NS)) == 1


def test_when_all_are_in_doubt_they_are_all_there_is() -> None:
    zone = make_zone(ONE._replace(doubtful=True))
    assert at(zone, "", RdataType.A) == ["192.0.2.1"]
    assert at(zone, "", RdataType.NS)


def test_labels_say_nothing_of_a_node_and_stay_as_they_are() -> None:
    record = at(make_zone(ONE), "_sip._udp", RdataType.SRV)
    label = label_of(record[0].split()[3])
    assert len(label) == 16
    assert label.isalnum()
    assert "one" not in label
    again = make_zone(ONE, TWO)
    assert label in {label_of(text.split()[3]) for text in at(again, "_sip._udp", RdataType.SRV)}
    other = Zone(ZoneSettings("sip.example.com", b"another farm's secret"))
    other.update([ONE], 0.0, WALL)
    assert label not in at(other, "_sip._udp", RdataType.SRV)[0]


def test_nodes_that_answer_are_the_name_servers_under_their_labels() -> None:
    zone = make_zone(ONE, TWO._replace(servers=()))
    (server,) = at(zone, "", RdataType.NS)
    assert at(zone, label_of(server), RdataType.A) == ["192.0.2.1"]
    assert zone.soa[0].mname.to_text() == server
    assert zone.is_served


def test_name_servers_that_the_operator_names_are_taken_as_they_are() -> None:
    zone = make_zone(ONE, nameservers=("ns2.example.net", "ns1.example.net"))
    assert at(zone, "", RdataType.NS) == ["ns1.example.net.", "ns2.example.net."]
    assert zone.is_served


def test_where_nobody_answers_the_zone_is_still_whole() -> None:
    zone = make_zone(ONE._replace(servers=()))
    assert at(zone, "", RdataType.NS) == ["sip.example.com."]
    assert not zone.is_served


def test_the_soa_says_whom_to_write_to_and_how_long_nothing_is_believed() -> None:
    (record,) = make_zone(ONE, ttl=7, hostmaster="noc.team@example.net").soa
    assert record.rname.to_text() == r"noc\.team.example.net."
    assert (record.serial, record.minimum) == (int(WALL), 7)
    assert make_zone(ONE).soa[0].rname.to_text() == "hostmaster.sip.example.com."
    assert make_zone(ONE, ttl=7).soa.ttl == 7


def test_names_above_others_are_there_without_records() -> None:
    zone = make_zone(ONE)
    assert zone.find(make_name("_udp.sip.example.com")) == {}
    assert zone.find(make_name("_tcp.sip.example.com")) == {}
    assert zone.find(make_name("_sctp.sip.example.com")) is None
    assert zone.find(make_name("SIP.Example.COM")) is not None


def test_what_the_zone_covers_ends_at_its_name() -> None:
    zone = make_zone(ONE)
    assert zone.covers(make_name("a.SIP.example.com"))
    assert not zone.covers(make_name("example.com"))
    assert not zone.covers(make_name("xsip.example.com"))


def test_a_change_is_a_new_version_and_no_change_is_none() -> None:
    zone = make_zone(ONE)
    assert zone.serial == int(WALL)
    assert not zone.update([ONE], 5.0, WALL + 5)
    assert zone.serial == int(WALL)
    assert zone.update([TWO, ONE], 6.0, WALL + 6)
    assert zone.serial == int(WALL) + 6
    assert not zone.update([ONE, TWO], 8.0, WALL + 8)


def test_versions_are_a_second_apart_so_that_the_serial_is_never_ahead_of_the_clock() -> None:
    zone = make_zone(ONE)
    assert not zone.update([ONE, TWO], 0.9, WALL + 0.9)
    assert zone.update([ONE, TWO], 1.0, WALL + 1.0)


def test_when_nobody_is_left_the_last_ones_stay() -> None:
    zone = make_zone(ONE)
    assert not zone.update([], 10.0, WALL + 10)
    assert not zone.update([Edge(b"two", ())], 10.0, WALL + 10)
    assert at(zone, "", RdataType.A) == ["192.0.2.1"]
    assert len(zone) == 1


def test_before_anybody_is_known_there_is_no_zone() -> None:
    assert not make_zone().is_there
    assert make_zone().find(make_name("sip.example.com")) is None


@pytest.mark.parametrize(
    ("serial", "wall", "after"),
    [
        (100, 107.9, 107),
        (100, 100.5, 101),  # the clock stands still
        (100, 50.0, 101),  # it was set back
        (2**32 - 1, 2.0**32 + 5, 5),  # it runs over
        (2**32 - 1, 2.0**32 - 1, 0),
    ],
)
def test_a_serial_only_ever_grows(serial: int, wall: float, after: int) -> None:
    assert next_serial(serial, wall) == after


def test_a_large_farm_shows_as_many_as_a_message_holds() -> None:
    edges = [
        Edge(index.to_bytes(2, "big"), (Listener("UDP", f"10.0.{index // 250}.{index % 250 + 1}", 5060),))
        for index in range(MOST_EDGES + 50)
    ]
    zone = make_zone(*edges)
    assert len(at(zone, "_sip._udp", RdataType.SRV)) == MOST_EDGES
    assert at(zone, "_sip._udp", RdataType.SRV) == at(make_zone(*reversed(edges)), "_sip._udp", RdataType.SRV)


def test_everything_begins_with_the_soa_and_has_it_once() -> None:
    zone = make_zone(ONE, TWO)
    everything = list(zone.all_records())
    assert everything[0] is zone.soa
    assert sum(records.rdtype == RdataType.SOA for records in everything) == 1
    assert {records.ttl for records in everything} == {10}
    assert {records.rdtype for records in everything} == {
        RdataType.SOA, RdataType.NS, RdataType.NAPTR, RdataType.SRV, RdataType.A,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "a..b", f"{'a' * 64}.com", "@", f"{'u' * 64}@example.com", "@example.com"])
def test_what_is_no_name_or_mailbox_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        make_mailbox(text)


def test_a_mailbox_may_be_written_as_a_name() -> None:
    assert make_mailbox("noc.example.net") == Name((b"noc", b"example", b"net", b""))


def test_other_settings_make_another_version_even_of_the_same_nodes() -> None:
    edge = Edge(b"1" * 32, (Listener("UDP", "192.0.2.1", 5060),), (), 0, False)
    zone = Zone(ZoneSettings("sip.example.com", SECRET, 10))
    assert zone.update([edge], 0.0, 1000.0)
    before = zone.serial
    zone.change(ZoneSettings("sip.example.com", SECRET, 10))
    assert not zone.update([edge], 100.0, 1100.0)
    zone.change(ZoneSettings("sip.example.com", SECRET, 77))
    assert zone.update([edge], 200.0, 1200.0)
    assert zone.serial > before
    (record,) = [held for held in zone.all_records() if held.rdtype == RdataType.A and held.name == zone.name]
    assert record.ttl == 77
    assert not zone.update([edge], 300.0, 1300.0)
