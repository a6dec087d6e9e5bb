"""Which nodes are to be dialled, and when: the broken links, the candidates, and the graveyard.

A broken link is dialled at once and three times more within a second, before all others. A candidate, known by hearsay,
is dialled until it answers or has failed eight times. The dead, and those who left, are dialled for as long as they
are remembered: that is how a partition heals by itself and a farm that was switched off comes back whole.
After that each waits 1, 2, 4 … 60 s, or down to half of that, drawn at random.

For each reason no more than `most_at_once` dials are under way, so that many hosts that do not answer cannot hold up a
broken link; those apart, no more than `most_per_second` begin. What finds no room waits its turn. A dial of which
nothing is heard for `lost_after` seconds counts as failed.

This only says when: `connect` dials, and its user says what came of it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Final

from farm.deadlines import Deadline, Deadlines
from farm.overlay.wire import Contact

# The reasons to dial, most urgent first.
BROKEN: Final = 0
CANDIDATE: Final = 1
GONE: Final = 2

MOST_CANDIDATE_FAILURES: Final = 8
_FIRST_STEPS: Final = (0.25, 0.25, 0.5)  # of a broken link: tries at 0, 0.25, 0.5 and 1 s
_FIRST_BACKOFF: Final = 1.0
_LAST_BACKOFF: Final = 60.0
_IDLE: Final = -1


def backoff_seconds(failures: int, reason: int) -> float:
    """How long to wait after so many failures, before jitter."""
    if reason == BROKEN:
        if failures <= len(_FIRST_STEPS):
            return _FIRST_STEPS[failures - 1]
        failures -= len(_FIRST_STEPS)
    return min(_LAST_BACKOFF, _FIRST_BACKOFF * float(2 ** min(failures - 1, 16)))


class Dial:
    """One node that is to be dialled."""

    __slots__ = ("contact", "deadline", "failures", "reason", "under_way")

    def __init__(self, contact: Contact, reason: int) -> None:
        self.contact = contact
        self.reason = reason
        self.failures = 0
        self.under_way = _IDLE  # or the reason for which it was begun
        self.deadline: Deadline | None = None  # when it is due, or, under way, lost


class Dials:
    """All of them. `connect(contact)` dials; `lost(contact, now)` hears of a dial without an outcome."""

    def __init__(
        self,
        connect: Callable[[Contact], None],
        lost: Callable[[Contact, float], None],
        deadlines: Deadlines,
        rng: random.Random,
        *,
        most_at_once: int = 32,
        most_per_second: float = 20.0,
        lost_after: float = 10.0,
    ) -> None:
        self._connect = connect
        self._lost = lost
        self._deadlines = deadlines
        self._rng = rng
        self._most_at_once = most_at_once
        self._most_per_second = most_per_second
        self._lost_after = lost_after
        self._dials: dict[bytes, Dial] = {}
        self._addresses: dict[tuple[str, int], dict[bytes, None]] = {}
        self._waiting: tuple[deque[bytes], ...] = (deque(), deque(), deque())
        self._under_way = [0, 0, 0]
        self._tokens = most_per_second
        self._tokens_at: float | None = None
        self._pump_deadline: Deadline | None = None

    def __len__(self) -> int:
        return len(self._dials)

    def __contains__(self, node: bytes) -> bool:
        return node in self._dials

    def get(self, node: bytes) -> Dial | None:
        """The dial of this node, None when it is not to be dialled."""
        return self._dials.get(node)

    def add(self, contact: Contact, reason: int, now: float, after: float = 0.0) -> None:
        """Dial it `after` so many seconds. One that is there already goes on, with the new address and reason; a
        broken link and a new address start it again."""
        dial = self._dials.get(contact.node)
        if dial is not None:
            moved = (dial.contact.host, dial.contact.port) != (contact.host, contact.port)
            if not moved and (reason != BROKEN or dial.reason == BROKEN):
                dial.contact = contact
                dial.reason = reason
                return
            self.forget(contact.node, now)
        dial = self._dials[contact.node] = Dial(contact, reason)
        self._addresses.setdefault((contact.host, contact.port), {})[contact.node] = None
        dial.deadline = self._deadlines.add(now + after, self._become_due, dial)

    def forget(self, node: bytes, now: float) -> None:
        """It is not to be dialled any more."""
        dial = self._dials.pop(node, None)
        if dial is None:
            return
        self._deadlines.cancel(dial.deadline)
        address = (dial.contact.host, dial.contact.port)
        nodes = self._addresses[address]
        del nodes[node]
        if not nodes:
            del self._addresses[address]
        if dial.under_way != _IDLE:
            self._under_way[dial.under_way] -= 1
            self._pump(now)

    def fail(self, host: str, port: int, now: float) -> list[Contact]:
        """A dial of this address came to nothing: who was to be reached there. Each is tried again later."""
        found = []
        for node in list(self._addresses.get((host, port), ())):
            dial = self._dials[node]
            if dial.under_way != _IDLE:
                self._under_way[dial.under_way] -= 1
                dial.under_way = _IDLE
                dial.failures += 1
                wait = backoff_seconds(dial.failures, dial.reason)
                if wait >= _FIRST_BACKOFF:
                    wait *= self._rng.uniform(0.5, 1.0)
                self._deadlines.cancel(dial.deadline)
                dial.deadline = self._deadlines.add(now + wait, self._become_due, dial)
                found.append(dial.contact)
        self._pump(now)
        return found

    def stop(self) -> None:
        """Dial nobody any more."""
        for dial in self._dials.values():
            self._deadlines.cancel(dial.deadline)
        self._dials.clear()
        self._addresses.clear()
        for waiting in self._waiting:
            waiting.clear()
        self._under_way = [0, 0, 0]
        self._deadlines.cancel(self._pump_deadline)

    def _become_due(self, dial: Dial, now: float) -> None:
        dial.deadline = None
        self._waiting[dial.reason].append(dial.contact.node)
        self._pump(now)

    def _pump(self, now: float) -> None:
        """Begin what there is room for."""
        if self._tokens_at is not None:
            earned = (now - self._tokens_at) * self._most_per_second
            self._tokens = min(self._most_per_second, self._tokens + max(0.0, earned))
        self._tokens_at = now
        for reason, waiting in enumerate(self._waiting):
            while waiting and self._under_way[reason] < self._most_at_once:
                dial = self._dials.get(waiting[0])
                if dial is None or dial.under_way != _IDLE or dial.deadline is not None:
                    waiting.popleft()  # forgotten meanwhile, or in the queue twice
                    continue
                if reason != BROKEN:
                    if self._tokens < 1.0:
                        self._wait_for_token(now)
                        return
                    self._tokens -= 1.0
                waiting.popleft()
                self._begin(dial, reason, now)

    def _begin(self, dial: Dial, reason: int, now: float) -> None:
        dial.under_way = reason
        self._under_way[reason] += 1
        dial.deadline = self._deadlines.add(now + self._lost_after, self._lose, dial)
        self._connect(dial.contact)

    def _wait_for_token(self, now: float) -> None:
        if self._pump_deadline is None or not self._pump_deadline.pending:
            wait = (1.0 - self._tokens) / self._most_per_second
            self._pump_deadline = self._deadlines.add(now + wait + 0.001, self._pump_again)

    def _pump_again(self, _nothing: None, now: float) -> None:
        self._pump(now)

    def _lose(self, dial: Dial, now: float) -> None:
        self._lost(dial.contact, now)
