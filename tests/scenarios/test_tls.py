"""Calls over TLS through whole nodes: phones, other domains, trust, and files that are renewed while calls run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.names import dns

from farm.config import Config, ConfigError
from tests.support.certificates import make_sip_certificate, write_sip_files
from tests.support.farms import Farm
from tests.support.messages import request_bytes, response_bytes
from tests.support.parties import exchange, set_up_call
from tests.support.tls_peers import TlsServer, connect_tls, make_context

NODE = "192.0.2.1"
OTHER = "192.0.2.80"
LISTEN = [f"udp:{NODE}:5060", f"tcp:{NODE}:5060", f"tls:{NODE}:5061", f"wss:{NODE}:8443"]


def change(config: Config, **tls: Any) -> Config:
    """The same with other settings of `[tls]`."""
    return msgspec.structs.replace(config, tls=msgspec.structs.replace(config.tls, **tls))


@pytest.mark.parametrize(("first", "second"), [("tls", "tls"), ("tls", "udp"), ("udp", "tls"), ("wss", "tls")])
def test_phones_over_tls_call_each_other_and_others(farm: Farm, first: str, second: str) -> None:
    farm.add_node(sip={"listen": LISTEN})
    alice, bob = farm.add_party("alice", transport=first), farm.add_party("bob", transport=second)
    for party in (alice, bob):
        party.register()
    ours, theirs = set_up_call(alice, bob)
    exchange(ours, theirs, "INVITE")
    exchange(theirs, ours, "INVITE")
    exchange(theirs, ours, "BYE")
    for party in (alice, bob):
        if party.transport != "udp":
            party.disconnect()
    farm.run(1)
    farm.check_end()


@pytest.mark.parametrize(("name", "called"), [("IP:192.0.2.102", True), ("DNS:phone.example", False)])
def test_a_phone_whose_connection_is_gone_is_called_at_its_contact_if_it_proves_that(
    farm: Farm, name: str, called: bool
) -> None:
    farm.add_node(sip={"listen": LISTEN})
    alice, bob = farm.add_party("alice"), farm.add_party("bob", transport="tls")
    bob.register()
    server = TlsServer(bob.host, make_context(make_sip_certificate(name)), port=5060)
    bob.disconnect()
    alice.ask("INVITE", bob.aor)
    farm.run(1)
    assert (b"INVITE" in server.peers[0].data) is called
    if not called:
        alice.expect(480)
    assert farm.node.value("sip_rejected", "tls-wrong-domain") == (0 if called else 1)


def make_other_domain(farm: Farm, *names: str) -> TlsServer:
    """A server of example.net, found by NAPTR and SRV under another name, with such a certificate."""
    farm.add_zone(
        {
            "example.net": [dns.Record_NAPTR(10, 10, b"s", b"SIPS+D2T", b"", b"_sips._tcp.example.net")],
            "_sips._tcp.example.net": [dns.Record_SRV(1, 1, 5061, b"proxy.hoster.example")],
            "proxy.hoster.example": [dns.Record_A(OTHER)],
        }
    )
    return TlsServer(farm.network.add_host(OTHER), make_context(make_sip_certificate(*names)))


@pytest.mark.parametrize(
    ("name", "goes"),
    [("URI:sip:example.net", True), ("DNS:example.net", True), ("DNS:proxy.hoster.example", False)],
)
def test_a_call_to_another_domain_reaches_only_a_server_that_proves_it(farm: Farm, name: str, goes: bool) -> None:
    farm.add_node(sip={"listen": LISTEN})
    server = make_other_domain(farm, name)
    alice = farm.add_party("alice")
    alice.ask("MESSAGE", "sip:carol@example.net")
    farm.run(1)
    assert (b"MESSAGE sip:carol@example.net" in server.peers[0].data) is goes
    assert farm.node.value("sip_rejected", "tls-wrong-domain") == (0 if goes else 1)
    if not goes:
        alice.expect(500)


@pytest.mark.parametrize(("proved", "status"), [("peer.example", 202), ("other.example", 403)])
def test_a_peer_that_proves_a_trusted_domain_may_relay_and_no_other(farm: Farm, proved: str, status: int) -> None:
    tls = write_sip_files(farm.directory)
    tls |= {"client_certificates": "request", "trusted_domains": ["peer.example"]}
    farm.add_node(sip={"listen": LISTEN}, tls=tls)
    server = make_other_domain(farm, "URI:sip:example.net")
    machine = farm.network.add_host("192.0.2.90")
    peer = connect_tls(machine, context=make_context(make_sip_certificate(f"URI:sip:{proved}")))
    via = "SIP/2.0/TLS proxy.peer.example;branch=z9hG4bKpeer"
    sender = "<sip:dave@peer.example>;tag=1"
    peer.transport.write(request_bytes("MESSAGE", "sip:carol@example.net", via=via, from_=sender))
    farm.run(1)
    if server.peers:
        top = next(line for line in server.peers[0].data.decode().split("\r\n") if line.startswith("Via:"))
        answer = response_bytes(202, method="MESSAGE", via=[top.removeprefix("Via: "), via], from_=sender)
        server.peers[0].transport.write(answer)
        farm.run(1)
    assert peer.data.startswith(f"SIP/2.0 {status} ".encode())


def test_certificates_are_renewed_by_sighup_and_by_the_minute_and_bad_ones_never(farm: Farm, tmp_path: Path) -> None:
    tls = write_sip_files(tmp_path, "DNS:one.example")
    node = farm.add_node(sip={"listen": LISTEN}, tls=tls)
    bob = farm.add_party("bob", transport="tls")
    bob.register()
    machine = farm.network.add_host("192.0.2.90")

    def shown() -> str:
        return str(connect_tls(machine).certificate.extensions)

    write_sip_files(tmp_path, "DNS:two.example")
    assert "one.example" in shown()
    farm.run(60)
    assert "two.example" in shown()
    write_sip_files(tmp_path, "DNS:three.example")
    assert node.node.reload(node.config).waiting == []
    assert "three.example" in shown()
    Path(tls["keys"][0]).write_text("half of a key")
    with pytest.raises(ConfigError, match="has no private key"):
        node.node.reload(node.config)
    farm.run(60)
    assert "three.example" in shown()
    write_sip_files(tmp_path / "other", "DNS:four.example")
    other = tuple(str(tmp_path / "other" / f"sip.{kind}") for kind in ("pem", "key"))
    assert node.node.reload(change(node.config, certificates=other[:1], keys=other[1:])).waiting == []
    assert "four.example" in shown()
    alice = farm.add_party("alice")
    ours, theirs = set_up_call(alice, bob)  # over the connection that was there all the time
    exchange(ours, theirs, "BYE")
    assert farm.faults.texts == []


def test_a_tls_listener_without_a_usable_certificate_does_not_start(farm: Farm, tmp_path: Path) -> None:
    tls = write_sip_files(tmp_path)
    Path(tls["certificates"][0]).unlink()
    with pytest.raises(ConfigError, match=r"tls\.certificates: .*sip\.pem cannot be read"):
        farm.add_node(sip={"listen": LISTEN}, tls=tls)
    farm.nodes.clear()


def test_the_expiry_is_told_and_a_node_without_certificates_tells_none(farm: Farm, tmp_path: Path) -> None:
    tls = write_sip_files(tmp_path)
    with_tls = farm.add_node("n1", sip={"listen": LISTEN}, tls=tls)
    without = farm.add_node("n2", "192.0.2.2")
    ends = with_tls.node.certificates.not_after - with_tls.host.wall_time()
    assert with_tls.value("sip_certificate_expiry") == pytest.approx(ends)
    assert without.value("sip_certificate_expiry") == 0
