"""The record of an address-of-record: the laws of its merge, lifetimes, tombstones."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.registrar.binding import (
    CALL_IDS,
    RegistrationKind,
    bindings_of,
    find_register,
    is_alive,
    join,
    remaining_seconds,
    settle,
    value_of,
)
from farm.registrar.record import EMPTY, NO_FLOOR, Contact, Entry, Record, Register
from farm.sip.hop import Hop

URI = "sip:alice@192.0.2.1"


def update(
    call_id: str,
    cseq: int,
    stamp: int,
    *,
    node: int = 1,
    at: int = 0,
    granted: int = 3600,
    key: str = URI,
    floor: tuple[int, int] = NO_FLOOR,
) -> Record:
    """What one REGISTER writes; granted 0 removes."""
    contact = Contact("", user_agent=f"{call_id}/{cseq}") if granted else None
    return Record([Entry(key, [Register(call_id, cseq, stamp, node, at, granted, contact)], floor)])


def star(stamp: int, at: int = 0) -> Record:
    return Record([], stamp, at)


def joined(*records: Record) -> Record:
    result = EMPTY
    for record in records:
        result = join(result, record)
    return result


def winner(record: Record) -> Register:
    return value_of(record.entries[0])


# (Call-ID, CSeq, key, granted, at, node, kind of update) of one update; its place in the list makes its stamp
_DRAWN = st.tuples(
    st.integers(0, 6),
    st.integers(1, 4),
    st.sampled_from(("sip:x", "sip:y")),
    st.sampled_from((0, 60, 3600)),
    st.integers(0, 5),
    st.integers(0, 1),
    st.integers(0, 9),
)
_LISTS = st.lists(_DRAWN, min_size=1, max_size=10)


def make_updates(drawn: list[tuple[int, int, str, int, int, int, int]]) -> list[Record]:
    """Updates as a farm makes them: no node makes a stamp twice, two nodes may make the same; all else is as bad as
    can be."""
    made = []
    for place, (call_id, cseq, key, granted, at, node, what) in enumerate(drawn):
        stamp = place // 2 + 1
        node = place % 2 if node else 2 + place % 2
        if what == 0:
            made.append(star(stamp, at=at))
        else:
            floor = (stamp - 1, 1) if what == 1 and stamp > 1 else NO_FLOOR
            made.append(
                update(str(call_id), cseq, stamp, node=node, at=at * 1000, granted=granted, key=key, floor=floor)
            )
    return made


@given(_LISTS, st.lists(st.integers(0, 100), min_size=10, max_size=10))
@settings(max_examples=300, deadline=None)
def test_the_order_of_updates_does_not_matter(
    drawn: list[tuple[int, int, str, int, int, int, int]], order: list[int]
) -> None:
    made = make_updates(drawn)
    shuffled = [record for _, record in sorted(zip(order, made, strict=False), key=lambda pair: pair[0])]
    assert joined(*shuffled) == joined(*made)


@given(_LISTS, st.lists(st.integers(1, 7), min_size=10, max_size=10))
@settings(max_examples=300, deadline=None)
def test_join_is_associative_commutative_and_idempotent(
    drawn: list[tuple[int, int, str, int, int, int, int]], shares: list[int]
) -> None:
    """Each update goes to some of three replicas, `shares` being the set of them as bits."""
    made = make_updates(drawn)
    a, b, c = (joined(*[record for record, bits in zip(made, shares, strict=False) if bits & bit]) for bit in (1, 2, 4))
    assert join(join(a, b), c) == join(a, join(b, c)) == joined(*made)
    assert join(a, b) == join(b, a)
    assert join(a, a) == a
    assert join(join(a, b), b) == join(a, b)


@given(_LISTS, st.integers(-5, 5))
@settings(max_examples=100, deadline=None)
def test_a_copy_with_another_age_joins_in_any_order(
    drawn: list[tuple[int, int, str, int, int, int, int]], later: int
) -> None:
    kind = RegistrationKind()
    record = joined(*make_updates(drawn))
    aged = kind.unpack(kind.shift(kind.pack(record), later))
    assert join(record, aged) == join(aged, record)
    assert join(join(record, aged), aged) == join(record, aged)


def test_three_updates_that_the_obvious_rule_merges_to_three_different_winners() -> None:
    """a=(call-id 1, cseq 5, t 10), b=(2, 1, 11), c=(1, 4, 12): the counter-example to that rule."""
    a, b, c = update("1", 5, 10), update("2", 1, 11), update("1", 4, 12)
    winners = {(winner(joined(*order)).call_id, winner(joined(*order)).cseq) for order in permutations((a, b, c))}
    assert winners == {("2", 1)}  # Call-ID 1 counts with CSeq 5 at 10, and 11 is later


def test_a_refresh_replaces_what_it_refreshes() -> None:
    record = joined(update("1", 1, 10), update("1", 2, 20))
    assert [register.cseq for register in record.entries[0].registers] == [2]


def test_a_late_lower_cseq_of_the_same_call_id_does_not_win() -> None:
    assert winner(joined(update("1", 2, 10), update("1", 1, 20))).cseq == 2


def test_another_call_id_wins_when_it_is_later() -> None:
    record = joined(update("1", 7, 10), update("2", 1, 20))
    assert winner(record).call_id == "2"
    found = find_register(record.entries[0], "1")
    assert found is not None
    assert found.cseq == 7
    assert find_register(record.entries[0], "3") is None


def test_a_removal_beats_what_it_removed_and_a_later_registration_beats_it() -> None:
    removed = joined(update("1", 1, 10), update("1", 2, 20, granted=0))
    assert not is_alive(winner(removed), 0.0)
    assert joined(removed, update("1", 1, 10)) == removed
    assert is_alive(winner(joined(removed, update("1", 3, 30))), 0.0)


def test_a_star_removes_all_that_was_before_it_and_nothing_after() -> None:
    record = joined(update("1", 1, 10), update("2", 1, 11, key="sip:y"), star(20), update("3", 1, 21))
    assert [entry.key for entry in record.entries] == [URI]
    assert winner(record).call_id == "3"
    assert joined(record, update("1", 9, 19)) == record


def test_a_star_removes_the_register_that_beat_another_and_the_other_counts() -> None:
    """CSeq 10 came before the star, CSeq 9 of the same Call-ID after it, whatever arrives first here."""
    made = (update("1", 10, 5), star(6), update("1", 9, 7))
    for order in permutations(made):
        assert winner(joined(*order)).cseq == 9


def test_at_most_four_call_ids_are_remembered() -> None:
    record = joined(*[update(str(number), 1, number) for number in range(1, 10)])
    entry = record.entries[0]
    assert [register.call_id for register in entry.registers] == ["9", "8", "7", "6"]
    assert len(entry.registers) == CALL_IDS
    assert entry.floor == (5, 1)
    assert settle(Entry(URI, [], (5, 1))) is None


def test_of_two_copies_the_younger_is_believed() -> None:
    record = joined(update("1", 1, 10, at=5000), update("1", 1, 10, at=4000))
    assert winner(record).at == 5000


# The kind


def test_a_record_survives_packing_whole() -> None:
    kind = RegistrationKind()
    contact = Contact(
        "sip:alice@10.0.0.1;x=1",
        ';methods="INVITE,BYE";foo',
        700,
        "<urn:uuid:1>",
        2,
        "Phone/1.0",
        ("<sip:edge.example.com;lr>",),
        Hop("TCP", "192.0.2.9", 50123, "tcp:0.0.0.0:5060"),
    )
    record = Record([Entry("<urn:uuid:1>;reg-id=2", [Register("c", 1, 2**57, 2**64 - 1, -5, 60, contact)])])
    packed = kind.pack(record)
    assert RegistrationKind().unpack(packed) == record
    assert isinstance(value_of(RegistrationKind().unpack(packed).entries[0]).contact.received, Hop)  # type: ignore[union-attr]
    assert kind.unpack(packed) is record
    assert kind.newest(packed) == 2**57


@pytest.mark.parametrize("packed", [b"\xc1", b"\x90", b"nonsense"])
def test_bytes_that_are_no_record_are_a_value_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not a registration"):
        RegistrationKind().unpack(packed)


def test_a_merge_counts_what_it_changes_and_says_when_to_sweep() -> None:
    kind = RegistrationKind(7200)
    first = kind.merge(None, kind.pack(update("1", 1, 10, at=100_000)), 100.0)
    assert (first.due_at, first.live, first.tombstones, first.conflict) == (3700.0, 1, 0, False)
    refreshed = kind.merge(first.record, kind.pack(update("1", 2, 20, at=200_000)), 200.0)
    assert (refreshed.due_at, refreshed.live, refreshed.tombstones) == (3800.0, 0, 0)
    removed = kind.merge(refreshed.record, kind.pack(update("1", 3, 30, at=300_000, granted=0)), 300.0)
    assert (removed.due_at, removed.live, removed.tombstones) == (300.0 + 7260, -1, 1)


def test_an_update_that_loses_is_a_conflict_and_changes_nothing() -> None:
    kind = RegistrationKind()
    held = kind.pack(update("1", 5, 50))
    lost = kind.merge(held, kind.pack(update("1", 4, 40)), 0.0)
    assert lost.record is held
    assert lost.conflict
    again = kind.merge(held, kind.pack(update("1", 5, 50)), 0.0)
    assert (again.record, again.conflict) == (held, False)
    assert kind.merge(kind.pack(star(60)), kind.pack(star(55)), 0.0).conflict


def test_a_lapsed_winner_becomes_a_tombstone_so_that_an_older_longer_one_stays_beaten() -> None:
    kind = RegistrationKind(7200)
    packed = kind.pack(joined(update("1", 1, 10, granted=7200), update("2", 1, 11, granted=60)))
    swept = kind.sweep(packed, 61.0)
    assert (swept.live, swept.tombstones) == (-1, 1)
    record = kind.unpack(swept.record or b"")
    assert winner(record).call_id == "2"
    assert winner(record).contact is None
    assert bindings_of(record, 61.0) == []
    assert bindings_of(joined(record, update("1", 1, 10, granted=7200)), 61.0) == []


def test_a_tombstone_goes_when_nothing_it_outranks_can_be_alive() -> None:
    kind = RegistrationKind(7200)
    removed = kind.pack(update("1", 2, 20, granted=0))
    assert kind.sweep(removed, 7259.9).record is removed
    gone = kind.sweep(removed, 7260.0)
    assert (gone.record, gone.tombstones) == (None, -1)


def test_a_floor_goes_as_late_as_a_tombstone() -> None:
    kind = RegistrationKind(7200)
    packed = kind.pack(star(20, at=1000))
    assert kind.merge(None, packed, 1.0).due_at == 7261.0
    assert kind.sweep(packed, 7260.9).record is packed
    assert kind.sweep(packed, 7261.0).record is None
    mixed = kind.sweep(kind.pack(joined(star(20), update("1", 1, 30, at=7_000_000))), 7300.0)
    assert kind.unpack(mixed.record or b"").floor == 0


def test_old_call_ids_are_forgotten_while_the_binding_lives_on() -> None:
    kind = RegistrationKind(7200)
    packed = kind.pack(joined(update("old", 1, 10), update("new", 1, 20, at=7_300_000)))
    swept = kind.sweep(packed, 7301.0)
    record = kind.unpack(swept.record or b"")
    assert [register.call_id for register in record.entries[0].registers] == ["new"]
    assert (swept.live, swept.tombstones) == (0, 0)


def test_shifting_moves_every_time_and_nothing_else() -> None:
    kind = RegistrationKind()
    packed = kind.pack(joined(star(5, at=1000), update("1", 1, 10, at=2000)))
    record = kind.unpack(kind.shift(packed, -1.5))
    assert (record.floor, record.floor_at) == (5, -500)
    assert winner(record).at == 500
    assert kind.shift(kind.shift(packed, -1.5), 1.5) == packed


# What the proxy sees


def test_bindings_are_answered_best_q_first_then_the_latest() -> None:
    def one(key: str, q: int, stamp: int) -> Record:
        return Record([Entry(key, [Register("c", 1, stamp, 1, 0, 60, Contact("", q=q))])])

    record = joined(one("sip:a", 500, 1), one("sip:b", -1, 2), one("sip:c", 1000, 3), one("sip:d", 0, 4))
    assert [(binding.uri, binding.q) for binding in bindings_of(record, 0.0)] == [
        ("sip:c", 1000),
        ("sip:b", 1000),
        ("sip:a", 500),
        ("sip:d", 0),
    ]


def test_lapsed_bindings_are_not_answered_even_before_a_sweep() -> None:
    record = update("1", 1, 10, at=0, granted=60)
    assert [binding.expires_at for binding in bindings_of(record, 59.9)] == [60.0]
    assert bindings_of(record, 60.0) == []
    assert repr(bindings_of(record, 0.0)) == f"[<Binding {URI}>]"


def test_what_is_alive_shows_at_least_a_second() -> None:
    register = winner(update("1", 1, 10, at=0, granted=60))
    assert [remaining_seconds(register, now) for now in (0.0, 0.9, 1.0, 59.9)] == [60, 60, 59, 1]


@given(_LISTS)
@settings(max_examples=200, deadline=None)
def test_the_winner_is_the_latest_of_the_highest_cseqs(
    drawn: list[tuple[int, int, str, int, int, int, int]],
) -> None:
    """By whichever of the two ways a record was joined, and after a sweep and a shift too."""
    kind = RegistrationKind(7200)
    packed = kind.pack(joined(*make_updates(drawn)))
    swept = kind.sweep(packed, 3600.0).record
    for record in (kind.unpack(packed), kind.unpack(kind.shift(packed, 1.0)), kind.unpack(swept) if swept else EMPTY):
        for entry in record.entries:
            highest = {register.call_id: register for register in entry.registers}  # the older has the higher CSeq
            assert value_of(entry) is max(highest.values(), key=lambda register: (register.stamp, register.node))


# What other nodes compare and send


@given(_LISTS, st.lists(st.integers(0, 100), min_size=10, max_size=10), st.integers(-1000, 1000))
@settings(max_examples=200, deadline=None)
def test_replicas_that_have_seen_the_same_have_the_same_version(
    drawn: list[tuple[int, int, str, int, int, int, int]], order: list[int], shift: int
) -> None:
    """On whatever clock, in whatever order, and lapsed or not; and what was merged passes as a peer's record."""
    kind, other = RegistrationKind(7200), RegistrationKind(7200)
    made = make_updates(drawn)
    shuffled = [record for _, record in sorted(zip(order, made, strict=False), key=lambda pair: pair[0])]
    packed = kind.pack(joined(*made))
    elsewhere = other.shift(other.pack(joined(*shuffled)), float(shift))
    assert kind.version(packed) == other.version(elsewhere)
    assert kind.trace(packed) == other.trace(elsewhere)
    swept = kind.sweep(packed, 3610.0).record  # all has lapsed, nothing is forgotten
    assert swept is not None
    assert kind.version(swept) == kind.version(packed)
    assert kind.trace(packed, 3610.0) == kind.trace(swept)


