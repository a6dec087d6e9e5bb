"""The alerts: rules that Prometheus takes, which fire when they should and are quiet when they should be."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from farm.metrics import Metrics
from tests.support.tools import need

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "alerts.yml"


def promtool(*arguments: str) -> str:
    """What it wrote; it has to be content."""
    need("promtool")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_and_the_configuration_that_names_them_are_right() -> None:
    assert "14 rules found" in promtool("check", "rules", str(RULES))
    assert "SUCCESS: 1 rule files found" in promtool("check", "config", str(ROOT / "deploy" / "prometheus.yml"))


def test_each_alert_fires_when_something_is_wrong_and_is_quiet_otherwise() -> None:
    promtool("test", "rules", str(Path(__file__).parent / "alerts.yml"))
    named = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = set(re.findall(r"alertname: (\w+)", (Path(__file__).parent / "alerts.yml").read_text()))
    assert set(named) == tested


def test_alerts_ask_for_metrics_that_there_are() -> None:
    known = {family.name for family in Metrics().families}
    for name in re.findall(r"sipfarm_[a-z_]+", RULES.read_text()):
        assert name.removesuffix("_bucket") in known, name
