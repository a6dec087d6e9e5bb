"""The rolling upgrade of a real farm under load: no binding is lost, and no request fails for a caller that repeats."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.live_farm import LiveFarm
from tests.support.processes import Program
from tests.support.traffic import Traffic

SCRIPT = Path(__file__).resolve().parent.parent.parent / "deploy" / "rolling-upgrade"
# What `systemctl restart` is to a machine: it asks whoever looks after the node, and comes back when that is done.
RESTART = "mkdir {name} && while [ -e {name} ]; do sleep 0.1; done"


def test_the_script_upgrades_a_farm_under_load_and_nothing_is_lost(
    make_farm: Callable[..., LiveFarm], hosts: Callable[[int], list[str]], tmp_path: Path
) -> None:
    phone_host, caller_host = hosts(2)
    farm = make_farm(overlay={"compare_seconds": 5.0})
    farm.start()
    orders = tmp_path / "orders"
    orders.mkdir()
    command = [sys.executable, str(SCRIPT), "--command", RESTART, "--timeout", "60"]
    command += [f"n{index}={host}:9464" for index, host in enumerate(farm.hosts)]
    traffic = Traffic(
        [node.sip for node in farm], phone_host, caller_host, registers_per_second=50, calls_per_second=10
    )
    traffic.start()
    try:
        dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, timeout=120, check=False)
        assert dry.returncode == 0, dry.stdout + dry.stderr
        assert dry.stdout.count("would be restarted") == 3
        script = Program(command, tmp_path / "script.log", directory=orders)
        try:
            restarted = restart_by_order(farm, script, orders)
            code = script.wait(1)
        finally:
            script.kill()
    finally:
        traffic.stop()
    print(script.output(), traffic)
    assert code == 0, script.output()
    assert restarted == ["n0", "n1", "n2"]
    assert script.output().endswith("done: 3 members alive, no copy missing\n")
    assert not traffic.failures
    assert traffic.counts["calls"] > 50
    expected = len(traffic.registered)
    assert expected > 300
    farm.wait_registrations(expected, 20)


def restart_by_order(farm: LiveFarm, script: Program, orders: Path) -> list[str]:
    """Restart each node whose name appears among the orders, until the script has ended; which ones, in order."""
    restarted: list[str] = []
    until = time.monotonic() + 200
    while script.running() and time.monotonic() < until:
        for order in orders.iterdir():
            index = int(order.name[1:])
            farm.stop(index)
            farm.start_again(index, wait=False)
            restarted.append(order.name)
            order.rmdir()
        time.sleep(0.1)
    return restarted


def test_the_script_stops_at_a_node_that_does_not_come_back_and_goes_on_from_there(
    make_farm: Callable[..., LiveFarm],
) -> None:
    farm = make_farm(overlay={"compare_seconds": 5.0})
    farm.start()
    names = [f"n{index}={host}:9464" for index, host in enumerate(farm.hosts)]
    command = [sys.executable, str(SCRIPT), "--command", f"kill {farm[1].pid}; echo {{host}}", "--timeout", "8"]
    done = subprocess.run([*command, "--from", "n1", *names], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert farm.hosts[1] in done.stdout
    assert "rolling-upgrade: after n1: not whole within 8 s: " in done.stderr
    assert done.stderr.endswith("mend it, then go on with --from n1\n")
    assert farm[0].running()
    assert farm[2].running()
    farm[1].wait(30)
