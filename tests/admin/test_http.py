"""The pages and the order socket, in memory."""

from __future__ import annotations

import json
import os
import socket
import stat
from io import BytesIO
from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.web.resource import Resource

from farm.admin.control import Control
from farm.admin.http import AdminListeners, OrderPage, PageSite, make_pages
from farm.config import load
from farm.metrics import Metrics
from tests.admin.fakes import FakeNode
from tests.support.counts import read
from tests.support.overviews import make_overview, make_row


class Exchange:
    """One HTTP/1.0 exchange with a site over a string transport."""

    def __init__(self, root: Resource, method: str, path: str, body: bytes = b"") -> None:
        protocol = PageSite(root).buildProtocol(None)
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        head = f"{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        protocol.dataReceived(head.encode() + body)
        reply = BytesIO(transport.value())
        self.status = int(reply.readline().split()[1])
        self.headers = {}
        while line := reply.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value
        self.body = reply.read()


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def get(node: FakeNode, metrics: Metrics, path: str) -> Exchange:
    return Exchange(make_pages(node, metrics), "GET", path)


def order(node: FakeNode, metrics: Metrics, path: str, body: bytes) -> Exchange:
    page = OrderPage(Control(node, node), metrics.unexpected_errors.child("admin"))
    return Exchange(page, "POST", path, body)


def test_metrics_are_served_as_prometheus_wants_them(node: FakeNode, metrics: Metrics) -> None:
    reply = get(node, metrics, "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nsipfarm_registrations 0.0\n" in reply.body


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/status.json"])
def test_no_page_from_elsewhere_has_these_in_it(node: FakeNode, metrics: Metrics, path: str) -> None:
    reply = get(node, metrics, path)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"


def test_health_says_what_is_wrong_and_stays_alive(node: FakeNode, metrics: Metrics) -> None:
    assert json.loads(get(node, metrics, "/healthz").body) == {"status": "ok", "problems": []}
    node.wrong = ["the journal cannot be written"]
    reply = get(node, metrics, "/healthz")
    assert reply.status == 200
    assert json.loads(reply.body) == {"status": "degraded", "problems": node.wrong}


def test_readiness_is_503_until_the_node_serves(node: FakeNode, metrics: Metrics) -> None:
    assert get(node, metrics, "/readyz").status == 200
    node.is_ready = False
    assert get(node, metrics, "/readyz").status == 503


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/status.json", "application/json; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
        ("/status.svg", "image/svg+xml"),
    ],
)
def test_the_status_page_and_its_files_may_do_nothing_but_load_each_other(
    node: FakeNode, metrics: Metrics, path: str, content_type: str
) -> None:
    reply = get(node, metrics, path)
    assert reply.status == 200
    assert len(reply.body) > 100
    assert reply.headers["content-type"] == content_type
    assert reply.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in reply.headers


def test_the_status_page_escapes_what_it_shows(node: FakeNode, metrics: Metrics) -> None:
    node.seen = make_overview([make_row(1), make_row(2, name="<b>", zone="<script>")], problems=["<script>"])
    body = get(node, metrics, "/").body
    assert b"<b></b>" not in body
    assert body.count(b"<script") == 1, "its own"
    assert b"&lt;script&gt;" in body


def test_the_status_is_told_in_json_too(node: FakeNode, metrics: Metrics) -> None:
    node.seen = make_overview([make_row(1, name="</script>")])
    assert json.loads(get(node, metrics, "/status.json").body) == node.seen


def test_whoever_reloads_a_page_all_the_time_costs_one_a_second(node: FakeNode, metrics: Metrics) -> None:
    now = [100.0]
    node.now = lambda: now[0]  # type: ignore[method-assign]
    pages = make_pages(node, metrics)
    first = Exchange(pages, "GET", "/").body
    node.seen = make_overview([])
    now[0] = 100.99
    assert [Exchange(pages, "GET", "/").body for _ in range(5)] == [first] * 5
    assert node.overviews == 1
    now[0] = 101.0
    assert Exchange(pages, "GET", "/").body != first
    assert node.overviews == 2
    assert Exchange(pages, "HEAD", "/").body == b""
    assert node.overviews == 2


def test_a_page_that_fails_is_counted_and_told_without_details_and_comes_back(node: FakeNode, metrics: Metrics) -> None:
    now = [100.0]
    node.now = lambda: now[0]  # type: ignore[method-assign]
    pages = make_pages(node, metrics)
    node.seen = {}
    for _ in range(3):
        reply = Exchange(pages, "GET", "/")
        assert reply.status == 500
        assert json.loads(reply.body) == {"error": "the node failed at this page; its log says why"}
    assert read(metrics.unexpected_errors.child("admin")) == 1, "and not once for each who asks"
    node.seen = make_overview()
    now[0] = 101.0
    assert Exchange(pages, "GET", "/").status == 200


