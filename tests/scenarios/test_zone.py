"""The farm as its own name server, in memory: who comes is in the answers once it is in step, who dies, leaves or is
drained is not, and every node says the same."""

from __future__ import annotations

import random
from typing import Any

import pytest
from dns import message
from dns.rcode import Rcode
from twisted.internet.protocol import DatagramProtocol

from farm.config import ResolverSettings
from farm.metrics import Metrics
from farm.resolve.failed import FailedHops
from farm.resolve.locate import Locator, Reach
from farm.resolve.resolver import Resolver as Resolver3263
from farm.sip.uri import parse_uri
from farm.sip.via import parse_via
from tests.support.farms import Farm, FarmNode

ZONE = "sip.example.com"


class Resolver(DatagramProtocol):
    """A stranger's resolver."""

    noisy = False

    def __init__(self, farm: Farm, address: str = "203.0.113.77") -> None:
        self.farm = farm
        self.received: list[bytes] = []
        farm.network.add_host(address).listenUDP(0, self, address)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append(datagram)

    def ask(self, server: str, name: str = ZONE, kind: str = "A") -> message.Message:
        """The answer of the node at that address."""
        self.received.clear()
        transport: Any = self.transport
        transport.write(message.make_query(name, kind).to_wire(), (server, 53))
        assert self.farm.network.run_until(lambda: bool(self.received), 5.0)
        return message.from_wire(self.received[0])

    def addresses(self, server: str) -> set[str]:
        """The farm's addresses, as that node says."""
        return {record.to_text() for held in self.ask(server).answer for record in held}

    def weights(self, server: str) -> list[int]:
        """The weights of the nodes that listen on UDP, as that node says."""
        return sorted(record.weight for held in self.ask(server, f"_sip._udp.{ZONE}", "SRV").answer for record in held)


OTHER = "farm.example.net"


@pytest.mark.parametrize("farm_name", ["", OTHER])
def test_who_came_by_a_zone_with_a_name_of_its_own_names_us_by_it(farm: Farm, farm_name: str) -> None:
    """In the Request-URI, in To and in a Route; Via says what it says without a zone."""
    farm.add_node(dns={"zone": ZONE, "listen": ["192.0.2.1:53"]}, sip={"farm_name": farm_name})
    bob = farm.add_party("bob")
    bob.register()
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    zoe.request("OPTIONS", f"sip:{ZONE}")
    zoe.expect(200)
    for uri, headers in ((f"sip:bob@{ZONE}", []), (bob.aor, [f"Route: <sip:{ZONE};lr>"])):
        zoe.request("MESSAGE", uri, headers=headers)
        got = bob.expect("MESSAGE")
        assert parse_via(got.first("via")).host == (farm_name or "192.0.2.1")
        bob.answer(got, 200)
        zoe.expect(200)
    zoe.request("OPTIONS", f"sip:other.{ZONE}")
    zoe.expect(403)


def add_servers(farm: Farm, count: int) -> list[FarmNode]:
    """So many nodes that answer for the zone."""
    for _ in range(count):
        number = len(farm.nodes) + 1
        farm.add_member(dns={"zone": ZONE, "listen": [f"192.0.2.{number}:53"]})
    farm.wait_until_synchronised()
    farm.run(3.0)
    return farm.nodes


def address_of(node: FarmNode) -> str:
    return str(node.host.addresses[0])


def test_all_nodes_name_all_nodes_and_no_other_name(farm: Farm) -> None:
    farm.add_zone({})
    nodes = add_servers(farm, 3)
    resolver = Resolver(farm)
    for node in nodes:
        assert resolver.addresses(address_of(node)) == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
        assert resolver.weights(address_of(node)) == [100, 100, 100]
        answer = resolver.ask(address_of(node), f"_sip._tcp.{ZONE}", "SRV")
        for name in (b"n1", b"n2", b"n3"):
            assert b"\x02" + name not in answer.to_wire()
    assert len({resolver.ask(address_of(node), ZONE, "NS").to_wire()[12:30] for node in nodes}) == 1


