"""The overview of a node, alone and among others: what the status page and `sipfarm top` show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.overlay.wire import ALIVE, DEAD, LEFT, SUSPECT, Contact
from farm.overview import CELLS, MOST_MEMBERS, _choose, _describe_partitions
from tests.support.farms import Farm, FarmNode
from tests.support.overviews import make_overview
from tests.support.parties import exchange, set_up_call

ROOT = Path(__file__).parent.parent


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes."""
    made = Farm(tmp_path)
    yield made
    made.close()


def look(node: FarmNode) -> dict[str, Any]:
    """The overview, as JSON has it."""
    overview: dict[str, Any] = json.loads(json.dumps(node.node.reports.overview()))
    return overview


def test_a_lone_node_has_figures_and_no_farm(farm: Farm) -> None:
    node = farm.add_node()
    farm.run(30)
    seen = look(node)
    assert (seen["name"], seen["uptime"], seen["ready"], seen["state"]) == ("n1", 30, True, "alone")
    assert (seen["members"], seen["overlay"], seen["problems"]) == ([], "", [])
    assert seen["history"]["calls"] == [0.0, 0.0, 0.0]
    assert seen["rates"] == {"registrations_per_second": 0.0, "calls_per_second": 0.0, "requests_per_second": 0.0}


def test_registrations_are_counted_held_and_remembered(farm: Farm) -> None:
    node = farm.add_node()
    farm.run(10)
    for name in ("alice", "bob"):
        farm.add_party(name).register()
    farm.run(10.5)
    seen = look(node)
    assert seen["registrations"] == 2
    assert sum(seen["history"]["registrations"]) == 0.2, "two in ten seconds"
    assert 0.0 < seen["rates"]["registrations_per_second"] <= 0.2
    assert seen["rates"]["requests_per_second"] >= seen["rates"]["registrations_per_second"]
    farm.run(60)
    assert look(node)["rates"]["registrations_per_second"] == 0.0


