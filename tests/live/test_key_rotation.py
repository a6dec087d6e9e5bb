"""`sipfarm keys rotate` while calls are up: real nodes go on with every call, until its key has ended for good.

A key seals ten minutes after it was made and opens for hours. The nodes' wall clocks are moved instead of waiting, and
a token whose key nobody knows, which anybody may send, has a node look at its keys at once instead of within a minute.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

from tests.support.agents import Agent, Received
from tests.support.faces import FARM_NAME
from tests.support.live_farm import LiveFarm
from tests.support.live_phones import LiveDialog, LivePhone, exchange, set_up
from tests.support.moved_clock import make_wrapper, move
from tests.support.processes import wait_until

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

ROTATION_SECONDS = 1800
LIFE_SECONDS = 3600
MARGIN_SECONDS = 600
LIVES_SECONDS = MARGIN_SECONDS + 2 * ROTATION_SECONDS + LIFE_SECONDS
MADE_UP = urlsafe_b64encode(bytes((200,)) + bytes(60)).decode().rstrip("=")
AGAIN_SECONDS = 5.0  # between looks at the keys because of tokens


def token_of(dialog: LiveDialog) -> str:
    """The user of the Route that leads through us."""
    return dialog.routes[0].partition("sip:")[2].partition("@")[0]


def number_of(dialog: LiveDialog) -> int:
    """The number of the key that sealed the token of a call."""
    token = token_of(dialog)
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))[0]


def ask_with_token(agent: Agent, node: str, token: str) -> Received:
    """A BYE at a node that only its token could lead somewhere; the final response."""
    agent.target = (node, 5060)
    headers = [f"Route: <sip:{token}@{FARM_NAME};lr>"]
    text = agent.make_request("BYE", "sip:x@203.0.113.9", to="<sip:x@203.0.113.9>;tag=1", headers=headers)
    agent.send_request(text)
    return agent.expect_final(method="BYE")


def wait_sealing(farm: LiveFarm, agent: Agent, number: int) -> None:
    """Until all nodes seal with that key; each is made to look."""
    for index, host in enumerate(farm.hosts):

        def seals(index: int = index, host: str = host) -> bool:
            ask_with_token(agent, host, MADE_UP)
            keys = json.loads(farm.console(index, "keys", "show", "--json"))["keys"]
            return any(key["number"] == number and key["seals"] for key in keys)

        wait_until(seals, AGAIN_SECONDS + 5, f"node {index} seals with key {number}", every=0.5)


def wait_forgotten(farm: LiveFarm, agent: Agent, token: str) -> None:
    """Until no node knows the key of a token; each is made to look."""
    for index, host in enumerate(farm.hosts):

        def forgotten(index: int = index, host: str = host) -> bool:
            ask_with_token(agent, host, MADE_UP)
            before = farm[index].metric("sip_rejected_total", reason="token-expired-key")
            ask_with_token(agent, host, token)
            return farm[index].metric("sip_rejected_total", reason="token-expired-key") > before

        wait_until(forgotten, AGAIN_SECONDS + 5, f"node {index} has forgotten the key", every=0.5)


def see_expired(farm: LiveFarm, dialog: LiveDialog) -> None:
    """A request of a stranger's call whose key has ended is refused at each node, and counted."""
    for index, host in enumerate(farm.hosts):
        dialog.phone.target = (host, 5060)
        before = farm[index].metric("sip_rejected_total", reason="token-expired-key")
        dialog.send("BYE")
        assert dialog.phone.expect_final(method="BYE").status in (403, 404, 407, 481)
        assert farm[index].metric("sip_rejected_total", reason="token-expired-key") == before + 1


def test_calls_are_changed_and_ended_at_any_node_whatever_key_sealed_them_until_that_has_ended(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    callee_host, caller_host, stranger_host = hosts(3)
    clock = tmp_path / "clock"
    wrapper = make_wrapper(clock)
    farm = make_farm(
        open_farm=False,
        sip={"farm_name": FARM_NAME, "trusted_networks": [f"{caller_host}/32"]},
        keys={"rotation_seconds": ROTATION_SECONDS, "token_life_seconds": LIFE_SECONDS},
    )
    for host in farm.hosts:
        farm.start_node(host, wrapper=wrapper)
    farm.wait_whole()
    file = tmp_path / "users.csv"
    file.write_text("bob,a-secret\n")
    farm.console(0, "user", "import", str(file))
    with (
        LivePhone(farm.hosts[0], callee_host, "bob", "tcp") as bob,
        LivePhone(farm.hosts[1], caller_host, "alice", "udp") as alice,
        LivePhone(farm.hosts[1], stranger_host, "mallory", "udp") as mallory,
    ):
        mallory.domain = "foreign.org"
        bob.enter(password="a-secret")
        up = [set_up(alice, bob), set_up(alice, bob)]
        made = []
        for index in (2, 0):
            made.append(json.loads(farm.console(index, "keys", "rotate", "--json"))["number"])
            exchange(*up[-1], "INFO")
            move(clock, (MARGIN_SECONDS + 1) * len(made))
            wait_sealing(farm, mallory, made[-1])
            up += [set_up(mallory, bob), set_up(alice, bob), set_up(alice, bob)]
        assert [number_of(ours) for ours, _ in up] == [0] * 2 + [made[0]] * 3 + [made[1]] * 3
        for number, (ours, theirs) in enumerate(up):
            ours.phone.target = (farm.hosts[number % 3], 5060)
            exchange(ours, theirs, "INVITE")
            exchange(theirs, ours, "INVITE")
        for ours, theirs in (up.pop(1), up.pop(3), up.pop(5)):
            exchange(theirs, ours, "BYE")

        # Later than the first of the keys lives, and while the second still does. The farm's own key has no end.
        of_base, ended, _, of_stranger, last = up
        assert [number_of(ours) for ours, _ in up] == [0, *made[:1] * 2, *made[1:] * 2]
        move(clock, LIVES_SECONDS + 100)
        wait_forgotten(farm, mallory, token_of(ended[0]))
        see_expired(farm, ended[0])
        for call in (of_base, of_stranger, last):
            for host in farm.hosts:
                call[0].phone.target = (host, 5060)
                exchange(*call, "INVITE")
            exchange(*call, "BYE")
