"""The farm as its own name server (RFC 3263): dig asks everything, BIND delegates to it and copies it, and sipsak and a
Kamailio of another domain, who know nothing but its name, go on when the node that they used is killed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.agents import Agent
from tests.support.bind import NameServer, dig, lookups_by, make_parent, make_secondary, need_bind
from tests.support.live_farm import LiveFarm
from tests.support.nodes import NodeProgram, Nodes, installed
from tests.support.processes import Program, wait_until
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

ZONE = "sip.example.com"
TTL = 2
KAMAILIO = Path(__file__).parent / "kamailio_elsewhere.cfg"


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    """What is ended after the test, in the reverse order."""
    with ExitStack() as stack:
        yield stack


def ask(node: NodeProgram, *arguments: str) -> str:
    """What dig writes of a node's answer."""
    return dig(node.sip[0], *arguments, port=5353)


def lines_of(output: str, kind: str) -> list[str]:
    """The records of a type in what dig writes."""
    return [line for line in output.splitlines() if line.split()[2:4] == ["IN", kind] and not line.startswith(";")]


def addresses_by(server: str) -> set[str]:
    """The farm's addresses, as a name server has them."""
    return set(dig(server, ZONE, "A", "+short").split())


# One node, by dig


def start_alone(nodes: Nodes, hosts: Hosts, **settings: object) -> NodeProgram:
    (host,) = hosts(1)
    return nodes.start(host=host, dns={"listen": [f"{host}:5353"], "zone": ZONE, **settings})


def test_dig_gets_every_type_of_record(nodes: Nodes, hosts: Hosts) -> None:
    need("dig")
    node = start_alone(nodes, hosts)
    host = node.sip[0]
    naptr = ask(node, ZONE, "NAPTR")
    assert "status: NOERROR" in naptr
    assert "flags: qr aa rd;" in naptr
    assert sorted(line.split("\t")[-1] for line in lines_of(naptr, "NAPTR")) == [
        f'10 50 "s" "SIP+D2T" "" _sip._tcp.{ZONE}.',
        f'20 50 "s" "SIP+D2U" "" _sip._udp.{ZONE}.',
    ]
    for service in ("_sip._udp", "_sip._tcp"):
        answer = ask(node, f"{service}.{ZONE}", "SRV")
        (record,) = lines_of(answer, "SRV")
        target = record.split()[-1]
        assert record.split()[-4:-1] == ["10", "100", "5060"]
        assert [line.split()[0] for line in lines_of(answer, "A")] == [target], "the address comes along"
        assert ask(node, target, "A", "+short").split() == [host]
    assert ask(node, ZONE, "A", "+short").split() == [host]
    soa = lines_of(ask(node, ZONE, "SOA"), "SOA")[0].split()
    assert abs(int(soa[6]) - time.time()) < 60
    assert node.metric("zone_serial") == int(soa[6])
    assert len(lines_of(ask(node, ZONE, "NS"), "NS")) == 1
    assert '"RFC8482"' in ask(node, ZONE, "ANY", "+notcp")
    assert node.metric("dns_answers_total", type="NAPTR", rcode="NOERROR") == 1


def test_dig_is_denied_what_is_not_there_and_refused_what_is_not_ours(nodes: Nodes, hosts: Hosts) -> None:
    need("dig")
    node = start_alone(nodes, hosts)
    for arguments, status in (
        ((f"nobody.{ZONE}", "A"), "NXDOMAIN"),
        ((ZONE, "MX"), "NOERROR"),
        ((f"_udp.{ZONE}", "SRV"), "NOERROR"),
    ):
        answer = ask(node, *arguments)
        assert f"status: {status}" in answer
        assert "ANSWER: 0, AUTHORITY: 1" in answer
        assert len(lines_of(answer, "SOA")) == 1
    assert "status: REFUSED" in ask(node, "example.org", "A")
    assert "status: REFUSED" in ask(node, "version.bind", "TXT", "CH")
    assert "status: NOTIMP" in ask(node, ZONE, "SOA", "+opcode=notify")
    assert "Transfer failed." in ask(node, ZONE, "AXFR")


