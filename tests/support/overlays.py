"""A whole overlay in one process: n real `OverlayNode`s on made-up links, machines and one clock, all from one seed.

    overlay = Overlay(seed=7, nodes=5)
    overlay.start()
    overlay.put(0, b"sip:bob@example.com", delta)
    overlay.kill(3)
    overlay.run(60.0)
    assert overlay.get(1, b"sip:bob@example.com") == Found(...)

Everything above the links is the code that runs in production. What a test may do to it: `kill`, `power_off`, `restart`
(with its disk or wiped), `pause` and `resume`, `leave`, `add`, and on `fabric` cuts, partitions, delay and loss.
Exceptions that the nodes swallowed are in `failures`; those that they did not come out of `run`.
"""

from __future__ import annotations

import random
import statistics
import sys
import traceback
from collections.abc import Callable

from farm.metrics import Metrics
from farm.overlay.clock import HybridClock
from farm.overlay.ids import partition_of, widest_gap_id
from farm.overlay.journal import Batch
from farm.overlay.node import OverlayNode
from farm.overlay.offset import STOPS_SECONDS
from farm.overlay.owners import Place, Placement
from farm.overlay.quorum import Outcome
from farm.overlay.scribe import restore
from farm.overlay.seeds import Seeds
from farm.overlay.settings import NodeSettings
from farm.overlay.store import Kind, Store
from farm.overlay.wire import ALIVE, EDGE, STORES, VERSION, Contact
from farm.registrar.binding import KIND, RegistrationKind
from tests.support.fabric import Fabric, Path
from tests.support.heap_clock import HeapClock
from tests.support.links import ProcessLinks
from tests.support.machines import Machine, Process

FLUSH_SECONDS = 0.5
SWEEP_SECONDS = 1.0
ENDING_SECONDS = 25.0  # what ends so soon is not compared
SEEDS = 3  # of the machines' addresses, the first are in everybody's configuration


class AllowAll:
    """Every node may write everything."""

    def refuse(self, node: bytes, kind: str, key: bytes) -> str:
        """Nothing is refused."""
        return ""


class Station:
    """A machine with a node on it, through all its boots. `node` is the last boot's, and `process` says if it runs."""

    process: Process
    node: OverlayNode
    links: ProcessLinks
    store: Store
    stamps: HybridClock
    metrics: Metrics

    def __init__(self, overlay: Overlay, index: int, machine: Machine, node_id: bytes, zone: str) -> None:
        self.overlay = overlay
        self.index = index
        self.machine = machine
        self.node_id = node_id
        self.zone = zone
        self.kind = RegistrationKind(overlay.most_expires)
        self.kinds: list[Kind] = [self.kind]
        self.gone = False  # it has left for good
        self.joined_at: float | None = None

    def __repr__(self) -> str:
        return f"<n{self.index}>"

    @property
    def running(self) -> bool:
        """Whether there is a process, paused or not."""
        return self.machine.listening

    def boot(self, *, wiped: bool = False) -> None:
        """Start the process."""
        overlay, machine = self.overlay, self.machine
        process = self.process = machine.boot(wiped=wiped)
        self.joined_at = None
        now, wall = process.clock(), process.wall()
        self.metrics = Metrics()
        self.stamps = HybridClock(int.from_bytes(self.node_id[:8], "big") >> 1)
        self.store = Store(self.kinds)
        restore(machine.disk.replay(), self.store, self.stamps, now, wall)
        machine.disk.incarnation = max(machine.disk.incarnation + 1, int(wall * 1000))
        own = Contact(
            self.node_id, machine.host, machine.port, machine.disk.incarnation,
            zone=self.zone, roles=STORES | EDGE, name=f"n{self.index}", version=VERSION,
        )  # fmt: skip
        self.links = ProcessLinks(overlay.fabric, process, self.node_id)
        seeds = [f"{each.machine.host}:{each.machine.port}" for each in overlay.stations[:SEEDS]]
        seeds += [f"{host}:{port}" for host, port in machine.disk.seeds]  # as the file of the members last known
        # What DNS would say: some that run.
        seeds += [f"{each.machine.host}:{each.machine.port}" for each in overlay.running()[-SEEDS:]]
        rng = random.Random(overlay.rng.getrandbits(64))
        self.node = OverlayNode(
            own, overlay.settings, self.store, self.links,
            Seeds(seeds, [(machine.host, machine.port)], None, rng),
            AllowAll(), self, process.deadlines, process.later, self.stamps, process.clock, process.wall, rng,
            self.metrics, self._note_failure,
        )  # fmt: skip
        self.links.user = self.node
        self.node.start(now)
        process.later(rng.random() * FLUSH_SECONDS, self._flush)
        process.later(rng.random() * SWEEP_SECONDS, self._sweep)

    def bindings(self, key: bytes) -> bytes | None:
        """The record as it is held here."""
        return self.store.get(KIND, key)

    def _flush(self) -> None:
        rows = self.store.take_unwritten(1_000_000)
        if rows:
            self.machine.disk.write(Batch(rows, self.process.clock(), self.process.wall()))
        self.process.later(FLUSH_SECONDS, self._flush)

    def _sweep(self) -> None:
        self.store.sweep(self.process.clock(), 1_000_000)
        self.process.later(SWEEP_SECONDS, self._sweep)

    def _note_failure(self, text: str) -> None:
        trace = traceback.format_exc() if sys.exc_info()[0] is not None else ""
        self.overlay.failures.append(f"n{self.index} at {self.overlay.now:.3f}: {text}\n{trace}")

    # node.Listener

    def overlay_state_changed(self, state: str, now: float) -> None:
        """The node is joining, alive or left."""
        self.overlay.trace(f"n{self.index} is {state}")
        if state == "alive":
            self.joined_at = self.overlay.now

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        """What this node thinks of another."""
        live = [(each.host, each.port) for each in self.node.membership.live()]
        self.machine.disk.seeds = live or self.machine.disk.seeds
        overlay = self.overlay
        if overlay.tracing and (before is None or before.state != after.state):
            overlay.trace(f"n{self.index} has {after.name} {after.state} by {cause}")

    def incarnation_changed(self, incarnation: int) -> None:
        """Kept."""
        self.machine.disk.incarnation = incarnation

    def config_received(self, record: bytes, now: float) -> None:
        """There is none."""


