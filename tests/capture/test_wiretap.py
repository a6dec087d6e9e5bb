"""Messages as the transport shows them."""

from __future__ import annotations

from farm.capture.seen import Address, Seen
from farm.capture.wiretap import MOST_SOURCES, Wiretap

PHONE = ("198.51.100.7", 5060)


class Screen:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def show(self, seen: Seen) -> None:
        self.seen.append(seen)


class Setup:
    """A wiretap at 1000.000250 s with two viewers."""

    def __init__(self) -> None:
        self.asked: list[Address] = []
        self.reports: list[str] = []
        self.wiretap = Wiretap(lambda: 1000.000250, self._find, self.reports.append)
        self.one, self.other = Screen(), Screen()
        self.wiretap.viewers = [self.one, self.other]

    def _find(self, remote: Address) -> str:
        self.asked.append(remote)
        return "192.0.2.1"


def test_a_message_is_timed_to_the_microsecond_and_shown_to_all() -> None:
    setup = Setup()
    setup.wiretap.watch(b"x", "TLS", ("192.0.2.1", 5061), PHONE, sent=False)
    assert setup.one.seen == [Seen(1_000_000_250, "TLS", False, ("192.0.2.1", 5061), PHONE, b"x")]
    assert setup.other.seen == setup.one.seen
    assert setup.asked == []


def test_a_listener_bound_to_all_addresses_is_shown_by_the_one_that_is_used() -> None:
    setup = Setup()
    for _ in range(2):
        setup.wiretap.watch(b"x", "UDP", ("0.0.0.0", 5060), PHONE, sent=True)
    assert [seen.local for seen in setup.one.seen] == [("192.0.2.1", 5060)] * 2
    assert setup.asked == [PHONE], "once for each far end"


def test_far_ends_without_number_do_not_fill_the_memory() -> None:
    setup = Setup()
    for number in range(MOST_SOURCES + 5):
        setup.wiretap.watch(b"x", "UDP", ("::", 5060), (f"2001:db8::{number:x}", 5060), sent=True)
    assert len(setup.wiretap._sources) == 5


def test_a_fault_of_ours_costs_the_copy_alone() -> None:
    setup = Setup()
    setup.wiretap.viewers = [None]  # type: ignore[list-item]
    setup.wiretap.watch(b"x", "UDP", ("192.0.2.1", 5060), PHONE, sent=True)
    assert setup.reports == ["a message could not be copied"]
