"""The console's commands about the farm: what operators type, read and get as exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.admin.control import Answer
from farm.admin.overlay_cli import describe_overlay, make_duration, make_table
from tests.admin.fakes import NODE_ID, OTHER_ID, make_member
from tests.admin.test_cli import Terminal

BOB = "sip:bob@example.com"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.node.join()
    terminal.node.owning[BOB] = [
        {"name": "n1", "node_id": NODE_ID, "standing": "owner", "version": "0f" * 16, "size": 412},
        {"name": "n2", "node_id": OTHER_ID, "standing": "silent"},
    ]
    return terminal


def test_members_are_a_table_with_this_node_marked(terminal: Terminal) -> None:
    assert terminal.type("members") == 0
    assert terminal.out.splitlines() == [
        "name  node-id   address          zone  roles       state  since   rtt",
        "n1 *  00000000  127.0.0.11:7400  -     store,edge  alive  90 s    -",
        "n2    80000000  127.0.0.12:7400  b     store,edge  alive  67 min  0.42 ms",
    ]
    terminal.node.known_members[1:1] = [make_member(name, OTHER_ID, "x", since=1, rtt=None) for name in ("n10", "n3")]
    terminal.type("members")
    assert [line.split()[0] for line in terminal.out.splitlines()] == ["name", "n1", "n2", "n3", "n10"]
    del terminal.node.known_members[1:3]
    assert terminal.type("members", "--json") == 0
    assert json.loads(terminal.out)["members"][1]["node_id"] == OTHER_ID


def test_status_tells_how_the_node_is_among_the_others(terminal: Terminal) -> None:
    assert terminal.type("status") == 0
    assert terminal.out.splitlines()[3:] == [
        f"node id: {NODE_ID}",
        "overlay: farm.example.com",
        "state: alive",
        "members: 2 alive, 1 dead",
        "synchronised: yes",
        "replicas: 3",
        "underreplicated: no partition",
        "clock offset: +12 ms",
        "certificate expires in: 2 d",
        "config sequence: 3",
        "ready: yes",
    ]
    assert terminal.type("status", "--json") == 0
    assert json.loads(terminal.out)["overlay"]["members"] == {"alive": 2, "suspect": 0, "dead": 1}


def test_status_of_a_node_that_is_not_in_step_says_how_far_it_is(terminal: Terminal) -> None:
    terminal.node.overlay |= {"synchronised": False, "progress": 0.256, "underreplicated": 17, "draining": True}
    terminal.node.overlay |= {"certificate_expires_in": -5, "replicas": {"wanted": 3, "possible": 1}}
    terminal.node.is_ready = False
    assert terminal.type("status") == 3
    lines = terminal.out.splitlines()
    assert "state: alive, draining" in lines
    assert "synchronised: no, 26%" in lines
    assert "replicas: 1 of 3: there is only 1 node to keep them" in lines
    assert "underreplicated: 17 partitions" in lines
    assert "certificate expires in: expired" in lines
    assert "ready: no" in lines


def test_status_of_a_node_that_is_drained_says_so_and_nothing_of_being_in_step(terminal: Terminal) -> None:
    terminal.node.overlay |= {"state": "left", "synchronised": False, "progress": 1.0, "draining": True}
    terminal.node.is_ready = False
    assert terminal.type("status") == 3
    assert "state: left, drained" in terminal.out.splitlines()
    assert "synchronised" not in terminal.out


def test_locate_says_which_nodes_know_it(terminal: Terminal) -> None:
    terminal.node.bindings[BOB] = [{"contact": "sip:bob@192.0.2.1", "q": 1.0}]
    assert terminal.type("locate", "bob") == 0
    assert terminal.out.splitlines() == [
        "sip:bob@192.0.2.1  q=1.0",
        f"partition {len(BOB)}",
        "owner  node-id   standing  version           bytes",
        "n1     00000000  owner     0f0f0f0f0f0f0f0f  412",
        "n2     80000000  silent    -                 0",
    ]


def test_lookup_tells_the_owners_and_with_trace_every_call_on_the_way(terminal: Terminal) -> None:
    assert terminal.type("lookup", "bob") == 0
    assert terminal.out.splitlines()[:2] == [BOB, f"partition {len(BOB)}"]
    assert "hop" not in terminal.out
    terminal.node.traced = [
        make_hop(1, "n2", 0.00123, "nodes", 20),
        make_hop(2, "n3", 1.0, "timeout", 0),
    ]
    assert terminal.type("lookup", "bob", "--trace") == 0
    assert terminal.out.splitlines()[5:] == [
        "hop  node  node-id   address          time        answer",
        "1    n2    80000000  127.0.0.12:7400  1.23 ms     20 nodes, nearest 1234abcd",
        "2    n3    80000000  127.0.0.12:7400  1000.00 ms  timeout",
    ]
    assert terminal.type("lookup", "bob", "--trace", "--json") == 0
    assert [hop["for"] for hop in json.loads(terminal.out)["hops"]] == [BOB, BOB]


def test_a_node_id_can_be_looked_up_too(terminal: Terminal) -> None:
    assert terminal.type("lookup", NODE_ID.upper()) == 0
    assert terminal.out.splitlines() == [NODE_ID, "no call was needed: every node is known"]


def test_a_key_of_which_no_owner_answers_is_exit_1(terminal: Terminal) -> None:
    del terminal.node.owning[BOB][0]
    assert terminal.type("lookup", "bob") == 1


@pytest.mark.parametrize("command", [("members",), ("lookup", "bob")])
def test_a_node_without_an_overlay_says_so(terminal: Terminal, command: tuple[str, ...]) -> None:
    terminal.node.overlay = {}
    assert terminal.type(*command) == 1
    assert terminal.err == "sipfarm: this node is alone: its configuration has no [overlay] with listen\n"
    terminal.running = False
    assert terminal.type(*command) == 1
    assert terminal.err == "sipfarm: no node is running at control.sock\n"


def test_a_wrong_command_is_exit_2(terminal: Terminal) -> None:
    assert terminal.type("lookup") == 2
    assert terminal.type("members", "n1") == 2


def test_lengths_of_time_are_told_in_their_largest_unit() -> None:
    assert [make_duration(seconds) for seconds in (0.4, 119, 120, 7199, 7200, 172_800)] == [
        "0 s",
        "119 s",
        "2 min",
        "120 min",
        "2 h",
        "2 d",
    ]


def test_columns_are_as_wide_as_they_must_be_and_lines_end_without_blanks() -> None:
    assert make_table([("a", "b"), ("long", "")]) == ["a     b", "long"]


def test_what_a_later_version_adds_to_the_status_is_shown_as_it_comes() -> None:
    assert describe_overlay({"new_thing": 5, "clock_offset": None}) == ["new thing: 5", "clock offset: None"]


def make_hop(number: int, name: str, seconds: float, answer: str, nodes: int) -> Answer:
    return {
        "hop": number,
        "name": name,
        "node_id": OTHER_ID,
        "address": "127.0.0.12:7400",
        "seconds": seconds,
        "answer": answer,
        "nodes": nodes,
        "nearest": "1234abcd" * 8 if nodes else "",
    }
