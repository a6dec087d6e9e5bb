"""What nodes say to each other of traces, as bytes: *show me these messages*, and *these I saw*.

What another node says is read with care, although only nodes that the authority has admitted say anything: a length of
text, a number of messages, an address. Who is after a trace is known by the link; the trace by 16 random bytes.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from farm.capture.catch import MESSAGE_BYTES, MOST_MESSAGES
from farm.capture.reading import Sought
from farm.capture.seen import Seen

TRACE_BYTES: Final = 16
MOST_SOUGHT_BYTES: Final = 512

_Name = Annotated[bytes, msgspec.Meta(min_length=TRACE_BYTES, max_length=TRACE_BYTES)]
_Text = Annotated[bytes, msgspec.Meta(max_length=MOST_SOUGHT_BYTES)]
_Short = Annotated[str, msgspec.Meta(max_length=64)]
_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]

_Words = TypeVar("_Words")


class WordsError(ValueError):
    """What another node says cannot be understood."""


class Ask(msgspec.Struct, array_like=True, frozen=True):
    """Show me the messages of this address-of-record or call, for some seconds; or, when it `ends`, no more."""

    trace: _Name
    aor: _Text = b""
    call_id: _Text = b""
    ends: bool = False

    @property
    def sought(self) -> Sought:
        """What the trace is after."""
        return Sought(*(text.decode("utf-8", "surrogateescape") for text in (self.aor, self.call_id)))


class Copy(msgspec.Struct, array_like=True, frozen=True):
    """One message, cut to a length; `size` is its true one."""

    time: _Count
    transport: _Short
    sent: bool
    local: tuple[_Short, _Port]
    remote: tuple[_Short, _Port]
    size: _Count
    data: Annotated[bytes, msgspec.Meta(max_length=MESSAGE_BYTES)]

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Source and destination."""
        return (self.local, self.remote) if self.sent else (self.remote, self.local)


class Told(msgspec.Struct, array_like=True, frozen=True):
    """These I saw, and `lost` as many; `busy` says that I watch for too many others."""

    trace: _Name
    copies: Annotated[tuple[Copy, ...], msgspec.Meta(max_length=MOST_MESSAGES)] = ()
    lost: _Count = 0
    busy: bool = False


def make_ask(trace: bytes, sought: Sought, *, ends: bool = False) -> Ask:
    """What is said to other nodes of a trace."""
    aor, call_id = (text.encode("utf-8", "surrogateescape") for text in sought)
    return Ask(trace, aor, call_id, ends)


def make_copy(seen: Seen, data: bytes) -> Copy:
    """A message as it is told; `data` stands for its bytes."""
    return Copy(seen.time, seen.transport, seen.sent, seen.local, seen.remote, len(data), data[:MESSAGE_BYTES])


def pack(words: Ask | Told) -> bytes:
    """As bytes."""
    return msgspec.msgpack.encode(words)


def read_ask(data: bytes) -> Ask:
    """What another node asks. Raises WordsError."""
    return _read(data, Ask)


def read_told(data: bytes) -> Told:
    """What another node saw. Raises WordsError."""
    return _read(data, Told)


def _read(data: bytes, kind: type[_Words]) -> _Words:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WordsError(str(error)) from None
