"""A farm of real nodes for live tests: an authority, an identity and a configuration each, and their life and death.

Built on `Nodes`: every node is a host of its own on loopback with SIP on 5060 and HTTP on 9464, and listens for the
others on 7400; the first two are the seeds. A node is named by its index, so that tests read "farm[0]". What a node
knows of the others is asked over its control socket, as the console does. A node may be killed, stopped and started
again; `check` fails when any that runs has met an error that nobody expected.

Where the kernel and our rights allow it every start of a node gets a monotonic clock of its own, by a time namespace:
on one machine all would share one, and a time that was sent as it is would look right.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from farm.admin.client import NotRunning, SocketClient
from farm.admin.control import OrderError
from farm.security.authority import Authority, make_authority
from farm.security.certificate import ROLES
from tests.support.agents import Agent
from tests.support.nodes import STOPPED, NodeProgram, Nodes, installed
from tests.support.processes import ProgramFailed, wait_until

PEER_PORT: Final = 7400
_OWN_CLOCK: Final = ("unshare", "--time", "--monotonic")
OVERLAY: Final = "live.example"
_CLOCK_STEP: Final = 40_000  # seconds between the monotonic clocks of two nodes
_BOOT_STEP: Final = -3_000  # and between two starts of one: a machine that was booted anew has less
START_SECONDS: Final = 40.0
STOP_SECONDS: Final = 40.0


class LiveFarm:
    """Nodes that know each other, one for each of `hosts`; `sections` add to the configuration of all. The nodes meet
    at `peer_hosts`, where these are not the same; the farm is asked from `asking_host`; each listens to what
    `make_listeners` answers for its host, where that is given. Without `enroll` the test makes their identities."""

    def __init__(
        self,
        nodes: Nodes,
        hosts: Sequence[str],
        directory: Path,
        *,
        open_farm: bool = True,
        seeds: Sequence[str] | None = None,
        peer_hosts: Sequence[str] = (),
        asking_host: str = "127.0.0.1",
        make_listeners: Callable[[str], list[str]] | None = None,
        enroll: bool = True,
        **sections: Mapping[str, Any],
    ) -> None:
        self.hosts = list(hosts)
        self._asking_host = asking_host
        self._make_listeners = make_listeners
        self._peers = {
            host: f"{peer}:{PEER_PORT}" for host, peer in zip(self.hosts, peer_hosts or self.hosts, strict=True)
        }
        self.seeds = list(self._peers.values())[:2] if seeds is None else list(seeds)
        self.authority_directory = directory / "ca"
        make_authority(str(self.authority_directory), OVERLAY, time.time())
        self.authority = Authority(str(self.authority_directory))
        self._nodes = nodes
        self._directory = directory
        self._sections = {"auth": {"open": open_farm, "algorithms": ["MD5"]}, **sections}
        self._programs: list[NodeProgram] = []
        self._starts = dict.fromkeys(hosts, 0)
        self._own_clocks = can_have_own_clock()
        self.node_ids: list[str] = [self._enroll(host) for host in hosts] if enroll else []

    def __getitem__(self, index: int) -> NodeProgram:
        return self._programs[index]

    def __iter__(self) -> Iterator[NodeProgram]:
        return iter(self._programs)

    def __len__(self) -> int:
        return len(self._programs)

    def _enroll(self, host: str) -> str:
        identity = self.identity_of(host)
        issued = self.authority.issue(name_of(host), "", sum(ROLES.values()), time.time(), out=str(identity))
        return issued.node.node_id

    def identity_of(self, host: str) -> Path:
        """Where a node looks for its identity."""
        return self._directory / host / "state" / "identity"

    # Life and death

    def start(self, *, wait: bool = True) -> None:
        """Start all at once, and wait until all serve and know each other."""
        for host in self.hosts:
            self.start_node(host)
        if wait:
            self.wait_whole()

    def start_node(self, host: str, *, wrapper: Sequence[str] = ()) -> NodeProgram:
        """Start one more, which is not waited for, under a wrapper."""
        overlay = {"listen": self._peers[host], "seeds": self.seeds, **self._sections.get("overlay", {})}
        sections = {**self._sections, "overlay": overlay}
        if "dns" in sections:
            sections["dns"] = {**sections["dns"], "listen": [f"{host}:53"]}
        if self._make_listeners is not None:
            sections["sip"] = {**self._sections.get("sip", {}), "listen": self._make_listeners(host)}
        wrapper = [*self._make_clock(host), *wrapper]
        program = self._nodes.start(host=host, wait=False, wrapper=wrapper, **sections)
        self._programs.append(program)
        return program

    def _make_clock(self, host: str) -> list[str]:
        """The wrapper that gives a node a monotonic clock of its own."""
        if not self._own_clocks:
            return []
        self._starts[host] += 1
        offset = (self.hosts.index(host) + 1) * _CLOCK_STEP + self._starts[host] * _BOOT_STEP
        return [*_OWN_CLOCK, str(offset)]

    def kill(self, index: int) -> float:
        """SIGKILL; answers when, on the monotonic clock."""
        self._programs[index].kill()
        return time.monotonic()

    def kill_all(self) -> None:
        """SIGKILL for all, in one moment."""
        for program in self._programs:
            program.signal(signal.SIGKILL)
        for program in self._programs:
            program.kill()

    def stop(self, index: int) -> float:
        """SIGTERM, as a service manager does; answers the seconds that it took."""
        begun = time.monotonic()
        program = self._programs[index]
        program.signal(signal.SIGTERM)
        assert program.wait(STOP_SECONDS) in STOPPED, program.tail()
        return time.monotonic() - begun

    def start_again(self, index: int, *, wait: bool = True) -> float:
        """Start one that has ended, without a wrapper; answers the seconds until it was ready."""
        begun = time.monotonic()
        host = self.hosts[index]
        clock = self._make_clock(host)
        self._programs[index] = self._nodes.start_again(self[index].config, host, wrapper=clock, wait=False)
        if wait:
            self.wait_ready(index)
        return time.monotonic() - begun

    # What they know

    def is_ready(self, index: int) -> bool:
        """Whether a node is alive and synchronised."""
        program = self._programs[index]
        if not program.running():
            raise ProgramFailed(f"node {index} ended with {program.exit_code}\n{program.tail()}")
        return program.get("/readyz")[0] == 200

    def wait_ready(self, index: int, timeout: float = START_SECONDS) -> None:
        """Until a node is alive and synchronised."""
        wait_until(lambda: self.is_ready(index), timeout, f"node {index} is ready", every=0.1)

    def wait_whole(self, timeout: float = START_SECONDS) -> None:
        """Until all are ready and know all others as alive."""
        alive = dict.fromkeys(self.node_ids, "alive")
        for index in range(len(self)):
            self.wait_ready(index, timeout)
            knows_all = partial(self._knows, index, alive)
            wait_until(knows_all, timeout, f"node {index} knows all", every=0.1)

    def ask(self, index: int, order: str, **fields: Any) -> dict[str, Any]:
        """Give a node an order over its control socket; {} when it does not answer."""
        client = SocketClient(str(self[index].config.parent / "state" / "control.sock"))
        try:
            return dict(client.run(order, fields))
        except (NotRunning, OrderError):
            return {}

    def members(self, index: int) -> dict[str, str]:
        """Node-ID and state of all nodes that one of them knows, itself included."""
        return {str(row["node_id"]): str(row["state"]) for row in self.ask(index, "members").get("members", ())}

    def _knows(self, index: int, members: Mapping[str, str]) -> bool:
        return self.members(index) == members

    def wait_state(self, observer: int, index: int, state: str, timeout: float = 60.0) -> float:
        """Until one node sees another in that state; answers when, on the monotonic clock."""
        node = self.node_ids[index]
        wait_until(
            lambda: self.members(observer).get(node) == state,
            timeout,
            f"node {observer} sees node {index} {state}",
        )
        return time.monotonic()

    def console(self, index: int, *arguments: str) -> str:
        """Run a command of the console on a node; answers what it wrote. It must succeed."""
        command = [installed("sipfarm"), *arguments, "-c", str(self[index].config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise ProgramFailed(f"{' '.join(command)} answered {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def contacts(self, index: int, user: str) -> list[str]:
        """The Contact values that a node knows of a user, asked by a REGISTER without one (RFC 3261 §10.2.3)."""
        with Agent(self[index].sip, host=self._asking_host, user=user) as agent:
            answer = agent.register(contact="")
            assert answer.status == 200, answer
            return answer.all("contact")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all nodes that run."""
        return sum(program.metric(name, **labels) for program in self._programs if program.running())

    def wait_registrations(self, expected: int, timeout: float) -> None:
        """Until every node that runs holds exactly so many bindings; with three nodes each holds all."""
        deadline = time.monotonic() + timeout
        for index, program in enumerate(self._programs):
            if program.running():
                has_all = partial(_has_registrations, program, expected)
                try:
                    wait_until(has_all, deadline - time.monotonic(), f"node {index} has them", every=0.1)
                except ProgramFailed as failure:
                    held = [program.metric("registrations") for program in self._programs if program.running()]
                    raise ProgramFailed(f"{expected} registrations expected, nodes have {held}: {failure}") from None

    # The end

    def check(self) -> None:
        """Fails when a node that runs has met an unexpected error, or writes more than it should."""
        for index, program in enumerate(self._programs):
            if program.running():
                errors = program.metric("unexpected_errors_total")
                assert not errors, f"node {index}: {errors:g} unexpected errors\n{program.tail()}"
                health = json.loads(program.get("/healthz")[1] or "{}")
                print(f"node {index}: {health}, {program.cpu_seconds():.1f} s CPU, {program.rss_bytes() >> 20} MB")

    def stop_all(self) -> None:
        """SIGTERM for all at once, SIGKILL for those that are not gone soon after."""
        for program in self._programs:
            program.signal(signal.SIGTERM)
        deadline = time.monotonic() + 3.0
        for program in self._programs:
            with suppress(ProgramFailed):
                program.wait(max(0.0, deadline - time.monotonic()))
            program.kill()


def _has_registrations(program: NodeProgram, expected: int) -> bool:
    return program.metric("registrations") == expected


def can_have_own_clock() -> bool:
    """Whether we may give a process a monotonic clock of its own, and it keeps its process id."""
    if shutil.which("unshare") is None:
        return False
    command = [*_OWN_CLOCK, "1000", "sh", "-c", "echo $$"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as trial:
        return trial.communicate()[0].strip() == str(trial.pid)


def name_of(host: str) -> str:
    """The name of the node at an address, as `Nodes` gives it."""
    return f"n{host.rpartition('.')[2]}"
