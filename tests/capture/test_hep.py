"""Frames of HEPv3, octet by octet as the specification lays them out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.capture.hep import FRAME_BYTES, Agent, make_frame
from farm.capture.seen import Seen

CALL = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: c1\r\n\r\n"


def seen_by(transport: str, sent: bool = False, remote: str = "198.51.100.7", data: bytes = CALL) -> Seen:
    local = "2001:db8::1" if ":" in remote else "192.0.2.1"
    return Seen(1_700_000_000_000_250, transport, sent, (local, 5060), (remote, 40_000), data)


def chunks_of(frame: bytes) -> dict[int, bytes]:
    """Type and value, with the lengths checked."""
    assert frame[:4] == b"HEP3"
    assert int.from_bytes(frame[4:6], "big") == len(frame)
    found: dict[int, bytes] = {}
    at = 6
    while at < len(frame):
        vendor, kind, length = (int.from_bytes(frame[at + 2 * n : at + 2 * n + 2], "big") for n in range(3))
        assert vendor == 0
        found[kind] = frame[at + 6 : at + length]
        at += length
    return found


def test_a_message_over_udp_is_laid_out_by_the_specification() -> None:
    frame = make_frame(seen_by("UDP"), Agent(2001, b"n1", b"secret"), CALL)
    by_hand = (
        "0000 0001 0007 02"  # IPv4
        "0000 0002 0007 11"  # UDP
        "0000 0007 0008 9c40"  # from port 40000
        "0000 0008 0008 13c4"  # to port 5060
        "0000 0009 000a 6553f100"  # 1700000000 s
        "0000 000a 000a 000000fa"  # 250 us
        "0000 000b 0007 01"  # SIP
        "0000 000c 000a 000007d1"  # agent 2001
        "0000 0003 000a c6336407"  # from 198.51.100.7
        "0000 0004 000a c0000201"  # to 192.0.2.1
        "0000 000e 000c 736563726574"  # key
        "0000 0011 0008 6331"  # correlated by Call-ID
        "0000 0013 0008 6e31"  # node
    )
    body = bytes.fromhex(by_hand) + bytes.fromhex("0000 000f") + (6 + len(CALL)).to_bytes(2, "big") + CALL
    assert frame.data == b"HEP3" + (6 + len(body)).to_bytes(2, "big") + body
    assert not frame.cut


@pytest.mark.parametrize("transport", ["TCP", "TLS", "WS", "WSS"])
def test_streams_are_tcp_and_what_is_sent_comes_from_us(transport: str) -> None:
    chunks = chunks_of(make_frame(seen_by(transport, sent=True), Agent(1), CALL).data)
    assert (chunks[2], chunks[3], chunks[4]) == (b"\x06", bytes([192, 0, 2, 1]), bytes([198, 51, 100, 7]))
    assert (chunks[7], chunks[8]) == ((5060).to_bytes(2, "big"), (40_000).to_bytes(2, "big"))


def test_over_ipv6_the_addresses_are_chunks_5_and_6() -> None:
    chunks = chunks_of(make_frame(seen_by("UDP", remote="fe80::7%eth0"), Agent(1), CALL).data)
    assert chunks[1] == b"\x0a"
    assert chunks[5] == bytes.fromhex("fe80" + "00" * 13 + "07")
    assert chunks[6] == bytes.fromhex("20010db8" + "00" * 11 + "01")
    assert not {3, 4} & set(chunks)


def test_what_has_no_call_id_no_name_and_no_key_has_no_chunk_for_them() -> None:
    assert not {14, 17, 19} & set(chunks_of(make_frame(seen_by("UDP", data=b"junk"), Agent(1), b"junk").data))


def test_the_payload_stands_for_the_message() -> None:
    assert chunks_of(make_frame(seen_by("UDP"), Agent(1), b"masked").data)[15] == b"masked"


@pytest.mark.parametrize("size", [FRAME_BYTES, 300_000])
def test_what_is_too_long_for_a_datagram_is_cut_and_says_so(size: int) -> None:
    frame = make_frame(seen_by("TCP", data=b"x" * size), Agent(1, b"n1"), b"x" * size)
    assert (len(frame.data), frame.cut) == (FRAME_BYTES, True)
    chunks_of(frame.data)


def test_a_call_id_as_long_as_a_message_leaves_room_for_it() -> None:
    data = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: " + b"c" * 70_000 + b"\r\n\r\n"
    chunks = chunks_of(make_frame(seen_by("TCP", data=data), Agent(1), data).data)
    assert (len(chunks[17]), chunks[15][:7]) == (1000, b"OPTIONS")


def test_an_address_that_is_none_is_an_error() -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        make_frame(seen_by("TCP", remote=""), Agent(1), CALL)


PIECES = st.lists(
    st.one_of(st.binary(max_size=20), st.sampled_from([b"\r\nCall-ID: ", b"\ni:", b"\r\n ", b"\r\n\r\n", b"x" * 3000])),
    max_size=40,
)


@given(PIECES, st.sampled_from(["UDP", "TLS", "?"]), st.booleans(), st.binary(max_size=255))
def test_a_frame_holds_together_whatever_a_message_is(
    pieces: list[bytes], transport: str, six: bool, name: bytes
) -> None:
    data = b"".join(pieces)
    seen = seen_by(transport, remote="2001:db8::9" if six else "198.51.100.7", data=data)
    frame, cut = make_frame(seen, Agent(7, name, b"key"), data)
    chunks = chunks_of(frame)
    assert len(frame) <= FRAME_BYTES
    assert chunks[14] == b"key"
    assert chunks[15] == data[: len(chunks[15])]
    assert cut == (len(chunks[15]) < len(data))
