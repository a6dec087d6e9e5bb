"""Stores that keep each other equal, in memory and in made-up time: the real Upkeep of each, joined by a port that
takes the place of calls. Nodes crash, come back with or without what they held, are cut off, and messages get lost.

A record is a real registration or credential. `Replicas.write` does what a write of the overlay does, without waiting:
it merges into every owner that the writer can reach.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.ids import PARTITIONS, partition_of
from farm.overlay.owners import Place, Placement
from farm.overlay.store import Row, Store
from farm.overlay.upkeep import Upkeep
from farm.overlay.wire import VERSION, Answer, Codec, Request
from farm.registrar.binding import KIND, RegistrationKind, join
from farm.registrar.record import EMPTY, Contact, Entry, Record, Register
from farm.security.credentials import CredentialKind

MAX_EXPIRES = 600
_ROUNDING = 1e-6  # so that what is due is due on a clock that is ahead, too


class Clock:
    """Made-up time, and what is to happen in it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.deadlines = Deadlines()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it after so many seconds."""
        self.deadlines.add(self.now + seconds, lambda _argument, _now: action())

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while (at := self.deadlines.next_at()) is not None and at <= end:
            self.now = max(self.now, at)
            self.deadlines.run_due(self.now)
        self.now = end


class Node:
    """One node: its clock is `skew` seconds ahead of the others'."""

    def __init__(self, farm: Replicas, node: bytes, skew: float) -> None:
        self.farm = farm
        self.id = node
        self.skew = skew
        self.kind = RegistrationKind(MAX_EXPIRES)
        self.store = Store((self.kind, CredentialKind()))
        self.store.track()
        self.state = "joining"
        self.up = True
        self.current = Placement(farm.replicas)
        self.coming = Placement(farm.replicas)
        self.metrics = Metrics()
        self.handed_up_shift = 0.0
        self.synchronisations = 0
        self.asked: list[tuple[bytes, Request]] = []
        self.deadlines = Deadlines(self._wake)
        self.upkeep = Upkeep(
            node,
            self.store,
            self._ask,
            lambda: self.handed_up_shift,
            self.current,
            self.coming,
            self.deadlines,
            random.Random(node),
            self.metrics,
            self,
            lambda _node: VERSION,
        )

    @property
    def now(self) -> float:
        """Its own monotonic time."""
        return self.farm.clock.now + self.skew

    def synchronised(self, now: float) -> None:
        """It may become alive."""
        self.synchronisations += 1
        if self.state == "joining" and self.up:
            self.state = "alive"
            self.farm.clock.later(0.0, self.farm.tell_members)

    def sweep(self) -> None:
        """As the node does each second."""
        while self.store.sweep(self.now, 1000) == 1000:
            pass

    def records(self, partition: int) -> dict[bytes, bytes]:
        """What it holds of a partition: prints by key."""
        return dict(self.store.key_list(partition, b"", 1 << 30, self.now))

    def _wake(self, at: float) -> None:
        self.farm.clock.deadlines.add(at - self.skew + _ROUNDING, self._run_due)

    def _run_due(self, _: object, now: float) -> None:
        if not self.up:
            return
        self.deadlines.run_due(self.now)
        at = self.deadlines.next_at()
        if at is not None:
            self.farm.clock.deadlines.add(max(at, self.now) - self.skew + _ROUNDING, self._run_due)

    def _ask(
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
        self.asked.append((node, message))
        self.farm.carry(self, node, message, within, done)
        return 0


class Replicas:
    """A farm of `Node`s. `loss` is the share of questions and answers that are lost, `delay` what each takes."""

    def __init__(self, replicas: int = 3, *, seed: int = 1, delay: float = 0.002, skewed: bool = True) -> None:
        self.clock = Clock()
        self.replicas = replicas
        self.rng = random.Random(seed)
        self.delay = delay
        self.loss = 0.0
        self.nodes: dict[bytes, Node] = {}
        self.sides: dict[bytes, int] = {}
        self.told: dict[bytes, Record] = {}  # all that was ever written, joined; its times are on the farm's clock
        self._skewed = skewed
        self._stamp = 0
        self._codec = Codec()

    # Members

    def add(self, node: bytes | None = None, store_of: Node | None = None) -> Node:
        """A node starts, with what `store_of` held when it went, if that is said."""
        made = Node(self, node or self.rng.randbytes(32), self.rng.uniform(-500, 500) if self._skewed else 0.0)
        self.nodes[made.id] = made
        if store_of is not None:
            shift = made.skew - store_of.skew
            for name, shelf in store_of.store.shelves.items():
                for key, record in shelf.records.items():
                    made.store.load(Row(name, key, shelf.kind.shift(record, shift)), made.now)
        self.tell_members()
        made.upkeep.start(made.now)
        return made

    def crash(self, node: Node) -> None:
        """It is gone and everybody knows it."""
        node.up = False
        node.upkeep.stop()
        del self.nodes[node.id]
        self.tell_members()

    def part(self, others: Iterable[Node]) -> None:
        """These are cut off from the rest, and both sides think the other dead."""
        self.sides = dict.fromkeys([node.id for node in others], 1)
        self.tell_members()

    def heal(self) -> None:
        """All see each other again."""
        self.sides = {}
        self.tell_members()

    def see(self, one: bytes, other: bytes) -> bool:
        """Whether there is a way between two."""
        return self.sides.get(one, 0) == self.sides.get(other, 0)

    def tell_members(self) -> None:
        """Every node learns at once who is there."""
        for node in list(self.nodes.values()):
            seen = [other for other in self.nodes.values() if self.see(node.id, other.id)]
            alive = [Place(other.id) for other in seen if other.state == "alive"]
            coming = [Place(other.id) for other in seen]
            node.current.set_nodes(alive or coming)
            node.coming.set_nodes(coming)
            node.upkeep.members_changed(node.now)

    # Messages

    def carry(
        self,
        asker: Node,
        to: bytes,
        message: Request,
        within: float,
        done: Callable[[Answer | None, float], None],
    ) -> None:
        """A question on its way, as bytes; no answer when anything is lost."""
        packed = self._codec.pack(message)

        def fail() -> None:
            if asker.up:
                done(None, asker.now)

        def arrive() -> None:
            node = self.nodes.get(to)
            if node is None or not self.see(asker.id, to):
                self.clock.later(0.0, fail)
                return
            (request,) = self._codec.unpack(self._codec.frame(0, 0.0, [packed])[4:]).messages
            answer = node.upkeep.receive(asker.id, request, node.skew - asker.skew, node.now)  # type: ignore[arg-type]
            if self.rng.random() < self.loss:
                self.clock.later(within, fail)
                return
            back = self._codec.pack(answer)

            def receive() -> None:
                if asker.up:
                    (unpacked,) = self._codec.unpack(self._codec.frame(0, 0.0, [back])[4:]).messages
                    asker.handed_up_shift = asker.skew - node.skew
                    done(unpacked, asker.now)  # type: ignore[arg-type]

            self.clock.later(self.delay, receive)

        if self.rng.random() < self.loss:
            self.clock.later(within, fail)
        else:
            self.clock.later(self.delay, arrive)

    # Records

    def write(
        self, key: bytes, call_id: str, cseq: int, *, granted: int = MAX_EXPIRES, through: Node | None = None
    ) -> Record:
        """What a REGISTER writes: to all owners that can be reached from a node, at once. `granted` 0 removes."""
        writer = through or next(iter(self.nodes.values()))
        self._stamp += 1
        contact = Contact("", user_agent=call_id) if granted else None
        register = Register(call_id, cseq, self._stamp, 1, int(writer.now * 1000), granted, contact)
        record = Record([Entry("sip:phone", [register])])
        at = Register(call_id, cseq, self._stamp, 1, int(self.clock.now * 1000), granted, contact)
        self.told[key] = join(self.told.get(key, EMPTY), Record([Entry("sip:phone", [at])]))
        partition = partition_of(key)
        owners = {*writer.current.owners(partition), *writer.coming.owners(partition)}
        for owner in owners:
            self.put(self.nodes[owner], key, record, writer)
        return record

    def put(self, node: Node, key: bytes, record: Record, writer: Node) -> None:
        """Merge a record into what one node holds."""
        packed = node.kind.shift(writer.kind.pack(record), node.skew - writer.skew, node.now)
        node.store.put(KIND, key, packed, node.now)

    def run(self, seconds: float) -> None:
        """Let time pass, with sweeps each second."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.run(min(1.0, end - self.clock.now))
            for node in self.nodes.values():
                node.sweep()

    def differences(self) -> list[str]:
        """What owners do not hold alike, and what is held by who is no owner; [] when all is well."""
        found: list[str] = []
        for partition in range(PARTITIONS):
            holders = [node for node in self.nodes.values() if node.store.count(partition)]
            if not holders:
                continue
            owners = holders[0].current.owners(partition)
            held = [self.nodes[owner].records(partition) for owner in owners]
            if any(each != held[0] for each in held[1:]):
                found.append(f"partition {partition} differs")
            found += [f"partition {partition} is held by a stranger" for node in holders if node.id not in owners]
        return found

    def losses(self) -> list[str]:
        """Where an owner does not hold what all writes come to: something was lost, or came back. What changes in
        these seconds by its own time is left out."""
        found: list[str] = []
        kind = RegistrationKind(MAX_EXPIRES)
        for key, record in self.told.items():
            packed = kind.pack(record)
            now = self.clock.now
            wanted = kind.trace(packed, now + 15)
            if wanted != kind.trace(packed, now - 15):
                continue
            for owner in next(iter(self.nodes.values())).current.owners(partition_of(key)):
                node = self.nodes[owner]
                held = node.store.get(KIND, key)
                if (node.kind.trace(held, node.now) if held is not None else b"") != wanted:
                    found.append(f"{key!r} at {owner.hex()[:4]}: {held!r} for {packed!r}")
        return found

    def is_quiet(self) -> bool:
        """Whether everybody is alive and knows that all is well."""
        return all(
            node.state == "alive" and node.upkeep.synchronised and node.upkeep.missing() == (0, 0, 0)
            for node in self.nodes.values()
        )
