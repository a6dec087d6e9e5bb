"""sipsak, a third party's tool: it pings the node, registers, and sends raw files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.nodes import Nodes, answers_options
from tests.support.tools import need

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def sipsak(*options: str) -> subprocess.CompletedProcess[str]:
    """Run sipsak to its end; its exit code is 0 when it got a 2xx."""
    return subprocess.run(
        ["sipsak", "-vv", *options], capture_output=True, text=True, errors="replace", timeout=60, check=False
    )


def test_sipsak_pings_the_node_over_udp_and_tcp(nodes: Nodes) -> None:
    need("sipsak")
    host, port = nodes.start().sip
    for transport in ("udp", "tcp"):
        done = sipsak("-E", transport, "-s", f"sip:{host}:{port}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "200" in done.stdout


def test_sipsak_registers_with_digest_and_takes_the_contact_away(
    nodes: Nodes, hosts: Callable[[int], list[str]]
) -> None:
    need("sipsak")
    # sipsak 0.9.8 knows MD5 only and reads one challenge.
    node = nodes.start(users={"alice": "wonderland"}, auth={"algorithms": ["MD5"]})
    common = ("-U", "-u", "alice", "-a", "wonderland", "-p", node.sip[0], "-s", "sip:alice@example.com")
    registered = sipsak(*common, "-C", "sip:alice@127.0.0.1:5099", "-x", "3600")
    assert registered.returncode == 0, registered.stdout + registered.stderr
    assert node.metric("registrations") == 1
    removed = sipsak(*common, "-C", "sip:alice@127.0.0.1:5099", "-x", "0")
    assert removed.returncode == 0, removed.stdout + removed.stderr
    assert node.metric("registrations") == 0


def test_raw_torture_messages_from_sipsak_leave_the_node_answering(nodes: Nodes) -> None:
    need("sipsak")
    node = nodes.start()
    for name in ("wsinv", "esc01", "longreq", "quotbal", "badvers", "mcl01", "bcast", "inv2543"):
        # With -L and -i the file leaves as it is, without a Via of sipsak's; the answer goes where the message says.
        file = VECTORS / "rfc4475" / f"{name}.dat"
        sipsak("-f", str(file), "-L", "-i", "-S", "-D", "1", "-s", f"sip:{node.sip[0]}:5060")
        assert answers_options(node.sip, 5), f"no answer after {name}"
