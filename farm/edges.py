"""The nodes that strangers may be sent to, as this one knows them: `frontend.authority.Roster`.

Part of the composition root: it reads the members of the overlay for the zone, and says of this node what others put
into theirs: where its listeners are reached (`find_public`), how busy it is. A node is in the zone when it is alive,
which it is once it is synchronised, has the role edge, and is not being drained; one that is suspect stays, in doubt.

Decided: load and draining are fields of a node's own word, told to those who are linked to it when they change, and
never passed on. Asking all nodes would cost a call each every few seconds; gossip would send each figure ten times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from farm.addresses import is_address, parse_listen
from farm.config import Config
from farm.deadlines import Deadlines
from farm.frontend.zone import Edge, Listener, ZoneSettings
from farm.load import LOOK_SECONDS, Load
from farm.member import Member
from farm.overlay.wire import ALIVE, EDGE, LEFT, SUSPECT, Contact
from farm.public import find_public, find_servers

_MOST_PARSED: Final = 4096


class Edges:
    """The roster of the zone. `member` is None for a lone node; `is_draining` and `used` (seconds of processor time)
    are asked."""

    def __init__(
        self,
        config: Config,
        member: Member | None,
        deadlines: Deadlines,
        is_draining: Callable[[], bool],
        used: Callable[[], float],
    ) -> None:
        self._member = member
        self.change(config)
        self._deadlines = deadlines
        self._is_draining = is_draining
        self._used = used
        self._load = Load()
        self._parsed: dict[tuple[str, ...], tuple[Listener, ...]] = {}

    def change(self, config: Config) -> None:
        """This node is reached as a configuration says; the others hear it from `member`."""
        self._own = (*find_public(config),)
        self._own_servers = find_servers(config)

    def start(self, now: float) -> None:
        """Tell the others how busy this node is, from now on."""
        if self._member is not None:
            self._look(None, now)

    def edges(self) -> Iterable[Edge]:
        """Those that strangers may be sent to."""
        if self._member is None:
            listeners = tuple(Listener(*listen) for listen in self._own)
            return [] if self._is_draining() else [Edge(b"", listeners, self._own_servers)]
        return [self._make(contact) for contact in self._member.contacts() if _is_shown(contact)]

    def knows_farm(self) -> bool:
        """Whether this node hears how the others are: not when it has left them and they go on."""
        if self._member is None or self._member.node.membership.own.state != LEFT:
            return True
        return not self._member.node.membership.live()

    def problem(self) -> str:
        """Why nobody is sent to this node, a sentence; "" when nothing stands against it."""
        if self._own:
            return ""
        return "nobody is sent here by DNS: the listeners are wildcards, so say dns.addresses"

    def _make(self, contact: Contact) -> Edge:
        return Edge(
            contact.node,
            self._parse(contact.sip),
            tuple(sorted(host for host in contact.dns if is_address(host))),
            contact.load,
            contact.state == SUSPECT,
        )

    def _parse(self, texts: tuple[str, ...]) -> tuple[Listener, ...]:
        found = self._parsed.get(texts)
        if found is None:
            if len(self._parsed) >= _MOST_PARSED:
                self._parsed.clear()
            found = self._parsed[texts] = tuple(sorted(_read(texts)))
        return found

    def _look(self, _argument: object, now: float) -> None:
        self._deadlines.add(now + LOOK_SECONDS, self._look)
        if self._load.look(self._used(), now) and self._member is not None:
            self._member.say(load=self._load.said)


def make_zone_settings(config: Config, secret: bytes) -> ZoneSettings:
    """The zone that a configuration asks for. Without a name of its own, or the farm's, it is that of the first
    domain: to be looked at, since nobody can ask for it."""
    dns = config.dns
    return ZoneSettings(
        (dns.zone or config.sip.farm_name or config.sip.domains[0]).rstrip("."),
        secret,
        dns.ttl_seconds,
        dns.nameservers,
        dns.hostmaster,
        tuple(transport.upper() for transport in dns.prefer),
    )


def _is_shown(contact: Contact) -> bool:
    return bool(contact.roles & EDGE) and contact.state in (ALIVE, SUSPECT) and not contact.draining


def _read(texts: Iterable[str]) -> Iterator[Listener]:
    """The listeners in another node's word; what cannot be used is passed over."""
    for text in texts:
        try:
            listen = parse_listen(text)
        except ValueError:
            continue
        if listen.port and is_address(listen.host):
            yield Listener(*listen)
