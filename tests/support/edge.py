"""A transport layer on a host of the in-memory network, with a recorder above it, and raw peers to talk to it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.protocol import ClientFactory, DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure

from farm.config import LimitSettings, SipSettings
from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.security.sip_certificates import SipCertificates
from farm.sip.hop import Hop
from farm.sip.message import Request, Response
from farm.transport.layer import Gate, TransportLayer
from tests.support.counts import read
from tests.support.network import Host, Network

Endpoint = tuple[str, int]

NODE = "192.0.2.1"
PHONE = "192.0.2.101"


class RecordingReceiver:
    """The transaction layer's place: keeps what comes up, and can answer at once."""

    def __init__(self) -> None:
        self.requests: list[tuple[Request, Any]] = []
        self.responses: list[tuple[Response, Any]] = []
        self.failures: list[Any] = []
        self.answer: bytes | None = None
        self.sent: list[bool] = []
        self.fault: Exception | None = None

    def receive_request(self, request: Request, flow: Any, now: float) -> None:
        self.requests.append((request, flow))
        if self.fault is not None:
            raise self.fault
        if self.answer is not None:
            self.sent.append(flow.send(self.answer))

    def receive_response(self, response: Response, flow: Any, now: float) -> None:
        self.responses.append((response, flow))

    def receive_flow_failure(self, flow: Any, now: float) -> None:
        self.failures.append(flow)


class RecordingRejections:
    """Keeps why messages were turned away."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def note(self, reason: str, now: float, *, source: str = "", method: str = "", detail: str = "") -> None:
        self.reasons.append(reason)


class Edge:
    """One node's transport: `layer` with everything around it."""

    def __init__(
        self,
        host: Host,
        listen: Sequence[str] = (f"udp:{NODE}:5060", f"tcp:{NODE}:5060"),
        *,
        farm_name: str = "",
        advertise: str = "",
        gate: Gate | None = None,
        certificates: SipCertificates | None = None,
        **limits: Any,
    ) -> None:
        self.host = host
        self.network = host.network
        self.receiver = RecordingReceiver()
        self.rejections = RecordingRejections()
        self.metrics = Metrics()
        self.deadlines = Deadlines(self._wake)
        self.layer = TransportLayer(
            host,
            self.receiver,
            SipSettings(domains=("example.com",), farm_name=farm_name, advertise=advertise),
            LimitSettings(**limits),
            self.metrics,
            host.seconds,
            deadlines=self.deadlines,
            rejections=self.rejections,
            rng=random.Random(1),
            gate=gate,
            find_own=lambda: host.addresses,
            certificates=certificates,
        )
        self.layer.listen(listen)

    def _wake(self, at: float) -> None:
        self.host.callLater(max(0.0, at - self.host.seconds()), self._run_deadlines)

    def _run_deadlines(self) -> None:
        self.deadlines.run_due(self.host.seconds())
        at = self.deadlines.next_at()
        if at is not None:
            self._wake(at)

    @property
    def requests(self) -> list[Request]:
        """The requests that came up."""
        return [request for request, _ in self.receiver.requests]

    @property
    def flow(self) -> Any:
        """The flow of the last request."""
        return self.receiver.requests[-1][1]

    def flow_to(self, transport: str, host: str, port: int, local: str = "") -> Any:
        """As the proxy asks for it."""
        return self.layer.flow_to(Hop(transport, host, port, local))

    def value(self, family: str, *labels: str) -> float:
        """What a metric reads."""
        return read(getattr(self.metrics, family).child(*labels))

    def stop(self) -> bool:
        """Stop the layer and say whether it ended with nothing left in the reactor."""
        done: list[object] = []
        self.layer.stop().addCallback(done.append)
        self.network.run(30)
        return len(done) == 1 and not self.host.getDelayedCalls() and not self.host.connections


class DatagramPeer(DatagramProtocol):
    """Somebody with a UDP socket."""

    def __init__(self, host: Host, port: int = 5060, interface: str = "") -> None:
        self.received: list[tuple[bytes, Endpoint]] = []
        self.port = host.listenUDP(port, self, interface, 65535)
        self.network = host.network

    def datagramReceived(self, datagram: bytes, addr: Endpoint) -> None:
        self.received.append((datagram, addr))

    def send(self, data: bytes, host: str = NODE, port: int = 5060) -> None:
        """Send, and wait until it has arrived and been answered."""
        self.port.write(data, (host, port))
        self.network.run(0.1)

    @property
    def data(self) -> list[bytes]:
        """What came."""
        return [data for data, _ in self.received]


class StreamPeer(Protocol):
    """Somebody with a connection."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self.reset = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.ended = True
        self.reset = "ConnectionLost" in str(reason.type)


class Dialer(ClientFactory):
    """Makes one connection."""

    noisy = False

    def __init__(self) -> None:
        self.peer = StreamPeer()

    def buildProtocol(self, addr: Any) -> StreamPeer:
        return self.peer


class Server(Factory):
    """Accepts connections and keeps them."""

    noisy = False

    def __init__(self, host: Host, port: int = 5060, interface: str = "") -> None:
        self.peers: list[StreamPeer] = []
        self.addresses: list[Any] = []
        self.port = host.listenTCP(port, self, interface=interface)

    def buildProtocol(self, addr: Any) -> StreamPeer:
        self.addresses.append(addr)
        self.peers.append(StreamPeer())
        return self.peers[-1]


def connect(host: Host, target: str = NODE, port: int = 5060) -> StreamPeer:
    """A connection from a host, established when this answers."""
    dialer = Dialer()
    host.connectTCP(target, port, dialer)
    host.network.run(0.1)
    return dialer.peer


def make_edge(**options: Any) -> tuple[Network, Edge, Host]:
    """A node and a phone's machine."""
    network = Network(1)
    node, phone = network.add_host(NODE, "2001:db8::1"), network.add_host(PHONE, "2001:db8::101")
    return network, Edge(node, **options), phone
