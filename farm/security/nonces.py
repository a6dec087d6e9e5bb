"""Nonces that every node of the farm can check, and the memory that refuses their replay.

RFC 7616 §3.3, §3.4.5 and §5.4. A nonce is 32 characters: the second it was made in, a random serial, and a MAC over
both and the realm, under a key that all nodes share. So it needs no table: the node that gets the answer need not be
the one that asked, nor has it to be up since. Nonces are told the wall clock, in seconds since 1970, because they
outlive processes and travel between nodes; everything else in the farm is told monotonic time.

What must be remembered is which nonce counts were used. Each nonce used has its highest count and a bitmap of the 64
below, so that requests which overtook each other on the way pass once each. The memory is cut into slices by the
second of making, which are dropped whole when their nonces are too old; when it is full, the oldest slice goes early
and its nonces count as stale from then on. A replay is never let through for lack of room, and a phone pays for that
lack with one round trip.

Decided: a MAC instead of encryption. Time and serial are no secret, and blake2b costs half a microsecond.
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

_HEAD: Final = struct.Struct(">IQ")
_HEAD_BYTES: Final = 12
_MAC_BYTES: Final = 12
_SKEW_SECONDS: Final = 30  # clocks of nodes may differ; the overlay stops a node that is 5 s off
_WINDOW: Final = 64
_SEEN: Final = (1 << _WINDOW) - 1
_SLICES: Final = 64


class Origin(NamedTuple):
    """When (wall-clock seconds) one of our nodes made a nonce, and its random serial."""

    made_at: int
    serial: int


class Use(Enum):
    """What became of a nonce count."""

    FIRST = "first"
    REPLAYED = "replayed"
    FORGOTTEN = "forgotten"


class Nonces:
    """Makes and checks nonces. The first of `secrets` makes, all of them check, so that keys can be rotated.

    A secret has 16 bytes or more (ValueError otherwise) and is the same on all nodes. `rng` makes serials unique;
    that they cannot be guessed does not matter, the MAC cannot.
    """

    __slots__ = ("_life_seconds", "_macs", "_random")

    def __init__(self, secrets: Sequence[bytes], life_seconds: float, rng: random.Random) -> None:
        self._macs: list[hashlib.blake2b] = []
        self._life_seconds = life_seconds
        self._random = rng
        self.set_secrets(secrets)

    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        """Use these keys from now on."""
        if not secrets or min(len(secret) for secret in secrets) < SECRET_BYTES:
            raise ValueError(f"a nonce key has {SECRET_BYTES} bytes or more")
        self._macs = [
            hashlib.blake2b(
                key=hashlib.blake2b(secret, digest_size=32).digest(), digest_size=_MAC_BYTES, person=b"sipfarm nonce"
            )
            for secret in secrets
        ]

    def make(self, realm: str, wall: float) -> str:
        """A new nonce for a challenge of that realm."""
        head = _HEAD.pack(int(wall) & 0xFFFFFFFF, self._random.getrandbits(64))
        mac = self._macs[0].copy()
        mac.update(head + realm.encode("utf-8", "surrogateescape"))
        return binascii.b2a_base64(head + mac.digest(), newline=False).decode("ascii")

    def find_origin(self, nonce: str, realm: str) -> Origin | None:
        """Where a nonce comes from, however old; None when none of our keys made it for that realm."""
        if len(nonce) != NONCE_CHARACTERS:
            return None
        try:
            data = binascii.a2b_base64(nonce, strict_mode=True)
        except ValueError:
            return None
        head = data[:_HEAD_BYTES]
        signed = head + realm.encode("utf-8", "surrogateescape")
        for keyed in self._macs:
            mac = keyed.copy()
            mac.update(signed)
            if hmac.compare_digest(mac.digest(), data[_HEAD_BYTES:]):
                made_at, serial = _HEAD.unpack(head)
                return Origin(made_at, serial)
        return None

    def is_fresh(self, origin: Origin, wall: float) -> bool:
        """Whether it is within its life, the clocks of nodes being up to 30 s apart."""
        return -_SKEW_SECONDS <= wall - origin.made_at <= self._life_seconds


class NonceCounts:
    """Which counts of which nonces were used; at most `entries` nonces, each for `life_seconds`."""

    __slots__ = ("_entries", "_floor", "_kept", "_size", "_slices", "_step")

    def __init__(self, life_seconds: float, entries: int) -> None:
        self._entries = max(entries, 1)
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
            while self._size >= self._entries:
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