def test_dig_gets_edns_as_it_should_be(nodes: Nodes, hosts: Hosts) -> None:
    need("dig")
    node = start_alone(nodes, hosts)
    assert "EDNS: version: 0, flags:; udp: 1232" in ask(node, ZONE, "SOA")
    assert "EDNS: version: 0, flags: do; udp: 1232" in ask(node, ZONE, "SOA", "+dnssec")
    assert "OPT PSEUDOSECTION" not in ask(node, ZONE, "SOA", "+noedns")
    bad = ask(node, ZONE, "SOA", "+edns=1", "+noednsnegotiation")
    assert "status: BADVERS" in bad
    assert "EDNS: version: 0" in bad
    assert "status: NOERROR" in ask(node, ZONE, "SOA", "+ednsopt=100:abcdef")
    assert "status: NOERROR" in ask(node, ZONE, "SOA", "+ednsflags=0x4000")


def test_dig_is_sent_to_tcp_with_what_does_not_fit(nodes: Nodes, hosts: Hosts) -> None:
    need("dig")
    servers = [f"server-number-{number}.of-a-provider-{number}.example.net" for number in range(60)]
    node = start_alone(nodes, hosts, nameservers=servers)
    cut = ask(node, ZONE, "NS", "+ignore")
    assert "flags: qr aa tc rd;" in cut
    assert lines_of(cut, "NS") == []
    whole = ask(node, ZONE, "NS")
    assert "Truncated, retrying in TCP mode." in whole
    assert len(lines_of(whole, "NS")) == 60
    assert len(lines_of(ask(node, ZONE, "NS", "+tcp"), "NS")) == 60


