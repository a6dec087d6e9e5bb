"""Whatever happens, nothing that a farm sends outside tells of its nodes: no address, name, Node-ID, port or program.

The rules are kept where each thing is written: a Via's host by the transport's listeners, tokens by `frontend/token`,
the Server header by proxy and registrar. This is where all of them are seen to be kept.
"""

from __future__ import annotations

import struct

import pytest

from tests.support.faces import add_phone, check_outside, exchange, face_options, set_up, turn_to
from tests.support.farms import SIP_PORTS, Farm, FarmNode
from tests.support.leaks import Watch
from tests.support.parties import Message, Party, Reply

TRANSPORTS = ("udp", "tcp", "tls", "ws")
GATEWAY = "192.0.2.90"


class Gateway(Party):
    """A party that says at once that it is there."""

    def receive(self, data: bytes, source: tuple[str, int], reply: Reply) -> None:
        """A message has come."""
        message = Message(data, source, reply)
        if message.method == "OPTIONS":
            self.answer(message, 200)
        else:
            super().receive(data, source, reply)


class Crowd:
    """A farm with a gateway, phones of every sort at its nodes, and who watches."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        farm.add_zone({})
        self.gateway = Gateway(farm.network.add_host(GATEWAY), "gateway")
        options = face_options(
            farm,
            transports=TRANSPORTS,
            inside=True,
            name="wombat{}",
            routes=[{"domain": "elsewhere.net", "to": [f"sip:{GATEWAY}"]}],
            gateways=[{"prefix": "+", "to": [f"sip:{GATEWAY}"]}],
        )
        self.watch = Watch(farm)
        self.nodes: list[FarmNode] = []
        for roles in (("store", "edge"), ("store", "edge"), ("edge",), ("store",)):
            self.nodes.append(farm.add_member(roles, **options))
        farm.wait_until_synchronised()
        self.phones = {
            how: add_phone(farm, f"user-{how}", how, number % 3)
            for number, how in enumerate(("udp", "nat", "tcp", "tls", "ws"))
        }
        for number, phone in enumerate(self.phones.values()):
            instance = f'+sip.instance="<urn:uuid:00000000-0000-1000-8000-00000000000{number}>"'
            contact = f"<{phone.contact}>;reg-id=1;{instance}" if number % 2 else None
            phone.register(contact=contact, headers=["Supported: path, outbound, gruu"])

    def finish(self) -> None:
        """Nothing has been told."""
        self.watch.read_deciphered(phone for phone in self.phones.values() if phone.transport == "tls")
        leaks = self.watch.find_leaks()
        assert not leaks, f"{len(leaks)} leaks:\n" + "\n\n".join(leaks[:3])
        for _, message in self.watch.messages():
            check_outside(message)


def call_refused(caller: Party, uri: str, **parts: object) -> int:
    """The final status of a call that does not succeed."""
    sent = caller.request("INVITE", uri, **parts)
    final = caller.wait()
    assert final is not None
    if final.status in (401, 407) and caller.password:
        sent = caller.ask_again(sent, final, **parts)
        final = caller.wait()
        assert final is not None
    caller.acknowledge(sent, final)
    return final.status


def refuse(caller: Party, callee: Party, status: int) -> None:
    """A call that the callee refuses."""
    sent = caller.ask("INVITE", callee.aor)
    callee.answer(callee.expect("INVITE"), status)
    callee.expect("ACK")
    caller.acknowledge(sent, caller.expect(500 if status == 503 else status))


def cancel(caller: Party, callee: Party) -> None:
    """A call that the caller gives up."""
    sent = caller.ask("INVITE", callee.aor)
    invite = callee.expect("INVITE")
    callee.answer(invite, 180)
    caller.expect(180)
    caller.cancel(sent)
    caller.expect(200, method="CANCEL")
    callee.answer(callee.expect("CANCEL"), 200)
    callee.answer(invite, 487)
    callee.expect("ACK")
    caller.acknowledge(sent, caller.expect(487))


@pytest.fixture
def crowd(farm: Farm) -> Crowd:
    return Crowd(farm)


def test_calls_of_all_phones_with_each_other_through_all_nodes_tell_nothing(crowd: Crowd) -> None:
    for caller in crowd.phones.values():
        for callee in crowd.phones.values():
            if caller is callee:
                continue
            ours, theirs = set_up(caller, callee)
            exchange(theirs, ours, "INVITE")
            exchange(ours, theirs, "BYE")
    udp = crowd.phones["udp"]
    for node in range(3):
        turn_to(udp, node)
        for how in ("nat", "tcp", "tls", "ws"):
            exchange(*set_up(udp, crowd.phones[how]), "BYE")
    crowd.finish()
    assert crowd.watch.find_marks(r"(?m)^Via: SIP/2\.0/\w+ sip\.example\.com[:0-9]*;branch=z9hG4bK([^;\r]+)") == []
    after_the_time = r'nonce="[^"]{8}([^"]+)"'
    assert crowd.watch.find_marks(after_the_time) == []
    assert crowd.watch.find_marks(r"(?mi)^Record-Route: <sips?:([^@]+)@sip\.example\.com") == []


def test_failures_and_refusals_tell_nothing(crowd: Crowd) -> None:
    phones = list(crowd.phones.values())
    for number, caller in enumerate(phones):
        callee = phones[number - 1]
        for status in (404, 486, 503, 603):
            refuse(caller, callee, status)
        cancel(caller, callee)
    alice = crowd.phones["udp"]
    for node in range(3):
        turn_to(alice, node)
        assert call_refused(alice, "sip:nobody@example.com") == 404
        assert call_refused(alice, "http://example.com/") == 416
        assert call_refused(alice, crowd.phones["tcp"].aor, max_forwards=0) == 483
        assert call_refused(alice, crowd.phones["tcp"].aor, headers=["Proxy-Require: foo"]) == 420
        alice.request("OPTIONS", "sip:example.com")
        assert alice.wait() is not None
        alice.send(alice.make_request("INVITE", "sip:bob@example.com").replace("Max-Forwards: 70", "Max-Forwards: x"))
        alice.expect(400)
        alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>", headers=["Require: foo"])
        assert alice.wait() is not None
    crowd.farm.run(40)
    crowd.finish()


def test_strangers_and_gateways_are_told_nothing(crowd: Crowd) -> None:
    farm = crowd.farm
    for node, transport in enumerate(("udp", "tcp", "ws")):
        zoe = add_phone(farm, f"zoe{node}", transport, node, domain="foreign.org", account=False)
        assert call_refused(zoe, "sip:bob@third.org") in (401, 403, 407)
        assert call_refused(zoe, "sip:nobody@example.com") in (404, 407, 480)
        sent = zoe.request("INVITE", crowd.phones["nat"].aor)
        final = zoe.wait(3)
        if final is not None and final.status:
            zoe.acknowledge(sent, final)
        zoe.request("REGISTER", "sip:example.com", to="<sip:user-udp@example.com>")
        zoe.expect(401)
        zoe.password = "wrong"
        zoe.request("MESSAGE", "sip:bob@elsewhere.net", headers=["Route: <sip:abc@sip.example.com;lr>"])
        assert zoe.wait(3) is not None
    alice = crowd.phones["udp"]
    sent = alice.ask("INVITE", "sip:bob@elsewhere.net")
    crowd.gateway.answer(crowd.gateway.expect("INVITE"), 486)
    alice.acknowledge(sent, alice.expect(486))
    farm.run(120)  # gateways are asked how they are
    crowd.finish()


def test_a_drain_and_the_death_of_nodes_tell_nothing(crowd: Crowd) -> None:
    farm, phones = crowd.farm, crowd.phones
    udp = phones["udp"]
    turn_to(udp, 1)
    up = set_up(udp, phones["tcp"])
    udp.ask("INVITE", phones["tcp"].aor)
    ringing = phones["tcp"].expect("INVITE")
    phones["tcp"].answer(ringing, 180)
    udp.expect(180)
    crowd.nodes[1].kill()
    phones["tcp"].answer(ringing, 200)
    farm.wait_until_synchronised()
    turn_to(udp, 2)
    farm.run(5)
    udp.wait(0)
    exchange(*up, "BYE")
    for callee in ("nat", "ws"):  # whose flows were that node's
        call_refused(udp, phones[callee].aor)
    crowd.nodes[2].node.reports.drain()
    farm.run(1)
    call_refused(udp, phones["tls"].aor)
    crowd.nodes[2].stop()
    turn_to(udp, 0)
    call_refused(udp, phones["tcp"].aor)
    farm.run(40)
    crowd.finish()


def test_what_is_no_sip_is_told_nothing_either(crowd: Crowd) -> None:
    """STUN on the SIP port, pages asked of the WebSocket's, noise."""
    farm = crowd.farm
    stun = struct.pack("!HHI12s", 0x0001, 0, 0x2112A442, b"transaction1")
    for node in range(3):
        noise = add_phone(farm, f"noise{node}", "udp", node, account=False)
        answers: list[bytes] = []
        noise.receive = lambda data, source, reply: answers.append(data)  # type: ignore[method-assign]  # noqa: B023
        noise.write(stun)
        noise.write(b"\r\n\r\n")
        noise.write(b"\x00" * 100)
        farm.run(1)
        for answer in answers:
            assert b"\x80\x22" not in answer, "SOFTWARE"
    for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /x HTTP/1.0\r\n\r\n", b"nonsense\r\n\r\n"):
        page = farm.add_party("page", transport="tcp", account=False)
        page.target = ("192.0.2.1", SIP_PORTS["ws"])
        page.write(request)
        farm.run(1)
    crowd.finish()
