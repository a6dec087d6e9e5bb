"""The configuration of an overlay as it is signed and kept.

Values alone, in the order in which they are packed; what they mean and how they merge is `overlay_config`'s.

Decided: a file of its own because msgspec reads the annotations when a record is unpacked, and mypyc, which compiles
what works on them (setup.py), would leave nothing of `tuple[bytes, ...]`.
"""

from __future__ import annotations

import msgspec


class OverlayConfig(msgspec.Struct, frozen=True, array_like=True):
    """What all nodes of an overlay agree on. The greatest `sequence` counts. `domains` are those whose users may
    register, lower case, none: each node's own; `denied` are Node-IDs; `issued_at` is in seconds since 1970."""

    sequence: int
    overlay: str
    replicas: int = 3
    domains: tuple[str, ...] = ()
    partitions: int = 4096
    denied: tuple[bytes, ...] = ()
    issued_at: int = 0


class SignedConfig(msgspec.Struct, frozen=True, array_like=True):
    """A packed OverlayConfig, and the authority's signature (ECDSA with SHA-256, DER) over it."""

    config: bytes
    signature: bytes
