"""The messages between nodes, and how they become frames: `u32 length | frame`, a frame being msgpack.

A frame carries what one node has to say to another at one time: the sender's stamp, its monotonic time, and the
messages. Times inside records are on the sender's monotonic clock; the receiver moves them by the difference to its
own (`Kind.shift`), so that what travels is a lifetime's age, and no wall clock decides it.

Every message is an array that begins with its number and, for what is asked and answered, the number of the call.
Fields are only ever added, at the end, with a default: an older node leaves out what it does not know, and fills in
what it does not get. A message with an unknown number is passed over and answered with an Error if it asked. The bytes
of every message of this and the last version are kept as golden frames in the tests.

Decided: deadlines do not travel. The one who asks keeps them: what waits in its own queue beyond its time is not sent,
and the one who is asked answers in the turn in which it reads.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

PROTOCOL: Final = "sipfarm/1"  # ALPN
VERSION: Final = 2
OLDEST_VERSION: Final = 1  # that we still speak
FRAME_BYTES: Final = 262_144
ID_BYTES: Final = 32

STORES: Final = 1  # bits of `Contact.roles`
EDGE: Final = 2

# `Contact.state`, in the order in which they outrank each other at equal incarnation.
JOINING: Final = 0
ALIVE: Final = 1
SUSPECT: Final = 2
DEAD: Final = 3
LEFT: Final = 4
STATE_NAMES: Final = ("joining", "alive", "suspect", "dead", "left")

# `Fetched.standing` and `Stored.standing`: what the one who answers is to the partition.
OWNER: Final = 0
UNSETTLED: Final = 1  # an owner, or about to be, that has not compared it with the others
STRANGER: Final = 2

# `Stored.refusal`
TAKEN: Final = 0
RECORD_FULL: Final = 1
STORE_FULL: Final = 2
NOT_ALLOWED: Final = 3
BAD_RECORD: Final = 4
TOO_OFTEN: Final = 5
# `Spent.outcome`
UNUSED: Final = 0
USED: Final = 1
UNKNOWN: Final = 2

REFUSALS: Final = ("", "record", "records", "not-allowed", "bad-record", "rate")


class Contact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is said of a node: its Node-ID, where its peers reach it, and how it is. `incarnation` and `state` order
    what is said of one node at different times; `sip` are its SIP listeners as `udp:HOST:PORT`, as strangers reach
    them, `dns` the addresses where it answers for the farm's zone."""

    node: bytes
    host: str
    port: int
    incarnation: int = 0
    state: int = JOINING
    zone: str = ""
    roles: int = STORES | EDGE
    name: str = ""
    sip: tuple[str, ...] = ()
    version: int = 1  # whoever says nothing of it; a node says VERSION of itself
    load: int = 0  # of its process, in percent
    draining: bool = False
    dns: tuple[str, ...] = ()


class Hello(msgspec.Struct, array_like=True, tag=0):
    """The first message of each side on a link: who it is and what it speaks. `wall` is its wall clock in ms."""

    overlay: str
    contact: Contact
    oldest_version: int
    version: int
    wall: int
    config_sequence: int = 0


class Ping(msgspec.Struct, array_like=True, tag=1):
    """Are you there? Answered by Pong. `updates` is gossip."""

    call: int
    updates: Sequence[Contact] = ()


class Pong(msgspec.Struct, array_like=True, tag=2):
    """Yes; or, to a PingRequest, the target is."""

    call: int
    updates: Sequence[Contact] = ()


class PingRequest(msgspec.Struct, array_like=True, tag=3):
    """Ping `target` for me. Answered by Pong when it answered, by Nack when it did not in time."""

    call: int
    target: bytes
    updates: Sequence[Contact] = ()


class Nack(msgspec.Struct, array_like=True, tag=4):
    """The target of a PingRequest did not answer; the one in between did."""

    call: int
    updates: Sequence[Contact] = ()


class FindNode(msgspec.Struct, array_like=True, tag=5):
    """Which `count` nodes do you know nearest to `target`?"""

    call: int
    target: bytes
    count: int


class Nodes(msgspec.Struct, array_like=True, tag=6):
    """They are these, nearest first."""

    call: int
    contacts: Sequence[Contact] = ()


class Fetch(msgspec.Struct, array_like=True, tag=7):
    """The record of a key, unless its version is `known`."""

    call: int
    kind: str
    key: bytes
    known: bytes = b""


class Fetched(msgspec.Struct, array_like=True, tag=8):
    """The record ("" when there is none, or when its version is the `known` one and then `same`), what the answerer is
    to its partition, and nearer nodes when it is a stranger."""

    call: int
    record: bytes = b""
    same: bool = False
    standing: int = OWNER
    nearer: Sequence[Contact] = ()


