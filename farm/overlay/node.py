"""One node of the overlay: the front door of this package, and where its parts meet.

It joins by any node it can reach (`seeds`), knows who is there (`membership`), keeps what it owns equal with the other
owners (`upkeep`), answers what others ask of its records (`serving`), and reads and writes records wherever they are
(`fetch`, `store`). It becomes alive when it has compared all that it will own with those who own it now, or after
`join_seconds` when nobody answers, and it leaves when all that it held is with others.

Everything here is told the time and does no input or output: frames come and go through `Links`, timers through
`Deadlines`, so that thousands of nodes run in one simulation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from farm.deadlines import Deadline, Deadlines
from farm.metrics import Metrics
from farm.overlay.access import Access
from farm.overlay.calls import Calls, Later, Links
from farm.overlay.clock import HybridClock, stamp_seconds
from farm.overlay.ids import partition_id, partition_of
from farm.overlay.locating import Locating
from farm.overlay.membership import Membership, MembershipSettings
from farm.overlay.offset import REFUSES_SECONDS, ClockOffset
from farm.overlay.owners import Placement
from farm.overlay.ownership import Ownership
from farm.overlay.quorum import Done, Means, Outcome
from farm.overlay.reach import Reach
from farm.overlay.relaying import Relaying
from farm.overlay.routing import Result, Routing
from farm.overlay.seeds import Seeds
from farm.overlay.serving import Serving, Writers, make_write_rates
from farm.overlay.settings import NodeSettings
from farm.overlay.store import Store as Records
from farm.overlay.upkeep import Upkeep
from farm.overlay.wire import (
    ALIVE,
    DEAD,
    EDGE,
    JOINING,
    LEFT,
    OLDEST_VERSION,
    STATE_NAMES,
    STORES,
    VERSION,
    Answer,
    Codec,
    Contact,
    Diagnose,
    Diagnosis,
    Digest,
    Error,
    Fetch,
    FindNode,
    Gossip,
    Hello,
    Keys,
    Leave,
    NewConfig,
    Notice,
    Ping,
    PingRequest,
    Pull,
    Push,
    Relay,
    Request,
    Scan,
    Spend,
    Stat,
    Store,
)

_FIRST_LINKS_SECONDS: Final = 0.5  # after the first link others follow, which it told of


class Listener(Protocol):
    """Who hears what becomes of the node."""

    def overlay_state_changed(self, state: str, now: float) -> None:
        """This node is joining, alive or left."""

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        """Another node's state, or address."""

    def incarnation_changed(self, incarnation: int) -> None:
        """To be kept: the next start must begin above it."""

    def config_received(self, record: bytes, now: float) -> None:
        """A packed configuration of the overlay came; it has been checked by nobody."""


