"""What a start on this machine would meet, found before it: for `sipfarm check`.

A configuration that makes sense may still name a port that another program has, a certificate that has expired, a
directory that cannot be written. Each finding names the setting; a mistake is one with which the node would not start,
or would start and serve nobody, a warning all that is allowed and seldom meant. It reads files, binds addresses for a
moment and asks nobody over the network but the Redis of the records and that of the calls, which get a second each;
seeds and name servers are asked where `network` is set. A node that runs keeps its own ports and its lock: they are no
findings.
"""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import closing, suppress
from typing import Final, NamedTuple
from urllib.parse import quote

from farm.addresses import is_address, parse_host_port
from farm.capture.key import read_key
from farm.config import CREDENTIALS, Config, ConfigError
from farm.farm_settings import StoreSettings
from farm.lock import LOCK_NAME
from farm.open_files import find_shortage
from farm.overlay.journal import SCHEMA
from farm.ports import find_clashes, find_refused, find_wanted
from farm.records import JOURNAL_NAME
from farm.security.identity import Identity
from farm.security.keys import KEY_BYTES, read_nonce_keys
from farm.security.roles import identity_directory
from farm.security.sip_certificates import SipCertificates
from farm.watch_settings import AccountingSettings

SOON_SECONDS: Final = 7 * 86_400.0
LEAST_BYTES: Final = 1 << 20
FEW_BYTES: Final = 100 << 20
ANSWER_SECONDS: Final = 1.0  # for whoever is on this machine, or should be near
NAME_SECONDS: Final = 3.0
_EARLIEST: Final = 1_700_000_000.0  # 2023: no clock that is right shows less
_OPEN_TO_OTHERS: Final = 0o027
_LINE_BYTES: Final = 4096
_OUT_OF_SIGHT: Final = "is a credential, which only the service sees: its start looks at it"


class Finding(NamedTuple):
    """Something found: the setting, what is wrong, and whether a start would fail of it."""

    key: str
    problem: str
    is_mistake: bool = True

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


