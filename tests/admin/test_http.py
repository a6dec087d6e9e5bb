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
    return Exchange(make_pages("n1", node, metrics), "GET", path)


def order(node: FakeNode, metrics: Metrics, path: str, body: bytes) -> Exchange:
    page = OrderPage(Control(node, node), metrics.unexpected_errors.child("admin"))
    return Exchange(page, "POST", path, body)


def test_metrics_are_served_as_prometheus_wants_them(node: FakeNode, metrics: Metrics) -> None:
    reply = get(node, metrics, "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nsipfarm_registrations 0.0\n" in reply.body


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


def test_the_front_page_escapes_what_it_shows(node: FakeNode, metrics: Metrics) -> None:
    node.wrong = ["<script>"]
    reply = get(node, metrics, "/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<script>" not in reply.body
    assert b"&lt;script&gt;" in reply.body


def test_what_is_not_there_is_404_and_nothing_can_be_posted(node: FakeNode, metrics: Metrics) -> None:
    for path in ("/users", "/metrics/x", "/metrics/", "/healthz/x", "/readyz/x"):
        assert get(node, metrics, path).status == 404
    assert Exchange(make_pages("n1", node, metrics), "POST", "/metrics").status == 405


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


def test_the_front_page_shows_the_members_and_escapes_them(node: FakeNode, metrics: Metrics) -> None:
    assert b"<table>" not in get(node, metrics, "/").body
    node.join()
    node.known_members[1]["zone"] = "<b>"
    body = get(node, metrics, "/").body
    assert b"<td>n2<td>8000" in body
    assert b"<b>" not in body
    node.known_members *= 200
    assert b"<p>and 100 more</p>" in get(node, metrics, "/").body
