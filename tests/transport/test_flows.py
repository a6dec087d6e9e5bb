"""Flows that lead nowhere, the choice of a listener; replies over streams are in test_stream.py."""

from __future__ import annotations

import pytest

from farm.sip.hop import Hop
from farm.transport.flows import DeadFlow, choose_listener


class Listener:
    """A host, as far as choosing needs."""

    def __init__(self, host: str) -> None:
        self.host = host


@pytest.mark.parametrize(("transport", "reliable"), [("UDP", False), ("TCP", True), ("WSS", True)])
def test_a_dead_flow_refuses_and_looks_like_what_was_wanted(transport: str, reliable: bool) -> None:
    flow = DeadFlow(Hop(transport, "192.0.2.1", 5060), "udp:192.0.2.9:5060")
    assert (flow.send(b"x"), flow.reliable, flow.transport, flow.hop.host, flow.local_name) == (
        False,
        reliable,
        transport,
        "192.0.2.1",
        "udp:192.0.2.9:5060",
    )


@pytest.mark.parametrize(
    ("hosts", "target", "chosen"),
    [
        (["127.0.0.1", "192.0.2.1"], "198.51.100.1", "192.0.2.1"),
        (["127.0.0.1", "192.0.2.1"], "127.0.0.5", "127.0.0.1"),
        (["192.0.2.1", "127.0.0.1"], "127.0.0.5", "127.0.0.1"),
        (["192.0.2.1"], "127.0.0.5", "192.0.2.1"),
        (["127.0.0.1"], "198.51.100.1", "127.0.0.1"),
        (["0.0.0.0", "::"], "2001:db8::1", "::"),
        (["0.0.0.0"], "2001:db8::1", None),
        ([], "198.51.100.1", None),
    ],
)
def test_the_listener_is_of_the_family_and_not_on_loopback_for_the_world(
    hosts: list[str], target: str, chosen: str | None
) -> None:
    listener = choose_listener([Listener(host) for host in hosts], target)
    assert (None if listener is None else listener.host) == chosen
