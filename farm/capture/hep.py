"""One message as a frame of HEPv3, the protocol of Homer's capture agents.

A frame is `HEP3`, its whole length in 16 bits, and chunks: vendor (0 for what all know), type, length with these six
octets, value; numbers in network order. The specification is github.com/sipcapture/HEP, `HEP3_Network_Protocol_
Specification_REV_36`; the types are those of its §3, and the correlation is the Call-ID.

Decided: TLS and WebSocket go as TCP, which is what the ports mean. Kamailio's agents write protocol 22 for TLS, which
its own collector does not read.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from farm.capture.reading import find_call_id
from farm.capture.seen import Seen

MAGIC: Final = b"HEP3"
FRAME_BYTES: Final = 65_000  # what a datagram carries over IPv4 and IPv6 alike, with room to spare

_SIP: Final = 1
_PROTOCOLS: Final = {"UDP": 17}
_TCP: Final = 6
_LONGEST_TEXT: Final = 1000  # of a Call-ID, which a stranger writes

_LENGTH: Final = Struct("!4sH")
_CHUNK: Final = Struct("!HHH")
# family, protocol, ports, seconds, microseconds, kind, agent: the chunks of fixed length, their heads among them
_FIXED: Final = Struct("!" + "HHHB" * 2 + "HHHH" * 2 + "HHHI" * 2 + "HHHB" + "HHHI")


class Agent(NamedTuple):
    """Who captures: a number, a name, and the key that the collector asks for, b"" for none."""

    number: int
    name: bytes = b""
    key: bytes = b""


class Frame(NamedTuple):
    """What goes to a collector; `cut` says that the message was too long to go whole."""

    data: bytes
    cut: bool


def make_frame(seen: Seen, agent: Agent, payload: bytes) -> Frame:
    """The frame of a message, whose bytes `payload` stands for. Raises OSError when an address is none, ValueError when
    a port is none."""
    (source, source_port), (destination, destination_port) = seen.source, seen.destination
    six = ":" in source or ":" in destination
    family = AF_INET6 if six else AF_INET
    seconds, microseconds = divmod(seen.time, 1_000_000)
    # fmt: off
    try:
        fixed = _FIXED.pack(
            0, 1, 7, int(family),
            0, 2, 7, _PROTOCOLS.get(seen.transport, _TCP),
            0, 7, 8, source_port,
            0, 8, 8, destination_port,
            0, 9, 10, seconds & 0xFFFFFFFF,
            0, 10, 10, microseconds,
            0, 11, 7, _SIP,
            0, 12, 10, agent.number,
        )
    except StructError as error:
        raise ValueError(str(error)) from None
    chunks = [
        fixed,
        _make_chunk(5 if six else 3, inet_pton(family, source.partition("%")[0])),
        _make_chunk(6 if six else 4, inet_pton(family, destination.partition("%")[0])),
    ]
    # fmt: on
    if agent.key:
        chunks.append(_make_chunk(14, agent.key))
    call_id = find_call_id(seen.data)[:_LONGEST_TEXT]
    if call_id:
        chunks.append(_make_chunk(17, call_id))
    if agent.name:
        chunks.append(_make_chunk(19, agent.name))
    room = FRAME_BYTES - _LENGTH.size - _CHUNK.size - sum(map(len, chunks))
    chunks.append(_make_chunk(15, payload[:room]))
    body = b"".join(chunks)
    return Frame(_LENGTH.pack(MAGIC, _LENGTH.size + len(body)) + body, len(payload) > room)


def _make_chunk(kind: int, value: bytes) -> bytes:
    return _CHUNK.pack(0, kind, _CHUNK.size + len(value)) + value
