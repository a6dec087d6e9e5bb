"""`make bench`: start each server in turn, load it, and print what an operation costs it, side by side; then the same
with farms of them, and what only a farm has (`farm.py`).

For each load the servers take turns, A B A B, each time a fresh process. A run in which SIPp saw failures does not
count: the load starts again for all at half the rate. The figure of a server is the mean of its rounds; a ratio is
sipfarm's over Kamailio's of the same command, for the compiled build as well where there is one. Absolute times hold
for one machine and one run only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.farm import PARTS, choose_cases, farm_of, measure_figures, measure_once
from bench.loads import LOADS, Hosts, Load, Measured, measure
from bench.replicated import CASES, Case
from bench.results import print_results
from bench.servers import Kamailio, Server, Sipfarm, find_fault, require_free

RESULTS = Path(__file__).resolve().parent / "results.json"
COMPILED = Path(__file__).resolve().parent.parent / ".venv-compiled"
NAMES = ("kamailio", "sipfarm", "sipfarm-compiled")
_ATTEMPTS = 3


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    names = [*[load.name for load in LOADS], *PARTS, "farm"]
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="CPU an operation, sipfarm and Kamailio")
    parser.add_argument(
        "loads", nargs="*", metavar="LOAD", help=f"of {', '.join(names)} (the three before); default: all"
    )
    parser.add_argument("--seconds", type=float, default=9.0, help="measured time of a run (default 9)")
    parser.add_argument("--rounds", type=int, default=2, help="times that each server takes its turn (default 2)")
    parser.add_argument("--rate", type=int, default=0, help="operations a second instead of each load's own")
    parser.add_argument("--quick", action="store_true", help="a farm's loads small and once, to see that all works")
    parser.add_argument(
        "--cases", nargs="+", choices=[case.name for case in CASES], help="of the replicated loads; default: all"
    )
    parser.add_argument("--calls", type=int, default=200, help="calls a second in `latency` (default 200)")
    parser.add_argument("--only", choices=NAMES, help="measure one server, without a ratio")
    parser.add_argument(
        "--compiled", type=Path, default=COMPILED, help=f"environment of the compiled build (default {COMPILED})"
    )
    parser.add_argument("--store", choices=["sqlite", "memory"], default="sqlite", help="sipfarm's journal")
    parser.add_argument("--children", type=int, default=1, help="Kamailio's UDP workers (default 1)")
    parser.add_argument("--bare", action="store_true", help="Kamailio without Max-Forwards and sanity checks")
    parser.add_argument(
        "--hosts",
        nargs=3,
        metavar=("SERVER", "CALLER", "CALLEE"),
        default=["127.0.0.2", "127.0.0.3", "127.0.0.4"],
        help="loopback addresses of the three parties, which use port 5060 (default 127.0.0.2, .3, .4)",
    )
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"file of all figures (default {RESULTS})")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.loads) - set(names))
    if unknown:
        parser.error(f"no load {unknown[0]!r}; there are {', '.join(names)}")
    if "farm" in options.loads:
        options.loads += PARTS
    if options.quick:
        options.seconds, options.rounds = min(options.seconds, 3.0), 1
    return options


def run_rounds(
    name: str, rate: int, servers: Sequence[str], run: Callable[[str, int], Measured], rounds: int
) -> tuple[int, dict[str, list[Measured]]]:
    """Measure all rounds of one load at a rate that every server carries; the rate, and the figures by server."""
    for attempt in range(_ATTEMPTS):
        figures: dict[str, list[Measured]] = {server: [] for server in servers}
        complete, hopeless = True, False
        for number in range(rounds):
            for server in servers:
                figure = run(server, rate)
                figures[server].append(figure)
                print(
                    f"  {name:8} {server:16} round {number + 1}: {figure.microseconds:7.1f} µs, "
                    f"{figure.operations} operations at {rate}/s, {figure.failed} failed, "
                    f"{figure.retransmissions} retransmissions, {figure.resident_bytes / 1e6:.0f} MB",
                    flush=True,
                )
                if not figure.counts:
                    print(f"  does not count\n{figure.complaint}", flush=True)
                    complete = False
                    # Half of all operations failing is no question of the rate.
                    hopeless = figure.failed * 2 > figure.operations
                    break
            if not complete:
                break
        if complete or hopeless or attempt == _ATTEMPTS - 1:
            break
        rate //= 2
    return rate, figures


def _run_once(load: Load, server: Server, hosts: Hosts, rate: int, seconds: float) -> Measured:
    for host in hosts:
        require_free(host)
    with tempfile.TemporaryDirectory(prefix="sipfarm-bench-") as name:
        program = server.start(hosts.server, load.digest, Path(name))
        try:
            return measure(load, program, hosts, rate, seconds, Path(name))
        finally:
            program.stop()


def summarize(name: str, title: str, rate: int, figures: dict[str, list[Measured]]) -> dict[str, Any]:
    """One row of the table: the means of the rounds that count, None for a server that has none, and the ratio."""
    means = {
        name: fmean(one.microseconds for one in rounds) if rounds and all(one.counts for one in rounds) else None
        for name, rounds in figures.items()
    }
    theirs = means.get("kamailio")
    return {
        "load": name,
        "title": title,
        "rate": rate,
        "microseconds": means,
        "ratios": {
            name: ours / theirs if ours and theirs else None for name, ours in means.items() if name != "kamailio"
        },
        "rounds": {name: [one._asdict() for one in rounds] for name, rounds in figures.items()},
    }


def print_table(rows: Sequence[dict[str, Any]], servers: Sequence[Server]) -> None:
    """The table as Markdown, ready for the README."""

    def cell(value: float | None, form: str) -> str:
        return format(value, form) if value is not None else "–"

    names = [server.name for server in servers]
    heads = [f"{name} µs" for name in names] + [f"{name} ratio" for name in names if name != "kamailio"]
    print("\n| load | at | " + " | ".join(heads) + " |")
    print("|---|---|" + "---|" * len(heads))
    for row in rows:
        cells = [cell(row["microseconds"][name], ".1f") for name in names]
        cells += [cell(ratio, ".2f") for ratio in row["ratios"].values()]
        print(f"| {row['title']} | {row['rate']}/s | " + " | ".join(cells) + " |")


def choose_servers(options: argparse.Namespace) -> list[Server]:
    """Kamailio, the node, and the compiled node; the last is left out, with a line that says why, where it cannot be
    measured."""
    everyone: list[Server] = [Kamailio(options.children, options.bare), Sipfarm(options.store)]
    if options.only in (None, NAMES[2]):
        fault = find_fault(options.compiled)
        if not fault:
            everyone.append(Sipfarm(options.store, NAMES[2], options.compiled / "bin"))
        elif options.only is None:
            print(f"without {NAMES[2]}: {fault}; `make compiled` makes it", flush=True)
        else:
            raise SystemExit(f"{fault}; `make compiled` makes it")
    return [server for server in everyone if options.only in (None, server.name)]


def measure_single(servers: Sequence[Server], options: argparse.Namespace) -> list[dict[str, Any]]:
    """The loads of one server."""
    hosts = Hosts(*options.hosts)
    by_name = {server.name: server for server in servers}
    rows = []
    for load in LOADS:
        if not options.loads or load.name in options.loads:

            def run(name: str, rate: int, load: Load = load) -> Measured:
                return _run_once(load, by_name[name], hosts, rate, options.seconds)

            measured = run_rounds(load.name, options.rate or load.rate, list(by_name), run, options.rounds)
            rows.append(summarize(load.name, load.title, *measured))
    return rows


def measure_replicated(servers: Sequence[Server], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Registrations at farms of these servers."""
    by_name = {server.name: farm_of(server) for server in servers}
    rows = []
    for case in choose_cases(options):

        def run(name: str, rate: int, case: Case = case) -> Measured:
            return measure_once(case, by_name[name], rate, options.seconds)

        measured = run_rounds(case.name, options.rate or case.rate, list(by_name), run, options.rounds)
        rows.append(summarize(case.name, case.title, *measured))
    return rows


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 0 when every figure counts, 1 when some do not. Targets that are missed are only marked."""
    options = parse_options(arguments)
    servers = choose_servers(options)
    parts = [part for part in PARTS if not options.loads or part in options.loads]
    farms = [farm_of(server) for server in servers] if "replicated" in parts else []
    versions = {server.name: server.version() for server in servers}
    versions |= {farm.name: farm.version() for farm in farms}
    print("\n".join(versions.values()), flush=True)
    started = time.monotonic()
    rows = measure_single(servers, options)
    shared = measure_replicated(servers, options) if farms else []
    figures = measure_figures(parts, options) if options.only in (None, "sipfarm") else []
    for table in (rows, shared):
        if table:
            print_table(table, servers)
    if figures:
        print_results(figures)
    report = read_report(options.json)
    report |= {"versions": versions, "machine": f"{platform.platform()}, {os.cpu_count()} cores"}
    report |= {"seconds": options.seconds}
    for name, part in (("loads", rows), ("replicated", shared), ("figures", [one._asdict() for one in figures])):
        if part:
            report[name] = part
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{time.monotonic() - started:.0f} s; all figures in {options.json}")
    complete = all(figure is not None for row in (*rows, *shared) for figure in row["microseconds"].values())
    return 0 if complete and all(figure.value is not None for figure in figures) else 1


def read_report(path: Path) -> dict[str, Any]:
    """What the file has from before: parts that are not measured this time stay."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
