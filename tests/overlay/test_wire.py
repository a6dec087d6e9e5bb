"""What nodes of other versions say is understood, and bytes that mean nothing are refused at no cost.

`golden/version_1.txt` has the bytes of every message of that version, as they are on the wire. They are never changed:
a message that gets a field, at its end, has other bytes from then on, in a file of the next version; those of the last
version must be understood as well. New files are written by `python -m tests.overlay.test_wire`, once a version.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.overlay import wire
from farm.overlay.wire import OLDEST_VERSION, VERSION, Codec, Contact, Message, Received, WireError

GOLDEN = Path(__file__).parent / "golden"
NODE, OTHER = bytes(range(32)), b"\xff" * 32
KEY, HASH, DIGEST = b"sip:1000@example.com", b"h" * 16, b"d" * 16
FIRST = Contact(NODE, "192.0.2.1", 7400, 1_800_000_000_123, wire.ALIVE, "east", 3, "n1", ("udp:192.0.2.1:5060",), 1,
                40, True, ("192.0.2.1",))  # fmt: skip
SECOND = Contact(OTHER, "2001:db8::2", 7401, 7, wire.SUSPECT, "", wire.STORES)
BOTH = [FIRST, SECOND]

MESSAGES: list[Any] = [
    wire.Hello("farm.example", FIRST, 1, 1, 1_800_000_000_456, 9),
    wire.Ping(1, BOTH),
    wire.Pong(300, [SECOND]),
    wire.PingRequest(2, OTHER, [FIRST]),
    wire.Nack(2, [FIRST]),
    wire.FindNode(3, NODE, 20),
    wire.Nodes(3, BOTH),
    wire.Fetch(4, "registration", KEY, DIGEST),
    wire.Fetched(4, b"record", False, wire.STRANGER, BOTH),
    wire.Store(5, "registration", KEY, b"delta", DIGEST, OTHER),
    wire.Stored(5, wire.STORE_FULL, b"record", wire.UNSETTLED, [SECOND]),
    wire.Stat(70_000, "credential", KEY),
    wire.StatAnswer(70_000, DIGEST, 512, wire.STRANGER),
    wire.Digest(6, [(0, DIGEST), (4095, HASH)]),
    wire.Digested(6, [(4095, 12)], [0, 7]),
    wire.Keys(7, 4095, HASH),
    wire.KeyList(7, [(HASH, DIGEST)], True),
    wire.Pull(8, 4095, [HASH], HASH),
    wire.Pulled(8, [wire.Row("registration", KEY, b"record")], True, HASH),
    wire.Push(9, [wire.Row("registration", KEY, b"record")]),
    wire.Pushed(9, 1),
    wire.Gossip(BOTH),
    wire.Leave(FIRST),
    wire.Diagnose(10, "status"),
    wire.Diagnosis(10, {"name": "n1", "links": 2, "load": 0.5, "ready": True}),
    wire.NewConfig(b"signed"),
    wire.Relay(1, b"TCP 192.0.2.7 40000 #1f", b"BYE sip:bob@192.0.2.7 SIP/2.0\r\n"),
    wire.Error(11, "busy", "later"),
    wire.Scan(12, "credential", 7, KEY),
    wire.Scanned(12, [(KEY, b"record")], 8, KEY),
    wire.Spend(13, 1_800_000_000, 0xC0FFEE07_00000001, 0x1F),
    wire.Spent(13, wire.USED),
]
by_name = pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)


def read_golden(version: int) -> dict[str, bytes]:
    """The messages of a version, by name, and one whole frame with its length."""
    lines = (GOLDEN / f"version_{version}.txt").read_text(encoding="ascii").splitlines()
    return {name: bytes.fromhex(digits) for name, _, digits in (line.partition(" ") for line in lines)}


def make_golden() -> dict[str, bytes]:
    codec = Codec()
    golden = {type(message).__name__: codec.pack(message) for message in MESSAGES}
    frame = codec.frame(1_800_000_000_456 << 16 | 3, 12345.625, list(golden.values()))
    return golden | {"frame": frame}


def receive(*messages: bytes) -> Received:
    return Codec().unpack(Codec().frame(1, 2.0, messages)[4:])


def test_every_message_is_among_the_golden_ones() -> None:
    assert {type(message) for message in MESSAGES} == set(get_args(Message))


def test_what_we_send_has_the_bytes_that_this_version_has_always_had() -> None:
    assert make_golden() == read_golden(VERSION)


@pytest.mark.parametrize("version", range(OLDEST_VERSION, VERSION + 1))
def test_what_nodes_of_this_and_older_versions_send_is_understood(version: int) -> None:
    golden = read_golden(version)
    frame = golden.pop("frame")
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    received = Codec().unpack(frame[4:])
    assert (received.stamp, received.mono, received.unknown) == (1_800_000_000_456 << 16 | 3, 12345.625, 0)
    assert [type(message).__name__ for message in received.messages] == list(golden)
    if version == VERSION:
        assert received.messages == MESSAGES
    for name, packed in golden.items():
        assert [type(message).__name__ for message in receive(packed).messages] == [name]


@by_name
def test_a_node_that_leaves_out_new_fields_is_understood(message: Any) -> None:
    """Any number of trailing fields with defaults may be missing; the defaults stand in for them."""
    whole = msgspec.msgpack.decode(Codec().pack(message))
    names = message.__struct_fields__
    needed = len(names) - len(message.__struct_defaults__)
    for count in range(needed, len(names)):
        (got,) = receive(msgspec.msgpack.encode(whole[: 1 + count])).messages
        assert type(got) is type(message)
        defaults = type(message)(*(getattr(message, name) for name in names[:count]))
        assert [getattr(got, name) for name in names[:count]] == [getattr(message, name) for name in names[:count]]
        assert Codec().pack(got) == Codec().pack(defaults)
    if needed:
        with pytest.raises(WireError) as refused:
            receive(msgspec.msgpack.encode(whole[:needed]))
        assert refused.value.reason == "bad-message"


@by_name
def test_a_node_that_adds_fields_is_understood(message: Any) -> None:
    whole = msgspec.msgpack.decode(Codec().pack(message))
    longer = msgspec.msgpack.encode([*whole, None, {"new": [1, 2]}, b"bytes", -1.5])
    assert receive(longer).messages == [message]


def test_contacts_and_frames_may_have_fewer_or_more_fields_too() -> None:
    short = msgspec.msgpack.encode([21, [[NODE, "192.0.2.1", 7400]]])
    assert receive(short).messages == [wire.Gossip([Contact(NODE, "192.0.2.1", 7400)])]
    long = msgspec.msgpack.encode([21, [[*msgspec.msgpack.decode(msgspec.msgpack.encode(FIRST)), "new", 5]]])
    assert receive(long).messages == [wire.Gossip([FIRST])]
    frame = msgspec.msgpack.encode([1, 2.0, [[1, 5]], "new", {}])
    assert Codec().unpack(frame).messages == [wire.Ping(5)]


def test_a_message_of_an_unknown_number_is_passed_over_and_its_call_is_told() -> None:
    newer = [[100, 77, "x"], [200, 78, {"a": 1}], [201], [202, "no call"], [203, True], [1, 5]]
    received = receive(*(msgspec.msgpack.encode(fields) for fields in newer))
    assert received.messages == [wire.Ping(5)]
    assert (received.unknown, received.unknown_calls) == (5, (77, 78))


@pytest.mark.parametrize(
    "packed",
    [
        b"\x90",
        b"\x91\xa1x",
        b"\x92\xc3\x05",
        b"\x91\x01",
        b"\x92\x01\xa1x",
        b"\x93\x07\x05\x01",
        b"\x94\x07\x05\xa1\xff\xc4\x00",  # no UTF-8
        b"\x81\x01\x02",
        b"\x01",
    ],
)
def test_a_broken_message_is_refused_as_such(packed: bytes) -> None:
    with pytest.raises(WireError) as refused:
        receive(packed)
    assert refused.value.reason == "bad-message"


@pytest.mark.parametrize("mono", [float("nan"), float("inf"), float("-inf"), 1e13])
def test_a_time_that_no_clock_shows_is_refused(mono: float) -> None:
    with pytest.raises(WireError) as refused:
        Codec().unpack(Codec().frame(1, mono, [])[4:])
    assert refused.value.reason == "bad-frame"


_ENVELOPE = b"\x93\x01\x01"
_IN_FRAME = _ENVELOPE + b"\x91"
_HEADS = (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")
_LENGTHS = [head + size for head in _HEADS for size in (b"\xff\xff\xff\xff", b"\x00\xff\xff\xff")]
_BEGUN = (b"\x93\x01\x05", b"\x93\xcc\xc8\x05", b"\x93\x18\x05")
_PLACES = [b"", _ENVELOPE, _IN_FRAME, *(_IN_FRAME + begun for begun in _BEGUN)]
_DEEP = [
    _IN_FRAME + b"\x93\xcc\xc8\x05" + b"\x91" * 200_000 + b"\x01",
    _IN_FRAME + b"\x93\xcc\xc8\x05" + b"\x81\x01" * 100_000 + b"\x01",
    _IN_FRAME + b"\x94\x01\x05\x90" + b"\x91" * 200_000 + b"\x01",
    b"\x91" * 200_000,
    _ENVELOPE + b"\xdd\x00\x00\x4e\x20" + (b"\x93\xcc\xc8\x05\xdd\x00\xff\xff\xff") * 20_000,
]


@pytest.mark.parametrize("frame", [place + length for place in _PLACES for length in _LENGTHS] + _DEEP)
def test_lengths_that_lie_and_nesting_without_end_cost_no_memory(frame: bytes) -> None:
    codec = Codec()
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            codec.unpack(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


def test_a_full_frame_of_the_smallest_messages_costs_less_than_a_hundred_times_its_size() -> None:
    count = 87_000
    frame = _ENVELOPE + b"\xdd" + count.to_bytes(4, "big") + b"\x92\x01\x05" * count
    assert len(frame) <= wire.FRAME_BYTES
    tracemalloc.start()
    try:
        assert len(Codec().unpack(frame).messages) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * wire.FRAME_BYTES


def _unpack_or_refuse(frame: bytes) -> None:
    """Anything but a WireError comes out."""
    try:
        messages = Codec().unpack(frame).messages
    except WireError:
        return
    for message in messages:
        Codec().pack(message)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_frame_or_a_wire_error(frame: bytes) -> None:
    _unpack_or_refuse(frame)
    _unpack_or_refuse(_IN_FRAME + frame)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_frame_that_was_tampered_with_is_a_frame_or_a_wire_error(data: st.DataObject) -> None:
    frame = bytearray(read_golden(VERSION)["frame"][4:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                frame[at] = data.draw(st.integers(0, 255))
            case 1:
                del frame[at : at + data.draw(st.integers(1, 9))]
            case _:
                frame[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    _unpack_or_refuse(bytes(frame))


if __name__ == "__main__":
    lines = [f"{name} {packed.hex()}\n" for name, packed in make_golden().items()]
    (GOLDEN / f"version_{VERSION}.txt").write_text("".join(lines), encoding="ascii")
