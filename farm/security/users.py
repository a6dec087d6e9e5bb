"""What is done to users: added, given a new password, disabled, removed, listed, imported.

The orders come from the console and end as records of the kind "credential" (see `credentials`), put into a store that
merges them; on a farm a user added through one node is a user of all. Names are taken as people write them, "user",
"user@domain" or a SIP URI, and kept canonical. Passwords are turned to HA1 here and go no further.

These are asynchronous sequences, since a store may live on other nodes; with a local one they never suspend.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from farm.security.credentials import (
    KIND,
    make_aor,
    make_credential,
    pack_credential,
    take_credential,
    unpack_credential,
)
from farm.security.record import Credential, Stamp
from farm.sip.status import SipError

NAME_CHARACTERS: Final = 128
PASSWORD_CHARACTERS: Final = 256
HASH_DIGITS: Final = {"MD5": 32, "SHA-256": 64, "SHA-512-256": 64}
AT_ONCE: Final = 20  # rows of an import that wait for other nodes together

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HEX: Final = re.compile(r"[0-9A-Fa-f]*")

T = TypeVar("T")


class Refusal(Protocol):
    """Why an update was not taken; nothing has changed."""

    @property
    def reason(self) -> str:
        """A word for it, such as "full"."""


Fetched = bytes | Refusal | None
Collected = list[tuple[str, bytes]] | Refusal


class UserStore(Protocol):
    """The records of all kinds. What is at hand is answered at once, the rest by an awaitable; `now` is monotonic."""

    def get(self, kind: str, key: str, now: float) -> Fetched | Awaitable[Fetched]:
        """The merged record, None when there never was one; a Refusal when it cannot be had."""

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Refusal | Awaitable[bytes | Refusal]:
        """Merge `delta` into the record, whole or not at all, and answer the merged one."""

    def collect(self, kind: str, now: float) -> Collected | Awaitable[Collected]:
        """Every record of a kind, with its key, in no particular order; a Refusal when not all can be had."""


class UserError(Exception):
    """What is wrong with a user name, domain or password; `str()` of it is the line for whoever typed it."""


class Change(Enum):
    """What an order about a user came to."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    EXISTS = "exists"
    UNKNOWN = "unknown"


class UserEntry(NamedTuple):
    """One line of the list of users."""

    aor: str
    disabled: bool


class UserRow(NamedTuple):
    """A user to be imported: line number in the file, plain name, domain, password.

    Instead of the password there may be `hashes` of another registrar: algorithm, HA1 in hex for the name "user", and
    for the name "user@domain" ("" where that is not known)."""

    line: int
    user: str
    domain: str
    password: str
    hashes: tuple[tuple[str, str, str], ...] = ()


class BadRow(NamedTuple):
    """A line that holds no user, and why."""

    line: int
    problem: str


class Imported(NamedTuple):
    """A user that was imported from that line."""

    line: int
    aor: str
    change: Change


class _Sought(NamedTuple):
    """A row whose user is being looked up."""

    line: int
    user: str
    domain: str
    aor: str
    password: str
    hashes: tuple[tuple[str, str, str], ...]
    found: Credential | Awaitable[Credential | None] | None


class _Stored(NamedTuple):
    """A row whose user is being stored."""

    line: int
    aor: str
    known: bool
    answer: bytes | Refusal | Awaitable[bytes | Refusal]


