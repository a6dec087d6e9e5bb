"""The Debian package: built, installed under a real systemd, upgraded, removed; a node of it serves phones throughout.

The machine is this one in namespaces of its own (`tests/support/systemd_machine.py`), the network ours.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from farm.config import load
from farm.security.authority import Authority, make_authority
from farm.security.certificate import ROLES
from tests.support.agents import Agent
from tests.support.processes import ProgramFailed, wait_until
from tests.support.systemd_machine import SystemdMachine
from tests.support.tools import give_up, need

Hosts: TypeAlias = Callable[[int], list[str]]

ROOT = Path(__file__).resolve().parent.parent.parent

CONFIG = """\
[node]
name = "n1"
state_dir = "/var/lib/sipfarm"
[sip]
domains = ["example.com"]
listen = ["udp:{host}:5060", "tcp:{host}:5060"]
[auth]
open = true
nonce_key_file = "credential:nonce-key"
[admin]
http = "{host}:9464"
"""
OVERLAY = """\
[overlay]
listen = "{host}:7400"
join_seconds = 1
"""
CREDENTIAL = "[Service]\nLoadCredential=nonce-key:/etc/sipfarm/credentials/nonce-key\n"
SOCKETS = "[Socket]\nListenDatagram=\nListenStream=\nListenDatagram={host}:5060\nListenStream={host}:5060\n"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built once."""
    need("dpkg-deb")
    directory = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [str(ROOT / "deploy" / "build-deb"), str(directory)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[SystemdMachine]:
    """A machine with systemd for one test; what it has to say is shown when that fails."""
    need("systemd-analyze", "nsenter", "unshare")
    if os.geteuid() != 0:
        give_up("namespaces are for root")
    started = SystemdMachine(tmp_path)
    try:
        started.wait_up()
        yield started
    finally:
        print(started.log())
        started.stop()


def make_identity(directory: Path) -> Path:
    """What an authority has made for node n1."""
    make_authority(str(directory / "ca"), "farm.example.com", time.time())
    Authority(str(directory / "ca")).issue("n1", "", sum(ROLES.values()), time.time())
    return directory / "ca" / "nodes" / "n1"


def test_the_package_has_what_debian_s_checker_calls_no_error(package: Path) -> None:
    need("lintian")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error", str(package)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_package_has_what_a_farm_is_watched_and_looked_after_with(package: Path, tmp_path: Path) -> None:
    need("promtool")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path)], check=True)
    share, doc = tmp_path / "usr/share/sipfarm", tmp_path / "usr/share/doc/sipfarm"

    def run(*command: str | Path) -> str:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "2 rule files found" in run("promtool", "check", "config", share / "prometheus.yml")
    assert "--command" in run(share / "rolling-upgrade", "--help")
    for folder, home in (("grafana/dashboards", share), ("grafana/provisioning", share), ("docs/runbooks", doc)):
        assert list_files(home / folder) == list_files(ROOT / folder)
    source = (share / "grafana/provisioning/dashboards/sipfarm.yaml").read_text()
    assert "path: $GF_PATHS_PROVISIONING/../dashboards\n" in source
    named = re.findall(r"runbook: (\S+)", (share / "alerts.yml").read_text())
    assert [page for page in named if not (doc / page).is_file()] == []
    assert len(named) > 30
    for page in [*(doc / "docs/runbooks").iterdir(), *(doc / "docs/handbook").glob("*.md")]:
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name


