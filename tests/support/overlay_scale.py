"""A farm of a thousand or ten thousand nodes, of which only the routing is simulated: tables, lookups, churn.

The tables and lookups are the real ones; what is between them is drawn: round trips, lost segments, dials, and after
how long a death is known to all (`detection_seconds`: SWIM's first probe, the suspicion and the way round). Within one
lookup the farm stands still. Everybody dies by a crash and is replaced by a newcomer with another, random ID, the worst
of what can happen to routing: IDs that are assigned evenly and nodes that return with theirs make it easier.

A newcomer knows one node. It looks up itself and one ID in each bucket, dials those it hears of that its table wants,
and counts as an owner once that is done; after that it refreshes as `churn` says. Without `gossip` nobody else hears
of it, and what is measured is what routing does alone; with it everybody does, and dials it when the table wants it.

A farm of up to two thousand is grown by joining, one after the other, each as long ago as fits its sessions, and
refreshes from then on when time begins to pass. A larger one is filled as joining would, every
bucket at random up to what it holds, and only where a lookup comes by, since ten thousand tables take 2 GB; it is then
churned, but its first nodes do not refresh.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_left, insort
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from math import log, log10
from statistics import fmean
from typing import Final

from farm.overlay.churn import Churn
from farm.overlay.gossip import make_hearsay
from farm.overlay.ids import PARTITIONS, partition_id
from farm.overlay.lookup import Ask, Finished, Lookup
from farm.overlay.suspicion import shortest_seconds
from farm.overlay.table import Table
from farm.overlay.wire import ALIVE, Codec, Contact, FindNode, Message, Nodes

GROWN_BY_JOINING: Final = 2000  # more than these are filled instead
EPOCH: Final = 1_800_000_000.0  # the wall clock when time begins
QUIET_SECONDS: Final = 86_400.0  # the mean age of nodes of which none goes
RETRANSMISSION_SECONDS: Final = 0.2  # TCP's shortest
TLS_RECORD_BYTES: Final = 22  # header, content type and tag of TLS 1.3
HANDSHAKE_BYTES: Final = 1500  # each side of mutual TLS 1.3 with ECDSA certificates, and its HELLO
ANSWER_CONTACTS: Final = 6
_ID_BITS: Final = 256


@dataclass(slots=True)
class Figures:
    """What was seen. `hops` and `recalled` have one entry a lookup; `bytes_sent` is of the upkeep, by what for."""

    lookups: int = 0
    succeeded: int = 0  # a read quorum of the true owners was found in time
    owners: int = 0
    recalled: int = 0
    hops: Counter[int] = field(default_factory=Counter)
    rpcs: int = 0
    seconds: list[float] = field(default_factory=list)
    deaths: int = 0
    joins: int = 0
    node_seconds: float = 0.0
    bytes_sent: Counter[str] = field(default_factory=Counter)
    table_contacts: float = 0.0
    refresh_interval: float = 0.0

    @property
    def success(self) -> float:
        """Share of lookups that succeeded."""
        return self.succeeded / self.lookups

    @property
    def recall(self) -> float:
        """Share of the true owners that lookups found."""
        return self.recalled / self.owners

    def hops_quantile(self, share: float) -> int:
        """The depth that this share of lookups did not exceed."""
        seen = 0
        for hops in sorted(self.hops):
            seen += self.hops[hops]
            if seen >= share * self.lookups:
                return hops
        return max(self.hops)

    def bytes_per_second(self, what: str) -> float:
        """What a node sends on average for this."""
        return self.bytes_sent[what] / self.node_seconds


@dataclass(slots=True, eq=False)
class ScaleNode:
    """One node: its contact, table and estimate of churn. The table is None until it is needed."""

    contact: Contact
    churn: Churn
    table: Table | None = None
    newcomer: bool = True


class ScaleNetwork:
    """A farm of `size` nodes whose sessions have a median of so many seconds (None: nobody goes)."""

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        median_session: float | None = None,
        loss: float = 0.01,
        replicas: int = 3,
        bucket_contacts: int = 128,
        gossip: bool = False,
    ) -> None:
        self.now = 0.0
        self.figures = Figures()
        self.nodes: dict[bytes, ScaleNode] = {}
        self._rng = random.Random(seed)
        self._loss = loss
        self._gossip = gossip
        self._replicas = replicas
        self._read_quorum = replicas + 1 - (replicas // 2 + 1)
        self._bucket_contacts = bucket_contacts
        self._mean_session = None if median_session is None else median_session / log(2)
        self._codec = Codec()
        self._numbers = count(1)
        self._owners: list[int] = []  # sorted IDs of those that have joined and live
        self._order: list[bytes] = []  # those alive, in any order, to draw from
        self._events: list[tuple[float, int, str, bytes]] = []
        self._frame_bytes: dict[int, int] = {}
        self._intervals: deque[float] = deque(maxlen=4096)
        if size <= GROWN_BY_JOINING:
            for age in sorted((self._draw_session() for _ in range(size)), reverse=True):
                self.now = -age
                self._join()
            self.now = 0.0
            self._remember_departures()
        else:
            for _ in range(size):
                node = self._make_node()
                node.newcomer = False
                insort(self._owners, int.from_bytes(node.contact.node, "big"))
        self.figures = Figures()
        self._schedule_sessions()

    def run(self, seconds: float, lookups: int) -> Figures:
        """Let time pass with `lookups` spread over it; answers the figures of this time only."""
        self.figures = figures = Figures()
        started = self.now
        for number in range(lookups):
            self._pass_time(started + seconds * (number + 0.5) / lookups)
            self._measure()
        self._pass_time(started + seconds)
        figures.node_seconds = seconds * len(self.nodes)
        tables = [len(node.table) for node in self.nodes.values() if node.table is not None]
        figures.table_contacts = fmean(tables)
        figures.refresh_interval = fmean(self._intervals) if self._intervals else 0.0
        return figures

    def table_of(self, node: ScaleNode) -> Table:
        """A node's table, filled now if it was never looked at."""
        if node.table is None:
            node.table = Table(node.contact.node, self._replicas, bucket_contacts=self._bucket_contacts)
            if not node.newcomer:
                self._fill(node.table)
        return node.table

    def true_owners(self, target: bytes) -> list[bytes]:
        """The living nodes nearest to an ID that have joined: who should be found."""
        return nearest_of(self._owners, int.from_bytes(target, "big"), self._replicas)

    # churn

    def _pass_time(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what, node = heapq.heappop(self._events)
            if what == "refresh":
                self._refresh(node)
            elif what == "die":
                self._die(node)
            else:
                self._forget(node)
        self.now = until

    def _at(self, seconds: float, what: str, node: bytes) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), what, node))

    def _schedule_sessions(self) -> None:
        if self._mean_session is not None:
            for node in self._order:
                self._at(self._draw_session(), "die", node)

    def _remember_departures(self) -> None:
        """Give each node the history of failures that it would have seen, had others died while the farm grew."""
        if self._mean_session is None:
            return
        for node in self.nodes.values():
            contacts = len(self.table_of(node))
            joined = node.contact.incarnation / 1000.0 - EPOCH
            ago = [self._rng.expovariate(contacts / self._mean_session) for _ in range(contacts // 4 + 2)]
            for at in sorted(-sum(ago[: number + 1]) for number in range(len(ago))):
                if at > joined:
                    node.churn.receive_departure(at)

    def _draw_session(self) -> float:
        return self._rng.expovariate(1.0 / (self._mean_session or QUIET_SECONDS))

    def _make_node(self) -> ScaleNode:
        number = next(self._numbers)
        contact = Contact(
            self._rng.randbytes(32),
            f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            7000,
            int((self.now + EPOCH) * 1000),
            ALIVE,
        )
        node = ScaleNode(contact, Churn(self.now))
        self.nodes[contact.node] = node
        self._order.append(contact.node)
        return node

    def _join(self) -> ScaleNode:
        seed = self.nodes[self._rng.choice(self._order)] if self._order else None
        node = self._make_node()
        table = self.table_of(node)
        if seed is not None:
            self._link(node, seed, "join")
            # ourselves first, then a lookup in each bucket there is, until it would be our turn again
            self._look_up(node, node.contact.node, table.sibling_count, "join")
            while (target := table.next_refresh(self._rng)) != node.contact.node:
                self._look_up(node, target, self._replicas, "join")
        insort(self._owners, int.from_bytes(node.contact.node, "big"))
        if self._gossip:
            for other in self.nodes.values():
                if self.table_of(other).wants(node.contact.node):
                    self._link(other, node, "gossip")
        self.figures.joins += 1
        self._at(max(0.0, -self.now) + self._rng.uniform(5.0, 15.0), "refresh", node.contact.node)
        return node

    def _die(self, node: bytes) -> None:
        del self.nodes[node]
        self._order.remove(node)
        self._owners.pop(bisect_left(self._owners, int.from_bytes(node, "big")))
        self.figures.deaths += 1
        self._at(self.detection_seconds(), "forget", node)
        self._at(self._draw_session(), "die", self._join().contact.node)

    def detection_seconds(self) -> float:
        """Until all know of a death: the first of all probes, its failing, the suspicion that three confirm, and the
        way round."""
        size = len(self.nodes)
        probing = self._rng.expovariate(1.0) + 1.3
        return probing + shortest_seconds(size, 1.0) + self._rng.uniform(0.5, 1.5) * log10(size)

    def _forget(self, dead: bytes) -> None:
        for node in self.nodes.values():
            if node.table is not None and dead in node.table:
                node.table.remove(dead, self.now)
                node.churn.receive_departure(self.now)

    def _refresh(self, node: bytes) -> None:
        known = self.nodes.get(node)
        if known is None:
            return
        table = self.table_of(known)
        self._look_up(known, table.next_refresh(self._rng), self._replicas, "refresh")
        interval = known.churn.interval(table.size_estimate(), table.uptimes(self.now + EPOCH), self.now)
        self._intervals.append(interval)
        self._at(interval * self._rng.uniform(0.9, 1.1), "refresh", node)

    # lookups

    def _measure(self) -> None:
        figures = self.figures
        node = self.nodes[self._rng.choice(self._order)]
        target = partition_id(self._rng.randrange(PARTITIONS))
        finished, seconds = self._look_up(node, target, self._replicas, "")
        to = int.from_bytes(target, "big")
        found = [contact.node for contact in finished.contacts] + [node.contact.node]
        found.sort(key=lambda each: int.from_bytes(each, "big") ^ to)
        owners = set(self.true_owners(target))
        hits = len(owners.intersection(found[: self._replicas]))
        figures.lookups += 1
        figures.owners += len(owners)
        figures.recalled += hits
        figures.succeeded += finished.in_time and hits >= min(self._read_quorum, len(owners))
        figures.hops[finished.hops] += 1
        figures.rpcs += finished.rpcs
        figures.seconds.append(seconds)

    def _look_up(self, node: ScaleNode, target: bytes, want: int, upkeep: str) -> tuple[Finished, float]:
        """One lookup; `upkeep` says on what account its bytes go, "" when it is work that somebody asked for."""
        table = self.table_of(node)
        lookup = Lookup(
            target,
            want,
            table.nearest(target, 2 * table.sibling_count),
            own=node.contact.node,
            deadline_at=2.0 if not upkeep else 10.0,
            patience=lambda peer: 0.1 if peer in table else 0.3,
            hedge_after=lambda peer: 0.05 if peer in table else 0.15,
        )
        now = 0.0
        heard: dict[bytes, Contact] = {}
        coming: list[tuple[float, int, ScaleNode]] = []
        while not isinstance(step := lookup.next(now), Finished):
            if isinstance(step, Ask):
                peer = self.nodes.get(step.contact.node)
                if peer is not None:
                    heapq.heappush(coming, (now + self._round_trip(peer.contact.node in table), lookup.rpcs, peer))
                continue
            if not coming or coming[0][0] > step.until:
                now = step.until
                continue
            now, _, peer = heapq.heappop(coming)
            self._link(node, peer, upkeep)
            answer = self.table_of(peer).nearest(target, ANSWER_CONTACTS, (node.contact.node,))
            lookup.receive_nodes(peer.contact.node, answer, now)
            heard.update((contact.node, contact) for contact in answer)
            if upkeep:
                self.figures.bytes_sent[upkeep] += self._exchange_bytes(len(answer))
        for contact in heard.values():
            # what the table wants is dialled, and proves itself by its handshake
            known = self.nodes.get(contact.node)
            if known is not None and table.wants(contact.node):
                self._link(node, known, upkeep)
        return step, now

    def _link(self, node: ScaleNode, peer: ScaleNode, upkeep: str) -> None:
        """Each has heard of the other: who is in no table yet may enter it, after a handshake."""
        if peer.contact.node in self.table_of(node):
            self.table_of(node).touch(peer.contact.node)
        else:
            self.figures.bytes_sent["links" if upkeep else "dialled for work"] += 2 * HANDSHAKE_BYTES
            self.table_of(node).add(peer.contact, self.now)
        self.table_of(peer).add(node.contact, self.now)

    def _round_trip(self, linked: bool) -> float:
        """1 to 20 ms; TCP, TLS and HELLO take two more on a new link; a lost segment waits to be sent again."""
        seconds = self._rng.uniform(0.001, 0.020) * (1 if linked else 3)
        while self._rng.random() < self._loss:
            seconds += RETRANSMISSION_SECONDS
        return seconds

    def _exchange_bytes(self, contacts: int) -> int:
        """A FindNode and its answer."""
        known = self._frame_bytes.get(contacts)
        if known is None:
            hearsay = make_hearsay(Contact(b"\xab" * 32, "10.123.123.123", 7000, 1_800_000_000_000, ALIVE))
            known = frame_bytes(self._codec, FindNode(40_000, b"\xab" * 32, ANSWER_CONTACTS))
            known += frame_bytes(self._codec, Nodes(40_000, [hearsay] * contacts))
            self._frame_bytes[contacts] = known
        return known

    def _fill(self, table: Table) -> None:
        """Everybody near, and of each bucket that cannot hold all some at random; one more makes it overflow."""
        own = int.from_bytes(table.own, "big")
        for bits in range(_ID_BITS - 1):
            shift = _ID_BITS - 1 - bits
            numbers = self._within((own >> shift) ^ 1, shift)
            if len(numbers) > self._bucket_contacts:
                numbers = self._rng.sample(numbers, self._bucket_contacts + 1)
            for number in numbers:
                node = number.to_bytes(32, "big")
                if node in self.nodes:
                    table.add(self.nodes[node].contact, -self._draw_session())
            if len(self._within(own >> shift, shift)) < 2:
                break  # we are alone here

    def _within(self, prefix: int, shift: int) -> list[int]:
        """The IDs that begin so, of all that have joined."""
        low = bisect_left(self._owners, prefix << shift)
        return self._owners[low : bisect_left(self._owners, (prefix + 1) << shift, low)]


def nearest_of(ids: list[int], target: int, want: int) -> list[bytes]:
    """The nearest of sorted IDs: those in the smallest subtree around the target that holds enough."""
    low, high = 0, len(ids)
    for bits in range(1, _ID_BITS):
        shift = _ID_BITS - bits
        first = (target >> shift) << shift
        start = bisect_left(ids, first, low, high)
        end = bisect_left(ids, first + (1 << shift), start, high)
        if end - start < want:
            break
        low, high = start, end
    near = sorted(ids[low:high], key=target.__xor__)[:want]
    return [number.to_bytes(32, "big") for number in near]


def frame_bytes(codec: Codec, *messages: Message) -> int:
    """What a frame of these takes on the wire, TLS included."""
    frame = codec.frame(1_800_000_000_000 << 16, 123_456.789, [codec.pack(message) for message in messages])
    return len(frame) + TLS_RECORD_BYTES