class Overlay:
    """The farm. Nodes are known by their number."""

    def __init__(
        self,
        seed: int = 0,
        nodes: int = 5,
        *,
        replicas: int = 3,
        zones: int = 1,
        path: Path | None = None,
        most_expires: int = 7200,
        settings: NodeSettings | None = None,
    ) -> None:
        self.rng = random.Random(f"overlay {seed}")
        self.heap = HeapClock()
        self.fabric = Fabric(self.heap, random.Random(f"network {seed}"), path)
        self.most_expires = most_expires
        self.settings = settings or NodeSettings("test", replicas=replicas)
        self.zones = zones
        self.stations: list[Station] = []
        self.failures: list[str] = []
        self.tracing = False
        self.lines: list[str] = []
        for _ in range(nodes):
            self.add()

    @property
    def now(self) -> float:
        """The shared clock, which no node sees."""
        return self.heap.rightNow

    def trace(self, line: str) -> None:
        """Note what happened, for who looks into a seed."""
        if self.tracing:
            self.lines.append(f"{self.now:10.3f} {line}")

    # Who is there

    def add(self) -> Station:
        """One more machine; its node is not started."""
        index = len(self.stations)
        machine = self.fabric.add(f"10.0.{index // 250}.{index % 250 + 1}")
        node_id = widest_gap_id([station.node_id for station in self.stations])
        station = Station(self, index, machine, node_id, f"z{index % self.zones}" if self.zones > 1 else "")
        self.stations.append(station)
        return station

    def start(self, limit: float = 120.0) -> None:
        """Start all nodes at once and wait until all are alive and have compared what they own."""
        for station in self.stations:
            station.boot()
        assert self.run_until(self.is_synchronised, limit), f"no farm after {limit} s: {self.describe()}"

    def running(self) -> list[Station]:
        """The stations whose process runs or is paused."""
        return [station for station in self.stations if station.running]

    def kill(self, index: int) -> None:
        """The process ends, and its kernel says so."""
        self.trace(f"kill n{index}")
        self.fabric.end(self.stations[index].process, silent=False)

    def power_off(self, index: int) -> None:
        """The machine is gone without a word."""
        self.trace(f"power off n{index}")
        station = self.stations[index]
        self.fabric.end(station.process, silent=True)
        station.machine.powered = False

    def restart(self, index: int, *, wiped: bool = False) -> None:
        """A new process, after `kill`, `power_off` or `leave`; `wiped` with an empty disk."""
        self.trace(f"restart n{index}{' wiped' if wiped else ''}")
        self.stations[index].boot(wiped=wiped)
        self.stations[index].gone = False

    def pause(self, index: int) -> None:
        """SIGSTOP."""
        self.trace(f"pause n{index}")
        self.stations[index].process.pause()

    def resume(self, index: int) -> None:
        """SIGCONT."""
        self.trace(f"resume n{index}")
        self.stations[index].process.resume()

    def leave(self, index: int, *, grace: float = 60.0) -> None:
        """A node leaves in order: it hands over, says goodbye and ends; at the latest after `grace` seconds."""
        self.trace(f"leave n{index}")
        station = self.stations[index]
        process = station.process

        def end(_now: float = 0.0) -> None:
            if process.alive:
                station._flush()
                process.later(0.05, lambda: self.fabric.end(process, silent=False) if process.alive else None)

        def give_up() -> None:
            if process.alive and not station.gone:
                station.node.say_goodbye(process.clock())
                self.trace(f"n{index} left late")
                done(process.clock())

        def done(now: float) -> None:
            station.gone = True
            self.trace(f"n{index} has left")
            end()

        station.node.leave(done, process.clock())
        process.later(grace, give_up)

    def partition(self, *groups: list[int]) -> None:
        """Only nodes of one group reach each other."""
        self.trace(f"partition {groups}")
        self.fabric.partition([[self.stations[index].machine for index in group] for group in groups])

    def heal(self) -> None:
        """No cuts any more."""
        self.trace("heal")
        self.fabric.heal()

    def cut(self, source: int, target: int) -> None:
        """One direction is dead."""
        self.trace(f"cut n{source} > n{target}")
        self.fabric.cut(self.stations[source].machine, self.stations[target].machine)

    def mend(self, source: int, target: int) -> None:
        """And well again."""
        self.trace(f"mend n{source} > n{target}")
        self.fabric.mend(self.stations[source].machine, self.stations[target].machine)

    # Time

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.heap.advance(seconds)

    def run_until(self, condition: Callable[[], bool], limit: float, *, step: float = 0.25) -> bool:
        """Let time pass until the condition holds, looking every `step` seconds; answers whether it did in time."""
        until = self.now + limit
        while not condition():
            if self.now >= until:
                return False
            self.heap.advance(step)
        return True

    # Records

    def put(self, index: int, key: bytes, delta: bytes, *, limit: float = 5.0) -> Outcome | None:
        """Write through a node and wait; None when it did not say within `limit`."""
        station = self.stations[index]
        ended: list[Outcome] = []
        now = station.process.clock()
        outcome = station.node.store(KIND, key, delta, lambda outcome, _: ended.append(outcome), now)
        if outcome is not None:
            return outcome
        self.run_until(lambda: bool(ended), limit, step=0.01)
        return ended[0] if ended else None

    def get(self, index: int, key: bytes, *, limit: float = 5.0) -> Outcome | None:
        """Read through a node and wait."""
        station = self.stations[index]
        ended: list[Outcome] = []
        outcome = station.node.fetch(KIND, key, lambda outcome, _: ended.append(outcome), station.process.clock())
        if outcome is not None:
            return outcome
        self.run_until(lambda: bool(ended), limit, step=0.01)
        return ended[0] if ended else None

    # What should be so

    def sound(self) -> list[Station]:
        """The stations that run and whose wall clock is right: what is far off takes no part."""
        middle = statistics.median(station.machine.wall_offset for station in self.stations)
        return [each for each in self.running() if abs(each.machine.wall_offset - middle) < STOPS_SECONDS]

    def is_synchronised(self) -> bool:
        """Whether every node that runs is alive, sees all others alive, and has compared all that it owns."""
        running = self.sound()
        wanted = {station.node_id for station in running}
        for station in running:
            node = station.node
            if not node.is_synchronised:
                return False
            alive = {contact.node for contact in node.membership.members.values() if contact.state == ALIVE}
            if alive != wanted - {station.node_id}:
                return False
        return True

    def placement(self) -> Placement:
        """Who owns what, by who runs."""
        placement = Placement(self.settings.replicas)
        placement.set_nodes([Place(station.node_id, station.zone) for station in self.sound()])
        return placement

    def find_differences(self, *, strictly: bool = False) -> list[str]:
        """Where replicas differ or are missing; strictly: or are held by somebody who owns nothing of it."""
        placement = self.placement()
        holders: dict[bytes, dict[bytes, tuple[Station, bytes]]] = {}
        for station in self.sound():
            at = station.process.clock() + ENDING_SECONDS
            for key, record in station.store.shelves[KIND].records.items():
                trace = station.kind.trace(record, at)
                if trace:
                    holders.setdefault(key, {})[station.node_id] = (station, trace)
        found: list[str] = []
        for key, held in holders.items():
            owners = placement.owners(partition_of(key))
            having = ", ".join(str(station) for station, _ in held.values())
            missing = [station for station in self.sound() if station.node_id in set(owners) - set(held)]
            if missing:
                found.append(f"{key.decode()} is missing on {missing}, held by {having}")
            if len({trace for node, (_, trace) in held.items() if node in owners}) > 1:
                found.append(f"{key.decode()} differs among its owners of {having}")
            if strictly and set(held) - set(owners):
                found.append(f"{key.decode()} is held by {having}, some of whom do not own it")
        return found

    def find_leaks(self) -> list[str]:
        """What nodes hold on to that they should not, or what went wrong unseen."""
        found = list(self.failures)
        nodes = {station.node_id: station for station in self.sound()}
        for station in self.sound():
            found += [
                f"{station} has a link to {nodes.get(other)} that is not there"
                for other in station.links.open_nodes()
                if other not in nodes or not nodes[other].links.is_open(station.node_id)
            ]
            for labels, counter in station.metrics.unexpected_errors:
                if count := counter._value.get():
                    found.append(f"{station} has {count:g} unexpected errors in {labels}")
            if len(station.process.deadlines) > 200 + 60 * len(nodes):
                found.append(f"{station} waits for {len(station.process.deadlines)} deadlines")
        return found

    def describe(self) -> str:
        """How each node is."""
        return "; ".join(
            f"n{station.index} {station.node.state}"
            f"{'' if station.node.is_synchronised else ' (not synchronised)'}"
            f" {len(station.store)} records"
            for station in self.sound()
        )
