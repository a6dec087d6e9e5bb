"""Links between simulated nodes: streams of whole frames on one clock, with every fault that a stream can meet.

What TCP does is kept, what costs time is left out: there is no TLS, dialling takes two round trips and both HELLOs.
A link delivers in order; a lost frame is late, not gone (repeated after 200 ms, doubling), and what was sent behind it
waits for it. A cut, in either direction, leaves data or its acknowledgement undelivered: after `GIVE_UP_SECONDS` the
sender breaks the link (TCP_USER_TIMEOUT), the other side hears of it only if something still reaches it. Until then a
healed path delivers all that waited, late. A killed process's links end at once (its kernel says so), a powered-off
machine is silent, and one that is up again answers old links with a reset.

Frames never arrive twice or out of order on a link; between links they overtake each other freely. Node-IDs are
believed as the certificate would prove them. Of two links of a pair the one that the smaller Node-ID dialled stays, as
in `farm.overlay.rpc`, and the other is retired unseen.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import msgspec

from farm.overlay.wire import Contact, Hello
from tests.support.fabric import REPEAT_SECONDS, Fabric
from tests.support.machines import Machine, Process

GIVE_UP_SECONDS = 20.0
DIAL_SECONDS = 5.0
REPEAT_MOST_SECONDS = 3.0
SYN_SECONDS = 1.0
SIMULTANEOUS_SECONDS = 15.0
BUFFER_BYTES = 4 * 1024 * 1024

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Hello).decode


class LinkUser(Protocol):
    """Who uses the links of a process: the node."""

    def make_hello(self) -> Hello:
        """What this side says first."""

    def link_opened(self, hello: Hello, dialled: bool, now: float) -> str:
        """A link to a node whose certificate is right; "" or why it must be closed."""

    def link_closed(self, node: bytes, reason: str, now: float) -> None:
        """It is gone."""

    def link_failed(self, host: str, port: int, reason: str, now: float) -> None:
        """A dial that came to nothing."""

    def receive_frame(self, node: bytes, frame: bytes, now: float) -> str:
        """A frame without its length; "" or why the link must be closed."""


class _Pipe:
    """One direction of a link: frames in order, what waits for the path, and the sender's patience."""

    __slots__ = ("_busy", "_fabric", "_last_at", "_queue", "_unacknowledged", "link", "queued", "source", "target")

    def __init__(self, fabric: Fabric, link: Link, source: ProcessLinks, target: ProcessLinks) -> None:
        self.link = link
        self.source = source
        self.target = target
        self.queued = 0
        self._fabric = fabric
        self._queue: deque[tuple[float, float, bytes | None]] = deque()  # arrives, was sent, frame; None is the end
        self._last_at = 0.0
        self._busy = False
        self._unacknowledged = 0.0  # when what lacks its acknowledgement was sent

    def send(self, frame: bytes | None) -> None:
        heap = self._fabric.heap
        at = heap.rightNow + self._fabric.transit(self.source.machine, self.target.machine)
        self._last_at = at = max(at, self._last_at)
        self._queue.append((at, heap.rightNow, frame))
        if frame is not None:
            self.queued += len(frame)
        if not self._busy:
            self._busy = True
            heap.callLater(at - heap.rightNow, self._arrive, REPEAT_SECONDS)

    def _arrive(self, repeat: float) -> None:
        """The first frame is there, unless the path is cut: then again later, until the sender gives up."""
        heap = self._fabric.heap
        if not self.source.machine.powered:
            self._queue.clear()  # nobody repeats it
            return
        _, sent, frame = self._queue[0]
        source, target = self.source, self.target
        if not self._fabric.is_open(source.machine, target.machine):
            if heap.rightNow - sent >= GIVE_UP_SECONDS:
                self._queue.clear()
                self.link.break_at(source, "timeout")
                return
            heap.callLater(repeat, self._arrive, min(repeat * 2.0, REPEAT_MOST_SECONDS))
            return
        self._queue.popleft()
        if not self._fabric.is_open(target.machine, source.machine):
            self._await_acknowledgement(sent)
        if frame is None:
            self.link.end_at(target, "closed")
        else:
            self.queued -= len(frame)
            if target.process.alive and not self.link.is_ended(target):
                target.process.receive(lambda: target.take(self.link, frame))
            elif self._fabric.is_open(target.machine, source.machine):
                self.link.end_at(source, "reset")  # nobody there knows this link
        if self._queue:
            heap.callLater(max(0.0, self._queue[0][0] - heap.rightNow), self._arrive, REPEAT_SECONDS)
        else:
            self._busy = False

    def _await_acknowledgement(self, sent: float) -> None:
        if self._unacknowledged:
            return
        self._unacknowledged = sent
        self._fabric.heap.callLater(REPEAT_SECONDS, self._look_for_acknowledgement, REPEAT_SECONDS)

    def _look_for_acknowledgement(self, repeat: float) -> None:
        heap = self._fabric.heap
        if self._fabric.is_open(self.target.machine, self.source.machine):
            self._unacknowledged = 0.0
        elif heap.rightNow - self._unacknowledged >= GIVE_UP_SECONDS:
            self.link.break_at(self.source, "timeout")
        else:
            repeat = min(repeat * 2.0, REPEAT_MOST_SECONDS)
            heap.callLater(repeat, self._look_for_acknowledgement, repeat)


