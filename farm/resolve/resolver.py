"""The questions go out here: a caching client of DNS on Twisted Names, the `Dns` port of `locate`.

A question is answered from the cache, from hosts(5), or by the name servers, each of which gets its share of a third
of the time limit in a first round and of the rest in a second; an error (SERVFAIL, REFUSED) sends the question to the
next at once. A truncated answer is asked for again over TCP. Whoever asks what is being asked already waits for the
same answer (RFC 5452 §5). Stale records help out when the servers fail, or are slower than 1.8 s (RFC 8767). A name
that hosts(5) knows has the addresses that stand there and no service records: the file has the last word. How long
answers hold is `cache`, what a message says is `reading`.

Decided: the protocols of `twisted.names.dns`, not `twisted.names.client.Resolver`: that one gives up at the first
SERVFAIL, can leave a question in its list of outstanding ones for ever when no socket is to be had, binds random ports
(those of our own listeners too), keeps TCP connections open and sets their timers on the global reactor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from socket import AF_INET6, inet_ntop
from typing import Any, Final, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as NamesTimeout
from twisted.internet.error import CannotListenError, ConnectError, ConnectionClosed
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.names import dns
from twisted.python.failure import Failure

from farm.config import ResolverSettings
from farm.metrics import Metrics
from farm.resolve.cache import FAILURE_SECONDS, AnswerCache
from farm.resolve.hosts import Hosts, Server, parse_hosts, parse_resolv_conf, parse_server
from farm.resolve.reading import MAX_ALIASES, Reading, Row, read_additional, read_answer
from farm.resolve.records import Answer, Naptr, Question, Srv

MAX_OUTSTANDING: Final = 512
SLOW_SECONDS: Final = 1.8  # RFC 8767 §5: how long to wait before a stale answer is given
_ROUNDS: Final = (1 / 3, 2 / 3)
_FILE_CHECK_SECONDS: Final = 5.0
_MAX_ROWS: Final = 2000
_TYPES: Final = {"A": dns.A, "AAAA": dns.AAAA, "SRV": dns.SRV, "NAPTR": dns.NAPTR}
_SOCKET_ERRORS: Final = (OSError, CannotListenError, ConnectError, ConnectionClosed)

_Parsed = TypeVar("_Parsed")


class Reactor(Protocol):
    """What is used of a reactor."""

    def callLater(self, delay: float, function: Callable[..., object], /, *args: object) -> Any: ...

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Any: ...

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30) -> Any: ...


class Unanswered(Exception):
    """The name servers did not answer ("timeout") or none could ("broken")."""

    def __init__(self, failure: str) -> None:
        super().__init__(failure)
        self.failure = failure


class Resolver:
    """The client. `clock` answers monotonic seconds. A file that cannot be read counts as an empty one."""

    _log: Final = Logger()

    def __init__(
        self,
        settings: ResolverSettings,
        reactor: Reactor,
        clock: Callable[[], float],
        metrics: Metrics,
        *,
        hosts_file: str = "/etc/hosts",
        resolv_conf: str = "/etc/resolv.conf",
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._timeout_seconds = settings.timeout_seconds
        self._cache = AnswerCache(settings.cache_entries, settings.max_ttl_seconds, settings.negative_seconds)
        self._configured = [parse_server(text) for text in settings.servers]
        self._hosts = _WatchedFile(hosts_file, parse_hosts)
        self._resolv_conf = _WatchedFile(resolv_conf, parse_resolv_conf)
        self._pending: dict[Question, _Pending] = {}
        self._silent_since: float | None = None
        self._preferred: Server | None = None
        self._stopped = False
        self._seconds = {
            result: metrics.resolver_seconds.child(result) for result in ("found", "empty", "failed", "timeout")
        }
        self._unexpected = metrics.unexpected_errors.child("resolver")
        metrics.resolver_cache_entries.child().set_function(lambda: float(len(self._cache)))

    def change(self, settings: ResolverSettings) -> None:
        """Ask by these from now on; questions under way go on as they began."""
        self._timeout_seconds = settings.timeout_seconds
        self._cache.change(settings.cache_entries, settings.max_ttl_seconds, settings.negative_seconds)
        configured = [parse_server(text) for text in settings.servers]
        if configured != self._configured:
            self._configured, self._preferred, self._silent_since = configured, None, None

    def answer(self, question: Question) -> Answer | Deferred[Answer]:
        """The answer if it is known, otherwise a Deferred of it that never fails; the question is then under way."""
        now = self._clock()
        known = self._cache.find(question, now)
        if known is None:
            known = self._find_in_hosts(question, now)
        if known is not None:
            return known
        pending = self._pending.get(question)
        if pending is None:
            if len(self._pending) >= MAX_OUTSTANDING or self._stopped:
                return self._cache.find_stale(question, now) or Answer(failure="busy")
            pending = self._start(question, now)
        if pending.answer is not None:
            return pending.answer
        waiter: Deferred[Answer] = Deferred()
        pending.waiters.append(waiter)
        return waiter

    def stop(self) -> None:
        """Ask nothing more; whoever waits is answered with a failure at once."""
        self._stopped = True
        for pending in list(self._pending.values()):
            pending.asking.cancel()

    def _find_in_hosts(self, question: Question, now: float) -> Answer | None:
        hosts: Hosts = self._hosts.read(now)
        addresses = hosts.get(question)
        if addresses is not None:
            return Answer(addresses=addresses)
        name = question.name
        if question.kind == "SRV":
            while name.startswith("_"):
                name = name.partition(".")[2]
        return Answer() if Question("A", name) in hosts else None

    def _start(self, question: Question, now: float) -> _Pending:
        pending = self._pending[question] = _Pending(question, now)
        pending.asking = Deferred.fromCoroutine(self._ask(question))
        pending.asking.addTimeout(self._timeout_seconds, self._reactor)  # type: ignore[arg-type]
        pending.asking.addBoth(self._settle, pending)
        if pending.answer is None and self._cache.find_stale(question, now) is not None:
            pending.slow = self._reactor.callLater(SLOW_SECONDS, self._give_stale, pending)
        return pending

    def _give_stale(self, pending: _Pending) -> None:
        """The servers are slow: those who wait have the old records now; the question stays under way."""
        pending.slow = None
        stale = self._cache.find_stale(pending.question, self._clock())
        if stale is not None:
            pending.give(stale)

    def _settle(self, result: Reading | Failure, pending: _Pending) -> None:
        """A question has ended: keep the answer and give it to all who wait."""
        now = self._clock()
        question = pending.question
        del self._pending[question]
        if pending.slow is not None:
            pending.slow.cancel()
        if isinstance(result, Failure):
            failure = self._failure_of(result)
            answer = self._cache.keep_failure(question, Answer(failure=failure), now)
            outcome = "timeout" if failure == "timeout" else "failed"
        else:
            answer = result.answer
            self._cache.keep(question, answer, result.ttl, now)
            outcome = "empty" if answer.is_empty else "found"
        self._note_silence(outcome == "timeout", now)
        self._seconds[outcome].observe(now - pending.asked_at)
        pending.give(answer)

    def _failure_of(self, failure: Failure) -> str:
        """Which failure of an `Answer` this is; one that nobody expected is logged and counted."""
        error = failure.value
        if isinstance(error, Unanswered):
            return error.failure
        if isinstance(error, NamesTimeout):
            return "timeout"
        if isinstance(error, CancelledError):
            return "busy"  # we are stopping
        self._unexpected.inc()
        self._log.failure("a DNS question failed unexpectedly", failure)
        return "broken"

    def _note_silence(self, silent: bool, now: float) -> None:
        """Log when the name servers fall silent and when they are back, not each question."""
        if silent and self._silent_since is None:
            self._silent_since = now
            self._log.warn("name servers do not answer: {servers}", servers=_texts(self._servers(now)))
        elif not silent and self._silent_since is not None:
            self._log.info("name servers answer again after {seconds:.1f} s", seconds=now - self._silent_since)
            self._silent_since = None

    async def _ask(self, question: Question) -> Reading:
        """Ask, following aliases that a message does not resolve itself."""
        kind = question.kind
        name = question.name
        ttl = float("inf")
        for _ in range(MAX_ALIASES):
            asked = Question(kind, name)
            message = await self._ask_servers(asked)
            reading = read_answer(asked, read_rows(message.answers))
            ttl = min(ttl, reading.ttl)
            if not reading.alias or message.rCode == dns.ENAME:
                now = self._clock()
                for other, more in read_additional(asked, reading.answer, read_rows(message.additional)):
                    if self._cache.find(other, now) is None:
                        self._cache.keep(other, more.answer, more.ttl, now)
                if reading.answer.is_empty:
                    ttl = min(ttl, _negative_ttl(message))
                return Reading(reading.answer, ttl)
            name = reading.alias
        raise Unanswered("broken")

    async def _ask_servers(self, question: Question) -> dns.Message:
        """The first message that settles the question (records, none, or no such name); raises Unanswered."""
        query = dns.Query(question.name.encode("ascii"), _TYPES[question.kind], dns.IN)
        servers = self._servers(self._clock())
        failure = "broken"
        for share in _ROUNDS:
            patience = self._timeout_seconds * share / len(servers)
            silent: list[Server] = []
            for server in servers:
                try:
                    message = await self._ask_server(server, query, patience)
                except NamesTimeout:
                    failure = "timeout"
                    silent.append(server)
                    continue
                except _SOCKET_ERRORS as error:
                    self._log.debug("asking name server {server} failed: {error}", server=server, error=error)
                    continue
                if message.rCode in (dns.OK, dns.ENAME):
                    self._preferred = server
                    return message
            if not silent:
                break
            servers = silent  # the others have given their error
        raise Unanswered(failure)

    async def _ask_server(self, server: Server, query: dns.Query, patience: float) -> dns.Message:
        """One server's answer to one query, over TCP when it does not fit a datagram."""
        message = await self._over_udp(server, query, patience)
        if message.trunc:
            message = await self._over_tcp(server, query, patience)
        if not message.answer or (message.queries and message.queries[0] != query):
            raise OSError("the answer is to another question")
        return message

    async def _over_udp(self, server: Server, query: dns.Query, patience: float) -> dns.Message:
        """A socket of its own for each question: its random port is half of what a forger has to guess (RFC 5452)."""
        protocol = dns.DNSDatagramProtocol(_Strays(), reactor=self._reactor)
        protocol.noisy = False
        interface = "::" if ":" in server[0] else ""
        port = self._reactor.listenUDP(0, protocol, interface=interface, maxPacketSize=65_535)
        try:
            return await protocol.query(server, [query], patience)
        finally:
            port.stopListening()

    async def _over_tcp(self, server: Server, query: dns.Query, patience: float) -> dns.Message:
        exchange = _TcpExchange(query, patience, self._reactor)
        connector = self._reactor.connectTCP(server[0], server[1], exchange, timeout=patience)
        try:
            return await exchange.done
        finally:
            connector.disconnect()

    def _servers(self, now: float) -> list[Server]:
        """The name servers, the one that answered last first."""
        servers: list[Server] = self._configured or self._resolv_conf.read(now)
        if self._preferred in servers and servers[0] != self._preferred:
            servers = [self._preferred, *(server for server in servers if server != self._preferred)]
        return servers


