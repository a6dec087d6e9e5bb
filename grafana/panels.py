"""What dashboards are made of, and the two forms that most queries have."""

from __future__ import annotations

from typing import NamedTuple


class Query(NamedTuple):
    """One line of a panel: PromQL, in which `@` stands for the selection by job and instance, and its legend."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One graph. `unit` is Grafana's name of it; `signed` says that values may be negative."""

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]
    signed: bool = False


class Dashboard(NamedTuple):
    """A file of its own: rows of panels under titles."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def rate(metric: str, labels: str = "", by: str = "") -> str:
    """The sum of a counter's rates over the instances."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{@{',' + labels if labels else ''}}}[$__rate_interval]))"


def quantile(share: float, metric: str, labels: str = "") -> str:
    """A quantile of a histogram over the instances."""
    return f"histogram_quantile({share:g}, {rate(metric + '_bucket', labels, 'le')})"
