"""Random texts for tags and branches, drawn in bulk: asking the kernel for each would cost a microsecond."""

from __future__ import annotations

import random
from typing import Final

_TEXTS: Final = 256
_BITS: Final = 64
_CHARS: Final = _BITS // 4


class Draws:
    """Hands out texts of 64 random bits, as unguessable as `rng` is (RFC 3261 §19.3 asks for 32 bits)."""

    __slots__ = ("_at", "_drawn", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._drawn = ""
        self._at = 0

    def make_text(self) -> str:
        """16 hexadecimal characters, none of them drawn before."""
        at = self._at
        if at == len(self._drawn):
            self._drawn = f"{self._rng.getrandbits(_TEXTS * _BITS):0{_TEXTS * _CHARS}x}"
            at = 0
        self._at = at + _CHARS
        return self._drawn[at : at + _CHARS]
