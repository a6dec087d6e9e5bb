"""Two real phones (baresip) register with digest and call each other; either side hangs up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.nodes import Nodes
from tests.support.phones import Phone
from tests.support.processes import wait_until
from tests.support.tools import need

# baresip 1.0.0 gives up ("Function not implemented") when any challenge beside MD5's names an algorithm it lacks.
ALONE = {"algorithms": ["MD5"]}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_two_phones_register_with_digest_and_call_each_other(
    nodes: Nodes, hosts: Callable[[int], list[str]], tmp_path: Path, transport: str
) -> None:
    need("baresip")
    node = nodes.start(users={"alice": "wonderland", "bob": "builder"}, auth=ALONE)
    alice_host, bob_host = hosts(2)
    with (
        Phone("alice", "wonderland", alice_host, node.sip[0], tmp_path / "alice", transport=transport) as alice,
        Phone("bob", "builder", bob_host, node.sip[0], tmp_path / "bob", transport=transport) as bob,
    ):
        alice.register()
        bob.register()
        assert node.metric("registrations") == 2
        for caller, callee, ender in (
            (alice, bob, alice),
            (bob, alice, bob),
            (alice, bob, bob),
            (bob, alice, alice),
        ):
            caller.command("dial", f"sip:{callee.user}@example.com")
            assert callee.expect("CALL_INCOMING")["peeruri"].startswith(f"sip:{caller.user}@")
            callee.command("accept")
            caller.expect("CALL_ESTABLISHED")
            callee.expect("CALL_ESTABLISHED")
            ender.command("hangup")
            caller.expect("CALL_CLOSED")
            callee.expect("CALL_CLOSED")

        def answered(method: str) -> bool:
            return node.metric("sip_responses_total", method=method, direction="out", **{"class": "2xx"}) >= 4

        wait_until(lambda: answered("INVITE") and answered("BYE"), 5, "four calls are set up and ended")


def test_a_phone_with_a_wrong_password_does_not_register(
    nodes: Nodes, hosts: Callable[[int], list[str]], tmp_path: Path
) -> None:
    need("baresip")
    node = nodes.start(users={"alice": "wonderland"}, auth=ALONE)
    with Phone("alice", "looking-glass", hosts(1)[0], node.sip[0], tmp_path / "alice") as alice:
        alice.try_to_register()
        alice.expect("REGISTER_FAIL")
    assert node.metric("registrations") == 0
