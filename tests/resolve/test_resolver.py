"""The resolver against a name server on an in-memory network: what is asked, kept, repeated and given up."""

from __future__ import annotations

import os
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.names import dns
from zope.interface import implementer

from farm.config import ResolverSettings
from farm.metrics import Metrics
from farm.resolve.records import Answer, Naptr, Question, Srv
from farm.resolve.resolver import MAX_OUTSTANDING, Resolver
from tests.support.counts import read
from tests.support.network import Host, Network, Path
from tests.support.zone_server import ZoneServer

ADDRESS = Question("A", "proxy.example.com")
SERVICE = Question("SRV", "_sip._udp.example.com")
FOUND = Answer(addresses=("192.0.2.1",))
ZONE: dict[str, list[Any]] = {
    "proxy.example.com": [dns.Record_A("192.0.2.1")],
    "example.com": [],
}


class Site:
    """A node and two name servers, 10 ms away."""

    def __init__(
        self, tmp_path: pathlib.Path, *, hosts: str = "", servers: int = 1, timeout_seconds: float = 6.0
    ) -> None:
        self.network = Network(seed=1, path=Path(delay=0.01))
        self.node: Host = self.network.add_host("10.0.0.1", "2001:db8::1")
        self.servers: list[ZoneServer] = []
        for index in range(servers):
            address = f"10.0.0.{53 + index}"
            server = ZoneServer(self.network.add_host(address), dict(ZONE))
            server.listen(address, 53)
            self.servers.append(server)
        self.server = self.servers[0]
        self.hosts_file = tmp_path / "hosts"
        self.hosts_file.write_text(hosts)
        self.metrics = Metrics()
        settings = ResolverSettings(
            servers=tuple(f"10.0.0.{53 + index}" for index in range(servers)), timeout_seconds=timeout_seconds
        )
        self.resolver = Resolver(
            settings,
            self.node,
            self.node.seconds,
            self.metrics,
            hosts_file=str(self.hosts_file),
            resolv_conf=str(tmp_path / "none"),
        )

    def ask(self, question: Question, limit: float = 60.0) -> Answer:
        """The answer, waited for if need be."""
        reply = self.resolver.answer(question)
        if isinstance(reply, Answer):
            return reply
        given: list[Answer] = []
        reply.addCallback(given.append)
        assert self.network.run_until(lambda: bool(given), limit)
        return given[0]

    def asked(self) -> list[tuple[str, str]]:
        """What the first server has been asked since the last call."""
        asked, self.server.asked = self.server.asked, []
        return asked

    def count(self, result: str) -> float:
        """How many questions ended so."""
        return read(self.metrics.resolver_seconds.child(result))


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    events: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        events.append(event.get("log_format") or "")

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


def test_the_first_question_is_sent_and_the_second_answered_at_once(site: Site) -> None:
    assert isinstance(site.resolver.answer(ADDRESS), Deferred)
    site.network.run(1)
    assert site.resolver.answer(ADDRESS) == FOUND
    assert site.asked() == [("A", "proxy.example.com")]
    assert site.count("found") == 1


def test_an_answer_is_asked_for_again_when_its_ttl_is_over(site: Site) -> None:
    site.server.ttl = 60
    site.ask(ADDRESS)
    site.network.run(59)
    assert site.ask(ADDRESS) == FOUND
    assert len(site.asked()) == 1
    site.network.run(2)
    site.server.zone["proxy.example.com"] = [dns.Record_A("192.0.2.2")]
    assert site.ask(ADDRESS).addresses == ("192.0.2.2",)


def test_all_kinds_of_records_arrive_as_values(site: Site) -> None:
    site.server.zone["example.com"] = [
        dns.Record_NAPTR(50, 10, b"s", b"SIP+D2U", b"", b"_SIP._udp.Example.com"),
        dns.Record_AAAA("2001:db8::7"),
    ]
    site.server.zone["_sip._udp.example.com"] = [dns.Record_SRV(1, 2, 5060, b"S1.example.com")]
    assert site.ask(Question("NAPTR", "example.com")).naptrs == (
        Naptr(50, 10, "s", "SIP+D2U", "", "_sip._udp.example.com"),
    )
    assert site.ask(Question("AAAA", "example.com")).addresses == ("2001:db8::7",)
    assert site.ask(SERVICE).srvs == (Srv(1, 2, 5060, "s1.example.com"),)


def test_who_asks_the_same_meanwhile_waits_for_the_same_answer(site: Site) -> None:
    given: list[Answer] = []
    for _ in range(50):
        reply = site.resolver.answer(ADDRESS)
        assert isinstance(reply, Deferred)
        reply.addCallback(given.append)
    site.network.run(1)
    assert given == [FOUND] * 50
    assert len(site.asked()) == 1


