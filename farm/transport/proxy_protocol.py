"""The PROXY protocol, versions 1 and 2: what a balancer writes before the bytes of a connection that it passes on.

HAProxy's "The PROXY protocol" (proxy-protocol.txt), §2.1 and §2.2. `parse_header` is told the first bytes of a
connection and answers the far client's address, that the balancer speaks for itself, that more must come, or that this
is no header; it never raises. Who may speak it, and how long it may take, is `proxied.py`'s.

Decided: what the header says of the address that the client dialled, and all TLVs but the checksum, are read past: our
Via and Record-Route bear the farm's name or `advertise`, whichever balancer a client came by.
"""

from __future__ import annotations

import socket
import struct
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

LONGEST_V1: Final = 107  # with its line end (§2.1)
LONGEST_V2: Final = 16 + 2048  # addresses take 36 bytes at most, the rest are TLVs; a certificate's name fits

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V1: Final = b"PROXY "
_HEAD: Final = 16
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_MAPPED: Final = bytes(10) + b"\xff\xff"  # RFC 4291 §2.5.5.2
_CRC32C: Final = 0x03  # PP2_TYPE_CRC32C
_DIGITS: Final = b"0123456789"


class Source(NamedTuple):
    """The far client, and how many bytes the header takes."""

    host: str
    port: int
    length: int


class Own(NamedTuple):
    """The balancer speaks for itself (a health check), or does not know for whom: its own address is the source."""

    length: int


class Unclear(Enum):
    """What bytes are that are no whole header."""

    MORE = "more"  # its beginning
    REFUSED = "refused"  # none


Header: TypeAlias = Source | Own | Unclear


def parse_header(data: bytes) -> Header:
    """What the first bytes of a connection are; `data` may go on behind the header."""
    if data[:1] == b"\r":
        return _parse_v2(data)
    if data[: len(_V1)] == _V1[: len(data)]:
        return _parse_v1(data)
    return Unclear.REFUSED


def _parse_v1(data: bytes) -> Header:
    """`PROXY TCP4 192.0.2.9 192.0.2.1 56324 443`, one line of text (§2.1)."""
    end = data.find(b"\r\n", 0, LONGEST_V1)
    if end < 0:
        return Unclear.MORE if len(data) < LONGEST_V1 else Unclear.REFUSED
    words = data[:end].split(b" ")
    length = end + 2
    if words[1] == b"UNKNOWN":
        return Own(length)  # what follows it is to be ignored
    family = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}.get(words[1])
    if family is None or len(words) != 6:
        return Unclear.REFUSED
    host, port = _read_address(words[2], family), _read_port(words[4])
    if not host or not _read_address(words[3], family) or port < 0 or _read_port(words[5]) < 0:
        return Unclear.REFUSED
    return Source(host, port, length)


def _read_address(text: bytes, family: int) -> str:
    """An address in its shortest spelling, "" for what is none."""
    try:
        return write_address(socket.inet_pton(family, text.decode("ascii")))
    except (OSError, ValueError):
        return ""


def write_address(packed: bytes) -> str:
    """An address in text; IPv4 in IPv6 clothes, as balancers send when the families of the two ends differ, as IPv4, so
    that limits by network do not take all of IPv4 for one customer."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed[:12] == _MAPPED:
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def _read_port(text: bytes) -> int:
    """A port, -1 for what is none."""
    if not 0 < len(text) <= 5 or text.strip(_DIGITS) or (text[:1] == b"0" and len(text) > 1):
        return -1
    port = int(text)
    return port if port <= 65_535 else -1


def _parse_v2(data: bytes) -> Header:
    """Sixteen bytes, the addresses, and what else the balancer tells (§2.2)."""
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
        return Unclear.REFUSED
    if len(data) < _HEAD:
        return Unclear.MORE
    command, family, length = struct.unpack_from("!BBH", data, len(SIGNATURE))
    end = _HEAD + length
    if command not in (0x20, 0x21) or end > LONGEST_V2:
        return Unclear.REFUSED
    if len(data) < end:
        return Unclear.MORE
    if command == 0x20:  # LOCAL: whatever addresses it has are to be ignored
        return Own(end)
    if family == _TCP4:
        size, address_bytes = 12, 4
    elif family == _TCP6:
        size, address_bytes = 36, 16
    elif family >> 4 in (0, 3) and family & 15 <= 1:  # unspecified, or a Unix socket: an address that we cannot use
        return Own(end)
    else:
        return Unclear.REFUSED
    if length < size or not _is_intact(data[:end], _HEAD + size):
        return Unclear.REFUSED
    host = write_address(data[_HEAD : _HEAD + address_bytes])
    (port,) = struct.unpack_from("!H", data, _HEAD + 2 * address_bytes)
    return Source(host, port, end)


def _is_intact(header: bytes, at: int) -> bool:
    """Whether the TLVs from `at` on fill their room, and the checksum among them, if any, is right (§2.2.3)."""
    while at < len(header):
        if len(header) - at < 3:
            return False
        kind, length = struct.unpack_from("!BH", header, at)
        if len(header) - at - 3 < length:
            return False
        if kind == _CRC32C:
            blank = header[: at + 3] + bytes(length) + header[at + 3 + length :]
            if header[at + 3 : at + 3 + length] != struct.pack("!I", crc32c(blank)):
                return False
        at += 3 + length
    return True


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3720 §12.1 (Castagnoli's polynomial), bit by bit: it is of one header a connection."""
    value = 0xFFFFFFFF
    for octet in data:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
