"""The composition root: builds a node, hands each part its neighbours, starts it and stops it.

With `core`, which it makes, the only module that knows everybody. Nothing is decided here that belongs to a part: it is
wiring, the order of start and stop, and the adapters between a part's port and the neighbour that fills it. Start:
secret, lock, listeners, records (a restarted node knows its registrations before its first packet), console and pages.
Stop is the same list backwards: new requests are refused, running ones get time to end, those that still ring are
ended, sockets close, the journal is written to its end.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger, LogLevel

from farm import __version__
from farm.admin.http import AdminListeners
from farm.call_records import CallRecords, read_place
from farm.changes import Merged, merge
from farm.config import Config, ConfigError
from farm.core import Below, Core
from farm.edges import Edges, make_zone_settings
from farm.frontend.authority import Authority
from farm.lock import StateLock
from farm.logs import Fields, Rejections
from farm.member import Member, read_identity, stamp_node_of
from farm.metrics import Metrics
from farm.names import SeedNames
from farm.overlay.local import LocalStore
from farm.overlay.shared import SharedStore
from farm.pump import Pump
from farm.records import Records
from farm.reports import Reports
from farm.resolve.failed import FailedHops
from farm.resolve.locate import MTU_RESERVE_BYTES, Locator, Reach
from farm.resolve.resolver import Resolver
from farm.security.identity import RestartNeeded
from farm.security.identity import State as IdentityState
from farm.security.keys import read_secret
from farm.security.limits import Allowed, SourceLimits
from farm.security.overlay_config import ConfigKind
from farm.security.roles import apply_roles
from farm.security.sip_certificates import SipCertificates
from farm.security.users import Users
from farm.standing import show_standing
from farm.transaction.layer import TransactionLayer
from farm.transaction.machines import State, Timings
from farm.transport.layer import TransportLayer
from farm.watching import Watching

DRAIN_SECONDS: Final = 32.0  # 64*T1: no transaction that is still running takes longer (RFC 3261 §17)
_END_SECONDS: Final = 2.0  # for the 200 to our CANCEL, the 487 and the ACKs
_DRAIN_CHECK_SECONDS: Final = 0.1
_RENEWAL_SECONDS: Final = 60.0
RENEWED_CERTIFICATES: Final = "certificates for TLS"  # as a reload names them
RENEWED_IDENTITY: Final = "identity among the nodes"
_IDENTITY: Final = "overlay.identity"  # as a setting
_DRAIN_QUIET_SECONDS: Final = 1.0  # for the ACK of the last call: without it the callee hangs up after 32 s

_log: Final = Logger(namespace="node")


def make_service(config: Config, reactor: Any) -> Node:
    """The node of a configuration, not started. Raises ConfigError or OSError for what an operator can mend."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # messages make no cycles; the default walks every binding each second
    return Node(config, reactor)


