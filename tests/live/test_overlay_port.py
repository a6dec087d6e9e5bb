"""The overlay's port on a real socket: who may not come in is refused for the right reason, and leaves nothing."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL

from farm.overlay.wire import FRAME_BYTES, Codec, Contact, Gossip, Hello
from farm.security.identity import Identity
from tests.support.certificates import (
    EXPIRED,
    NOT_YET,
    OVERLAY,
    make_certificate,
    make_node_key,
    make_signer,
    node_id,
    uri_of,
    write_identity,
)


class Port:
    """The process, and the lines that it has printed."""

    def __init__(self, directory: Path, host: str) -> None:
        command = [sys.executable, "-m", "tests.support.overlay_port", str(directory), host]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        word, _, port = self.line().partition(" ")
        assert word == "listening"
        self.address = (host, int(port))
        self.sockets: list[socket.socket] = []

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def dial(self) -> socket.socket:
        self.sockets.append(socket.create_connection(self.address, timeout=12.0))
        return self.sockets[-1]

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> None:
        for sock in self.sockets:
            sock.close()
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


@pytest.fixture
def port(tmp_path: Path, hosts: Callable[[int], list[str]]) -> Iterator[Port]:
    port = Port(write_identity(tmp_path / "n1", 1), hosts(1)[0])
    try:
        yield port
    finally:
        port.stop()


def make_context(certificate: x509.Certificate | None, alpn: bytes = b"sipfarm/1") -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    if alpn:
        context.set_alpn_protos([alpn])
    if certificate is not None:
        context.use_certificate(certificate)
        context.use_privatekey(make_node_key("n2"))
    return context


def shake_hands(port: Port, context: SSL.Context) -> SSL.Connection:
    sock = port.dial()
    sock.settimeout(None)  # pyOpenSSL takes a timeout for "would block"
    tls = SSL.Connection(context, sock)
    tls.set_connect_state()
    tls.do_handshake()
    return tls


def is_closed(sock: socket.socket) -> bool:
    """Waits until the other side has closed, whatever it says before."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def is_refused(tls: SSL.Connection) -> bool:
    """Waits until the other side has closed, or said why it does."""
    try:
        while True:
            tls.recv(65536)
    except SSL.Error:
        return True


def hello_of(number: int) -> bytes:
    hello = Hello(OVERLAY, Contact(node_id(number), "127.0.0.1", 7400, zone="east"), 1, 1, 0)
    return Codec().frame(0, time.monotonic(), [Codec().pack(hello)])


def read_frame(tls: SSL.Connection) -> bytes:
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        data += tls.recv(65536)
    return data


def test_a_node_of_the_overlay_comes_in_and_its_frames_go_both_ways(port: Port, tmp_path: Path) -> None:
    identity = Identity(str(write_identity(tmp_path / "n2", 2)), time.time())
    tls = shake_hands(port, make_context(identity.certificate))
    tls.sendall(hello_of(2))
    assert isinstance(Codec().unpack(read_frame(tls)[4:]).messages[0], Hello)
    assert port.line() == "opened"
    frame = Codec().frame(1, 1.0, [Codec().pack(Gossip(()))] * 60_000)
    tls.sendall(frame)
    assert read_frame(tls) == frame
    tls.shutdown()
    assert port.line() == "closed"


@pytest.mark.parametrize(
    ("reason", "certificate"),
    [
        ("no-certificate", lambda: None),
        ("wrong-ca", lambda: make_certificate(2, signer=make_signer("theirs"))),
        ("expired", lambda: make_certificate(2, validity=EXPIRED)),
        ("expired", lambda: make_certificate(2, validity=NOT_YET)),
        ("wrong-overlay", lambda: make_certificate(2, names=(uri_of(2, "other.example"),))),
    ],
)
def test_a_certificate_that_is_none_of_ours_is_refused(
    port: Port, reason: str, certificate: Callable[[], x509.Certificate | None]
) -> None:
    with contextlib.suppress(SSL.Error):
        assert is_refused(shake_hands(port, make_context(certificate())))
    assert port.line() == f"refused {reason}"


def test_a_hello_in_the_name_of_another_node_is_refused(port: Port) -> None:
    tls = shake_hands(port, make_context(make_certificate(2)))
    tls.sendall(hello_of(3))
    assert port.line() == "refused node-id-mismatch"


def test_who_speaks_another_protocol_over_tls_is_refused(port: Port) -> None:
    with pytest.raises(SSL.Error):
        shake_hands(port, make_context(make_certificate(2), b"h2")).recv(1)
    assert port.line().startswith("refused ")


def test_an_oversize_frame_ends_the_link(port: Port) -> None:
    tls = shake_hands(port, make_context(make_certificate(2)))
    tls.sendall(hello_of(2))
    assert port.line() == "opened"
    tls.sendall((FRAME_BYTES + 1).to_bytes(4, "big"))
    assert port.line() == "refused oversize-frame"
    assert port.line() == "closed"


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", bytes(5_000), b"REGISTER sip:example.com SIP/2.0\r\n\r\n", b"\xff" * 5_000]
)
def test_garbage_is_refused_and_leaves_no_socket_behind(port: Port, first: bytes) -> None:
    before = port.open_files()
    for _ in range(20):
        sock = port.dial()
        sock.sendall(first)
        assert is_closed(sock)
    assert {port.line() for _ in range(20)} <= {"refused handshake", "refused version"}
    assert port.open_files() <= before + 1  # Twisted keeps one in reserve since it first accepted


def test_who_trickles_or_says_nothing_is_gone_after_five_seconds(port: Port) -> None:
    before = port.open_files()
    silent, slow = port.dial(), port.dial()
    slow.sendall(b"\x16\x03\x01")
    mute = shake_hands(port, make_context(make_certificate(2)))
    began = time.monotonic()
    slow.sendall(b"\x02")
    assert is_closed(silent)
    assert is_closed(slow)
    assert is_refused(mute)
    assert 4.0 < time.monotonic() - began < 8.0
    assert sorted(port.line() for _ in range(3)) == ["refused handshake-timeout"] * 2 + ["refused no-hello"]
    assert port.open_files() <= before + 1  # Twisted keeps one in reserve since it first accepted
