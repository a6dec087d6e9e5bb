"""Every panel shows something: a real Prometheus scrapes a real farm, and each query is asked of it."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafana.generate import DASHBOARDS, make_dashboard
from tests.live.test_demo import Demo
from tests.support.processes import Program, wait_until
from tests.support.tools import need

EMPTY = frozenset(("gateways down",))  # a farm without gateways has none that are down


class Prometheus(Program):
    """A Prometheus that scrapes these addresses each second."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        need("prometheus")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        config = folder / "prometheus.yml"
        job = {"job_name": "sipfarm", "static_configs": [{"targets": targets}]}
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        super().__init__(
            [
                shutil.which("prometheus") or "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
            ],
            folder / "prometheus.log",
        )

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series that a query answers with."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                series: list[dict[str, Any]] = json.load(reply)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it has only just begun
                return []
            pytest.fail(f"{query}: {error.read().decode()}")
        except OSError:
            return []
        return series


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    demo = Demo(tmp_path, "--users", "1")
    try:
        nodes = demo.farm()
        program = Prometheus(tmp_path, [f"{node['host']}:{node['http_port']}" for node in nodes])
        try:
            yield program
        finally:
            program.stop()
    finally:
        demo.stop()


def test_every_query_of_every_panel_has_an_answer(prometheus: Prometheus) -> None:
    counted = "count(count_over_time(sipfarm_build_info[30s]) >= 4)"  # a rate wants more than one scrape
    wait_until(lambda: [one["value"][1] for one in prometheus.ask(counted)] == ["3"], 30, "all nodes are scraped")
    empty = set()
    for dashboard in DASHBOARDS.values():
        for panel in json.loads(make_dashboard(dashboard))["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$__rate_interval", "30s")
                query = query.replace("$job", ".+").replace("$instance", ".+")
                if not prometheus.ask(query):
                    empty.add(target["legendFormat"])
    assert empty == EMPTY
    assert prometheus.ask('max(sipfarm_members{state="alive"}) == 3')
    assert prometheus.ask("min(sipfarm_sync_progress_ratio) == 1")
    assert prometheus.ask("min(sipfarm_certificate_expiry_seconds) > 0")
