"""Answers made before: which questions are the same, and what of the question goes into the answer."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from dns import message
from dns.edns import GenericOption
from dns.flags import DO
from prometheus_client import Counter

from farm.frontend.known_answers import MOST_KEPT, ORDERS, Asked, KnownAnswers, read_question
from tests.support.counts import read

NAME = "_sip._udp.sip.example.com"


def query(name: str = NAME, kind: str = "SRV", **edns: Any) -> bytes:
    made = message.make_query(name, kind, id=4711)  # else every collection has other names for the cases
    if edns:
        made.use_edns(**edns)
    return made.to_wire()


def ask(data: bytes, over_tcp: bool = False) -> Asked | None:
    return read_question(data, over_tcp, 1232)


def make_counter() -> Counter:
    return Counter("asked", "For the tests.", registry=None)


def test_letters_numbers_options_and_sizes_of_one_class_make_no_other_question() -> None:
    plain = ask(query())
    assert plain is not None
    assert plain[:4] == (b"\x04_sip\x04_udp\x03sip\x07example\x03com\x00", 33, b"", False)
    assert ask(query(NAME.upper())) == plain
    large = ask(query(edns=0, payload=1232))
    assert (
        large
        == ask(query(edns=0, payload=4096))
        == ask(query(edns=0, payload=1232, options=[GenericOption("COOKIE", b"x")]))
    )
    others = [plain, large, ask(query(edns=0, payload=512)), ask(query(edns=0, payload=1232, ednsflags=DO)),
              ask(query(), over_tcp=True), ask(query(kind="A")), ask(query("sip.example.com"))]  # fmt: skip
    assert len({other[:4] for other in others if other}) == len(others)


def test_bits_that_mean_nothing_in_a_question_make_no_other_question() -> None:
    """Else whoever sets them has each answer written anew, which takes 9 ms where there are 200 nodes."""
    plain, large = query(), query(edns=0, payload=1232)
    assert ask(plain[:2] + b"\x02\x70" + plain[4:]) == ask(plain)  # cut short, recursion there, authentic
    for place in (5, 8):  # the code of an answer, flags that nobody has defined
        odd = bytearray(large)
        odd[len(plain) + place] |= 0x7F
        assert ask(bytes(odd)) == ask(large)


GOOD = query(edns=0)


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:2] + b"\x28" + GOOD[3:],  # another operation
        GOOD[:4] + struct.pack(">H", 2) + GOOD[6:],
        GOOD[:10] + struct.pack(">H", 2) + GOOD[12:],
        GOOD + b"more",
        GOOD[:-1],
        query() + b"more",
        query()[:-1],
        query()[:-2] + b"\x00\x03",  # CHAOS
        query(edns=1),
        query()[:12] + b"\xc0\x0c\x00\x01\x00\x01",
        query()[:12] + b"\x3f" * 300,
        query()[:12] + b"\x01a" * 130 + b"\x00\x00\x01\x00\x01",
        query()[:12],
        query()[:12] + b"\x03sip",
    ],
)
def test_what_is_not_of_the_plainest_shape_is_left_to_others(data: bytes) -> None:
    assert ask(data) is None


def test_an_answer_takes_number_recursion_and_letters_from_the_question() -> None:
    known = KnownAnswers(random.Random(1))
    first = query()
    asked = ask(first)
    assert asked is not None
    assert known.find(asked, first, 1) is None
    count = make_counter()
    known.keep(asked, first[:2] + b"\x85\x00" + first[4:] + b"records", count)
    again = bytearray(query(NAME.upper()))
    again[:4] = b"\x12\x34\x00\x00"
    answer = known.find(ask(bytes(again)) or asked, bytes(again), 1)
    assert answer == b"\x12\x34\x84\x00" + bytes(again[4:]) + b"records"
    assert read(count) == 1


def test_a_new_version_forgets_all() -> None:
    known = KnownAnswers(random.Random(1))
    data = query()
    asked = ask(data)
    assert asked is not None
    known.find(asked, data, 1)
    known.keep(asked, data, make_counter())
    assert known.find(asked, data, 1) is not None
    assert known.find(asked, data, 2) is None


def test_of_addresses_several_orders_are_kept_and_then_drawn() -> None:
    known = KnownAnswers(random.Random(1))
    data = query("sip.example.com", "A")
    asked = ask(data)
    assert asked is not None
    for order in range(ORDERS):
        assert known.find(asked, data, 1) is None
        known.keep(asked, data + bytes([order]), make_counter())
    drawn = [known.find(asked, data, 1) for _ in range(400)]
    assert {answer[-1] for answer in drawn if answer} == set(range(ORDERS))
    assert 0 < drawn.count(None) < 20, "now and then another order is asked for"
    known.keep(asked, data + bytes([ORDERS]), make_counter())
    assert sum(map(len, known._known.values())) == ORDERS
    assert {answer[-1] for answer in (known.find(asked, data, 1) for _ in range(400)) if answer} > {ORDERS}


def test_no_more_is_kept_than_there_is_room_for() -> None:
    known = KnownAnswers(random.Random(1))
    data = query()
    asked = ask(data)
    assert asked is not None
    known.find(asked, data, 1)
    for number in range(MOST_KEPT + 5):
        known.keep(asked._replace(name=b"%d" % number), data, make_counter() if not number else _NOBODY)
    assert len(known._known) == MOST_KEPT


_NOBODY: Any = None
