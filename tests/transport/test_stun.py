"""STUN keep-alives on the SIP port, byte for byte; the vectors are those of RFC 5769 and of coturn's own messages."""

from __future__ import annotations

import socket
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.transport.stun import answer_stun

COOKIE = b"\x21\x12\xa4\x42"
ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")  # of RFC 5769


def make_request(*attributes: tuple[int, bytes], kind: int = 1, fingerprint: bool = False) -> bytes:
    """A STUN message."""
    body = b"".join(
        number.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)
        for number, value in attributes
    )
    length = len(body) + (8 if fingerprint else 0)
    message = kind.to_bytes(2, "big") + length.to_bytes(2, "big") + COOKIE + ID + body
    if fingerprint:
        message += b"\x80\x28\x00\x04" + (crc32(message) ^ 0x5354554E).to_bytes(4, "big")
    return message


def add_after_fingerprint() -> bytes:
    """A right FINGERPRINT that is not the last attribute."""
    message = b"\x00\x01\x00\x0c" + COOKIE + ID
    return message + b"\x80\x28\x00\x04" + (crc32(message) ^ 0x5354554E).to_bytes(4, "big") + b"\x80\x01\x00\x00"


def test_a_binding_request_is_told_the_address_it_came_from() -> None:
    """The XOR-MAPPED-ADDRESS of RFC 5769 §2.2: 192.0.2.1, port 32853."""
    answer = answer_stun(make_request(), "192.0.2.1", 32853)
    assert answer == bytes.fromhex("0101000c2112a442") + ID + bytes.fromhex("002000080001a147e112a643")


def test_over_ipv6_as_well() -> None:
    """RFC 5769 §2.3."""
    answer = answer_stun(make_request(), "2001:db8:1234:5678:11:2233:4455:6677", 32853)
    assert answer == (
        bytes.fromhex("010100182112a442") + ID
        + bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9")
    )  # fmt: skip


def test_a_fingerprint_is_checked_and_given_back() -> None:
    answer = answer_stun(make_request(fingerprint=True), "192.0.2.1", 32853)
    assert answer is not None
    assert answer[:4] == bytes.fromhex("01010014")
    assert answer[-8:-4] == b"\x80\x28\x00\x04"
    assert int.from_bytes(answer[-4:], "big") == crc32(answer[:-8]) ^ 0x5354554E
    forged = bytearray(make_request(fingerprint=True))
    forged[-1] ^= 1
    assert answer_stun(bytes(forged), "192.0.2.1", 32853) is None


def test_the_sample_request_of_rfc_5769_is_answered_in_spite_of_its_credentials() -> None:
    """With SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME, MESSAGE-INTEGRITY and FINGERPRINT: the two of ICE are unknown
    here, PRIORITY must be understood."""
    sample = bytes.fromhex(
        "000100582112a442b7e7a701bc34d686fa87dfae"
        "802200105354554e207465737420636c69656e74"
        "002400046e0001ff"
        "80290008932ff9b151263b36"
        "000600096576746a3a683676592020 20"
        "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
        "80280004e57a3bcf"
    )
    answer = answer_stun(sample, "192.0.2.1", 32853)
    assert answer is not None
    assert answer[:28] == bytes.fromhex("011100182112a442") + ID + bytes.fromhex("0009000400000414")
    assert answer[28:36] == bytes.fromhex("000a000200240000")


def test_unknown_attributes_that_must_be_understood_are_listed_once_each() -> None:
    request = make_request((0x0024, b"1234"), (0x7FFF, b""), (0x0024, b""), (0x8001, b"1"), (0x0006, b"me"))
    answer = answer_stun(request, "192.0.2.1", 5060)
    assert answer is not None
    assert answer[20:] == bytes.fromhex("0009000400000414") + bytes.fromhex("000a000400247fff")


def test_what_follows_the_integrity_is_passed_over() -> None:
    request = make_request((0x0008, bytes(20)), (0x0024, b"1234"))
    answer = answer_stun(request, "192.0.2.1", 5060)
    assert answer is not None
    assert answer[:2] == b"\x01\x01"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        make_request()[:-1],
        make_request() + b"\0\0\0\0",  # longer than it says
        make_request((0x8001, b"1234"))[:-4],  # shorter
        make_request(kind=0x0011),  # an indication wants no answer
        make_request(kind=0x0101),  # an answer: two servers would answer each other for ever
        make_request(kind=0x0111),
        make_request(kind=0x0003),  # Allocate, of TURN
        make_request().replace(COOKIE, b"\0\0\0\0"),  # RFC 3489
        make_request((0x8001, bytes(540))),  # longer than any request has to be
        add_after_fingerprint(),
        make_request()[:2] + b"\x00\x04" + make_request()[4:] + b"\x80\x01\x00\x04",  # an attribute that is cut short
        b"\x00\x01\x00\x02" + COOKIE + ID + b"\x80\x01",
    ],
)
def test_everything_else_is_not_answered(data: bytes) -> None:
    assert answer_stun(data, "192.0.2.1", 5060) is None


any_attribute = st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40))
any_bytes = st.one_of(
    st.binary(max_size=600),
    st.lists(any_attribute, max_size=12).map(lambda attributes: make_request(*attributes)),
    st.binary(max_size=80).map(lambda body: b"\x00\x01" + len(body).to_bytes(2, "big") + COOKIE + ID + body),
)


@given(any_bytes, st.ip_addresses().map(str), st.integers(0, 65535))
def test_any_bytes_get_a_small_answer_for_their_transaction_or_none(data: bytes, host: str, port: int) -> None:
    answer = answer_stun(data, host, port)
    if answer is None:
        return
    assert answer[4:20] == data[4:20]
    assert len(answer) <= len(data) + 36
    assert int.from_bytes(answer[2:4], "big") == len(answer) - 20
    assert answer_stun(answer, host, port) is None, "no answer answers an answer"
    if answer[:2] == b"\x01\x01":
        assert answer[20:22] == b"\x00\x20"
        assert int.from_bytes(answer[26:28], "big") ^ 0x2112 == port
        family = socket.AF_INET6 if answer[25] == 2 else socket.AF_INET
        packed = bytes(a ^ b for a, b in zip(answer[28 : 44 if answer[25] == 2 else 32], answer[4:20], strict=False))
        assert socket.inet_ntop(family, packed) == socket.inet_ntop(family, socket.inet_pton(family, host))
