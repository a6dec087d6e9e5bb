"""Every panel shows something, and every figure is recorded: a real Prometheus scrapes a real farm under load, and each
query is asked of it."""

from __future__ import annotations

import json
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafana.generate import DASHBOARDS, RULES, make_dashboard, names_of_rules
from tests.live.test_demo import Demo
from tests.support.agents import Agent
from tests.support.processes import Program, wait_until
from tests.support.sipp import Sipp, describe, write_users
from tests.support.tools import need

Hosts = Callable[[int], list[str]]

USERS = 20
CALLS_PER_SECOND = 10
LOAD_SECONDS = 25

# What the first node has beside the demo's file: a gateway with an address and one with a name, both asked each second.
# The name server is the farm's own, which answers each question for the name with REFUSED.
GATEWAYS = """\
[resolver]
servers = ["127.0.0.12:5353"]
[[gateways]]
prefix = "+49"
to = ["sip:127.0.0.13:5060", "sip:gateway.example.net"]
probe_seconds = 1
"""
# What has no number in this farm, by title and legend, and why.
EMPTY = {
    ("Lookups that messages wait for", "{{le}}"): "shown as soon as there is one; all nodes know each other here",
}


class Prometheus(Program):
    """A Prometheus that scrapes these addresses each second, with our recording rules."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        need("prometheus")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        config = folder / "prometheus.yml"
        job = {"job_name": "sipfarm", "static_configs": [{"targets": targets}]}
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config.write_text(json.dumps({"global": every, "rule_files": [str(RULES)], "scrape_configs": [job]}))
        super().__init__(
            [
                shutil.which("prometheus") or "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
            ],
            folder / "prometheus.log",
        )

    def ask(self, query: str) -> list[float]:
        """The values that a query answers with, NaN left out: what is not a number shows nothing."""
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
        return [float(one["value"][1]) for one in series if one["value"][1] != "NaN"]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    drop_ins = tmp_path / "farm" / "n1" / "conf.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "gateways.toml").write_text(GATEWAYS)
    program = Demo(tmp_path, "--open")
    try:
        yield program
    finally:
        program.stop()


@pytest.fixture
def prometheus(tmp_path: Path, demo: Demo) -> Iterator[Prometheus]:
    program = Prometheus(tmp_path, [f"{node['host']}:{node['http_port']}" for node in demo.farm()])
    try:
        yield program
    finally:
        program.stop()


def test_every_query_of_every_panel_and_every_rule_has_an_answer(
    demo: Demo, prometheus: Prometheus, hosts: Hosts, tmp_path: Path
) -> None:
    need("sipp")
    counted = "count(count_over_time(sipfarm_build_info[30s]) >= 4)"  # a rate wants more than one scrape
    wait_until(lambda: prometheus.ask(counted) == [3], 30, "all nodes are scraped")
    series = 'count by (instance) ({job="sipfarm",instance!="",__name__!~".+:.+"})'  # without what is recorded
    before = prometheus.ask(series)
    call_and_register(demo, hosts, tmp_path)
    assert prometheus.ask(series) == before, "strangers have added series"
    assert max(before) <= 2000
    empty = {}
    for dashboard in DASHBOARDS.values():
        for panel in json.loads(make_dashboard(dashboard))["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$__rate_interval", "1m")
                query = query.replace("$job", ".+").replace("$instance", ".+")
                if not prometheus.ask(query):
                    empty[panel["title"], target["legendFormat"]] = query
    assert {place: query for place, query in empty.items() if place not in EMPTY} == {}
    assert [rule for rule in sorted(names_of_rules()) if not prometheus.ask(rule)] == []
    assert prometheus.ask("job:sipfarm_nodes_alive:max") == [3]
    assert prometheus.ask("job:sipfarm_nodes_up:sum") == [3]
    held = "round(job:sipfarm_registrations:sum)"
    wait_until(lambda: prometheus.ask(held) == [USERS], 10, "the last removal is scraped and reckoned with")
    records = 'sum(sipfarm_records{kind="registration",role="%s"})'
    assert prometheus.ask(records % "owner") == [USERS + 1], "each once, and bob's, whose removal is remembered"
    assert prometheus.ask(records % "replica") == [2 * (USERS + 1)]
    assert prometheus.ask(records % "guest") == [0]
    (ser,), (seer,) = prometheus.ask("job:sipfarm_ser:ratio_rate5m"), prometheus.ask("job:sipfarm_seer:ratio_rate5m")
    assert 0.5 < ser < seer < 1, "all but some calls were answered, and some found nobody at home"
    assert prometheus.ask("min(sipfarm_sync_progress_ratio) == 1")
    assert prometheus.ask("min(sipfarm_certificate_expiry_seconds) > 0")


def call_and_register(demo: Demo, hosts: Hosts, folder: Path) -> None:
    """Load: phones that register over and over, calls that succeed, are refused, or go nowhere."""
    targets = [(str(node["host"]), 5060) for node in demo.farm()]
    callee_host, caller_host, refresh_host, alice_host, bob_host = hosts(5)
    users = write_users(folder / "users.csv", USERS, f"sip:{{user}}@{callee_host}:5060")
    phones = Sipp("register.xml", targets[0], (callee_host, 5060), folder, calls=USERS, rate=50, users=users)
    try:
        assert phones.wait(30) == 0, describe([phones])
    finally:
        phones.kill()
    calls = CALLS_PER_SECOND * LOAD_SECONDS
    callee = Sipp("callee.xml", targets[1], (callee_host, 5060), folder)
    caller = Sipp(
        "caller.xml", targets[1], (caller_host, 5060), folder, calls=calls, rate=CALLS_PER_SECOND, users=users
    )
    refresh = Sipp(
        "register.xml", targets[2], (refresh_host, 5060), folder, calls=calls, rate=CALLS_PER_SECOND, users=users
    )
    sides = [caller, refresh, callee]
    try:
        with (
            Agent(targets[1], host=alice_host, user="alice") as alice,
            Agent(targets[2], host=bob_host, user="bob") as bob,
        ):
            assert bob.register().status == 200
            while caller.running():
                busy = alice.make_request("INVITE", bob.aor)
                alice.send_request(busy)
                bob.answer(bob.expect("INVITE"), 486, "Busy Here")
                alice.acknowledge(busy, alice.expect(486, final=True))
                nobody = alice.make_request("INVITE", "sip:nobody@example.com")
                alice.send_request(nobody)
                alice.acknowledge(nobody, alice.expect(404, final=True))
                time.sleep(0.5)
            assert bob.register(expires=0).status == 200
        assert [caller.wait(60), refresh.wait(60)] == [0, 0], describe(sides)
    finally:
        for side in sides:
            side.kill()
