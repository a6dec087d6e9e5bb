"""The compiled build (setup.py): pip makes it, it does what the pure one does, and a node runs on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.agents import Agent, make_call
from tests.support.nodes import Nodes
from tests.support.processes import Program
from tests.support.tools import need

ROOT = Path(__file__).resolve().parents[2]
IGNORED = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the compiled modules beside their sources, as pip put them into a wheel."""
    need("gcc")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.fail("Python.h is missing (Debian package python3-dev)")
    tree = tmp_path_factory.mktemp("compiled") / "tree"
    for name in ("farm", "twisted", "tests", "docs", "grafana", "deploy"):
        shutil.copytree(ROOT / name, tree / name, ignore=IGNORED)
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    environment = {**os.environ, "SIPFARM_COMPILE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tree.glob("dist/sipfarm-*-linux_*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree)
    return tree


def test_a_phone_registers_and_is_called_through_a_compiled_node(compiled: Path, nodes: Nodes) -> None:
    node = nodes.start(wrapper=["env", f"PYTHONPATH={compiled}"])
    assert str(compiled / "sipfarm__mypyc") in Path(f"/proc/{node.pid}/maps").read_text()
    with Agent(node.sip, user="bob") as bob, Agent(node.sip, user="alice") as alice:
        assert bob.register().status == 200
        make_call(alice, bob)
    assert node.metric("registrations") == 1


def test_the_compiled_build_passes_the_tests_of_the_pure_one(compiled: Path, tmp_path: Path) -> None:
    """Those that need no network; a copy of the tree has the compiled modules first."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests",
        "-m",
        "not live",
        "--ignore=tests/simulation",  # minutes, and nothing that the twins do not reach
        "--ignore=tests/fuzz/test_parser_time.py",  # two workers disturb what it measures; the pure build is measured
        "-q",
        "-x",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
    ]
    suite = Program(command, tmp_path / "suite.log", directory=compiled)
    try:
        assert suite.wait(800) == 0, suite.tail(80)
    finally:
        suite.kill()
