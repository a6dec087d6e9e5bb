"""A trace as a file for Wireshark, octet by octet."""

from __future__ import annotations

import io
from typing import Any

import pytest

from farm.admin.pcap import LONGEST_PACKET, PcapFile


def message(**changes: Any) -> dict[str, Any]:
    return {
        "time": 1_700_000_000.00025, "source": "192.0.2.1:5060", "destination": "198.51.100.7:40000", "size": 4,
        "raw": "BYE\udcff", **changes,
    }  # fmt: skip


def write(*messages: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    file = PcapFile(stream)
    for each in messages:
        file.write(each)
    return stream.getvalue()


HEAD = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000 65000000")


def test_a_message_is_a_packet_of_udp_over_ipv4_with_its_time() -> None:
    by_hand = (
        "00f15365 fa000000 20000000 20000000"  # 1700000000 s, 250 us, 32 bytes of 32
        "4500 0020 0000 0000 4011 8e91 c0000201 c6336407"  # IPv4, its sum, the addresses
        "13c4 9c40 000c 0000"  # the ports, 12 bytes
        "425945ff"
    )
    assert write(message()) == HEAD + bytes.fromhex(by_hand)


def test_over_ipv6_it_is_one_too() -> None:
    data = write(message(source="[2001:db8::1]:5060", destination="[fe80::7%eth0]:1"))[24 + 16 :]
    assert data[:8] == bytes.fromhex("60000000 000c 11 40")
    assert data[8:40] == bytes.fromhex("20010db8" + "00" * 11 + "01" + "fe80" + "00" * 13 + "07")
    assert data[40:] == bytes.fromhex("13c4 0001 000c 0000 425945ff")


def test_what_was_cut_says_how_long_it_was() -> None:
    record = write(message(size=40_000))[24:40]
    assert [int.from_bytes(record[at : at + 4], "little") for at in (8, 12)] == [32, 40_028]
    data = write(message(raw="x" * 70_000, size=70_000))
    assert len(data) == 24 + 16 + LONGEST_PACKET


def test_a_length_that_no_message_has_ends_no_trace() -> None:
    record = write(message(size=2**53))[24:40]
    assert [int.from_bytes(record[at : at + 4], "little") for at in (8, 12)] == [32, 2**30 + 28]


@pytest.mark.parametrize("source", ["0:0", "nobody:5060", ":0", "[2001:db8::1]:5060"])
def test_what_has_no_addresses_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|appear to be|two families"):
        write(message(source=source))
