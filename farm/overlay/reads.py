"""Reading a record from its owners: asked until enough of them have answered, the answers merged.

The owners that are asked first are as many as must answer, this node's own copy counting as one; when one is late
(`Calls.hedge_after`), suspected or unreachable, the next is asked beside it. Who turns out to have less than the merged
record is sent it (read repair).

An answer of an owner that is not settled is merged and does not count, so with owners that have just come all are
asked. That there is nothing is believed only from a quorum, or from every owner there is; what was found is answered
at the end of the time, however few said so.

`enough=1` reads for somebody who is going to write: whatever an owner has will do, since the write brings back what
the others know.
"""

from __future__ import annotations

from functools import partial

from farm.deadlines import Deadline
from farm.overlay.ids import partition_of
from farm.overlay.quorum import Done, Failed, Found, Means, Outcome, read_quorum
from farm.overlay.store import Full
from farm.overlay.wire import OWNER, STRANGER, Answer, Fetch, Fetched, Store

RECALL_WEIGHT = 0.01  # of one read in the average that replica_recall_ratio shows


class Recall:
    """The share of the owners asked that had what was found, as a moving average."""

    __slots__ = ("ratio",)

    def __init__(self) -> None:
        self.ratio = 1.0

    def note(self, had: bool) -> None:
        """One owner was asked for a record that exists."""
        self.ratio += RECALL_WEIGHT * ((1.0 if had else 0.0) - self.ratio)


