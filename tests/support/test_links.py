"""The simulator's links do what streams do: in order, late when a frame is lost, broken when nothing comes through."""

from __future__ import annotations

import random
import struct

import pytest

from farm.overlay.wire import Contact, Hello
from tests.support.fabric import Fabric, Path
from tests.support.heap_clock import HeapClock
from tests.support.links import GIVE_UP_SECONDS, ProcessLinks
from tests.support.machines import Machine


class User:
    """A node that accepts all links and notes what it is told."""

    def __init__(self, fabric: Fabric, machine: Machine, node: bytes) -> None:
        self.machine = machine
        self.node = node
        self.process = machine.boot()
        self.links = ProcessLinks(fabric, self.process, node)
        self.links.user = self
        self.contact = Contact(node, machine.host, machine.port)
        self.heap = fabric.heap
        self.events: list[tuple[str, object]] = []
        self.frames: list[tuple[float, bytes]] = []
        self.refusal = ""

    def make_hello(self) -> Hello:
        return Hello("test", self.contact, 1, 1, 0)

    def link_opened(self, hello: Hello, dialled: bool, now: float) -> str:
        self.events.append(("opened", dialled))
        return self.refusal

    def link_closed(self, node: bytes, reason: str, now: float) -> None:
        self.events.append(("closed", reason))

    def link_failed(self, host: str, port: int, reason: str, now: float) -> None:
        self.events.append(("failed", reason))

    def receive_frame(self, node: bytes, frame: bytes, now: float) -> str:
        assert now == self.process.clock()
        self.frames.append((self.heap.rightNow, frame))
        return ""

    def send(self, other: User, text: bytes) -> bool:
        return self.links.send(other.node, struct.pack(">I", len(text)) + text)

    @property
    def texts(self) -> list[bytes]:
        return [frame for _, frame in self.frames]


class Pair:
    """Two machines with a user each."""

    def __init__(self, path: Path | None = None, seed: int = 1) -> None:
        self.heap = HeapClock()
        self.fabric = Fabric(self.heap, random.Random(seed), path or Path(0.01))
        self.a = User(self.fabric, self.fabric.add("10.0.0.1"), b"a" * 32)
        self.b = User(self.fabric, self.fabric.add("10.0.0.2"), b"b" * 32)

    def open(self) -> None:
        self.a.links.connect(self.b.contact)
        self.run(4.0)
        assert self.a.links.is_open(self.b.node)
        assert self.b.links.is_open(self.a.node)
        self.a.events.clear()
        self.b.events.clear()

    def run(self, seconds: float) -> None:
        self.heap.advance(seconds)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_dial_takes_two_round_trips_and_the_hellos(pair: Pair) -> None:
    pair.a.links.connect(pair.b.contact)
    pair.run(0.049)
    assert pair.b.events == []
    pair.run(0.0011)
    assert (pair.a.events, pair.b.events) == ([], [("opened", False)])
    pair.run(0.01)
    assert pair.a.events == [("opened", True)]


def test_frames_arrive_in_order_and_lost_ones_late() -> None:
    pair = Pair(Path(0.01, 0.005, 0.2))
    pair.open()
    texts = [b"%d" % number for number in range(300)]
    for text in texts:
        assert pair.a.send(pair.b, text)
        pair.run(0.01)
    pair.run(20.0)
    assert pair.b.texts == texts
    gaps = [later - earlier for (earlier, _), (later, _) in zip(pair.b.frames, pair.b.frames[1:], strict=False)]
    assert max(gaps) > 0.15, "a lost frame holds back those behind it"
    assert gaps.count(0.0) > 10


def test_two_who_dial_each_other_end_with_one_link_and_hear_of_no_close(pair: Pair) -> None:
    pair.a.links.connect(pair.b.contact)
    pair.b.links.connect(pair.a.contact)
    pair.run(0.2)
    for user, other in ((pair.a, pair.b), (pair.b, pair.a)):
        assert user.links.is_open(other.node)
        assert ("opened", True) in user.events
        assert not [event for event in user.events if event[0] != "opened"]
        assert user.send(other, b"x")
    pair.run(1.0)
    assert pair.a.texts == pair.b.texts == [b"x"]


def test_a_dial_to_a_machine_without_a_process_is_refused(pair: Pair) -> None:
    pair.fabric.end(pair.b.process, silent=False)
    pair.a.links.connect(pair.b.contact)
    pair.run(0.1)
    assert pair.a.events == [("failed", "refused")]


def test_a_dial_into_the_dark_times_out_and_may_be_tried_again(pair: Pair) -> None:
    pair.fabric.cut(pair.b.machine, pair.a.machine)
    pair.a.links.connect(pair.b.contact)
    pair.a.links.connect(pair.b.contact)
    pair.run(6.0)
    assert pair.a.events == [("failed", "timeout")]
    pair.fabric.heal()
    pair.open()


def test_a_dial_is_repeated_until_it_comes_through(pair: Pair) -> None:
    pair.fabric.cut(pair.a.machine, pair.b.machine)
    pair.a.links.connect(pair.b.contact)
    pair.run(2.0)
    pair.fabric.heal()
    pair.run(2.0)
    assert pair.a.events == [("opened", True)]


