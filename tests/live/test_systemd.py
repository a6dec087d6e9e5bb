"""The node under systemd: what it tells the service manager, and what systemd says of our unit file."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nodes import Nodes
from tests.support.tools import need

UNIT = Path(__file__).parent.parent.parent / "deploy" / "sipfarm.service"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket like the one that systemd hands out; receiving from it waits for 30 s at most."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def test_systemd_hears_when_the_node_serves_that_it_lives_and_when_it_ends(
    nodes: Nodes, manager: socket.socket
) -> None:
    node = nodes.start(wrapper=["env", f"NOTIFY_SOCKET={manager.getsockname()}", "WATCHDOG_USEC=400000"], wait=False)
    assert manager.recv(4096) == b"READY=1"
    assert node.get("/readyz")[0] == 200, "the node serves when it says so"
    assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    node.stop()
    heard = manager.recv(4096)
    while heard == b"WATCHDOG=1":
        heard = manager.recv(4096)
    assert heard == b"STOPPING=1"


def test_the_unit_reloads_by_the_signal_that_the_node_takes_and_starts_it_again_however_it_ends() -> None:
    lines = UNIT.read_text().splitlines()
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert "Restart=always" in lines


def test_the_unit_lets_the_node_have_ports_53_and_443_and_nothing_else_of_root() -> None:
    """A user namespace of its own would take the meaning from the capability: the ports belong to the machine's."""
    lines = UNIT.read_text().splitlines()
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE" in lines
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in lines
    assert "DynamicUser=yes" in lines
    assert not [line for line in lines if line.startswith("PrivateUsers=")]


def test_the_unit_is_valid_and_sandboxed(tmp_path: Path) -> None:
    need("systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/sipfarm/bin", str(Path(sys.executable).parent)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    exposure = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert exposure.returncode == 0, exposure.stdout
