"""What is seen of a long order while it runs."""

from __future__ import annotations

import io

import pytest

from farm.admin.progress import PLAIN_INTERVAL, show_progress


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_plain_line_now_and_then() -> None:
    stream = io.StringIO()
    with show_progress(stream, None) as reach:
        for step in range(500, 3 * PLAIN_INTERVAL, 500):
            reach(step, f"{step:,} users")
    assert stream.getvalue() == "10,000 users\n20,000 users\n"


def test_a_short_order_says_nothing_to_a_pipe() -> None:
    stream = io.StringIO()
    with show_progress(stream, 10) as reach:
        reach(10, "10 users")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("total", [1000, None])
def test_a_terminal_gets_a_bar_that_leaves_no_trace(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = FakeTerminal()
    with show_progress(stream, total) as reach:
        reach(500, "500 users")
    shown = stream.getvalue()
    assert "500 users" in shown
    assert ("50%" in shown) == (total is not None)
    assert shown.endswith("\x1b[2K"), "the line of the bar is erased at the end"


def test_json_lines_for_who_reads_json_even_at_a_terminal() -> None:
    stream = FakeTerminal()
    with show_progress(stream, 100, as_json=True, interval=0) as reach:
        reach(0, "not running")
        reach(0, "not running")
        reach(25, "25%")
    assert stream.getvalue().splitlines() == [
        '{"step": 0, "of": 100, "words": "not running"}',
        '{"step": 25, "of": 100, "words": "25%"}',
    ]
