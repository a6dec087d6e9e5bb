"""The account of calls, put together: the calls that run, and the places that their records go to.

Part of the composition root. It fills the proxy's port `Calls`, makes a line when a call is answered, fails or ends,
and has the lines written every `FLUSH_SECONDS`: the file by a thread, Redis over a connection. Calls wait for neither.
What cannot be written waits in `outlet`, is a problem that `sipfarm status` shows, and goes when the place is well.

What a stop costs: nothing. Lines are on the disk when the node has stopped, and a call that goes on has a line of its
own, "interrupted", with its answer and its length so far; its BYE comes to another node, which writes when it ended
(`ended_calls`). What a crash costs: the lines of the last second, and of the calls that ran what is not in the lines
that were written when they were answered (`[accounting] answers`).

Decided: lines at the answer instead of a journal of running calls. A journal must be found, read and matched after a
crash, by a node that may never start again; a line is with the other lines at once, on the disk or in Redis, and is
what billing systems know as start and stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from farm.accounting.call import Bye, Call, Key, make_key
from farm.accounting.calls import Calls, ends
from farm.accounting.file_writer import FileWriter
from farm.accounting.outlet import Outlet
from farm.accounting.parties import clean, split_uri
from farm.accounting.record import ANSWERED, ENDED, FAILED, INTERRUPTED, Scribe
from farm.accounting.redis_writer import Place, RedisWriter
from farm.addresses import parse_host_port
from farm.config import AccountingSettings
from farm.ended_calls import EndedCalls
from farm.metrics import Metrics
from farm.overlay.redis_journal import make_dial
from farm.proxy.dialog import RouteToken
from farm.records import read_password
from farm.sip.hop import Hop
from farm.sip.message import Request

FLUSH_SECONDS: Final = 0.5
REDIS_SECONDS: Final = 2.0  # for one command
MOST_ROWS: Final = 1_000
_REDIS_PORT: Final = 6379

Write = Callable[[Sequence[bytes]], Deferred[None]]

_log: Final = Logger(namespace="accounting")


class CallRecords:
    """All calls of one node, and where their records go. `clock` is monotonic, `wall` seconds since 1970."""

    def __init__(
        self,
        settings: AccountingSettings,
        name: str,
        reactor: Any,
        clock: Callable[[], float],
        wall: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self.elsewhere: EndedCalls | None = None  # hears of ends of calls that are not known here
        self.name_of: Callable[[int], str] = _know_nobody  # names of nodes by the number in their stamps
        self.calls = Calls(metrics, self, most_calls=settings.most_calls, longest_seconds=settings.longest_call_seconds)
        self.begin = self.calls.begin
        self.adopt = self.calls.adopt
        self.refuse = self.calls.refuse
        self.end_dialog = self.calls.end_dialog
        self._settings = settings
        self._reactor = reactor
        self._clock = clock
        self._wall = wall
        self._metrics = metrics
        self._scribe = Scribe(name, lambda node: self.name_of(node))
        self._file: FileWriter | None = None
        self._closing: list[FileWriter] = []  # no longer written to
        self._to_file = _Shipping(Outlet(metrics, "file"), clock)
        self._redis: RedisWriter | None = None
        self._to_redis = _Shipping(Outlet(metrics, "redis"), clock)
        self._ships = (self._to_file, self._to_redis)
        self._writes = False  # anything at all
        self._tick_call: Any = None
        metrics.accounting_pending.child().set_function(lambda: float(sum(len(ship.outlet) for ship in self._ships)))
        self.change(settings, read_place(settings))

    def change(self, settings: AccountingSettings, place: Place | None) -> None:
        """Write as these settings say from now on, `place` being their Redis; the file is opened anew."""
        self._settings = settings
        self.calls.most_calls = settings.most_calls
        self.calls.longest_seconds = settings.longest_call_seconds
        self._change_file(settings)
        self._change_redis(place)
        self._writes = self._file is not None or self._redis is not None

    def _change_file(self, settings: AccountingSettings) -> None:
        writer = self._file
        if not settings.file:
            if writer is not None:
                self._closing.append(writer)
            self._file = None
            self._to_file.aim(None, "")
        elif writer is None:
            writer = self._closing.pop() if self._closing else FileWriter(settings.file, rotate_bytes=0, keep=0)
            self._file = writer
            self._aim(writer, settings)
            self._to_file.aim(partial(self._write_in_thread, writer), settings.file)
        else:
            self._aim(writer, settings)
            self._to_file.place = settings.file

    @staticmethod
    def _aim(writer: FileWriter, settings: AccountingSettings) -> None:
        writer.path = settings.file
        writer.rotate_bytes = settings.rotate_bytes
        writer.keep = settings.keep
        writer.ask_reopen()

    def _write_in_thread(self, writer: FileWriter, lines: Sequence[bytes]) -> Deferred[None]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), writer.write, lines)

    def _change_redis(self, place: Place | None) -> None:
        if self._redis is not None:
            if self._redis.place == place:
                return
            self._redis.close()
            self._redis = None
        if place is None:
            self._to_redis.aim(None, "")
        else:
            dial = make_dial(self._reactor, REDIS_SECONDS)
            self._redis = RedisWriter(place, dial, self._reactor, REDIS_SECONDS)
            self._to_redis.aim(self._redis.write, f"Redis {place.address[0]}:{place.address[1]}")

    def problems(self) -> list[str]:
        """What is wrong at present, a sentence each."""
        return [ship.outlet.problem for ship in self._ships if ship.outlet.problem]

    def rows(self, limit: int, now: float) -> list[dict[str, object]]:
        """The answered calls that run, the oldest first: for the console."""
        rows: list[dict[str, object]] = []
        for call in self.calls:
            if len(rows) >= min(limit, MOST_ROWS):
                break
            caller = split_uri(call.facts.sender)
            callee = split_uri(call.facts.uri_text)
            rows.append(
                {
                    "callid": clean(call.key[0]),
                    "src_user": caller[0],
                    "src_domain": caller[1],
                    "dst_ouser": callee[0],
                    "dst_domain": callee[1],
                    "answered": round(now - call.answered_at, 3),
                }
            )
        return rows

    # Life

    def start(self) -> None:
        """Begin to write."""
        self._tick_call = self._reactor.callLater(FLUSH_SECONDS, self._tick)

    def stop(self) -> Deferred[None]:
        """Write all that is left; fires when that is done, or cannot be."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._tick_call is not None:
            self._tick_call.cancel()
            self._tick_call = None
        self.calls.interrupt(self._clock())
        lost = 0
        for ship in self._ships:
            await ship.finish()
            lost += ship.outlet.give_up()
        if lost:
            _log.error("{count} call records could not be written", count=lost)
        for writer in [*self._closing, *([self._file] if self._file is not None else [])]:
            writer.close()
        if self._redis is not None:
            self._redis.close()

    def _tick(self) -> None:
        self._tick_call = self._reactor.callLater(FLUSH_SECONDS, self._tick)
        try:
            self.calls.sweep(self._clock())
            for ship in self._ships:
                ship.flush()
            if not self._to_file.is_busy:
                while self._closing:
                    self._closing.pop().close()
        except Exception:
            self._metrics.unexpected_errors.child("accounting").inc()
            _log.failure("the upkeep of the call records failed")

    # What the proxy says beside `begin` and `refuse`

    def end(
        self, request: Request, status: int, dialogs: Sequence[RouteToken], at: float, *, hop: Hop | None, made: bool
    ) -> None:
        """A BYE, or an INVITE inside a dialog, which came at `at`, had that final answer. Of a call that came by more
        than once each of its nodes is told."""
        known = self.calls.end(request, status, at, hop=hop, made=made)
        if self.elsewhere is None or (known and (len(dialogs) < 2 or not ends(request, status, made=made))):
            return
        for dialog in dialogs:
            self.elsewhere.tell(request, status, dialog, hop, self._clock() - at, self._wall(), known=known)

    # Lines (accounting.calls.Writer)

    def write_answer(self, call: Call, now: float) -> None:
        """It was answered just now."""
        if self._writes and self._settings.answers:
            self._put_line(call, ANSWERED)

    def write_end(self, call: Call, now: float) -> None:
        """It has ended, or failed."""
        if self._writes and (call.was_answered or self._settings.failed):
            self._put_line(call, ENDED if call.was_answered else FAILED)

    def write_interruption(self, call: Call, now: float) -> None:
        """It goes on, and this node will not hear of its end."""
        if self._writes:
            self._put_line(call, INTERRUPTED)

    def write_partial(self, key: Key, caller: str, callee: str, by: str, wall: float, bye: Bye) -> None:
        """It ended, and nobody knows how it began."""
        if self.calls.remember(make_key(*key), self._clock()) and self._writes:
            self._put(self._scribe.make_partial(key, caller, callee, by, wall, bye))

    def _put_line(self, call: Call, event: str) -> None:
        self._put(self._scribe.make_line(call, event, self._clock(), self._wall()))

    def _put(self, line: bytes) -> None:
        for ship in self._ships:
            if ship.is_aimed:
                ship.outlet.put(line)


