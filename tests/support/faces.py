"""A farm seen from outside, as one element: whom a party speaks to, and what it may see of the farm in a message.

The farm has a name, which all that it writes into messages bears. A party may turn to any node at any time: one on UDP
sends its next datagram there, one on a stream opens another connection and keeps the old one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.agents import Received
from tests.support.farms import SIP_PORTS, Farm, FarmNode
from tests.support.parties import Dialog, Message, Party

FARM_NAME: Final = "sip.example.com"


def address_of(node: int) -> str:
    """Where the node of that index is."""
    return f"192.0.2.{node + 1}"


def add_face(farm: Farm, nodes: int = 3, **options: Any) -> list[FarmNode]:
    """A farm of so many nodes under one name; the options are as for `Farm.add_member`."""
    return farm.add_nodes(nodes, **face_options(farm, **options))


def face_options(farm: Farm, **options: Any) -> dict[str, Any]:
    """What all nodes of such a farm have in common."""
    options["sip"] = {"farm_name": FARM_NAME, **options.get("sip", {})}
    if {"tls", "wss"}.intersection(options.get("transports", ())):
        options["tls"] = {"certificates": [str(write_certificate(farm.directory))], **options.get("tls", {})}
    return options


def write_certificate(directory: Path) -> Path:
    """A file with a certificate of the farm's name, and its key."""
    path = directory / "farm.pem"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, FARM_NAME)])
        names = x509.SubjectAlternativeName(
            [x509.DNSName(FARM_NAME), x509.UniformResourceIdentifier(f"sip:{FARM_NAME}")]
        )
        begin, finish = datetime(2020, 1, 1, tzinfo=UTC), datetime(2119, 1, 1, tzinfo=UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, finish)
        certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        pem = Encoding.PEM
        path.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
    return path


def add_phone(farm: Farm, user: str, how: str, node: int, **options: Any) -> Party:
    """A phone that talks to a node: how is a transport, or "nat" for UDP from behind a translator of its own."""
    if how != "nat":
        return farm.add_party(user, transport=how, target=address_of(node), **options)
    number = len(farm.network.hosts)
    nat = farm.network.add_nat(f"198.51.100.{number}")
    return farm.add_party(user, address=f"10.0.0.{number}", behind=nat, target=address_of(node), **options)


def turn_to(party: Party, node: int) -> None:
    """What the party says next goes to that node."""
    party.target = (address_of(node), SIP_PORTS[party.transport])
    if party.transport != "udp":
        party.leave_connection()


def values_of(message: Received, name: str) -> list[str]:
    """The values of a header, those of one line too."""
    return [value.strip() for line in message.all(name) for value in line.split(",")]


def check_request(request: Received, *, recorded: bool = True, hops: int = 1) -> None:
    """A request that came through the farm bears one Via of ours above that of its sender, and in a dialog's first
    request one Record-Route of ours. `hops` is how many Vias it had when it came to us."""
    vias = values_of(request, "via")
    assert len(vias) == hops + 1, request.text
    assert vias[0].split(" ")[1].partition(";")[0].partition(":")[0] == FARM_NAME, request.text
    assert [FARM_NAME in via for via in vias] == [True] + [False] * hops, request.text
    routes = values_of(request, "record-route")
    assert [FARM_NAME in route for route in routes] == ([True] if recorded else []), request.text
    assert not request.all("route"), request.text


def check_response(response: Received, *, recorded: bool = True) -> None:
    """A response that came through the farm has the Vias of its request alone, and one Record-Route of ours."""
    vias = values_of(response, "via")
    assert len(vias) == 1, response.text
    assert FARM_NAME not in vias[0], response.text
    routes = values_of(response, "record-route")
    assert [FARM_NAME in route for route in routes] == ([True] if recorded else []), response.text


def check_outside(message: Received) -> None:
    """What holds for every message that leaves the farm, whoever gets it."""
    vias = values_of(message, "via")
    if message.method and message.method != "CANCEL":
        sent_by = vias[0].partition(";")[0]
        assert re.fullmatch(rf"SIP/2\.0/\w+ {re.escape(FARM_NAME)}(:(5061|8080|8443))?", sent_by), message.text
    assert sum(FARM_NAME in via for via in vias) == (1 if message.method else 0), message.text
    assert sum(FARM_NAME in route for route in values_of(message, "record-route")) <= 1, message.text
    for name in ("server", "warning", "error-info", "user-agent"):
        assert not message.all(name), message.text
    if message.status >= 300:
        assert message.first("content-length") == "0", message.text


def set_up(caller: Party, callee: Party, uri: str = "") -> tuple[Dialog, Dialog]:
    """A call that is up, each message of which shows one element."""
    caller.ask("INVITE", uri or callee.aor)
    invite = callee.expect("INVITE")
    check_request(invite)
    callee.answer(invite, 180)
    check_response(caller.expect(180))
    answered = callee.answer(invite, 200)
    final = caller.expect(200)
    check_response(final)
    ours = Dialog.of_caller(caller, final)
    ours.acknowledge()
    check_request(callee.expect("ACK"), recorded=False)
    return ours, Dialog.of_callee(callee, invite, answered)


def exchange(one: Dialog, other: Dialog, method: str) -> Message:
    """A request in the dialog, answered 200, each message of which shows one element; an INVITE is acknowledged."""
    one.send(method)
    request = other.party.expect(method)
    check_request(request, recorded=False)
    other.party.answer(request, 200)
    check_response(one.party.expect(200, method=method), recorded=False)
    if method == "INVITE":
        one.acknowledge()
        check_request(other.party.expect("ACK"), recorded=False)
    return request


def run_until(farm: Farm, condition: Callable[[], bool], limit: float) -> float:
    """Let time pass until it holds; answers the seconds. Fails when it does not within the limit."""
    began = farm.network.clock.seconds()
    assert farm.network.run_until(condition, limit), f"not within {limit:g} s{farm.draw()}"
    return farm.network.clock.seconds() - began


def sees_dead(observer: FarmNode, node: FarmNode) -> bool:
    """Whether a node knows that another is dead."""
    assert observer.node.member is not None
    return any(
        contact.name == node.config.node.name and contact.state not in _THERE
        for contact in observer.node.member.contacts()
    )


_THERE: Final = (0, 1, 2)  # joining, alive, suspect
