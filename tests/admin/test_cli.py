"""The `sipfarm` command: what users type, read and get as exit code."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from farm.admin.check_cli import find_nothing
from farm.admin.cli import Console, _finish, make_console
from farm.admin.client import TIMEOUT_SECONDS, NotRunning
from farm.admin.control import Answer, Control, Fields, OrderError
from farm.config import Config
from tests.admin.fakes import FakeNode
from tests.support.certificates import make_certificate, write_identity


class Found(NamedTuple):
    """A finding about the machine."""

    text: str
    is_mistake: bool = True

    def __str__(self) -> str:
        return self.text


class Terminal:
    """A console with a fake node: one that runs, or with `running = False` one whose store is opened offline."""

    def __init__(self, folder: Path) -> None:
        self.node = FakeNode()
        self.running = True
        self.orders: list[str] = []
        self.patience: list[float] = []  # how long the answer to each was waited for
        self.stdin = ""
        self.out = ""
        self.err = ""
        self.path = folder / "node.toml"
        self.path.write_text('[node]\nname = "n1"\nstate_dir = "."\n[sip]\ndomains = ["example.com"]\n')
        self.environ = {"SIPFARM_CONFIG": str(self.path)}
        self.found: list[Found] = []
        self.looks: list[dict[str, bool]] = []
        self.slept: list[float] = []
        self.steps: list[Callable[[], None]] = []  # what happens in each sleep

    def type(self, *arguments: str) -> int:
        """Run the command; what it wrote is in `out` and `err`."""
        out, err = io.StringIO(), io.StringIO()
        console = Console(
            self._open, self._client, self.environ, io.StringIO(self.stdin), out, err,
            find_problems=self._look, now=lambda: sum(self.slept), sleep=self._sleep,
        )  # fmt: skip
        code = console.run(arguments)
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    def run(self, order: str, fields: Fields, seconds: float = TIMEOUT_SECONDS) -> Answer:
        self.patience.append(seconds)
        if not self.running:
            raise NotRunning("no node is running at control.sock")
        self.orders.append(order)
        answer: Answer = json.loads(json.dumps(_finish(Control(self.node, self.node).run(order, fields))))
        return answer

    def _look(
        self, config: Config, wall: float, *, is_running: bool = False, ports: bool = True, network: bool = False
    ) -> list[Found]:
        self.looks.append({"is_running": is_running, "ports": ports, "network": network})
        return self.found

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.steps:
            self.steps.pop(0)()

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


def test_check_says_what_a_start_on_this_machine_would_meet(terminal: Terminal) -> None:
    terminal.found = [Found("sip.listen: udp:0.0.0.0:5060: in use"), Found("resolver.servers: is empty", False)]
    assert terminal.type("check") == 1
    assert terminal.err == "sipfarm: sip.listen: udp:0.0.0.0:5060: in use\n"
    assert terminal.out == "warning: resolver.servers: is empty\n"
    assert terminal.type("check", "--json") == 1
    answer = json.loads(terminal.out)
    assert (answer["ok"], answer["errors"]) == (False, ["sip.listen: udp:0.0.0.0:5060: in use"])
    assert terminal.err == ""


def test_warnings_are_mistakes_to_who_is_strict(terminal: Terminal) -> None:
    terminal.found = [Found("resolver.servers: is empty", False)]
    assert terminal.type("check") == 0
    assert terminal.type("check", "--strict") == 1
    assert "warning: resolver.servers: is empty\n" in terminal.out
    terminal.found = []
    assert terminal.type("check", "--strict") == 0


def test_check_looks_at_no_more_than_it_is_told_to(terminal: Terminal) -> None:
    terminal.found = [Found("sip.listen: in use")]
    assert terminal.type("check", "--file-only") == 0
    assert terminal.looks == []
    terminal.node.overlay = {}
    terminal.running = False
    terminal.type("check", "--no-ports", "--network")
    assert terminal.looks.pop() == {"is_running": False, "ports": False, "network": True}
    terminal.environ["LISTEN_FDS"] = "2"
    terminal.type("check")
    assert terminal.looks.pop() == {"is_running": False, "ports": False, "network": False}
    del terminal.environ["LISTEN_FDS"]
    terminal.running = True
    terminal.type("check")
    assert terminal.looks.pop() == {"is_running": True, "ports": True, "network": False}


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


class Shut(io.StringIO):
    """An output that takes nothing."""

    def __init__(self, error: OSError, *, at_flush: bool) -> None:
        super().__init__()
        self._error = error
        self._at_flush = at_flush

    def write(self, text: str) -> int:
        if not self._at_flush:
            raise self._error
        return len(text)

    def flush(self) -> None:
        if self._at_flush:
            raise self._error


@pytest.mark.parametrize("at_flush", [True, False], ids=["buffered", "at once"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (OSError(errno.ENOSPC, "No space left on device"), "sipfarm: No space left on device\n"),
    ],
)
@pytest.mark.parametrize("arguments", [("status",), ("user", "list", "--json"), ("ca", "--help"), ("--help",)])
def test_an_output_that_takes_nothing_ends_a_command_without_a_trace(
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: OSError,
    said: str,
    at_flush: bool,
) -> None:
    out, err = Shut(error, at_flush=at_flush), io.StringIO()
    monkeypatch.setattr("sys.stdout", out)  # to which argparse writes
    console = Console(terminal._open, terminal._client, terminal.environ, io.StringIO(), out, err)
    assert console.run(arguments) == 1
    assert err.getvalue() == said


def test_what_a_terminal_cannot_show_is_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console = make_console(lambda config: FakeNode(), find_nothing)
    assert console.run(["demo", "--help"]) == 0
    assert b"users 1000, 1001, ? (100)" in raw.getvalue()
