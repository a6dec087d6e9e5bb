"""Traces: the messages of one address-of-record or call, as all nodes see them on the wire, for `sipfarm trace`.

Part of the composition root. A trace begins at the node whose console asks for it, which asks every other node to watch
(the relay TRACE, said again every few seconds), and lapses when nobody asks for its messages any more, or when the
other node hears of it no more. The others tell what they saw (TRACED), in batches. Messages are handed to the console
in the order of the nodes' clocks, each held back for a moment, so that a slower node's come in between.

How many traces a node watches for, what it keeps, and what it tells at once is limited; what was lost is counted, and
said to whoever asked. A node of an older version drops what it does not know, and is listed as silent.

Decided: each node finds the messages by itself, by what is written in them. Telling all nodes the Call-IDs that one has
found would come too late for the first messages, which are what matters.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

from farm.capture.catch import MOST_BYTES, MOST_MESSAGES, Catch
from farm.capture.reading import Sought
from farm.capture.seen import Seen
from farm.capture.words import (
    TRACE_BYTES,
    Copy,
    Told,
    WordsError,
    make_ask,
    make_copy,
    pack,
    read_ask,
    read_told,
)
from farm.deadlines import Deadline, Deadlines
from farm.metrics import Metrics
from farm.overlay.relaying import Relaying
from farm.overlay.wire import EDGE, STATE_NAMES, Contact, Relay

# `Relay.purpose`, after those of `relays`
TRACE: Final = 5
TRACED: Final = 6

MOST_TRACES: Final = 4  # of its own that a node watches for, and as many of others
RENEW_SECONDS: Final = 5.0
LAPSE_SECONDS: Final = 15.0
TELL_SECONDS: Final = 0.2  # what is seen within is told at once
TELL_BYTES: Final = 131_072  # in one relay
HOLD_SECONDS: Final = 0.5  # what comes within is put in order
ANSWER_MESSAGES: Final = 200  # handed to the console at once

Answer = dict[str, object]
_GONE: Final = ("dead", "left")


class TraceError(Exception):
    """A trace that cannot be; `str()` of it says why."""


class Others(Protocol):
    """The other nodes: `member.Member`."""

    @property
    def relaying(self) -> Relaying:
        """The relays of the overlay."""

    @property
    def own(self) -> bytes:
        """This node's Node-ID."""

    def others(self) -> list[Contact]:
        """All that are remembered."""


class _Watched:
    """A trace that this node watches for: whose it is, and until when."""

    __slots__ = ("catch", "lapses_at", "telling")

    def __init__(self, sought: Sought, lapses_at: float) -> None:
        self.catch = Catch(sought)
        self.lapses_at = lapses_at
        self.telling: Deadline | None = None


class _Arrived(NamedTuple):
    """A message of any node, and when it was told."""

    at: float
    node: str
    copy: Copy


class _Trace:
    """A trace that a console of this node follows."""

    def __init__(self, name: bytes, sought: Sought, now: float) -> None:
        self.name = name
        self.sought = sought
        self.polled_at = now
        self.heard: dict[bytes, str] = {}  # nodes that have answered, with what: "watching", "busy"
        self.lost = 0
        self.number = 0  # of the last message that was handed out
        self.held: list[_Arrived] = []  # in order of arrival
        self.ready: deque[tuple[int, _Arrived]] = deque()
        self.bytes = 0

    def add(self, node: str, copies: Iterable[Copy], now: float) -> int:
        """Messages of a node; how many there was no room for."""
        lost = 0
        for copy in copies:
            if len(self.held) + len(self.ready) >= MOST_MESSAGES or self.bytes + len(copy.data) > MOST_BYTES:
                lost += 1
                continue
            self.held.append(_Arrived(now, node, copy))
            self.bytes += len(copy.data)
        self.lost += lost
        return lost

    def hand_out(self, after: int, until: float) -> list[tuple[int, _Arrived]]:
        """The messages after that number, of those which came until then, in the order of their times."""
        while self.ready and self.ready[0][0] <= after:
            self.bytes -= len(self.ready.popleft()[1].copy.data)
        due = [arrived for arrived in self.held if arrived.at <= until]
        self.held = [arrived for arrived in self.held if arrived.at > until]
        for arrived in sorted(due, key=lambda arrived: arrived.copy.time):
            self.number += 1
            self.ready.append((self.number, arrived))
        return list(self.ready)[:ANSWER_MESSAGES]


