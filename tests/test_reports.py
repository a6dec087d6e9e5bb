"""What the console and the pages are told of a running node, alone and among others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.admin.control import Control, OrderError
from farm.changes import Merged
from farm.config import ConfigError
from farm.reports import Reports
from tests.support.certificates import OVERLAY, make_signer, node_id
from tests.support.farms import Farm, FarmNode
from tests.test_member import sign

BOB = "sip:bob@example.com"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes."""
    made = Farm(tmp_path)
    yield made
    made.close()


def order(farm: Farm, node: FarmNode, name: str, **fields: object) -> dict[str, Any]:
    """What the console gets for an order."""
    reports: Reports = node.node.reports
    return farm.wait(Control(reports, reports).run(name, fields), 30.0)


# Alone


def test_a_lone_node_has_a_status_and_no_overlay(farm: Farm) -> None:
    node = farm.add_node()
    alice = farm.add_party("alice")
    alice.register()
    farm.run(59.9)
    status = order(farm, node, "status")
    assert status == {
        "name": "n1",
        "version": status["version"],
        "uptime_seconds": 60,
        "listen": ["udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"],
        "domains": ["example.com"],
        "registrations": 1,
        "users": 1,
        "transactions": status["transactions"],
        "unwritten_records": status["unwritten_records"],
        "gateways": {},
        "ready": True,
        "problems": [],
    }
    for name in ("members", "lookup", "new-config"):
        with pytest.raises(OrderError, match="this node is alone"):
            order(farm, node, name, key=BOB, record="")
    for ask in (node.node.reports.members, lambda: node.node.reports.trace(BOB, 0.0)):
        with pytest.raises(OrderError, match="has no overlay"):
            ask()


def test_a_journal_and_gateways_that_fail_are_problems(farm: Farm) -> None:
    node = farm.add_node(gateways=[{"prefix": "+49", "to": ["sip:192.0.2.77"], "probe_seconds": 5.0}])
    farm.run(120)
    node.node.records.problem = "the journal cannot be written: disk full"
    assert node.node.reports.problems() == [
        "the journal cannot be written: disk full",
        "gateway sip:192.0.2.77 does not answer",
    ]
    assert order(farm, node, "status")["gateways"] == {"sip:192.0.2.77": "down"}


def test_bindings_are_shown_as_they_are_and_removed(farm: Farm) -> None:
    node = farm.add_node()
    bob = farm.add_party("bob", transport="tcp")
    bob.register(contact=f"<{bob.contact}>;q=0.5", expires=600, headers=["User-Agent: Phone/1"], call_id="reg")
    (shown,) = order(farm, node, "show-bindings", aor="bob")["bindings"]
    assert shown.pop("received").startswith("tcp:192.0.2.101:")
    assert shown == {
        "contact": bob.contact,
        "q": 0.5,
        "expires_in": 600,
        "call_id": "reg",
        "path": [],
        "node": "",
        "instance": "",
        "user_agent": "Phone/1",
    }
    assert order(farm, node, "remove-bindings", aor="bob") == {"aor": BOB, "removed": 1}
    assert order(farm, node, "locate", aor="bob") == {"aor": BOB, "known": True, "contacts": []}
    assert order(farm, node, "locate", aor="zoe") == {"aor": "sip:zoe@example.com", "known": False, "contacts": []}


def test_the_zone_is_told_whether_or_not_it_is_served(farm: Farm) -> None:
    node = farm.add_node(dns={"zone": "sip.example.com"})
    answer = order(farm, node, "zone")
    assert (answer["zone"], answer["served"], answer["nodes"]) == ("sip.example.com.", False, 1)
    assert str(answer["serial"]) == answer["records"][0]["data"].split()[2]
    kinds = [record["type"] for record in answer["records"]]
    assert kinds[0] == "SOA"
    assert set(kinds) == {"SOA", "A", "NS", "NAPTR", "SRV"}
    served = farm.add_node("n2", "192.0.2.2", dns={"zone": "sip.example.com", "listen": ["192.0.2.2:53"]})
    assert order(farm, served, "zone")["served"]


def test_wildcards_in_a_zone_that_is_served_are_a_problem(farm: Farm) -> None:
    listen = {"domains": ["example.com"], "listen": ["udp:0.0.0.0:5060"]}
    node = farm.add_node(sip=listen, dns={"zone": "sip.example.com", "listen": ["192.0.2.1:53"]})
    assert any("dns.addresses" in problem for problem in order(farm, node, "status")["problems"])
    assert order(farm, node, "zone")["records"] == []


