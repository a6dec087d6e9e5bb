"""`sipfarm check` against the start that it speaks of: whatever ends a start with a line, it has found before."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.certificates import EXPIRED, make_certificate, write_identity, write_sip_files
from tests.support.nodes import Nodes, installed, write_config

Hosts = Callable[[int], list[str]]
Sections = dict[str, dict[str, Any]]

START_SECONDS = 60


class Place(NamedTuple):
    """Where a node is to be: its directory, its host, and what is closed when all is over."""

    directory: Path
    host: str
    stack: ExitStack

    @property
    def state(self) -> Path:
        """The state directory, which is there."""
        path = self.directory / "state"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def take(self, kind: socket.SocketKind, port: int) -> None:
        """Somebody else has that port."""
        other = self.stack.enter_context(socket.socket(socket.AF_INET, kind))
        if kind == socket.SOCK_STREAM:  # connections of a node before that the system still remembers do not count
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((self.host, port))
        if kind == socket.SOCK_STREAM:
            other.listen()

    def put(self, name: str, content: bytes, mode: int = 0o600) -> str:
        """A file in the directory."""
        path = self.directory / name
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def enroll(self, **certificate: Any) -> Sections:
        """An identity, and the section that wants it."""
        write_identity(self.state / "identity", 1, certificate=make_certificate(1, **certificate))
        return {"overlay": {"listen": f"{self.host}:7400"}}


def take_sip_port(at: Place) -> Sections:
    at.take(socket.SOCK_STREAM, 5060)
    return {}


def take_http_port(at: Place) -> Sections:
    at.take(socket.SOCK_STREAM, 9464)
    return {}


def take_dns_port(at: Place) -> Sections:
    at.take(socket.SOCK_DGRAM, 53)
    return {"dns": {"listen": [f"{at.host}:53"], "zone": "sip.example.com"}}


def want_foreign_address(at: Place) -> Sections:
    return {"sip": {"listen": ["udp:192.0.2.1:5060"]}}


def want_a_port_twice(at: Place) -> Sections:
    return {"admin": {"http": f"{at.host}:5060"}}


def want_all_addresses_and_one(at: Place) -> Sections:
    return {"sip": {"listen": ["udp:0.0.0.0:5972", f"udp:{at.host}:5972"]}}


def show_an_open_key(at: Place) -> Sections:
    tls = write_sip_files(at.directory)
    (at.directory / "sip.key").chmod(0o644)
    return {"tls": tls}


def show_no_certificate(at: Place) -> Sections:
    tls = write_sip_files(at.directory)
    at.put("sip.pem", b"nonsense")
    return {"tls": tls}


def be_nobody(at: Place) -> Sections:
    return {"overlay": {"listen": f"{at.host}:7400"}}


def have_expired(at: Place) -> Sections:
    return at.enroll(validity=EXPIRED)


def have_an_open_identity(at: Place) -> Sections:
    sections = at.enroll()
    (at.state / "identity" / "key.pem").chmod(0o644)
    return sections


def have_no_state_directory(at: Place) -> Sections:
    at.put("state", b"")
    return {}


def have_a_short_secret(at: Place) -> Sections:
    at.state.joinpath("secret").write_bytes(b"x")
    return {}


def have_a_directory_for_a_secret(at: Place) -> Sections:
    at.state.joinpath("secret").mkdir()
    return {}


def have_a_file_for_a_control_socket(at: Place) -> Sections:
    return {"admin": {"control": at.put("control", b"")}}


def have_no_place_for_a_control_socket(at: Place) -> Sections:
    return {"admin": {"control": str(at.directory / "absent" / "control")}}


def have_a_long_control_path(at: Place) -> Sections:
    return {"admin": {"control": str(at.directory / ("x" * 100))}}


def log_nowhere(at: Place) -> Sections:
    return {"log": {"file": str(at.directory / "absent" / "log")}}


def keep_an_empty_password(at: Place) -> Sections:
    return {"store": {"backend": "redis", "redis": "127.0.0.1:1", "redis_password_file": at.put("password", b"\n")}}


def account_with_an_absent_password(at: Place) -> Sections:
    return {"accounting": {"redis": "127.0.0.1:1", "redis_password_file": str(at.directory / "absent")}}


def copy_with_an_absent_key(at: Place) -> Sections:
    return {"capture": {"auth_key_file": str(at.directory / "absent")}}


def have_a_short_nonce_key(at: Place) -> Sections:
    return {"auth": {"nonce_key_file": at.put("nonce", b"x")}}


def write_half_a_file(at: Place) -> Sections:
    (at.directory / "conf.d").mkdir()
    at.put("conf.d/half.toml", b"[sip\n")
    return {}


MISTAKES: list[tuple[Callable[[Place], Sections], str]] = [
    (take_sip_port, "sip.listen"),
    (take_http_port, "admin.http"),
    (take_dns_port, "dns.listen"),
    (want_foreign_address, "sip.listen"),
    (want_a_port_twice, "admin.http"),
    (want_all_addresses_and_one, "sip.listen"),
    (show_an_open_key, "tls.keys"),
    (show_no_certificate, "tls.certificates"),
    (be_nobody, "overlay.identity"),
    (have_expired, "overlay.identity"),
    (have_an_open_identity, "overlay.identity"),
    (have_no_state_directory, "node.state_dir"),
    (have_a_short_secret, "node.state_dir"),
    (have_a_directory_for_a_secret, "node.state_dir"),
    (have_a_file_for_a_control_socket, "admin.control"),
    (have_no_place_for_a_control_socket, "admin.control"),
    (have_a_long_control_path, "admin.control"),
    (log_nowhere, "log.file"),
    (keep_an_empty_password, "store.redis_password_file"),
    (account_with_an_absent_password, "accounting.redis_password_file"),
    (copy_with_an_absent_key, "capture.auth_key_file"),
    (have_a_short_nonce_key, "auth.nonce_key_file"),
    (write_half_a_file, "half.toml"),
]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what stands in a start's way."""
    with ExitStack() as opened:
        yield opened


