"""A real balancer (HAProxy) before a node: clients are known by their own addresses, whatever they speak."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.certificates import write_sip_files
from tests.support.messages import request_bytes
from tests.support.nodes import NodeProgram, Nodes
from tests.support.processes import Program, wait_until
from tests.support.tools import need
from tests.support.web_pages import open_page
from tests.support.web_sockets import make_frame, make_upgrade

Hosts = Callable[[int], list[str]]

PORTS: Final = {"tcp": 5070, "tls": 5071, "ws": 8080, "wss": 8443}
HOW: Final = {  # what HAProxy is told of a server, for each transport
    "tcp": "send-proxy",
    "tls": "send-proxy-v2",
    "ws": "send-proxy-v2 proxy-v2-options crc32c,unique-id",
    "wss": "send-proxy-v2 proxy-v2-options ssl,cert-cn,crc32c",
}


@pytest.fixture
def balanced(nodes: Nodes, hosts: Hosts, tmp_path: Path) -> Iterator[tuple[NodeProgram, str]]:
    """A node, and the address of the balancer before it."""
    need("haproxy")
    host, balancer = hosts(2)
    node = nodes.start(
        host=host,
        sip={
            "domains": ["example.com"],
            "listen": [f"udp:{host}:5060"],
            "proxy_listen": [f"{transport}:{host}:{port}" for transport, port in PORTS.items()],
            "proxy_networks": [f"{balancer}/32"],
        },
        tls=write_sip_files(tmp_path / "tls"),
    )
    lines = ["defaults", " mode tcp", " timeout connect 2s", " timeout client 1m", " timeout server 1m"]
    for transport, port in PORTS.items():
        lines += [f"listen {transport}", f" bind {balancer}:{port}", f" source {balancer}"]
        lines += [" unique-id-format %ci-%cp"]
        lines += [f" server node {host}:{port} {HOW[transport]}", ""]
    (tmp_path / "haproxy.cfg").write_text("\n".join(lines))
    program = Program(["haproxy", "-f", str(tmp_path / "haproxy.cfg"), "-db"], tmp_path / "haproxy.log")
    try:
        wait_until(lambda: is_open((balancer, PORTS["wss"])), 10, "the balancer listens")
        yield node, balancer
    finally:
        program.stop(5)
        print(program.tail())


def is_open(target: tuple[str, int]) -> bool:
    try:
        socket.create_connection(target, 1).close()
    except OSError:
        return False
    return True


def make_options(transport: str) -> bytes:
    via = f"SIP/2.0/{transport.upper()} phone.invalid;rport;branch=z9hG4bK1"
    return request_bytes("OPTIONS", uri="sip:example.com", via=via)


@pytest.mark.parametrize("transport", list(PORTS))
def test_a_client_behind_a_balancer_is_known_by_its_own_address(
    balanced: tuple[NodeProgram, str], hosts: Hosts, transport: str
) -> None:
    _, balancer = balanced
    (client,) = hosts(1)
    secure = transport in ("tls", "wss")
    with open_page((balancer, PORTS[transport]), source=client, secure=secure) as page:
        _, port = page.held.getsockname()
        if transport in ("ws", "wss"):
            page.send(make_upgrade() + make_frame(make_options(transport)))
            assert page.read_head().startswith("HTTP/1.1 101 ")
            answer = page.read_frame()[1].decode()
        else:
            page.send(make_options(transport))
            answer = page.read_head()
        assert answer.startswith("SIP/2.0 200 ")
        assert f"received={client}" in answer
        assert f"rport={port}" in answer


def test_who_is_no_balancer_cannot_claim_to_be_somebody(balanced: tuple[NodeProgram, str], hosts: Hosts) -> None:
    node, _ = balanced
    (stranger,) = hosts(1)
    with open_page((node.sip[0], PORTS["tcp"]), source=stranger) as page:
        page.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 5060 5060\r\n" + make_options("tcp"))
        page.wait_closed()
        assert page.data == b""
    assert node.metric("sip_rejected_total", reason="proxy-not-trusted") == 1
