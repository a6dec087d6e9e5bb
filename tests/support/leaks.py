"""What a farm must not tell the world about its nodes, looked for in all that they send to hosts that are none.

`Watch` reads every datagram and every stream that leaves a node for a host outside, in the clear or as the one who got
it deciphered it (`read_deciphered`), as it is and decoded: whatever looks like base64 or hexadecimal may hold what
nobody sees at first.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from tests.support.certificates import OVERLAY, node_id
from tests.support.farms import NAME_SERVER, PEER_PORT, Farm
from tests.support.network import Packet
from tests.support.parties import Message, Party

_ENCODED: Final = re.compile(rb"[A-Za-z0-9+/_-]{8,}")
_HEXADECIMAL: Final = re.compile(rb"[0-9A-Fa-f]{8,}")
_BANNERS: Final = re.compile(rb"(?im)^(server|user-agent|software|x-powered-by)[ \t]*:|sipfarm|twisted|python|wsproto")
_TLS_RECORD: Final = re.compile(rb"^[\x14-\x17]\x03[\x00-\x04]")
_ALIGNMENTS: Final = 4
_NODE_ID_BYTES: Final = 4  # eight hexadecimal digits
_ENOUGH: Final = 30
_SHARE: Final = 0.15  # of values with the same characters: three nodes have a third each, and chance some hundredths


class Watch:
    """Everything that the nodes of a farm have said to others from now on."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._datagrams: list[tuple[str, bytes]] = []
        self._streams: dict[tuple[str, tuple[str, int], tuple[str, int]], bytearray] = {}
        self._deciphered: list[tuple[str, bytes]] = []
        farm.network.watch(self._see)

    def _see(self, packet: Packet) -> None:
        addresses = {address for node in self._farm.nodes for address in node.host.addresses}
        if packet.source[0] not in addresses or packet.target[0] in addresses | {NAME_SERVER}:
            return
        if packet.transport == "UDP":
            self._datagrams.append((packet.source[0], packet.data))
        else:
            key = (packet.source[0], packet.source, packet.target)
            self._streams.setdefault(key, bytearray()).extend(packet.data)

    def read_deciphered(self, parties: Iterable[Party]) -> None:
        """Take what came to parties on TLS, and the certificate that they were shown."""
        for party in parties:
            self._deciphered += [(message.source[0], message.data) for message in party.received]
            assert party._stream is not None
            assert party._stream.certificate, "it is on TLS"
            self._deciphered.append((party.target[0], party._stream.certificate))

    def payloads(self) -> Iterator[tuple[str, bytes]]:
        """Who sent, and what: datagrams, whole streams, deciphered messages."""
        yield from self._datagrams
        for (source, _, _), data in self._streams.items():
            if not _TLS_RECORD.match(data):
                yield source, bytes(data)
        yield from self._deciphered

    def messages(self) -> Iterator[tuple[str, Message]]:
        """The SIP messages among them, each with the address that it came from."""
        for source, data in self.payloads():
            for begin in re.finditer(rb"(?:SIP/2\.0 [1-6]\d\d [^\r\n]*|[A-Z]+ sips?:[^ \r\n]+ SIP/2\.0)\r\n", data):
                head = data[begin.start() :].partition(b"\r\n\r\n")[0]
                yield source, Message(head + b"\r\n\r\n")

    def find_leaks(self) -> list[str]:
        """What strangers can read of a node, a line each."""
        secrets = _Secrets(self._farm)
        found = []
        for source, data in self.payloads():
            leaks = secrets.find(data)
            banner = _BANNERS.search(data)
            if banner is not None:
                leaks.append(f"the banner {banner[0]!r}")
            found += [f"{source} tells {leak} in\n{data.decode('utf-8', 'replace')}" for leak in leaks]
        return found

    def find_marks(self, pattern: str) -> list[str]:
        """By what a stranger could sort values by the node that made each: three characters at one place that many of
        them share. `pattern` has the value as its group."""
        values = {
            found[1]
            for _, message in self.messages()
            for found in re.finditer(pattern, message.text.partition("\r\n\r\n")[0])
        }
        assert len(values) >= _ENOUGH, f"too few values to tell by: {values}"
        counts: Counter[tuple[int, str]] = Counter()
        for value in values:
            counts.update((place, value[place : place + 3]) for place in range(len(value) - 2))
        return [
            f"{text!r} at {place} in {count} of {len(values)}"
            for (place, text), count in sorted(counts.items())
            if count > len(values) * _SHARE
        ]


class _Secrets:
    """What must not be seen, in every form."""

    def __init__(self, farm: Farm) -> None:
        texts: dict[str, str] = {"the overlay's name": OVERLAY.replace(".", r"\.")}
        self._raw: dict[str, bytes] = {}
        for number, node in enumerate(farm.nodes, 1):
            name = node.config.node.name
            texts[f"the name {name}"] = re.escape(name)
            for address in node.host.addresses:
                texts[f"the address {address} of {name}"] = rf"(?<![\d.]){re.escape(address)}(?![\d])"
                self._raw[f"the packed address {address} of {name}"] = ipaddress.ip_address(address).packed
            identity = node_id(number)
            stamps = int.from_bytes(identity[:8], "big") >> 1
            texts[f"the Node-ID of {name}"] = f"(?i){identity[:_NODE_ID_BYTES].hex()}"
            texts[f"the number in stamps of {name}"] = f"(?i)(?<!\\d){stamps}(?!\\d)|{stamps:016x}"
            self._raw[f"the packed Node-ID of {name}"] = identity[:_NODE_ID_BYTES]
            self._raw[f"the packed number in stamps of {name}"] = stamps.to_bytes(8, "big")[-_NODE_ID_BYTES - 2 :]
        texts["the port of the overlay"] = rf"[:=]{PEER_PORT}(?!\d)"
        self._texts = {what: re.compile(pattern.encode()) for what, pattern in texts.items()}

    def find(self, data: bytes) -> list[str]:
        """What is in a payload."""
        found = [what for what, pattern in self._texts.items() if pattern.search(data)]
        for decoded in _decode(data):
            found += [f"{what}, encoded" for what, pattern in self._texts.items() if pattern.search(decoded)]
            found += [f"{what}, encoded" for what, raw in self._raw.items() if raw in decoded]
        return found


def _decode(data: bytes) -> Iterator[bytes]:
    """All that encoded text in it may stand for."""
    for run in _ENCODED.finditer(data):
        for begin in range(_ALIGNMENTS):
            text = run[0][begin:].replace(b"-", b"+").replace(b"_", b"/")
            text = text[: len(text) // 4 * 4]
            try:
                yield base64.b64decode(text, validate=True)
            except binascii.Error:
                continue
    for run in _HEXADECIMAL.finditer(data):
        for begin in (0, 1):
            text = run[0][begin:]
            yield bytes.fromhex(text[: len(text) // 2 * 2].decode())
