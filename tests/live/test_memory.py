"""A hundred thousand registrations fit into 150 MB, at a rate that no hundred thousand phones have."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.floods import register_many
from tests.support.nodes import Nodes

BINDINGS = 100_000
MEGABYTES = 150


def test_100_000_bindings_take_at_most_150_mb_over_the_empty_process(
    nodes: Nodes, hosts: Callable[[int], list[str]]
) -> None:
    node = nodes.start(log={"level": "warn"})
    (host,) = hosts(1)
    # One registration first: what is imported or opened at the first use is not a binding's.
    assert register_many(node.sip, host, ["first"]) == 1
    empty = node.rss_bytes()
    users = (f"u{number:06d}" for number in range(BINDINGS))
    assert register_many(node.sip, host, users) == BINDINGS
    assert node.metric("registrations") == BINDINGS + 1
    grown = node.rss_bytes() - empty
    print(f"{grown / 1e6:.1f} MB for {BINDINGS} bindings over {empty / 1e6:.1f} MB: {grown / BINDINGS:.0f} bytes each")
    assert grown <= MEGABYTES * 1_000_000
