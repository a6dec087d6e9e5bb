"""The node's records and their journal: restored at start, written as they change, swept as they lapse.

Part of the composition root: it joins the kinds (registration, credential, keys) with the store, the store with the
journal (SQLite in a thread, or Redis), and both with the reactor. A journal that cannot be opened or written is
reported and counted and stops nothing: the node goes on from memory and tries again; what is in a Redis that comes
late is merged before anything is written. A file that is another's, or of a later version, is refused at start: what
is wrong there is not the disk, and the node would serve without its users. A Redis of which that is true is found out
later, and the node is not ready (`restoring`) until that ends: within the lease when the other process is dead.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from farm.addresses import parse_host_port
from farm.config import Config, ConfigError, StoreSettings
from farm.metrics import Metrics
from farm.overlay.clock import HybridClock
from farm.overlay.journal import Journal, JournalError, Kept
from farm.overlay.local import LocalStore
from farm.overlay.redis_journal import RedisJournal, Server, make_dial
from farm.overlay.scribe import Book, FileBook, Restored, Scribe, restore
from farm.overlay.store import Kind, Shelf, Store
from farm.registrar.binding import RegistrationKind
from farm.security.credentials import CredentialKind
from farm.security.farm_keys import KeysKind

JOURNAL_NAME: Final = "journal.sqlite"
OWNER_NAME: Final = "redis-owner"
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
        *,
        stamp_node: int = 0,
        kinds: Iterable[Kind] = (),
        shared: bool = False,
    ) -> None:
        """`stamp_node` tells this node's stamps from others'; `kinds` are held beside registrations, credentials and
        keys; `shared` records are compared with other nodes'."""
        self.stamps = HybridClock(stamp_node)
        self.registrations = RegistrationKind(config.registrar.max_expires_seconds)
        own = (self.registrations, CredentialKind(), KeysKind())
        self.store = Store((*own, *kinds), most_records=config.store.most_records)
        if shared:
            self.store.track()  # before anything is restored: afterwards it would be one long turn
        self.local = LocalStore(self.store)
        self.problem = ""  # what is wrong with the journal at present, a sentence; "" when it is sound
        self.restoring = False  # what was kept is still being read, or is another's: not ready, and requests get 503
        self._settings = config.store
        self._node = config.node
        self._path = os.path.join(config.node.state_dir, JOURNAL_NAME)
        self._reactor = reactor
        self._clock = clock
        self._wall = wall
        self._metrics = metrics
        self._journal: Journal | None = None
        self._redis: RedisJournal | None = None
        self._reading: Deferred[None] | None = None  # from Redis
        self._scribe: Scribe | None = None
        self._reopen_at = 0.0
        self._sweep_at = 0.0
        self._clean_at = clock()  # when nothing waited to be written last
        self._conflicts = dict.fromkeys(self.store.shelves, 0)  # those counted
        self._tick_call: Any = None
        self._count_gauges()

    # Life

    def change(self, settings: StoreSettings) -> None:
        """Take how much is held, and how often it is written; the rest waits for a restart."""
        self._settings = settings
        self.store.most = settings.most_records

    def start(self) -> None:
        """Read the journal, then keep it. Raises ConfigError when it is not for us to read."""
        if self._settings.backend == "sqlite":
            refused = self._open()
            if refused is not None and refused.reason in _NOT_OURS:
                raise ConfigError(str(refused), where="node.state_dir")
        elif self._settings.backend == "redis":
            self._redis = self._make_redis()
            self.store.tell_dropped()
            self.restoring = True
            self._read_redis(self._redis)
        self._tick()

    def stop(self) -> Deferred[None]:
        """Write what is left and close; fires when that is done."""
        if self._tick_call is not None:
            self._tick_call.cancel()
            self._tick_call = None
        done: Deferred[None] = Deferred()
        scribe, self._scribe = self._scribe, None
        if scribe is None:
            self._close(done)
        else:

            def finished(unwritten: int) -> None:
                if unwritten:
                    _log.error("{count} records could not be written", count=unwritten)
                self._close(done)

            scribe.finish(self._clock(), self._wall(), finished)
        return done

    def _close(self, done: Deferred[None]) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        redis, self._redis = self._redis, None
        if redis is None:
            done.callback(None)
        else:
            redis.close().addBoth(lambda _: done.callback(None))

    def open_now(self) -> None:
        """Read the journal without keeping it by ticks, for a node that does not run. Raises JournalError."""
        if self._settings.backend == "redis":
            raise JournalError("unreachable", "it is in Redis, and only the running node reads that: start the node")
        journal = Journal(self._path)
        journal.open()
        self._keep(journal)

    def _open(self) -> JournalError | None:
        """Open the file; answers what prevents it."""
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
            self._fail_open(error)
            return error
        self._tell_opened(restored)
        return None

    def _keep(self, journal: Journal) -> Restored:
        """Fill the store from an open file, and write it from now on. Raises JournalError."""
        restored = restore(journal.replay(), self.store, self.stamps, self._clock(), self._wall())
        self._journal = journal
        self._scribe = self._make_scribe(FileBook(journal, self._run_in_thread))
        return restored

    def _make_scribe(self, book: Book) -> Scribe:
        return Scribe(self.store, book, self)

    def _fail_open(self, error: JournalError) -> None:
        self._metrics.journal_errors.child("open").inc()
        self.problem = f"the journal cannot be opened: {error}"
        _log.error("the journal cannot be opened, the node goes on from memory: {error}", error=str(error))
        self._reopen_at = self._clock() + _REOPEN_SECONDS

    def _tell_opened(self, restored: Restored) -> None:
        self.problem = ""
        _log.info("journal read", records=restored.records, unknown=restored.unknown)
        if restored.unreadable:
            self._metrics.journal_errors.child("read").inc(restored.unreadable)
            _log.error("{count} records of the journal were damaged", count=restored.unreadable)

    def close_now(self) -> int:
        """Write and close at once, of a journal that is a file; answers how many records could not be written."""
        left: list[int] = [0]
        scribe, self._scribe = self._scribe, None
        if scribe is not None:
            scribe.finish(self._clock(), self._wall(), left.append)
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        return left[-1]

    # Redis

    def _make_redis(self) -> RedisJournal:
        """Raises ConfigError for a password or a name that cannot be read."""
        settings = self._settings
        dial = make_dial(self._reactor, settings.redis_timeout_seconds)
        server = Server(
            _parse_server(settings.redis),
            tuple(_parse_server(sentinel) for sentinel in settings.redis_sentinels),
            settings.redis_master,
            settings.redis_database,
            settings.redis_user,
            read_password(settings.redis_password_file, "store.redis_password_file"),
        )
        return RedisJournal(
            server,
            dial,
            self._reactor,
            prefix=settings.redis_prefix or f"sipfarm:{self._node.name}",
            token=f"{socket.gethostname()}:{_read_owner(os.path.join(self._node.state_dir, OWNER_NAME))}",
            run=os.urandom(8).hex(),
            timeout_seconds=settings.redis_timeout_seconds,
            observe=self._metrics.journal_flush.child().observe,
        )

    def _read_redis(self, redis: RedisJournal) -> None:
        """Merge what Redis has and write it from then on; a failure is tried again by a later tick."""
        total = Restored(0, 0)

        def receive(page: list[Kept]) -> None:
            nonlocal total
            found = restore(page, self.store, self.stamps, self._clock(), self._wall())
            total = Restored(
                total.records + found.records, total.unknown + found.unknown, total.unreadable + found.unreadable
            )

        def succeed(damaged: int) -> None:
            self._tell_opened(total._replace(unreadable=total.unreadable + damaged))
            self._scribe = self._make_scribe(redis)
            self.restoring = False

        def fail(failure: Failure) -> None:
            error = failure.value
            if self._redis is None:
                return  # it was given up by our stop
            if not isinstance(error, JournalError):
                error = JournalError("io", str(error))
            self._fail_open(error)
            self.restoring = error.reason in _NOT_OURS

        self._reading = redis.replay(tuple(self.store.shelves), receive).addCallbacks(succeed, fail)

    def _tick(self) -> None:
        now = self._clock()
        self._tick_call = self._reactor.callLater(self._settings.flush_seconds, self._tick)
        try:
            if not self._unwritten():
                self._clean_at = now
            self._sweep(now)
            self._count_conflicts()
            if self._scribe is not None:
                self._scribe.receive_tick(now, self._wall())
            elif now >= self._reopen_at:
                self._open_again()
        except Exception:
            self._metrics.unexpected_errors.child("journal").inc()
            _log.failure("the upkeep of the records failed")

    def _open_again(self) -> None:
        if self._settings.backend == "sqlite":
            self._open()
        elif self._redis is not None and (self._reading is None or self._reading.called):
            self._read_redis(self._redis)

    def _unwritten(self) -> int:
        """Changes that would be lost if the process died now."""
        return self._scribe.unwritten if self._scribe is not None else self.store.unwritten

    def _lag(self) -> float:
        """How many seconds of changes those are. On a busy node something always waits, so a batch that took all that
        had changed by then counts as well."""
        if self._settings.backend == "memory" or not self._unwritten():
            return 0.0
        now = self._clock()
        since_clean = now - self._clean_at
        return since_clean if self._scribe is None else min(since_clean, self._scribe.lag(now))

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
        """It was lost, in whole or in part."""
        self._metrics.journal_errors.child("read").inc()
        _log.error("the journal had vanished, was corrupt or had lost something, and is written anew")

    def _count_gauges(self) -> None:
        metrics = self._metrics
        shelves = self.store.shelves
        registrations = shelves["registration"]
        metrics.registrations.child().set_function(lambda: float(registrations.live))
        metrics.tombstones.child().set_function(lambda: float(sum(shelf.tombstones for shelf in shelves.values())))
        for name, shelf in shelves.items():
            metrics.records.child(name, "owner").set_function(partial(_count_records, shelf))
        metrics.journal_pending.child().set_function(lambda: float(self._unwritten()))
        metrics.journal_lag.child().set_function(self._lag)


def _count_records(shelf: Shelf) -> float:
    return float(len(shelf.records))


def _parse_server(text: str) -> tuple[str, int]:
    host, port = parse_host_port(text)
    return host, port or 0


def read_password(path: str, key: str) -> bytes:
    """The first line of the file that the setting `key` names, b"" when there is none. Raises ConfigError."""
    if not path:
        return b""
    try:
        with open(path, "rb") as file:
            password = file.readline().rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", where=key) from None
    if not password:
        raise ConfigError(f"{path}: its first line is empty", where=key)
    return password


def _read_owner(path: str) -> str:
    """What a state directory calls itself in Redis, made once: a node that starts again there has proved by its lock
    that the one before it is gone, and need not wait for its lease. Raises ConfigError."""
    try:
        try:
            with open(path, encoding="ascii") as file:
                owner = file.read(64).strip()
        except FileNotFoundError:
            owner = ""
        if not owner:
            owner = os.urandom(16).hex()
            with open(path, "w", encoding="ascii") as file:
                file.write(owner + "\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", where="node.state_dir") from None
    return owner
