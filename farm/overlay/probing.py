"""Asking after nodes: SWIM's probe, direct and by others, with Lifeguard's Nack.

Each period one linked member, in an order that is drawn anew each time round, is sent a Ping. When no Pong comes, three
others are asked to ping it (Das, Gupta, Motivala 2002, section 3.1). Any Pong shows that it is there; a Nack shows that
the helper is there and the target did not answer it, which confirms the suspicion; a helper's silence is held against
this node itself (`awareness`).

What came of a probe is told to `Verdicts`, which decides what it means. A probe that was under way while this process
was stopped ends without a verdict (`void`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from farm.overlay.awareness import Awareness
from farm.overlay.wire import Answer, Contact, Error, Nack, Ping, PingRequest, Pong, Request

PING_SECONDS: Final = 0.5
RELAY_SECONDS: Final = 0.8  # a helper's ping, and the way to the helper and back
HELPERS: Final = 3
MOST_RELAYS: Final = 256  # pings under way for others

Done = Callable[[Answer | None, float], None]


class Asking(Protocol):
    """Port to the calls."""

    def ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Done,
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int:
        """Send a request; `done` hears the answer, or None when there was none in time, in a later turn."""

    def answer(self, node: bytes, message: Answer, now: float) -> None:
        """Send the answer to a request that was not answered at once."""


class Verdicts(Protocol):
    """Port to who is asking."""

    def helpers(self, target: bytes, most: int) -> Sequence[bytes]:
        """Linked members, alive, to be asked for help with this one, drawn at random."""

    def receive_gossip(self, updates: Sequence[Contact], source: bytes, now: float) -> None:
        """What an answer carried."""

    def check_time(self, now: float) -> None:
        """Before anybody's silence is believed: was this process stopped? Then `Prober.void` is called."""

    def found_alive(self, node: bytes, directly: bool, now: float) -> None:
        """It answered, this node or another."""

    def found_silent(self, node: bytes, cause: str, confirmers: set[bytes], helped: bool, now: float) -> None:
        """Nobody reaches it; these confirmed that. `helped`: others were asked."""


class Probe(msgspec.Struct):
    """One probe under way: of whom, why (probe or link), and what the helpers said."""

    target: bytes
    cause: str
    epoch: int
    waiting: int = 0
    asked: int = 0
    reached: bool = False
    confirmers: set[bytes] = msgspec.field(default_factory=set)


class Prober:
    """The probes under way, for itself and for others. `news(node)` is what a ping or an answer to it carries."""

    def __init__(
        self,
        own: bytes,
        calls: Asking,
        verdicts: Verdicts,
        news: Callable[[bytes], list[Contact]],
        awareness: Awareness,
        rng: random.Random,
    ) -> None:
        self._own = own
        self._calls = calls
        self._verdicts = verdicts
        self._news = news
        self._awareness = awareness
        self._rng = rng
        self._epoch = 0
        self._round: list[bytes] = []
        self._probes: dict[bytes, Probe] = {}
        self._relays = 0

    def void(self) -> None:
        """Forget the probes under way: what comes of them says nothing."""
        self._epoch += 1
        self._probes.clear()

    def is_probing(self, node: bytes) -> bool:
        """Whether a probe of it is under way."""
        return node in self._probes

    def next_target(self, linked: Sequence[bytes], may_probe: Callable[[bytes], bool]) -> bytes | None:
        """The next one in a random order in which each has its turn (section 4.3: bounds the time to detection)."""
        for again in (False, True):
            while self._round:
                node = self._round.pop()
                if may_probe(node) and node not in self._probes:
                    return node
            if not again:
                self._round = list(linked)
                self._rng.shuffle(self._round)
        return None

    def probe(self, node: bytes, now: float) -> None:
        """Ping it; when it is silent, have it pinged."""
        if node in self._probes:
            return
        probe = self._probes[node] = Probe(node, "probe", self._epoch)

        def done(answer: Answer | None, at: float) -> None:
            self._receive_direct(probe, answer, at)

        message = Ping(0, self._news(node))
        self._calls.ask(node, message, PING_SECONDS * self._awareness.factor, done, now)

    def probe_by_others(self, node: bytes, now: float) -> None:
        """Have it pinged: there is no link to do it ourselves."""
        if node not in self._probes:
            probe = self._probes[node] = Probe(node, "link", self._epoch)
            self._ask_helpers(probe, now)

    def receive_request(self, node: bytes, message: PingRequest, now: float) -> Answer | None:
        """Ping the target for `node`; None: the answer follows."""
        self._verdicts.receive_gossip(message.updates, node, now)
        if message.target == self._own:
            return Pong(message.call, self._news(node))
        if self._relays >= MOST_RELAYS:
            return Error(message.call, "busy")
        self._relays += 1
        target = message.target
        call = message.call

        def done(answer: Answer | None, at: float) -> None:
            self._relays -= 1
            self._learn_from(answer, target, at)
            updates = self._news(node)
            self._calls.answer(node, Nack(call, updates) if answer is None else Pong(call, updates), at)

        self._calls.ask(target, Ping(0, self._news(target)), PING_SECONDS, done, now)
        return None

    def _learn_from(self, answer: Answer | None, source: bytes, now: float) -> None:
        if isinstance(answer, (Pong, Nack)):
            self._verdicts.receive_gossip(answer.updates, source, now)

    def _receive_direct(self, probe: Probe, answer: Answer | None, now: float) -> None:
        self._learn_from(answer, probe.target, now)
        if answer is not None:
            self._awareness.improve()
            self._end(probe)
            self._verdicts.found_alive(probe.target, True, now)
            return
        self._verdicts.check_time(now)
        if probe.epoch == self._epoch:
            self._ask_helpers(probe, now)

    def _ask_helpers(self, probe: Probe, now: float) -> None:
        helpers = self._verdicts.helpers(probe.target, HELPERS)
        probe.waiting = probe.asked = len(helpers)
        if not helpers:
            self._conclude(probe, now)
            return
        for helper in helpers:
            self._ask_helper(probe, helper, now)

    def _ask_helper(self, probe: Probe, helper: bytes, now: float) -> None:
        def done(answer: Answer | None, at: float) -> None:
            self._receive_indirect(probe, helper, answer, at)

        message = PingRequest(0, probe.target, self._news(helper))
        self._calls.ask(helper, message, RELAY_SECONDS * self._awareness.factor, done, now)

    def _receive_indirect(self, probe: Probe, helper: bytes, answer: Answer | None, now: float) -> None:
        self._learn_from(answer, helper, now)
        if answer is None:
            self._verdicts.check_time(now)
        if probe.epoch != self._epoch or probe.reached:
            return
        probe.waiting -= 1
        if isinstance(answer, Pong):
            probe.reached = True
            self._end(probe)
            self._verdicts.found_alive(probe.target, False, now)
            return
        if isinstance(answer, Nack):
            probe.confirmers.add(helper)
        if not probe.waiting:
            self._conclude(probe, now)

    def _conclude(self, probe: Probe, now: float) -> None:
        """Nobody reached it. Helpers that said nothing at all speak for our own fault (Lifeguard, IV.A)."""
        self._end(probe)
        silent = probe.asked - len(probe.confirmers)
        if silent or (not probe.asked and probe.cause == "probe"):
            self._awareness.worsen(max(1, silent))
        self._verdicts.found_silent(probe.target, probe.cause, probe.confirmers, probe.asked > 0, now)

    def _end(self, probe: Probe) -> None:
        if self._probes.get(probe.target) is probe:
            del self._probes[probe.target]
