"""`sipfarm demo`: up, used, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nodes import answers_options, installed
from tests.support.processes import Program, wait_until

HOST = "127.0.0.11"


class Demo(Program):
    """The demo with its directory: three nodes, unless an option says otherwise."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder / "farm"
        super().__init__([installed("sipfarm"), "demo", "--dir", str(self.folder), *options], folder / "demo.log")

    def farm(self) -> list[dict[str, object]]:
        """What farm.json says, once it is there."""
        path = self.folder / "farm.json"
        wait_until(lambda: path.exists() or not self.running(), 60, "farm.json is written")
        assert self.running(), self.tail()
        nodes: list[dict[str, object]] = json.loads(path.read_text())
        return nodes


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    program = Demo(tmp_path, "--nodes", "1", "--users", "3")
    yield program
    program.stop()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Demo]:
    program = Demo(tmp_path, "--users", "3")
    yield program
    program.stop()


def alive(pid: object) -> bool:
    assert isinstance(pid, int)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_a_node_with_users_until_it_is_told_to_stop(demo: Demo, number: signal.Signals) -> None:
    (node,) = demo.farm()
    pid = node.pop("pid")
    assert {node.pop(key) is not None for key in ("config", "log", "command", "tls_trust")} == {True}
    assert node == {
        "name": "n1",
        "host": HOST,
        "sip_port": 5060,
        "tls_port": 5061,
        "websocket_port": 8080,
        "http_port": 9464,
        "dns_port": 5353,
        "node_id": None,
    }
    assert alive(pid)
    assert answers_options((HOST, 5060))
    wait_until(lambda: "Ctrl-C ends it." in demo.output(), 5, "the table is printed")
    assert "user 1000 to 1002" in demo.output()
    demo.signal(number)
    assert demo.wait(20) == 0
    assert not alive(pid)
    assert not (demo.folder / "farm.json").exists()


def test_a_node_that_dies_is_reported(demo: Demo) -> None:
    (node,) = demo.farm()
    pid = node["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    assert demo.wait(20) == 1
    assert "sipfarm: node n1 ended with exit code -9:" in demo.output()


def test_no_node_outlives_a_demo_that_was_killed(demo: Demo) -> None:
    (node,) = demo.farm()
    os.kill(demo.pid, signal.SIGKILL)
    wait_until(lambda: not alive(node["pid"]), 20, "the node ends")


@pytest.mark.parametrize(
    ("kind", "port"), [(socket.SOCK_DGRAM, 5060), (socket.SOCK_STREAM, 9464), (socket.SOCK_STREAM, 7400)]
)
def test_a_port_in_use_is_one_line_and_exit_1(tmp_path: Path, kind: int, port: int) -> None:
    with socket.socket(socket.AF_INET, kind) as occupant:
        if kind == socket.SOCK_STREAM:  # the demo before has left connections that linger
            occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupant.bind((HOST, port))
        if kind == socket.SOCK_STREAM:
            occupant.listen(1)
        program = Demo(tmp_path)
        assert program.wait(20) == 1
    (line,) = program.output().splitlines()
    assert line.startswith(f"sipfarm: {HOST}:{port} (")
    assert "Address already in use" in line


def members_of(node: dict[str, object]) -> dict[str, str]:
    """Node-ID and state of all nodes, as one of them sees them."""
    command = [installed("sipfarm"), "members", "--json", "-c", str(node["config"])]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    return {member["node_id"]: member["state"] for member in answer["members"]}


def test_three_nodes_know_each_other_when_farm_json_is_there(farm: Demo) -> None:
    nodes = farm.farm()
    assert [node["name"] for node in nodes] == ["n1", "n2", "n3"]
    ids = {node["node_id"] for node in nodes}
    assert len(ids) == 3
    for node in nodes:
        assert members_of(node) == dict.fromkeys(ids, "alive")
        assert answers_options((str(node["host"]), 5060))
    pids = [node["pid"] for node in nodes]
    farm.signal(signal.SIGTERM)
    assert farm.wait(60) == 0
    assert not any(map(alive, pids))


def test_a_farm_goes_on_without_a_node_that_was_killed_and_takes_it_back(farm: Demo) -> None:
    nodes = farm.farm()
    first, _second, third = nodes
    pid, command = third["pid"], third["command"]
    assert isinstance(pid, int)
    assert isinstance(command, list)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "node n3 ended with exit code -9; start it again with" in farm.output(), 5, "it is reported")
    assert farm.running()
    wait_until(lambda: members_of(first)[str(third["node_id"])] == "dead", 60, "the others notice")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as again:
        try:
            wait_until(lambda: members_of(first)[str(third["node_id"])] == "alive", 60, "it is back")
        finally:
            again.terminate()
            again.wait(60)
