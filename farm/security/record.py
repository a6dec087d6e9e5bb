"""The record of a user as the store keeps it: the hashes that digest authentication compares with, never the password.

Values alone, in the order in which they are packed; what they mean is `credentials`'.

Decided: a file of its own because msgspec reads the annotations when a record is unpacked, and mypyc, which compiles
what works on them (setup.py), would leave nothing of `tuple[int, int]`.
"""

from __future__ import annotations

import msgspec

Stamp = tuple[int, int]  # hybrid logical time, and the node that breaks ties


class Credential(msgspec.Struct, frozen=True, array_like=True):
    """One user. `ha1` maps an algorithm to the raw hashes for the names "user" and "user@domain"."""

    stamp: Stamp
    realm: str
    ha1: dict[str, tuple[bytes, bytes]]
    disabled: bool = False
    deleted: bool = False
