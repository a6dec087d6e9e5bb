"""How a panel of each shape looks to Grafana: its JSON, without what it asks for, which `generate` has checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana.panels import Panel, Query

SOURCE: Final = {"type": "prometheus", "uid": "$datasource"}
_LAST: Final = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def make_panel(panel: Panel, number: int, grid: dict[str, int], expressions: Sequence[str]) -> dict[str, Any]:
    """One panel at its place."""
    defaults: dict[str, Any] = {"unit": panel.unit}
    if not panel.signed:
        defaults["min"] = 0
    made: dict[str, Any] = {
        "id": number,
        "type": panel.shape,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": grid,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
        "targets": [
            _make_target(index, expression, query, panel.shape)
            for index, (expression, query) in enumerate(zip(expressions, panel.queries, strict=True))
        ],
    }
    _SHAPES[panel.shape](panel, made, defaults)
    return made


def _make_target(index: int, expression: str, query: Query, shape: str) -> dict[str, Any]:
    formats = {"heatmap": "heatmap", "table": "table"}
    table = shape == "table"
    return {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "expr": expression,
        "format": formats.get(shape, "time_series"),
        "instant": table,
        "legendFormat": query.legend,
        "range": not table,
    }


def _make_lines(panel: Panel, made: dict[str, Any], defaults: dict[str, Any]) -> None:
    defaults["custom"] = {
        "fillOpacity": 20 if panel.stacked else 5,
        "showPoints": "never",
        "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
    }
    made["options"] = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _make_number(panel: Panel, made: dict[str, Any], defaults: dict[str, Any]) -> None:
    _colour(panel, defaults)
    defaults["noValue"] = "–"
    made["options"] = {
        "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
        "reduceOptions": _LAST, "textMode": "auto", "wideLayout": True,
    }  # fmt: skip


def _make_dial(panel: Panel, made: dict[str, Any], defaults: dict[str, Any]) -> None:
    _colour(panel, defaults)
    defaults["max"] = 1
    defaults["noValue"] = "–"  # no share of nothing, while nobody calls
    made["options"] = {
        "orientation": "auto", "reduceOptions": _LAST, "showThresholdLabels": False, "showThresholdMarkers": True,
    }  # fmt: skip


def _make_heatmap(panel: Panel, made: dict[str, Any], _defaults: dict[str, Any]) -> None:
    made["options"] = {
        "calculate": False,
        "cellGap": 1,
        "color": {"exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "scheme": "Oranges", "steps": 64},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": panel.unit},
    }


def _make_table(panel: Panel, made: dict[str, Any], _defaults: dict[str, Any]) -> None:
    """A row an instance, a column a query; the first query brings the labels, and its value is not shown."""
    letters = [f"Value #{chr(ord('A') + index)}" for index in range(len(panel.queries))]
    renamed = {letter: query.legend for letter, query in zip(letters, panel.queries, strict=True)}
    made["options"] = {"cellHeight": "sm", "showHeader": True}
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True, letters[0]: True}, "renameByName": renamed}},
    ]
    made["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": query.legend},
            "properties": [{"id": "unit", "value": query.unit}],
        }
        for query in panel.queries
        if query.unit
    ]


def _colour(panel: Panel, defaults: dict[str, Any]) -> None:
    defaults["color"] = {"mode": "thresholds"}
    defaults["thresholds"] = {
        "mode": "absolute",
        "steps": [{"color": colour, "value": value} for value, colour in panel.steps],
    }


_SHAPES: Final = {
    "timeseries": _make_lines,
    "stat": _make_number,
    "gauge": _make_dial,
    "heatmap": _make_heatmap,
    "table": _make_table,
}