def find_problems(
    config: Config, wall: float, *, is_running: bool = False, ports: bool = True, network: bool = False
) -> Iterator[Finding]:
    """All that is found. `wall` is seconds since 1970; `is_running` says that this node runs; without `ports` none is
    tried, since somebody else binds them and hands them over; with `network` seeds and name servers are asked."""
    if wall < _EARLIEST:
        yield Finding("clock", "shows a time long past, so no certificate is valid yet: set it")
    yield from _check_certificates(config, wall)
    if config.overlay.listen:
        yield from _check_identity(config, wall)
    yield from _check_state(config, is_running)
    yield from _check_control(config, is_running)
    yield from _check_secrets(config)
    if config.log.file:
        yield from _check_log(config.log.file)
    if config.accounting.file:
        yield from _check_call_records(config.accounting.file)
    for key, problem in find_clashes(find_wanted(config)):
        yield Finding(key, problem)
    if ports and not is_running:
        for key, problem in find_refused(find_wanted(config)):
            yield Finding(key, problem)
    shortage = find_shortage(config.limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    if shortage:
        yield Finding("limits.connections", shortage, False)
    if config.store.backend == "redis" and not _is_out_of_sight(config.store.redis_password_file):
        yield from _check_redis(config)
    if config.accounting.redis and not _is_out_of_sight(config.accounting.redis_password_file):
        yield from _check_redis_of_calls(config)
    if not config.resolver.servers and not _has_name_servers():
        yield Finding("resolver.servers", "is empty, and /etc/resolv.conf names none: no name can be resolved", False)
    if network:
        yield from _check_seeds(config)


# Certificates


def _check_certificates(config: Config, wall: float) -> Iterator[Finding]:
    if any(_is_out_of_sight(path) for path in (*config.tls.certificates, *config.tls.keys, config.tls.trust)):
        yield Finding("tls.certificates", _OUT_OF_SIGHT, False)
        return
    try:
        certificates = SipCertificates(config.tls, wall)
    except ConfigError as error:
        yield _of(error)
        return
    if certificates.not_after:
        yield from _check_end("tls.certificates", certificates.not_after, wall)


def _check_identity(config: Config, wall: float) -> Iterator[Finding]:
    try:
        identity = Identity(identity_directory(config), wall, name=config.node.name)
    except ConfigError as error:
        yield _of(error)
        return
    yield from _check_end("overlay.identity", identity.not_after, wall)


def _check_end(key: str, end: float, wall: float) -> Iterator[Finding]:
    days = (end - wall) / 86_400
    if end <= wall:
        yield Finding(key, f"a certificate expired {-days:.0f} days ago")
    elif end - wall < SOON_SECONDS:
        yield Finding(key, f"a certificate expires in {days:.1f} days", False)


# Files


def _check_state(config: Config, is_running: bool) -> Iterator[Finding]:
    path = config.node.state_dir
    if not os.path.isdir(path):
        if os.path.lexists(path):
            yield Finding("node.state_dir", f"{path}: is no directory")
        elif not os.access(_find_parent(path), os.W_OK | os.X_OK):
            yield Finding("node.state_dir", f"{path}: does not exist, and may not be made")
        return
    if not os.access(path, os.W_OK | os.X_OK):
        yield Finding("node.state_dir", f"{path}: may not be written")
        return
    lock = os.path.join(path, LOCK_NAME)
    if os.path.lexists(lock) and not os.access(lock, os.R_OK):
        yield Finding("node.state_dir", f"{lock}: may not be read: it belongs to another user")
    if not is_running and _is_locked(lock):
        yield Finding("node.state_dir", f"{path}: in use by another process")
    space = os.statvfs(path)
    free = space.f_bavail * space.f_frsize
    if free < LEAST_BYTES:
        yield Finding("node.state_dir", f"{path}: the disk is full")
    elif free < FEW_BYTES:
        yield Finding("node.state_dir", f"{path}: the disk has {free >> 20} MiB left", False)
    if config.store.backend == "sqlite":
        yield from _check_journal(os.path.join(path, JOURNAL_NAME))


def _check_journal(path: str) -> Iterator[Finding]:
    if not os.path.exists(path):
        return
    version = 0
    place = f"file:{quote(path)}?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(place, uri=True, timeout=1.0)) as database:
        version = int(database.execute("PRAGMA user_version").fetchone()[0])  # what is corrupt, a start puts aside
    if version > SCHEMA:
        problem = f"{path}: was written by a later version (format {version}, known is {SCHEMA})"
        yield Finding("node.state_dir", problem)


def _check_control(config: Config, is_running: bool) -> Iterator[Finding]:
    """A place where a socket can be made. One at which nobody listens is left over, and a start takes it away."""
    path = config.control_path
    key = "admin.control" if config.admin.control else "node.state_dir"
    folder = os.path.dirname(path) or "."
    if os.path.lexists(path):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            yield Finding(key, f"{path}: is in the way of the control socket")
        elif not is_running and _is_listened_at(path):
            yield Finding(key, f"{path}: another process listens there")
    elif config.admin.control and not os.path.isdir(folder):
        if folder != config.node.state_dir:  # the start makes that one
            yield Finding(key, f"{path}: there is no directory {folder}")
    elif config.admin.control and not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(key, f"{path}: {folder} may not be written")


def _check_secrets(config: Config) -> Iterator[Finding]:
    """Files that nobody else may read. The node's own secret is made at the first start, with the right mode."""
    secret = os.path.join(config.node.state_dir, "secret")
    named = {
        "auth.nonce_key_file": config.auth.nonce_key_file,
        "store.redis_password_file": config.store.redis_password_file,
        "capture.auth_key_file": config.capture.auth_key_file,
        "accounting.redis_password_file": config.accounting.redis_password_file if config.accounting.redis else "",
    }
    if config.store.backend != "memory" and not config.overlay.listen and os.path.exists(secret):
        named["node.state_dir"] = secret
        with suppress(OSError):
            if os.path.isfile(secret) and os.path.getsize(secret) < KEY_BYTES:
                yield Finding("node.state_dir", f"{secret}: shorter than {KEY_BYTES} bytes; remove it")
    for key, path in named.items():
        if not path:
            continue
        if _is_out_of_sight(path):
            yield Finding(key, _OUT_OF_SIGHT, False)
            continue
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
            with open(path, "rb") as file:
                first = file.readline(_LINE_BYTES)
        except OSError as error:
            yield Finding(key, f"{path}: {error.strerror or error}")
            continue
        if key.endswith("redis_password_file") and not first.rstrip(b"\r\n"):
            yield Finding(key, f"{path}: its first line is empty")
        if mode & _OPEN_TO_OTHERS:
            yield Finding(key, f"{path}: is open to others (mode {mode:04o}): chmod 600 it", False)
    try:
        if _is_readable(config.auth.nonce_key_file):
            read_nonce_keys(config, b"")
        if _is_readable(config.capture.auth_key_file):
            read_key(config.capture)
    except ConfigError as error:
        yield _of(error)


def _is_out_of_sight(path: str) -> bool:
    """Whether it is a credential of a service that does not run: systemd has put it nowhere yet."""
    return path.startswith(f"{CREDENTIALS}/") and not os.path.isdir(CREDENTIALS)


def _is_readable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)


