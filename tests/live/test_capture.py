"""Copies for Homer as real collectors read them: sngrep, and Kamailio's sipcapture."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from farm.addresses import parse_listen
from farm.capture.sender import find_source, open_socket
from farm.security.throw_away import write_throw_away
from tests.support.agents import Received
from tests.support.faces import FARM_NAME
from tests.support.live_phones import LivePhone, WebSocket, exchange, make_listeners, set_up
from tests.support.nodes import NodeProgram, Nodes
from tests.support.processes import Program, wait_until
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
Endpoint = tuple[str, int]
Copy = tuple[Endpoint, Endpoint, bytes]

KAMAILIO = Path(__file__).parent / "kamailio_capture.cfg"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as opened:
        yield opened


class RecordingPhone(LivePhone):
    """A phone that remembers what it has sent."""

    def __init__(self, node: str, host: str, user: str, how: str) -> None:
        super().__init__(node, host, user, how)
        self.sent: list[bytes] = []

    def __enter__(self) -> RecordingPhone:
        return self

    def send_bytes(self, data: bytes, to: Endpoint | None = None) -> None:
        self.sent.append(data)
        super().send_bytes(data, to)

    def make_answer(self, request: Received, status: int, *parts: Any, **more: Any) -> str:
        text = super().make_answer(request, status, *parts, **more)
        if self.transport != "udp":  # it goes out on the connection that the request came by
            self.sent.append(text.encode("utf-8", "surrogateescape"))
        return text

    @property
    def end(self) -> Endpoint:
        """Its end of what it speaks over."""
        if self.transport == "udp":
            return self.host, self.port
        held = self.connect()
        host, port = (held._held if isinstance(held, WebSocket) else held).getsockname()[:2]
        return host, port

    def copies(self, node: Endpoint) -> list[Copy]:
        """What went over its wire."""
        self.poll(0.1)
        return [(self.end, node, data) for data in self.sent] + [
            (node, self.end, _encode(received)) for received in [*self.seen, *self._waiting]
        ]


def _encode(received: Received) -> bytes:
    return received.text.encode("utf-8", "surrogateescape")


def _describe(data: bytes) -> tuple[str, str]:
    """Method or status, and Call-ID."""
    message = Received(data, ("", 0), None)
    return str(message.status or message.method), message.first("call-id")


def read_pcap(path: Path) -> list[Copy]:
    """Source, destination and bytes of all packets of a file that sngrep has written (Ethernet, IPv4, UDP or TCP)."""
    data = path.read_bytes()
    found: list[Copy] = []
    at = 24
    while at + 16 <= len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "little")
        packet = data[at + 16 + 14 : at + 16 + size]
        at += 16 + size
        source, destination = (socket.inet_ntoa(packet[n : n + 4]) for n in (12, 16))
        ports = [int.from_bytes(packet[n : n + 2], "big") for n in (20, 22)]
        payload = packet[28:] if packet[9] == 17 else packet[40:]
        found.append(((source, ports[0]), (destination, ports[1]), payload))
    return found


def start_collector(stack: ExitStack, command: list[str], log: Path) -> Program:
    """A program that runs until the test ends."""
    program = Program(command, log)
    stack.callback(program.stop)
    time.sleep(1.0)
    assert program.running(), program.tail()
    return program


def start_node(nodes: Nodes, host: str, directory: Path, homer: list[str], **more: object) -> NodeProgram:
    """A node that listens to everything and copies what it sees."""
    paths = write_throw_away(str(directory / "tls"), ("example.com",), [host], time.time())
    tls = {"certificates": [paths.certificate], "keys": [paths.key], "trust": paths.trust}
    users = {"alice": "secret"} if more.pop("closed", False) else None
    sip = {"listen": make_listeners(host), "farm_name": FARM_NAME}
    return nodes.start(host=host, users=users, sip=sip, tls=tls, capture={"homer": homer, **more})


@pytest.mark.parametrize("how", ["udp", "tcp", "tls", "ws"])
def test_sngrep_and_kamailio_see_what_the_phones_saw(
    nodes: Nodes, hosts: Hosts, stack: ExitStack, tmp_path: Path, how: str
) -> None:
    need("sngrep", "kamailio")
    host, collector, alice_host, bob_host = hosts(4)
    pcap = tmp_path / "captured.pcap"
    sngrep = start_collector(
        stack,
        ["sngrep", "-F", "-N", "-q", "-L", f"udp:{collector}:9060", "-O", str(pcap)],
        tmp_path / "sngrep.log",
    )
    (tmp_path / "kamailio").mkdir()
    kamailio = start_collector(
        stack,
        ["kamailio", "-f", str(KAMAILIO), "-l", f"udp:{collector}:9061", "-DD", "-E", "-m", "64",
         "-w", str(tmp_path / "kamailio")],
        tmp_path / "kamailio.log",
    )  # fmt: skip
    node = start_node(nodes, host, tmp_path, [f"udp:{collector}:9060", f"udp:{collector}:9061"])
    alice = stack.enter_context(RecordingPhone(host, alice_host, "alice", how))
    bob = stack.enter_context(RecordingPhone(host, bob_host, "bob", how))
    alice.enter()
    bob.enter()
    ours, theirs = set_up(alice, bob)
    exchange(ours, theirs, "BYE")
    end = (host, {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 8080}[how])
    expected = Counter([*alice.copies(end), *bob.copies(end)])
    wait_until(lambda: node.metric("capture_messages_total", result="sent") == 2 * expected.total(), 5, "all is sent")
    time.sleep(0.5)
    sngrep.signal(signal.SIGINT)
    sngrep.wait(10)
    captured = Counter(read_pcap(pcap))
    assert captured == expected
    lines = re.findall(r"CAPTURED (\S+):(\d+) (\w+) (\w+) (\S+) (\d+)", kamailio.output())
    understood = Counter((line[0], int(line[1]), line[2], line[3], line[4]) for line in lines)
    protocol = "udp" if how == "udp" else "tcp"
    assert understood == Counter((*source, protocol, *_describe(data)) for source, _, data in expected.elements())
    assert node.metric("capture_messages_total", result="failed") == 0


def test_a_registration_s_proof_is_blotted_out_and_the_key_goes_along(
    nodes: Nodes, hosts: Hosts, stack: ExitStack, tmp_path: Path
) -> None:
    host, collector, alice_host = hosts(3)
    key = tmp_path / "key"
    key.write_text("myHep\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((collector, 9060))
        listening.settimeout(5)
        homer = [f"udp:{collector}:9060"]
        start_node(nodes, host, tmp_path, homer, auth_key_file=str(key), agent_id=77, closed=True)
        alice = stack.enter_context(RecordingPhone(host, alice_host, "alice", "tls"))
        alice.enter(password="secret")
        frames = [listening.recv(65_535) for _ in range(4)]
    proved = next(frame for frame in frames if b"Authorization: Digest" in frame)
    proof = re.search(rb'[ ,]response="([^"]*)"', proved)
    assert proof is not None
    assert set(proof[1]) == {ord("x")}
    for frame in frames:
        assert frame.startswith(b"HEP3")
        assert b"\x00\x0e\x00\x0bmyHep" in frame
        assert b"\x00\x0c\x00\x0a\x00\x00\x00\x4d" in frame


def test_a_collector_that_is_not_there_costs_no_call_and_a_reload_finds_another(
    nodes: Nodes, hosts: Hosts, stack: ExitStack, tmp_path: Path
) -> None:
    host, collector, alice_host, bob_host = hosts(4)
    node = start_node(nodes, host, tmp_path, [f"udp:{collector}:9060"])
    alice = stack.enter_context(RecordingPhone(host, alice_host, "alice", "udp"))
    bob = stack.enter_context(RecordingPhone(host, bob_host, "bob", "udp"))
    bob.enter()
    ours, theirs = set_up(alice, bob)
    exchange(ours, theirs, "BYE")
    assert node.metric("problems") == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((collector, 9062))
        listening.settimeout(5)
        node.config.write_text(node.config.read_text().replace(":9060", ":9062"))
        node.signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in node.output(), 5, "it is reloaded")
        alice.enter()
        assert listening.recv(65_535).startswith(b"HEP3")
    node.config.write_text(node.config.read_text().replace(f'"udp:{collector}:9062"', ""))
    node.signal(signal.SIGHUP)
    wait_until(lambda: node.output().count("reloaded") == 2, 5, "it is reloaded")
    before = node.metric("capture_messages_total")
    alice.enter(cseq=2)
    assert node.metric("capture_messages_total") == before


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_sends_without_waiting_and_the_way_there_is_known(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as collector:
        collector.bind((host, 0))
        port = collector.getsockname()[1]
        with open_socket(parse_listen(f"udp:[{host}]:{port}" if ":" in host else f"udp:{host}:{port}")) as opened:
            assert opened.getblocking() is False
            opened.send(b"x")
        assert collector.recv(10) == b"x"
    assert find_source((host, port)) == host
