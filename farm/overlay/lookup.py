"""An iterative lookup (Kademlia §2.3): asks nearer and nearer nodes until the nearest to an ID have answered.

Pure: `next` says what to do, Ask, Wait or Finished, and is called again after each answer, each failure and when a
wait is over. Up to alpha questions are under way. One that is slow (`hedge_after`, the caller's p95) lets one more be
asked beside it, and one out of `patience` is not waited for; its answer still counts if it comes before the end.

It ends when the `want` nearest nodes that answered are known: nobody nearer is left to ask or to wait for. A node of
which we only heard counts when it has answered itself, however near it claims to be (js-libp2p #3536: closest sets
full of peers that were never reached).

What others say is bounded: so many contacts an answer, so many candidates, so many questions, and the whole deadline;
what is no contact is passed over and counted. An answer that names only nodes far away does no harm: candidates are
in order of distance. And one that names nodes which do not answer, be it a lie or an old table, is believed for the
first few only: the rest of it is asked when nothing else is left.

Decided: the nearest candidate is asked first whoever named it. Disjoint paths (S/Kademlia) would cost twice the
questions, against an attacker that holds a certificate of ours.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from farm.overlay.gossip import has_address, is_sound
from farm.overlay.wire import DEAD, Contact

ALPHA: Final = 3
GRACE_SECONDS: Final = 0.25  # TCP's shortest is 0.2
DOUBT_AFTER: Final = 4  # nodes named by one answer and not reached, each made good by one that is
_HEARD: Final = 0
_ASKED: Final = 1
_LATE: Final = 2
_ANSWERED: Final = 3
_FAILED: Final = 4


class Ask(NamedTuple):
    """Send this contact a FindNode (or what else it answers with nearer nodes)."""

    contact: Contact
    hedge: bool  # beyond alpha, because another is slow


class Wait(NamedTuple):
    """Nothing to do before `until` unless an answer comes."""

    until: float


class Finished(NamedTuple):
    """The nearest that answered, nearest first. `hops` is the longest chain of questions that led to one of them, 1
    when all were known before; `rpcs` how many were asked; `in_time` is False when the deadline or the bound on
    questions cut it short."""

    contacts: tuple[Contact, ...]
    hops: int
    rpcs: int
    in_time: bool


class _Candidate:
    __slots__ = ("contact", "distance", "hedge_at", "hops", "source", "state", "unreached", "until")

    def __init__(self, contact: Contact, distance: int, hops: int, source: _Candidate | None) -> None:
        self.contact = contact
        self.distance = distance
        self.hops = hops
        self.source = source  # who named it; None: our own table
        self.state = _HEARD
        self.unreached = 0  # of those that it named, how many more did not answer than did
        self.hedge_at = 0.0
        self.until = 0.0


def _distance_of(candidate: _Candidate) -> int:
    return candidate.distance


def is_askable(contact: Contact) -> bool:
    """Whether what is said of a node could be true and says where to dial, and that it is not gone."""
    host = contact.host
    return (
        is_sound(contact)
        and has_address(contact)
        and contact.state < DEAD
        and host.isascii()
        and host.isprintable()
        and " " not in host
    )


class Lookup:
    """One lookup. `own` is the node that looks, which is never asked nor among the found."""

    def __init__(
        self,
        target: bytes,
        want: int,
        known: Iterable[Contact],
        *,
        own: bytes,
        deadline_at: float,
        patience: Callable[[bytes], float],
        hedge_after: Callable[[bytes], float] | None = None,
        alpha: int = ALPHA,
        most_candidates: int = 256,
        most_asks: int = 96,
        most_of_answer: int = 32,
    ) -> None:
        """`known` are contacts from our table, which count as reachable; `patience` is how many seconds an answer of
        a node is worth waiting for, `hedge_after` after how many it is slow (None: no hedges)."""
        self.target = target
        self.want = max(1, want)
        self.deadline_at = deadline_at
        self.rpcs = 0
        self.hedges = 0
        self.refused = 0  # contacts in answers that were none or too many
        self._own = own
        self._to = int.from_bytes(target, "big")
        self._patience = patience
        self._hedge_after = hedge_after
        self._alpha = alpha
        self._most_candidates = most_candidates
        self._most_asks = most_asks
        self._most_of_answer = most_of_answer
        self._candidates: list[_Candidate] = []  # by distance
        self._by_node: dict[bytes, _Candidate] = {}
        self._flying: list[_Candidate] = []  # asked, and still worth waiting for
        self._finished: Finished | None = None
        for contact in known:
            self._offer(contact, 1, None)

    def next(self, now: float) -> Ask | Wait | Finished:
        """What to do now. After Ask, call again."""
        if self._finished is not None:
            return self._finished
        if now >= self.deadline_at:
            return self._finish(in_time=False)
        self._give_up(now)
        answered = 0
        waiting = False
        cut_short = False
        doubtful: _Candidate | None = None
        late_until = now
        for candidate in self._candidates:
            state = candidate.state
            if state == _ANSWERED:
                answered += 1
                if answered == self.want:
                    break
            elif state == _ASKED:
                waiting = True
            elif state == _LATE:
                late_until = max(late_until, candidate.until + GRACE_SECONDS)
            elif state == _HEARD:
                if self.rpcs >= self._most_asks:
                    cut_short = True
                    continue
                source = candidate.source
                if source is not None and source.unreached >= DOUBT_AFTER:
                    doubtful = doubtful or candidate
                    continue
                hedge = len(self._flying) >= self._alpha
                if hedge and not self._may_hedge(now):
                    waiting = True
                    break
                return self._ask(candidate, hedge, now)
        if not waiting:
            if doubtful is not None and answered < self.want:
                return self._ask(doubtful, False, now)
            if late_until > now:
                return Wait(min(late_until, self.deadline_at))
            return self._finish(in_time=not cut_short)
        return Wait(self._next_event(now))

    def receive_nodes(self, node: bytes, contacts: Sequence[Contact], now: float) -> None:
        """A node has answered with the nearest that it knows. What was not asked is not heard."""
        candidate = self._by_node.get(node)
        if candidate is None or candidate.state not in (_ASKED, _LATE) or self._finished is not None:
            return
        self._land(candidate, _ANSWERED)
        self.refused += max(0, len(contacts) - self._most_of_answer)
        for contact in contacts[: self._most_of_answer]:
            if is_askable(contact):
                self._offer(contact, candidate.hops + 1, candidate)
            else:
                self.refused += 1

    def receive_failure(self, node: bytes, now: float) -> None:
        """A node could not be asked, or did not answer."""
        candidate = self._by_node.get(node)
        if candidate is not None and candidate.state in (_ASKED, _LATE):
            self._land(candidate, _FAILED)

    @property
    def in_flight(self) -> int:
        """Questions that are waited for, hedges included."""
        return len(self._flying)

    def _offer(self, contact: Contact, hops: int, source: _Candidate | None) -> None:
        """Take a contact as a candidate, unless it is one: who is known from the table keeps the address that worked,
        whatever others say."""
        node = contact.node
        if node == self._own:
            return
        known = self._by_node.get(node)
        if known is not None:
            if known.source is not None and known.source.unreached >= DOUBT_AFTER:
                known.source = source  # it is not one alone who says so
            return
        candidates = self._candidates
        candidate = _Candidate(contact, int.from_bytes(node, "big") ^ self._to, hops, source)
        if len(candidates) >= self._most_candidates:
            furthest = next((each for each in reversed(candidates) if each.state == _HEARD), None)
            if furthest is None or candidate.distance > furthest.distance:
                return
            candidates.remove(furthest)
            del self._by_node[furthest.contact.node]
        insort(candidates, candidate, key=_distance_of)
        self._by_node[node] = candidate

    def _ask(self, candidate: _Candidate, hedge: bool, now: float) -> Ask:
        node = candidate.contact.node
        candidate.state = _ASKED
        candidate.until = now + self._patience(node)
        candidate.hedge_at = candidate.until if self._hedge_after is None else now + self._hedge_after(node)
        self._flying.append(candidate)
        self.rpcs += 1
        if hedge:
            self.hedges += 1
        return Ask(candidate.contact, hedge)

    def _land(self, candidate: _Candidate, state: int) -> None:
        source = candidate.source
        if candidate.state == _ASKED:
            self._flying.remove(candidate)
            if source is not None:
                source.unreached += -1 if state == _ANSWERED else 1
        elif state == _ANSWERED and source is not None:
            source.unreached -= 2  # it was held against its source when it was late
        candidate.state = state

    def _give_up(self, now: float) -> None:
        for candidate in [each for each in self._flying if each.until <= now]:
            self._land(candidate, _LATE)

    def _may_hedge(self, now: float) -> bool:
        """One question more for each that is slow, at most alpha more."""
        slow = sum(candidate.hedge_at <= now for candidate in self._flying)
        return len(self._flying) < self._alpha + min(slow, self._alpha)

    def _next_event(self, now: float) -> float:
        until = self.deadline_at
        for candidate in self._flying:
            until = min(until, candidate.until)
            if candidate.hedge_at > now:
                until = min(until, candidate.hedge_at)
        return until

    def _finish(self, in_time: bool) -> Finished:
        found = [candidate for candidate in self._candidates if candidate.state == _ANSWERED][: self.want]
        self._finished = Finished(
            tuple(candidate.contact for candidate in found),
            max((candidate.hops for candidate in found), default=0),
            self.rpcs,
            in_time,
        )
        return self._finished
