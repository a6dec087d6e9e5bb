"""This node as a member of its overlay: identity, links, seeds and records put together, and their life.

Part of the composition root, beside `service`, which makes one when `[overlay] listen` is set. It decides who may write
what (only nodes with the role edge, only for domains of the overlay), keeps the incarnation across restarts, and takes
and spreads the signed configuration: from the file beside the certificate, from other nodes, from the console.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from farm.addresses import parse_host_port, write_listen
from farm.config import Config, ConfigError
from farm.deadlines import Deadlines
from farm.logs import Rejections
from farm.metrics import Metrics
from farm.overlay.holdings import Holdings
from farm.overlay.multicast import Multicast
from farm.overlay.node import OverlayNode
from farm.overlay.relaying import Relaying
from farm.overlay.rpc import Rpc
from farm.overlay.seeds import Names, Seeds
from farm.overlay.serving import make_write_rates
from farm.overlay.settings import NodeSettings
from farm.overlay.shared import SharedStore
from farm.overlay.store import Full
from farm.overlay.wire import EDGE, LEFT, STATE_NAMES, STORES, VERSION, Codec, Contact
from farm.public import find_public, find_servers
from farm.records import Records
from farm.security.config_record import OverlayConfig
from farm.security.durable import write_file
from farm.security.farm_keys import KIND as KEYS
from farm.security.identity import Identity, State
from farm.security.overlay_config import KIND as CONFIG
from farm.security.overlay_config import ConfigKind, read_config
from farm.security.roles import identity_directory

INCARNATION_NAME: Final = "incarnation"
MEMBERS_NAME: Final = "members"
LEAVE_SECONDS: Final = 30.0
_CHECK_SECONDS: Final = 60.0

_log: Final = Logger(namespace="overlay")


def read_identity(config: Config, wall: float) -> Identity:
    """Who this node is. Raises ConfigError for whatever of its files is missing or wrong."""
    return Identity(identity_directory(config), wall, name=config.node.name)


class Member:
    """Membership of one node. `records` hold what it stores; `store` is what registrar and users see."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        config_kind: ConfigKind,
        records: Records,
        reactor: Any,
        deadlines: Deadlines,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        metrics: Metrics,
        rejections: Rejections,
        names: Names,
    ) -> None:
        self.identity = identity
        self.since: dict[bytes, float] = {}  # when each node came to the state that it is in
        self.hearers: list[Callable[[Contact, float], None]] = []  # are told of another node's new state or address
        self._by_stamp = {stamp_node_of(identity.node_id): identity.node_id}
        self._config = config
        self._records = records
        self._reactor = reactor
        self._deadlines = deadlines
        self._clock = clock
        self._wall = wall
        self._metrics = metrics
        self._path = os.path.join(config.node.state_dir, INCARNATION_NAME)
        self._keeps = config.store.backend != "memory"
        self._kept = 0  # the incarnation on disk
        self._own_domains = frozenset(domain.lower().encode() for domain in config.sip.domains)
        self._overlay_domains: frozenset[bytes] = frozenset()
        self.unusable = ""  # why the identity on disk cannot be taken, found twice in a row
        self._unusable = ""  # the same, found once
        self._domains = self._own_domains
        settings = config.overlay
        self._listen = _address(settings.listen)
        advertised = _address(settings.advertise) if settings.advertise else self._listen
        own = Contact(
            identity.node_id,
            *advertised,
            self._next_incarnation(),
            zone=identity.zone,
            roles=identity.roles,
            name=identity.name,
            sip=tuple(map(write_listen, find_public(config))) if identity.roles & EDGE else (),
            version=VERSION,
            dns=find_servers(config) if identity.roles & EDGE else (),
        )
        self._rpc = Rpc(reactor, identity, Codec(), deadlines, clock, wall, metrics, rejections, source=self._listen[0])
        self._leaving: Any = None  # the call that ends it
        self._left: Deferred[bool] | None = None  # how that went, or will
        self._multicast: Multicast | None = None
        if settings.multicast:
            self._multicast = Multicast(
                reactor, identity.overlay, advertised, self._listen[0], self._hear, metrics, clock, rng
            )
        seeds = Seeds(
            settings.seeds,
            {self._listen, advertised},
            names,
            rng,
            path=os.path.join(config.node.state_dir, MEMBERS_NAME) if self._keeps else "",
            service=settings.dns or (identity.overlay if "." in identity.overlay else ""),
            ask_link=None if self._multicast is None else self._multicast.ask,
        )
        newest = identity.config
        self.node = OverlayNode(
            own,
            NodeSettings(
                identity.overlay,
                replicas=settings.replicas if newest is None else newest.replicas,
                strict=settings.writes == "strict",
                join=settings.join_seconds,
                write=settings.write_seconds,
                stand_in=settings.stand_in_seconds,
                coalesce=settings.coalesce_seconds,
                probe=settings.probe_seconds,
                hold_down=settings.hold_down_seconds,
                compare=settings.compare_seconds,
                repair_bytes=settings.repair_bytes_per_second,
                peer_requests=settings.peer_requests_per_second,
                record_writes=settings.record_writes_per_second,
            ),
            records.store,
            self._rpc,
            seeds,
            self,
            self,
            deadlines,
            reactor.callLater,
            records.stamps,
            clock,
            wall,
            rng,
            metrics,
            lambda text: _log.failure("{text}", text=text),
        )
        self._rpc.user = self.node
        self.store = SharedStore(self.node, records.store)
        config_kind.changed = self._apply
        Holdings(identity.node_id, records.store, self.node.ownership.current, clock).show(metrics)
        metrics.certificate_expiry.child().set_function(lambda: self.identity.not_after - self._wall())

    # Life

    def listen(self) -> None:
        """Open the port for other nodes. Raises CannotListenError."""
        self._rpc.listen(*self._listen)

    def start(self) -> None:
        """Join the others."""
        now = self._clock()
        if self.identity.config_record:
            self._take(self.identity.config_record, now)
        held = self._records.store.get(CONFIG, self.identity.overlay.encode())
        if held is not None:
            self._spread(held, now)
        if self._multicast is not None:
            self._multicast.start()
        self.node.start(now)
        self._deadlines.add(now + _CHECK_SECONDS, self._check_certificate, 0.0)

    def leave(self, seconds: float = LEAVE_SECONDS) -> Deferred[bool]:
        """Hand over all records and say goodbye; fires with whether all was handed over within `seconds`. Asked again,
        for a node that is drained and then stopped, it is the same leaving."""
        if self._left is not None:
            return self._left
        done: Deferred[bool] = Deferred()
        self._left = done
        self.say(draining=True)

        def finish(_now: float) -> None:
            if not done.called:
                patience.cancel()
                done.callback(True)

        def give_up() -> None:
            if not done.called:
                self.node.say_goodbye(self._clock())
                done.callback(False)

        patience = self._leaving = self._reactor.callLater(seconds, give_up)
        self.node.leave(finish, self._clock())
        return done

    def hurry(self) -> None:
        """Say goodbye at once if `leave` is under way."""
        if self._leaving is not None and self._leaving.active():
            self._leaving.reset(0)

    def rejoin(self) -> None:
        """Come back after `leave`, which may still be under way."""
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        self._left = None
        self.say(draining=False)
        self.node.rejoin(self._clock())

    def say(self, **changes: Any) -> None:
        """Tell the others what has changed of this node: its `load`, or that it is `draining`."""
        own = msgspec.structs.replace(self.node.membership.own, **changes)
        self.node.membership.set_own(own, self._clock(), anew=False)

    def stop(self) -> Deferred[None]:
        """Close all links; fires when nothing listens any more."""
        self.node.stop()
        if self._multicast is not None:
            self._multicast.stop()
        return self._rpc.stop()

    def reload(self, config: Config, identity: State | None = None) -> None:
        """Take seeds and limits of a changed configuration, what it says of this node's listeners, and the files of
        the identity where they have changed."""
        before, self._config = self._config.overlay, config
        node, overlay = self.node, config.overlay
        node.seeds.change(overlay.seeds)
        node.upkeep.budget.change(overlay.repair_bytes_per_second)
        node.calls.limit(overlay.peer_requests_per_second)
        if overlay.record_writes_per_second != before.record_writes_per_second:
            node.serving.writes = node.access.writes = make_write_rates(overlay.record_writes_per_second)
        self._own_domains = frozenset(domain.lower().encode() for domain in config.sip.domains)
        self._domains = self._find_domains()
        if self.identity.roles & EDGE:
            public, servers = tuple(map(write_listen, find_public(config))), find_servers(config)
            if (public, servers) != (node.membership.own.sip, node.membership.own.dns):
                self.say(sip=public, dns=servers)
        if identity is not None:
            self.identity.take(identity)
            self._use_identity()

    def _check_certificate(self, _argument: object, now: float) -> None:
        """Take a renewed certificate although nobody sent SIGHUP. What is wrong with the files is said when it is still
        so a minute later: half of them may just have been copied."""
        self._deadlines.add(now + _CHECK_SECONDS, self._check_certificate, 0.0)
        try:
            self._read_again()
            self._unusable = self.unusable = ""
        except ConfigError as error:
            self.unusable = str(error) if str(error) == self._unusable else ""
            self._unusable = str(error)

    def _read_again(self) -> None:
        """Take what has changed on disk, the configuration of the overlay too. Raises ConfigError."""
        if self.identity.reload(self._wall()):
            self._use_identity()

    def _use_identity(self) -> None:
        _log.info("the identity was read anew; links made from now on use it")
        self._rpc.close_denied(self.identity.denied)
        if self.identity.config_record:
            self._take(self.identity.config_record, self._clock())

    def _hear(self, host: str, port: int, now: float) -> None:
        """Somebody on the local link is a node."""
        self.node.seeds.heard(host, port, now)

    # Incarnation

    def _next_incarnation(self) -> int:
        """Above all that this node ever had: the wall clock alone may have been set back."""
        stored = 0
        with suppress(OSError, ValueError), open(self._path, encoding="ascii") as file:
            stored = int(file.read(32))
        incarnation = max(stored + 1, int(self._wall() * 1000))
        self.incarnation_changed(incarnation)
        return incarnation

    def incarnation_changed(self, incarnation: int) -> None:
        """Keep it for the next start; without, the wall clock has to do."""
        if not self._keeps or incarnation == self._kept:
            return
        with suppress(OSError):
            write_file(self._path, b"%d\n" % incarnation, 0o600)
            self._kept = incarnation

    # What the node tells (node.Listener)

    def overlay_state_changed(self, state: str, now: float) -> None:
        """This node is joining, alive or left."""
        self.since[self.identity.node_id] = now
        _log.info("this node has left" if state == STATE_NAMES[LEFT] else "this node is {state}", state=state)

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        """Another node's state, or address."""
        self._by_stamp[stamp_node_of(after.node)] = after.node
        for hear in self.hearers:
            hear(after, now)
        if before is not None and before.state == after.state:
            return
        self.since[after.node] = now
        _log.info(
            "node {name} has left" if after.state == LEFT else "node {name} is {state}",
            name=after.name or after.node.hex()[:8], state=STATE_NAMES[after.state],
            cause=cause, address=f"{after.host}:{after.port}",
        )  # fmt: skip

    def config_received(self, record: bytes, now: float) -> None:
        """Another node has a newer configuration, or says so."""
        with suppress(ValueError):
            self._take(record, now)
            return
        self._metrics.peer_rejections.child("bad-record").inc()

    # The configuration of the overlay

    def new_config(self, record: bytes) -> bool:
        """Take a signed configuration from the console; answers whether it is newer. Raises ValueError for one that
        our authority has not signed."""
        return self._take(record, self._clock())

    @property
    def config_sequence(self) -> int:
        """The sequence of the configuration in force."""
        return self.node.config_sequence

    def _take(self, record: bytes, now: float) -> bool:
        before = self.node.config_sequence
        held = self._records.store.put(CONFIG, self.identity.overlay.encode(), record, now)
        if isinstance(held, Full):
            return False
        self._spread(held, now)
        sequence = self.node.config_sequence
        if sequence > before:
            _log.info("configuration {sequence} of the overlay is in force", sequence=sequence)
        return sequence > before

    def _spread(self, record: bytes, now: float) -> None:
        config = read_config(record)
        self._apply(config)
        self.node.set_config(record, config.sequence, config.replicas, now)

    def _apply(self, config: OverlayConfig) -> None:
        """Deny whom it denies, at once and on open links."""
        self._overlay_domains = frozenset(domain.encode() for domain in config.domains)
        self._domains = self._find_domains()
        if self.identity.apply(config):
            self._rpc.close_denied(self.identity.denied)

    def _find_domains(self) -> frozenset[bytes]:
        """Those whose users' records nodes may write: the farm's, or this node's where that says none."""
        return self._overlay_domains or self._own_domains

    # Who may write what (serving.Writers)

    def refuse(self, node: bytes, kind: str, key: bytes) -> str:
        """Why a node may not write a record, "" when it may."""
        if kind == CONFIG:
            return "wrong-kind"  # it is spread, not stored
        if not self.node.roles.get(node, 0) & EDGE:
            return "wrong-role"
        if kind == KEYS:
            return "" if key == self.identity.overlay.encode() else "foreign-domain"
        return "" if key.rpartition(b"@")[2] in self._domains else "foreign-domain"

    # For the console and the proxy

    def problems(self) -> list[str]:
        """What is wrong at present, a sentence each."""
        found = self.node.problems()
        if self.unusable:
            found.append(f"the identity on disk cannot be used, the one before it stays: {self.unusable}")
        if self._multicast is not None and self._multicast.problem:
            found.append(self._multicast.problem)
        return found

    def find_by_stamp(self, stamp_node: int) -> Contact | None:
        """The node whose stamps carry this number."""
        node = self._by_stamp.get(stamp_node, b"")
        membership = self.node.membership
        return membership.own if node == self.identity.node_id else membership.get(node)

    def contacts(self) -> Iterable[Contact]:
        """All nodes known, this one first."""
        return [self.node.membership.own, *self.node.membership.members.values()]

    def others(self) -> list[Contact]:
        """All others that are remembered."""
        return list(self.node.membership.members.values())

    @property
    def own(self) -> bytes:
        """This node's Node-ID."""
        return self.identity.node_id

    @property
    def relaying(self) -> Relaying:
        """The relays of the overlay."""
        return self.node.relaying

    @property
    def stores(self) -> bool:
        """Whether this node holds records."""
        return bool(self.identity.roles & STORES)


def stamp_node_of(node_id: bytes) -> int:
    """The number by which stamps tell a node from others: the first 63 bits of its Node-ID."""
    return int.from_bytes(node_id[:8], "big") >> 1


def _address(text: str) -> tuple[str, int]:
    host, port = parse_host_port(text)
    if port is None:
        raise ConfigError(f'"{text}" lacks a port', where="overlay.listen")
    return host, port
