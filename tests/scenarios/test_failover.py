"""The next server of a domain is tried when one refuses, is silent or says 503 (RFC 3263 §4.3, §16.7 step 6)."""

from __future__ import annotations

import pytest
from twisted.names import dns

from tests.support.farms import Farm
from tests.support.parties import Dialog, Party, exchange

FIRST, SECOND = "192.0.2.201", "192.0.2.202"


def srv(priority: int, target: str) -> dns.Record_SRV:
    """An SRV record of port 5060."""
    return dns.Record_SRV(priority, 0, 5060, target.encode())


def make_zone(*, transports: tuple[str, ...] = ("udp",)) -> dict[str, list[object]]:
    """biloxi.com with two servers, one before the other."""
    zone: dict[str, list[object]] = {
        "one.biloxi.com": [dns.Record_A(FIRST)],
        "two.biloxi.com": [dns.Record_A(SECOND)],
        "biloxi.com": [],
    }
    for transport in transports:
        zone[f"_sip._{transport}.biloxi.com"] = [srv(10, "one.biloxi.com"), srv(20, "two.biloxi.com")]
    return zone


def make_servers(farm: Farm, transport: str = "udp") -> tuple[Party, Party, Party]:
    """A caller of ours, and both servers of biloxi.com."""
    farm.add_node()
    farm.add_zone(make_zone(transports=(transport,)))
    alice = farm.add_party("alice")
    first, second = (
        farm.add_party(user, address=address, domain="biloxi.com", account=False, transport=transport)
        for user, address in (("one", FIRST), ("two", SECOND))
    )
    return alice, first, second


def answer_call(farm: Farm, caller: Party, callee: Party, within: float = 5.0) -> None:
    """The call arrives there, is answered, and ends."""
    invite = callee.expect("INVITE", within=within)
    answered = callee.answer(invite, 200)
    ours = Dialog.of_caller(caller, caller.expect(200))
    ours.acknowledge()
    callee.expect("ACK")
    exchange(Dialog.of_callee(callee, invite, answered), ours, "BYE")


def test_a_domain_s_first_server_gets_the_call(farm: Farm) -> None:
    alice, first, second = make_servers(farm)
    alice.ask("INVITE", "sip:bob@biloxi.com")
    answer_call(farm, alice, first)
    assert second.received == []


def test_a_silent_server_is_given_up_after_timer_b_and_the_next_one_answers(farm: Farm) -> None:
    alice, first, second = make_servers(farm)
    first.go_away()
    alice.ask("INVITE", "sip:bob@biloxi.com")
    second.expect_nothing(31.5)
    answer_call(farm, alice, second, within=1)
    assert farm.node.value("sip_timeouts", "B") == 1
    assert farm.node.value("sip_failovers", "timeout") == 1
    alice.ask("INVITE", "sip:bob@biloxi.com")  # the failure is remembered for the next caller
    answer_call(farm, alice, second, within=1)


def test_all_servers_silent_is_told_the_caller_as_408(farm: Farm) -> None:
    alice, first, second = make_servers(farm)
    sent = alice.ask("INVITE", "sip:bob@biloxi.com")
    for server in (first, second):
        server.expect("INVITE", within=33)
    alice.acknowledge(sent, alice.expect(408, within=33))
    assert (first.count("INVITE"), second.count("INVITE")) == (7, 7)  # timer A: at 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5


def test_a_503_sends_the_call_to_the_next_server_with_a_branch_of_its_own(farm: Farm) -> None:
    alice, first, second = make_servers(farm)
    alice.ask("INVITE", "sip:bob@biloxi.com")
    invite = first.expect("INVITE")
    first.answer(invite, 503)
    first.expect("ACK")
    again = second.expect("INVITE")
    assert again.first("via") != invite.first("via")
    assert again.all("via")[1:] == invite.all("via")[1:]
    assert again.first("call-id") == invite.first("call-id")
    second.answer(again, 486)
    second.expect("ACK")
    alice.expect(486)
    assert farm.node.value("sip_failovers", "status-503") == 1


def test_a_503_of_all_servers_reaches_the_caller_as_500(farm: Farm) -> None:
    """§16.7 step 6: a 503 would turn the caller away from us."""
    alice, first, second = make_servers(farm)
    sent = alice.ask("INVITE", "sip:bob@biloxi.com")
    for server in (first, second):
        server.answer(server.expect("INVITE"), 503, headers=["Retry-After: 60"])
        server.expect("ACK")
    final = alice.expect(500)
    assert final.first("retry-after") == ""
    alice.acknowledge(sent, final)


