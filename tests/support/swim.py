"""Memberships on a made-up network with made-up time: nothing but `Membership` objects, calls and links, from one seed.

    swim = Swim(seed=7, nodes=5)
    swim.run(10.0)
    swim.kill(3)
    swim.run(2.0)
    assert swim.states_of(3) == {"dead"}

Every message takes `delay` and is lost with `loss` (as a link that stalls would lose it for the call's purposes); links
break only when a process dies or a test breaks them. A killed process sends a reset and its host refuses dials; one
that vanished sends nothing and its dials time out. A paused process gets its timers first and its messages then.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, NamedTuple

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.gossip import size_of
from farm.overlay.membership import Membership, MembershipSettings
from farm.overlay.wire import (
    ALIVE,
    JOINING,
    STATE_NAMES,
    Answer,
    Contact,
    Gossip,
    Leave,
    Notice,
    Ping,
    PingRequest,
    Request,
)

DIAL_SECONDS = 5.0
FIRST_INCARNATION = 1_000_000
_FRAME_BYTES = 20


class Transition(NamedTuple):
    """What one node came to think of another."""

    at: float
    observer: int
    subject: int
    before: str
    after: str
    cause: str


def id_of(index: int) -> bytes:
    """The Node-ID of a node by its number, spaced evenly by multiplication with an odd number."""
    return ((index * 0x9E3779B97F4A7C15 + 1) % 2**64).to_bytes(8, "big") + index.to_bytes(24, "big")


class Station:
    """One node through all its boots. It is its membership's `Peers` and `Listener`."""

    membership: Membership

    def __init__(self, swim: Swim, index: int) -> None:
        self.swim = swim
        self.index = index
        self.node = id_of(index)
        self.host = f"10.0.{index // 250}.{index % 250 + 1}"
        self.up = False
        self.vanished = False
        self.reachable = True  # by dials; False: it can dial and be spoken to, but nobody gets through to it
        self.paused_until = 0.0
        self.boots = 0
        self.stored = 0
        self.links: set[int] = set()
        self.waiting: list[Callable[[], None]] = []
        self.armed_at = float("inf")
        self.wanted: Callable[[Contact], bool] = lambda contact: True
        self.bytes_sent = 0
        self.dials = 0

    def boot(self, known: Iterable[Contact]) -> None:
        """Start the process."""
        now = self.swim.now
        self.up = True
        self.vanished = False
        self.boots += 1
        self.links.clear()
        self.waiting.clear()
        self.armed_at = float("inf")
        self.stored = max(self.stored + 1, FIRST_INCARNATION + int(now * 1000))
        self.deadlines = Deadlines(self._wake)
        own = Contact(
            self.node, self.host, 7400, self.stored, JOINING, zone=f"z{self.index % 3}", name=f"n{self.index}"
        )
        rng = random.Random(self.swim.rng.getrandbits(64))
        self.membership = Membership(own, self, self, self.deadlines, rng, self.swim.metrics, self.swim.settings)
        self.membership.start(now)
        self.membership.learn([contact for contact in known if contact.node != self.node], now)
        self.membership.set_state(ALIVE, now)

    @property
    def contact(self) -> Contact:
        """Where it is, as a list of seeds has it."""
        return Contact(self.node, self.host, 7400)

    def run_due(self, boot: int) -> None:
        """A timer of this boot may be due."""
        if self.boots != boot or not self.up or self.swim.now < self.paused_until:
            return  # `pause` runs it again
        self.armed_at = float("inf")
        self.deadlines.run_due(self.swim.now)
        following = self.deadlines.next_at()
        if following is not None:
            self._wake(following)

    def deliver(self, act: Callable[[], None]) -> None:
        """Something arrives: now, or when the process runs again."""
        if self.swim.now < self.paused_until:
            self.waiting.append(act)
        elif self.up:
            act()

    def _wake(self, at: float) -> None:
        if at < self.armed_at:
            self.armed_at = at
            boot = self.boots
            self.swim.at(at, lambda: self.run_due(boot) if at == self.armed_at else None)

    # Peers

    def ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Callable[[Answer | None, float], None],
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int:
        """As Calls.ask."""
        swim = self.swim
        other = swim.by_node[node]
        boot = self.boots
        open_calls = [True]

        def finish(answer: Answer | None) -> None:
            if open_calls and self.boots == boot:
                open_calls.clear()
                swim.deadlines_cancel(self, timeout)
                done(answer, swim.now)

        timeout = self.deadlines.add(
            now if other.index not in self.links else now + within, lambda _argument, _at: finish(None)
        )
        if other.index in self.links:
            assert isinstance(message, (Ping, PingRequest))
            self._count(message.updates)
            swim.send(self, other, lambda: self._serve(other, message, finish))
        return 0

    def _serve(self, other: Station, message: Ping | PingRequest, finish: Callable[[Answer | None], None]) -> None:
        """The request has arrived at `other`."""

        def reply(answer: Answer) -> None:
            other._count(getattr(answer, "updates", ()))
            self.swim.send(other, self, lambda: finish(answer))

        if isinstance(message, Ping):
            reply(other.membership.receive_ping(self.node, message, self.swim.now))
            return
        other.swim.calls += 1
        call = other.swim.calls
        answer = other.membership.receive_ping_request(
            self.node, PingRequest(call, message.target, message.updates), self.swim.now
        )
        if answer is None:
            other.swim.replies[call] = reply
        else:
            reply(answer)

    def answer(self, node: bytes, message: Answer, now: float) -> None:
        """As Calls.answer."""
        self.swim.replies.pop(message.call)(message)

    def tell(self, node: bytes, message: Notice, now: float) -> None:
        """As Calls.tell."""
        other = self.swim.by_node[node]
        if other.index not in self.links or self.swim.muted:
            return
        assert isinstance(message, (Gossip, Leave))
        updates = message.updates if isinstance(message, Gossip) else [message.contact]
        self._count(updates)
        self.swim.send(self, other, lambda: other.membership.receive_gossip(updates, self.node, self.swim.now))

    def connect(self, contact: Contact) -> None:
        """As Links.connect."""
        self.dials += 1
        self.swim.dial(self, contact)

    def wants(self, contact: Contact) -> bool:
        """Whether the table would have it."""
        return self.wanted(contact)

    def _count(self, updates: Iterable[Contact]) -> None:
        self.bytes_sent += _FRAME_BYTES + sum(map(size_of, updates))

    # Listener

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        """Written down."""
        if after.node == self.node:
            self.stored = after.incarnation
        elif before is None or before.state != after.state:
            came_from = "none" if before is None else STATE_NAMES[before.state]
            subject = self.swim.by_node[after.node].index
            self.swim.transitions.append(
                Transition(now, self.index, subject, came_from, STATE_NAMES[after.state], cause)
            )

    def member_forgotten(self, contact: Contact, now: float) -> None:
        """Of no interest here."""


