"""When news are passed on, to whom, and what else is said in passing.

There are three ways: with every ping and answer (`take`), in rounds of notices while there is news, to a few linked
members drawn at random, and to a peer whose link has just opened, all that is known (`exchange`).

The rounds make it fast: five of them, a second, reach a thousand nodes, where pings alone would need six periods. A
ping without news carries one member, each in turn, so that what somebody missed is mended in the end.

Decided: with more than 128 members a new link brings a sample of 32 instead of the whole list. A thousand nodes with
five hundred links each would send a joiner the same list five hundred times; of samples it gets sixteen copies of each.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from farm.deadlines import Deadline, Deadlines
from farm.overlay.circle import Circle
from farm.overlay.gossip import Rumours, chunk, make_hearsay, most_sent, size_of
from farm.overlay.roster import Roster, is_gone
from farm.overlay.wire import DEAD, LEFT, SUSPECT, Contact, Gossip

FIRST_SECONDS: Final = 0.05  # so that news of one moment go together
ROUND_SECONDS: Final = 0.2
FANOUT: Final = 3
MOST_BYTES: Final = 1200  # of updates in a ping or a notice of a round
WHOLE: Final = 128
SAMPLE: Final = 32
_CHUNK_BYTES: Final = 16_384


class Grapevine:
    """The news of one node. `tell(node, notice, now)` sends."""

    def __init__(
        self,
        roster: Roster,
        circle: Circle,
        tell: Callable[[bytes, Gossip, float], None],
        deadlines: Deadlines,
        rng: random.Random,
    ) -> None:
        self._roster = roster
        self._circle = circle
        self._tell = tell
        self._deadlines = deadlines
        self._rng = rng
        self._rumours = Rumours()
        self._turns: list[bytes] = []
        self._deadline: Deadline | None = None

    def spread(self, contact: Contact, now: float, after: float = FIRST_SECONDS) -> None:
        """Pass this on."""
        self._rumours.add(contact if contact.node == self._roster.own.node else make_hearsay(contact))
        self._schedule(now + after)

    def forget(self, node: bytes) -> None:
        """Nothing more of this one."""
        self._rumours.forget(node)

    def take(self, node: bytes, most_bytes: int = MOST_BYTES) -> list[Contact]:
        """What a message to `node` is to carry, counted as sent. If the node itself is held suspect or gone, it hears
        that first (Lifeguard's buddy system, section IV.C)."""
        found: list[Contact] = []
        held = self._roster.members.get(node)
        if held is not None and held.state in (SUSPECT, DEAD, LEFT):
            found.append(make_hearsay(held))
            most_bytes -= size_of(found[0])
        found += self._rumours.take(most_bytes, most_sent(self._roster.present()))
        if not found:
            turn = self._next_turn()
            if turn is not None and turn.node != node and size_of(turn) <= most_bytes:
                found.append(turn)
        return found

    def tell_held(self, node: bytes, now: float) -> None:
        """Tell a linked member what is held of itself, so that it may refute it."""
        held = self._roster.members.get(node)
        if held is not None and node in self._circle:
            self._tell(node, Gossip([make_hearsay(held)]), now)

    def exchange(self, node: bytes, now: float) -> None:
        """What is known, to a peer whose link has just opened."""
        others = [contact for contact in self._roster.members.values() if contact.node != node]
        if len(others) > WHOLE:
            others = self._rng.sample(others, SAMPLE)
        for part in chunk([make_hearsay(contact) for contact in others], _CHUNK_BYTES):
            self._tell(node, Gossip(part), now)

    def stop(self) -> None:
        """No more rounds."""
        self._deadlines.cancel(self._deadline)

    def _next_turn(self) -> Contact | None:
        members = self._roster.members
        if not self._turns:
            self._turns = list(members)
            self._rng.shuffle(self._turns)
        contact = members.get(self._turns.pop()) if self._turns else None
        return None if contact is None else make_hearsay(contact)

    def _schedule(self, at: float) -> None:
        pending = self._deadline
        if pending is not None and pending.pending:
            if pending.at <= at:
                return
            self._deadlines.cancel(pending)
        self._deadline = self._deadlines.add(at, self._run_round)

    def _run_round(self, _nothing: None, now: float) -> None:
        targets = self._circle.draw(FANOUT, lambda contact: not is_gone(contact))
        for node in targets:
            if len(self._rumours):
                self._tell(node, Gossip(self.take(node)), now)
        if len(self._rumours) and targets:
            self._schedule(now + ROUND_SECONDS)
