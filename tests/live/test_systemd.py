"""The node under systemd: what it tells the service manager, and what systemd says of our unit file."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from farm.config import load
from tests.support.agents import Agent
from tests.support.certificates import write_sip_files
from tests.support.nodes import Nodes
from tests.support.processes import wait_until
from tests.support.tools import need

Hosts: TypeAlias = Callable[[int], list[str]]

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
UNIT = DEPLOY / "sipfarm.service"
TEMPLATE = DEPLOY / "sipfarm@.service"
SOCKETS = DEPLOY / "sipfarm.socket"


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
    assert "StartLimitIntervalSec=0" in lines[lines.index("[Unit]") : lines.index("[Service]")]


def test_a_system_call_that_the_unit_forbids_fails_and_kills_no_node() -> None:
    assert "SystemCallErrorNumber=EPERM" in UNIT.read_text().splitlines()


def test_the_unit_lets_the_node_have_ports_53_and_443_and_nothing_else_of_root() -> None:
    """A user namespace of its own would take the meaning from the capability: the ports belong to the machine's."""
    lines = UNIT.read_text().splitlines()
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE" in lines
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in lines
    assert "DynamicUser=yes" in lines
    assert not [line for line in lines if line.startswith("PrivateUsers=")]


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=lambda unit: unit.name)
def test_the_unit_is_valid_and_sandboxed(tmp_path: Path, unit: Path) -> None:
    need("systemd-analyze")
    name = unit.name.replace("@", "@n1")
    copy = tmp_path / name
    copy.write_text(unit.read_text().replace("/opt/sipfarm/bin", str(Path(sys.executable).parent)))
    (tmp_path / SOCKETS.name).write_text(SOCKETS.read_text())
    verified = analyze("verify", str(copy), *([str(tmp_path / SOCKETS.name)] if unit is UNIT else []))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    exposure = analyze("security", "--offline=true", "--threshold=30", "--no-pager", str(copy))
    assert exposure.returncode == 0, exposure.stdout


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says."""
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_unit_for_several_nodes_is_the_one_for_one_but_for_their_names() -> None:
    one, several = (directives_of(unit) for unit in (UNIT, TEMPLATE))
    names = {"/etc/sipfarm/%i.toml": "/etc/sipfarm/node.toml", "sipfarm/%i": "sipfarm", "sipfarm@%i": "sipfarm"}
    for name, plain in names.items():
        several = [line.replace(name, plain) for line in several]
    assert [line.replace("node %i", "node") for line in several] == one


def directives_of(unit: Path) -> list[str]:
    """The lines of a unit that are no comments."""
    return [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]


def test_the_socket_unit_holds_what_a_node_listens_to_when_it_is_not_told(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[node]\nname = "n1"\nstate_dir = "."\n[sip]\ndomains = ["example.com"]\n')
    kinds = {"ListenDatagram": "udp", "ListenStream": "tcp"}
    lines = [line.partition("=") for line in directives_of(SOCKETS)]
    held = {f"{kinds[key]}:{address}" for key, _, address in lines if key in kinds}
    assert held == set(load(config).sip.listen)


def test_a_node_serves_on_the_sockets_that_systemd_has_bound(nodes: Nodes, hosts: Hosts, tmp_path: Path) -> None:
    """They are held all the time: a node that bound its own would find the ports in use, and not start."""
    need("systemd-socket-activate")
    (host,) = hosts(1)
    activate = "systemd-socket-activate"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as trial:
        port = trial.getsockname()[1]
    streams = ["-l", f"{host}:5061", "-l", f"{host}:5060", "-l", f"[::1]:{port}"]
    wrapper = [activate, *streams, activate, "-d", "-l", f"{host}:5060"]
    listen = [f"udp:{host}:5060", f"tcp:{host}:5060", f"tls:{host}:5061", f"tcp:[::1]:{port}"]
    tls = write_sip_files(tmp_path / "tls")
    node = nodes.start(
        host=host, wrapper=wrapper, wait=False, sip={"domains": ["example.com"], "listen": listen}, tls=tls
    )
    wait_until(lambda: f"Listening on {host}:5060" in node.output(), 30, "systemd listens")
    with Agent((host, 5060), transport="tcp", user="bob") as phone:
        assert phone.register().status == 200  # it came before the node was there, and started it
        node.wait_ready()
        with Agent((host, 5060), user="alice") as caller:
            assert caller.register().status == 200
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((host, 5061)) as plain, context.wrap_socket(plain) as stream:
            stream.sendall(phone.make_request("OPTIONS", "sip:example.com").encode())
            assert stream.recv(4096).startswith(b"SIP/2.0 200")
        with socket.create_connection(("::1", port)) as six:
            six.sendall(phone.make_request("OPTIONS", "sip:example.com").encode())
            assert six.recv(4096).startswith(b"SIP/2.0 200")
    assert node.metric("registrations") == 2


def test_a_socket_that_no_listener_wants_ends_the_start_with_one_line(nodes: Nodes, hosts: Hosts) -> None:
    need("systemd-socket-activate")
    (host,) = hosts(1)
    node = nodes.start(host=host, wrapper=["systemd-socket-activate", "-d", "-l", f"{host}:5066"], wait=False)
    wait_until(lambda: "Listening on" in node.output(), 30, "systemd listens")
    with Agent((host, 5066)) as phone:
        phone.send_request(phone.make_request("OPTIONS", "sip:example.com"))
        assert node.wait(30) == 1
    assert f"sipfarm: udp:{host}:5066 was handed over, but no listener of [sip] is there\n" in node.output()


def test_a_secret_comes_as_a_credential(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "nonce-key").write_bytes(b"k" * 32)
    environment = ["env", f"CREDENTIALS_DIRECTORY={tmp_path}"]
    nodes.start(wrapper=environment, auth={"open": True, "nonce_key_file": "credential:nonce-key"})
    (tmp_path / "nonce-key").write_bytes(b"short")
    node = nodes.start(wrapper=environment, wait=False, auth={"open": True, "nonce_key_file": "credential:nonce-key"})
    assert node.wait(30) == 1
    assert f"{tmp_path}/nonce-key: a key has 32 bytes or more" in node.output()