def make_node(at: Place, break_it: Callable[[Place], Sections]) -> Path:
    """The configuration of a node that would start, but for one thing."""
    at.directory.mkdir()
    sections: Sections = {
        "node": {"name": "n1", "state_dir": str(at.directory / "state")},
        "sip": {"domains": ["example.com"], "listen": [f"udp:{at.host}:5060", f"tcp:{at.host}:5060"]},
        "admin": {"http": f"{at.host}:9464"},
    }
    for name, section in break_it(at).items():
        sections[name] = {**sections.get(name, {}), **section}
    return write_config(at.directory / "node.toml", sections)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)


def test_what_ends_a_start_is_found_by_a_check_before(hosts: Hosts, tmp_path: Path, stack: ExitStack) -> None:
    places = [
        make_node(Place(tmp_path / str(number), host, stack), break_it)
        for number, (host, (break_it, _)) in enumerate(zip(hosts(len(MISTAKES)), MISTAKES, strict=True))
    ]

    def compare(place: Path) -> tuple[int, str, int, str]:
        checked = run(installed("sipfarm"), "check", str(place))
        begun = run(installed("twistd"), "-n", "--pidfile=", "sipfarm", "-c", str(place))
        return checked.returncode, checked.stderr, begun.returncode, begun.stdout + begun.stderr

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(compare, places))
    wrong = []
    for (break_it, key), (checked, found, begun, said) in zip(MISTAKES, results, strict=True):
        if (checked, begun) != (1, 1) or key not in found or "Traceback" in found + said or "sipfarm: " not in said:
            wrong.append(f"{break_it.__name__}: check {checked}: {found}\nstart {begun}: {said}")
    assert not wrong, "\n".join(wrong)


def test_what_a_start_gets_over_is_no_mistake(nodes: Nodes, tmp_path: Path) -> None:
    """A file for call records that cannot be written has them wait."""
    node = nodes.start(accounting={"file": str(tmp_path)})
    node.stop()
    checked = run(installed("sipfarm"), "check", str(node.config))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "warning: accounting.file: " in checked.stdout
