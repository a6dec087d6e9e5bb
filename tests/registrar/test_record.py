"""The values of a registration, as they go into the store's bytes and come out again."""

from __future__ import annotations

import msgspec

from farm.registrar.record import EMPTY, NO_FLOOR, Contact, Entry, Record, Register
from farm.sip.hop import Hop

PHONE = Contact("sip:alice@192.0.2.1", path=("<sip:edge.example.com;lr>",), received=Hop("TCP", "192.0.2.9", 40000))
RECORD = Record([Entry("sip:alice@192.0.2.1", [Register("c", 1, 7, 1, 0, 60, PHONE), Register("d", 4, 6, 2, 0)])])


def test_a_record_comes_back_as_the_values_that_it_was_made_of() -> None:
    """All the way down: a compiled class that had lost its annotations would answer lists here."""
    came = msgspec.msgpack.decode(msgspec.msgpack.encode(RECORD), type=Record)
    assert came == RECORD
    (entry,) = came.entries
    assert isinstance(entry, Entry)
    assert entry.floor == NO_FLOOR
    first, second = entry.registers
    assert isinstance(first, Register)
    assert isinstance(first.contact, Contact)
    assert isinstance(first.contact.received, Hop)
    assert second.contact is None


def test_a_record_is_packed_without_the_names_of_its_fields() -> None:
    """They would be most of it."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Record([Entry("k", [])]))) == [[["k", [], [0, -1], 0]], 0, 0]


def test_a_field_that_a_later_version_adds_at_the_end_is_overlooked() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([[], 0, 0, "new"]), type=Record) == EMPTY
