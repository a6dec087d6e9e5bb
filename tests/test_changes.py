"""What a reload changes, and what it says wants a restart."""

from __future__ import annotations

import msgspec

from farm.changes import can_change, merge
from farm.config import Config
from farm.settings import REPEATED, SECTIONS


def config_of(**sections: object) -> Config:
    """A configuration of these sections."""
    tree = {"node": {"name": "n1", "state_dir": "/x"}, "sip": {"domains": ["example.com"]}, **sections}
    return msgspec.convert(tree, Config)


def test_what_running_parts_can_take_is_taken() -> None:
    new = config_of(
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


def test_what_wants_a_restart_is_named_and_stays_as_it_was_also_at_the_next_reload() -> None:
    old = config_of()
    new = config_of(
        sip={"domains": ["example.net"]}, limits={"receive_buffer_bytes": 1, "burst": 7}, auth={"open": True}
    )
    merged = merge(old, new)
    assert merged.waiting == ["sip.domains", "auth.open", "limits.receive_buffer_bytes"]
    assert merged.config == config_of(limits={"burst": 7})
    assert merge(merged.config, new).waiting == merged.waiting
    assert merge(merged.config, old) == (old, [])


def test_most_settings_want_a_restart() -> None:
    found = {section for section in SECTIONS if any(can_change(section, key) for key in fields_of(section))}
    assert found == {"auth", "dns", "keys", "limits", "log", "overlay", "tls"} | REPEATED


def fields_of(section: str) -> tuple[str, ...]:
    """The keys of a section."""
    return SECTIONS[section].__struct_fields__