def test_bans_are_told_and_lifted(farm: Farm) -> None:
    node = farm.add_node(limits={"failures_per_minute": 1})
    alice = farm.add_party("alice")
    alice.password = "wrong"
    for _ in range(2):
        sent = alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
        alice.ask_again(sent, alice.expect(401), to=f"<{alice.aor}>")
        alice.wait()
    assert [ban["source"] for ban in order(farm, node, "list-bans")["bans"]] == [alice.address]
    assert order(farm, node, "lift-ban", source=alice.address)["lifted"]
    with pytest.raises(OrderError, match="is not banned"):
        order(farm, node, "lift-ban", source=alice.address)


def test_keys_are_told_by_number_and_age_and_rotated(farm: Farm) -> None:
    node = farm.add_node()
    farm.run(800)
    assert order(farm, node, "show-keys") == {
        "keys": [{"number": 1, "age": 800, "seals_in": -200, "ends_in": 777_600 + 600 - 800, "seals": True}]
    }
    assert order(farm, node, "rotate-keys") == {"number": 2, "seals_in": 600}
    assert [row["number"] for row in order(farm, node, "show-keys")["keys"]] == [1, 2]
    node.node.core.keyring.problem = "the record of the farm's keys cannot be read: no-owners"
    assert node.node.reports.problems() == ["the record of the farm's keys cannot be read: no-owners"]
    while len(order(farm, node, "show-keys")["keys"]) < 32:
        order(farm, node, "rotate-keys")
    with pytest.raises(OrderError, match="too many keys"):
        order(farm, node, "rotate-keys")


# Among others


