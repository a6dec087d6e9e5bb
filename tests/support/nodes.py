"""A sipfarm node as a child process: its configuration file, its start under `twistd`, its health and its metrics.

`Nodes` starts any number for one test, each on a loopback host of its own with SIP on 5060 (UDP and TCP) and HTTP on
9464, and stops them all. A traceback in a node's log is a failure whatever the test itself saw.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.agents import Agent
from tests.support.processes import Program, ProgramFailed, wait_until

# How a node ends on SIGTERM: Twisted shuts down in order, then ends by the signal itself; systemd takes both as clean.
STOPPED: Final = (0, -signal.SIGTERM)


def write_config(path: Path, sections: Mapping[str, Any]) -> Path:
    """Write a TOML file of sections: a dict is a table, a list of dicts an array of tables."""
    lines: list[str] = []
    for name, section in sections.items():
        for table in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            # JSON's strings, numbers, booleans and lists are TOML's too.
            lines.extend(f"{key} = {json.dumps(value)}" for key, value in table.items())
            lines.append("")
    path.write_text("\n".join(lines))
    return path


def installed(program: str, directory: Path | None = None) -> str:
    """The path of a console command: of the environment that runs the tests, or of the one that has its commands in
    `directory`."""
    path = (directory or Path(sys.executable).parent) / program
    if not path.exists():
        raise ProgramFailed(f"{program} is not installed in {path.parent}")
    return str(path)


class NodeProgram(Program):
    """One node, started as operators start it: `twistd -n --pidfile= sipfarm -c FILE`, `twistd` being that of the
    directory `commands` where one is given."""

    def __init__(
        self,
        config: Path,
        log: Path,
        *,
        sip: tuple[str, int],
        http: tuple[str, int] | None,
        wrapper: Sequence[str] = (),
        commands: Path | None = None,
    ) -> None:
        self.sip = sip
        self.http = http
        self.config = config
        command = [*wrapper, installed("twistd", commands), "-n", "--pidfile=", "sipfarm", "-c", str(config)]
        super().__init__(command, log, directory=config.parent)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Until `/healthz` answers 200, or OPTIONS over UDP where there is no HTTP; fails at once when it has ended."""

        def ready() -> bool:
            if not self.running():
                raise ProgramFailed(f"the node ended with {self.exit_code}\n{self.tail()}")
            if self.http is not None:
                return self.get("/healthz")[0] == 200
            return answers_options(self.sip)

        try:
            wait_until(ready, timeout, "the node is ready", every=0.1)
        except ProgramFailed as failure:
            raise ProgramFailed(f"{failure}\n{self.tail()}") from None

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one page of the node's HTTP listener; status 0 when nobody answers."""
        assert self.http is not None
        connection = http.client.HTTPConnection(*self.http, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of `sipfarm_<name>` that carry these labels; 0.0 when there are none."""
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics answered {status}"
        return sum_samples(text, f"sipfarm_{name}", labels)


class Nodes:
    """The nodes of one test, with their files below `directory`; `make_host` gives each an address, and `commands` is
    as for `NodeProgram`."""

    def __init__(self, directory: Path, make_host: Callable[[], str], *, commands: Path | None = None) -> None:
        self._directory = directory
        self._make_host = make_host
        self._commands = commands
        self._started: list[NodeProgram] = []

    def start(
        self,
        *,
        users: Mapping[str, str] | None = None,
        host: str = "",
        wrapper: Sequence[str] = (),
        wait: bool = True,
        **sections: Mapping[str, Any] | list[dict[str, Any]],
    ) -> NodeProgram:
        """Start a node for example.com and wait until it is ready. With `users` (name to password) requests are
        challenged, without it everything is open; `sections` add to the configuration or replace keys of it."""
        host = host or self._make_host()
        directory = self._directory / host
        directory.mkdir(exist_ok=True)
        config: dict[str, Any] = {
            "node": {"name": f"n{host.rpartition('.')[2]}", "state_dir": str(directory / "state")},
            "sip": {"domains": ["example.com"], "listen": [f"udp:{host}:5060", f"tcp:{host}:5060"]},
            "auth": {"open": users is None},
            "admin": {"http": f"{host}:9464"},
        }
        for name, section in sections.items():
            config[name] = section if isinstance(section, list) else {**config.get(name, {}), **section}
        path = write_config(directory / "node.toml", config)
        if users is not None:
            add_users(path, users)
        return self.start_again(path, host, wrapper=wrapper, wait=wait)

    def start_again(self, config: Path, host: str, *, wrapper: Sequence[str] = (), wait: bool = True) -> NodeProgram:
        """Start a node with a configuration that is there already, after a stop or a kill."""
        node = NodeProgram(
            config,
            config.parent / "node.log",
            sip=(host, 5060),
            http=(host, 9464),
            wrapper=wrapper,
            commands=self._commands,
        )
        self._started.append(node)
        if wait:
            node.wait_ready()
        return node

    def stop(self) -> list[str]:
        """Stop all; what their logs complain of. The logs' ends are printed, so that a failed test shows them."""
        complaints = []
        for node in self._started:
            node.stop(2)  # one that still drains is killed
            print(node.tail())
            if "Traceback" in node.output():
                complaints.append(f"an exception in the log of {node.sip[0]}\n{node.output()[-8000:]}")
        return complaints


def add_users(config: Path, users: Mapping[str, str]) -> None:
    """Import users and passwords through the console command, as an operator does before the first start."""
    file = config.parent / "users.csv"
    file.write_text("".join(f"{user},{password}\n" for user, password in users.items()))
    command = [installed("sipfarm"), "user", "import", str(file), "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=config.parent, timeout=60, check=False)
    if done.returncode:
        raise ProgramFailed(f"{' '.join(command)} answered {done.returncode}\n{done.stdout}{done.stderr}")


def sum_samples(text: str, name: str, labels: Mapping[str, str]) -> float:
    """Add up the samples of one name in a Prometheus exposition, those alone that carry all `labels`."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    total = 0.0
    for line in text.splitlines():
        sample, _, value = line.rpartition(" ")
        if sample == name or sample.startswith(name + "{"):
            held = sample[len(name) :].strip("{}").split(",")
            if all(want in held for want in wanted):
                total += float(value)
    return total


def answers_options(target: tuple[str, int], timeout: float = 1.0) -> bool:
    """Whether a SIP element answers OPTIONS over UDP at all, whatever it answers."""
    with Agent(target) as agent:
        agent.send_request(agent.make_request("OPTIONS", f"sip:{target[0]}:{target[1]}"))
        return agent.receive(timeout) is not None