def test_a_version_is_16_bytes_and_differs_for_what_differs() -> None:
    kind = RegistrationKind()
    one, other = kind.pack(update("1", 1, 10)), kind.pack(update("1", 2, 11))
    assert len(kind.version(one)) == 16
    assert kind.version(one) != kind.version(other)


def test_what_will_be_left_is_told_beforehand() -> None:
    kind = RegistrationKind(7200)
    packed = kind.pack(update("1", 1, 10, at=0, granted=60))
    assert kind.trace(packed, 59.9) == kind.trace(packed)
    assert kind.trace(packed, 60.0) != kind.trace(packed)
    assert kind.trace(packed, 7259.9) != b""
    assert kind.trace(packed, 7260.0) == b""


def test_nothing_of_a_peer_is_from_the_future() -> None:
    kind = RegistrationKind()
    record = kind.unpack(kind.shift(kind.pack(joined(star(5, at=9000), update("1", 1, 10, at=9000))), 5.0, 10.0))
    assert (record.floor_at, winner(record).at) == (10_000, 10_000)
    record = kind.unpack(kind.shift(kind.pack(update("1", 1, 10, at=4000)), 5.0, 10.0))
    assert winner(record).at == 9000


@pytest.mark.parametrize(
    "broken",
    [
        Record([Entry(URI, [])]),
        update("1", 1, 10, granted=7201),
        star(-1),
        Record([Entry(URI, [Register("1", 1, 10, 1, 0), Register("2", 1, 20, 1, 0)])]),  # the latest is not first
        Record([Entry(URI, [Register("1", 1, 20, 1, 0), Register("1", 1, 10, 1, 0)])]),  # beaten in all
        Record([Entry(URI, [Register("1", 1, 20, 1, 0), Register("2", 1, 10, 1, 0)], NO_FLOOR, 1)]),
        Record([Entry(URI, [Register(str(each), 1, 20 - each, 1, 0) for each in range(5)])]),
        Record([Entry(URI, [Register("1", 1, 10, 1, 0)], (10, 1))]),
        Record([Entry(URI, [Register("1", 1, 10, 1, 0)])], 10, 0),
        Record([Entry("x" * 200_000, [Register("1", 1, 10, 1, 0)])]),
    ],
)
def test_a_record_that_no_merge_leaves_behind_is_refused(broken: Record) -> None:
    kind = RegistrationKind(7200)
    with pytest.raises(ValueError, match=r"."):
        kind.shift(kind.pack(broken), 0.0)


@pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), float("nan"), 1e12])
def test_no_clock_is_that_far_off(seconds: float) -> None:
    kind = RegistrationKind()
    with pytest.raises(ValueError, match=r"."):
        kind.shift(kind.pack(update("1", 1, 10)), seconds)


def test_an_old_call_id_is_forgotten_on_time_and_not_whenever_a_sweep_comes_by() -> None:
    kind = RegistrationKind(7200)
    packed = kind.pack(joined(update("old", 1, 10, at=0), update("new", 1, 20, at=7_000_000, granted=7200)))
    assert kind.merge(None, packed, 7000.0).due_at == 7260.0
    swept = kind.sweep(packed, 7260.0)
    assert swept.due_at == 14_200.0


def test_a_tombstone_with_a_later_register_of_its_call_id_is_not_due_before_that() -> None:
    """It was due in the past again and again, until the later one had outlived all as well."""
    kind = RegistrationKind(7200)
    packed = kind.pack(joined(update("1", 9, 10, at=0, granted=0), update("1", 1, 20, at=100_000, granted=0)))
    assert winner(kind.unpack(packed)).cseq == 9
    assert kind.sweep(packed, 7260.0).due_at == 7360.0
    assert kind.sweep(packed, 7360.0).record is None