def test_a_refused_connection_sends_the_call_to_the_next_server_at_once(farm: Farm) -> None:
    alice, first, second = make_servers(farm, "tcp")
    first.host.kill()
    began = farm.network.clock.seconds()
    alice.ask("INVITE", "sip:bob@biloxi.com")
    invite = second.expect("INVITE", within=1)
    assert farm.network.clock.seconds() - began < 0.1
    second.answer(invite, 486)
    alice.expect(486)
    assert farm.node.value("sip_failovers", "transport") == 1


def test_a_connection_that_breaks_before_the_answer_sends_the_call_to_the_next_server(farm: Farm) -> None:
    alice, first, second = make_servers(farm, "tcp")
    alice.ask("INVITE", "sip:bob@biloxi.com")
    first.expect("INVITE")
    first.host.kill()
    answer_call(farm, alice, second, within=1)


def test_a_server_that_cannot_be_reached_over_tcp_is_given_up_before_the_caller_does(farm: Farm) -> None:
    alice, first, second = make_servers(farm, "tcp")
    first.go_away()
    alice.ask("INVITE", "sip:bob@biloxi.com")
    second.expect_nothing(7.5)
    answer_call(farm, alice, second, within=1)


def test_a_message_fails_over_too_and_is_not_delivered_twice(farm: Farm) -> None:
    alice, first, second = make_servers(farm)
    alice.ask("MESSAGE", "sip:bob@biloxi.com", body="hello")
    first.answer(first.expect("MESSAGE"), 503)
    message = second.expect("MESSAGE")
    second.answer(message, 200)
    alice.expect(200)


def test_a_message_that_nobody_answers_is_not_answered_408(farm: Farm) -> None:
    """RFC 4320 §4.2: its sender has given up at the same moment; a 408 would only be stray."""
    alice, first, _ = make_servers(farm)
    alice.ask("MESSAGE", "sip:bob@biloxi.com", body="hello")
    alice.expect(100, within=4)
    alice.expect_nothing(100)
    assert alice.count(100) == 1
    assert first.count("MESSAGE") > 1


def test_a_domain_that_does_not_exist_is_refused_at_once(farm: Farm) -> None:
    alice, _, _ = make_servers(farm)
    sent = alice.ask("INVITE", "sip:bob@nowhere.example.net")
    alice.acknowledge(sent, alice.expect(500, within=2))


def test_name_servers_that_are_silent_do_not_hold_the_caller_for_ever(farm: Farm) -> None:
    farm.add_node()
    server = farm.add_zone(make_zone())
    server.silent = True
    alice = farm.add_party("alice")
    sent = alice.ask("INVITE", "sip:bob@biloxi.com")
    alice.expect(100, within=1)
    alice.acknowledge(sent, alice.expect(504, within=10))


def test_a_caller_who_gives_up_while_the_servers_are_looked_up_is_answered_487(farm: Farm) -> None:
    farm.add_node()
    server = farm.add_zone(make_zone())
    server.delay = 1.0
    alice = farm.add_party("alice")
    first = farm.add_party("one", address=FIRST, account=False)
    sent = alice.ask("INVITE", "sip:bob@biloxi.com")
    farm.run(0.3)
    alice.cancel(sent)
    alice.expect(200, method="CANCEL")
    alice.acknowledge(sent, alice.expect(487, method="INVITE"))
    first.expect_nothing(10)


LARGE = "x" * 1400


@pytest.mark.parametrize("listens", [True, False], ids=["takes-tcp", "refuses-tcp"])
def test_a_large_call_goes_by_tcp_and_by_udp_where_tcp_is_refused(farm: Farm, listens: bool) -> None:
    """§18.1.1: above 1300 bytes, with the fall-back that RFC 2543 elements need."""
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob")
    streams = Party(bob.host, "bob", transport="tcp") if listens else None
    if streams is not None:
        streams.tag = "bob-stream"
    bob.register()
    alice.ask("INVITE", bob.aor, body=LARGE)
    there = streams or bob
    invite = there.expect("INVITE")
    assert invite.body == LARGE.encode()
    assert invite.first("via").startswith("SIP/2.0/TCP" if listens else "SIP/2.0/UDP")
    (recorded,) = invite.all("record-route")
    assert (";transport=tcp" in recorded) is listens
    answered = there.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    ours.acknowledge()
    there.expect("ACK")
    exchange(Dialog.of_callee(there, invite, answered), ours, "BYE")
    assert (bob.count("INVITE") == 0) is listens


def test_a_small_call_stays_on_udp(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob")
    streams = Party(bob.host, "bob", transport="tcp")
    bob.register()
    sent = alice.ask("INVITE", bob.aor)
    bob.answer(bob.expect("INVITE"), 486)
    bob.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    assert streams.received == []
