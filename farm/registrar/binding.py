"""The record of an address-of-record: its bindings, as values that merge whatever order they arrive in.

A binding is known by its key: instance and reg-id where outbound is used (RFC 5626 §6), else the contact URI's
canonical form. What was said about it is a set of registers. One REGISTER writes one register for each contact it
names: Call-ID, CSeq, the stamp that orders updates of different nodes, how long was granted and when, and the contact;
a removal is a register without a contact. Of one Call-ID the highest CSeq counts (RFC 3261 §10.3 step 7), and of what
counts for different Call-IDs, the greatest stamp is the binding's value, removals included. `Contact: *` raises the
record's floor: registers at or under it are gone.

Merging two records must not depend on order or repetition, or replicas differ for ever. "Highest CSeq, else latest"
applied pair by pair is not associative. What is kept here is a function of the *set* of all updates: per Call-ID the
registers that no other one of that Call-ID beats in both CSeq and stamp (in ordinary life one), above the floor.
That set can be made from the sets of two halves, so joining is associative, commutative and idempotent by
construction. A register beaten in CSeq alone is kept because a floor may remove the one that beats it.

At most four Call-IDs are remembered for a binding: its own floor is the stamp of the fifth latest Call-ID. This is a
function of the set of updates as well, and more updates only raise it, so forgetting keeps the laws.

Lifetimes are (granted, at), `at` in milliseconds of this process's monotonic clock; on their way to another process
they are shifted. A register is alive while at + granted lies ahead. A lapsed or removed one keeps outranking older
ones until `at` + the longest lifetime + 60 s: nothing it outranks can be alive then.

Decided: of two copies of one register the later `at` is believed. A transfer's delay makes a copy seem younger by
milliseconds; a clock that jumped during a restart makes it seem older by hours, and would kill what is alive elsewhere.
Decided: who finds a binding lapsed asks nobody first. That it lapsed here outranks nothing: a refresh that only another
owner has seen wins every merge, and a comparison (`trace` says who is alive) brings it back here within a minute.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from farm.registrar.content import check, outline
from farm.registrar.record import EMPTY, NO_FLOOR, Contact, Entry, Record, Register
from farm.sip.hop import Hop

KIND: Final = "registration"
RECORD_BYTES: Final = 65_536
AT_ONCE: Final = 3  # updates that may fill a record at the same time on different nodes (`overlay.store`)
CALL_IDS: Final = 4
OUTLIVES_SECONDS: Final = 60

_NEVER: Final = float("inf")
_NEVER_MS: Final = 2**62
_LONGEST_SHIFT: Final = 1e12  # seconds


def value_of(entry: Entry) -> Register:
    """The register that counts."""
    return entry.registers[entry.winner]


def _find_winner(registers: list[Register]) -> int:
    """The place of the register that counts. Of one Call-ID older registers have the higher CSeq, so it is the first
    whose Call-ID does not come again; in ordinary life each comes once."""
    for place, register in enumerate(registers):
        for older in registers[place + 1 :]:
            if older.call_id == register.call_id:
                break
        else:
            return place
    return 0


def find_entry(record: Record, key: str) -> Entry | None:
    """The entry of a binding, None when nothing is remembered of it."""
    for entry in record.entries:
        if entry.key == key:
            return entry
    return None


def find_register(entry: Entry, call_id: str) -> Register | None:
    """The register of a Call-ID that has its highest CSeq."""
    found = None
    for register in entry.registers:  # of one Call-ID, older ones have the higher CSeq
        if register.call_id == call_id:
            found = register
    return found


def is_alive(register: Register, now: float) -> bool:
    """Whether its contact may be called."""
    return register.contact is not None and register.at + register.granted * 1000 > now * 1000.0


def remaining_seconds(register: Register, now: float) -> int:
    """Seconds until it lapses, rounded up, so that what is alive never shows 0."""
    return -int((now * 1000.0 - register.at) // 1000) + register.granted


def settle(entry: Entry, floor: int = 0) -> Entry | None:
    """The entry that a bag of registers comes to, above its own floor and the record's; None when none is left."""
    kept: list[Register] = []
    highest: dict[str, int] = {}
    own_floor = entry.floor if entry.floor[0] > floor else NO_FLOOR
    for register in sorted(entry.registers, key=_order, reverse=True):
        if register.stamp <= floor or (register.stamp, register.node) <= own_floor:
            break
        call_id = register.call_id
        if call_id not in highest:
            if len(highest) == CALL_IDS:
                own_floor = (register.stamp, register.node)
                break
        elif register.cseq <= highest[call_id]:
            continue  # beaten in CSeq and stamp
        highest[call_id] = register.cseq
        kept.append(register)
    return Entry(entry.key, kept, own_floor, _find_winner(kept)) if kept else None


