"""The farm's zone: from the nodes that speak SIP outside to the records that lead strangers to them (RFC 3263 §4, §5).

The zone has SOA and NS; NAPTR and SRV for the transports that somebody really listens on (RFC 7118 §5.5 for
WebSocket), weighted by what each node still can take; and the addresses of the nodes, under the zone's own name and
under a label for each. A label is a keyed hash: it says neither a node's name nor its Node-ID, and stays as it is
for as long as the node has these addresses, since resolvers keep it. Who may be shown is decided by whoever calls
`update`; a node that is in doubt stays, to be tried last, and gives its name no address while others are there.

Decided: the serial is the second of the last change as this node saw it, and there is at most one change a second. It
never goes back, at a restart neither, and nodes that have learned the same are a moment apart at most: a secondary that
asked the later one first has then seen what the other would say. Sums of incarnations would be equal on all nodes, but
go back when a node that is long dead is forgotten.
Decided: dnspython for records and messages. twisted.names knows no EDNS options, no extended codes and no limit for
what it writes (trap 5 of the design); both are well kept.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from dns import rdata, rrset
from dns.name import Name, from_text, root
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

MOST_EDGES: Final = 200
"""Nodes that are shown at most, or answers would outgrow a message; those with the first labels are."""
CHANGE_SECONDS: Final = 1.0
_IN: Final = RdataClass.IN
_LABEL_BYTES: Final = 10
_FULL_WEIGHT: Final = 100
_SURE: Final = 10  # priority of a node that answers, and of one that is in doubt
_DOUBTFUL: Final = 20
_PREFERENCE: Final = 50
_SERIALS: Final = 1 << 32

# For each transport: service of the NAPTR record, and where the SRV records are.
_SERVICES: Final[Mapping[str, tuple[bytes, str]]] = {
    "TLS": (b"SIPS+D2T", "_sips._tcp"),
    "TCP": (b"SIP+D2T", "_sip._tcp"),
    "UDP": (b"SIP+D2U", "_sip._udp"),
    "WSS": (b"SIPS+D2W", "_sips._ws"),
    "WS": (b"SIP+D2W", "_sip._ws"),
}
TRANSPORTS: Final = tuple(_SERVICES)


class Listener(NamedTuple):
    """Where a node takes SIP: `transport` one of TRANSPORTS, `host` a numeric address that strangers reach."""

    transport: str
    host: str
    port: int


class Edge(NamedTuple):
    """A node that strangers may be sent to. `servers` are the addresses where it answers for the zone, `load` is 0 to
    100, `doubtful` that it is not known to be there at present."""

    node: bytes
    listeners: tuple[Listener, ...]
    servers: tuple[str, ...] = ()
    load: int = 0
    doubtful: bool = False


class ZoneSettings(msgspec.Struct, frozen=True):
    """What an operator says of the zone. `secret` keys the labels and is the same on all nodes; `nameservers` are the
    names of the NS records, the nodes' own labels when there are none; `prefer` orders the transports."""

    name: str
    secret: bytes
    ttl: int = 10
    nameservers: tuple[str, ...] = ()
    hostmaster: str = ""
    prefer: tuple[str, ...] = TRANSPORTS


Records = Mapping[RdataType, rrset.RRset]


