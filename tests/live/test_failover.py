"""Servers found by DNS (RFC 3263): the first of an SRV set is dead, the call goes to the second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.agents import Agent
from tests.support.names import NameServer
from tests.support.nodes import Nodes

Hosts = Callable[[int], list[str]]


@pytest.fixture
def names(hosts: Hosts, tmp_path: Path) -> Iterator[Callable[[str], NameServer]]:
    """Start a name server with a zone file's text; it ends with the test."""
    started: list[NameServer] = []

    def start(zone: str) -> NameServer:
        started.append(NameServer(hosts(1)[0], zone, tmp_path))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def zone_of(dead: str, live: str, transport: str = "udp") -> str:
    """A zone whose first SRV target is dead and whose second lives."""
    return f"""\
$TTL 60
$ORIGIN elsewhere.test.
@ IN SOA ns.elsewhere.test. root.elsewhere.test. 1 3600 600 86400 60
@ IN NS ns
_sip._{transport} IN SRV 10 0 5060 dead.elsewhere.test.
_sip._{transport} IN SRV 20 0 5070 live.elsewhere.test.
dead IN A {dead}
live IN A {live}
"""


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_dead_first_server_is_passed_over_and_remembered(
    nodes: Nodes, hosts: Hosts, names: Callable[[str], NameServer], transport: str
) -> None:
    alice_host, dead_host, live_host = hosts(3)
    server = names(zone_of(dead_host, live_host, transport))
    # A fifth of T1, so that timer B is 6.4 seconds; a dead UDP server is told by nothing else.
    node = nodes.start(resolver={"servers": [server.address]}, sip={"t1_seconds": 0.1})
    with (
        Agent(node.sip, host=alice_host, user="alice") as alice,
        Agent(node.sip, host=live_host, port=5070, user="bob", domain="elsewhere.test", transport=transport) as bob,
    ):
        for attempt in range(2):
            invite = alice.make_request("INVITE", "sip:bob@elsewhere.test")
            alice.send_request(invite)
            ring = bob.expect("INVITE", 45)
            bob.answer(ring, 603, "Decline")
            bob.expect("ACK")
            alice.acknowledge(invite, alice.expect(603, final=True))
            # The second time the dead one is known to be dead, and is not asked again.
            assert node.metric("sip_failovers_total") == 1, f"call {attempt + 1}"


def test_a_server_that_answers_503_is_passed_over(
    nodes: Nodes, hosts: Hosts, names: Callable[[str], NameServer]
) -> None:
    alice_host, first_host, second_host = hosts(3)
    server = names(zone_of(first_host, second_host))
    node = nodes.start(resolver={"servers": [server.address]})
    with (
        Agent(node.sip, host=alice_host, user="alice") as alice,
        Agent(node.sip, host=first_host, port=5060, user="first") as first,
        Agent(node.sip, host=second_host, port=5070, user="second") as second,
    ):
        alice.send_request(alice.make_request("MESSAGE", "sip:bob@elsewhere.test"))
        tried = first.expect("MESSAGE")
        first.answer(tried, 503, "Service Unavailable")
        arrived = second.expect("MESSAGE")
        assert arrived.first("via") != tried.first("via"), "a new branch for a new server"
        second.answer(arrived, 200, "OK")
        alice.expect(200, final=True)


def test_a_domain_that_does_not_exist_is_told_at_once(
    nodes: Nodes, hosts: Hosts, names: Callable[[str], NameServer]
) -> None:
    alice_host, dead_host, live_host = hosts(3)
    server = names(zone_of(dead_host, live_host))
    node = nodes.start(resolver={"servers": [server.address]})
    with Agent(node.sip, host=alice_host, user="alice") as alice:
        alice.send_request(alice.make_request("MESSAGE", "sip:bob@nowhere.elsewhere.test"))
        assert alice.expect_final(20).status in (404, 480, 500, 502, 503)


def test_calls_go_on_while_no_name_server_answers(nodes: Nodes, hosts: Hosts) -> None:
    alice_host, bob_host, silent_host = hosts(3)
    node = nodes.start(resolver={"servers": [f"{silent_host}:5353"], "timeout_seconds": 1.0})
    with (
        Agent(node.sip, host=alice_host, user="alice") as alice,
        Agent(node.sip, host=bob_host, user="bob") as bob,
    ):
        assert bob.register().status == 200
        alice.send_request(alice.make_request("MESSAGE", "sip:carol@elsewhere.test", call_id="waits"))
        alice.send_request(alice.make_request("MESSAGE", bob.aor, call_id="goes"))
        bob.answer(bob.expect("MESSAGE", 2), 200, "OK")
        assert alice.expect(200).first("call-id") == "goes"
        assert alice.expect_final(20).first("call-id") == "waits"
