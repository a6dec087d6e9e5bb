"""Phones that register, refresh, remove and move between nodes, and callers who look them up, on a simulated overlay.

Each phone does one thing at a time: it waits for its answer, or gives up after `PATIENCE_SECONDS` and never learns what
became of it. Its CSeq grows with every attempt; now and then it restarts with another Call-ID. An address-of-record
has one phone or two, and each of them may say `Contact: *`. Now and then an old request comes again through another
node, as a retransmission that took a long way. The nodes are chosen at random and may be dead, paused or cut off.

What a REGISTER does at a node is what `farm.registrar` does: read (from anybody who adds, from a quorum who removes),
check the CSeq, write one update, check again what came back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from farm.overlay.ids import partition_of
from farm.overlay.quorum import Found, Outcome
from farm.registrar.binding import KIND, bindings_of, find_entry, find_register, is_alive, value_of
from farm.registrar.location import Location
from farm.registrar.record import EMPTY, Contact, Entry, Record, Register
from tests.support.checker import READ, REGISTER, REMOVE, STAR, Checker, Operation
from tests.support.overlays import Overlay, Station

PATIENCE_SECONDS = 6.0
LATE_SECONDS = 20.0

Ended = Callable[[Operation], None]


class Desk:
    """Does what a client asks at one node, for one process's life."""

    def __init__(self, station: Station, checker: Checker, overlay: Overlay) -> None:
        self.station = station
        self.process = station.process
        self._checker = checker
        self._overlay = overlay
        self._kind = station.kind
        self._location = Location(None, station.kind, station.stamps, station.process.wall)  # type: ignore[arg-type]

    def serve(self, operation: Operation, ended: Ended) -> None:
        """Carry it out; `ended` is called when the client hears of it, at the latest when it stops waiting."""
        settled: list[bool] = []

        def settle(result: str, reason: str = "", record: Record | None = None) -> None:
            if settled:
                return
            settled.append(True)
            found = {}
            if operation.what == READ and record is not None:
                found = {
                    binding.key: (binding.call_id, binding.cseq)
                    for binding in bindings_of(record, self.process.clock())
                }
            self._checker.end(operation, result, self._overlay.now, reason=reason, found=found)
            ended(operation)

        self._overlay.heap.callLater(PATIENCE_SECONDS, settle, "maybe", "no answer")
        self.process.receive(partial(self._begin, operation, settle))

    def _begin(self, operation: Operation, settle: Callable[..., None]) -> None:
        now = self.process.clock()
        adds = operation.what == REGISTER

        def read(outcome: Outcome, now: float) -> None:
            if not isinstance(outcome, Found):
                settle("fail", f"read: {outcome.reason}")
                return
            record = EMPTY if outcome.record is None else self._kind.unpack(outcome.record)
            if operation.what == READ:
                settle("ok", "", record)
            else:
                self._change(operation, record, outcome.record, settle, now)

        key = operation.aor.encode()
        outcome = self.station.node.fetch(KIND, key, read, now, enough=1 if adds else None)
        if outcome is not None:
            read(outcome, now)

    def _change(
        self, operation: Operation, record: Record, base: bytes | None, settle: Callable[..., None], now: float
    ) -> None:
        delta = (
            self._make_star(operation, record, now) if operation.what == STAR else self._bind(operation, record, now)
        )
        if delta is None:
            settle("fail", "out-of-order")
            return
        if not delta.entries and not delta.floor:
            if record is EMPTY:
                settle("ok")
                return
            delta = record

        def written(outcome: Outcome, now: float) -> None:
            if isinstance(outcome, Found):
                self._commit(operation, outcome.record, settle, now)
            else:
                settle("maybe", f"write: {outcome.reason}")

        key = operation.aor.encode()
        outcome = self.station.node.store(KIND, key, self._kind.pack(delta), written, now, base=base)
        if outcome is not None:
            written(outcome, now)

    def _commit(self, operation: Operation, packed: bytes | None, settle: Callable[..., None], now: float) -> None:
        merged = self._kind.unpack(packed) if packed else EMPTY
        entry = find_entry(merged, operation.key)
        prior = None if entry is None else find_register(entry, operation.call_id)
        if prior is not None and prior.cseq > operation.cseq:
            settle("maybe", "out-of-order")
            return
        if operation.what == REGISTER and not operation.repeated:
            value = None if entry is None else value_of(entry)
            if (
                value is None
                or value.contact is None
                or (value.call_id, value.cseq) != (operation.call_id, operation.cseq)
            ):
                operation.reason = f"answered with {value}, floor {merged.floor}"
        settle("ok", operation.reason)

    def _bind(self, operation: Operation, record: Record, now: float) -> Record | None:
        """Step 7 of RFC 3261 §10.3: None is out of order, an empty record that all is as asked."""
        entry = find_entry(record, operation.key)
        prior = None if entry is None else find_register(entry, operation.call_id)
        if prior is not None and operation.cseq <= prior.cseq:
            same = is_alive(prior, now) if operation.granted else not is_alive(prior, now)
            return Record([]) if operation.cseq == prior.cseq and same else None
        stamp = operation.stamp = self._location.make_stamp()
        contact = Contact("") if operation.granted else None
        node = self.station.stamps.node
        register = Register(operation.call_id, operation.cseq, stamp, node, int(now * 1000), operation.granted, contact)
        return Record([Entry(operation.key, [register])])

    def _make_star(self, operation: Operation, record: Record, now: float) -> Record | None:
        for entry in record.entries:
            prior = find_register(entry, operation.call_id)
            if prior is not None and operation.cseq <= prior.cseq and is_alive(value_of(entry), now):
                return None
        star = self._location.make_star(record, operation.call_id, operation.cseq, now)
        operation.stamp = star.floor
        return star