class _Shipping:
    """Takes what an outlet holds to its place, a batch at a time."""

    def __init__(self, outlet: Outlet, clock: Callable[[], float]) -> None:
        self.outlet = outlet
        self.place = ""  # for messages
        self._clock = clock
        self._write: Write | None = None
        self._running: Deferred[None] | None = None

    def aim(self, write: Write | None, place: str) -> None:
        """Write there from now on; None writes no more, and forgets what waits."""
        self._write = write
        self.place = place
        if write is None and not self.is_busy:
            self.outlet.give_up()
            self.outlet.problem = ""

    @property
    def is_aimed(self) -> bool:
        """Whether lines are wanted."""
        return self._write is not None

    @property
    def is_busy(self) -> bool:
        """Whether a batch is under way."""
        return self._running is not None and not self._running.called

    def flush(self) -> None:
        """Begin to write what waits."""
        if len(self.outlet) and not self.is_busy:
            self._running = Deferred.fromCoroutine(self._send(hurry=False))

    async def finish(self) -> None:
        """Write what waits, now or never."""
        if self._running is not None:
            await self._running
        await self._send(hurry=True)

    async def _send(self, *, hurry: bool) -> None:
        outlet = self.outlet
        while (write := self._write) is None or (lines := outlet.take(self._clock(), hurry=hurry)):
            if write is None:  # turned off meanwhile
                outlet.give_up()
                outlet.problem = ""
                return
            try:
                await write(lines)
            except Exception as error:
                problem = f"call records cannot be written to {self.place}: {_describe(error)}"
                if outlet.fail(problem, self._clock()):
                    _log.error("{problem}", problem=problem)
                return
            if outlet.finish():
                _log.info("call records are written to {place} again", place=self.place)


def read_place(settings: AccountingSettings) -> Place | None:
    """The list in Redis that settings ask for. Raises ConfigError for a password that cannot be read."""
    if not settings.redis:
        return None
    host, port = parse_host_port(settings.redis)
    return Place(
        (host, port or _REDIS_PORT),
        settings.redis_key,
        settings.redis_records,
        settings.redis_database,
        settings.redis_user,
        read_password(settings.redis_password_file, "accounting.redis_password_file"),
    )


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (defer.TimeoutError, ConnectTimeoutError)):
        return "no answer in time"
    return str(error) or type(error).__name__


def _know_nobody(_node: int) -> str:
    return ""