class _Pending:
    """A question under way, and who waits for it."""

    __slots__ = ("answer", "asked_at", "asking", "question", "slow", "waiters")

    asking: Deferred[Any]

    def __init__(self, question: Question, now: float) -> None:
        self.question = question
        self.asked_at = now
        self.waiters: list[Deferred[Answer]] = []
        self.answer: Answer | None = None
        self.slow: Any = None

    def give(self, answer: Answer) -> None:
        """Answer all who wait, and all who come later."""
        self.answer = answer
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.callback(answer)


class _Strays:
    """The controller of a datagram protocol: hears of answers that nobody waits for, and drops them."""

    def messageReceived(self, message: dns.Message, protocol: object, address: object = None) -> None:
        pass


class _TcpExchange(ClientFactory):
    """One question over one TCP connection; `done` has its answer."""

    noisy = False

    def __init__(self, query: dns.Query, patience: float, reactor: Reactor) -> None:
        self.done: Deferred[dns.Message] = Deferred()
        self._query = query
        self._patience = patience
        self._reactor = reactor

    def buildProtocol(self, addr: object) -> dns.DNSProtocol:
        protocol = dns.DNSProtocol(self, self._reactor)
        protocol.factory = self
        return protocol

    def connectionMade(self, protocol: dns.DNSProtocol) -> None:
        """The protocol is connected: ask."""
        protocol.query([self._query], self._patience).addBoth(self._finish)

    def connectionLost(self, protocol: dns.DNSProtocol) -> None:
        """The protocol's connection is gone."""
        self._finish(ConnectionError("the name server closed the connection"))

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._finish(reason)

    def messageReceived(self, message: dns.Message, protocol: object) -> None:
        """An answer to a question that was never asked."""

    def _finish(self, result: dns.Message | Failure | Exception) -> None:
        if self.done.called:
            return
        if isinstance(result, dns.Message):
            self.done.callback(result)
        else:
            self.done.errback(result)