class Node(Service):
    """One node, running or not. `clock` is monotonic seconds as the reactor's, `wall` seconds since 1970,
    `used` seconds of processor time."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        metrics: Metrics | None = None,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._identity = read_identity(config, wall()) if config.overlay.listen else None
        if self._identity is not None:
            config = apply_roles(config, self._identity.roles)
        self.config = config
        self.metrics = metrics or Metrics()
        self.metrics.set_build(__version__)
        self._reactor = reactor
        self._clock = clock
        self._wall = wall
        self._rng = rng or random.SystemRandom()
        self._ready = False
        self._hurried = False
        self._lock = StateLock(config.node.state_dir)
        self._secret = secret = read_secret(config) if self._identity is None else self._identity.farm_key
        self.read_again: Callable[[], Merged] | None = None  # set by whoever knows where the configuration is
        self.rejections = Rejections(self.metrics.sip_rejected, _write_rejection, config.log.reason_lines_per_second)
        self.pump = Pump(reactor, clock, self.metrics)
        self.limits = SourceLimits(**_limits_of(config))
        self.certificates = SipCertificates(config.tls, wall())
        self._build_transport(config)
        self._build_records(config)
        self.users = Users(self.store, self._make_stamp, config.sip.domains)
        self.calls = CallRecords(config.accounting, config.node.name, reactor, clock, wall, self.metrics)
        self.core = Core(
            config,
            secret,
            Below(
                self.transport,
                self.transactions,
                self.locator,
                self.pump.deadlines,
                self.rejections,
                self.limits,
                self.calls,
            ),
            self.store,
            self.records,
            self.member,
            self.users,
            self.metrics,
            clock,
            wall,
            self._rng,
        )
        self.edges = Edges(config, self.member, self.pump.deadlines, lambda: self.draining, used)
        self.authority = Authority(
            reactor, config.dns, make_zone_settings(config, secret), self.edges, self.pump.deadlines, clock, wall,
            self._rng, self.metrics,
        )  # fmt: skip
        self.watching = Watching(
            config, self.transport, self.member, reactor, self.pump.deadlines, clock, wall, self._rng, self.metrics
        )
        self.reports = Reports(self, clock, wall)
        show_standing(self.metrics, self.reports, self)
        self.admin = AdminListeners(reactor, config, self.reports, self.metrics)
        self._count_gauges()

    # Building, from the sockets up

    def _build_transport(self, config: Config) -> None:
        self.transactions = TransactionLayer(
            self.pump.deadlines,
            self.metrics,
            self._rng,
            rejections=self.rejections,
            max_transactions=config.limits.transactions,
            timings=Timings(config.sip.t1_seconds, config.sip.t2_seconds, config.sip.t4_seconds),
        )
        self.transport = TransportLayer(
            self._reactor,
            self.transactions,
            config.sip,
            config.limits,
            self.metrics,
            self._clock,
            deadlines=self.pump.deadlines,
            rejections=self.rejections,
            rng=self._rng,
            zone=config.dns.zone,
            report_refused=self.transactions.receive_refusal,
            gate=self._make_gate(config),
            certificates=self.certificates,
        )
        self.resolver = Resolver(config.resolver, self._reactor, self._clock, self.metrics)
        self._failed = FailedHops(config.resolver.failed_seconds)
        self.metrics.failed_hops.child().set_function(lambda: float(len(self._failed)))
        self.locator = Locator(self.resolver, self._failed, self._rng, _make_reach(config))

    def _build_records(self, config: Config) -> None:
        identity = self._identity
        self.member: Member | None = None
        if identity is None:
            self.records = Records(config, self._reactor, self._clock, self._wall, self.metrics)
            self.store: LocalStore | SharedStore = self.records.local
            return
        kind = ConfigKind(identity.overlay, lambda: identity.authorities)
        self.records = Records(
            config, self._reactor, self._clock, self._wall, self.metrics,
            stamp_node=stamp_node_of(identity.node_id), kinds=(kind,), shared=True,
        )  # fmt: skip
        self.member = Member(
            config, identity, kind, self.records, self._reactor, self.pump.deadlines, self._clock, self._wall,
            self._rng, self.metrics,
            Rejections(self.metrics.peer_rejections, _write_peer_rejection, config.log.reason_lines_per_second),
            SeedNames(self.resolver),
        )  # fmt: skip
        self.store = self.member.store

    # Start and stop

    def privilegedStartService(self) -> None:
        """Lock the state directory and open the SIP listeners, which may want a port that only root can bind."""
        super().privilegedStartService()
        self._lock.take()
        self.transport.listen(self.config.sip.listen)
        self.transport.listen(self.config.sip.proxy_listen, self.config.sip.proxy_networks)
        self.transport.end_listening()
        self.authority.listen()
        if self.member is not None:
            self.member.listen()

    def startService(self) -> None:
        """Read the journal, then serve."""
        super().startService()
        self.records.start()
        self.calls.start()
        self.admin.start()
        self.pump.start()
        self.reports.start()
        if self.member is not None:
            self.member.start()
        self.core.start(self._clock())
        self.edges.start(self._clock())
        self.authority.start()
        if self.config.tls.certificates:
            self.pump.deadlines.add(self._clock() + _RENEWAL_SECONDS, self._renew_certificates)
        self._ready = True
        _log.info("node {name} serves", name=self.config.node.name, listen=" ".join(self.transport.listener_names))

    @inlineCallbacks
    def stopService(self) -> Any:
        """Refuse what is new, let what runs end, then close everything; fires when nothing is left."""
        super().stopService()
        self._ready = False
        leaving = None if self.member is None else self.member.leave()
        self.core.proxy.draining = True
        self._shed()
        yield self._wait_for_quiet(DRAIN_SECONDS)
        if leaving is not None and not self._hurried:
            yield leaving  # while new requests are still told to go elsewhere
        try:
            self.core.proxy.end_calls(self._clock())
        except Exception:
            self.core.report("calls could not be ended")  # the journal is still to be written
        yield self._wait_for_quiet(_END_SECONDS)
        yield self.transport.stop()
        self.watching.stop()
        yield self.authority.stop()
        if self.member is not None:
            yield self.member.stop()
        self.resolver.stop()
        self.pump.stop()
        yield self.admin.stop()
        yield self.calls.stop()
        yield self.records.stop()
        self._lock.release()
        self.rejections.flush()
        _log.info("node {name} stopped", name=self.config.node.name)

    def hurry(self) -> None:
        """While it stops: wait for nobody. Calls that are being set up are ended at once."""
        self._hurried = True
        if self.member is not None:
            self.member.hurry()

    @inlineCallbacks
    def _wait_for_quiet(self, seconds: float) -> Any:
        """Let what runs end, and the last ACK come, but wait no longer than that."""
        now = quiet_at = self._clock()
        until = now + seconds
        while now < until and not self._hurried and self._is_busy(now < quiet_at):
            if self.transactions.running:
                quiet_at = now + _DRAIN_QUIET_SECONDS
            waiting: Deferred[None] = Deferred()
            self._reactor.callLater(_DRAIN_CHECK_SECONDS, waiting.callback, None)
            yield waiting
            now = self._clock()

    def _is_busy(self, lately: bool) -> bool:
        return lately or self.transactions.running > 0 or self.transport.shedding.running

    def _shed(self) -> None:
        """Close the phones' connections one by one; they register with other nodes."""
        seconds = self.config.limits.drain_close_seconds
        self.transport.shedding.start(seconds, self._find_busy, self._clock())

    def _find_busy(self) -> set[str]:
        """The connections that this node's transactions or another node's wait on."""
        return self.transactions.busy_connections() | self.core.relays.busy_connections()

    def reload(self, config: Config) -> Merged:
        """Take from a new configuration what a running node can take (`changes.py`), and files that were renewed;
        answers what was taken and what wants a restart. Raises ConfigError, and has changed nothing then."""
        if self._identity is not None:
            config = apply_roles(config, self._identity.roles)
        merged = merge(self.config, config)
        config = merged.config
        certificates = self.certificates.prepare(config.tls, self._wall())
        identity = self._prepare_identity(merged)
        place = read_place(config.accounting)
        capture_key = self.watching.prepare(config.capture)
        self.core.reload(config, self._clock())
        self.watching.change(config.capture, capture_key)
        self.calls.change(config.accounting, place)
        if certificates is not None:
            self.certificates.take(certificates)
            merged.changed.append(RENEWED_CERTIFICATES)
            _log.info("the certificates for TLS were read anew; connections made from now on use them")
        if self.member is not None:
            self.member.reload(config, identity)
            if identity is not None:
                merged.changed.append(RENEWED_IDENTITY)
        self._change_parts(config)
        self.config = config
        self.metrics.settings_waiting.child().set(len(merged.waiting))
        return merged

    def _prepare_identity(self, merged: Merged) -> IdentityState | None:
        """Files of the identity that have changed; those that want a restart are told as that."""
        try:
            return None if self._identity is None else self._identity.prepare(self._wall())
        except RestartNeeded:
            if _IDENTITY not in merged.waiting:
                merged.waiting.append(_IDENTITY)
            return None

    def _change_parts(self, config: Config) -> None:
        self.rejections.lines_per_second = config.log.reason_lines_per_second
        self.transactions.max_transactions = config.limits.transactions
        self.limits.change(**_limits_of(config))
        self.transport.change(config.sip, config.limits, self._make_gate(config))
        self.resolver.change(config.resolver)
        self._failed.failed_seconds = config.resolver.failed_seconds
        self.locator.change(_make_reach(config))
        self.records.change(config.store)
        self.users.change(config.sip.domains)
        self.edges.change(config)
        self.authority.change(config.dns, make_zone_settings(config, self._secret))

    def _time_to_expiry(self) -> float:
        end = self.certificates.not_after
        return end - self._wall() if end else 0.0

    def _renew_certificates(self, _argument: object, now: float) -> None:
        """Take renewed certificates although nobody sent SIGHUP. What is wrong with the files is said when somebody
        does: half of them may just have been copied."""
        self.pump.deadlines.add(now + _RENEWAL_SECONDS, self._renew_certificates)
        with suppress(ConfigError):
            if self.certificates.reload(self._wall()):
                _log.info("the certificates for TLS were renewed; connections made from now on use them")

    # What the reports ask

    def serves(self) -> bool:
        """Whether it listens and takes what is new."""
        return self._ready

    @property
    def draining(self) -> bool:
        """Whether it is being drained."""
        return self.core.proxy.draining

    @property
    def transaction_count(self) -> int:
        """Transactions alive."""
        return len(self.transactions)

    def drain(self) -> None:
        """Serve to the end what runs, take nothing new, hand over all records; until `undrain` or the end."""
        if not self.core.proxy.draining:
            self.core.proxy.draining = True
            self._shed()
            if self.member is not None:
                self.member.leave()

    def undrain(self) -> None:
        """Serve again."""
        if self.core.proxy.draining and self._ready:
            self.core.proxy.draining = False
            self.transport.shedding.stop()
            if self.member is not None:
                self.member.rejoin()

    # Adapters

    def _make_gate(self, config: Config) -> _Gate | None:
        return _Gate(self.limits) if config.limits.requests_per_second else None

    def _make_stamp(self) -> tuple[int, int]:
        return (self.records.stamps.tick(self._wall()), self.records.stamps.node)

    def _count_gauges(self) -> None:
        self.metrics.sip_certificate_expiry.child().set_function(self._time_to_expiry)
        census = self.transactions.census
        for (kind, state), _child in self.metrics.sip_transactions:
            self.metrics.sip_transactions.child(kind, state).set_function(
                partial(_count_transactions, census[kind], State(state))
            )
        self.metrics.sip_banned.child().set_function(lambda: float(len(self.limits.bans(self._clock()))))


