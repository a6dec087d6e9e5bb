"""Phones that only the node they registered through can reach, on TCP and behind a NAT, are called through another."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support.agents import Agent, Received
from tests.support.live_farm import LiveFarm

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]
PRIVATE = "<sip:bob@10.77.1.2:5062>"  # what a phone behind a NAT thinks that it is


def register(phone: Agent, kind: str, call_id: str, cseq: int = 1) -> None:
    """Register as a phone of that kind does; one behind a NAT names its private address in Via and Contact."""
    if kind == "nat":
        via = f"SIP/2.0/UDP 10.77.1.2:5062;branch=z9hG4bK{call_id}{cseq};rport"
        text = phone.make_request(
            "REGISTER",
            "sip:example.com",
            to=f"<{phone.aor}>",
            via=via,
            call_id=call_id,
            cseq=cseq,
            headers=[f"Contact: {PRIVATE}", "Expires: 3600"],
        )
        phone.send_request(text)
        assert phone.expect_final(method="REGISTER").status == 200
    else:
        assert phone.register(call_id=call_id, cseq=cseq).status == 200


def set_up(caller: Agent, phone: Agent, kind: str) -> tuple[Received, Received]:
    """Call the phone; answers the INVITE as it came, and the 200 as the caller saw it. Either side sees one element,
    however many nodes the message passed."""
    caller.send_request(caller.make_request("INVITE", phone.aor))
    invite = phone.expect("INVITE")
    assert (len(invite.all("via")), len(invite.all("record-route"))) == (2, 1)
    contact = PRIVATE if kind == "nat" else f"<{phone.contact}>"
    phone.answer(invite, 180)
    caller.expect(180)
    text = re.sub(r"Contact: .*", f"Contact: {contact}\r", phone.make_answer(invite, 200))
    data = text.encode()
    if invite.connection is not None:
        invite.connection.sendall(data)
    else:
        phone.send_bytes(data, invite.source)
    answered = caller.expect(200, method="INVITE")
    assert (len(answered.all("via")), len(answered.all("record-route"))) == (1, 1)
    caller.send_request(caller.make_in_dialog("ACK", answered, 1))
    phone.expect("ACK")
    return invite, answered


def hang_up_phone(phone: Agent, invite: Received) -> None:
    """BYE from the called side, along the route that its INVITE recorded."""
    contact = re.search(r"<([^>]*)>", invite.first("contact"))
    assert contact is not None
    text = phone.make_request(
        "BYE",
        contact.group(1),
        to=invite.first("from"),
        sender=f"{invite.first('to')};tag={phone.tag}",
        call_id=invite.first("call-id"),
        cseq=1,
        headers=[f"Route: {value}" for value in invite.all("record-route")],
    )
    phone.send_request(text)


@pytest.mark.parametrize("kind", ["tcp", "nat"])
def test_a_phone_of_one_node_is_called_through_another_and_either_side_hangs_up(
    make_farm: MakeFarm, hosts: Hosts, kind: str
) -> None:
    phone_host, caller_host = hosts(2)
    farm = make_farm()
    farm.start()
    transport = "tcp" if kind == "tcp" else "udp"
    with Agent(farm[0].sip, host=phone_host, user="bob", transport=transport) as bob:
        register(bob, kind, "registration-of-bob")
        for index, caller_transport in ((1, "udp"), (2, "tcp"), (0, "udp")):
            with Agent(farm[index].sip, host=caller_host, user="alice", transport=caller_transport) as alice:
                _, answered = set_up(alice, bob, kind)
                alice.send_request(alice.make_in_dialog("BYE", answered, 2))
                bob.answer(bob.expect("BYE"), 200)
                alice.expect(200, method="BYE")

                invite, _ = set_up(alice, bob, kind)
                hang_up_phone(bob, invite)
                alice.answer(alice.expect("BYE"), 200)
                bob.expect(200, method="BYE")

                # Ringing for nobody: the caller gives up.
                text = alice.make_request("INVITE", bob.aor)
                alice.send_request(text)
                invite = bob.expect("INVITE")
                bob.answer(invite, 180)
                alice.expect(180)
                alice.send_request(alice.make_cancel(text))
                bob.answer(bob.expect("CANCEL"), 200)
                bob.answer(invite, 487)
                alice.acknowledge(text, alice.expect(487))
                bob.expect("ACK")

        farm.kill(0)
        farm.wait_state(1, 0, "dead")
        with Agent(farm[1].sip, host=caller_host, user="alice") as alice:
            text = alice.make_request("INVITE", bob.aor)
            alice.send_request(text)
            final = alice.expect_final(method="INVITE")
            assert final.status == 480, "its way in is gone with the node"
            alice.acknowledge(text, final)
            bob.target = farm[1].sip
            bob.hang_up()
            register(bob, kind, "registration-of-bob", cseq=2)
            _, answered = set_up(alice, bob, kind)
            alice.send_request(alice.make_in_dialog("BYE", answered, 2))
            bob.answer(bob.expect("BYE"), 200)
            alice.expect(200, method="BYE")
        assert len(farm.contacts(2, "bob")) == 1
