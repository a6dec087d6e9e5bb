"""The configuration is packed in an order that later versions only add to."""

from __future__ import annotations

import msgspec

from farm.security.config_record import OverlayConfig, SignedConfig

CONFIG = OverlayConfig(7, "farm.example", 4, ("example.com",), 4096, (b"n" * 32,), 1_800_000_000)


def test_the_order_of_the_fields_is_the_order_of_the_bytes() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(CONFIG)) == [
        7,
        "farm.example",
        4,
        ["example.com"],
        4096,
        [b"n" * 32],
        1_800_000_000,
    ]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(SignedConfig(b"a", b"b"))) == [b"a", b"b"]


def test_an_older_node_reads_what_it_knows_of_a_newer_configuration() -> None:
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(msgspec.msgpack.encode(CONFIG)), "new"])
    assert msgspec.msgpack.decode(newer, type=OverlayConfig) == CONFIG
    older = msgspec.msgpack.encode([1, "farm.example"])
    assert msgspec.msgpack.decode(older, type=OverlayConfig) == OverlayConfig(1, "farm.example", 3, (), 4096, (), 0)
