"""The catalogue: every metric of a node by name, meaning and labels. Nothing else declares one.

Names start with `sipfarm_`, units are base units, and no label can be grown by a stranger: never an address, a user, a
Call-ID. `Metrics` has an attribute a family; who counts on the message path keeps the child it needs:
`received = metrics.sip_requests.child("INVITE", "in")`, then `received.inc()`. An undeclared label value reads as
"other". `render` writes all, the process's own figures (prometheus_client's collector) included, in 0.4 µs a series.

Decided: the text format 0.0.4 for everybody, and no registry for the catalogue. OpenMetrics, and the registry's check
for duplicates with it, take the gauge `registrations` and the counter `registrations_total` for one family; Prometheus
does not, and both names are what operators look for.
Decided: no `_created` series. They would double the counters, and Prometheus reads them from OpenMetrics alone.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from farm.labels import (
    ANSWERED_METHODS,
    CALL_ENDS,
    CALL_RESULTS,
    CLASSES,
    CLOSE_REASONS,
    DIRECTIONS,
    DNS_CODES,
    DNS_TYPES,
    FORWARDED_METHODS,
    KINDS,
    LIMITED,
    LOOKUPS,
    MEMBER_STATES,
    METHODS,
    PEER_REASONS,
    PLACES,
    REASONS,
    ROLES,
    RPCS,
    STATES,
    STORED_KINDS,
    TRANSITIONS,
    TRANSPORTS,
    TYPES,
)
from farm.series import OTHER, Family, Gauge, make_combinations

PREFIX: Final = "sipfarm_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_DELAYS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ADDED: Final = (0.00025, 0.0005, 0.001, 0.0015, 0.0025, 0.005, 0.008, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
_LOOKUPS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_TALKS: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14400.0)
_SETUPS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

_Child = TypeVar("_Child", bound=MetricWrapperBase)


class Metrics:
    """All families of one node, with the process's figures."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.families: list[Family[Any]] = []
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._declare_sip()
        self._declare_calls()
        self._declare_registrar()
        self._declare_transport()
        self._declare_members()
        self._declare_replicas()
        self._declare_zone()
        self._declare_process()

    def render(self) -> bytes:
        """The whole catalogue as Prometheus scrapes it."""
        lines: list[str] = []
        for family in self.families:
            family.write(lines)
        return "".join(lines).encode() + generate_latest(self._process)

    def collect(self) -> Iterable[Metric]:
        """What all families read now, as prometheus_client's collectors answer it."""
        for family in self.families:
            yield from family.collect()

    def _declare_sip(self) -> None:
        self.sip_requests = self._counter(
            "sip_requests_total",
            "Requests received and sent, retransmissions not counted.",
            ("method", "direction"),
            make_combinations(METHODS, DIRECTIONS),
        )
        self.sip_responses = self._counter(
            "sip_responses_total",
            "Responses received and sent, retransmissions not counted.",
            ("method", "class", "direction"),
            make_combinations(ANSWERED_METHODS, CLASSES, DIRECTIONS),
        )
        self.sip_retransmissions = self._counter(
            "sip_retransmissions_total",
            "Messages that were received or sent again.",
            ("direction",),
            make_combinations(DIRECTIONS),
        )
        self.sip_rejected = self._counter(
            "sip_rejected_total",
            "Messages refused or dropped, by reason.",
            ("reason",),
            make_combinations(REASONS),
        )
        self.sip_transactions = self._gauge(
            "sip_transactions", "Transactions alive, by type and state (RFC 3261 17).", ("type", "state"), STATES
        )
        self.sip_absorbed = self._counter(
            "sip_absorbed_events_total",
            "Events that the state of a transaction does not provide for, and that changed nothing.",
            ("type",),
            make_combinations(TYPES),
        )
        self.sip_timeouts = self._counter(
            "sip_timeouts_total",
            "Transactions ended by a timer of RFC 3261: B and F (no answer), H (no ACK), C (rang too long).",
            ("timer",),
            make_combinations(("B", "F", "H", "C")),
        )
        self.sip_setup_added = self._histogram(
            "sip_setup_added_seconds",
            "Time that this element adds to a call's set-up: from the INVITE in to the INVITE out.",
            _ADDED,
        )
        self.sip_request_delay = self._histogram(
            "sip_request_delay_seconds",
            "Time from a request out to its final response in (RFC 6076 request delay).",
            _DELAYS,
            ("method",),
            make_combinations(FORWARDED_METHODS),
        )
        self.sip_failovers = self._counter(
            "sip_failovers_total",
            "Requests that went on to their next server, by what the one before did.",
            ("reason",),
            make_combinations(("status-503", "flow-failed", "timeout", "transport", OTHER)),
        )
        self.sip_banned = self._gauge("sip_banned", "Addresses banned now.")
        self.sealing_key_age = self._gauge(
            "sealing_key_age_seconds", "Age of the key that seals tokens; 0 while the farm's own key does."
        )
        self.key_rotation = self._gauge(
            "key_rotation_seconds", "How often that key is to be made anew; 0 on a node that seals nothing."
        )
        self.gateway_up = self._gauge(
            "gateway_up", "1 while a configured target answers its OPTIONS probes.", ("target",), ()
        )
        self.gateway_probes = self._counter(
            "gateway_probes_total",
            "OPTIONS probes of configured targets, by outcome.",
            ("result",),
            make_combinations(("answered", "failed")),
        )

    def _declare_calls(self) -> None:
        self.calls = self._gauge(
            "calls", "Calls that this node took, by state.", ("state",), make_combinations(("ringing", "answered"))
        )
        self.calls_total = self._counter(
            "calls_total",
            "INVITEs that would open a dialog, by what became of them; counted at their final answer.",
            ("result",),
            make_combinations(CALL_RESULTS),
        )
        self.calls_ended = self._counter(
            "calls_ended_total",
            "Answered calls that ended, by who ended them; lost: nobody did before the node stopped, or for too long.",
            ("by",),
            make_combinations(CALL_ENDS),
        )
        self.call_seconds = self._histogram(
            "call_seconds", "Time from the answer to the end of a call (RFC 6076 session duration).", _TALKS
        )
        self.sip_session_request_delay = self._histogram(
            "sip_session_request_delay_seconds",
            "Time from an INVITE in to its first answer of a person or of failure, 180, 183 or final (RFC 6076 4.3).",
            _SETUPS,
            ("result",),
            make_combinations(("answered", "failed")),
        )
        self.accounting_records = self._counter(
            "accounting_records_total",
            "Call records, by outcome, for each place they go to: written, or dropped for want of room.",
            ("place", "result"),
            make_combinations(("file", "redis"), ("written", "dropped")),
        )
        self.accounting_pending = self._gauge("accounting_pending", "Call records that wait to be written.")

    def _declare_registrar(self) -> None:
        self.registrations = self._gauge("registrations", "Bindings alive on this node.")
        self.registrations_total = self._counter(
            "registrations_total",
            "REGISTER requests answered, by outcome.",
            ("result",),
            make_combinations(("registered", "refreshed", "removed", "fetched", "challenged", "refused", "failed")),
        )
        self.sip_registration_delay = self._histogram(
            "sip_registration_delay_seconds",
            "Time from a REGISTER in to its 200 out (RFC 6076 4.1, without the way there and back).",
            _ADDED,
        )
        self.records = self._gauge(
            "records",
            "Records held, by kind and by this node's part in them: owner, the first of their owners, so that over all"
            " nodes each record counts once; replica, another owner; guest, none of them, and soon to hand them over.",
            ("kind", "role"),
            make_combinations(KINDS, ROLES),
        )
        self.tombstones = self._gauge("tombstones", "Removed bindings that are still remembered as removed.")
        self.merge_conflicts = self._counter(
            "merge_conflicts_total",
            "Merges in which both sides had changed.",
            ("kind",),
            make_combinations(KINDS),
        )
        self.journal_errors = self._counter(
            "journal_errors_total",
            "Journal operations that failed; the node goes on from memory.",
            ("operation",),
            make_combinations(("open", "read", "write", OTHER)),
        )
        self.journal_pending = self._gauge("journal_pending", "Changes that wait to be written.")
        self.journal_lag = self._gauge(
            "journal_lag_seconds", "Time since all that had changed was written; 0 when nothing waits to be."
        )
        self.journal_flush = self._histogram("journal_flush_seconds", "Time to write one batch.", _LOOKUPS)

    def _declare_transport(self) -> None:
        self.flows = self._gauge(
            "flows", "Open connections, and for UDP the listeners.", ("transport",), make_combinations(TRANSPORTS)
        )
        self.flows_opened = self._counter(
            "flows_opened_total",
            "Connections accepted (in) and made (out).",
            ("transport", "direction"),
            make_combinations(TRANSPORTS, DIRECTIONS),
        )
        self.flows_closed = self._counter(
            "flows_closed_total",
            "Connections closed, by reason.",
            ("transport", "reason"),
            make_combinations(
                TRANSPORTS,
                (*CLOSE_REASONS, OTHER),
            ),
        )
        self.transport_errors = self._counter(
            "transport_errors_total",
            "Messages that the network refused to carry.",
            ("transport",),
            make_combinations(TRANSPORTS),
        )
        self.relayed_messages = self._counter(
            "relayed_messages_total",
            "SIP messages to and from other nodes over the overlay: sent to one; one's delivered to a flow or"
            " transaction of ours; not sent for want of a link; a node's not sent on since its flow is gone; bad.",
            ("result",),
            make_combinations(("sent", "delivered", "no-link", "no-flow", "bad", OTHER)),
        )
        self.capture_messages = self._counter(
            "capture_messages_total",
            "Copies of SIP messages for collectors (HEP): sent; sent, but cut since too long for a datagram; refused by"
            " the network; dropped since there were too many.",
            ("result",),
            make_combinations(("sent", "cut", "failed", "dropped")),
        )
        self.traced_messages = self._counter(
            "traced_messages_total",
            "Messages for somebody's `sipfarm trace`: caught, or lost since more came than is kept.",
            ("result",),
            make_combinations(("caught", "lost")),
        )
        self.traces = self._gauge("traces", "Traces that this node watches the wire for, its own and other nodes'.")
        self.keepalives = self._counter(
            "keepalives_total", "Keep-alives received (RFC 5626).", ("transport",), make_combinations(TRANSPORTS)
        )
        self.sip_certificate_expiry = self._gauge(
            "sip_certificate_expiry_seconds",
            "Time until the first of the certificates for SIP over TLS expires; negative afterwards, 0 without any.",
        )
        self.resolver_seconds = self._histogram(
            "resolver_seconds",
            "Time of one question to DNS, by outcome; answers from the cache are not counted here.",
            _LOOKUPS,
            ("result",),
            make_combinations(("found", "empty", "failed", "timeout")),
        )
        self.resolver_cache_entries = self._gauge("resolver_cache_entries", "Answers in the cache.")
        self.failed_hops = self._gauge("failed_hops", "Servers that failed lately and are tried last.")

    def _declare_members(self) -> None:
        self.members = self._gauge(
            "members", "Nodes of the overlay that this one knows, itself included, by state.", ("state",),
            make_combinations(MEMBER_STATES),
        )  # fmt: skip
        self.membership_transitions = self._counter(
            "membership_transitions_total",
            "Changes of a node's state as this one saw them, by what told it.",
            ("from", "to", "cause"),
            TRANSITIONS,
        )
        self.churn_rate = self._gauge(
            "churn_rate_per_hour", "Joins and departures an hour as the table has seen them lately (RFC 7363).",
            ("kind",), make_combinations(("join", "leave")),
        )  # fmt: skip
        self.size_estimate = self._gauge("size_estimate", "Nodes in the overlay, estimated from the nearest ones.")
        self.links = self._gauge("links", "Open links to other nodes.")
        self.links_opened = self._counter(
            "links_opened_total", "Links accepted (in) and made (out).", ("direction",), make_combinations(DIRECTIONS)
        )
        self.peer_rejections = self._counter(
            "peer_rejections_total",
            "Peers and frames refused on the overlay's port, by reason.",
            ("reason",),
            make_combinations(PEER_REASONS),
        )
        self.overlay_bytes = self._counter(
            "overlay_bytes_total",
            "Bytes of frames to and from other nodes, by what they carry: upkeep, records, repair, or relayed SIP.",
            ("direction", "class"),
            make_combinations(DIRECTIONS, ("upkeep", "records", "repair", "relays")),
        )
        self.rpc_seconds = self._histogram(
            "rpc_seconds", "Time from a call to its answer.", _LOOKUPS, ("type",), make_combinations(RPCS)
        )
        self.rpc_timeouts = self._counter(
            "rpc_timeouts_total", "Calls that were not answered in time.", ("type",), make_combinations(RPCS)
        )
        self.lookup_seconds = self._histogram(
            "lookup_seconds",
            "Time to find the nodes nearest to an ID by asking, by what for and outcome: the owners of a key, which a"
            " message waits for, the table's upkeep, or a trace by the console.",
            _LOOKUPS,
            ("kind", "result"),
            make_combinations(LOOKUPS, ("found", "failed")),
        )
        self.lookup_hops = self._histogram(
            "lookup_hops", "Rounds of a lookup; 0 when the table knew.", (0, 1, 2, 3, 4, 5, 6, 8)
        )
        self.lookup_rpcs = self._histogram("lookup_rpcs", "Calls of a lookup.", (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32))
        self.clock_offset = self._gauge(
            "clock_offset_seconds", "How far this node's wall clock is ahead of its peers' median."
        )
        self.certificate_expiry = self._gauge(
            "certificate_expiry_seconds", "Time until this node's certificate expires; negative afterwards."
        )

    def _declare_replicas(self) -> None:
        self.store_seconds = self._histogram(
            "store_seconds", "Time to write a record to its owners, by kind.", _LOOKUPS, ("kind",),
            make_combinations(STORED_KINDS),
        )  # fmt: skip
        self.fetch_seconds = self._histogram(
            "fetch_seconds", "Time to read a record from its owners, by kind.", _LOOKUPS, ("kind",),
            make_combinations(STORED_KINDS),
        )  # fmt: skip
        self.hedges = self._counter(
            "hedges_total", "Calls made because another was slow, by operation.", ("op",),
            make_combinations(("fetch", "store", "lookup")),
        )  # fmt: skip
        self.quorum_failures = self._counter(
            "quorum_failures_total", "Operations refused for lack of answers.", ("op",),
            make_combinations(("fetch", "store")),
        )  # fmt: skip
        self.degraded_writes = self._counter(
            "degraded_writes_total", "Writes acknowledged by fewer owners than the quorum, one other node at least."
        )
        self.degraded_reads = self._counter(
            "degraded_reads_total", "Reads answered from fewer owners than the quorum: something was found."
        )
        self.read_repairs = self._counter(
            "read_repairs_total", "Owners that were sent what a read found newer elsewhere."
        )
        self.replica_recall = self._gauge(
            "replica_recall_ratio", "Share of the owners asked lately that had the record which others had."
        )
        self.underreplicated = self._gauge(
            "underreplicated_partitions",
            "Partitions owned here, by how many of their other owners are not known to hold the same. With fewer"
            " nodes than replicas are wanted all of them are owners, and of those alone it tells.",
            ("missing",),
            make_combinations(("1", "2", "more")),
        )
        self.repair_records = self._counter(
            "repair_records_total", "Records moved by repair and hand-over.", ("direction",),
            make_combinations(DIRECTIONS),
        )  # fmt: skip
        self.repair_bytes = self._counter(
            "repair_bytes_total", "Bytes of records moved by repair and hand-over.", ("direction",),
            make_combinations(DIRECTIONS),
        )  # fmt: skip
        self.repair_backlog = self._gauge("repair_backlog", "Comparisons with other owners that are due and waiting.")
        self.sync_progress = self._gauge(
            "sync_progress_ratio", "Share of the partitions owned here that have been compared since they came."
        )
        self.antientropy_mismatch = self._counter(
            "antientropy_mismatch_total", "Partitions in which a periodic comparison found a difference."
        )

    def _declare_zone(self) -> None:
        self.dns_answers = self._counter(
            "dns_answers_total",
            "Questions to the farm's zone that were answered, by type and response code.",
            ("type", "rcode"),
            make_combinations(DNS_TYPES, DNS_CODES),
        )
        self.dns_rejections = self._counter(
            "dns_rejections_total",
            "Questions and connections that got no answer, or a short one (rate-shortened), by reason.",
            ("reason",),
            make_combinations(("not-a-question", "rate", "rate-shortened", "oversize", "too-many-connections")),
        )
        self.dns_notices = self._counter(
            "dns_notices_total",
            "Secondaries told of a new version of the zone (NOTIFY), by whether they said so.",
            ("result",),
            make_combinations(("acknowledged", "unanswered")),
        )
        self.zone_serial = self._gauge("zone_serial", "Serial of the farm's zone: the second of its last change.")
        self.zone_nodes = self._gauge(
            "zone_nodes", "Nodes that strangers may be sent to now; when there is none the zone keeps the last ones."
        )

    def _declare_process(self) -> None:
        self.event_loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late a timer of the event loop ran: the process's own queue.", _LAGS
        )
        self.unexpected_errors = self._counter(
            "unexpected_errors_total",
            "Exceptions that reached an entry point: each is a bug, logged with its trace.",
            ("place",),
            make_combinations(PLACES),
        )
        self.build_info = self._gauge("build_info", "1, with what runs.", ("version", "python"), ())
        self.ready = self._gauge("ready", "1 while traffic may be sent to this node, as /readyz says.")
        self.draining = self._gauge("draining", "1 while this node is being drained, or has been.")
        self.admin_rejections = self._counter(
            "admin_rejections_total",
            "Connections to the pages of [admin] http that were closed without a page, by reason.",
            ("reason",),
            make_combinations(("rate", "too-many-connections", "slow", "body-too-large")),
        )
        self.problems = self._gauge("problems", "How many things are wrong, in the words of `sipfarm status`.")
        self.settings_waiting = self._gauge(
            "settings_waiting", "Settings that a reload found changed and that want a restart."
        )
        self.limits = self._gauge(
            "limits", "The most that this node holds of what other metrics count: records, transactions, connections.",
            ("of",), make_combinations(LIMITED),
        )  # fmt: skip

    def set_build(self, version: str) -> None:
        """Say which version runs."""
        self.build_info.declare(version, platform.python_version()).set(1)

    def _counter(
        self, name: str, meaning: str, labels: Sequence[str] = (), combinations: Iterable[Sequence[str]] = ((),)
    ) -> Family[Counter]:
        return self._add(Counter(PREFIX + name, meaning, labels, registry=None), labels, combinations)

    def _gauge(
        self, name: str, meaning: str, labels: Sequence[str] = (), combinations: Iterable[Sequence[str]] = ((),)
    ) -> Family[Gauge]:
        return self._add(Gauge(PREFIX + name, meaning, labels, registry=None), labels, combinations)

    def _histogram(
        self,
        name: str,
        meaning: str,
        bounds: Sequence[float],
        labels: Sequence[str] = (),
        combinations: Iterable[Sequence[str]] = ((),),
    ) -> Family[Histogram]:
        return self._add(Histogram(PREFIX + name, meaning, labels, buckets=bounds, registry=None), labels, combinations)

    def _add(self, metric: _Child, labels: Sequence[str], combinations: Iterable[Sequence[str]]) -> Family[_Child]:
        family = Family(metric, labels, combinations)
        self.families.append(family)
        return family
