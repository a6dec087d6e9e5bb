"""The commands about one node: `status`, `reload`, `locate`, `bindings`, `bans`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.admin.control import Answer
from farm.security.limits import Ban
from tests.admin.fakes import NOW
from tests.admin.test_cli import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_status_is_0_when_well_and_3_when_not(terminal: Terminal) -> None:
    assert terminal.type("status") == 0
    assert terminal.out.splitlines() == [
        "name: n1",
        "uptime seconds: 5",
        "listeners: udp:127.0.0.1:5060, tcp:127.0.0.1:5060",
        "ready: yes",
    ]
    terminal.node.wrong = ["the journal cannot be written"]
    assert terminal.type("status") == 3
    assert terminal.out.splitlines()[-1] == "problem: the journal cannot be written"
    terminal.node.wrong, terminal.node.is_ready = [], False
    assert terminal.type("status", "--json") == 3
    terminal.running = False
    assert terminal.type("status") == 3
    assert terminal.err == "sipfarm: no node is running at control.sock\n"


def test_locate_and_bindings_show_contacts(terminal: Terminal) -> None:
    assert terminal.type("locate", "bob") == 1
    assert terminal.out == "sip:bob@example.com: no such user\n"
    terminal.node.bindings["sip:bob@example.com"] = []
    assert terminal.type("locate", "bob") == 1
    assert terminal.out == "sip:bob@example.com: not registered\n"
    binding: Answer = {"contact": "sip:bob@192.0.2.1", "q": 0.5, "expires_in": 60, "received": "", "path": []}
    terminal.node.bindings["sip:bob@example.com"] = [binding]
    assert terminal.type("locate", "sip:bob@example.com") == 0
    assert terminal.out == "sip:bob@192.0.2.1  q=0.5\n"
    assert terminal.type("bindings", "show", "bob") == 0
    assert terminal.out == "sip:bob@192.0.2.1  q=0.5  expires_in=60\n"
    assert terminal.type("bindings", "remove", "bob") == 0
    assert terminal.out == "sip:bob@example.com: 1 removed\n"
    assert terminal.type("bindings", "show", "bob") == 1


def test_bans_are_listed_and_lifted(terminal: Terminal) -> None:
    assert terminal.type("bans") == 0
    assert terminal.out == "nobody is banned\n"
    terminal.node.banned = [Ban("192.0.2.7", "auth-failures", NOW + 60)]
    assert terminal.type("bans") == 0
    assert terminal.out == "192.0.2.7  auth-failures  for 60 s more\n"
    assert terminal.type("bans", "--lift", "192.0.2.7") == 0
    assert terminal.type("bans", "--lift", "192.0.2.7") == 1


def test_a_reload_says_what_was_taken_and_what_waits(terminal: Terminal) -> None:
    assert terminal.type("reload") == 0
    assert terminal.out == "changed: nothing\n"
    terminal.node.changed, terminal.node.waiting = ["limits.burst", "routes"], ["sip.listen"]
    assert terminal.type("reload") == 0
    assert terminal.out == "changed: limits.burst, routes\nwants a restart: sip.listen\n"
    assert terminal.type("reload", "--json") == 0
    assert json.loads(terminal.out) == {"changed": ["limits.burst", "routes"], "waiting": ["sip.listen"]}


def test_a_mistake_in_what_is_reloaded_is_exit_1(terminal: Terminal) -> None:
    terminal.node.mistake = "not reloaded, what was in force stays: node.toml:7: log.levle: unknown key"
    assert terminal.type("reload") == 1
    assert terminal.err == "sipfarm: not reloaded, what was in force stays: node.toml:7: log.levle: unknown key\n"
    assert terminal.out == ""