class Phone:
    """One device of an address-of-record."""

    def __init__(self, workload: Workload, aor: str, key: str) -> None:
        self.aor = aor
        self.key = key
        self.workload = workload
        self.calls = 0
        self.call_id = ""
        self.cseq = 0
        self.granted = 0
        self.registered = False
        self.home = workload.rng.randrange(1000)
        self._restart()

    def _restart(self) -> None:
        self.calls += 1
        self.call_id = f"{self.key[-2:]}{self.calls}"
        self.cseq = self.workload.rng.randrange(1, 50)

    def act(self) -> None:
        """Do the next thing."""
        workload = self.workload
        if not workload.running:
            return
        rng = workload.rng
        if self.registered and rng.random() < workload.restarts:
            self._restart()
        self.cseq += 1
        draw = rng.random()
        if not self.registered or draw < 0.72:
            what, granted = REGISTER, rng.choice(workload.lifetimes)
        elif draw < 0.92:
            what, granted = REMOVE, 0
        else:
            what, granted = STAR, 0
        station = workload.choose(self.home if rng.random() < 0.5 else None)
        if station is None:
            workload.later(1.0, self.act)
            return
        self.granted = granted
        operation = workload.begin(station, self, what, granted)
        workload.desk(station).serve(operation, self._end)
        if rng.random() < workload.repeats and what == REGISTER:
            again = (self.call_id, self.cseq, granted)
            workload.later(rng.uniform(0.5, LATE_SECONDS), lambda: self._repeat(*again))

    def _end(self, operation: Operation) -> None:
        workload = self.workload
        rng = workload.rng
        if operation.result != "ok":
            workload.later(rng.uniform(0.5, 3.0), self.act)
            return
        self.registered = operation.what == REGISTER
        wait = workload.pause_seconds * rng.uniform(0.5, 1.5)
        if operation.what == REGISTER and rng.random() < 0.7:
            wait = min(wait, 0.8 * operation.granted)
        workload.later(wait, self.act)

    def _repeat(self, call_id: str, cseq: int, granted: int) -> None:
        """An old request arrives once more."""
        station = self.workload.choose(None)
        if station is None or not self.workload.running:
            return
        checker = self.workload.checker
        operation = checker.begin(
            self.aor, REGISTER, station.index, self.workload.overlay.now,
            key=self.key, call_id=call_id, cseq=cseq, granted=granted, repeated=True,
        )  # fmt: skip
        self.workload.desk(station).serve(operation, _ignore)