class Store(msgspec.Struct, array_like=True, tag=9):
    """Merge `delta` into a record. `expected` is the mark (`Store.mark` of the store) that the sender thinks it will
    have then; `stands_for` is the owner in whose place this goes to somebody else."""

    call: int
    kind: str
    key: bytes
    delta: bytes
    expected: bytes = b""
    stands_for: bytes = b""


class Stored(msgspec.Struct, array_like=True, tag=10):
    """It is merged, unless there is a `refusal`. `record` is what it came to, "" when its mark is as expected."""

    call: int
    refusal: int = TAKEN
    record: bytes = b""
    standing: int = OWNER
    nearer: Sequence[Contact] = ()


class Stat(msgspec.Struct, array_like=True, tag=11):
    """What do you have of this key? For the console."""

    call: int
    kind: str
    key: bytes


class StatAnswer(msgspec.Struct, array_like=True, tag=12):
    """Version ("" when there is no record), size, and what the answerer is to the partition."""

    call: int
    version: bytes = b""
    size: int = 0
    standing: int = OWNER


class Digest(msgspec.Struct, array_like=True, tag=13):
    """My digests of these partitions, 16 bytes each. Answered with the partitions where yours differ."""

    call: int
    digests: Sequence[tuple[int, bytes]]


class Digested(msgspec.Struct, array_like=True, tag=14):
    """The partitions where the digests differ, each with the number of records here. `settled` are those of all that
    were asked which the answerer has compared with all its other owners."""

    call: int
    differing: Sequence[tuple[int, int]] = ()
    settled: Sequence[int] = ()


class Keys(msgspec.Struct, array_like=True, tag=15):
    """What have you in this partition? Key hashes after `after`, in order."""

    call: int
    partition: int
    after: bytes = b""


class KeyList(msgspec.Struct, array_like=True, tag=16):
    """(key hash, version), 16 bytes each, by key hash; `more` when the frame had no room for the rest."""

    call: int
    keys: Sequence[tuple[bytes, bytes]] = ()
    more: bool = False


class Row(msgspec.Struct, array_like=True, gc=False):
    """A whole record on its way to another node."""

    kind: str
    key: bytes
    record: bytes


class Pull(msgspec.Struct, array_like=True, tag=17):
    """Give me the records of this partition with these key hashes; none named means all, in order, after `after`."""

    call: int
    partition: int
    wanted: Sequence[bytes] = ()
    after: bytes = b""


class Pulled(msgspec.Struct, array_like=True, tag=18):
    """Here they are; `more` when the rest did not fit, and then `last` is the key hash to go on after."""

    call: int
    rows: Sequence[Row] = ()
    more: bool = False
    last: bytes = b""


class Push(msgspec.Struct, array_like=True, tag=19):
    """Merge these whole records: repair, hand-over."""

    call: int
    rows: Sequence[Row]


class Pushed(msgspec.Struct, array_like=True, tag=20):
    """They are merged, but for so many that were refused."""

    call: int
    refused: int = 0


class Gossip(msgspec.Struct, array_like=True, tag=21):
    """News of nodes, with no answer wanted."""

    updates: Sequence[Contact]


class Leave(msgspec.Struct, array_like=True, tag=22):
    """I am going; what I held is with others."""

    contact: Contact


class Diagnose(msgspec.Struct, array_like=True, tag=23):
    """How are you? For the console: `what` is "status"."""

    call: int
    what: str = "status"


class Diagnosis(msgspec.Struct, array_like=True, tag=24):
    """Names and values."""

    call: int
    fields: dict[str, str | int | float | bool]


class NewConfig(msgspec.Struct, array_like=True, tag=25):
    """The signed configuration of the overlay, packed."""

    record: bytes


class Relay(msgspec.Struct, array_like=True, tag=26):
    """Bytes for what runs above the overlay on the other node, with no answer wanted. `purpose` and `head` are between
    the two ends. Since version 2."""

    purpose: int
    head: bytes = b""
    data: bytes = b""


class Error(msgspec.Struct, array_like=True, tag=27):
    """A call could not be answered. `code` is a slug: unsupported, bad-request, busy, internal."""

    call: int
    code: str
    text: str = ""


class Scan(msgspec.Struct, array_like=True, tag=28):
    """What records of this kind have you, from partition `partition` on and there after the key `after`? For lists."""

    call: int
    kind: str
    partition: int = 0
    after: bytes = b""


