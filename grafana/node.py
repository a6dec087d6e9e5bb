"""The dashboard of single nodes: the process, its event loop, its journal, what it writes for others, and what it may
hold.

Everything is by instance: choose one, or compare them.
"""

from __future__ import annotations

from typing import Final

from grafana.panels import (
    BAD_ABOVE_ZERO,
    FINE_AT_ONE,
    FINE_AT_ZERO,
    Dashboard,
    Panel,
    Query,
    make_heatmap,
    make_stat,
    quantile,
    rate,
)

_STATE: Final = (
    make_stat(
        "Ready",
        "bool_yes_no",
        "Whether traffic may be sent there, as /readyz says.",
        "sum by (instance) (sipfarm_ready{@})",
        FINE_AT_ONE,
        "{{instance}}",
    ),
    make_stat(
        "Draining",
        "bool_yes_no",
        "Whether it is being drained, or has been.",
        "sum by (instance) (sipfarm_draining{@})",
        FINE_AT_ZERO,
        "{{instance}}",
    ),
    make_stat(
        "Problems",
        "short",
        "How many things are wrong; sipfarm status says them in words.",
        "sum by (instance) (sipfarm_problems{@})",
        BAD_ABOVE_ZERO,
        "{{instance}}",
    ),
    make_stat(
        "Settings waiting",
        "short",
        "Settings that a reload found changed and that want a restart.",
        "sum by (instance) (sipfarm_settings_waiting{@})",
        FINE_AT_ZERO,
        "{{instance}}",
    ),
    make_stat(
        "Up for",
        "s",
        "Time since the process was started.",
        "sum by (instance) (time() - process_start_time_seconds{@})",
        legend="{{instance}}",
    ),
    make_stat(
        "Version",
        "short",
        "What runs; nodes of two versions are a rolling upgrade, or a forgotten node.",
        "sum by (instance, version, python) (sipfarm_build_info{@})",
        legend="{{instance}}: {{version}}, Python {{python}}",
    ),
)

_PROCESS: Final = (
    Panel(
        "Processor",
        "percentunit",
        "Share of one core; a node uses one at most.",
        (Query("rate(process_cpu_seconds_total{@}[$__rate_interval])", "{{instance}}"),),
    ),
    Panel(
        "Memory",
        "bytes",
        "Resident memory of the process.",
        (Query("process_resident_memory_bytes{@}", "{{instance}}"),),
    ),
    Panel(
        "Files and sockets",
        "percentunit",
        "Open ones, as a share of how many the process may have.",
        (Query("process_open_fds{@} / process_max_fds{@}", "{{instance}}"),),
    ),
    Panel(
        "Event loop lag",
        "s",
        "How late timers run, the queue inside the process; 99 of 100 are faster. Above 100 ms peers retransmit.",
        (Query(quantile(0.99, "sipfarm_event_loop_lag_seconds", by="instance"), "{{instance}}"),),
    ),
    make_heatmap(
        "Event loop lag, all of it",
        "A band far above the others is something that blocks now and then.",
        "sipfarm_event_loop_lag_seconds",
    ),
    Panel(
        "Unexpected errors",
        "ops",
        "Exceptions that reached an entry point: each is a bug, logged with its trace.",
        (Query(rate("sipfarm_unexpected_errors_total", by="instance, place"), "{{instance}}, {{place}}"),),
    ),
    Panel(
        "Readers of pages turned away",
        "ops",
        "Connections to the address of the metrics that got no page: too many, too slow, or too much sent.",
        (Query(rate("sipfarm_admin_rejections_total", by="instance, reason"), "{{instance}}, {{reason}}"),),
    ),
)