def _order(register: Register) -> tuple[int, int, int, bool, int, int]:
    return (
        register.stamp,
        register.node,
        register.cseq,
        register.contact is not None,
        register.at,
        register.granted,
    )


def join(one: Record, other: Record) -> Record:
    """The record that has seen what either has seen."""
    if one.floor == other.floor == 0 and len(one.entries) == 1 and len(other.entries) == 1:
        held, new = one.entries[0], other.entries[0]
        if held.key == new.key:
            joined = _join_entries(held, new)
            return other if joined is new else Record([joined])
    floor, floor_at = max((one.floor, one.floor_at), (other.floor, other.floor_at))
    bags: dict[str, Entry] = {entry.key: entry for entry in one.entries}
    for entry in other.entries:
        known = bags.get(entry.key)
        bags[entry.key] = entry if known is None else _join_entries(known, entry)
    entries: list[Entry] = []
    for entry in bags.values():
        if floor and (entry.registers[-1].stamp <= floor or entry.floor != NO_FLOOR):
            settled = settle(entry, floor)
            if settled is not None:
                entries.append(settled)
        else:
            entries.append(entry)
    if len(entries) > 1:
        entries.sort(key=_key)
    return Record(entries, floor, floor_at)


def _key(entry: Entry) -> str:
    return entry.key


def _join_entries(one: Entry, other: Entry) -> Entry:
    if len(other.registers) == 1 and other.floor == NO_FLOOR:
        refreshed = _refresh(one, other)
        if refreshed is not None:
            return refreshed
    return settle(Entry(one.key, one.registers + other.registers, max(one.floor, other.floor))) or one


def _refresh(entry: Entry, update: Entry) -> Entry | None:
    """What nearly every update comes to, a single register: it is the latest, of its Call-ID's highest CSeq, and so
    needs no sorting. The update itself when nothing else is left, None when it is none of that kind."""
    new = update.registers[0]
    registers = entry.registers
    if new.stamp <= registers[0].stamp:
        return None
    call_id = new.call_id
    kept = [new]
    for register in registers:
        if register.call_id != call_id:
            kept.append(register)
        elif register.cseq > new.cseq:
            return None
    if len(kept) == 1 and entry.floor == NO_FLOOR:
        return update
    if len(kept) <= CALL_IDS:
        return Entry(entry.key, kept, entry.floor)
    if len({register.call_id for register in kept}) != len(kept):
        return None
    oldest = kept.pop()
    return Entry(entry.key, kept, (oldest.stamp, oldest.node))


class Kept(msgspec.Struct, gc=False):
    """What became of a record: its bytes (None: nothing is left), when to sweep it next, by how much its numbers of
    bindings and tombstones changed, and whether part of an update lost."""

    record: bytes | None
    due_at: float
    live: int
    tombstones: int
    conflict: bool = False