class Link:
    """A connection between two processes, from its establishment on."""

    __slots__ = ("_ended", "_fabric", "_pipes", "acceptor", "dial", "dialler", "opened_at", "rank")

    def __init__(self, fabric: Fabric, dialler: ProcessLinks, acceptor: ProcessLinks, dial: Dial) -> None:
        self.dialler = dialler
        self.acceptor = acceptor
        self.dial = dial
        self.opened_at: dict[ProcessLinks, float] = {}  # of each side that has the other's HELLO
        self.rank = (dialler.node, fabric.rng.random())
        self._fabric = fabric
        self._ended: set[ProcessLinks] = set()
        dialler.half_open[self] = None
        acceptor.half_open[self] = None
        self._pipes = {
            dialler: _Pipe(fabric, self, dialler, acceptor),
            acceptor: _Pipe(fabric, self, acceptor, dialler),
        }

    def other(self, side: ProcessLinks) -> ProcessLinks:
        """The opposite side."""
        return self.acceptor if side is self.dialler else self.dialler

    def send(self, side: ProcessLinks, frame: bytes) -> bool:
        """Put a frame on its way; False when the buffer is full."""
        pipe = self._pipes[side]
        if pipe.queued + len(frame) > BUFFER_BYTES:
            return False
        pipe.send(frame)
        return True

    def is_ended(self, side: ProcessLinks) -> bool:
        """Whether a side has done with it."""
        return side in self._ended

    def close(self, side: ProcessLinks) -> None:
        """A side ends it: the other hears of it after what was sent before."""
        if side not in self._ended:
            self._ended.add(side)
            self._pipes[side].send(None)

    def finish(self, side: ProcessLinks) -> None:
        """A side says that it sends no more, and goes on listening."""
        if side not in self._ended:
            self._pipes[side].send(None)

    def drop(self, side: ProcessLinks) -> None:
        """A side is gone without a word."""
        self._ended.add(side)

    def end_at(self, side: ProcessLinks, reason: str) -> None:
        """A side hears that the other has ended it."""
        if side not in self._ended:
            self._ended.add(side)
            side.process.receive(lambda: side.lose(self, reason))

    def break_at(self, side: ProcessLinks, reason: str) -> None:
        """A side's kernel gives it up, and says so to the other if anything passes."""
        if side in self._ended:
            return
        self.end_at(side, reason)
        other = self.other(side)
        if other not in self._ended and self._fabric.is_open(side.machine, other.machine):
            delay = self._fabric.path.delay
            self._fabric.heap.callLater(delay, self.end_at, other, "reset")


