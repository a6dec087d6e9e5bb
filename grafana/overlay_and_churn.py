"""The dashboard of the overlay: who is there and how often that changes, lookups, replicas and their repair, trust.

Every node tells what it sees, so counts of members are maxima over the nodes that are chosen: where nodes disagree, the
spread is shown beside it.
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
    make_gauge,
    make_heatmap,
    make_stat,
    quantile,
    quantiles,
    rate,
)

_NOW: Final = (
    make_stat(
        "Nodes alive",
        "short",
        "As the node that knows most of them sees it.",
        "job:sipfarm_nodes_alive:max{^}",
    ),
    make_stat(
        "Nodes suspected",
        "short",
        "Nodes that do not answer, and are dead unless they refute it within seconds.",
        'max(sipfarm_members{@,state="suspect"})',
        FINE_AT_ZERO,
        "suspected",
    ),
    make_stat(
        "Replicas missing",
        "short",
        "Partitions of which some owner is not known to hold the same. A rolling restart waits for 0.",
        "job:sipfarm_underreplicated_partitions:sum{^}",
        FINE_AT_ZERO,
    ),
    make_gauge(
        "In step, the worst node",
        "Share of its partitions that it has compared with the other owners since they came.",
        "min(sipfarm_sync_progress_ratio{@})",
        FINE_AT_ONE,
        "in step",
    ),
    make_stat(
        "Lookups",
        "s",
        "99 of 100 are faster.",
        quantile(0.99, "sipfarm_lookup_seconds"),
        legend="p99",
    ),
    make_stat(
        "Quorum failures",
        "ops",
        "Reads and writes refused for lack of answers, a second.",
        rate("sipfarm_quorum_failures_total"),
        BAD_ABOVE_ZERO,
        "failures",
    ),
)

OVERLAY_AND_CHURN: Final = Dashboard(
    "sipfarm-overlay-churn",
    "sipfarm: Overlay and churn",
    (
        ("Now", _NOW),
        (
            "Members",
            (
                Panel(
                    "Members by state",
                    "short",
                    "Nodes by state, as the node that knows most of them sees it; dead ones are remembered for a day.",
                    (Query("max by (state) (sipfarm_members{@})", "{{state}}"),),
                ),
                Panel(
                    "Nodes that disagree",
                    "short",
                    "Difference between the most and the fewest nodes alive that anybody sees: above 0 for more than "
                    "some seconds the farm is divided.",
                    (
                        Query(
                            'max(sipfarm_members{@,state="alive"}) - min(sipfarm_members{@,state="alive"})',
                            "difference",
                        ),
                    ),
                ),
                Panel(
                    "Size, estimated",
                    "short",
                    "How many nodes there are, from the distances of the nearest ones; exact where all are known.",
                    (Query("avg(sipfarm_size_estimate{@})", "nodes"),),
                ),
                Panel(
                    "Transitions",
                    "ops",
                    "Changes of a member's state, each counted by every node that saw it.",
                    (Query(rate("sipfarm_membership_transitions_total", by="to"), "to {{to}}"),),
                ),
                Panel(
                    "Deaths, by what told of them",
                    "ops",
                    "probe and timeout: a node was silent. link: its connection broke. gossip: another node knew.",
                    (
                        Query(
                            rate("sipfarm_membership_transitions_total", 'to=~"suspect|dead"', "to,cause"),
                            "{{to}}, {{cause}}",
                        ),
                    ),
                ),
                Panel(
                    "Churn",
                    "short",
                    "Joins and departures an hour by the estimator of RFC 7363; buckets are refreshed the more often.",
                    (Query("avg by (kind) (sipfarm_churn_rate_per_hour{@})", "{{kind}} an hour"),),
                ),
            ),
        ),
        (
            "Lookups, reads and writes",
            (
                Panel(
                    "Lookup time",
                    "s",
                    "Time to find the owners of a key; 0 to 1 ms where all nodes are known.",
                    quantiles("sipfarm_lookup_seconds"),
                ),
                make_heatmap(
                    "Lookups that messages wait for",
                    "Time to find the owners of a key by asking; where all are known nothing is asked, and nothing "
                    "shown.",
                    "sipfarm_lookup_seconds",
                    'kind="owners"',
                ),
                Panel(
                    "Lookups, by what for",
                    "ops",
                    "owners: a message waits. upkeep: the routing table's own. trace: sipfarm lookup.",
                    (Query(rate("sipfarm_lookup_seconds_count", by="kind"), "{{kind}}"),),
                ),
                Panel(
                    "Lookups that failed",
                    "percentunit",
                    "Share of lookups that found no owner in time.",
                    (
                        Query(
                            rate("sipfarm_lookup_seconds_count", 'result="failed"')
                            + " / "
                            + rate("sipfarm_lookup_seconds_count"),
                            "failed",
                        ),
                    ),
                ),
                Panel(
                    "Hops and calls of a lookup",
                    "short",
                    "0 hops when the table knew the owners. More than 3 hops is not normal in any farm.",
                    (
                        Query(quantile(0.5, "sipfarm_lookup_hops"), "hops, p50"),
                        Query(quantile(0.99, "sipfarm_lookup_hops"), "hops, p99"),
                        Query(quantile(0.99, "sipfarm_lookup_rpcs"), "calls, p99"),
                    ),
                ),
                Panel(
                    "Read time",
                    "s",
                    "Time to read a record from its owners: what a call to a registered user waits for.",
                    quantiles("sipfarm_fetch_seconds"),
                ),
                Panel(
                    "Write time",
                    "s",
                    "Time until a majority of the owners has a change: what a REGISTER waits for.",
                    quantiles("sipfarm_store_seconds"),
                ),
                Panel(
                    "Quorum failures, by operation",
                    "ops",
                    "Reads and writes refused for lack of answers. Each is a phone that was answered 500.",
                    (Query(rate("sipfarm_quorum_failures_total", by="op"), "{{op}}"),),
                ),
                Panel(
                    "Degraded",
                    "ops",
                    "Writes with fewer acknowledgements and reads with fewer answers than a quorum, accepted all the "
                    "same.",
                    (
                        Query(rate("sipfarm_degraded_writes_total"), "writes"),
                        Query(rate("sipfarm_degraded_reads_total"), "reads"),
                    ),
                ),
                Panel(
                    "Calls between nodes, p99",
                    "s",
                    "Time from a call to its answer, by type.",
                    (
                        Query(
                            "histogram_quantile(0.99, " + rate("sipfarm_rpc_seconds_bucket", by="le,type") + ")",
                            "{{type}}",
                        ),
                    ),
                ),
                Panel(
                    "Timeouts and hedges",
                    "ops",
                    "Calls that were not answered in time, and calls made because another was slow.",
                    (
                        Query(rate("sipfarm_rpc_timeouts_total", by="type"), "timeout, {{type}}"),
                        Query(rate("sipfarm_hedges_total", by="op"), "hedge, {{op}}"),
                    ),
                ),
            ),
        ),
        (
            "Replicas and repair",
            (
                Panel(
                    "Partitions with replicas missing",
                    "short",
                    "By how many owners are not known to hold the same, added over the nodes. A rolling restart waits "
                    "for 0.",
                    (Query("sum by (missing) (sipfarm_underreplicated_partitions{@})", "{{missing}} missing"),),
                ),
                Panel(
                    "In step",
                    "percentunit",
                    "Share of its partitions that each node has compared with the other owners since they came.",
                    (Query("min by (instance) (sipfarm_sync_progress_ratio{@})", "{{instance}}"),),
                ),
                Panel(
                    "Replica recall",
                    "percentunit",
                    "Share of owners asked that had a record which others had; below 0.99 repair is behind.",
                    (Query("min(sipfarm_replica_recall_ratio{@})", "worst node"),),
                ),
                Panel(
                    "Records moved",
                    "ops",
                    "Records sent and received by repair and hand-over.",
                    (Query(rate("sipfarm_repair_records_total", by="direction"), "{{direction}}"),),
                ),
                Panel(
                    "Bytes moved",
                    "Bps",
                    "The same in bytes; each node keeps to repair_bytes_per_second.",
                    (Query(rate("sipfarm_repair_bytes_total", by="direction"), "{{direction}}"),),
                ),
                Panel(
                    "Repair waiting, differences, read repairs",
                    "short",
                    "Comparisons that are due; partitions a second in which one found a difference; owners a second "
                    "that a read brought up to date.",
                    (
                        Query("sum(sipfarm_repair_backlog{@})", "comparisons waiting"),
                        Query(rate("sipfarm_antientropy_mismatch_total"), "differences"),
                        Query(rate("sipfarm_read_repairs_total"), "read repairs"),
                    ),
                ),
                Panel(
                    "Records",
                    "short",
                    "Records held, by kind, added over the nodes. owner: each record once. replica: its other copies. "
                    "guest: where it is no more at home, until it is handed over.",
                    (Query("sum by (kind, role) (sipfarm_records{@})", "{{kind}}, {{role}}"),),
                ),
                Panel(
                    "Records of each node",
                    "short",
                    "How evenly the farm is loaded.",
                    (Query("sum by (instance) (sipfarm_records{@})", "{{instance}}"),),
                ),
                Panel(
                    "Conflicts and tombstones",
                    "short",
                    "Merges a second in which both sides had news, and removals that are remembered.",
                    (
                        Query(rate("sipfarm_merge_conflicts_total", by="kind"), "conflicts, {{kind}}"),
                        Query("sum(sipfarm_tombstones{@})", "tombstones"),
                    ),
                ),
            ),
        ),
        (
            "Links and trust",
            (
                Panel(
                    "Links",
                    "short",
                    "Open links of each node; in a farm under 250 nodes everybody has one to everybody.",
                    (Query("sum by (instance) (sipfarm_links{@})", "{{instance}}"),),
                ),
                Panel(
                    "Traffic between nodes",
                    "Bps",
                    "Bytes sent, by what they carry.",
                    (Query(rate("sipfarm_overlay_bytes_total", 'direction="out"', "class"), "{{class}}"),),
                ),
                Panel(
                    "Peers refused, the ten commonest reasons",
                    "ops",
                    "Connections and frames refused on the overlay's port; the log names the peer.",
                    (Query(f"topk(10, {rate('sipfarm_peer_rejections_total', by='reason')})", "{{reason}}"),),
                ),
                Panel(
                    "Clock offset",
                    "s",
                    "How far a node's clock is ahead of its peers' median: above 1 s it warns, above 5 s it writes "
                    "nothing.",
                    (Query("max by (instance) (sipfarm_clock_offset_seconds{@})", "{{instance}}"),),
                    signed=True,
                ),
                Panel(
                    "Certificates expire in",
                    "s",
                    "Time until a node's certificate expires; renew it with sipfarm ca renew, then reload the node.",
                    (Query("min by (instance) (sipfarm_certificate_expiry_seconds{@})", "{{instance}}"),),
                    signed=True,
                ),
                Panel(
                    "Links opened",
                    "ops",
                    "Links accepted and made; many without churn mean a network that breaks connections.",
                    (Query(rate("sipfarm_links_opened_total", by="direction"), "{{direction}}"),),
                ),
            ),
        ),
    ),
)