def test_a_node_that_dials_itself_finds_out(pair: Pair) -> None:
    pair.a.links.connect_address(pair.a.machine.host, pair.a.machine.port)
    pair.run(1.0)
    assert pair.a.events == [("failed", "same-node-id")]


def test_a_link_that_the_user_refuses_is_closed_on_both_sides(pair: Pair) -> None:
    pair.b.refusal = "denied"
    pair.a.links.connect(pair.b.contact)
    pair.run(1.0)
    assert not pair.a.links.is_open(pair.b.node)
    assert not pair.b.links.is_open(pair.a.node)
    assert pair.a.events == [("opened", True), ("closed", "closed")]


def test_a_killed_process_ends_its_links_after_what_it_had_sent(pair: Pair) -> None:
    pair.open()
    pair.b.send(pair.a, b"last words")
    pair.fabric.end(pair.b.process, silent=False)
    pair.run(0.02)
    assert pair.a.texts == [b"last words"]
    assert pair.a.events == [("closed", "closed")]


def test_a_machine_without_power_is_found_out_by_what_it_does_not_acknowledge(pair: Pair) -> None:
    pair.open()
    pair.fabric.end(pair.b.process, silent=True)
    pair.b.machine.powered = False
    pair.run(100.0)
    assert pair.a.events == []
    pair.a.send(pair.b, b"are you there")
    pair.run(GIVE_UP_SECONDS - 1.0)
    assert pair.a.events == []
    pair.run(5.0)
    assert pair.a.events == [("closed", "timeout")]


def test_a_machine_that_is_up_again_resets_old_links(pair: Pair) -> None:
    pair.open()
    pair.fabric.end(pair.b.process, silent=True)
    pair.b.machine.boot()
    pair.a.send(pair.b, b"are you there")
    pair.run(0.1)
    assert pair.a.events == [("closed", "reset")]


def test_a_cut_that_is_mended_in_time_delivers_all_late(pair: Pair) -> None:
    pair.open()
    pair.fabric.cut(pair.a.machine, pair.b.machine)
    pair.a.send(pair.b, b"one")
    pair.run(3.0)
    pair.a.send(pair.b, b"two")
    pair.run(3.0)
    assert pair.b.texts == []
    pair.fabric.heal()
    pair.run(4.0)
    assert pair.b.texts == [b"one", b"two"]
    assert pair.a.events == pair.b.events == []


def test_a_one_way_cut_breaks_the_link_for_both_who_send(pair: Pair) -> None:
    """What arrives is not acknowledged, what is sent does not arrive."""
    pair.open()
    pair.fabric.cut(pair.a.machine, pair.b.machine)
    pair.b.send(pair.a, b"hello")
    pair.run(0.1)
    assert pair.a.texts == [b"hello"]
    pair.a.send(pair.b, b"hello yourself")
    pair.run(GIVE_UP_SECONDS + 4.0)
    assert pair.b.texts == []
    assert pair.a.events == [("closed", "timeout")] or pair.a.events == [("closed", "reset")]
    assert pair.b.events == [("closed", "timeout")]


def test_a_paused_process_gets_everything_when_it_goes_on_timers_first(pair: Pair) -> None:
    pair.open()
    order: list[str] = []
    pair.b.process.deadlines.add(pair.b.process.clock() + 1.0, lambda _, now: order.append("timer"))
    pair.b.process.pause()
    pair.a.send(pair.b, b"one")
    pair.a.send(pair.b, b"two")
    pair.run(30.0)
    assert (order, pair.b.texts) == ([], [])
    pair.b.process.resume()
    assert (order, pair.b.texts) == (["timer"], [b"one", b"two"])
    assert pair.a.events == [], "its kernel acknowledged all the time"


def test_no_two_boots_have_the_same_monotonic_clock(pair: Pair) -> None:
    first = pair.b.process.clock()
    pair.fabric.end(pair.b.process, silent=False)
    second = pair.b.machine.boot()
    assert abs(second.clock() - first) > 1.0
    assert abs(second.clock() - pair.a.process.clock()) > 1.0


def test_deadlines_run_at_their_time_on_the_process_clock(pair: Pair) -> None:
    process = pair.a.process
    ran: list[float] = []
    start = process.clock()
    for seconds in (0.3, 0.1, 0.2):
        process.deadlines.add(start + seconds, lambda _, now: ran.append(round(now - start, 6)))
    pair.run(0.25)
    assert ran == [0.1, 0.2]
    pair.run(0.25)
    assert ran == [0.1, 0.2, 0.3]


def test_a_run_is_replayed_by_its_seed() -> None:
    def run(seed: int) -> list[tuple[float, bytes]]:
        pair = Pair(Path(0.01, 0.02, 0.1), seed)
        pair.open()
        for number in range(50):
            pair.a.send(pair.b, b"%d" % number)
            pair.run(0.003)
        pair.run(10.0)
        return pair.b.frames

    assert run(3) == run(3)
    assert run(3) != run(4)
