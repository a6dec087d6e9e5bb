"""The values of a user's record, as they go into the store's bytes and come out again."""

from __future__ import annotations

import msgspec

from farm.security.record import Credential

ALICE = Credential((7, 1), "example.com", {"MD5": (b"one", b"two")}, disabled=True)


def test_a_record_comes_back_as_the_values_that_it_was_made_of() -> None:
    """All the way down: a compiled class that had lost its annotations would answer lists here."""
    came = msgspec.msgpack.decode(msgspec.msgpack.encode(ALICE), type=Credential)
    assert came == ALICE
    assert isinstance(came.stamp, tuple)
    assert isinstance(came.ha1["MD5"], tuple)


def test_a_record_is_packed_without_the_names_of_its_fields() -> None:
    """Tombstones are kept for ever, so they are small."""
    gone = Credential((7, 1), "", {}, deleted=True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(gone)) == [[7, 1], "", {}, False, True]
