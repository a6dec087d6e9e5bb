"""`sipfarm trace` in a farm of three: what each node saw of one user's calls, asked at one of them."""

from __future__ import annotations

from typing import Any

import pytest

from farm.admin.control import Control, OrderError
from farm.admin.ladder import Ladder, Reader
from tests.support.faces import add_face, add_phone
from tests.support.farms import Farm, FarmNode
from tests.support.parties import exchange, set_up_call


class Console:
    """`sipfarm trace` at a node."""

    def __init__(self, farm: Farm, node: FarmNode, **sought: str) -> None:
        self.farm = farm
        self.control = Control(node.node.reports, node.node.reports)
        self.after = 0
        self.nodes: dict[str, str] = {}
        self.lost: object = 0
        self.name = self.order(**sought)["trace"]

    def order(self, **fields: Any) -> dict[str, Any]:
        return self.farm.wait(self.control.run("trace", fields))

    def take(self, *, ends: bool = False) -> list[dict[str, Any]]:
        """What has come since, when it has had time to come."""
        self.farm.run(1)
        found: list[dict[str, Any]] = []
        while True:
            answer = self.order(trace=self.name, after=self.after, ends=ends)
            found += answer["messages"]
            self.after = found[-1]["number"] if found else self.after
            self.nodes = {node["name"]: node["state"] for node in answer["nodes"]}
            self.lost = answer["lost"]
            if not answer["more"]:
                break
        if ends:
            self.farm.run(1)  # the others hear so
        return found


