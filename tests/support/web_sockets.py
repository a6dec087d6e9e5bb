"""A browser's side of WebSocket in bytes, written from RFC 6455 and sharing no code with what it tests: §4.1, §5.2."""

from __future__ import annotations

import base64
import hashlib

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION = 0x0

KEY = base64.b64encode(b"sixteen bytes...").decode()
ACCEPT = base64.b64encode(hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()

Frame = tuple[int, bytes]


def make_upgrade(start: str = "GET / HTTP/1.1", **changes: str | None) -> bytes:
    """A request to upgrade to `sip`; a change names a header with underscores, None leaves it out."""
    headers: dict[str, str | None] = {
        "host": "sip.example.com",
        "upgrade": "websocket",
        "connection": "keep-alive, Upgrade",
        "origin": "https://phone.example.com",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        "sec-websocket-protocol": "sip",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [start, *(f"{name}: {value}" for name, value in headers.items() if value is not None), "", ""]
    return "\r\n".join(lines).encode()


def make_frame(
    data: bytes | str, kind: int = TEXT, *, final: bool = True, mask: bytes = b"\x01\x80\xa5\x5a", length: int = -1
) -> bytes:
    """One frame of a client; `mask` b"" is not allowed to it, `length` is what it says where that is a lie."""
    if isinstance(data, str):
        data = data.encode()
    length = len(data) if length < 0 else length
    head = bytes((final << 7 | kind,))
    masked = 0x80 if mask else 0
    if length < 126:
        head += bytes((masked | length,))
    elif length < 65_536:
        head += bytes((masked | 126,)) + length.to_bytes(2, "big")
    else:
        head += bytes((masked | 127,)) + length.to_bytes(8, "big")
    if mask:
        data = bytes(octet ^ mask[place % 4] for place, octet in enumerate(data))
    return head + mask + data


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames of a server at the beginning of `data`, and what follows them."""
    found: list[Frame] = []
    while len(data) >= 2:
        begin, size = 2, data[1]
        assert not size & 0x80, "a server masks nothing"
        assert data[0] & 0x80, "it sends whole messages"
        if size >= 126:
            begin = 4 if size == 126 else 10
            size = int.from_bytes(data[2:begin], "big")
        if len(data) < begin + size:
            break
        found.append((data[0] & 0x0F, data[begin : begin + size]))
        data = data[begin + size :]
    return found, data


def read_frames(data: bytes) -> list[Frame]:
    """The frames of a server, and nothing but whole frames."""
    found, left = split_frames(data)
    assert not left, left
    return found


def make_close(code: int) -> Frame:
    """A close frame, as `read_frames` shows it."""
    return (CLOSE, code.to_bytes(2, "big"))