class Scanned(msgspec.Struct, array_like=True, tag=29):
    """These, as (key, record); `partition` and `after` say where to go on, partition 4096 that there is no more."""

    call: int
    rows: Sequence[tuple[bytes, bytes]] = ()
    partition: int = 4096
    after: bytes = b""


class Spend(msgspec.Struct, array_like=True, tag=30):
    """Is this the first use of that count of a nonce that you made then, with that serial? It is used now. Since
    version 2."""

    call: int
    made_at: int
    serial: int
    count: int


class Spent(msgspec.Struct, array_like=True, tag=31):
    """`outcome`: UNUSED until now, USED before, or UNKNOWN."""

    call: int
    outcome: int


Request = (
    Ping | PingRequest | FindNode | Fetch | Store | Stat | Digest | Keys | Pull | Push | Diagnose | Scan | Spend
)  # what has an answer
Answer = (
    Pong
    | Nack
    | Nodes
    | Fetched
    | Stored
    | StatAnswer
    | Digested
    | KeyList
    | Pulled
    | Pushed
    | Diagnosis
    | Scanned
    | Spent
    | Error
)
Notice = Hello | Gossip | Leave | NewConfig | Relay  # what has none
Message = Request | Answer | Notice


class Frame(msgspec.Struct, array_like=True):
    """What one node says to another at one time. `stamp` is the sender's hybrid clock, `mono` its monotonic time in
    seconds."""

    stamp: int
    mono: float
    messages: Sequence[msgspec.Raw]


class _Known(msgspec.Struct, array_like=True):
    """The same of messages that are all known, which is what nearly every frame holds."""

    stamp: int
    mono: float
    messages: list[Message]


class WireError(ValueError):
    """A frame that is none; `reason` is a slug for the counter."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


class Received(msgspec.Struct, gc=False):
    """A frame that came: its sender's stamp and monotonic time, its messages, and how many were of unknown kinds;
    `unknown_calls` are the calls of those that asked something."""

    stamp: int
    mono: float
    messages: list[Message]
    unknown: int = 0
    unknown_calls: tuple[int, ...] = ()


class Codec:
    """Packs and unpacks frames; one serves a whole node."""

    __slots__ = ("_decode", "_decode_known", "_encode", "_message", "_number")

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Frame).decode
        self._decode_known = msgspec.msgpack.Decoder(_Known).decode
        self._message = msgspec.msgpack.Decoder(Message).decode
        self._number = msgspec.msgpack.Decoder(list[object]).decode

    def pack(self, message: Message) -> bytes:
        """One message, to be put into a frame."""
        return self._encode(message)

    def frame(self, stamp: int, mono: float, messages: Sequence[bytes]) -> bytes:
        """A frame of packed messages, its length first."""
        frame = self._encode(Frame(stamp, mono, [msgspec.Raw(message) for message in messages]))
        return struct.pack(">I", len(frame)) + frame

    def unpack(self, frame: bytes) -> Received:
        """A frame without its length. Raises WireError for bytes that are none, or a known message that is broken."""
        try:
            known = self._decode_known(frame)
        except _BROKEN:
            return self._unpack_each(frame)
        _check_time(known.mono)
        return Received(known.stamp, known.mono, known.messages)

    def _unpack_each(self, frame: bytes) -> Received:
        """One of messages that are not all known, or not right."""
        try:
            envelope = self._decode(frame)
        except _BROKEN as error:
            raise WireError("bad-frame", str(error)) from None
        _check_time(envelope.mono)
        messages: list[Message] = []
        unknown = 0
        calls: list[int] = []
        for raw in envelope.messages:
            try:
                messages.append(self._message(raw))
            except _BROKEN as error:
                call = self._call_of_unknown(raw)
                if call is None:
                    raise WireError("bad-message", str(error)) from None
                unknown += 1
                if call:
                    calls.append(call)
        return Received(envelope.stamp, envelope.mono, messages, unknown, tuple(calls))

    def _call_of_unknown(self, raw: msgspec.Raw) -> int | None:
        """The call of a message with a number that we do not know, 0 when it has none; None for one that is broken."""
        try:
            fields = self._number(raw)
        except _BROKEN:
            return None
        if not fields or type(fields[0]) is not int or fields[0] in _KNOWN:
            return None
        return fields[1] if len(fields) > 1 and type(fields[1]) is int else 0


def _check_time(mono: float) -> None:
    if not -_LONGEST_SECONDS < mono < _LONGEST_SECONDS:  # not a number, too
        raise WireError("bad-frame", "a time beyond all clocks")


_KNOWN: Final = frozenset(range(32))
_BROKEN: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_LONGEST_SECONDS: Final = 1e12
