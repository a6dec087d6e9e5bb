"""A throw-away farm: real nodes as child processes on loopback, for newcomers, tests and benchmarks.

Node i is host 127.0.0.(10+i): SIP on 5060 over UDP and TCP, on 5061 over TLS, and on 8080 over WebSocket, so that a
phone in a browser can be tried (which trusts loopback without a certificate); other nodes on 7400, DNS on 5353, HTTP on
9464. They are enrolled by a throw-away authority in `DIR/ca`, and find each other by the first two; a single
one is a node without an overlay. What phones see over TLS is certified by another, `DIR/tls/ca.pem`.
`DIR/farm.json` is written once every node serves and knows all others, and the users are there. A node that ends is
reported and left so, for whoever tries what happens then: `command` in farm.json starts it again. Everything ends with
the command, or when its last node has ended.

Decided: the node is started the way operators start it (twistd, a file), never in this process, so that whoever tries
the demo has tried the product.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple, TextIO

from farm.admin.client import NotRunning, SocketClient
from farm.admin.control import ROWS_AT_ONCE, OrderError
from farm.security.authority import Authority, AuthorityError, make_authority
from farm.security.certificate import ROLES
from farm.security.identity import AUTHORITY_NAME
from farm.security.throw_away import paths_in, write_throw_away

SIP_PORT: Final = 5060
TLS_PORT: Final = 5061
WEB_SOCKET_PORT: Final = 8080
PEER_PORT: Final = 7400
HTTP_PORT: Final = 9464
DNS_PORT: Final = 5353
MOST_NODES: Final = 200
FIRST_USER: Final = 1000

START_SECONDS: Final = 30.0
START_SECONDS_PER_NODE: Final = 5.0
STOP_SECONDS: Final = 10.0
LONGEST_SOCKET_PATH: Final = 107
_PR_SET_PDEATHSIG: Final = 1
_START: Final = "from twisted.scripts.twistd import run; run()"
_OVERLAY: Final = "demo"
_CERTIFICATE_DAYS: Final = 365.0


class DemoError(Exception):
    """Why the demo cannot run, in a line or with the end of a node's log."""


class DemoSettings(NamedTuple):
    """What the command line says; `directory` None is a temporary one."""

    nodes: int
    directory: str | None
    domain: str
    users: int
    open: bool
    named: bool = False  # messages bear the farm's name, which only who asks its nodes for names can follow


