"""What the console and the pages ask of a running node (`farm.admin.control.Node`), gathered from its parts.

Part of the composition root: it reads and changes nothing, but for what an operator orders.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from farm import __version__
from farm.admin.control import Answer, OrderError
from farm.call_records import CallRecords
from farm.changes import Merged
from farm.config import Config, ConfigError
from farm.edges import Edges
from farm.frontend.authority import Authority
from farm.keyring import Keyring
from farm.member import Member
from farm.overlay.ids import partition_of
from farm.overlay.routing import Result
from farm.overlay.wire import LEFT, OWNER, STATE_NAMES, STRANGER, UNSETTLED, Contact, Stat, StatAnswer
from farm.overlay.wire import Answer as Reply
from farm.overview import Overview, describe_member, describe_replicas
from farm.proxy.gateways import Gateways, Health
from farm.records import Records
from farm.registrar.binding import KIND, Binding
from farm.registrar.location import Located, Location
from farm.security.limits import Ban, SourceLimits
from farm.security.users import Users
from farm.sip.status import SipError
from farm.tracing import TraceError
from farm.transport.shedding import Shedding
from farm.watching import Watching

STAT_SECONDS: Final = 2.0
_STANDINGS: Final = {OWNER: "owner", UNSETTLED: "unsettled", STRANGER: "stranger"}


class Transport(Protocol):
    """The SIP listeners."""

    @property
    def listener_names(self) -> list[str]:
        """As they are configured, with the ports they got."""

    @property
    def connection_count(self) -> int:
        """Connections open."""

    @property
    def shedding(self) -> Shedding:
        """What closes the phones' connections while the node is drained."""


class Transactions(Protocol):
    """Its transactions."""

    @property
    def running(self) -> int:
        """How many wait for a final response."""


class Core(Protocol):
    """Its SIP core."""

    location: Location
    gateways: Gateways
    keyring: Keyring


class Running(Protocol):
    """The node whose parts these are."""

    config: Config
    records: Records
    users: Users
    limits: SourceLimits
    core: Core
    transport: Transport
    transactions: Transactions
    member: Member | None
    edges: Edges
    authority: Authority
    calls: CallRecords
    watching: Watching

    @property
    def read_again(self) -> Callable[[], Merged] | None:
        """Reads the configuration again and takes what can change; raises ConfigError. None: there is no file."""

    def serves(self) -> bool:
        """Whether it listens and takes what is new."""

    def drain(self) -> None:
        """Take nothing new and hand over the records."""

    def undrain(self) -> None:
        """Serve again."""

    @property
    def draining(self) -> bool:
        """Whether it is being drained."""

    @property
    def transaction_count(self) -> int:
        """Transactions alive."""


