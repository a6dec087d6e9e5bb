"""The farm's part of `make bench`: replicated registrations beside Kamailio's, then what only a farm has.

`replicated` is a comparison, in rounds as those of `run.py`; `latency`, `relayed`, `recovery` and `scrape` are figures
of sipfarm alone, with what is asked of them. All addresses are reserved for the run, so that nothing else on the
machine is in the way.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.farms import FarmServer, KamailioFarm, SipfarmFarm
from bench.latency import measure_latency
from bench.loads import Measured
from bench.recovery import CRASH_NODES, measure_crash_and_pause, measure_join
from bench.relayed import HOSTS, measure_relayed
from bench.replicated import CASES, Case, measure
from bench.results import Result
from bench.scrape import HOSTS as SCRAPE_HOSTS
from bench.scrape import measure_scrape
from bench.servers import Kamailio, Server, Sipfarm
from tests.support.loopback import reserve_addresses
from tests.support.processes import ProgramFailed

PARTS: Final = ("replicated", "latency", "relayed", "recovery", "scrape")
LATENCY_NODES: Final = 9


def farm_of(server: Server) -> FarmServer:
    """The farm whose nodes are like a single server."""
    if isinstance(server, Kamailio):
        return KamailioFarm(server.children, server.bare)
    assert isinstance(server, Sipfarm)
    return SipfarmFarm(server.store, server.name, server.commands)


def choose_cases(options: argparse.Namespace) -> list[Case]:
    """Those of the command line; with `--quick` one small farm."""
    if options.cases:
        return [case for case in CASES if case.name in options.cases]
    return [case for case in CASES if case.name == "3"] if options.quick else list(CASES)


def measure_once(case: Case, server: FarmServer, rate: int, seconds: float) -> Measured:
    """One run of one case on a fresh farm."""
    with reserve_addresses(2 * case.nodes) as hosts, _directory() as name:
        farm = server.start(hosts[: case.nodes], Path(name))
        try:
            return measure(case, farm, hosts[case.nodes :], rate, seconds, Path(name))
        finally:
            farm.stop()


def measure_figures(parts: Sequence[str], options: argparse.Namespace) -> list[Result]:
    """Latency, relays, recovery and scrapes, of the node that is not compiled; a part that fails says why instead."""
    quick, store = options.quick, options.store
    results: list[Result] = []
    if "latency" in parts:
        nodes = 5 if quick else LATENCY_NODES

        def latency(hosts: Sequence[str], directory: Path) -> list[Result]:
            rate, seconds = (60, 3.0) if quick else (options.calls, 20.0)
            return measure_latency(hosts, directory, nodes=nodes, rate=rate, seconds=seconds, store=store)

        results += _measure("latency", 2 * nodes + 1, latency)
    if "relayed" in parts:

        def relayed(hosts: Sequence[str], directory: Path) -> list[Result]:
            rate, seconds = (60, 3.0) if quick else (options.calls, 10.0)
            return measure_relayed(hosts, directory, rate=rate, seconds=seconds, store=store)

        results += _measure("relayed", HOSTS, relayed)
    if "recovery" in parts:

        def join(hosts: Sequence[str], directory: Path) -> list[Result]:
            bindings, rate = (10_000, 1_000) if quick else (100_000, 1_500)
            return measure_join(hosts, directory, bindings=bindings, rate=rate, store=store)

        def crash(hosts: Sequence[str], directory: Path) -> list[Result]:
            held, hold_down = (1_200, 5.0) if quick else (10_000, 30.0)
            return measure_crash_and_pause(hosts, directory, held=held, rate=800, hold_down=hold_down, store=store)

        results += _measure("join", 6, join)
        results += _measure("crash", 2 * CRASH_NODES, crash)
    if "scrape" in parts:

        def scrape(hosts: Sequence[str], directory: Path) -> list[Result]:
            seconds, rounds = (3.0, 1) if quick else (15.0, 3)
            return measure_scrape(hosts, directory, seconds=seconds, rounds=rounds, store=store)

        results += _measure("scrape", SCRAPE_HOSTS, scrape)
    return results


def _measure(key: str, addresses: int, measured: Callable[[Sequence[str], Path], list[Result]]) -> list[Result]:
    with reserve_addresses(addresses) as hosts, _directory() as name:
        try:
            results = measured(hosts, Path(name))
        except (ProgramFailed, AssertionError) as failure:
            print(f"  {key}: could not be measured\n{failure}", flush=True)
            return [Result(key, f"{key} could not be measured", None, "", 0.0, note=str(failure).split("\n", 1)[0])]
    for result in results:
        print(f"  {result.title}: {result.value} {result.unit} {result.note}", flush=True)
    return results


def _directory() -> Any:
    return tempfile.TemporaryDirectory(prefix="sipfarm-bench-")