class DemoNode:
    """One node: its directory, its configuration, its process."""

    def __init__(self, number: int, directory: Path, settings: DemoSettings) -> None:
        self.name = f"n{number}"
        self.host = f"127.0.0.{10 + number}"
        self.directory = directory / self.name
        self.config = self.directory / "node.toml"
        self.log = self.directory / "node.log"
        self.pid_file = self.directory / "pid"  # of the process that was started first, for whoever wants to kill it
        self.control = str(self.directory / "control.sock")
        self._settings = settings
        self._tls = paths_in(str(directory / "tls"))
        self.node_id: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        if len(self.control) > LONGEST_SOCKET_PATH:
            raise DemoError(f"{self.control}: longer than a UNIX socket's path may be; use a shorter --dir")

    @property
    def pid(self) -> int:
        """The process's id; 0 before it is started."""
        return self._process.pid if self._process else 0

    @property
    def command(self) -> list[str]:
        """What starts it, again too. Its output goes to standard error."""
        return [sys.executable, "-c", _START, "-n", "--pidfile=", "sipfarm", "-c", str(self.config)]

    @property
    def trust(self) -> str:
        """File of the authority that a phone must trust to use TLS."""
        return self._tls.trust

    def enroll(self, authority: Authority) -> None:
        """Get an identity, or a new certificate for the one that an earlier farm in this directory has left."""
        wall = time.time()
        identity = self.directory / "identity"
        try:
            if any(node.name == self.name for node in authority.nodes()):
                issued = authority.renew(self.name, wall, days=_CERTIFICATE_DAYS, out=str(identity))
            else:
                roles = sum(ROLES.values())
                issued = authority.issue(self.name, "", roles, wall, days=_CERTIFICATE_DAYS, out=str(identity))
        except AuthorityError as error:
            raise DemoError(str(error)) from None
        self.node_id = issued.node.node_id

    def write_config(self) -> None:
        """Make the directory and the file."""
        settings = self._settings
        self.directory.mkdir(parents=True, exist_ok=True)
        sections: dict[str, dict[str, object]] = {
            "node": {"name": self.name, "state_dir": str(self.directory)},
            "sip": {
                "domains": [settings.domain],
                "listen": [
                    f"udp:{self.host}:{SIP_PORT}",
                    f"tcp:{self.host}:{SIP_PORT}",
                    f"tls:{self.host}:{TLS_PORT}",
                    f"ws:{self.host}:{WEB_SOCKET_PORT}",
                ],
            },
            "tls": {
                "certificates": [self._tls.certificate],
                "keys": [self._tls.key],
                "trust": self._tls.trust,
            },
            # MD5 alone: baresip 1.0 and SIPp 3.6 give up at the sight of any other algorithm, even beside it
            "auth": {"open": settings.open, "algorithms": ["MD5"]},
            "admin": {"http": f"{self.host}:{HTTP_PORT}"},
            "dns": {"listen": [f"{self.host}:{DNS_PORT}"], "zone": make_zone(settings.domain)},
        }
        if settings.named:
            sections["sip"]["farm_name"] = make_zone(settings.domain)
        if settings.nodes > 1:
            seeds = [f"127.0.0.{10 + number}:{PEER_PORT}" for number in (1, 2)]
            sections["overlay"] = {"listen": f"{self.host}:{PEER_PORT}", "seeds": seeds}
        lines = []
        for section, values in sections.items():
            # JSON's texts, lists and booleans are TOML's too
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
        self.config.write_text("\n".join(lines))

    def start(self) -> None:
        """Start the process; its output goes to the log."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.pid_file.write_text(f"{self.pid}\n")

    def check_alive(self) -> None:
        """Raise DemoError when it has ended, with the last lines it wrote."""
        if self._process is None or self._process.poll() is None:
            return
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])
        raise DemoError(f"node {self.name} ended with exit code {self._process.returncode}:\n{tail}")

    def is_running(self) -> bool:
        """Whether its process, as we started it, is still there."""
        return self._process is not None and self._process.poll() is None

    def find_end(self) -> str:
        """How it ended, in a line; "" while it runs, and when that was said already."""
        if self._process is None or self._ended or self._process.poll() is None:
            return ""
        self._ended = True
        again = f"{shlex.join(self.command)} 2>>{shlex.quote(str(self.log))}"
        return f"node {self.name} ended with exit code {self._process.returncode}; start it again with\n  {again}\n"

    def is_ready(self) -> bool:
        """Whether it says that it serves, and in a farm that it knows all others."""
        connection = http.client.HTTPConnection(self.host, HTTP_PORT, timeout=2)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status != 200:
                return False
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return self._settings.nodes == 1 or self.count_alive() >= self._settings.nodes

    def count_alive(self) -> int:
        """How many nodes it knows to be alive."""
        try:
            members = SocketClient(self.control).run("members", {})["members"]
        except (OrderError, NotRunning):
            return 0
        return sum(row["state"] == "alive" for row in members) if isinstance(members, list) else 0

    def add_users(self) -> None:
        """Users 1000, 1001, … with their names for passwords."""
        client = SocketClient(self.control)
        names = [str(FIRST_USER + index) for index in range(self._settings.users)]
        for begin in range(0, len(names), ROWS_AT_ONCE):
            rows = [[begin, name, self._settings.domain, name] for name in names[begin : begin + ROWS_AT_ONCE]]
            try:
                client.run("import-users", {"rows": rows})
            except (OrderError, NotRunning) as error:
                raise DemoError(f"users could not be added: {error}") from None

    def ask_to_stop(self) -> None:
        """SIGTERM: the node drains and ends."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait_stopped(self, deadline: float) -> None:
        """Until it has ended, by SIGKILL when the deadline (monotonic) passes."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def describe(self) -> dict[str, object]:
        """Its entry in farm.json."""
        return {
            "name": self.name,
            "host": self.host,
            "sip_port": SIP_PORT,
            "tls_port": TLS_PORT,
            "tls_trust": self._tls.trust,
            "websocket_port": WEB_SOCKET_PORT,
            "http_port": HTTP_PORT,
            "dns_port": DNS_PORT,
            "node_id": self.node_id,
            "pid": self.pid,
            "config": str(self.config),
            "log": str(self.log),
            "command": self.command,
        }


def make_zone(domain: str) -> str:
    """The name of the farm, of which its nodes know where it is."""
    return f"sip.{domain}"


class _Stopped(Exception):
    """SIGINT or SIGTERM came."""


def run_demo(settings: DemoSettings, out: TextIO, *, as_json: bool = False) -> int:
    """Run the farm until SIGINT or SIGTERM; answers the exit code. Raises DemoError when it cannot run, or stops to.
    What is there is written as a table, or as a line of JSON, which is all that is written then."""
    if not 1 <= settings.nodes <= MOST_NODES:
        raise DemoError(f"--nodes {settings.nodes}: 1 to {MOST_NODES}")
    if settings.users < 0:
        raise DemoError("--users must not be negative")
    with _signals_raise(), _directory(settings.directory) as directory:
        nodes = [DemoNode(number + 1, directory, settings) for number in range(settings.nodes)]
        for node in nodes:
            check_ports_free(node.host, among_others=settings.nodes > 1)
        farm = directory / "farm.json"
        farm.unlink(missing_ok=True)
        _write_certificate(directory / "tls", nodes, settings)
        if settings.nodes > 1:
            authority = _open_authority(directory / "ca")
            for node in nodes:
                node.enroll(authority)
        try:
            _start(nodes, settings)
            _write_whole(farm, json.dumps([node.describe() for node in nodes], indent=1) + "\n")
            described = [node.describe() for node in nodes]
            out.write(json.dumps({"nodes": described}) + "\n" if as_json else make_table(nodes, settings))
            out.flush()
            while True:
                time.sleep(0.2)
                _report_ends(nodes, sys.stderr if as_json else out)
        except _Stopped:
            return 0
        finally:
            _stop(nodes)
            farm.unlink(missing_ok=True)
    return 0


def check_ports_free(host: str, *, among_others: bool) -> None:
    """Raise DemoError when one of a node's addresses is taken, naming it."""
    ports = [
        (socket.SOCK_DGRAM, "UDP", SIP_PORT),
        (socket.SOCK_STREAM, "TCP", SIP_PORT),
        (socket.SOCK_STREAM, "TCP", TLS_PORT),
        (socket.SOCK_STREAM, "TCP", WEB_SOCKET_PORT),
        (socket.SOCK_STREAM, "TCP", HTTP_PORT),
        (socket.SOCK_DGRAM, "UDP", DNS_PORT),
        (socket.SOCK_STREAM, "TCP", DNS_PORT),
    ]
    if among_others:
        ports.append((socket.SOCK_STREAM, "TCP", PEER_PORT))
    for kind, word, port in ports:
        with socket.socket(socket.AF_INET, kind) as trial:
            if kind == socket.SOCK_STREAM:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
                if kind == socket.SOCK_STREAM:
                    trial.listen(1)
            except OSError as error:
                reason = error.strerror or str(error)
                raise DemoError(f"{host}:{port} ({word}): {reason}; does another demo or SIP server run?") from None


