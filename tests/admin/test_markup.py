"""Text, numbers and shapes of the status page."""

from __future__ import annotations

import pytest

from farm.admin.markup import (
    STATES,
    clean,
    draw_icon,
    draw_marker,
    plural,
    write_age,
    write_count,
    write_rate,
    write_seconds,
)


def test_what_would_be_markup_is_text() -> None:
    assert clean("<script>alert('1')</script>") == "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;"
    assert clean('" onload="x') == "&quot; onload=&quot;x"
    assert clean("a&b") == "a&amp;b"


def test_what_would_turn_a_line_around_or_break_it_is_shown_as_unknown() -> None:
    assert clean("a\u202eb\nc\x00d") == "a\ufffdb\ufffdc\ufffdd"
    assert clean("zürich-1") == "zürich-1"


def test_long_text_is_cut_before_it_is_escaped() -> None:
    assert clean("<" * 50, 4) == "&lt;&lt;&lt;…"
    assert clean("abcd", 4) == "abcd"
    assert len(clean("x" * 10**6)) == 48


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(None, "–"), (0.0, "0 ms"), (0.00042, "0.42 ms"), (0.0125, "12.5 ms"), (0.9996, "1 s"), (2.5, "2.5 s")],
)
def test_short_times(seconds: float | None, written: str) -> None:
    assert write_seconds(seconds) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (100, "1 min 40 s"), (7385, "2 h 3 min"), (90_000, "1 d 1 h")],
)
def test_long_times_have_two_units(seconds: float, written: str) -> None:
    assert write_age(seconds) == written


def test_numbers() -> None:
    assert write_count(1234567.2) == "1\u202f234\u202f567"
    assert [write_rate(rate) for rate in (0.0, 0.25, 3.0, 9.999, 12.7)] == ["0", "0.25", "3", "10", "13"]
    assert plural(1, "node", "nodes") == "1 node"
    assert plural(0, "node", "nodes") == "0 nodes"


def test_every_state_has_a_shape_of_its_own() -> None:
    shapes = {state: draw_marker(state, 10, 20, 6).replace(f"mark {state}", "") for state in (*STATES, "draining")}
    assert len({shapes[state] for state in shapes if state != "joining"}) == 5
    assert shapes["joining"] == shapes["alive"], "which is filled or not, by its class"
    assert 'class="mark joining"' in draw_icon("joining")
