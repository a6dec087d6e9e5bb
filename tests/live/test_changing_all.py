"""Everything that can be exchanged is, in a farm that serves SIPp's calls and registrations: none of them may fail."""

from __future__ import annotations

import json
import socket
import ssl
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from farm.security.authority import Authority
from farm.security.rolling import Rolling
from tests.support.agents import Agent, split_stream
from tests.support.certificates import write_sip_files
from tests.support.live_farm import LiveFarm, name_of
from tests.support.nodes import write_config
from tests.support.processes import wait_until
from tests.support.sipp import Sipp, describe, write_users
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

USERS = 50
CALLS_PER_SECOND = 50
MOST_CALLS = 100_000  # more than will be
OPTIONS = "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bK{number};rport\r\n"
HEADERS = (
    "Max-Forwards: 70\r\nFrom: <sip:x@example.com>;tag=1\r\nTo: <sip:example.com>\r\nCall-ID: {number}\r\n"
    "CSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


@contextmanager
def load(farm: LiveFarm, hosts: Hosts, directory: Path) -> Iterator[None]:
    """Within it phones register at one node and are called through the two others, by clients that turn to
    no other node; all must have been answered at its end."""
    need("sipp")
    phone_host, one_host, two_host, refresh_host = hosts(4)
    users = write_users(directory / "users.csv", USERS, f"sip:{{user}}@{phone_host}:5060")
    phones = Sipp("register.xml", farm[0].sip, (phone_host, 5060), directory, calls=USERS, rate=100, users=users)
    try:
        assert phones.wait(30) == 0, describe([phones])
    finally:
        phones.kill()
    callee = Sipp("callee.xml", farm[0].sip, (phone_host, 5060), directory)
    sides = [
        Sipp(scenario, node.sip, (host, 5060), directory, calls=MOST_CALLS, rate=CALLS_PER_SECOND, users=users)
        for scenario, node, host in (
            ("caller.xml", farm[1], one_host),
            ("caller.xml", farm[2], two_host),
            ("register.xml", farm[0], refresh_host),
        )
    ]
    try:
        yield
        codes = [side.finish() for side in sides]
        callee.finish()
    finally:
        for side in (*sides, callee):
            side.kill()
    said = describe([*sides, callee])
    print(said)
    assert codes == [0, 0, 0], said
    for side in sides:
        counted = side.statistics()
        assert counted.failed == 0, said
        assert counted.successful > 100, said
    assert callee.statistics().failed == 0, said


class Editor:
    """Changes the files of all nodes of a farm, and has them read again."""

    def __init__(self, farm: LiveFarm) -> None:
        self._farm = farm

    def change(self, *, changed: list[str], **sections: Any) -> None:
        """Other keys of sections, or other arrays of tables, for all nodes; these are what each says it took."""
        for index, node in enumerate(self._farm):
            tree: dict[str, Any] = tomllib.loads(node.config.read_text())
            for name, section in sections.items():
                tree[name] = section if isinstance(section, list) else {**tree.get(name, {}), **section}
            write_config(node.config, tree)
            assert self._farm.ask(index, "reload") == {"changed": changed, "waiting": []}

    def hand_out(self, days: float) -> None:
        """Renew every node's identity; each takes it, by itself or because it is told to."""
        directory = str(self._farm.authority_directory)
        for index, host in enumerate(self._farm.hosts):
            target = str(self._farm.identity_of(host))
            Authority(directory).renew(name_of(host), time.time(), days=days, out=target)
            assert self._farm.ask(index, "reload")["waiting"] == []
            overlay = self._farm.ask(index, "status")["overlay"]
            assert overlay["trust"] == Authority(directory).trust_digest()
            assert days - 1 < overlay["certificate_expires_in"] / 86_400 <= days


class TlsPhone:
    """A connection over TLS, and the certificate that it was shown."""

    def __init__(self, host: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._stream = context.wrap_socket(socket.create_connection((host, 5061), timeout=10))
        self.shown = self._stream.getpeercert(binary_form=True)
        self._number = 0

    def __enter__(self) -> TlsPhone:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def ask(self) -> None:
        """The node answers on this connection."""
        self._number += 1
        self._stream.sendall((OPTIONS + HEADERS).format(number=self._number).encode())
        data, messages = b"", list[bytes]()
        while not messages:
            more = self._stream.recv(4096)
            assert more, "the connection was closed"
            messages, data = split_stream(data + more)
        assert messages[0].startswith(b"SIP/2.0 200 ")


def exchange_certificates(farm: LiveFarm, editor: Editor, directory: Path) -> None:
    """Connections that are there stay; new ones see what is new."""
    host = farm.hosts[0]
    with TlsPhone(host) as before:
        before.ask()
        write_sip_files(directory, common_name="renewed")
        editor.change(changed=["certificates for TLS"])
        with TlsPhone(host) as after:
            after.ask()
            assert after.shown != before.shown
        before.ask()
        other = write_sip_files(directory / "other", common_name="others")
        editor.change(changed=["tls.trust", "certificates for TLS"], tls={"trust": other["trust"]})
        editor.change(
            changed=["tls.client_certificates", "certificates for TLS"], tls={"client_certificates": "require"}
        )
        with pytest.raises((ssl.SSLError, OSError, AssertionError)), TlsPhone(host) as stranger:
            stranger.ask()
        before.ask()
        editor.change(changed=["tls.client_certificates", "certificates for TLS"], tls={"client_certificates": "off"})


def exchange_routes(farm: LiveFarm, editor: Editor) -> None:
    """A domain that is elsewhere is reached as soon as it is written down, by all nodes."""
    with Agent(farm[0].sip, user="partner") as partner, Agent(farm[0].sip, user="asker") as asker:

        def ask() -> list[int]:
            answers = []
            for node in farm:
                asker.target = node.sip
                asker.send_request(asker.make_request("OPTIONS", "sip:somebody@partner.example"))
                answers.append(asker.expect_final(method="OPTIONS").status)
            return answers

        def answer_all() -> None:
            for node in farm:
                asker.target = node.sip
                asker.send_request(asker.make_request("OPTIONS", "sip:somebody@partner.example"))
                partner.answer(partner.expect("OPTIONS"), 200, "OK")
                assert asker.expect_final(method="OPTIONS").status == 200

        assert 200 not in ask()
        routes = [{"domain": "partner.example", "to": [f"sip:{partner.host}:{partner.port}"]}]
        editor.change(changed=["routes"], routes=routes)
        answer_all()
        editor.change(changed=["routes"], routes=[])
        assert 200 not in ask()


def is_quiet(collector: socket.socket) -> bool:
    """Whether nothing comes for a second; what has come is taken."""
    collector.settimeout(1.0)
    try:
        collector.recv(65_535)
    except TimeoutError:
        return True
    with suppress(BlockingIOError):
        collector.setblocking(False)
        while True:
            collector.recv(65_535)
    return False


def switch_what_watches(farm: LiveFarm, editor: Editor, directory: Path, host: str) -> None:
    """Call records and copies for a collector, on and off."""
    records = directory / "calls"
    editor.change(changed=["accounting.file"], accounting={"file": str(records)})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind((host, 9060))
        collector.settimeout(10)
        editor.change(changed=["capture.homer"], capture={"homer": [f"udp:{host}:9060"]})
        assert collector.recv(65_535).startswith(b"HEP3")
        editor.change(changed=["capture.homer"], capture={"homer": []})
        wait_until(lambda: is_quiet(collector), 20, "no copies come")
    wait_until(lambda: records.exists() and len(records.read_text().splitlines()) > 50, 20, "calls have records")
    editor.change(changed=["accounting.file"], accounting={"file": ""})
    moved = records.rename(directory / "calls.old")
    assert all(json.loads(line)["event"] for line in moved.read_text().splitlines())
    calls = farm.metric("calls_total", result="answered")
    wait_until(lambda: farm.metric("calls_total", result="answered") > calls + 20, 20, "calls go on")
    assert not records.exists()


def exchange_the_rest(farm: LiveFarm, editor: Editor) -> None:
    """Limits, log levels, the zone."""
    editor.change(changed=["limits.connections", "limits.burst"], limits={"connections": 777, "burst": 500})
    editor.change(changed=["log.level", "log.levels"], log={"level": "debug", "levels": ["overlay:warn"]})
    editor.change(changed=["log.level", "log.levels"], log={"level": "warn", "levels": []})
    editor.change(changed=["dns.ttl_seconds", "dns.secondaries"], dns={"ttl_seconds": 33, "secondaries": ["127.0.0.1"]})

    def have_all(seconds: int) -> bool:
        rows = [row for index in range(len(farm)) for row in farm.ask(index, "zone")["records"]]
        return {row["ttl"] for row in rows if row["type"] == "A"} == {seconds}

    wait_until(lambda: have_all(33), 20, "the zone has the new time")
    editor.change(changed=["dns.secondaries"], dns={"secondaries": []})


def test_all_that_can_be_exchanged_is_and_no_call_or_registration_fails(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    def listen(host: str) -> list[str]:
        return [f"udp:{host}:5060", f"tcp:{host}:5060", f"tls:{host}:5061"]

    tls = write_sip_files(tmp_path / "tls")
    farm = make_farm(3, make_listeners=listen, tls=tls, sip={"farm_name": "sip.example.com"}, dns={"ttl_seconds": 10})
    farm.start()
    editor = Editor(farm)
    old = Authority(str(farm.authority_directory)).signer
    with load(farm, hosts, tmp_path):
        exchange_certificates(farm, editor, tmp_path / "tls")
        exchange_routes(farm, editor)
        exchange_the_rest(farm, editor)
        switch_what_watches(farm, editor, tmp_path, hosts(1)[0])
        editor.hand_out(90)
        for number, step in enumerate(("begin", "switch", "finish"), 1):
            assert getattr(Rolling(str(farm.authority_directory)), step)(time.time()) is not None
            editor.hand_out(90 + 10 * number)
        made = farm.ask(0, "rotate-keys")
        assert made["number"] > 0
    assert old not in Authority(str(farm.authority_directory)).certificates
    assert farm.metric("peer_rejections_total") == 0


def test_a_user_is_what_the_last_order_says_on_all_nodes_at_once(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    farm = make_farm(3, open_farm=False)
    farm.start()

    def register(password: str) -> list[int]:
        answers = []
        for node in farm:
            with Agent(node.sip, user="alice") as alice:
                answers.append(alice.register(password=password).status)
        return answers

    assert 200 not in register("first")
    farm.ask(0, "add-user", name="alice", password="first")
    assert register("first") == [200] * 3
    farm.ask(1, "set-password", name="alice", password="second")
    assert register("first") == [401] * 3, "it is asked again for a right one"
    assert register("second") == [200] * 3
    farm.ask(2, "disable-user", name="alice")
    assert register("second") == [403] * 3
    farm.ask(0, "enable-user", name="alice")
    assert register("second") == [200] * 3
    farm.ask(1, "remove-user", name="alice")
    assert 200 not in register("second")
