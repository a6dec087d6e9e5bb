"""What membership asks of the rest of a node goes to the right part of it, as it is."""

from __future__ import annotations

from typing import Any, cast

from farm.overlay.reach import Reach
from farm.overlay.wire import Answer, Contact, Gossip, Nack, Ping

NODE = b"n" * 32
CONTACT = Contact(NODE, "192.0.2.1", 7400)


class Recorder:
    """Calls, links and the routing table, all in one."""

    def __init__(self) -> None:
        self.noted: list[tuple[Any, ...]] = []
        self.wanted = True

    def ask(self, *args: Any, **kwargs: Any) -> int:
        self.noted.append(("ask", *args, kwargs))
        return 7

    def tell(self, *args: Any) -> None:
        self.noted.append(("tell", *args))

    def answer(self, *args: Any) -> None:
        self.noted.append(("answer", *args))

    def connect(self, *args: Any) -> None:
        self.noted.append(("connect", *args))

    def wants(self, contact: Contact) -> bool:
        self.noted.append(("wants", contact))
        return self.wanted


def make() -> tuple[Reach, Recorder]:
    recorder = cast("Any", Recorder())
    return Reach(recorder, recorder, recorder), recorder


def test_a_call_is_made_as_it_was_asked_for() -> None:
    reach, recorder = make()

    def done(_answer: Answer | None, _now: float) -> None:
        raise AssertionError("it is called later")

    ping = Ping(0)
    assert reach.ask(NODE, ping, 0.5, done, 3.0, patient=True, size_class="repair") == 7
    assert reach.ask(NODE, ping, 0.5, done, 3.0) == 7
    assert recorder.noted == [
        ("ask", NODE, ping, 0.5, done, 3.0, {"patient": True, "size_class": "repair"}),
        ("ask", NODE, ping, 0.5, done, 3.0, {"patient": False, "size_class": "upkeep"}),
    ]


def test_what_is_told_and_answered_goes_over_the_calls() -> None:
    reach, recorder = make()
    gossip, nack = Gossip([CONTACT]), Nack(4)
    reach.tell(NODE, gossip, 3.0)
    reach.answer(NODE, nack, 4.0)
    assert recorder.noted == [("tell", NODE, gossip, 3.0), ("answer", NODE, nack, 4.0)]


def test_links_are_dialled_and_the_table_says_which_are_kept() -> None:
    reach, recorder = make()
    reach.connect(CONTACT)
    assert reach.wants(CONTACT)
    recorder.wanted = False
    assert not reach.wants(CONTACT)
    assert recorder.noted == [("connect", CONTACT), ("wants", CONTACT), ("wants", CONTACT)]
