"""Temporary GRUUs: what they mean, and until when."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.registrar.gruu import LONGEST, Gruus, GruuTarget
from farm.sip.gruu import instance_of
from farm.sip.uri import parse_uri
from tests.registrar.desk import AOR, PlainSealer

INSTANCE = "<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"


class Bound(NamedTuple):
    """A live binding, as far as GRUUs go."""

    call_id: str
    reg_id: int = 0
    stamp: int = 1
    instance: str = INSTANCE


def give(*bindings: Bound, instance: str = INSTANCE, aor: str = AOR) -> GruuTarget | None:
    """The temporary GRUU that a phone is given, opened by another node."""
    text = Gruus(PlainSealer()).make_temporary(aor, instance_of(instance), bindings)
    assert len(text) <= LONGEST
    return Gruus(PlainSealer()).open(parse_uri(text).user or "") if text else None


def test_it_means_the_phone_it_was_given_to() -> None:
    target = give(Bound("a"))
    assert target is not None
    assert (target.aor, target.instance) == (AOR, "urn:uuid:00000000-0000-1000-8000-aabbccddeeff")
    assert target.is_valid([Bound("a"), Bound("b", instance="<urn:x:another>")])


def test_it_ends_with_the_phone_s_last_binding() -> None:
    target = give(Bound("a", 1), Bound("b", 2))
    assert target is not None
    assert target.is_valid([Bound("b", 2)]), "its other flow has lapsed"
    assert target.is_valid([Bound("c", 3)]), "and so has this one, but a third is there"
    assert not target.is_valid([])
    assert not target.is_valid([Bound("a", 1, instance="<urn:x:another>"), Bound("b", instance="")])


def test_it_ends_when_a_flow_of_the_phone_is_registered_by_another_call_id() -> None:
    """RFC 5627 §5.1: the phone was booted anew."""
    target = give(Bound("a", 1), Bound("b", 2))
    assert target is not None
    assert target.is_valid([Bound("a", 1, 7), Bound("b", 2, 8)])
    assert not target.is_valid([Bound("a", 1, 7), Bound("c", 2, 8)])
    assert not target.is_valid([Bound("b", 1), Bound("a", 2)])


def test_without_outbound_the_contact_that_was_registered_last_decides() -> None:
    """The phone has another address since, and its old contact has not lapsed yet."""
    target = give(Bound("a", stamp=5))
    assert target is not None
    assert not target.is_valid([Bound("a", stamp=5), Bound("b", stamp=6)])
    assert not target.is_valid([Bound("b", stamp=6), Bound("a", stamp=5)])
    newer = give(Bound("a", stamp=5), Bound("b", stamp=6))
    assert newer is not None
    assert newer.is_valid([Bound("a", stamp=5), Bound("b", stamp=6)])


def test_no_two_are_equal() -> None:
    gruus = Gruus(PlainSealer())
    made = [gruus.make_temporary(AOR, instance_of(INSTANCE), [Bound("a")]) for _ in range(3)]
    assert len(set(made)) == 3


def test_users_of_about_the_same_name_get_gruus_of_one_length() -> None:
    gruus = Gruus(PlainSealer())
    texts = [
        gruus.make_temporary(f"sip:{user}@example.com", instance_of(INSTANCE), [Bound(call_id, reg_id)])
        for user, call_id, reg_id in (("al", "a", 0), ("alice", "a-long-call-id@host", 2), ("alexander", "b", 1))
    ]
    assert len({len(text) for text in texts}) == 1


def test_a_name_that_leaves_no_room_gets_none() -> None:
    assert give(Bound("a"), aor=f"sip:{'a' * 60}@example.com") is not None
    for length in (150, 300):
        assert give(Bound("a"), aor=f"sip:{'a' * length}@example.com") is None
    params = Gruus(PlainSealer()).write_params(f"sip:{'a' * 300}@example.com", INSTANCE, [Bound("a")])
    assert params.startswith(';pub-gruu="')
    assert "temp-gruu" not in params


def test_only_the_latest_four_flows_are_named() -> None:
    target = give(*(Bound(str(number), number, number) for number in range(1, 9)))
    assert target is not None
    assert [reg_id for reg_id, _ in target.flows] == [8, 7, 6, 5]


@pytest.mark.parametrize("instance", [INSTANCE, "<urn:imei:1>", "plain", "<urn:uuid:nothing>", "<urn:uuid:AABB>", "ü"])
def test_any_instance_comes_back_as_it_is_compared(instance: str) -> None:
    target = give(Bound("a", instance=instance), instance=instance)
    assert target is not None
    assert target.instance == instance_of(instance)


@given(st.text())
def test_a_stranger_s_text_opens_nothing(user: str) -> None:
    assert Gruus(PlainSealer()).open(user) is None


@given(st.binary(max_size=100))
def test_what_another_version_sealed_is_none(data: bytes) -> None:
    sealer = PlainSealer()
    opened = Gruus(sealer).open(sealer.seal(b"gruu", data))
    assert opened is None or isinstance(opened.aor, str)
    assert Gruus(sealer).open(sealer.seal(b"other", data)) is None
