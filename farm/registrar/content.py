"""What replicas of a registration compare with each other, and what they do not take from each other.

Compared is which updates have been seen: registers by Call-ID, CSeq, stamp and node, and the floors. Times are not:
each node has them on its own clock, and who hears of a register later thinks it younger by the time of the transfer.
Were that a difference, two nodes would give it to each other for ever, a little younger each time, and a phone that
has been switched off would never lapse.

Taken is what the merge itself could have made (`binding`): other bytes would end the equality of all replicas, or be an
error in a merge that nobody expects there. They come from admitted nodes, so this is a fence against faults.
"""

from __future__ import annotations

from typing import Final

from farm.registrar.record import NO_FLOOR, Entry, Record, Register

_ORDERS: Final = 1 << 64  # above all stamps and node numbers
_CSEQS: Final = 1 << 32
_TIMES_MS: Final = 1 << 52
_REGISTERS: Final = 64

Outline = tuple[object, ...]


def outline(record: Record, *, with_life: bool) -> Outline:
    """Which updates a record has seen; `with_life` tells apart values with and without a contact."""
    return (record.floor, [_outline_entry(entry, with_life) for entry in record.entries])


def _outline_entry(entry: Entry, with_life: bool) -> Outline:
    registers = entry.registers
    alive = with_life and registers[entry.winner].contact is not None
    if len(registers) == 1:
        one = registers[0]
        return (entry.key, entry.floor, alive, one.call_id, one.cseq, one.stamp, one.node)
    seen = [(each.call_id, each.cseq, each.stamp, each.node) for each in registers]
    return (entry.key, entry.floor, alive, seen)


def check(record: Record, longest_seconds: int) -> None:
    """Raises ValueError for what no merge of ours makes of single entries. Whether several registers of one entry stand
    as a merge leaves them is the merge's to say."""
    if not 0 <= record.floor < _ORDERS or not -_TIMES_MS < record.floor_at < _TIMES_MS:
        raise ValueError("a floor out of range")
    before: str | None = None
    for entry in record.entries:
        if before is not None and entry.key <= before:
            raise ValueError("bindings out of order")
        before = entry.key
        registers = entry.registers
        if not 0 < len(registers) <= _REGISTERS or not 0 <= entry.winner < len(registers):
            raise ValueError("a binding without a value")
        if entry.floor != NO_FLOOR and not (0 <= entry.floor[0] < _ORDERS and -1 <= entry.floor[1] < _ORDERS):
            raise ValueError("a floor out of range")
        for register in registers:
            _check_register(register, longest_seconds)


def _check_register(register: Register, longest_seconds: int) -> None:
    if not (
        0 <= register.stamp < _ORDERS
        and 0 <= register.node < _ORDERS
        and 0 <= register.cseq < _CSEQS
        and 0 <= register.granted <= longest_seconds
        and -_TIMES_MS < register.at < _TIMES_MS
    ):
        raise ValueError("a register out of range")
