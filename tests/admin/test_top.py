"""What `sipfarm top` draws of an overview."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from farm.admin.top import draw, make_sparkline
from tests.support.overviews import make_history, make_overview, make_row


def show(overview: dict[str, Any], problem: str = "", width: int = 120) -> list[str]:
    """The lines of the picture."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(draw(overview, problem, width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_farm_in_a_picture() -> None:
    rows = [
        make_row(1, zone="east", load=12),
        make_row(10, state="dead", since=7200.0),
        make_row(2, draining=True, rtt=0.0123),
    ]
    history = make_history(churn=[0, None, 2, 1], lookup_p50=[0.001, 0.002, None, 0.0004])
    overview = make_overview(rows, underreplicated={"1": 7, "2": 1, "more": 0}, history=history)
    lines = show(overview)
    assert lines[0] == "farm.example.com, seen by n1 · alive · takes traffic · up 2 h · version 0.1.0"
    assert lines[1].split("   ") == [
        "registrations 41,523, 12.2 a second", "calls 187, 3.0 a second", "requests 1,234.5 a second, 431 under way",
    ]  # fmt: skip
    assert lines[2] == "partitions 4096 of 4096 here, 7 lack 1, 1 lack 2"
    table = [line.split() for line in lines[4:8]]
    assert table == [
        ["node", "zone", "roles", "state", "since", "rtt", "load"],
        ["n1", "*", "east", "edge,store", "alive", "100", "s", "-", "12", "%"],
        ["n2", "-", "edge,store", "alive,", "draining", "3", "min", "12.30", "ms", "0", "%"],
        ["n10", "-", "edge,store", "dead", "2", "h", "0.40", "ms", "0", "%"],
    ]
    assert "nodes that came or went  ▁ █▅ 1" in lines
    assert "lookup, half within      ▅█ ▂ 0.4 ms" in lines
    assert lines[-3].startswith("last ")


def test_what_is_wrong_stands_above_the_rest() -> None:
    lines = show(make_overview(problems=["gateway sip:192.0.2.9 does not answer"], ready=False))
    assert "takes no traffic" in lines[0]
    assert lines[1] == "problem: gateway sip:192.0.2.9 does not answer"


def test_copies_for_which_there_are_no_nodes_are_said_to_be_missing() -> None:
    lines = show(make_overview(replicas={"wanted": 3, "possible": 2}))
    assert "copies 2 of 3: there are only 2 nodes to keep them" in lines
    assert "copies" not in " ".join(show(make_overview()))


def test_how_far_a_node_is_that_joins_or_is_drained() -> None:
    assert "37% in step" in show(make_overview(synchronised=False, progress=0.37))[0]
    drained = make_overview(draining=True, handed_over=0.5, synchronised=False)
    assert "draining, 50% handed over" in show(drained)[0]


def test_a_node_alone_has_no_members_to_show() -> None:
    lines = show(make_overview([]))
    assert lines[0].startswith("a node alone, seen by n1 · takes traffic")
    assert lines[2] == "partitions 4096 of 4096 here, none lacks a copy"
    assert len(lines) == 3


def test_what_was_seen_last_stays_when_there_is_nothing_newer() -> None:
    lines = show(make_overview(), "no node is running at control.sock")
    assert lines[0] == "no node is running at control.sock; trying again"
    assert "seen by n1" in lines[1]
    assert show({}, "no node is running") == ["no node is running; trying again"]


def test_an_older_node_that_tells_less_is_drawn_as_well() -> None:
    assert show({"name": "n1"})[0].startswith("a node alone, seen by n1")


def test_a_large_farm_fits_the_screen() -> None:
    lines = show(make_overview([make_row(number, 60) for number in range(1, 61)]))
    assert "and 20 more" in lines
    assert len([line for line in lines if line.startswith("n")]) == 41


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([0, 0], 8, "▁▁"),
        ([None, 3.5, None], 8, " █ "),
        ([1, 9, 1, 1, 1, 1, None, None], 4, "█▂▂ "),
        ([], 4, ""),
    ],
)
def test_a_line_of_bars_reaches_to_the_greatest(values: list[float | None], width: int, line: str) -> None:
    assert make_sparkline(values, width) == line