def _count_transactions(states: dict[State, int], state: State) -> float:
    return float(states[state])


class _Gate:
    """The transport's gate, kept by the limits."""

    def __init__(self, limits: SourceLimits) -> None:
        self._limits = limits

    def admit(self, host: str, now: float) -> bool:
        """Whether a message of that source is looked at."""
        return isinstance(self._limits.admit_request(host, now), Allowed)


def _write_peer_rejection(level: str, message: str, fields: Fields) -> None:
    _log.emit(LogLevel.levelWithName(level), "peer rejected", log_namespace="overlay", **fields)


def _write_rejection(level: str, message: str, fields: Fields) -> None:
    _log.emit(LogLevel.levelWithName(level), "{log_message}", log_message=message, **fields)


def _limits_of(config: Config) -> dict[str, Any]:
    limits = config.limits
    return {
        "requests_per_second": limits.requests_per_second,
        "burst": limits.burst,
        "failures_per_minute": limits.failures_per_minute,
        "ban_seconds": limits.ban_seconds,
        "exempt_networks": limits.exempt_networks,
        "table_entries": limits.table_entries,
    }


def _make_reach(config: Config) -> Reach:
    return Reach(
        transports=_transports(config),
        families=_families(config),
        path_mtu=config.sip.udp_request_bytes + MTU_RESERVE_BYTES,
    )


def _transports(config: Config) -> tuple[str, ...]:
    named = {text.partition(":")[0].upper() for text in config.sip.listen}
    return tuple(transport for transport in ("UDP", "TCP", "TLS") if transport in named)


def _families(config: Config) -> tuple[str, ...]:
    """Address families that some listener has, IPv4 first: most of the world's SIP is there."""
    hosts = [text.partition(":")[2] for text in config.sip.listen]
    families = [("A", any(not host.startswith("[") for host in hosts)), ("AAAA", any(h.startswith("[") for h in hosts))]
    return tuple(family for family, there in families if there)