class Swim:
    """The network and its nodes. `start` boots them all within a second, each knowing node 0 and the one before."""

    def __init__(
        self,
        seed: int,
        nodes: int,
        *,
        loss: float = 0.0,
        delay: float = 0.002,
        settings: MembershipSettings | None = None,
        start: bool = True,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loss = loss
        self.delay = delay
        self.settings = settings
        self.now = 0.0
        self.metrics = Metrics()
        self.transitions: list[Transition] = []
        self.replies: dict[int, Callable[[Answer], None]] = {}
        self.calls = 0
        self.muted = False
        self.cuts: set[tuple[int, int]] = set()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self.stations = [Station(self, index) for index in range(nodes)]
        self.by_node = {station.node: station for station in self.stations}
        if start:
            for station in self.stations:
                self.at(self.rng.random(), lambda station=station: self.boot(station.index))  # type: ignore[misc]

    # Time

    def at(self, at: float, act: Callable[[], None]) -> None:
        """Have something done."""
        self._sequence += 1
        heappush(self._heap, (max(at, self.now), self._sequence, act))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, act = heappop(self._heap)
            act()
        self.now = until

    def deadlines_cancel(self, station: Station, deadline: Any) -> None:
        """Of a call that was answered."""
        station.deadlines.cancel(deadline)

    # Messages

    def passes(self, sender: int, receiver: int) -> bool:
        """Whether the path is open in this direction."""
        return (sender, receiver) not in self.cuts

    def send(self, sender: Station, receiver: Station, act: Callable[[], None]) -> None:
        """A message on its way."""
        if not self.passes(sender.index, receiver.index) or self.rng.random() < self.loss:
            return
        boot = receiver.boots

        def arrive() -> None:
            if receiver.boots == boot and sender.index in receiver.links:
                receiver.deliver(act)

        self.at(self.now + self.delay * self.rng.uniform(0.5, 1.5), arrive)

    def dial(self, station: Station, contact: Contact) -> None:
        """A dial on its way."""
        other = next((each for each in (self.by_node[contact.node],) if each.host == contact.host), None)
        boot = station.boots

        def fail(reason: str) -> None:
            if station.boots == boot:
                now = self.now
                station.deliver(
                    lambda: station.membership.link_failed(contact.host, contact.port, reason, max(now, self.now))
                )

        def arrive() -> None:
            if station.boots != boot or not station.up:
                return
            if other is None or other.vanished or not other.reachable or not self.both_ways(station, other):
                self.at(self.now + DIAL_SECONDS, lambda: fail("timeout"))
            elif not other.up:
                fail("refused")
            elif self.now < other.paused_until:
                self.at(min(self.now + DIAL_SECONDS, other.paused_until), arrive)
            else:
                self.open(station, other)

        self.at(self.now + 3 * self.delay * self.rng.uniform(0.5, 1.5), arrive)

    def both_ways(self, one: Station, other: Station) -> bool:
        """Whether a handshake can be made."""
        return self.passes(one.index, other.index) and self.passes(other.index, one.index)

    def open(self, dialler: Station, other: Station) -> None:
        """A link is there, or one more of the pair shows that the other can be dialled."""
        fresh = other.index not in dialler.links
        dialler.links.add(other.index)
        other.links.add(dialler.index)
        one, two = dialler.membership, other.membership
        hello, theirs = one.own, two.own
        dialler.deliver(lambda: self._accept(one.link_opened(theirs, self.now, True)))
        if fresh:
            other.deliver(lambda: self._accept(two.link_opened(hello, self.now, False)))

    def _accept(self, refused: str) -> None:
        assert refused == ""

    # What a test does

    def boot(self, index: int, known: Iterable[int] | None = None) -> None:
        """Start a process; it knows the nodes of these numbers, else node 0 and the one before."""
        seeds = sorted({0, max(0, index - 1)}) if known is None else known
        self.stations[index].boot([self.stations[each].contact for each in seeds])

    def kill(self, index: int) -> None:
        """kill -9: resets on all links, dials are refused."""
        station = self.stations[index]
        station.up = False
        for other in list(station.links):
            self.break_link(index, other)

    def vanish(self, index: int) -> None:
        """The machine is off: nothing is heard of it."""
        self.stations[index].up = False
        self.stations[index].vanished = True

    def break_link(self, one: int, two: int) -> None:
        """The link of a pair breaks."""
        for index, other in ((one, two), (two, one)):
            station = self.stations[index]
            station.links.discard(other)
            boot = station.boots
            node = self.stations[other].node

            def close(station: Station = station, boot: int = boot, node: bytes = node) -> None:
                if station.boots == boot:
                    station.deliver(lambda: station.membership.link_closed(node, "reset", self.now))

            self.at(self.now + self.delay, close)

    def pause(self, index: int, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        station = self.stations[index]
        station.paused_until = self.now + seconds

        def resume() -> None:
            station.run_due(station.boots)
            waiting, station.waiting = station.waiting, []
            for act in waiting:
                station.deliver(act)

        self.at(station.paused_until, resume)

    def cut(self, ones: Iterable[int], others: Iterable[int], *, one_way: bool = False) -> None:
        """Nothing passes from these to those; nor back, unless one way."""
        receivers = list(others)
        for one in ones:
            for other in receivers:
                self.cuts.add((one, other))
                if not one_way:
                    self.cuts.add((other, one))

    def heal(self) -> None:
        """All paths are open again."""
        self.cuts.clear()

    def link_all(self) -> None:
        """Boot all and have everybody know everybody at once: for sizes where joining takes long to compute."""
        self.muted = True
        for station in self.stations:
            station.boot([])
        for station in self.stations:
            for other in self.stations:
                if other is not station:
                    station.links.add(other.index)
                    assert station.membership.link_opened(other.membership.own, self.now, True) == ""
            station.membership._grapevine._rumours.__init__()  # type: ignore[misc]
        self.muted = False
        self.transitions.clear()

    # What a test sees

    def states_of(self, index: int) -> set[str]:
        """What all others that run hold of a node."""
        found = set()
        for station in self.stations:
            if station.up and station.index != index:
                held = station.membership.get(self.stations[index].node)
                found.add("none" if held is None else STATE_NAMES[held.state])
        return found

    def view_of(self, index: int) -> dict[int, str]:
        """What a node holds of all others."""
        members = self.stations[index].membership.members
        return {self.by_node[node].index: STATE_NAMES[held.state] for node, held in members.items()}

    def is_whole(self) -> bool:
        """Whether all that run hold each other alive."""
        up = {station.index for station in self.stations if station.up}
        for index in up:
            view = self.view_of(index)
            if any(view.get(other) != "alive" for other in up if other != index):
                return False
        return True

    def times_to(self, state: str, subject: int, since: float) -> list[float]:
        """How long each observer took to hold a node in this state, sorted."""
        first: dict[int, float] = {}
        for each in self.transitions:
            if each.subject == subject and each.after == state and each.at >= since:
                first.setdefault(each.observer, each.at - since)
        return sorted(first.values())
