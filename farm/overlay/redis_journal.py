"""The journal in Redis: what a node without a disk of its own is started from.

A table, not a log: one hash a kind, from key to record. A value carries a checksum and the monotonic and the wall time
of its writing, as a chunk of the SQLite journal does, and what the store dropped (an empty record) is deleted. All
keys begin with the node's own prefix. The owner's key is a lease that every command checks and renews, so that a second
process with this prefix reads and writes nothing; the marker is a number that each write raises, so that a Redis that
lost what was acknowledged (emptied, restarted from an old dump, failed over to a replica that lagged) is found by its
next answer, and everything is written again. Nothing here waits on a request's path: a batch is cut into pieces that
are packed and sent one after the other's answer, and what gathers meanwhile gathers in the store.

Decided: txredisapi's protocol without its pool and its Sentinel client. Commands on a dead pool wait for ever, its
dials back off to 10 s on their own, and its Sentinel client leaves errors of AUTH unhandled. One connection that is
given up at the first error and dialled anew with the scribe's next try has none of that. Numbers and charsets are
never converted (`+4930` would become an integer).
Decided: one script a piece instead of a pipeline of HSET: lease, marker and records change together or not at all, and
one large argument costs us 1.5 µs a record where a pipelined HSET a record costs 22 and the SQLite journal 1.2 in its
thread (`python -m bench.micro.journal`). Reading comes in one blob a page, because txredisapi takes a turn of the
reactor for every value.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol
from zlib import crc32

import msgspec
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.protocol import Factory

from farm.overlay.journal import Batch, JournalError, Kept
from farm.overlay.store import Row

SCHEMA: Final = 1
LEASE_SECONDS: Final = 10.0
TOUCH_SECONDS: Final = 3.0
_PIECE_BYTES: Final = 65_536
_PIECE_RECORDS: Final = 500
_PAGE_RECORDS: Final = 200
_HEAD: Final = struct.Struct(">Idd")  # crc32 of key and the rest, monotonic and wall second of writing
_TIMES: Final = struct.Struct(">dd")

# KEYS: owner, marker, format. ARGV: token, lease in ms, our format. Answers a word and the owner, format or marker.
_OPEN: Final = b"""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {'locked', owner} end
local format = redis.call('GET', KEYS[3])
if format and (tonumber(format) or 0) > tonumber(ARGV[3]) then return {'newer', format} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[3], ARGV[3])
return {'ok', redis.call('GET', KEYS[2]) or ''}
"""
# KEYS: owner, hash. ARGV: token, lease, cursor, count. Answers a word, the next cursor, the lengths of names and values
# in turn (msgpack), and all of them in a row.
_READ: Final = b"""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {'locked', owner} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local found = redis.call('HSCAN', KEYS[2], ARGV[3], 'COUNT', ARGV[4])
local lengths = {}
for index, text in ipairs(found[2]) do lengths[index] = #text end
return {'ok', found[1], cmsgpack.pack(lengths), table.concat(found[2])}
"""
# KEYS: owner, marker, hash. ARGV: token, lease, the marker expected, the marker to set, then lengths and texts of names
# and values to set and of names to delete. A marker that is neither of the two says that Redis lost something.
_WRITE: Final = b"""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {'locked', owner} end
local function cut(lengths, text)
  local parts, at = {}, 1
  for index, length in ipairs(cmsgpack.unpack(lengths)) do
    parts[index] = string.sub(text, at, at + length - 1)
    at = at + length
  end
  return parts
