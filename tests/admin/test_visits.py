"""Strangers at the address of the pages, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from farm.admin.http import VisitSite, make_pages
from farm.admin.visits import BURST, MOST_BODY_BYTES, MOST_OPEN, MOST_OPEN_EACH, MOST_SECONDS, Visit, Visits
from farm.metrics import Metrics
from tests.admin.fakes import FakeNode
from tests.support.counts import read

ASKING = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Transport(StringTransport):
    """A connection that can be cut."""

    cut = False

    def abortConnection(self) -> None:
        self.cut = True


class House:
    """A node's pages, and time."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.metrics = Metrics()
        self.last: Visit | None = None
        self.node = FakeNode()
        self.site = VisitSite(
            make_pages(self.node, self.metrics), Visits(self.metrics, self.reactor.seconds), self.reactor
        )

    def come(self, host: str = "192.0.2.1") -> tuple[Visit, Transport] | None:
        kind = IPv6Address if ":" in host else IPv4Address
        visit = self.site.buildProtocol(kind("TCP", host, 40_000))
        if visit is None:
            return None
        transport = Transport()
        visit.makeConnection(transport)
        self.last = visit
        return visit, transport

    def ask(self, data: bytes, host: str = "192.0.2.1") -> Transport:
        came = self.come(host)
        assert came is not None
        came[0].dataReceived(data)
        return came[1]

    def rejected(self, reason: str) -> float:
        return read(self.metrics.admin_rejections.child(reason))


def leave(visit: Visit) -> None:
    visit.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[LogEvent]]:
    """No failure is logged, whoever comes."""
    seen: list[LogEvent] = []
    observer = cast("ILogObserver", seen.append)
    globalLogPublisher.addObserver(observer)
    yield seen
    globalLogPublisher.removeObserver(observer)
    assert [event for event in seen if "log_failure" in event or event.get("isError")] == []


def test_a_page_is_answered_and_the_connection_closed(house: House) -> None:
    transport = house.ask(ASKING)
    assert transport.value().startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in transport.value()
    assert transport.disconnecting
    assert len(house.reactor.getDelayedCalls()) == 1
    assert house.last is not None
    leave(house.last)
    assert house.reactor.getDelayedCalls() == []
    house.reactor.advance(MOST_SECONDS)
    assert house.rejected("slow") == 0


def test_a_fault_of_ours_is_counted_logged_and_told_without_details(
    house: House, logged: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.node, "problems", lambda: 1 / 0)
    transport = house.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 500 ")
    assert b"ZeroDivision" not in transport.value()
    assert read(house.metrics.unexpected_errors.child("admin")) == 1
    assert [event["log_failure"].type for event in logged if "log_failure" in event] == [ZeroDivisionError]
    logged.clear()


def test_ten_thousand_requests_in_one_segment_are_one_page(house: House) -> None:
    transport = house.ask(ASKING * 10_000)
    assert transport.value().count(b"HTTP/1.1 200 OK") == 1
    assert transport.disconnecting


def test_who_asks_a_byte_at_a_time_is_cut_off(house: House) -> None:
    came = house.come()
    assert came is not None
    for _ in range(int(MOST_SECONDS) - 1):
        came[0].dataReceived(b"G")
        house.reactor.advance(1.0)
    assert not came[1].cut
    house.reactor.advance(1.0)
    assert came[1].cut
    assert house.rejected("slow") == 1
    leave(came[0])
    assert house.reactor.getDelayedCalls() == []


def test_who_does_not_read_the_answer_is_cut_off(house: House) -> None:
    transport = house.ask(ASKING)
    house.reactor.advance(MOST_SECONDS)
    assert transport.cut
    assert house.rejected("slow") == 1


def test_thousands_of_connections_are_not_taken_and_those_that_go_make_room(house: House) -> None:
    came = [house.come() for _ in range(MOST_OPEN_EACH + 10)]
    assert came[MOST_OPEN_EACH:] == [None] * 10
    others = [house.come(f"198.51.100.{number % 100}") for number in range(1000)]
    assert sum(each is not None for each in others) == MOST_OPEN - MOST_OPEN_EACH
    assert house.rejected("too-many-connections") == 1010 - MOST_OPEN + MOST_OPEN_EACH
    assert came[0] is not None
    leave(came[0][0])
    assert house.come() is not None


def test_a_storm_of_scrapes_shuts_out_its_sender_alone(house: House) -> None:
    def storm(host: str) -> int:
        taken = 0
        for _ in range(1000):
            came = house.come(host)
            if came is not None:
                taken += 1
                leave(came[0])
        return taken

    assert storm("192.0.2.1") == BURST
    assert house.rejected("rate") == 1000 - BURST
    assert house.come("192.0.2.2") is not None, "Prometheus comes from elsewhere"
    house.reactor.advance(1.0)
    assert storm("192.0.2.1") == 50
    assert storm("2001:db8::1") == BURST
    assert storm("2001:db8::2") == 0, "one /64 is one"


def test_a_long_body_is_neither_kept_nor_read_to_its_end(house: House) -> None:
    came = house.come()
    assert came is not None
    visit, transport = came
    visit.dataReceived(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
    content = visit.requests[0].content
    for _ in range(MOST_BODY_BYTES // 1024):
        visit.dataReceived(b"x" * 1024)
    assert not transport.cut
    visit.dataReceived(b"x" * 1024)
    visit.dataReceived(b"x" * 1024)
    assert transport.cut
    assert house.rejected("body-too-large") == 1
    assert content.getvalue() == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n", 400),
        (b"\xff\xfe\x00\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * 16_000 + b"\r\nY: " + b"y" * 16_000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 501 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /%00%ff%2e%2e%2f HTTP/1.1\r\n\r\n", 404),
        (b"GET http://[::1/metrics HTTP/1.1\r\nHost: \x07\r\n\r\n", 404),
        (b"HEAD /status.css HTTP/1.1\r\nHost: \r\n\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", 200),
        (b"OPTIONS /metrics HTTP/1.1\r\n\r\n", 501),
        (b"DELETE /healthz HTTP/1.1\r\n\r\n", 501),
        (b"BREW / HTTP/1.1\r\n\r\n", 501),
        (b"POST /metrics HTTP/1.1\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\nab", 405),
        (b"POST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=\xff\r\nContent-Length: 2\r\n\r\nab", 405),
        (b"GET / HTTP/1.1\r\nCookie: ;=;a;\xff=\xff\r\nAuthorization: Basic \xff\r\n\r\n", 200),
        (b"GET /?" + b"&%" * 3000 + b" HTTP/1.1\r\n\r\n", 200),
    ],
)
def test_nonsense_is_answered_in_a_number_and_the_connection_closed(house: House, data: bytes, status: int) -> None:
    transport = house.ask(data)
    assert transport.value().split(b" ", 2)[1] == str(status).encode()
    assert transport.disconnecting
    assert read(house.metrics.unexpected_errors.child("admin")) == 0


def test_a_line_without_an_end_is_not_waited_for(house: House) -> None:
    transport = house.ask(b"GET /" + b"a" * 20_000)
    assert transport.disconnecting