def make_table(nodes: list[DemoNode], settings: DemoSettings) -> str:
    """What to point a phone at."""
    rows = [("node", "SIP (UDP and TCP)", "metrics and health", "process")]
    rows += [
        (node.name, f"{node.host}:{SIP_PORT}", f"http://{node.host}:{HTTP_PORT}/", str(node.pid)) for node in nodes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    first = nodes[0]
    last_user = FIRST_USER + settings.users - 1
    if settings.open:
        users = "any user name, no password"
    elif settings.users:
        users = f"user {FIRST_USER} to {last_user}, password the same as the user name"
    else:
        users = "no users yet"
    lines += [
        "",
        f"Point a phone at domain {settings.domain}, outbound proxy {first.host}:{SIP_PORT}, {users}.",
        f"Over TLS its port is {TLS_PORT}, and the authority to trust {first.trust}",
        f"A phone in a browser of this machine connects to ws://{first.host}:{WEB_SOCKET_PORT}/",
        f"Look after it with: sipfarm {'status' if len(nodes) == 1 else 'members'} -c {first.config}",
        f"Its name is {make_zone(settings.domain)}: dig @{first.host} -p {DNS_PORT} {make_zone(settings.domain)} NAPTR",
        "Ctrl-C ends it.",
        "",
    ]
    return "\n".join(lines)


def _start(nodes: list[DemoNode], settings: DemoSettings) -> None:
    """Start all, and wait until all serve and know each other."""
    for node in nodes:
        node.write_config()
        node.start()
    patience = START_SECONDS + START_SECONDS_PER_NODE * len(nodes)
    deadline = time.monotonic() + patience
    for node in nodes:
        while not node.is_ready():
            for one in nodes:
                one.check_alive()
            if time.monotonic() > deadline:
                raise DemoError(f"node {node.name} does not serve after {patience:g} s; see {node.log}")
            time.sleep(0.05 * len(nodes))
    if not settings.open:
        nodes[0].add_users()


def _report_ends(nodes: list[DemoNode], out: TextIO) -> None:
    """Say which nodes have ended. Raises DemoError when none is left."""
    ends = [end for node in nodes if (end := node.find_end())]
    if ends and not any(node.is_running() for node in nodes):
        for node in nodes:
            node.check_alive()
    out.writelines(ends)
    out.flush()


def _open_authority(directory: Path) -> Authority:
    """The authority in a directory, made when there is none."""
    try:
        if not (directory / AUTHORITY_NAME).exists():
            make_authority(str(directory), _OVERLAY, time.time())
        return Authority(str(directory))
    except AuthorityError as error:
        raise DemoError(str(error)) from None


def _write_certificate(directory: Path, nodes: list[DemoNode], settings: DemoSettings) -> None:
    """The certificate that all nodes show to phones."""
    domains = (settings.domain, make_zone(settings.domain))
    try:
        write_throw_away(str(directory), domains, [node.host for node in nodes], time.time())
    except (OSError, ValueError) as error:
        raise DemoError(f"{directory}: {error}") from None


def _stop(nodes: list[DemoNode]) -> None:
    """End all nodes; a second signal must not leave one behind."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for node in nodes:
        node.ask_to_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for node in nodes:
        node.wait_stopped(deadline)


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that whoever waits for it never reads half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


@contextmanager
def _directory(given: str | None) -> Iterator[Path]:
    """The directory of the farm; a temporary one is removed at the end."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="sipfarm-") as made:
            yield Path(made)
        return
    directory = Path(given).absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"{directory}: {error.strerror}") from None
    yield directory


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM raise _Stopped; afterwards they do what they did."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Stopped:
        return
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _die_with_parent() -> None:
    """In the child: be told to end when the demo is killed without a chance to do it itself (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
