"""The resolver on real sockets, against Twisted's own name server and against one of ours that errs.

Each test runs a reactor of its own that is never installed, which also shows that nothing here uses a global one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.names import dns

from farm.config import ResolverSettings
from farm.metrics import Metrics
from farm.resolve.failed import FailedHops
from farm.resolve.locate import Locator, NotLocated, Reach
from farm.resolve.records import Answer, Question
from farm.resolve.resolver import Resolver
from farm.sip.uri import parse_uri
from tests.support.names import NameServer
from tests.support.zone_server import ZoneServer

ZONE = """\
$TTL 60
$ORIGIN elsewhere.test.
@ IN SOA ns.elsewhere.test. root.elsewhere.test. 1 3600 600 86400 60
@ IN NS ns
_sip._udp IN SRV 10 0 5060 one.elsewhere.test.
_sip._udp IN SRV 20 0 5070 two.elsewhere.test.
one IN A 192.0.2.1
two IN A 192.0.2.2
two IN AAAA 2001:db8::2
alias IN CNAME one.elsewhere.test.
"""


class Loop:
    """A reactor that runs one coroutine."""

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What the coroutine returns; only once, since a reactor starts once."""
        outcome: list[Any] = []

        def begin() -> None:
            done = Deferred.fromCoroutine(work)
            done.addTimeout(20, self.reactor)
            done.addBoth(outcome.append)
            done.addBoth(lambda _: self.reactor.callLater(0, self.reactor.stop))

        self.reactor.callWhenRunning(begin)
        self.reactor.run(installSignalHandlers=False)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.reactor.removeAll()


def make_resolver(loop: Loop, *servers: str, timeout_seconds: float = 3.0) -> Resolver:
    settings = ResolverSettings(servers=servers, timeout_seconds=timeout_seconds)
    return Resolver(settings, loop.reactor, time.monotonic, Metrics(), hosts_file="", resolv_conf="")


def make_locator(resolver: Resolver) -> Locator:
    return Locator(resolver, FailedHops(30.0), random.Random(1), Reach())


async def hops_of(locator: Locator, uri: str) -> list[str]:
    found = locator.locate(parse_uri(uri), time.monotonic())
    return [str(hop) for hop in (await found if isinstance(found, Awaitable) else found)]


async def answer_of(resolver: Resolver, question: Question) -> Answer:
    reply = resolver.answer(question)
    return reply if isinstance(reply, Answer) else await reply


def test_a_domain_is_located_through_a_real_name_server(
    loop: Loop, hosts: Callable[[int], list[str]], tmp_path: Path
) -> None:
    server = NameServer(hosts(1)[0], ZONE, tmp_path)
    resolver = make_resolver(loop, server.address)
    locator = make_locator(resolver)

    async def ask() -> None:
        expected = ["udp:192.0.2.1:5060", "udp:192.0.2.2:5070", "udp:[2001:db8::2]:5070"]
        assert await hops_of(locator, "sip:bob@elsewhere.test") == expected
        again = locator.locate(parse_uri("sip:elsewhere.test"), time.monotonic())
        assert isinstance(again, list)
        assert [str(hop) for hop in again] == expected
        assert await hops_of(locator, "sip:alias.elsewhere.test:5090") == ["udp:192.0.2.1:5090"]
        with pytest.raises(NotLocated, match="unresolvable"):
            await hops_of(locator, "sip:nobody.elsewhere.test")

    try:
        loop.run(ask())
    finally:
        server.stop()


def test_a_long_answer_comes_over_tcp(loop: Loop, hosts: Callable[[int], list[str]]) -> None:
    host = hosts(1)[0]
    name = "_sip._tcp.elsewhere.test"
    server = ZoneServer(
        loop.reactor, {name: [dns.Record_SRV(0, 1, 5060, f"host{n}.elsewhere.test".encode()) for n in range(1000)]}
    )

    async def ask() -> Answer:
        server.listen(host)
        return await answer_of(make_resolver(loop, f"{host}:{server.port}"), Question("SRV", name))

    assert len(loop.run(ask()).srvs) == 100
    assert server.asked == [("SRV", name), ("SRV/tcp", name)]


def test_a_dead_server_is_passed_over_for_the_next(loop: Loop, hosts: Callable[[int], list[str]]) -> None:
    dead, live = hosts(2)
    server = ZoneServer(loop.reactor, {"one.elsewhere.test": [dns.Record_A("192.0.2.1")]})

    async def ask() -> tuple[Answer, float, float]:
        server.listen(live)
        resolver = make_resolver(loop, f"{dead}:53", f"{live}:{server.port}")
        begun = time.monotonic()
        answer = await answer_of(resolver, Question("A", "one.elsewhere.test"))
        first = time.monotonic() - begun
        await answer_of(resolver, Question("AAAA", "one.elsewhere.test"))
        return answer, first, time.monotonic() - begun - first

    answer, first, second = loop.run(ask())
    assert answer.addresses == ("192.0.2.1",)
    assert 0.4 < first < 2.0  # a third of three seconds, shared by two servers
    assert second < first


def test_no_server_at_all_is_a_timeout_in_time(loop: Loop, hosts: Callable[[int], list[str]]) -> None:
    resolver = make_resolver(loop, f"{hosts(1)[0]}:53", timeout_seconds=0.6)
    begun = time.monotonic()
    with pytest.raises(NotLocated) as caught:
        loop.run(hops_of(make_locator(resolver), "sip:elsewhere.test"))
    assert (caught.value.status, caught.value.reason) == (504, "dns-timeout")
    assert time.monotonic() - begun < 3.0
