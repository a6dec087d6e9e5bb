"""The little of STUN that a SIP port speaks: keep-alives over UDP (RFC 5626 §4.4.2 and §8, RFC 8489).

A phone sends a Binding request through the hole in its NAT and is told the address that it was seen at: that the answer
comes keeps the hole open and shows that we are there, and another address than before shows that the hole is a new one.
Bytes to bytes, without a socket; `layer` sends the answer from where the request came to.

Answered are Binding requests alone. One with attributes that must be understood and are not gets a 420 that lists them
(RFC 8489 §6.3.1); credentials are understood in that they are ignored, since nothing here wants them. A FINGERPRINT
must be right, and is given back. Indications, answers, other methods and what is malformed are not answered.

Decided: no RFC 3489 without the magic cookie, as RFC 5626 §8 says; no SOFTWARE and no reason phrase. An answer is at
most 36 bytes longer than its request, so that nobody gains much by having us send to a third party.
"""

from __future__ import annotations

import socket
from typing import Final
from zlib import crc32

_HEADER_BYTES: Final = 20
_LONGEST: Final = 548  # of a request: what every path carries (RFC 8489 §6.1)
_COOKIE: Final = b"\x21\x12\xa4\x42"
_BINDING_REQUEST: Final = b"\x00\x01"
_BINDING_SUCCESS: Final = b"\x01\x01"
_BINDING_ERROR: Final = b"\x01\x11"
_MESSAGE_INTEGRITY: Final = 0x0008
_FINGERPRINT: Final = 0x8028
_FINGERPRINT_XOR: Final = 0x5354554E
_OPTIONAL: Final = 0x8000  # attributes from here on may be passed over
# MAPPED-ADDRESS, USERNAME, MESSAGE-INTEGRITY, ERROR-CODE, UNKNOWN-ATTRIBUTES, REALM, NONCE, MESSAGE-INTEGRITY-SHA256,
# PASSWORD-ALGORITHM, USERHASH, XOR-MAPPED-ADDRESS
_KNOWN: Final = frozenset((0x0001, 0x0006, 0x0008, 0x0009, 0x000A, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E, 0x0020))
_ERROR_420: Final = b"\x00\x09\x00\x04\x00\x00\x04\x14"


def answer_stun(data: bytes, host: str, port: int) -> bytes | None:
    """The answer to what came from that numeric address; None when there is none to give."""
    if not _HEADER_BYTES <= len(data) <= _LONGEST or data[:2] != _BINDING_REQUEST or data[4:8] != _COOKIE:
        return None
    unknown: list[int] = []
    at = _HEADER_BYTES
    end = len(data)
    if int.from_bytes(data[2:4], "big") != end - _HEADER_BYTES:
        return None
    fingerprint = sealed = False
    while at < end:
        kind = int.from_bytes(data[at : at + 2], "big")
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        following = at + 4 + (length + 3) // 4 * 4
        if following > end or fingerprint:
            return None  # cut short, or something after the FINGERPRINT
        if kind == _FINGERPRINT:
            if length != 4 or data[at + 4 : following] != _make_checksum(data[:at]):
                return None
            fingerprint = True
        elif kind < _OPTIONAL and kind not in _KNOWN and not sealed and kind not in unknown:
            unknown.append(kind)
        sealed = sealed or kind == _MESSAGE_INTEGRITY  # what follows one is passed over (§14.5)
        at = following
    transaction = data[4:_HEADER_BYTES]
    if unknown:
        listed = b"".join([kind.to_bytes(2, "big") for kind in unknown])
        body = _ERROR_420 + b"\x00\x0a" + len(listed).to_bytes(2, "big") + listed + bytes(-len(listed) % 4)
        return _write(_BINDING_ERROR, transaction, body, fingerprint)
    return _write(_BINDING_SUCCESS, transaction, _write_mapped(host, port, transaction), fingerprint)


def _write(kind: bytes, transaction: bytes, body: bytes, fingerprint: bool) -> bytes:
    length = len(body) + (8 if fingerprint else 0)
    message = kind + length.to_bytes(2, "big") + transaction + body
    if fingerprint:
        message += b"\x80\x28\x00\x04" + _make_checksum(message)
    return message


def _write_mapped(host: str, port: int, transaction: bytes) -> bytes:
    """XOR-MAPPED-ADDRESS (RFC 8489 §14.2): XORed with the cookie and, for IPv6, the transaction's id."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    address = bytes([one ^ other for one, other in zip(packed, transaction, strict=False)])
    family = b"\x00\x02" if ":" in host else b"\x00\x01"
    value = family + (port ^ 0x2112).to_bytes(2, "big") + address
    return b"\x00\x20" + len(value).to_bytes(2, "big") + value


def _make_checksum(data: bytes) -> bytes:
    """The value of a FINGERPRINT after `data` (§14.7)."""
    return (crc32(data) ^ _FINGERPRINT_XOR).to_bytes(4, "big")
