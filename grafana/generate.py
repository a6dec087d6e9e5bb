"""Makes the dashboards from the metric catalogue: `make docs` writes them, a test keeps them up to date.

The output is deterministic: fixed uid, ids by order, sorted keys. Every panel has a unit and a description. Each metric
that it asks for is in the catalogue, or recorded by deploy/recording.yml; `make_dashboard` raises ValueError otherwise.
How a panel of each shape looks to Grafana is in `shapes`.

Decided: no panel can be changed in Grafana (`editable` false, as dashboard-linter wants it): the next `make docs` would
undo the change. Whoever wants another one copies the dashboard there, or changes the source here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from farm.metrics import Metrics
from grafana.farm_overview import FARM_OVERVIEW
from grafana.front_end import FRONT_END
from grafana.node import NODE
from grafana.overlay_and_churn import OVERLAY_AND_CHURN
from grafana.panels import Dashboard, Panel
from grafana.shapes import SOURCE, make_panel
from grafana.sip_traffic import SIP_TRAFFIC

FOLDER: Final = Path(__file__).parent / "dashboards"
RULES: Final = Path(__file__).parent.parent / "deploy" / "recording.yml"
SELECT: Final = 'job=~"$job",instance=~"$instance"'
SELECT_FARM: Final = 'job=~"$job"'
_WIDTH: Final = 24
_NAME: Final = re.compile(r"(?:[a-z_]+:)?\b(?:sipfarm|process)_[a-z_]+(?::[a-z0-9_]+)?")
_SUFFIXES: Final = ("_bucket", "_sum", "_count")

DASHBOARDS: Final = {
    "farm-overview.json": FARM_OVERVIEW,
    "overlay-and-churn.json": OVERLAY_AND_CHURN,
    "sip-traffic.json": SIP_TRAFFIC,
    "front-end.json": FRONT_END,
    "node.json": NODE,
}


def make_dashboard(dashboard: Dashboard) -> str:
    """The JSON that Grafana reads. Raises ValueError when a query asks for what nobody counts or records."""
    known = {family.name for family in Metrics().families} | names_of_rules()
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in dashboard.rows:
        grid: dict[str, int] = {"h": 1, "w": _WIDTH, "x": 0, "y": top}
        header = {"collapsed": False, "gridPos": grid, "id": len(panels) + 1, "panels": [], "title": title}
        panels.append({**header, "type": "row"})
        top += 1
        left = tallest = 0
        for panel in row:
            if left + panel.width > _WIDTH:
                top, left, tallest = top + tallest, 0, 0
            grid = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            panels.append(
                make_panel(
                    panel, len(panels) + 1, grid, [_write(panel, query.expression, known) for query in panel.queries]
                )
            )
            left += panel.width
            tallest = max(tallest, panel.height)
        top += tallest
    content = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["sipfarm"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [_make_links()],
        "annotations": {"list": _make_annotations()},
        "templating": {"list": _make_variables()},
        "panels": panels,
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def names_of_rules() -> set[str]:
    """What deploy/recording.yml records."""
    return set(re.findall(r"- record: (\S+)", RULES.read_text(encoding="utf-8")))


def find_names(expression: str) -> set[str]:
    """The metrics and recorded figures that a query asks for."""
    return set(_NAME.findall(expression))


def find_family(name: str) -> str:
    """The family that a series belongs to: a histogram has several."""
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def _write(panel: Panel, expression: str, known: set[str]) -> str:
    for name in find_names(expression):
        if name not in known and find_family(name) not in known and not name.startswith("process_"):
            raise ValueError(f"no metric {name} in the catalogue: {panel.title}: {expression}")
    return expression.replace("@", SELECT).replace("^", SELECT_FARM)


def _make_links() -> dict[str, Any]:
    """To the other dashboards, with the same farm, nodes and time."""
    return {
        "type": "dashboards", "tags": ["sipfarm"], "title": "sipfarm", "asDropdown": False, "includeVars": True,
        "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
    }  # fmt: skip


def _make_annotations() -> list[dict[str, Any]]:
    """Lines across all panels, where a node was given up and where one was started."""
    deaths = (
        f'sum by (job) (increase(sipfarm_membership_transitions_total{{{SELECT},to="dead"}}[$__rate_interval])) > 0'
    )
    starts = f"changes(process_start_time_seconds{{{SELECT}}}[$__rate_interval]) > 0"
    return [
        {
            "name": name, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": colour, "expr": expression,
            "step": "30s", "titleFormat": title, "textFormat": text, "tagKeys": "", "useValueForTime": False,
        }
        for name, colour, expression, title, text in (
            ("Deaths", "red", deaths, "A node is dead", "as seen in {{job}}"),
            ("Starts", "blue", starts, "{{instance}} was started", "{{job}}"),
        )
    ]  # fmt: skip


def _make_variables() -> list[dict[str, Any]]:
    every = {"selected": True, "text": ["All"], "value": ["$__all"]}
    common: dict[str, Any] = {
        "datasource": SOURCE, "includeAll": True, "allValue": ".+", "current": every, "multi": True, "refresh": 2,
        "sort": 1, "type": "query", "hide": 0,
    }  # fmt: skip
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0},
        {"name": "job", "label": "Job", "query": "label_values(sipfarm_build_info, job)", **common},
        {
            "name": "instance",
            "label": "Instance",
            "query": 'label_values(sipfarm_build_info{job=~"$job"}, instance)',
            **common,
        },
    ]


def make_exclusions() -> str:
    """What dashboard-linter reads beside the dashboards: the panels that ask for figures of a whole farm."""
    entries = [
        {"dashboard": dashboard.title, "panel": panel.title}
        for dashboard in DASHBOARDS.values()
        for _, row in dashboard.rows
        for panel in row
        if any("@" not in query.expression for query in panel.queries)
    ]
    reason = "They ask for what is recorded for a whole farm, which has no instance."
    return json.dumps({"exclusions": {"target-instance-rule": {"reason": reason, "entries": entries}}}, indent=1) + "\n"


def main() -> None:
    """Write all dashboards, where provisioning/dashboards/sipfarm.yaml has Grafana look for them."""
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / name).write_text(make_dashboard(dashboard))
    (FOLDER / ".lint").write_text(make_exclusions())


if __name__ == "__main__":
    main()
