"""A Redis in memory, as the journal sees one: its scripts by what they mean, leases by a clock, and everything that can
be wrong with a server. `tests/live/test_redis.py` has the same done by a real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet import error
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from farm.overlay import redis_journal
from farm.overlay.redis_journal import Connection, RedisRefused

PAGE = 2  # records that one HSCAN answers


class FakeRedis:
    """A server. `texts` and `hashes` are its keys; `refuses` answers every command with an error; a `silent` one
    accepts connections and answers nothing; a `down` one accepts none."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.texts: dict[bytes, bytes] = {}
        self.lapses: dict[bytes, float] = {}
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}
        self.masters: dict[bytes, tuple[bytes, bytes]] = {}
        self.refuses = ""
        self.silent = False
        self.deaf = False  # does what it is asked, and its answers are lost
        self.down = False
        self.password = b""
        self.asked: list[tuple[bytes, ...]] = []
        self.connections: list[FakeConnection] = []

    def dial(self) -> Deferred[Connection]:
        """Accept a connection, or do not."""
        if self.down:
            return fail(error.ConnectionRefusedError("refused"))
        connection = FakeConnection(self)
        self.connections.append(connection)
        return succeed(connection)

    def forget(self) -> None:
        """As FLUSHALL."""
        self.texts.clear()
        self.hashes.clear()
        self.lapses.clear()

    def kill(self) -> None:
        """End all connections and accept no others; what it held is held."""
        self.down = True
        for connection in self.connections:
            connection.lose()

    def get(self, key: bytes) -> bytes:
        """A text, b"" when there is none."""
        if self.lapses.get(key, float("inf")) <= self.clock.seconds():
            self.texts.pop(key, None)
            self.lapses.pop(key, None)
        return self.texts.get(key, b"")

    def do(self, words: Sequence[bytes]) -> Any:
        """The answer to a command."""
        self.asked.append(tuple(words))
        if self.refuses:
            raise RedisRefused(self.refuses)
        if words[0] == b"SENTINEL":
            return list(self.masters.get(words[2], ())) or None
        if words[0] in (b"AUTH", b"SELECT"):
            if words[0] == b"AUTH" and words[-1] != self.password:
                raise RedisRefused("WRONGPASS invalid username-password pair or user is disabled.")
            return "OK"
        assert words[0] == b"EVAL"
        count = int(words[2])
        keys, arguments = words[3 : 3 + count], words[3 + count :]
        owner = self.get(keys[0])
        if words[1] == redis_journal._RELEASE:
            if owner == arguments[0]:
                del self.texts[keys[0]]
            return [b"ok", b""]
        if owner and owner != arguments[0]:
            return [b"locked", owner]
        if words[1] == redis_journal._OPEN:
            found = self.get(keys[2])
            if found and int(found) > int(arguments[2]):
                return [b"newer", found]
            self.texts[keys[2]] = arguments[2]
            answer = [b"ok", self.get(keys[1])]
        elif words[1] == redis_journal._READ:
            answer = self._read(keys[1], int(arguments[2]))
        else:
            assert words[1] == redis_journal._WRITE
            answer = self._write(keys, arguments)
        self.texts[keys[0]] = arguments[0]
        self.lapses[keys[0]] = self.clock.seconds() + int(arguments[1]) / 1000
        return answer

    def _read(self, key: bytes, cursor: int) -> list[bytes]:
        fields = list(self.hashes.get(key, {}).items())
        page = [part for pair in fields[cursor : cursor + PAGE] for part in pair]
        following = cursor + PAGE if cursor + PAGE < len(fields) else 0
        return [b"ok", b"%d" % following, msgspec.msgpack.encode([len(part) for part in page]), b"".join(page)]

    def _write(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> list[bytes]:
        before = self.get(keys[1])
        records = self.hashes.setdefault(keys[2], {})
        for key in _cut(arguments[6], arguments[7]):
            records.pop(key, None)
        sets = _cut(arguments[4], arguments[5])
        records.update(zip(sets[::2], sets[1::2], strict=True))
        self.texts[keys[1]] = arguments[3]
        return [b"ok" if before in (arguments[2], arguments[3]) else b"lost", before]


class FakeConnection:
    """One connection to it."""

    def __init__(self, server: FakeRedis) -> None:
        self.server = server
        self.open = True
        self.waiting: list[Deferred[Any]] = []

    def ask(self, words: Sequence[bytes]) -> Deferred[Any]:
        """As `Connection`."""
        if not self.open:
            return fail(error.ConnectionLost("not connected"))
        if self.server.silent or self.server.deaf:
            if self.server.deaf:
                self.server.do(words)
            self.waiting.append(Deferred())
            return self.waiting[-1]
        try:
            return succeed(self.server.do(words))
        except RedisRefused as refused:
            return fail(refused)

    def lose(self) -> None:
        """The other side is gone."""
        self.open = False
        waiting, self.waiting = self.waiting, []
        for asked in waiting:
            if not asked.called:
                asked.errback(error.ConnectionLost("lost"))

    def close(self) -> None:
        """As `Connection`."""
        self.open = False


def _cut(lengths: bytes, text: bytes) -> list[bytes]:
    parts = []
    at = 0
    for length in msgspec.msgpack.decode(lengths):
        parts.append(text[at : at + length])
        at += length
    return parts
