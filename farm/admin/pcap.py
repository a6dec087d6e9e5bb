"""Messages of a trace as a file that Wireshark opens (`sipfarm trace --pcap FILE`).

Each message becomes one IP packet with a UDP header, whatever it was carried by: Wireshark reads SIP from it without
having to put a stream together, of TLS too. The link type is raw IP (101), times are microseconds. What a trace has cut
is cut here as well, and so is what is longer than a packet; the full length is written beside it.

Decided: classic pcap, not pcapng: every tool reads it, and there is nothing to say that it has no room for.
"""

from __future__ import annotations

from ipaddress import ip_address
from struct import Struct
from typing import BinaryIO, Final

RAW_IP: Final = 101  # LINKTYPE_RAW
LONGEST_PACKET: Final = 65_535
_LONGEST_MESSAGE: Final = 2**30  # that another node may say one had

_FILE: Final = Struct("<IHHiIII")
_RECORD: Final = Struct("<IIII")
_IPV4: Final = Struct("!BBHHHBBH4s4s")
_IPV6: Final = Struct("!IHBB16s16s")
_UDP: Final = Struct("!HHHH")
_PROTOCOL: Final = 17
_HOPS: Final = 64
_HEADS: Final = {4: _IPV4.size + _UDP.size, 6: _IPV6.size + _UDP.size}


class PcapFile:
    """Writes messages to a stream of bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        stream.write(_FILE.pack(0xA1B2C3D4, 2, 4, 0, 0, LONGEST_PACKET, RAW_IP))

    def write(self, message: dict[str, object]) -> None:
        """One message, as the order `trace` answers it. Raises ValueError when its addresses are none, OSError."""
        source, source_port = _split(str(message["source"]))
        destination, destination_port = _split(str(message["destination"]))
        one, other = ip_address(source), ip_address(destination)
        if one.version != other.version:
            raise ValueError(f"{source} and {destination} are of two families")
        head = _HEADS[one.version]
        data = str(message.get("raw", "")).encode("utf-8", "surrogateescape")[: LONGEST_PACKET - head]
        size, time = message.get("size"), message.get("time")
        full = min(max(len(data), size), _LONGEST_MESSAGE) if isinstance(size, int) else len(data)
        seconds, microseconds = divmod(
            round(float(time) * 1_000_000) if isinstance(time, (int, float)) else 0, 1_000_000
        )
        udp = _UDP.pack(source_port, destination_port, _UDP.size + len(data), 0)
        if one.version == 4:
            length = head + len(data)
            bare = _IPV4.pack(0x45, 0, length, 0, 0, _HOPS, _PROTOCOL, 0, one.packed, other.packed)
            ip = _IPV4.pack(0x45, 0, length, 0, 0, _HOPS, _PROTOCOL, _sum(bare), one.packed, other.packed)
        else:
            ip = _IPV6.pack(6 << 28, _UDP.size + len(data), _PROTOCOL, _HOPS, one.packed, other.packed)
        self._stream.write(_RECORD.pack(seconds & 0xFFFFFFFF, microseconds, head + len(data), head + full))
        self._stream.write(ip + udp + data)
        self._stream.flush()


def _split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]").partition("%")[0], int(port)


def _sum(head: bytes) -> int:
    """The checksum of an IPv4 head (RFC 791 §3.1)."""
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, len(head), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
