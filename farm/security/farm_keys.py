"""The farm's keys for tokens and nonces: the record that holds them, its kind "keys", and when one follows another.

Every node seals with one key and opens with all that it knows, so a key must be everywhere before anybody seals with
it: it is made with a `use_from` that lies `MARGIN_SECONDS` ahead, and nodes read the record each minute
(`farm/keyring`). The newest key whose time has come seals. A new one is made when the newest is a rotation old; one
that is past `until`, which is the life of a token after two rotations, opens nothing more. The newest never ends: a
farm that cannot write its record goes on with it.

In the record, secrets are sealed (AES-GCM) under the farm's own key, which nodes get when they are enrolled and which
is key number 0: it opens always, and seals as long as there is no other. So whoever reads a journal or a node's memory
of records has no key of ours.

The merge is the union, of which the `MOST_KEYS` that end last stay: what one merge drops any later one would drop too,
so it is associative, commutative and idempotent. Keys that have ended stay for a while; to drop them by the time would
let a clock that was ahead once take all others with them. Times are seconds since 1970, as tokens outlive processes and
travel.

Decided: two nodes may make a key at once, and give both one number. Both stay; a token says the number, and whoever
opens it tries both. To agree on one would take a round that a farm in two halves cannot hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from farm.security.key_record import KeyRecord, SealedKey
from farm.security.lasting import NEVER, Kept, LastingKind

KIND: Final = "keys"
KEYS_BYTES: Final = 4096
MOST_KEYS: Final = 32
BASE: Final = 0  # the number of the farm's own key
MARGIN_SECONDS: Final = 600  # ten readings of the record
LONE_NAME: Final = "farm"  # under which a node without others keeps its keys

_NUMBERS: Final = 255  # 1 to 255, then again from 1
_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SEALED_BYTES: Final = _NONCE_BYTES + _SECRET_BYTES + 16
_LAST_SECOND: Final = 1 << 40
FIRST_VERSION: Final = 2  # of nodes that know this kind of record
_AHEAD_SECONDS: Final = 30  # by which a node that made a key may have been ahead of us

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(KeyRecord).decode


class FarmKey(NamedTuple):
    """A key that tokens and nonces are made with: its number in a token, 0 to 255, and its secret."""

    number: int
    secret: bytes


class Known(NamedTuple):
    """A key of the record, opened, and its times."""

    key: FarmKey
    made_at: int
    use_from: int
    until: int


class Schedule(NamedTuple):
    """How long a key seals before the next is made, and how long a token must be known again, in seconds."""

    rotation_seconds: float = 86_400.0
    token_life_seconds: float = 604_800.0


def read_record(packed: bytes) -> KeyRecord:
    """What a record says. Raises ValueError for bytes that none of us made."""
    if len(packed) > KEYS_BYTES:
        raise ValueError("too large for the keys of a farm")
    try:
        record = _unpack(packed)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not the keys of a farm: {error}") from None
    for key in record.keys:
        if not 0 <= key.made_at <= key.use_from <= key.until <= _LAST_SECOND:
            raise ValueError("a key's times are not in order")
        if not 1 <= key.number <= _NUMBERS or len(key.sealed) != _SEALED_BYTES:
            raise ValueError("a key that no node makes")
    if record != _bound(record.keys) or _pack(record) != packed:
        raise ValueError("not the keys of a farm as they are packed")
    return record


def merge_keys(one: bytes, other: bytes) -> bytes:
    """The union of two records. Raises ValueError for bytes that are none."""
    if one == other:
        return one
    first, second = read_record(one), read_record(other)
    return _pack(_bound((*first.keys, *second.keys)))


def _bound(keys: Sequence[SealedKey]) -> KeyRecord:
    return KeyRecord(tuple(sorted(set(keys), reverse=True)[:MOST_KEYS]))


class KeysKind(LastingKind):
    """The kind "keys" as the store wants it: nothing lapses but by a merge."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(KIND, KEYS_BYTES, read_record, since=FIRST_VERSION)

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Kept:
        """Join an update with what is held. Raises ValueError for bytes that are no record."""
        if held is None:
            read_record(delta)
            return Kept(delta, NEVER, 1)
        merged = merge_keys(held, delta)
        return Kept(held if merged == held else merged, NEVER, 0)


