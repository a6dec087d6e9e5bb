"""The dashboards: up to date, deterministic, whole. `test_linter.py` has the rules that dashboard linters check."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from farm.metrics import Metrics
from grafana.generate import DASHBOARDS, FOLDER, find_family, find_names, make_dashboard, names_of_rules
from grafana.panels import Dashboard, Panel, Query

EACH = pytest.mark.parametrize("name", DASHBOARDS)

# Families that no panel shows, and why.
NOT_SHOWN: dict[str, str] = {}

# Figures that are recorded and that no panel asks for, and why.
NOT_ASKED: dict[str, str] = {}


def read(name: str) -> dict[str, Any]:
    """A dashboard as Grafana has it."""
    dashboard: dict[str, Any] = json.loads(make_dashboard(DASHBOARDS[name]))
    return dashboard


def panels_of(name: str) -> list[dict[str, Any]]:
    """Its panels without the headers of rows."""
    return [panel for panel in read(name)["panels"] if panel["type"] != "row"]


@EACH
def test_the_file_is_what_the_generator_makes(name: str) -> None:
    assert (FOLDER / name).read_text() == make_dashboard(DASHBOARDS[name]), "run: make docs"


def test_the_farm_has_five_dashboards_that_lead_to_each_other() -> None:
    assert [read(name)["title"] for name in DASHBOARDS] == [
        "sipfarm: Farm overview",
        "sipfarm: Overlay and churn",
        "sipfarm: SIP traffic and KPIs",
        "sipfarm: Front end",
        "sipfarm: Node",
    ]
    assert len({read(name)["uid"] for name in DASHBOARDS}) == 5
    for name in DASHBOARDS:
        (link,) = read(name)["links"]
        assert link["tags"] == read(name)["tags"] == ["sipfarm"]
        assert (link["includeVars"], link["keepTime"]) == (True, True)


@EACH
def test_panels_are_counted_titled_once_and_described_in_sentences(name: str) -> None:
    everything = read(name)["panels"]
    assert [panel["id"] for panel in everything] == list(range(1, len(everything) + 1))
    titles = [panel["title"] for panel in panels_of(name)]
    assert len(set(titles)) == len(titles)
    for panel in panels_of(name):
        assert panel["description"].endswith("."), panel["title"]
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends) - {""}) == len(legends), panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGHI"[: len(legends)])


@EACH
def test_a_legend_names_only_labels_that_the_query_leaves(name: str) -> None:
    for panel in panels_of(name):
        for target in panel["targets"]:
            asked = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            recorded = re.match(r"([a-z_]+):sipfarm", target["expr"])
            grouped = re.search(r"\bby \(([^)]+)\)", target["expr"])
            if recorded:
                left = set(recorded[1].split("_")) | {"job"}
            elif grouped:
                left = set(re.split(r", ?", grouped[1]))
            elif re.match(r"(sum|min|max|avg|histogram_quantile) ?\(", target["expr"]):
                left = set()
            else:
                left = {"job", "instance"}
            assert asked <= left, f"{panel['title']}: {target['expr']}"


@EACH
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in read(name)["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_metric_is_on_some_panel_or_there_is_a_reason() -> None:
    shown: set[str] = set()
    for name in DASHBOARDS:
        for panel in panels_of(name):
            for target in panel["targets"]:
                shown |= {find_family(found) for found in find_names(target["expr"])}
    for rule in names_of_rules() & shown:
        shown |= sources_of(rule)
    families = {family.name for family in Metrics().families}
    assert families - shown == set(NOT_SHOWN)


def sources_of(rule: str) -> set[str]:
    """The families that a recorded figure is reckoned from, other recorded figures in between."""
    text = (FOLDER.parent.parent / "deploy" / "recording.yml").read_text()
    expression = text.split(f"- record: {rule}\n")[1].split("- record:")[0].split("#")[0]
    found = find_names(expression) - {rule}
    sources = {find_family(name) for name in found}
    for other in found & names_of_rules():
        sources |= sources_of(other)
    return sources


def test_every_figure_that_is_recorded_is_asked_for() -> None:
    asked = {
        found
        for name in DASHBOARDS
        for panel in panels_of(name)
        for target in panel["targets"]
        for found in find_names(target["expr"])
    }
    assert names_of_rules() - asked == set(NOT_ASKED)


@pytest.mark.parametrize("wrong", ["sum(sipfarm_nonsense{@})", "job:sipfarm_ser:ratio_rate9m{^}", "sipfarm_ser{^}"])
def test_what_nobody_counts_or_records_is_refused(wrong: str) -> None:
    panel = Panel("x", "s", "x.", (Query(wrong, "x"),))
    with pytest.raises(ValueError, match=r"no metric .+ in the catalogue: x: "):
        make_dashboard(Dashboard("x", "x", (("x", (panel,)),)))


def test_a_line_of_panels_is_as_high_as_the_highest_and_the_next_begins_below() -> None:
    row = tuple(
        Panel(title, "s", "x.", (), width=width, height=height)
        for title, width, height in (("a", 12, 4), ("b", 12, 8), ("c", 8, 8))
    )
    made = json.loads(make_dashboard(Dashboard("x", "x", (("first", row), ("second", ())))))
    places = {panel["title"]: (panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]}
    assert places == {"first": (0, 0), "a": (0, 1), "b": (12, 1), "c": (0, 9), "second": (0, 17)}