def test_a_node_that_dies_leaves_the_answers_and_comes_back_when_it_is_in_step(farm: Farm) -> None:
    farm.add_zone({})
    one, two, three = add_servers(farm, 3)
    resolver = Resolver(farm)
    before = resolver.ask(address_of(one), ZONE, "SOA").answer[0][0].serial
    three.kill()
    farm.run(4.0)
    assert resolver.addresses(address_of(one)) == {"192.0.2.1", "192.0.2.2"}
    assert resolver.addresses(address_of(two)) == {"192.0.2.1", "192.0.2.2"}
    after = resolver.ask(address_of(one), ZONE, "SOA").answer[0][0].serial
    assert after > before
    three.restart()
    farm.wait_until_synchronised()
    farm.run(3.0)
    for node in (one, two, three):
        assert resolver.addresses(address_of(node)) == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
    assert resolver.ask(address_of(three), ZONE, "SOA").answer[0][0].serial > after


def test_a_node_that_is_drained_leaves_at_once_and_comes_back_when_it_is_not(farm: Farm) -> None:
    farm.add_zone({})
    one, two, _three = add_servers(farm, 3)
    resolver = Resolver(farm)
    two.node.drain()
    farm.run(1.5)
    assert resolver.addresses(address_of(one)) == {"192.0.2.1", "192.0.2.3"}
    farm.network.run_until(lambda: two.state == "left", 60.0)
    farm.run(2.0)
    assert resolver.addresses(address_of(one)) == {"192.0.2.1", "192.0.2.3"}
    assert resolver.ask(address_of(two)).rcode() == Rcode.SERVFAIL  # it hears no more how the others are
    two.node.undrain()
    farm.wait_until_synchronised()
    farm.run(3.0)
    for node in (one, two):
        assert resolver.addresses(address_of(node)) == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}


def test_what_a_node_says_of_its_load_is_its_weight_at_all(farm: Farm) -> None:
    farm.add_zone({})
    one, two = add_servers(farm, 2)
    resolver = Resolver(farm)
    member = two.node.member
    assert member is not None
    incarnation = member.node.membership.own.incarnation
    member.say(load=70)
    farm.run(2.0)
    assert resolver.weights(address_of(one)) == resolver.weights(address_of(two)) == [30, 100]
    assert member.node.membership.own.incarnation == incarnation


def test_a_node_that_only_stores_is_not_named(farm: Farm) -> None:
    farm.add_zone({})
    one, _ = add_servers(farm, 2)
    farm.add_member(roles=("store",))
    farm.wait_until_synchronised()
    farm.run(3.0)
    assert Resolver(farm).addresses(address_of(one)) == {"192.0.2.1", "192.0.2.2"}


def test_a_lone_node_is_its_farm_and_stays_so_while_it_is_drained(farm: Farm) -> None:
    node = farm.add_node("n1", "192.0.2.1", dns={"zone": ZONE, "listen": ["192.0.2.1:53"]})
    resolver = Resolver(farm)
    assert resolver.addresses("192.0.2.1") == {"192.0.2.1"}
    node.node.drain()
    farm.run(2.0)
    assert resolver.addresses("192.0.2.1") == {"192.0.2.1"}


def test_a_client_of_our_own_finds_the_farm_by_name_for_requests_and_responses(farm: Farm) -> None:
    """RFC 3263 §4 and §5; after a node has died it finds the others, and when a name server has, it asks another."""
    farm.add_zone({})
    _one, two, three = add_servers(farm, 3)
    machine = farm.network.add_host("203.0.113.9")
    settings = ResolverSettings(servers=("192.0.2.1:53", "192.0.2.3:53"), timeout_seconds=2.0)
    resolver = Resolver3263(settings, machine, machine.seconds, Metrics(), hosts_file="", resolv_conf="")
    reach = Reach(transports=("UDP", "TCP"), families=("A",))
    locator = Locator(resolver, FailedHops(30.0), random.Random(1), reach)

    def find() -> set[str]:
        return {str(hop) for hop in farm.wait(locator.locate(parse_uri(f"sip:{ZONE}"), machine.seconds()))}

    assert find() == {"tcp:192.0.2.1:5060", "tcp:192.0.2.2:5060", "tcp:192.0.2.3:5060"}
    via = parse_via(f"SIP/2.0/UDP {ZONE};branch=z9hG4bK1")
    hops = farm.wait(locator.locate_response(via, machine.seconds()))
    assert {str(hop) for hop in hops} == {"udp:192.0.2.1:5060", "udp:192.0.2.2:5060", "udp:192.0.2.3:5060"}
    two.kill()
    farm.run(15.0)
    assert find() == {"tcp:192.0.2.1:5060", "tcp:192.0.2.3:5060"}
    farm.nodes[0].kill()
    farm.run(15.0)
    assert find() == {"tcp:192.0.2.3:5060"}
    resolver.stop()
    assert three.running
