"""The benchmark runs, and its figures are of runs in which nothing failed. No figure is a test."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.scrape import SERIES, count_series, make_catalogue
from tests.support.processes import Program
from tests.support.tools import need


@pytest.mark.parametrize("load", ["digest", "call"])
def test_the_benchmark_measures_both_servers(hosts: Callable[[int], list[str]], tmp_path: Path, load: str) -> None:
    need("sipp", "kamailio")
    root = Path(__file__).resolve().parents[2]
    report = tmp_path / "results.json"
    rate = {"digest": "1500", "call": "300"}[load]
    command = [sys.executable, "-m", "bench.run", load, "--rounds", "1", "--seconds", "1", "--rate", rate]
    bench = Program([*command, "--json", str(report), "--hosts", *hosts(3)], tmp_path / "bench.log", directory=root)
    try:
        assert bench.wait(120) == 0, bench.output()
    finally:
        bench.kill()
    (row,) = json.loads(report.read_text())["loads"]
    assert row["load"] == load
    assert row["ratios"]["sipfarm"] > 0
    assert all(one["failed"] == 0 for rounds in row["rounds"].values() for one in rounds)


def test_the_benchmark_measures_farms_of_both_servers(tmp_path: Path) -> None:
    need("sipp", "kamailio", "kamcmd")
    root = Path(__file__).resolve().parents[2]
    report = tmp_path / "results.json"
    report.write_text('{"loads": "of another run"}')
    command = [sys.executable, "-m", "bench.run", "replicated", "latency", "relayed", "--quick", "--rate", "300"]
    bench = Program([*command, "--json", str(report)], tmp_path / "bench.log", directory=root)
    try:
        assert bench.wait(180) == 0, bench.output()
    finally:
        bench.kill()
    results = json.loads(report.read_text())
    (row,) = results["replicated"]
    assert row["ratios"]["sipfarm"] > 0
    assert all(one["failed"] == 0 for rounds in row["rounds"].values() for one in rounds)
    figures = {figure["key"]: figure["value"] for figure in results["figures"]}
    assert 0 < figures["fetch_p50"] <= figures["fetch_p95"] <= figures["fetch_p99"]
    assert 0 < figures["setup_p50"] <= figures["setup_p99"]
    assert figures["relayed_cpu"] > 0
    assert figures["relayed_messages"] >= 6, "INVITE, 180, 200, ACK, BYE and its 200 are relayed"
    assert results["loads"] == "of another run", "what was not measured stays"


def test_the_benchmark_measures_what_a_scrape_costs(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    report = tmp_path / "results.json"
    command = [sys.executable, "-m", "bench.run", "scrape", "--only", "sipfarm", "--quick", "--json", str(report)]
    bench = Program(command, tmp_path / "bench.log", directory=root)
    try:
        assert bench.wait(120) == 0, bench.output()
    finally:
        bench.kill()
    figures = {figure["key"]: figure for figure in json.loads(report.read_text())["figures"]}
    assert figures["scrape_render"]["title"] == f"text of {SERIES:,} series"
    assert count_series(make_catalogue(SERIES).render()) == SERIES
    assert figures["scrape_render"]["value"] > 0
    assert figures["scrape_each"]["value"] > 0
    assert figures["scrape_share"]["target"] == 2.0
