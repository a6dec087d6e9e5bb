"""The keys of tokens and nonces on one node: read from the farm's record, made when it is time, told to who seals.

Part of the composition root. The record (`security/farm_keys`) is read each minute, and at once when a token names a
key that is not known. When the newest key is a rotation old, each node waits for a random part of a minute, looks
again, and makes one if nobody has: in a farm of many nodes one does. What was read is kept in a file as well, so that a
restarted node opens what was sealed before it has reached anybody; in there, as in the record, keys are sealed.

A node that cannot read the record goes on with what it has, and says so. One that has never read any seals with the
farm's own key, which all open.

Decided: nonces are made with these keys too, unless there is a file with a key of their own (`[auth] nonce_key_file`),
and are known by the four newest alone: their life is minutes, and each key more is work with every made-up nonce.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from farm.deadlines import Deadline, Deadlines
from farm.security.durable import SECRET_MODE, read_file, write_file
from farm.security.farm_keys import KIND, FarmKey, FarmKeys, Schedule

READ_SECONDS: Final = 60.0
FIRST_SECONDS: Final = 2.0  # until the record was read for the first time
AGAIN_SECONDS: Final = 5.0  # between readings because of unknown keys, which a stranger can make up
SPREAD_SECONDS: Final = 60.0
_NONCE_KEYS: Final = 4


class Refusal(Protocol):
    """Why a record cannot be read or written."""

    @property
    def reason(self) -> str:
        """A slug."""


Answered = bytes | Refusal | None


class KeyStore(Protocol):
    """The records, of this node or of the farm."""

    def get(self, kind: str, key: str, now: float) -> Answered | Awaitable[Answered]:
        """The merged record, None when there is none."""

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Refusal | Awaitable[bytes | Refusal]:
        """Merge an update; the merged record."""


class Sealer(Protocol):
    """What makes tokens."""

    def set_keys(self, keys: Sequence[FarmKey]) -> None:
        """Seal with the first of these and open with all."""


class NonceMaker(Protocol):
    """What makes nonces."""

    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        """Make with the first of these and know all."""


class KeyRow(NamedTuple):
    """A key as the console shows it: its number and times in seconds from now, never the key itself."""

    number: int
    age: float
    seals_in: float  # negative: since then
    ends_in: float
    seals: bool


def _always() -> bool:
    return True


class Keyring:
    """The keys of one node. `secret` is the farm's own key, `name` what the record is called; `nonces` is None where
    they have a key of their own. `path` is the file for what was read, "" for none; `alone` says that there is nobody
    who might make a key at the same time, `may_make` whether all who are there would keep it. `clock` is monotonic,
    `wall` answers seconds since 1970."""

    def __init__(
        self,
        secret: bytes,
        name: str,
        schedule: Schedule,
        store: KeyStore,
        tokens: Sealer,
        nonces: NonceMaker | None,
        deadlines: Deadlines,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        path: str = "",
        alone: bool = True,
        may_make: Callable[[], bool] = _always,
    ) -> None:
        self.problem = ""  # why the record cannot be had at present, a sentence
        self._keys = FarmKeys(secret, name, schedule)
        self._name = name
        self._store = store
        self._tokens = tokens
        self._nonces = nonces
        self._deadlines = deadlines
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._spawn = spawn
        self._path = path
        self._spread = 0.0 if alone else SPREAD_SECONDS
        self._may_make = may_make
        self._applied: list[FarmKey] = []
        self._timer: Deadline | None = None
        self._started = False
        self._reading = False
        self._was_read = False
        self._turn_at: float | None = None  # when this node makes the key that is due
        self._again_at = 0.0
        self._read_file()

    # Life

    def start(self, now: float) -> None:
        """Read the record, and each minute from then on."""
        self._started = True
        self._read(None, now)

    def change(self, schedule: Schedule) -> None:
        """Rotate by this schedule from now on; the keys there are keep their times."""
        self._keys.schedule = schedule

    def note_unknown_key(self, now: float) -> None:
        """A token came with a key that is not known: perhaps it is in the record by now."""
        if now >= self._again_at:
            self._again_at = now + AGAIN_SECONDS
            self._read_at(now)

    # For the console and the metrics

    async def rotate(self, now: float) -> int:
        """Make a key although none is due; answers its number. It seals ten minutes later, when all nodes have it.
        Raises ValueError when the record cannot be had, or has no room."""
        await self._fetch(now)
        if not self.problem and self._keys.is_full(self._wall()):
            raise ValueError("there are too many keys that still open: wait until the oldest has ended")
        before = {row.number for row in self.rows()}
        if not self.problem:
            await self._make(self._clock())
        if self.problem:
            raise ValueError(self.problem)
        made = [row.number for row in self.rows() if row.number not in before]
        return made[0] if made else 0

    def rows(self) -> list[KeyRow]:
        """The keys that open, the one that seals first; without the farm's own."""
        wall = self._wall()
        return [
            KeyRow(
                known.key.number,
                wall - known.made_at,
                known.use_from - wall,
                known.until - wall,
                known.key == self._applied[0],
            )
            for known in self._keys.known(wall)
        ]

    def sealing_age(self) -> float:
        """How many seconds ago the key that seals was made; 0 while that is the farm's own."""
        return max([row.age for row in self.rows() if row.seals], default=0.0)

    def rotation_seconds(self) -> float:
        """How often a key is to be made anew; 0 on a node that makes none."""
        return self._keys.schedule.rotation_seconds if self._started else 0.0

    def problems(self) -> list[str]:
        """What is wrong at present, a sentence each."""
        found = [self.problem] if self.problem and self._was_read else []
        if self._keys.unreadable:
            found.append(
                f"{self._keys.unreadable} keys of the farm were sealed under another farm key than this node's"
            )
        return found

    # Reading

    def _read_at(self, at: float) -> None:
        self._deadlines.cancel(self._timer)
        self._timer = self._deadlines.add(at, self._read)

    def _read(self, _argument: object, now: float) -> None:
        self._read_at(now + (READ_SECONDS if self._was_read else FIRST_SECONDS))
        if not self._reading:
            self._spawn(self._refresh(now))

    async def _refresh(self, now: float) -> None:
        self._reading = True
        try:
            await self._fetch(now)
            if not self.problem:
                await self._make_if_due(self._clock())
        finally:
            self._reading = False
            self._apply()  # the time of a key that is known may have come

    async def _fetch(self, now: float) -> None:
        found = self._store.get(KIND, self._name, now)
        if isinstance(found, Awaitable):
            found = await found
        if found is not None and not isinstance(found, bytes):
            self.problem = f"the record of the farm's keys cannot be read: {found.reason}"
            return
        first = not self._was_read
        self._was_read = True
        self.problem = ""
        if found:
            self._take(found)
        if self._keys.record and self._keys.record != found and not self.problem:
            await self._put(self._keys.record, self._clock())  # it was lost, or is not whole
        if first and self._timer is not None:
            self._read_at(self._clock() + READ_SECONDS)

    async def _make_if_due(self, now: float) -> None:
        """Make a key when it is due and nobody else has until our turn comes."""
        if not self._keys.is_due(self._wall()) or self._keys.is_full(self._wall()) or not self._may_make():
            self._turn_at = None
        elif self._turn_at is None and self._spread:
            self._turn_at = now + self._rng.random() * self._spread
            self._read_at(self._turn_at)
        elif self._turn_at is None or now >= self._turn_at:
            self._turn_at = None
            await self._make(now)

    async def _make(self, now: float) -> None:
        await self._put(self._keys.make_next(self._wall()), now)

    async def _put(self, delta: bytes, now: float) -> None:
        held = self._store.put(KIND, self._name, delta, now)
        if isinstance(held, Awaitable):
            held = await held
        if isinstance(held, bytes):
            self._take(held)
        else:
            self.problem = f"the record of the farm's keys cannot be written: {held.reason}"

    def _take(self, record: bytes) -> None:
        """Learn a record, keep it, and use it. What is no record is left alone: the next reading may bring one."""
        try:
            new = self._keys.take(record)
        except ValueError as error:
            self.problem = f"the record of the farm's keys cannot be understood: {error}"
            return
        if new:
            self._apply()
            if self._path:
                with suppress(OSError):  # the record is elsewhere as well
                    write_file(self._path, self._keys.record, SECRET_MODE)

    def _read_file(self) -> None:
        """What this node knew when it was stopped."""
        if self._path:
            with suppress(OSError, ValueError):
                self._keys.take(read_file(self._path) or b"")
        self._apply()

    def _apply(self) -> None:
        """Have tokens and nonces made with what is in force."""
        keys = self._keys.keys(self._wall())
        if keys == self._applied:
            return
        self._applied = keys
        self._tokens.set_keys(keys)
        if self._nonces is not None:
            newest = [key.secret for key in keys[:_NONCE_KEYS]]
            base = [key.secret for key in keys if not key.number]
            self._nonces.set_secrets([*newest, *[secret for secret in base if secret not in newest]])
