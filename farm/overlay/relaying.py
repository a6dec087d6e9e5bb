"""Relays: bytes for what runs above the overlay on another node, over the link to it.

They leave at the end of the turn, with whatever else goes to that node (`calls.py`), and nobody acknowledges them. In a
farm larger than the routing table not every pair has a link: then the node is dialled, and what is for it waits, not
long and not much. The user hears of each relay that did not leave; of one that left and was lost with its link it does
not, as with any network below it.

Relays are taken from nodes with the role edge alone, and only where this node has it: nobody else speaks for phones.
What bounds them is their size, the number a second (`calls.py`), and here what may wait.

Decided: no acknowledgement. What is relayed is SIP, whose own timers repeat what got lost, and a link that loses
anything is a link that has closed, of which both ends hear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from farm.deadlines import Deadline, Deadlines
from farm.metrics import Metrics
from farm.overlay.wire import DEAD, EDGE, FRAME_BYTES, LEFT, Contact, Relay

MOST_HEAD_BYTES: Final = 512
MOST_DATA_BYTES: Final = FRAME_BYTES - 1024  # with its head it fits into a frame; streams bring more than datagrams
WAIT_SECONDS: Final = 1.0  # for a link: a dial and a handshake take a few milliseconds, a lost SYN one second
MOST_WAITING_BYTES: Final = 262_144  # for one node
MOST_WAITING_NODES: Final = 64
FIRST_VERSION: Final = 2  # of nodes that know what a relay is

_GONE: Final = frozenset((DEAD, LEFT))


class RelayUser(Protocol):
    """What runs above the overlay. None of these raises."""

    def receive_relay(self, node: bytes, relay: Relay, now: float) -> None:
        """Another node says this."""

    def receive_relay_failure(self, node: bytes, relay: Relay, now: float) -> None:
        """This was for another node, and did not leave."""

    def receive_link_end(self, node: bytes, now: float) -> None:
        """There is no link to that node any more."""


class Teller(Protocol):
    """What sends: `calls.Calls`."""

    def tell(self, node: bytes, message: Relay, now: float) -> None:
        """Say something that wants no answer."""


class Links(Protocol):
    """The links to other nodes."""

    def connect(self, contact: Contact) -> None:
        """Dial it."""

    def is_open(self, node: bytes) -> bool:
        """Whether there is a link."""


class _Waiting:
    """What waits for a link to one node."""

    __slots__ = ("address", "bytes", "deadline", "relays")

    def __init__(self, address: tuple[str, int], deadline: Deadline) -> None:
        self.address = address
        self.deadline = deadline
        self.relays: list[Relay] = []
        self.bytes = 0


class Relaying:
    """The relays of one node, to and from all others. `find` answers what is held of a member; `edge` says that this
    node speaks SIP. `user` must be set before the first relay."""

    def __init__(
        self,
        calls: Teller,
        links: Links,
        find: Callable[[bytes], Contact | None],
        deadlines: Deadlines,
        metrics: Metrics,
        *,
        edge: bool,
    ) -> None:
        self.user: RelayUser | None = None
        self.users: dict[int, RelayUser] = {}  # of purposes that are not its
        self._calls = calls
        self._links = links
        self._find = find
        self._deadlines = deadlines
        self._edge = edge
        self._wrong_role = metrics.peer_rejections.child("wrong-role")
        self._bad_message = metrics.peer_rejections.child("bad-message")
        self._waiting: dict[bytes, _Waiting] = {}

    def send(self, node: bytes, relay: Relay, now: float) -> bool:
        """Have it sent at the end of this turn, or when there is a link. False for a node that is gone or too old to
        know what it is, for what is too long, and when too much waits: nothing will come of it then."""
        contact = self._find(node)
        if contact is None or contact.version < FIRST_VERSION:
            return False
        if len(relay.data) > MOST_DATA_BYTES or len(relay.head) > MOST_HEAD_BYTES:
            return False
        if self._links.is_open(node):
            self._calls.tell(node, relay, now)
            return True
        return contact.state not in _GONE and self._wait(contact, relay, now)

    def has_link(self, node: bytes) -> bool:
        """Whether there is a link to a node now."""
        return self._links.is_open(node)

    def _wait(self, contact: Contact, relay: Relay, now: float) -> bool:
        waiting = self._waiting.get(contact.node)
        if waiting is None:
            if len(self._waiting) >= MOST_WAITING_NODES:
                return False
            deadline = self._deadlines.add(now + WAIT_SECONDS, self._give_up, contact.node)
            waiting = self._waiting[contact.node] = _Waiting((contact.host, contact.port), deadline)
            self._links.connect(contact)
        size = len(relay.data) + len(relay.head)
        if waiting.bytes + size > MOST_WAITING_BYTES:
            return False
        waiting.relays.append(relay)
        waiting.bytes += size
        return True

    # What becomes of links

    def link_opened(self, node: bytes, now: float) -> None:
        """There is a link to that node: what waited for it leaves."""
        waiting = self._waiting.pop(node, None)
        if waiting is not None:
            self._deadlines.cancel(waiting.deadline)
            for relay in waiting.relays:
                self._calls.tell(node, relay, now)

    def link_failed(self, host: str, port: int, now: float) -> None:
        """A dial of that address came to nothing."""
        for node in [node for node, waiting in self._waiting.items() if waiting.address == (host, port)]:
            self._deadlines.cancel(self._waiting[node].deadline)
            self._give_up(node, now)

    def link_closed(self, node: bytes, now: float) -> None:
        """The link to that node is gone."""
        if self.user is not None:
            self.user.receive_link_end(node, now)

    def lost(self, node: bytes, relays: list[Relay], now: float) -> None:
        """These were told, and the link took them no more."""
        for relay in relays:
            user = self.users.get(relay.purpose, self.user)
            if user is not None:
                user.receive_relay_failure(node, relay, now)

    def stop(self) -> None:
        """Wait for no link any more."""
        for waiting in self._waiting.values():
            self._deadlines.cancel(waiting.deadline)
        self._waiting.clear()

    def _give_up(self, node: bytes, now: float) -> None:
        waiting = self._waiting.pop(node, None)
        if waiting is not None:
            self.lost(node, waiting.relays, now)

    # What others say

    def receive(self, node: bytes, relay: Relay, roles: int, now: float) -> None:
        """Another node's; `roles` are those of its certificate."""
        if not roles & EDGE or not self._edge:
            self._wrong_role.inc()
        elif len(relay.data) > MOST_DATA_BYTES or len(relay.head) > MOST_HEAD_BYTES:
            self._bad_message.inc()
        else:
            user = self.users.get(relay.purpose, self.user)
            if user is not None:
                user.receive_relay(node, relay, now)
