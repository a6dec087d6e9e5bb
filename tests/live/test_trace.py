"""`sipfarm trace` on a farm of real nodes: a call from one node to a phone at another, watched from a third."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.faces import FARM_NAME
from tests.support.live_farm import LiveFarm
from tests.support.live_phones import LivePhone, exchange, make_listeners, set_up
from tests.support.nodes import installed
from tests.support.processes import Program, wait_until
from tests.support.tools import need

Hosts = Callable[[int], list[str]]

SECONDS = 60


@pytest.fixture
def farm(make_farm: Callable[..., LiveFarm]) -> LiveFarm:
    """Three nodes."""
    farm = make_farm(3, sip={"farm_name": FARM_NAME}, make_listeners=lambda host: make_listeners(host)[:2])
    farm.start()
    return farm


@pytest.fixture
def phones(farm: LiveFarm, hosts: Hosts) -> Iterator[tuple[LivePhone, LivePhone]]:
    """Alice, who speaks UDP to the second node, and Bob, who has a connection to the first."""
    alice_host, bob_host = hosts(2)
    with ExitStack() as stack:
        alice = stack.enter_context(LivePhone(farm.hosts[1], alice_host, "alice", "udp"))
        bob = stack.enter_context(LivePhone(farm.hosts[0], bob_host, "bob", "tcp"))
        bob.enter()
        yield alice, bob


def call(alice: LivePhone, bob: LivePhone) -> None:
    """A call that is answered and ended."""
    ours, theirs = set_up(alice, bob)
    exchange(ours, theirs, "BYE")


def test_the_whole_ladder_of_a_call_is_shown_by_a_node_that_has_no_part_in_it(
    farm: LiveFarm, phones: tuple[LivePhone, LivePhone], tmp_path: Path
) -> None:
    need("sngrep")
    alice, bob = phones
    pcap, copy = tmp_path / "call.pcap", tmp_path / "copy.pcap"
    command = [
        installed("sipfarm"),
        "trace",
        "--aor",
        bob.aor,
        "--seconds",
        str(SECONDS),
        "--json",
        "--pcap",
        str(pcap),
    ]
    trace = Program([*command, "-c", str(farm[2].config)], tmp_path / "trace.log")
    try:
        wait_until(lambda: "3 nodes watch" in trace.output(), 10, "all nodes watch")
        call(alice, bob)
        wait_until(lambda: trace.output().count('"node"') >= 12, 10, "all is shown")
        time.sleep(1.0)
        trace.signal(2)
        assert trace.wait(10) == 0
    finally:
        trace.stop()
    steps = [json.loads(line) for line in trace.output().splitlines() if line.startswith("{")]
    first, second = (f"n{host.rpartition('.')[2]}" for host in farm.hosts[:2])
    assert [(step["node"], step["direction"], step["first_line"].split()[0 if step["first_line"][0] != "S" else 1])
            for step in steps] == [
        (second, "in", "INVITE"), (first, "out", "INVITE"),
        (first, "in", "180"), (second, "out", "180"),
        (first, "in", "200"), (second, "out", "200"),
        (second, "in", "ACK"), (first, "out", "ACK"),
        (second, "in", "BYE"), (first, "out", "BYE"),
        (first, "in", "200"), (second, "out", "200"),
    ]  # fmt: skip
    assert {step["call_id"] for step in steps} == {steps[0]["call_id"]}
    assert {(step["source"], step["destination"]) for step in steps if step["node"] == second} == {
        (ends := (f"{alice.host}:{alice.port}", f"{farm.hosts[1]}:5060")),
        ends[::-1],
    }
    subprocess.run(["sngrep", "-F", "-N", "-q", "-I", str(pcap), "-O", str(copy)], timeout=20, check=True)
    assert copy.read_bytes().lower().count(f"call-id: {steps[0]['call_id']}\r\n".encode()) == 12
    wait_until(lambda: sum(program.metric("traces") for program in farm) == 0, 10, "nobody watches any more")


def test_on_a_terminal_it_is_a_ladder_of_its_width(farm: LiveFarm, phones: tuple[LivePhone, LivePhone]) -> None:
    alice, bob = phones
    ours, theirs = pty.openpty()
    try:
        command = [installed("sipfarm"), "trace", "--aor", bob.aor, "--seconds", "4", "-c", str(farm[2].config)]
        with subprocess.Popen(
            command, stdout=theirs, stderr=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
        ) as process:
            time.sleep(2.0)
            call(alice, bob)
            text = read_all(ours, process)
        assert process.returncode == 0
    finally:
        os.close(ours)
        os.close(theirs)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    arrows = [line for line in lines if ">" in line or "<" in line]
    assert len(arrows) == 12
    assert "-INVITE-" in arrows[0]
    assert "180 Scripted" in arrows[2]


def read_all(end: int, process: subprocess.Popen[bytes]) -> str:
    """What a program writes to its terminal until it ends."""
    data = b""
    while True:
        readable, _, _ = select.select([end], [], [], 0.2)
        if readable:
            data += os.read(end, 65_536)
        elif process.poll() is not None:
            return data.decode()


def test_nobody_but_the_owner_may_trace(farm: LiveFarm) -> None:
    """The order comes by the control socket, which others cannot open."""
    assert (Path(farm[0].config.parent) / "state" / "control.sock").stat().st_mode & 0o777 == 0o600
