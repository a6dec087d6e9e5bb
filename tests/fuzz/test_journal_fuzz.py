"""Whatever is in a journal's records, the node starts: each is held or counted as unreadable, and what is held can be
swept, merged and moved again. The seed is in the test; a failure names the bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy

import msgspec
import pytest

from farm.overlay.clock import HybridClock
from farm.overlay.journal import Kept
from farm.overlay.scribe import restore
from farm.overlay.store import Kind, Row, Store
from farm.registrar.binding import RegistrationKind
from farm.registrar.record import Contact, Entry, Record, Register
from farm.security.credentials import CredentialKind, make_credential, pack_credential

ROUNDS = 4_000
NOW = 5_000.0
STAMP = 1_800_000_000_000 << 16
VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1 << 63,
    -(1 << 63),
    1.5,
    float("nan"),
    "",
    "x",
    b"",
    b"\xff",
    [],
    [[]],
    {},
    {"a": 1},
    [None] * 9,
)


def make_registration(kind: RegistrationKind) -> bytes:
    """Three bindings, one of them removed, one with two Call-IDs."""
    contact = Contact("<sip:a@192.0.2.1>")
    return kind.pack(
        Record(
            [
                Entry("sip:a@192.0.2.1", [Register("call-1", 2, STAMP, 1, 1_000, 3_600, contact)]),
                Entry("sip:b@192.0.2.1", [Register("call-1", 2, STAMP, 1, 1_000, 0, None)]),
                Entry(
                    "sip:c@192.0.2.1",
                    [
                        Register("call-3", 1, STAMP + 5, 2, 2_000, 60, contact),
                        Register("call-2", 9, STAMP + 1, 1, 1_500, 3_600, contact),
                    ],
                ),
            ],
            STAMP - 7,
            900,
        )
    )


def bent(packed: bytes, rng: random.Random) -> Iterator[bytes]:
    """The record with something wrong: bytes changed, cut or added, or a value of another kind in a sound packing."""
    for _ in range(ROUNDS):
        if rng.random() < 0.5:
            changed = bytearray(packed)
            for _ in range(rng.randint(1, 4)):
                place = rng.randrange(len(changed))
                what = rng.randrange(3)
                if what == 0:
                    changed[place] = rng.randrange(256)
                elif what == 1:
                    del changed[place : place + rng.randint(1, 9)]
                else:
                    changed[place:place] = rng.randbytes(rng.randint(1, 9))
                if not changed:
                    break
            yield bytes(changed)
            continue
        tree = msgspec.msgpack.decode(packed, strict=False)
        for _ in range(rng.randint(1, 3)):
            bend(tree, rng)
        try:
            yield msgspec.msgpack.encode(tree)
        except (OverflowError, TypeError, ValueError, msgspec.MsgspecError):
            continue
    yield from (b"", b"\xc0", b"\x90", b"\x93\x90\x00\x00", packed + packed, b"\x91" * 2_000 + b"\x90")


def bend(tree: object, rng: random.Random) -> None:
    """Replace one value somewhere."""
    while isinstance(tree, (list, dict)) and tree:
        place = rng.randrange(len(tree)) if isinstance(tree, list) else rng.choice(list(tree))
        below = tree[place]
        if not isinstance(below, (list, dict)) or not below or rng.random() < 0.25:
            tree[place] = deepcopy(rng.choice(VALUES))
            return
        tree = below


@pytest.mark.parametrize("name", ["registration", "credential"])
def test_damaged_records_are_held_or_counted_and_never_stop_the_start(name: str) -> None:
    registrations = RegistrationKind(7_200)
    kind: Kind = registrations if name == "registration" else CredentialKind()
    packed = (
        make_registration(registrations)
        if name == "registration"
        else pack_credential(make_credential("alice", "example.com", "wonderland", (STAMP, 1)))
    )
    total = unreadable = 0
    for record in bent(packed, random.Random(name)):
        store = Store([kind])
        store.load(Row(name, b"k", packed), NOW - 10)
        try:
            found = restore([Kept(Row(name, b"k", record), 4_000.0, 1e9)], store, HybridClock(), NOW, 1e9 + 900)
            for now in (NOW, NOW + 100_000, NOW + 1_000_000):
                store.sweep(now)
            for row in store.take_unwritten(9):
                if row.record:
                    kind.merge(packed, kind.shift(row.record, -50.0), NOW)
        except Exception as error:
            raise AssertionError(f"{record!r}") from error
        total += 1
        unreadable += found.unreadable
        assert found.records + found.unreadable == (1 if record else 0)
    assert total > ROUNDS * 0.9
    assert unreadable > total / 3