def test_what_is_not_there_is_404_and_nothing_can_be_posted(node: FakeNode, metrics: Metrics) -> None:
    for path in ("/users", "/metrics/x", "/metrics/", "/healthz/x", "/readyz/x", "/status.json/", "/status.py", "/x/"):
        assert get(node, metrics, path).status == 404
    for path in ("/", "/metrics", "/status.json", "/status.js"):
        assert Exchange(make_pages(node, metrics), "POST", path).status == 405


def test_an_order_is_answered_in_json(node: FakeNode, metrics: Metrics) -> None:
    reply = order(node, metrics, "/add-user", b'{"name": "bob", "password": "x"}')
    assert reply.status == 200
    assert json.loads(reply.body) == {"name": "bob", "change": "added"}
    assert reply.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/frob", b"{}", "'frob' is no order"),
        ("/add-user", b"", "name is missing or no text"),
        ("/add-user", b"{", "the body is no JSON"),
        ("/add-user", b"\xff", "the body is no JSON"),
        ("/add-user", b"[" * 100_000, "the body is no JSON"),
        ("/add-user", b"[]", "the body is no JSON object"),
    ],
)
def test_a_wrong_order_is_refused_in_words(
    node: FakeNode, metrics: Metrics, path: str, body: bytes, error: str
) -> None:
    reply = order(node, metrics, path, body)
    assert reply.status == 400
    assert json.loads(reply.body) == {"error": error}


def test_a_fault_of_ours_is_counted_and_told_without_details(
    node: FakeNode, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "status", lambda: 1 / 0)
    reply = order(node, metrics, "/status", b"{}")
    assert reply.status == 500
    assert json.loads(reply.body) == {"error": "the node failed at this order; its log says why"}
    assert read(metrics.unexpected_errors.child("admin")) == 1


def test_both_listeners_are_opened_with_the_socket_for_the_owner_alone(
    tmp_path: Path, node: FakeNode, metrics: Metrics
) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[node]\nname = "n1"\nstate_dir = "."\n[sip]\ndomains = ["example.com"]\n')
    reactor = Recorder()
    listeners = AdminListeners(reactor, load(path), node, metrics)
    before = os.umask(0o022)
    try:
        listeners.start()
        assert os.umask(0o022) == 0o022, "the mask is put back"
    finally:
        os.umask(before)
    assert reactor.tcpServers[0][0] == 9464
    assert reactor.tcpServers[0][3] == "127.0.0.1"
    assert reactor.unix == [(f"{tmp_path}/control.sock", 0o600, False)]
    assert reactor.mask == stat.S_IRWXG | stat.S_IRWXO | stat.S_IXUSR
    listeners.stop()


def test_the_socket_of_a_process_that_is_gone_is_removed_and_that_of_a_living_one_is_not(
    tmp_path: Path, node: FakeNode, metrics: Metrics
) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[node]\nname = "n1"\nstate_dir = "."\n[sip]\ndomains = ["example.com"]\n[admin]\nhttp = ""\n')
    control = tmp_path / "control.sock"
    os.symlink("1", f"{control}.lock")  # as earlier versions left it; 1 lives always
    with socket.socket(socket.AF_UNIX) as owner:
        owner.bind(str(control))
        owner.listen(1)
        AdminListeners(Recorder(), load(path), node, metrics).start()
        assert control.exists()
    AdminListeners(Recorder(), load(path), node, metrics).start()
    assert not control.exists()
    control.write_text("a file is nobody's socket")
    AdminListeners(Recorder(), load(path), node, metrics).start()
    assert control.exists()


def test_without_an_address_there_are_no_pages(tmp_path: Path, node: FakeNode, metrics: Metrics) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[node]\nname = "n1"\nstate_dir = "."\n[sip]\ndomains = ["example.com"]\n[admin]\nhttp = ""\n')
    reactor = Recorder()
    AdminListeners(reactor, load(path), node, metrics).start()
    assert reactor.tcpServers == []
    assert len(reactor.unix) == 1


class Recorder(MemoryReactor):
    """A reactor that notes how a UNIX socket is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.unix: list[tuple[str, int, bool]] = []
        self.mask = -1

    def listenUNIX(self, address, factory, backlog=50, mode=0o666, wantPID=False):  # type: ignore[no-untyped-def]
        self.unix.append((address, mode, wantPID))
        self.mask = os.umask(0o177)
        return super().listenUNIX(address, factory, backlog, mode, wantPID)


def test_readiness_tells_how_far_a_node_of_a_farm_is(node: FakeNode, metrics: Metrics) -> None:
    assert json.loads(get(node, metrics, "/readyz").body) == {"ready": True}
    node.join()
    node.overlay |= {"state": "joining", "synchronised": False, "progress": 0.5}
    node.is_ready = False
    reply = get(node, metrics, "/readyz")
    assert reply.status == 503
    assert json.loads(reply.body) == {
        "ready": False,
        "state": "joining",
        "synchronised": False,
        "progress": 0.5,
        "draining": False,
    }
    assert get(node, metrics, "/healthz").status == 200, "a node that is catching up must not be killed"
