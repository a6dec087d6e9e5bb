"""The scribe: decides when the journal is written and what goes into a batch, and fills the store from it at start.

Told the time; the blocking work is done by whoever it is given (`InThread`), so that a slow disk costs the message
path nothing. Killing the process at any moment loses what changed since the last tick and the batch under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from farm.overlay.clock import HybridClock
from farm.overlay.journal import Batch, Journal, JournalError
from farm.overlay.store import Row, Store


class Restored(NamedTuple):
    """What a start found: records that live on, records of kinds that this node does not have, and records that could
    not be read. The latter two stay in the file until it is next written anew."""

    records: int
    unknown: int
    unreadable: int = 0


def restore(journal: Journal, store: Store, clock: HybridClock, now: float, wall: float) -> Restored:
    """Fill the store from an open journal, before anything else writes to it.

    The records' times are moved from the writer's monotonic clock to ours. The time between is the wall clock's
    difference, and never negative: a wall clock that was set back may let bindings live longer, not kill them.
    """
    records = unknown = unreadable = 0
    for kept in journal.replay():
        shelf = store.shelves.get(kept.row.kind)
        if shelf is None:
            unknown += 1
            continue
        shift = now - kept.mono - max(0.0, wall - kept.wall)
        try:
            record = shelf.kind.shift(kept.row.record, shift)
            store.load(Row(kept.row.kind, kept.row.key, record), now)
            clock.resume(shelf.kind.newest(record))
            records += 1
        except ValueError:
            unreadable += 1
    return Restored(records, unknown, unreadable)


class InThread(Protocol):
    """Runs blocking work elsewhere and calls `done` in our own thread, with the error it raised or None."""

    def __call__(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None: ...


class Witness(Protocol):
    """Who hears how the journal fares: log and counters."""

    def journal_failed(self, error: JournalError, unwritten: int) -> None:
        """A batch could not be written; it will be tried again."""

    def journal_recovered(self, unwritten: int) -> None:
        """Writing works again; `unwritten` records that gathered meanwhile follow at once."""

    def journal_renewed(self) -> None:
        """The file had vanished or was corrupt, and everything is being written anew."""


class Scribe:
    """Decides when to write what. Call `receive_tick` every `flush_seconds`.

    One batch is under way at a time; what changes meanwhile goes into the next. A batch that fails is taken back and
    tried again after `retry_seconds`, together with all that has changed: records wait in memory in any case, so a
    dead disk costs a key each and nothing is dropped. The log is rewritten when it holds `rewrite_factor` times what
    the store does.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        in_thread: InThread,
        witness: Witness,
        *,
        retry_seconds: float = 2.0,
        batch_records: int = 10_000,
        rewrite_factor: float = 4.0,
        rewrite_floor: int = 50_000,
    ) -> None:
        self.error: JournalError | None = None
        self.written = 0  # records, since the start
        self._whole_at = 0.0  # what had changed by then is in the file
        self._store = store
        self._journal = journal
        self._in_thread = in_thread
        self._witness = witness
        self._retry_seconds = retry_seconds
        self._retry_at = 0.0
        self._batch_records = batch_records
        self._rewrite_factor = rewrite_factor
        self._rewrite_floor = rewrite_floor
        self._logged = journal.count()
        self._busy = False
        self._rewriting = False
        self._begun = False  # the round under way has chunks in the file
        self._waiting: list[tuple[str, list[bytes]]] = []  # keys that the round under way has not marked yet

    @property
    def unwritten(self) -> int:
        """Records that would be lost if the process died now."""
        return self._store.unwritten

    def lag(self, now: float) -> float:
        """Seconds of changes that would be lost if the process died now."""
        return now - self._whole_at if self._busy or self._store.unwritten else 0.0

    def receive_tick(self, now: float, wall: float) -> None:
        """Write what is due. Does nothing while a batch is under way, or before a failed one is tried again."""
        if self._busy or now < self._retry_at:
            return
        batch = self._next_batch(now, wall)
        if batch is None:
            self._whole_at = now
            return
        takes_all = not self._store.unwritten
        self._busy = True
        sound = True

        def work() -> None:
            nonlocal sound
            sound = self._journal.write(batch)

        def done(error: BaseException | None) -> None:
            self._busy = False
            if error is not None:
                self._fail(batch, error, now)
                return
            self._succeed(batch)
            if takes_all:
                self._whole_at = now
            if not sound:
                self._renew()

        self._in_thread(work, done)

    def finish(self, now: float, wall: float) -> int:
        """Write all that is left, here and now, blocking: the last thing before the process stops. Answers how many
        records could not be written. No batch may be under way."""
        while (batch := self._next_batch(now, wall)) is not None:
            try:
                sound = self._journal.write(batch)
            except JournalError as error:
                self._fail(batch, error, now)
                return self.unwritten
            self._succeed(batch)
            if not sound:
                self._renew()
        return 0

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._busy

    def _next_batch(self, now: float, wall: float) -> Batch | None:
        store = self._store
        if not self._rewriting and self._logged > self._rewrite_floor + self._rewrite_factor * len(store):
            self._begin_round()
        if self._waiting:
            kind, keys = self._waiting[-1]
            store.mark_unwritten(kind, keys[-self._batch_records :])
            del keys[-self._batch_records :]
            if not keys:
                self._waiting.pop()
        rows = store.take_unwritten(self._batch_records)
        ends_round = self._rewriting and not self._waiting and not store.unwritten
        if not rows and not ends_round:
            return None
        return Batch(rows, now, wall, self._rewriting and not self._begun, ends_round)

    def _begin_round(self) -> None:
        self._rewriting = True
        self._begun = False
        self._waiting = [(kind, self._store.keys(kind)) for kind in self._store.shelves]

    def _succeed(self, batch: Batch) -> None:
        self._logged += len(batch.rows)
        self.written += len(batch.rows)
        if batch.begins_round:
            self._begun = True
        if batch.ends_round:
            self._rewriting = False
            self._logged = len(self._store)
        if self.error is not None:
            self.error = None
            self._witness.journal_recovered(self.unwritten)

    def _fail(self, batch: Batch, error: BaseException, now: float) -> None:
        for row in batch.rows:
            self._store.mark_unwritten(row.kind, (row.key,))
        self._retry_at = now + self._retry_seconds
        self.error = error if isinstance(error, JournalError) else JournalError("io", str(error))
        self._witness.journal_failed(self.error, self.unwritten)

    def _renew(self) -> None:
        self._witness.journal_renewed()
        self._begin_round()
