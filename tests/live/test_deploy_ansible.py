"""The Ansible role, run for real against this machine into a directory of its own; a node serves on what it made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.config import load
from farm.security.authority import Authority, make_authority
from farm.security.certificate import ROLES
from tests.support.agents import Agent
from tests.support.nodes import NodeProgram, Nodes
from tests.support.processes import wait_until
from tests.support.tools import need

ROOT = Path(__file__).resolve().parent.parent.parent
ANSIBLE = ROOT / "deploy" / "ansible"


class Play:
    """Runs the playbook for one host that is this machine."""

    def __init__(self, directory: Path, host: str) -> None:
        self.directory = directory
        self._inventory = directory / "inventory.json"
        self.variables: dict[str, Any] = {
            "ansible_become": False,
            "ansible_connection": "local",
            "ansible_host": host,
            "ansible_python_interpreter": "/usr/bin/python3",
            "sipfarm_config_dir": str(directory / "etc"),
            "sipfarm_identities": str(directory / "ca" / "nodes"),
            "sipfarm_more": "[auth]\nopen = true",
            "sipfarm_prefix": str(directory / "opt"),
            "sipfarm_python": sys.executable,
            "sipfarm_state_dir": str(directory / "state"),
            "sipfarm_systemd": False,
            "sipfarm_unit_dir": str(directory / "units"),
        }
        (directory / "units").mkdir()

    def run(self, *options: str) -> str:
        """The playbook's output; the last line has the counts."""
        inventory = {"sipfarm": {"hosts": {"n1": self.variables}}}
        self._inventory.write_text(json.dumps(inventory))
        done = subprocess.run(
            ["ansible-playbook", "-i", str(self._inventory), str(ANSIBLE / "site.yml"), *options],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(self.directory), "ANSIBLE_HOME": str(self.directory)},
            check=False,
        )
        return done.stdout + done.stderr


def counts_of(said: str) -> dict[str, int]:
    """The counts of the last line."""
    line = next((line for line in said.splitlines() if re.match(r"n1 +: ok=", line)), "")
    assert line, said
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}


@pytest.fixture
def play(tmp_path: Path, hosts: Callable[[int], list[str]]) -> Play:
    need("ansible-playbook")
    (host,) = hosts(1)
    return Play(tmp_path, host)


def test_the_playbook_and_the_example_of_an_inventory_are_read(play: Play) -> None:
    example = ["-i", str(ANSIBLE / "inventory.example.yml")]
    assert "playbook: " in play.run("--syntax-check", *example)


def test_a_second_run_changes_nothing_and_a_node_serves_on_what_the_first_made(play: Play, nodes: Nodes) -> None:
    directory, host = play.directory, play.variables["ansible_host"]
    make_authority(str(directory / "ca"), "farm.example.com", time.time())
    Authority(str(directory / "ca")).issue("n1", "", sum(ROLES.values()), time.time())
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        str(directory),
        str(make_source(directory)),
    ]
    subprocess.run(build, check=True, timeout=120)
    (wheel,) = directory.glob("sipfarm-*.whl")
    play.variables["sipfarm_wheel"] = str(wheel)

    first = counts_of(said := play.run())
    assert (first["failed"], first["unreachable"]) == (0, 0), said
    assert first["changed"] >= 5
    again = play.run()
    assert counts_of(again)["changed"] == 0, again

    config = load(directory / "etc" / "node.toml")
    assert config.overlay.seeds == (f"{host}:7400",)
    assert (directory / "state" / "identity").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (directory / "state" / "identity").iterdir()} == {0o600}
    unit = (directory / "units" / "sipfarm.service").read_text()
    assert f"ExecStart={directory}/opt/bin/twistd -n --pidfile= sipfarm -c {directory}/etc/node.toml\n" in unit
    (directory / "etc" / "conf.d" / "alone.toml").write_text("[overlay]\njoin_seconds = 1\n")
    node = NodeProgram(
        directory / "etc" / "node.toml",
        directory / "node.log",
        sip=(host, 5060),
        http=(host, 9464),
        commands=directory / "opt" / "bin",
    )
    try:
        node.wait_ready()
        wait_until(lambda: node.get("/readyz")[0] == 200, 40, "it takes what is new")
        with Agent((host, 5060), user="alice") as phone:
            assert phone.register().status == 200
    finally:
        node.stop()

    play.variables["sipfarm_domains"] = ["not a domain"]
    wrong = play.run()
    assert counts_of(wrong)["failed"] == 1
    assert "is not a domain name" in wrong
    assert load(directory / "etc" / "node.toml").sip == config.sip, (
        "what is wrong never takes the place of what is right"
    )


def make_source(directory: Path) -> Path:
    """A copy of what a wheel is made of, for the build writes beside it."""
    source = directory / "source"
    source.mkdir()
    names = ["farm", "twisted", "setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), str(source)], check=True)
    return source


def test_machines_have_their_turns_one_by_one_and_a_failure_ends_it() -> None:
    text = (ANSIBLE / "site.yml").read_text()
    assert "serial: 1\n" in text
    assert "max_fail_percentage: 0\n" in text
