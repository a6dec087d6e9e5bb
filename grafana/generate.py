"""Makes the dashboards from the metric catalogue: `make docs` writes them, a test keeps them up to date.

The output is deterministic: fixed uid, ids by order, sorted keys. Every panel has a unit and a description, and every
metric it asks for is in the catalogue; `make_dashboard` raises ValueError otherwise.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from farm.metrics import Metrics
from grafana.front_end import FRONT_END
from grafana.overlay_and_churn import OVERLAY_AND_CHURN
from grafana.panels import Dashboard, Panel
from grafana.sip_traffic import SIP_TRAFFIC

FOLDER: Final = Path(__file__).parent / "dashboards"
SELECT: Final = 'job=~"$job",instance=~"$instance"'
_WIDTH: Final = 8
_HEIGHT: Final = 8
_METRIC: Final = re.compile(r"\b(?:sipfarm|process)_[a-z_]+")
_SUFFIXES: Final = ("_bucket", "_sum", "_count")


DASHBOARDS: Final = {
    "front-end.json": FRONT_END,
    "overlay-and-churn.json": OVERLAY_AND_CHURN,
    "sip-traffic.json": SIP_TRAFFIC,
}


def make_dashboard(dashboard: Dashboard) -> str:
    """The JSON that Grafana reads. Raises ValueError when a query asks for what the catalogue lacks."""
    known = {family.name for family in Metrics().families}
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in dashboard.rows:
        grid: dict[str, int] = {"h": 1, "w": 24, "x": 0, "y": top}
        panels.append({"collapsed": False, "gridPos": grid, "id": len(panels) + 1, "title": title, "type": "row"})
        top += 1
        for index, panel in enumerate(row):
            for query in panel.queries:
                _check_query(query.expression, known)
            grid = {"h": _HEIGHT, "w": _WIDTH, "x": index % 3 * _WIDTH, "y": top + index // 3 * _HEIGHT}
            panels.append(_make_panel(panel, len(panels) + 1, grid))
        top += (len(row) + 2) // 3 * _HEIGHT
    content = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["sipfarm"],
        "editable": True,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _make_variables()},
        "panels": panels,
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _make_panel(panel: Panel, number: int, grid: dict[str, int]) -> dict[str, Any]:
    datasource = {"type": "prometheus", "uid": "$datasource"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": datasource,
        "gridPos": grid,
        "fieldConfig": {
            "defaults": {"unit": panel.unit} if panel.signed else {"unit": panel.unit, "min": 0},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": datasource,
                "expr": query.expression.replace("@", SELECT),
                "legendFormat": query.legend,
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _make_variables() -> list[dict[str, Any]]:
    source = {"type": "prometheus", "uid": "$datasource"}
    common: dict[str, Any] = {"datasource": source, "includeAll": True, "multi": True, "refresh": 2, "type": "query"}
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {"name": "job", "label": "Job", "query": "label_values(sipfarm_build_info, job)", **common},
        {
            "name": "instance",
            "label": "Node",
            "query": 'label_values(sipfarm_build_info{job=~"$job"}, instance)',
            **common,
        },
    ]


def _check_query(expression: str, known: set[str]) -> None:
    for name in _METRIC.findall(expression):
        base = next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
        if name not in known and base not in known and not name.startswith("process_"):
            raise ValueError(f"no metric {name} in the catalogue: {expression}")


def main() -> None:
    """Write all dashboards, where provisioning/dashboards/sipfarm.yaml has Grafana look for them."""
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / name).write_text(make_dashboard(dashboard))


if __name__ == "__main__":
    main()
