"""What every section has in common."""

from __future__ import annotations

import msgspec
import pytest

from farm.sections import Count, CountOrOff, Seconds, SecondsOrOff, Section


class Example(Section, frozen=True):
    count: Count = 1
    count_or_off: CountOrOff = 1
    seconds: Seconds = 1.0
    seconds_or_off: SecondsOrOff = 1.0


def test_a_key_that_a_section_does_not_have_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `cuont`"):
        msgspec.convert({"cuont": 2}, Example)


def test_a_section_does_not_change_once_it_is_made() -> None:
    with pytest.raises(AttributeError):
        Example().count = 2  # type: ignore[misc]


@pytest.mark.parametrize("key", ["count", "seconds"])
def test_nought_is_refused_where_it_makes_no_sense(key: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({key: 0}, Example)


@pytest.mark.parametrize("key", ["count_or_off", "seconds_or_off"])
def test_nought_turns_off_what_can_be_turned_off_and_less_is_refused(key: str) -> None:
    assert getattr(msgspec.convert({key: 0}, Example), key) == 0
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({key: -1}, Example)
