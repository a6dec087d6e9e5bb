"""The dashboard of the farm's face: what strangers ask of its zone, the connections they come over, and what carries a
call from one node to another.

Every node answers for the whole zone, so answers are sums over the nodes that are chosen, and what each node knows of
the zone is shown by node: where they differ, strangers are told different things.
"""

from __future__ import annotations

from typing import Final

from grafana.panels import Dashboard, Panel, Query, rate


def _rejected(reasons: str) -> Query:
    return Query(rate("sipfarm_sip_rejected_total", f'reason=~"{reasons}"', "reason"), "{{reason}}")


FRONT_END: Final = Dashboard(
    "sipfarm-front-end",
    "sipfarm: Front end",
    (
        (
            "Names",
            (
                Panel(
                    "Nodes in the zone",
                    "short",
                    "Nodes that strangers may be sent to, as each node knows it; when there is none the zone keeps the "
                    "last ones.",
                    (Query("sum by (instance) (sipfarm_zone_nodes{@})", "{{instance}}"),),
                ),
                Panel(
                    "Zone changed",
                    "dateTimeAsIso",
                    "The zone's serial is the second of its last change, as the node saw it; 1970 where nobody asks. "
                    "Nodes that have learned the same are a moment apart.",
                    (Query("sum by (instance) (sipfarm_zone_serial{@}) * 1000", "{{instance}}"),),
                ),
                Panel(
                    "Secondaries told",
                    "ops",
                    "Name servers told of a change, each by every node. unanswered: not a word after five attempts "
                    "in a minute, or a refusal.",
                    (Query(rate("sipfarm_dns_notices_total", by="result"), "{{result}}"),),
                ),
                Panel(
                    "Answers by type",
                    "reqps",
                    "Questions to the zone that were answered, by the type asked for.",
                    (Query(rate("sipfarm_dns_answers_total", by="type"), "{{type}}"),),
                ),
                Panel(
                    "Answers by code",
                    "reqps",
                    "NXDOMAIN: no such name. REFUSED: not our zone, or not our secondary. SERVFAIL: the node knows no "
                    "farm at present.",
                    (Query(rate("sipfarm_dns_answers_total", by="rcode"), "{{rcode}}"),),
                ),
                Panel(
                    "Questions without a whole answer",
                    "reqps",
                    "rate: one network asked the same too often, and got nothing, or a short answer that sends it to "
                    "TCP (rate-shortened).",
                    (Query(rate("sipfarm_dns_rejections_total", by="reason"), "{{reason}}"),),
                ),
            ),
        ),
        (
            "Connections",
            (
                Panel(
                    "Flows, by transport",
                    "short",
                    "Open connections, and for UDP the listeners.",
                    (Query("sum by (transport) (sipfarm_flows{@})", "{{transport}}"),),
                ),
                Panel(
                    "Connections opened",
                    "ops",
                    "in: accepted from strangers; out: made to them.",
                    (
                        Query(
                            rate("sipfarm_flows_opened_total", by="transport,direction"), "{{transport}}, {{direction}}"
                        ),
                    ),
                ),
                Panel(
                    "Connections closed, by reason",
                    "ops",
                    "peer is the daily life of phones, drained that of nodes; slow, buffer and malformed are peers "
                    "that harm, handshake is TLS or WebSocket that came to nothing.",
                    (Query(rate("sipfarm_flows_closed_total", by="reason"), "{{reason}}"),),
                ),
                Panel(
                    "TLS handshakes that failed",
                    "ops",
                    "tls-wrong-domain: the server's certificate is for another name. tls-alert: the peer did not like "
                    "ours.",
                    (_rejected("tls-.+|not-tls"),),
                ),
                Panel(
                    "WebSocket refused",
                    "ops",
                    "websocket-origin: a page that sip.websocket_origins does not name. The others are no SIP over "
                    "WebSocket.",
                    (_rejected("websocket-.+"),),
                ),
                Panel(
                    "Balancers refused",
                    "ops",
                    "proxy-not-trusted: not from sip.proxy_networks. proxy-header: a balancer that does not speak the "
                    "PROXY protocol, a health check that does not among them.",
                    (_rejected("proxy-.+"),),
                ),
                Panel(
                    "Limits reached by connections",
                    "ops",
                    "Connections over the limits, in all or from one address, and ones that brought nothing in time.",
                    (_rejected("too-many-connections|too-many-connections-from-source|no-first-message|slow-message"),),
                ),
                Panel(
                    "Certificates for TLS expire in",
                    "s",
                    "Time until the first certificate that a node shows to phones expires; 0 where it shows none.",
                    (Query("min by (instance) (sipfarm_sip_certificate_expiry_seconds{@})", "{{instance}}"),),
                    signed=True,
                ),
            ),
        ),
        (
            "One face",
            (
                Panel(
                    "SIP relayed between nodes",
                    "ops",
                    "Messages for a flow or a transaction of another node. no-flow: the phone's connection had ended; "
                    "no-link: the other node could not be reached.",
                    (Query(rate("sipfarm_relayed_messages_total", by="result"), "{{result}}"),),
                ),
                Panel(
                    "Flows gone, responses that nobody waits for",
                    "ops",
                    "flow-gone: the only way to a phone ended before it registered anew. late and stray responses come "
                    "for transactions that have ended, a dead node's among them.",
                    (_rejected("flow-gone|late-response|stray-response|response-not-ours"),),
                ),
                Panel(
                    "Tokens refused",
                    "ops",
                    "Altered, of another farm, of a key that has ended, or used by whom it was not made for.",
                    (_rejected("token-.+"),),
                ),
                Panel(
                    "Age of the sealing key",
                    "s",
                    "A new one is made once a rotation and seals ten minutes later; 0 while the farm's own key does.",
                    (
                        Query("max by (instance) (sipfarm_sealing_key_age_seconds{@})", "{{instance}}"),
                        Query("max(sipfarm_key_rotation_seconds{@})", "rotation"),
                    ),
                ),
                Panel(
                    "Refused while draining or restoring",
                    "reqps",
                    "New requests that came to a node which is going, or is not yet in step: their senders knew it "
                    "from elsewhere than the zone, or for longer than its TTL.",
                    (_rejected("draining|restoring"),),
                ),
            ),
        ),
    ),
)
