"""What of a configuration can change while the node runs, and what waits for a restart.

`merge` is asked on SIGHUP: the changes that running parts can take make the configuration that holds from then on, and
the others are named, so that nobody believes them in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from farm.config import Config
from farm.settings import REPEATED, SECTIONS

# Sections of which everything can change, less some keys; and keys that can change in a section that cannot.
_WHOLE: Final[Mapping[str, frozenset[str]]] = {
    "limits": frozenset(("receive_buffer_bytes",)),
    "keys": frozenset(),
    "log": frozenset(),
    "tls": frozenset(("trusted_domains",)),
}
_KEYS: Final = frozenset(
    (
        ("auth", "algorithms"),
        ("auth", "allow_without_qop"),
        ("overlay", "seeds"),
        ("dns", "secondaries"),
        ("dns", "responses_per_second"),
        ("dns", "connections"),
        ("dns", "idle_seconds"),
    )
)


class Merged(NamedTuple):
    """The configuration that holds after a reload, and the keys (`section.key`) that want a restart."""

    config: Config
    waiting: list[str]


def merge(old: Config, new: Config) -> Merged:
    """Take from `new` what a running node can take. All of `[log]`, `[[routes]]` and `[[gateways]]` is."""
    sections: dict[str, Any] = {}
    waiting: list[str] = []
    for name in SECTIONS:
        before, after = getattr(old, name), getattr(new, name)
        if name in REPEATED:
            sections[name] = after
            continue
        taken: dict[str, Any] = {}
        for key in before.__struct_fields__:
            if getattr(before, key) == getattr(after, key):
                continue
            if can_change(name, key):
                taken[key] = getattr(after, key)
            else:
                waiting.append(f"{name}.{key}")
        sections[name] = msgspec.structs.replace(before, **taken)
    return Merged(Config(**sections), waiting)


def can_change(section: str, key: str) -> bool:
    """Whether a running node takes a change of this key."""
    if section in REPEATED or (section, key) in _KEYS:
        return True
    return section in _WHOLE and key not in _WHOLE[section]