class Reports:
    """Answers about `node`. `clock` is monotonic, `wall` seconds since 1970."""

    def __init__(self, node: Any, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.users: Users = node.users
        self._node: Running = node
        self._clock = clock
        self._wall = wall
        self._started_at = clock()
        self._overview = Overview(node, self, clock)

    def start(self) -> None:
        """Begin to note the last hour."""
        self._overview.start()

    def overview(self) -> Answer:
        """What the status page and `sipfarm top` show (docs/status.md)."""
        return self._overview.make()

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def ready(self) -> bool:
        """Whether traffic may be sent here."""
        node = self._node
        if not node.serves() or node.records.restoring or node.draining:
            return False
        return node.member is None or node.member.node.is_ready

    def problems(self) -> list[str]:
        """What is wrong at present, a sentence each."""
        node = self._node
        found = [node.records.problem] if node.records.problem else []
        found += node.core.keyring.problems()
        found += node.calls.problems()
        gateways = node.core.gateways.states()
        found += [f"gateway {uri} does not answer" for uri, health in gateways if health is Health.DOWN]
        if node.member is not None:
            found += node.member.problems()
        if node.config.dns.listen and node.edges.problem():
            found.append(node.edges.problem())
        return found + node.watching.problems()

    def status(self) -> Answer:
        """What `sipfarm status` shows."""
        node = self._node
        shelves = node.records.store.shelves
        copies = node.watching.status()
        return {
            "name": node.config.node.name,
            "version": __version__,
            "uptime_seconds": round(self._clock() - self._started_at),
            "listen": node.transport.listener_names,
            "domains": list(node.config.sip.domains),
            "registrations": shelves["registration"].live,
            "users": shelves["credential"].live,
            "transactions": node.transaction_count,
            "unwritten_records": node.records.store.unwritten,
            "gateways": {uri: health.value for uri, health in node.core.gateways.states()},
            **({"capture": copies} if copies else {}),
            **({"leaving": self._describe_leaving()} if node.draining else {}),
        }

    def _describe_leaving(self) -> Answer:
        """What is left of a node that is being drained; `left` says that the others know it to be gone."""
        node = self._node
        member = node.member
        return {
            "transactions": node.transactions.running,
            "connections": node.transport.connection_count,
            "closing": node.transport.shedding.running,
            "handed_over": 1.0 if member is None else round(member.node.upkeep.handover.progress(), 4),
            "left": member is None or member.node.state == STATE_NAMES[LEFT],
        }

    # Records

    def find_bindings(self, aor: str, now: float) -> list[Answer] | Awaitable[list[Answer] | None] | None:
        """The live bindings of an address-of-record; None when nothing is known of it."""
        try:
            found = self._node.core.location.find(aor, now)
        except SipError as error:
            raise _unreachable(aor, error) from None
        return self._describe_later(aor, found, now) if isinstance(found, Awaitable) else self._describe_all(found, now)

    async def _describe_later(self, aor: str, finding: Awaitable[Located], now: float) -> list[Answer] | None:
        try:
            return self._describe_all(await finding, now)
        except SipError as error:
            raise _unreachable(aor, error) from None

    def _describe_all(self, found: Located, now: float) -> list[Answer] | None:
        return (
            [_describe(binding, self._name_home(binding), now) for binding in found.bindings] if found.known else None
        )

    def _name_home(self, binding: Binding) -> str:
        """The node that took the registration, and has the way to the phone where that is a flow."""
        member = self._node.member
        home = None if member is None else member.find_by_stamp(binding.node)
        return "" if home is None else home.name

    def remove_bindings(self, aor: str, now: float) -> int | Awaitable[int]:
        """Remove all bindings of an address-of-record."""
        try:
            removed = self._node.core.location.remove(aor, now)
        except SipError as error:
            raise _unreachable(aor, error) from None
        return self._remove_later(aor, removed) if isinstance(removed, Awaitable) else removed

    async def _remove_later(self, aor: str, removing: Awaitable[int]) -> int:
        try:
            return await removing
        except SipError as error:
            raise _unreachable(aor, error) from None

    def follow_trace(self, aor: str, call_id: str, name: str, after: int, *, ends: bool) -> Answer:
        """Begin a trace, or go on with one."""
        try:
            return self._node.watching.follow(aor, call_id, name, after, ends=ends)
        except (TraceError, ValueError) as error:
            raise OrderError(str(error)) from None

    def bans(self, now: float) -> Sequence[Ban]:
        """The addresses that are banned."""
        return self._node.limits.bans(now)

    def calls(self, limit: int) -> Answer:
        """How many calls there are, and the oldest of those that were answered."""
        records = self._node.calls
        rows: list[object] = [*records.rows(limit, self._clock())]
        return {"ringing": records.calls.ringing, "answered": len(records.calls), "calls": rows}

    def lift_ban(self, source: str) -> bool:
        """Lift one."""
        return self._node.limits.clear(source)

    def zone(self) -> Answer:
        """The records that lead strangers to the farm, as this node knows it now."""
        authority = self._node.authority
        authority.look(self._clock())
        zone = authority.zone
        records = list(zone.all_records()) if zone.is_there else []
        return {
            "zone": zone.name.to_text(),
            "serial": zone.serial,
            "served": zone.is_served,
            "nodes": len(zone),
            "records": [
                {"name": held.name.to_text(), "ttl": held.ttl, "class": "IN", "type": held.rdtype.name, "data": data}
                for held in records
                for data in sorted(record.to_text() for record in held)
            ],
        }

    # Keys

    def keys(self) -> list[Answer]:
        """The keys of tokens and nonces, by number and age."""
        return [
            {
                "number": row.number,
                "age": round(row.age),
                "seals_in": round(row.seals_in),
                "ends_in": round(row.ends_in),
                "seals": row.seals,
            }
            for row in self._node.core.keyring.rows()
        ]

    async def rotate_keys(self) -> int:
        """Make a key although none is due; answers its number. Raises OrderError."""
        try:
            return await self._node.core.keyring.rotate(self._clock())
        except ValueError as error:
            raise OrderError(str(error)) from None

    # Changes

    def reload(self) -> Answer:
        """Read the configuration again, and files that were renewed. Raises OrderError for a mistake."""
        read_again = self._node.read_again
        if read_again is None:
            raise OrderError("this node was not started from a file")
        try:
            merged = read_again()
        except ConfigError as error:
            raise OrderError(f"not reloaded, what was in force stays: {error}") from None
        return {"changed": merged.changed, "waiting": merged.waiting}

    # The overlay

    def drain(self) -> None:
        """Serve to the end what runs, take nothing new, hand over all records."""
        self._node.drain()

    def undrain(self) -> None:
        """Serve again."""
        self._node.undrain()

    def overlay_status(self) -> Answer:
        """The node among others; {} when it has no overlay."""
        member = self._node.member
        if member is None:
            return {}
        node = member.node
        missing = node.upkeep.missing()
        return {
            "node_id": node.own.hex(),
            "overlay": member.identity.overlay,
            "state": node.state,
            "draining": self._node.draining,
            "members": node.membership.counts(),
            "synchronised": node.is_synchronised,
            "progress": round(node.upkeep.progress(), 4),
            "replicas": describe_replicas(node),
            "underreplicated": sum(missing),
            "clock_offset": round(node.offset.seconds, 3),
            "certificate_expires_in": round(member.identity.not_after - self._wall()),
            "config_sequence": member.config_sequence,
            "trust": member.identity.trust,
        }

    def members(self) -> list[Answer]:
        """All nodes that it knows, itself first."""
        member = self._member()
        now = self._clock()
        return [
            {**describe_member(member, contact, now), "address": _address(contact)} for contact in member.contacts()
        ]

    def partition(self, key: str) -> int:
        """The partition of an address-of-record."""
        return partition_of(_pack(key))

    def owners(self, key: str, now: float) -> Awaitable[list[Answer]]:
        """Who has the record of an address-of-record, and which version."""
        member = self._member()
        packed = _pack(key)
        contacts = {contact.node: contact for contact in member.contacts()}
        owners = [contacts[owner] for owner in member.node.owners_of(packed) if owner in contacts]
        found: dict[bytes, Answer] = {}
        done: Deferred[list[Answer]] = Deferred()

        def receive(contact: Contact, reply: Reply | None, _now: float) -> None:
            answer: Answer = {"name": contact.name, "node_id": contact.node.hex(), "standing": "silent"}
            if isinstance(reply, StatAnswer):
                answer["standing"] = _STANDINGS.get(reply.standing, "stranger")
                answer["version"] = reply.version.hex()
                answer["size"] = reply.size
            found[contact.node] = answer
            if len(found) == len(owners):
                done.callback([found[owner.node] for owner in owners])

        if not owners:
            done.callback([])
        for owner in owners:
            if owner.node == member.node.own:
                receive(owner, member.node.serving.stat(Stat(0, KIND, packed)), now)
            else:
                member.node.calls.ask(
                    owner.node, Stat(0, KIND, packed), STAT_SECONDS, partial(receive, owner), now
                )  # fmt: skip
        return done

    def trace(self, key: str, now: float) -> Awaitable[list[Answer]]:
        """Look the nodes nearest to a key up by asking, and tell every step."""
        member = self._member()
        target = bytes.fromhex(key) if len(key) == 64 and "@" not in key else member.node.target_of(_pack(key))
        done: Deferred[list[Answer]] = Deferred()

        def receive(result: Result, _now: float) -> None:
            done.callback(
                [
                    {
                        "hop": step.hop,
                        "name": step.contact.name,
                        "node_id": step.contact.node.hex(),
                        "address": _address(step.contact),
                        "seconds": round(step.seconds, 6),
                        "answer": step.answer,
                        "nodes": len(step.named),
                        "nearest": step.named[0].node.hex() if step.named else "",
                    }
                    for step in result.steps
                ]
            )

        member.node.trace(target, receive, now)
        return done

    def new_config(self, packed: bytes) -> Answer:
        """Take a signed configuration of the overlay."""
        member = self._member()
        try:
            new = member.new_config(packed)
        except ValueError as error:
            raise OrderError(str(error)) from None
        return {"sequence": member.config_sequence, "new": new}

    def _member(self) -> Member:
        if self._node.member is None:
            raise OrderError("this node has no overlay")
        return self._node.member


def _unreachable(aor: str, error: SipError) -> OrderError:
    return OrderError(f"the record of {aor} cannot be read at present ({error.reason})")


def _pack(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _address(contact: Contact) -> str:
    host = f"[{contact.host}]" if ":" in contact.host else contact.host
    return f"{host}:{contact.port}"


def _describe(binding: Binding, home: str, now: float) -> Answer:
    """A binding as the console shows it."""
    return {
        "contact": binding.uri,
        "q": binding.q / 1000,
        "expires_in": round(binding.expires_at - now),
        "call_id": binding.call_id,
        "path": list(binding.path),
        "received": str(binding.received) if binding.received else "",
        "node": home,
        "instance": binding.instance,
        "user_agent": binding.user_agent,
    }
