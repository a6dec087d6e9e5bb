"""The node's two listeners for operators: pages on a TCP address, orders on a UNIX socket.

Pages: `/metrics` for Prometheus, `/healthz` (200 while the event loop turns, with the problems at present), `/readyz`
(503 until the node serves, in step with the others, and while it is drained), and `/`, the status page, with its files
and the same as `/status.json`. No page shows a user, and none changes anything, since whoever reaches the address may
read it; none may be read by a page from elsewhere. Orders: `POST /<order>` with a JSON object, on a socket that only
the node's user (and root) may open; `control.py` carries them out.

Decided: metrics are rendered in the reactor, which costs 0.6 ms for 1,700 series; prometheus_client's own resource does
it on the thread pool, where gauges would be read while they change.
Decided: nothing of `/metrics` is kept between two scrapes, so that each has the truth; `visits.py` sees to it that
there are not too many.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final, Protocol, cast

from prometheus_client import Counter
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.logger import Logger
from twisted.web.http import Request as HttpRequest
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from farm.addresses import parse_host_port
from farm.admin.control import Answer, Control, Node, OrderError
from farm.admin.status_page import write_page
from farm.admin.visits import Visit, VisitRequest, Visits, find_host
from farm.config import Config
from farm.metrics import CONTENT_TYPE, Metrics

IDLE_SECONDS: Final = 60
_KEPT_SECONDS: Final = 1.0
_JSON: Final = "application/json; charset=utf-8"
_HTML: Final = "text/html; charset=utf-8"
_FILES: Final = (
    ("status.css", "text/css; charset=utf-8"),
    ("status.js", "text/javascript; charset=utf-8"),
    ("status.svg", "image/svg+xml"),
)
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    b" form-action 'none'; frame-ancestors 'none'"
)
_STRICT: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Reactor(Protocol):
    """What is needed of the reactor."""

    def listenTCP(self, port: int, factory: Site, *, interface: str) -> IListeningPort:
        """As twisted.internet.interfaces.IReactorTCP has it."""

    def listenUNIX(self, address: str, factory: Site, *, mode: int) -> IListeningPort:
        """As twisted.internet.interfaces.IReactorUNIX has it."""


class AdminListeners:
    """Both listeners. `start` raises CannotListenError or OSError when an address is taken or a path is not ours."""

    def __init__(self, reactor: Reactor, config: Config, node: Node, metrics: Metrics) -> None:
        self._reactor = reactor
        self._config = config
        self._node = node
        self._metrics = metrics
        self._ports: list[IListeningPort] = []

    def start(self) -> None:
        """Listen."""
        if self._config.admin.http:
            host, port = parse_host_port(self._config.admin.http)
            visits = Visits(self._metrics, self._node.now)
            pages = VisitSite(make_pages(self._node, self._metrics), visits, self._reactor)
            self._ports.append(self._reactor.listenTCP(port or 0, pages, interface=host))
        path = self._config.control_path
        errors = self._metrics.unexpected_errors.child("admin")
        orders = PageSite(OrderPage(Control(self._node, self._node), errors), self._reactor)
        _remove_stale(path)
        before = os.umask(0o177)  # the mode must hold from the start, not from a chmod after binding
        try:
            self._ports.append(self._reactor.listenUNIX(path, orders, mode=0o600))
        finally:
            os.umask(before)

    def stop(self) -> Deferred[object]:
        """Stop listening; the answer fires when the sockets are closed."""
        ports, self._ports = self._ports, []
        return cast("Deferred[object]", DeferredList([maybeDeferred(port.stopListening) for port in ports]))


def _remove_stale(path: str) -> None:
    """Remove a socket that a process which is gone has left; one that somebody listens on, or a file, stays."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.setblocking(False)
                asking.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except BlockingIOError:
                pass  # somebody is there, and busy


class PageSite(Site):
    """A site without Twisted's log line for every request."""

    def __init__(self, root: Resource, reactor: Any = None) -> None:
        super().__init__(root, timeout=IDLE_SECONDS, reactor=reactor)
        self.noisy = False
        self.displayTracebacks = False

    def log(self, request: HttpRequest) -> None:
        """Write nothing: a scrape a second is no news."""


