"""What `sipfarm top` shows: the farm as one node sees it (`Control.show_overview`), as something that rich can draw.

Told an overview, it answers a picture; it asks nobody and knows no time. Values that a node does not tell, an older one
say, are left out. Colours repeat what words say already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from farm.admin.control import Answer
from farm.admin.overlay_cli import describe_replicas, make_duration

BARS: Final = "▁▂▃▄▅▆▇█"
_MOST_MEMBERS: Final = 40
_CALM: Final = "alive"
_STYLES: Final = {"alive": "green", "suspect": "yellow", "joining": "cyan", "dead": "red", "left": "dim"}
_PLOTS: Final = (
    ("churn", "nodes that came or went", ""),
    ("lookup_p50", "lookup, half within", "s"),
    ("lookup_p99", "lookup, 99 % within", "s"),
    ("registrations", "registrations a second", ""),
    ("calls", "calls a second", ""),
)


def draw(overview: Answer, problem: str, width: int) -> Any:
    """A picture of an overview, {} when there was none yet; `problem` is why there is no newer one, "" when there is.
    `width` is that of the terminal, in characters."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    if problem:
        parts.append(Text(f"{problem}; trying again", style="bold red"))
    if overview:
        parts.append(_draw_head(overview))
        parts += [Text(f"problem: {each}", style="red") for each in _list(overview, "problems")]
        parts += [Text(line) for line in _make_figures(overview)]
        if overview.get("members"):
            parts += [Text(""), _draw_members(_dicts(overview, "members"))]
        parts += _draw_plots(overview, max(width - 45, 10))
    return Group(*parts)


def make_sparkline(values: Sequence[float | None], width: int) -> str:
    """Values as a line of bars, the greatest of neighbours where there are more than fit; a blank for None."""
    if len(values) > width:
        step = len(values) / width
        values = [_find_greatest(values[int(at * step) : int((at + 1) * step)]) for at in range(width)]
    top = _find_greatest(values) or 0.0
    return "".join(" " if value is None else _bar(value, top) for value in values)


def _bar(value: float, top: float) -> str:
    return BARS[min(round(value / top * (len(BARS) - 1)), len(BARS) - 1)] if top > 0 else BARS[0]


def _find_greatest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _draw_head(overview: Answer) -> Any:
    from rich.text import Text

    words = [f"{overview.get('overlay') or 'a node alone'}, seen by {overview.get('name')}"]
    state = str(overview.get("state", ""))
    if state and state != "alone":
        words.append(state)
    if overview.get("draining"):
        words.append(f"draining, {_percent(overview.get('handed_over'))} handed over")
    elif not overview.get("synchronised", True):
        words.append(f"{_percent(overview.get('progress'))} in step")
    ready = bool(overview.get("ready"))
    words.append("takes traffic" if ready else "takes no traffic")
    words.append(f"up {make_duration(_number(overview.get('uptime')))}")
    words.append(f"version {overview.get('version')}")
    return Text(" · ".join(words), style="bold" if ready else "bold yellow")


def _make_figures(overview: Answer) -> list[str]:
    rates = _mapping(overview.get("rates"))
    missing = _mapping(overview.get("underreplicated"))
    partitions = _mapping(overview.get("partitions"))
    figures = (
        f"registrations {_count(overview.get('registrations'))}, {_rate(rates, 'registrations')} a second",
        f"calls {_count(overview.get('calls'))}, {_rate(rates, 'calls')} a second",
        f"requests {_rate(rates, 'requests')} a second, {_count(overview.get('transactions'))} under way",
    )
    lines = ["   ".join(figures)]
    if partitions:
        lacking = ", ".join(f"{value} lack {key}" for key, value in missing.items() if value)
        lines.append(
            f"partitions {partitions.get('owned')} of {partitions.get('all')} here, {lacking or 'none lacks a copy'}"
        )
    replicas = _mapping(overview.get("replicas"))
    if _number(replicas.get("possible")) < _number(replicas.get("wanted")):
        lines.append(f"copies {describe_replicas(dict(replicas))}")
    return lines


def _draw_members(members: Sequence[Answer]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("node", "zone", "roles", "state", "since"):
        table.add_column(name, no_wrap=True)
    for name in ("rtt", "load"):
        table.add_column(name, no_wrap=True, justify="right")
    ordered = sorted(members, key=lambda member: (not member.get("self"), _place(str(member.get("name")))))
    for member in ordered[:_MOST_MEMBERS]:
        state = str(member.get("state"))
        rtt, load = member.get("rtt"), member.get("load")
        table.add_row(
            f"{member.get('name')}{' *' if member.get('self') else ''}",
            str(member.get("zone") or "-"),
            ",".join(map(str, _list(member, "roles"))),
            f"{state}, draining" if member.get("draining") and state != "left" else state,
            make_duration(_number(member.get("since"))),
            f"{rtt * 1000:.2f} ms" if isinstance(rtt, (int, float)) else "-",
            f"{load} %" if isinstance(load, (int, float)) else "-",
            style=None if state == _CALM and not member.get("draining") else _STYLES.get(state, "yellow"),
        )
    if len(ordered) > _MOST_MEMBERS:
        table.add_row(f"and {len(ordered) - _MOST_MEMBERS} more")
    return table


def _place(name: str) -> tuple[int, str]:
    """n2 before n10."""
    return len(name), name


def _draw_plots(overview: Answer, width: int) -> list[Any]:
    from rich.text import Text

    history = _mapping(overview.get("history"))
    lines: list[Any] = []
    for key, title, unit in _PLOTS:
        values = history.get(key)
        if not isinstance(values, list) or not any(value is not None for value in values):
            continue
        known = [float(value) for value in values if value is not None]
        lines.append(Text(f"{title:24} {make_sparkline(values, width)} {_figure(known[-1], unit)}", no_wrap=True))
    if lines:
        seconds = _number(history.get("seconds_each")) * max(len(v) for v in history.values() if isinstance(v, list))
        lines.insert(0, Text(f"\nlast {make_duration(seconds)}", style="bold"))
    return lines


def _figure(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}"


def _rate(rates: Mapping[str, object], name: str) -> str:
    return f"{_number(rates.get(f'{name}_per_second')):,.1f}"


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _percent(value: object) -> str:
    return f"{_number(value):.0%}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(answer: Answer, name: str) -> list[Answer]:
    return [entry for entry in _list(answer, name) if isinstance(entry, dict)]


def _list(answer: Answer, name: str) -> list[object]:
    value = answer.get(name)
    return value if isinstance(value, list) else []
