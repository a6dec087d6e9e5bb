"""The transport's front door: bytes become messages that go up, a hop becomes a flow that leads down (RFC 3261 §18).

A request is stamped with its source (§18.2.1, `receipt.py`) and goes up with the flow that its answers take
(§18.2.2, `flows.py`); a response goes up when its top Via is ours (§18.1.2). What cannot be parsed is counted by
reason, and answered statelessly where that helps and harms nobody. `flow_to` answers at once and never fails: a flow
that leads nowhere refuses to send, and one that breaks later is reported through `receive_flow_failure`, always from a
turn of the reactor of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from socket import SOCK_DGRAM, SOCK_STREAM, SocketKind, socket
from typing import Any, Final, TypeAlias
from typing import Protocol as Port

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from farm.addresses import parse_host_port, parse_listen
from farm.config import LimitSettings, SipSettings
from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.security.sip_certificates import SipCertificates
from farm.sip.hop import Hop, short_local
from farm.sip.message import Request, Response
from farm.sip.parser import Malformed, ParserLimits, parse
from farm.sip.via import Via
from farm.transport.connection import Connection, StreamContext
from farm.transport.datagrams import Address
from farm.transport.flows import DeadFlow, StreamReply, choose_listener
from farm.transport.handed import HandedOver, HandedSockets
from farm.transport.local import LocalAddresses, find_own_addresses, is_unicast, make_listener_name
from farm.transport.makers import StreamMakers
from farm.transport.noise import Noise
from farm.transport.proxied import ProxyFront
from farm.transport.receipt import find_noise, stamp
from farm.transport.refusal import MARGIN_BYTES, AnswerBudget, make_refusal
from farm.transport.shedding import Shedding
from farm.transport.stream import StreamTable, TcpListener, names_connection
from farm.transport.traffic import Traffic
from farm.transport.udp import ListenError, LocalEnd, UdpEnd, UdpFlow, UdpListener
from farm.transport.websocket import WebSocketRules

__all__ = ["Gate", "ListenError", "Receiver", "Rejections", "TransportLayer"]

_S: Final = ord("S")  # what every response begins with, and of the requests SUBSCRIBE alone
STOP_SECONDS: Final = 1.0  # connections that have not closed by then are reset

_log: Final = Logger(namespace="transport")

AnyFlow: TypeAlias = "UdpFlow | Connection | StreamReply | DeadFlow"
Listener: TypeAlias = "UdpListener | TcpListener"


class Receiver(Port):
    """Where messages go: the transaction layer."""

    def receive_request(self, request: Request, flow: Any, now: float) -> None:
        """A request, with the flow that its answers take."""

    def receive_response(self, response: Response, flow: Any, now: float) -> None:
        """A response whose top Via is ours."""

    def receive_flow_failure(self, flow: Any, now: float) -> None:
        """A connection could not be made, or has ended."""


class Rejections(Port):
    """Where what is turned away is counted and logged."""

    def note(self, reason: str, now: float, *, source: str = "", method: str = "", detail: str = "") -> None:
        """One message or connection was turned away."""


class Gate(Port):
    """Who may send how much."""

    def admit(self, host: str, now: float) -> bool:
        """Whether a message of that source is looked at."""


class OtherNodes(Port):
    """The other nodes of the farm. None of these raises."""

    def take_response(self, data: bytes, source: Hop, now: float) -> bool:
        """Whether a response, not yet read, is for another node's transaction; it has gone there then."""

    def knows_branch(self, branch: str) -> bool:
        """Whether it is of the farm's making, by its looks."""

    def receive_connection_end(self, hop: Hop, now: float) -> None:
        """A connection of ours is gone, over which they may have sent."""