class VisitSite(PageSite):
    """The site of the pages, whose visitors are strangers."""

    requestFactory = VisitRequest

    def __init__(self, root: Resource, visits: Visits, reactor: Any = None) -> None:
        super().__init__(root, reactor)
        self._visits = visits

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A `Visit`, or None, at which the socket is closed."""
        host = find_host(addr)
        if not self._visits.admit(host):
            return None
        visit: Any = Visit(self._visits, host)
        visit.callLater = self.reactor.callLater
        visit.factory = visit.site = self
        visit.requestFactory = self.requestFactory
        return visit


def make_pages(node: Node, metrics: Metrics) -> Resource:
    """The pages of the TCP address."""
    root = Pages()
    errors = metrics.unexpected_errors.child("admin")
    root.putChild(b"", KeptPage(lambda: write_page(node.overview()), _HTML, node.now, errors))
    root.putChild(b"status.json", KeptPage(lambda: _pack_json(node.overview()), _JSON, node.now, errors))
    for file, content_type in _FILES:
        root.putChild(file.encode(), FilePage(file, content_type))
    root.putChild(b"metrics", MetricsPage(metrics))
    root.putChild(b"healthz", HealthPage(node))
    root.putChild(b"readyz", ReadyPage(node))
    return root


class Pages(Resource):
    """The root of the pages."""

    def getChild(self, path: bytes, request: HttpRequest) -> Resource:
        """Whatever has no page of its own."""
        return cast(Resource, notFound())


class MetricsPage(Resource):
    """The metric catalogue."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render_GET(self, request: Request) -> bytes:
        """All families in exposition format."""
        _harden(request)
        _set_type(request, CONTENT_TYPE)
        return self._metrics.render()


class HealthPage(Resource):
    """Liveness: that it answers is the news; what is wrong is said, but does not make it dead."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    def render_GET(self, request: Request) -> bytes:
        """`{"status": "ok" | "degraded", "problems": […]}`"""
        _harden(request)
        problems = self._node.problems()
        return _write_json(request, 200, {"status": "degraded" if problems else "ok", "problems": problems})


class ReadyPage(Resource):
    """Readiness: whether traffic may be sent here."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    def render_GET(self, request: Request) -> bytes:
        """200 or 503, and the same in words; in a farm also how far the node is."""
        _harden(request)
        ready = self._node.ready()
        overlay = self._node.overlay_status()
        far: Answer = {key: overlay[key] for key in ("state", "synchronised", "progress", "draining") if key in overlay}
        return _write_json(request, 200 if ready else 503, {"ready": ready, **far})


class KeptPage(Resource):
    """A page that costs something to make: made anew at most once a second, however often it is asked for. `now`
    answers monotonic seconds."""

    _log = Logger()

    def __init__(self, make: Callable[[], bytes], content_type: str, now: Callable[[], float], errors: Counter) -> None:
        super().__init__()
        self._make = make
        self._content_type = content_type
        self._now = now
        self._errors = errors
        self._kept = b""
        self._kept_until = float("-inf")

    def render_GET(self, request: Request) -> bytes:
        """The page, or 500 when we are at fault."""
        _harden(request)
        now = self._now()
        if now >= self._kept_until:
            try:
                self._kept = self._make()
            except Exception:
                self._errors.inc()
                self._log.failure("a page failed")
                self._kept = b""
            self._kept_until = now + _KEPT_SECONDS
        if not self._kept:
            return _write_json(request, 500, {"error": "the node failed at this page; its log says why"})
        _set_type(request, self._content_type)
        return self._kept


class FilePage(Resource):
    """A file of the status page, as it was when the node started."""

    def __init__(self, name: str, content_type: str) -> None:
        super().__init__()
        self._content = files("farm.admin").joinpath(name).read_bytes()
        self._content_type = content_type

    def render_GET(self, request: Request) -> bytes:
        """It."""
        _harden(request)
        _set_type(request, self._content_type)
        return self._content


def _harden(request: Request) -> None:
    """What the page may do in a browser: load its own files, and nothing else."""
    for name, value in _STRICT:
        request.setHeader(name, value)


class OrderPage(Resource):
    """Takes orders: the path names one, the body is a JSON object of its fields."""

    isLeaf = True
    _log = Logger()

    def __init__(self, control: Control, errors: Counter) -> None:
        super().__init__()
        self._control = control
        self._errors = errors

    def render_POST(self, request: Request) -> int:
        """200 with the answer, 400 with `{"error": …}`, 500 when we are at fault."""
        running = Deferred.fromCoroutine(self._answer(request))
        running.addErrback(lambda failure: self._log.failure("an answer could not be written", failure))
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        status: int
        answer: Answer
        try:
            fields = _read_fields(request.content.read() if request.content is not None else b"")
            path = request.path.decode("ascii", "replace").strip("/")
            status, answer = 200, await self._control.run(path, fields)
        except OrderError as error:
            status, answer = 400, {"error": str(error)}
        except Exception:
            self._errors.inc()
            self._log.failure("an order failed")
            status, answer = 500, {"error": "the node failed at this order; its log says why"}
        if not gone:
            request.write(_write_json(request, status, answer))
            request.finish()


def _read_fields(body: bytes) -> Answer:
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise OrderError("the body is no JSON") from None
    if not isinstance(fields, dict):
        raise OrderError("the body is no JSON object")
    return fields


def _set_type(request: Request, content_type: str) -> None:
    request.setHeader(b"content-type", content_type.encode())


def _write_json(request: Request, status: int, answer: Answer) -> bytes:
    request.setResponseCode(status)
    _set_type(request, _JSON)
    return _pack_json(answer)


def _pack_json(answer: Answer) -> bytes:
    return json.dumps(answer).encode() + b"\n"
