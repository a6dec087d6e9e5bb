"""Numbers go to gateways, some domains to fixed servers; those that do not answer are noticed and passed over."""

from __future__ import annotations

import pytest

from tests.support.farms import Farm
from tests.support.parties import Dialog, Party, Reply, exchange

FIRST, SECOND = "192.0.2.201", "192.0.2.202"


def add_gateways(farm: Farm, *, probe_seconds: float = 0.0, prefix: str = "+49") -> tuple[Party, Party, Party]:
    """A caller, and two gateways for one prefix."""
    hops = [f"sip:{FIRST}", f"sip:{SECOND}"]
    farm.add_node(gateways=[{"prefix": prefix, "to": hops, "probe_seconds": probe_seconds}])
    alice = farm.add_party("alice")
    first = farm.add_party("one", address=FIRST, account=False)
    second = farm.add_party("two", address=SECOND, account=False)
    return alice, first, second


def answer_probes(gateway: Party) -> None:
    """Have a gateway answer OPTIONS from now on."""
    listen = gateway.receive

    def receive(data: bytes, source: tuple[str, int], reply: Reply) -> None:
        listen(data, source, reply)
        if data.startswith(b"OPTIONS"):
            gateway.answer(gateway.received[-1], 200)
            gateway._news = [message for message in gateway._news if message.method != "OPTIONS"]

    gateway.receive = receive  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "number",
    [
        "tel:+49-30-12345",
        "sip:+493012345@example.com",
        "sip:+49(30)12345@example.com;user=phone",
        "sip:+493012345@192.0.2.1",
    ],
)
def test_a_number_goes_to_the_gateway_as_a_sip_uri_of_that_gateway(farm: Farm, number: str) -> None:
    alice, first, second = add_gateways(farm)
    alice.ask("INVITE", number, to="<tel:+493012345>")
    invite = first.expect("INVITE")
    assert invite.uri == f"sip:+493012345@{FIRST};user=phone"
    answered = first.answer(invite, 200)
    ours = Dialog.of_caller(alice, alice.expect(200))
    ours.acknowledge()
    first.expect("ACK")
    exchange(Dialog.of_callee(first, invite, answered), ours, "BYE")
    assert second.received == []


def test_a_number_that_no_gateway_is_for_is_not_found(farm: Farm) -> None:
    alice, first, _ = add_gateways(farm)
    alice.ask("MESSAGE", "tel:+33123456")
    alice.expect(404)
    assert first.received == []


def test_the_longest_prefix_wins(farm: Farm) -> None:
    farm.add_node(
        gateways=[
            {"prefix": "+49", "to": [f"sip:{FIRST}"], "probe_seconds": 0},
            {"prefix": "+4930", "to": [f"sip:{SECOND}"], "probe_seconds": 0},
        ]
    )
    alice = farm.add_party("alice")
    first = farm.add_party("one", address=FIRST, account=False)
    second = farm.add_party("two", address=SECOND, account=False)
    for number, gateway in (("+493012", second), ("+498912", first)):
        alice.ask("MESSAGE", f"tel:{number}")
        gateway.answer(gateway.expect("MESSAGE"), 200)
        alice.expect(200)


def test_a_user_registered_under_a_number_is_preferred_to_the_gateway(farm: Farm) -> None:
    alice, first, _ = add_gateways(farm)
    phone = farm.add_party("+493012345")
    phone.register()
    alice.ask("MESSAGE", phone.aor)
    phone.answer(phone.expect("MESSAGE"), 200)
    alice.expect(200)
    assert first.received == []


def test_a_gateway_that_says_503_or_is_silent_is_passed_over_with_its_own_request_uri(farm: Farm) -> None:
    alice, first, second = add_gateways(farm)
    for silent in (False, True):
        sent = alice.ask("INVITE", "tel:+493012345")
        invite = first.expect("INVITE")
        if not silent:
            first.answer(invite, 503)
            first.expect("ACK")
        invite = second.expect("INVITE", within=33)
        assert invite.uri == f"sip:+493012345@{SECOND};user=phone"
        second.answer(invite, 486)
        second.expect("ACK")
        alice.acknowledge(sent, alice.expect(486))


def test_a_gateway_that_does_not_answer_its_probes_is_down_until_it_does(farm: Farm) -> None:
    alice, first, second = add_gateways(farm, probe_seconds=30)
    node = farm.node
    for gateway in (first, second):
        answer_probes(gateway)
    farm.run(65)
    assert node.node.reports.problems() == []
    assert first.count("OPTIONS") in (2, 3)
    probe = first.received[0]
    assert (probe.uri, probe.first("cseq").split()[1]) == (f"sip:{FIRST}", "OPTIONS")
    first.host.pause()
    farm.run(150)
    assert node.node.reports.problems() == [f"gateway sip:{FIRST} does not answer"]
    assert node.value("gateway_up", f"sip:{FIRST}") == 0
    alice.ask("MESSAGE", "tel:+493012345")
    second.answer(second.expect("MESSAGE", within=1), 200)
    alice.expect(200)
    first.host.resume()
    farm.run(100)
    assert node.node.reports.problems() == []
    assert node.value("gateway_up", f"sip:{FIRST}") == 1
    alice.ask("MESSAGE", "tel:+493012345")
    first.answer(first.expect("MESSAGE", within=1), 200)
    alice.expect(200)
    assert node.node.reports.status()["gateways"] == {f"sip:{FIRST}": "up", f"sip:{SECOND}": "up"}


def test_a_gateway_that_fails_a_call_is_probed_at_once(farm: Farm) -> None:
    alice, first, second = add_gateways(farm, probe_seconds=3000)
    for gateway in (first, second):
        answer_probes(gateway)
    farm.run(10)
    assert first.count("OPTIONS") == 1
    sent = alice.ask("INVITE", "tel:+493012345")
    first.answer(first.expect("INVITE"), 503)
    first.expect("ACK")
    second.answer(second.expect("INVITE"), 486)
    second.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    farm.run(10)
    assert first.count("OPTIONS") == 2


def test_a_domain_with_a_static_route_goes_there_and_nowhere_else(farm: Farm) -> None:
    farm.add_node(routes=[{"domain": "partner.net", "to": [f"sip:{FIRST}:5060", f"sip:{SECOND}:5060"]}])
    alice = farm.add_party("alice")
    first = farm.add_party("one", address=FIRST, account=False)
    second = farm.add_party("two", address=SECOND, account=False)
    alice.ask("MESSAGE", "sip:zoe@partner.net")
    message = first.expect("MESSAGE")
    assert message.uri == "sip:zoe@partner.net"
    first.answer(message, 503)
    message = second.expect("MESSAGE")
    assert message.uri == "sip:zoe@partner.net"
    second.answer(message, 200)
    alice.expect(200)
