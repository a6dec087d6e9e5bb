"""Datagrams that are no messages: keep-alives, which are counted and, where they are STUN, answered; and nothing.

Phones send line ends, NULs or blanks through their NAT, and want no answer over UDP; who uses outbound sends STUN and
takes silence for the death of its flow (RFC 5626 §4.4.2).

Decided: answers to STUN have a budget of their own, far above that of refusals: 100,000 phones send some 4,000 a
second, and an answer is hardly longer than what asks for it.
"""

from __future__ import annotations

from typing import Final, Protocol

from farm.metrics import Metrics
from farm.transport.refusal import AnswerBudget
from farm.transport.stun import answer_stun

STUN_PER_SECOND: Final = 10_000.0

Address = tuple[str, int]


class Rejections(Protocol):
    """Where what is turned away is counted and logged."""

    def note(self, reason: str, now: float, *, source: str = "") -> None:
        """One message was turned away."""


class End(Protocol):
    """The socket that a datagram came to."""

    def send_keepalive(self, data: bytes, address: Address) -> None:
        """Send what is no message."""


class Noise:
    """Takes what `receipt.find_noise` has a word for."""

    __slots__ = ("_budget", "_keepalives", "_rejections")

    def __init__(self, metrics: Metrics, rejections: Rejections) -> None:
        self._keepalives = metrics.keepalives.child("udp")
        self._rejections = rejections
        self._budget = AnswerBudget(STUN_PER_SECOND)

    def receive(self, reason: str, data: bytes, address: Address, end: End, now: float) -> None:
        """Count it, and answer it where an answer is due."""
        if reason == "keepalive":
            self._keepalives.inc()
        elif reason == "stun":
            self._answer(data, address, end, now)
        else:
            self._rejections.note(reason, now, source=address[0])

    def _answer(self, data: bytes, address: Address, end: End, now: float) -> None:
        host, port = address
        answer = answer_stun(data, host.partition("%")[0], port)
        if answer is None:
            self._rejections.note("stun", now, source=host)
        elif not self._budget.take(now):
            self._rejections.note("stun-rate", now, source=host)
        else:
            self._keepalives.inc()
            end.send_keepalive(answer, address)
