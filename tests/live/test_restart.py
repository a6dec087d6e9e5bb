"""A node that crashed or was stopped knows its registrations again."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable

from tests.support.agents import Agent, make_call
from tests.support.floods import register_many
from tests.support.nodes import STOPPED, NodeProgram, Nodes, installed
from tests.support.processes import wait_until

Hosts = Callable[[int], list[str]]
# What a crash may cost is what was acknowledged within the last second.
JOURNAL_SECONDS = 1.0


def fetch(node: NodeProgram, user: str) -> list[str]:
    """The Contact values that a REGISTER without Contact is answered with (RFC 3261 §10.2.3)."""
    with Agent(node.sip, user=user) as agent:
        answer = agent.register(contact="")
        assert answer.status == 200, answer
        return answer.all("contact")


def test_registrations_older_than_a_second_survive_kill_9(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    phone_host, caller_host = hosts(2)
    with Agent(node.sip, host=phone_host, port=5060, user="bob") as bob:
        assert bob.register().status == 200
        assert bob.register(contact=f"<sip:bob@{phone_host}:5070>;q=0.3", call_id="second").status == 200
        assert bob.register(contact=f"<sip:bob@{phone_host}:5070>", call_id="second", cseq=2, expires=0).status == 200
        assert register_many(node.sip, phone_host, (f"u{number}" for number in range(2_000))) == 2_000
        time.sleep(JOURNAL_SECONDS + 0.1)
        node.kill()
        node = nodes.start_again(node.config, node.sip[0])

        assert node.metric("registrations") == 2_001
        contacts = fetch(node, "bob")
        assert len(contacts) == 1, "the contact that was removed came back, or the other is lost"
        assert bob.contact in contacts[0]
        expires = re.search(r"expires=(\d+)", contacts[0])
        assert expires is not None
        assert 3_000 < int(expires.group(1)) <= 3_599, "time went on while the node was down"
        for user in ("u0", "u999", "u1999"):
            assert len(fetch(node, user)) == 1
        with Agent(node.sip, host=caller_host, user="alice") as alice:
            make_call(alice, bob)


def test_a_stopped_node_keeps_what_it_acknowledged_last(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    (phone_host,) = hosts(1)
    assert register_many(node.sip, phone_host, (f"u{number}" for number in range(200))) == 200
    assert node.stop() in STOPPED
    node = nodes.start_again(node.config, node.sip[0])
    assert node.metric("registrations") == 200
    assert len(fetch(node, "u199")) == 1


def test_users_and_passwords_survive_kill_9(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users={"alice": "wonderland"})
    node.kill()
    node = nodes.start_again(node.config, node.sip[0])
    with Agent(node.sip, host=hosts(1)[0], user="alice") as alice:
        assert alice.register(password="wonderland").status == 200
        assert alice.register(password="looking-glass").status == 401


def test_what_a_killed_node_left_behind_keeps_no_node_from_starting(nodes: Nodes) -> None:
    """A lock that names a living process of another kind, as after a reboot or in a container, is none."""
    node = nodes.start()
    node.kill()
    control = node.config.parent / "state" / "control.sock"
    assert control.is_socket()
    os.symlink("1", f"{control}.lock")
    node = nodes.start_again(node.config, node.sip[0])
    answer = console(node, "status", "--json")
    assert answer.returncode == 0, answer.stderr


def test_a_second_node_on_one_state_directory_ends_with_one_line(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users={"alice": "wonderland"})
    (host,) = hosts(1)
    state = node.config.parent / "state"
    second = nodes.start(host=host, node={"state_dir": str(state)}, admin={"control": str(state / "2")}, wait=False)
    assert second.wait(30) == 1
    assert second.output() == (
        f"sipfarm: node.state_dir: {state}: in use by another process: a node, or a command about its users\n"
    )
    assert node.get("/readyz")[0] == 200


def test_a_journal_of_a_later_version_ends_the_start_with_one_line(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    node.stop()
    journal = node.config.parent / "state" / "journal.sqlite"
    with sqlite3.connect(journal) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    before = node.output()
    node = nodes.start_again(node.config, node.sip[0], wait=False)
    assert node.wait(30) == 1
    assert node.output().removeprefix(before) == (
        f"sipfarm: node.state_dir: {journal} was written by a later version (format 99, known is 1)\n"
    )


def test_sighup_reloads_opens_the_log_anew_and_ends_nothing(nodes: Nodes, hosts: Hosts) -> None:
    phone_host, caller_host = hosts(2)
    node = nodes.start(log={"file": "written.log"})
    written = node.config.parent / "written.log"
    with (
        Agent(node.sip, host=phone_host, user="bob") as bob,
        Agent(node.sip, host=caller_host, user="alice") as alice,
    ):
        assert bob.register().status == 200
        written.rename(written.with_suffix(".1"))
        node.signal(signal.SIGHUP)
        wait_until(lambda: written.exists() and "reloaded" in written.read_text(), 10, "the log is opened anew")
        node.config.write_text(node.config.read_text().replace("[log]", "[lgo]"))
        node.signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in written.read_text(), 10, "the mistake is told")
        make_call(alice, bob)
    text = written.with_suffix(".1").read_text() + written.read_text()
    for noise in ("log_legacy", "UnixAppLogger", "starting"):
        assert noise not in text
    assert node.output() == ""


def test_a_second_sigterm_ends_a_node_that_waits_for_a_call(nodes: Nodes, hosts: Hosts) -> None:
    phone_host, caller_host = hosts(2)
    node = nodes.start()
    with (
        Agent(node.sip, host=phone_host, user="bob") as bob,
        Agent(node.sip, host=caller_host, user="alice") as alice,
    ):
        assert bob.register().status == 200
        alice.send_request(alice.make_request("INVITE", "sip:bob@example.com"))
        bob.answer(bob.expect("INVITE"), 180)
        node.signal(signal.SIGTERM)
        time.sleep(1)
        assert node.running(), "it waits for the call"
        node.signal(signal.SIGTERM)
        assert node.wait(5) in STOPPED
        bob.expect("CANCEL")


def console(node: NodeProgram, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the console on a node."""
    command = [installed("sipfarm"), *arguments, "-c", str(node.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
