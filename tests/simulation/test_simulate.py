"""The command that runs seeds: what is seen of it while it runs, and of what it has found."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import simulate
from tests.support.simulate import Report


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds that take no time, of which the 30th fails."""

    def run(job: tuple[int, str, int, bool]) -> Report:
        return Report(job[0], "quiet", problems=["two owners"] if job[0] == 30 else [])

    monkeypatch.setattr(simulate, "_run_quickly", run)
    monkeypatch.setattr(simulate, "ProcessPoolExecutor", ThreadPoolExecutor)


def test_it_says_now_and_then_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["1-45", "--jobs", "2"]) == 1
    answer, progress = capsys.readouterr()
    assert progress == "20 seeds, 0 failed\n40 seeds, 1 failed\n"
    lines = answer.splitlines()
    assert lines[0].startswith("seed 30 quiet: FAILED 1;")
    again = "python -m tests.support.simulate 30 --plan quiet --trace"
    assert lines[1:3] == ["    two owners", f"    {again}"]
    assert lines[3].startswith("44 of 45 seeds ok in ")
    assert lines[4:] == [f"  {again}"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert simulate.main(["1-29"]) == 0
    assert "29 seeds, 0 failed" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert capsys.readouterr().out.splitlines()[-1].startswith("29 of 29 seeds ok in ")
