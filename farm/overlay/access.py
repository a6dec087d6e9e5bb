"""Reading and writing records wherever they are: `reads` and `writes`, once it is known whom to ask.

Decided: a node that has reached nobody yet answers no read and no write, although it has a journal: what is in there
may have been removed meanwhile. It serves what it knows after `join_seconds` alone (`open`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from farm.overlay.ids import partition_of
from farm.overlay.locating import Locating
from farm.overlay.offset import ClockOffset
from farm.overlay.quorum import Done, Failed, Means, Outcome
from farm.overlay.reads import Read, Recall
from farm.overlay.scanning import Collection
from farm.overlay.scanning import Done as CollectionDone
from farm.overlay.writes import Write
from farm.security.limits import RateTable


class Access:
    """What a node does for those who want records. `writes` says how often one key may be written, `may_write` whether
    this node may write at all: other nodes refuse the writes of one without the role edge, and a copy that it had made
    for itself would come to them by repair."""

    __slots__ = ("_locating", "_may_write", "_means", "_offset", "open", "recall", "writes")

    def __init__(
        self,
        means: Means,
        locating: Locating,
        offset: ClockOffset,
        writes: RateTable | None = None,
        *,
        may_write: bool = True,
    ) -> None:
        self.open = False
        self.recall = Recall()
        self._means = means
        self._locating = locating
        self._offset = offset
        self.writes = writes
        self._may_write = may_write

    @property
    def serves(self) -> bool:
        """Whether anybody can be served at present."""
        return self._find_obstacle() is None

    def fetch(self, kind: str, key: bytes, done: Done, now: float, *, enough: int | None = None) -> Outcome | None:
        """Read a record; the outcome when it is known at once, else None, and `done` is called with it later."""
        refused = self._find_obstacle()
        if refused is not None:
            return refused
        if self._locating.knows(partition_of(key)):
            return self._begin_read(kind, key, done, enough, now)
        self._begin_later(partial(self._begin_read, kind, key, done, enough), partition_of(key), done, now)
        return None

    def store(
        self, kind: str, key: bytes, delta: bytes, done: Done, now: float, *, base: bytes | None = None
    ) -> Outcome | None:
        """Merge an update into a record; the outcome as for `fetch`. `base` is what the record seems to be."""
        refused = self._find_obstacle()
        if refused is not None:
            return refused
        if not self._may_write:
            return Failed("not-an-edge")
        if self.writes is not None and self.writes.take(key, now):
            return Failed("rate")
        if self._locating.knows(partition_of(key)):
            return self._begin_write(kind, key, delta, done, base, now)
        self._begin_later(partial(self._begin_write, kind, key, delta, done, base), partition_of(key), done, now)
        return None

    def collect(self, kind: str, nodes: Iterable[bytes], done: CollectionDone, now: float) -> None:
        """Read all records of a kind, here and on those nodes, for a list; `done` may be called at once."""
        refused = self._find_obstacle()
        if refused is not None:
            done(refused, now)
            return
        means = self._means
        replicas = len(means.view.owners(0))
        Collection(means.store, kind, means.calls, means.metrics, replicas, done).start(nodes, now)

    def _begin_read(self, kind: str, key: bytes, done: Done, enough: int | None, now: float) -> Outcome | None:
        read = Read(self._means, kind, key, done, self.recall, enough=enough)
        read.start(now)
        return read.outcome

    def _begin_write(
        self, kind: str, key: bytes, delta: bytes, done: Done, base: bytes | None, now: float
    ) -> Outcome | None:
        write = Write(self._means, kind, key, delta, done)
        write.start(now, base)
        return write.outcome

    def _begin_later(self, begin: Callable[[float], Outcome | None], partition: int, done: Done, now: float) -> None:
        """Begin when the owners are known."""

        def begin_later(now: float) -> None:
            try:
                outcome = begin(now)
            except Exception:  # nobody shall wait for what does not come
                done(Failed("internal"), now)
                raise
            if outcome is not None:
                done(outcome, now)

        self._locating.find(partition, begin_later, now)

    def _find_obstacle(self) -> Failed | None:
        if self._offset.is_too_large:
            return Failed("clock")  # what it stamps would win, or lose, against all others
        return None if self.open else Failed("no-owners")