def test_one_waiter_that_gives_up_does_not_take_the_answer_from_the_others(site: Site) -> None:
    first, second = site.resolver.answer(ADDRESS), site.resolver.answer(ADDRESS)
    assert isinstance(first, Deferred)
    assert isinstance(second, Deferred)
    first.addErrback(lambda failure: None)
    first.cancel()
    given: list[Answer] = []
    second.addCallback(given.append)
    site.network.run(1)
    assert given == [FOUND]


def test_no_such_name_is_remembered_as_long_as_the_soa_says(site: Site) -> None:
    site.server.soa = dns.Record_SOA(b"ns.example.com", b"admin.example.com", 1, 1, 1, 1, minimum=20, ttl=3600)
    gone = Question("A", "gone.example.com")
    assert site.ask(gone) == Answer()
    site.network.run(19)
    assert site.ask(gone) == Answer()
    assert len(site.asked()) == 1
    site.network.run(2)
    assert site.ask(gone) == Answer()
    assert len(site.asked()) == 1
    assert site.count("empty") == 2


def test_a_name_without_records_of_the_kind_is_no_failure(site: Site) -> None:
    assert site.ask(Question("NAPTR", "example.com")) == Answer()


def test_a_lost_question_is_repeated(site: Site) -> None:
    site.server.silent = True
    reply = site.resolver.answer(ADDRESS)
    assert isinstance(reply, Deferred)
    given: list[Answer] = []
    reply.addCallback(given.append)
    site.network.run(1.5)
    site.server.silent = False
    site.network.run(1.5)
    assert given == [FOUND]
    assert len(site.asked()) == 2


def test_a_silent_server_is_given_up_in_time_and_not_asked_by_each_call(site: Site, logged: list[str]) -> None:
    site.server.silent = True
    before = site.node.seconds()
    assert site.ask(ADDRESS) == Answer(failure="timeout")
    assert site.node.seconds() - before == pytest.approx(6.0, abs=0.1)
    assert site.count("timeout") == 1
    site.asked()
    assert site.resolver.answer(ADDRESS) == Answer(failure="timeout")
    assert site.asked() == []
    site.server.silent = False
    site.network.run(6)
    assert site.ask(ADDRESS) == FOUND
    assert [text for text in logged if "name servers" in text] == [
        "name servers do not answer: {servers}",
        "name servers answer again after {seconds:.1f} s",
    ]


def test_an_error_of_one_server_sends_the_question_to_the_next_at_once(tmp_path: pathlib.Path) -> None:
    for rcode in (dns.ESERVER, dns.EREFUSED, dns.ENOTIMP):
        site = Site(tmp_path, servers=2)
        site.server.rcode = rcode
        before = site.node.seconds()
        assert site.ask(ADDRESS) == FOUND
        assert site.node.seconds() - before < 0.1
        site.asked()
        assert site.ask(Question("A", "other.example.com")) == Answer()
        assert site.asked() == []  # the one that answered last is asked first


def test_a_silent_server_costs_its_share_of_the_time_and_then_comes_second(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path, servers=2)
    site.server.silent = True
    before = site.node.seconds()
    assert site.ask(ADDRESS) == FOUND
    assert site.node.seconds() - before == pytest.approx(1.0, abs=0.1)
    before = site.node.seconds()
    site.ask(Question("AAAA", "proxy.example.com"))
    assert site.node.seconds() - before < 0.1


def test_a_server_that_gave_its_error_is_not_asked_again_when_the_other_is_silent(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path, servers=2)
    site.server.rcode = dns.ESERVER
    site.servers[1].silent = True
    assert site.ask(ADDRESS) == Answer(failure="timeout")
    assert len(site.asked()) == 1
    assert len(site.servers[1].asked) == 2


def test_when_all_servers_fail_it_is_a_failure_and_not_no_such_record(site: Site) -> None:
    site.server.rcode = dns.ESERVER
    assert site.ask(ADDRESS) == Answer(failure="broken")
    assert len(site.asked()) == 1
    assert site.count("failed") == 1


def test_an_answer_too_long_for_a_datagram_is_fetched_over_tcp(site: Site) -> None:
    name = "_sip._udp.example.com"
    site.server.zone[name] = [dns.Record_SRV(0, 1, 5060, f"host{n}.example.com".encode()) for n in range(50)]
    assert len(site.ask(SERVICE).srvs) == 50
    assert site.asked() == [("SRV", name), ("SRV/tcp", name)]


