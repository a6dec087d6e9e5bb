"""Strangers at a WebSocket listener of a real node: whatever they send, they are cut off and others are served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.agents import Agent
from tests.support.certificates import write_sip_files
from tests.support.messages import request_bytes
from tests.support.nodes import NodeProgram, Nodes
from tests.support.processes import wait_until
from tests.support.web_pages import Page, open_page
from tests.support.web_sockets import BINARY, PING, TEXT, make_close, make_frame, make_upgrade

PORT: Final = 8080
TLS_PORT: Final = 8443
OPTIONS: Final = request_bytes("OPTIONS", uri="sip:example.com", via="SIP/2.0/WS a.invalid;branch=z9hG4bK1")


@pytest.fixture
def node(nodes: Nodes, hosts: object, tmp_path: Path) -> NodeProgram:
    """A node that is soon tired of the slow."""
    host = hosts(1)[0]  # type: ignore[operator]
    listen = [f"udp:{host}:5060", f"ws:{host}:{PORT}", f"wss:{host}:{TLS_PORT}"]
    return nodes.start(
        host=host,
        sip={"domains": ["example.com"], "listen": listen, "websocket_origins": ["https://phone.example.com"]},
        tls=write_sip_files(tmp_path / "tls"),
        limits={"message_seconds": 1.0, "first_message_seconds": 2.0, "body_bytes": 10_000},
    )


def connect(node: NodeProgram, *, secure: bool = False) -> AbstractContextManager[Page]:
    """A connection to one of the node's two listeners."""
    return open_page((node.sip[0], TLS_PORT if secure else PORT), secure=secure)


@contextmanager
def upgrade(node: NodeProgram, *, secure: bool = False) -> Iterator[Page]:
    """A connection that is a WebSocket, and has said a word."""
    with connect(node, secure=secure) as page:
        page.send(make_upgrade())
        assert page.read_head().startswith("HTTP/1.1 101 ")
        page.send(make_frame(OPTIONS))
        kind, data = page.read_frame()
        assert (kind, data[:11]) == (TEXT, b"SIP/2.0 200")
        yield page


def rejected(node: NodeProgram, reason: str) -> float:
    """How often something was turned away for that reason."""
    return node.metric("sip_rejected_total", reason=reason)


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_a_page_asks_and_is_answered_and_may_write_a_message_in_pieces(node: NodeProgram, secure: bool) -> None:
    with upgrade(node, secure=secure) as page:
        page.send(make_frame(OPTIONS[:50], BINARY, final=False) + make_frame("x", PING) + make_frame(OPTIONS[50:], 0))
        assert page.read_frame() == (0xA, b"x")
        assert page.read_frame()[1].startswith(b"SIP/2.0 200 ")
        page.send(make_frame((1000).to_bytes(2, "big"), 8))
        assert page.read_frame() == make_close(1000)
        assert page.wait_closed() < 2
    transport = "wss" if secure else "ws"
    wait_until(lambda: node.metric("flows", transport=transport) == 0, 5, "the connection is gone")
    assert node.metric("flows_closed_total", transport=transport, reason="peer") == 1


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (make_upgrade(sec_websocket_protocol="chat"), "400", "websocket-subprotocol"),
        (make_upgrade(sec_websocket_protocol=None), "400", "websocket-subprotocol"),
        (make_upgrade(origin="https://evil.example"), "403", "websocket-origin"),
        (make_upgrade(sec_websocket_version="7"), "426", "websocket-upgrade"),
        (b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n", "426", "websocket-upgrade"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n", "400", "websocket-upgrade"),
        (OPTIONS, "400", "websocket-upgrade"),
        (b"\x16\x03\x01" + bytes(9000), "431", "websocket-upgrade"),
    ],
)
def test_what_is_no_upgrade_to_sip_is_told_so_and_cut_off(
    node: NodeProgram, data: bytes, status: str, reason: str
) -> None:
    with connect(node) as page:
        page.send(data)
        assert page.read_head().startswith(f"HTTP/1.1 {status} ")
        assert page.wait_closed() < 2
    assert rejected(node, reason) == 1


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (bytes(range(256)) * 16, 1002, "websocket-frame"),
        (make_frame(OPTIONS, mask=b""), 1002, "websocket-frame"),
        (make_frame(b"\xff\xfe"), 1007, "websocket-frame"),
        (make_frame(b"x" * 60_000, length=2**40), 1009, "websocket-message-too-large"),
        (make_frame(b"x" * 30_000, final=False) + make_frame(b"x" * 30_000, 0), 1009, "websocket-message-too-large"),
    ],
)
def test_who_breaks_the_rules_is_told_and_cut_off_and_others_are_served(
    node: NodeProgram, data: bytes, code: int, reason: str
) -> None:
    with upgrade(node) as bad, upgrade(node, secure=True) as good:
        bad.send(data)
        assert bad.read_frame() == make_close(code)
        assert bad.wait_closed() < 2
        good.send(make_frame(OPTIONS))
        assert good.read_frame()[1].startswith(b"SIP/2.0 200 ")
    assert rejected(node, reason) == 1


def test_the_slow_and_the_silent_are_cut_off(node: NodeProgram) -> None:
    with connect(node) as half, connect(node) as silent, upgrade(node) as dripping:
        half.send(make_upgrade()[:40])
        dripping.send(make_frame(OPTIONS)[:40])
        assert 0.5 < half.wait_closed() < 4
        assert dripping.wait_closed() < 4
        assert silent.wait_closed() < 4
    assert (rejected(node, "slow-message"), rejected(node, "no-first-message")) == (2, 1)


def test_a_page_that_pings_for_ever_and_reads_nothing_costs_no_memory(node: NodeProgram) -> None:
    with upgrade(node) as page:
        page.held.settimeout(1)
        before = node.rss_bytes()
        flood = make_frame(b"x" * 125, PING) * 500 + make_frame(OPTIONS)
        for _ in range(400):  # some 26 MB
            try:
                page.held.sendall(flood)
            except OSError:
                break
        assert node.rss_bytes() - before < 8 << 20
    with upgrade(node) as page:
        page.send(make_frame(b"", PING) * 5000)
        while (frame := page.read_frame())[0] == 0xA:
            pass
        assert frame == make_close(1008)
    with Agent(node.sip, host=node.sip[0]) as agent:
        assert agent.request_with_digest("OPTIONS", "sip:example.com").status == 200
