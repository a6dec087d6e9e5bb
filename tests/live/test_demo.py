"""`sipfarm demo`: up, used, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nodes import answers_options, installed
from tests.support.processes import Program, wait_until

HOST = "127.0.0.11"


class Demo(Program):
    """The demo with its directory."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder / "farm"
        super().__init__([installed("sipfarm"), "demo", "--dir", str(self.folder), *options], folder / "demo.log")

    def farm(self) -> list[dict[str, object]]:
        """What farm.json says, once it is there."""
        path = self.folder / "farm.json"
        wait_until(lambda: path.exists() or not self.running(), 30, "farm.json is written")
        assert self.running(), self.tail()
        nodes: list[dict[str, object]] = json.loads(path.read_text())
        return nodes


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
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
    assert node == {
        "name": "n1",
        "host": HOST,
        "sip_port": 5060,
        "http_port": 9464,
        "dns_port": None,
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


@pytest.mark.parametrize(("kind", "port"), [(socket.SOCK_DGRAM, 5060), (socket.SOCK_STREAM, 9464)])
def test_a_port_in_use_is_one_line_and_exit_1(tmp_path: Path, kind: int, port: int) -> None:
    with socket.socket(socket.AF_INET, kind) as occupant:
        occupant.bind((HOST, port))
        program = Demo(tmp_path)
        assert program.wait(20) == 1
    (line,) = program.output().splitlines()
    assert line.startswith(f"sipfarm: {HOST}:{port} (")
    assert "Address already in use" in line


def test_more_nodes_than_one_are_refused_for_now(tmp_path: Path) -> None:
    program = Demo(tmp_path, "--nodes", "3")
    assert program.wait(20) == 1
    assert program.output().startswith("sipfarm: --nodes 3: nodes cannot find each other in this version")
