"""`python -m bench.overlay_scale`: routing in a farm of 1000 and of 10,000 nodes, beside what is asked of it.

Simulated (`tests.support.overlay_scale` says what is real in it and what is drawn), with a farm in which nobody goes
and with sessions of a median of an hour and of six minutes, all ended by a crash. One segment in a hundred is lost. The
figures follow from the seed. Newcomers are found by lookups alone, so that routing is measured without the help of
gossip.

What a node sends to keep the farm together is given for the size of which the target speaks, 1000, and there gossip
tells of newcomers, so that tables are full. Lookups for refreshing and joining and new links are counted in the
simulation; pings and gossip (SWIM) and the comparing of digests come to what their messages take, as often as they are
sent. TLS records are counted, the headers of TCP and IP are not.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

from farm.overlay.gossip import make_hearsay, most_sent
from farm.overlay.ids import PARTITIONS
from farm.overlay.wire import ALIVE, DEAD, JOINING, SUSPECT, Codec, Contact, Digest, Digested, Ping, Pong
from tests.support.overlay_scale import GROWN_BY_JOINING, Figures, ScaleNetwork, frame_bytes

SESSIONS: Final = (("quiet", None), ("1 h", 3600.0), ("6 min", 360.0))
SUCCESS: Final = {"quiet": 0.9999, "1 h": 0.999, "6 min": 0.99}
RECALL: Final = 0.99
MOST_HOPS: Final = 3
UPKEEP_BYTES: Final = 900
UPKEEP_NODES: Final = 1000
UPKEEP_SESSION: Final = "1 h"
COMPARE_SECONDS: Final = 60.0
REPLICAS: Final = 3


@dataclass(frozen=True)
class Row:
    """One line of the report; `met` is None where nothing is asked."""

    what: str
    value: str
    target: str = ""
    met: bool | None = None


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.overlay_scale", description="routing in large farms")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 10_000], metavar="N", help="sizes of the farm")
    parser.add_argument("--seed", type=int, default=1, help="what everything is drawn from")
    parser.add_argument("--lookups", type=int, default=0, help="a farm (default: 10,000, in large ones 2000)")
    parser.add_argument("--seconds", type=float, default=0.0, help="simulated, a farm (default: 300, in large ones 30)")
    parser.add_argument("--loss", type=float, default=0.01, help="share of segments that are lost (default 0.01)")
    return parser.parse_args(arguments)


def measure(size: int, session: float | None, options: argparse.Namespace, *, gossip: bool = False) -> Figures:
    """Run one farm, after a while of the same churn."""
    grown = size <= GROWN_BY_JOINING
    lookups = options.lookups or (10_000 if grown else 2000)
    seconds = options.seconds or (300.0 if grown else 30.0)
    network = ScaleNetwork(
        size, options.seed, median_session=session, loss=options.loss, replicas=REPLICAS, gossip=gossip
    )
    if grown:
        network.run(seconds, 0)
    return network.run(seconds, lookups)


def routing_rows(name: str, figures: Figures) -> Iterator[Row]:
    """How lookups fared."""
    wanted = SUCCESS[name]
    yield Row("lookup success", f"{figures.success:.3%}", f"≥ {wanted:.2%}", figures.success >= wanted)
    yield Row("replica recall", f"{figures.recall:.3%}", f"≥ {RECALL:.0%}", figures.recall >= RECALL)
    deep = figures.hops_quantile(0.999)
    yield Row("depth, 99.9 % of lookups", str(deep), f"≤ {MOST_HOPS}", deep <= MOST_HOPS)
    yield Row("depth, the deepest", str(max(figures.hops)))
    yield Row("questions a lookup", f"{figures.rpcs / figures.lookups:.1f}")
    seconds = sorted(figures.seconds)
    yield Row("p50 / p99", " / ".join(f"{seconds[int(len(seconds) * share)] * 1e3:.0f} ms" for share in (0.5, 0.99)))
    yield Row("contacts a table", f"{figures.table_contacts:.0f}")
    yield Row("died and joined meanwhile", f"{figures.deaths} / {figures.joins}")


def upkeep_rows(figures: Figures, nodes: int, session: float) -> Iterator[Row]:
    """What a node sends, in bytes a second."""
    parts = {
        "pings and their answers": ping_bytes(),
        "gossip": gossip_bytes(nodes, session),
        "refreshing": figures.bytes_per_second("refresh"),
        "joining": figures.bytes_per_second("join"),
        "new links": figures.bytes_per_second("links"),
        "comparing digests": digest_bytes(nodes),
    }
    for what, value in parts.items():
        yield Row(f"  {what}", f"{value:.0f} B/s")
    total = sum(parts.values())
    yield Row("upkeep a node", f"{total:.0f} B/s", f"≤ {UPKEEP_BYTES} B/s", total <= UPKEEP_BYTES)
    yield Row("refresh every", f"{figures.refresh_interval:.0f} s")
    yield Row("contacts a table", f"{figures.table_contacts:.0f}")


def ping_bytes() -> float:
    """One Ping sent and one Pong answered a second."""
    codec = Codec()
    return frame_bytes(codec, Ping(40_000)) + frame_bytes(codec, Pong(40_000))


def gossip_bytes(nodes: int, median_session: float) -> float:
    """Each session is four pieces of news (joining, alive, suspect, dead), each passed on by everybody."""
    codec = Codec()
    empty = len(codec.pack(Ping(40_000)))
    size = 0
    for state in (JOINING, ALIVE, SUSPECT, DEAD):
        contact = Contact(b"\xab" * 32, "10.123.123.123", 7000, 1_800_000_000_000, state)
        size += len(codec.pack(Ping(40_000, [make_hearsay(contact)]))) - empty
    return size * nodes / (median_session / log(2)) * most_sent(nodes)


def digest_bytes(nodes: int) -> float:
    """Every pair of a partition's owners compares it each minute, as if no two partitions had the same pair."""
    pairs = PARTITIONS * REPLICAS * (REPLICAS - 1) / 2 / nodes
    codec = Codec()
    asked = frame_bytes(codec, Digest(40_000, [(4000, bytes(16))]))
    return pairs * (asked + frame_bytes(codec, Digested(40_000, settled=[4000]))) / COMPARE_SECONDS


def main(arguments: Sequence[str]) -> int:
    """Print all tables; 1 when a target is missed."""
    options = parse_options(arguments)
    missed = 0
    for nodes in options.nodes:
        for name, session in SESSIONS:
            figures = measure(nodes, session, options)
            rows = list(routing_rows(name, figures))
            if nodes == UPKEEP_NODES and name == UPKEEP_SESSION and session is not None:
                rows += upkeep_rows(measure(nodes, session, options, gossip=True), nodes, session)
            print(f"\n{nodes} nodes, sessions {name}, {figures.lookups} lookups, seed {options.seed}")
            for row in rows:
                verdict = {None: "", True: "met", False: "MISSED"}[row.met]
                print(f"  {row.what:<26} {row.value:>16}  {row.target:<12} {verdict}".rstrip(), flush=True)
            missed += sum(row.met is False for row in rows)
    return 1 if missed else 0


if __name__ == "__main__":
    gc.disable()  # millions of entries and no cycles: looking for some would take half of the time
    sys.exit(main(sys.argv[1:]))