_LOAD: Final = (
    Panel(
        "Requests in",
        "reqps",
        "SIP requests that each node took, those that other nodes handed on not among them.",
        (Query(rate("sipfarm_sip_requests_total", 'direction="in"', "instance"), "{{instance}}"),),
    ),
    Panel(
        "Flows",
        "short",
        "Open connections, and for UDP the listeners.",
        (Query("sum by (instance, transport) (sipfarm_flows{@})", "{{instance}}, {{transport}}"),),
    ),
    Panel(
        "Messages that the network refused",
        "ops",
        "By transport: no route, a full queue, a datagram too large.",
        (Query(rate("sipfarm_transport_errors_total", by="instance, transport"), "{{instance}}, {{transport}}"),),
    ),
    Panel(
        "Records, of what it may hold",
        "percentunit",
        "At 1 it takes no new registrations.",
        (
            Query(
                'sum by (instance) (sipfarm_records{@}) / sum by (instance) (sipfarm_limits{@,of="records"} > 0)',
                "{{instance}}",
            ),
        ),
    ),
    Panel(
        "Transactions, of what it may hold",
        "percentunit",
        "At 1 it answers 503.",
        (
            Query(
                "sum by (instance) (sipfarm_sip_transactions{@})"
                ' / sum by (instance) (sipfarm_limits{@,of="transactions"} > 0)',
                "{{instance}}",
            ),
        ),
    ),
    Panel(
        "Connections, of what it may hold",
        "percentunit",
        "At 1 it closes new ones.",
        (
            Query(
                'sum by (instance) (sipfarm_flows{@,transport!="udp"})'
                ' / sum by (instance) (sipfarm_limits{@,of="connections"} > 0)',
                "{{instance}}",
            ),
        ),
    ),
    Panel(
        "Answers of DNS kept",
        "short",
        "Answers in the resolver's cache.",
        (Query("sum by (instance) (sipfarm_resolver_cache_entries{@})", "{{instance}}"),),
    ),
)

_JOURNAL: Final = (
    Panel(
        "Not yet written",
        "s",
        "Time since all that had changed was written: what a power loss of the whole farm would cost.",
        (Query("sum by (instance) (sipfarm_journal_lag_seconds{@})", "{{instance}}"),),
    ),
    Panel(
        "Changes waiting",
        "short",
        "Changes that wait for the disk, or for Redis.",
        (Query("sum by (instance) (sipfarm_journal_pending{@})", "{{instance}}"),),
    ),
    Panel(
        "Time to write a batch",
        "s",
        "95 of 100 are faster.",
        (Query(quantile(0.95, "sipfarm_journal_flush_seconds", by="instance"), "{{instance}}"),),
    ),
    Panel(
        "Journal errors",
        "ops",
        "Operations that failed; the node goes on from memory.",
        (Query(rate("sipfarm_journal_errors_total", by="instance, operation"), "{{instance}}, {{operation}}"),),
    ),
    Panel(
        "Call records",
        "ops",
        "By where they go to: written, or dropped for want of room.",
        (Query(rate("sipfarm_accounting_records_total", by="place, result"), "{{place}}, {{result}}"),),
    ),
    Panel(
        "Call records waiting",
        "short",
        "Call records that are not yet written.",
        (Query("sum by (instance) (sipfarm_accounting_pending{@})", "{{instance}}"),),
    ),
    Panel(
        "Copies for collectors",
        "ops",
        "SIP messages for Homer. cut: too long for a datagram. dropped: more came than may be sent.",
        (Query(rate("sipfarm_capture_messages_total", by="result"), "{{result}}"),),
    ),
    Panel(
        "Messages traced",
        "ops",
        "For somebody's sipfarm trace. lost: more came than is kept.",
        (Query(rate("sipfarm_traced_messages_total", by="result"), "{{result}}"),),
    ),
    Panel(
        "Traces",
        "short",
        "Traces that a node watches the wire for, other nodes' among them: each costs something a message.",
        (Query("sum by (instance) (sipfarm_traces{@})", "{{instance}}"),),
    ),
)

NODE: Final = Dashboard(
    "sipfarm-node",
    "sipfarm: Node",
    (("State", _STATE), ("Process", _PROCESS), ("Load", _LOAD), ("What is written", _JOURNAL)),
)
