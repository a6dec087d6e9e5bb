"""What some loopback addresses send to others, as the kernel saw it: a packet socket on `lo`, read by a thread.

It takes rights that not everybody has: `Capture` raises PermissionError then. IPv4 alone; what a stream says is put in
order by its sequence numbers and taken once, however often it was sent. The kernel shows a packet when it leaves and
when it arrives; the second is left out.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final

_ALL: Final = 0x0003  # ETH_P_ALL
_IPV4: Final = 0x0800
_UDP: Final = 17
_TCP: Final = 6
_SYN: Final = 0x02
_BUFFER_BYTES: Final = 1 << 24

Endpoint = tuple[str, int]


class Capture:
    """All that `hosts` say to addresses that are none of them, from ports that are not among `without`, until the
    block ends."""

    def __init__(self, hosts: Sequence[str], without: Sequence[int] = ()) -> None:
        self._hosts = set(hosts)
        self._without = set(without)
        self._datagrams: list[tuple[str, bytes]] = []
        self._streams: dict[tuple[Endpoint, Endpoint], dict[int, bytes]] = {}
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.bind(("lo", _ALL))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(10)
        self._socket.close()

    def payloads(self) -> Iterator[tuple[str, bytes]]:
        """Who sent, and what: datagrams, and whole streams."""
        yield from list(self._datagrams)
        for (source, _), pieces in list(self._streams.items()):
            yield source[0], b"".join(pieces[number] for number in sorted(pieces))

    def _run(self) -> None:
        # What was sent before the end is read to its end.
        while select.select([self._socket], [], [], 0.1)[0] or not self._ended.is_set():
            try:
                packet, address = self._socket.recvfrom(65_536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            if address[1] == _IPV4 and address[2] != socket.PACKET_OUTGOING:
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        source, target = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
        if source not in self._hosts or target in self._hosts:
            return
        total = int.from_bytes(packet[2:4], "big")
        segment = packet[(packet[0] & 0x0F) * 4 : total]
        ports = int.from_bytes(segment[:2], "big"), int.from_bytes(segment[2:4], "big")
        if ports[0] in self._without:
            return
        if packet[9] == _UDP:
            self._datagrams.append((source, segment[8:]))
        elif packet[9] == _TCP:
            data = segment[(segment[12] >> 4) * 4 :]
            number = int.from_bytes(segment[4:8], "big")
            stream = ((source, ports[0]), (target, ports[1]))
            if segment[13] & _SYN:
                self._streams[stream] = {}
            elif data:
                self._streams.setdefault(stream, {})[number] = data
