"""The values that labels of metrics take: all of them are known before the first message comes.

A value that stands in no list here reads as "other" (`series.py`). Who counts by one of these words declares it here.
"""

from __future__ import annotations

from typing import Final

from farm.series import OTHER

METHODS: Final = (
    "INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REFER",
    "INFO", "PRACK", "UPDATE", OTHER,
)  # fmt: skip
ANSWERED_METHODS: Final = tuple(method for method in METHODS if method != "ACK")
FORWARDED_METHODS: Final = tuple(method for method in ANSWERED_METHODS if method != "CANCEL")  # as a request of its own
DIRECTIONS: Final = ("in", "out")
CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "6xx")
TRANSPORTS: Final = ("udp", "tcp", "tls", "ws", "wss", OTHER)
TYPES: Final = ("invite-server", "server", "invite-client", "client")
STATES: Final = tuple(
    (kind, state)
    for kind, states in (
        ("invite-server", ("trying", "proceeding", "completed", "confirmed", "accepted")),
        ("server", ("trying", "proceeding", "completed")),
        ("invite-client", ("calling", "proceeding", "completed", "accepted")),
        ("client", ("trying", "proceeding", "completed")),
    )
    for state in states
)
KINDS: Final = ("registration", "credential", "keys", "config", OTHER)
STORED_KINDS: Final = ("registration", "credential", "keys", OTHER)  # that owners keep: config is everywhere
PLACES: Final = ("transport", "timer", "core", "resolver", "journal", "admin", "overlay", "dns", "accounting", OTHER)
ROLES: Final = ("owner", "replica", "guest")
LIMITED: Final = ("records", "transactions", "connections")
DNS_TYPES: Final = ("A", "AAAA", "ANY", "AXFR", "IXFR", "NAPTR", "NS", "SOA", "SRV", OTHER)
DNS_CODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS", OTHER)
MEMBER_STATES: Final = ("joining", "alive", "suspect", "dead", "left")
RPCS: Final = (
    "ping", "ping-request", "find-node", "fetch", "store", "stat", "scan", "digest", "keys", "pull", "push", "spend",
    "diagnose",
)  # fmt: skip
LOOKUPS: Final = ("owners", "upkeep", "trace")

# The changes of a node's state that there are, by what tells of them: from, to, cause. Of itself a node says no more
# than three states, a probe makes suspects, a time that has passed makes the dead; word of others and a link that opens
# or breaks may tell anything.
TRANSITIONS: Final = tuple(
    (before, after, cause)
    for cause, befores, afters in (
        ("self", ("joining", "alive", "left"), ("joining", "alive", "left")),
        ("gossip", ("none", *MEMBER_STATES), MEMBER_STATES),
        ("probe", ("joining", "alive"), ("suspect",)),
        ("link", ("none", *MEMBER_STATES), MEMBER_STATES),
        ("timeout", ("joining", "alive", "suspect"), ("dead",)),
    )
    for before in befores
    for after in afters
    if before != after
)

# What became of an INVITE that would open a dialog, by RFC 6076's classes of responses (§4.6-4.8); who ended a call.
CALL_RESULTS: Final = (
    "answered", "busy", "no-answer", "cancelled", "refused", "redirected", "unreachable", "failed", OTHER,
)  # fmt: skip
CALL_ENDS: Final = ("caller", "callee", "farm", "lost")

# Why a node was refused, or a frame of one.
PEER_REASONS: Final = (
    "no-certificate", "wrong-ca", "wrong-overlay", "expired", "node-id-mismatch", "denied", "wrong-role", "wrong-kind",
    "foreign-domain", "same-node-id", "version", "handshake", "handshake-timeout", "no-hello", "bad-frame",
    "bad-message", "oversize-frame", "bad-record", "clock", "too-many-links", "rate", "queue-full",
    "bad-contact", "full", OTHER,
)  # fmt: skip

# Why a connection ended.
CLOSE_REASONS: Final = (
    "peer", "idle", "slow", "limit", "buffer", "malformed", "failed", "handshake", "drained", "stopped",
)  # fmt: skip

# Why a message was turned away, as SipError.reason, the transports and the limits name it.
REASONS: Final = (
    "address-of-record-not-sip", "algorithm-not-offered", "bad-address", "bad-branch", "bad-call-id", "bad-contact",
    "bad-content-length", "bad-credentials", "bad-cseq", "bad-extension", "bad-header", "bad-header-name",
    "bad-ipv4-address", "bad-ipv6-address", "bad-method", "bad-number", "bad-parameter", "bad-port", "bad-q",
    "bad-received", "bad-reg-id", "bad-start-line", "bad-tag", "bad-tel-uri", "bad-uri", "bad-user", "bad-utf-8",
    "bad-version", "bad-via", "banned", "body-too-large", "caller-unreachable", "cancelled", "contact-is-own-address",
    "contact-not-sip", "contact-too-long", "control-character", "cseq-mismatch", "cseq-out-of-order", "draining",
    "empty", "first-hop-lacks-outbound", "flow-gone", "foreign-address-of-record", "foreign-domain", "foreign-nonce",
    "forgotten-nonce", "header-too-large", "internal-error", "interval-too-brief", "keepalive-rate", "late-response",
    "loop", "max-breadth", "missing-call-id", "missing-content-length", "missing-cseq", "missing-from", "missing-to",
    "missing-via", "no-credentials", "no-first-message", "no-gateway", "no-transport", "no-user-in-uri", "no-via",
    "not-registered", "not-secure", "not-sent", "not-sip", "not-the-sender", "not-tls", "path-not-supported",
    "proxy-header", "proxy-header-slow", "proxy-not-trusted", "qop-not-offered", "relay-refused", "repeated-contact",
    "repeated-content-length", "repeated-parameter", "replayed-nonce", "request-rate", "response-not-ours", "restoring",
    "several-flows", "short-body", "slow-message", "stale-nonce", "star-without-expires-0", "store-full",
    "store-unavailable", "stray-response", "stun", "stun-rate", "third-party", "tls-alert", "tls-expired",
    "tls-handshake", "tls-no-certificate", "tls-timeout", "tls-version", "tls-wrong-ca", "tls-wrong-domain",
    "tls-wrong-usage", "token-altered", "token-expired-key", "token-refused", "too-many-bindings",
    "too-many-connections", "too-many-connections-from-source", "too-many-headers", "too-many-hops",
    "too-many-transactions", "too-many-vias", "truncated", "unknown-gruu", "unknown-scheme", "unknown-user",
    "unlocatable-scheme", "unresolvable", "unsupported", "uri-headers", "uri-mismatch", "uri-too-long", "user-disabled",
    "websocket-frame", "websocket-message-too-large", "websocket-origin", "websocket-subprotocol", "websocket-upgrade",
    "write-buffer-full", "wrong-password",
    OTHER,
)  # fmt: skip