class TransportLayer:
    """All sockets of a node. `receiver` hears what comes in; `clock` tells monotonic seconds, as the reactor's.

    `report_refused` hears (branch, method, now) of requests over UDP that ICMP says reached nobody.
    """

    def __init__(
        self,
        reactor: Any,
        receiver: Receiver,
        settings: SipSettings,
        limits: LimitSettings,
        metrics: Metrics,
        clock: Callable[[], float],
        *,
        deadlines: Deadlines,
        rejections: Rejections,
        rng: random.Random,
        gate: Gate | None = None,
        find_own: Callable[[], Iterable[str]] = find_own_addresses,
        zone: str = "",
        report_refused: Callable[[str, str, float], None] | None = None,
        certificates: SipCertificates | None = None,
    ) -> None:
        self.receiver = receiver
        self.others: OtherNodes | None = None  # set where there are any
        self.handed = HandedSockets()  # set where somebody has bound some for us
        self._reactor = reactor
        self._limits = limits
        self._parser_limits = _make_parser_limits(limits)
        self._metrics = metrics
        self._clock = clock
        self._rejections = rejections
        self._gate = gate
        self._report_refused = report_refused
        self.traffic = Traffic(metrics)
        self._noise = Noise(metrics, rejections)
        self._unexpected = metrics.unexpected_errors.child("transport")
        advertise, advertise_port = parse_host_port(settings.advertise) if settings.advertise else ("", 0)
        self._addresses = LocalAddresses(settings.farm_name, advertise, advertise_port or 0, find_own, zone)
        self._budget = AnswerBudget()
        self._context = StreamContext(self, limits, self._parser_limits, metrics, self.traffic, deadlines, clock)
        self._streams = StreamTable(self._context, rng.getrandbits(48) << 16)
        self.shedding = Shedding(self._streams, deadlines, rng)
        self._rules = WebSocketRules(
            settings.websocket_origins,
            settings.websocket_ping_seconds,
            lambda: self._limits.header_bytes + self._limits.body_bytes,
        )
        self._makers = StreamMakers(self._streams, certificates, self._rules)
        self._fronts: list[ProxyFront] = []
        self._listeners: dict[str, Listener] = {}
        self._udp: list[UdpListener] = []
        self._ends: dict[str, UdpEnd] = {}
        self._stopping = False

    # Listening

    def listen(self, specifications: Iterable[str], proxy_networks: Iterable[str] | None = None) -> None:
        """Open listeners given as `udp:HOST:PORT` or `tcp:HOST:PORT`; raises ListenError when one cannot be.

        With `proxy_networks` they are for balancers in these, which speak the PROXY protocol. Those opened before it
        stay open; `stop` closes them.
        """
        for text in specifications:
            try:
                transport, host, port = parse_listen(text)
            except ValueError as error:
                raise ListenError(f"cannot listen: {error}") from None
            name = make_listener_name(transport, host, port)
            if name in self._listeners:
                raise ListenError(f"cannot listen on {name}: it is listed twice")
            listener: Listener
            if transport == "UDP":
                listener = UdpListener(host, port, self, self.traffic, self._metrics)
                listener.open(
                    self._reactor, self._limits.receive_buffer_bytes, self._take_handed(SOCK_DGRAM, host, port)
                )
                self._udp.append(listener)
                self._add_end(listener)
                self._metrics.flows.child("udp").inc()
            else:
                stream = self._makers.make_listener(transport, host, port)
                if proxy_networks is not None:
                    stream.front = front = ProxyFront(stream, self._streams, proxy_networks)
                    self._fronts.append(front)
                stream.open(self._reactor, self._take_handed(SOCK_STREAM, host, port))
                listener = stream
            self._listeners[listener.name] = listener
            self._addresses.add(listener.name, transport, host, listener.port)

    def end_listening(self) -> None:
        """All listeners are open; raises ListenError when a socket was handed over that is none of them."""
        try:
            self.handed.refuse_rest()
        except HandedOver as error:
            raise ListenError(str(error)) from None

    def _take_handed(self, kind: SocketKind, host: str, port: int) -> socket | None:
        try:
            return self.handed.take(kind, host, port)
        except HandedOver as error:
            raise ListenError(f"cannot listen: {error}") from None

    def stop(self) -> Deferred[Any]:
        """Close all listeners and connections; answered when nothing is left in the reactor."""
        self._stopping = True
        self.shedding.stop()
        waiting = [listener.close() for listener in self._listeners.values()]
        self._metrics.flows.child("udp").dec(len(self._udp))
        self._listeners.clear()
        self._udp.clear()
        self._ends.clear()
        for connection in self._streams:
            connection.close("stopped")
        if len(self._streams):
            reset = self._reactor.callLater(STOP_SECONDS, self._reset_all)
            emptied = self._streams.when_empty()
            emptied.addCallback(lambda _: reset.cancel() if reset.active() else None)
            waiting.append(emptied)
        return DeferredList(waiting, consumeErrors=True)

    def _reset_all(self) -> None:
        for connection in self._streams:
            connection.abort("stopped")

    @property
    def listener_names(self) -> list[str]:
        """The names of the open listeners, as `udp:192.0.2.1:5060`, in the order of the settings."""
        return list(self._listeners)

    @property
    def connection_count(self) -> int:
        """Stream connections that are open."""
        return len(self._streams)

    def change(self, settings: SipSettings, limits: LimitSettings, gate: Gate | None) -> None:
        """Other limits from now on; messages on connections that are open keep the limits of theirs on size."""
        self._rules.change(settings.websocket_origins, settings.websocket_ping_seconds)
        for front in self._fronts:
            front.change(settings.proxy_networks)
        self._limits = self._context.limits = limits
        self._parser_limits = self._context.parser_limits = _make_parser_limits(limits)
        self._gate = gate

    # What is ours

    def is_local(self, host: str, port: int | None) -> bool:
        """Whether host and port (None when not written) are one of our listeners or names."""
        return self._addresses.is_local(host, port)

    def sent_by(self, flow: Any) -> str:
        """The sent-by of our Via in what goes out on a flow, its port left out when it is the transport's default."""
        return self._addresses.sent_by(flow.local_name)

    # Going down

    def find_listener(self, transport: str) -> str:
        """The name of a listener of that transport, failing that of any; "" without one."""
        names = list(self._listeners)
        return next((name for name in names if name.startswith(f"{transport.lower()}:")), next(iter(names), ""))

    def flow_to(self, hop: Hop) -> AnyFlow:
        """The flow to a hop: for UDP through `hop.local` or a listener that fits, for a stream the connection that is
        there or a new one; when `hop.local` names a connection that is gone, or nothing leads there, one that refuses.
        """
        if hop.transport == "UDP":
            end = self._find_udp_end(hop)
            if end is None or not is_unicast(hop.host):
                return self._make_dead_flow(hop)
            return UdpFlow(end, hop if hop.local == end.name else Hop("UDP", hop.host, hop.port, end.name))
        connection = self._streams.find(hop)
        if connection is not None:
            return connection
        if names_connection(hop.local):
            return self._make_dead_flow(hop)
        return self._connect(hop)

    def _connect(self, hop: Hop) -> AnyFlow:
        now = self._clock()
        stream = self._find_stream_listener(hop)
        dialled = stream is not None and self._makers.can_dial(hop, stream)
        if self._stopping or not dialled or not is_unicast(hop.host) or not hop.port:
            return self._make_dead_flow(hop)
        refusal = self._streams.find_refusal(hop.host, accepted=False)
        if refusal:
            self._rejections.note(refusal, now, source=str(hop))
            return self._make_dead_flow(hop)
        return self._makers.dial(self._reactor, hop, stream, self._limits.connect_seconds)

    def _add_end(self, end: UdpEnd) -> None:
        """A local address of UDP, by its name, and by the short one that a token brings back."""
        self._ends[end.name] = end
        self._ends.setdefault(short_local(end.name), end)

    def _find_udp_end(self, hop: Hop) -> UdpEnd | None:
        """The named local address, or the listener that fits the target."""
        return self._ends.get(hop.local) or choose_listener(self._udp, hop.host)

    def _find_stream_listener(self, hop: Hop) -> Listener | None:
        """Whose address an outgoing connection has and whose name our Via bears: a TCP listener, else any."""
        named = self._listeners.get(hop.local)
        if isinstance(named, TcpListener) and named.transport == hop.transport:
            return named
        tcp = [
            listener
            for listener in self._listeners.values()
            if isinstance(listener, TcpListener) and listener.transport == hop.transport and listener.front is None
        ]
        return choose_listener(tcp, hop.host) or choose_listener(list(self._listeners.values()), hop.host)

    def _make_dead_flow(self, hop: Hop) -> DeadFlow:
        return DeadFlow(hop, next(iter(self._listeners), ""))

    # Coming up

    def receive_datagram(self, data: bytes, address: Address, end: UdpEnd) -> None:
        """One datagram, whatever is in it."""
        now = self._clock()
        host, port = address
        if len(data) < 20 or data[0] <= 32:
            reason = find_noise(data)
            if reason:
                self._noise.receive(reason, data, address, end, now)
                return
        if self.traffic.watcher is not None:
            self.traffic.watcher.watch(data, "UDP", (end.host, end.port), address, sent=False)
        try:
            if self._gate is not None and not self._gate.admit(host, now):
                self._rejections.note("request-rate", now, source=host)
                return
            source = Hop("UDP", host, port, end.name)
            if self.others is not None and data[0] == _S and self.others.take_response(data, source, now):
                return
            message = parse(data, self._parser_limits)
            if isinstance(message, Request):
                self.traffic.count_request(message.method)
                flow = UdpFlow(end, stamp(message, source))
                self.receiver.receive_request(message, flow, now)
            else:
                self._receive_response(message, UdpFlow(end, source), now)
        except Malformed as error:
            source = Hop("UDP", host, port, end.name)
            self._refuse(error, source, None, now, len(data), end)
        except Exception:
            self._report_unexpected(address)

    def receive_new_end(self, end: LocalEnd) -> None:
        """A listener bound to all addresses was asked at one for the first time."""
        self._add_end(end)
        self._addresses.add(end.name, "UDP", end.host, end.port)

    def receive_refused_request(self, method: str, branch: str, address: Address) -> None:
        """ICMP says that a request of ours reached nobody; told in a turn of its own, as all failures are."""
        if self._report_refused is not None and not self._stopping:
            self._reactor.callLater(0, self._tell_refused, method, branch, address)

    def _tell_refused(self, method: str, branch: str, address: Address) -> None:
        assert self._report_refused is not None
        try:
            self._report_refused(branch, method, self._clock())
        except Exception:
            self._report_unexpected(address)

    def receive_stream_message(self, data: bytes, connection: Connection, now: float) -> None:
        """One framed message of a stream."""
        source = connection.hop
        try:
            if self._gate is not None and not self._gate.admit(source.host, now):
                self._rejections.note("request-rate", now, source=source.host)
                return
            if self.others is not None and data[0] == _S and self.others.take_response(data, source, now):
                return
            message = parse(data, self._parser_limits)
            if isinstance(message, Request):
                self.traffic.count_request(message.method)
                back = stamp(message, source)
                if connection.domains:
                    back = self._note_proved(message, connection, back)
                self.receiver.receive_request(message, StreamReply(connection, back, self.flow_to), now)
            else:
                self._receive_response(message, connection, now)
        except Malformed as error:
            self._refuse(error, source, connection, now, len(data))
        except Exception:
            self._report_unexpected(source)

    def _note_proved(self, request: Request, connection: Connection, back: Hop) -> Hop:
        """A request of a peer that has proved domains: where it says so in its Via, its connection carries requests to
        them (RFC 5923 §8.2). Answers where to connect for the response when the connection is gone."""
        via = request.top_via
        if via is not None and "alias" in via.params:
            self._streams.alias(connection, back.port)
        return back._replace(local=f"@{connection.domains[0]}")

    def domains_of(self, hop: Hop) -> tuple[str, ...]:
        """The domains that the certificate of a request's sender proves, from the hop that the request came by."""
        connection = self._streams.find(hop)
        return () if connection is None else connection.domains

    def receive_broken_stream(self, error: Malformed, connection: Connection, now: float) -> None:
        """A stream that cannot be framed any more."""
        try:
            self._refuse(error, connection.hop, connection, now, self._limits.header_bytes)
        except Exception:
            self._report_unexpected(connection.hop)

    def receive_connection_end(self, connection: Connection, now: float) -> None:
        """A connection is gone; whoever waits for an answer on it is told in a turn of its own."""
        self._streams.remove(connection)
        if self.others is not None:
            self.others.receive_connection_end(connection.hop, now)
        if not self._stopping:
            self._reactor.callLater(0, self._report_failure, connection)
            for reply in connection.replies:
                self._reactor.callLater(0, self._report_failure, reply)
        connection.replies.clear()

    def receive_relayed(self, data: bytes, source: Hop, flow: Any, now: float) -> None:
        """What another node took in from `source`, and is ours: a response to a request of ours, or a request, which
        was stamped there. Answers to it take `flow`."""
        try:
            message = parse(data, self._parser_limits)
            message.source = source
            if isinstance(message, Request):
                self.receiver.receive_request(message, flow, now)
            else:
                self.traffic.count_response(message.cseq_method, message.status)
                self.receiver.receive_response(message, flow, now)
        except Malformed as error:
            self._rejections.note(error.reason, now, source=source.host, detail=error.phrase)
        except Exception:
            self._report_unexpected(source)

    def note_rejection(self, reason: str, source: Hop, now: float, detail: str = "") -> None:
        """A peer was turned away."""
        self._rejections.note(reason, now, source=str(source), detail=detail)

    def _receive_response(self, response: Response, flow: UdpFlow | Connection, now: float) -> None:
        self.traffic.count_response(response.cseq_method, response.status)
        via = response.top_via
        if via is None or not self._is_ours(via):
            self._rejections.note("response-not-ours", now, source=flow.hop.host, method=response.cseq_method)
            return
        response.source = flow.hop
        self.receiver.receive_response(response, flow, now)

    def _is_ours(self, via: Via) -> bool:
        """By its sent-by, or as another node's request that left through a flow of ours, by its branch."""
        if self._addresses.is_local(via.host, via.port):
            return True
        return self.others is not None and self.others.knows_branch(via.branch)

    def _refuse(
        self,
        error: Malformed,
        source: Hop,
        connection: Connection | None,
        now: float,
        size: int,
        end: UdpEnd | None = None,
    ) -> None:
        """Count what cannot be taken, and answer it where that can be done."""
        request = error.request
        method = request.method if request is not None else ""
        self._rejections.note(error.reason, now, source=source.host, method=method, detail=error.phrase)
        if request is None or request.method == "ACK" or request.top_via is None:
            return
        back = stamp(request, source)
        if connection is not None:
            answer = make_refusal(error, request, size + MARGIN_BYTES)
            if answer is not None:
                connection.send(answer)
        elif end is not None:
            answer = make_refusal(error, request, size + MARGIN_BYTES)
            if answer is not None and self._budget.take(now):
                end.send(answer, (back.host, back.port))

    def _report_failure(self, flow: Connection | StreamReply) -> None:
        try:
            self.receiver.receive_flow_failure(flow, self._clock())
        except Exception:
            self._report_unexpected(flow.hop)

    def _report_unexpected(self, source: object) -> None:
        """A fault of ours: it costs this message, not the process."""
        self._unexpected.inc()
        _log.failure("a message from {source} met a fault of ours", source=source)


def _make_parser_limits(limits: LimitSettings) -> ParserLimits:
    return ParserLimits(
        header_bytes=limits.header_bytes,
        header_count=limits.header_count,
        uri_bytes=limits.uri_bytes,
        via_depth=limits.via_depth,
        body_bytes=limits.body_bytes,
    )
