"""The status page: what stands where, in words, and that nothing a stranger says is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from farm.admin.status_page import MOST_ROWS, write_page
from tests.support.overviews import make_history, make_overview, make_row

_VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """The page as a browser reads it: elements, ids, and the words of each section."""

    def __init__(self, overview: dict[str, Any]) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: dict[str, str] = {}
        self._section = ""
        self.html = write_page(overview).decode()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in ("section", "header", "main", "footer") or (tag == "title" and "title" not in self.words):
            self._section = dict(attrs).get("id") or tag
        if dict(attrs).get("id") == "lost":
            self._section = "lost"

    def handle_data(self, data: str) -> None:
        self.words[self._section] = self.words.get(self._section, "") + " " + data

    def said(self, section: str) -> str:
        """Words apart by a space, thousands too."""
        return " ".join(self.words.get(section, "").split())


def test_a_farm_that_is_well_is_said_to_be() -> None:
    page = Page(make_overview())
    assert page.said("title").startswith("n1 serves – sipfarm")
    assert page.said("head").startswith("n1 node of farm.example.com · sipfarm 0.1.0 · up 2 h 3 min serves")
    assert page.said("problems") == "Nothing is wrong."
    assert page.said("figures") == (
        "calls/s 3 calls now 187 registrations/s 12 registrations here 41 523 requests/s 1 234 transactions 431"
    )
    assert page.said("ring").endswith("n4: alive, load 0 % n1 n2 n4 n3 4 of 4 alive 4 alive")
    assert "All that this node owns is complete." in page.said("replicas")
    assert "In step with the others 100%" in page.said("replicas")
    assert "handed over" not in page.said("replicas")


def test_problems_come_first_those_of_the_node_before_those_of_others() -> None:
    rows = [make_row(number, 12) for number in range(1, 13)]
    for row in rows[2:10]:
        row["state"] = "dead"
    rows[11]["state"] = "suspect"
    page = Page(
        make_overview(
            rows,
            problems=["the journal cannot be written"],
            underreplicated={"1": 1, "2": 20, "more": 0},
            synchronised=False,
            progress=0.374,
        )
    )
    assert page.said("problems") == (
        "4 problems the journal cannot be written n3, n4, n5, n6, n7, n8 and 2 more are dead."
        " n12 is suspected to be dead."
        " 1 partition lacks one copy, 20 partitions lack two copies; they are being copied."
        " This node has compared 37% of its partitions with the others."
    )
    assert page.html.index('id="problems"') < page.html.index('id="figures"')
    assert "In step with the others 37%" in page.said("replicas")


def test_a_node_that_joins_says_how_far_it_is_and_is_not_ill() -> None:
    page = Page(make_overview(ready=False, state="joining", synchronised=False, progress=0.374))
    assert page.said("problems") == "This node has compared 37% of its partitions with the others."
    assert '<section id="problems" class="joining"' in page.html
    page = Page(make_overview(synchronised=False, progress=0.5, problems=["the disk is full"]))
    assert page.said("problems").startswith("1 problem the disk is full This node has compared 50%")
    assert '<section id="problems" class="wrong"' in page.html


def test_a_progress_that_is_not_complete_never_reads_as_if_it_were() -> None:
    page = Page(make_overview(synchronised=False, progress=0.99999))
    assert "In step with the others 99.99%" in page.said("replicas")


def test_a_node_that_is_drained_says_how_far_it_is() -> None:
    page = Page(make_overview(draining=True, ready=False, handed_over=0.42))
    assert page.said("head").endswith("is being drained")
    assert "Records handed over 42%" in page.said("replicas")
    page = Page(make_overview(draining=True, ready=False, state="left"))
    assert page.said("head").endswith("is drained"), "it may be stopped"


def test_a_node_that_does_not_serve_says_so() -> None:
    assert Page(make_overview(ready=False, state="joining")).said("head").endswith("joins")
    assert Page(make_overview(ready=False)).said("head").endswith("does not serve")


def test_a_node_alone_shows_what_it_has() -> None:
    page = Page(make_overview([]))
    assert "a node alone" in page.said("head")
    assert page.said("farm") == "Alone Its configuration has no [overlay] with listen."
    assert "Calls" in page.said("plots")
    assert "Lookups" not in page.said("plots")
    assert "members" not in page.words


def test_what_is_missing_is_counted_by_how_much() -> None:
    cells = "01-" + "0" * 509
    page = Page(
        make_overview(
            underreplicated={"1": 3, "2": 0, "more": 2}, partitions={"all": 4096, "owned": 4000, "cells": cells}
        )
    )
    words = page.said("replicas")
    assert "4 000 of 4 096 partitions are owned here. 3 copies of each are wanted." in words
    assert "3 partitions lack one copy, 2 partitions lack more copies." in words
    assert "3 995 complete 3 one copy missing 2 more missing 96 owned by others alone" in words


def test_copies_for_which_there_are_no_nodes_are_said_to_be_missing() -> None:
    """Two nodes of three that are left have all there is, and still there is one copy less than was ordered."""
    words = Page(make_overview(replicas={"wanted": 3, "possible": 2})).said("replicas")
    assert "2 of 3 copies: there are only 2 nodes to keep them. None of those is missing. 4 096 have those" in words
    words = Page(make_overview(replicas={"wanted": 3, "possible": 1})).said("replicas")
    assert "1 of 3 copies: there is only 1 node to keep them." in words
    assert Page(make_overview(replicas={"wanted": 3, "possible": 1})).said("problems") == "Nothing is wrong."


def test_a_node_that_stores_nothing_does_not_call_nothing_complete() -> None:
    none = {"all": 4096, "owned": 0, "cells": "-" * 512}
    words = Page(make_overview(replicas={"wanted": 3, "possible": 0}, partitions=none)).said("replicas")
    assert "0 of 4 096 partitions are owned here. 0 of 3 copies: there is no node to keep them." in words
    assert "complete" not in words


def test_the_last_hour_has_five_plots() -> None:
    history = make_history(churn=[0.0, 2.0, 1.0], lookup_p50=[0.001], lookup_p99=[0.25], read_p50=[0.002], calls=[4.0])
    words = Page(make_overview(history=history)).said("plots")
    assert re.findall("Calls|Registrations|Churn|Lookups|Reads", words) == [
        "Calls",
        "Registrations",
        "Churn",
        "Lookups",
        "Reads",
    ]
    assert "Churn came or went 1 5 an hour ago" in words, "the newest, and what the scale ends at"
    assert "p99 250 ms p50 1 ms" in words


def test_zones_are_compared_where_there_are_several() -> None:
    rows = [make_row(number, zone="ab"[number % 2], load=10 * number) for number in range(1, 5)]
    rows[3]["state"] = "dead"
    words = Page(make_overview(rows)).said("zones")
    assert words == "Zones Zone Nodes Mean load Highest a 1 alive, 1 dead 20 % 20 % b 2 alive 20 % 30 %"
    rows[1]["state"] = "dead"
    assert "a 2 dead – –" in Page(make_overview(rows)).said("zones")
    assert Page(make_overview([make_row(1, zone="a"), make_row(2, zone="a")])).said("zones") == ""


def test_every_member_has_a_row() -> None:
    rows = [make_row(1), make_row(2, zone="b", load=85, rtt=None), make_row(3, state="dead", since=42.0)]
    page = Page(make_overview(rows))
    assert page.said("members") == (
        "3 nodes Node State Zone Load Round trip Roles Node-ID"
        " n1 this node alive 1 min 40 s – 0 % – edge, store 000000000000"
        " n2 alive 3 min 20 s b 85 % – edge, store 400000000000"
        " n3 dead 42 s – – – edge, store 800000000000"
    )
    assert ("class", "hot") in page.attributes


def test_a_thousand_members_are_a_page_that_can_be_loaded() -> None:
    rows = [make_row(number, 1000, zone=f"zone-{number % 7}", load=number % 100) for number in range(1, 1001)]
    page = Page(make_overview(rows))
    assert page.html.count("<bdi>n") == MOST_ROWS
    assert "800 more are not listed; sipfarm members has all." in page.said("members")
    assert len(page.html) < 250_000


def test_nothing_that_a_stranger_says_is_markup() -> None:
    hostile = "<script>alert(1)</script>\"' onload=x"
    row = make_row(2, name=hostile, zone=hostile, roles=[hostile], state="dead")
    overview = make_overview([make_row(1, name=hostile), row], problems=[hostile], name=hostile, overlay=hostile)
    page = Page(overview)
    plain = Page(make_overview([make_row(1), make_row(2, zone="z" * 30, state="dead")], problems=["x"]))
    assert page.tags == plain.tags
    assert page.tags.count("script") == 1
    assert [name for name, _ in page.attributes if name.startswith("on")] == []


def test_the_page_wants_nothing_from_elsewhere_and_is_whole_without_a_script() -> None:
    page = Page(make_overview())
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert set(links) == {
        "/status.css", "/status.js", "/status.svg", "/status.json", "/metrics", "/healthz", "/readyz",
    }  # fmt: skip
    assert ("content", "width=device-width, initial-scale=1") in page.attributes
    assert '<noscript><meta http-equiv="refresh" content="10"></noscript>' in page.html
    assert "style" not in [name for name, _ in page.attributes], "the policy for contents would drop it"


def test_every_part_has_an_id_of_its_own_that_stays() -> None:
    """The script puts them in place by it."""
    ids = [value for name, value in Page(make_overview()).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    rows = [make_row(number, zone=f"{number}", state="dead") for number in range(1, 5)]
    assert [value for name, value in Page(make_overview(rows)).attributes if name == "id"] == ids
    sections = re.findall(r"<section([^>]*)>", Page(make_overview()).html)
    assert all("id=" in section for section in sections)