def test_a_call_is_shown_while_it_rings_and_while_it_lasts(farm: Farm) -> None:
    node = farm.add_node(auth={"open": True})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    farm.run(30)
    sent = alice.request("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    bob.answer(invite, 180, tag="callee")
    alice.expect(180)
    assert (look(node)["calls"], look(node)["ringing"]) == (1, 1)
    bob.answer(invite, 486, tag="callee")
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    ours, theirs = set_up_call(alice, bob)
    seen = look(node)
    assert (seen["calls"], seen["ringing"]) == (1, 0)
    assert 0.1 < seen["rates"]["calls_per_second"] <= 0.2, "two since ten to twenty seconds"
    exchange(theirs, ours, "BYE")
    farm.run(10)
    seen = look(node)
    assert seen["calls"] == 0
    assert sum(seen["history"]["calls"]) == 0.2


def test_nothing_of_a_user_or_a_phone_is_shown(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.run(10)
    alice = farm.add_party("alice", target="192.0.2.1")
    alice.register()
    farm.run(10)
    for node in nodes:
        text = json.dumps(look(node))
        assert "alice" not in text
        assert "sip:" not in text
        assert not re.search(r"192\.0\.2\.\d", text), "no phone's address, and no node's"


def test_a_farm_is_seen_with_all_its_members_and_complete(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.run(20)
    seen = look(nodes[1])
    assert [(row["name"], row["state"], row["self"]) for row in seen["members"]] == [
        ("n2", "alive", True),
        ("n1", "alive", False),
        ("n3", "alive", False),
    ]
    assert (seen["overlay"], seen["state"], seen["synchronised"], seen["progress"]) == (
        "farm.example",
        "alive",
        True,
        1.0,
    )
    assert seen["member_counts"]["alive"] == 3
    assert seen["underreplicated"] == {"1": 0, "2": 0, "more": 0}
    assert seen["partitions"] == {"all": 4096, "owned": 4096, "cells": "0" * 512}
    assert seen["members"][1]["rtt"] > 0
    assert any(seconds for seconds in seen["history"]["lookup_p50"]), "it has looked itself up"


def test_a_node_that_dies_is_seen_missed_and_counted_as_churn(farm: Farm) -> None:
    nodes = farm.add_nodes(4)
    farm.run(60)
    before = sum(look(nodes[0])["history"]["churn"])
    nodes[3].kill()
    farm.run(25)
    seen = look(nodes[0])
    assert [(row["name"], row["state"]) for row in seen["members"]][1] == ("n4", "dead")
    assert sum(seen["history"]["churn"]) == before + 1
    missing = seen["underreplicated"]
    lacking = sum(missing.values())
    assert lacking > 0, "what it had is copied half a minute after"
    assert seen["partitions"]["cells"].count("1") > 0
    assert 0 < lacking <= seen["partitions"]["owned"] < 4096 + 1
    farm.run(90)
    seen = look(nodes[0])
    assert sum(seen["underreplicated"].values()) == 0
    assert set(seen["partitions"]["cells"]) == {"0"}
    assert sum(seen["history"]["churn"]) == before + 1


def test_a_farm_of_three_that_lost_one_says_that_two_copies_are_all_there_can_be(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.run(60)
    assert look(nodes[0])["replicas"] == {"wanted": 3, "possible": 3}
    nodes[2].kill()
    farm.run(120)
    seen = look(nodes[0])
    assert seen["replicas"] == {"wanted": 3, "possible": 2}
    assert sum(seen["underreplicated"].values()) == 0, "both that there are have all"
    assert order_status(nodes[0])["replicas"] == {"wanted": 3, "possible": 2}


def order_status(node: FarmNode) -> dict[str, Any]:
    """The overlay's part of `sipfarm status`."""
    return dict(node.node.reports.overlay_status())


def test_whom_a_new_node_gets_to_know_has_not_come(farm: Farm) -> None:
    nodes = farm.add_nodes(4)
    farm.run(60)
    before = sum(look(nodes[0])["history"]["churn"])
    newcomer = farm.add_nodes(1)[4]
    farm.run(20)
    assert sum(look(newcomer)["history"]["churn"]) == 1, "itself"
    assert sum(look(nodes[0])["history"]["churn"]) == before + 1


def test_a_node_that_is_drained_says_that_it_has_handed_over(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    farm.run(10)
    farm.add_party("alice").register()
    nodes[0].node.drain()
    farm.run(20)
    seen = look(nodes[0])
    assert (seen["draining"], seen["ready"], seen["handed_over"]) == (True, False, 1.0)
    assert seen["members"][0]["draining"]


def test_the_overview_has_the_keys_that_its_page_says_and_that_the_tests_make_up(farm: Farm) -> None:
    node = farm.add_nodes(2)[0]
    farm.run(5)
    seen = look(node)
    assert seen.keys() == make_overview().keys()
    assert seen["members"][0].keys() == make_overview()["members"][0].keys()
    assert seen["history"].keys() == make_overview()["history"].keys()
    written = (ROOT / "docs" / "status.md").read_text()
    inner = [seen, seen["members"][0], seen["rates"], seen["history"], seen["partitions"]]
    unwritten = [key for part in inner for key in part if f"`{key}`" not in written]
    assert unwritten == []


# What is chosen of much


def make_contact(number: int, state: int = ALIVE) -> Contact:
    return Contact(number.to_bytes(32, "big"), "192.0.2.1", 7400, state=state, name=f"n{number:05}")


def test_of_thousands_this_node_comes_first_then_who_is_in_trouble_then_the_others() -> None:
    contacts = [make_contact(number) for number in range(5000)]
    contacts[4999] = make_contact(4999, DEAD)
    contacts[4998] = make_contact(4998, SUSPECT)
    contacts[4997] = make_contact(4997, LEFT)
    chosen = _choose(contacts)
    assert len(chosen) == MOST_MEMBERS
    assert [contact.name for contact in chosen[:5]] == ["n00000", "n04998", "n04999", "n04997", "n00001"]


def test_a_cell_is_as_bad_as_the_worst_of_its_partitions() -> None:
    seen = _describe_partitions([0, 1, 9, 16, 4095], {1: 1, 16: 7})
    assert (seen["all"], seen["owned"]) == (4096, 5)
    assert seen["cells"] == "103" + "-" * (CELLS - 4) + "0"
