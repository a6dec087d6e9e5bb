"""Messages of a trace as a ladder: a column for each phone and each node, an arrow for each message.

A phone is known by its address, a node by its name. On the left stand the time since the first message and CSeq, on the
arrow the method, or status and phrase; a dotted arrow was sent again. Without a terminal each message is a line of
text. What strangers write is shown without what a terminal would obey.

Decided: lines that are written once and stay, not a screen that is drawn again: a ladder is looked back at, copied into
a mail and cut off by `head`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple
from zlib import crc32

Fields = dict[str, object]

MOST_REMEMBERED: Final = 100_000  # messages that are known again
_LEFT: Final = 20  # columns for time and CSeq
_NARROWEST: Final = 13  # columns for a party; below, lines are better
_CSEQ: Final = re.compile(r"^cseq[ \t]*:[ \t]*([0-9]{1,10})[ \t]+([!-~]{1,40})", re.IGNORECASE | re.MULTILINE)
_CALL_ID: Final = re.compile(r"^(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_ADDRESS: Final = re.compile(r"[.\]][0-9]*:[0-9]{1,5}$")
_STATUS: Final = re.compile(r"SIP/2\.0 ([0-9]{3}) ?(.*)", re.IGNORECASE)


class Step(NamedTuple):
    """One message, read: what a ladder shows of it. `label` is the method, or status and phrase; `cseq` as written,
    `again` says that the same has been there before."""

    time: float
    node: str
    transport: str
    source: str
    destination: str
    sent: bool
    label: str
    cseq: str
    call_id: str
    first_line: str
    again: bool


class Reader:
    """Reads messages in the order of their times, and knows those that are sent again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, int], None] = {}

    def read(self, message: Fields) -> Step:
        """One message, as the order `trace` answers it."""
        raw = str(message.get("raw", ""))
        node, source, destination = (str(message.get(key, "")) for key in ("node", "source", "destination"))
        key = (node, source, destination, crc32(raw.encode("utf-8", "surrogateescape")))
        again = key in self._known
        if len(self._known) >= MOST_REMEMBERED and not again:
            self._known.clear()
        self._known[key] = None
        head = raw.partition("\r\n\r\n")[0]
        first_line = head.partition("\n")[0].rstrip("\r")
        cseq, call_id = _CSEQ.search(head), _CALL_ID.search(head)
        status = _STATUS.match(first_line)
        label = f"{status[1]} {status[2]}".strip() if status is not None else first_line.partition(" ")[0]
        time = message.get("time")
        return Step(
            float(time) if isinstance(time, (int, float)) else 0.0,
            node,
            make_printable(str(message.get("transport", ""))),
            make_printable(source),
            make_printable(destination),
            message.get("direction") == "out",
            make_printable(label) or "?",
            f"{cseq[1]} {cseq[2]}" if cseq is not None else "",
            make_printable(call_id[1].strip()) if call_id is not None else "",
            make_printable(first_line),
            again,
        )


class Ladder:
    """Makes lines of steps, `width` columns wide."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._begun_at: float | None = None
        self._parties: list[str] = []
        self._lines: bool = False  # there are too many parties for columns

    def add(self, step: Step) -> list[str]:
        """The lines of one step: above the first, and when a party is new, the names of all."""
        if self._begun_at is None:
            self._begun_at = step.time
        source, destination = find_parties(step)
        new = [party for party in dict.fromkeys((source, destination)) if party not in self._parties]
        lines: list[str] = []
        if new:
            self._place(new, source, destination)
            self._lines = self._room < _NARROWEST
            lines += [] if self._lines else self._make_names()
        elapsed = step.time - self._begun_at
        if self._lines:
            return [*lines, make_line(step, self._begun_at)]
        left = f"{elapsed:8.3f} {step.cseq[: _LEFT - 10]:<{_LEFT - 10}} "
        return [*lines, (left + self._draw(step, source, destination)).rstrip()]

    @property
    def _room(self) -> int:
        return (self._width - _LEFT) // max(1, len(self._parties))

    def _place(self, new: list[str], source: str, destination: str) -> None:
        """Give new parties their columns: beside whom they talk to, on the far left when that one is there."""
        for party in new:
            other = destination if party == source else source
            at = self._parties.index(other) if other in self._parties else len(self._parties)
            self._parties.insert(0 if at == 0 and len(self._parties) > 1 else at + 1, party)

    def _make_names(self) -> list[str]:
        room = self._room
        names = [party.rpartition(":") if _ADDRESS.search(party) else ("", "", party) for party in self._parties]
        rows = [[host or name for host, _, name in names], [port if host else "" for host, _, port in names]]
        lines = ["".join(_keep_end(text, room - 1).center(room) for text in row) for row in rows]
        return ["", *((" " * _LEFT + line).rstrip() for line in lines)]

    def _draw(self, step: Step, source: str, destination: str) -> str:
        room = self._room
        rails = [room // 2 + room * index for index in range(len(self._parties))]
        row = [" "] * (room * len(self._parties))
        for rail in rails:
            row[rail] = "|"
        one, other = rails[self._parties.index(source)], rails[self._parties.index(destination)]
        if one == other:
            label = f"|{step.label} (to itself)"
            return "".join(row)[:one] + label[: len(row) - one]
        left, right = min(one, other), max(one, other)
        line = "." if step.again else "-"
        inside = _shorten(step.label, right - left - 3).center(right - left - 1, line)
        inside = f"{inside[:-1]}>" if one < other else f"<{inside[1:]}"
        row[left + 1 : right] = inside
        return "".join(row)


def find_parties(step: Step) -> tuple[str, str]:
    """Sender and receiver, the node's end by the node's name."""
    node = make_printable(step.node)
    return (node, step.destination) if step.sent else (step.source, node)


def make_line(step: Step, begun_at: float) -> str:
    """One message as a line of text."""
    clock = datetime.fromtimestamp(step.time, UTC).strftime("%H:%M:%S.%f")
    direction = "sent" if step.sent else "received"
    again = " (again)" if step.again else ""
    cseq = f" [{step.cseq}]" if step.cseq and step.label[:1].isdigit() else ""
    way = f"{step.source} > {step.destination} {step.transport}"
    label = step.label if step.label[:1].isdigit() else step.first_line
    return f"{clock} {step.time - begun_at:+.3f} {make_printable(step.node)} {direction} {way} {label}{cseq}{again}"


def make_printable(text: str) -> str:
    """Text without anything that a terminal would obey: what is not printable is written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def _keep_end(text: str, room: int) -> str:
    return text if len(text) <= room else f"~{text[len(text) - room + 1 :]}"


def _shorten(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(0, room - 1)]}~"