class Workload:
    """All phones and callers. About `rate` operations a second, half of them look-ups."""

    def __init__(
        self,
        overlay: Overlay,
        checker: Checker,
        rng: random.Random,
        *,
        aors: int = 150,
        rate: float = 3.5,
        lifetimes: tuple[int, ...] = (60, 90, 120, 300, 600),
        restarts: float = 0.05,
        repeats: float = 0.05,
    ) -> None:
        self.overlay = overlay
        self.checker = checker
        self.rng = rng
        self.lifetimes = lifetimes
        self.restarts = restarts
        self.repeats = repeats
        self.running = False
        self.aors = [f"sip:u{number}@example.com" for number in range(aors)]
        self.phones = [
            Phone(self, aor, f"sip:u{number}@192.0.2.1:{device}")
            for number, aor in enumerate(self.aors)
            for device in range(50, 50 + (2 if rng.random() < 0.25 else 1))
        ]
        self.pause_seconds = len(self.phones) / (rate / 2.0)
        self._read_seconds = 2.0 / rate
        self._desks: dict[int, Desk] = {}

    def start(self) -> None:
        """Begin."""
        self.running = True
        for phone in self.phones:
            self.later(self.rng.uniform(0.0, self.pause_seconds * 0.7), phone.act)
        self.later(self.rng.random(), self._look_up)

    def stop(self) -> None:
        """Nobody begins anything more."""
        self.running = False

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """In real time, which is the shared clock's."""
        self.overlay.heap.callLater(delay, action)

    def choose(self, home: int | None) -> Station | None:
        """A node that a client finds: one that accepts connections. None when the one it tried does not."""
        stations = self.overlay.stations
        station = stations[home % len(stations)] if home is not None else self.rng.choice(stations)
        return station if station.running else None

    def desk(self, station: Station) -> Desk:
        """Where a node's clients are served."""
        desk = self._desks.get(station.index)
        if desk is None or desk.process is not station.process:
            desk = self._desks[station.index] = Desk(station, self.checker, self.overlay)
        return desk

    def begin(self, station: Station, phone: Phone, what: str, granted: int) -> Operation:
        """Note that a phone asks."""
        return self.checker.begin(
            phone.aor, what, station.index, self.overlay.now,
            key="" if what == STAR else phone.key, call_id=phone.call_id, cseq=phone.cseq, granted=granted,
        )  # fmt: skip

    def read(self, aor: str, station: Station, ended: Ended) -> None:
        """Somebody looks up an address-of-record."""
        operation = self.checker.begin(aor, READ, station.index, self.overlay.now)
        self.desk(station).serve(operation, ended)

    def _look_up(self) -> None:
        if not self.running:
            return
        station = self.choose(None)
        if station is not None:
            self.read(self.rng.choice(self.aors), station, _ignore)
        self.later(self._read_seconds * self.rng.uniform(0.5, 1.5), self._look_up)

    def look_at_replicas(self) -> None:
        """Judge what every owner of every record holds, as if it were asked alone and everything were compared."""
        placement = self.overlay.placement()
        for aor in self.aors:
            key = aor.encode()
            owners = placement.owners(partition_of(key))
            for station in self.overlay.sound():
                if station.node_id in owners:
                    packed = station.bindings(key)
                    record = EMPTY if packed is None else station.kind.unpack(packed)
                    now = self.overlay.now
                    operation = self.checker.begin(aor, READ, station.index, now)
                    operation.reason = "own copy"
                    found = {
                        binding.key: (binding.call_id, binding.cseq)
                        for binding in bindings_of(record, station.process.clock())
                    }
                    self.checker.end(operation, "ok", now, reason="own copy", found=found)


def _ignore(_operation: Operation) -> None:
    """Whoever asked only wanted to know."""
