"""What of a configuration can change while the node runs, and what waits for a restart, with the reason.

`merge` is asked at every reload: the changes that running parts can take make the configuration that holds from then
on, and the others are named, so that nobody believes them in force. A key is taken unless `RESTART` or a section of
`RESTART_SECTIONS` names it; `docs/configuration.md` shows the same to who writes a file.

Decided: the keys that cannot change are listed, not those that can. A new key is then taken until somebody says why
not, and the reason is what an operator wants to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from farm.config import Config
from farm.settings import REPEATED, SECTIONS

_PLACE: Final = "its journal and the lock lie there"
_LISTENER: Final = "sockets are opened at the start, when a low port may be bound"
_WRITTEN: Final = "it stands in the messages of calls that are under way"
_TIMERS: Final = "transactions that are under way count by it"
_STORE: Final = "what is kept is kept there, and was read at the start"
_PEERS: Final = "the overlay was joined with it"

RESTART: Final[Mapping[tuple[str, str], str]] = {
    ("node", "name"): "the certificate and the other nodes know it by this name",
    ("node", "state_dir"): _PLACE,
    ("sip", "listen"): _LISTENER,
    ("sip", "proxy_listen"): _LISTENER,
    ("sip", "farm_name"): _WRITTEN,
    ("sip", "advertise"): _WRITTEN,
    ("sip", "shared_address"): "all nodes must agree on who answers",
    ("sip", "t1_seconds"): _TIMERS,
    ("sip", "t2_seconds"): _TIMERS,
    ("sip", "t4_seconds"): _TIMERS,
    ("auth", "nonce_key_file"): "phones hold nonces that were made with it",
    ("auth", "nonce_life_seconds"): "the memory of used nonces is laid out by it",
    ("limits", "receive_buffer_bytes"): "the kernel is asked when a socket is opened",
    ("overlay", "listen"): _LISTENER,
    ("overlay", "advertise"): _PEERS,
    ("overlay", "identity"): "who the node is does not change while it runs; renewed files there are taken",
    ("overlay", "dns"): _PEERS,
    ("overlay", "multicast"): _LISTENER,
    ("overlay", "join_seconds"): "the node has joined",
    ("overlay", "replicas"): "the signed configuration says it: `sipfarm ca config --replicas`",
    ("overlay", "writes"): _PEERS,
    ("overlay", "write_seconds"): _PEERS,
    ("overlay", "stand_in_seconds"): _PEERS,
    ("overlay", "coalesce_seconds"): _PEERS,
    ("overlay", "probe_seconds"): _PEERS,
    ("overlay", "hold_down_seconds"): "repairs that wait count by it",
    ("overlay", "compare_seconds"): "the rounds that are under way count by it",
    ("dns", "listen"): _LISTENER,
    ("dns", "zone"): "its name is in the answers that resolvers keep",
    ("store", "backend"): _STORE,
    ("store", "redis"): _STORE,
    ("store", "redis_sentinels"): _STORE,
    ("store", "redis_master"): _STORE,
    ("store", "redis_database"): _STORE,
    ("store", "redis_user"): _STORE,
    ("store", "redis_password_file"): _STORE,
    ("store", "redis_prefix"): _STORE,
    ("store", "redis_timeout_seconds"): _STORE,
    ("admin", "http"): _LISTENER,
    ("admin", "control"): _LISTENER,
}
_NEVER_NONE: Final = frozenset(("certificates",))  # listeners that show one are there until the restart
RESTART_SECTIONS: Final[Mapping[str, str]] = {}


class Merged(NamedTuple):
    """The configuration that holds after a reload, the keys (`section.key`) that want a restart, and those that were
    taken."""

    config: Config
    waiting: list[str]
    changed: list[str]


def merge(old: Config, new: Config) -> Merged:
    """Take from `new` what a running node can take."""
    sections: dict[str, Any] = {}
    waiting: list[str] = []
    changed: list[str] = []
    for name in SECTIONS:
        before, after = getattr(old, name), getattr(new, name)
        if name in REPEATED:
            sections[name] = after
            if before != after:
                changed.append(name)
            continue
        taken: dict[str, Any] = {}
        for key in before.__struct_fields__:
            if getattr(before, key) == getattr(after, key):
                continue
            if can_change(name, key) and (key not in _NEVER_NONE or getattr(after, key)):
                taken[key] = getattr(after, key)
                changed.append(f"{name}.{key}")
            else:
                waiting.append(f"{name}.{key}")
        sections[name] = msgspec.structs.replace(before, **taken)
    return Merged(Config(**sections), waiting, changed)


def can_change(section: str, key: str) -> bool:
    """Whether a running node takes a change of this key."""
    return not find_reason(section, key)


def find_reason(section: str, key: str) -> str:
    """Why a change of this key wants a restart; "" when it does not."""
    return RESTART_SECTIONS.get(section) or RESTART.get((section, key), "")
