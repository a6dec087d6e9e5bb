"""An in-memory network for whole nodes: hosts that are reactors, one clock, and every fault from one seed.

A `Host` offers what our code asks of a reactor: `callLater`, `seconds`, `listenUDP` (which Twisted's MemoryReactor
lacks), `listenTCP` and `connectTCP`. Hosts meet in a `Network`, which decides by a seeded random.Random when and
whether each packet arrives: delay, jitter, loss, duplicates, reordering, one-way cuts, partitions, NAT. A run is
replayed exactly by its seed. Byte streams are in `streams.py`, address translation in `nat.py`, the clock in
`heap_clock.py`.

What a process meets is kept: datagrams over 65,507 bytes are refused, lost TCP segments arrive late instead of never,
a killed host resets its connections and a powered-off one says nothing. Exceptions of a protocol are not swallowed:
they come out of `run`, so that a test fails where the fault is.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.heap_clock import HeapClock
from tests.support.nat import Nat
from tests.support.streams import Connector, StreamPort, reset_all

Endpoint = tuple[str, int]

LARGEST_DATAGRAM = 65507
PAUSED_DATAGRAMS = 512  # what a socket buffer holds for a process that does not run


class Packet(NamedTuple):
    """Something that was put on the network, whether or not it arrived: what `Network.watch` is told."""

    at: float
    transport: str
    source: Endpoint
    target: Endpoint
    data: bytes


@dataclass(frozen=True)
class Path:
    """What happens to packets one way between two hosts. Shares are 0..1, times are seconds."""

    delay: float = 0.001
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_delay: float = 0.05
    segment_bytes: int = 65536  # streams arrive in pieces of at most this


class Network:
    """Hosts, the paths between them, and the clock that all of them share."""

    def __init__(self, seed: int = 0, path: Path | None = None) -> None:
        self.clock = HeapClock()
        self.rng = random.Random(seed)
        self.path = path or Path()
        self.hosts: list[Host] = []
        self.retransmit_seconds = 0.2  # a stream's first repeat; it doubles up to `retransmit_most`
        self.retransmit_most = 10.0
        self.give_up_seconds = 900.0  # a stream that is not acknowledged for so long fails
        self._paths: dict[tuple[Host, Host], Path] = {}
        self._cuts: set[tuple[Host, Host]] = set()
        self._groups: dict[Host, int] = {}
        self._by_address: dict[tuple[Nat | None, str], Host] = {}
        self._nats: dict[str, Nat] = {}
        self._shared: dict[str, Host | None] = {}
        self._watchers: list[Callable[[Packet], None]] = []

    def add_host(self, *addresses: str, behind: Nat | None = None) -> Host:
        """A new host with these addresses, the first of a family being its source address when it binds to all."""
        host = Host(self, addresses, behind)
        self.hosts.append(host)
        for address in addresses:
            if address in self._shared:
                self._shared[address] = self._shared[address] or host
                continue
            assert (behind, address) not in self._by_address, address
            self._by_address[(behind, address)] = host
        return host

    def add_nat(self, address: str, lifetime: float = 60.0) -> Nat:
        """A translator with one public address; hosts are put `behind` it."""
        nat = self._nats[address] = Nat(address, lifetime)
        return nat

    def share_address(self, address: str) -> None:
        """Hosts that are added from now on may all have that address (VRRP, anycast); the first gets what is sent there
        until `move_address`."""
        self._shared[address] = None

    def move_address(self, address: str, host: Host) -> None:
        """What is sent to a shared address comes to this host from now on."""
        assert address in host.addresses
        self._shared[address] = host

    def set_path(self, source: Host, target: Host, **conditions: Any) -> None:
        """Give one direction between two hosts conditions of its own, the rest as the default path."""
        self._paths[(source, target)] = replace(self.path, **conditions)

    def cut(self, source: Host, target: Host) -> None:
        """Nothing arrives from source at target any more; the other direction is left alone."""
        self._cuts.add((source, target))

    def partition(self, *groups: Iterable[Host]) -> None:
        """Only hosts of the same group reach each other; hosts in no group form one more."""
        self._groups = {host: number for number, group in enumerate(groups, 1) for host in group}

    def heal(self) -> None:
        """End every cut and partition."""
        self._cuts.clear()
        self._groups.clear()

    def watch(self, watcher: Callable[[Packet], None]) -> None:
        """Have every datagram and every stream segment shown at the moment it is sent."""
        self._watchers.append(watcher)

    def run(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.clock.advance(seconds)

    def run_until(self, condition: Callable[[], bool], limit: float = 60.0) -> bool:
        """Let time pass, event by event, until the condition holds; answers whether it did within `limit` seconds."""
        until = self.clock.rightNow + limit
        while not condition():
            at = self.clock.next_at()
            if at is None or at > until:
                self.clock.advance(max(0.0, until - self.clock.rightNow))
                return condition()
            self.clock.advance(max(0.0, at - self.clock.rightNow))
        return True

    # What follows is for hosts and streams.

    def path_between(self, source: Host, target: Host) -> Path:
        """The conditions of one direction."""
        return self._paths.get((source, target), self.path)

    def is_open(self, source: Host, target: Host) -> bool:
        """Whether packets pass at all in that direction."""
        return (
            source.powered
            and target.powered
            and (source, target) not in self._cuts
            and self._groups.get(source) == self._groups.get(target)
        )

    def delay_of(self, path: Path) -> float:
        """The time that one packet takes."""
        return path.delay + (self.rng.uniform(0, path.jitter) if path.jitter else 0.0)

    def find_host(self, source: Host, address: str) -> Host | None:
        """Who has an address, as seen from a host."""
        if address in self._shared:
            return self._shared[address]
        if address.startswith("127.") or address == "::1":
            return self._by_address.get((None, address), source)
        if source.behind is not None and (source.behind, address) in self._by_address:
            return self._by_address[(source.behind, address)]
        return self._by_address.get((None, address))

    def show(self, transport: str, source: Endpoint, target: Endpoint, data: bytes) -> None:
        """Tell the watchers."""
        for watcher in self._watchers:
            watcher(Packet(self.clock.rightNow, transport, source, target, data))

    def translate_source(self, host: Host, source: Endpoint, target: Endpoint) -> Endpoint:
        """The source that the target sees."""
        if host.behind is None or (host.behind, target[0]) in self._by_address or target[0].startswith("127."):
            return source
        return host.behind.send_out(source, target, self.clock.rightNow)

    def send_datagram(self, host: Host, source: Endpoint, target: Endpoint, data: bytes) -> None:
        """Carry one datagram, or lose it, or bring it twice."""
        seen_source = self.translate_source(host, source, target)
        self.show("UDP", seen_source, target, data)
        nat = self._nats.get(target[0])
        inside: Endpoint | None = target
        if nat is not None:
            inside = nat.let_in(target, seen_source, self.clock.rightNow)
            receiver = None if inside is None else self._by_address.get((nat, inside[0]))
        else:
            receiver = self.find_host(host, target[0])
        if receiver is None or inside is None:
            return
        path = self.path_between(host, receiver)
        copies = 2 if path.duplicate and self.rng.random() < path.duplicate else 1
        for _ in range(copies):
            if path.loss and self.rng.random() < path.loss:
                continue
            delay = self.delay_of(path)
            if path.reorder and self.rng.random() < path.reorder:
                delay += self.rng.uniform(0, path.reorder_delay)
            self.clock.callLater(delay, self._arrive, host, receiver, inside, data, seen_source)

    def _arrive(self, source: Host, receiver: Host, target: Endpoint, data: bytes, seen: Endpoint) -> None:
        if self.is_open(source, receiver):
            receiver.take_datagram(target, data, seen)


class InlinePool:
    """A thread pool without threads: work is done at once, which the made-up time does not notice."""

    def callInThreadWithCallback(
        self, tell: Callable[[bool, Any], object], work: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Do the work and tell how it ended."""
        try:
            result = work(*args, **kwargs)
        except Exception:
            tell(False, Failure())
        else:
            tell(True, result)