def _check_call_records(path: str) -> Iterator[Finding]:
    """A file that can be written, or a directory in which it can be made. The node starts without, and keeps lines."""
    folder = _find_parent(os.path.dirname(path) or ".")
    if os.path.isdir(path):
        yield Finding("accounting.file", f"{path}: is a directory, so no call record can be written", False)
    elif os.path.lexists(path) and not os.access(path, os.R_OK | os.W_OK):
        yield Finding("accounting.file", f"{path}: may not be written", False)
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("accounting.file", f"{path}: {folder} may not be written", False)


def _check_log(path: str) -> Iterator[Finding]:
    place = path if os.path.lexists(path) else os.path.dirname(path)
    if os.path.isdir(path):
        yield Finding("log.file", f"{path}: is a directory")
    elif not os.access(place, os.W_OK):
        yield Finding("log.file", f"{path}: may not be written")


def _is_locked(path: str) -> bool:
    """Whether a process holds the lock; nothing is made where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _is_listened_at(path: str) -> bool:
    """Whether a process has that UNIX socket; it is hung up on at once."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(ANSWER_SECONDS)
        try:
            asking.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # it is busy, or another user's
    return True


def _find_parent(path: str) -> str:
    """The nearest directory above that is there."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


# Others


def _check_redis(config: Config) -> Iterator[Finding]:
    """One that answers, and takes the password. A node goes on without, and catches up: unreachable is a warning."""
    store = config.store
    places = [("store.redis_sentinels", text) for text in store.redis_sentinels] or [("store.redis", store.redis)]
    problems = []
    for key, text in places:
        try:
            answer = _ask_redis(text, _make_greeting(store) if not store.redis_sentinels else b"*1\r\n$4\r\nPING\r\n")
        except OSError as error:
            problems.append(Finding(key, f"{text}: {error.strerror or error or 'no answer'}", False))
            continue
        if answer.startswith(b"-"):
            yield Finding(key, f"{text}: {answer[1:].decode('ascii', 'replace').strip()}")
        return
    yield from problems


def _check_redis_of_calls(config: Config) -> Iterator[Finding]:
    """The node starts without, and keeps lines: whatever that Redis says is a warning."""
    place = config.accounting.redis
    try:
        answer = _ask_redis(place, _make_greeting(config.accounting))
    except OSError as error:
        yield Finding("accounting.redis", f"{place}: {error.strerror or error or 'no answer'}", False)
        return
    if answer.startswith(b"-"):
        problem = answer[1:].decode("ascii", "replace").strip()
        yield Finding("accounting.redis", f"{place}: {problem}", False)


def _make_greeting(section: AccountingSettings | StoreSettings) -> bytes:
    """PING, after AUTH where there is a password; the first refusal, or the last answer, is what comes back."""
    words = []
    if section.redis_password_file:
        with suppress(OSError), open(section.redis_password_file, "rb") as file:
            password = file.readline().rstrip(b"\r\n")
            words.append([b"AUTH", *([section.redis_user.encode()] if section.redis_user else []), password])
    words.append([b"PING"])
    return b"".join(
        b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in command)
        for command in words
    )


def _ask_redis(text: str, question: bytes) -> bytes:
    """The first line of the answer. Raises OSError."""
    host, port = parse_host_port(text)
    with socket.create_connection((host, port or 6379), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(question)
        return connection.recv(200).partition(b"\r\n")[0]


def _check_seeds(config: Config) -> Iterator[Finding]:
    names = [seed for seed in config.overlay.seeds if not is_address(parse_host_port(seed)[0])]
    with ThreadPoolExecutor(max(len(names), 1)) as pool:
        asked = [(seed, pool.submit(_resolve, parse_host_port(seed)[0])) for seed in names]
        for seed, asking in asked:
            try:
                asking.result(NAME_SECONDS)
            except TooLate:
                yield Finding("overlay.seeds", f"{seed}: no name server has answered", False)
            except OSError as error:
                yield Finding("overlay.seeds", f"{seed}: {error.strerror or error}", False)


_resolve: Final[Callable[[str], object]] = socket.gethostbyname


def _has_name_servers() -> bool:
    with suppress(OSError), open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
        return any(line.split()[:1] == ["nameserver"] for line in file)
    return False


def _of(error: ConfigError) -> Finding:
    """A ConfigError as a finding."""
    return Finding(error.key or error.where, error.problem)
