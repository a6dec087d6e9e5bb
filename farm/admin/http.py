"""The node's two listeners for operators: pages on a TCP address, orders on a UNIX socket.

Pages: `/metrics` for Prometheus, `/healthz` (200 while the event loop turns, with the problems at present), `/readyz`
(503 until the node serves, in step with the others, and while it is drained) and a plain `/` with the members. No page
shows a user, and none changes anything, since whoever reaches the address may read it. Orders: `POST /<order>` with a
JSON object, on a socket that only the node's user (and root) may open; `control.py` carries them out.

Decided: metrics are rendered in the reactor, which costs 5 ms for 800 series; prometheus_client's own resource does it
on the thread pool, where gauges would be read while they change.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import suppress
from html import escape
from typing import Any, Final, Protocol, cast

from prometheus_client import Counter
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.http import Request as HttpRequest
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from farm.addresses import parse_host_port
from farm.admin.control import Answer, Control, Node, OrderError
from farm.config import Config
from farm.metrics import CONTENT_TYPE, Metrics

IDLE_SECONDS: Final = 60
_JSON: Final = "application/json; charset=utf-8"


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
            pages = PageSite(make_pages(self._config.node.name, self._node, self._metrics), self._reactor)
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


def make_pages(name: str, node: Node, metrics: Metrics) -> Resource:
    """The pages of the TCP address."""
    root = Pages()
    root.putChild(b"", FrontPage(name, node))
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
        _set_type(request, CONTENT_TYPE)
        return self._metrics.render()


class HealthPage(Resource):
    """Liveness: that it answers is the news; what is wrong is said, but does not make it dead."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    def render_GET(self, request: Request) -> bytes:
        """`{"status": "ok" | "degraded", "problems": […]}`"""
        problems = self._node.problems()
        return _write_json(request, 200, {"status": "degraded" if problems else "ok", "problems": problems})


class ReadyPage(Resource):
    """Readiness: whether traffic may be sent here."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    def render_GET(self, request: Request) -> bytes:
        """200 or 503, and the same in words; in a farm also how far the node is."""
        ready = self._node.ready()
        overlay = self._node.overlay_status()
        far: Answer = {key: overlay[key] for key in ("state", "synchronised", "progress", "draining") if key in overlay}
        return _write_json(request, 200 if ready else 503, {"ready": ready, **far})


class FrontPage(Resource):
    """What a browser shows of a node."""

    def __init__(self, name: str, node: Node) -> None:
        super().__init__()
        self._name = name
        self._node = node

    def render_GET(self, request: Request) -> bytes:
        """Name, problems, the members as this node sees them, and where the rest is."""
        _set_type(request, "text/html; charset=utf-8")
        problems = self._node.problems()
        state = "".join(f"<li>{escape(problem)}</li>" for problem in problems) or "<li>nothing is wrong</li>"
        name = escape(self._name)
        links = "".join(f'<li><a href="/{page}">/{page}</a></li>' for page in ("metrics", "healthz", "readyz"))
        return (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>"
            f"<h1>{name}</h1><ul>{state}</ul>{_write_members(self._node)}<ul>{links}</ul></html>\n"
        ).encode()


_MEMBER_COLUMNS: Final = ("name", "node_id", "address", "zone", "state")
_MOST_ROWS: Final = 300


def _write_members(node: Node) -> str:
    """A table of the members; nothing for a node without an overlay."""
    if not node.overlay_status():
        return ""
    members = node.members()
    head = "".join(f"<th>{column.replace('_', '-')}" for column in _MEMBER_COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(member.get(column, ''))[:40])}" for column in _MEMBER_COLUMNS)
        for member in members[:_MOST_ROWS]
    )
    more = f"<p>and {len(members) - _MOST_ROWS} more</p>" if len(members) > _MOST_ROWS else ""
    return f"<table><tr>{head}{rows}</table>{more}"


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
    return json.dumps(answer).encode() + b"\n"
