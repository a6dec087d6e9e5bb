"""Owners that answer when the test says so: what a read or a write sees of the overlay."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.quorum import Means, Outcome
from farm.overlay.store import Merged, Store
from farm.overlay.wire import Answer, Contact, Request

KEY = b"sip:bob@example.com"
A, B, C, D, E = (bytes((number,)) * 32 for number in range(1, 6))
NAMES = {A: "a", B: "b", C: "c", D: "d", E: "e"}


class Kept:
    """What became of a record of `SetKind`."""

    def __init__(self, record: bytes | None, conflict: bool = False) -> None:
        self.record = record
        self.due_at = float("inf")
        self.live = 0
        self.tombstones = 0
        self.conflict = conflict


class SetKind:
    """A kind whose records are sets of letters: a merge is a union, the plainest of all that obey the laws."""

    name = "registration"
    record_bytes = 8
    everywhere = False
    since = 1

    def __init__(self) -> None:
        self.shifts: list[float] = []

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Merged:
        merged = bytes(sorted({*(held or b""), *delta}))
        return Kept(held if merged == held else merged)

    def sweep(self, held: bytes, now: float) -> Merged:
        return Kept(held)

    def shift(self, record: bytes, seconds: float, now: float = 0.0) -> bytes:
        if b"!" in record:
            raise ValueError("not a record")
        self.shifts.append(seconds)
        return record

    def version(self, record: bytes) -> bytes:
        return b"v:" + record

    def trace(self, record: bytes, at: float = 0.0) -> bytes:
        return record

    def newest(self, record: bytes) -> int:
        return 0


class Asked:
    """One call that was made and can be answered, once."""

    def __init__(self, owners: Owners, node: bytes, message: Request, done: Callable[[Answer | None, float], None]):
        self.node = node
        self.message = message
        self._owners = owners
        self._done = done

    def answer(self, answer: Answer | None) -> None:
        """It is answered; None when it is not, in time."""
        self._owners.asked.remove(self)
        self._done(answer, self._owners.now)


class Owners:
    """The world of an operation whose coordinator is A. `owners`, `coming`, `spare` and `suspects` are who they are."""

    def __init__(self, *owners: bytes, strict: bool = False) -> None:
        self.now = 100.0
        self.own = A
        self.list = list(owners)
        self.coming: list[bytes] = []
        self.spare: list[bytes] = []
        self.suspects: set[bytes] = set()
        self.settled = True
        self.nearer: list[Contact] = []
        self.asked: list[Asked] = []
        self.shift = 0.0
        self.kind = SetKind()
        self.store = Store((self.kind,))
        self.deadlines = Deadlines()
        self.metrics = Metrics()
        self.outcomes: list[Outcome] = []
        self.means = Means(self.store, self, self, self.deadlines, self.metrics, _Unshuffled(), strict=strict)

    # View

    def owners(self, partition: int) -> Sequence[bytes]:
        return self.list

    def joining(self, partition: int) -> Sequence[bytes]:
        return self.coming

    def stand_ins(self, partition: int, count: int) -> Sequence[bytes]:
        return self.spare[:count]

    def is_suspect(self, node: bytes) -> bool:
        return node in self.suspects

    def is_settled(self, partition: int) -> bool:
        return self.settled

    def receive_nearer(self, contacts: Sequence[Contact], now: float) -> None:
        self.nearer += contacts

    # Calls

    def ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Callable[[Answer | None, float], None],
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int:
        self.asked.append(Asked(self, node, message, done))
        return len(self.asked)

    def patience(self, node: bytes) -> float:
        return 0.2

    def hedge_after(self, node: bytes) -> float:
        return 0.05

    # What the test does

    def done(self, outcome: Outcome, now: float) -> None:
        """What operations are given to call."""
        self.outcomes.append(outcome)

    def hold(self, record: bytes) -> None:
        """This node has a copy."""
        self.store.put("registration", KEY, record, self.now)

    @property
    def held(self) -> bytes | None:
        """This node's copy."""
        return self.store.get("registration", KEY)

    def names(self) -> str:
        """Who is asked at present, in order."""
        return "".join(NAMES[asked.node] for asked in self.asked)

    def find(self, node: bytes) -> Asked:
        """The call to a node."""
        return next(asked for asked in self.asked if asked.node == node)

    def after(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while (at := self.deadlines.next_at()) is not None and at <= until:
            self.now = max(self.now, at)
            self.deadlines.run_due(self.now)
        self.now = until


class _Unshuffled(random.Random):
    """Owners are asked in their order."""

    def shuffle(self, x: object) -> None:
        """As it is."""
