"""The alerts: rules that Prometheus takes, which fire when they should and are quiet when they should be."""

from __future__ import annotations

import json
import math
import re
import subprocess
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from farm.metrics import Metrics
from tests.support.farms import Farm
from tests.support.tools import need

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "alerts.yml"
CASES = [Path(__file__).parent / name for name in ("alerts.yml", "slow_alerts.yml")]
ROLLING = Path(__file__).parent / "rolling_restart.yml"


def promtool(*arguments: str) -> str:
    """What it wrote; it has to be content."""
    need("promtool")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_and_the_configuration_that_names_them_are_right() -> None:
    named = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert len(set(named)) == len(named)
    assert f"{len(named)} rules found" in promtool("check", "rules", str(RULES))
    assert "SUCCESS: 2 rule files found" in promtool("check", "config", str(ROOT / "deploy" / "prometheus.yml"))


def test_each_alert_fires_when_something_is_wrong_and_is_quiet_otherwise() -> None:
    promtool("test", "rules", *map(str, CASES))


def test_each_alert_has_a_case_of_either_kind() -> None:
    """Quiet is a farm beside the one that fires, with the same series, or a moment at which nothing is expected."""
    fires: set[str] = set()
    quiet: set[str] = set()
    for case in [case for path in CASES for case in yaml.safe_load(path.read_text())["tests"]]:
        farms = set(re.findall(r'job="([^"]+)"', str(case["input_series"])))
        for one in case["alert_rule_test"]:
            expected = {alert["exp_labels"].get("job") for alert in one["exp_alerts"]}
            if expected:
                fires.add(one["alertname"])
            if farms - expected:
                quiet.add(one["alertname"])
    named = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert fires == named
    assert quiet == named


def test_what_an_operator_does_to_a_sound_farm_fires_nothing_and_a_crash_one_alert() -> None:
    promtool("test", "rules", str(ROLLING))


def test_a_farm_of_one_node_fires_nothing(tmp_path: Path) -> None:
    """What an overlay alone can have reads 0 there, which is no fault: the figures of a real node, for three hours."""
    farm = Farm(tmp_path)
    try:
        farm.add_node()
        farm.run(1200)  # by then a key of its own seals
        text = farm.nodes[0].node.metrics.render().decode()
    finally:
        farm.close()
    series = [{"series": 'up{job="sipfarm", instance="n1"}', "values": "1x180"}]
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if math.isfinite(sample.value):
                labels = {"job": "sipfarm", "instance": "n1", **sample.labels}
                matchers = ", ".join(f'{name}="{value}"' for name, value in labels.items())
                series.append({"series": f"{sample.name}{{{matchers}}}", "values": f"{sample.value:.0f}x180"})
    firing = [
        {"eval_time": f"{at}m", "expr": 'ALERTS{alertstate="firing"}', "exp_samples": []} for at in (20, 100, 179)
    ]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": firing}]
    cases = tmp_path / "cases.yml"
    cases.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": tests}))
    promtool("test", "rules", str(cases))


def test_alerts_ask_for_metrics_that_there_are() -> None:
    known = {family.name for family in Metrics().families}
    recorded = set(re.findall(r"- record: (\S+)", RULES.with_name("recording.yml").read_text()))
    for name in re.findall(r"[a-z:]*sipfarm_[a-z_]+[a-z0-9_:]*", RULES.read_text()):
        assert re.sub(r"_(bucket|count)$", "", name) in known or name in recorded, name


def test_alerts_ask_for_labels_that_there_are() -> None:
    """A misspelt one matches nothing, and the alert never fires."""
    values = {(family.name, label) for family in Metrics().families for label in family.labels}
    for name, matchers in re.findall(r"(sipfarm_[a-z_]+)\{([^}]*)\}", RULES.read_text()):
        family = re.sub(r"_(bucket|count)$", "", name)
        for label in re.findall(r"(\w+)(?:=|!|~)", matchers):
            assert (family, label) in values, f"{name}: {label}"


def test_alerts_ask_for_label_values_that_there_are() -> None:
    children = {
        (family.name, label): {values[place] for values, _ in family}
        for family in Metrics().families
        for place, label in enumerate(family.labels)
    }
    for name, matchers in re.findall(r"(sipfarm_[a-z_]+)\{([^}]*)\}", RULES.read_text()):
        family = re.sub(r"_(bucket|count)$", "", name)
        for label, text in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', matchers):
            for value in text.split("|"):
                found = [known for known in children[family, label] if re.fullmatch(value, known)]
                assert found, f"{name}: {label}={value}"
