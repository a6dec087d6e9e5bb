"""The files that make a Grafana show our dashboards, and the Prometheus that fills them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from grafana.generate import DASHBOARDS

ROOT = Path(__file__).parent.parent.parent
PROVISIONING = ROOT / "grafana" / "provisioning"


def test_grafana_finds_every_dashboard_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GF_PATHS_PROVISIONING", str(PROVISIONING))
    content = yaml.safe_load((PROVISIONING / "dashboards" / "sipfarm.yaml").read_text())
    (provider,) = content["providers"]
    folder = Path(os.path.expandvars(provider["options"]["path"]))
    assert {path.name for path in folder.glob("*.json")} == set(DASHBOARDS)


def test_grafana_and_prometheus_agree_where_prometheus_is_and_how_often_it_scrapes() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    assert source["type"] == "prometheus"
    assert source["isDefault"], "the dashboards take the default source"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
