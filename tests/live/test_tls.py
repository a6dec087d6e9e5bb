"""SIP over TLS on real sockets: real phones, OpenSSL's own client, renewal under load, and clients that misbehave."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from farm.security.throw_away import ThrowAway, write_throw_away
from tests.support.certificates import write_sip_files
from tests.support.live_farm import LiveFarm
from tests.support.messages import request_bytes
from tests.support.nodes import NodeProgram, Nodes
from tests.support.phones import Phone
from tests.support.processes import wait_until
from tests.support.tools import need

Hosts = Callable[[int], list[str]]

PORT = 5061


def make_section(paths: ThrowAway, **more: Any) -> dict[str, Any]:
    """The section `[tls]` of a throw-away certificate."""
    return {"certificates": [paths.certificate], "keys": [paths.key], "trust": paths.trust, **more}


def start_node(nodes: Nodes, host: str, section: dict[str, Any], **more: Any) -> NodeProgram:
    """A node that listens on UDP and TLS."""
    listen = [f"udp:{host}:5060", f"tls:{host}:{PORT}"]
    return nodes.start(host=host, sip={"listen": listen}, tls=section, **more)


def make_client(trust: str = "") -> ssl.SSLContext:
    """A client that takes any certificate, or those of an authority for the name that it asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(trust)
    context.verify_mode = ssl.CERT_REQUIRED if trust else ssl.CERT_NONE
    if trust:
        context.load_verify_locations(trust)
    return context


