"""A stream to messages, however it was cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.sip.framing import PING, PONG, Broken, Frame, StreamFramer
from farm.sip.parser import ParserLimits, parse
from tests.support.messages import request_bytes, response_bytes
from tests.support.strategies import messages

LIMITS = ParserLimits()


def frame(*pieces: bytes, limits: ParserLimits = LIMITS) -> list[Frame]:
    """What a framer makes of these pieces of a stream."""
    framer = StreamFramer(limits)
    return [found for piece in pieces for found in framer.receive(piece)]


def break_with(*pieces: bytes, limits: ParserLimits = LIMITS) -> Broken:
    """The Broken that these pieces end in."""
    last = frame(*pieces, limits=limits)[-1]
    assert isinstance(last, Broken)
    return last


def singly(data: bytes) -> list[bytes]:
    """Each octet alone."""
    return [data[index : index + 1] for index in range(len(data))]


def test_messages_come_out_one_by_one() -> None:
    one, other = request_bytes(body=b"\r\n\r\nx"), response_bytes()
    assert frame(one + other + one) == [one, other, one]
    assert frame(*singly(one + other)) == [one, other]


def test_a_framer_says_whether_an_unfinished_message_waits() -> None:
    framer = StreamFramer(LIMITS)
    data = request_bytes(body=b"abc")
    assert not framer.partial
    assert framer.receive(data[:30]) == []
    assert framer.partial
    assert framer.receive(data[30:-1]) == []
    assert framer.partial
    assert framer.receive(data[-1:]) == [data]
    assert not framer.partial


def test_every_second_line_end_between_messages_is_a_ping() -> None:
    data = request_bytes()
    assert frame(b"\r\n\r\n") == [PONG, PING]
    assert frame(b"\r\n") == [PONG]
    assert frame(b"\r", b"\n", b"\r", b"\n") == [PONG, PING]
    assert frame(b"\r\n" + data + b"\r\n" + data + b"\r\n\r\n") == [PONG, data, PONG, data, PONG, PING]
    assert frame(b"\r\n" * 5) == [PONG, PING, PONG, PING, PONG]
    assert frame(b"\n" + data) == [data]
    assert (repr(PING), repr(PONG)) == ("PING", "PONG")


@pytest.mark.parametrize(
    "length",
    [b"Content-Length: 3", b"l:3", b"L :\t3 ", b"CONTENT-length:\r\n 3", b"l:\r\n \r\n\t3", b"Content-Length: 03"],
)
def test_the_length_is_found_however_it_is_spelled(length: bytes) -> None:
    data = request_bytes(body=b"abc").replace(b"Content-Length: 3", length)
    assert frame(data + data) == [data, data]
    assert parse(data, LIMITS).body == b"abc"


def test_lines_may_end_in_a_bare_line_feed() -> None:
    data = request_bytes(body=b"abc").replace(b"\r\n", b"\n")
    mixed = request_bytes().replace(b"\r\n", b"\n", 4)
    assert frame(data + mixed + data) == [data, mixed, data]
    assert frame(*singly(data + mixed)) == [data, mixed]


def test_the_first_empty_line_ends_the_head_even_with_another_right_behind_it() -> None:
    data = request_bytes(body=b"\r\nabc").replace(b"\r\n\r\n", b"\r\n\n", 1)
    assert frame(data + data) == [data, data]
    assert frame(*singly(data)) == [data]
    assert parse(data, LIMITS).body == b"\r\nabc"


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (request_bytes(content_length=None), 400, "missing-content-length"),
        (request_bytes(headers=["l: 0"]), 400, "repeated-content-length"),
        (request_bytes(content_length=-999), 400, "bad-content-length"),
        (request_bytes(content_length="5 5"), 400, "bad-content-length"),
        (request_bytes(content_length="0, 0"), 400, "bad-content-length"),
        (request_bytes(content_length=65536), 413, "body-too-large"),
        (request_bytes(headers=["X: " + "x" * 40000]), 513, "header-too-large"),
        (request_bytes(headers=["X: " + "x" * 40000])[:35000], 513, "header-too-large"),
    ],
)
def test_a_stream_that_cannot_be_framed_ends_with_an_answer(data: bytes, status: int, reason: str) -> None:
    broken = break_with(data + request_bytes())
    assert (broken.error.status, broken.error.reason) == (status, reason)
    assert broken.error.request is not None
    assert broken.error.request.call_id == "3848276298220188511@192.0.2.101"
    assert len(broken.head) <= LIMITS.header_bytes
    one_by_one = break_with(*singly(data[:4000] if status != 513 else b""), data if status == 513 else b"")
    assert one_by_one.error.reason == reason


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"\x00", b"\r\r", b" INVITE", "й".encode(), b"<html>"])
def test_what_is_no_sip_at_all_ends_the_stream_at_once(data: bytes) -> None:
    assert break_with(data).error.request is None


def test_a_header_that_only_looks_like_a_length_is_none() -> None:
    data = request_bytes(
        headers=["Content-Length-X: 5", "X-l: 7", "Subject: a", " l: 9", "\tContent-Length: 8"], body=b"a"
    )
    assert frame(data) == [data]


def test_nothing_comes_after_the_end() -> None:
    framer = StreamFramer(LIMITS)
    assert isinstance(framer.receive(request_bytes(content_length=None))[0], Broken)
    assert framer.receive(request_bytes()) == []
    assert not framer.partial


def test_what_came_whole_before_the_end_is_kept() -> None:
    data = request_bytes()
    first, last = frame(data + request_bytes(content_length="x"))
    assert first == data
    assert isinstance(last, Broken)


@settings(max_examples=30)
@given(st.lists(messages, min_size=1, max_size=3), st.lists(st.sampled_from([b"\r\n", b"\r\n\r\n", b""])), st.data())
def test_a_stream_cut_anywhere_gives_the_same_messages(
    parts: list[bytes], ends: list[bytes], draw: st.DataObject
) -> None:
    stream = b"".join([part + end for part, end in zip(parts, [*ends, b"", b"", b""], strict=False)])
    whole = frame(stream)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert frame(*pieces) == whole
    assert [found for found in whole if isinstance(found, bytes)] == parts
