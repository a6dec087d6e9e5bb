"""Comparison: making one partition equal on two nodes, from our side; what the other does is `antientropy`.

Key lists are asked for page by page, and compared with ours: what the other has and we have not, or have otherwise, is
pulled and merged; then what it has not, or still has otherwise, is pushed. When either side holds nothing no list is
needed. A comparison that only covers (ours is a copy that others take over) pushes alone.

It ends by one call of `done`: with what it moved, or with why it stopped. Nothing has to be taken back when it stops:
all it did was merging, and another one goes on from what is there.

What comes is merged in slices, each in a turn of its own, so that no message waits for it longer than milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from farm.deadlines import Deadlines
from farm.overlay.antientropy import ROW_BYTES, ROWS, Intake, Traffic
from farm.overlay.store import Store
from farm.overlay.wire import Answer, Error, KeyList, Keys, Pull, Pulled, Push, Pushed, Request, Row

REPAIR: Final = "repair"
_SLICE_ROWS: Final = 125  # merged in one turn: 2 to 3 ms
_WITHIN_SECONDS: Final = 5.0
_WANTED: Final = 1000  # named in one Pull
_ALL: Final = 1 << 30

Done = Callable[[Answer | None, float], None]


class Ask(Protocol):
    """`Calls.ask`: a call to another node. `done` follows once, with the answer or None."""

    def __call__(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Done,
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int: ...


class Tools(NamedTuple):
    """What all comparisons of a node share. `shift` answers, inside the `done` of a call, what to add to the times in
    its answer; `version_of` which version a node speaks."""

    store: Store
    ask: Ask
    shift: Callable[[], float]
    intake: Intake
    traffic: Traffic
    deadlines: Deadlines
    version_of: Callable[[bytes], int]


class Outcome(NamedTuple):
    """What became of it: `problem` is "" (both sides have all that both had), "unanswered", "busy" or "refused" (one
    side has no room, or the other finds ours bad; what we find bad is passed over, or one broken record would keep a
    node from joining for ever). `moved` records were exchanged."""

    problem: str
    moved: int = 0


class Comparison:
    """One partition with one node. `theirs` is how many records that one has, -1 when not known."""

    __slots__ = (
        "_after",
        "_differing",
        "_done",
        "_mono",
        "_more",
        "_moved",
        "_pushes",
        "_refused",
        "_rows",
        "_stopped",
        "_theirs",
        "_then",
        "_tools",
        "_wanted",
        "covers",
        "digest",
        "node",
        "partition",
    )

    def __init__(
        self,
        tools: Tools,
        partition: int,
        node: bytes,
        theirs: int,
        done: Callable[[Comparison, Outcome, float], None],
        *,
        covers: bool = False,
    ) -> None:
        self.partition = partition
        self.node = node
        self.covers = covers
        self.digest = tools.store.digest(partition)  # what ours was when it began
        self._tools = tools
        self._theirs = theirs
        self._done = done
        self._after = b""
        self._more = False
        self._wanted: list[bytes] = []
        self._differing: dict[bytes, bytes] = {}  # what we and they have otherwise: their prints
        self._pushes: list[bytes] = []
        self._rows: list[Row] = []
        self._mono = 0.0  # what to add to the times of the rows
        self._moved = 0
        self._refused = 0
        self._stopped = False
        self._then: Callable[[float], None] = self._go_on

    def start(self, now: float) -> None:
        """Begin."""
        store = self._tools.store
        if self._theirs == 0:
            self._pushes = store.hashes(self.partition, b"")
            self._push(now)
        elif self.covers or store.count(self.partition):
            self._list(now)
        else:
            self._pull_all(b"", now)

    def stop(self) -> None:
        """Forget it; `done` is not called any more."""
        self._stopped = True

    # Key lists

    def _list(self, now: float) -> None:
        self._ask(Keys(0, self.partition, self._after), self._receive_list, now)

    def _receive_list(self, answer: Answer | None, now: float) -> None:
        if not isinstance(answer, KeyList):
            self._fail(answer, now)
            return
        theirs = dict(answer.keys)
        self._more = answer.more and bool(theirs)
        last = max(theirs) if self._more else b""
        ours = dict(self._tools.store.key_list(self.partition, self._after, _ALL, now))
        self._wanted = []
        self._differing = {}
        if not self.covers:
            for hashed, value in theirs.items():
                held = ours.get(hashed)
                if held != value:
                    self._wanted.append(hashed)
                    if held is not None:
                        self._differing[hashed] = value
        self._pushes = [
            hashed for hashed, value in ours.items() if (not last or hashed <= last) and theirs.get(hashed) != value
        ]
        self._after = last
        self._pull(now)

    # Pulling

    def _pull(self, now: float) -> None:
        if not self._wanted:
            self._push(now)
            return
        self._ask(Pull(0, self.partition, self._wanted[:_WANTED]), self._receive_wanted, now)

    def _receive_wanted(self, answer: Answer | None, now: float) -> None:
        if not isinstance(answer, Pulled):
            self._fail(answer, now)
            return
        asked = self._wanted[:_WANTED]
        if answer.more and answer.last in asked:
            del self._wanted[: asked.index(answer.last) + 1]
        else:
            del self._wanted[:_WANTED]
        self._take(answer, self._pull, now)

    def _pull_all(self, after: bytes, now: float) -> None:
        self._ask(Pull(0, self.partition, (), after), self._receive_all, now)

    def _receive_all(self, answer: Answer | None, now: float) -> None:
        if not isinstance(answer, Pulled):
            self._fail(answer, now)
            return
        self._after = answer.last if answer.more and answer.last > self._after else b""
        self._take(answer, self._pull_rest, now)

    def _pull_rest(self, now: float) -> None:
        if self._after:
            self._pull_all(self._after, now)
        else:
            self._end("refused" if self._refused else "", now)

    def _take(self, answer: Pulled, then: Callable[[float], None], now: float) -> None:
        tools = self._tools
        self._rows = list(answer.rows)
        self._mono = tools.shift()
        self._then = then
        tools.traffic.count_in(self._rows, now)
        self._moved += len(self._rows)
        self._merge(None, now)

    def _merge(self, _: None, now: float) -> None:
        """A slice now, the rest in the next turns."""
        if self._stopped:
            return
        rows = self._rows[:_SLICE_ROWS]
        del self._rows[:_SLICE_ROWS]
        self._refused += self._tools.intake.merge(rows, self._mono, now, self.partition).full
        if self._rows:
            self._tools.deadlines.add(now, self._merge)
        elif rows:
            self._tools.deadlines.add(now, self._continue)
        else:
            self._then(now)

    def _continue(self, _: None, now: float) -> None:
        if not self._stopped:
            self._then(now)

    # Pushing

    def _push(self, now: float) -> None:
        store = self._tools.store
        current: dict[bytes, bytes] = {}
        if self._differing:
            current = dict(store.key_list(self.partition, b"", _ALL, now))
        version = self._tools.version_of(self.node)
        rows: list[Row] = []
        size = 0
        while self._pushes:
            hashed = self._pushes.pop()
            if hashed in self._differing and current.get(hashed) == self._differing[hashed]:
                continue  # what we pulled was all there is to know
            found = store.find(self.partition, hashed)
            if found is None or store.shelves[found.kind].kind.since > version:
                continue
            rows.append(Row(found.kind, found.key, found.record))
            size += len(found.key) + len(found.record)
            if size > ROW_BYTES or len(rows) >= ROWS:
                break
        if not rows:
            self._go_on(now)
            return
        self._moved += len(rows)
        self._tools.traffic.count_out(rows, now)
        self._ask(Push(0, rows), self._receive_pushed, now)

    def _receive_pushed(self, answer: Answer | None, now: float) -> None:
        if not isinstance(answer, Pushed):
            self._fail(answer, now)
            return
        self._refused += answer.refused
        self._push(now)

    # Ends

    def _go_on(self, now: float) -> None:
        if self._more:
            self._list(now)
        else:
            self._end("refused" if self._refused else "", now)

    def _fail(self, answer: Answer | None, now: float) -> None:
        self._end("busy" if isinstance(answer, Error) and answer.code == "busy" else "unanswered", now)

    def _end(self, problem: str, now: float) -> None:
        self._stopped = True
        self._done(self, Outcome(problem, self._moved), now)

    def _ask(self, message: Request, done: Done, now: float) -> None:
        def receive(answer: Answer | None, then: float) -> None:
            if not self._stopped:
                done(answer, then)

        self._tools.ask(self.node, message, _WITHIN_SECONDS, receive, now, size_class=REPAIR)
