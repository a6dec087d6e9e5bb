"""What `sipfarm check` finds on a machine before a start does."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm import preflight
from farm.config import Config
from farm.overlay.journal import SCHEMA
from farm.preflight import find_problems
from tests.support.certificates import EXPIRED, make_certificate, write_identity, write_sip_files

NOW = 1_800_000_000.0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory."""
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a name server and room for files."""
    monkeypatch.setattr("farm.preflight._has_name_servers", lambda: True)
    monkeypatch.setattr("farm.preflight.find_shortage", lambda connections, limit: "")


def config_of(state: Path, **sections: Any) -> Config:
    """A node that wants no port but free ones."""
    sip = {"domains": ["example.com"], "listen": ["udp:127.0.0.1:0"], **sections.pop("sip", {})}
    tree = {"node": {"name": "n1", "state_dir": str(state)}, "sip": sip, "admin": {"http": ""}, **sections}
    return msgspec.convert(tree, Config)


def found(config: Config, wall: float = NOW, **options: bool) -> list[str]:
    """The findings, warnings in brackets."""
    return [f"{each}" if each.is_mistake else f"({each})" for each in find_problems(config, wall, **options)]


def test_a_machine_that_is_ready_has_nothing_to_be_said_of(state: Path) -> None:
    assert found(config_of(state)) == []
    assert found(config_of(state), network=True) == []


def test_a_clock_that_was_never_set(state: Path) -> None:
    assert found(config_of(state), 1000.0) == ["clock: shows a time long past, so no certificate is valid yet: set it"]


# Certificates


def test_certificates_for_tls_that_are_open_to_others_or_have_expired(state: Path, tmp_path: Path) -> None:
    section = write_sip_files(tmp_path)
    config = config_of(state, tls=section)
    assert found(config) == []
    (tmp_path / "sip.key").chmod(0o644)
    (line,) = found(config)
    assert line.startswith("tls.keys: ")
    assert line.endswith("open to others (mode 0644): chmod 600 it")


def test_a_certificate_that_has_expired_or_soon_will(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(state, tls=write_sip_files(tmp_path))

    class Certificates:
        def __init__(self, settings: object, wall: float) -> None:
            self.not_after = NOW + 86_400.0

    monkeypatch.setattr("farm.preflight.SipCertificates", Certificates)
    assert found(config) == ["(tls.certificates: a certificate expires in 1.0 days)"]
    assert found(config, NOW + 3 * 86_400) == ["tls.certificates: a certificate expired 2 days ago"]


def test_an_identity_that_is_missing_expired_or_another_node_s(state: Path) -> None:
    config = config_of(state, overlay={"listen": "127.0.0.1:0"})
    (line,) = found(config)
    assert line.startswith("overlay.identity: ")
    assert "is missing; `sipfarm ca issue` makes a node's identity" in line
    write_identity(state / "identity", 1)
    assert found(config) == []
    write_identity(state / "identity", 1, certificate=make_certificate(1, validity=EXPIRED))
    assert "expired on 2021-01-01; `sipfarm ca renew` it" in found(config)[0]
    write_identity(state / "identity", 2)
    assert "is that of n2, and this node is n1" in found(config)[0]


# Files


def test_a_state_directory_that_cannot_be_made_or_written(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(config_of(state / "new" / "deeper")) == []
    assert not (state / "new").exists(), "nothing is made"
    (state / "file").write_text("")
    assert found(config_of(state / "file")) == [f"node.state_dir: {state}/file: is no directory"]
    monkeypatch.setattr("farm.preflight.os.access", lambda path, mode: False)
    assert found(config_of(state)) == [f"node.state_dir: {state}: may not be written"]
    missing = state / "new"
    assert found(config_of(missing)) == [f"node.state_dir: {missing}: does not exist, and may not be made"]


def test_a_state_directory_of_another_process_unless_that_is_this_node(state: Path) -> None:
    assert not (state / "lock").exists()
    with (state / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert found(config_of(state)) == [f"node.state_dir: {state}: in use by another process"]
        assert found(config_of(state), is_running=True) == []
    assert found(config_of(state)) == []


@pytest.mark.parametrize(
    ("free", "line"),
    [
        (1000, "node.state_dir: {}: the disk is full"),
        (50 << 20, "(node.state_dir: {}: the disk has 50 MiB left)"),
        (1 << 30, ""),
    ],
)
def test_a_disk_that_is_full(state: Path, monkeypatch: pytest.MonkeyPatch, free: int, line: str) -> None:
    class Space:
        f_bavail, f_frsize = free, 1

    monkeypatch.setattr("farm.preflight.os.statvfs", lambda path: Space)
    assert found(config_of(state)) == ([line.format(state)] if line else [])


def test_a_journal_that_a_later_version_has_written(state: Path) -> None:
    path = state / "journal.sqlite"
    path.write_text("this is no database, which a start puts aside")
    assert found(config_of(state)) == []
    path.unlink()
    for version, count in ((SCHEMA, 0), (SCHEMA + 1, 1)):
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA user_version={version}")
        assert len(found(config_of(state))) == count
    assert "was written by a later version (format 2, known is 1)" in found(config_of(state))[0]
    assert found(config_of(state, store={"backend": "memory"})) == []


def test_secrets_that_are_missing_too_short_or_open_to_others(state: Path, tmp_path: Path) -> None:
    key = tmp_path / "nonce.key"
    config = config_of(state, auth={"nonce_key_file": str(key)})
    assert found(config) == [f"auth.nonce_key_file: {key}: No such file or directory"]
    key.write_bytes(b"short")
    key.chmod(0o644)
    assert found(config) == [
        f"(auth.nonce_key_file: {key}: is open to others (mode 0644): chmod 600 it)",
        f"auth.nonce_key_file: {key}: a key has 32 bytes or more",
    ]
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    (state / "secret").write_bytes(b"short")
    (state / "secret").chmod(0o600)
    assert found(config) == [f"node.state_dir: {state}/secret: shorter than 32 bytes; remove it"]


def test_credentials_of_a_service_that_does_not_run_are_nobody_s_mistake(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "credentials"
    monkeypatch.setattr(preflight, "CREDENTIALS", str(place))
    config = config_of(
        state,
        auth={"nonce_key_file": str(place / "nonce")},
        store={"backend": "redis", "redis": "127.0.0.1:1", "redis_password_file": str(place / "redis")},
        tls={"certificates": [str(place / "chain")]},
    )
    said = "is a credential, which only the service sees: its start looks at it"
    assert found(config) == [
        f"(tls.certificates: {said})",
        f"(auth.nonce_key_file: {said})",
        f"(store.redis_password_file: {said})",
    ]
    place.mkdir()
    assert f"auth.nonce_key_file: {place}/nonce: No such file or directory" in found(config)


def test_a_log_file_that_cannot_be_written(state: Path) -> None:
    assert found(config_of(state, log={"file": str(state / "node.log")})) == []
    assert found(config_of(state, log={"file": str(state)})) == [f"log.file: {state}: is a directory"]
    missing = state / "absent" / "node.log"
    assert found(config_of(state, log={"file": str(missing)})) == [f"log.file: {missing}: may not be written"]


# Ports, and others


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        yield other.getsockname()[1]


def test_a_port_that_another_program_has_unless_it_is_ours(state: Path, taken: int) -> None:
    config = config_of(state, sip={"listen": [f"udp:127.0.0.1:{taken}"]})
    assert found(config) == [f"sip.listen: udp:127.0.0.1:{taken}: the port is in use by another program"]
    assert found(config, is_running=True) == []
    assert found(config, ports=False) == []


def test_a_limit_of_files_that_is_too_low_is_a_warning(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.preflight.find_shortage", lambda connections, limit: f"too few for {connections}")
    assert found(config_of(state)) == ["(limits.connections: too few for 10000)"]


def test_a_machine_without_name_servers(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.preflight._has_name_servers", lambda: False)
    (line,) = found(config_of(state))
    assert line == "(resolver.servers: is empty, and /etc/resolv.conf names none: no name can be resolved)"
    assert found(config_of(state, resolver={"servers": ["192.0.2.53"]})) == []


@contextmanager
def redis(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A Redis that answers once, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(1000))
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        yield server.getsockname()[1], asked
        serving.join()


def test_a_redis_that_answers_is_nothing_to_be_said_of(state: Path) -> None:
    with redis(b"+PONG\r\n") as (port, asked):
        assert found(config_of(state, store={"backend": "redis", "redis": f"127.0.0.1:{port}"})) == []
    assert asked == [b"*1\r\n$4\r\nPING\r\n"]


def test_a_redis_that_refuses_the_password_is_a_mistake(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("wrong\n")
    path.chmod(0o600)
    with redis(b"-WRONGPASS invalid username-password pair\r\n-NOAUTH\r\n") as (port, asked):
        store = {"backend": "redis", "redis": f"127.0.0.1:{port}", "redis_password_file": str(path), "redis_user": "s"}
        assert found(config_of(state, store=store)) == [
            f"store.redis: 127.0.0.1:{port}: WRONGPASS invalid username-password pair"
        ]
    assert asked == [b"*3\r\n$4\r\nAUTH\r\n$1\r\ns\r\n$5\r\nwrong\r\n*1\r\n$4\r\nPING\r\n"]


def test_a_redis_that_is_not_there_is_a_warning_since_the_node_goes_on(state: Path, taken: int) -> None:
    (line,) = found(config_of(state, store={"backend": "redis", "redis": f"127.0.0.1:{taken}"}))
    assert line == f"(store.redis: 127.0.0.1:{taken}: Connection refused)"
    sentinels = {"backend": "redis", "redis_sentinels": [f"127.0.0.1:{taken}"]}
    (line,) = found(config_of(state, store=sentinels))
    assert line == f"(store.redis_sentinels: 127.0.0.1:{taken}: Connection refused)"


def test_a_redis_for_call_records_that_is_not_there_or_refuses_is_a_warning(
    state: Path, tmp_path: Path, taken: int
) -> None:
    path = tmp_path / "password"
    path.write_text("right\n")
    path.chmod(0o600)
    accounting = {"redis": f"127.0.0.1:{taken}", "redis_password_file": str(path), "redis_user": "s"}
    said = f"(accounting.redis: 127.0.0.1:{taken}: Connection refused)"
    assert found(config_of(state, accounting=accounting)) == [said]
    assert found(config_of(state, accounting={**accounting, "redis": ""})) == []
    with redis(b"+OK\r\n+PONG\r\n") as (port, asked):
        assert found(config_of(state, accounting={**accounting, "redis": f"127.0.0.1:{port}"})) == []
    assert asked == [b"*3\r\n$4\r\nAUTH\r\n$1\r\ns\r\n$5\r\nright\r\n*1\r\n$4\r\nPING\r\n"]
    with redis(b"-WRONGPASS invalid\r\n") as (port, _):
        said = f"(accounting.redis: 127.0.0.1:{port}: WRONGPASS invalid)"
        assert found(config_of(state, accounting={**accounting, "redis": f"127.0.0.1:{port}"})) == [said]


def test_one_sentinel_that_answers_is_enough(state: Path, taken: int) -> None:
    with redis(b"+PONG\r\n") as (port, _):
        store = {"backend": "redis", "redis_sentinels": [f"127.0.0.1:{taken}", f"127.0.0.1:{port}"]}
        assert found(config_of(state, store=store)) == []


def test_seeds_are_resolved_when_that_is_asked_for(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_identity(state / "identity", 1)
    asked: list[str] = []

    def resolve(name: str) -> str:
        asked.append(name)
        if name == "absent.example":
            raise socket.gaierror(-2, "Name or service not known")
        return "192.0.2.1"

    monkeypatch.setattr("farm.preflight._resolve", resolve)
    seeds = ["n1.example:7400", "absent.example:7400", "192.0.2.7:7400"]
    config = config_of(state, overlay={"listen": "127.0.0.1:0", "seeds": seeds})
    assert found(config) == []
    assert asked == []
    assert found(config, network=True) == ["(overlay.seeds: absent.example:7400: Name or service not known)"]
    assert sorted(asked) == ["absent.example", "n1.example"]


def test_name_servers_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    looks = _looks_in(path, monkeypatch)
    assert looks() is False
    path.write_text("# nameserver 192.0.2.1\nsearch example.com\n")
    assert looks() is False
    path.write_text("nameserver 192.0.2.1\n")
    assert looks() is True


def _looks_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """The real look, at another file."""
    monkeypatch.undo()
    monkeypatch.setattr("builtins.open", lambda name, **options: path.open(**options))
    return preflight._has_name_servers


def test_the_working_directory_is_left_alone(state: Path) -> None:
    before = sorted(os.listdir(state))
    found(config_of(state))
    assert sorted(os.listdir(state)) == before


def test_the_key_for_collectors_is_looked_into(state: Path, tmp_path: Path) -> None:
    key = tmp_path / "homer.key"
    config = config_of(state, capture={"auth_key_file": str(key)})
    assert found(config) == [f"capture.auth_key_file: {key}: No such file or directory"]
    key.write_text("two\nlines\n")
    key.chmod(0o600)
    assert found(config) == [f"capture.auth_key_file: {key}: a key is one line of 1 to 255 bytes"]
    key.write_text("one\n")
    assert found(config) == []


def test_a_lock_that_another_user_left_behind(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "lock").touch()
    real = os.access
    monkeypatch.setattr(
        "farm.preflight.os.access", lambda path, mode: not str(path).endswith("lock") and real(path, mode)
    )
    assert found(config_of(state)) == [f"node.state_dir: {state}/lock: may not be read: it belongs to another user"]


def test_a_control_socket_that_cannot_be_made(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "control.sock").mkdir()
    assert found(config_of(state)) == [f"node.state_dir: {state}/control.sock: is in the way of the control socket"]
    (state / "file").touch()
    at = str(state / "file")
    assert found(config_of(state, admin={"http": "", "control": at})) == [
        f"admin.control: {at}: is in the way of the control socket"
    ]
    at = str(state / "absent" / "socket")
    assert found(config_of(state, admin={"http": "", "control": at})) == [
        f"admin.control: {at}: there is no directory {state}/absent"
    ]
    place = state / "run"
    place.mkdir()
    real = os.access
    monkeypatch.setattr("farm.preflight.os.access", lambda path, mode: str(path) != str(place) and real(path, mode))
    at = str(place / "socket")
    assert found(config_of(state, admin={"http": "", "control": at})) == [
        f"admin.control: {at}: {place} may not be written"
    ]


def test_a_control_socket_that_is_left_over_or_comes_with_the_state_directory(state: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(state / "control.sock"))
        assert found(config_of(state)) == []
        other.listen()
        assert found(config_of(state)) == [f"node.state_dir: {state}/control.sock: another process listens there"]
        assert found(config_of(state), is_running=True) == []
    new = state / "new"
    assert found(config_of(new, admin={"http": "", "control": str(new / "socket")})) == []


def test_secrets_that_are_no_files_or_empty(state: Path) -> None:
    (state / "secret").mkdir(mode=0o700)
    assert found(config_of(state)) == [f"node.state_dir: {state}/secret: Is a directory"]
    (state / "secret").rmdir()
    empty = state / "empty"
    empty.write_text("\n")
    empty.chmod(0o600)
    said = f"accounting.redis_password_file: {empty}: its first line is empty"
    accounting = {"redis": "127.0.0.1:1", "redis_password_file": str(empty)}
    unreachable = "(accounting.redis: 127.0.0.1:1: Connection refused)"
    assert found(config_of(state, accounting=accounting)) == [said, unreachable]
    assert found(config_of(state, accounting={**accounting, "redis": ""})) == []
    store = {"backend": "redis", "redis": "127.0.0.1:1", "redis_password_file": str(empty)}
    assert f"store.redis_password_file: {empty}: its first line is empty" in found(config_of(state, store=store))


def test_call_records_that_could_not_be_written_are_a_warning_since_the_node_goes_on(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(config_of(state, accounting={"file": str(state / "new" / "calls.jsonl")})) == []
    assert found(config_of(state, accounting={"file": str(state)})) == [
        f"(accounting.file: {state}: is a directory, so no call record can be written)"
    ]
    real, place = os.access, state / "shut"
    place.mkdir()
    (place / "calls.jsonl").touch()
    monkeypatch.setattr("farm.preflight.os.access", lambda path, mode: "shut" not in str(path) and real(path, mode))
    for name, what in (("calls.jsonl", "may not be written"), ("new", f"{place} may not be written")):
        file = place / name
        assert found(config_of(state, accounting={"file": str(file)})) == [f"(accounting.file: {file}: {what})"]


def test_two_listeners_on_one_port(state: Path) -> None:
    config = config_of(state, sip={"listen": ["tcp:127.0.0.1:9", "ws:127.0.0.1:9"]})
    assert "sip.listen: ws:127.0.0.1:9: sip.listen has that port already, as tcp:127.0.0.1:9" in found(config)
    assert "sip.listen: ws:127.0.0.1:9: sip.listen has that port already, as tcp:127.0.0.1:9" in found(
        config, is_running=True
    )