def test_the_printed_zone_is_one_that_bind_loads(nodes: Nodes, hosts: Hosts, tmp_path: Path) -> None:
    need("named-checkzone")
    node = start_alone(nodes, hosts)
    command = [installed("sipfarm"), "zone", "-c", str(node.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "farm.zone"
    file.write_text(done.stdout)
    checked = subprocess.run(
        ["named-checkzone", ZONE, str(file)], capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert "OK" in checked.stdout


# The farm, through BIND


class World:
    """A farm of three whose zone is delegated to it, and a resolver."""

    def __init__(self, farm: LiveFarm, resolver: NameServer) -> None:
        self.farm = farm
        self.resolver = resolver
        self.hosts = [node.sip[0] for node in farm]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command whose names are looked up in this world."""
        return subprocess.run(
            [*lookups_by(self.resolver), *command],
            capture_output=True, text=True, errors="replace", timeout=60, check=False,
        )  # fmt: skip

    def find_targets(self) -> list[str]:
        """The SRV records for UDP that the resolver has."""
        return lines_of(dig(self.resolver.host, f"_sip._udp.{ZONE}", "SRV"), "SRV")

    def requests(self) -> list[float]:
        """How many OPTIONS each node that runs has had."""
        return [
            node.metric("sip_requests_total", method="OPTIONS", direction="in") if node.running() else -1.0
            for node in self.farm
        ]

    def find_used(self, before: Sequence[float]) -> int:
        """The node that has had one more."""
        (used,) = (index for index, count in enumerate(self.requests()) if count > before[index])
        return used


@pytest.fixture
def world(make_farm: MakeFarm, hosts: Hosts, tmp_path: Path, programs: ExitStack) -> World:
    """Three nodes, and BIND, which has delegated the zone to them."""
    need_bind()
    prefer = ["udp", "tcp"]
    farm = make_farm(sip={"farm_name": ZONE}, dns={"zone": ZONE, "ttl_seconds": TTL, "prefer": prefer})
    farm.start()
    (host,) = hosts(1)
    redirect = f'@ IN NAPTR 10 50 "s" "SIP+D2U" "" _sip._udp.{ZONE}.\n'
    resolver = make_parent(tmp_path / "bind", host, "example.com", ZONE, [node.sip[0] for node in farm], redirect)
    programs.callback(resolver.stop)
    resolver.wait_ready()
    made = World(farm, resolver)
    wait_until(
        lambda: addresses_by(host) == set(made.hosts), 20, f"all nodes are in the zone\n{resolver.program.tail()}"
    )
    return made


def test_bind_that_delegates_the_zone_finds_who_lives(world: World) -> None:
    resolver = world.resolver.host
    assert len(lines_of(dig(resolver, f"_sip._udp.{ZONE}", "SRV"), "SRV")) == 3
    assert "status: NXDOMAIN" in dig(resolver, f"nobody.{ZONE}", "A")
    killed = world.hosts[0]
    at = world.farm.kill(0)
    wait_until(lambda: killed not in addresses_by(world.hosts[1]), 10, "the node left the zone")
    print(f"left the zone after {time.monotonic() - at:.2f} s")
    wait_until(lambda: addresses_by(resolver) == set(world.hosts[1:]), TTL + 10, "the node left the resolver's cache")
    print(f"left the resolver's cache after {time.monotonic() - at:.2f} s")


def test_sipsak_that_knows_the_name_goes_on_after_its_node_was_killed(world: World) -> None:
    need("sipsak")
    before = world.requests()
    done = world.run("sipsak", "-vv", "-s", f"sip:{ZONE}")
    assert done.returncode == 0, done.stdout + done.stderr
    used = world.find_used(before)
    at = world.farm.kill(used)
    # sipsak asks the resolver and tries one server, so its next success is the first that DNS sends elsewhere
    wait_until(lambda: world.run("sipsak", "-D", "1", "-s", f"sip:{ZONE}").returncode == 0, 15, "sipsak succeeds")
    print(f"sipsak's next success {time.monotonic() - at:.2f} s after the kill")
    wait_until(lambda: len(world.find_targets()) == 2, TTL + 10, "the node left the resolver's cache")
    for _ in range(5):
        assert world.run("sipsak", "-s", f"sip:{ZONE}").returncode == 0


def test_a_kamailio_of_another_domain_goes_on_after_its_node_was_killed(
    world: World, hosts: Hosts, tmp_path: Path, programs: ExitStack
) -> None:
    need("kamailio")
    host, user, callee = hosts(3)
    (tmp_path / "kamailio").mkdir()
    kamailio = Program(
        [*lookups_by(world.resolver), "kamailio", "-f", str(KAMAILIO), "-l", f"udp:{host}:5060", "-l",
         f"tcp:{host}:5060", "-DD", "-E", "-m", "64", "-w", str(tmp_path / "kamailio")],
        tmp_path / "kamailio.log",
    )  # fmt: skip
    programs.callback(kamailio.stop)
    bob = programs.enter_context(Agent(world.farm[0].sip, user="bob", host=callee, port=5060))
    bob.register()
    alice = programs.enter_context(Agent((host, 5060), user="alice", host=user, port=5060))

    def send(number: int, seconds: float) -> float:
        request = alice.make_request("OPTIONS", "sip:bob@example.com")
        begun = time.monotonic()
        alice.send_request(request)
        arrived = bob.expect("OPTIONS", seconds)
        bob.answer(arrived, 200)
        alice.expect_final(seconds)
        return time.monotonic() - begun

    wait_until(kamailio.running, 5, "kamailio runs")
    time.sleep(2.0)
    before = world.requests()
    print(f"through Kamailio: {send(0, 10.0):.3f} s")
    used = world.find_used(before)
    world.farm.kill(used)
    for number in range(1, 8):
        print(f"after the kill: {send(number, 6.0):.3f} s")


def test_a_secondary_has_the_zone_and_is_told_of_every_change(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path, programs: ExitStack
) -> None:
    need_bind()
    (host,) = hosts(1)
    farm = make_farm(dns={"zone": ZONE, "ttl_seconds": TTL, "secondaries": [host]})
    farm.start()
    nodes = [node.sip[0] for node in farm]
    secondary = make_secondary(tmp_path / "secondary", host, ZONE, nodes)
    programs.callback(secondary.stop)
    secondary.wait_ready()
    wait_until(lambda: addresses_by(host) == set(nodes), 20, f"the zone was transferred\n{secondary.program.tail()}")
    farm.kill(2)
    killed_at = time.monotonic()
    wait_until(lambda: addresses_by(host) == set(nodes[:2]), 10, f"it was told\n{secondary.program.tail()}")
    print(f"the secondary knew after {time.monotonic() - killed_at:.2f} s")
    assert "received notify for zone" in secondary.program.output()
    assert sum(node.metric("dns_notices_total", result="acknowledged") for node in farm if node.running()) >= 1
    assert sum(
        node.metric("dns_answers_total", type=kind, rcode="NOERROR")
        for node in farm if node.running() for kind in ("AXFR", "IXFR")
    ) >= 1  # fmt: skip
