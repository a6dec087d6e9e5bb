"""What a farm must not tell the world about its nodes, looked for in all that they send to hosts that are none.

`Secrets` finds it in bytes, as they are and decoded: whatever looks like base64 or hexadecimal may hold what nobody
sees at first. `Watch` reads every datagram and every stream that leaves a node in memory for a host outside, in the
clear or as the one who got it deciphered it (`read_deciphered`).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

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
_WORD: Final = 6  # characters of a name that does not come about by chance
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
        return find_messages(self.payloads())

    def find_leaks(self) -> list[str]:
        """What strangers can read of a node, a line each."""
        bodies = [
            Body(node.config.node.name, tuple(node.host.addresses), node_id(number))
            for number, node in enumerate(self._farm.nodes, 1)
        ]
        return Secrets(OVERLAY, PEER_PORT, bodies).find_all(self.payloads())

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


def find_messages(payloads: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, Message]]:
    """The SIP messages in payloads, without their bodies, each with who sent it."""
    for source, data in payloads:
        for begin in re.finditer(rb"(?:SIP/2\.0 [1-6]\d\d [^\r\n]*|[A-Z]+ sips?:[^ \r\n]+ SIP/2\.0)\r\n", data):
            head = data[begin.start() :].partition(b"\r\n\r\n")[0]
            yield source, Message(head + b"\r\n\r\n")


class Body(NamedTuple):
    """A node: its name, its addresses and its Node-ID."""

    name: str
    addresses: tuple[str, ...]
    identity: bytes


class Secrets:
    """What must not be seen of these nodes, in every form."""

    def __init__(self, overlay: str, peer_port: int, bodies: Iterable[Body]) -> None:
        texts: dict[str, str] = {"the overlay's name": overlay.replace(".", r"\.")}
        self._raw: dict[str, bytes] = {}
        self._plain: set[str] = set()  # what is not looked for in what is decoded, where chance writes it too
        self._decoded: set[bytes] = set()
        for name, addresses, identity in bodies:
            texts[f"the name {name}"] = (
                rf"(?<![\w-]){re.escape(name)}(?![\w-])" if len(name) < _WORD else re.escape(name)
            )
            for address in addresses:
                texts[f"the address {address} of {name}"] = rf"(?<![\d.]){re.escape(address)}(?![\d])"
                self._raw[f"the packed address {address} of {name}"] = ipaddress.ip_address(address).packed
            stamps = int.from_bytes(identity[:8], "big") >> 1
            texts[f"the Node-ID of {name}"] = f"(?i){identity[:_NODE_ID_BYTES].hex()}"
            texts[f"the number in stamps of {name}"] = f"(?i)(?<!\\d){stamps}(?!\\d)|{stamps:016x}"
            self._raw[f"the packed Node-ID of {name}"] = identity[:_NODE_ID_BYTES]
            self._raw[f"the packed number in stamps of {name}"] = stamps.to_bytes(8, "big")[-_NODE_ID_BYTES - 2 :]
            if len(name) < _WORD:
                self._plain.add(f"the name {name}")
        texts["the port of the overlay"] = rf"[:=]{peer_port}(?!\d)"
        self._texts = {what: re.compile(pattern.encode()) for what, pattern in texts.items()}

    def find_all(self, payloads: Iterable[tuple[str, bytes]]) -> list[str]:
        """What is in all payloads, each with who sent it, a line each; names of programs too."""
        found = []
        for source, data in payloads:
            leaks = self.find(data)
            banner = _BANNERS.search(data)
            if banner is not None:
                leaks.append(f"the banner {banner[0]!r}")
            found += [f"{source} tells {leak} in\n{data.decode('utf-8', 'replace')}" for leak in leaks]
        return found

    def find(self, data: bytes) -> list[str]:
        """What is in a payload. What was decoded once is not decoded again: tokens come in every message of a call."""
        found = [what for what, pattern in self._texts.items() if pattern.search(data)]
        patterns = {what: pattern for what, pattern in self._texts.items() if what not in self._plain}
        for run in (*_ENCODED.findall(data), *_HEXADECIMAL.findall(data)):
            if run in self._decoded:
                continue
            self._decoded.add(run)
            for decoded in _decode(run):
                found += [f"{what}, encoded" for what, pattern in patterns.items() if pattern.search(decoded)]
                found += [f"{what}, encoded" for what, raw in self._raw.items() if raw in decoded]
        return found


def _decode(run: bytes) -> Iterator[bytes]:
    """All that such characters may stand for, as base64 or as hexadecimal digits."""
    for begin in range(_ALIGNMENTS):
        text = run[begin:].replace(b"-", b"+").replace(b"_", b"/")
        text = text[: len(text) // 4 * 4]
        try:
            yield base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
    if _HEXADECIMAL.fullmatch(run):
        for begin in (0, 1):
            text = run[begin:]
            yield bytes.fromhex(text[: len(text) // 2 * 2].decode())
