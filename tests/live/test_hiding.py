"""All that real nodes send to hosts outside, as the kernel saw it: nothing tells which node did the work, nor how many
there are."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from tests.support.agents import Agent
from tests.support.capture import Capture
from tests.support.certificates import write_sip_files
from tests.support.faces import FARM_NAME, check_outside
from tests.support.leaks import Body, Secrets, find_messages
from tests.support.live_farm import OVERLAY, PEER_PORT, LiveFarm, name_of
from tests.support.live_phones import PORTS, LiveDialog, LivePhone, exchange, make_listeners, set_up
from tests.support.tools import give_up

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

HOWS = ["udp", "nat", "tcp", "tls", "ws"]
ADMIN_PORTS = [9464]
_TLS_RECORD = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")


def refuse(caller: Agent, uri: str, edit: Callable[[str], str] = str, *headers: str) -> int:
    """A call that does not succeed; its final status."""
    text = edit(caller.make_request("INVITE", uri, headers=headers))
    caller.send_request(text)
    final = caller.expect_final(method="INVITE")
    caller.acknowledge(text, final)
    return final.status


def cancel(caller: Agent, callee: Agent) -> None:
    """A call that the caller gives up."""
    text = caller.make_request("INVITE", callee.aor)
    caller.send_request(text)
    invite = callee.expect("INVITE")
    callee.answer(invite, 180)
    caller.expect(180)
    caller.send_request(caller.make_cancel(text))
    callee.answer(callee.expect("CANCEL"), 200)
    callee.answer(invite, 487)
    caller.acknowledge(text, caller.expect(487))


def talk_among(phones: list[LivePhone], nodes: list[str]) -> None:
    """Calls of all with all, that are answered, refused, given up."""
    for caller in phones:
        for callee in phones:
            if caller is not callee:
                ours, theirs = set_up(caller, callee)
                exchange(theirs, ours, "INVITE")
                exchange(ours, theirs, "BYE")
                callee.refuse(caller, 486)
                cancel(caller, callee)
    udp = phones[0]
    for node in nodes:
        udp.turn_to(node)
        assert refuse(udp, "sip:nobody@example.com") == 404
        assert refuse(udp, "http://example.com/") == 416
        assert refuse(udp, phones[1].aor, lambda text: text.replace("Max-Forwards: 70", "Max-Forwards: 0")) == 483
        assert refuse(udp, phones[1].aor, lambda text: text.replace("Max-Forwards: 70", "Max-Forwards: x")) == 400
        assert refuse(udp, phones[2].aor, str, "Proxy-Require: foo") == 420
        assert udp.request_with_digest("OPTIONS", "sip:example.com").status == 200
        assert udp.register(headers=["Require: foo"]).status == 420


def disturb(nodes: list[str], host: str) -> None:
    """What is no SIP, and what strangers ask for."""
    stun = struct.pack("!HHI12s", 0x0001, 0, 0x2112A442, b"transaction1")
    for number, node in enumerate(nodes):
        with LivePhone(node, host, f"zoe{number}", "udp") as zoe:
            zoe.domain = "foreign.org"
            for noise in (stun, b"\r\n\r\n", bytes(100), b"INVITE\r\n\r\n"):
                zoe.send_bytes(noise)
            assert refuse(zoe, "sip:bob@third.org") in (403, 407)
            assert refuse(zoe, "sip:nobody@example.com") in (404, 480)
            zoe.domain = "example.com"
            challenge = zoe.register()
            assert challenge.status == 401
            assert zoe.register(password="wrong").status in (401, 403)
            assert refuse(zoe, "sip:user-tcp@example.com") == 407
            token = "Route: <sip:GAAAABBBBCCCCDDDDEEEEFFFFGGGGHHHHIIIIJJJJKKKKLLLL@sip.example.com;lr>"
            zoe.send_request(
                zoe.make_request("BYE", "sip:x@203.0.113.9", to="<sip:x@example.com>;tag=1", headers=[token])
            )
            assert zoe.expect_final(method="BYE").status in (403, 404, 407, 481)
        for port, text in ((8080, b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"), (5060, b"GET / HTTP/1.0\r\n\r\n")):
            with socket.create_connection((node, port), 10, source_address=(host, 0)) as page:
                page.sendall(text)
                page.settimeout(2)
                page.recv(4096)


def test_nothing_that_leaves_the_nodes_tells_of_them(make_farm: MakeFarm, hosts: Hosts, tmp_path: Path) -> None:
    stranger_host, *phone_hosts = hosts(1 + len(HOWS))
    farm = make_farm(
        open_farm=False,
        sip={"farm_name": FARM_NAME, "trusted_networks": [f"{host}/32" for host in phone_hosts]},
        tls=write_sip_files(tmp_path / "tls"),
        make_listeners=make_listeners,
    )
    file = tmp_path / "users.csv"
    file.write_text("".join(f"{user},{user}-secret\n" for user in [f"user-{how}" for how in HOWS]))
    try:
        capture = Capture(farm.hosts, ADMIN_PORTS)
    except PermissionError:
        give_up("may not open a packet socket")
    with capture:
        farm.start()
        farm.console(0, "user", "import", str(file))
        phones = [
            LivePhone(farm.hosts[number % 3], host, f"user-{how}", how)
            for number, (how, host) in enumerate(zip(HOWS, phone_hosts, strict=True))
        ]
        try:
            for number, phone in enumerate(phones):
                phone.instance = f"urn:uuid:00000000-0000-1000-8000-00000000000{number}" if number % 2 else ""
                phone.enter(password=f"{phone.user}-secret")
            talk_among(phones, farm.hosts)
            disturb(farm.hosts, stranger_host)
            udp, tcp = phones[0], phones[2]
            udp.turn_to(farm.hosts[1])
            ours, theirs = set_up(udp, tcp)
            survive(farm, udp, ours, theirs)
        finally:
            for phone in phones:
                phone.close()
    deciphered = [
        (message.source[0], message.text.encode("utf-8", "surrogateescape"))
        for phone in phones
        if phone.transport == "tls"
        for message in phone.seen
    ]
    payloads = [(source, data) for source, data in capture.payloads() if not _TLS_RECORD.match(data)] + deciphered
    bodies = [
        Body(name_of(host), (host,), bytes.fromhex(node)) for host, node in zip(farm.hosts, farm.node_ids, strict=True)
    ]
    leaks = Secrets(OVERLAY, PEER_PORT, bodies).find_all(payloads)
    assert not leaks, f"{len(leaks)} leaks:\n" + "\n\n".join(leaks[:3])
    messages = [message for _, message in find_messages(payloads)]
    for message in messages:
        check_outside(message)
    assert {message.status for message in messages} >= {0, 180, 200, 400, 401, 404, 407, 416, 420, 480, 483, 486, 487}
    assert len(messages) > 400
    print(f"{len(messages)} messages, {len(payloads)} datagrams and streams, of ports {sorted(set(PORTS.values()))}")


def survive(farm: LiveFarm, udp: LivePhone, ours: LiveDialog, theirs: LiveDialog) -> None:
    """One node is killed during a call and a ringing one, another is stopped."""
    udp.send_request(udp.make_request("INVITE", theirs.phone.aor))
    ringing = theirs.phone.expect("INVITE")
    theirs.phone.answer(ringing, 180)
    udp.expect(180)
    farm.kill(1)
    theirs.phone.answer(ringing, 200)
    udp.turn_to(farm.hosts[0])
    rescued = LiveDialog.of_caller(udp, udp.expect(200, method="INVITE"))
    rescued.acknowledge()
    theirs.phone.expect("ACK")
    exchange(rescued, LiveDialog.of_callee(theirs.phone, ringing), "BYE")
    exchange(ours, theirs, "BYE")
    farm.wait_state(0, 1, "dead")
    assert refuse(udp, "sip:user-nat@example.com") == 480, "its flow was that node's"
    farm.stop(2)
    assert refuse(udp, "sip:user-nat@example.com") == 480
