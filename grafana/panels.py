"""What dashboards are made of, and the forms that most panels and queries have.

In a query `@` stands for the selection by job and instance, and `^` for that by job alone: what is recorded for a farm
as a whole (`job:…` of deploy/recording.yml) has no instance. A figure that is recorded is asked by its name, so that
dashboards, alerts and reports say the same; times are asked as they are where the nodes that are chosen matter, since
quantiles of several nodes cannot be put together from recorded ones.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# Colours from a value on, beginning with what is below all of them.
Steps = tuple[tuple[float | None, str], ...]

ALWAYS_FINE: Final[Steps] = ((None, "blue"),)
FINE_AT_ZERO: Final[Steps] = ((None, "green"), (0.5, "orange"))
BAD_ABOVE_ZERO: Final[Steps] = ((None, "green"), (0.5, "red"))
FINE_AT_ONE: Final[Steps] = ((None, "red"), (1.0, "green"))


class Query(NamedTuple):
    """One line of a panel: PromQL, and its legend; in a table, the name of a column and Grafana's name of its unit."""

    expression: str
    legend: str
    unit: str = ""


class Panel(NamedTuple):
    """One picture. `unit` is Grafana's name of it; `signed` says that values may be negative. `shape` is Grafana's type
    of panel: timeseries, stat, gauge, heatmap or table. A dashboard is 24 wide."""

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]
    signed: bool = False
    shape: str = "timeseries"
    width: int = 8
    height: int = 8
    steps: Steps = ALWAYS_FINE
    stacked: bool = False


class Dashboard(NamedTuple):
    """A file of its own: rows of panels under titles."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def rate(metric: str, labels: str = "", by: str = "") -> str:
    """The sum of a counter's rates over the instances."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{@{',' + labels if labels else ''}}}[$__rate_interval]))"


def quantile(share: float, metric: str, labels: str = "", by: str = "") -> str:
    """A quantile of a histogram over the instances."""
    return f"histogram_quantile({share:g}, {rate(metric + '_bucket', labels, f'{by},le' if by else 'le')})"


def quantiles(metric: str, labels: str = "") -> tuple[Query, ...]:
    """The three that most panels show."""
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    return tuple(Query(quantile(share, metric, labels), legend) for share, legend in shares)


def make_stat(
    title: str, unit: str, description: str, expression: str, steps: Steps = ALWAYS_FINE, legend: str = "{{job}}"
) -> Panel:
    """One number, large, with its last hour behind it."""
    queries = (Query(expression, legend),)
    return Panel(title, unit, description, queries, shape="stat", width=4, height=4, steps=steps)


def make_gauge(title: str, description: str, expression: str, steps: Steps, legend: str = "{{job}}") -> Panel:
    """A share, 0 to 1, on a dial."""
    queries = (Query(expression, legend),)
    return Panel(title, "percentunit", description, queries, shape="gauge", width=4, height=4, steps=steps)


def make_heatmap(title: str, description: str, metric: str, labels: str = "") -> Panel:
    """A histogram over time: how many, how long."""
    expression = rate(metric + "_bucket", labels, "le")
    return Panel(title, "s", description, (Query(expression, "{{le}}"),), shape="heatmap")
