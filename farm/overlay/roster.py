"""The members themselves: what is held of each, counted by state, every change told and metered.

`put` writes down; whether something may be written is decided in `membership`. This node itself is counted, but is no
entry of `members`. Who is gone is remembered with the time, so that it can be forgotten a day later.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from farm.metrics import Metrics
from farm.overlay.wire import ALIVE, DEAD, JOINING, LEFT, STATE_NAMES, SUSPECT, Contact


class Listener(Protocol):
    """Port to who acts on changes: owner sets, the table, what is stored of our own incarnation."""

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        """State, incarnation or anything else held of a member has changed; `before` is None for a new one. This node
        itself too: then `after.node` is its own, and the incarnation wants to be stored. `cause`: self, gossip, probe,
        link or timeout."""

    def member_forgotten(self, contact: Contact, now: float) -> None:
        """A member that was dead or left for a day is not known any more."""


def is_live(contact: Contact) -> bool:
    """Whether it takes part: alive, or suspect until that is settled."""
    return contact.state == ALIVE or contact.state == SUSPECT


def is_gone(contact: Contact) -> bool:
    """Whether it is in the graveyard."""
    return contact.state == DEAD or contact.state == LEFT


class Roster:
    """This node and its members."""

    def __init__(self, own: Contact, listener: Listener, metrics: Metrics) -> None:
        self.own = own
        self.members: dict[bytes, Contact] = {}
        self.gone_at: dict[bytes, float] = {}  # in the order in which they went
        self._listener = listener
        self._transitions = metrics.membership_transitions
        self._counts = [0] * len(STATE_NAMES)
        self._counts[own.state] += 1
        for state, name in enumerate(STATE_NAMES):
            metrics.members.child(name).set_function(partial(self.count, state))

    def count(self, state: int) -> int:
        """How many are in this state, this node included."""
        return self._counts[state]

    def present(self) -> int:
        """How many there are that are not gone, this node included: SWIM's N."""
        return self._counts[JOINING] + self._counts[ALIVE] + self._counts[SUSPECT]

    def put(self, after: Contact, cause: str, now: float) -> None:
        """Hold this of a member, or of this node."""
        node = after.node
        before: Contact | None
        if node == self.own.node:
            before = self.own
            self.own = after
        else:
            before = self.members.get(node)
            self.members[node] = after
        if before is None or before.state != after.state:
            if before is not None:
                self._counts[before.state] -= 1
            self._counts[after.state] += 1
            came_from = "none" if before is None else STATE_NAMES[before.state]
            self._transitions.child(came_from, STATE_NAMES[after.state], cause).inc()
            self.gone_at.pop(node, None)
            if is_gone(after) and node != self.own.node:
                self.gone_at[node] = now
        if before != after:
            self._listener.member_changed(before, after, cause, now)

    def forget(self, node: bytes, now: float) -> None:
        """Hold nothing of a member any more."""
        contact = self.members.pop(node, None)
        if contact is None:
            return
        self._counts[contact.state] -= 1
        self.gone_at.pop(node, None)
        self._listener.member_forgotten(contact, now)

    def longest_gone(self) -> bytes | None:
        """The one that has been gone longest, None when nobody is."""
        return next(iter(self.gone_at), None)
