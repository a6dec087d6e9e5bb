"""Call records in Redis: a list that others read, `LMPOP` or `BLPOP` from its left, oldest first.

A batch is one RPUSH, and one LTRIM that keeps the list to `most` records when nobody reads it. One connection, given up
at the first error and made anew for the next batch. A batch whose answer was lost is sent again: a record may be there
twice and is never left out, so a reader that bills goes by `callid`, `to_tag` and `event`.

Decided: a list and no stream. Any client and any Redis has it, who reads it takes records out, and it costs Redis half
the memory; who wants several readers has the file.
Decided: no Sentinel, no cluster. What is here passes through; while Redis is away the records wait (`outlet`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred


class Connection(Protocol):
    """One connection to a Redis, as `overlay.redis_journal` makes it."""

    def ask(self, words: Sequence[bytes]) -> Deferred[Any]:
        """Send a command; fires with the answer, or what is wrong. It may never fire."""

    def close(self) -> None:
        """Give the connection up at once."""


class Place(NamedTuple):
    """Which list of which Redis."""

    address: tuple[str, int]
    key: str
    most: int
    database: int = 0
    user: str = ""
    password: bytes = b""


Dial = Callable[[str, int], Deferred[Any]]


class RedisWriter:
    """One list. `clock` has `callLater`, for the deadline of each command."""

    def __init__(self, place: Place, dial: Dial, clock: Any, timeout_seconds: float) -> None:
        self.place = place
        self._dial = dial
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None

    def write(self, lines: Sequence[bytes]) -> Deferred[None]:
        """Append lines; fires when Redis has them, or with what was wrong."""
        return Deferred.fromCoroutine(self._write(lines))

    async def _write(self, lines: Sequence[bytes]) -> None:
        try:
            connection = await self._connected()
            key = self.place.key.encode()
            count = await self._ask(connection, b"RPUSH", key, *[line.rstrip(b"\n") for line in lines])
            if int(count) > self.place.most:
                await self._ask(connection, b"LTRIM", key, b"%d" % -self.place.most, b"-1")
        except BaseException:
            self.close()
            raise

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None:
            return connection
        place = self.place
        dialled: Connection = await self._dial(*place.address).addTimeout(self._timeout_seconds, self._clock)
        self._connection = dialled
        if place.password:
            user = (place.user.encode(),) if place.user else ()
            await self._ask(dialled, b"AUTH", *user, place.password)
        if place.database:
            await self._ask(dialled, b"SELECT", b"%d" % place.database)
        return dialled

    async def _ask(self, connection: Connection, *words: bytes) -> Any:
        return await connection.ask(words).addTimeout(self._timeout_seconds, self._clock)

    def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
