"""What a farm adds to a call whose callee registered through another node: the time to read the location from its
owners, and from the INVITE in to the INVITE out, as the nodes' own histograms have them.

Every node has a SIPp that calls users who registered anywhere; of nine nodes with three replicas, six do not hold a
user's record. "Half load" is for who reads the figure to check: the share of all cores that was busy is measured too.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, Final

from bench.farms import start_farm
from bench.histograms import between, count_of, quantile, read_buckets
from bench.replicated import Phones
from bench.results import Result
from tests.support.processes import ProgramFailed
from tests.support.sipp import Sipp, describe

_USERS: Final = 2_000
_HISTOGRAMS: Final[Mapping[str, tuple[str, dict[str, str]]]] = {
    "fetch": ("fetch_seconds", {"kind": "registration"}),
    "setup": ("sip_setup_added_seconds", {}),
    "lookup": ("lookup_seconds", {}),
    "hops": ("lookup_hops", {}),
}
_TITLES: Final = {"fetch": "location read from its owners", "setup": "added call set-up time"}
_TARGETS: Final = {("fetch", 50): 2.0, ("setup", 50): 5.0, ("setup", 99): 20.0}


def measure_latency(
    hosts: Sequence[str], directory: Path, *, nodes: int, rate: int, seconds: float, store: str
) -> list[Result]:
    """Start so many nodes, register users at all, and call them through all, so many calls a second in all.

    `hosts` are those of the nodes, then of as many callers, then the phones'.
    """
    farm = start_farm(hosts[:nodes], directory, store=store)
    try:
        return _measure(farm.live, farm, hosts, directory, rate, seconds)
    finally:
        farm.stop()


def _measure(live: Any, farm: Any, hosts: Sequence[str], directory: Path, rate: int, seconds: float) -> list[Result]:
    nodes = len(farm.hosts)
    phone_host, caller_hosts = hosts[2 * nodes], hosts[nodes : 2 * nodes]
    phones = Phones(farm, caller_hosts, _USERS, directory, contact_host=phone_host)
    phones.register(400, _USERS)
    phones.wait_copied()
    lines = (directory / "users.csv").read_text().splitlines()
    rng = random.Random(1)
    callee = Sipp("callee.xml", (farm.hosts[0], 5060), (phone_host, 5060), directory)
    callers: list[Sipp] = []

    def call(count: int, at: int) -> None:
        callers.clear()
        for index, host in enumerate(farm.hosts):
            file = directory / f"callees-{index}.csv"
            file.write_text("\n".join([lines[0], *rng.sample(lines[1:], len(lines) - 1)]) + "\n")
            callers.append(
                Sipp(
                    "caller.xml",
                    (host, 5060),
                    (caller_hosts[index], 5060),
                    directory,
                    calls=max(count // nodes, 1),
                    rate=max(at // nodes, 1),
                    users=file,
                )
            )
        phones.wait(callers, 60 + 2 * seconds)

    def look() -> dict[str, dict[float, float]]:
        pages = [node.get("/metrics")[1] for node in live]
        return {key: read_buckets(pages, name, labels) for key, (name, labels) in _HISTOGRAMS.items()}

    try:
        call(rate * 2, rate)
        before, busy, began = look(), _busy_seconds(), time.monotonic()
        call(int(rate * seconds), rate)
        share = (_busy_seconds() - busy) / (time.monotonic() - began) / (os.cpu_count() or 1)
        after = look()
        callee.finish()
    finally:
        callee.kill()
    failed = sum(sipp.statistics().failed for sipp in (*callers, callee))
    repeated = sum(sipp.statistics().retransmissions for sipp in (*callers, callee))
    if failed:
        raise ProgramFailed(describe([*callers, callee]))
    note = f"{nodes} nodes, {rate} calls/s, {share:.0%} of the cores busy, {repeated} retransmissions"
    results: list[Result] = []
    seen = {key: between(before[key], after[key]) for key in _HISTOGRAMS}
    for key, title in _TITLES.items():
        for percent in (50, 95, 99):
            value = quantile(seen[key], percent / 100)
            results.append(
                Result(
                    f"{key}_p{percent}",
                    f"{title}, p{percent}",
                    None if value is None else value * 1000,
                    "ms",
                    _TARGETS.get((key, percent)),
                    note=f"{note}; {count_of(seen[key])} of them" if percent == 50 else "",
                )
            )
    looked_up = count_of(seen["hops"])
    hops, lookup = quantile(seen["hops"], 0.99), quantile(seen["lookup"], 0.5)
    note = f"{looked_up} lookups, all of upkeep: owners are known"
    results.append(Result("hops_p99", "hops of a lookup, p99", float(ceil(hops or 0.0)), "", 3.0, note=note))
    if lookup is not None:
        results.append(Result("lookup_p50", "a lookup, p50", lookup * 1000, "ms"))
    return results


def _busy_seconds() -> float:
    """Time that all cores together were not idle, since boot."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