def list_files(folder: Path) -> list[str]:
    """All files below it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_node_of_the_package_serves_from_its_installation_to_its_removal(
    package: Path, machine: SystemdMachine, hosts: Hosts, tmp_path: Path
) -> None:
    (host,) = hosts(1)
    identity = make_identity(tmp_path)
    machine.copy(package, "/tmp/sipfarm.deb")
    said = machine.run("dpkg", "--install", "/tmp/sipfarm.deb")
    assert "sipfarm: edit /etc/sipfarm/node.toml, then: systemctl enable --now sipfarm" in said
    assert machine.property("sipfarm", "ActiveState") == "inactive"
    assert machine.property("sipfarm", "UnitFileState") == "disabled"
    machine.run("sipfarm", "check", "--no-ports")  # which others of this machine may have

    machine.write("/etc/sipfarm/node.toml", CONFIG.format(host=host) + OVERLAY.format(host=host))
    machine.run("install", "-d", "-m", "700", "/var/lib/sipfarm")
    machine.copy(identity, "/var/lib/sipfarm/identity")
    machine.write("/etc/sipfarm/credentials/nonce-key", "k" * 32)
    machine.run("chmod", "600", "/etc/sipfarm/credentials/nonce-key")
    machine.write("/etc/systemd/system/sipfarm.service.d/credential.conf", CREDENTIAL)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", "sipfarm")
    first = machine.property("sipfarm", "MainPID")
    assert machine.run("stat", "--format=%u", f"/proc/{first}") != "0"
    wait_until(lambda: "ready: yes" in machine.run("sipfarm", "status", check=False), 30, "it is ready")
    with Agent((host, 5060), user="alice") as phone:
        assert phone.register().status == 200

    machine.copy(identity, "/var/lib/sipfarm/identity")
    machine.run("chown", "-R", "--reference=/var/lib/sipfarm/", "/var/lib/sipfarm/identity")
    machine.run("systemctl", "reload", "sipfarm")
    wait_until(lambda: '"reloaded' in machine.run("journalctl", "-u", "sipfarm", "-o", "cat"), 30, "it reloads")
    said = machine.run("dpkg", "--install", "/tmp/sipfarm.deb")
    assert "sipfarm.service goes on with version" in said
    assert machine.property("sipfarm", "MainPID") == first, "an upgrade ends no call"
    machine.run("systemctl", "restart", "sipfarm")
    assert machine.property("sipfarm", "MainPID") != first
    wait_until(lambda: "ready: yes" in machine.run("sipfarm", "status", check=False), 30, "it is ready again")
    with Agent((host, 5060), user="alice") as phone:
        assert len(phone.register(contact="").all("contact")) == 1, "what was registered outlives the restart"

    machine.run("dpkg", "--remove", "sipfarm")
    assert machine.property("sipfarm", "ActiveState") == "inactive"
    assert "sipfarm" not in machine.run("ls", "/opt")
    assert machine.run("ls", "/etc/sipfarm", "/var/lib/private/sipfarm").count("node.toml") == 1
    machine.run("dpkg", "--purge", "sipfarm")
    with pytest.raises(ProgramFailed, match="No such file"):
        machine.run("ls", "/var/lib/private/sipfarm")
    with pytest.raises(ProgramFailed, match="No such file"):
        machine.run("ls", "/etc/sipfarm/node.toml")


def test_what_comes_while_a_node_with_a_socket_unit_restarts_waits_and_a_node_that_hangs_is_started_again(
    package: Path, machine: SystemdMachine, hosts: Hosts
) -> None:
    (host,) = hosts(1)
    machine.copy(package, "/tmp/sipfarm.deb")
    machine.run("dpkg", "--install", "/tmp/sipfarm.deb")
    log = "/var/log/sipfarm/node.log"
    machine.write(
        "/etc/sipfarm/node.toml", CONFIG.format(host=host).replace("nonce_key_file", "#") + f'[log]\nfile = "{log}"\n'
    )
    machine.write("/etc/systemd/system/sipfarm.socket.d/here.conf", SOCKETS.format(host=host))
    machine.write("/etc/systemd/system/sipfarm.service.d/fast.conf", "[Service]\nWatchdogSec=1\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", "sipfarm.socket")
    assert machine.property("sipfarm", "ActiveState") == "inactive"
    with Agent((host, 5060), transport="tcp", user="bob") as phone:
        assert phone.register().status == 200  # which starts it
    first = machine.property("sipfarm", "MainPID")
    machine.run("logrotate", "--force", "/etc/logrotate.d/sipfarm")
    assert "serves" in machine.run("cat", f"{log}.1")
    wait_until(lambda: "reloaded" in machine.run("cat", log, check=False), 30, "the log goes on in a new file")
    with Agent((host, 5060), user="alice") as phone:
        machine.run("systemctl", "stop", "--no-block", "sipfarm")
        wait_until(lambda: machine.property("sipfarm", "MainPID") == "0", 60, "it has stopped")
        assert phone.register().status == 200
    second = machine.property("sipfarm", "MainPID")
    assert second not in ("0", first)

    machine.run("kill", "-STOP", second)
    wait_until(lambda: machine.property("sipfarm", "MainPID") not in ("0", second), 60, "the watchdog acts")
    with Agent((host, 5060), user="carol") as phone:
        assert phone.register().status == 200


def test_each_suggestion_for_the_kernel_is_a_setting_that_it_has() -> None:
    text = (ROOT / "deploy" / "sysctl.conf").read_text()
    settings = dict(re.findall(r"^([a-z_.0-9]+) = (.+)$", text, re.MULTILINE))
    assert len(settings) >= 4
    assert all(value.isdigit() for value in settings.values())
    assert [key for key in settings if not Path("/proc/sys", key.replace(".", "/")).exists()] == []
    wanted = load(ROOT / "deploy" / "node.toml").limits.receive_buffer_bytes
    assert int(settings["net.core.rmem_max"]) >= wanted
