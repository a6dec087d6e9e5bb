"""The node's records and their journal: restored at start, written in a thread, swept as they lapse.

Part of the composition root: it joins the kinds (registration, credential) with the store, the store with the journal,
and both with the reactor. A journal that cannot be opened or written is reported and counted and stops nothing: the
node goes on from memory and tries again. One that is another's, or of a later version, is refused at start: what is
wrong there is not the disk, and the node would serve without its users.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from farm.config import Config, ConfigError
from farm.metrics import Metrics
from farm.overlay.clock import HybridClock
from farm.overlay.journal import Journal, JournalError
from farm.overlay.local import LocalStore
from farm.overlay.scribe import Restored, Scribe, restore
from farm.overlay.store import Shelf, Store
from farm.registrar.binding import RegistrationKind
from farm.security.credentials import CredentialKind

JOURNAL_NAME: Final = "journal.sqlite"
_NOT_OURS: Final = frozenset(("locked", "newer"))
_REOPEN_SECONDS: Final = 5.0
_SWEEP_SECONDS: Final = 1.0
_SWEEP_RECORDS: Final = 1000  # about 5 ms
_SLICE_SECONDS: Final = 0.02

_log: Final = Logger(namespace="journal")


class Records:
    """All records of one node. `clock` is monotonic, `wall` answers seconds since 1970."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        clock: Callable[[], float],
        wall: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self.stamps = HybridClock()
        self.registrations = RegistrationKind(config.registrar.max_expires_seconds)
        self.store = Store((self.registrations, CredentialKind()))
        self.local = LocalStore(self.store)
        self.problem = ""  # what is wrong with the journal at present, a sentence; "" when it is sound
        self._settings = config.store
        self._path = os.path.join(config.node.state_dir, JOURNAL_NAME)
        self._reactor = reactor
        self._clock = clock
        self._wall = wall
        self._metrics = metrics
        self._journal: Journal | None = None
        self._scribe: Scribe | None = None
        self._reopen_at = 0.0
        self._sweep_at = 0.0
        self._clean_at = clock()  # when nothing waited to be written last
        self._conflicts = dict.fromkeys(self.store.shelves, 0)  # those counted
        self._tick_call: Any = None
        self._resting: Deferred[None] | None = None
        self._count_gauges()

    # Life

    def start(self) -> None:
        """Read the journal, then keep it. Raises ConfigError when it is not for us to read."""
        if self._settings.backend == "sqlite":
            refused = self._open()
            if refused is not None and refused.reason in _NOT_OURS:
                raise ConfigError(str(refused), where="node.state_dir")
        self._tick()

    def stop(self) -> Deferred[None]:
        """Write what is left and close; fires when that is done."""
        if self._tick_call is not None:
            self._tick_call.cancel()
            self._tick_call = None
        done: Deferred[None] = Deferred()
        done.addCallback(lambda _: self.close_now())
        if self._scribe is not None and self._scribe.busy:
            self._resting = done
        else:
            done.callback(None)
        return done

    def open_now(self) -> None:
        """Read the journal without keeping it by ticks, for a node that does not run. Raises JournalError."""
        journal = Journal(self._path)
        journal.open()
        self._keep(journal)

    def _open(self) -> JournalError | None:
        """Open the journal; answers what prevents it."""
        journal = Journal(self._path)
        try:
            opened = journal.open()
            if opened.moved_aside:
                self._metrics.journal_errors.child("open").inc()
                _log.error(
                    "the journal was corrupt and is now {aside}; {count} of its chunks could be read",
                    aside=opened.moved_aside,
                    count=opened.salvaged,
                )
            restored = self._keep(journal)
        except JournalError as error:
            self._metrics.journal_errors.child("open").inc()
            self.problem = f"the journal cannot be opened: {error}"
            _log.error("the journal cannot be opened, the node goes on from memory: {error}", error=str(error))
            self._reopen_at = self._clock() + _REOPEN_SECONDS
            return error
        self.problem = ""
        _log.info("journal read", records=restored.records, unknown=restored.unknown)
        return None

    def _keep(self, journal: Journal) -> Restored:
        """Fill the store from an open journal, and write it from now on. Raises JournalError."""
        restored = restore(journal, self.store, self.stamps, self._clock(), self._wall())
        self._journal = journal
        self._scribe = Scribe(self.store, journal, self._run_in_thread, self)
        return restored

    def close_now(self) -> int:
        """Write and close at once; answers how many records could not be written."""
        unwritten = 0
        if self._scribe is not None:
            unwritten = self._scribe.finish(self._clock(), self._wall())
            if unwritten:
                _log.error("{count} records could not be written", count=unwritten)
        if self._journal is not None:
            self._journal.close()
        self._scribe = None
        self._journal = None
        return unwritten

    def _tick(self) -> None:
        now = self._clock()
        self._tick_call = self._reactor.callLater(self._settings.flush_seconds, self._tick)
        try:
            if not self.store.unwritten:
                self._clean_at = now
            self._sweep(now)
            self._count_conflicts()
            if self._scribe is not None:
                self._scribe.receive_tick(now, self._wall())
            elif self._settings.backend == "sqlite" and now >= self._reopen_at:
                self._open()
        except Exception:
            self._metrics.unexpected_errors.child("journal").inc()
            _log.failure("the upkeep of the records failed")

    def _sweep(self, now: float) -> None:
        """Sweep what has lapsed, in slices that keep no message waiting."""
        if now < self._sweep_at:
            return
        swept = self.store.sweep(now, _SWEEP_RECORDS)
        self._sweep_at = now + (0.0 if swept >= _SWEEP_RECORDS else _SWEEP_SECONDS)
        if swept >= _SWEEP_RECORDS and self._tick_call is not None:
            self._tick_call.reset(_SLICE_SECONDS)

    def _count_conflicts(self) -> None:
        """A merge only notes that it had two sides; from there the metric is brought up to date at each tick."""
        for name, shelf in self.store.shelves.items():
            if shelf.conflicts != self._conflicts[name]:
                self._metrics.merge_conflicts.child(name).inc(shelf.conflicts - self._conflicts[name])
                self._conflicts[name] = shelf.conflicts

    def _run_in_thread(self, work: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        started = self._clock()
        running = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

        def finish(result: Any) -> None:
            error = getattr(result, "value", None)
            self._metrics.journal_flush.child().observe(self._clock() - started)
            done(error if isinstance(error, BaseException) else None)
            resting, self._resting = self._resting, None
            if resting is not None:
                resting.callback(None)

        running.addBoth(finish)

    # What the scribe says

    def journal_failed(self, error: JournalError, unwritten: int) -> None:
        """A batch could not be written."""
        self._metrics.journal_errors.child("write").inc()
        if not self.problem:
            _log.error("the journal cannot be written, the node goes on from memory: {error}", error=str(error))
        self.problem = f"the journal cannot be written: {error}"

    def journal_recovered(self, unwritten: int) -> None:
        """Writing works again."""
        self.problem = ""
        _log.info("the journal is written again", unwritten=unwritten)

    def journal_renewed(self) -> None:
        """The file was begun anew."""
        self._metrics.journal_errors.child("read").inc()
        _log.error("the journal had vanished or was corrupt and is written anew")

    def _count_gauges(self) -> None:
        metrics = self._metrics
        shelves = self.store.shelves
        registrations = shelves["registration"]
        metrics.registrations.child().set_function(lambda: float(registrations.live))
        metrics.tombstones.child().set_function(lambda: float(sum(shelf.tombstones for shelf in shelves.values())))
        for name, shelf in shelves.items():
            metrics.records.child(name, "owner").set_function(partial(_count_records, shelf))
        metrics.journal_pending.child().set_function(lambda: float(self.store.unwritten))
        metrics.journal_lag.child().set_function(
            lambda: (
                self._clock() - self._clean_at if self.store.unwritten and self._settings.backend == "sqlite" else 0.0
            )
        )


def _count_records(shelf: Shelf) -> float:
    return float(len(shelf.records))
