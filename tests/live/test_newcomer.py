"""The newcomer's path, by the commands of the README's section "Watch it": a farm, a call, figures, and an alert that
fires when a node is killed and clears when it is back.

The commands are taken from the section's fenced blocks, so that README and test cannot part. Two things differ: the
virtual environment is this one, and `/tmp/watch` is the test's directory. All runs in a network namespace of its own,
where the ports of the demo and of Prometheus are free; where that is not allowed, on the machine itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Program, ProgramFailed, wait_until
from tests.support.tools import need

ROOT = Path(__file__).parent.parent.parent
FARM, PROMETHEUS, PHONE, CALL, GRAFANA, KILL, AGAIN, CLEARED = range(8)


def read_blocks() -> list[str]:
    """The scripts of the section, in order."""
    section = (ROOT / "README.md").read_text().partition("\n## Watch it\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


class Newcomer:
    """Somebody with terminals in the repository's directory, who types what the README says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._blocks = read_blocks()
        self._programs: list[Program] = []
        self._inside: list[str] = []
        self._make_network()

    def _make_network(self) -> None:
        alone = Program(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep 600"], self._directory / "net"
        )
        self._programs.append(alone)
        wait_until(lambda: not alone.running() or self._is_up(alone.pid), 10, "the network is there")
        if alone.running():
            self._inside = ["nsenter", f"--net=/proc/{alone.pid}/ns/net"]

    def _is_up(self, pid: int) -> bool:
        command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-o", "address", "show", "dev", "lo"]
        own = Path("/proc/self/ns/net").readlink() != Path(f"/proc/{pid}/ns/net").readlink()
        return own and "127.0.0.1" in subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def begin(self, number: int) -> Program:
        """Type a block into a terminal of its own, and leave it at that."""
        text = self._blocks[number].replace("/tmp/watch", str(self._directory))
        text = text.replace(". .venv/bin/activate\n", "")
        script = self._directory / f"{number}.sh"
        script.write_text(text)
        program = Program(
            [*self._inside, "bash", "-e", str(script)],
            self._directory / f"{number}.log",
            directory=ROOT,
            environment={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
        self._programs.append(program)
        return program

    def type(self, number: int, seconds: float) -> str:
        """Type a block, and wait until it has ended; answers what it wrote."""
        program = self.begin(number)
        assert program.wait(seconds) == 0, program.tail()
        return program.output()

    def ask(self, query: str) -> str:
        """What Prometheus answers."""
        command = [*self._inside, "promtool", "query", "instant", "http://127.0.0.1:9090", query]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()

    def find_firing(self) -> set[str]:
        """The alerts that fire, and whose."""
        lines = self.ask('ALERTS{alertstate="firing"}').splitlines()
        found = [(re.search(r'alertname="(\w+)"', line), re.search(r'instance="([^"]+)"', line)) for line in lines]
        return {f"{name[1]} {of[1] if of else ''}".strip() for name, of in found if name}

    def leave(self) -> None:
        """Ctrl-C in all terminals, the farm's last."""
        network, *terminals = self._programs
        for program in reversed(terminals):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGINT)
            with contextlib.suppress(ProgramFailed):
                program.wait(30)
            program.kill()
        network.kill()


def wait_for_text(program: Program, text: str, seconds: float) -> None:
    """Until a program that runs has written that; fails with what it wrote instead."""
    with contextlib.suppress(ProgramFailed):
        wait_until(lambda: text in program.output() or not program.running(), seconds, text)
    assert text in program.output(), program.tail()
    assert program.running(), program.tail()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    need("prometheus", "promtool", "baresip", "unshare", "nsenter", "ip", "bash")
    somebody = Newcomer(tmp_path)
    try:
        yield somebody
    finally:
        somebody.leave()


def test_a_newcomer_sees_a_call_and_an_alert_that_clears(newcomer: Newcomer) -> None:
    blocks = read_blocks()
    assert len(blocks) == 8
    assert "grafana server" in blocks[GRAFANA], "Grafana is no package of Debian's; test_dashboards asks its queries"

    farm = newcomer.begin(FARM)
    wait_for_text(farm, "Ctrl-C ends it.", 60)
    newcomer.begin(PROMETHEUS)
    phone = newcomer.begin(PHONE)
    wait_for_text(phone, "200 OK", 90)  # at once; one that is refused tries again after 30 to 60 s
    wait_until(lambda: newcomer.ask("vector(1)"), 30, "Prometheus answers")

    said = newcomer.type(CALL, 90)
    assert "Call established" in said
    assert '{result="answered"} => 1' in said
    assert newcomer.ask("sum(sipfarm_registrations) > 0")
    assert newcomer.find_firing() == set()

    said = newcomer.type(KILL, 150)
    assert "SipfarmNodeDown" in said
    assert "members: 2 alive, 1 dead" in said
    assert "node n3 ended with exit code -9; start it again with" in farm.output()
    assert newcomer.find_firing() == {"SipfarmNodeDown 127.0.0.13:9464"}

    newcomer.begin(AGAIN)
    said = newcomer.type(CLEARED, 90)
    assert len(re.findall(r"^n[123] .* alive ", said, re.MULTILINE)) == 3
    assert newcomer.find_firing() == set()
    assert newcomer.ask('max_over_time(ALERTS{alertname!="SipfarmNodeDown",alertstate="firing"}[10m])') == ""
