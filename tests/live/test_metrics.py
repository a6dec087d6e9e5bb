"""What Prometheus sees of a node that has worked."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from farm.admin.visits import MOST_OPEN_EACH
from tests.support.agents import Agent, make_call
from tests.support.nodes import Nodes, sum_samples
from tests.support.tools import need

Hosts = Callable[[int], list[str]]


def test_promtool_finds_nothing_wrong_with_a_live_scrape(nodes: Nodes, hosts: Hosts) -> None:
    need("promtool")
    node = nodes.start()
    alice_host, bob_host = hosts(2)
    with (
        Agent(node.sip, host=alice_host, user="alice") as alice,
        Agent(node.sip, host=bob_host, user="bob", transport="tcp") as bob,
    ):
        assert bob.register().status == 200
        make_call(alice, bob)
        alice.send_bytes(b"INVITE nonsense\r\n\r\n")
        alice.send_request(alice.make_request("BREW", bob.aor))
        bob.answer(bob.expect("BREW"), 418, "Teapot")
        alice.expect(418, final=True)
    status, text = node.get("/metrics")
    assert status == 200
    promtool = shutil.which("promtool") or "promtool"
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum_samples(text, "sipfarm_registrations", {}) == 1
    assert sum_samples(text, "sipfarm_sip_requests_total", {"method": "INVITE", "direction": "in"}) == 1
    assert sum_samples(text, "sipfarm_sip_requests_total", {"method": "other", "direction": "in"}) == 1, "no new label"
    assert sum_samples(text, "sipfarm_sip_rejected_total", {}) == 1
    for secret in (alice_host, bob_host, "alice", "bob@"):
        assert secret not in text, "a label that strangers can grow"


def test_health_and_unknown_pages(nodes: Nodes) -> None:
    node = nodes.start()
    assert node.get("/healthz")[0] == 200
    assert node.get("/absent")[0] == 404


def test_who_holds_all_connections_that_he_may_keeps_nobody_else_out(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    (stranger,) = hosts(1)
    assert node.http is not None
    held: list[socket.socket] = []
    try:
        held += [
            socket.create_connection(node.http, timeout=10, source_address=(stranger, 0))
            for _ in range(MOST_OPEN_EACH + 20)
        ]
        for closed in held[MOST_OPEN_EACH:]:
            assert read_all(closed) == b""
        assert node.get("/healthz")[0] == 200
        assert node.metric("admin_rejections_total", reason="too-many-connections") == 20
        held[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert read_all(held[0]).count(b"HTTP/1.1 200 OK") <= 1, "of a thousand that were asked in a row"
    finally:
        for each in held:
            each.close()
    node.stop()
    assert "Traceback" not in node.output()


def read_all(connection: socket.socket) -> bytes:
    """What comes until it is closed."""
    seen = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            seen += piece
    return seen


def test_logs_name_the_reason_of_a_rejection_and_hold_no_credentials(
    nodes: Nodes, hosts: Hosts, tmp_path: Path
) -> None:
    node = nodes.start(users={"alice": "wonderland"}, log={"level": "debug"})
    with Agent(node.sip, host=hosts(1)[0], user="alice") as alice:
        assert alice.register(password="looking-glass").status == 401
        assert alice.register(password="wonderland").status == 200
        alice.send_bytes(b"INVITE nonsense\r\n\r\n")
        alice.request_with_digest("INVITE", "sip:bob@example.com")
    node.stop()
    log = node.output()
    assert "reason" in log
    for secret in ("wonderland", "response=", "nonce=", "Digest"):
        assert secret not in log
