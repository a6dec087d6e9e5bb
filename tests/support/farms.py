"""Whole nodes on the in-memory network: built, started, killed, restarted, and asked at the end what they left behind.

A `Farm` is a network with nodes and parties on it, all under one clock and one seed. Each node is the real
`farm.service.Node` with the host as its reactor. `Farm.faults` gathers what any node logs with a trace, for that is
always a bug; the ladder of all messages is shown by an assertion that fails.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path as FilePath
from typing import Any, TypeVar, overload

import msgspec
from twisted.internet.defer import ensureDeferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.names import dns
from zope.interface import implementer

from farm.config import Config
from farm.deadlines import Deadlines
from farm.proxy.branch import Branch
from farm.proxy.context import ResponseContext
from farm.service import Node
from tests.support.certificates import make_certificate, write_identity, write_sip_files
from tests.support.counts import read
from tests.support.nat import Nat
from tests.support.network import Host, Network, Packet, Path
from tests.support.parties import Party
from tests.support.zone_server import ZoneServer

NODE = "192.0.2.1"  # of several, the first; the others follow
SIP_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 8080, "wss": 8443}
PEER_PORT = 7400
SEEDS = 2
INSIDE = "10.9.0"  # the network on which nodes talk to each other, where that is another
NAME_SERVER = "192.0.2.53"
LADDER_LINES = 60

# The parts whose deadlines there are as long as a node is among others, and those that have some only while they work.
_UPKEEP = ("farm.edges", "farm.frontend.", "farm.keyring", "farm.overlay.", "farm.overview", "farm.member")
_OPERATIONS = frozenset(("farm.overlay.reads", "farm.overlay.writes", "farm.overlay.scanning"))

_Value = TypeVar("_Value")


def make_config(name: str, address: str, directory: FilePath, **sections: Mapping[str, Any] | list[Any]) -> Config:
    """A node's configuration: UDP and TCP on port 5060 of its address, nothing kept, no pages; `sections` add to it."""
    tree: dict[str, Any] = {
        "node": {"name": name, "state_dir": str(directory / name)},
        "sip": {"domains": ["example.com"], "listen": [f"udp:{address}:5060", f"tcp:{address}:5060"]},
        "store": {"backend": "memory"},
        "resolver": {"servers": [NAME_SERVER]},
        "admin": {"http": ""},
    }
    for section, content in sections.items():
        tree[section] = {**tree.get(section, {}), **content} if isinstance(content, Mapping) else content
    if "tls" not in sections and any(text.startswith(("tls:", "wss:")) for text in tree["sip"]["listen"]):
        tree["tls"] = write_sip_files(directory)
    return msgspec.convert(tree, Config)


