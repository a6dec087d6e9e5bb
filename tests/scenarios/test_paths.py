"""A phone that registers with another domain's registrar through us: our Path leads back over its flow, while it lasts
(RFC 3327, RFC 5626 §5)."""

from __future__ import annotations

import pytest
from twisted.names import dns

from tests.support.farms import Farm, FarmNode
from tests.support.parties import Party, exchange, set_up_call

HOME, EDGE = "192.0.2.11", "192.0.2.12"
SUPPORTED = "Supported: path, outbound"


def make_house(farm: Farm, transport: str) -> tuple[FarmNode, Party, Party]:
    """The edge, alice at home, and bob behind a NAT, who registers at home through the edge."""
    for name, address, domain in (("home", HOME, "biloxi.com"), ("edge", EDGE, "atlanta.com")):
        listen = [f"udp:{address}:5060", f"tcp:{address}:5060"]
        trusted = ["198.51.100.0/24"] if name == "edge" else []
        farm.add_node(name, address, sip={"domains": [domain], "listen": listen, "trusted_networks": trusted})
    farm.add_zone({"biloxi.com": [dns.Record_A(HOME)], "atlanta.com": [dns.Record_A(EDGE)]})
    alice = farm.add_party("alice", domain="biloxi.com", account=False, target=HOME)
    bob = farm.add_party(
        "bob",
        domain="biloxi.com",
        account=False,
        transport=transport,
        address="10.0.0.7",
        behind=farm.network.add_nat("198.51.100.9"),
        target=EDGE,
    )
    for party in (alice, bob):
        farm.nodes[0].add_user(party.user)
        party.password = party.user
    return farm.nodes[1], alice, bob


def register(bob: Party, reg_id: int = 1) -> None:
    """By outbound, through the edge."""
    instance = f'<{bob.contact}>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";reg-id={reg_id}'
    bob.register(contact=instance, headers=[SUPPORTED])


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("ends", ["caller", "callee"])
def test_a_phone_of_another_registrar_is_called_over_its_flow_and_speaks_in_the_dialog(
    farm: Farm, transport: str, ends: str
) -> None:
    _, alice, bob = make_house(farm, transport)
    register(bob)
    ours, theirs = set_up_call(alice, bob)
    exchange(theirs, ours, "INFO")
    exchange(ours, theirs, "INVITE")
    exchange(*((ours, theirs) if ends == "caller" else (theirs, ours)), "BYE")


def test_when_that_flow_is_gone_its_other_one_is_used_and_then_none(farm: Farm) -> None:
    """The edge says 430 to the registrar's house; the caller hears 480."""
    edge, alice, bob = make_house(farm, "tcp")
    register(bob, 1)
    kept = bob.connect()
    bob._stream = None
    register(bob, 2)
    bob.disconnect()
    bob._stream = kept
    exchange(*set_up_call(alice, bob), "BYE")
    assert edge.value("sip_rejected", "flow-gone") == 1
    bob.disconnect()
    sent = alice.ask("INVITE", bob.aor)
    alice.acknowledge(sent, alice.expect(480))
    assert edge.value("sip_rejected", "flow-gone") == 3
