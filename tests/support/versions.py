"""Wires of other versions, for farms in which not all nodes are of one: an older one, and one that is yet to come.

Both stand where `wire.Codec` does. The older one leaves out the last field of every struct that has a default there
(it is from before that field was added), but for a Contact's version, which the first one had, and does not know the
messages of `UNKNOWN`. The newer one adds a field to every struct, and to every few frames messages that nobody knows: a
question and a piece of news.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from unittest.mock import patch

import msgspec

from farm.overlay import wire
from farm.overlay.wire import Codec, Error, Message, Received
from tests.support.overlays import Station

UNKNOWN: Final = (wire.Scan, wire.Scanned)
NEW_QUESTION: Final = 40
NEW_NEWS: Final = 41
_FIRST_CALL: Final = 1 << 40  # above the numbers of real calls

_encode = msgspec.msgpack.Encoder().encode


def list_fields(value: Any, change: Callable[[msgspec.Struct, list[Any]], None]) -> Any:
    """A struct as the array that it is on the wire, `change` having been at its fields, and those of all in it."""
    if isinstance(value, msgspec.Struct):
        fields = [list_fields(getattr(value, name), change) for name in value.__struct_fields__]
        change(value, fields)
        tag = value.__struct_config__.tag
        return fields if tag is None else [tag, *fields]
    if isinstance(value, list | tuple):
        return [list_fields(each, change) for each in value]
    return value


def _drop_last(struct: msgspec.Struct, fields: list[Any]) -> None:
    if struct.__struct_defaults__ and not isinstance(struct, wire.Contact):
        fields.pop()


def _add_one(struct: msgspec.Struct, fields: list[Any]) -> None:
    fields.append({"of": ["a", "later", "version"]})


class OlderCodec(Codec):
    """Of before the last field of everything was added."""

    def pack(self, message: Message) -> bytes:
        return _encode(list_fields(message, _drop_last))

    def unpack(self, frame: bytes) -> Received:
        received = super().unpack(frame)
        unknown = [message for message in received.messages if isinstance(message, UNKNOWN)]
        received.messages = [message for message in received.messages if not isinstance(message, UNKNOWN)]
        received.unknown += len(unknown)
        received.unknown_calls += tuple(message.call for message in unknown)
        return received


class NewerCodec(Codec):
    """Of after something was added. `asked` are the calls of its unknown questions, `answers` what came of them."""

    __slots__ = ("answers", "asked", "frames")

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        self.asked: list[int] = []
        self.answers: list[Error] = []

    def pack(self, message: Message) -> bytes:
        return _encode(list_fields(message, _add_one))

    def frame(self, stamp: int, mono: float, messages: Sequence[bytes]) -> bytes:
        self.frames += 1
        if self.frames % 7 == 0:
            call = _FIRST_CALL + self.frames
            self.asked.append(call)
            messages = [_encode([NEW_QUESTION, call, "how"]), *messages, _encode([NEW_NEWS, {"x": 1}])]
        return super().frame(stamp, mono, messages)

    def unpack(self, frame: bytes) -> Received:
        received = super().unpack(frame)
        self.answers += [each for each in received.messages if isinstance(each, Error) and each.call >= _FIRST_CALL]
        return received


def speak(station: Station, codec: type[Codec], version: int) -> None:
    """Have a machine's nodes, from the next boot on, be of another version."""

    def boot_with(*, wiped: bool = False) -> None:
        with patch("farm.overlay.node.Codec", codec), patch("tests.support.overlays.VERSION", version):
            Station.boot(station, wiped=wiped)

    station.boot = boot_with  # type: ignore[method-assign]
