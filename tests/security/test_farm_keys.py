"""The farm's keys: everywhere before anybody seals with one, open as long as a token lives, and never in the clear."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.security.farm_keys import (
    BASE,
    KEYS_BYTES,
    MARGIN_SECONDS,
    MOST_KEYS,
    FarmKey,
    FarmKeys,
    KeysKind,
    Schedule,
    merge_keys,
    read_record,
)
from farm.security.key_record import KeyRecord, SealedKey

NOON = 1_800_000_000
DAY = 86_400
SECRET = b"s" * 32
OWN = FarmKey(BASE, SECRET)


def make_keys(
    seed: int = 1, *, secret: bytes = SECRET, name: str = "farm.example", schedule: Schedule | None = None
) -> FarmKeys:
    return FarmKeys(secret, name, schedule or Schedule(), random.Random(seed).randbytes)


def add_key(keys: FarmKeys, wall: float) -> bytes:
    record = keys.make_next(wall)
    assert keys.take(record)
    return record


class TestASchedule:
    def test_a_farm_begins_with_its_own_key_and_makes_one_at_once(self) -> None:
        keys = make_keys()
        assert keys.keys(NOON) == [OWN]
        assert keys.is_due(NOON)

    def test_a_key_seals_only_when_every_node_has_had_time_to_read_it(self) -> None:
        keys = make_keys()
        add_key(keys, NOON)
        before = keys.keys(NOON + MARGIN_SECONDS - 1)
        assert before[0] == OWN
        assert [key.number for key in before] == [0, 1], "and opens already"
        assert [key.number for key in keys.keys(NOON + MARGIN_SECONDS)] == [1, 0]

    def test_the_next_is_due_a_rotation_later_and_the_old_one_opens_on(self) -> None:
        keys = make_keys()
        add_key(keys, NOON)
        assert [keys.is_due(NOON + seconds) for seconds in (0, DAY - 1, DAY)] == [False, False, True]
        add_key(keys, NOON + DAY)
        assert [key.number for key in keys.keys(NOON + DAY)] == [1, 2, 0]
        assert [key.number for key in keys.keys(NOON + DAY + MARGIN_SECONDS)] == [2, 1, 0]

    def test_a_key_opens_for_the_life_of_a_token_after_it_sealed_last(self) -> None:
        keys = make_keys()
        for day in range(12):
            add_key(keys, NOON + day * DAY)
            wall = NOON + day * DAY
            numbers = {key.number for key in keys.keys(wall)}
            assert {max(1, day - 7), day + 1, 0} <= numbers, "what sealed within the last week"
            assert len(numbers) <= 12
        assert 1 not in {key.number for key in keys.keys(NOON + 11 * DAY)}

    def test_the_newest_key_never_ends(self) -> None:
        """A farm that was off for a year goes on with it until it has made another."""
        keys = make_keys()
        add_key(keys, NOON)
        assert [key.number for key in keys.keys(NOON + 400 * DAY)] == [1, 0]
        assert keys.is_due(NOON + 400 * DAY)

    def test_a_key_of_a_clock_far_ahead_holds_up_no_rotation(self) -> None:
        keys = make_keys()
        add_key(keys, NOON + 3 * DAY)
        assert keys.is_due(NOON)
        assert keys.keys(NOON)[0] == OWN
        add_key(keys, NOON)
        assert keys.keys(NOON + MARGIN_SECONDS)[0].number == 2
        add_key(keys, NOON + DAY)
        assert sorted(key.number for key in keys.keys(NOON + DAY)) == [0, 1, 2, 3], "each has a number of its own"

    def test_numbers_go_round_and_leave_out_what_still_opens(self) -> None:
        keys = make_keys(schedule=Schedule(1200.0, 9600.0))
        for count in range(600):
            add_key(keys, NOON + count * 1200)
            numbers = [key.number for key in keys.keys(NOON + count * 1200)]
            assert len(set(numbers)) == len(numbers)
            assert 0 < max(numbers) <= 255
            assert not keys.is_full(NOON + count * 1200)


class TestARecord:
    def test_another_node_of_the_farm_has_the_same_keys(self) -> None:
        keys, other = make_keys(1), make_keys(2)
        assert other.take(add_key(keys, NOON))
        assert not other.take(keys.record)
        assert other.keys(NOON) == keys.keys(NOON)

    def test_no_key_is_in_the_record(self) -> None:
        keys = make_keys()
        record = add_key(keys, NOON)
        for key in keys.keys(NOON):
            assert key.secret not in record

    @pytest.mark.parametrize("other", [make_keys(secret=b"t" * 32), make_keys(name="another.example")])
    def test_another_farm_s_keys_are_not_opened(self, other: FarmKeys) -> None:
        """That is worth a word as long as somebody goes on making them."""
        keys = make_keys()
        add_key(keys, NOON)
        assert keys.take(other.make_next(NOON + 1))
        assert len(keys.keys(NOON)) == 2
        assert keys.unreadable == 1
        add_key(keys, NOON + 2)
        assert keys.unreadable == 0
        for count in range(MOST_KEYS - 4):
            keys.take(other.make_next(NOON + count))
            assert not keys.is_full(NOON)
        keys.take(other.make_next(NOON + 1000))
        assert keys.is_full(NOON), "they take room"

    @pytest.mark.parametrize("field", ["until", "use_from", "made_at", "number"])
    def test_nobody_moves_a_key_s_times_or_number(self, field: str) -> None:
        keys, other = make_keys(1), make_keys(2)
        (sealed,) = read_record(add_key(keys, NOON)).keys
        change = -1 if field == "made_at" else 1
        moved = msgspec.structs.replace(sealed, **{field: getattr(sealed, field) + change})
        other.take(msgspec.msgpack.encode(KeyRecord((moved,))))
        assert other.keys(NOON + DAY) == [OWN]
        assert other.unreadable == 1

    def test_a_full_record_fits(self) -> None:
        keys = make_keys()
        for count in range(MOST_KEYS + 5):
            add_key(keys, NOON + count)
        assert keys.is_full(NOON)
        assert not keys.is_full(NOON + 30 * DAY), "what has ended makes room"
        assert len(read_record(keys.record).keys) == MOST_KEYS
        assert len(keys.record) <= KEYS_BYTES

    @pytest.mark.parametrize(
        "record",
        [
            b"", b"\x00", b"\x92\x00\x91", msgspec.msgpack.encode([[]]) + b"\x00", b"x" * (KEYS_BYTES + 1),
            msgspec.msgpack.encode(KeyRecord((SealedKey(9, 8, 7, 0, b"x" * 60),))),
            msgspec.msgpack.encode(KeyRecord((SealedKey(9, 8, 7, 256, b"x" * 60),))),
            msgspec.msgpack.encode(KeyRecord((SealedKey(9, 8, 7, 1, b"x" * 61),))),
            msgspec.msgpack.encode(KeyRecord((SealedKey(8, 9, 7, 1, b"x" * 60),))),
            msgspec.msgpack.encode(KeyRecord((SealedKey(9, 8, 7, 1, b"x" * 60),) * 2)),
            msgspec.msgpack.encode(KeyRecord((SealedKey(8, 8, 7, 1, b"x" * 60), SealedKey(9, 8, 7, 1, b"x" * 60)))),
            msgspec.msgpack.encode(KeyRecord((SealedKey(1 << 41, 8, 7, 1, b"x" * 60),))),
        ],
    )  # fmt: skip
    def test_bytes_that_no_node_makes_are_refused(self, record: bytes) -> None:
        with pytest.raises(ValueError, match="key"):
            KeysKind().shift(record, 0.0, 0.0)
        with pytest.raises(ValueError, match="key"):
            make_keys().take(record)
        for held in (None, make_keys().make_next(NOON)):
            with pytest.raises(ValueError, match="key"):
                KeysKind().merge(held, record, 0.0)


def sealed_keys() -> st.SearchStrategy[SealedKey]:
    return st.tuples(*[st.integers(0, 40)] * 3, st.integers(1, 3), st.sampled_from((b"a" * 60, b"b" * 60))).map(
        lambda drawn: SealedKey(*sorted(drawn[:3], reverse=True), *drawn[3:])
    )


def records(most: int = 4) -> st.SearchStrategy[bytes]:
    def join(keys: list[SealedKey]) -> bytes:
        packed = [msgspec.msgpack.encode(KeyRecord((key,))) for key in keys]
        merged = packed[0]
        for one in packed[1:]:
            merged = merge_keys(merged, one)
        return merged

    return st.lists(sealed_keys(), min_size=1, max_size=most).map(join)


class TestTheMerge:
    @given(records(), records(), records())
    def test_the_order_of_arrival_never_matters(self, one: bytes, two: bytes, three: bytes) -> None:
        assert merge_keys(one, two) == merge_keys(two, one)
        assert merge_keys(merge_keys(one, two), three) == merge_keys(one, merge_keys(two, three))
        assert merge_keys(merge_keys(one, two), two) == merge_keys(one, two)

    @given(records(60), records(60), records(60))
    def test_nor_does_it_when_there_are_too_many(self, one: bytes, two: bytes, three: bytes) -> None:
        merged = merge_keys(merge_keys(one, two), three)
        assert merged == merge_keys(one, merge_keys(three, two))
        assert len(read_record(merged).keys) <= MOST_KEYS
        assert read_record(merged).keys, "the newest is always there"

    def test_two_that_were_made_at_once_both_stay(self) -> None:
        one, two = make_keys(1), make_keys(2)
        first, second = one.make_next(NOON), two.make_next(NOON)
        merged = merge_keys(first, second)
        one.take(merged)
        assert [key.number for key in one.keys(NOON)] == [0, 1, 1]
        assert one.keys(NOON + DAY)[0] == keys_of(second, first)[0]

    def test_those_that_end_first_make_room(self) -> None:
        records = [
            msgspec.msgpack.encode(KeyRecord((SealedKey(100 + index, 6, 5, 1, b"a" * 60),)))
            for index in range(MOST_KEYS + 3)
        ]
        random.Random(1).shuffle(records)
        merged = records[0]
        for record in records[1:]:
            merged = merge_keys(merged, record)
        assert [key.until for key in read_record(merged).keys] == list(range(102 + MOST_KEYS, 102, -1))


def keys_of(*deltas: bytes) -> list[FarmKey]:
    """What a node makes of these, in that order."""
    keys = make_keys(3)
    for delta in deltas:
        keys.take(delta)
    return keys.keys(NOON + DAY)


class TestTheKind:
    def test_a_write_that_brings_nothing_leaves_the_very_bytes(self) -> None:
        kind = KeysKind()
        record = make_keys().make_next(NOON)
        assert kind.merge(None, record, 0.0).record == record
        assert kind.merge(record, bytes(record), 0.0).record is record
        assert kind.sweep(record, 0.0).record is record
        assert (kind.name, kind.everywhere, kind.newest(record)) == ("keys", False, 0)

    def test_replicas_that_hold_different_keys_find_out(self) -> None:
        kind = KeysKind()
        one, two = make_keys(1).make_next(NOON), make_keys(2).make_next(NOON)
        assert kind.version(one) != kind.version(two)
        assert kind.trace(one) == kind.version(one)
        assert len(kind.version(one)) == 16

    def test_no_clock_of_a_process_is_in_it(self) -> None:
        record = make_keys().make_next(NOON)
        assert KeysKind().shift(record, 1000.0, 5.0) == record
