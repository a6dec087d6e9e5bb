"""The routing table in use: who is entered and dropped, lookups carried out, and the refresh that keeps it filled.

In a farm that the table knows whole there is nothing to look up, and no more than a refresh now and then. In a larger
one the owners of a partition are found by asking (`lookup` decides whom), and a node that is not linked yet is dialled
for it. How often a bucket is refreshed follows from how nodes come and go (`churn`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from farm.deadlines import Deadline, Deadlines
from farm.labels import LOOKUPS
from farm.metrics import Metrics
from farm.overlay.churn import Churn
from farm.overlay.gossip import make_hearsay
from farm.overlay.ids import ID_BYTES, sort_nearest
from farm.overlay.lookup import Ask, Finished, Lookup, Wait
from farm.overlay.quorum import Calls
from farm.overlay.table import BUCKET_CONTACTS, Full, Table
from farm.overlay.wire import Answer, Contact, FindNode, Nodes

ASKED_CONTACTS: Final = 20  # that a lookup starts from
NODES_ANSWERED: Final = 32
NAMED_CONTACTS: Final = 6  # that are asked for in one question: more cost more bytes and save no round
FIND_SECONDS: Final = 2.0
UPKEEP_SECONDS: Final = 10.0
LINK_SECONDS: Final = 1.0
_RATE_SECONDS: Final = 3600.0


class Links(Protocol):
    """The links to other nodes."""

    def connect(self, contact: Contact) -> None:
        """Dial it."""

    def is_open(self, node: bytes) -> bool:
        """Whether there is a link."""


class Step(NamedTuple):
    """One question of a lookup: in which round, to whom, how long the answer took, what it was ("nodes", or "silent"),
    and which nodes it named."""

    hop: int
    contact: Contact
    seconds: float
    answer: str
    named: tuple[Contact, ...]


class Result(NamedTuple):
    """The nearest nodes that answered, and every step on the way."""

    finished: Finished
    steps: list[Step]


Done = Callable[[Result, float], None]


class Routing:
    """The table of the node `own`, and the lookups under way. `learn` is told of contacts that others named."""

    def __init__(
        self,
        own: bytes,
        replicas: int,
        calls: Calls,
        links: Links,
        learn: Callable[[Sequence[Contact], float], None],
        deadlines: Deadlines,
        rng: random.Random,
        metrics: Metrics,
        wall: Callable[[], float],
        now: float,
        *,
        bucket_contacts: int = BUCKET_CONTACTS,
    ) -> None:
        self.table = Table(own, replicas, bucket_contacts=bucket_contacts)
        self._wall = wall
        self._replicas = replicas
        self._own = own
        self._calls = calls
        self._links = links
        self._learn = learn
        self._deadlines = deadlines
        self._rng = rng
        self._churn = Churn(now)
        self._searches: set[_Search] = set()
        self._joined: list[float] = []
        self._gone: list[float] = []
        self._refreshing: Deadline | None = None
        self._seconds = {
            (kind, found): metrics.lookup_seconds.child(kind, "found" if found else "failed")
            for kind in LOOKUPS
            for found in (True, False)
        }
        self._hops = metrics.lookup_hops.child()
        self._rpcs = metrics.lookup_rpcs.child()
        self._hedges = metrics.hedges.child("lookup")
        self._bad_contacts = metrics.peer_rejections.child("bad-contact")
        self._now = now
        metrics.size_estimate.child().set_function(lambda: float(self.table.size_estimate()))
        for kind, times in (("join", self._joined), ("leave", self._gone)):
            metrics.churn_rate.child(kind).set_function(partial(self._rate, times))

    def start(self, now: float) -> None:
        """Refresh from now on."""
        self._arm(now)

    def stop(self) -> None:
        """No more timers."""
        self._deadlines.cancel(self._refreshing)
        for search in list(self._searches):
            self._deadlines.cancel(search.timer)
        self._searches.clear()

    # Members

    def enter(self, contact: Contact, now: float) -> None:
        """A node has proved that it is there."""
        if contact.node == self._own:
            return
        known = contact.node in self.table
        if isinstance(self.table.add(contact, now), Full):
            return  # membership probes them all: whoever is there may stay
        if not known:
            self._note(self._joined, now)

    def drop(self, node: bytes, now: float) -> None:
        """A node has died or left."""
        if node in self.table:
            self.table.remove(node, now)
            self._churn.receive_departure(now)
            self._note(self._gone, now)

    def wants(self, contact: Contact) -> bool:
        """Whether to keep a link to it."""
        return contact.node in self.table or self.table.wants(contact.node)

    def nearest(self, target: bytes, count: int) -> list[Contact]:
        """The contacts nearest to an ID."""
        return self.table.nearest(target, count)

    def answer(self, message: FindNode, own: Contact) -> Nodes:
        """Those nearest to what another node looks for, `own` among them."""
        count = min(message.count, NODES_ANSWERED)
        if len(message.target) != ID_BYTES or count < 1:
            return Nodes(message.call)
        known = [*self.nearest(message.target, count), own]
        nearest = sort_nearest(known, message.target, lambda contact: contact.node)[:count]
        return Nodes(message.call, [make_hearsay(contact) for contact in nearest])

    def link_opened(self, node: bytes, now: float) -> None:
        """A link is there, for which a lookup may wait."""
        for search in list(self._searches):
            search.link_opened(node, now)

    # Lookups

    def find(
        self,
        target: bytes,
        want: int,
        done: Done,
        now: float,
        *,
        known: Iterable[Contact] | None = None,
        within: float = FIND_SECONDS,
        kind: str = "upkeep",
    ) -> None:
        """Find the `want` nodes nearest to an ID by asking, whatever the table says; `done` is called once. `kind`, one
        of `LOOKUPS`, is how it is counted."""
        start = self.table.nearest(target, ASKED_CONTACTS) if known is None else list(known)
        lookup = Lookup(
            target, want, start, own=self._own, deadline_at=now + within, patience=self._calls.patience,
            hedge_after=self._calls.hedge_after,
        )  # fmt: skip
        search = _Search(self, lookup, start, done, now, kind)
        self._searches.add(search)
        search.go(now)

    def meet(self, contacts: Sequence[Contact], now: float) -> None:
        """Somebody has named these: those that the table has room for are worth a dial."""
        wanted = [contact for contact in contacts if self.table.wants(contact.node)]
        if wanted:
            self._learn(wanted, now)

    def end(self, search: _Search, result: Result, now: float) -> None:
        """A lookup is over."""
        self._searches.discard(search)
        finished = result.finished
        self._seconds[search.kind, bool(finished.contacts) and finished.in_time].observe(now - search.begun_at)
        self._hops.observe(finished.hops)
        self._rpcs.observe(finished.rpcs)
        if search.lookup.hedges:
            self._hedges.inc(search.lookup.hedges)
        if search.lookup.refused:
            self._bad_contacts.inc(search.lookup.refused)
        try:
            self._learn(finished.contacts, now)
        finally:
            search.done(result, now)

    # Refresh

    def _arm(self, now: float) -> None:
        seconds = self._churn.interval(self.table.size_estimate(), self.table.uptimes(self._wall()), now)
        self._refreshing = self._deadlines.add(now + seconds * self._rng.uniform(0.75, 1.25), self._refresh)

    def _refresh(self, _argument: object, now: float) -> None:
        self._now = now
        if len(self.table):
            target = self.table.next_refresh(self._rng)
            want = self.table.sibling_count if target == self._own else self._replicas
            self.find(target, want, _ignore, now, within=UPKEEP_SECONDS)
        self._arm(now)

    def _note(self, times: list[float], now: float) -> None:
        self._now = now
        times.append(now)
        while times and (times[0] < now - _RATE_SECONDS or len(times) > 10_000):
            times.pop(0)

    def _rate(self, times: list[float]) -> float:
        """Events in the last hour, as of the last event or refresh."""
        return float(sum(at > self._now - _RATE_SECONDS for at in times))


class _Search:
    """A lookup that is carried out."""

    def __init__(
        self, routing: Routing, lookup: Lookup, known: Sequence[Contact], done: Done, now: float, kind: str
    ) -> None:
        self.lookup = lookup
        self.kind = kind
        self.done = done
        self.begun_at = now
        self.timer: Deadline | None = None
        self._routing = routing
        self._steps: list[Step] = []
        self._hops = {contact.node: 1 for contact in known}  # whoever names them, too
        self._to_link: dict[bytes, tuple[Contact, float]] = {}
        self._over = False

    def go(self, now: float) -> None:
        """Do what the lookup says until it wants to wait."""
        try:
            self._go(now)
        except Exception:
            if not self._over:  # nobody shall wait for what does not come
                self._end(Finished((), 0, self.lookup.rpcs, False), now)
            raise

    def _go(self, now: float) -> None:
        routing = self._routing
        while not self._over:
            match self.lookup.next(now):
                case Ask(contact, _):
                    self._ask(contact, now)
                case Wait(until):
                    routing._deadlines.cancel(self.timer)
                    self.timer = routing._deadlines.add(max(until, now + 0.001), self._wake)
                    return
                case Finished() as finished:
                    self._end(finished, now)

    def _end(self, finished: Finished, now: float) -> None:
        self._over = True
        self._routing._deadlines.cancel(self.timer)
        self._routing.end(self, Result(finished, self._steps), now)

    def link_opened(self, node: bytes, now: float) -> None:
        """A link is there."""
        waiting = self._to_link.pop(node, None)
        if waiting is not None and not self._over:
            self._call(waiting[0], now)

    def _wake(self, _argument: object, now: float) -> None:
        self.timer = None
        for node, (_, until) in list(self._to_link.items()):
            if until <= now:
                contact, _ = self._to_link.pop(node)
                self._fail(contact, now, now)
        self.go(now)

    def _ask(self, contact: Contact, now: float) -> None:
        if self._routing._links.is_open(contact.node):
            self._call(contact, now)
        else:
            self._to_link[contact.node] = (contact, now + LINK_SECONDS)
            self._routing._links.connect(contact)

    def _call(self, contact: Contact, now: float) -> None:
        def receive(answer: Answer | None, now: float, asked_at: float = now) -> None:
            if self._over:
                return
            hop = self._hops.get(contact.node, 1)
            if isinstance(answer, Nodes):
                named = tuple(answer.contacts)
                self._routing.meet(named, now)
                for other in named:
                    self._hops.setdefault(other.node, hop + 1)
                self._steps.append(Step(hop, contact, now - asked_at, "nodes", named))
                self.lookup.receive_nodes(contact.node, named, now)
                self.go(now)
            else:
                self._fail(contact, asked_at, now)
                self.go(now)

        remaining = max(0.05, self.lookup.deadline_at - now)
        question = FindNode(0, self.lookup.target, NAMED_CONTACTS)
        self._routing._calls.ask(contact.node, question, remaining, receive, now)

    def _fail(self, contact: Contact, asked_at: float, now: float) -> None:
        self._steps.append(Step(self._hops.get(contact.node, 1), contact, now - asked_at, "silent", ()))
        self.lookup.receive_failure(contact.node, now)


def _ignore(_result: Result, _now: float) -> None:
    """A refresh is done for what it meets on its way."""