class RegistrationKind:
    """The kind "registration" as the store wants it, and the codec of its records.

    The record that was packed or unpacked last is remembered together with its bytes, and so is the last one before
    it: reading, changing and listing one address-of-record unpacks once. Nobody changes a Record once it is made.
    """

    __slots__ = (
        "_decode",
        "_encode",
        "_last",
        "_last_packed",
        "_one",
        "_one_packed",
        "everywhere",
        "keep_ms",
        "name",
        "record_bytes",
        "since",
    )

    def __init__(self, max_expires_seconds: int = 7200) -> None:
        """`max_expires_seconds` is the longest lifetime that any node of the farm grants."""
        self.name = KIND
        self.record_bytes = RECORD_BYTES
        self.everywhere = False
        self.since = 1
        self.keep_ms = (max_expires_seconds + OUTLIVES_SECONDS) * 1000
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Record).decode
        self._last_packed = self._one_packed = b""
        self._last = self._one = EMPTY

    def pack(self, record: Record) -> bytes:
        """The record as the store keeps it. Raises UnicodeEncodeError for text that came as other than UTF-8."""
        packed = self._encode(record)
        self._remember(packed, record)
        return packed

    def unpack(self, packed: bytes) -> Record:
        """The record out of the store; not to be changed. Raises ValueError for bytes that are none."""
        if packed is self._last_packed:
            return self._last
        if packed is self._one_packed:
            return self._one
        try:
            record = self._decode(packed)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a registration: {error}") from None
        self._remember(packed, record)
        return record

    def _remember(self, packed: bytes, record: Record) -> None:
        self._one_packed, self._one = self._last_packed, self._last
        self._last_packed, self._last = packed, record

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Kept:
        """Join an update with what is held."""
        new = self.unpack(delta)
        if held is None:
            live, tombstones, due_at = self._count(new)
            return Kept(delta, due_at, live, tombstones)
        old = self.unpack(held)
        joined = join(old, new)
        live_before, tombstones_before, _ = self._count(old)
        live, tombstones, due_at = self._count(joined)
        packed = delta if joined is new else self.pack(joined)
        conflict = joined is not new and not _has_all(joined, new)
        if packed == held:
            return Kept(held, due_at, 0, 0, conflict)
        return Kept(packed, due_at, live - live_before, tombstones - tombstones_before, conflict)

    def _count(self, record: Record) -> tuple[int, int, float]:
        """Bindings that have not been found lapsed, tombstones, and when the next of them changes."""
        tombstones = 0
        due_ms = record.floor_at + self.keep_ms if record.floor else _NEVER_MS
        for entry in record.entries:
            value = value_of(entry)
            if value.contact is not None:
                at = value.at + value.granted * 1000
            else:
                tombstones += 1
                at = value.at + self.keep_ms
            if len(entry.registers) > 1:  # an older Call-ID may be forgotten before, and a tombstone with a later one
                ends = min(_find_latest(entry).values()) + self.keep_ms
                at = ends if value.contact is None else min(at, ends)
            if at < due_ms:
                due_ms = at
        due_at = due_ms / 1000.0 if due_ms < _NEVER_MS else _NEVER
        return len(record.entries) - tombstones, tombstones, due_at

    def sweep(self, held: bytes, now: float) -> Kept:
        """Strip lapsed registers of their contact, which makes tombstones of them; let go of what outlived all that it
        outranks, a Call-ID's registers together."""
        old = self.unpack(held)
        live_before, tombstones_before, _ = self._count(old)
        record = self._sweep_record(old, now)
        if not record.entries and not record.floor:
            return Kept(None, _NEVER, -live_before, -tombstones_before)
        live, tombstones, due_at = self._count(record)
        packed = self.pack(record)
        if packed == held:
            return Kept(held, due_at, 0, 0)
        return Kept(packed, due_at, live - live_before, tombstones - tombstones_before)

    def _sweep_record(self, old: Record, now: float) -> Record:
        now_ms = int(now * 1000)
        floor, floor_at = old.floor, old.floor_at
        if floor and floor_at + self.keep_ms <= now_ms:
            floor = floor_at = 0
        entries = [swept for entry in old.entries if (swept := self._sweep_entry(entry, now_ms)) is not None]
        return Record(entries, floor, floor_at)

    def _sweep_entry(self, entry: Entry, now_ms: int) -> Entry | None:
        latest = _find_latest(entry)
        registers: list[Register] = []
        for register in entry.registers:
            if latest[register.call_id] + self.keep_ms <= now_ms:
                continue
            if register.contact is not None and register.at + register.granted * 1000 <= now_ms:
                register = Register(register.call_id, register.cseq, register.stamp, register.node, register.at)
            registers.append(register)
        return Entry(entry.key, registers, entry.floor, _find_winner(registers)) if registers else None

    def shift(self, record: bytes, seconds: float, now: float = _NEVER) -> bytes:
        """The same record with its times moved by `seconds`, for another monotonic clock, and none of them after
        `now`. Raises ValueError for what no merge leaves behind."""
        if not -_LONGEST_SHIFT < seconds < _LONGEST_SHIFT:
            raise ValueError("a clock out of range")
        by = round(seconds * 1000)
        latest = int(now * 1000) if now < _NEVER else _NEVER_MS
        old = self.unpack(record)
        if len(record) > RECORD_BYTES * AT_ONCE:
            raise ValueError("too large")
        check(old, self.keep_ms // 1000 - OUTLIVES_SECONDS)
        for entry in old.entries:
            if len(entry.registers) == 1 and entry.floor == NO_FLOOR and entry.registers[0].stamp > old.floor:
                continue  # as settled as an entry can be, and what nearly every update is
            if settle(entry, old.floor) != entry:
                raise ValueError("a binding that is not settled")
        entries = [
            Entry(
                entry.key,
                [
                    Register(
                        register.call_id,
                        register.cseq,
                        register.stamp,
                        register.node,
                        min(register.at + by, latest),
                        register.granted,
                        register.contact,
                    )
                    for register in entry.registers
                ],
                entry.floor,
                entry.winner,
            )
            for entry in old.entries
        ]
        return self.pack(Record(entries, old.floor, min(old.floor_at + by, latest) if old.floor else 0))

    def version(self, record: bytes) -> bytes:
        """16 bytes, equal for records that have seen the same updates, whatever has lapsed of them."""
        return blake2b(self._encode(outline(self.unpack(record), with_life=False)), digest_size=16).digest()

    def trace(self, record: bytes, at: float = -_NEVER) -> bytes:
        """What replicas compare: the updates seen, as a sweep at `at` would leave them, and which values are alive; ""
        for nothing."""
        seen = self.unpack(record)
        if at > -_NEVER:
            seen = self._sweep_record(seen, at)
            if not seen.entries and not seen.floor:
                return b""
        return self._encode(outline(seen, with_life=True))

    def newest(self, record: bytes) -> int:
        """The greatest stamp in a record."""
        old = self.unpack(record)
        return max([entry.registers[0].stamp for entry in old.entries], default=0) or old.floor


def _find_latest(entry: Entry) -> dict[str, int]:
    """When each Call-ID of a binding was last heard of."""
    latest: dict[str, int] = {}
    for register in entry.registers:
        call_id = register.call_id
        latest[call_id] = max(register.at, latest.get(call_id, register.at))
    return latest


def _has_all(joined: Record, new: Record) -> bool:
    """Whether all that an update says counts after the join."""
    if new.floor and joined.floor > new.floor:
        return False
    for entry in new.entries:
        kept = find_entry(joined, entry.key)
        if kept is None or value_of(kept).stamp != value_of(entry).stamp:
            return False
    return True


class Binding(msgspec.Struct, eq=False, gc=False):
    """A live binding, as the proxy sees it. `uri` is the contact as the UA wrote it, `params` the rest of its Contact
    header; `path` is the Route to put before it (RFC 3327), `received` the flow it must be reached on: where its
    REGISTER came from, if that was a stream or the UA is behind NAT, on the node whose stamps carry `node`."""

    key: str
    uri: str
    params: str
    q: int
    path: tuple[str, ...]
    received: Hop | None
    instance: str
    reg_id: int
    user_agent: str
    call_id: str
    cseq: int
    stamp: int
    granted: int
    expires_at: float
    node: int

    def __repr__(self) -> str:
        return f"<Binding {self.uri}>"


def _make_binding(key: str, register: Register, contact: Contact) -> Binding:
    return Binding(
        key,
        contact.uri or key,
        contact.params,
        contact.q if contact.q >= 0 else 1000,
        contact.path,
        contact.received,
        contact.instance,
        contact.reg_id,
        contact.user_agent,
        register.call_id,
        register.cseq,
        register.stamp,
        register.granted,
        (register.at + register.granted * 1000) / 1000.0,
        register.node,
    )


def bindings_of(record: Record, now: float) -> list[Binding]:
    """What is alive: the best q first, of equals the one registered last."""
    found: list[Binding] = []
    for entry in record.entries:
        value = value_of(entry)
        contact = value.contact
        if contact is not None and value.at + value.granted * 1000 > now * 1000.0:
            found.append(_make_binding(entry.key, value, contact))
    if len(found) > 1:
        found.sort(key=_preference)
    return found


def _preference(binding: Binding) -> tuple[int, int, str]:
    return (-binding.q, -binding.stamp, binding.key)