def run(work: Coroutine[Any, Any, _Value]) -> _Value:
    """The value of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as stop:
        value: _Value = stop.value
        return value
    raise AssertionError("it waits for something")


def modules_of(deadlines: Deadlines) -> Iterator[str]:
    """The modules whose actions are pending, one an action."""
    entries = [entry for _, _, entry in deadlines._heap]
    for lane in deadlines._lanes.values():
        entries += lane
    for entry in entries:
        action: Callable[..., Any] | None = entry.action
        if isinstance(action, partial):
            action = action.func
        if action is not None:
            owner = getattr(action, "__self__", None)  # a compiled method knows no module, its object does
            yield action.__module__ or type(owner).__module__


class FarmNode:
    """One machine that runs a node, or could. `node` is the one that runs, or the last that ran."""

    node: Node

    def __init__(self, farm: Farm, host: Host, config: Config) -> None:
        self.farm = farm
        self.host = host
        self.config = config
        self.running = False
        self._booted_at = 0.0
        self._starts = 0

    def start(self) -> None:
        """Start the process; raises what twistd would show."""
        self._starts += 1
        rng = random.Random(f"{self.farm.seed} {self.config.node.name} {self._starts}")
        self.node = Node(
            self.config, self.host, clock=self.seconds, wall=self.host.wall_time, rng=rng, used=lambda: 0.0
        )
        self.node.privilegedStartService()
        self.node.startService()
        self.running = True

    def seconds(self) -> float:
        """The machine's monotonic clock, which begins anew when it boots."""
        return self.host.seconds() - self._booted_at

    def kill(self) -> None:
        """SIGKILL: what was not written is lost, peers' connections are reset."""
        self.host.kill()
        self._close_files()

    def power_off(self) -> None:
        """The machine is gone, and nobody is told."""
        self.host.power_off()
        self._close_files()

    def restart(self, *, rebooted: bool = False) -> None:
        """Kill it and start it again on the same state directory; after a reboot its monotonic clock is another."""
        if self.running:
            self.kill()
        if rebooted:
            self._booted_at = self.host.seconds()
        self.start()

    def begin_stop(self) -> list[object]:
        """SIGTERM; the list that is answered is filled when the node has stopped."""
        done: list[object] = []
        self.node.stopService().addBoth(done.append)
        return done

    def stop(self) -> None:
        """SIGTERM, and wait until it has stopped."""
        done = self.begin_stop()
        assert self.farm.network.run_until(lambda: bool(done), 60), "the node did not stop"
        self.running = False

    def _close_files(self) -> None:
        """The kernel closes the files of a dead process, and with them its locks."""
        self.running = False
        self.node._lock.release()
        journal = self.node.records._journal
        if journal is not None:
            journal.close()

    def add_user(self, name: str, password: str = "") -> None:
        """A user whose password is the name unless one is given."""
        self.farm.wait(self.node.users.add(name, password or name, self.seconds()))

    def value(self, family: str, *labels: str) -> float:
        """What a metric reads."""
        return read(getattr(self.node.metrics, family).child(*labels))

    def is_idle(self) -> bool:
        """Whether no transaction is left, and no read or write of a record."""
        if not self.running:
            return True
        return len(self.node.transactions) == 0 and not _OPERATIONS.intersection(modules_of(self.node.pump.deadlines))

    @property
    def state(self) -> str:
        """What it is among the others."""
        assert self.node.member is not None
        return self.node.member.node.state if self.running else ""

    @property
    def synchronised(self) -> bool:
        """Whether it is alive among the others and has what they have."""
        return self.running and self.node.member is not None and self.node.member.node.is_synchronised

    def contacts_of(self, aor: str) -> list[str]:
        """The contacts that a call through this node would try."""
        return [binding.uri for binding in self.farm.wait(self.node.core.location.find(aor, self.seconds())).bindings]

    def find_leaks(self) -> list[str]:
        """What an idle node should not hold any more."""
        node = self.node
        streams = len(node.transport._streams)
        probing = 1 if any(True for _ in node.core.gateways.states()) else 0
        modules = list(modules_of(node.pump.deadlines))
        assert len(modules) == len(node.pump.deadlines)
        overlay = [module for module in modules if module.startswith(_UPKEEP)]
        renewal = 1 if node.config.tls.certificates else 0
        left = (
            len(modules) - len(overlay) - streams - probing - renewal - 1
        )  # the last is the pump's own measure of the lag
        found = [f"{len(node.transactions)} transactions"] if len(node.transactions) else []
        found += [f"{left} deadlines"] if left else []
        found += [f"a deadline of {module}" for module in overlay if module in _OPERATIONS]
        if node.member is not None:
            most = 30 + 10 * len(list(node.member.contacts()))
            found += [f"{len(overlay)} deadlines of the overlay"] * (len(overlay) > most)
        found += [f"{len(node.transactions._by_flow)} flows with waiting transactions"] * bool(
            node.transactions._by_flow
        )
        for name, states in node.transactions.census.items():
            found += [f"{count} {name} {state.value} by the census" for state, count in states.items() if count]
        ringing = node.calls.calls.ringing
        found += [f"{ringing} calls that ring"] if ringing else []
        for (place,), _ in node.metrics.unexpected_errors:
            errors = self.value("unexpected_errors", place)
            found += [f"{errors:g} unexpected errors in {place}"] * bool(errors)
        return found


