"""Seeds by name, asked of a resolver that is a dict."""

from __future__ import annotations

from collections.abc import Callable

from farm.names import SeedNames
from farm.overlay.seeds import Service
from farm.resolve.records import Answer, Question, Srv


class Later:
    """An answer that is not here yet."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[Answer], None]] = []

    def addCallback(self, function: Callable[[Answer], None]) -> None:
        self.waiting.append(function)


class DictResolver:
    """Answers what it holds, or fails."""

    def __init__(self, held: dict[Question, Answer | Later]) -> None:
        self.held = held
        self.asked: list[Question] = []

    def answer(self, question: Question) -> Answer | Later:
        self.asked.append(question)
        return self.held.get(question, Answer(failure="timeout"))


def test_a_host_has_its_addresses_of_both_families_when_the_last_one_is_known() -> None:
    later = Later()
    resolver = DictResolver({Question("A", "n1"): later, Question("AAAA", "n1"): Answer(addresses=("2001:db8::1",))})
    found: list[list[str]] = []
    SeedNames(resolver).find_addresses("N1.", lambda addresses: found.append(list(addresses)))
    assert found == []
    (receive,) = later.waiting
    receive(Answer(addresses=("10.0.0.1", "10.0.0.2")))
    assert found == [["10.0.0.1", "10.0.0.2", "2001:db8::1"]]


def test_a_failure_counts_as_no_record() -> None:
    found: list[list[str]] = []
    SeedNames(DictResolver({}), ("A",)).find_addresses("n1", lambda addresses: found.append(list(addresses)))
    assert found == [[]]


def test_services_come_as_they_stand_in_dns() -> None:
    name = "_sipfarm._tcp.farm.example.com"
    resolver = DictResolver({Question("SRV", name): Answer(srvs=(Srv(1, 2, 7400, "n1.example.com"),))})
    found: list[list[Service]] = []
    SeedNames(resolver).find_services(name, lambda services: found.append(list(services)))
    assert found == [[Service(1, 2, 7400, "n1.example.com")]]


def test_what_is_no_host_name_is_never_asked() -> None:
    resolver = DictResolver({})
    found: list[list[str]] = []
    SeedNames(resolver).find_addresses("a" * 64, lambda addresses: found.append(list(addresses)))
    assert found == [[]]
    assert resolver.asked == []
