"""The farms that are compared, each started fresh for a run: Kamailio nodes that copy every contact to all others by
DMQ, and as many sipfarm nodes with three replicas, every node a process on a loopback address of its own.

Kamailio gets one UDP worker and one DMQ worker a node, the fewest it runs with: the comparison that is hardest on us.
Its dmq_usrloc acknowledges a REGISTER before anybody else has the contact; a sipfarm node waits for its owners.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final, Protocol

from bench.servers import KAMAILIO_FILE, Kamailio, Sipfarm, find_program, wait_answers
from tests.support.live_farm import LiveFarm
from tests.support.nodes import Nodes
from tests.support.processes import Program, ProgramFailed, wait_until

REPLICAS: Final = 3
_START_SECONDS: Final = 60.0


class Farm(Protocol):
    """Nodes that run and know each other."""

    hosts: list[str]

    def programs(self) -> Sequence[Program]:
        """Their processes, one each."""

    def copies(self) -> list[int]:
        """How many contacts each node holds."""

    def has_all(self, users: int) -> bool:
        """Whether every copy of so many users' contacts is where it belongs."""

    def stop(self) -> list[str]:
        """End all; what their logs complain of."""


class FarmServer(Protocol):
    """A kind of farm."""

    name: str

    def version(self) -> str:
        """What it calls itself."""

    def start(self, hosts: Sequence[str], directory: Path) -> Farm:
        """Start a node at each of these hosts and wait until all know each other."""


def cpu_seconds(farm: Farm) -> float:
    """utime + stime of all processes of all nodes."""
    return sum(program.cpu_seconds() for program in farm.programs())


class KamailioFarm:
    """Kamailio with `kamailio.cfg` and `dmq.cfg`."""

    name = "kamailio"

    def __init__(self, children: int, bare: bool) -> None:
        self._single = Kamailio(children, bare)

    def version(self) -> str:
        """Of the program, and what copies."""
        return f"{self._single.version()}, dmq_usrloc with 1 DMQ worker a node"

    def start(self, hosts: Sequence[str], directory: Path) -> Farm:
        """Each is told of one other, and learns of the rest by it."""
        farm = _DmqFarm(list(hosts), directory)
        try:
            for index, host in enumerate(hosts):
                farm.add(self._command(hosts, index, farm.socket_path(host)), host)
            for host, program in zip(hosts, farm.programs(), strict=True):
                wait_answers(program, host)
            wait_until(farm.is_whole, _START_SECONDS, "all Kamailio nodes know each other", every=0.2)
        except BaseException:
            farm.stop()
            raise
        return farm

    def _command(self, hosts: Sequence[str], index: int, socket: str) -> list[str]:
        host, first = hosts[index], hosts[0 if index else 1]
        defines = [f"LISTEN=udp:{host}:5060", f"CHILDREN={self._single.children}", "WITH_DMQ"]
        defines += [f'DMQ_OWN="sip:{host}:5060"', f'DMQ_FIRST="sip:{first}:5060"', f'CTL="unix:{socket}"']
        defines += ["BARE"] if self._single.bare else []
        command = [find_program("kamailio"), "-f", str(KAMAILIO_FILE), "-DD", "-E", "-m", "256"]
        for define in defines:
            command += ["-A", define]
        return command


class _DmqFarm:
    """Kamailio nodes that run."""

    def __init__(self, hosts: list[str], directory: Path) -> None:
        self.hosts = hosts
        self._directory = directory
        self._programs: list[Program] = []

    def socket_path(self, host: str) -> str:
        """Where kamcmd reaches a node."""
        return str(self._directory / f"{host}.ctl")

    def add(self, command: Sequence[str], host: str) -> None:
        """Start one more."""
        self._programs.append(Program(command, self._directory / f"{host}.log", directory=self._directory))

    def programs(self) -> Sequence[Program]:
        """The main processes; the others are their children."""
        return self._programs

    def is_whole(self) -> bool:
        """Whether each lists all as active."""
        listed = [self._ask(host, "dmq.list_nodes").count("status: active") for host in self.hosts]
        return listed == [len(self.hosts)] * len(self.hosts)

    def copies(self) -> list[int]:
        """By the statistics of usrloc."""
        return [int(self._ask(host, "cnt.get", "usrloc", "location_contacts") or 0) for host in self.hosts]

    def has_all(self, users: int) -> bool:
        """Every node has all."""
        return self.copies() == [users] * len(self.hosts)

    def stop(self) -> list[str]:
        """SIGTERM, then SIGKILL."""
        for program in self._programs:
            program.kill()
        return []

    def _ask(self, host: str, *words: str) -> str:
        command = [find_program("kamcmd"), "-s", f"unix:{self.socket_path(host)}", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()


class SipfarmFarm:
    """sipfarm nodes with an authority made for the run. `store` is the backend of their journals; `commands` as for
    `Sipfarm`."""

    def __init__(self, store: str, name: str = "sipfarm", commands: Path | None = None) -> None:
        self._single = Sipfarm(store, name, commands)
        self.name = name

    def version(self) -> str:
        """The version that pip knows, the store, and how many copies."""
        return f"{self._single.version()}, {REPLICAS} replicas"

    def start(self, hosts: Sequence[str], directory: Path) -> Farm:
        """All at once."""
        return start_farm(hosts, directory, store=self._single.store, commands=self._single.commands)


class SharedFarm:
    """sipfarm nodes that run; `live` is for who wants more of them than a load does."""

    def __init__(self, live: LiveFarm, nodes: Nodes) -> None:
        self.live = live
        self.hosts = live.hosts
        self._nodes = nodes

    def programs(self) -> Sequence[Program]:
        """One a node."""
        return list(self.live)

    def copies(self) -> list[int]:
        """By their own metric."""
        return [int(node.metric("registrations")) if node.running() else 0 for node in self.live]

    def copies_wanted(self, users: int) -> int:
        """As many owners as there are replicas."""
        return users * min(REPLICAS, sum(node.running() for node in self.live))

    def has_all(self, users: int) -> bool:
        """As many as wanted, or more where somebody stood in for an owner that was slow, and none missing."""
        return sum(self.copies()) >= self.copies_wanted(users) and not self.live.metric("underreplicated_partitions")

    def stop(self) -> list[str]:
        """SIGTERM for all, SIGKILL for those that are still there soon after."""
        self.live.stop_all()
        with redirect_stdout(io.StringIO()):  # what the nodes' logs end with is for tests
            return self._nodes.stop()


def start_farm(
    hosts: Sequence[str], directory: Path, *, store: str, commands: Path | None = None, **overlay: object
) -> SharedFarm:
    """Start sipfarm nodes, whose `[overlay]` has what is given besides."""

    def make_host() -> str:
        raise ProgramFailed("every node is given its host")

    nodes = Nodes(directory, make_host, commands=commands)
    sections: dict[str, Any] = {
        "store": {"backend": store},
        "log": {"level": "warn", "format": "text"},
        "overlay": overlay,
    }
    farm = SharedFarm(LiveFarm(nodes, hosts, directory, **sections), nodes)
    try:
        farm.live.start(wait=False)
        farm.live.wait_whole(_START_SECONDS)
    except BaseException:
        farm.stop()
        raise
    return farm
