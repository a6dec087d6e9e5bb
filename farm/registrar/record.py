"""The record of an address-of-record as the store keeps it: what a REGISTER says of a contact, the registers of a
binding, and all bindings together.

Values alone, in the order in which they are packed; what they mean and how they merge is `binding`'s.

Decided: they have a file of their own because msgspec reads their annotations when a record is unpacked, and mypyc,
which compiles all that works on them (setup.py), would leave `list` of `list[Entry]` and so dicts in the record.
"""

from __future__ import annotations

from typing import Final

import msgspec

from farm.sip.hop import Hop

NO_FLOOR: Final = (0, -1)


class Contact(msgspec.Struct, array_like=True, gc=False):
    """What the UA said of a contact. `uri` is "" where it is the binding's key. `params` are the Contact parameters as
    written, without those that have a field of their own; `q` is in thousandths, -1 when not said."""

    uri: str
    params: str = ""
    q: int = -1
    instance: str = ""
    reg_id: int = 0
    user_agent: str = ""
    path: tuple[str, ...] = ()
    received: Hop | None = None


class Register(msgspec.Struct, array_like=True, gc=False):
    """One update of a binding. `stamp` and `node` order it among all others; `granted` seconds from `at` it lapses; no
    `contact`: it removes."""

    call_id: str
    cseq: int
    stamp: int
    node: int
    at: int
    granted: int = 0
    contact: Contact | None = None


class Entry(msgspec.Struct, array_like=True, gc=False):
    """A binding: its key and its registers, the latest stamp first. Registers at or under `floor`, which is a (stamp,
    node), are forgotten. `winner` is the place of the register that counts: the latest of those that have the highest
    CSeq of their Call-ID."""

    key: str
    registers: list[Register]
    floor: tuple[int, int] = NO_FLOOR
    winner: int = 0


class Record(msgspec.Struct, array_like=True, gc=False):
    """All bindings of an address-of-record, in the order of their keys; `floor` was raised at `floor_at`."""

    entries: list[Entry]
    floor: int = 0
    floor_at: int = 0


EMPTY: Final = Record([])
