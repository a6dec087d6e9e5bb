"""Who is in the farm and how they are, as this node knows it: SWIM (Das, Gupta, Motivala 2002) with the corrections of
Lifeguard (Dadgar, Phillips, Currey 2018).

A member is one with which this node has shaken hands at the address that it gives, dialled by us: who sends but cannot
be reached would poison others. All that hearsay does for a stranger is to have it dialled (a candidate); of a member it
may change state and incarnation, nothing else. A suspect is a member that probes do not reach; it is told so first, and
refutes by a higher incarnation, or is declared dead after a time (`suspicion`). The dead, and those who left, are
remembered for a day and dialled again and again (`dials`), and when a link to one of them opens it is told what is held
of it, so that a healed partition undoes the deaths by itself.

A link that breaks is dialled at once. When the address refuses until a second has passed, and those who were asked
confirm it, the member is dead without more suspicion: no process listens there, and one that was only restarted would
have come back. A link that broke alone is open again by then, and nothing was said.

This file decides what counts; `probing` asks after members, `gossip` says which saying outranks which, `grapevine`
passes it on, `roster` keeps what is held. Owner sets, tables and the links themselves are others' business.

Decided: a node that left is outranked by its own higher incarnation like a dead one; it takes no further word to come
back. What hearsay says of the dead is not believed where a link is wanted, it is dialled; where none is, in a
large farm, hearsay is all there is.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from farm.deadlines import Deadline, Deadlines
from farm.metrics import Metrics
from farm.overlay.awareness import Awareness
from farm.overlay.breaks import Breaks
from farm.overlay.circle import Circle
from farm.overlay.dials import BROKEN, CANDIDATE, GONE, MOST_CANDIDATE_FAILURES, Dials
from farm.overlay.gossip import MOST_HEARSAY, has_address, is_sound, outranks
from farm.overlay.grapevine import FANOUT, Grapevine
from farm.overlay.probing import Asking, Prober
from farm.overlay.roster import Listener, Roster, is_gone, is_live
from farm.overlay.suspicion import Suspects
from farm.overlay.wire import (
    ALIVE,
    DEAD,
    LEFT,
    STATE_NAMES,
    SUSPECT,
    Answer,
    Contact,
    Gossip,
    Leave,
    Notice,
    Ping,
    PingRequest,
    Pong,
)

_BREAK_JITTER: Final = 0.02


class Peers(Asking, Protocol):
    """Port to the other nodes: the calls, the links, and the table."""

    def tell(self, node: bytes, message: Notice, now: float) -> None:
        """Send a notice."""

    def connect(self, contact: Contact) -> None:
        """Dial it, unless it is being dialled or a link that we dialled is open; `link_opened` or `link_failed`
        follows."""

    def wants(self, contact: Contact) -> bool:
        """Whether a link to it is to be kept: always in a small farm, else if the table has room for it."""


class MembershipSettings(msgspec.Struct, frozen=True):
    """Numbers of the protocol; the same on all nodes."""

    period_seconds: float = 1.0  # from probe to probe (SWIM's T')
    refused_seconds: float = 1.0  # for how long an address must refuse before its member is dead
    late_seconds: float = 1.0  # a timer later than this means that this process was stopped
    sweep_seconds: float = 10.0
    remember_seconds: float = 86_400.0  # the dead, and those who left
    most_members: int = 20_000
    most_candidates: int = 4_096


class Membership:
    """This node's view of the farm. Its own contact is `own`; `members` are all others that it has shaken hands with,
    dead and left ones included."""

    def __init__(
        self,
        own: Contact,
        peers: Peers,
        listener: Listener,
        deadlines: Deadlines,
        rng: random.Random,
        metrics: Metrics,
        settings: MembershipSettings | None = None,
    ) -> None:
        self._settings = settings or MembershipSettings()
        self._peers = peers
        self._deadlines = deadlines
        self._rng = rng
        self._bad_contacts = metrics.peer_rejections.child("bad-message")
        self._full = metrics.peer_rejections.child("queue-full")
        self._roster = Roster(own, listener, metrics)
        self._circle = Circle(self._roster.members, rng)
        self._grapevine = Grapevine(self._roster, self._circle, peers.tell, deadlines, rng)
        self._awareness = Awareness(self._settings.late_seconds)
        self._prober = Prober(own.node, peers, self, self._grapevine.take, self._awareness, rng)
        self._dials = Dials(peers.connect, self._lose_dial, deadlines, rng)
        self._candidates: dict[bytes, Contact] = {}
        self._suspects = Suspects(deadlines, self._settings.period_seconds, self.check_time, self._end_suspicion)
        self._breaks = Breaks(self._settings.refused_seconds)
        self._tick_deadline: Deadline | None = None
        self._sweep_deadline: Deadline | None = None

    # What is known

    @property
    def own(self) -> Contact:
        """This node as others shall know it."""
        return self._roster.own

    @property
    def members(self) -> Mapping[bytes, Contact]:
        """All others by Node-ID, in every state. It changes; do not change it."""
        return self._roster.members

    @property
    def health(self) -> int:
        """Lifeguard's local health: 0 is well, 7 the worst."""
        return self._awareness.score

    def get(self, node: bytes) -> Contact | None:
        """What is held of a member, None of strangers and of this node."""
        return self._roster.members.get(node)

    def live(self) -> list[Contact]:
        """The others that are alive or suspect."""
        return [contact for contact in self._roster.members.values() if is_live(contact)]

    def counts(self) -> dict[str, int]:
        """How many are in which state, this node included."""
        return {name: self._roster.count(state) for state, name in enumerate(STATE_NAMES)}

    # This node

    def start(self, now: float) -> None:
        """Begin to probe."""
        self._schedule_tick(now, self._rng.random() * self._settings.period_seconds)
        self._sweep_deadline = self._deadlines.add(now + self._settings.sweep_seconds, self._sweep)

    def stop(self) -> None:
        """Let all timers go."""
        self._deadlines.cancel(self._tick_deadline)
        self._deadlines.cancel(self._sweep_deadline)
        self._suspects.stop()
        self._grapevine.stop()
        self._prober.void()
        self._dials.stop()

    def set_state(self, state: int, now: float) -> None:
        """This node is joining, alive, or leaves, and all hear it. One that leaves tells every peer itself."""
        own = self.own
        if state == own.state:
            return
        incarnation = own.incarnation if state > own.state else own.incarnation + 1
        self._put(msgspec.structs.replace(own, state=state, incarnation=incarnation), "self", now)
        if state == LEFT:
            for node in self._circle:
                self._peers.tell(node, Leave(self.own), now)

    def set_own(self, contact: Contact, now: float, *, anew: bool = True) -> None:
        """This node's address, roles, listeners or name have changed; its peers hear it from itself. State and
        incarnation of `contact` do not matter. Load and draining are not `anew`: nobody passes them on."""
        own = self.own
        self._put(
            msgspec.structs.replace(contact, node=own.node, state=own.state, incarnation=own.incarnation + anew),
            "self",
            now,
        )
        for node in self._circle:
            self._peers.tell(node, Gossip([self.own]), now)

    # Links

    def link_opened(self, contact: Contact, now: float, dialled_back: bool = True) -> str:
        """A link opened to a peer; `contact` is its own word. `dialled_back`: that we have dialled it ourselves.
        If not, and it is not known at this address, it is a candidate: `connect` is asked for, and it counts when this
        is called again with True. Answers "", or why the link is to be closed."""
        node = contact.node
        if node == self.own.node:
            return "same-node-id"
        if not is_sound(contact) or not has_address(contact):
            return "bad-message"
        held = self._roster.members.get(node)
        if not dialled_back and (held is None or (held.host, held.port) != (contact.host, contact.port)):
            self._circle.open(node)
            if node not in self._circle.unverified:
                self._dials.forget(node, now)  # however long it has failed, it is there now
            self._circle.unverified[node] = contact
            self._dials.add(contact, CANDIDATE, now)
            return ""
        if held is None and not self._make_room(now):
            self._full.inc()
            return "queue-full"
        again = held is not None and node in self._circle and held.incarnation == contact.incarnation
        self._circle.open(node)
        self._dials.forget(node, now)
        self._breaks.end(node)
        self._circle.unverified.pop(node, None)
        heard = self._candidates.pop(node, None)
        if heard is not None and outranks(heard, contact):  # of an earlier life, or false: it is to refute
            self._peers.tell(node, Gossip([heard]), now)
        self._absorb(contact, "link", now)
        if not again:  # not only a second link of the pair
            self._grapevine.exchange(node, now)
        return ""

    def link_closed(self, node: bytes, reason: str, now: float) -> None:
        """A link closed. If the table wants it, it is dialled at once."""
        self.check_time(now)
        self._circle.close(node)
        held = self._roster.members.get(node)
        if held is None or self.own.state == LEFT:
            return
        if is_gone(held):
            self._dials.add(held, GONE, now, after=self._settings.period_seconds)
        elif self._peers.wants(held):
            self._breaks.begin(node, now)
            self._dials.add(held, BROKEN, now, after=self._rng.random() * _BREAK_JITTER)

    def link_failed(self, host: str, port: int, reason: str, now: float) -> None:
        """A dial came to nothing. Reason "refused" says that no process listens there (see `breaks`)."""
        self.check_time(now)
        for contact in self._dials.fail(host, port, now):
            held = self._roster.members.get(contact.node)
            if held is None:
                self._fail_candidate(contact, now)
            elif not is_gone(held) and self._breaks.fail(held.node, reason, now):
                self._prober.probe_by_others(held.node, now)

    # What others say

    def learn(self, contacts: Iterable[Contact], now: float) -> None:
        """Hearsay from elsewhere: answers to FindNode, a list of last known members."""
        self.receive_gossip(list(contacts), b"", now)

    def receive_gossip(self, updates: Sequence[Contact], source: bytes, now: float) -> None:
        """Updates of a Gossip or a Leave. Those in pings and answers are taken from there."""
        for update in updates:
            if not is_sound(update) or (update.node != source and update.incarnation >= MOST_HEARSAY):
                self._bad_contacts.inc()
            elif update.node == self.own.node:
                self._refute(update, source, now)
            elif update.node != source:
                self._hear(update, now)
            elif source in self._circle.unverified:
                self._circle.unverified[source] = update
            elif source in self._roster.members and source in self._circle and update.state not in (SUSPECT, DEAD):
                self._absorb(update, "gossip", now)

    def receive_ping(self, node: bytes, message: Ping, now: float) -> Pong:
        """Another node's probe of this one."""
        self.receive_gossip(message.updates, node, now)
        return Pong(message.call, self._grapevine.take(node))

    def receive_ping_request(self, node: bytes, message: PingRequest, now: float) -> Answer | None:
        """Another node asks for help with a probe. None: the answer goes through `Peers.answer` later."""
        return self._prober.receive_request(node, message, now)

    # Port of the prober

    def helpers(self, target: bytes, most: int) -> Sequence[bytes]:
        """Linked members that are alive, drawn at random."""
        return self._circle.draw(most, lambda contact: contact.node != target and contact.state <= ALIVE)

    def found_alive(self, node: bytes, directly: bool, now: float) -> None:
        """It answered. If it answered others only, it is there, and the link is tried again in time."""
        if directly or node not in self._breaks:
            return
        held = self._roster.members.get(node)
        if held is not None and self._peers.wants(held):
            self._breaks.begin(node, now)
        else:
            self._breaks.end(node)
            self._dials.forget(node, now)

    def found_silent(self, node: bytes, cause: str, confirmers: set[bytes], helped: bool, now: float) -> None:
        """Nobody reached it: it is suspect; or dead, when its address has refused for long enough."""
        held = self._roster.members.get(node)
        if held is None or is_gone(held):
            return
        if held.state != SUSPECT:
            self._put(msgspec.structs.replace(held, state=SUSPECT), cause, now)
        self._suspects.confirm(node, confirmers)
        if self._breaks.shows_death(node, now) and (confirmers or not helped):
            self._declare_dead(node, "link", now)
        else:
            self._grapevine.tell_held(node, now)

    def check_time(self, now: float) -> None:
        """If this process was stopped, nobody's silence meanwhile counts: probes are void, suspects get the time back,
        and some peers are asked what is said of us."""
        late = self._awareness.lateness(now)
        if not late:
            return
        self._prober.void()
        self._awareness.worsen()
        self._suspects.delay(late)
        self._breaks.delay(late)
        for node in self._circle.draw(FANOUT, lambda _contact: True):
            self._prober.probe(node, now)

    # What counts

    def _absorb(self, said: Contact, cause: str, now: float) -> None:
        """A node's own word. Only its state and incarnation can be outranked by what is held; then it is told."""
        held = self._roster.members.get(said.node)
        if said.state in (SUSPECT, DEAD):  # nobody says that of itself
            said = msgspec.structs.replace(said, state=ALIVE)
        if held is not None and outranks(held, said):
            said = msgspec.structs.replace(said, incarnation=held.incarnation, state=held.state)
            self._grapevine.tell_held(said.node, now)
        self._put(said, cause, now)

    def _hear(self, update: Contact, now: float) -> None:
        """Hearsay."""
        held = self._roster.members.get(update.node)
        if held is None:
            self._hear_of_stranger(update, now)
            return
        if not outranks(update, held):
            return
        elsewhere = is_gone(held) or (held.host, held.port) != (update.host, update.port)
        if elsewhere and not is_gone(update) and update.node not in self._circle and self._peers.wants(update):
            self._dial_returned(update, now)
            if is_gone(held):
                return  # it shall say so itself
        after = msgspec.structs.replace(held, incarnation=update.incarnation, state=update.state)
        self._put(after, "gossip", now)
        if after.state == DEAD:
            self._grapevine.tell_held(after.node, now)

    def _dial_returned(self, update: Contact, now: float) -> None:
        """A member is said to be back, or elsewhere: dial it at once, however long it has failed."""
        known = self._candidates.get(update.node)
        if known is None or outranks(update, known):
            self._candidates[update.node] = update
            self._dials.forget(update.node, now)
            self._dials.add(update, CANDIDATE, now)

    def _hear_of_stranger(self, update: Contact, now: float) -> None:
        """One that says it exists is to be dialled; one that says it is gone ends that."""
        node = update.node
        known = self._candidates.get(node)
        if known is not None and not outranks(update, known):
            return
        if is_gone(update):
            if known is not None:
                del self._candidates[node]
                if node not in self._circle.unverified:
                    self._dials.forget(node, now)
            return
        if known is None and len(self._candidates) >= self._settings.most_candidates:
            self._full.inc()
            return
        self._candidates[node] = update
        if node not in self._circle.unverified and self._peers.wants(update):
            self._dials.add(update, CANDIDATE, now)

    def _refute(self, update: Contact, source: bytes, now: float) -> None:
        """What is said of this node itself is outranked at once, unless it has left."""
        own = self.own
        if own.state == LEFT or not outranks(update, own):
            return
        if update.incarnation == own.incarnation:
            self._awareness.worsen()
        self._put(msgspec.structs.replace(own, incarnation=update.incarnation + 1), "self", now)
        if source in self._circle:
            self._peers.tell(source, Gossip([self.own]), now)
        self._grapevine.spread(self.own, now, after=0.0)

    def _put(self, after: Contact, cause: str, now: float) -> None:
        """Write it down, with all that follows from the new state, and pass it on."""
        node = after.node
        before = self.own if node == self.own.node else self._roster.members.get(node)
        news = before is None or (before.incarnation, before.state) != (after.incarnation, after.state)
        if node != self.own.node and news:
            if after.state == SUSPECT:
                self._suspects.begin(node, self._roster.present(), now)
            else:
                self._suspects.end(node)
            if is_gone(after):
                self._breaks.end(node)
                if node not in self._circle:
                    self._dials.add(after, GONE, now, after=self._settings.period_seconds)
        self._roster.put(after, cause, now)
        if before is None:
            self._circle.changed()
        if news:
            self._grapevine.spread(after, now)

    def _declare_dead(self, node: bytes, cause: str, now: float) -> None:
        held = self._roster.members[node]
        self._put(msgspec.structs.replace(held, state=DEAD), cause, now)
        self._grapevine.tell_held(node, now)

    # Dials that fail

    def _fail_candidate(self, contact: Contact, now: float) -> None:
        dial = self._dials.get(contact.node)
        if contact.node in self._circle.unverified or dial is None:
            return
        if dial.failures >= MOST_CANDIDATE_FAILURES or not self._peers.wants(contact):
            self._dials.forget(contact.node, now)
            self._candidates.pop(contact.node, None)

    def _lose_dial(self, contact: Contact, now: float) -> None:
        self.link_failed(contact.host, contact.port, "timeout", now)

    # Timers

    def _schedule_tick(self, now: float, after: float) -> None:
        self._tick_deadline = self._deadlines.add(now + after, self._tick)
        self._awareness.expect(now + after)

    def _tick(self, _nothing: None, now: float) -> None:
        """Once a period: probe the next member."""
        self.check_time(now)
        if self.own.state != LEFT:
            target = self._prober.next_target(self._circle.linked(), self._may_probe)
            if target is not None:
                self._prober.probe(target, now)
        self._schedule_tick(now, self._settings.period_seconds * self._awareness.factor)

    def _may_probe(self, node: bytes) -> bool:
        held = self._roster.members.get(node)
        return held is not None and node in self._circle and not is_gone(held)

    def _end_suspicion(self, node: bytes, now: float) -> None:
        self._declare_dead(node, "timeout", now)

    def _sweep(self, _nothing: None, now: float) -> None:
        """Now and then: forget who is gone for a day; tell those that are gone and yet linked, since a path that heals
        breaks no link; and dial whom a link is missing to, of those whose link is not wanted one, since nothing else
        probes them."""
        while (node := self._roster.longest_gone()) is not None:
            if now - self._roster.gone_at[node] < self._settings.remember_seconds:
                break
            self._forget(node, now)
        for node in self._roster.gone_at:
            self._grapevine.tell_held(node, now)
        unwanted: list[Contact] = []
        for contact in [*self._roster.members.values(), *self._candidates.values()]:
            if contact.node in self._circle or contact.node in self._dials or is_gone(contact):
                continue
            if self._peers.wants(contact):
                self._dials.add(contact, CANDIDATE, now)
            elif contact.node in self._roster.members:
                unwanted.append(contact)
        if unwanted:
            self._dials.add(self._rng.choice(unwanted), CANDIDATE, now)
        self._sweep_deadline = self._deadlines.add(now + self._settings.sweep_seconds, self._sweep)

    def _forget(self, node: bytes, now: float) -> None:
        self._dials.forget(node, now)
        self._candidates.pop(node, None)
        self._grapevine.forget(node)
        self._roster.forget(node, now)
        self._circle.changed()

    def _make_room(self, now: float) -> bool:
        """Whether one more member can be held; who has been gone longest makes way."""
        if len(self._roster.members) >= self._settings.most_members:
            oldest = self._roster.longest_gone()
            if oldest is None:
                return False
            self._forget(oldest, now)
        return True
