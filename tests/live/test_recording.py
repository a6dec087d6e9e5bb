"""The recording rules: figures by RFC 6076 with known results, and nothing undefined where nothing was tried."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from farm.metrics import Metrics
from tests.live.test_alerts import ROOT, promtool

RULES = ROOT / "deploy" / "recording.yml"
CASES = Path(__file__).parent / "recording.yml"
NAME = re.compile(
    r"[a-z]+(?:_[a-z]+)*:sipfarm_[a-z_]+:(?:rate5m|sum|max|ratio_rate(?:5m|1h)|mean_rate1h|p(?:50|95)_rate5m)"
)


def names_of_rules() -> list[str]:
    """What the rules record."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["record"] for group in groups for rule in group["rules"]]


def test_prometheus_takes_the_rules() -> None:
    assert f"SUCCESS: {len(names_of_rules())} rules found" in promtool("check", "rules", str(RULES))


def test_known_counts_make_known_figures_and_an_idle_farm_none() -> None:
    promtool("test", "rules", str(CASES))


def test_every_rule_has_a_case() -> None:
    names = names_of_rules()
    assert len(set(names)) == len(names)
    (case,) = yaml.safe_load(CASES.read_text())["tests"]
    asked = {name for test in case["promql_expr_test"] for name in NAME.findall(test["expr"])}
    assert asked == set(names)


def test_names_say_level_metric_and_operation_and_the_level_is_what_is_grouped_by() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert NAME.fullmatch(rule["record"]), rule["record"]
            level = set(rule["record"].split(":")[0].split("_")) | {"job"}
            found = {
                frozenset(re.split(r", ?", by)) - {"le"} for by in re.findall(r"\bby \(([a-z, ]+)\)", rule["expr"])
            }
            assert not found or frozenset(level) in found, rule["record"]


def test_rules_ask_for_metrics_that_there_are() -> None:
    known = {family.name for family in Metrics().families}
    for name in set(re.findall(r"(?<![:a-z])sipfarm_[a-z_]+", "".join(expressions()))):
        assert name in known or re.sub("_(bucket|sum|count)$", "", name) in known, name


def test_the_comments_name_the_sections_of_the_rfc_and_what_is_left_out() -> None:
    text = RULES.read_text()
    for section in ("4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "4.7", "4.8", "4.9"):
        assert re.search(rf"# Section {section}, [^:]+(?:.|\n)+?[Ll]eft out", text), section


def expressions() -> list[str]:
    """What is asked of Prometheus."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]