def test_a_binding_names_the_node_that_has_the_way_to_the_phone(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.run(10)
    bob = farm.add_party("bob", target="192.0.2.2", transport="tcp")
    bob.register()
    for node in nodes:
        (shown,) = order(farm, node, "show-bindings", aor="bob")["bindings"]
        (located,) = order(farm, node, "locate", aor="bob")["contacts"]
        assert (shown["node"], located["node"]) == ("n2", "n2")


def test_the_status_of_a_node_among_others_says_how_they_are(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.run(10)
    overlay = order(farm, nodes[0], "status")["overlay"]
    assert overlay.pop("certificate_expires_in") > 86_400
    assert re.fullmatch("[0-9a-f]{16}", overlay.pop("trust"))
    assert overlay == {
        "node_id": node_id(1).hex(),
        "overlay": OVERLAY,
        "state": "alive",
        "draining": False,
        "members": {"joining": 0, "alive": 3, "suspect": 0, "dead": 0, "left": 0},
        "synchronised": True,
        "progress": 1.0,
        "replicas": {"wanted": 3, "possible": 3},
        "underreplicated": 0,
        "clock_offset": 0.001,
        "config_sequence": 0,
    }


def test_all_nodes_are_listed_with_their_state_and_how_far_they_are(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.run(20)
    nodes[2].kill()
    farm.run(30)
    members = order(farm, nodes[0], "members")["members"]
    assert [(member["name"], member["state"], member["self"]) for member in members] == [
        ("n1", "alive", True),
        ("n2", "alive", False),
        ("n3", "dead", False),
    ]
    assert members[0]["rtt"] is None
    assert 0.002 <= members[1]["rtt"] < 0.05
    assert members[1]["since"] >= 45
    assert members[2]["since"] < 31
    assert [(member["address"], member["zone"], member["roles"]) for member in members[:2]] == [
        ("192.0.2.1:7400", "east", ["edge", "store"]),
        ("192.0.2.2:7400", "east", ["edge", "store"]),
    ]


def test_the_owners_of_a_record_say_what_they_have(farm: Farm) -> None:
    nodes = farm.add_nodes(5)
    bob = farm.add_party("bob")
    bob.register()
    found = order(farm, nodes[4], "lookup", key="bob")
    assert found["key"] == BOB
    assert found["partition"] == nodes[0].node.reports.partition(BOB)
    owners = found["owners"]
    assert len(owners) == 3
    assert {owner["standing"] for owner in owners} == {"owner"}
    assert len({owner["version"] for owner in owners}) == 1
    assert min(owner["size"] for owner in owners) > 20
    names = {owner["name"] for owner in owners}
    assert {node.config.node.name for node in nodes if node.value("registrations")} == names
    assert order(farm, nodes[0], "locate", aor="bob")["owners"] == owners


def test_an_owner_that_does_not_answer_is_silent(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.add_party("bob").register()
    nodes[2].host.pause()
    owners = order(farm, nodes[0], "lookup", key="bob")["owners"]
    assert sorted((owner["name"], owner["standing"]) for owner in owners) == [
        ("n1", "owner"),
        ("n2", "owner"),
        ("n3", "silent"),
    ]
    nodes[2].host.resume()


def test_a_record_that_too_few_owners_answer_for_is_one_clear_line(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.add_party("bob")
    nodes[1].host.pause()
    nodes[2].host.pause()
    for name in ("show-bindings", "locate"):
        with pytest.raises(OrderError, match=r"cannot be read at present \(store-unavailable\)"):
            order(farm, nodes[0], name, aor="bob")
    for name in ("list-users", "disable-user"):
        with pytest.raises(OrderError, match=r"too-few-owners"):
            farm.wait(Control(nodes[0].node.reports, nodes[0].node.reports).run(name, {"name": "bob"}), 30.0)
    nodes[1].host.resume()
    nodes[2].host.resume()


@pytest.mark.parametrize("order_name", ["show-bindings", "remove-bindings"])
def test_a_node_that_has_joined_nobody_yet_says_so(farm: Farm, order_name: str) -> None:
    node = farm.add_member(overlay={"seeds": ["192.0.2.99:7400"]})
    assert not node.node.reports.ready()
    with pytest.raises(OrderError, match="cannot be read at present"):
        order(farm, node, order_name, aor="bob")
    farm.run(20)
    assert any("192.0.2.99:7400" in problem for problem in order(farm, node, "status")["problems"])


def test_a_trace_tells_every_call_on_the_way(farm: Farm) -> None:
    nodes = farm.add_nodes(4)
    hops = order(farm, nodes[0], "lookup", key="bob", trace=True)["hops"]
    assert {hop["answer"] for hop in hops} == {"nodes"}
    assert {hop["name"] for hop in hops} <= {"n2", "n3", "n4"}
    assert all(hop["hop"] == 1 and hop["seconds"] > 0 and hop["nodes"] > 0 for hop in hops)
    assert all(hop["address"].startswith("192.0.2.") and len(hop["nearest"]) == 64 for hop in hops)
    found = order(farm, nodes[0], "lookup", key=node_id(3).hex())
    assert set(found) == {"key", "hops"}
    assert "n3" in {hop["name"] for hop in found["hops"]}


def test_a_configuration_is_taken_when_our_authority_has_signed_it(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    reports = nodes[0].node.reports
    assert reports.new_config(sign(4)) == {"sequence": 4, "new": True}
    assert reports.new_config(sign(4)) == {"sequence": 4, "new": False}
    with pytest.raises(OrderError, match="signed"):
        reports.new_config(sign(5, signer=make_signer("foreign")))


def test_a_drained_node_is_not_ready_and_says_that_it_is_being_drained(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    assert nodes[0].node.reports.ready()
    order(farm, nodes[0], "drain")
    farm.run(5)
    status = order(farm, nodes[0], "status")
    assert (status["ready"], status["overlay"]["draining"], status["overlay"]["state"]) == (False, True, "left")
    order(farm, nodes[0], "undrain")
    farm.wait_until_synchronised()
    assert order(farm, nodes[0], "status")["ready"]


def test_a_node_that_still_reads_its_records_is_not_ready(farm: Farm) -> None:
    node = farm.add_node()
    node.node.records.restoring = True
    assert not node.node.reports.ready()
    node.node.records.restoring = False
    assert node.node.reports.ready()


def test_a_node_that_is_drained_says_what_is_left(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    assert "leaving" not in order(farm, nodes[0], "status")
    order(farm, nodes[0], "drain")
    farm.run(31)
    left = order(farm, nodes[0], "status")["leaving"]
    assert left == {"transactions": 0, "connections": 0, "closing": False, "handed_over": 1.0, "left": True}


def test_a_reload_reads_the_files_by_whoever_knows_them(farm: Farm) -> None:
    (node,) = farm.add_nodes(1)
    with pytest.raises(OrderError, match="this node was not started from a file"):
        order(farm, node, "reload")
    node.node.read_again = lambda: Merged(node.config, ["sip.listen"], ["limits.burst"])
    assert order(farm, node, "reload") == {"changed": ["limits.burst"], "waiting": ["sip.listen"]}

    def fail() -> Merged:
        raise ConfigError("is empty", key="sip.domains")

    node.node.read_again = fail
    with pytest.raises(OrderError, match=r"not reloaded, what was in force stays: sip\.domains: is empty"):
        order(farm, node, "reload")
