"""Makes `metrics.md` from the metric catalogue and the recording rules: `make docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from farm.metrics import Metrics
from farm.series import Family

RULES: Final = Path(__file__).parent.parent / "deploy" / "recording.yml"
_MOST_WORDS: Final = 12  # of a label that are spelt out; the log has them all

HEAD: Final = """\
# Metrics

What a node tells Prometheus at `/metrics`, and what [deploy/recording.yml](../deploy/recording.yml) makes of it. Units
are base units: seconds, bytes, shares of 1. All series exist from the start, at most 2,000 of a node, and no label has
a value that a stranger makes up: what is not foreseen counts as `other`. The process's own figures come with them:
`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds` and so on.

The [dashboards](../grafana/dashboards) show all of these, and the [alerts](../deploy/alerts.yml) watch them.
"""

RECORDED: Final = """
## Recorded figures

By RFC 6076 where it has one. Shares and times are absent while there is nothing to make them of. The rules themselves
say how each is reckoned and what it leaves out.

| name | what it is |
|---|---|
"""


def make_page() -> str:
    """The whole page."""
    rows = [
        f"\n## {title}\n\n| name | labels | meaning |\n|---|---|---|\n{''.join(map(_make_row, families))}"
        for title, families in _group(Metrics())
    ]
    recorded = "".join(
        f"| {', '.join(f'`{name}`' for name in names)} | {meaning} |\n" for meaning, names in read_rules()
    )
    return HEAD + "".join(rows) + RECORDED + recorded


def _group(metrics: Metrics) -> Iterator[tuple[str, list[Family[Any]]]]:
    """Families by their type, in the order of the catalogue."""
    titles = {"counter": "Counters", "gauge": "Gauges", "histogram": "Histograms"}
    for kind, title in titles.items():
        yield title, [family for family in metrics.families if family.kind == kind]


def _make_row(family: Family[Any]) -> str:
    values: list[dict[str, None]] = [{} for _ in family.labels]
    for labels, _ in family:
        for known, value in zip(values, labels, strict=True):
            known[value] = None
    described = [f"`{label}`: {_spell(list(known))}" for label, known in zip(family.labels, values, strict=True)]
    return f"| `{family.name}` | {'; '.join(described)} | {family.meaning} |\n"


def _spell(words: list[str]) -> str:
    if not words:
        return "from the configuration"
    more = f" and {len(words) - _MOST_WORDS} more" if len(words) > _MOST_WORDS else ""
    return ", ".join(words[:_MOST_WORDS]) + more


def read_rules() -> Iterator[tuple[str, list[str]]]:
    """The first sentence of each comment above rules, with what these record."""
    found: dict[str, list[str]] = {}
    comment: list[str] = []
    fresh = True
    for line in RULES.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("# "):
            comment = [text[2:]] if fresh else [*comment, text[2:]]
            fresh = False
            continue
        fresh = True
        if text.startswith("- record: "):
            found.setdefault(_first_sentence(" ".join(comment)), []).append(text.removeprefix("- record: "))
        elif text.startswith("- name: "):
            comment = []
    yield from found.items()


def _first_sentence(text: str) -> str:
    """Up to the formula, or to the first full stop that ends a sentence."""
    return re.split(r"(?<=[a-z0-9)])[.:;] (?=[A-Z ])", text)[0].rstrip(".:") + "."


if __name__ == "__main__":
    print(make_page(), end="")
