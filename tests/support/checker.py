"""Judges what a farm answered against what it had acknowledged, in the manner of Jepsen's set-full, with expiry.

An operation is an interval: invoked, ended, and how. "ok" was acknowledged, "fail" had certainly no effect, all else
is "maybe": it may have taken effect at any time since, or never. What is demanded of a read [s, e] of a binding:

- found: every registration acknowledged before s and not lapsed by e, unless something that can outrank it was invoked
  before e and would hide it: a removal, a star, or a registration that can have lapsed by then;
- gone: nothing that an operation acknowledged before s outranks, whatever happened to that operation since. A removal
  that was acknowledged stays so after it has been forgotten, and a lapsed registration still hides what it outranked;
- in order: of one Call-ID, the higher CSeq outranks (RFC 3261 §10.3). Of different Call-IDs, or of a star and a
  registration, the later outranks the earlier surely only when the earlier was acknowledged before the later was
  invoked; else it is either. The same holds of a removal of what was not there: it leaves no trace that would
  outrank an older request that has still to arrive, nor a copy of a lapsed one that is not overdue yet. A star
  forgets the CSeqs under it, so a request that comes again after it is a new one;
- from somewhere, and not more than `slack` overdue: copies age by nothing while they travel or wait for a process.

What is excused, and when:

- *Partition* (`Split`), from the cut until `MERGE_SECONDS` after it has healed. A read is judged by what was
  acknowledged through nodes of its own side since the cut, and by what some node of its side held at the cut (that is
  looked up, not guessed). What two sides acknowledged is not ordered by causality meanwhile: with different Call-IDs
  either may outrank the other when they are less than `SKEW_SECONDS` apart.
- *Crash*: an acknowledgement counts as maybe when nobody who is left, disks that come back included, holds it, and it
  was given less than `grace` seconds before: at once with r nodes that have it, with W of r it has to reach the others
  first. A journal is a second behind, so the whole farm's power loss may cost a second. Older than that, it is reported
  as lost at the crash.

- *Away*: while r nodes or more are down at once, a read need not find what only they hold (`is_away`, which looks into
  the stores of all that run). When they are back it must.

Nothing else is excused; failing is always allowed here. Whether a farm may fail is judged by `find_failures`, and
what its stores hold at the end by `convergence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from farm.registrar.record import Record

MERGE_SECONDS = 60.0
SKEW_SECONDS = 2.0
EARLY_SECONDS = 1.0  # times are kept in milliseconds and rounded each time they move
REGISTER, REMOVE, STAR, READ = "register", "remove", "star", "read"


@dataclass(slots=True)
class Operation:
    """One thing that a client did. `value` of a registration is its (Call-ID, CSeq); `key` "" is every binding. A
    read's `found` is what it was answered, by binding."""

    number: int
    aor: str
    what: str
    node: int
    invoked: float
    key: str = ""
    call_id: str = ""
    cseq: int = 0
    granted: int = 0
    stamp: int = 0
    repeated: bool = False  # an old request that came again: its acknowledgement says nothing
    ended: float | None = None
    result: str = "maybe"
    reason: str = ""
    found: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def acknowledged(self) -> bool:
        """Whether it counts from now on."""
        return self.result == "ok" and not self.repeated

    def __str__(self) -> str:
        what = f"{self.what} {self.key} {self.call_id}/{self.cseq} for {self.granted} s" if self.what != READ else READ
        ended = "…" if self.ended is None else f"{self.ended:.3f}"
        found = f" {self.found}" if self.what == READ else ""
        reason = f" ({self.reason})" if self.reason else ""
        again = " again" if self.repeated else ""
        return (
            f"#{self.number} {self.aor} {what}{again} at n{self.node} {self.invoked:.3f}..{ended} "
            f"{self.result}{reason}{found}"
        )


@dataclass(slots=True)
class Split:
    """A partition: who was on which side, and which acknowledged operations each side held when it was cut."""

    start: float
    side_of: Mapping[int, int]
    held: Mapping[int, set[int]]
    healed: float = float("inf")

    def covers(self, operation: Operation) -> bool:
        """Whether an operation overlaps it, or the time until it is merged."""
        ended = operation.invoked if operation.ended is None else operation.ended
        return ended > self.start and operation.invoked < self.healed + MERGE_SECONDS


