"""What a DNS message says, whatever it says."""

from __future__ import annotations

from farm.resolve.reading import MAX_ADDRESSES, MAX_RECORDS, Reading, Row, read_additional, read_answer
from farm.resolve.records import Answer, Question, Srv

ASKED = Question("A", "proxy.example.com")
SERVICE = Question("SRV", "_sip._udp.example.com")


def address(name: str, value: str, ttl: float = 300.0) -> Row:
    return Row(name, "A", ttl, value)


def alias(name: str, value: str, ttl: float = 300.0) -> Row:
    return Row(name, "CNAME", ttl, value)


def test_records_of_the_asked_name_and_kind_are_the_answer() -> None:
    rows = [
        address("proxy.example.com", "192.0.2.1", 60.0),
        address("proxy.example.com", "192.0.2.2", 30.0),
        address("other.example.com", "192.0.2.3"),
        Row("proxy.example.com", "AAAA", 300.0, "2001:db8::1"),
    ]
    assert read_answer(ASKED, rows) == Reading(Answer(addresses=("192.0.2.1", "192.0.2.2")), 30.0)


def test_a_chain_of_aliases_is_followed_and_the_shortest_ttl_counts() -> None:
    rows = [
        address("c.example.net", "192.0.2.1"),
        alias("b.example.com", "c.example.net", 5.0),
        alias("proxy.example.com", "b.example.com"),
    ]
    assert read_answer(ASKED, rows) == Reading(Answer(addresses=("192.0.2.1",)), 5.0)


def test_a_chain_that_leads_out_of_the_message_says_where_to_ask_on() -> None:
    reading = read_answer(ASKED, [alias("proxy.example.com", "elsewhere.example.net")])
    assert reading == Reading(Answer(), 300.0, "elsewhere.example.net")


def test_a_ring_of_aliases_is_a_broken_answer() -> None:
    rows = [alias("proxy.example.com", "b.example.com"), alias("b.example.com", "proxy.example.com")]
    assert read_answer(ASKED, rows).answer == Answer(failure="broken")
    assert read_answer(ASKED, [alias("proxy.example.com", "proxy.example.com")]).answer.failure == "broken"


def test_no_rows_are_no_records() -> None:
    assert read_answer(ASKED, []) == Reading(Answer(), float("inf"))


def test_a_thousand_srv_records_leave_those_with_the_lowest_priority() -> None:
    rows = [Row(SERVICE.name, "SRV", 300.0, Srv(1000 - index, 1, 5060, f"t{index}")) for index in range(1000)]
    srvs = read_answer(SERVICE, rows).answer.srvs
    assert len(srvs) == MAX_RECORDS
    assert max(srv.priority for srv in srvs) == MAX_RECORDS


def test_a_thousand_addresses_are_cut() -> None:
    rows = [address(ASKED.name, f"192.0.{index // 250}.{index % 250}") for index in range(1000)]
    assert len(read_answer(ASKED, rows).answer.addresses) == MAX_ADDRESSES


def test_addresses_that_come_along_with_srv_records_answer_the_next_question() -> None:
    answer = Answer(srvs=(Srv(0, 1, 5060, "s1.example.com"), Srv(0, 1, 5060, "s2.example.com")))
    rows = [
        address("s1.example.com", "192.0.2.1"),
        address("s1.example.com", "192.0.2.2", 20.0),
        Row("s2.example.com", "AAAA", 60.0, "2001:db8::2"),
    ]
    assert read_additional(SERVICE, answer, rows) == [
        (Question("A", "s1.example.com"), Reading(Answer(addresses=("192.0.2.1", "192.0.2.2")), 20.0)),
        (Question("AAAA", "s2.example.com"), Reading(Answer(addresses=("2001:db8::2",)), 60.0)),
    ]


def test_a_zone_cannot_say_where_the_hosts_of_another_are() -> None:
    answer = Answer(srvs=(Srv(0, 1, 5060, "sip.victim.example"), Srv(0, 1, 5060, "notexample.com")))
    rows = [
        address("sip.victim.example", "192.0.2.66"),
        address("notexample.com", "192.0.2.66"),
        address("unasked.example.com", "192.0.2.66"),
    ]
    assert read_additional(SERVICE, answer, rows) == []
    assert read_additional(ASKED, answer, rows) == []
