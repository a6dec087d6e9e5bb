"""How a node stands, in figures that alerts can be made of: whether it serves, is drained, knows of something wrong,
and how much it may hold.

Part of the composition root: `sipfarm status` says the same in words (`reports`), and what is near a limit is told
apart from what is small only by showing the limit beside it. Read when Prometheus asks, never kept up to date.

Decided: problems are counted and not named. Their sentences have addresses and names in them, which are no labels, and
whoever is woken asks `sipfarm status` next anyway.
"""

from __future__ import annotations

from typing import Protocol

from farm.config import Config
from farm.metrics import Metrics


class Reports(Protocol):
    """What the node says of itself."""

    def ready(self) -> bool:
        """Whether traffic may be sent here."""

    def problems(self) -> list[str]:
        """What is wrong at present."""


class Running(Protocol):
    """The node. Its `config` is another one after a reload."""

    config: Config

    @property
    def draining(self) -> bool:
        """Whether it is being drained."""


def show_standing(metrics: Metrics, reports: Reports, node: Running) -> None:
    """Have the gauges ask the node when they are read."""
    metrics.ready.child().set_function(lambda: float(reports.ready()))
    metrics.draining.child().set_function(lambda: float(node.draining))
    metrics.problems.child().set_function(lambda: float(len(reports.problems())))
    metrics.limits.child("records").set_function(lambda: float(node.config.store.most_records))
    metrics.limits.child("transactions").set_function(lambda: float(node.config.limits.transactions))
    metrics.limits.child("connections").set_function(lambda: float(node.config.limits.connections))
