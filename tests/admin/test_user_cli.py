"""`sipfarm user`: what is typed, read and left in the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.admin.test_cli import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_users_are_added_listed_and_removed_on_a_running_node(terminal: Terminal) -> None:
    terminal.stdin = "secret\n"
    assert terminal.type("user", "add", "bob", "--password-file", "-") == 0
    assert terminal.out == "bob added\n"
    assert terminal.type("user", "list") == 0
    assert terminal.out == "sip:bob@example.com\n"
    assert terminal.type("user", "list", "--json") == 0
    assert json.loads(terminal.out) == {"users": [{"aor": "sip:bob@example.com", "disabled": False}]}
    assert terminal.type("user", "passwd", "bob", "--password-file", "-") == 0
    assert terminal.out == "bob changed\n"
    assert terminal.type("user", "remove", "bob") == 0
    assert terminal.type("user", "remove", "bob") == 1
    assert terminal.err == "sipfarm: bob is no user\n"
    assert not terminal.node.closed, "the running node's store is not opened"


def test_a_user_is_disabled_and_enabled_again(terminal: Terminal) -> None:
    terminal.stdin = "secret\n"
    terminal.type("user", "add", "bob", "--password-file", "-")
    assert terminal.type("user", "disable", "bob") == 0
    assert terminal.out == "bob disabled\n"
    terminal.type("user", "list")
    assert terminal.out == "sip:bob@example.com  disabled\n"
    assert terminal.type("user", "enable", "bob") == 0
    assert terminal.out == "bob enabled\n"
    terminal.type("user", "list")
    assert terminal.out == "sip:bob@example.com\n"
    assert terminal.type("user", "enable", "nobody") == 1
    assert terminal.err == "sipfarm: nobody is no user\n"


def test_users_are_changed_in_the_store_when_no_node_runs(terminal: Terminal) -> None:
    terminal.running = False
    terminal.stdin = "secret\n"
    assert terminal.type("user", "add", "bob", "--password-file", "-") == 0
    assert terminal.node.closed
    assert terminal.orders == []
    assert terminal.type("user", "list") == 0
    assert terminal.out == "sip:bob@example.com\n"


def test_the_store_is_closed_even_when_the_order_fails(terminal: Terminal) -> None:
    terminal.running = False
    assert terminal.type("user", "remove", "nobody") == 1
    assert terminal.node.closed


def test_a_store_that_keeps_nothing_is_not_opened(terminal: Terminal) -> None:
    terminal.running = False
    terminal.environ["SIPFARM__STORE__BACKEND"] = "memory"
    assert terminal.type("user", "list") == 1
    assert terminal.err == 'sipfarm: the node is not running, and its store keeps nothing: backend = "memory"\n'


def test_passwords_come_from_files_and_never_from_arguments(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("from the file\n")
    assert terminal.type("user", "add", "bob", "--password-file", str(tmp_path / "pw")) == 0
    assert terminal.type("user", "add", "eve", "secret") == 2
    assert terminal.type("user", "add", "eve") == 1
    assert "no terminal to ask for a password at" in terminal.err
    assert terminal.type("user", "add", "eve", "--password-file", str(tmp_path / "no")) == 1
    assert terminal.err == f"sipfarm: {tmp_path}/no: No such file or directory\n"
    terminal.stdin = ""
    assert terminal.type("user", "add", "eve", "--password-file", "-") == 1
    assert "a password has 1 to" in terminal.err


def test_import_goes_in_portions_and_names_the_lines_it_refuses(terminal: Terminal, tmp_path: Path) -> None:
    lines = ["user,password,domain", *(f"u{number},p" for number in range(1200)), "lonely", "x,y,other.test"]
    path = tmp_path / "users.csv"
    path.write_text("\n".join(lines) + "\n")
    assert terminal.type("user", "import", str(path)) == 1
    assert terminal.orders == ["import-users"] * 3
    assert terminal.out.splitlines() == [
        f"{path}:1202: 1 fields instead of user,password or user,password,domain",
        f"{path}:1203: 'other.test' is none of our domains (example.com)",
        "1200 users added, 0 changed, 2 lines refused",
    ]
    path.write_text("u1,p\nnew,p\n")
    assert terminal.type("user", "import", str(path), "--json") == 0
    assert json.loads(terminal.out) == {"added": 1, "changed": 1, "bad": []}


def test_import_takes_hashes_by_the_names_of_their_columns(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text(f"user,domain,ha1_md5,ha1b_md5\nalice,example.com,{'a' * 32},{'b' * 32}\nbob,,abc,\n")
    assert terminal.type("user", "import", str(path)) == 1
    assert terminal.out.splitlines() == [
        f"{path}:3: a hash of MD5 has 32 hexadecimal digits, and this has 3",
        "1 users added, 0 changed, 1 lines refused",
    ]


def test_a_long_import_says_how_far_it_is(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.admin.progress.PLAIN_INTERVAL", 1000)
    terminal.stdin = "".join(f"u{number},p\n" for number in range(2100))
    assert terminal.type("user", "import", "-") == 0
    assert terminal.err == "1,000 users\n2,000 users\n"


def test_import_reads_standard_input_and_tells_unreadable_files(terminal: Terminal, tmp_path: Path) -> None:
    terminal.stdin = "a,b\n"
    assert terminal.type("user", "import", "-") == 0
    assert terminal.out == "1 users added, 0 changed, 0 lines refused\n"
    assert terminal.type("user", "import", str(tmp_path / "no.csv")) == 1
    assert terminal.err == f"sipfarm: {tmp_path}/no.csv: No such file or directory\n"
    (tmp_path / "latin.csv").write_bytes(b"\xe4,b\n")
    assert terminal.type("user", "import", str(tmp_path / "latin.csv")) == 1
    assert terminal.err == f"sipfarm: {tmp_path}/latin.csv: is not UTF-8 text\n"
