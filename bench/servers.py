"""The servers that are compared, each started fresh for a run: Kamailio, and one sipfarm node, pure or compiled, with
equal function.

Kamailio gets one UDP worker. It is the cheapest way to run it (two workers cost about 5 % more a call on two cores,
the eight of Debian's file 40 %, in lock contention and context switches), and like our node it then uses one core at
most: the comparison that is hardest on us. `--children` tries others.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Protocol

from bench.loads import USERS
from tests.support.nodes import NodeProgram, answers_options, installed, write_config
from tests.support.processes import Program, wait_until

_SOURCES = Path(__file__).resolve().parent.parent / "farm"
KAMAILIO_FILE = Path(__file__).resolve().parent / "kamailio" / "kamailio.cfg"


class Server(Protocol):
    """Something that can be started to serve SIP over UDP at an address."""

    name: str

    def version(self) -> str:
        """What it calls itself."""

    def start(self, host: str, digest: bool, directory: Path) -> Program:
        """Start it with its files in `directory` and wait until it answers."""


class Kamailio:
    """Kamailio with `bench/kamailio/kamailio.cfg`; `bare` leaves out Debian's checks before routing."""

    name = "kamailio"

    def __init__(self, children: int, bare: bool) -> None:
        self.children = children
        self.bare = bare

    def version(self) -> str:
        """The first line of `kamailio -v` and the number of workers."""
        text = subprocess.run([find_program("kamailio"), "-v"], capture_output=True, text=True, check=True).stdout
        return f"{text.splitlines()[0].removeprefix('version: ')}, {self.children} worker(s)"

    def start(self, host: str, digest: bool, directory: Path) -> Program:
        """Start it in the foreground (-DD -E) with locations in memory."""
        defines = [f"LISTEN=udp:{host}:5060", f"CHILDREN={self.children}"]
        defines += ["WITH_AUTH"] if digest else []
        defines += ["BARE"] if self.bare else []
        command = [find_program("kamailio"), "-f", str(KAMAILIO_FILE), "-DD", "-E", "-m", "256", "-w", str(directory)]
        for define in defines:
            command += ["-A", define]
        program = Program(command, directory / "kamailio.log", directory=directory)
        return wait_answers(program, host)


class Sipfarm:
    """One sipfarm node under the `twistd` of an environment whose commands are in `commands`; None is the environment
    of the benchmark itself. `store` is its journal's backend."""

    def __init__(self, store: str, name: str = "sipfarm", commands: Path | None = None) -> None:
        self.store = store
        self.name = name
        self.commands = commands

    def version(self) -> str:
        """The version that pip knows and the store."""
        python = installed("python", self.commands)
        code = "import importlib.metadata as m, platform; print(m.version('sipfarm'), 'on', platform.python_version())"
        text = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
        return f"{self.name} {text.strip()}, {self.store} store"

    def start(self, host: str, digest: bool, directory: Path) -> Program:
        """Write its configuration, import the users where digest is wanted, start it."""
        config = write_config(
            directory / "node.toml",
            {
                "node": {"name": "bench", "state_dir": str(directory / "state")},
                "sip": {"domains": ["example.com"], "listen": [f"udp:{host}:5060"]},
                # SIPp 3.6.1 answers MD5 challenges only, and no others may stand beside them.
                "auth": {"open": not digest, "algorithms": ["MD5"]},
                "store": {"backend": self.store},
                "admin": {"http": ""},
                "log": {"level": "warn", "format": "text"},
            },
        )
        if digest:
            users = directory / "import.csv"
            users.write_text("".join(f"u{n:05d},pw-u{n:05d}\n" for n in range(USERS)))
            command = [installed("sipfarm", self.commands), "user", "import", str(users), "-c", str(config)]
            subprocess.run(command, check=True, cwd=directory, stdout=subprocess.DEVNULL)
        log = directory / "sipfarm.log"
        program = NodeProgram(config, log, sip=(host, 5060), http=None, commands=self.commands)
        return wait_answers(program, host)


def find_fault(environment: Path) -> str:
    """What keeps a virtual environment from being the compiled build of this tree; "" when it is that."""
    found = sorted(environment.glob("lib/python3*/site-packages/farm"))
    if not found:
        return f"{environment} has no sipfarm"
    (installation,) = found
    for source in sorted(_SOURCES.rglob("*.py")):
        copy = installation / source.relative_to(_SOURCES)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            return f"{environment} was made of another {source.relative_to(_SOURCES.parent)}"
    return "" if list(installation.parent.glob("sipfarm__mypyc.*.so")) else f"{environment} is not compiled"


def require_free(host: str) -> None:
    """End with one line when somebody else has port 5060 of a host that the benchmark wants: it would be measured."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 5060))
        except OSError as error:
            raise SystemExit(f"udp:{host}:5060: {error.strerror}; choose other addresses with --hosts") from None


def wait_answers(program: Program, host: str) -> Program:
    """Wait until a server answers OPTIONS; it is killed when it does not."""
    try:
        wait_until(
            lambda: not program.running() or answers_options((host, 5060), 0.3),
            30,
            f"{program.command[0]} answers OPTIONS\n{program.tail()}",
        )
        if not program.running():
            raise AssertionError(f"{program.command[0]} ended with {program.exit_code}\n{program.tail()}")
    except BaseException:
        program.kill()
        raise
    return program


def find_program(program: str) -> str:
    """Its path; ends with one line when it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise SystemExit(f"{program} is not installed (Debian packages: kamailio, sip-tester)")
    return path
