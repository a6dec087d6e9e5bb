"""The dashboard of what the farm does for phones: traffic, the figures of RFC 6076, registrations, and gateways.

The figures are recorded (deploy/recording.yml says how each is reckoned and what it leaves out): those of a farm as a
whole do not change with the instances that are chosen, those by node do.
"""

from __future__ import annotations

from typing import Final

from grafana.panels import Dashboard, Panel, Query, make_heatmap, quantile, rate

_CREDENTIALS: Final = (
    "no-credentials|wrong-password|unknown-user|stale-nonce|foreign-nonce|replayed-nonce|forgotten-nonce|banned"
)

_TRAFFIC: Final = (
    Panel(
        "INVITEs",
        "reqps",
        "INVITEs that arrived, retransmissions not counted; those inside a call and after a challenge as well.",
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
    Panel(
        "Timeouts",
        "reqps",
        "B and F: no answer came. H: no ACK came. C: it rang too long.",
        (Query(rate("sipfarm_sip_timeouts_total", by="timer"), "timer {{timer}}"),),
    ),
    Panel(
        "Events that came too late",
        "ops",
        "Events that a transaction's state does not provide for, and that changed nothing: a second final answer, say.",
        (Query(rate("sipfarm_sip_absorbed_events_total", by="type"), "{{type}}"),),
    ),
    Panel(
        "Addresses banned",
        "short",
        "Addresses that guessed passwords or flooded, and get no answer for a while; sipfarm bans lists them.",
        (Query("sum by (instance) (sipfarm_sip_banned{@})", "{{instance}}"),),
    ),
)

_CALLS: Final = (
    Panel(
        "SER and SEER",
        "percentunit",
        "RFC 6076 sections 4.6 and 4.7, of the whole farm: attempts that were answered; the same with those that failed"
        " because of who was called.",
        (
            Query("job:sipfarm_ser:ratio_rate5m{^}", "SER, {{job}}"),
            Query("job:sipfarm_seer:ratio_rate5m{^}", "SEER, {{job}}"),
        ),
    ),
    Panel(
        "SEER by node",
        "percentunit",
        "RFC 6076 section 4.7, of each node.",
        (Query("instance:sipfarm_seer:ratio_rate5m{@}", "{{instance}}"),),
    ),
    Panel(
        "Ineffective attempts (ISA)",
        "percentunit",
        "RFC 6076 section 4.8: share of attempts that ended with 408, 500, 503 or 504, of the farm and by node.",
        (
            Query("job:sipfarm_isa:ratio_rate5m{^}", "{{job}}"),
            Query("instance:sipfarm_isa:ratio_rate5m{@}", "{{instance}}"),
        ),
    ),
    Panel(
        "Completed (SCR)",
        "percentunit",
        "RFC 6076 section 4.9, over an hour: calls that one of the two hung up, over all attempts.",
        (Query("job:sipfarm_scr:ratio_rate1h{^}", "{{job}}"),),
    ),
    Panel(
        "Final answers to INVITE",
        "percentunit",
        "Shares of the classes among the final answers that left the farm; challenges are among the 4xx.",
        (Query("job_class:sipfarm_invite_answers:ratio_rate5m{^}", "{{class}}, {{job}}"),),
    ),
    Panel(
        "What becomes of attempts, by node",
        "cps",
        "Attempts that came to their end, and those answered, of each node.",
        (
            Query("instance:sipfarm_call_attempts:rate5m{@}", "attempts, {{instance}}"),
            Query("instance:sipfarm_calls_answered:rate5m{@}", "answered, {{instance}}"),
        ),
    ),
    Panel(
        "Failed and unreachable",
        "cps",
        "Attempts by what became of them, without those that were answered.",
        (Query(rate("sipfarm_calls_total", 'result!="answered"', "result"), "{{result}}"),),
    ),
    Panel(
        "Calls end by",
        "cps",
        "Who ended answered calls. lost: nobody did before the node stopped, or for too long.",
        (Query(rate("sipfarm_calls_ended_total", by="by"), "{{by}}"),),
    ),
    Panel(
        "Call time",
        "s",
        "RFC 6076 section 4.5: from the answer to the end. The mean of an hour, of the farm; the median of the nodes"
        " that are chosen.",
        (
            Query("job:sipfarm_sdt_seconds:mean_rate1h{^}", "mean, {{job}}"),
            Query(quantile(0.5, "sipfarm_call_seconds"), "p50"),
        ),
    ),
)

_TIMES: Final = (
    Panel(
        "Session request delay (SRD)",
        "s",
        "RFC 6076 section 4.3: from an INVITE to the first answer that tells the caller something.",
        (
            Query("job_result:sipfarm_srd_seconds:p50_rate5m{^}", "p50, {{result}}, {{job}}"),
            Query("job_result:sipfarm_srd_seconds:p95_rate5m{^}", "p95, {{result}}, {{job}}"),
        ),
    ),
    make_heatmap(
        "Session request delay of calls that were answered",
        "The same, of each call: two bands are two kinds of phones or ways.",
        "sipfarm_sip_session_request_delay_seconds",
        'result="answered"',
    ),
    make_heatmap(
        "Added set-up time",
        "From the INVITE in to the INVITE out: what this element adds to a call's set-up.",
        "sipfarm_sip_setup_added_seconds",
    ),
    Panel(
        "Session disconnect delay (SDD)",
        "s",
        "RFC 6076 section 4.4: from a BYE to its answer; 95 of 100 are faster.",
        (Query("job:sipfarm_sdd_seconds:p95_rate5m{^}", "{{job}}"),),
    ),
    Panel(
        "Request delay of what is not a call",
        "s",
        "From a request out to its final response in.",
        (
            Query(quantile(0.5, "sipfarm_sip_request_delay_seconds", 'method!="INVITE"'), "p50"),
            Query(quantile(0.95, "sipfarm_sip_request_delay_seconds", 'method!="INVITE"'), "p95"),
        ),
    ),
    Panel(
        "Registration request delay (RRD)",
        "s",
        "RFC 6076 section 4.1: from a REGISTER to its 200, without the way to the phone and without challenges.",
        (
            Query("job:sipfarm_rrd_seconds:p50_rate5m{^}", "p50, {{job}}"),
            Query("job:sipfarm_rrd_seconds:p95_rate5m{^}", "p95, {{job}}"),
            Query(quantile(0.99, "sipfarm_sip_registration_delay_seconds"), "p99"),
        ),
    ),
)

_REGISTRATIONS: Final = (
    Panel(
        "Registrations",
        "short",
        "Bindings of the farm, each once; and what each node holds, replicas for others among it.",
        (
            Query("job:sipfarm_registrations:sum{^}", "{{job}}"),
            Query("sum by (instance) (sipfarm_registrations{@})", "held by {{instance}}"),
        ),
    ),
    Panel(
        "REGISTER, by outcome",
        "reqps",
        "challenged is half of an attempt. Refused ones were wrong or forbidden; failed ones are our fault.",
        (Query("sum by (result) (instance_result:sipfarm_registrations:rate5m{@})", "{{result}}"),),
        stacked=True,
    ),
    Panel(
        "Ineffective attempts (IRA)",
        "percentunit",
        "RFC 6076 section 4.2: share of REGISTERs refused or failed, of the farm and by node; a 401 is no failure.",
        (
            Query("job:sipfarm_ira:ratio_rate5m{^}", "{{job}}"),
            Query("instance:sipfarm_ira:ratio_rate5m{@}", "{{instance}}"),
        ),
    ),
    Panel(
        "Credentials refused, by reason",
        "reqps",
        "No credentials and stale nonces are a phone's daily life; wrong passwords and replays are not.",
        (Query(rate("sipfarm_sip_rejected_total", f'reason=~"{_CREDENTIALS}"', "reason"), "{{reason}}"),),
    ),
    Panel(
        "Keep-alives",
        "ops",
        "Pings of phones over their flows: empty lines, and STUN over UDP.",
        (Query(rate("sipfarm_keepalives_total", by="transport"), "{{transport}}"),),
    ),
)

_NEXT_HOPS: Final = (
    Panel(
        "Fail-over",
        "reqps",
        "Requests that went on to their next server, by what the one before did.",
        (Query(rate("sipfarm_sip_failovers_total", by="reason"), "{{reason}}"),),
    ),
    Panel(
        "Gateways",
        "short",
        "Configured targets: 1 while one answers its OPTIONS probes, as the node sees it that sees it worst.",
        (Query("min by (target) (sipfarm_gateway_up{@})", "{{target}}"),),
    ),
    Panel(
        "Probes of gateways",
        "reqps",
        "OPTIONS to configured targets, by outcome.",
        (Query(rate("sipfarm_gateway_probes_total", by="result"), "{{result}}"),),
    ),
    Panel(
        "Servers that failed lately",
        "short",
        "Servers that did not answer or refused, and are tried last for a while.",
        (Query("sum by (instance) (sipfarm_failed_hops{@})", "{{instance}}"),),
    ),
    Panel(
        "DNS",
        "s",
        "Time of one question.",
        (
            Query(quantile(0.5, "sipfarm_resolver_seconds"), "p50"),
            Query(quantile(0.95, "sipfarm_resolver_seconds"), "p95"),
        ),
    ),
    Panel(
        "Questions to DNS, by outcome",
        "reqps",
        "Answers from the cache are not counted; empty ones are names without records, which is not a failure.",
        (Query(rate("sipfarm_resolver_seconds_count", by="result"), "{{result}}"),),
    ),
)

SIP_TRAFFIC: Final = Dashboard(
    "sipfarm-sip-traffic",
    "sipfarm: SIP traffic and KPIs",
    (
        ("Calls", _CALLS),
        ("Times", _TIMES),
        ("Registrations", _REGISTRATIONS),
        ("Traffic", _TRAFFIC),
        ("Next hops", _NEXT_HOPS),
    ),
)
