"""One user with several phones: parallel and serial forking, CANCEL, a phone that is gone."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.agents import Agent, make_call
from tests.support.nodes import Nodes
from tests.support.processes import wait_until

Hosts = Callable[[int], list[str]]


def test_one_phone_busy_one_answering_is_a_call(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    caller_host, first_host, second_host = hosts(3)
    with (
        Agent(node.sip, host=caller_host, user="alice") as alice,
        Agent(node.sip, host=first_host, user="bob") as desk,
        Agent(node.sip, host=second_host, user="bob") as mobile,
    ):
        assert desk.register().status == 200
        assert mobile.register().status == 200
        invite = alice.make_request("INVITE", "sip:bob@example.com")
        alice.send_request(invite)
        at_desk, at_mobile = desk.expect("INVITE"), mobile.expect("INVITE")
        assert at_desk.first("via") != at_mobile.first("via")
        desk.answer(at_desk, 486, "Busy Here")
        desk.expect("ACK")
        mobile.answer(at_mobile, 180, "Ringing")
        mobile.answer(at_mobile, 200, "OK")
        answered = alice.expect(200, final=True)
        assert mobile.tag in answered.first("to")
        alice.send_request(alice.make_in_dialog("ACK", answered, 1))
        mobile.expect("ACK")
        mobile.send_request(
            mobile.make_request(
                "BYE",
                alice.contact,
                to=at_mobile.first("from"),
                sender=f"{at_mobile.first('to')};tag={mobile.tag}",
                call_id=at_mobile.first("call-id"),
                headers=[f"Route: {value}" for value in at_mobile.all("record-route")],
            )
        )
        alice.answer(alice.expect("BYE"), 200, "OK")
        mobile.expect(200, method="BYE")


def test_answering_one_phone_stops_the_other_from_ringing(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    caller_host, first_host, second_host = hosts(3)
    with (
        Agent(node.sip, host=caller_host, user="alice") as alice,
        Agent(node.sip, host=first_host, user="bob") as desk,
        Agent(node.sip, host=second_host, user="bob") as mobile,
    ):
        assert desk.register().status == 200
        assert mobile.register().status == 200
        alice.send_request(alice.make_request("INVITE", "sip:bob@example.com"))
        at_desk, at_mobile = desk.expect("INVITE"), mobile.expect("INVITE")
        desk.answer(at_desk, 180, "Ringing")
        mobile.answer(at_mobile, 180, "Ringing")
        desk.answer(at_desk, 200, "OK")
        cancel = mobile.expect("CANCEL")
        mobile.answer(cancel, 200, "OK")
        mobile.answer(at_mobile, 487, "Request Terminated")
        mobile.expect("ACK")
        answered = alice.expect(200, final=True)
        assert desk.tag in answered.first("to")
        alice.send_request(alice.make_in_dialog("ACK", answered, 1))
        desk.expect("ACK")


def test_both_phones_busy_is_busy(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    caller_host, first_host, second_host = hosts(3)
    with (
        Agent(node.sip, host=caller_host, user="alice") as alice,
        Agent(node.sip, host=first_host, user="bob") as desk,
        Agent(node.sip, host=second_host, user="bob") as mobile,
    ):
        assert desk.register().status == 200
        assert mobile.register().status == 200
        invite = alice.make_request("INVITE", "sip:bob@example.com")
        alice.send_request(invite)
        for phone in (desk, mobile):
            phone.answer(phone.expect("INVITE"), 486, "Busy Here")
            phone.expect("ACK")
        alice.acknowledge(invite, alice.expect(486, final=True))


def test_a_caller_who_hangs_up_early_cancels_every_phone(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    caller_host, first_host, second_host = hosts(3)
    with (
        Agent(node.sip, host=caller_host, user="alice") as alice,
        Agent(node.sip, host=first_host, user="bob") as desk,
        Agent(node.sip, host=second_host, user="bob") as mobile,
    ):
        assert desk.register().status == 200
        assert mobile.register().status == 200
        invite = alice.make_request("INVITE", "sip:bob@example.com")
        alice.send_request(invite)
        rings = [(phone, phone.expect("INVITE")) for phone in (desk, mobile)]
        for phone, ring in rings:
            phone.answer(ring, 180, "Ringing")
        alice.expect(180)
        alice.send_request(alice.make_cancel(invite))
        alice.expect(200, method="CANCEL")
        for phone, ring in rings:
            phone.answer(phone.expect("CANCEL"), 200, "OK")
            phone.answer(ring, 487, "Request Terminated")
            phone.expect("ACK")
        alice.acknowledge(invite, alice.expect(487, method="INVITE", final=True))


def test_a_phone_of_lower_q_rings_after_the_first_refused(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    caller_host, first_host, second_host = hosts(3)
    with (
        Agent(node.sip, host=caller_host, user="alice") as alice,
        Agent(node.sip, host=first_host, user="bob") as desk,
        Agent(node.sip, host=second_host, user="bob") as voicemail,
    ):
        assert desk.register(contact=f"<{desk.contact}>;q=1.0").status == 200
        assert voicemail.register(contact=f"<{voicemail.contact}>;q=0.1").status == 200
        alice.send_request(alice.make_request("INVITE", "sip:bob@example.com"))
        at_desk = desk.expect("INVITE")
        voicemail.expect_nothing("INVITE", 0.3)
        desk.answer(at_desk, 480, "Temporarily Unavailable")
        voicemail.answer(voicemail.expect("INVITE"), 200, "OK")
        answered = alice.expect(200, final=True)
        alice.send_request(alice.make_in_dialog("ACK", answered, 1))
        voicemail.expect("ACK")


def test_a_phone_that_is_gone_does_not_keep_the_other_from_answering(nodes: Nodes, hosts: Hosts) -> None:
    # A fifth of T1, so that timer B is 6.4 seconds.
    node = nodes.start(sip={"t1_seconds": 0.1})
    caller_host, gone_host, here_host = hosts(3)
    with (
        Agent(node.sip, host=caller_host, user="alice") as alice,
        Agent(node.sip, host=here_host, user="bob") as here,
    ):
        # The preferred contacts: nothing listens on UDP, none accepts on TCP.
        gone = f"<sip:bob@{gone_host}:5060>;q=1.0, <sip:bob@{gone_host}:5060;transport=tcp>;q=0.9"
        assert here.register(contact=gone).status == 200
        assert here.register(contact=f"<{here.contact}>;q=0.5").status == 200
        alice.send_request(alice.make_request("INVITE", "sip:bob@example.com"))
        ring = here.expect("INVITE", 45)
        here.answer(ring, 200, "OK")
        answered = alice.expect(200, final=True)
        alice.send_request(alice.make_in_dialog("ACK", answered, 1))
        here.expect("ACK")


def test_a_caller_on_tcp_reaches_a_phone_on_udp_and_the_other_way(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    first_host, second_host = hosts(2)
    with (
        Agent(node.sip, host=first_host, user="alice", transport="tcp") as alice,
        Agent(node.sip, host=second_host, user="bob") as bob,
    ):
        assert alice.register().status == 200
        assert bob.register().status == 200
        make_call(alice, bob)
        make_call(bob, alice)


def test_an_unknown_user_is_404_and_a_known_one_without_phone_480(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users={"alice": "wonderland", "bob": "builder"})
    with Agent(node.sip, host=hosts(1)[0], user="alice") as alice:
        ours = alice.request_with_digest("INVITE", "sip:bob@example.com", password="wonderland")
        assert ours.status == 480
        nobody = alice.request_with_digest("INVITE", "sip:nobody@example.com", password="wonderland")
        assert nobody.status == 404


def test_a_phone_whose_connection_is_gone_is_called_at_its_contact(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start()
    caller_host, phone_host = hosts(2)
    with (
        Agent(node.sip, host=caller_host, user="alice") as alice,
        Agent(node.sip, host=phone_host, port=5060, user="bob", transport="tcp") as bob,
    ):
        assert bob.register().status == 200
        bob.hang_up()
        wait_until(lambda: node.metric("flows", transport="TCP") == 0, 5, "the node has seen the connection go")
        make_call(alice, bob)