def test_a_thousand_srv_records_are_taken_and_cut(site: Site) -> None:
    name = "_sip._udp.example.com"
    site.server.zone[name] = [dns.Record_SRV(n, 1, 5060, f"h{n}.example.com".encode()) for n in range(1000)]
    assert len(site.ask(SERVICE).srvs) == 100


def test_a_server_without_tcp_is_a_broken_one(site: Site) -> None:
    site.server.stop_streams()
    site.server.zone["_sip._udp.example.com"] = [
        dns.Record_SRV(0, 1, 5060, f"host{n}.example.com".encode()) for n in range(50)
    ]
    assert site.ask(SERVICE) == Answer(failure="broken")


def test_an_alias_is_followed_through_the_message_and_beyond(site: Site) -> None:
    site.server.zone["www.example.com"] = [dns.Record_CNAME(b"a.example.com", ttl=7)]
    site.server.zone["a.example.com"] = [dns.Record_CNAME(b"PROXY.example.com")]
    assert site.ask(Question("A", "www.example.com")) == FOUND
    assert site.asked() == [("A", "www.example.com"), ("A", "a.example.com"), ("A", "proxy.example.com")]
    site.network.run(8)
    site.ask(Question("A", "www.example.com"))
    assert len(site.asked()) == 3


def test_a_ring_of_aliases_ends(site: Site) -> None:
    site.server.zone["a.example.com"] = [dns.Record_CNAME(b"b.example.com")]
    site.server.zone["b.example.com"] = [dns.Record_CNAME(b"a.example.com")]
    assert site.ask(Question("A", "a.example.com")) == Answer(failure="broken")
    assert len(site.asked()) == 8


def test_a_zone_with_ttl_zero_is_not_asked_for_every_message(site: Site) -> None:
    site.server.ttl = 0
    site.ask(ADDRESS)
    assert site.resolver.answer(ADDRESS) == FOUND
    site.network.run(1.1)
    assert isinstance(site.resolver.answer(ADDRESS), Deferred)


def test_addresses_that_come_along_are_not_asked_for(site: Site) -> None:
    site.server.zone[SERVICE.name] = [dns.Record_SRV(0, 1, 5060, b"s1.example.com")]
    site.server.additional[SERVICE.name] = [
        ("s1.example.com", dns.Record_A("192.0.2.11")),
        ("victim.example", dns.Record_A("192.0.2.66")),
    ]
    site.ask(SERVICE)
    assert site.resolver.answer(Question("A", "s1.example.com")) == Answer(addresses=("192.0.2.11",))
    assert isinstance(site.resolver.answer(Question("A", "victim.example")), Deferred)


def test_what_is_known_already_is_not_overwritten_by_what_comes_along(site: Site) -> None:
    site.server.zone["s1.example.com"] = [dns.Record_A("192.0.2.10")]
    site.ask(Question("A", "s1.example.com"))
    site.server.zone[SERVICE.name] = [dns.Record_SRV(0, 1, 5060, b"s1.example.com")]
    site.server.additional[SERVICE.name] = [("s1.example.com", dns.Record_A("192.0.2.66"))]
    site.ask(SERVICE)
    assert site.resolver.answer(Question("A", "s1.example.com")) == Answer(addresses=("192.0.2.10",))


def test_an_answer_to_another_question_is_not_taken(site: Site) -> None:
    site.server.question = dns.Query(b"other.example.com", dns.A, dns.IN)
    assert site.ask(ADDRESS) == Answer(failure="broken")


def test_old_records_help_out_when_the_servers_are_gone(site: Site) -> None:
    site.server.ttl = 60
    site.ask(ADDRESS)
    site.network.run(61)
    site.server.silent = True
    before = site.node.seconds()
    assert site.ask(ADDRESS) == FOUND
    assert site.node.seconds() - before == pytest.approx(1.8, abs=0.01)
    assert site.resolver.answer(ADDRESS) == FOUND  # while the question is under way still
    site.network.run(6)
    assert site.resolver.answer(ADDRESS) == FOUND  # and after it has failed
    site.asked()
    site.network.run(31)
    assert isinstance(site.resolver.answer(ADDRESS), Deferred)
    site.network.run(0.1)
    assert site.asked() == [("A", "proxy.example.com")]


def test_old_records_are_replaced_when_the_slow_answer_comes(site: Site) -> None:
    site.server.ttl = 60
    site.ask(ADDRESS)
    site.network.run(61)
    site.server.delay = 1.9
    site.server.zone["proxy.example.com"] = [dns.Record_A("192.0.2.2")]
    assert site.ask(ADDRESS) == FOUND
    site.network.run(0.5)
    assert site.resolver.answer(ADDRESS) == Answer(addresses=("192.0.2.2",))


