"""`sipfarm reload`, `ca roll`, `drain`, `wait` and `check` on real nodes, while somebody calls and registers."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farm.security.authority import Authority
from farm.security.rolling import Rolling
from tests.support.agents import Agent
from tests.support.live_farm import LiveFarm, name_of
from tests.support.nodes import NodeProgram, Nodes, installed, write_config

Hosts = Callable[[int], list[str]]


class Traffic:
    """Somebody who registers and asks, over and over: everything must be answered well."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.answers: list[int] = []
        self._target = target
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with Agent(self._target, user="alice") as alice:
            while not self._ending.is_set():
                self.answers.append(alice.register().status)
                self._ending.wait(0.05)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()


@contextmanager
def traffic(target: tuple[str, int]) -> Iterator[Traffic]:
    """Within it there is traffic; none of it may fail."""
    busy = Traffic(target)
    busy.start()
    try:
        yield busy
    finally:
        busy.end()
    assert len(busy.answers) > 3
    assert set(busy.answers) == {200}


def sipfarm(node: NodeProgram, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [installed("sipfarm"), *arguments, "-c", str(node.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def reload(node: NodeProgram, sections: dict[str, Any]) -> dict[str, Any]:
    """Write another configuration and have the node take it."""
    write_config(node.config, sections)
    done = sipfarm(node, "reload", "--json")
    assert done.returncode == 0, done.stdout
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_everything_that_can_change_does_so_under_traffic(nodes: Nodes) -> None:
    node = nodes.start()
    host = node.sip[0]
    sections: dict[str, Any] = {
        "node": {"name": f"n{host.rpartition('.')[2]}", "state_dir": str(node.config.parent / "state")},
        "sip": {"domains": ["example.com"], "listen": [f"udp:{host}:5060", f"tcp:{host}:5060"]},
        "auth": {"open": True},
        "admin": {"http": f"{host}:9464"},
    }
    with traffic(node.sip):
        assert reload(node, sections) == {"changed": [], "waiting": []}
        changes: list[tuple[str, dict[str, Any], list[str]]] = [
            ("limits", {"connections": 77, "burst": 500}, ["limits.connections", "limits.burst"]),
            ("log", {"level": "warn", "levels": ["overlay:debug"]}, ["log.level", "log.levels"]),
            ("registrar", {"max_expires_seconds": 4000}, ["registrar.max_expires_seconds"]),
            ("proxy", {"max_forks": 3}, ["proxy.max_forks"]),
            ("resolver", {"failed_seconds": 5.0}, ["resolver.failed_seconds"]),
            ("store", {"most_records": 1000}, ["store.most_records"]),
        ]  # fmt: skip
        for section, values, changed in changes:
            sections[section] = {**sections.get(section, {}), **values}
            assert reload(node, sections) == {"changed": changed, "waiting": []}
        sections["sip"] = {**sections["sip"], "domains": ["example.com", "example.net"], "server_header": "farm"}
        sections["gateways"] = [{"prefix": "+49", "to": ["sip:127.0.0.1:9"], "probe_seconds": 0.0}]
        assert reload(node, sections)["changed"] == ["sip.domains", "sip.server_header", "gateways"]
        sections["sip"] = {**sections["sip"], "farm_name": "sip.example.com"}
        assert reload(node, sections) == {"changed": [], "waiting": ["sip.farm_name"]}
    with Agent(node.sip, user="bob", domain="example.net") as bob:
        answer = bob.register()
        assert (answer.status, answer.all("server")) == (200, ["farm"])
    node.config.write_text("[nod]\n")
    failed = sipfarm(node, "reload")
    assert failed.returncode == 1
    assert "nod: unknown section" in failed.stderr


def test_an_authority_takes_over_in_a_farm_that_serves_and_no_link_is_refused(
    nodes: Nodes, hosts: Hosts, tmp_path: Path
) -> None:
    farm = LiveFarm(nodes, hosts(3), tmp_path)
    farm.start()
    directory = str(farm.authority_directory)
    old = Authority(directory).signer

    def hand_out() -> None:
        for index, host in enumerate(farm.hosts):
            Authority(directory).renew(name_of(host), time.time(), out=str(farm.identity_of(host)))
            took = json.loads(farm.console(index, "reload", "--json"))
            assert took["waiting"] == []
            assert took["changed"] in (["identity among the nodes"], []), (
                "nothing is left when it has just looked itself"
            )
            assert farm.ask(index, "status")["overlay"]["trust"] == Authority(directory).trust_digest()

    try:
        with traffic(farm[0].sip):
            Rolling(directory).begin(time.time())
            hand_out()
            farm.kill(2)
            farm.start_again(2)
            Rolling(directory).switch(time.time())
            Authority(directory).renew(name_of(farm.hosts[2]), time.time(), out=str(farm.identity_of(farm.hosts[2])))
            farm.kill(2)  # one that has the new certificate meets two that have not
            farm.start_again(2)
            for index, host in enumerate(farm.hosts[:2]):
                Authority(directory).renew(name_of(host), time.time(), out=str(farm.identity_of(host)))
                farm.console(index, "reload")
            Rolling(directory).finish(time.time())
            hand_out()
            farm.kill(2)
            farm.start_again(2)
        for reason in ("wrong-ca", "expired", "denied", "handshake", "wrong-role"):
            assert farm.metric("peer_rejections_total", reason=reason) == 0, reason
        assert old not in Authority(directory).certificates
        assert farm.ask(0, "status")["overlay"]["config_sequence"] == 2
        farm.check()
    finally:
        farm.stop_all()


def test_a_node_is_drained_waited_for_and_checked(nodes: Nodes, hosts: Hosts, tmp_path: Path) -> None:
    farm = LiveFarm(nodes, hosts(2), tmp_path)
    farm.start()
    try:
        assert farm.console(0, "wait", "--timeout", "30").endswith(" serves\n")
        with Agent(farm[0].sip, user="alice") as alice:
            assert alice.register().status == 200
        assert farm.console(0, "drain", "--timeout", "40") == "drained\n"
        assert sipfarm(farm[0], "status").returncode == 3
        farm.console(0, "undrain")
        assert json.loads(farm.console(0, "wait", "--json"))["ready"] is True
        assert "alice" in farm.console(1, "locate", "alice")
        assert farm.console(0, "top", "--once").startswith("live.example, seen by ")
        assert farm.console(0, "check").count("\n") >= 1, "its own ports are not in its way"
        farm.stop(0)
        assert sipfarm(farm[0], "check").returncode == 0
        copied = tmp_path / "other.toml"
        copied.write_text(farm[1].config.read_text().replace("/state", "/state2"))
        taken = subprocess.run(
            [installed("sipfarm"), "check", str(copied)], capture_output=True, text=True, timeout=60, check=False
        )
        assert taken.returncode == 1
        assert "the port is in use by another program" in taken.stderr
        assert "overlay.identity: " in taken.stderr
    finally:
        farm.stop_all()
