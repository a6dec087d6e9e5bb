"""Log lines: one event, one line, whatever a stranger wrote into it; and the log of rejections.

Lines hold no credentials and no control characters, and none is longer than 16 KiB. `Rejections` is where everybody
reports a message turned away: each is counted, and each reason writes at most so many lines a second, the next of
which says how many were left out, so that a flood cannot fill the disk. The challenge that every phone meets first is
counted as well, but is news for debugging only. Twisted's events become lines in `tap.py`.

Decided: credentials are struck out by pattern here, besides never being logged, since a header may reach a line inside
the text of an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter

from farm.series import Family

Fields = Mapping[str, object]

LONGEST_TEXT: Final = 4000
ORDINARY: Final = frozenset(("no-credentials",))
_HIDDEN: Final = "[hidden]"
_AUTHORIZATION: Final = re.compile(r"((?:proxy-)?authorization\s*[:=]\s*)[^\r\n]+", re.IGNORECASE)
_DIGEST: Final = re.compile(
    r"\b((?:response|cnonce|nonce|ha1|passw(?:or)?d|secret)\s*=\s*)(\"[^\"]*\"?|[^\s,;]+)", re.IGNORECASE
)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def make_json_line(time: float, level: str, node: str, place: str, message: str, fields: Fields) -> str:
    """One JSON object and a line feed. `time` is seconds since 1970; `fields` are the event's own, simple values."""
    line: dict[str, object] = {"time": _stamp(time), "level": level, "node": node, "place": place}
    line["message"] = clean(message)
    for name, value in fields.items():
        if name not in line:
            line[name] = value if value is None or isinstance(value, (bool, int, float)) else clean(str(value))
    return json.dumps(line) + "\n"


def make_text_line(time: float, level: str, place: str, message: str, fields: Fields) -> str:
    """The same for eyes: time, level, place, message, fields as name=value."""
    rest = "".join(f" {name}={clean(str(value))}" for name, value in fields.items() if name != "trace")
    trace = str(fields.get("trace", ""))
    indented = "".join("    " + escape(line) + "\n" for line in trace.splitlines())
    return f"{_stamp(time)} {level:8} {place}: {escape(clean(message))}{escape(rest)}\n{indented}"


def clean(text: str) -> str:
    """`text` without credentials, cut where it is overlong."""
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT] + f"… ({len(text)} characters)"
    return _DIGEST.sub(rf"\g<1>{_HIDDEN}", _AUTHORIZATION.sub(rf"\g<1>{_HIDDEN}", text))


def escape(text: str) -> str:
    """`text` with control characters and lone surrogates written as `\\x1b` or `\\u2028`, so that it stays one line."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


class Rejections:
    """Counts messages turned away and logs them, each reason at most `lines_per_second` times a second.

    `write` gets the level ("info", for the `ORDINARY` reasons "debug"), the message and the fields of a line. A reason
    that the catalogue does not know is counted as "other" and named in the log.
    """

    __slots__ = ("_counter", "_reasons", "_write", "lines_per_second")

    def __init__(
        self,
        counter: Family[Counter],
        write: Callable[[str, str, Fields], None],
        lines_per_second: int,
    ) -> None:
        self._counter = counter
        self._write = write
        self.lines_per_second = lines_per_second
        self._reasons: dict[str, _Reason] = {}

    def note(self, reason: str, now: float, *, source: str = "", method: str = "", detail: str = "") -> None:
        """One message was turned away for `reason` (a slug of ours, never text of the message)."""
        seen = self._reasons.get(reason)
        if seen is None:
            level = "debug" if reason in ORDINARY else "info"
            seen = self._reasons[reason] = _Reason(self._counter.child(reason), level)
        seen.counter.inc()
        if now >= seen.window_at:
            seen.window_at = now + 1.0
            seen.written = 0
        if seen.written >= self.lines_per_second:
            seen.left_out += 1
            return
        seen.written += 1
        fields: dict[str, object] = {"reason": reason}
        given = (("source", source), ("method", method), ("detail", detail))
        fields.update({name: value for name, value in given if value})
        if seen.left_out:
            fields["left_out"] = seen.left_out
            seen.left_out = 0
        self._write(seen.level, "message rejected", fields)

    def flush(self) -> None:
        """Say how many were left out since the last line of each reason: at the end, or now and then."""
        for reason, seen in self._reasons.items():
            if seen.left_out:
                self._write(seen.level, "messages rejected", {"reason": reason, "left_out": seen.left_out})
                seen.left_out = 0


class _Reason:
    """What is known of one reason. The set of reasons is ours, so the table is bounded."""

    __slots__ = ("counter", "left_out", "level", "window_at", "written")

    def __init__(self, counter: Counter, level: str) -> None:
        self.counter = counter
        self.level = level
        self.window_at = 0.0
        self.written = 0
        self.left_out = 0


def _stamp(time: float) -> str:
    moment = datetime.fromtimestamp(time, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
