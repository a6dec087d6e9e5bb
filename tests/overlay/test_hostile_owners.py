"""Reads and writes whose owners answer anything, in any order, as often as they like: every one of them ends, once, in
its time, and leaves nothing behind. The calls are real, the links and what comes over them made up."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from farm.deadlines import Deadlines
from farm.overlay.calls import Calls
from farm.overlay.clock import HybridClock
from farm.overlay.quorum import Failed, Found, Means, Outcome
from farm.overlay.reads import Read, Recall
from farm.overlay.store import Full, Merged
from farm.overlay.store import Store as Records
from farm.overlay.wire import (
    Answer,
    Codec,
    Contact,
    Error,
    Fetch,
    Fetched,
    Nodes,
    Notice,
    Pong,
    Pulled,
    Relay,
    Request,
    Row,
    Scanned,
    Store,
    Stored,
)
from farm.overlay.writes import Write
from tests.support.owners import KEY, A, B, C, D, E, Owners, SetKind

SECONDS = 2.0
BUCKET_SECONDS = 0.13  # by which the end of a call may be late


class RaisingKind(SetKind):
    """A kind with a bug, which some records show."""

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Merged:
        if b"?" in delta:
            raise ZeroDivisionError
        return super().merge(held, delta, now)

    def version(self, record: bytes) -> bytes:
        if b"#" in record:
            raise KeyError(record)
        return super().version(record)


class World(Owners):
    """Owners behind real calls. `rng` decides what they answer, and when."""

    def __init__(self, rng: random.Random) -> None:
        nodes = [A, B, C, D, E]
        rng.shuffle(nodes)
        super().__init__(*nodes[: rng.choice((1, 2, 3, 3, 3, 4))], strict=rng.random() < 0.3)
        self.rng = rng
        self.spare = nodes[len(self.list) :]
        self.coming = rng.sample(nodes, rng.choice((0, 0, 1)))
        self.suspects = set(rng.sample(nodes, rng.choice((0, 0, 1, 2))))
        self.settled = rng.random() < 0.8
        self.kind = RaisingKind()
        self.store = Records((self.kind,), most_records=rng.choice((0, 10, 10, 10)))
        self.now = 100.0
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.failures = 0
        self.ended: list[tuple[Outcome, float]] = []
        self.codec = Codec()
        self.deadlines = Deadlines()
        self.calls = Calls(
            self, self.codec, self.deadlines, self.later, HybridClock(), lambda: self.now, lambda: 1e9 + self.now,
            self.metrics, server=self, log_failure=self._note,
        )  # fmt: skip
        self.means = Means(
            self.store, self.calls, self, self.deadlines, self.metrics, rng,
            strict=rng.random() < 0.3, write_seconds=SECONDS, fetch_seconds=SECONDS,
        )  # fmt: skip

    def _note(self, _text: str) -> None:
        self.failures += 1

    def later(self, delay: float, action: Callable[[], None]) -> None:
        self.timers.append((self.now + delay, len(self.timers), action))

    def receive_request(self, node: bytes, message: Request, shift: float, now: float) -> Answer | None:
        raise AssertionError

    def receive_notice(self, node: bytes, message: Notice, now: float) -> None:
        raise AssertionError

    def relays_lost(self, node: bytes, relays: list[Relay], now: float) -> None:
        raise AssertionError

    # Links

    def is_open(self, node: bytes) -> bool:
        return self.rng.random() < 0.8

    def connect(self, contact: Contact) -> None:
        raise AssertionError

    def connect_address(self, host: str, port: int) -> None:
        raise AssertionError

    def close(self, node: bytes, reason: str) -> None:
        raise AssertionError

    def send(self, node: bytes, frame: bytes) -> bool:
        rng = self.rng
        if rng.random() < 0.05:
            raise OSError
        if rng.random() < 0.1:
            return False
        for message in self.codec.unpack(frame[4:]).messages:
            assert isinstance(message, Fetch | Store)
            for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3))):
                call = message.call if rng.random() < 0.9 else rng.randrange(message.call + 3)
                answer = self.make_answer(message, call)
                delay = rng.choice((0.0, 0.001, 0.01, 0.2, 1.0, 1.99, 2.5)) * rng.random()
                self.later(delay, lambda answer=answer: self.deliver(node, answer))  # type: ignore[misc]
            if rng.random() < 0.05:
                self.later(rng.random(), lambda: self.calls.link_closed(node, self.now))
        return True

    def deliver(self, node: bytes, answer: Answer) -> None:
        frame = self.codec.frame(int((1e9 + self.now) * 1000) << 16, self.now + 3.0, [self.codec.pack(answer)])
        self.calls.receive_frame(node, frame[4:], self.now)

    def make_answer(self, message: Request, call: int) -> Answer:
        rng = self.rng
        record = rng.choice((b"", b"", b"x", b"y", b"xyz", b"!", b"?", b"#", b"123456789012"))
        standing = rng.choice((0, 0, 0, 1, 2, 7, -3))
        nearer = [Contact(rng.randbytes(rng.choice((0, 32))), "192.0.2.1", 7400)] * rng.choice((0, 1, 40))
        good = (Fetched if isinstance(message, Fetch) else Stored)(call)
        return rng.choice(
            (
                good, good, good,
                Fetched(call, record, rng.random() < 0.3, standing, nearer),
                Stored(call, rng.choice((0, 0, 1, 2, 3, 4, 5, 77, -1)), record, standing, nearer),
                Error(call, rng.choice(("busy", "internal", "clock", "unsupported", "?"))),
                Pong(call), Nodes(call, nearer), Pulled(call, [Row("x", b"", b"")]), Scanned(call),
            )
        )  # fmt: skip

    def done(self, outcome: Outcome, now: float) -> None:
        self.ended.append((outcome, now))
        if self.rng.random() < 0.1:
            raise ZeroDivisionError

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            self.timers.sort(key=lambda timer: timer[:2])
            due = self.deadlines.next_at()
            at = min(self.timers[0][0] if self.timers else until + 1, until + 1 if due is None else due)
            if at > until:
                self.now = until
                return
            self.now = max(self.now, at)
            if self.timers and self.timers[0][0] <= self.now:
                self.timers.pop(0)[2]()
            else:
                try:
                    self.deadlines.run_due(self.now)
                except (ZeroDivisionError, KeyError):
                    self.failures += 1


def check(world: World, start: Callable[[World], Outcome | None]) -> Outcome:
    """Run an operation to its end; answers how it ended."""
    try:
        outcome = start(world)
    except (ZeroDivisionError, KeyError):  # the caller knows at once
        outcome = Failed("internal")
    at = world.now
    if outcome is not None:
        world.run(SECONDS * 3)
        assert world.ended == []
    else:
        world.run(SECONDS * 3)
        ((outcome, ended_at),) = world.ended
        assert ended_at - at <= SECONDS + BUCKET_SECONDS
    assert isinstance(outcome, Found | Full | Failed)
    assert len(world.deadlines) == 0
    assert world.calls._failed == []
    return outcome


def start_read(world: World) -> Outcome | None:
    read = Read(world.means, "registration", KEY, world.done, Recall(), enough=world.rng.choice((None, None, 1)))
    read.start(world.now)
    return read.outcome


def start_write(world: World) -> Outcome | None:
    write = Write(world.means, "registration", KEY, world.rng.choice((b"x", b"x", b"?", b"#")), world.done)
    write.start(world.now, world.rng.choice((None, b"y")))
    return write.outcome


@pytest.mark.parametrize("start", [start_read, start_write])
def test_every_operation_ends_once_and_in_its_time_whatever_its_owners_do(
    start: Callable[[World], Outcome | None],
) -> None:
    kinds: set[str] = set()
    for seed in range(120):
        try:
            outcome = check(World(random.Random(seed)), start)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        kinds.add(type(outcome).__name__ + (outcome.reason if isinstance(outcome, Failed) else ""))
    assert {"Found", "Failedtoo-few-owners", "Failedinternal"} <= kinds
