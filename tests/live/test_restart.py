"""A node that crashed or was stopped knows its registrations again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from tests.support.agents import Agent, make_call
from tests.support.floods import register_many
from tests.support.nodes import STOPPED, NodeProgram, Nodes

Hosts = Callable[[int], list[str]]
# What a crash may cost is what was acknowledged within the last second.
JOURNAL_SECONDS = 1.0


def fetch(node: NodeProgram, user: str) -> list[str]:
    """The Contact values that a REGISTER without Contact is answered with (RFC 3261 §10.2.3)."""
    with Agent(node.sip, user=user) as agent:
        answer = agent.register(contact="")
        assert answer.status == 200, answer
        return answer.all("contact")


def test_registrations_older_than_a_second_survive_kill_9(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    phone_host, caller_host = hosts(2)
    with Agent(node.sip, host=phone_host, port=5060, user="bob") as bob:
        assert bob.register().status == 200
        assert bob.register(contact=f"<sip:bob@{phone_host}:5070>;q=0.3", call_id="second").status == 200
        assert bob.register(contact=f"<sip:bob@{phone_host}:5070>", call_id="second", cseq=2, expires=0).status == 200
        assert register_many(node.sip, phone_host, (f"u{number}" for number in range(2_000))) == 2_000
        time.sleep(JOURNAL_SECONDS + 0.1)
        node.kill()
        node = nodes.start_again(node.config, node.sip[0])

        assert node.metric("registrations") == 2_001
        contacts = fetch(node, "bob")
        assert len(contacts) == 1, "the contact that was removed came back, or the other is lost"
        assert bob.contact in contacts[0]
        expires = re.search(r"expires=(\d+)", contacts[0])
        assert expires is not None
        assert 3_000 < int(expires.group(1)) <= 3_599, "time went on while the node was down"
        for user in ("u0", "u999", "u1999"):
            assert len(fetch(node, user)) == 1
        with Agent(node.sip, host=caller_host, user="alice") as alice:
            make_call(alice, bob)


def test_a_stopped_node_keeps_what_it_acknowledged_last(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    (phone_host,) = hosts(1)
    assert register_many(node.sip, phone_host, (f"u{number}" for number in range(200))) == 200
    assert node.stop() in STOPPED
    node = nodes.start_again(node.config, node.sip[0])
    assert node.metric("registrations") == 200
    assert len(fetch(node, "u199")) == 1


def test_users_and_passwords_survive_kill_9(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users={"alice": "wonderland"})
    node.kill()
    node = nodes.start_again(node.config, node.sip[0])
    with Agent(node.sip, host=hosts(1)[0], user="alice") as alice:
        assert alice.register(password="wonderland").status == 200
        assert alice.register(password="looking-glass").status == 401