def test_hosts_answers_at_once_and_has_the_last_word(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path, hosts="192.0.2.99 pbx.example.com\n")
    assert site.resolver.answer(Question("A", "pbx.example.com")) == Answer(addresses=("192.0.2.99",))
    for question in (
        Question("AAAA", "pbx.example.com"),
        Question("NAPTR", "pbx.example.com"),
        Question("SRV", "_sip._udp.pbx.example.com"),
    ):
        assert site.resolver.answer(question) == Answer()
    site.network.run(0.1)
    assert site.asked() == []


def test_a_changed_hosts_file_is_read_again(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path, hosts="192.0.2.99 pbx\n")
    pbx = Question("A", "pbx")
    assert site.ask(pbx).addresses == ("192.0.2.99",)
    site.hosts_file.write_text("192.0.2.100 pbx\n192.0.2.101 other\n")
    site.network.run(6)
    assert site.ask(pbx).addresses == ("192.0.2.100",)
    os.unlink(site.hosts_file)
    site.network.run(6)
    assert site.ask(pbx) == Answer()
    assert site.asked() == [("A", "pbx")]


def test_without_configured_servers_those_of_the_machine_are_asked(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path)
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 10.0.0.53\n")
    site.resolver = Resolver(
        ResolverSettings(), site.node, site.node.seconds, site.metrics, hosts_file="", resolv_conf=str(resolv_conf)
    )
    assert site.ask(ADDRESS) == FOUND


def test_the_number_of_questions_under_way_is_bounded(site: Site) -> None:
    site.server.silent = True
    for index in range(MAX_OUTSTANDING):
        assert isinstance(site.resolver.answer(Question("A", f"h{index}.example.com")), Deferred)
    assert site.resolver.answer(Question("A", "one-more.example.com")) == Answer(failure="busy")
    assert isinstance(site.resolver.answer(Question("A", "h0.example.com")), Deferred)
    site.server.silent = False
    site.network.run(10)
    assert isinstance(site.resolver.answer(Question("A", "one-more.example.com")), Deferred)


def test_no_socket_to_be_had_is_a_failure_and_nothing_hangs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> object:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(site.node, "listenUDP", refuse)
        assert site.resolver.answer(ADDRESS) == Answer(failure="broken")
    site.network.run(6)
    assert site.ask(ADDRESS) == FOUND


def test_garbage_and_forged_answers_are_passed_over(site: Site) -> None:
    """Right answers from elsewhere under many ids, and nonsense from the server's own address."""
    forger = site.network.add_host("10.0.0.66")
    rng = random.Random(1)
    sockets: list[tuple[str, int]] = []
    site.network.watch(lambda packet: sockets.append(packet.source))
    site.server.delay = 0.5
    given: list[Answer] = []
    reply = site.resolver.answer(ADDRESS)
    assert isinstance(reply, Deferred)
    reply.addCallback(given.append)
    target = sockets[0]
    wrong = dns.Message(0, answer=1)
    wrong.addQuery(b"proxy.example.com", dns.A)
    wrong.answers = [dns.RRHeader(b"proxy.example.com", dns.A, dns.IN, 9, dns.Record_A("192.0.2.66"))]
    for number in range(2000):
        wrong.id = number
        site.network.send_datagram(forger, ("10.0.0.66", 53), target, wrong.toStr())
    for length in (0, 1, 11, 12, 13, 40, 511):
        data = rng.randbytes(length)
        site.network.send_datagram(site.server.reactor, ("10.0.0.53", 53), target, data)
    site.network.run(1)
    assert given == [FOUND]


def test_stopping_answers_all_who_wait(site: Site) -> None:
    site.server.silent = True
    reply = site.resolver.answer(ADDRESS)
    assert isinstance(reply, Deferred)
    given: list[Answer] = []
    reply.addCallback(given.append)
    site.network.run(0.1)
    site.resolver.stop()
    assert given == [Answer(failure="busy")]
    assert site.resolver.answer(Question("A", "new.example.com")) == Answer(failure="busy")


def test_every_socket_is_closed_in_the_end(site: Site) -> None:
    name = "_sip._udp.example.com"
    site.server.zone[name] = [dns.Record_SRV(0, 1, 5060, f"host{n}.example.com".encode()) for n in range(50)]
    site.ask(SERVICE)
    site.server.silent = True
    site.ask(ADDRESS)
    site.network.run(10)
    assert site.node.getDelayedCalls() == []
    assert not site.node._udp
    assert not site.node.connections