class FarmKeys:
    """The keys that a node knows. `secret` is the farm's own, `name` the overlay's; `draw(count)` answers bytes that
    nobody can guess."""

    def __init__(self, secret: bytes, name: str, schedule: Schedule, draw: Callable[[int], bytes] = os.urandom) -> None:
        self.schedule = schedule
        self.record = b""  # all that was read or made here
        self.unreadable = 0  # keys that were sealed under another farm key, since ours was made last
        self._base = FarmKey(BASE, secret)
        self._seal = AESGCM(blake2b(secret, digest_size=32, person=b"sipfarm-keys").digest())
        self._name = name.encode("utf-8", "surrogateescape")
        self._draw = draw
        self._known: list[Known] = []  # the newest first
        self._ends: list[int] = []  # of all in the record

    def take(self, packed: bytes) -> bool:
        """Learn a record; answers whether it said something new. Raises ValueError for bytes that are none."""
        merged = merge_keys(self.record or packed, packed)
        read_record(merged)
        if merged == self.record:
            return False
        self.record = merged
        self._known = []
        self._ends = []
        foreign: list[int] = []
        for sealed in read_record(merged).keys:
            self._ends.append(sealed.until)
            secret = self._open(sealed)
            if secret is None:
                foreign.append(sealed.made_at)
            else:
                key = FarmKey(sealed.number, secret)
                self._known.append(Known(key, sealed.made_at, sealed.use_from, sealed.until))
        self._known.sort(key=lambda known: (known.use_from, known.made_at, known.key), reverse=True)
        newest = max([known.made_at for known in self._known], default=0)
        self.unreadable = len([made_at for made_at in foreign if made_at > newest])
        return True

    def known(self, wall: float) -> list[Known]:
        """The keys that open at that time, the one that seals first, the rest newest first; without the farm's own."""
        alive = [known for index, known in enumerate(self._known) if not index or known.until >= wall]
        for index, known in enumerate(alive):
            if known.use_from <= wall:
                return [known, *alive[:index], *alive[index + 1 :]]
        return alive

    def keys(self, wall: float) -> list[FarmKey]:
        """The same with the farm's own key, as `Tokens.set_keys` and `Nonces.set_secrets` want them."""
        known = self.known(wall)
        others = [one.key for one in known]
        return [*others, self._base] if known and known[0].use_from <= wall else [self._base, *others]

    def is_due(self, wall: float) -> bool:
        """Whether it is time to make a key. One from a clock that was far ahead of ours does not hold us up."""
        made = [known.made_at for known in self._known if known.made_at <= wall + _AHEAD_SECONDS]
        return not made or wall - max(made) >= self.schedule.rotation_seconds

    def is_full(self, wall: float) -> bool:
        """Whether one more key could drive out one that still opens."""
        return len([until for until in self._ends if until >= wall]) >= MOST_KEYS

    def make_next(self, wall: float) -> bytes:
        """A record with one new key, to be merged into what all nodes have; it is not learnt before it is taken."""
        made_at = max(int(wall), 0)
        use_from = made_at + MARGIN_SECONDS
        schedule = self.schedule
        until = use_from + int(2 * schedule.rotation_seconds + schedule.token_life_seconds)
        used = {known.key.number for known in self._known}
        number = self._known[0].key.number if self._known else 0
        for _ in range(_NUMBERS):
            number = number % _NUMBERS + 1
            if number not in used:
                break
        nonce, secret = self._draw(_NONCE_BYTES), self._draw(_SECRET_BYTES)
        head = self._head(number, made_at, use_from, until)
        sealed = SealedKey(until, use_from, made_at, number, nonce + self._seal.encrypt(nonce, secret, head))
        return _pack(_bound((sealed,)))

    def _open(self, sealed: SealedKey) -> bytes | None:
        head = self._head(sealed.number, sealed.made_at, sealed.use_from, sealed.until)
        try:
            return self._seal.decrypt(sealed.sealed[:_NONCE_BYTES], sealed.sealed[_NONCE_BYTES:], head)
        except InvalidTag:
            return None

    def _head(self, number: int, made_at: int, use_from: int, until: int) -> bytes:
        return b"%d %d %d %d " % (number, made_at, use_from, until) + self._name
