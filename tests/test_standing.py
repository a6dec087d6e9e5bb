"""What alerts are told of a node as a whole."""

from __future__ import annotations

from pathlib import Path

from farm.config import Config
from farm.metrics import Metrics
from farm.standing import show_standing
from tests.support.counts import read
from tests.support.farms import Farm, make_config


class Standing:
    """A node, and what it says of itself."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.draining = False
        self.found: list[str] = []

    def ready(self) -> bool:
        return not self.draining

    def problems(self) -> list[str]:
        return self.found


def test_the_gauges_say_what_holds_when_they_are_read(tmp_path: Path) -> None:
    metrics = Metrics()
    node = Standing(make_config("n1", "192.0.2.1", tmp_path))
    show_standing(metrics, node, node)
    gauges = (metrics.ready, metrics.draining, metrics.problems)
    assert [read(gauge.child()) for gauge in gauges] == [1, 0, 0]
    node.draining = True
    node.found = ["gateway sip:192.0.2.77 does not answer", "the journal cannot be written: disk full"]
    assert [read(gauge.child()) for gauge in gauges] == [0, 1, 2]


def test_limits_are_those_of_the_configuration_also_after_a_reload(tmp_path: Path) -> None:
    metrics = Metrics()
    limits = {"transactions": 20, "connections": 30}
    node = Standing(make_config("n1", "192.0.2.1", tmp_path, store={"most_records": 10}, limits=limits))
    show_standing(metrics, node, node)
    assert {of: read(child) for (of,), child in metrics.limits} == {"records": 10, **limits}
    node.config = make_config("n1", "192.0.2.1", tmp_path, limits={"transactions": 21})
    assert read(metrics.limits.child("transactions")) == 21


def test_a_node_shows_that_it_is_drained_and_which_settings_wait(tmp_path: Path) -> None:
    farm = Farm(tmp_path)
    try:
        node = farm.add_node()
        metrics = node.node.metrics
        assert [read(family.child()) for family in (metrics.ready, metrics.draining)] == [1, 0]
        node.node.drain()
        assert [read(family.child()) for family in (metrics.ready, metrics.draining)] == [0, 1]
        node.node.undrain()
        before = node.node.config
        node.node.reload(make_config("n1", "192.0.2.7", tmp_path))
        assert read(metrics.settings_waiting.child()) >= 1
        node.node.reload(before)
        assert read(metrics.settings_waiting.child()) == 0
    finally:
        farm.close()
