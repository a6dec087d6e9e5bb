"""The small plots and the strip of partitions."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from farm.admin.markup import write_rate, write_seconds
from farm.admin.plots import Line, Values, draw_partitions, draw_plot, mean


def draw(values: Values, *, bars: bool = False, seconds_each: float = 10.0) -> str:
    line = Line("a second", "first", values, sum if bars else mean)
    drawn = draw_plot("Calls", [line], write_rate, seconds_each=seconds_each, bars=bars)
    ElementTree.fromstring(drawn)
    return drawn


def path_of(drawn: str, style: str = "line first") -> str:
    (path,) = re.findall(f'class="{style}" d="([^"]*)"', drawn)
    return str(path)


def test_the_newest_value_is_at_the_right_edge() -> None:
    assert path_of(draw([4.0, 4.0, 4.0])) == "M358.5 30.0h0"
    assert path_of(draw([4.0] * 360)).startswith("M1.5 30.0h0L4.5 30.0L")


def test_where_nothing_was_measured_there_is_a_gap() -> None:
    assert path_of(draw([5.0] * 3 + [None] * 3 + [5.0] * 6)) == "M349.5 16.0h0M355.5 16.0h0L358.5 16.0"
    nothing = draw([None] * 360)
    assert "line first" not in nothing
    assert "<b>–</b>" in nothing
    assert 'aria-label="Calls in the last hour: nothing measured yet."' in nothing
    assert ">nothing measured yet</text>" in nothing
    assert "nothing" not in draw([0.0])
    assert draw([]) == nothing


def test_the_scale_ends_at_the_next_round_number() -> None:
    tops = {0.0: "1", 0.03: "0.05", 1.0: "1", 1.1: "2", 4.0: "5", 51.0: "100", 1234.0: "2\u202f000"}
    for value, top in tops.items():
        assert f'<text x="0" y="12">{top}</text>' in draw([value] * 3)


def test_a_plot_says_what_it_shows() -> None:
    drawn = draw([1.0, 2.0, 8.0, 3.0, 3.0, 3.0])
    assert 'aria-label="Calls in the last hour: now a second 3; the highest was 3.67."' in drawn
    assert "a second <b>3</b>" in drawn
    assert "now a second –" in draw([1.0] + [None] * 6), "a value of a minute ago is not of now"


def test_bars_are_sums_and_nothing_has_none() -> None:
    drawn = draw([0.0, 0.0, 0.0, 1.0, 0.0, 1.0], bars=True)
    assert path_of(drawn, "bars first") == "M358.5 86V16.0"


def test_several_lines_share_a_scale() -> None:
    lines = [Line("p99", "second", [0.01] * 3, max), Line("p50", "first", [0.005] * 3, mean)]
    drawn = draw_plot("Lookups", lines, write_seconds, seconds_each=10.0)
    assert path_of(drawn, "line second") == "M358.5 16.0h0"
    assert path_of(drawn) == "M358.5 51.0h0"
    assert "now p99 10 ms, p50 5 ms; the highest was 10 ms." in drawn


def test_hostile_words_are_text() -> None:
    drawn = draw_plot("<b>", [Line('"', "first", [1.0], mean)], write_rate, seconds_each=10.0)
    ElementTree.fromstring(drawn)
    assert "<b><" not in drawn


@pytest.mark.parametrize(
    ("cells", "styles"),
    [
        ("0" * 512, {"complete": 512}),
        ("-" * 512, {"others": 512}),
        ("0123-" + "0" * 507, {"one": 1, "two": 1, "more": 1, "others": 1, "complete": 508}),
    ],
)
def test_every_cell_is_drawn_by_what_it_lacks(cells: str, styles: dict[str, int]) -> None:
    drawn = draw_partitions({"all": 4096, "owned": 4096, "cells": cells})
    ElementTree.fromstring(drawn)
    found: dict[str, int] = {}
    for style, path in re.findall(r'class="cell (\w+)" d="([^"]*)"', drawn):
        found[style] = found.get(style, 0) + path.count("M")
    assert found == styles
    assert 'viewBox="0 0 320 160"' in drawn


def test_what_is_missing_is_lower_and_said() -> None:
    drawn = draw_partitions({"all": 4096, "owned": 4096, "cells": "03" + "0" * 510})
    assert 'class="cell more" d="M11 7h8v2h-8z"' in drawn
    assert "4\u202f096 partitions, 8 in a cell: 511 complete, 1 lacking more." in drawn