@implementer(IReactorTime)
class Host:
    """One machine with one process, and that process's reactor."""

    def __init__(self, network: Network, addresses: tuple[str, ...], behind: Nat | None) -> None:
        self.network = network
        self.addresses = addresses
        self.behind = behind
        self.powered = True
        self.send_error = 0  # an errno that the next UDP writes raise
        self.wall_offset = 0.0  # how wrong its wall clock is
        self.connections: dict[Any, None] = {}
        self._udp: dict[Endpoint, DatagramPort] = {}
        self._tcp: dict[Endpoint, StreamPort] = {}
        self._calls: dict[DelayedCall, None] = {}
        self._calls_limit = 64  # cancelled ones are dropped when there are so many
        self._paused: list[Callable[[], None]] | None = None
        self._next_port = 49152

    def __repr__(self) -> str:
        return f"<Host {'/'.join(self.addresses)}>"

    # IReactorTime

    def seconds(self) -> float:
        """The shared clock."""
        return self.network.clock.rightNow

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002 - Twisted's name for it
        *args: object,
        **kwargs: object,
    ) -> DelayedCall:
        """As every reactor's; a killed host's calls are gone with it."""
        call: DelayedCall
        clock = self.network.clock

        def run() -> None:
            self._calls.pop(call, None)
            self.do(lambda: callable(*args, **kwargs))

        call = clock.callLater(delay, run)
        self._calls[call] = None
        if len(self._calls) > self._calls_limit:
            self._calls = {kept: None for kept in self._calls if kept.active()}
            self._calls_limit = max(64, 2 * len(self._calls))
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        """What this host still waits for."""
        return [call for call in self._calls if call.active()]

    def callWhenRunning(self, action: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """It always runs."""
        action(*args, **kwargs)

    def callFromThread(self, action: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """There are no threads; it is called in the next turn."""
        self.callLater(0, action, *args, **kwargs)

    def getThreadPool(self) -> InlinePool:
        """What deferToThreadPool asks for."""
        return InlinePool()

    def wall_time(self) -> float:
        """Seconds since 1970 as this host believes."""
        return 1_800_000_000.0 + self.network.clock.rightNow + self.wall_offset

    # IReactorUDP, IReactorTCP

    def listenUDP(
        self, port: int, protocol: DatagramProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> DatagramPort:
        """Bind a datagram port; CannotListenError as the real one."""
        endpoint = self._bind(self._udp, interface, port)
        listening = self._udp[endpoint] = DatagramPort(self, endpoint, protocol, maxPacketSize)
        protocol.makeConnection(cast(Any, listening))
        return listening

    def listenTCP(self, port: int, factory: Factory, backlog: int = 50, interface: str = "") -> StreamPort:
        """Bind a stream port; CannotListenError as the real one."""
        endpoint = self._bind(self._tcp, interface, port)
        listening = self._tcp[endpoint] = StreamPort(self, endpoint, factory, self._tcp)
        factory.doStart()
        return listening

    def listenUNIX(
        self, address: str, factory: Factory, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> StreamPort:
        """Taken, and reached by nobody: a control socket is not part of the network."""
        listening = self._tcp[(address, 0)] = StreamPort(self, (address, 0), factory, self._tcp)
        factory.doStart()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory,
        timeout: float = 30,
        bindAddress: Endpoint | None = None,
    ) -> Connector:
        """Connect to a numeric address."""
        connector = Connector(self, (host, port), factory, timeout, bindAddress)
        connector.connect()
        return connector

    def _bind(self, table: dict[Endpoint, Any], interface: str, port: int) -> Endpoint:
        interface = interface or "0.0.0.0"
        wild = interface in ("0.0.0.0", "::")
        if not wild and interface not in self.addresses and not interface.startswith("127.") and interface != "::1":
            raise CannotListenError(interface, port, OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))
        port = port or self.free_port()
        for bound, bound_port in table:
            family_equal = (":" in bound) == (":" in interface)
            if bound_port == port and family_equal and (wild or bound in (interface, "0.0.0.0", "::")):
                raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, "Address already in use"))
        return (interface, port)

    def free_port(self) -> int:
        """An ephemeral port."""
        while True:
            self._next_port = 49152 + (self._next_port + 1) % 16000
            if not any(port == self._next_port for _, port in [*self._udp, *self._tcp]):
                return self._next_port

    def source_address(self, target: str) -> str:
        """The address that packets to a target leave from when the socket is bound to all."""
        if (target.startswith("127.") or target == "::1") and target not in self.addresses:
            return target
        for address in self.addresses:
            if (":" in address) == (":" in target):
                return address
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    def find_port(self, target: Endpoint) -> StreamPort | None:
        """Who accepts streams at an address of ours."""
        wild = "::" if ":" in target[0] else "0.0.0.0"
        return self._tcp.get(target) or self._tcp.get((wild, target[1]))

    def take_datagram(self, target: Endpoint, data: bytes, source: Endpoint) -> None:
        """Hand a datagram to whoever is bound there."""
        wild = "::" if ":" in target[0] else "0.0.0.0"
        port = self._udp.get(target) or self._udp.get((wild, target[1]))
        if port is None or (self._paused is not None and len(self._paused) >= PAUSED_DATAGRAMS):
            return
        listening = port
        self.do(lambda: listening.take(data, source))

    def forget_datagram_port(self, endpoint: Endpoint) -> None:
        """A port was closed."""
        self._udp.pop(endpoint, None)

    # Faults

    def do(self, action: Callable[[], None]) -> None:
        """Run something of this process now, or when it goes on."""
        if self._paused is not None:
            self._paused.append(action)
        else:
            action()

    def pause(self) -> None:
        """Stop the process (SIGSTOP, a frozen virtual machine): it neither reads nor fires timers."""
        if self._paused is None:
            self._paused = []

    def resume(self) -> None:
        """Let it go on; all that it missed happens now."""
        missed, self._paused = self._paused or [], None
        for action in missed:
            self.do(action)

    def kill(self) -> None:
        """The process dies: its sockets and timers are gone, its peers' streams are reset. It may listen again."""
        self._drop()
        reset_all(self, told=True)

    def power_off(self) -> None:
        """The machine dies: nobody is told anything."""
        self._drop()
        reset_all(self, told=False)
        self.powered = False

    def power_on(self) -> None:
        """The machine is back, with nothing running."""
        self.powered = True

    def _drop(self) -> None:
        for call in self.getDelayedCalls():
            call.cancel()
        self._calls.clear()
        self._udp.clear()
        self._tcp.clear()
        self._paused = None


