"""What nodes say to each other of traces, and what of it is believed."""

from __future__ import annotations

import msgspec
import pytest

from farm.capture.catch import MESSAGE_BYTES
from farm.capture.reading import Sought
from farm.capture.seen import Seen
from farm.capture.words import Told, WordsError, make_ask, make_copy, pack, read_ask, read_told

NAME = bytes(range(16))
SEEN = Seen(5, "TLS", True, ("192.0.2.1", 5061), ("192.0.2.9", 4000), b"data")


def test_a_trace_is_asked_for_in_any_octets() -> None:
    sought = Sought("sip:\udcff@h", "c\udcfe")
    ask = read_ask(pack(make_ask(NAME, sought, ends=True)))
    assert (ask.trace, ask.sought, ask.ends) == (NAME, sought, True)
    assert pack(make_ask(NAME, Sought("sip:a@h"))) == b"\x94\xc4\x10" + NAME + b"\xc4\x07sip:a@h\xc4\x00\xc2"


def test_what_was_seen_comes_as_it_was() -> None:
    told = Told(NAME, (make_copy(SEEN, b"DATA"),), 3)
    (copy,) = read_told(pack(told)).copies
    assert (copy.time, copy.transport, copy.size, copy.data) == (5, "TLS", 4, b"DATA")
    assert copy.ends == (("192.0.2.1", 5061), ("192.0.2.9", 4000))
    assert make_copy(SEEN._replace(sent=False), b"").ends == (("192.0.2.9", 4000), ("192.0.2.1", 5061))


def test_a_long_message_is_cut_and_its_size_is_said() -> None:
    copy = make_copy(SEEN, b"x" * 40_000)
    assert (copy.size, len(copy.data)) == (40_000, MESSAGE_BYTES)


@pytest.mark.parametrize(
    "words",
    [
        [],
        [b"short"],
        ["x" * 16],
        [NAME, b"a" * 513],
        [NAME, b"a", b"b" * 513],
        [NAME, 1],
        {"trace": NAME},
    ],
)
def test_an_ask_that_is_none_is_refused(words: object) -> None:
    with pytest.raises(WordsError):
        read_ask(msgspec.msgpack.encode(words))


COPY = [5, "UDP", True, ["h", 1], ["h", 2], 4, b"data"]


@pytest.mark.parametrize(
    "words",
    [
        [NAME, [COPY] * 1001],
        [NAME, [[*COPY[:3], ["h", 65_536], *COPY[4:]]]],
        [NAME, [[*COPY[:3], ["h" * 65, 1], *COPY[4:]]]],
        [NAME, [[*COPY[:6], b"x" * (MESSAGE_BYTES + 1)]]],
        [NAME, [[-1, *COPY[1:]]]],
        [NAME, [], -1],
        [NAME, [COPY[:6]]],
    ],
)
def test_what_was_seen_is_refused_where_it_makes_no_sense(words: object) -> None:
    with pytest.raises(WordsError):
        read_told(msgspec.msgpack.encode(words))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91" * 5000, pack(Told(NAME))[:-1]])
def test_bytes_that_are_no_words_are_refused(data: bytes) -> None:
    for read in (read_ask, read_told):
        with pytest.raises(WordsError):
            read(data)
