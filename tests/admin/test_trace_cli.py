"""`sipfarm trace`: what is asked of the node, and what an operator sees."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from farm.admin import trace_cli
from farm.admin.control import Answer
from tests.admin.test_cli import Terminal
from tests.admin.test_ladder import call

NODES: list[Answer] = [
    {"name": "n1", "state": "watching"},
    {"name": "n2", "state": "watching"},
    {"name": "n3", "state": "dead"},
]


def answer(*numbers: int, more: bool = False, lost: int = 0, nodes: Sequence[Answer] | None = None) -> Answer:
    """An answer with these messages of a call."""
    messages = [{"number": number, "size": 1, **call()[number - 1]} for number in numbers]
    return {"messages": messages, "more": more, "lost": lost, "nodes": nodes or NODES}


class Shell:
    """A console on strings, whose clock goes on when somebody sleeps."""

    def __init__(self, tmp_path: Path, *answers: Answer) -> None:
        self.terminal = Terminal(tmp_path)
        self.terminal.node.caught = list(answers)
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.seconds = 0.0
        self.interrupt_at = 1e9

    def now(self) -> float:
        return self.seconds

    def order(self, order: str, fields: Any) -> Answer:
        return self.terminal.run(order, fields)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds >= self.interrupt_at:
            raise KeyboardInterrupt

    def trace(self, **options: Any) -> int:
        given = {"aor": "bob@example.com", "call_id": None, "seconds": 0.5, "raw": False, "width": None, "json": False}
        given["pcap"] = None
        return trace_cli.run(self, argparse.Namespace(**{**given, **options}))


MakeShell = Callable[..., Shell]


@pytest.fixture
def make_shell(tmp_path: Path) -> MakeShell:
    return lambda *answers: Shell(tmp_path, *answers)


def test_messages_are_asked_for_until_the_time_is_over_and_the_rest_at_the_end(make_shell: MakeShell) -> None:
    shell = make_shell(answer(1, 2), answer(3, more=True), answer(4), answer(5))
    assert shell.trace() == 0
    assert shell.terminal.node.followed == [
        ("bob@example.com", "", "", 0, False),
        ("", "", "t1", 0, False),
        ("", "", "t1", 2, False),
        ("", "", "t1", 3, False),
        ("", "", "t1", 4, True),
    ]
    lines = shell.stdout.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[4].endswith("+1.002 n1 sent 192.0.2.1:5060 > 198.51.100.7:5060 UDP 180 Ringing [1 INVITE]")
    assert shell.stderr.getvalue() == "2 nodes watch\n"


def test_a_ladder_is_as_wide_as_it_is_asked_to_be(make_shell: MakeShell) -> None:
    shell = make_shell(answer(1), answer(2), answer())
    assert shell.trace(width=80) == 0
    assert "|............INVITE..........>|" in shell.stdout.getvalue()


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "painted"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_on_a_terminal_answers_and_repetitions_have_colours_unless_somebody_wants_none(
    make_shell: MakeShell, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], painted: bool
) -> None:
    for name, value in {"NO_COLOR": "", "TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    good: Any = answer(4)
    bad: Any = answer(5)
    good["messages"][0]["raw"] = "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n"
    bad["messages"][0]["raw"] = "SIP/2.0 486 Busy\r\nCSeq: 1 INVITE\r\n"
    shell = make_shell(answer(1, 2), good, bad)
    shell.stdout = Screen()
    assert shell.trace(width=200) == 0
    lines = [line for line in shell.stdout.getvalue().splitlines() if "INVITE" in line]
    assert [line[:5] if line.startswith("\x1b") else "" for line in lines] == (
        ["", "\x1b[2m ", "\x1b[32m", "\x1b[31m"] if painted else [""] * 4
    )
    assert all(line.endswith("\x1b[0m") == (painted and number > 0) for number, line in enumerate(lines))


def test_a_user_without_domain_is_one_of_ours_and_a_call_is_named_by_its_id(make_shell: MakeShell) -> None:
    shell = make_shell(answer(), answer(), answer())
    shell.trace(aor="bob")
    assert shell.terminal.node.followed[0][0] == "sip:bob@example.com"
    shell = make_shell(answer(), answer(), answer())
    shell.trace(aor=None, call_id="c1")
    assert shell.terminal.node.followed[0][:2] == ("", "c1")


def test_nothing_seen_is_a_failure(make_shell: MakeShell) -> None:
    assert make_shell(answer(), answer(), answer()).trace() == 1


def test_ctrl_c_ends_it_and_the_nodes_hear_so(make_shell: MakeShell) -> None:
    shell = make_shell(answer(1), answer(2))
    shell.interrupt_at = 0.5
    assert shell.trace(seconds=None) == 0
    assert shell.terminal.node.followed[-1] == ("", "", "t1", 1, True)
    assert len(shell.stdout.getvalue().splitlines()) == 2


def test_json_is_an_object_a_message_with_its_bytes_only_when_asked(make_shell: MakeShell) -> None:
    shell = make_shell(answer(1, 2), answer(), answer())
    shell.trace(json=True)
    one, other = map(json.loads, shell.stdout.getvalue().splitlines())
    assert list(one) == [
        "size", "time", "node", "direction", "transport", "source", "destination", "first_line", "cseq", "call_id",
        "again",
    ]  # fmt: skip
    assert (one["cseq"], one["call_id"], one["again"], other["again"]) == ("1 INVITE", "c1", False, True)
    shell = make_shell(answer(1), answer(), answer())
    shell.trace(json=True, raw=True)
    assert json.loads(shell.stdout.getvalue())["raw"].startswith("INVITE sip:bob")


def test_whole_messages_are_shown_below_their_lines_without_controls(make_shell: MakeShell) -> None:
    first = answer(1)
    first["messages"][0]["raw"] = "INVITE sip:b SIP/2.0\r\nSubject: \x1b[2J\r\n\r\n"  # type: ignore[index]
    shell = make_shell(first, answer(), answer())
    shell.trace(raw=True)
    assert shell.stdout.getvalue().splitlines()[1:3] == ["    INVITE sip:b SIP/2.0", "    Subject: \\x1b[2J"]


def test_nodes_that_do_not_watch_and_messages_that_were_lost_are_said(make_shell: MakeShell) -> None:
    nodes: list[Answer] = [NODES[0], {"name": "n2", "state": "silent"}, {"name": "n3", "state": "busy"}]
    shell = make_shell(*[answer(lost=7, nodes=nodes) for _ in range(9)])
    shell.trace(seconds=1.5)
    assert shell.stderr.getvalue() == (
        "sipfarm: 7 messages more than fit were lost\n1 node watches; n2 is silent, n3 is busy\n"
    )


def test_a_trace_that_is_gone_at_the_end_is_said_and_what_was_seen_stays(make_shell: MakeShell) -> None:
    shell = make_shell(answer(1), answer())
    assert shell.trace() == 0
    assert shell.stderr.getvalue().endswith("sipfarm: that trace has ended\n")


@pytest.mark.parametrize("arguments", [(), ("--aor", "a", "--call-id", "b"), ("--aor", "a", "--seconds", "soon")])
def test_one_thing_is_traced(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert Terminal(tmp_path).type("trace", *arguments) == 2


def test_the_messages_are_written_for_wireshark_as_well_and_for_nobody_else(
    make_shell: MakeShell, tmp_path: Path
) -> None:
    path = tmp_path / "call.pcap"
    first = answer(1, 2)
    first["messages"][1]["source"] = ":0"  # type: ignore[index]
    shell = make_shell(first, answer(3), answer())
    shell.trace(pcap=str(path))
    assert path.read_bytes().count(b"INVITE sip:bob@example.com SIP/2.0\r\n") == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(shell.stdout.getvalue().splitlines()) == 3


def test_a_file_that_cannot_be_written_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    assert terminal.type("trace", "--aor", "bob", "--pcap", str(tmp_path / "no" / "file")) == 1
    assert terminal.err.endswith("/no/file: No such file or directory\n")
    assert terminal.orders == []