end
local sets, dropped = cut(ARGV[5], ARGV[6]), cut(ARGV[7], ARGV[8])
local marker = redis.call('GET', KEYS[2]) or ''
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for first = 1, #dropped, 2000 do
  redis.call('HDEL', KEYS[3], unpack(dropped, first, math.min(first + 1999, #dropped)))
end
for first = 1, #sets, 2000 do
  redis.call('HSET', KEYS[3], unpack(sets, first, math.min(first + 1999, #sets)))
end
redis.call('SET', KEYS[2], ARGV[4])
if marker ~= ARGV[3] and marker ~= ARGV[4] then return {'lost', marker} end
return {'ok', ''}
"""
# KEYS: owner. ARGV: token.
_RELEASE: Final = b"if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return {'ok', ''}"

# What Redis answers, wherever in the line it stands: older versions wrap the errors of scripts.
_REASONS: Final = (
    (re.compile(r"\bOOM\b|\bMISCONF\b"), "full"),
    (re.compile(r"\bREADONLY\b|\bNOREPLICAS\b"), "read-only"),
    (re.compile(r"\bNOAUTH\b|\bWRONGPASS\b|\bNOPERM\b|\bAUTH\b|invalid password"), "refused"),
    (re.compile(r"\bLOADING\b|\bBUSY\b|\bMASTERDOWN\b"), "unreachable"),
)


class RedisRefused(Exception):
    """Redis answered a command with an error, which is the text."""


class Connection(Protocol):
    """One connection to a Redis or a Sentinel."""

    def ask(self, words: Sequence[bytes]) -> Deferred[Any]:
        """Send a command; fires with the answer (bytes, str, int, None, lists of them), RedisRefused, or what ended
        the connection. It may never fire."""

    def close(self) -> None:
        """Give the connection up at once."""


class Server(NamedTuple):
    """Where a Redis is: one `address`, or that which `sentinels` say is the master called `master`."""

    address: tuple[str, int]
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""
    database: int = 0
    user: str = ""
    password: bytes = b""


Dial = Callable[[str, int], "Deferred[Connection]"]


class RedisJournal:
    """The records of one node in Redis. One call at a time; all fail with JournalError and nothing else.

    `token` says whose the prefix is: the same for a process and for its successor, which knows by other means that the
    process is gone (the lock of its state directory), and no one else's. `run` is new with every process. `clock` has
    `callLater`, for the deadline of each command.
    """

    is_log = False
    touch_seconds = TOUCH_SECONDS

    def __init__(
        self,
        server: Server,
        dial: Dial,
        clock: Any,
        *,
        prefix: str,
        token: str,
        run: str,
        timeout_seconds: float,
        observe: Callable[[float], None],
    ) -> None:
        """`observe` is told how many seconds each batch of records took."""
        self.place = f"{server.address[0]}:{server.address[1]}"  # of the last connection, for messages
        self._server = server
        self._dial = dial
        self._clock = clock
        self._prefix = prefix
        self._token = token.encode()
        self._run = run
        self._lease = b"%d" % int(LEASE_SECONDS * 1000)
        self._timeout_seconds = timeout_seconds
        self._observe = observe
        self._connection: Connection | None = None
        self._under_way: Deferred[Any] | None = None
        self._marker: bytes | None = None  # what the next write expects; None until one has been read
        self._number = 0
        self._pack = msgspec.msgpack.Encoder().encode
        self._unpack_lengths = msgspec.msgpack.Decoder(list[int]).decode

    def count(self) -> int:
        """A table is not written anew because of its size."""
        return 0

    def replay(self, kinds: Sequence[str], receive: Callable[[list[Kept]], None]) -> Deferred[int]:
        """Take the lease and hand `receive` every record of these kinds, page by page, before anything is written.
        Fires with the number of values that are damaged."""
        return self._start(self._replay(kinds, receive))

    def write(self, batch: Batch, done: Callable[[bool, BaseException | None], None]) -> None:
        """Write a batch; `done` hears whether Redis had kept all that was written before, or why it failed."""
        self._start(self._write(batch)).addCallbacks(
            lambda sound: done(sound, None), lambda failure: done(True, failure.value)
        )

    write_last = write

    def close(self) -> Deferred[None]:
        """Give up what is under way, release the lease and hang up. Never fails."""
        if self._under_way is not None:
            self._under_way.cancel()
        return Deferred.fromCoroutine(self._close())

    def _start(self, work: Any) -> Deferred[Any]:
        self._under_way = started = Deferred.fromCoroutine(self._guard(work))
        return started

    async def _guard(self, work: Any) -> Any:
        """After any error the connection is given up: nothing that comes late on it is taken for the next answer."""
        try:
            return await work
        except Exception as error:
            self._hang_up()
            raise _journal_error(error, self.place) from error

    # The connection

    async def _connected(self) -> Connection:
        """The connection, with the lease taken."""
        connection = self._connection
        if connection is not None:
            return connection
        host, port = await self._find_master() if self._server.sentinels else self._server.address
        self.place = f"{host}:{port}"
        self._connection = connection = await self._dial_within(host, port)
        server = self._server
        if server.password:
            words = (b"AUTH", server.user.encode(), server.password) if server.user else (b"AUTH", server.password)
            await self._ask(connection, *words)
        if server.database:
            await self._ask(connection, b"SELECT", b"%d" % server.database)
        # A replica answers READONLY to this, so that no write meets one by mistake.
        keys = (self._key("owner"), self._key("marker"), self._key("format"))
        marker = (await self._run_script(connection, _OPEN, keys, self._token, self._lease, b"%d" % SCHEMA))[1]
        if self._marker is None:
            self._marker = bytes(marker)
        return connection

    async def _find_master(self) -> tuple[str, int]:
        """Ask one Sentinel after the other where the master is."""
        last: BaseException = RedisRefused(f"no Sentinel knows a master called {self._server.master}")
        for host, port in self._server.sentinels:
            self.place = f"Sentinel {host}:{port}"
            connection = None
            try:
                connection = await self._dial_within(host, port)
                words = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._server.master.encode())
                found = await self._ask(connection, *words)
                if found:
                    return bytes(found[0]).decode(), int(found[1])
            except CancelledError:
                raise
            except Exception as error:
                last = error
            finally:
                if connection is not None:
                    connection.close()
        raise last

    async def _dial_within(self, host: str, port: int) -> Connection:
        return await self._dial(host, port).addTimeout(self._timeout_seconds, self._clock)

    async def _ask(self, connection: Connection, *words: bytes) -> Any:
        return await connection.ask(words).addTimeout(self._timeout_seconds, self._clock)

    async def _run_script(
        self, connection: Connection, script: bytes, keys: Sequence[bytes], *arguments: bytes
    ) -> Sequence[Any]:
        """Run a script; its answer begins with a word."""
        answer = await self._ask(connection, b"EVAL", script, b"%d" % len(keys), *keys, *arguments)
        if answer[0] == b"locked":
            holder = bytes(answer[1]).decode("utf-8", "replace")
            raise JournalError("locked", f"{self._prefix} in Redis {self.place} is in use by another process: {holder}")
        if answer[0] == b"newer":
            raise JournalError(
                "newer",
                f"{self._prefix} in Redis {self.place} was written by a later version "
                f"(format {int(answer[1])}, known is {SCHEMA})",
            )
        return answer  # type: ignore[no-any-return]

    def _key(self, name: str) -> bytes:
        return f"{self._prefix}:{name}".encode()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _close(self) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(Exception):  # the lease ends by itself
                await self._run_script(connection, _RELEASE, (self._key("owner"),), self._token)
        self._hang_up()

    # Reading

    async def _replay(self, kinds: Sequence[str], receive: Callable[[list[Kept]], None]) -> int:
        self._hang_up()  # a new connection reads the marker that belongs to what is read now
        self._marker = None
        connection = await self._connected()
        damaged = 0
        for kind in kinds:
            cursor = b"0"
            keys = (self._key("owner"), self._key(f"records:{kind}"))
            while True:
                arguments = (self._token, self._lease, cursor, b"%d" % _PAGE_RECORDS)
                _, cursor, lengths, text = await self._run_script(connection, _READ, keys, *arguments)
                page, bad = self._unpack(kind, lengths, text)
                damaged += bad
                receive(page)
                if cursor == b"0":
                    break
        return damaged

    def _unpack(self, kind: str, lengths: bytes, text: bytes) -> tuple[list[Kept], int]:
        """The sound records of a page, and how many others there were."""
        page: list[Kept] = []
        damaged = at = 0
        key = b""
        for index, length in enumerate(self._unpack_lengths(lengths)):
            part = text[at : at + length]
            at += length
            if index % 2 == 0:
                key = part
            elif length < _HEAD.size or crc32(part[4:], crc32(key)) != int.from_bytes(part[:4], "big"):
                damaged += 1
            else:
                _, mono, wall = _HEAD.unpack_from(part)
                page.append(Kept(Row(kind, key, part[_HEAD.size :]), mono, wall))
        return page, damaged

    # Writing

    async def _write(self, batch: Batch) -> bool:
        started = self._clock.seconds()
        connection = await self._connected()
        sound = True
        for kind, sets, dropped in _pieces(batch):
            following = f"{self._run}:{self._number + 1}".encode()
            answer = await self._run_script(
                connection,
                _WRITE,
                (self._key("owner"), self._key("marker"), self._key(f"records:{kind}")),
                self._token,
                self._lease,
                self._marker or b"",
                following,
                self._pack([len(text) for text in sets]),
                b"".join(sets),
                self._pack([len(text) for text in dropped]),
                b"".join(dropped),
            )
            # A write that got no answer may have been done: its number is used again, and either marker is right.
            self._marker = following
            self._number += 1
            if answer[0] != b"ok":
                sound = False
        if batch.rows:
            self._observe(self._clock.seconds() - started)
        return sound


def _pieces(batch: Batch) -> Iterator[tuple[str, list[bytes], list[bytes]]]:
    """The batch in pieces that one script takes: a kind, names and values in turn, names to delete. There is always
    one, for it renews the lease and looks at the marker."""
    times = _TIMES.pack(batch.mono, batch.wall)
    kind = ""
    sets: list[bytes] = []
    dropped: list[bytes] = []
    size = count = 0
    for row in batch.rows:
        if count and (row.kind != kind or size >= _PIECE_BYTES or count >= _PIECE_RECORDS):
            yield kind, sets, dropped
            sets = []
            dropped = []
            size = count = 0
        kind = row.kind
        key = row.key
        record = row.record
        count += 1
        size += len(key) + len(record)
        if record:
            body = times + record
            sets += (key, crc32(body, crc32(key)).to_bytes(4, "big") + body)
        else:
            dropped.append(key)
    yield kind, sets, dropped


def _journal_error(error: Exception, place: str) -> JournalError:
    if isinstance(error, JournalError):
        return error
    if isinstance(error, RedisRefused):
        text = str(error)
        reason = next((reason for pattern, reason in _REASONS if pattern.search(text)), "io")
        return JournalError(reason, f"Redis {place}: {text}")
    if isinstance(error, (defer.TimeoutError, ConnectTimeoutError)):
        return JournalError("timeout", f"Redis {place} does not answer in time")
    if isinstance(error, CancelledError):
        return JournalError("io", f"Redis {place}: given up")
    if isinstance(error, (TypeError, ValueError, IndexError, AttributeError)):
        return JournalError("io", f"Redis {place}: an answer that makes no sense: {error}")
    return JournalError("unreachable", f"Redis {place}: {error}")


def make_dial(reactor: Any, timeout_seconds: float) -> Dial:
    """How connections are made in earnest."""
    # Importing it chooses Twisted's reactor, which is too early for whoever imports this module.
    from txredisapi import RedisError, RedisProtocol, ResponseError

    class TxConnection:
        def __init__(self, protocol: Any) -> None:
            self._protocol = protocol

        def ask(self, words: Sequence[bytes]) -> Deferred[Any]:
            try:
                asked: Deferred[Any] = self._protocol.execute_command(*words)
            except RedisError as error:  # not connected any more
                raise ConnectionError(str(error)) from None
            return asked.addErrback(_translate)

        def close(self) -> None:
            self._protocol.transport.abortConnection()

    def _translate(failure: Any) -> Any:
        if failure.check(ResponseError):
            raise RedisRefused(str(failure.value))
        if failure.check(RedisError):
            raise ConnectionError(str(failure.value))
        return failure

    class RedisFactory(Factory):
        noisy = False

        def buildProtocol(self, addr: object) -> Any:
            return RedisProtocol(charset=None, convertNumbers=False)

    def dial(host: str, port: int) -> Deferred[Connection]:
        endpoint = HostnameEndpoint(reactor, host, port, timeout_seconds)
        connected: Deferred[Any] = endpoint.connect(RedisFactory())
        return connected.addCallback(TxConnection)

    return dial