def has_effect(record: Record | None, operation: Operation) -> bool:
    """Whether a record knows of an operation, or of one that outranks it."""
    if record is None:
        return False
    if operation.what == STAR or (record.floor and record.floor >= operation.stamp):
        return record.floor >= operation.stamp
    for entry in record.entries:
        if entry.key == operation.key:
            return any(
                register.stamp >= operation.stamp
                or (register.call_id == operation.call_id and register.cseq >= operation.cseq)
                for register in entry.registers
            )
    return False


class Checker:
    """Keeps the history of all addresses-of-record and finds what cannot be."""

    def __init__(self, *, slack: float = 1.0) -> None:
        self.slack = slack
        self.history: list[Operation] = []
        self.splits: list[Split] = []
        self.violations: list[str] = []
        self.is_away: Callable[[Operation], bool] = lambda _operation: False
        self._by_aor: dict[str, list[Operation]] = {}

    def begin(
        self,
        aor: str,
        what: str,
        node: int,
        now: float,
        *,
        key: str = "",
        call_id: str = "",
        cseq: int = 0,
        granted: int = 0,
        repeated: bool = False,
    ) -> Operation:
        """Somebody asks."""
        operation = Operation(
            len(self.history) + 1, aor, what, node, now, key, call_id, cseq, granted, repeated=repeated
        )
        self.history.append(operation)
        self._by_aor.setdefault(aor, []).append(operation)
        return operation

    def end(
        self,
        operation: Operation,
        result: str,
        now: float,
        *,
        reason: str = "",
        found: Mapping[str, tuple[str, int]] = {},
    ) -> None:
        """He is answered: ok, fail, or maybe. A read that is ok is judged at once."""
        operation.ended = now
        operation.result = result
        operation.reason = reason
        if operation.what == READ and result == "ok":
            operation.found = dict(found)
            self.judge(operation)

    def report(self, text: str) -> None:
        """Something else cannot be."""
        self.violations.append(text)

    # Faults

    def split(self, now: float, side_of: Mapping[int, int], holds: Callable[[int, Operation], bool]) -> Split:
        """The farm falls apart; `holds(side, operation)` looks whether some node of a side knows an operation."""
        held = {
            side: {
                each.number for each in self.history if each.acknowledged and each.what != READ and holds(side, each)
            }
            for side in set(side_of.values())
        }
        split = Split(now, dict(side_of), held)
        self.splits.append(split)
        return split

    def crash(self, now: float, survives: Callable[[Operation], bool], *, grace: float) -> None:
        """Nodes are gone; `survives(operation)` looks whether anybody who is left, or a disk, knows an operation."""
        for operation in self.history:
            if operation.what == READ or not operation.acknowledged or survives(operation):
                continue
            if operation.ended is not None and operation.ended > now - grace:
                operation.result = "maybe"
                operation.reason = "the crash took all copies"
                continue
            lasts = operation.invoked + operation.granted - EARLY_SECONDS > now
            if operation.what == REGISTER and lasts and not self._is_outranked(operation, now):
                self.report(f"at {now:.3f}, a crash took the last copy of {operation}")

    # Judgement

    def judge(self, read: Operation) -> None:
        """Find what a read's answer should not have been."""
        operations = [each for each in self._by_aor[read.aor] if each.what != READ and each.result != "fail"]
        assert read.ended is not None
        keys = {each.key for each in operations if each.key} | set(read.found)
        required = [each for each in operations if self._is_required(each, read)]
        for key in sorted(keys):
            possible = [each for each in operations if each.key in ("", key) and each.invoked <= read.ended]
            demanded = [each for each in required if each.key in ("", key)]
            value = read.found.get(key)
            if value is None:
                self._judge_absent(read, key, possible, demanded)
            else:
                self._judge_found(read, key, value, possible, demanded)

    def _is_required(self, operation: Operation, read: Operation) -> bool:
        """Whether a read must know of an operation."""
        if not operation.acknowledged or operation.ended is None or operation.ended > read.invoked:
            return False
        for split in self.splits:
            if not split.covers(read):
                continue
            side = split.side_of.get(read.node)
            if operation.ended <= split.start:
                if side is None or operation.number not in split.held[side]:
                    return False
            elif side is None or split.side_of.get(operation.node) != side:
                return False
        return True

    def _judge_absent(self, read: Operation, key: str, possible: list[Operation], demanded: list[Operation]) -> None:
        assert read.ended is not None
        for lost in demanded:
            if lost.what != REGISTER or lost.invoked + lost.granted - EARLY_SECONDS <= read.ended:
                continue
            for other in possible:
                if other is lost or self._outranks_surely(lost, other):
                    continue
                if other.what != REGISTER or other.invoked + other.granted - EARLY_SECONDS <= read.ended:
                    break
            else:
                if not self.is_away(lost):
                    self._report(read, key, f"lost {lost}")
                return

    def _judge_found(
        self, read: Operation, key: str, value: tuple[str, int], possible: list[Operation], demanded: list[Operation]
    ) -> None:
        sources = [each for each in possible if each.what == REGISTER and (each.call_id, each.cseq) == value]
        if not sources:
            self._report(read, key, f"found {value}, which nobody wrote")
            return
        if all(read.invoked > self._latest_end(each) for each in sources):
            self._report(read, key, f"found overdue {sources[0]}")
            return
        for demand in demanded:
            if all(self._outranks_surely(demand, source) for source in sources):
                how = "out of order" if demand.what == REGISTER else "back again"
                self._report(read, key, f"found {how}: {sources[0]} after {demand}")
                return

    def _latest_end(self, operation: Operation) -> float:
        ended = operation.invoked + 10.0 if operation.ended is None else operation.ended
        return ended + operation.granted + self.slack

    def _outranks_surely(self, later: Operation, earlier: Operation) -> bool:
        """Whether `later` hides `earlier` wherever both are known."""
        if later is earlier:
            return False
        if (earlier.repeated or earlier.result == "maybe") and self._is_forgotten(later, earlier):
            return False
        if later.call_id == earlier.call_id and STAR not in (later.what, earlier.what):
            return later.cseq > earlier.cseq
        if earlier.result != "ok" or earlier.ended is None or earlier.ended > later.invoked:
            return False
        return later.invoked - earlier.ended > SKEW_SECONDS or not self._is_apart(later, earlier)

    def _is_forgotten(self, later: Operation, again: Operation) -> bool:
        """Whether a star may have come between a request and the repetition of an older one, or an older one that was
        not answered and waits in a process that stands still: under a floor nobody remembers a CSeq, so what comes
        after it is a new request."""
        until = float("inf") if again.result == "maybe" else again.ended or again.invoked
        return any(
            star.what == STAR
            and star.result != "fail"
            and star.invoked <= until
            and (star.ended is None or star.result != "ok" or star.ended >= later.invoked)
            for star in self._by_aor[again.aor]
        )

    def _is_apart(self, later: Operation, earlier: Operation) -> bool:
        """Whether a partition kept one from knowing of the other."""
        for split in self.splits:
            if split.covers(later) and later.node != earlier.node:
                if split.side_of.get(later.node, -1) != split.side_of.get(earlier.node, -2):
                    return True
                if earlier.ended is not None and earlier.ended <= split.start:
                    return earlier.number not in split.held[split.side_of[later.node]]
        return False

    def _is_outranked(self, operation: Operation, now: float) -> bool:
        return any(
            other is not operation
            and other.what != READ
            and other.result != "fail"
            and other.key in ("", operation.key)
            and not self._outranks_surely(operation, other)
            for other in self._by_aor[operation.aor]
        )

    def _report(self, read: Operation, key: str, text: str) -> None:
        self.report(f"{key}: {text}, by {read}")

    # Availability

    def find_failures(self, peace: Iterable[tuple[float, float]]) -> list[str]:
        """Operations that were not served although nothing was wrong from begin to end of these times."""
        times = list(peace)
        return [
            f"not served in peace: {each}"
            for each in self.history
            if each.result != "ok" and each.reason != "out-of-order"
            if any(start <= each.invoked and (each.ended or each.invoked) <= end for start, end in times)
        ]
