"""The dashboards: up to date, deterministic, and by the rules that dashboard linters check."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grafana.generate import DASHBOARDS, FOLDER, make_dashboard
from grafana.panels import Dashboard, Panel, Query


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_file_is_what_the_generator_makes(name: str) -> None:
    assert (FOLDER / name).read_text() == make_dashboard(DASHBOARDS[name]), "run: make docs"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_unit_description_and_variables(name: str) -> None:
    dashboard: dict[str, Any] = json.loads(make_dashboard(DASHBOARDS[name]))
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "job", "instance"]
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "$datasource"
        assert panel["targets"]
        for target in panel["targets"]:
            assert 'job=~"$job",instance=~"$instance"' in target["expr"]
            assert "rate(" not in target["expr"] or "$__rate_interval" in target["expr"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(make_dashboard(DASHBOARDS[name]))["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_a_metric_that_is_not_in_the_catalogue_is_refused() -> None:
    panel = Panel("x", "s", "x.", (Query("sum(sipfarm_nonsense{@})", "x"),))
    with pytest.raises(ValueError, match="no metric sipfarm_nonsense in the catalogue"):
        make_dashboard(Dashboard("x", "x", (("x", (panel,)),)))
