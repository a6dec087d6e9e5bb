"""The ring of members: where a node stands, how it looks, and that a thousand can be read."""

from __future__ import annotations

import re
from itertools import pairwise
from math import pi
from xml.etree import ElementTree

from farm.admin.ring import SECTORS, angle_of, draw_ring, state_of
from tests.support.overviews import make_overview, make_row


def draw(rows: list[dict[str, object]]) -> str:
    drawn = draw_ring(rows, make_overview(rows)["member_counts"])
    ElementTree.fromstring(f"<div>{drawn}</div>")
    return drawn


def names_in(drawn: str) -> list[str]:
    return re.findall(r'<text class="name[^>]*>([^<]*)', drawn)


def marks_in(drawn: str) -> list[str]:
    """The shapes on the ring, without those of the legend."""
    return re.findall(r'class="mark (\w+)"', drawn.partition("<ul")[0])


def test_a_node_stands_where_its_node_id_is() -> None:
    assert angle_of("00" * 32) == 0.0
    assert angle_of("40" + "00" * 31) == pi / 2
    assert angle_of("c0" + "00" * 31) == pi * 1.5
    assert 1.9999 * pi < angle_of("ff" * 32) <= 2 * pi
    assert angle_of("") == 0.0
    drawn = draw([make_row(number) for number in range(1, 5)])
    assert re.findall(r'class="mark alive" cx="([^"]+)" cy="([^"]+)"', drawn.partition("<ul")[0]) == [
        ("0.0", "-128.0"),
        ("128.0", "-0.0"),
        ("0.0", "128.0"),
        ("-128.0", "0.0"),
    ]


def test_each_node_of_a_few_has_its_name_and_its_zone_and_says_how_it_is() -> None:
    drawn = draw([make_row(1), make_row(2, zone="b", state="dead"), make_row(3, draining=True, load=40)])
    assert names_in(drawn) == ["n1", "n2 ", "n3"]
    assert '<tspan class="zone">b</tspan>' in drawn
    assert "<title>n2: dead, zone b, load 0 %</title>" in drawn
    assert "<title>n3: draining, load 40 %</title>" in drawn
    assert drawn.count('class="own"') == 1
    assert drawn.count('class="load"') == 1
    assert sorted(marks_in(drawn)) == ["alive", "dead", "draining"]
    assert "2 alive, 1 dead." in drawn
    assert re.findall(r"</svg> ([^<]+)</li>", drawn) == ["2 alive", "1 draining", "1 dead"]


def test_names_that_are_hostile_are_text_and_those_that_are_missing_are_node_ids() -> None:
    drawn = draw([make_row(1, name="<script>", zone="</text>"), make_row(2, name="")])
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn
    assert "40000000" in names_in(drawn)


def test_long_names_are_smaller_and_cut_before_the_edge() -> None:
    drawn = draw([make_row(number, name=f"proxy-{number}.frankfurt.example.com", zone="a") for number in range(1, 5)])
    assert 'class="name long"' in drawn
    assert names_in(drawn) == [
        "proxy-1.frankfurt.example.com ",
        "proxy-2.frankf…",
        "proxy-4.frankf…",
        "proxy-3.frankfurt.example.com ",
    ]


def test_names_do_not_lie_on_each_other() -> None:
    rows = [make_row(number, 4000) for number in range(1, 15)]
    heights = sorted(float(y) for y in re.findall(r'<text class="name"[^>]* y="([^"]+)"', draw(rows)))
    assert all(above + 18.9 < below for above, below in pairwise(heights))
    rows = [make_row(number, 4000, node_id=f"7{number:063x}") for number in range(15)]
    heights = sorted(float(y) for y in re.findall(r'<text class="name"[^>]* y="([^"]+)"', draw(rows)))
    assert heights[-1] <= 171, "moved up from below the picture"
    assert all(above + 18.9 < below for above, below in pairwise(heights))


def test_of_many_nodes_those_in_trouble_are_named() -> None:
    rows = [make_row(number, 100) for number in range(1, 101)]
    rows[41]["state"] = "dead"
    rows[42]["state"] = "suspect"
    rows[43]["state"] = "left"
    drawn = draw(rows)
    assert sorted(names_in(drawn)) == ["n42", "n43"]
    assert len(marks_in(drawn)) == 100
    for row in rows:
        row["state"] = "dead"
    assert len(names_in(draw(rows))) == 12


def test_a_thousand_nodes_are_bars_and_the_dead_one_stands_out() -> None:
    rows = [make_row(number, 1000, load=50) for number in range(1, 1001)]
    rows[500] |= {"state": "dead", "load": 0}
    drawn = draw(rows)
    assert drawn.count('class="bar alive"') == SECTORS
    assert drawn.count('class="bar dead"') == 1
    assert marks_in(drawn) == ["dead"]
    assert drawn.count('class="load"') == SECTORS
    assert re.findall(r"<title>([^<]*dead)</title>", drawn) == ["9 nodes: 8 alive, 1 dead"]
    assert "999</text>" in drawn
    assert len(drawn) < 40_000


def test_draining_is_shown_of_the_living_alone() -> None:
    assert state_of(make_row(1, draining=True)) == "draining"
    assert state_of(make_row(1, draining=True, state="dead")) == "dead"
    assert state_of(make_row(1)) == "alive"
