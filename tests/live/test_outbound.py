"""Real phones (baresip) with outbound register over two nodes, keep both flows alive, and are called when one is gone
(RFC 5626)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import write_sip_files
from tests.support.live_farm import LiveFarm
from tests.support.phones import Phone
from tests.support.processes import wait_until
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

FLOW_TIMER_SECONDS = 20  # baresip takes no less
STUN_SECONDS = 29  # what it takes over UDP


def make_phone(farm: LiveFarm, user: str, home: str, directory: Path, transport: str, *nodes: int) -> Phone:
    """A phone whose flows are at these nodes."""
    first, *more = [farm.hosts[node] for node in nodes]
    return Phone(user, "", home, first, directory / user, transport=transport, second=more[0] if more else "")


def flows(farm: LiveFarm, index: int, user: str) -> set[str]:
    """The reg-ids that a node knows of a user with one phone."""
    contacts = farm.contacts(index, user)
    instances = {found[1] for text in contacts if (found := re.search(r'\+sip\.instance="([^"]*)"', text))}
    assert len(instances) <= 1, contacts
    return {found[1] for text in contacts if (found := re.search(r";reg-id=(\d+)", text))}


def secure(directory: Path) -> dict[str, Any]:
    """What makes nodes speak TLS as well, with one certificate for all."""

    def make_listeners(host: str) -> list[str]:
        return [f"udp:{host}:5060", f"tcp:{host}:5060", f"tls:{host}:5061"]

    return {"tls": write_sip_files(directory / "tls"), "make_listeners": make_listeners}


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_a_phone_registers_two_flows_and_keeps_both_alive(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path, transport: str
) -> None:
    need("baresip")
    farm = make_farm(registrar={"flow_timer_seconds": FLOW_TIMER_SECONDS}, **secure(tmp_path))
    farm.start()
    (home,) = hosts(1)
    with make_phone(farm, "alice", home, tmp_path, transport, 0, 1) as alice:
        alice.register()
        alice.expect("REGISTER_OK")
        for index in range(3):
            wait_until(lambda index=index: flows(farm, index, "alice") == {"1", "2"}, 5, f"node {index} knows both")  # type: ignore[misc]
        seconds = STUN_SECONDS if transport == "udp" else FLOW_TIMER_SECONDS
        for index in (0, 1):
            wait_until(
                lambda index=index: farm[index].metric("keepalives_total", transport=transport) >= 2,  # type: ignore[misc]
                seconds * 2 + 3,
                f"node {index} was sent two keep-alives",
            )
            assert farm[index].metric("sip_rejected_total") == 0, "no STUN was refused"
        assert flows(farm, 2, "alice") == {"1", "2"}
        assert not [event for event in alice.events if event.get("type") == "REGISTER_FAIL"], "it got its answers"


def talk(caller: Phone, callee: Phone) -> None:
    """A call that is answered and ended."""
    caller.command("dial", f"sip:{callee.user}@example.com")
    callee.expect("CALL_INCOMING", 5)
    callee.command("accept")
    caller.expect("CALL_ESTABLISHED", 5)
    caller.command("hangup")
    callee.expect("CALL_CLOSED")
    caller.expect("CALL_CLOSED")


@pytest.mark.parametrize(("transport", "how"), [("udp", "kill"), ("tcp", "kill"), ("tls", "kill"), ("tcp", "stop")])
def test_the_next_call_comes_over_the_other_flow_when_the_node_of_one_is_gone(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path, transport: str, how: str
) -> None:
    need("baresip")
    farm = make_farm(**secure(tmp_path))
    farm.start()
    here, there = hosts(2)
    with (
        make_phone(farm, "alice", here, tmp_path, transport, 0, 1) as alice,
        make_phone(farm, "bob", there, tmp_path, "udp", 2) as bob,
    ):
        alice.register()
        alice.expect("REGISTER_OK")
        bob.register()
        wait_until(lambda: flows(farm, 2, "alice") == {"1", "2"}, 5, "the third node knows both")
        talk(bob, alice)
        if how == "kill":
            farm.kill(1)  # the flow there was registered last, so it is the first to be tried
        else:
            assert farm.stop(1) < 10
        talk(bob, alice)