class Tracing:
    """The traces of one node with the name `name`. `others` is None for a lone node; `edge` says that it speaks SIP.
    `mask` answers what others may see of a message; `changed` is told when there is something to watch for, or no
    more."""

    def __init__(
        self,
        name: str,
        others: Others | None,
        deadlines: Deadlines,
        clock: Callable[[], float],
        rng: random.Random,
        metrics: Metrics,
        mask: Callable[[bytes], bytes],
        changed: Callable[[], None],
        *,
        edge: bool = True,
    ) -> None:
        self._name = name
        self._others = others
        self._edge = edge
        self._own = others.own if others is not None else b""
        self._deadlines = deadlines
        self._clock = clock
        self._rng = rng
        self._mask = mask
        self._changed = changed
        self._watched: dict[tuple[bytes, bytes], _Watched] = {}  # by the node that asks, and the trace's name
        self._traces: dict[bytes, _Trace] = {}
        self._turn: Deadline | None = None
        child = metrics.traced_messages.child
        self._caught, self._lost = child("caught"), child("lost")
        self._bad = metrics.relayed_messages.child("bad")
        metrics.traces.child().set_function(lambda: float(len(self._watched)))
        if others is not None:
            others.relaying.users[TRACE] = others.relaying.users[TRACED] = self

    @property
    def active(self) -> bool:
        """Whether there is anything to watch for."""
        return bool(self._watched)

    # What is on the wire

    def show(self, seen: Seen) -> None:
        """One message."""
        for (node, name), watched in self._watched.items():
            lost = watched.catch.lost
            if not watched.catch.look(seen):
                continue
            (self._caught if watched.catch.lost == lost else self._lost).inc()
            if node != self._own and watched.telling is None:
                at = self._clock() + TELL_SECONDS
                watched.telling = self._deadlines.add(at, self._tell, (node, name))

    # The console

    def follow(self, sought: Sought | None, name: str, after: int, *, ends: bool = False) -> Answer:
        """Begin a trace, or go on with the one of that name: its messages after that number.

        Answers `trace` (its name), `messages`, `more` (whether to ask again at once), `lost` (since it began), and
        `nodes`, each with `name` and `state`: watching, busy (it watches for too many), silent (it has not answered),
        or dead and left. Raises TraceError.
        """
        now = self._clock()
        trace = self._begin(sought, now) if sought is not None else self._find(name)
        trace.polled_at = now
        own = self._watched[self._own, trace.name]
        own.lapses_at = now + LAPSE_SECONDS
        trace.lost += own.catch.take_lost()
        self._lost.inc(trace.add(self._name, (self._copy(seen) for seen in own.catch.take()), now))
        until = now if ends else now - HOLD_SECONDS
        handed = trace.hand_out(after, until)
        more = bool(handed) and handed[-1][0] < trace.number
        answer: Answer = {
            "trace": trace.name.hex(),
            "messages": [_describe(number, arrived) for number, arrived in handed],
            "more": more,
            "lost": trace.lost,
            "nodes": self._list_nodes(trace),
        }
        if ends and not more:
            self._end(trace, now)
        return answer

    def _begin(self, sought: Sought, now: float) -> _Trace:
        if not self._edge:
            raise TraceError("this node speaks no SIP: ask one that does")
        if len(self._traces) >= MOST_TRACES:
            raise TraceError(f"{MOST_TRACES} traces are running here already")
        trace = _Trace(self._rng.randbytes(TRACE_BYTES), sought, now)
        self._traces[trace.name] = trace
        self._watched[self._own, trace.name] = _Watched(sought, now + LAPSE_SECONDS)
        self._ask_all(trace, now)
        self._arm(now)
        self._changed()
        return trace

    def _find(self, name: str) -> _Trace:
        try:
            return self._traces[bytes.fromhex(name)]
        except (KeyError, ValueError):
            raise TraceError("that trace has ended") from None

    def _ask_all(self, trace: _Trace, now: float, *, ends: bool = False) -> None:
        if self._others is None:
            return
        words = pack(make_ask(trace.name, trace.sought, ends=ends))
        for contact in self._others.others():
            if contact.roles & EDGE and STATE_NAMES[contact.state] not in _GONE:
                self._others.relaying.send(contact.node, Relay(TRACE, b"", words), now)

    def _list_nodes(self, trace: _Trace) -> list[Answer]:
        nodes: list[Answer] = [{"name": self._name, "state": "watching"}]
        for contact in [] if self._others is None else self._others.others():
            if contact.roles & EDGE:
                state = STATE_NAMES[contact.state]
                heard = trace.heard.get(contact.node, "silent")
                nodes.append({"name": contact.name, "state": state if state in _GONE else heard})
        return nodes

    def _end(self, trace: _Trace, now: float) -> None:
        del self._traces[trace.name]
        self._ask_all(trace, now, ends=True)
        self._forget((self._own, trace.name))

    # The other nodes (overlay.relaying.RelayUser)

    def receive_relay(self, node: bytes, relay: Relay, now: float) -> None:
        """Another node says this."""
        try:
            if relay.purpose == TRACE:
                self._receive_ask(node, relay.data, now)
            else:
                self._receive_told(node, relay.data, now)
        except WordsError:
            self._bad.inc()

    def receive_relay_failure(self, node: bytes, relay: Relay, now: float) -> None:
        """It did not leave: it is said again, and what was seen is lost."""

    def receive_link_end(self, node: bytes, now: float) -> None:
        """Nothing hangs on a link."""

    def _receive_ask(self, node: bytes, data: bytes, now: float) -> None:
        ask = read_ask(data)
        key = (node, ask.trace)
        watched = self._watched.get(key)
        if ask.ends:
            if watched is not None:
                self._forget(key)
            return
        if watched is None:
            if len(self._watched) - len(self._traces) >= MOST_TRACES:
                self._say(node, Told(ask.trace, busy=True), now)
                return
            watched = self._watched[key] = _Watched(ask.sought, now)
            self._arm(now)
            self._changed()
        watched.lapses_at = now + LAPSE_SECONDS
        self._say(node, Told(ask.trace), now)

    def _receive_told(self, node: bytes, data: bytes, now: float) -> None:
        told = read_told(data)
        trace = self._traces.get(told.trace)
        if trace is None or self._others is None:
            return
        name = next((contact.name for contact in self._others.others() if contact.node == node), node.hex()[:8])
        trace.heard[node] = "busy" if told.busy else "watching"
        trace.lost += told.lost
        self._lost.inc(trace.add(name, told.copies, now))

    def _tell(self, key: Any, now: float) -> None:
        watched = self._watched.get(key)
        if watched is None:
            return
        watched.telling = None
        copies = tuple(self._copy(seen) for seen in watched.catch.take(TELL_BYTES))
        self._say(key[0], Told(key[1], copies, watched.catch.take_lost()), now)
        if len(watched.catch):
            watched.telling = self._deadlines.add(now + TELL_SECONDS, self._tell, key)

    def _say(self, node: bytes, told: Told, now: float) -> None:
        if self._others is not None and not self._others.relaying.send(node, Relay(TRACED, b"", pack(told)), now):
            self._lost.inc(len(told.copies))

    def _copy(self, seen: Seen) -> Copy:
        return make_copy(seen, self._mask(seen.data))

    # Time

    def _arm(self, now: float) -> None:
        if self._turn is None:
            self._turn = self._deadlines.add(now + RENEW_SECONDS, self._look)

    def _look(self, _argument: object, now: float) -> None:
        """Ask the others again, and forget what has lapsed."""
        self._turn = None
        for trace in list(self._traces.values()):
            if now - trace.polled_at >= LAPSE_SECONDS:
                self._end(trace, now)
            else:
                self._ask_all(trace, now)
        for key in [key for key, watched in self._watched.items() if now >= watched.lapses_at]:
            self._forget(key)
        if self._watched:
            self._arm(now)

    def _forget(self, key: tuple[bytes, bytes]) -> None:
        watched = self._watched.pop(key, None)
        if watched is not None:
            self._deadlines.cancel(watched.telling)
            if not self._watched:
                self._deadlines.cancel(self._turn)
                self._turn = None
            self._changed()

    def stop(self) -> None:
        """Watch no more."""
        self._traces.clear()
        for key in list(self._watched):
            self._forget(key)


def _describe(number: int, arrived: _Arrived) -> Answer:
    """A message as the console is told it."""
    copy = arrived.copy
    source, destination = copy.ends
    return {
        "number": number,
        "time": copy.time / 1_000_000,
        "node": arrived.node,
        "direction": "out" if copy.sent else "in",
        "transport": copy.transport,
        "source": _write(source),
        "destination": _write(destination),
        "size": copy.size,
        "raw": copy.data.decode("utf-8", "surrogateescape"),
    }


def _write(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
