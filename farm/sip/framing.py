"""A stream to messages (RFC 3261 §7.5, §18.3; keep-alives of RFC 5626 §3.5.1).

However the stream was cut, the same messages come out, in time linear in its length. What cannot be framed for sure (no
Content-Length, two of them, one that is no number, a head or a body over the limit) ends the stream: what follows could
be anything.

Decided: on a line end between messages PONG is answered at once, and PING when a second one follows directly. A framer
that waited to see which it is would hold a pong back until the next message; an extra PONG harms nobody.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from farm.sip.grammar import parse_number
from farm.sip.parser import Malformed, ParserLimits, make_malformed
from farm.sip.status import SipError


class KeepAlive:
    """A keep-alive found between messages: PING wants one line end back, PONG nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


PING: Final = KeepAlive("PING")
PONG: Final = KeepAlive("PONG")


class Broken:
    """The end of a stream that cannot be framed: why, with what an answer needs (`error.request`), and the bytes seen.

    The stream must be closed once the answer is written.
    """

    __slots__ = ("error", "head")

    def __init__(self, error: Malformed, head: bytes) -> None:
        self.error = error
        self.head = head


Frame: TypeAlias = bytes | KeepAlive | Broken

_LENGTH: Final = re.compile(rb"\n(?:content-length|l)[ \t]*+:((?:[^\n]++|\n[ \t])*)")
_TOKEN_OCTETS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~")


class StreamFramer:
    """Cuts one connection's bytes into messages."""

    __slots__ = ("_broken", "_buffer", "_crlf", "_limits", "_needed", "_scanned")

    def __init__(self, limits: ParserLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0  # no empty line begins before this offset of the buffer
        self._needed = 0  # length of the message at the buffer's start once its head is complete, else 0
        self._crlf = False  # the last thing seen was a line end between messages
        self._broken = False

    @property
    def partial(self) -> bool:
        """Whether bytes of an unfinished message are waiting."""
        return bool(self._buffer)

    def receive(self, data: bytes) -> list[Frame]:
        """What these bytes complete, in order; a Broken is the last thing that ever comes."""
        frames: list[Frame] = []
        if self._broken:
            return frames
        buffer: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return frames
            buffer = self._buffer
        start = 0
        end = len(buffer)
        while start < end:
            if not self._needed:
                first = buffer[start]
                try:
                    if first == 13 or first == 10:
                        skipped = self._skip_line_end(buffer, start, frames)
                        if not skipped:
                            break
                        start += skipped
                        continue
                    self._crlf = False
                    if first not in _TOKEN_OCTETS:
                        raise SipError(400, "Not SIP", reason="not-sip")
                    self._needed = self._read_head(buffer, start)
                except SipError as error:
                    self._broken = True
                    self._buffer = bytearray()
                    head = bytes(buffer[start : start + self._limits.header_bytes])
                    frames.append(Broken(make_malformed(error, head, self._limits), head))
                    return frames
                if not self._needed:
                    break
            if end - start < self._needed:
                break
            frames.append(bytes(buffer[start : start + self._needed]))
            start += self._needed
            self._needed = 0
            self._scanned = 0
        if buffer is self._buffer:
            del self._buffer[:start]
        elif start < end:
            self._buffer = bytearray(buffer[start:])
        return frames

    def _skip_line_end(self, buffer: bytes | bytearray, start: int, frames: list[Frame]) -> int:
        """Octets of the line end at `start`: 0 when half of it is still to come."""
        if buffer[start] == 10:
            return 1
        if start + 1 == len(buffer):
            return 0
        if buffer[start + 1] != 10:
            raise SipError(400, "Bare CR", reason="control-character")
        self._crlf = not self._crlf
        frames.append(PONG if self._crlf else PING)
        return 2

    def _read_head(self, buffer: bytes | bytearray, start: int) -> int:
        """Length of the message that begins at `start`, 0 while its head is not complete; raises SipError."""
        limit = start + self._limits.header_bytes
        begin = start + self._scanned
        long = buffer.find(b"\n\r\n", begin)
        short = buffer.find(b"\n\n", begin, long + 1 if long >= 0 else len(buffer))
        if short >= 0:
            end, body = short, short + 2
        elif long >= 0:
            end, body = long, long + 3
        else:
            if len(buffer) > limit:
                raise SipError(513, reason="header-too-large")
            self._scanned = max(0, len(buffer) - start - 2)
            return 0
        if end > limit:
            raise SipError(513, reason="header-too-large")
        head = bytes(buffer[start:end]).lower()
        matches = _LENGTH.findall(head)
        if len(matches) != 1:
            if not matches:
                raise SipError(400, "Missing Content-Length", reason="missing-content-length")
            raise SipError(400, "Repeated Content-Length", reason="repeated-content-length")
        try:
            length = parse_number(matches[0].decode("latin-1").strip(" \t\r\n"), 2**32 - 1)
        except SipError:
            raise SipError(400, "Bad Content-Length", reason="bad-content-length") from None
        if length > self._limits.body_bytes:
            raise SipError(413, reason="body-too-large")
        return body - start + length
