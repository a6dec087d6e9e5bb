"""What Prometheus costs a node: how long one scrape keeps the event loop, and what a scrape each second takes.

- The text of `SERIES` series, none of whose values is 0, is made in this process, again and again. No node has more,
  and it is nearly all that a scrape keeps the reactor for.
- One of three nodes has its processor time read with nobody scraping, and with a scrape each second, in turns. The
  difference holds all that a scrape is: the connection, what the node is asked for, and the text. Beside it stands what
  a scrape costs among many in a row, which is more exact, since the kernel tells the time in steps of 10 ms.

Decided: the processor time of the text, too, and not the wall's, so that the figure holds on a machine that is busy.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from bench.farms import start_farm
from bench.results import Result
from farm.metrics import Metrics
from tests.support.floods import register_many
from tests.support.nodes import NodeProgram
from tests.support.processes import ProgramFailed

SERIES: Final = 2_000
NODES: Final = 3
HOSTS: Final = NODES + 1  # those of the nodes, the phones'
_RENDERINGS: Final = 1_000
_USERS: Final = 1_000
_SETTLE_SECONDS: Final = 5.0  # the farm has joined and registered; what follows from that is done
_IN_A_ROW_SECONDS: Final = 0.04  # a node shows 50 pages a second to one address, and these are 25


def measure_scrape(hosts: Sequence[str], directory: Path, *, seconds: float, rounds: int, store: str) -> list[Result]:
    """Both; the node is watched `rounds` times for `seconds` each way."""
    times = time_renderings(make_catalogue(SERIES))
    note = f"p99 {quantiles(times, n=100)[98]:.2f} ms, longest {max(times):.2f} ms of {len(times):,}"
    rendered = Result("scrape_render", f"text of {SERIES:,} series", median(times), "ms", 20.0, note=note)
    farm = start_farm(hosts[:NODES], directory, store=store)
    try:
        register_many(farm.live[0].sip, hosts[NODES], [f"user{number}" for number in range(_USERS)])
        time.sleep(_SETTLE_SECONDS)
        return [rendered, *_watch(farm.live[0], seconds, rounds)]
    finally:
        farm.stop()


def make_catalogue(series: int) -> Metrics:
    """The catalogue with so many series in all: gateways make up for those that it lacks, and all have counted."""
    metrics = Metrics()
    for number in range(series - count_series(metrics.render())):
        metrics.gateway_up.declare(f"gateway-{number}")
    for family in metrics.families:
        for _, child in family:
            for number in range(1, 50):
                child.observe(number / 7) if family.kind == "histogram" else child.inc(number / 7)
    return metrics


def count_series(text: bytes) -> int:
    """Samples of one scrape."""
    return sum(1 for line in text.splitlines() if line and not line.startswith(b"#"))


def time_renderings(metrics: Metrics) -> list[float]:
    """Milliseconds of processor time of each."""
    times = []
    for _ in range(_RENDERINGS):
        started = time.thread_time()
        metrics.render()
        times.append((time.thread_time() - started) * 1e3)
    return times


def _watch(node: NodeProgram, seconds: float, rounds: int) -> list[Result]:
    idle = scraped = packed = 0.0
    scrapes = 0
    for _ in range(rounds):
        idle += _spend(node, seconds, 0.0)[0]
        scraped += _spend(node, seconds, 1.0)[0]
        spent, count = _spend(node, seconds, _IN_A_ROW_SECONDS)
        packed += spent
        scrapes += count
    watched = rounds * seconds
    share = 100 * (scraped - idle) / watched
    each = 1e3 * (packed - idle) / scrapes
    series = count_series(node.get("/metrics")[1].encode())
    note = f"{series:,} series; {100 * idle / watched:.2f} % of a core with nobody scraping, over {watched:g} s"
    return [
        Result("scrape_share", "a scrape each second, of a core", share, "%", 2.0, note=note),
        Result("scrape_each", "processor time of a scrape", each, "ms", note=f"{scrapes:,} scrapes"),
    ]


def _spend(node: NodeProgram, seconds: float, every: float) -> tuple[float, int]:
    """Processor seconds of a node that is scraped that often, 0 for never; and the number of scrapes."""
    before, started, scrapes = node.cpu_seconds(), time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        if every:
            status, _ = node.get("/metrics")
            if status != 200:
                raise ProgramFailed(f"/metrics answered {status} after {scrapes} scrapes")
            scrapes += 1
            passed = time.monotonic() - started
            time.sleep(max(min(scrapes * every, seconds) - passed, 0.0))
        else:
            time.sleep(seconds - passed)
    return node.cpu_seconds() - before, scrapes