class Read:
    """One read. `outcome` is there when it has ended; `start` may end it at once, and then `done` is not called."""

    __slots__ = (
        "_answers",
        "_begun_at",
        "_counted",
        "_done",
        "_enough",
        "_key",
        "_kind",
        "_means",
        "_merged",
        "_own_is_owner",
        "_partition",
        "_recall",
        "_timer",
        "_to_ask",
        "_until",
        "_version",
        "_waiting",
        "outcome",
    )

    def __init__(
        self, means: Means, kind: str, key: bytes, done: Done, recall: Recall, *, enough: int | None = None
    ) -> None:
        self.outcome: Outcome | None = None
        self._means = means
        self._kind = kind
        self._key = key
        self._done = done
        self._recall = recall
        self._partition = partition_of(key)
        owners = means.view.owners(self._partition)
        self._own_is_owner = means.view.own in owners
        self._enough = read_quorum(len(owners)) if enough is None else enough
        self._counted = 0
        self._waiting: set[bytes] = set()
        self._answers: dict[bytes, bytes] = {}  # what each had: its version, "" for nothing
        self._merged: bytes | None = None
        self._version = b""
        self._to_ask = [owner for owner in owners if owner != means.view.own]
        if len(self._to_ask) > 1:
            means.rng.shuffle(self._to_ask)  # all copies share the work
            self._to_ask.sort(key=means.view.is_suspect)
        self._timer: Deadline | None = None
        self._begun_at = 0.0
        self._until = 0.0

    def start(self, now: float) -> None:
        """Ask."""
        try:
            self._start(now)
        except Exception:
            self._abandon(now, called=False)
            raise

    def _start(self, now: float) -> None:
        means = self._means
        self._begun_at = now
        self._until = now + means.fetch_seconds
        held = means.store.get(self._kind, self._key)
        if held is not None:  # an owner's, or of somebody it stands in for
            self._merged = held
            self._version = means.store.shelves[self._kind].kind.version(held)
        if self._own_is_owner:
            self._answers[means.view.own] = self._version
            self._counted = int(means.view.is_settled(self._partition))
        elif not self._to_ask:
            self._end(Failed("no-owners"), now, called=False)
            return
        self._ask_more(now)
        if not self._waiting:
            self._conclude(now, called=False)

    def _ask_more(self, now: float) -> None:
        """Ask as many as may still be needed."""
        while self._to_ask and len(self._waiting) + self._counted < self._enough and now < self._until:
            self._ask_next(now)

    def _ask_next(self, now: float) -> None:
        means = self._means
        node = self._to_ask.pop(0)
        self._waiting.add(node)
        means.calls.ask(
            node,
            Fetch(0, self._kind, self._key, self._version),
            max(0.0, self._until - now),
            partial(self._receive, node, self._version),
            now,
            size_class="records",
        )
        if self._to_ask:
            means.deadlines.cancel(self._timer)
            self._timer = means.deadlines.add(now + means.calls.hedge_after(node), self._hedge)

    def _hedge(self, _argument: object, now: float) -> None:
        """Somebody is late."""
        self._timer = None
        if self.outcome is None and self._to_ask and self._waiting and now < self._until:
            self._means.metrics.hedges.child("fetch").inc()
            self._ask_next(now)

    def _receive(self, node: bytes, known: bytes, answer: Answer | None, now: float) -> None:
        try:
            self._hear(node, known, answer, now)
        except Exception:
            self._abandon(now)
            raise

    def _hear(self, node: bytes, known: bytes, answer: Answer | None, now: float) -> None:
        self._waiting.discard(node)
        if isinstance(answer, Fetched) and (not answer.record or self._take(node, answer.record, now)):
            if answer.same:
                self._answers[node] = known
            elif not answer.record and answer.standing != STRANGER:
                self._answers[node] = b""
            if answer.standing == OWNER:
                self._counted += 1
            elif answer.standing == STRANGER and answer.nearer:
                self._means.view.receive_nearer(answer.nearer, now)
        if self.outcome is not None:
            return
        if self._counted >= self._enough:
            self._conclude(now)
            return
        self._ask_more(now)
        if not self._waiting:
            self._conclude(now)

    def _take(self, node: bytes, record: bytes, now: float) -> bool:
        """Merge what an owner has; False for what is no record, and then it has not answered."""
        means = self._means
        kind = means.store.shelves[self._kind].kind
        try:
            moved = kind.shift(record, means.calls.shift, now)
            self._answers[node] = kind.version(moved)
            merged = kind.merge(self._merged, moved, now).record
        except ValueError:
            means.metrics.peer_rejections.child("bad-record").inc()
            return False
        if merged is not None:
            self._merged = merged
            self._version = kind.version(merged)
        return True

    def _conclude(self, now: float, *, called: bool = True) -> None:
        """Enough have answered, or nobody else can."""
        means = self._means
        if self._counted < self._enough:
            owners = set(means.view.owners(self._partition))
            heard = owners <= self._answers.keys()  # nobody is left who could know more
            if not heard and self._merged is None:
                means.metrics.quorum_failures.child("fetch").inc()
                self._end(Failed("too-few-owners"), now, called=called)
                return
            if not heard:
                means.metrics.degraded_reads.child().inc()
        self._repair(now)
        self._end(Found(self._merged), now, called=called)

    def _repair(self, now: float) -> None:
        """Send the merged record to owners that had less."""
        merged = self._merged
        if merged is None:
            return
        means = self._means
        own = means.view.own
        for node, version in self._answers.items():
            self._recall.note(bool(version))
            if version == self._version:
                continue
            means.metrics.read_repairs.child().inc()
            if node == own:
                held = means.store.put(self._kind, self._key, merged, now, replicated=True)
                if not isinstance(held, Full):
                    self._merged = held
            else:
                repair = Store(0, self._kind, self._key, merged, self._version)
                means.calls.ask(node, repair, means.write_seconds, _ignore, now, size_class="records")

    def _abandon(self, now: float, *, called: bool = True) -> None:
        """A bug of ours: nobody shall wait for what does not come."""
        if self.outcome is None:
            self._end(Failed("internal"), now, called=called)

    def _end(self, outcome: Outcome, now: float, *, called: bool = True) -> None:
        self.outcome = outcome
        self._means.deadlines.cancel(self._timer)
        self._timer = None
        self._means.metrics.fetch_seconds.child(self._kind).observe(now - self._begun_at)
        if called:
            self._done(outcome, now)


def _ignore(_answer: Answer | None, _now: float) -> None:
    """A repair that gets lost is made up for by the next comparison."""
