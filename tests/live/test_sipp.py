"""SIPp registers users by the thousand and calls them through the node; nothing may fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.nodes import Nodes
from tests.support.sipp import Sipp, describe, write_users
from tests.support.tools import need

Hosts = Callable[[int], list[str]]


@pytest.mark.parametrize(
    ("transport", "users", "registers_per_second", "calls", "calls_per_second"),
    [("udp", 10_000, 1_000, 3_000, 100), ("tcp", 1_000, 200, 300, 10)],
    ids=["udp", "tcp"],
)
def test_all_users_register_and_all_calls_succeed(
    nodes: Nodes,
    hosts: Hosts,
    tmp_path: Path,
    transport: str,
    users: int,
    registers_per_second: int,
    calls: int,
    calls_per_second: int,
) -> None:
    need("sipp")
    caller_host, callee_host = hosts(2)
    node = nodes.start()
    mode = {"udp": "u1", "tcp": "t1"}[transport]
    file = write_users(tmp_path / "users.csv", users, f"sip:{{user}}@{callee_host}:5060")

    # The phones' own address registers them, as a device would.
    phones = Sipp(
        "register.xml",
        node.sip,
        (callee_host, 5060),
        tmp_path,
        calls=users,
        rate=registers_per_second,
        users=file,
        transport=mode,
    )
    try:
        code = phones.wait(60 + 2 * users / registers_per_second)
    finally:
        phones.kill()
    assert code == 0, describe([phones])
    assert phones.statistics().successful == users, describe([phones])
    assert node.metric("registrations") == users
    assert node.metric("sip_requests_total", method="REGISTER", direction="in") >= users

    callee = Sipp("callee.xml", node.sip, (callee_host, 5060), tmp_path, transport=mode)
    caller = Sipp(
        "caller.xml",
        node.sip,
        (caller_host, 5060),
        tmp_path,
        calls=calls,
        rate=calls_per_second,
        users=file,
        transport=mode,
    )
    try:
        code = caller.wait(60 + 2 * calls / calls_per_second)
        callee.finish()
    finally:
        caller.kill()
        callee.kill()
    sides = [caller, callee]
    assert code == 0, describe(sides)
    assert caller.statistics().successful == calls, describe(sides)
    assert callee.statistics().failed == 0, describe(sides)
    assert node.metric("sip_requests_total", method="INVITE", direction="in") >= calls
    assert node.metric("sip_responses_total", method="INVITE", direction="out", **{"class": "2xx"}) >= calls
    assert node.metric("sip_responses_total", method="INVITE", direction="out", **{"class": "5xx"}) == 0
    assert node.metric("sip_responses_total", method="BYE", direction="out", **{"class": "2xx"}) >= calls
