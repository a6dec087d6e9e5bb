"""How membership reaches other nodes: calls over the links there are, and new links."""

from __future__ import annotations

from collections.abc import Callable

from farm.overlay.calls import Calls, Links
from farm.overlay.routing import Routing
from farm.overlay.wire import Answer, Contact, Notice, Request


class Reach:
    """`membership.Peers`, over calls and links."""

    __slots__ = ("_calls", "_links", "_routing")

    def __init__(self, calls: Calls, links: Links, routing: Routing) -> None:
        self._calls = calls
        self._links = links
        self._routing = routing

    def ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Callable[[Answer | None, float], None],
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int:
        """Call a node."""
        return self._calls.ask(node, message, within, done, now, patient=patient, size_class=size_class)

    def tell(self, node: bytes, message: Notice, now: float) -> None:
        """Tell a node something."""
        self._calls.tell(node, message, now)

    def answer(self, node: bytes, message: Answer, now: float) -> None:
        """Answer a node's call, later than in the turn in which it came."""
        self._calls.answer(node, message, now)

    def connect(self, contact: Contact) -> None:
        """Have a link to a node."""
        self._links.connect(contact)

    def wants(self, contact: Contact) -> bool:
        """Whether to keep a link to a node."""
        return self._routing.wants(contact)
