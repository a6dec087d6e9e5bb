"""What kinds have in common of which nothing lapses."""

from __future__ import annotations

import pytest

from farm.security.lasting import NEVER, Kept, LastingKind


def check(record: bytes) -> None:
    if not record.startswith(b"record"):
        raise ValueError("no record")


KIND = LastingKind("sort", 64, check, since=2)


def test_it_is_what_it_was_called_and_belongs_to_a_partition_unless_told_otherwise() -> None:
    assert (KIND.name, KIND.record_bytes, KIND.since, KIND.everywhere) == ("sort", 64, 2, False)
    assert LastingKind("sort", 64, check, since=1, everywhere=True).everywhere


def test_a_record_stays_as_it_is_however_late_and_whoever_s_clock() -> None:
    assert KIND.sweep(b"record", 1e9) == Kept(b"record", NEVER, 0, 0, False)
    assert KIND.shift(b"record", -3600.0, 5.0) == b"record"
    assert KIND.newest(b"record") == 0


def test_what_is_no_record_is_not_let_through() -> None:
    with pytest.raises(ValueError, match="no record"):
        KIND.shift(b"garbage", 0.0)


def test_replicas_compare_all_of_it() -> None:
    assert KIND.version(b"record") == KIND.trace(b"record", 7.0)
    assert len(KIND.version(b"record")) == 16
    assert KIND.version(b"record") != KIND.version(b"record 2")
