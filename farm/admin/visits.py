"""Connections to a node's pages: how many there may be, how many a second, for how long, and what they may send.

The address of the pages asks for no password, so that whoever reaches it may try to wear the node out by it. A
connection is for one request: it is answered and closed. Whoever is slow, at asking or at reading the answer, is cut
off after half a minute; of a body, which no page wants, little is read and nothing kept. All that are turned away are
counted by reason, and none is logged.

Decided: no connection is kept for a second request (RFC 9112 section 9.6). A reader of many pages a second would be the
only one to gain; but thousands of requests in one segment (pipelined) were answered in one turn of the event loop.
Decided: pages are limited by the address (an IPv6 one by its /64), so that who asks too much shuts himself out, and
neither Prometheus nor an orchestrator's probes.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from prometheus_client import Counter
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HttpRequest
from twisted.web.server import Request as SiteRequest

from farm.metrics import Metrics
from farm.security.limits import ALLOWED, SourceLimits

MOST_OPEN: Final = 256
MOST_OPEN_EACH: Final = 64
MOST_SECONDS: Final = 30.0
PER_SECOND: Final = 50.0
BURST: Final = 200
MOST_BODY_BYTES: Final = 65_536
_SOURCES: Final = 10_000


class Visits:
    """Those at present. `now` answers monotonic seconds."""

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        self._now = now
        self._limits = SourceLimits(
            requests_per_second=PER_SECOND, burst=BURST, failures_per_minute=0, table_entries=_SOURCES
        )
        self._open: dict[str, int] = {}
        self._count = 0
        self._rejections = {reason: child for (reason,), child in metrics.admin_rejections}
        self.errors: Counter = metrics.unexpected_errors.child("admin")

    def admit(self, host: str) -> bool:
        """Whether one from there may come in; it stays until `leave`."""
        if self._count >= MOST_OPEN or self._open.get(host, 0) >= MOST_OPEN_EACH:
            self.reject("too-many-connections")
            return False
        if self._limits.admit_request(host, self._now()) is not ALLOWED:
            self.reject("rate")
            return False
        self._open[host] = self._open.get(host, 0) + 1
        self._count += 1
        return True

    def leave(self, host: str) -> None:
        """One who came in from there is gone."""
        self._count -= 1
        self._open[host] -= 1
        if not self._open[host]:
            del self._open[host]

    def reject(self, reason: str) -> None:
        """Count one who was turned away."""
        self._rejections[reason].inc()


class VisitRequest(SiteRequest):
    """The one request of a connection."""

    channel: Any

    def gotLength(self, length: int | None) -> None:
        """Keep no body: Twisted would write a long one to a file."""
        self.content = BytesIO()
        self._body_bytes = 0

    def handleContentChunk(self, data: bytes) -> None:
        """Pass over it, up to a limit."""
        self._body_bytes += len(data)
        if self._body_bytes > MOST_BODY_BYTES:
            self.channel.cut("body-too-large")

    def processingFailed(self, reason: Failure) -> Any:
        """Count what is our fault; Twisted logs it, and answers 500."""
        self.channel.visits.errors.inc()
        return super().processingFailed(reason)


class Visit(HTTPChannel):
    """One connection, which has been admitted."""

    transport: Any

    def __init__(self, visits: Visits, host: str) -> None:
        super().__init__()
        self.site: Any = None
        self.visits = visits
        self._host = host
        self._end: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Give it its time."""
        super().connectionMade()
        self._end = self.callLater(MOST_SECONDS, self._give_up)

    def checkPersistence(self, request: HttpRequest, version: bytes) -> bool:
        """No second request."""
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False

    def cut(self, reason: str) -> None:
        """Close it at once, whatever is on its way."""
        if self._end is not None and self._end.active():
            self._end.cancel()
            self.visits.reject(reason)
            self.transport.abortConnection()

    def _give_up(self) -> None:
        self.visits.reject("slow")
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        if self._end is not None and self._end.active():
            self._end.cancel()
        self._end = None
        self.visits.leave(self._host)
        super().connectionLost(reason)


def find_host(address: IAddress | None) -> str:
    """The numeric address that a connection is from."""
    return str(getattr(address, "host", ""))
