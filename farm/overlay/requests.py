"""The requests of one node to another: what each is called, what answers it, and as what its bytes count.

A new request needs a line here beside its message in `wire.py`; `calls.py` carries all of them in the same way.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

from farm.metrics import Metrics
from farm.overlay import wire

UPKEEP: Final = "upkeep"
RECORDS: Final = "records"
REPAIR: Final = "repair"
RELAYS: Final = "relays"

RANK: Final[dict[str, int]] = {
    UPKEEP: 0,
    RECORDS: 1,
    REPAIR: 2,
    RELAYS: 3,
}  # a frame's bytes count as its highest one's
CLASS_OF: Final[dict[type, str]] = {
    **dict.fromkeys((wire.Fetch, wire.Fetched, wire.Store, wire.Stored, wire.Stat, wire.StatAnswer), RECORDS),
    **dict.fromkeys((wire.Scan, wire.Scanned), RECORDS),
    **dict.fromkeys((wire.Pull, wire.Pulled, wire.Push, wire.Pushed), REPAIR),
    **dict.fromkeys((wire.Digest, wire.Digested, wire.Keys, wire.KeyList), REPAIR),
    wire.Relay: RELAYS,
}

# Request: its name in the metrics, what answers it, and whether that comes in the turn in which it is read.
_REQUESTS: Final[dict[type, tuple[str, tuple[type, ...], bool]]] = {
    wire.Ping: ("ping", (wire.Pong,), True),
    wire.PingRequest: ("ping-request", (wire.Pong, wire.Nack), False),
    wire.FindNode: ("find-node", (wire.Nodes,), True),
    wire.Fetch: ("fetch", (wire.Fetched,), True),
    wire.Store: ("store", (wire.Stored,), True),
    wire.Stat: ("stat", (wire.StatAnswer,), True),
    wire.Scan: ("scan", (wire.Scanned,), False),
    wire.Digest: ("digest", (wire.Digested,), False),
    wire.Keys: ("keys", (wire.KeyList,), False),
    wire.Pull: ("pull", (wire.Pulled,), False),
    wire.Push: ("push", (wire.Pushed,), False),
    wire.Spend: ("spend", (wire.Spent,), True),
    wire.Diagnose: ("diagnose", (wire.Diagnosis,), False),
}


class RequestKind:
    """What there is to know of one type of request."""

    __slots__ = ("answers", "observe", "timed", "timeouts")

    def __init__(self, answers: frozenset[type], timed: bool, seconds: Histogram, timeouts: Counter) -> None:
        self.answers = answers
        self.timed = timed  # its answer comes in the turn in which it is read, so it tells the round trip
        self.observe = seconds.observe
        self.timeouts = timeouts


def make_kinds(metrics: Metrics) -> dict[type, RequestKind]:
    """All of them, counted in `metrics`."""
    return {
        type_: RequestKind(frozenset(answers), timed, metrics.rpc_seconds.child(name), metrics.rpc_timeouts.child(name))
        for type_, (name, answers, timed) in _REQUESTS.items()
    }
