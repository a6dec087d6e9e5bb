"""The SIP core of a node, put together: what stands between its transactions and its records.

Part of the composition root. It builds proxy and registrar with what both need, who may do what (`authenticator`,
`admission`), what is known again (`tokens`), and where requests go (`location`, `gateways`, `targets`), and starts what
has to wait for something. `service` makes one and sees to its life.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from farm.call_records import CallRecords
from farm.config import Config, ConfigError
from farm.deadlines import Deadline, Deadlines
from farm.ended_calls import EndedCalls
from farm.frontend.flow_text import tag_of
from farm.frontend.token import EXPIRED, Tokens
from farm.keyring import Keyring
from farm.logs import Rejections
from farm.member import Member
from farm.metrics import Metrics
from farm.overlay.local import LocalStore
from farm.overlay.shared import SharedStore
from farm.overlay.wire import EDGE
from farm.proxy.admission import Admission
from farm.proxy.context import Means
from farm.proxy.domains import Domains
from farm.proxy.forward import Forwarder
from farm.proxy.gateways import Gateways
from farm.proxy.probe import Probe
from farm.proxy.proxy import Proxy
from farm.proxy.stateless import Stateless
from farm.proxy.targets import Targets
from farm.records import Records
from farm.registrar.gruu import Gruus
from farm.registrar.location import Location
from farm.registrar.registrar import Registrar
from farm.relays import Relays
from farm.resolve.locate import Locator
from farm.security.credentials import Authenticator
from farm.security.farm_keys import FIRST_VERSION, LONE_NAME, Schedule
from farm.security.keys import read_nonce_keys
from farm.security.limits import SourceLimits
from farm.security.record import Credential
from farm.security.users import UserError, Users
from farm.spending import Spending
from farm.transaction.layer import TransactionLayer
from farm.transport.layer import TransportLayer

KEYS_NAME: Final = "keys"  # the file of what was read last of the farm's keys

_log: Final = Logger(namespace="node")


class Below(NamedTuple):
    """What the core stands on."""

    transport: TransportLayer
    transactions: TransactionLayer
    locator: Locator
    deadlines: Deadlines
    rejections: Rejections
    limits: SourceLimits
    calls: CallRecords


class Core:
    """Proxy, registrar, and what they share. `clock` is monotonic, `wall` seconds since 1970."""

    def __init__(
        self,
        config: Config,
        secret: bytes,
        below: Below,
        store: LocalStore | SharedStore,
        records: Records,
        member: Member | None,
        users: Users,
        metrics: Metrics,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._below = below
        self._metrics = metrics
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._probing: Deadline | None = None
        self._seals = member is None or bool(member.identity.roles & EDGE)
        self.domains = domains = Domains(config.sip.domains, below.transport)
        self.location = Location(store, records.registrations, records.stamps, wall)
        self.relays = Relays(records.stamps.node, below.transport, below.transactions, member, metrics, clock, secret)
        self.authenticator = self._make_authenticator(
            config, secret, store, records.stamps.node, None if member is None else Spending(member, self.relays)
        )
        self.tokens = Tokens(secret, rng, node=records.stamps.node, nodes=self.relays.find_node, note=self._note_token)
        self.keyring = self._make_keyring(config, secret, store, member)
        self._join_others(config, member)
        self._account(config, member)
        self.gruus = Gruus(self.tokens)
        self.gateways = Gateways(config.routes, config.gateways, domains, metrics, rng)
        self.means = self._make_means(config)
        self.admission = admission = Admission(
            domains,
            self.authenticator,
            open_farm=config.auth.open,
            trusted=config.sip.trusted_networks,
            trusted_domains=config.tls.trusted_domains,
            domains_of=below.transport.domains_of,
        )
        self.targets = targets = Targets(
            domains,
            self.location,
            _Directory(users, clock),
            self.gateways,
            self.relays,
            self.gruus,
            max_targets=config.proxy.max_forks,
        )
        self.registrar = registrar = self._make_registrar(config, domains)
        self.proxy = Proxy(
            self.means,
            domains,
            self.tokens,
            admission,
            targets,
            registrar,
            Stateless(
                self.means, domains, self.tokens, admission, targets, self.relays, max_breadth=config.proxy.max_breadth
            ),
            redirect=config.sip.role == "redirect",
            max_breadth=config.proxy.max_breadth,
            server_header=config.sip.server_header,
            report=self.report,
            is_restoring=lambda: records.restoring,
        )
        below.transactions.user = self.proxy

    def _join_others(self, config: Config, member: Member | None) -> None:
        """Let messages for other nodes' flows and transactions go there, and theirs come here."""
        self.relays.owner_of = self.tokens.owner_of
        self.relays.is_of_this_boot = self.tokens.is_of_this_boot
        if member is None:
            return
        member.hearers.append(self.relays.member_changed)
        self._below.transport.others = self.relays
        if config.sip.shared_address:
            self._below.transactions.elsewhere = self.relays
            self.relays.shares_address = True

    def _account(self, config: Config, member: Member | None) -> None:
        """Let the account of calls know the other nodes."""
        calls, own = self._below.calls, self.location.node

        def name_of(node: int) -> str:
            if node == own:
                return config.node.name
            contact = None if member is None else member.find_by_stamp(node)
            return "" if contact is None else contact.name

        calls.name_of = name_of
        calls.elsewhere = EndedCalls(own, self.relays, member, calls, self._metrics)

    def _make_authenticator(
        self, config: Config, secret: bytes, store: LocalStore | SharedStore, node: int, spending: Spending | None
    ) -> Authenticator:
        authenticator = Authenticator(
            store,
            read_nonce_keys(config, secret),
            limits=self._below.limits,
            wall=self._wall,
            rng=self._rng,
            algorithms=config.auth.algorithms,
            nonce_life_seconds=config.auth.nonce_life_seconds,
            nonce_entries=config.auth.nonce_entries,
            allow_without_qop=config.auth.allow_without_qop,
            node=tag_of(node),
            keepers=spending,
        )
        if spending is not None:
            spending.serve(authenticator.use_nonce)
        return authenticator

    def _make_keyring(
        self, config: Config, secret: bytes, store: LocalStore | SharedStore, member: Member | None
    ) -> Keyring:
        """A node that speaks no SIP seals nothing and makes no keys; its keyring is never started."""
        path = os.path.join(config.node.state_dir, KEYS_NAME) if config.store.backend != "memory" else ""
        keyring = Keyring(
            secret,
            LONE_NAME if member is None else member.identity.overlay,
            _schedule_of(config),
            store,
            self.tokens,
            None if config.auth.nonce_key_file else self.authenticator.nonces,
            self._below.deadlines,
            self._clock,
            self._wall,
            self._rng,
            self.spawn,
            path=path,
            alone=member is None,
            may_make=lambda: member is None or member.node.ownership.lowest_version >= FIRST_VERSION,
        )
        self._metrics.sealing_key_age.child().set_function(keyring.sealing_age)
        self._metrics.key_rotation.child().set_function(keyring.rotation_seconds)
        return keyring

    def _make_means(self, config: Config) -> Means:
        below = self._below
        forwarder = Forwarder(
            self.tokens,
            below.transport,
            self.location.node,
            record_route=config.sip.record_route,
            max_forwards=config.proxy.max_forwards,
        )
        return Means(
            transactions=below.transactions,
            forwarder=forwarder,
            next_hops=below.locator,
            flows=self.relays,
            node=self.location.node,
            metrics=self._metrics,
            rejections=below.rejections,
            suspect=self._suspect,
            spawn=self.spawn,
            calls=below.calls,
            clock=self._clock,
            timer_c_seconds=config.proxy.timer_c_seconds,
            serial_seconds=config.proxy.serial_seconds,
        )

    def _make_registrar(self, config: Config, domains: Domains) -> Registrar:
        return Registrar(
            config.registrar,
            domains,
            self.location,
            None if config.auth.open else self.authenticator,
            self._metrics,
            self._below.rejections,
            make_tag=self._below.transactions.derive_tag,
            clock=self._clock,
            wall=self._wall,
            spawn=self.spawn,
            report=self.report,
            server_header=config.sip.server_header,
            gruus=self.gruus,
        )

    # Life

    def start(self, now: float) -> None:
        """Begin to read the farm's keys, and to probe gateways."""
        if self._seals:
            self.keyring.start(now)
        self._probe_gateways(None, now)

    def reload(self, config: Config, now: float) -> None:
        """Take what a running core can take. Raises ConfigError, and has changed nothing then."""
        try:
            self.authenticator.offer(config.auth.algorithms, allow_without_qop=config.auth.allow_without_qop)
        except ValueError as error:
            raise ConfigError(str(error), key="auth.algorithms") from None
        self.authenticator.remember(config.auth.nonce_entries)
        self.keyring.change(_schedule_of(config))
        self.domains.change(config.sip.domains)
        self.gateways.change(config.routes, config.gateways)
        self._change_proxy(config)
        believed = config.auth.open
        self.registrar.change(config.registrar, None if believed else self.authenticator, config.sip.server_header)
        self._arm_probes(now)

    def _change_proxy(self, config: Config) -> None:
        sip, proxy = config.sip, config.proxy
        self.admission.change(
            open_farm=config.auth.open, trusted=sip.trusted_networks, trusted_domains=config.tls.trusted_domains
        )
        self.targets.max_targets = proxy.max_forks
        self.means.timer_c_seconds = proxy.timer_c_seconds
        self.means.serial_seconds = proxy.serial_seconds
        self.means.forwarder.change(record_route=sip.record_route, max_forwards=proxy.max_forwards)
        self.proxy.change(
            redirect=sip.role == "redirect", max_breadth=proxy.max_breadth, server_header=sip.server_header
        )

    # Probing gateways

    def _probe_gateways(self, _argument: object, now: float) -> None:
        for uri in self.gateways.due(now):
            Probe(self.means, self.tokens, self._below.transport, uri, self._receive_probe).start(now)
        self._arm_probes(now)

    def _arm_probes(self, now: float) -> None:
        deadlines = self._below.deadlines
        deadlines.cancel(self._probing)
        following = self.gateways.next_at(now)
        if following is not None:
            self._probing = deadlines.add(max(following, now + 0.1), self._probe_gateways, None)

    def _suspect(self, uri: str, now: float) -> None:
        self.gateways.suspect(uri, now)
        self._arm_probes(now)

    def _receive_probe(self, uri: str, alive: bool) -> None:
        health = self.gateways.probed(uri, alive)
        self._arm_probes(self._clock())  # it need not be waited for any longer
        if health is not None:
            _log.warn("gateway {uri} is {health}", uri=uri, health=health.value)

    # What waits, and what fails

    def _note_token(self, reason: str) -> None:
        """A token came that could not be opened."""
        now = self._clock()
        self._below.rejections.note(reason, now)
        if reason == EXPIRED:
            self.keyring.note_unknown_key(now)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start what waits for something."""
        running = ensureDeferred(work)
        running.addErrback(lambda failure: self._report_failure(failure))

    def _report_failure(self, failure: Any) -> None:
        self._metrics.unexpected_errors.child("core").inc()
        _log.failure("something that waited failed", failure=failure)

    def report(self, what: str) -> None:
        """Count and log an exception that is being handled."""
        self._metrics.unexpected_errors.child("core").inc()
        _log.failure("{what}", what=what)


def _schedule_of(config: Config) -> Schedule:
    return Schedule(config.keys.rotation_seconds, config.keys.token_life_seconds)


class _Directory:
    """Who has an account, for the proxy: asked only when somebody without bindings is called."""

    def __init__(self, users: Users, clock: Callable[[], float]) -> None:
        self._users = users
        self._clock = clock

    def exists(self, aor: str) -> bool | Awaitable[bool]:
        """Whether there is a user of that address-of-record."""
        found = self._users.find(aor, self._clock())
        return self._exists_later(found) if isinstance(found, Awaitable) else found is not None

    async def _exists_later(self, finding: Awaitable[Credential | None]) -> bool:
        try:
            return await finding is not None
        except UserError:
            return True  # nobody knows; 480 says the less
