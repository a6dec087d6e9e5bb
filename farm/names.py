"""DNS for the overlay's seeds, by the resolver that SIP has: `farm.overlay.seeds.Names`.

Part of the composition root, since the overlay and the resolver do not know each other. A failure counts as no record:
the seeds are asked for again soon anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from farm.overlay.seeds import Service
from farm.resolve.records import Answer, Question, is_host_name


class Resolver(Protocol):
    """What is needed of the resolver: the answer, or what calls back with it."""

    def answer(self, question: Question) -> Answer | Any:
        """As `farm.resolve.resolver.Resolver` has it."""


class SeedNames:
    """Asks a resolver. `families` are the kinds of address records that are of use, "A" and "AAAA"."""

    def __init__(self, resolver: Resolver, families: Sequence[str] = ("A", "AAAA")) -> None:
        self._resolver = resolver
        self._families = families

    def find_addresses(self, name: str, done: Callable[[Sequence[str]], None]) -> None:
        """The numeric addresses of a host, of all families, when the last answer is here."""
        found: dict[str, tuple[str, ...]] = {}

        def receive(answer: Answer, family: str) -> None:
            found[family] = answer.addresses
            if len(found) == len(self._families):
                done([address for kind in self._families for address in found[kind]])

        for family in self._families:
            self._ask(family, name, partial(receive, family=family))

    def find_services(self, name: str, done: Callable[[Sequence[Service]], None]) -> None:
        """The SRV records of a name."""
        self._ask("SRV", name, lambda answer: done([Service(*record) for record in answer.srvs]))

    def _ask(self, kind: str, name: str, receive: Callable[[Answer], None]) -> None:
        name = name.rstrip(".").lower()
        if not is_host_name(name):
            receive(Answer(failure="broken"))
            return
        answer = self._resolver.answer(Question(kind, name))
        if isinstance(answer, Answer):
            receive(answer)
        else:
            answer.addCallback(receive)
