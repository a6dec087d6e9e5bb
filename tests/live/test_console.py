"""The `sipfarm` command against a node that runs, and against its store while it does not."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

from tests.support.nodes import NodeProgram, Nodes, installed

USERS = {"alice": "wonderland"}


def sipfarm(node: NodeProgram, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [installed("sipfarm"), *arguments, "-c", str(node.config)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_users_added_to_a_running_node_are_there_after_it_stopped(nodes: Nodes) -> None:
    node = nodes.start(users=USERS)
    assert sipfarm(node, "user", "add", "bob", "--password-file", "-", stdin="builder\n").stdout == "bob added\n"
    again = sipfarm(node, "user", "add", "bob", "--password-file", "-", stdin="builder\n")
    assert (again.returncode, again.stderr) == (1, "sipfarm: bob exists already\n")
    listed = json.loads(sipfarm(node, "user", "list", "--json").stdout)
    assert [user["aor"] for user in listed["users"]] == ["sip:alice@example.com", "sip:bob@example.com"]
    node.stop()
    assert sipfarm(node, "user", "list").stdout == "sip:alice@example.com\nsip:bob@example.com\n"
    assert sipfarm(node, "user", "remove", "bob").stdout == "bob removed\n"
    node = nodes.start_again(node.config, node.sip[0])
    assert sipfarm(node, "user", "list").stdout == "sip:alice@example.com\n"


def test_status_is_0_while_it_runs_and_3_when_it_does_not(nodes: Nodes) -> None:
    node = nodes.start(users=USERS)
    running = sipfarm(node, "status", "--json")
    assert running.returncode == 0
    status = json.loads(running.stdout)
    assert status["ready"] is True
    assert status["problems"] == []
    assert status["users"] == 1
    node.stop()
    stopped = sipfarm(node, "status")
    assert stopped.returncode == 3
    assert stopped.stderr.startswith("sipfarm: no node is running at ")


def test_what_lies_in_the_state_directory_is_the_owners_alone(nodes: Nodes) -> None:
    """Journals hold hashes that are as good as passwords, the socket gives orders, the secret makes nonces."""
    node = nodes.start(users=USERS)
    state = node.config.parent / "state"
    for path in (state, *state.iterdir()):
        if not path.is_symlink():
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path


def test_a_node_that_was_killed_leaves_nothing_in_the_way_of_the_next(nodes: Nodes) -> None:
    node = nodes.start(users=USERS)
    node.kill()
    assert (node.config.parent / "state" / "control.sock").exists()
    assert sipfarm(node, "status").returncode == 3
    node = nodes.start_again(node.config, node.sip[0])
    assert sipfarm(node, "status").returncode == 0


def test_logs_are_json_lines_with_the_reason_of_a_rejection(nodes: Nodes, tmp_path: Path) -> None:
    node = nodes.start(users=USERS)
    send_garbage(node.sip)
    node.stop()
    lines = [json.loads(line) for line in node.output().splitlines()]
    assert all({"time", "level", "node", "place", "message"} <= set(line) for line in lines)
    rejected = [line for line in lines if line["message"] == "message rejected"]
    assert rejected
    assert all(line["reason"] and "\\" not in line["reason"] for line in rejected)


def send_garbage(target: tuple[str, int]) -> None:
    import socket

    from tests.support.nodes import answers_options

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"INVITE sip:{0}%s SIP/2.0\r\nVia: \x1b[31m\r\n\r\n", target)
    assert answers_options(target, 5.0)
