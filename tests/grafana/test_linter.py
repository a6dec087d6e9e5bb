"""The rules of Grafana's dashboard-linter that apply to us, each under its name, and its exclusions where we differ.

The linter (github.com/grafana/dashboard-linter) is a Go program; these are its rules for Prometheus, written anew: the
panel-… rules are for panels, target-… for each query, template-… for the variables, uneditable for the dashboard. Its
target-logql… rules are for Loki, which we do not ask. `dashboards/.lint` tells the linter itself what is excluded.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.generate import DASHBOARDS, FOLDER, make_dashboard
from tests.support.tools import need

READ: dict[str, dict[str, Any]] = {name: json.loads(make_dashboard(made)) for name, made in DASHBOARDS.items()}
EACH = pytest.mark.parametrize("dashboard", READ.values(), ids=READ)
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}(\[[^\]]*\])?")
# Of grafana-data's value formats, those that we use.
UNITS = {
    "none", "short", "percentunit", "s", "bytes", "Bps", "ops", "reqps", "cps", "dateTimeAsIso", "bool_yes_no",
}  # fmt: skip


def panels_of(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Panels that ask for something."""
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries_of(dashboard: dict[str, Any]) -> Iterator[str]:
    """What is asked, of annotations too."""
    for panel in panels_of(dashboard):
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])


def selectors_of(query: str) -> list[tuple[str, str, str]]:
    """Metric, matchers and range of each selection; all have matchers, or the names would not be counted here."""
    found = SELECTOR.findall(query)
    names = re.findall(r"(?<![\w:\"])((?:[a-z_]+:)?(?:sipfarm|process)_[\w:]+|ALERTS)", re.sub(r'"[^"]*"', '""', query))
    assert [name for name, _, _ in found] == names, query
    return found


@EACH
def test_panel_datasource_rule(dashboard: dict[str, Any]) -> None:
    for panel in panels_of(dashboard):
        assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


@EACH
def test_panel_title_description_rule(dashboard: dict[str, Any]) -> None:
    for panel in panels_of(dashboard):
        assert "" not in (panel["title"], panel["description"]), panel["id"]


@EACH
def test_panel_units_rule(dashboard: dict[str, Any]) -> None:
    for panel in panels_of(dashboard):
        fields = panel["fieldConfig"]
        overrides = [entry["value"] for override in fields["overrides"] for entry in override["properties"]]
        assert {fields["defaults"]["unit"], *overrides} <= UNITS, panel["title"]


@EACH
def test_panel_no_targets_rule(dashboard: dict[str, Any]) -> None:
    assert all(panel["targets"] for panel in panels_of(dashboard))


def test_target_promql_rule(tmp_path: Path) -> None:
    """promtool reads every query; Grafana's variables stand for something that it takes."""
    need("promtool")
    rules = [
        {"record": "x", "expr": query.replace("$__rate_interval", "1m").replace("$job", "a").replace("$instance", "b")}
        for dashboard in READ.values()
        for query in queries_of(dashboard)
    ]
    assert all("$" not in str(rule["expr"]) for rule in rules)
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout


@EACH
def test_target_rate_interval_rule(dashboard: dict[str, Any]) -> None:
    for query in queries_of(dashboard):
        for metric, _, span in selectors_of(query):
            assert span in ("", "[$__rate_interval]"), metric


@EACH
def test_target_job_rule(dashboard: dict[str, Any]) -> None:
    for query in queries_of(dashboard):
        for metric, matchers, _ in selectors_of(query):
            assert 'job=~"$job"' in matchers.split(","), f"{metric}: {query}"


@EACH
def test_target_instance_rule(dashboard: dict[str, Any]) -> None:
    """Excluded: what is recorded for a whole farm, which has no instance."""
    for query in queries_of(dashboard):
        for metric, matchers, _ in selectors_of(query):
            whole = metric == "ALERTS" or (":" in metric and "instance" not in metric.split(":")[0].split("_"))
            assert ('instance=~"$instance"' in matchers.split(",")) != whole, f"{metric}: {query}"


@EACH
def test_target_counter_agg_rule(dashboard: dict[str, Any]) -> None:
    for query in queries_of(dashboard):
        for found in re.finditer(SELECTOR, query):
            if found[1].endswith(("_total", "_bucket", "_count", "_sum")) and ":" not in found[1]:
                before = query[: found.start()]
                assert before.endswith(("rate(", "irate(", "increase(")), query
                assert found[3], query


@EACH
def test_template_datasource_rule(dashboard: dict[str, Any]) -> None:
    (source,) = [one for one in dashboard["templating"]["list"] if one["type"] == "datasource"]
    assert (source["name"], source["label"], source["query"]) == ("datasource", "Data source", "prometheus")


@EACH
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_rule_and_template_instance_rule(dashboard: dict[str, Any], name: str) -> None:
    (variable,) = [one for one in dashboard["templating"]["list"] if one["name"] == name]
    assert variable["datasource"]["uid"] == "$datasource"
    assert variable["type"] == "query"
    assert variable["label"] == name.title()
    assert variable["multi"] is True
    assert variable["allValue"] == ".+"


@EACH
def test_template_label_promql_rule(dashboard: dict[str, Any]) -> None:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            assert re.fullmatch(r'label_values\(sipfarm_build_info(\{job=~"\$job"\})?, \w+\)', variable["query"])


@EACH
def test_template_on_time_change_reload_rule(dashboard: dict[str, Any]) -> None:
    assert all(one["refresh"] == 2 for one in dashboard["templating"]["list"] if one["type"] == "query")


@EACH
def test_uneditable_rule(dashboard: dict[str, Any]) -> None:
    assert dashboard["editable"] is False


def test_the_linter_is_told_of_the_exclusion_for_just_the_panels_that_want_it() -> None:
    excluded = yaml.safe_load((FOLDER / ".lint").read_text())["exclusions"]
    assert set(excluded) == {"target-instance-rule"}
    assert excluded["target-instance-rule"]["reason"]
    told = {(entry["dashboard"], entry["panel"]) for entry in excluded["target-instance-rule"]["entries"]}
    wanted = {
        (dashboard["title"], panel["title"])
        for dashboard in READ.values()
        for panel in panels_of(dashboard)
        for target in panel["targets"]
        if "$instance" not in target["expr"]
    }
    assert told == wanted
