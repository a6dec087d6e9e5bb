"""Pages in browsers, which can be reached over the connection that they opened and by nothing else (RFC 7118)."""

from __future__ import annotations

import pytest

from tests.support.farms import Farm
from tests.support.parties import exchange, set_up_call

INSTANCE = ';+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"'


def add_nodes(farm: Farm, count: int) -> None:
    """A lone node, or so many of one farm, all of which pages may use."""
    if count == 1:
        farm.add_node(sip={"domains": ["example.com"], "listen": make_listeners("192.0.2.1")})
        return
    for number in range(1, count + 1):
        if number == 1:
            farm.add_zone({})
        farm.add_member(sip={"domains": ["example.com"], "listen": make_listeners(f"192.0.2.{number}")})
    farm.wait_until_synchronised()


def make_listeners(address: str) -> list[str]:
    return [f"udp:{address}:5060", f"tcp:{address}:5060", f"ws:{address}:8080", f"wss:{address}:8443"]


@pytest.mark.parametrize("transport", ["ws", "wss"])
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_page_is_called_by_a_phone_and_calls_it_back(farm: Farm, nodes: int, transport: str) -> None:
    add_nodes(farm, nodes)
    alice = farm.add_party("alice", target=f"192.0.2.{nodes}")
    page = farm.add_party("bob", transport=transport)
    alice.register()
    page.register(contact=f"<{page.contact}>{INSTANCE}")
    ours, theirs = set_up_call(alice, page)
    assert theirs.target == alice.contact
    assert ours.target == f"sip:bob@bob.invalid;transport={transport}"
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "BYE")
    ours, theirs = set_up_call(page, alice)
    exchange(theirs, ours, "BYE")


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_page_that_was_reloaded_in_a_call_is_found_on_its_new_connection(farm: Farm, nodes: int) -> None:
    add_nodes(farm, nodes)
    alice = farm.add_party("alice", target=f"192.0.2.{nodes}")
    page = farm.add_party("bob", transport="ws")
    alice.register()
    page.register(contact=f"<{page.contact}>{INSTANCE}")
    ours, theirs = set_up_call(alice, page)
    page.disconnect()
    page.register(contact=f"<{page.contact}>{INSTANCE}")
    exchange(ours, theirs, "INVITE")
    exchange(ours, theirs, "BYE")


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_page_that_was_closed_is_known_to_be_gone_at_once(farm: Farm, nodes: int) -> None:
    add_nodes(farm, nodes)
    alice = farm.add_party("alice", target=f"192.0.2.{nodes}")
    page = farm.add_party("bob", transport="ws")
    page.register()
    page.disconnect()
    began = farm.network.clock.seconds()
    invite = alice.ask("INVITE", page.aor)
    final = alice.wait(10)
    assert final is not None
    assert final.status in (430, 480), final
    assert farm.network.clock.seconds() - began < 1
    alice.acknowledge(invite, final)


def test_a_page_that_says_nothing_stays_registered_and_is_called_an_hour_later(farm: Farm) -> None:
    """A browser answers pings by itself, however long its page is silent."""
    add_nodes(farm, 1)
    alice = farm.add_party("alice")
    page = farm.add_party("bob", transport="ws")
    page.register(expires=7200)
    farm.run(3600)
    ours, theirs = set_up_call(alice, page)
    exchange(ours, theirs, "BYE")