def ask(host: str, context: ssl.SSLContext, name: str) -> bytes:
    """What OPTIONS over a new connection is answered."""
    request = request_bytes("OPTIONS", "sip:example.com", via=f"SIP/2.0/TLS {host};branch=z9hG4bK{os.urandom(6).hex()}")
    with (
        socket.create_connection((host, PORT), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as stream,
    ):
        stream.sendall(request)
        return stream.recv(4096)


def read_shown(host: str, context: ssl.SSLContext) -> bytes | None:
    """The certificate that a new connection is shown."""
    with (
        socket.create_connection((host, PORT), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as stream,
    ):
        return stream.getpeercert(binary_form=True)


@pytest.mark.parametrize("to_tls", [True, False], ids=["both over TLS", "one over TLS"])
def test_real_phones_register_over_tls_and_call_each_other(
    make_farm: Callable[..., LiveFarm], hosts: Hosts, tmp_path: Path, to_tls: bool
) -> None:
    """Through different nodes, and one of the phones checks the certificate of its node."""
    need("baresip")
    alice_host, bob_host = hosts(2)
    names = [f"127.0.1.{last}" for last in range(2, 255)]
    paths = write_throw_away(str(tmp_path / "tls"), ("example.com",), names, time.time())

    def listen(host: str) -> list[str]:
        return [f"udp:{host}:5060", f"tcp:{host}:5060", f"tls:{host}:{PORT}"]

    farm = make_farm(2, open_farm=False, make_listeners=listen, tls=make_section(paths))
    farm.start()
    file = tmp_path / "users.csv"
    file.write_text("alice,a-secret\nbob,b-secret\n")
    farm.console(1, "user", "import", str(file))
    other = "tls" if to_tls else "udp"
    with (
        Phone(
            "alice", "a-secret", alice_host, farm.hosts[0], tmp_path / "alice", transport="tls", trust=paths.trust
        ) as alice,
        Phone("bob", "b-secret", bob_host, farm.hosts[1], tmp_path / "bob", transport=other) as bob,
    ):
        for phone in (alice, bob):
            phone.register()
        farm.wait_registrations(2, 10)
        for caller, callee, ender in ((alice, bob, alice), (bob, alice, bob), (alice, bob, bob), (bob, alice, alice)):
            caller.command("dial", f"sip:{callee.user}@example.com")
            callee.expect("CALL_INCOMING")
            callee.command("accept")
            caller.expect("CALL_ESTABLISHED")
            callee.expect("CALL_ESTABLISHED")
            ender.command("hangup")
            caller.expect("CALL_CLOSED")
            callee.expect("CALL_CLOSED")
        assert farm.metric("flows_opened_total", transport="tls", direction="out") == 0


def test_openssl_s_own_client_is_shown_the_certificate_for_the_name_it_asks_for(
    nodes: Nodes, hosts: Hosts, tmp_path: Path
) -> None:
    need("openssl")
    (host,) = hosts(1)
    one = write_sip_files(tmp_path / "tls", "URI:sip:example.com", "DNS:sip.example.com", label="one")
    two = write_sip_files(tmp_path / "tls", "DNS:example.net", label="two")
    section = {key: [*one[key], *two[key]] for key in ("certificates", "keys")}
    start_node(nodes, host, section)

    def show(*options: str) -> str:
        command = ["openssl", "s_client", "-connect", f"{host}:{PORT}", "-CAfile", one["trust"], *options]
        done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=False)
        return done.stdout + done.stderr

    for name, picked in (("sip.example.com", "one"), ("example.net", "two"), ("example.org", "one")):
        certificate = Path(section["certificates"][0 if picked == "one" else 1]).read_text()
        text = show("-servername", name)
        assert certificate.strip() in text, name
        assert "Verify return code: 0 (ok)" in text
    assert "TLSv1.3" in show()
    assert "TLSv1.2" in show("-tls1_2")
    assert "Cipher is (NONE)" in show("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")


def test_certificates_are_renewed_under_load_without_a_failed_handshake(
    nodes: Nodes, hosts: Hosts, tmp_path: Path
) -> None:
    """Connections from before the first renewal carry messages after the last, and new ones are made all the time."""
    (host,) = hosts(1)
    directory = str(tmp_path / "tls")
    paths = write_throw_away(directory, ("example.com",), (host,), time.time())
    node = start_node(nodes, host, make_section(paths))
    context = make_client(paths.trust)
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    answers: list[tuple[float, bytes]] = []  # with when the handshake began
    failures: list[str] = []
    shown: set[bytes | None] = set()
    enough = threading.Event()  # the renewals are done, and some handshakes since

    def work() -> None:
        made = 0
        while made < 50 or not enough.is_set():
            made += 1
            began = time.monotonic()
            try:
                answers.append((began, ask(host, context, "example.com")))
            except OSError as error:
                failures.append(repr(error))

    def count_since(last: float) -> int:
        return sum(began > last for began, _ in tuple(answers))

    plain = socket.create_connection((host, PORT), timeout=10)
    with make_client().wrap_socket(plain, server_hostname="example.com") as lasting:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for renewal in range(6):
                time.sleep(0.1)
                if renewal == 2:  # half of a renewal: it must not be taken
                    Path(paths.key).write_text("nothing")
                    node.signal(signal.SIGHUP)
                    wait_until(lambda: "no private key" in node.output(), 10, "the bad file is reported")
                write_throw_away(directory, ("example.com",), (host,), time.time())
                node.signal(signal.SIGHUP)
                shown.add(read_shown(host, context))
            newest = x509.load_pem_x509_certificate(Path(paths.certificate).read_bytes()).public_bytes(Encoding.DER)
            wait_until(lambda: read_shown(host, context) == newest, 10, "the last renewal is shown")
            renewed = time.monotonic()
            wait_until(lambda: count_since(renewed) >= 20 or bool(failures), 30, "handshakes go on after it")
        finally:
            enough.set()
            for thread in threads:
                thread.join(60)
        lasting.sendall(request_bytes("OPTIONS", "sip:example.com", via=f"SIP/2.0/TLS {host};branch=z9hG4bKlast"))
        assert lasting.recv(4096).startswith(b"SIP/2.0 200")
    assert failures == []
    assert len(answers) >= 200
    assert count_since(renewed) >= 20
    assert all(answer.startswith(b"SIP/2.0 200") for _, answer in answers)
    assert len(shown) > 2
    assert node.metric("sip_rejected_total") == 0
    assert 364 * 86_400 < node.metric("sip_certificate_expiry_seconds") < 366 * 86_400


def test_clients_that_stop_midway_or_speak_no_tls_are_cut_off_and_counted(
    nodes: Nodes, hosts: Hosts, tmp_path: Path
) -> None:
    (host,) = hosts(1)
    paths = write_throw_away(str(tmp_path / "tls"), ("example.com",), (host,), time.time())
    node = start_node(nodes, host, make_section(paths, handshake_seconds=1.0))
    stopping = socket.create_connection((host, PORT), timeout=10)
    stopping.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    garbage = socket.create_connection((host, PORT), timeout=10)
    garbage.sendall(b"OPTIONS sip:example.com SIP/2.0\r\n\r\n")
    for peer in (garbage, stopping):
        with peer, suppress(ConnectionResetError):
            while peer.recv(4096):
                pass
    wait_until(lambda: node.metric("flows", transport="tls") == 0, 5, "both are gone")
    assert node.metric("sip_rejected_total", reason="tls-timeout") == 1
    assert node.metric("sip_rejected_total", reason="not-tls") == 1
    assert ask(host, make_client(), "example.com").startswith(b"SIP/2.0 200")


def test_a_balancer_s_header_comes_before_the_handshake(nodes: Nodes, hosts: Hosts, tmp_path: Path) -> None:
    (host,) = hosts(1)
    paths = write_throw_away(str(tmp_path / "tls"), ("example.com",), (host,), time.time())
    sip = {
        "listen": [f"udp:{host}:5060"],
        "proxy_listen": [f"tls:{host}:{PORT}"],
        "proxy_networks": ["127.0.0.0/8"],
    }
    nodes.start(host=host, sip=sip, tls=make_section(paths))
    with socket.create_connection((host, PORT), timeout=10) as plain:
        plain.sendall(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 5061\r\n")
        with make_client(paths.trust).wrap_socket(plain, server_hostname="example.com") as stream:
            stream.sendall(request_bytes("OPTIONS", "sip:example.com", via=f"SIP/2.0/TLS {host};branch=z9hG4bKb"))
            assert b";received=203.0.113.7" in stream.recv(4096)


def test_who_must_show_a_certificate_and_shows_none_is_refused(nodes: Nodes, hosts: Hosts, tmp_path: Path) -> None:
    (host,) = hosts(1)
    paths = write_throw_away(str(tmp_path / "tls"), ("example.com",), (host,), time.time())
    node = start_node(nodes, host, make_section(paths, client_certificates="require"))
    with pytest.raises(OSError, match=r"certificate required|reset"):
        ask(host, make_client(), "example.com")
    showing = make_client()
    showing.load_cert_chain(paths.certificate, paths.key)
    assert ask(host, showing, "example.com").startswith(b"SIP/2.0 200")
    assert node.metric("sip_rejected_total", reason="tls-no-certificate") == 1