class Zone:
    """The records. Nothing is there before the first `update` that has edges."""

    def __init__(self, settings: ZoneSettings) -> None:
        self.name: Final = make_name(settings.name)
        self.serial = 0
        self._settings = settings
        self._records: dict[Name, dict[RdataType, rrset.RRset]] = {}
        self._inner: frozenset[Name] = frozenset()  # names that have names below them, and no records
        self._edges: tuple[Edge, ...] = ()
        self._changed_at = float("-inf")
        self._outdated = False  # the settings have changed since the version that is shown

    def __len__(self) -> int:
        """How many nodes it shows."""
        return len(self._edges)

    @property
    def is_served(self) -> bool:
        """Whether somebody shown answers for it, or the operator has said who does."""
        return bool(self._settings.nameservers) or any(edge.servers for edge in self._edges)

    @property
    def is_there(self) -> bool:
        """Whether anything is known to be shown."""
        return bool(self._edges)

    def change(self, settings: ZoneSettings) -> None:
        """Take other settings of the same zone; the next `update` makes the new version."""
        if settings != self._settings:
            self._settings = settings
            self._outdated = True

    def update(self, edges: Iterable[Edge], now: float, wall: float) -> bool:
        """Show these nodes; answers whether that made a new version. With none the last ones stay: an empty zone helps
        nobody. A change too soon after the last waits to be said again."""
        wanted = tuple(sorted(edge for edge in edges if edge.listeners))
        same = wanted == self._edges and not self._outdated
        if not wanted or same or now - self._changed_at < CHANGE_SECONDS:
            return False
        self._edges = wanted
        self._outdated = False
        self._changed_at = now
        self.serial = next_serial(self.serial, wall) if self.serial else max(int(wall) % _SERIALS, 1)
        self._build()
        return True

    def find(self, name: Name) -> Records | None:
        """What is at a name, {} when only names below it have something; None for a name that is not there."""
        records = self._records.get(name)
        if records is None and name in self._inner:
            return {}
        return records

    def covers(self, name: Name) -> bool:
        """Whether a name is the zone's, or below."""
        return name.is_subdomain(self.name)

    @property
    def soa(self) -> rrset.RRset:
        """The record of the zone itself; only of a zone that is there."""
        return self._records[self.name][RdataType.SOA]

    def all_records(self) -> Iterator[rrset.RRset]:
        """Everything, the SOA first."""
        yield self.soa
        for name in sorted(self._records):
            for kind in sorted(self._records[name]):
                if kind != RdataType.SOA:
                    yield self._records[name][kind]

    def write(self) -> list[str]:
        """All records as the lines of a master file (RFC 1035 §5), with whole names."""
        return [line for records in self.all_records() for line in records.to_text().splitlines()]

    # Building

    def _build(self) -> None:
        self._records = {}
        shown = self._edges
        if len(shown) > MOST_EDGES:
            shown = tuple(sorted(shown, key=lambda edge: self._make_label(edge, ())))[:MOST_EDGES]
        sure = [edge for edge in shown if not edge.doubtful] or shown
        self._add_hosts(self.name, {listener.host for edge in sure for listener in edge.listeners})
        for transport, (_service, prefix) in _SERVICES.items():
            for edge in shown:
                self._add_targets(edge, transport, prefix)
        self._add_services()
        self._add_authority(sure)
        present = set(self._records)
        self._inner = frozenset(parent for name in present for parent in self._parents(name) if parent not in present)

    def _parents(self, name: Name) -> Iterator[Name]:
        while name != self.name:
            name = name.parent()
            yield name

    def _add_targets(self, edge: Edge, transport: str, prefix: str) -> None:
        """A target for each port, with all addresses that have it."""
        by_port: dict[int, set[str]] = {}
        for listener in edge.listeners:
            if listener.transport == transport:
                by_port.setdefault(listener.port, set()).add(listener.host)
        weight = max(_FULL_WEIGHT - edge.load, 1)
        priority = _DOUBTFUL if edge.doubtful else _SURE
        for port, hosts in sorted(by_port.items()):
            target = self._add_label(edge, hosts)
            self._add(self._below(prefix), SRV(_IN, RdataType.SRV, priority, weight, port, target))

    def _add_services(self) -> None:
        order = 10
        for transport in self._settings.prefer:
            service, prefix = _SERVICES[transport]
            name = self._below(prefix)
            if name in self._records:
                self._add(
                    self.name, NAPTR(_IN, RdataType.NAPTR, order, _PREFERENCE, b"s", service, b"", name)
                )  # fmt: skip
                order += 10

    def _add_authority(self, edges: Sequence[Edge]) -> None:
        settings = self._settings
        names = [make_name(name) for name in settings.nameservers]
        if not names:
            names = [self._add_label(edge, edge.servers) for edge in edges if edge.servers]
        for name in names or [self.name]:
            self._add(self.name, NS(_IN, RdataType.NS, name))
        mailbox = make_mailbox(settings.hostmaster or f"hostmaster@{settings.name}")
        ttl = settings.ttl
        first = min(names, default=self.name)
        # a secondary looks every 60 s where a NOTIFY was lost, and answers for a day when it reaches nobody
        self._add(self.name, SOA(_IN, RdataType.SOA, first, mailbox, self.serial, 60, 15, 86_400, ttl))

    def _add_label(self, edge: Edge, hosts: Iterable[str]) -> Name:
        name = self._below(self._make_label(edge, hosts))
        self._add_hosts(name, hosts)
        return name

    def _make_label(self, edge: Edge, hosts: Iterable[str]) -> str:
        text = b"zone label\0" + edge.node + b"\0" + ",".join(sorted(hosts)).encode()
        digest = hmac.digest(self._settings.secret, text, "sha256")
        return base64.b32encode(digest[:_LABEL_BYTES]).decode().lower()

    def _add_hosts(self, name: Name, hosts: Iterable[str]) -> None:
        for host in sorted(hosts):
            if ipaddress.ip_address(host).version == 4:
                self._add(name, A(_IN, RdataType.A, host))
            else:
                self._add(name, AAAA(_IN, RdataType.AAAA, host))

    def _add(self, name: Name, record: rdata.Rdata) -> None:
        records = self._records.setdefault(name, {})
        held = records.get(record.rdtype)
        if held is None:
            held = records[record.rdtype] = rrset.RRset(name, _IN, record.rdtype)
        held.add(record, self._settings.ttl)

    def _below(self, prefix: str) -> Name:
        return from_text(prefix, self.name)


def make_name(text: str) -> Name:
    """A name from the root down, lower-case. Raises ValueError for what is none."""
    try:
        if not text:
            raise ValueError("it is empty")
        return from_text(text.lower(), root)
    except Exception as error:  # dnspython has a class for each mistake
        raise ValueError(f'"{text}" is not a domain name: {error}') from None


def make_mailbox(address: str) -> Name:
    """A mail address as SOA has it (RFC 1035 §8): its user is the first label. Raises ValueError."""
    user, at, domain = address.rpartition("@")
    if not at:
        return make_name(address)
    if not user or len(user) > 63:
        raise ValueError(f'"{address}" is not a mail address')
    return Name((user.encode(), *make_name(domain).labels))


def next_serial(serial: int, wall: float) -> int:
    """The one that follows: the time, or one more where that would not be later (RFC 1982 §3.2)."""
    timed = int(wall) % _SERIALS
    if 0 < (timed - serial) % _SERIALS < _SERIALS // 2:
        return timed
    return (serial + 1) % _SERIALS
