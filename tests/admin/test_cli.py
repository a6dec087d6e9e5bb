"""The `sipfarm` command: what users type, read and get as exit code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from farm.admin.cli import Console, _finish
from farm.admin.client import NotRunning
from farm.admin.control import Answer, Control, Fields, OrderError
from farm.config import Config
from farm.security.limits import Ban
from tests.admin.fakes import NOW, FakeNode
from tests.support.certificates import make_certificate, write_identity, write_sip_files


class Terminal:
    """A console with a fake node: one that runs, or with `running = False` one whose store is opened offline."""

    def __init__(self, folder: Path) -> None:
        self.node = FakeNode()
        self.running = True
        self.orders: list[str] = []
        self.stdin = ""
        self.out = ""
        self.err = ""
        self.path = folder / "node.toml"
        self.path.write_text('[node]\nname = "n1"\nstate_dir = "."\n[sip]\ndomains = ["example.com"]\n')
        self.environ = {"SIPFARM_CONFIG": str(self.path)}

    def type(self, *arguments: str) -> int:
        """Run the command; what it wrote is in `out` and `err`."""
        out, err = io.StringIO(), io.StringIO()
        console = Console(self._open, self._client, self.environ, io.StringIO(self.stdin), out, err)
        code = console.run(arguments)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    def run(self, order: str, fields: Fields) -> Answer:
        if not self.running:
            raise NotRunning("no node is running at control.sock")
        self.orders.append(order)
        answer: Answer = json.loads(json.dumps(_finish(Control(self.node, self.node).run(order, fields))))
        return answer

    def _client(self, path: str) -> Terminal:
        assert path == str(self.path.parent / "control.sock")
        return self

    def _open(self, config: Config) -> FakeNode:
        assert config.node.name == "n1"
        return self.node


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_check_says_what_a_good_configuration_makes(terminal: Terminal) -> None:
    assert terminal.type("check", str(terminal.path)) == 0
    assert terminal.out == f"{terminal.path}: node n1, example.com on udp:0.0.0.0:5060, tcp:0.0.0.0:5060\n"
    assert terminal.type("check", "--json") == 0
    assert json.loads(terminal.out)["config"]["registrar"]["max_bindings"] == 16


def test_check_knows_the_roles_of_the_certificate_where_there_is_one(terminal: Terminal) -> None:
    identity = terminal.path.parent / "identity"
    write_identity(identity, certificate=make_certificate(roles=("store",)))
    overlay = '[overlay]\nlisten = "127.0.0.1:7400"\n'
    text = f'[node]\nname = "n1"\nstate_dir = "."\n{overlay}[sip]\ndomains = ["example.com"]\n'
    terminal.path.write_text(text)
    assert terminal.type("check") == 0
    assert "on 127.0.0.1:7400 alone" in terminal.out
    terminal.path.write_text(text + 'listen = ["udp:0.0.0.0:5060"]\n')
    assert terminal.type("check") == 1
    assert "sip.listen: the certificate has the role store alone" in terminal.err
    (identity / "cert.pem").unlink()
    assert terminal.type("check") == 0, "it may be issued later"


def test_check_warns_of_what_is_allowed_and_seldom_meant(terminal: Terminal) -> None:
    sections = '[overlay]\nlisten = "127.0.0.1:7400"\n[dns]\nlisten = ["127.0.0.1:53"]\nzone = "sip.example.com"\n'
    text = f'[node]\nname = "n1"\nstate_dir = "."\n{sections}[sip]\ndomains = ["example.com"]\n'
    terminal.path.write_text(text)
    assert terminal.type("check") == 0
    first, *warnings = terminal.out.splitlines()
    assert first.endswith(": node n1, example.com on udp:0.0.0.0:5060, tcp:0.0.0.0:5060")
    assert [line[:24] for line in warnings] == ["warning: sip.farm_name: ", "warning: dns.addresses: "]
    assert terminal.type("check", "--json") == 0
    assert ["warning: " + warning for warning in json.loads(terminal.out)["warnings"]] == warnings
    terminal.path.write_text(text + 'farm_name = "sip.example.com"\nlisten = ["udp:127.0.0.1:5060"]\n')
    assert terminal.type("check", "--json") == 0
    assert json.loads(terminal.out)["warnings"] == []


def test_check_looks_at_the_certificates_for_tls(terminal: Terminal) -> None:
    section = write_sip_files(terminal.path.parent)
    lines = [f"{key} = {json.dumps(value)}" for key, value in section.items()]
    sip = '[sip]\ndomains = ["example.com"]\nlisten = ["tls:0.0.0.0:5061"]\n'
    terminal.path.write_text('[node]\nname = "n1"\nstate_dir = "."\n' + sip + "[tls]\n" + "\n".join(lines))
    assert terminal.type("check") == 0
    (terminal.path.parent / "sip.key").chmod(0o644)
    assert terminal.type("check") == 1
    assert "tls.keys: " in terminal.err
    assert "open to others (mode 0644): chmod 600 it" in terminal.err


def test_check_of_a_bad_one_is_one_line_and_exit_1(terminal: Terminal) -> None:
    terminal.path.write_text("[nod]\n")
    assert terminal.type("check", str(terminal.path)) == 1
    assert terminal.out == ""
    assert terminal.err == f'sipfarm: {terminal.path}:1: nod: unknown section; did you mean "node"?\n'
    assert terminal.type("check", "--json") == 1
    assert json.loads(terminal.out)["error"].endswith('did you mean "node"?')


def test_the_configuration_may_stand_before_or_after_the_command(terminal: Terminal) -> None:
    terminal.environ = {}
    assert terminal.type("-c", str(terminal.path), "user", "list") == 0
    assert terminal.type("user", "list", "-c", str(terminal.path)) == 0
    assert terminal.type("user", "list") == 1
    assert terminal.err == "sipfarm: /etc/sipfarm/node.toml: cannot be read: No such file or directory\n"


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


@pytest.mark.parametrize("arguments", [[], ["frob"], ["user"], ["user", "frob"], ["locate"], ["demo", "--nodes", "x"]])
def test_wrong_usage_is_2(terminal: Terminal, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.type(*arguments) == 2
    assert "usage: sipfarm" in capsys.readouterr().err


def test_help_is_0_and_names_every_command(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.type("--help") == 0
    text = capsys.readouterr().out
    for command in ("check", "demo", "user", "status", "locate", "bindings", "bans"):
        assert command in text


def test_a_demo_without_nodes_is_refused_in_a_line(terminal: Terminal) -> None:
    assert terminal.type("demo", "--nodes", "0") == 1
    assert terminal.err == "sipfarm: --nodes 0: 1 to 200\n"


def test_an_order_that_would_have_to_wait_needs_a_running_node() -> None:
    async def wait() -> Answer:
        await Forever()
        return {}

    with pytest.raises(OrderError, match="needs a running node"):
        _finish(wait())


class Forever:
    """Never done."""

    def __await__(self):  # type: ignore[no-untyped-def]
        yield self