class Dial:
    """An attempt to open a link; `node` is b"" when only the address is known."""

    __slots__ = ("ended", "host", "node", "port")

    def __init__(self, host: str, port: int, node: bytes) -> None:
        self.host = host
        self.port = port
        self.node = node
        self.ended = False


class ProcessLinks:
    """The links of one process: what `farm.overlay.rpc` is on real machines."""

    user: LinkUser

    def __init__(self, fabric: Fabric, process: Process, node: bytes) -> None:
        self.fabric = fabric
        self.process = process
        self.machine = process.machine
        self.node = node
        self.half_open: dict[Link, None] = {}  # no HELLO yet
        self._open: dict[bytes, Link] = {}
        self._retired: dict[Link, None] = {}  # outdone; they still deliver
        self._dials: dict[bytes | tuple[str, int], Dial] = {}
        process.links = self
        fabric.attach(process, self)

    # The port

    def send(self, node: bytes, frame: bytes) -> bool:
        """Write a frame, its length included."""
        link = self._open.get(node)
        if link is None:
            return False
        fabric = self.fabric
        fabric.frames += 1
        fabric.bytes += len(frame)
        if fabric.watch is not None:
            fabric.watch(fabric.heap.rightNow, self.machine, link.other(self).machine, frame)
        return link.send(self, frame)

    def connect(self, contact: Contact) -> None:
        """Dial a node unless it is being dialled or there is a link that we dialled."""
        link = self._open.get(contact.node)
        if link is None or link.dialler is not self:
            self._dial(contact.node, Dial(contact.host, contact.port, contact.node))

    def connect_address(self, host: str, port: int) -> None:
        """Dial a seed unless a dial or a link goes there."""
        for link in self._open.values():
            machine = link.other(self).machine
            if (machine.host, machine.port) == (host, port):
                return
        self._dial((host, port), Dial(host, port, b""))

    def close(self, node: bytes, reason: str) -> None:
        """Close the link to a node, if there is one; the user is told in this call."""
        link = self._open.get(node)
        if link is not None:
            self._end(link, reason)

    def is_open(self, node: bytes) -> bool:
        """Whether there is a link to a node."""
        return node in self._open

    def open_nodes(self) -> list[bytes]:
        """The nodes to which there is a link."""
        return list(self._open)

    # Dialling

    def _dial(self, key: bytes | tuple[str, int], dial: Dial) -> None:
        if key in self._dials or not self.process.alive:
            return
        self._dials[key] = dial
        self.fabric.heap.callLater(DIAL_SECONDS, self._fail, dial, "timeout")
        self._knock(dial, SYN_SECONDS)

    def _knock(self, dial: Dial, repeat: float) -> None:
        """One SYN; repeated when nothing comes back."""
        if dial.ended or not self.process.alive:
            return
        fabric = self.fabric
        target = fabric.machines.get((dial.host, dial.port))
        lost = fabric.path.loss and fabric.rng.random() < 2 * fabric.path.loss
        if lost or target is None or not fabric.is_open_both(self.machine, target):
            fabric.heap.callLater(repeat, self._knock, dial, repeat * 2.0)
            return
        trip = fabric.transit(self.machine, target) + fabric.transit(target, self.machine)
        if target.listening:
            fabric.heap.callLater(2.0 * trip, self._establish, dial, target)
        else:
            fabric.heap.callLater(trip, self._fail, dial, "refused")

    def _establish(self, dial: Dial, target: Machine) -> None:
        if dial.ended or not self.process.alive:
            return
        fabric = self.fabric
        process = target.process
        acceptor = process.links if process is not None and process.alive else None
        if acceptor is self:
            self._fail(dial, "same-node-id")
        elif not fabric.is_open_both(self.machine, target):
            fabric.heap.callLater(SYN_SECONDS, self._knock, dial, 2.0 * SYN_SECONDS)
        elif acceptor is None:
            self._fail(dial, "refused")
        else:
            assert isinstance(acceptor, ProcessLinks)
            link = Link(fabric, self, acceptor, dial)
            self.process.receive(lambda: self._greet(link))

    def _greet(self, link: Link) -> None:
        link.send(self, _pack(self.user.make_hello()))

    def _fail(self, dial: Dial, reason: str) -> None:
        """The user hears that a dial came to nothing."""
        if self._end_dial(dial):
            self.process.receive(lambda: self.user.link_failed(dial.host, dial.port, reason, self.process.clock()))

    def _end_dial(self, dial: Dial) -> bool:
        if dial.ended:
            return False
        dial.ended = True
        self._dials.pop(dial.node or (dial.host, dial.port), None)
        return True

    # What a link brings

    def take(self, link: Link, frame: bytes) -> None:
        """A frame has come: HELLO, or a user's."""
        if link.is_ended(self):
            return
        if self in link.opened_at:
            reason = self.user.receive_frame(link.other(self).node, frame[4:], self.process.clock())
            if reason:
                self._end(link, reason)
            return
        self.half_open.pop(link, None)
        dialled = link.dialler is self
        hello: Hello = _unpack(frame)
        reason = self._judge(link, hello, dialled)
        if reason:
            link.close(self)
            if dialled:
                self._fail(link.dial, reason)
            return
        if not dialled:
            self._greet(link)
        self._open_link(link, hello, dialled)

    def _judge(self, link: Link, hello: Hello, dialled: bool) -> str:
        node = hello.contact.node
        if node == self.node:
            return "same-node-id"
        if node != link.other(self).node or (dialled and link.dial.node and link.dial.node != node):
            return "node-id-mismatch"
        if dialled and link.dial.ended:
            return "timeout"
        return "linked" if dialled and not link.dial.node and node in self._open else ""

    def _open_link(self, link: Link, hello: Hello, dialled: bool) -> None:
        """It serves, unless there is a better one of the same moment: that which the smaller Node-ID dialled."""
        now = self.process.clock()
        at = link.opened_at[self] = self.fabric.heap.rightNow
        peer = hello.contact.node
        before = self._open.get(peer)
        if before is not None and at - before.opened_at[self] < SIMULTANEOUS_SECONDS and before.rank < link.rank:
            self._retire(link)
            if dialled:
                self._end_dial(link.dial)
                self.user.link_opened(hello, dialled, now)
            return
        self._open[peer] = link
        if before is not None:
            self._retire(before)
        reason = self.user.link_opened(hello, dialled, now)
        if not reason:
            if dialled:
                self._end_dial(link.dial)
            return
        if before is None and self._open.get(peer) is link:
            del self._open[peer]
        if dialled:
            self._fail(link.dial, reason)
        self._end(link, reason)

    def _retire(self, link: Link) -> None:
        """Send no more on it, take what still comes."""
        self._retired[link] = None
        link.finish(self)

    def _end(self, link: Link, reason: str) -> None:
        link.close(self)
        self._forget(link, reason)

    def lose(self, link: Link, reason: str) -> None:
        """A link is over, said its kernel."""
        self.half_open.pop(link, None)
        if link.dialler is self and self not in link.opened_at:
            self._fail(link.dial, reason)
        self._forget(link, reason)

    def _forget(self, link: Link, reason: str) -> None:
        self._retired.pop(link, None)
        peer = link.other(self).node
        if self._open.get(peer) is link:
            del self._open[peer]
            self.user.link_closed(peer, reason, self.process.clock())

    def drop_all(self, *, silent: bool) -> None:
        """The process is gone."""
        for link in [*self._open.values(), *self.half_open, *self._retired]:
            if silent:
                link.drop(self)
            else:
                link.close(self)
        self._open.clear()
        self.half_open.clear()
        self._retired.clear()
        for dial in self._dials.values():
            dial.ended = True
        self._dials.clear()