class OverlayNode:
    """A node. `own` is what it says of itself, its incarnation above all it ever had. `clock` answers monotonic and
    `wall` wall-clock seconds; `later` runs something in a later turn."""

    def __init__(
        self,
        own: Contact,
        settings: NodeSettings,
        records: Records,
        links: Links,
        seeds: Seeds,
        writers: Writers,
        listener: Listener,
        deadlines: Deadlines,
        later: Later,
        stamps: HybridClock,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        metrics: Metrics,
        log_failure: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.seeds = seeds
        self.links = links
        self.config_record = b""
        self.config_sequence = 0
        self._own_id = own.node
        self._records = records
        self._listener = listener
        self._deadlines = deadlines
        self._later = later
        self._clock = clock
        self._wall = wall
        self._metrics = metrics
        self.roles: dict[bytes, int] = {}  # of those who are linked, as their certificates have them
        self.offset = ClockOffset(lambda: stamp_seconds(stamps.last) - wall())
        self._leaving = False
        self._stopped = False
        self._changed = False
        self._linked_at = 0.0
        self._waking: Deadline | None = None
        self.ownership = Ownership(own.node, settings.replicas, self._is_settled, self._learn_contacts)
        self.calls = Calls(
            links, Codec(), deadlines, later, stamps, clock, wall, metrics,
            coalesce_seconds=settings.coalesce, requests_per_second=settings.peer_requests, log_failure=log_failure,
            note_clock=self.offset.renew,
        )  # fmt: skip
        self.calls.server = self
        self.routing = Routing(
            own.node, settings.replicas, self.calls, links, self._learn_contacts, deadlines, rng, metrics, wall,
            clock(), bucket_contacts=settings.bucket,
        )  # fmt: skip
        self.locating = Locating(self.routing, self.ownership, lambda node: self.membership.get(node), clock)
        self.membership = Membership(
            own, Reach(self.calls, links, self.routing), self, deadlines, rng, metrics,
            MembershipSettings(period_seconds=settings.probe),
        )  # fmt: skip
        self.relaying = Relaying(
            self.calls, links, self.membership.get, deadlines, metrics, edge=bool(own.roles & EDGE)
        )
        self.upkeep = Upkeep(
            own.node, records, self.calls.ask, lambda: self.calls.shift, self.ownership.current, self.ownership.coming,
            deadlines, rng, metrics, self, self.ownership.version_of,
            bytes_per_second=settings.repair_bytes, hold_down_seconds=settings.hold_down,
            compare_seconds=settings.compare, observe=lambda stamp: stamps.observe(stamp, wall()),
        )  # fmt: skip
        writes = make_write_rates(settings.record_writes)
        self.serving = Serving(
            records, self.ownership, writers, metrics, stores=bool(own.roles & STORES),
            observe=lambda stamp: stamps.observe(stamp, wall()), writes=writes,
        )  # fmt: skip
        means = Means(
            records, self.calls, self.ownership, deadlines, metrics, rng,
            strict=settings.strict, write_seconds=settings.write, fetch_seconds=settings.write,
            stand_in_seconds=settings.stand_in,
        )  # fmt: skip
        self.access = Access(means, self.locating, self.offset, writes, may_write=bool(own.roles & EDGE))
        metrics.clock_offset.child().set_function(lambda: self.offset.seconds)
        metrics.replica_recall.child().set_function(lambda: self.access.recall.ratio)

    # Life

    def start(self, now: float) -> None:
        """Look for others and join them."""
        self._refresh(now)
        self.membership.start(now)
        self.upkeep.start(now)
        self.routing.start(now)
        if not self.seeds.has_any:
            self.access.open = True
        else:
            self._deadlines.add(now + self.settings.join, self._serve_alone)
        self._seek(None, now)
        self._try_to_join(now)

    def stop(self) -> None:
        """No more timers; what others send is not answered any more, and what was said to them is on its way."""
        self._stopped = True
        self.calls.flush()  # the links close next, and a goodbye that nobody hears looks like a crash
        self.membership.stop()
        self.relaying.stop()
        self.upkeep.stop()
        self.routing.stop()
        self._deadlines.cancel(self._waking)

    def leave(self, done: Callable[[float], None], now: float) -> None:
        """Hand over all that is held here, then say goodbye; `done(now)` when that is finished. It goes on trying:
        the caller has a deadline of its own, and calls `say_goodbye` when it has passed."""
        self._leaving = True
        after = self._place_others()

        def finish(now: float) -> None:
            self.say_goodbye(now)
            done(now)

        if len(after):
            self.upkeep.leave(after, finish, now)
        else:
            finish(now)

    def _place_others(self) -> Placement:
        """Who owns what when we are gone."""
        after = Placement(self.ownership.replicas)
        after.set_nodes([place for place in self.ownership.current.nodes if place.node != self._own_id])
        return after

    def rejoin(self, now: float) -> None:
        """Come back after `leave`, which may still be under way."""
        self._leaving = False
        self.upkeep.stay()
        if self.membership.own.state == LEFT:
            self.membership.set_state(JOINING, now)
        self._change()

    def say_goodbye(self, now: float) -> None:
        """Tell all that this node is no more, whether or not everything was handed over."""
        if self.membership.own.state != LEFT:
            self.membership.set_state(LEFT, now)

    @property
    def own(self) -> bytes:
        """This node's Node-ID."""
        return self._own_id

    @property
    def state(self) -> str:
        """joining, alive or left."""
        return STATE_NAMES[self.membership.own.state]

    @property
    def is_synchronised(self) -> bool:
        """Whether it is alive and all that it owns has been compared."""
        return self.membership.own.state == ALIVE and self.upkeep.synchronised

    @property
    def is_ready(self) -> bool:
        """Whether it can read and write for others, and is in step with them."""
        return self.is_synchronised and self.access.serves and not self.ownership.problem()

    def _serve_alone(self, _argument: object, now: float) -> None:
        """Nobody was reached for `join_seconds`."""
        self.access.open = True
        self._try_to_join(now)

    def _try_to_join(self, now: float) -> None:
        """Become alive when all is compared. Whoever has met only others that are starting has met nobody yet, unless
        there is nobody else to look for: two newcomers must not take themselves for the farm."""
        if self.membership.live() or (self._linked_at and self.seeds.all_reached):
            self.access.open = True
        own = self.membership.own
        if own.state != JOINING or not self.access.open or self._leaving or self._stopped:
            return
        if self._linked_at and now < self._linked_at + _FIRST_LINKS_SECONDS:
            self._deadlines.add(self._linked_at + _FIRST_LINKS_SECONDS, lambda _, now: self._try_to_join(now))
            return
        if self._changed or not self.upkeep.synchronised:
            return
        self.membership.set_state(ALIVE, now)

    def _seek(self, _argument: object, now: float) -> None:
        """Dial the seeds that are due."""
        if self._stopped:
            return
        for host, port in self.seeds.next_addresses(now):
            self.links.connect_address(host, port)
        following = self.seeds.next_at(now)
        self._deadlines.cancel(self._waking)
        self._waking = None
        if following is not None:
            self._waking = self._deadlines.add(max(following, now + 0.05), self._seek)

    # Reading and writing

    def fetch(self, kind: str, key: bytes, done: Done, now: float, *, enough: int | None = None) -> Outcome | None:
        """Read a record; the outcome when it is known at once, else None, and `done` is called with it later."""
        return self.access.fetch(kind, key, done, now, enough=enough)

    def store(
        self, kind: str, key: bytes, delta: bytes, done: Done, now: float, *, base: bytes | None = None
    ) -> Outcome | None:
        """Merge an update into a record; the outcome as for `fetch`. `base` is what the record seems to be."""
        return self.access.store(kind, key, delta, done, now, base=base)

    # Links (rpc.LinkUser)

    def make_hello(self) -> Hello:
        """What this node says first on a link."""
        wall = int(self._wall() * 1000)
        return Hello(self.settings.overlay, self.membership.own, OLDEST_VERSION, VERSION, wall, self.config_sequence)

    def link_opened(self, hello: Hello, dialled: bool, now: float) -> str:
        """A link is there; "" takes it, a slug refuses."""
        contact = hello.contact
        ahead = hello.wall / 1000.0 - self._wall()
        self.offset.note(contact.node, ahead)
        if abs(ahead) > REFUSES_SECONDS:  # one of us would refuse all that the other says, and take it for dead
            self.offset.forget(contact.node)
            return "clock"
        self.roles[contact.node] = contact.roles
        refused = self.membership.link_opened(contact, now, dialled)
        if refused:
            return refused
        self.seeds.reached(contact.host, contact.port, now)
        if hello.config_sequence < self.config_sequence:
            self.calls.tell(contact.node, NewConfig(self.config_record), now)
        if not self._linked_at:
            self._linked_at = now
            self._deadlines.add(now + _FIRST_LINKS_SECONDS / 2, self._find_neighbours)
        self.routing.link_opened(contact.node, now)
        self.relaying.link_opened(contact.node, now)
        self._seek(None, now)
        self._change()
        return ""

    def link_closed(self, node: bytes, reason: str, now: float) -> None:
        """A link is gone."""
        self.calls.link_closed(node, now)
        self.offset.forget(node)
        self.roles.pop(node, None)
        self.membership.link_closed(node, reason, now)
        self.relaying.link_closed(node, now)
        if not len(self.offset) and not self._stopped:
            self.seeds.lost(now)
            self._seek(None, now)

    def link_failed(self, host: str, port: int, reason: str, now: float) -> None:
        """A dial came to nothing."""
        self.seeds.failed(host, port, reason, now)
        self.membership.link_failed(host, port, reason, now)
        self.relaying.link_failed(host, port, now)
        self._seek(None, now)

    def receive_frame(self, node: bytes, frame: bytes, now: float) -> str:
        """A frame has come; "" or why the link must be closed."""
        return "" if self._stopped else self.calls.receive_frame(node, frame, now)

    def _find_neighbours(self, _argument: object, now: float) -> None:
        """Kademlia's join: those nearest to ourselves, and all who are met on the way."""
        if not self._stopped:
            self.routing.find(self._own_id, self.routing.table.sibling_count, _ignore, now)

    def _learn_contacts(self, contacts: Sequence[Contact], now: float) -> None:
        self.membership.learn(contacts, now)

    # Calls of others (calls.Server)

    def receive_request(self, node: bytes, message: Request, shift: float, now: float) -> Answer | None:
        """What another node asks."""
        match message:
            case Fetch():
                return self.serving.fetch(message)
            case Store():
                return self.serving.store(node, message, shift, now)
            case Ping():
                return self.membership.receive_ping(node, message, now)
            case PingRequest():
                return self.membership.receive_ping_request(node, message, now)
            case Digest() | Keys() | Pull() | Push():
                if not self.roles.get(node, 0) & self.membership.own.roles & STORES:  # or there is nothing to repair
                    self._metrics.peer_rejections.child("wrong-role").inc()
                    return Error(message.call, "not-allowed")
                return self.upkeep.receive(node, message, shift, now)
            case FindNode():
                return self.routing.answer(message, self.membership.own)
            case Stat():
                return self.serving.stat(message)
            case Scan():
                return self.serving.scan(message)
            case Spend():
                return self.serving.spend(message, self.roles.get(node, 0))
            case Diagnose():
                return Diagnosis(message.call, self.describe())
        return Error(message.call, "unsupported")

    def receive_notice(self, node: bytes, message: Notice, now: float) -> None:
        """What another node says."""
        match message:
            case Gossip():
                self.membership.receive_gossip(message.updates, node, now)
            case Leave():
                self.membership.receive_gossip([message.contact], node, now)
            case NewConfig():
                self._listener.config_received(message.record, now)
            case Relay():
                self.relaying.receive(node, message, self.roles.get(node, 0), now)

    def relays_lost(self, node: bytes, relays: list[Relay], now: float) -> None:
        """The link took them no more."""
        self.relaying.lost(node, relays, now)

    # Members (membership.Listener)

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        """A node's state, incarnation or address has changed; this one's too."""
        if after.node == self._own_id:
            self._listener.incarnation_changed(after.incarnation)
            if before is None or before.state != after.state:
                self._listener.overlay_state_changed(STATE_NAMES[after.state], now)
        else:
            if after.state in (DEAD, LEFT):
                self.routing.drop(after.node, now)
                self.locating.drop(after.node)
            else:
                self.routing.enter(after, now)
            self._listener.member_changed(before, after, cause, now)
        self._change()

    def member_forgotten(self, contact: Contact, now: float) -> None:
        """A node that has been dead for a day is not known any more."""
        self._change()

    def _change(self) -> None:
        """Bring up to date what follows from the members, once a turn."""
        if not self._changed:
            self._changed = True
            self._later(0.0, lambda: self._refresh(self._clock()))

    def _refresh(self, now: float) -> None:
        if self._stopped:
            return
        self._changed = False
        membership = self.membership
        self.ownership.update([membership.own, *membership.members.values()])
        self.locating.refresh()
        self.upkeep.members_changed(now)
        if self._leaving and membership.own.state != LEFT:
            self.upkeep.leave_to(self._place_others(), now)  # whoever has gone need not get anything any more
        self.seeds.remember(membership.live(), now)
        self._try_to_join(now)

    # Upkeep

    def synchronised(self, now: float) -> None:
        """All that is or will be owned here has been compared."""
        self._try_to_join(now)

    def _is_settled(self, partition: int) -> bool:
        return self.upkeep.is_settled(partition)

    # Configuration of the overlay

    def set_config(self, record: bytes, sequence: int, replicas: int, now: float) -> None:
        """A configuration is in force here, from the start or since now; it is handed on to who has an older one."""
        newer = sequence > self.config_sequence
        self.config_record = record
        self.config_sequence = sequence
        if self.ownership.change_replicas(replicas):
            self._change()
        if not newer:
            return
        for node in self.roles:
            self.calls.tell(node, NewConfig(record), now)

    # For the console and the metrics

    def describe(self) -> dict[str, str | int | float | bool]:
        """How it is, for another node's console."""
        own = self.membership.own
        return {
            "name": own.name,
            "state": self.state,
            "records": len(self._records),
            "synchronised": self.is_synchronised,
            "progress": round(self.upkeep.progress(), 4),
        }

    def problems(self) -> list[str]:
        """What is wrong at present, a sentence each."""
        return [problem for part in (self.seeds, self.offset, self.ownership) if (problem := part.problem())]

    def trace(self, target: bytes, done: Callable[[Result, float], None], now: float) -> None:
        """Look up the nodes nearest to an ID, starting from the three nearest that are known; for the console."""
        known = self.routing.nearest(target, 3)
        self.routing.find(target, self.ownership.replicas, done, now, known=known, kind="trace")

    def target_of(self, key: bytes) -> bytes:
        """The ID that a key's owners are near to."""
        return partition_id(partition_of(key))

    def owners_of(self, key: bytes) -> Sequence[bytes]:
        """The owners of a key."""
        return self.ownership.owners(partition_of(key))


def _ignore(_result: Result, _now: float) -> None:
    """Whoever was met is known by now."""
