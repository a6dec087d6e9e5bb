"""Nonces that every node of the farm can check, and the memory that refuses their replay.

RFC 7616 §3.3, §3.4.5 and §5.4. A nonce is 32 characters: the second it was made in, the node that made it with a number
of its own, and a MAC over all three and the realm, under a key that all nodes share. So it needs no table: the node
that gets the answer need not be the one that asked. Node and number are masked by a keyed hash of the MAC, which
differs each time, so that nobody else can tell two nodes apart. Nonces are told the wall clock, in seconds since 1970,
because they travel between nodes; everything else in the farm is told monotonic time.

What must be remembered is which nonce counts were used, and the node that made a nonce does: whoever else gets an
answer asks it. Each nonce used has its highest count and a bitmap of the 64 below, so that requests which overtook each
other on the way pass once each. The memory is cut into slices by the second of making, which are dropped whole when
their nonces are too old; when it is full, the oldest slice goes early and its nonces count as stale from then on, as do
those from before the node was started. A replay is never let through for lack of memory, and a phone pays for that lack
with one round trip.

Decided: the maker keeps the counts, not a node chosen by hash. Phones mostly stay where they were challenged, so mostly
nobody needs to be asked; and when a keeper dies, whoever takes over would know no more than that it was not there.
Decided: a MAC instead of encryption; blake2b costs half a microsecond.
Decided: only counts of right digests are remembered, so that strangers cannot fill the memory.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import random
import struct
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

NONCE_CHARACTERS: Final = 32
SECRET_BYTES: Final = 16

_TIME: Final = struct.Struct(">I")
_TIME_BYTES: Final = 4
_SERIAL_BYTES: Final = 8
_HEAD_BYTES: Final = _TIME_BYTES + _SERIAL_BYTES
_MAC_BYTES: Final = 12
_SKEW_SECONDS: Final = 30  # clocks of nodes may differ; the overlay stops a node that is 5 s off
_WINDOW: Final = 64
_SEEN: Final = (1 << _WINDOW) - 1
_SLICES: Final = 64


class Origin(NamedTuple):
    """When (wall-clock seconds) one of our nodes made a nonce, and its serial, which no other has."""

    made_at: int
    serial: int

    @property
    def node(self) -> int:
        """The tag of the node that made it, 32 bits."""
        return self.serial >> 32


class Use(Enum):
    """What became of a nonce count."""

    FIRST = "first"
    REPLAYED = "replayed"
    FORGOTTEN = "forgotten"


class Nonces:
    """Makes and checks nonces. The first of `secrets` makes, all of them check, so that keys can be rotated.

    A secret has 16 bytes or more (ValueError otherwise) and is the same on all nodes. `node` is this node's tag, 32
    bits that no other node has. `rng` says where serials begin, that those of two boots are not the same.
    """

    __slots__ = ("_began", "_life_seconds", "_made", "_states", "node")

    def __init__(self, secrets: Sequence[bytes], life_seconds: float, rng: random.Random, node: int = 0) -> None:
        self.node = node
        self._states: list[tuple[hashlib.blake2b, hashlib.blake2b]] = []  # for the MAC and for the mask
        self._life_seconds = life_seconds
        self._made = self._began = rng.getrandbits(32)
        self.set_secrets(secrets)

    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        """Use these keys from now on."""
        if not secrets or min(len(secret) for secret in secrets) < SECRET_BYTES:
            raise ValueError(f"a nonce key has {SECRET_BYTES} bytes or more")
        keys = [hashlib.blake2b(secret, digest_size=32).digest() for secret in secrets]
        self._states = [
            (
                hashlib.blake2b(key=key, digest_size=_MAC_BYTES, person=b"sipfarm nonce"),
                hashlib.blake2b(key=key, digest_size=_SERIAL_BYTES, person=b"sipfarm maker"),
            )
            for key in keys
        ]

    def make(self, realm: str, wall: float) -> str:
        """A new nonce for a challenge of that realm."""
        self._made = made = (self._made + 1) & 0xFFFFFFFF
        serial = self.node << 32 | made
        time = _TIME.pack(int(wall) & 0xFFFFFFFF)
        macs, masks = self._states[0]
        mac = macs.copy()
        mac.update(time + serial.to_bytes(_SERIAL_BYTES, "big") + realm.encode("utf-8", "surrogateescape"))
        proof = mac.digest()
        masked = serial ^ _mask(masks, proof)
        return binascii.b2a_base64(time + masked.to_bytes(_SERIAL_BYTES, "big") + proof, newline=False).decode("ascii")

    def has_made(self, origin: Origin) -> bool:
        """Whether a nonce is of this process, by its serial: the serials of another boot began elsewhere."""
        number = origin.serial & 0xFFFFFFFF
        return 0 < (number - self._began & 0xFFFFFFFF) <= (self._made - self._began & 0xFFFFFFFF)

    def find_origin(self, nonce: str, realm: str) -> Origin | None:
        """Where a nonce comes from, however old; None when none of our keys made it for that realm."""
        if len(nonce) != NONCE_CHARACTERS:
            return None
        try:
            data = binascii.a2b_base64(nonce, strict_mode=True)
        except ValueError:
            return None
        time, proof = data[:_TIME_BYTES], data[_HEAD_BYTES:]
        masked = int.from_bytes(data[_TIME_BYTES:_HEAD_BYTES], "big")
        named = realm.encode("utf-8", "surrogateescape")
        for macs, masks in self._states:
            serial = masked ^ _mask(masks, proof)
            mac = macs.copy()
            mac.update(time + serial.to_bytes(_SERIAL_BYTES, "big") + named)
            if hmac.compare_digest(mac.digest(), proof):
                return Origin(int.from_bytes(time, "big"), serial)
        return None

    def is_fresh(self, origin: Origin, wall: float) -> bool:
        """Whether it is within its life, the clocks of nodes being up to 30 s apart."""
        return -_SKEW_SECONDS <= wall - origin.made_at <= self._life_seconds


def _mask(keyed: hashlib.blake2b, proof: bytes) -> int:
    mask = keyed.copy()
    mask.update(proof)
    return int.from_bytes(mask.digest(), "big")


class NonceCounts:
    """Which counts of this node's nonces were used; at most `entries` nonces, each for `life_seconds`, and none from
    before `began_at`, of which it cannot know (wall-clock seconds)."""

    __slots__ = ("_began_at", "_floor", "_kept", "_size", "_slices", "_step", "entries")

    def __init__(self, life_seconds: float, entries: int, began_at: float = 0.0) -> None:
        self._began_at = int(began_at)
        self.entries = max(entries, 1)
        self._step = max(int(life_seconds) // _SLICES, 1)
        self._kept = int(life_seconds) + _SKEW_SECONDS + self._step
        self._slices: dict[int, dict[int, int]] = {}  # slice -> serial -> highest count << 64 | bitmap
        self._size = 0
        self._floor = 0  # slices below are dropped and must not come again

    def __len__(self) -> int:
        return self._size

    def use(self, origin: Origin, count: int, wall: float) -> Use:
        """Mark `count` of a fresh nonce as used. FIRST: go on; otherwise it was used, is too far behind, or the
        memory of its time had to go: ask for a new nonce."""
        if origin.made_at < self._began_at:
            if self._began_at <= wall + _SKEW_SECONDS:
                return Use.FORGOTTEN
            self._began_at = 0  # the clock was set back: what was made before we began lies in the future now
        index = origin.made_at // self._step
        if index < self._floor:
            if self._floor * self._step <= wall + _SKEW_SECONDS + self._step:
                return Use.FORGOTTEN
            self._floor = 0  # the clock was set back: what was dropped lies in the future now, and is not fresh
        counts = self._slices.get(index)
        if counts is None:
            self._drop_expired(wall)
            counts = self._slices[index] = {}
        state = counts.get(origin.serial)
        if state is None:
            while self._size >= self.entries:
                self._drop_oldest()
            if index < self._floor:
                return Use.FORGOTTEN
            counts[origin.serial] = count << _WINDOW | 1
            self._size += 1
            return Use.FIRST
        highest = state >> _WINDOW
        seen = state & _SEEN
        if count > highest:
            ahead = count - highest
            seen = (seen << ahead | 1) & _SEEN if ahead < _WINDOW else 1
            counts[origin.serial] = count << _WINDOW | seen
            return Use.FIRST
        behind = highest - count
        if behind >= _WINDOW or seen >> behind & 1:
            return Use.REPLAYED
        counts[origin.serial] = state | 1 << behind
        return Use.FIRST

    def _drop_expired(self, wall: float) -> None:
        # Their nonces are refused by age already, or lie in the future because the clock was set back
        first = (int(wall) - self._kept) // self._step
        last = (int(wall) + _SKEW_SECONDS) // self._step
        for index in [index for index in self._slices if not first <= index <= last]:
            self._size -= len(self._slices.pop(index))

    def _drop_oldest(self) -> None:
        index = min(self._slices)
        self._size -= len(self._slices.pop(index))
        self._floor = index + 1
