"""The scribe: decides when the journal is written and what goes into a batch, and fills the store from it at start.

Told the time; what it writes to is a `Book`: the SQLite journal, whose blocking work is done by whoever that is given
(`InThread`), or Redis, which answers when it does. So a slow one costs the message path nothing. Killing the process
at any moment loses what changed since the last tick and the batch under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, Protocol

from farm.overlay.clock import HybridClock
from farm.overlay.journal import Batch, Journal, JournalError, Kept
from farm.overlay.store import Row, Store

_NEVER: Final = float("inf")


class Restored(NamedTuple):
    """What a start found: records that live on, records of kinds that this node does not have, and records that could
    not be read. The latter two stay in the file until it is next written anew."""

    records: int
    unknown: int
    unreadable: int = 0


def restore(found: Iterable[Kept], store: Store, clock: HybridClock, now: float, wall: float) -> Restored:
    """Merge what a journal held, or a part of it, into the store, before the journal is written.

    The records' times are moved from the writer's monotonic clock to ours. The time between is the wall clock's
    difference, and never negative: a wall clock that was set back may let bindings live longer, not kill them.
    """
    records = unknown = unreadable = 0
    for kept in found:
        shelf = store.shelves.get(kept.row.kind)
        if shelf is None:
            unknown += 1
            continue
        if not kept.row.record:
            continue  # dropped: others hold it
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


Done = Callable[[bool, BaseException | None], None]


class Book(Protocol):
    """What a scribe writes to, one batch at a time."""

    @property
    def is_log(self) -> bool:
        """Whether it only grows until a round is complete; a table forgets what it is told (`Store.tell_dropped`)."""

    @property
    def touch_seconds(self) -> float:
        """How long it may go without a batch, be it an empty one."""

    def count(self) -> int:
        """How many records a log holds, superseded ones included."""

    def write(self, batch: Batch, done: Done) -> None:
        """Write a batch and say so: `done` hears False and None when all other records have to be written again, and
        the error, a JournalError if it is a known one, when it failed. Never raises and may be done at once."""

    def write_last(self, batch: Batch, done: Done) -> None:
        """The same, and may block: the process ends."""


class FileBook:
    """The SQLite journal as a scribe wants it: its batches are written in a thread."""

    is_log = True
    touch_seconds = _NEVER

    def __init__(self, journal: Journal, in_thread: InThread) -> None:
        self._journal = journal
        self._in_thread = in_thread

    def count(self) -> int:
        """As the journal's."""
        return self._journal.count()

    def write(self, batch: Batch, done: Done) -> None:
        """Write a batch elsewhere."""
        sound = True

        def work() -> None:
            nonlocal sound
            sound = self._journal.write(batch)

        self._in_thread(work, lambda error: done(sound, error))

    def write_last(self, batch: Batch, done: Done) -> None:
        """Write a batch here and now, blocking."""
        try:
            sound = self._journal.write(batch)
        except JournalError as error:
            done(True, error)
        else:
            done(sound, None)


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
        book: Book,
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
        self._book = book
        self._witness = witness
        self._retry_seconds = retry_seconds
        self._retry_at = 0.0
        self._touch_at = 0.0 if book.touch_seconds < _NEVER else _NEVER
        self._batch_records = batch_records
        self._rewrite_factor = rewrite_factor
        self._rewrite_floor = rewrite_floor
        self._logged = book.count()
        self._under_way = -1  # changes in the batch under way, -1 for none
        self._rewriting = False
        self._begun = False  # the round under way has chunks in the file
        self._waiting: list[tuple[str, list[bytes]]] = []  # keys that the round under way has not marked yet
        self._last: tuple[float, float, Callable[[int], None]] | None = None
        self._going = False

    @property
    def unwritten(self) -> int:
        """Changes that would be lost if the process died now."""
        return self._store.unwritten + max(self._under_way, 0)

    def lag(self, now: float) -> float:
        """Seconds of changes that would be lost if the process died now."""
        return now - self._whole_at if self.unwritten else 0.0

    def receive_tick(self, now: float, wall: float) -> None:
        """Write what is due. Does nothing while a batch is under way, or before a failed one is tried again."""
        if self.busy or now < self._retry_at:
            return
        batch = self._next_batch(now, wall)
        if batch is None:
            self._whole_at = now
            if now < self._touch_at:
                return
            batch = Batch((), now, wall)
        takes_all = not self._store.unwritten

        def done(sound: bool, error: BaseException | None) -> None:
            if self._end(batch, sound, error, now) and takes_all:
                self._whole_at = now
            self._go_on()

        self._begin(batch, now)
        self._book.write(batch, done)

    def finish(self, now: float, wall: float, done: Callable[[int], None]) -> None:
        """Write all that is left, after the batch under way: the last thing before the process stops. `done` hears how
        many changes could not be written."""
        self._last = (now, wall, done)
        self._go_on()

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._under_way >= 0

    def _go_on(self) -> None:
        """Write the last batches one after the other; no deeper for it when each is done at once."""
        if self._going:
            return
        self._going = True
        while self._last is not None and not self.busy:
            now, wall, finished = self._last
            batch = self._next_batch(now, wall)
            if batch is None:
                self._last = None
                finished(0)
                break
            self._begin(batch, now)
            self._book.write_last(batch, partial(self._end_last, batch))
        self._going = False

    def _end_last(self, batch: Batch, sound: bool, error: BaseException | None) -> None:
        if self._last is None:
            return
        now, _, finished = self._last
        if self._end(batch, sound, error, now):
            self._go_on()
            return
        self._last = None
        finished(self.unwritten)

    def _begin(self, batch: Batch, now: float) -> None:
        self._under_way = len(batch.rows)
        self._touch_at = now + self._book.touch_seconds

    def _end(self, batch: Batch, sound: bool, error: BaseException | None, now: float) -> bool:
        self._under_way = -1
        if error is not None:
            self._fail(batch, error, now)
            return False
        self._succeed(batch)
        if not sound:
            self._renew()
        return True

    def _next_batch(self, now: float, wall: float) -> Batch | None:
        store = self._store
        if (
            self._book.is_log
            and not self._rewriting
            and self._logged > self._rewrite_floor + self._rewrite_factor * len(store)
        ):
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
        self._store.take_back(batch.rows)
        self._retry_at = now + self._retry_seconds
        self.error = error if isinstance(error, JournalError) else JournalError("io", str(error))
        self._witness.journal_failed(self.error, self.unwritten)

    def _renew(self) -> None:
        self._witness.journal_renewed()
        self._begin_round()
