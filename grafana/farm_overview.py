"""The dashboard to begin with: is the farm well, what does it do now, and which node is it.

What stands at the top is of whole farms, as it is recorded (deploy/recording.yml): choosing an instance does not change
it.
"""

from __future__ import annotations

from typing import Final

from grafana.panels import (
    BAD_ABOVE_ZERO,
    FINE_AT_ZERO,
    Dashboard,
    Panel,
    Query,
    make_gauge,
    make_stat,
    quantile,
    rate,
)

_MOSTLY: Final = ((None, "red"), (0.3, "orange"), (0.5, "green"))  # of all calls, many find nobody at home
_MOST: Final = ((None, "red"), (0.5, "orange"), (0.7, "green"))  # who gives up before anybody answers counts against it
_NEARLY_ALL: Final = ((None, "red"), (0.9, "orange"), (0.98, "green"))
_HARDLY_ANY: Final = ((None, "green"), (0.01, "orange"), (0.05, "red"))

_NOW: Final = (
    make_stat(
        "Nodes alive",
        "short",
        "Nodes that are alive, as the node that knows most of them sees it.",
        "job:sipfarm_nodes_alive:max{^}",
    ),
    make_stat(
        "Nodes answering",
        "short",
        "Nodes that answer Prometheus. Fewer than are alive: look at the network between Prometheus and the nodes.",
        "job:sipfarm_nodes_up:sum{^}",
    ),
    make_stat(
        "Replicas missing",
        "short",
        "Partitions of which some owner is not known to hold the same. Restart no node before this is 0.",
        "job:sipfarm_underreplicated_partitions:sum{^}",
        FINE_AT_ZERO,
    ),
    make_stat(
        "Registrations",
        "short",
        "Bindings of the whole farm, each once, however many nodes hold it.",
        "job:sipfarm_registrations:sum{^}",
    ),
    make_stat("Calls now", "short", "Calls that were answered and have not ended.", "job:sipfarm_calls:sum{^}"),
    make_stat(
        "Problems",
        "short",
        "What the nodes say is wrong with them; sipfarm status says it in words.",
        "sum by (job) (sipfarm_problems{@})",
        BAD_ABOVE_ZERO,
    ),
    make_stat(
        "Alerts",
        "short",
        "Alerts of deploy/alerts.yml that fire now; docs/runbooks has a page for each.",
        'count(ALERTS{^,alertname=~"Sipfarm.*",alertstate="firing"}) or vector(0)',
        BAD_ABOVE_ZERO,
        legend="firing",
    ),
    make_stat(
        "Attempts",
        "cps",
        "Call attempts that came to their end, a second.",
        "job:sipfarm_call_attempts:rate5m{^}",
    ),
    make_stat("Calls", "cps", "Call attempts that were answered, a second.", "job:sipfarm_calls_answered:rate5m{^}"),
    make_gauge(
        "Established (SER)",
        "RFC 6076 section 4.6: share of call attempts that were answered, redirected ones apart.",
        "job:sipfarm_ser:ratio_rate5m{^}",
        _MOSTLY,
    ),
    make_gauge(
        "Effective (SEER)",
        "RFC 6076 section 4.7: share of call attempts that were answered, or failed because of who was called.",
        "job:sipfarm_seer:ratio_rate5m{^}",
        _MOST,
    ),
    make_stat(
        "Ineffective (ISA)",
        "percentunit",
        "RFC 6076 section 4.8: share of call attempts that ended with 408, 500, 503 or 504.",
        "job:sipfarm_isa:ratio_rate5m{^}",
        _HARDLY_ANY,
    ),
    make_gauge(
        "Registrations that succeed",
        "Share of REGISTERs that were neither refused nor failed; challenges apart (RFC 6076 section 4.2).",
        "job:sipfarm_registration_success:ratio_rate5m{^}",
        _NEARLY_ALL,
    ),
)

_LATELY: Final = (
    Panel(
        "Attempts and calls",
        "cps",
        "Attempts that came to their end, and those of them that were answered.",
        (
            Query("job:sipfarm_call_attempts:rate5m{^}", "attempts, {{job}}"),
            Query("job:sipfarm_calls_answered:rate5m{^}", "answered, {{job}}"),
        ),
    ),
    Panel(
        "What becomes of attempts",
        "cps",
        "Of the nodes that are chosen. failed is ours or the network's, unreachable a number that nobody has.",
        (Query("sum by (result) (instance_result:sipfarm_calls:rate5m{@})", "{{result}}"),),
        stacked=True,
    ),
    Panel(
        "Calls at once",
        "short",
        "Calls of the nodes that are chosen; each counts at the node that took it.",
        (Query("sum by (state) (sipfarm_calls{@})", "{{state}}"),),
        stacked=True,
    ),
    Panel(
        "REGISTERs",
        "reqps",
        "REGISTERs a second without challenges, and those of them that were answered 200.",
        (
            Query("job:sipfarm_registration_attempts:rate5m{^}", "attempts, {{job}}"),
            Query("job:sipfarm_registrations_succeeded:rate5m{^}", "succeeded, {{job}}"),
        ),
    ),
    Panel(
        "Session request delay (SRD)",
        "s",
        "RFC 6076 section 4.3: from an INVITE to the first answer that tells the caller anything, 95 in 100.",
        (Query("job_result:sipfarm_srd_seconds:p95_rate5m{^}", "{{result}}, {{job}}"),),
    ),
    Panel(
        "Added set-up time",
        "s",
        "What the farm itself adds to a call's set-up: from the INVITE in to the INVITE out.",
        (
            Query(quantile(0.5, "sipfarm_sip_setup_added_seconds"), "p50"),
            Query(quantile(0.99, "sipfarm_sip_setup_added_seconds"), "p99"),
        ),
    ),
)

_NODES: Final = (
    Panel(
        "Nodes",
        "none",
        "What each node is and does now.",
        (
            Query("sum by (job, instance, version, python) (sipfarm_build_info{@})", "build"),
            Query("sum by (job, instance) (time() - process_start_time_seconds{@})", "Uptime", "s"),
            Query("sum by (job, instance) (sipfarm_ready{@})", "Ready", "bool_yes_no"),
            Query("sum by (job, instance) (sipfarm_draining{@})", "Draining", "bool_yes_no"),
            Query("sum by (job, instance) (sipfarm_problems{@})", "Problems", "short"),
            Query(rate("process_cpu_seconds_total", by="job, instance"), "Processor", "percentunit"),
            Query("sum by (job, instance) (process_resident_memory_bytes{@})", "Memory", "bytes"),
            Query("sum by (job, instance) (sipfarm_registrations{@})", "Bindings held", "short"),
            Query('sum by (job, instance) (sipfarm_calls{@,state="answered"})', "Calls", "short"),
        ),
        shape="table",
        width=24,
    ),
    Panel(
        "Members by state",
        "short",
        "Nodes by state, as the node that knows most of them sees it; dead ones are remembered for a day.",
        (Query("max by (state) (sipfarm_members{@})", "{{state}}"),),
    ),
    Panel(
        "Processor",
        "percentunit",
        "Share of one core; a node uses one at most.",
        (Query(rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),),
    ),
    Panel(
        "Established, by node",
        "percentunit",
        "SER of each node: one that differs from the others is the one to look at.",
        (Query("instance:sipfarm_ser:ratio_rate5m{@}", "{{instance}}"),),
    ),
)

FARM_OVERVIEW: Final = Dashboard(
    "sipfarm-farm-overview",
    "sipfarm: Farm overview",
    (("Now", _NOW), ("The last hour", _LATELY), ("Nodes", _NODES)),
)
