"""The PROXY protocol's header: read whole, refused when it is none, for any bytes."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.transport.proxy_protocol import (
    LONGEST_V1,
    LONGEST_V2,
    SIGNATURE,
    Header,
    Own,
    Source,
    Unclear,
    crc32c,
    parse_header,
)

V1 = b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\n"
LONGEST_LINE = b"PROXY UNKNOWN " + b"f" * (LONGEST_V1 - 16) + b"\r\n"


def make_v2(
    source: tuple[str, int] = ("198.51.100.7", 56324),
    *,
    command: int = 0x21,
    family: int = 0,
    tlvs: bytes = b"",
    length: int = -1,
) -> bytes:
    """A header of version 2, to 192.0.2.1:443 or [2001:db8::1]:443."""
    six = ":" in source[0]
    kind, target = (socket.AF_INET6, "2001:db8::1") if six else (socket.AF_INET, "192.0.2.1")
    body = socket.inet_pton(kind, source[0]) + socket.inet_pton(kind, target) + struct.pack("!HH", source[1], 443)
    body += tlvs
    family = family or (0x21 if six else 0x11)
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length < 0 else length) + body


def make_tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def add_checksum(header: bytes) -> bytes:
    """The header with its checksum as the last TLV."""
    header = header[:14] + struct.pack("!H", len(header) - 16 + 7) + header[16:] + make_tlv(3, bytes(4))
    return header[:-4] + struct.pack("!I", crc32c(header))


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (V1, Source("198.51.100.7", 56324, len(V1))),
        (b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 1 65535\r\n", Source("2001:db8::7", 1, 46)),
        (b"PROXY TCP6 ::ffff:198.51.100.7 ::ffff:192.0.2.1 5 443\r\n", Source("198.51.100.7", 5, 55)),
        (b"PROXY TCP4 198.51.100.7 192.0.2.1 0 0\r\n", Source("198.51.100.7", 0, 39)),
        (b"PROXY UNKNOWN\r\n", Own(15)),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Own(43)),
        (LONGEST_LINE, Own(LONGEST_V1)),
        (make_v2(), Source("198.51.100.7", 56324, 28)),
        (make_v2(("2001:db8::7", 5)), Source("2001:db8::7", 5, 52)),
        (make_v2(("::ffff:198.51.100.7", 5)), Source("198.51.100.7", 5, 52)),
        (make_v2(tlvs=make_tlv(0x02, b"sip.example.com") + make_tlv(0x20, b"")), Source("198.51.100.7", 56324, 49)),
        (add_checksum(make_v2(tlvs=make_tlv(0x01, b"sip"))), Source("198.51.100.7", 56324, 41)),
        (make_v2(command=0x20), Own(28)),
        (SIGNATURE + b"\x20\x00\x00\x00", Own(16)),
        (SIGNATURE + b"\x20\xff\x00\x00", Own(16)),
        (SIGNATURE + b"\x21\x00\x00\x00", Own(16)),
        (SIGNATURE + b"\x21\x31\x00\xd8" + b"/run/socket".ljust(216, b"\0"), Own(232)),
        (make_v2(tlvs=make_tlv(0xE0, bytes(LONGEST_V2 - 31))), Source("198.51.100.7", 56324, LONGEST_V2)),
    ],
)
def test_a_header_is_read_and_leaves_what_follows_it(data: bytes, header: Header) -> None:
    assert parse_header(data) == header
    assert parse_header(data + b"OPTIONS sip:a SIP/2.0\r\n") == header
    for cut in range(1, len(data)):
        assert parse_header(data[:cut]) is Unclear.MORE, cut


@pytest.mark.parametrize(
    "data",
    [
        b"OPTIONS sip:a SIP/2.0\r\n",
        b"PROXI",
        b"proxy TCP4 198.51.100.7 192.0.2.1 56324 443\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY UDP4 198.51.100.7 192.0.2.1 56324 443\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 56324\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 443 5\r\n",
        b"PROXY TCP4  198.51.100.7 192.0.2.1 56324 443\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 65536\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 056 443\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 +56 443\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1 1_0 443\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.1  443\r\n",
        b"PROXY TCP4 198.51.100 192.0.2.1 56324 443\r\n",
        b"PROXY TCP4 198.51.100.7 192.0.2.x 56324 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 56324 443\r\n",
        b"PROXY TCP6 198.51.100.7 192.0.2.1 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::1 56324 443\r\n",
        b"PROXY TCP4 198.51.100.\xb2 192.0.2.1 56324 443\r\n",
        b"PROXY UNKNOWN " + b"f" * LONGEST_V1,
        b"\r\n\r\nOPTIONS",
        SIGNATURE.replace(b"QUIT", b"QUIX"),
        make_v2(command=0x11),
        make_v2(command=0x22),
        make_v2(family=0x12),
        make_v2(family=0x22),
        make_v2(family=0x41),
        make_v2(family=0x32),
        make_v2(length=11),
        make_v2(("2001:db8::7", 5), length=35),
        make_v2(length=LONGEST_V2),
        make_v2(tlvs=b"\x02"),
        make_v2(tlvs=make_tlv(2, b"sip")[:-1]),
        make_v2(tlvs=make_tlv(3, bytes(4))),
        make_v2(tlvs=make_tlv(3, bytes(3))),
        add_checksum(make_v2()).replace(b"\xc6\x33", b"\xc6\x34"),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    assert parse_header(data) is Unclear.REFUSED


def test_a_line_without_an_end_is_refused_at_its_limit() -> None:
    line = b"PROXY UNKNOWN " + b"f" * LONGEST_V1
    assert parse_header(line[: LONGEST_V1 - 1]) is Unclear.MORE
    assert parse_header(line[:LONGEST_V1]) is Unclear.REFUSED


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 §B.4


_beginnings = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", SIGNATURE, SIGNATURE + b"\x21\x11", V1])


@given(_beginnings, st.binary(max_size=300))
def test_any_bytes_are_a_header_or_not(beginning: bytes, rest: bytes) -> None:
    header = parse_header(beginning + rest)
    if isinstance(header, Source):
        family = socket.AF_INET6 if ":" in header.host else socket.AF_INET
        assert socket.inet_ntop(family, socket.inet_pton(family, header.host)) == header.host
        assert 0 <= header.port <= 65_535
    if not isinstance(header, Unclear):
        assert 0 < header.length <= min(LONGEST_V2, len(beginning + rest))


@given(st.ip_addresses(), st.integers(0, 65_535), st.binary(max_size=50))
def test_what_a_balancer_writes_is_what_is_read(host: object, port: int, rest: bytes) -> None:
    text = str(host)
    expected = text
    if text.startswith("::ffff:"):
        expected = socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET6, text)[12:])
    header = parse_header(make_v2((text, port)) + rest)
    assert isinstance(header, Source)
    assert header.port == port
    family = socket.AF_INET6 if ":" in expected else socket.AF_INET
    assert socket.inet_pton(family, header.host) == socket.inet_pton(family, expected)
