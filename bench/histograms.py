"""Quantiles of a node's own histograms, between two readings of /metrics, over all nodes together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from farm.admin.history import Timed

Buckets = dict[float, float]

_LINE: Final = re.compile(r"^(\w+)_bucket\{(.*)\} (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


def read_buckets(pages: Iterable[str], name: str, labels: Mapping[str, str] | None = None) -> Buckets:
    """The cumulative counts by upper bound of `sipfarm_<name>`, added up over pages and all labels but those given."""
    found: Buckets = {}
    for page in pages:
        for line in page.splitlines():
            match = _LINE.match(line)
            if match is None or match[1] != f"sipfarm_{name}":
                continue
            held = dict(_LABEL.findall(match[2]))
            bound = float(held.pop("le"))
            if all(held.get(label) == value for label, value in (labels or {}).items()):
                found[bound] = found.get(bound, 0.0) + float(match[3])
    return found


def between(before: Buckets, after: Buckets) -> Buckets:
    """What was observed in between."""
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def count_of(buckets: Buckets) -> int:
    """How many observations."""
    return int(max(buckets.values(), default=0.0))


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value below which that share lies, evenly spread within its bucket; the largest bound for what lies above
    all, None when there is nothing."""
    bounds = tuple(sorted(buckets))
    return Timed(bounds, tuple(buckets[bound] for bound in bounds)).quantile(share)
