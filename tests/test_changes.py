"""What a reload changes, and what it says wants a restart."""

from __future__ import annotations

import msgspec
import pytest

from farm.changes import RESTART, RESTART_SECTIONS, can_change, find_reason, merge
from farm.config import Config
from farm.settings import REPEATED, SECTIONS

# What a running node takes, by section. Each of these keys is read again by some part at a reload: whoever adds a key
# adds it here, with the part that takes it, or to RESTART with the reason why it waits.
TAKEN = {
    "sip": {
        "domains", "proxy_networks", "websocket_origins", "websocket_ping_seconds", "role", "record_route",
        "server_header", "trusted_networks", "udp_request_bytes",
    },
    "tls": {"certificates", "keys", "trust", "client_certificates", "trusted_domains", "handshake_seconds"},
    "auth": {"open", "algorithms", "nonce_entries", "allow_without_qop"},
    "keys": {"rotation_seconds", "token_life_seconds"},
    "registrar": {
        "min_expires_seconds", "max_expires_seconds", "default_expires_seconds", "max_bindings", "contact_bytes",
        "flow_timer_seconds", "service_route",
    },
    "proxy": {"timer_c_seconds", "max_forks", "max_breadth", "serial_seconds", "max_forwards"},
    "limits": {
        "header_bytes", "header_count", "uri_bytes", "via_depth", "body_bytes", "connections",
        "connections_per_source", "idle_seconds", "first_message_seconds", "message_seconds", "proxy_header_seconds",
        "connect_seconds", "drain_close_seconds", "write_buffer_bytes", "transactions", "requests_per_second", "burst",
        "failures_per_minute", "ban_seconds", "exempt_networks", "table_entries",
    },
    "resolver": {
        "servers", "timeout_seconds", "cache_entries", "max_ttl_seconds", "negative_seconds", "failed_seconds",
    },
    "overlay": {"seeds", "repair_bytes_per_second", "peer_requests_per_second", "record_writes_per_second"},
    "dns": {
        "addresses", "ttl_seconds", "prefer", "nameservers", "hostmaster", "secondaries", "responses_per_second",
        "connections", "idle_seconds",
    },
    "store": {"flush_seconds", "most_records"},
    "log": {"level", "levels", "format", "file", "reason_lines_per_second"},
    "accounting": {
        "file", "rotate_bytes", "keep", "failed", "answers", "redis", "redis_key", "redis_records", "redis_database",
        "redis_user", "redis_password_file", "most_calls", "longest_call_seconds",
    },
    "capture": {"homer", "agent_id", "auth_key_file", "mask_credentials", "messages_per_second", "share"},
}  # fmt: skip


def config_of(**sections: object) -> Config:
    """A configuration of these sections."""
    tree = {"node": {"name": "n1", "state_dir": "/x"}, "sip": {"domains": ["example.com"]}, **sections}
    return msgspec.convert(tree, Config)


def test_what_running_parts_can_take_is_taken_and_named() -> None:
    new = config_of(
        sip={"domains": ["example.com", "example.net"], "trusted_networks": ["10.0.0.0/8"]},
        log={"level": "debug", "file": "/y"},
        limits={"connections": 5, "requests_per_second": 10},
        auth={"algorithms": ["MD5"]},
        keys={"rotation_seconds": 3600},
        overlay={"seeds": ["10.0.0.2:7400"]},
        routes=[{"domain": "partner.example", "to": ["sip:192.0.2.9"]}],
        gateways=[{"prefix": "+49", "to": ["sip:192.0.2.8"]}],
    )
    merged = merge(config_of(), new)
    assert merged.config == new
    assert merged.waiting == []
    assert merged.changed == [
        "sip.domains", "sip.trusted_networks", "auth.algorithms", "keys.rotation_seconds", "limits.connections",
        "limits.requests_per_second", "overlay.seeds", "log.level", "log.file", "routes", "gateways",
    ]  # fmt: skip


def test_what_wants_a_restart_is_named_and_stays_as_it_was_also_at_the_next_reload() -> None:
    old = config_of()
    new = config_of(
        sip={"domains": ["example.com"], "farm_name": "sip.example.com"},
        limits={"receive_buffer_bytes": 1, "burst": 7},
        store={"backend": "memory"},
    )
    merged = merge(old, new)
    assert merged.waiting == ["sip.farm_name", "limits.receive_buffer_bytes", "store.backend"]
    assert merged.config == config_of(limits={"burst": 7})
    assert merge(merged.config, new).waiting == merged.waiting
    assert merge(merged.config, old) == (old, [], ["limits.burst"])
    assert merge(old, old).changed == []


@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in REPEATED])
def test_each_key_is_taken_by_a_running_node_or_has_a_reason_why_it_waits(section: str) -> None:
    taken = {key for key in fields_of(section) if can_change(section, key)}
    assert taken == TAKEN.get(section, set())


def test_certificates_are_exchanged_and_not_taken_away_from_listeners_that_show_them() -> None:
    old = config_of(tls={"certificates": ["a.pem"], "keys": ["a.key"]})
    assert merge(old, config_of(tls={"certificates": ["b.pem"], "keys": ["a.key"]})).waiting == []
    assert merge(old, config_of(tls={"keys": ["a.key"]})).waiting == ["tls.certificates"]


def test_a_reason_is_given_for_keys_that_there_are() -> None:
    assert {(section, key) for section, key in RESTART if key not in fields_of(section)} == set()
    assert set(RESTART_SECTIONS) <= set(SECTIONS)
    assert find_reason("store", "backend") == "what is kept is kept there, and was read at the start"
    assert find_reason("log", "level") == ""


def fields_of(section: str) -> tuple[str, ...]:
    """The keys of a section."""
    return SECTIONS[section].__struct_fields__
