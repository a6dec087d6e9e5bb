"""What this node holds, by its part in it, for the metric `records`.

The first of a partition's owners counts its records as "owner", so that over all nodes each record counts once: the sum
is how many the farm has, however many replicas. The others count theirs as "replica", and so does everybody what every
node holds. Who holds a partition without being one of its owners, since it has just lost it or stood in for somebody,
counts it as "guest" until it is handed over.

Decided: counted from the cells when somebody asks, at most once a second, which costs a third of a millisecond for each
kind in a full store. Counts kept up to date would have to be made anew with every change of the members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from farm.labels import ROLES
from farm.metrics import Metrics
from farm.overlay.store import Store

_LASTS_SECONDS: Final = 1.0


class Owners(Protocol):
    """`Placement`."""

    def all_owners(self) -> Sequence[tuple[bytes, ...]]:
        """The owners of every partition, by its number, nearest first."""


class Holdings:
    """Counts what `store` holds for the node `own`. `clock` is monotonic."""

    def __init__(self, own: bytes, store: Store, owners: Owners, clock: Callable[[], float]) -> None:
        self._own = own
        self._store = store
        self._owners = owners
        self._clock = clock
        self._counted_at = float("-inf")
        self._counts: dict[tuple[str, str], int] = {}

    def show(self, metrics: Metrics) -> None:
        """Have the metric `records` read this."""
        for kind in self._store.shelves:
            for role in ROLES:
                metrics.records.child(kind, role).set_function(partial(self.count, kind, role))

    def count(self, kind: str, role: str) -> float:
        """Records of a kind held in a role, as of the last second."""
        now = self._clock()
        if now - self._counted_at >= _LASTS_SECONDS:
            self._counted_at = now
            self._count_all()
        return float(self._counts[kind, role])

    def _count_all(self) -> None:
        owners = self._owners.all_owners()
        for name, shelf in self._store.shelves.items():
            first = others = guests = 0
            if shelf.kind.everywhere:
                others = len(shelf.records)
            else:
                for partition, size in self._store.sizes(name):
                    if self._own not in owners[partition]:
                        guests += size
                    elif owners[partition][0] == self._own:
                        first += size
                    else:
                        others += size
            self._counts.update(zip([(name, role) for role in ROLES], (first, others, guests), strict=True))
