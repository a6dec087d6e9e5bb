"""What replicas of a registration compare, and what they do not take from each other."""

from __future__ import annotations

import pytest

from farm.registrar.content import check, outline
from farm.registrar.record import NO_FLOOR, Contact, Entry, Record, Register


def register(
    *,
    call_id: str = "c",
    cseq: int = 1,
    stamp: int = 10,
    node: int = 1,
    at: int = 0,
    granted: int = 60,
    live: bool = True,
) -> Register:
    return Register(call_id, cseq, stamp, node, at, granted, Contact("") if live else None)


def record(*registers: Register, key: str = "sip:x", floor: tuple[int, int] = NO_FLOOR, winner: int = 0) -> Record:
    return Record([Entry(key, list(registers), floor, winner)])


def test_times_make_no_difference() -> None:
    one, other = record(register(at=0)), record(register(at=5000))
    assert outline(one, with_life=True) == outline(other, with_life=True)
    assert outline(Record([], 5, 100), with_life=True) == outline(Record([], 5, 200), with_life=True)


def test_what_has_been_seen_makes_one() -> None:
    outlines = [
        outline(each, with_life=False)
        for each in (
            record(register()),
            record(register(call_id="d")),
            record(register(cseq=2)),
            record(register(stamp=11)),
            record(register(node=2)),
            record(register(), key="sip:y"),
            record(register(), floor=(3, 1)),
            record(register(), register(call_id="d", stamp=9)),
            Record([], 5, 0),
            Record([]),
        )
    ]
    assert all(one != other for place, one in enumerate(outlines) for other in outlines[:place])


def test_whether_the_value_is_alive_is_told_where_it_is_asked() -> None:
    alive, lapsed = record(register()), record(register(live=False))
    assert outline(alive, with_life=False) == outline(lapsed, with_life=False)
    assert outline(alive, with_life=True) != outline(lapsed, with_life=True)
    beaten = register(call_id="d", stamp=9)
    gone = register(call_id="d", stamp=9, live=False)  # what is beaten is swept now or then
    assert outline(record(register(), beaten), with_life=True) == outline(record(register(), gone), with_life=True)


def test_what_nodes_make_is_taken() -> None:
    check(Record([]), 7200)
    check(Record([Entry("a", [register()]), Entry("b", [register(at=-(10**9), granted=7200)], (5, 1))], 3, -1000), 7200)


@pytest.mark.parametrize(
    "broken",
    [
        record(),
        record(register(), winner=1),
        record(register(), winner=-1),
        record(*[register(stamp=stamp) for stamp in range(100, 35, -1)]),
        record(register(stamp=-1)),
        record(register(stamp=1 << 64)),
        record(register(node=-1)),
        record(register(cseq=1 << 32)),
        record(register(cseq=-1)),
        record(register(granted=7201)),
        record(register(granted=-1)),
        record(register(at=1 << 60)),
        record(register(at=-(1 << 60))),
        record(register(), floor=(-1, 1)),
        Record([], -1, 0),
        Record([], 1, 1 << 60),
        Record([Entry("b", [register()]), Entry("a", [register()])]),
        Record([Entry("a", [register()]), Entry("a", [register()])]),
    ],
)
def test_what_none_of_them_makes_is_refused(broken: Record) -> None:
    with pytest.raises(ValueError, match=r"."):
        check(broken, 7200)