class _WatchedFile(Generic[_Parsed]):
    """A small text file, read again when it has changed; looked at every few seconds at most."""

    __slots__ = ("_check_at", "_parse", "_parsed", "_path", "_seen")

    def __init__(self, path: str, parse: Callable[[str], _Parsed]) -> None:
        self._path = path
        self._parse = parse
        self._parsed = parse("")
        self._seen: tuple[int, int] | None = None
        self._check_at = float("-inf")

    def read(self, now: float) -> _Parsed:
        """What the file says, as parsed."""
        if now < self._check_at:
            return self._parsed
        self._check_at = now + _FILE_CHECK_SECONDS
        seen, text = None, ""
        try:
            status = os.stat(self._path)
            seen = (status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return self._parsed
            with open(self._path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            seen = None
        self._seen = seen
        self._parsed = self._parse(text)
        return self._parsed


def _negative_ttl(message: dns.Message) -> float:
    """How long "no such record" holds (RFC 2308 §5): by the SOA that came along; a moment when none did."""
    for header in message.authority:
        if header.type == dns.SOA and isinstance(header.payload, dns.Record_SOA):
            return float(min(header.ttl, header.payload.minimum))
    return FAILURE_SECONDS


def read_rows(headers: Iterable[dns.RRHeader]) -> Iterator[Row]:
    """The records that concern us, as values."""
    for count, header in enumerate(headers):
        if count >= _MAX_ROWS:
            return
        payload: Any = header.payload
        value: Naptr | Srv | str
        if header.cls != dns.IN:
            continue
        if header.type == dns.A:
            kind, value = "A", payload.dottedQuad()
        elif header.type == dns.AAAA:
            kind, value = "AAAA", inet_ntop(AF_INET6, payload.address)
        elif header.type == dns.CNAME:
            kind, value = "CNAME", _name(payload.name)
        elif header.type == dns.SRV:
            kind, value = "SRV", Srv(payload.priority, payload.weight, payload.port, _name(payload.target))
        elif header.type == dns.NAPTR:
            flags, service, regexp = (
                part.string.decode("ascii", "replace") for part in (payload.flags, payload.service, payload.regexp)
            )
            replacement = _name(payload.replacement)
            kind, value = "NAPTR", Naptr(payload.order, payload.preference, flags, service, regexp, replacement)
        else:
            continue
        yield Row(_name(header.name), kind, float(header.ttl), value)


def _name(name: dns.Name) -> str:
    return name.name.decode("ascii", "replace").lower().removesuffix(".")


def _texts(servers: Iterable[Server]) -> str:
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in servers)
