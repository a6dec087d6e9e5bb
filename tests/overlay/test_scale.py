"""Routing among hundreds of nodes, simulated; `bench.overlay_scale` does the same among thousands."""

from __future__ import annotations

import argparse
import random
from statistics import fmean

import pytest

from bench import overlay_scale
from farm.overlay.ids import PARTITIONS, partition_id, sort_nearest
from tests.support.overlay_scale import Figures, ScaleNetwork, nearest_of


@pytest.fixture(scope="module")
def quiet() -> Figures:
    return ScaleNetwork(300, seed=1).run(60.0, 400)


@pytest.fixture(scope="module")
def busy() -> Figures:
    """Sessions with a median of six minutes."""
    network = ScaleNetwork(300, seed=2, median_session=360.0)
    network.run(30.0, 0)
    return network.run(60.0, 400)


def test_in_a_farm_grown_by_joining_every_owner_is_found_by_lookups_alone(quiet: Figures) -> None:
    assert quiet.success == 1.0
    assert quiet.recall >= 0.99
    assert quiet.hops_quantile(1.0) <= 3
    assert quiet.deaths == quiet.joins == 0


def test_while_half_of_the_farm_goes_within_six_minutes_owners_are_still_found(busy: Figures) -> None:
    assert 20 < busy.deaths < 60
    assert busy.deaths == busy.joins
    assert busy.success >= 0.99
    assert busy.recall >= 0.99
    assert busy.hops_quantile(0.99) <= 3


def test_a_farm_that_churns_refreshes_often_and_a_quiet_one_seldom(quiet: Figures, busy: Figures) -> None:
    assert busy.refresh_interval < 30.0 < 400.0 < quiet.refresh_interval <= 600.0
    assert busy.bytes_per_second("refresh") > 2 * quiet.bytes_per_second("refresh")


def test_those_who_hear_gossip_of_newcomers_know_a_farm_of_200_whole() -> None:
    network = ScaleNetwork(200, seed=3, gossip=True)
    figures = network.run(1.0, 50)
    assert figures.table_contacts == 199
    assert all(network.table_of(node).is_whole for node in network.nodes.values())
    assert set(figures.hops) == {1}


def test_a_farm_too_large_to_be_grown_is_filled_and_found_just_as_well() -> None:
    network = ScaleNetwork(2500, seed=4)
    figures = network.run(1.0, 40)
    assert figures.success == 1.0
    assert figures.hops_quantile(1.0) <= 3
    filled = [node.table for node in network.nodes.values() if node.table is not None]
    assert 40 < len(filled) < 1000
    assert 0.85 < fmean(table.size_estimate() for table in filled) / 2500 < 1.15


def test_the_same_seed_gives_the_same_figures() -> None:
    runs = [ScaleNetwork(60, seed=5, median_session=360.0).run(30.0, 50) for _ in range(2)]
    assert runs[0] == runs[1]


def test_who_should_be_found_is_reckoned_without_any_table() -> None:
    rng = random.Random(6)
    for size in (0, 1, 2, 3, 50):
        nodes = [rng.randbytes(32) for _ in range(size)]
        ids = sorted(int.from_bytes(node, "big") for node in nodes)
        for partition in range(0, PARTITIONS, 97):
            target = partition_id(partition)
            expected = sort_nearest(nodes, target, lambda node: node)[:3]
            assert nearest_of(ids, int.from_bytes(target, "big"), 3) == expected


def test_the_bench_says_what_was_asked_and_what_came_out(
    busy: Figures, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(size: int, session: float | None, options: argparse.Namespace, *, gossip: bool = False) -> Figures:
        return busy

    monkeypatch.setattr(overlay_scale, "measure", measure)
    overlay_scale.main(["--nodes", "1000"])
    printed = capsys.readouterr().out
    assert printed.count("lookup success") == 3
    assert printed.count("≤ 900 B/s") == 1
    assert "pings and their answers           104 B/s" in printed


def test_a_target_that_is_missed_fails_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(size: int, session: float | None, options: argparse.Namespace, *, gossip: bool = False) -> Figures:
        figures = Figures(lookups=100, succeeded=100 if session is None else 98, owners=300, recalled=300)
        figures.hops[1] = 100
        figures.seconds = [0.1] * 100
        return figures

    monkeypatch.setattr(overlay_scale, "measure", measure)
    assert overlay_scale.main(["--nodes", "500"]) == 1
