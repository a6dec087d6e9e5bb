"""The dashboard of what the farm does for phones: traffic, quality by RFC 6076, registrations, and the process."""

from __future__ import annotations

from typing import Final

from grafana.panels import Dashboard, Panel, Query, quantile, rate

_CREDENTIALS: Final = (
    "no-credentials|wrong-password|unknown-user|stale-nonce|foreign-nonce|replayed-nonce|forgotten-nonce|banned"
)

SIP_TRAFFIC: Final = Dashboard(
    "sipfarm-sip-traffic",
    "sipfarm: SIP traffic",
    (
        (
            "Traffic",
            (
                Panel(
                    "Call attempts",
                    "reqps",
                    "INVITEs that arrived, retransmissions not counted.",
                    (Query(rate("sipfarm_sip_requests_total", 'method="INVITE",direction="in"'), "INVITE"),),
                ),
                Panel(
                    "Requests in, by method",
                    "reqps",
                    "All requests that arrived.",
                    (Query(rate("sipfarm_sip_requests_total", 'direction="in"', "method"), "{{method}}"),),
                ),
                Panel(
                    "Responses out, by class",
                    "reqps",
                    "What callers and registering devices were answered.",
                    (Query(rate("sipfarm_sip_responses_total", 'direction="out"', "class"), "{{class}}"),),
                ),
                Panel(
                    "Transactions alive",
                    "short",
                    "By type of RFC 3261 section 17; a type that only grows does not end.",
                    (Query("sum by (type) (sipfarm_sip_transactions{@})", "{{type}}"),),
                ),
                Panel(
                    "Retransmissions",
                    "reqps",
                    "Received: peers did not hear us in time. Sent: we did not hear them.",
                    (Query(rate("sipfarm_sip_retransmissions_total", by="direction"), "{{direction}}"),),
                ),
                Panel(
                    "Rejected, the ten commonest reasons",
                    "reqps",
                    "Messages refused or dropped; the log names the source of each reason.",
                    (Query(f"topk(10, {rate('sipfarm_sip_rejected_total', by='reason')})", "{{reason}}"),),
                ),
            ),
        ),
        (
            "Quality",
            (
                Panel(
                    "Session establishment ratio",
                    "percentunit",
                    "RFC 6076 section 4.6: INVITEs answered 2xx over those with a final answer other than 3xx.",
                    (
                        Query(
                            rate("sipfarm_sip_responses_total", 'method="INVITE",direction="out",class="2xx"')
                            + " / "
                            + rate("sipfarm_sip_responses_total", 'method="INVITE",direction="out",class!~"1xx|3xx"'),
                            "SER",
                        ),
                    ),
                ),
                Panel(
                    "Failures as a share of final answers",
                    "percentunit",
                    "4xx, 5xx and 6xx among the final answers to INVITE.",
                    (
                        Query(
                            rate(
                                "sipfarm_sip_responses_total",
                                'method="INVITE",direction="out",class=~"[456]xx"',
                                "class",
                            )
                            + " / ignoring(class) group_left "
                            + rate("sipfarm_sip_responses_total", 'method="INVITE",direction="out",class!="1xx"'),
                            "{{class}}",
                        ),
                    ),
                ),
                Panel(
                    "Added set-up time",
                    "s",
                    "From the INVITE in to the INVITE out: what this element adds to a call's set-up.",
                    (
                        Query(quantile(0.5, "sipfarm_sip_setup_added_seconds"), "p50"),
                        Query(quantile(0.99, "sipfarm_sip_setup_added_seconds"), "p99"),
                    ),
                ),
                Panel(
                    "Request delay of what is not a call",
                    "s",
                    "From a request out to its final response in (RFC 6076 section 4.1 gives it for REGISTER).",
                    (
                        Query(quantile(0.5, "sipfarm_sip_request_delay_seconds", 'method!="INVITE"'), "p50"),
                        Query(quantile(0.95, "sipfarm_sip_request_delay_seconds", 'method!="INVITE"'), "p95"),
                    ),
                ),
                Panel(
                    "Timeouts",
                    "reqps",
                    "B and F: no answer came. H: no ACK came. C: it rang too long.",
                    (Query(rate("sipfarm_sip_timeouts_total", by="timer"), "timer {{timer}}"),),
                ),
                Panel(
                    "Fail-over and gateways down",
                    "short",
                    "Requests a second that went on to their next server, and targets that answer no probe.",
                    (
                        Query(rate("sipfarm_sip_failovers_total", by="reason"), "{{reason}}"),
                        Query("sum(1 - sipfarm_gateway_up{@})", "gateways down"),
                    ),
                ),
            ),
        ),
        (
            "Registrations",
            (
                Panel(
                    "Registrations",
                    "short",
                    "Bindings alive.",
                    (Query("sum(sipfarm_registrations{@})", "bindings"),),
                ),
                Panel(
                    "REGISTER, by outcome",
                    "reqps",
                    "Refused ones were wrong or forbidden; failed ones are our fault.",
                    (Query(rate("sipfarm_registrations_total", by="result"), "{{result}}"),),
                ),
                Panel(
                    "Credentials refused, by reason",
                    "reqps",
                    "No credentials and stale nonces are a phone's daily life; wrong passwords and replays are not.",
                    (Query(rate("sipfarm_sip_rejected_total", f'reason=~"{_CREDENTIALS}"', "reason"), "{{reason}}"),),
                ),
            ),
        ),
        (
            "Node",
            (
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
                    "Event loop lag",
                    "s",
                    "How late timers run: the queue inside the process. Above 100 ms peers retransmit.",
                    (Query(quantile(0.99, "sipfarm_event_loop_lag_seconds"), "p99"),),
                ),
                Panel(
                    "Flows",
                    "short",
                    "Open connections, and for UDP the listeners.",
                    (Query("sum by (transport) (sipfarm_flows{@})", "{{transport}}"),),
                ),
                Panel(
                    "DNS",
                    "s",
                    "Time of one question, and questions that failed.",
                    (
                        Query(quantile(0.95, "sipfarm_resolver_seconds"), "p95"),
                        Query(rate("sipfarm_resolver_seconds_count", 'result=~"failed|timeout"'), "failed a second"),
                    ),
                ),
                Panel(
                    "Journal",
                    "short",
                    "Changes that wait for the disk, and operations that failed: both belong near zero.",
                    (
                        Query("sum(sipfarm_journal_pending{@})", "waiting"),
                        Query(rate("sipfarm_journal_errors_total"), "errors a second"),
                    ),
                ),
            ),
        ),
    ),
)
