"""The overview: the farm as one node sees it at this moment, and its last hour, in simple values.

Part of the composition root, beside `reports`, which hands it out: `/status.json`, the status page and `sipfarm top`
show the same. It tells of nodes, counts and times; never of a user, an address-of-record, a phone's address or a key,
since whoever reaches the page may read it.

Every ten seconds it reads the totals of a few families of the catalogue for `admin/history`. The keys of the overview
are listed in docs/status.md.

Decided: a member first heard of is not churn. A node that starts hears of all of them within seconds, and the plot
would show nothing else for an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from farm import __version__
from farm.admin.control import Answer
from farm.admin.history import SECONDS_EACH, History, Timed, Totals
from farm.config import Config
from farm.deadlines import Deadlines
from farm.member import Member
from farm.metrics import Metrics
from farm.overlay.ids import PARTITIONS
from farm.overlay.node import OverlayNode
from farm.overlay.wire import EDGE, STATE_NAMES, STORES, Contact
from farm.pump import Pump
from farm.records import Records
from farm.series import Family

MOST_MEMBERS: Final = 1000
CELLS: Final = 512
_OTHERS: Final = "-"

_GONE: Final = ("dead", "left")
_FRESH: Final = ("registered", "refreshed")
_ROLES: Final = ((EDGE, "edge"), (STORES, "store"))


class Reports(Protocol):
    """What is known already."""

    def ready(self) -> bool:
        """Whether traffic may be sent here."""

    def problems(self) -> list[str]:
        """What is wrong at present."""


class Running(Protocol):
    """The node that it is about."""

    config: Config
    metrics: Metrics
    records: Records
    member: Member | None
    pump: Pump

    @property
    def draining(self) -> bool:
        """Whether it is being drained."""

    @property
    def transaction_count(self) -> int:
        """Transactions alive."""


class Overview:
    """Makes it. `clock` is monotonic."""

    def __init__(self, node: Any, reports: Reports, clock: Callable[[], float]) -> None:
        self._node: Running = node
        self._reports = reports
        self._clock = clock
        self._started_at = clock()
        self._history = History()
        self._deadlines: Deadlines = node.pump.deadlines

    def start(self) -> None:
        """Begin to sample."""
        self._sample(None, self._clock())

    def _sample(self, _argument: object, now: float) -> None:
        self._deadlines.add(now + SECONDS_EACH, self._sample)
        self._history.take(_read_totals(self._node.metrics), now)

    def make(self) -> Answer:
        """All of it. A time is in seconds, `since` and `uptime` up to now."""
        node = self._node
        now = self._clock()
        totals = _read_totals(node.metrics)
        rates = self._history.rates(totals, now)
        calls = {state: _read(child) for (state,), child in node.metrics.calls}
        return {
            "name": node.config.node.name,
            "version": __version__,
            "uptime": round(now - self._started_at),
            "ready": self._reports.ready(),
            "problems": self._reports.problems(),
            "draining": node.draining,
            **(_describe_alone() if node.member is None else _describe_farm(node.member, now)),
            "rates": {
                "registrations_per_second": round(rates["registrations"], 2),
                "calls_per_second": round(rates["calls"], 2),
                "requests_per_second": round(rates["requests"], 2),
            },
            "registrations": node.records.store.shelves["registration"].live,
            "calls": round(sum(calls.values())),
            "ringing": round(calls.get("ringing", 0)),
            "transactions": node.transaction_count,
            "history": self._describe_history(),
        }

    def _describe_history(self) -> Answer:
        history = self._history
        return {
            "seconds_each": history.seconds_each,
            "churn": history.counts("churn"),
            "lookup_p50": history.quantiles("lookup", 0.5),
            "lookup_p99": history.quantiles("lookup", 0.99),
            "read_p50": history.quantiles("read", 0.5),
            "read_p99": history.quantiles("read", 0.99),
            "calls": history.per_second("calls"),
            "registrations": history.per_second("registrations"),
        }


def _describe_alone() -> Answer:
    """A node without an overlay is a farm of its own, and its copies are its journal's."""
    return {
        "overlay": "",
        "node_id": "",
        "state": "alone",
        "synchronised": True,
        "progress": 1.0,
        "handed_over": 1.0,
        "member_counts": {},
        "members": [],
        "replicas": {"wanted": 1, "possible": 1},
        "underreplicated": {"1": 0, "2": 0, "more": 0},
        "partitions": {"all": PARTITIONS, "owned": PARTITIONS, "cells": ""},
    }


