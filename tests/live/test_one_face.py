"""Three real nodes are one SIP element: whichever a message reaches, it works, and who sends or gets it sees one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import Agent, Received, make_token
from tests.support.certificates import write_sip_files
from tests.support.faces import FARM_NAME
from tests.support.live_farm import LiveFarm
from tests.support.live_phones import LivePhone, exchange, make_listeners, set_up

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

HOWS = ["udp", "nat", "tcp", "tls", "ws", "wss"]


def make_face(make_farm: MakeFarm, directory: Path, **options: Any) -> LiveFarm:
    """A farm under one name that listens on everything."""
    tls = write_sip_files(directory / "tls")
    farm = make_farm(sip={"farm_name": FARM_NAME}, tls=tls, make_listeners=make_listeners, **options)
    farm.start()
    return farm


def test_a_phone_of_one_node_is_called_at_another_and_either_side_ends_it_through_a_third(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    """Whatever the phone speaks; before it ends the call, and while it is connected to one node as well, it asks
    something through each."""
    callee_host, caller_host = hosts(2)
    farm = make_face(make_farm, tmp_path)
    first, second, third = farm.hosts
    for how in HOWS:
        with (
            LivePhone(first, callee_host, f"bob-{how}", how) as bob,
            LivePhone(second, caller_host, f"alice-{how}", "udp") as alice,
        ):
            bob.enter()
            for node in (third, second, first):
                alice.turn_to(second)
                ours, theirs = set_up(alice, bob)
                exchange(theirs, ours, "INFO")
                alice.turn_to(node)
                exchange(ours, theirs, "INVITE")
                exchange(ours, theirs, "BYE")
            ours, theirs = set_up(alice, bob)
            for node in (second, third):
                bob.turn_to(node)
                exchange(theirs, ours, "INVITE")
                exchange(ours, theirs, "INFO")
            exchange(theirs, ours, "BYE")
    assert farm.metric("sip_rejected_total") == 0


@pytest.mark.parametrize(("one", "other"), [("nat", "tls"), ("ws", "nat"), ("tcp", "wss"), ("tls", "ws")])
def test_two_phones_that_only_their_own_nodes_reach_speak_to_each_other(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path, one: str, other: str
) -> None:
    callee_host, caller_host = hosts(2)
    farm = make_face(make_farm, tmp_path)
    with (
        LivePhone(farm.hosts[0], callee_host, "bob", one) as bob,
        LivePhone(farm.hosts[2], caller_host, "alice", other) as alice,
    ):
        bob.enter()
        alice.enter()
        ours, theirs = set_up(alice, bob)
        exchange(theirs, ours, "INVITE")
        exchange(ours, theirs, "INFO")
        exchange(theirs, ours, "BYE")
        ours, theirs = set_up(bob, alice)
        exchange(ours, theirs, "BYE")
        bob.refuse(alice, 486)


def try_credentials(phone: Agent, node: str, line: str, *, cseq: int = 7) -> Received:
    """A REGISTER at a node with that line; its final response."""
    phone.target = (node, 5060)
    to = f"<{phone.aor}>"
    text = phone.make_request("REGISTER", "sip:example.com", to=to, call_id=make_token(), cseq=cseq, headers=[line])
    phone.send_request(text)
    return phone.expect_final(method="REGISTER")


def test_a_challenge_of_one_node_is_answered_at_another_and_refused_as_a_replay_at_all(
    make_farm: MakeFarm, hosts: Hosts
) -> None:
    (host,) = hosts(1)
    farm = make_farm(open_farm=False, sip={"farm_name": FARM_NAME})
    farm.start()
    first, second, third = farm.hosts
    file = farm[0].config.parent / "password"
    file.write_text("a-secret")
    farm.console(0, "user", "add", "bob@example.com", "--password-file", str(file))
    with LivePhone(first, host, "bob", "udp") as bob:
        for asked, answered in ((first, second), (second, third), (third, first)):
            bob.turn_to(asked)
            challenge = bob.register()
            assert challenge.status == 401
            lines = {
                count: bob.make_credentials(challenge, "REGISTER", "sip:example.com", "a-secret", count=count)
                for count in (1, 2)
            }
            assert try_credentials(bob, answered, lines[1]).status == 200
            for node in (asked, answered, third, second, first):
                assert try_credentials(bob, node, lines[1]).status == 401, "a replay"
            assert try_credentials(bob, asked, lines[2]).status == 200, "the nonce itself is good"
            for node in farm.hosts:
                assert try_credentials(bob, node, lines[2]).status == 401
                assert try_credentials(bob, node, lines[1]).status == 401
