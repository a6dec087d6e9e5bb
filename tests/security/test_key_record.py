"""The keys of a farm as they are packed: what an old node wrote is read by a new one."""

from __future__ import annotations

import msgspec

from farm.security.key_record import KeyRecord, SealedKey

PACKED = "91919507cd0708cd03e805c40473656564"


def test_the_record_is_packed_as_it_ever_was() -> None:
    record = KeyRecord((SealedKey(7, 1800, 1000, 5, b"seed"),))
    assert msgspec.msgpack.encode(record).hex() == PACKED
    assert msgspec.msgpack.decode(bytes.fromhex(PACKED), type=KeyRecord) == record


def test_keys_are_ordered_by_when_they_end() -> None:
    first, last = SealedKey(7, 1800, 1000, 5, b"z"), SealedKey(8, 1, 1, 1, b"a")
    assert sorted([last, first]) == [first, last]
