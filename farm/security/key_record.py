"""The keys of a farm as the store keeps them.

Values alone, in the order in which they are packed; what they mean and how they merge is `farm_keys`'s.

Decided: a file of its own because msgspec reads the annotations when a record is unpacked, and mypyc would leave
nothing of `tuple[SealedKey, ...]`.
"""

from __future__ import annotations

import msgspec


class SealedKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One key. Times are seconds since 1970: after `until` nobody opens with it, from `use_from` on it may seal, if it
    is the newest such. `sealed` is its secret under the farm's own key."""

    until: int
    use_from: int
    made_at: int
    number: int
    sealed: bytes


class KeyRecord(msgspec.Struct, frozen=True, array_like=True):
    """The keys, those that end last first."""

    keys: tuple[SealedKey, ...]