@implementer(IListeningPort)
class DatagramPort:
    """What listenUDP answers: it writes, and it can be closed."""

    def __init__(self, host: Host, endpoint: Endpoint, protocol: DatagramProtocol, largest: int) -> None:
        self._host = host
        self._endpoint = endpoint
        self._protocol = protocol
        self._largest = largest
        self._open = True

    def write(self, datagram: bytes, addr: Endpoint | None = None) -> int:
        """Send; raises OSError as a socket does."""
        assert addr is not None
        host, network = self._host, self._host.network
        if not self._open:
            raise OSError(errno.EBADF, "Bad file descriptor")
        if host.send_error:
            raise OSError(host.send_error, "as the test asked")
        if len(datagram) > LARGEST_DATAGRAM:
            raise OSError(errno.EMSGSIZE, "Message too long")
        if (":" in addr[0]) != (":" in self._endpoint[0]):
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported")
        source = self._endpoint[0]
        if source in ("0.0.0.0", "::"):
            source = host.source_address(addr[0])
        network.send_datagram(host, (source, self._endpoint[1]), addr, datagram)
        return len(datagram)

    def take(self, data: bytes, source: Endpoint) -> None:
        """A datagram has come; what does not fit is cut, as recvfrom does."""
        if self._open:
            self._protocol.datagramReceived(data[: self._largest], source)

    def startListening(self) -> None:
        """It listens from the start."""

    def stopListening(self) -> Deferred[None]:
        """Close; answered in the next turn."""
        done: Deferred[None] = Deferred()
        if self._open:
            self._open = False
            self._host.forget_datagram_port(self._endpoint)
            self._host.callLater(0, self._closed, done)
        else:
            done.callback(None)
        return done

    def _closed(self, done: Deferred[None]) -> None:
        self._protocol.doStop()
        done.callback(None)

    def getHost(self) -> IAddress:
        """Where it is bound."""
        kind = IPv6Address if ":" in self._endpoint[0] else IPv4Address
        return kind("UDP", *self._endpoint)