class Farm:
    """The network, the nodes on it, and everybody who talks to them."""

    def __init__(self, directory: FilePath, seed: int = 1, path: Path | None = None) -> None:
        self.directory = directory
        self.seed = seed
        self.network = Network(seed, path)
        self.nodes: list[FarmNode] = []
        self.faults = Faults()
        self.ladder: list[str] = []
        self._next_address = 100
        self.network.watch(self._draw)
        globalLogPublisher.addObserver(self.faults)

    def close(self) -> None:
        """Stop listening to the log, and let go what nodes that still run have locked."""
        for node in self.nodes:
            node.node._lock.release()
        globalLogPublisher.removeObserver(self.faults)

    # Who is there

    def add_node(self, name: str = "n1", *addresses: str, **sections: Mapping[str, Any] | list[Any]) -> FarmNode:
        """A node that runs, configured by `sections` on top of `make_config` for the first of its addresses."""
        addresses = addresses or (NODE,)
        config = make_config(name, addresses[0], self.directory, **sections)
        node = FarmNode(self, self.network.add_host(*addresses), config)
        self.nodes.append(node)
        node.start()
        return node

    def add_nodes(self, count: int, **options: Any) -> list[FarmNode]:
        """So many nodes of one overlay, running and in step with each other; answers all that there are now. The
        options are as for `add_member`."""
        if not any(NAME_SERVER in host.addresses for host in self.network.hosts):
            self.add_zone({})  # they ask for seeds
        for _ in range(count):
            self.add_member(**options)
        self.wait_until_synchronised()
        return self.nodes

    def add_member(
        self,
        roles: Sequence[str] = ("store", "edge"),
        *,
        transports: Sequence[str] = ("udp", "tcp"),
        inside: bool = False,
        shared: str = "",
        name: str = "n{}",
        **sections: Mapping[str, Any] | list[Any],
    ) -> FarmNode:
        """One more node of the overlay, with these roles; it has just been started. Its `name` gets its number. An edge
        listens for SIP on `transports`. `inside` has the nodes talk to each other on addresses of their own, which no
        phone needs to know; `shared` is an address that several nodes have, at which alone they listen then."""
        number = len(self.nodes) + 1
        outer, peers = f"192.0.2.{number}", INSIDE if inside else "192.0.2"
        name = name.format(number)
        certificate = make_certificate(number, roles=roles, common_names=(name,))
        overlay = {
            "listen": f"{peers}.{number}:{PEER_PORT}",
            "identity": str(write_identity(self.directory / f"identity{number}", number, certificate=certificate)),
            "seeds": [f"{peers}.{seed}:{PEER_PORT}" for seed in range(1, SEEDS + 1)],
        }
        overlay |= sections.pop("overlay", {})
        listen = [
            f"{transport}:{shared or outer}:{SIP_PORTS[transport]}" for transport in transports if "edge" in roles
        ]
        sections["sip"] = {"listen": listen, **dict(sections.get("sip", {}))}
        addresses = dict.fromkeys((outer, f"{peers}.{number}", shared) if "edge" in roles else (f"{peers}.{number}",))
        addresses.pop("", None)
        return self.add_node(name, *addresses, overlay=overlay, **sections)

    @property
    def node(self) -> FarmNode:
        """The only node."""
        (node,) = self.nodes
        return node

    def add_party(
        self,
        user: str,
        *,
        transport: str = "udp",
        address: str = "",
        behind: Nat | None = None,
        domain: str = "example.com",
        account: bool = True,
        target: str = NODE,
    ) -> Party:
        """A scripted party on a machine of its own; with an account, it is a user of every node that is not open."""
        if not address:
            self._next_address += 1
            address = f"192.0.2.{self._next_address}"
        account = account and not all(node.config.auth.open for node in self.nodes)
        if account:
            running = [node for node in self.nodes if node.running]
            for node in running if running[0].node.member is None else running[:1]:
                node.add_user(f"{user}@{domain}", user)
        host = self.network.add_host(address, behind=behind)
        return Party(
            host,
            user,
            transport=transport,
            domain=domain,
            password=user if account else "",
            target=(target, SIP_PORTS[transport]),
        )

    def add_zone(self, zone: dict[str, list[Any]]) -> ZoneServer:
        """The name server that all nodes ask."""
        server = ZoneServer(self.network.add_host(NAME_SERVER), {name: tuple(rows) for name, rows in zone.items()})
        server.listen(NAME_SERVER, dns.PORT)
        return server

    # Time

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.network.run(seconds)

    @overload
    def wait(self, work: Awaitable[_Value], limit: float = 10.0) -> _Value: ...

    @overload
    def wait(self, work: _Value, limit: float = 10.0) -> _Value: ...

    def wait(self, work: Any, limit: float = 10.0) -> Any:
        """The value of what may have to be waited for; time passes as needed."""
        if not isinstance(work, Awaitable):
            return work
        values: list[Any] = []

        async def follow() -> None:
            values.append(await work)

        failures: list[Any] = []
        ensureDeferred(follow()).addErrback(failures.append)
        ended = self.network.run_until(lambda: bool(values or failures), limit)
        assert ended, f"nothing came of it in {limit:g} s{self.draw()}"
        if failures:
            failures[0].raiseException()
        return values[0]

    def wait_until_synchronised(self, limit: float = 120.0) -> None:
        """Let time pass until all nodes that run are alive, have what they own, and know each other."""

        def is_so() -> bool:
            running = [node for node in self.nodes if node.running]
            for node in running:
                member = node.node.member
                assert member is not None
                if not node.synchronised or len(member.node.membership.live()) != len(running) - 1:
                    return False
            return True

        assert self.network.run_until(is_so, limit), f"not in step after {limit:g} s{self.draw()}"

    def settle(self, limit: float = 600.0) -> None:
        """Let time pass until no node has a transaction left; fails when one never has."""
        idle = self.network.run_until(lambda: all(node.is_idle() for node in self.nodes), limit)
        leaks = [leak for node in self.nodes if node.running for leak in node.find_leaks()]
        assert idle, f"still busy after {limit:g} s: {leaks}{self.draw()}"

    def check_end(self) -> None:
        """Nothing is left of what happened, and nothing went wrong that nobody expected."""
        self.settle()
        for node in self.nodes:
            if node.running:
                assert node.find_leaks() == [], f"{node.config.node.name} holds on to something{self.draw()}"
        assert self.faults.texts == []

    def find_contexts(self) -> list[object]:
        """Response contexts and branches that are still in memory; slow."""
        gc.collect()
        return [held for held in gc.get_objects() if isinstance(held, ResponseContext | Branch)]

    # What happened

    def draw(self) -> str:
        """The last messages on the wire, for an assertion that fails."""
        return "\n" + "\n".join(self.ladder[-LADDER_LINES:])

    def _draw(self, packet: Packet) -> None:
        if PEER_PORT in (packet.source[1], packet.target[1]):
            return  # nobody reads TLS
        line = packet.data.partition(b"\r\n")[0].decode("utf-8", "replace")
        if not line.isprintable():
            line = f"({len(packet.data)} bytes)"  # TLS, WebSocket, DNS, STUN
        source, target = (f"{host}:{port}" for host, port in (packet.source, packet.target))
        self.ladder.append(f"{packet.at:10.4f} {packet.transport} {source:>21} > {target:21} {line}")


@implementer(ILogObserver)
class Faults:
    """Keeps what is logged with a trace."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        """Called by Twisted."""
        if "log_failure" in event:
            self.texts.append(f"{formatEvent(event)}\n{event['log_failure'].getTraceback()}")
