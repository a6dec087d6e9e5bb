"""Writing a record to its owners: one update, sent to all of them at once, acknowledged when enough have it.

The node that coordinates need not be an owner. What an owner made of the update comes back only when it is not what
the coordinator expected (`Store.expected`), so an ordinary acknowledgement is a few bytes; what does come back is
merged, and the outcome has seen all that those who acknowledged had seen.

An owner that is suspected, whose link is broken, or that has not answered after `stand_in_seconds` is stood in for by
the nearest node that is no owner; that one hands the record over when the owner is back (`upkeep`). Nodes that are
about to become owners get the update as well and do not count.

An owner and who stands in for it count as one, or two that both have it would be taken for two owners, and a read from
the others would find nothing.

An owner that refuses is not stood in for: the next one would have to refuse as well. When so many refuse that there is
no quorum, the write has failed; "rate", that this record is written too often, will be over in a moment, and whatever
is full will not.

Decided: a write waits for all its owners, and only after `all_seconds` is content with the quorum. Two owners of three
make an acknowledged record survive one crash at once, three make it survive two; on a local network the third answers
in the same millisecond as the second.
Decided: in "available" mode a write that no quorum took by `write_seconds` counts if one *other* node has it; a copy
that only the coordinator holds is never acknowledged while there are others.
Decided: a write is not conditional on a generation of the record (as RELOAD's stores may be). A merge keeps both of
two updates that cross, and whoever wrote one looks again at what the owners made of it; a generation would have one of
them tried again, another round for each REGISTER of a phone with several contacts.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from farm.deadlines import Deadline
from farm.overlay.ids import partition_of
from farm.overlay.quorum import Done, Failed, Found, Means, Outcome, write_quorum
from farm.overlay.store import Full
from farm.overlay.wire import OWNER, REFUSALS, STRANGER, TAKEN, UNSETTLED, Answer, Store, Stored

_STANDING_IN: Final = -1


class Write:
    """One write. `outcome` is there when it has ended; `start` may end it at once, and then `done` is not called."""

    __slots__ = (
        "_acknowledged",
        "_asked",
        "_begun_at",
        "_delta",
        "_done",
        "_key",
        "_kind",
        "_means",
        "_merged",
        "_missing",
        "_needed",
        "_others",
        "_own_is_owner",
        "_owners",
        "_partition",
        "_refusals",
        "_stage",
        "_stood_for",
        "_timer",
        "_waiting",
        "outcome",
    )

    def __init__(self, means: Means, kind: str, key: bytes, delta: bytes, done: Done) -> None:
        self.outcome: Outcome | None = None
        self._means = means
        self._kind = kind
        self._key = key
        self._delta = delta
        self._done = done
        self._partition = partition_of(key)
        self._owners = tuple(means.view.owners(self._partition))
        self._own_is_owner = means.view.own in self._owners
        self._needed = write_quorum(len(self._owners))
        self._acknowledged: set[bytes] = set()  # owners that have it, or that somebody stands in for
        self._others = 0  # nodes other than this one that have it, whatever they are
        self._waiting: set[bytes] = set()  # owners and stand-ins that may still answer
        self._missing: list[bytes] = []  # owners for whom nobody stands in yet
        self._asked: set[bytes] = set()
        self._refusals: list[str] = []
        self._merged: bytes | None = None
        self._stood_for: set[bytes] = set()
        self._stage = 0
        self._timer: Deadline | None = None
        self._begun_at = 0.0

    def start(self, now: float, base: bytes | None = None) -> None:
        """Send it. `base` is what the coordinator thinks the record was, when it is no owner."""
        try:
            self._start(now, base)
        except Exception:
            self._abandon(now, called=False)
            raise

    def _start(self, now: float, base: bytes | None) -> None:
        self._begun_at = now
        means = self._means
        view = means.view
        own = view.own
        if not self._owners:
            self._end(Failed("no-owners"), now, called=False)
            return
        expected = b""
        kind = means.store.shelves[self._kind].kind
        if self._own_is_owner:
            held = means.store.put(self._kind, self._key, self._delta, now)
            if isinstance(held, Full):
                self._end(held, now, called=False)
                return
            self._merged = held
            self._acknowledged.add(own)
        else:
            self._merged = self._delta if base is None else kind.merge(base, self._delta, now).record
            if self._merged and len(self._merged) > kind.record_bytes:
                self._end(Full("record"), now, called=False)
                return
        if self._merged:
            expected = means.store.mark(self._kind, self._key, self._merged)
        coming = view.joining(self._partition)
        if len(self._owners) == len(self._acknowledged) and not coming:
            self._end(Found(self._merged), now, called=False)  # a lone node
            return
        for owner in self._owners:
            if owner == own:
                continue
            if view.is_suspect(owner):
                self._missing.append(owner)  # it may be well: it is sent the update, and somebody stands in at once
            self._send(owner, expected, now, OWNER)
        for node in coming:
            if node != own:
                self._send(node, expected, now, UNSETTLED)
            elif not self._own_is_owner:
                means.store.put(self._kind, self._key, self._delta, now)
        if self._missing:
            self._stand_in(now)
        if len(self._acknowledged) == len(self._owners):
            self._end(Found(self._merged), now, called=False)
            return
        self._timer = means.deadlines.add_after(means.all_seconds, now, self._wake)

    def _send(self, node: bytes, expected: bytes, now: float, standing: int, stands_for: bytes = b"") -> None:
        self._asked.add(node)
        if standing != UNSETTLED:
            self._waiting.add(node)
        self._means.calls.ask(
            node,
            Store(0, self._kind, self._key, self._delta, expected, stands_for),
            self._means.write_seconds,
            partial(self._receive, node, standing, stands_for),
            now,
            patient=True,
            size_class="records",
        )

    def _receive(self, node: bytes, standing: int, stands_for: bytes, answer: Answer | None, now: float) -> None:
        try:
            self._hear(node, standing, stands_for, answer, now)
        except Exception:
            self._abandon(now)
            raise

    def _hear(self, node: bytes, standing: int, stands_for: bytes, answer: Answer | None, now: float) -> None:
        if standing == UNSETTLED:
            if isinstance(answer, Stored) and answer.refusal == TAKEN:
                self._others += 1
            return
        self._waiting.discard(node)
        if not isinstance(answer, Stored):
            self._miss(stands_for or node, standing, now)
            self._check(now)
            return
        if answer.refusal != TAKEN:
            self._refusals.append(REFUSALS[answer.refusal] if answer.refusal < len(REFUSALS) else "refused")
            self._check(now)
            return
        self._others += 1
        if answer.standing == STRANGER and standing == OWNER:
            self._means.view.receive_nearer(answer.nearer, now)
            self._miss(node, standing, now)
        else:
            self._acknowledged.add(stands_for or node)  # the two of them are one
        if answer.record:
            self._take(answer.record, now)
        self._check(now)

    def _take(self, record: bytes, now: float) -> None:
        """An owner had more than we knew of."""
        means = self._means
        kind = means.store.shelves[self._kind].kind
        try:
            moved = kind.shift(record, means.calls.shift, now)
            if self._own_is_owner:
                held = means.store.put(self._kind, self._key, moved, now, replicated=True)
                if not isinstance(held, Full):
                    self._merged = held
            else:
                self._merged = kind.merge(self._merged or None, moved, now).record
        except ValueError:
            means.metrics.peer_rejections.child("bad-record").inc()

    def _miss(self, node: bytes, standing: int, now: float) -> None:
        """An owner does not have it, or whoever should have stood in for one."""
        settled = node in self._acknowledged or (node in self._stood_for and standing != _STANDING_IN)
        if node in self._owners and node not in self._missing and not settled:
            self._missing.append(node)
        self._stand_in(now)

    def _check(self, now: float) -> None:
        """Whether it has ended."""
        if self.outcome is not None:
            return
        owners = len(self._owners)
        acknowledged = len(self._acknowledged)
        if acknowledged >= owners or (acknowledged >= self._needed and (self._stage or not self._waiting)):
            self._end(Found(self._merged), now)
        elif self._refusals and len(self._refusals) > owners - self._needed:
            self._end(_outcome_of(self._refusals[0]), now)
        elif not self._waiting and self._stage > 1:
            self._give_up(now)

    def _wake(self, _argument: object, now: float) -> None:
        """A stage has passed: all owners, stand-ins, the end."""
        try:
            self._go_on(now)
        except Exception:
            self._abandon(now)
            raise

    def _go_on(self, now: float) -> None:
        means = self._means
        self._timer = None
        self._stage += 1
        if self._stage == 1:
            self._check(now)
            self._timer = means.deadlines.add_after(means.stand_in_seconds - means.all_seconds, now, self._wake)
        elif self._stage == 2:
            for node in sorted(self._waiting):
                self._miss(node, OWNER, now)
            self._check(now)
            if self.outcome is None:
                self._timer = means.deadlines.add_after(means.write_seconds - means.stand_in_seconds, now, self._wake)
        elif self.outcome is None:
            self._give_up(now)

    def _stand_in(self, now: float) -> None:
        """Send it to the nearest nodes that are no owners, one for each owner that is missing."""
        if not self._missing or now >= self._begun_at + self._means.write_seconds:
            return
        view = self._means.view
        for node in view.stand_ins(self._partition, len(self._missing) + len(self._asked)):
            if not self._missing:
                return
            if node not in self._asked and node != view.own:
                owner = self._missing.pop(0)
                self._stood_for.add(owner)
                self._means.metrics.hedges.child("store").inc()
                self._send(node, b"", now, _STANDING_IN, owner)

    def _give_up(self, now: float) -> None:
        """No more answers: what there is decides, with the owners as they are by now."""
        means = self._means
        owners = means.view.owners(self._partition)
        if len(self._acknowledged) >= min(self._needed, write_quorum(len(owners))) and (
            self._others or len(owners) < 2  # all others have died meanwhile
        ):
            self._end(Found(self._merged), now)
        elif self._others and not means.strict:
            means.metrics.degraded_writes.child().inc()
            self._end(Found(self._merged), now)
        else:
            means.metrics.quorum_failures.child("store").inc()
            self._end(_outcome_of(self._refusals[0]) if self._refusals else Failed("too-few-owners"), now)

    def _abandon(self, now: float, *, called: bool = True) -> None:
        """A bug of ours: nobody shall wait for what does not come."""
        if self.outcome is None:
            self._end(Failed("internal"), now, called=called)
        self._means.deadlines.cancel(self._timer)
        self._timer = None

    def _end(self, outcome: Outcome, now: float, *, called: bool = True) -> None:
        self.outcome = outcome
        if len(self._acknowledged) >= len(self._owners):
            self._means.deadlines.cancel(self._timer)
            self._timer = None
        self._means.metrics.store_seconds.child(self._kind).observe(now - self._begun_at)
        if called:
            self._done(outcome, now)


def _outcome_of(refusal: str) -> Outcome:
    return Failed(refusal) if refusal == "rate" else Full(refusal)
