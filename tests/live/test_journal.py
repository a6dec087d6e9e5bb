"""A full disk and a broken journal are told and counted, and calls go on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.agents import Agent, make_call
from tests.support.floods import register_many
from tests.support.nodes import STOPPED, Nodes
from tests.support.processes import wait_until
from tests.support.tools import give_up

Hosts = Callable[[int], list[str]]
# A mount of the node's own, in a mount namespace that ends with it: nothing is left behind whatever happens.
SMALL_DISK = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=600k tmpfs "$0" && exec "$@"')


def can_mount(directory: Path) -> bool:
    """Whether this process may have mounts of its own (root, or not so strict a sandbox)."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*SMALL_DISK, str(directory), "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["small disk", "file size limit"])
def test_a_full_disk_is_told_and_counted_and_does_not_stop_calls(
    nodes: Nodes, hosts: Hosts, tmp_path: Path, kind: str
) -> None:
    node_host, phone_host, caller_host = hosts(3)
    state = tmp_path / node_host / "disk"
    wrapper: tuple[str, ...]
    if kind == "small disk":
        (tmp_path / "probe").mkdir()
        if not can_mount(tmp_path / "probe"):
            give_up("no mounts here; the file size limit is tested instead")
        wrapper = (*SMALL_DISK, str(state))
    else:
        wrapper = ("prlimit", "--fsize=600000:")
    (tmp_path / node_host).mkdir()
    state.mkdir()
    node = nodes.start(host=node_host, wrapper=wrapper, node={"state_dir": str(state)})
    with (
        Agent(node.sip, host=phone_host, user="bob") as bob,
        Agent(node.sip, host=caller_host, user="alice") as alice,
    ):
        assert bob.register().status == 200
        users = [f"u{number}" for number in range(6_000)]
        assert register_many(node.sip, phone_host, users) == len(users)
        wait_until(lambda: node.metric("journal_errors_total", operation="write") > 0, 20, "the failure is counted")
        assert "journal" in node.output()
        assert node.metric("registrations") == len(users) + 1
        make_call(alice, bob)
        assert bob.register(call_id="again").status == 200
        assert node.metric("journal_pending") > 0

        if kind == "small disk":
            # The operator makes room; what waited is written.
            command = ["nsenter", "-t", str(node.pid), "-m", "mount", "-o", "remount,size=64m", str(state)]
            subprocess.run(command, check=True)
        else:
            subprocess.run(["prlimit", f"--pid={node.pid}", "--fsize=unlimited:"], check=True)
        wait_until(lambda: node.metric("journal_pending") == 0, 30, "what waited is written")
        make_call(alice, bob)


@pytest.mark.parametrize("damage", ["overwritten", "cut", "empty"])
def test_a_broken_journal_is_told_and_counted_and_the_node_starts(nodes: Nodes, hosts: Hosts, damage: str) -> None:
    node = nodes.start()
    phone_host, caller_host = hosts(2)
    users = [f"u{number}" for number in range(2_000)]
    assert register_many(node.sip, phone_host, users) == len(users)
    assert node.stop() in STOPPED
    state = node.config.parent / "state"
    (journal,) = [path for path in state.iterdir() if path.is_file() and path.open("rb").read(15) == b"SQLite format 3"]
    content = journal.read_bytes()
    if damage == "overwritten":
        journal.write_bytes(b"not a database" + content[:4096] + b"\xff" * 100_000)
    elif damage == "cut":
        journal.write_bytes(content[: len(content) * 2 // 3])
    else:
        journal.write_bytes(b"")

    node = nodes.start_again(node.config, node.sip[0])
    if damage != "empty":  # an empty file is a new one to SQLite
        assert node.metric("journal_errors_total") > 0
        assert str(journal) in node.output()
    with (
        Agent(node.sip, host=phone_host, user="bob") as bob,
        Agent(node.sip, host=caller_host, user="alice") as alice,
    ):
        assert bob.register().status == 200
        make_call(alice, bob)
        node.stop()
        node = nodes.start_again(node.config, node.sip[0])
        assert node.metric("registrations") >= 1, "the journal works again"
        make_call(alice, bob)