def _describe_farm(member: Member, now: float) -> Answer:
    node = member.node
    plan = node.upkeep.plan
    return {
        "overlay": member.identity.overlay,
        "node_id": node.own.hex(),
        "state": node.state,
        "synchronised": node.is_synchronised,
        "progress": round(node.upkeep.progress(), 4),
        "handed_over": round(node.upkeep.handover.progress(), 4),
        "member_counts": node.membership.counts(),
        "members": [describe_member(member, contact, now) for contact in _choose(member.contacts())],
        "replicas": describe_replicas(node),
        "underreplicated": dict(zip(("1", "2", "more"), node.upkeep.missing(), strict=True)),
        "partitions": _describe_partitions(plan.owned(), plan.missing()),
    }


def describe_replicas(node: OverlayNode) -> Answer:
    """How many copies the farm is to keep of a record, and of how many there are nodes to keep them."""
    ownership = node.ownership
    return {"wanted": ownership.replicas, "possible": ownership.current.owners_each}


def _choose(contacts: Iterable[Contact]) -> Sequence[Contact]:
    """At most a thousand: this node, then those in trouble, then the others by name."""
    own, *others = contacts
    calm = STATE_NAMES.index("alive")
    gone = STATE_NAMES.index("left")
    others.sort(key=lambda each: (each.state == calm, each.state == gone, each.name, each.node))
    return [own, *others[: MOST_MEMBERS - 1]]


def describe_member(member: Member, contact: Contact, now: float) -> Answer:
    """One node as another sees it: `since` (seconds in that state), `rtt` (seconds, None when not known), `load` (of
    its process, in percent)."""
    own = contact.node == member.node.own
    rtt = None if own else member.node.calls.rtt(contact.node)
    return {
        "name": contact.name,
        "node_id": contact.node.hex(),
        "zone": contact.zone,
        "roles": [name for bit, name in _ROLES if contact.roles & bit],
        "state": STATE_NAMES[contact.state],
        "since": round(now - member.since.get(contact.node, now)),
        "rtt": None if rtt is None or not rtt.samples else round(rtt.srtt, 6),
        "load": contact.load,
        "draining": contact.draining,
        "self": own,
    }


def _describe_partitions(owned: Iterable[int], missing: dict[int, int]) -> Answer:
    """How many there are, how many are owned here, and a character for each eight neighbours: the most copies that one
    of these lacks, 3 for more; "-" where none is owned here."""
    each = PARTITIONS // CELLS
    cells = [-1] * CELLS
    count = 0
    for partition in owned:
        count += 1
        cell = partition // each
        cells[cell] = max(cells[cell], min(missing.get(partition, 0), 3))
    text = "".join(_OTHERS if cell < 0 else str(cell) for cell in cells)
    return {"all": PARTITIONS, "owned": count, "cells": text}


# What the catalogue reads


def _read_totals(metrics: Metrics) -> Totals:
    transitions = metrics.membership_transitions
    came = _sum(
        child for (before, after, _), child in transitions if after == "alive" and before not in ("none", "suspect")
    )
    went = _sum(child for (before, after, _), child in transitions if after in _GONE and before not in (*_GONE, "none"))
    return Totals(
        {
            "churn": came + went,
            "calls": _sum(child for _, child in metrics.calls_total),
            "registrations": _sum(child for (result,), child in metrics.registrations_total if result in _FRESH),
            "requests": _sum(child for (_, direction), child in metrics.sip_requests if direction == "in"),
        },
        {"lookup": _add_up(metrics.lookup_seconds), "read": _add_up(metrics.fetch_seconds)},
    )


def _sum(children: Iterable[Any]) -> float:
    return sum([_read(child) for child in children])


def _read(child: Any) -> float:
    """What a counter or a gauge reads."""
    (metric,) = child.collect()
    return float(metric.samples[0].value)


def _add_up(family: Family[Any]) -> Timed:
    """The buckets of all children of a histogram together."""
    counts: dict[float, float] = {}
    for metric in family.collect():
        for sample in metric.samples:
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                counts[bound] = counts.get(bound, 0.0) + sample.value
    bounds = tuple(sorted(counts))
    return Timed(bounds, tuple(counts[bound] for bound in bounds))