class Users:
    """The users of our domains.

    `stamp` gives the next hybrid logical time, for a change made now. The first of `domains` is meant when a name has
    none; other domains are refused. Every order raises UserError for what cannot be done.
    """

    __slots__ = ("_domains", "_stamp", "_store")

    def __init__(self, store: UserStore, stamp: Callable[[], Stamp], domains: Collection[str]) -> None:
        self._store = store
        self._stamp = stamp
        self.change(domains)

    def change(self, domains: Collection[str]) -> None:
        """These are ours from now on; users of others stay until somebody removes them."""
        self._domains = tuple(domain.lower() for domain in domains)

    def find(self, aor: str, now: float) -> Credential | Awaitable[Credential | None] | None:
        """The record of a canonical address-of-record; None for a user that is not, or no more. Raises UserError when
        it cannot be had."""
        found = self._store.get(KIND, aor, now)
        return self._find_later(found) if isinstance(found, Awaitable) else _living(found)

    async def add(self, name: str, password: str, now: float) -> Change:
        """A new user; EXISTS, and nothing changed, when there is one."""
        user, domain, aor = self.check(name, password)
        if await _settled(self.find(aor, now)) is not None:
            return Change.EXISTS
        await self._put(aor, make_credential(user, domain, password, self._stamp()), now)
        return Change.ADDED

    async def set_password(self, name: str, password: str, now: float) -> Change:
        """A new password, in force at once; UNKNOWN when there is no such user."""
        user, domain, aor = self.check(name, password)
        credential = await _settled(self.find(aor, now))
        if credential is None:
            return Change.UNKNOWN
        made = make_credential(user, domain, password, self._stamp(), disabled=credential.disabled)
        await self._put(aor, made, now)
        return Change.CHANGED

    async def set_disabled(self, name: str, disabled: bool, now: float) -> Change:
        """Refuse a user (403) although the password is right, or serve again."""
        _, _, aor = self.check(name)
        credential = await _settled(self.find(aor, now))
        if credential is None:
            return Change.UNKNOWN
        await self._put(aor, msgspec.structs.replace(credential, stamp=self._stamp(), disabled=disabled), now)
        return Change.CHANGED

    async def remove(self, name: str, now: float) -> Change:
        """Remove a user for good: a tombstone takes the place of the hashes."""
        _, domain, aor = self.check(name)
        if await _settled(self.find(aor, now)) is None:
            return Change.UNKNOWN
        await self._put(aor, Credential(self._stamp(), domain, {}, deleted=True), now)
        return Change.REMOVED

    async def entries(self, now: float) -> list[UserEntry]:
        """All users, by address-of-record. Raises UserError when not all can be had."""
        found = self._store.collect(KIND, now)
        if isinstance(found, Awaitable):
            found = await found
        if not isinstance(found, list):
            if found.reason == "too-many":
                raise UserError("there are too many users to list them")
            raise UserError(f"not all users' records can be reached ({found.reason})")
        living = [(aor, _living(packed)) for aor, packed in sorted(found)]
        return [UserEntry(aor, credential.disabled) for aor, credential in living if credential is not None]

    async def import_rows(
        self, rows: Iterable[UserRow | BadRow], now: Callable[[], float]
    ) -> AsyncIterator[Imported | BadRow]:
        """Add or change a user for each row, answering row by row, so that the caller can show how far it is and let
        others run in between. A bad row is handed on and spoils no other. `now` is asked anew for each operation: many
        rows take longer than one operation may, and AT_ONCE of them share the waiting for other nodes."""
        taken = iter(rows)
        while portion := list(islice(taken, AT_ONCE)):
            sought = [self._seek_row(row, now()) for row in portion]
            stored = [await self._store_row(row, now()) if isinstance(row, _Sought) else row for row in sought]
            seen: set[str] = set()
            for row in stored:
                if isinstance(row, BadRow):
                    yield row
                    continue
                problem = await _find_problem(row)
                change = Change.CHANGED if row.known or row.aor in seen else Change.ADDED
                seen.add(row.aor)
                yield BadRow(row.line, problem) if problem else Imported(row.line, row.aor, change)

    def _seek_row(self, row: UserRow | BadRow, now: float) -> _Sought | BadRow:
        """Begin to look up whom a row means."""
        if isinstance(row, BadRow):
            return row
        try:
            name = f"{row.user}@{row.domain}" if row.domain else row.user
            user, domain, aor = self.check(name, None if row.hashes else row.password)
            if row.hashes and row.domain != row.domain.lower():
                raise UserError(f"hashes made for {row.domain!r} fit no phone: the realm here is {domain!r}")
            check_hashes(row.hashes)
            return _Sought(row.line, user, domain, aor, row.password, row.hashes, self.find(aor, now))
        except UserError as error:
            return BadRow(row.line, str(error))

    async def _store_row(self, row: _Sought, now: float) -> _Stored | BadRow:
        """Begin to store what a row says, once it is known whether it is new."""
        try:
            known = await _settled(row.found) is not None
        except UserError as error:
            return BadRow(row.line, str(error))
        if row.hashes:
            made = take_credential(row.domain, row.hashes, self._stamp())
        else:
            made = make_credential(row.user, row.domain, row.password, self._stamp())
        return _Stored(row.line, row.aor, known, self._store.put(KIND, row.aor, pack_credential(made), now))

    def check(self, name: str, password: str | None = None) -> tuple[str, str, str]:
        """A name as (user, domain, address-of-record); raises UserError for what may not be."""
        user, at, domain = name.removeprefix("sip:").rpartition("@")
        if not at:
            user, domain = domain, self._domains[0]
        domain = domain.lower()
        if not user or len(user) > NAME_CHARACTERS or _CONTROL.search(user) or '"' in user or ":" in user:
            raise UserError(f"{name!r} is no user name (1 to {NAME_CHARACTERS} characters, no colon, quote or control)")
        if domain not in self._domains:
            raise UserError(f"{domain!r} is none of our domains ({', '.join(self._domains)})")
        if password is not None and (not password or len(password) > PASSWORD_CHARACTERS or _CONTROL.search(password)):
            raise UserError(f"a password has 1 to {PASSWORD_CHARACTERS} characters, none of them a control character")
        try:
            return user, domain, make_aor(user, domain)
        except SipError as error:
            raise UserError(f"{name!r} is no user name: {error.phrase}") from None

    async def _put(self, aor: str, credential: Credential, now: float) -> None:
        problem = await _find_problem(
            _Stored(0, aor, False, self._store.put(KIND, aor, pack_credential(credential), now))
        )
        if problem:
            raise UserError(problem)

    async def _find_later(self, finding: Awaitable[Fetched]) -> Credential | None:
        return _living(await finding)


def check_hashes(hashes: tuple[tuple[str, str, str], ...]) -> None:
    """Raises UserError for what is no HA1 of its algorithm."""
    for algorithm, plain, full in hashes:
        digits = HASH_DIGITS.get(algorithm)
        if digits is None:
            raise UserError(f"there is no digest algorithm {algorithm!r} ({', '.join(HASH_DIGITS)})")
        for value in (plain, full) if full else (plain,):
            if len(value) != digits or not _HEX.fullmatch(value):
                raise UserError(f"a hash of {algorithm} has {digits} hexadecimal digits, and this has {len(value)}")


async def _find_problem(row: _Stored) -> str:
    """Why a user was not stored; "" when it was."""
    answer: bytes | Refusal = await _settled(row.answer)
    return "" if isinstance(answer, bytes) else f"{row.aor} was not stored ({answer.reason})"


def _living(found: Fetched) -> Credential | None:
    if found is None:
        return None
    if not isinstance(found, bytes):
        raise UserError(f"the users' records cannot be reached ({found.reason})")
    credential = unpack_credential(found)
    return None if credential.deleted else credential


async def _settled(answer: T | Awaitable[T]) -> T:
    if isinstance(answer, Awaitable):
        return await answer
    return answer