def summarize(messages: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Node, direction and what it is, in order."""
    reader = Reader()
    return [
        (step.node, "out" if step.sent else "in", step.label.partition(" ")[0]) for step in map(reader.read, messages)
    ]


def test_a_call_over_two_nodes_is_shown_by_a_third(farm: Farm) -> None:
    nodes = add_face(farm)
    alice, bob = add_phone(farm, "alice", "udp", 1), add_phone(farm, "bob", "tcp", 0)
    bob.register()
    console = Console(farm, nodes[2], aor=bob.aor)
    assert console.take() == []
    assert console.nodes == {"n1": "watching", "n2": "watching", "n3": "watching"}
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "BYE")
    messages = console.take()
    assert summarize(messages) == [
        ("n2", "in", "INVITE"),
        ("n2", "out", "407"),
        ("n2", "in", "ACK"),
        ("n2", "in", "INVITE"),
        ("n1", "out", "INVITE"),
        ("n1", "in", "180"),
        ("n2", "out", "180"),
        ("n1", "in", "200"),
        ("n2", "out", "200"),
        ("n2", "in", "ACK"),
        ("n1", "out", "ACK"),
        ("n2", "in", "BYE"),
        ("n1", "out", "BYE"),
        ("n1", "in", "200"),
        ("n2", "out", "200"),
    ]
    assert {message["transport"] for message in messages if message["node"] == "n1"} == {"TCP"}
    first = messages[0]
    assert (first["source"], first["destination"]) == (f"{alice.host.addresses[0]}:5060", "192.0.2.2:5060")
    assert first["raw"].startswith("INVITE sip:bob@example.com")
    assert first["size"] == len(first["raw"])
    times = [message["time"] for message in messages]
    assert times == sorted(times)
    ladder, reader = Ladder(80), Reader()
    lines = [line for message in messages for line in ladder.add(reader.read(message))]
    assert max(map(len, lines)) <= 80
    assert console.take(ends=True) == []
    farm.run(1)
    assert [node.value("traces") for node in nodes] == [0, 0, 0]


def test_who_is_not_sought_is_not_shown_and_who_calls_is(farm: Farm) -> None:
    nodes = add_face(farm)
    alice, bob = add_phone(farm, "alice", "udp", 1), add_phone(farm, "bob", "udp", 0)
    carol = add_phone(farm, "carol", "udp", 2)
    console = Console(farm, nodes[0], aor="alice@example.com")
    carol.register()
    bob.register()
    assert console.take() == []
    set_up_call(alice, bob)
    assert len(console.take(ends=True)) == 11


def test_one_call_is_followed_by_its_call_id(farm: Farm) -> None:
    nodes = add_face(farm)
    alice = add_phone(farm, "alice", "udp", 1)
    console = Console(farm, nodes[0], call_id="this one")
    alice.register()
    assert console.take(ends=True) == []
    sent = alice.request("OPTIONS", "sip:example.com")
    console = Console(farm, nodes[0], call_id=sent.first("call-id"))
    farm.run(1)
    alice.send(sent.data)
    assert summarize(console.take(ends=True)) == [("n2", "in", "OPTIONS"), ("n2", "out", "200")]


def test_what_proves_a_password_is_blotted_out(farm: Farm) -> None:
    node = farm.add_node()
    alice = farm.add_party("alice")
    console = Console(farm, node, aor="alice@example.com")
    secret = 'Digest username="alice", realm="example.com", nonce="n", uri="sip:example.com", response="0123abcd"'
    alice.request("OPTIONS", "sip:example.com", headers=[f"Authorization: {secret}"])
    raw = console.take(ends=True)[0]["raw"]
    assert 'nonce="n"' in raw
    assert 'response="xxxxxxxx"' in raw
    assert "0123abcd" not in raw


def test_a_trace_that_nobody_asks_for_any_more_lapses_at_all_nodes(farm: Farm) -> None:
    nodes = add_face(farm)
    console = Console(farm, nodes[0], aor="alice@example.com")
    farm.run(2)
    assert [node.value("traces") for node in nodes] == [1, 1, 1]
    assert nodes[1].node.transport.traffic.watcher is not None
    farm.run(20)
    assert [node.value("traces") for node in nodes] == [0, 0, 0]
    assert [node.node.transport.traffic.watcher for node in nodes] == [None] * 3
    with pytest.raises(OrderError, match="that trace has ended"):
        console.take()


def test_a_trace_that_goes_on_is_said_again_to_a_node_that_was_started_anew(farm: Farm) -> None:
    nodes = add_face(farm)
    console = Console(farm, nodes[0], aor="alice@example.com")
    nodes[1].kill()
    for _ in range(8):
        console.take()
    nodes[1].restart()
    farm.wait_until_synchronised()
    for _ in range(8):
        console.take()
    assert console.nodes["n2"] == "watching"
    assert nodes[1].value("traces") == 1
    console.take(ends=True)


def test_more_traces_than_a_node_watches_for_are_refused_there(farm: Farm) -> None:
    nodes = add_face(farm)
    consoles = [Console(farm, nodes[0], aor=f"sip:{number}@example.com") for number in range(4)]
    with pytest.raises(OrderError, match="4 traces are running here already"):
        Console(farm, nodes[0], aor="sip:five@example.com")
    farm.run(1)
    consoles.append(Console(farm, nodes[1], aor="sip:six@example.com"))
    consoles.pop(0).take(ends=True)
    consoles.append(Console(farm, nodes[0], aor="sip:five@example.com"))
    for console in consoles:
        console.take(ends=True)


def test_a_node_that_watches_for_too_many_others_says_that_it_is_busy(farm: Farm) -> None:
    nodes = add_face(farm, 6)
    consoles = [Console(farm, node, aor="sip:alice@example.com") for node in nodes]  # all at the same moment
    for console in consoles:
        console.take()
        assert sum(state == "watching" for state in console.nodes.values()) >= 1
    assert sum(state == "busy" for console in consoles for state in console.nodes.values()) == 6 * 5 - 6 * 4
    assert [node.value("traces") for node in nodes] == [1 + 4] * 6
    for console in consoles:
        console.take(ends=True)


def test_a_flood_is_counted_and_what_is_kept_is_limited(farm: Farm) -> None:
    node = farm.add_node()
    console = Console(farm, node, aor="alice@example.com")
    watcher = node.node.transport.traffic.watcher
    assert watcher is not None
    for number in range(1200):
        data = f"OPTIONS sip:alice@example.com SIP/2.0\r\nCall-ID: {number}\r\n\r\n".encode()
        watcher.watch(data, "UDP", ("192.0.2.1", 5060), ("192.0.2.9", 5060), sent=False)
    messages = console.take()
    messages += console.take(ends=True)
    assert len(messages) == 1000
    assert console.lost == 200
    assert (node.value("traced_messages", "caught"), node.value("traced_messages", "lost")) == (1000, 200)


def test_an_older_node_drops_what_it_does_not_know_and_stays(farm: Farm) -> None:
    """As the previous version does: no relay of that purpose, and no hop in its head."""
    nodes = add_face(farm)
    assert nodes[1].node.member is not None
    nodes[1].node.member.relaying.users.clear()
    console = Console(farm, nodes[0], aor="alice@example.com")
    console.take()
    assert console.nodes == {"n1": "watching", "n2": "silent", "n3": "watching"}
    assert nodes[1].value("relayed_messages", "bad") == 1
    alice, bob = add_phone(farm, "alice", "udp", 1), add_phone(farm, "bob", "tcp", 0)
    bob.register()
    set_up_call(alice, bob)
    assert {message["node"] for message in console.take(ends=True)} == {"n1"}


def test_what_cannot_be_parsed_is_shown_too(farm: Farm) -> None:
    node = farm.add_node()
    mallory = farm.add_party("mallory")
    console = Console(farm, node, aor="alice@example.com")
    source = (mallory.host.addresses[0], 5060)
    bad = b"INVITE sip:alice@example.com SIP/2.0\r\nCall-ID: \x1b[31mred\r\nContent-Length: nine\r\n\r\n"
    node.node.transport.receive_datagram(bad, source, node.node.transport._udp[0])
    message = console.take(ends=True)[0]
    assert Reader().read(message).call_id == "\\x1b[31mred"
    assert message["source"] == f"{source[0]}:5060"
