"""What Prometheus sees of a node that has worked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

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
