"""What is said of nodes: which of two sayings counts, and the news that still has to be passed on.

SWIM (Das, Gupta, Motivala 2002, section 4.2): the higher incarnation counts; at equal incarnation the later state of
joining, alive, suspect, dead, left. Only a node raises its own incarnation: to refute that it is suspected or dead, and
by starting again, also after it has left.

News travel with pings and in notices of their own, each sent λ·log10(N + 1) times by each node, ten times at least, the
least sent and of these the newest first (section 4.1). There is one piece of news a node: a newer one takes the place
of the older.

What is passed on of others is hearsay: the address to dial, incarnation, and state. Zone, roles, name and listeners
are believed from the node's own word only, so they do not travel, and neither does the address of one that is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, log10
from typing import Final

from farm.overlay.wire import DEAD, ID_BYTES, JOINING, LEFT, Contact

SPREAD: Final = 4.0  # SWIM's λ
LEAST_SENT: Final = 10  # of a hundred nodes one in two hundred events is then missed by one
MOST_RUMOURS: Final = 4096
MOST_INCARNATION: Final = 1 << 53  # ms of 285,000 years
MOST_HEARSAY: Final = 1 << 52  # of what others say: it can always be refuted, and each start after that be announced
_FIXED_BYTES: Final = 59  # of a Contact without its texts
_MOST_TEXT: Final = 255
_MOST_LISTENERS: Final = 16


def outranks(new: Contact, old: Contact) -> bool:
    """Whether what `new` says of a node replaces what `old` says of it."""
    return (new.incarnation, new.state) > (old.incarnation, old.state)


def is_sound(contact: Contact) -> bool:
    """Whether a contact from the wire can be worked with. One that is alive has an address."""
    return (
        len(contact.node) == ID_BYTES
        and JOINING <= contact.state <= LEFT
        and 0 <= contact.incarnation < MOST_INCARNATION
        and (has_address(contact) or contact.state in (DEAD, LEFT))
        and len(contact.host) <= _MOST_TEXT
        and len(contact.zone) <= _MOST_TEXT
        and len(contact.name) <= _MOST_TEXT
        and len(contact.sip) <= _MOST_LISTENERS
        and len(contact.dns) <= _MOST_LISTENERS
        and all(len(text) <= _MOST_TEXT for text in (*contact.sip, *contact.dns))
        and 0 <= contact.load <= 100
    )


def has_address(contact: Contact) -> bool:
    """Whether it says where to dial."""
    return bool(contact.host) and 0 < contact.port < 65536


def make_hearsay(contact: Contact) -> Contact:
    """What is passed on of another node."""
    if contact.state in (DEAD, LEFT):
        return Contact(contact.node, "", 0, contact.incarnation, contact.state)
    return Contact(contact.node, contact.host, contact.port, contact.incarnation, contact.state)


def size_of(contact: Contact) -> int:
    """About how many bytes it takes on the wire, never fewer."""
    texts = len(contact.host) + len(contact.zone) + len(contact.name)
    return _FIXED_BYTES + texts + sum(len(text) + 2 for text in (*contact.sip, *contact.dns))


def most_sent(nodes: int) -> int:
    """How often each node passes a piece of news on in a farm of so many."""
    return max(LEAST_SENT, ceil(SPREAD * log10(nodes + 1)))


class Rumours:
    """The news that still have to be passed on, by how often they have been."""

    __slots__ = ("_levels", "_sent")

    def __init__(self) -> None:
        self._sent: dict[bytes, int] = {}
        self._levels: list[dict[bytes, Contact]] = [{}]  # the oldest first in each

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, contact: Contact) -> None:
        """Pass this on, in place of what was said of the node before. When there is no room, what was sent most
        often, and of that the oldest, is dropped."""
        self.forget(contact.node)
        if len(self._sent) >= MOST_RUMOURS:
            most = next(level for level in reversed(self._levels) if level)
            self.forget(next(iter(most)))
        self._sent[contact.node] = 0
        self._levels[0][contact.node] = contact

    def forget(self, node: bytes) -> None:
        """No more of this one."""
        sent = self._sent.pop(node, None)
        if sent is not None:
            del self._levels[sent][node]

    def take(self, most_bytes: int, most_times: int) -> list[Contact]:
        """The news for one message, counted as sent; what has been sent `most_times` is news no longer."""
        taken: list[tuple[int, Contact]] = []
        room = most_bytes
        for sent, level in enumerate(self._levels):
            while level:
                node, contact = level.popitem()
                size = size_of(contact)
                if size > room:
                    level[node] = contact
                    break
                room -= size
                taken.append((sent + 1, contact))
            if level:
                break
        for sent, contact in reversed(taken):
            if sent >= most_times:
                del self._sent[contact.node]
                continue
            if sent == len(self._levels):
                self._levels.append({})
            self._sent[contact.node] = sent
            self._levels[sent][contact.node] = contact
        return [contact for _, contact in taken]


def chunk(contacts: Iterable[Contact], most_bytes: int) -> Iterable[list[Contact]]:
    """The contacts in lists that take at most so many bytes each (one contact at least)."""
    part: list[Contact] = []
    room = most_bytes
    for contact in contacts:
        size = size_of(contact)
        if part and size > room:
            yield part
            part = []
            room = most_bytes
        part.append(contact)
        room -= size
    if part:
        yield part
