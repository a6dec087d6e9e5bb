"""Makes the dashboards from the metric catalogue: `make docs` writes them, a test keeps them up to date.

The output is deterministic: fixed uid, ids by order, sorted keys. Every panel has a unit and a description, and every
metric it asks for is in the catalogue; `make_dashboard` raises ValueError otherwise.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from farm.metrics import Metrics

FOLDER: Final = Path(__file__).parent / "dashboards"
SELECT: Final = 'job=~"$job",instance=~"$instance"'
CREDENTIALS: Final = (
    "no-credentials|wrong-password|unknown-user|stale-nonce|foreign-nonce|replayed-nonce|forgotten-nonce|banned"
)
_WIDTH: Final = 8
_HEIGHT: Final = 8
_METRIC: Final = re.compile(r"\b(?:sipfarm|process)_[a-z_]+")
_SUFFIXES: Final = ("_bucket", "_sum", "_count")


class Query(NamedTuple):
    """One line of a panel: PromQL, in which `@` stands for the selection by job and instance, and its legend."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One graph. `unit` is Grafana's name of it."""

    title: str
    unit: str
    description: str
    queries: tuple[Query, ...]


class Dashboard(NamedTuple):
    """A file of its own: rows of panels under titles."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def rate(metric: str, labels: str = "", by: str = "") -> str:
    """The sum of a counter's rates over the instances."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{@{',' + labels if labels else ''}}}[$__rate_interval]))"


def quantile(share: float, metric: str, labels: str = "") -> str:
    """A quantile of a histogram over the instances."""
    return f"histogram_quantile({share:g}, {rate(metric + '_bucket', labels, 'le')})"


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
                    (Query(rate("sipfarm_sip_rejected_total", f'reason=~"{CREDENTIALS}"', "reason"), "{{reason}}"),),
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

DASHBOARDS: Final = {"sip-traffic.json": SIP_TRAFFIC}


def make_dashboard(dashboard: Dashboard) -> str:
    """The JSON that Grafana reads. Raises ValueError when a query asks for what the catalogue lacks."""
    known = {family.name for family in Metrics().families}
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in dashboard.rows:
        grid: dict[str, int] = {"h": 1, "w": 24, "x": 0, "y": top}
        panels.append({"collapsed": False, "gridPos": grid, "id": len(panels) + 1, "title": title, "type": "row"})
        top += 1
        for index, panel in enumerate(row):
            for query in panel.queries:
                _check_query(query.expression, known)
            grid = {"h": _HEIGHT, "w": _WIDTH, "x": index % 3 * _WIDTH, "y": top + index // 3 * _HEIGHT}
            panels.append(_make_panel(panel, len(panels) + 1, grid))
        top += (len(row) + 2) // 3 * _HEIGHT
    content = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["sipfarm"],
        "editable": True,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _make_variables()},
        "panels": panels,
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _make_panel(panel: Panel, number: int, grid: dict[str, int]) -> dict[str, Any]:
    datasource = {"type": "prometheus", "uid": "$datasource"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": datasource,
        "gridPos": grid,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": datasource,
                "expr": query.expression.replace("@", SELECT),
                "legendFormat": query.legend,
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _make_variables() -> list[dict[str, Any]]:
    source = {"type": "prometheus", "uid": "$datasource"}
    common: dict[str, Any] = {"datasource": source, "includeAll": True, "multi": True, "refresh": 2, "type": "query"}
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {"name": "job", "label": "Job", "query": "label_values(sipfarm_build_info, job)", **common},
        {
            "name": "instance",
            "label": "Node",
            "query": 'label_values(sipfarm_build_info{job=~"$job"}, instance)',
            **common,
        },
    ]


def _check_query(expression: str, known: set[str]) -> None:
    for name in _METRIC.findall(expression):
        base = next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
        if name not in known and base not in known and not name.startswith("process_"):
            raise ValueError(f"no metric {name} in the catalogue: {expression}")


def main() -> None:
    """Write all dashboards, where provisioning/dashboards/sipfarm.yaml has Grafana look for them."""
    for name, dashboard in DASHBOARDS.items():
        (FOLDER / name).write_text(make_dashboard(dashboard))


if __name__ == "__main__":
    main()
