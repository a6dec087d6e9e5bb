"""TLS as peers see it: who is let in, who is dialled, what is shown, and what becomes of those who stop midway."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from farm.config import TlsSettings
from farm.security.sip_certificates import SipCertificates
from farm.transport.connection import Connection
from farm.transport.stream import StreamWire, TcpListener
from farm.transport.tls import TlsSession
from tests.support.certificate_matrix import MATRIX, Case
from tests.support.certificates import NOON, make_sip_certificate, write_sip_files
from tests.support.edge import NODE, PHONE, Edge, Server, StreamPeer, connect, make_edge
from tests.support.messages import request_bytes, response_bytes
from tests.support.network import Host
from tests.support.tls_peers import TlsPeer, TlsServer, connect_tls, make_certificates, make_context

LISTEN = (f"udp:{NODE}:5060", f"tcp:{NODE}:5060", f"tls:{NODE}:5061")
OPTIONS = request_bytes("OPTIONS", via=f"SIP/2.0/TLS {PHONE}:5062;branch=z9hG4bK1")
ALIASED = request_bytes("OPTIONS", via="SIP/2.0/TLS proxy.example.net:5070;alias;branch=z9hG4bK1")
ANSWER = response_bytes(200, method="OPTIONS")


def make(tmp_path: Path, *names: str, settings: dict[str, Any] | None = None, **limits: Any) -> tuple[Edge, Host]:
    """A node with a certificate, and a phone's machine."""
    certificates = make_certificates(tmp_path, *names, **(settings or {}))
    _, edge, phone = make_edge(listen=LISTEN, certificates=certificates, **limits)
    return edge, phone


def talk(edge: Edge, peer: StreamPeer, data: bytes, seconds: float = 0.2) -> None:
    """Send on a connection and let it arrive."""
    peer.transport.write(data)
    edge.network.run(seconds)


def names_of(certificate: x509.Certificate) -> list[str]:
    """The names in a certificate."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


# Those who connect


def test_a_phone_s_request_comes_up_and_its_answer_goes_back_enciphered(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    seen: list[bytes] = []
    edge.network.watch(lambda packet: seen.append(packet.data))
    peer = connect_tls(phone)
    edge.receiver.answer = ANSWER
    talk(edge, peer, OPTIONS)
    assert peer.data == ANSWER
    (request,) = edge.requests
    assert request.source.remote == ("TLS", PHONE, peer.transport.getHost().port)
    assert request.source.local.startswith(f"tls:{NODE}:5061#")
    assert (edge.flow.reliable, edge.flow.transport, edge.flow.local_name) == (True, "TLS", f"tls:{NODE}:5061")
    assert edge.layer.sent_by(edge.flow) == NODE  # 5061 is TLS's own port
    assert not any(b"OPTIONS" in data or b"SIP/2.0" in data for data in seen)
    assert edge.value("flows", "tls") == 1
    assert edge.layer.flow_to(request.source).hop == request.source
    assert edge.stop()


def test_messages_of_every_size_pass_whatever_the_segments_are(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    edge.network.set_path(phone, edge.host, segment_bytes=7)
    edge.network.set_path(edge.host, phone, segment_bytes=11)
    peer = connect_tls(phone)
    edge.network.run(5)
    big = request_bytes("MESSAGE", via=f"SIP/2.0/TLS {PHONE};branch=z9hG4bK2", body=b"x" * 60_000)
    talk(edge, peer, OPTIONS + big + OPTIONS, 60)
    assert [(request.method, len(request.body)) for request in edge.requests] == [
        ("OPTIONS", 0),
        ("MESSAGE", 60_000),
        ("OPTIONS", 0),
    ]
    edge.layer.flow_to(edge.requests[0].source).send(big)
    edge.network.run(60)
    assert peer.data == big


def test_a_client_of_tls_1_2_is_served_and_one_of_1_1_is_not(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    talk(edge, connect_tls(phone, context=make_context(version=SSL.TLS1_2_VERSION)), OPTIONS)
    assert len(edge.requests) == 1
    old = connect_tls(phone, context=make_context(version=SSL.TLS1_1_VERSION))
    assert old.ended
    assert edge.rejections.reasons == ["tls-version"]


@pytest.mark.parametrize("garbage", [b"OPTIONS sip:x SIP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096])
def test_garbage_is_counted_and_cut_off(tmp_path: Path, garbage: bytes) -> None:
    edge, phone = make(tmp_path)
    peer = connect(phone, port=5061)
    talk(edge, peer, garbage, 1)
    assert peer.ended
    assert edge.rejections.reasons == ["not-tls"]
    assert edge.value("flows", "tls") == 0
    assert edge.value("flows_closed", "tls", "handshake") == 1
    assert edge.stop()


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_a_client_that_stops_mid_handshake_is_cut_off_in_time(tmp_path: Path, hello: bytes) -> None:
    edge, phone = make(tmp_path, settings={"handshake_seconds": 4.0})
    peer = connect(phone, port=5061)
    talk(edge, peer, hello, 3.5)
    assert not peer.ended
    edge.network.run(1)
    assert peer.ended
    assert edge.rejections.reasons == ["tls-timeout"]
    assert edge.value("flows", "tls") == 0
    assert edge.stop()


def test_a_client_that_drips_its_handshake_is_cut_off_as_well(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, settings={"handshake_seconds": 4.0})
    peer = connect(phone, port=5061)
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc":
        talk(edge, peer, bytes((byte,)), 0.5)
    assert peer.ended
    assert edge.rejections.reasons == ["tls-timeout"]


def test_a_balancer_that_only_looks_whether_we_are_there_is_no_rejection(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    peer = connect(phone, port=5061)
    peer.transport.loseConnection()
    edge.network.run(1)
    assert edge.rejections.reasons == []
    half = connect(phone, port=5061)
    talk(edge, half, b"\x16\x03\x01\x02\x00\x01\x00")
    half.transport.loseConnection()
    edge.network.run(1)
    assert edge.rejections.reasons == ["tls-handshake"]
    assert edge.stop()


def test_a_client_that_does_not_trust_us_is_counted_as_such(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    context = make_context()
    context.set_verify(SSL.VERIFY_PEER, lambda *_: False)
    assert connect_tls(phone, context=context).ended
    assert edge.rejections.reasons == ["tls-alert"]


def test_connections_over_the_limit_are_refused_before_any_handshake(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, connections_per_source=2)
    first, second = connect(phone, port=5061), connect_tls(phone)
    third = connect_tls(phone)
    assert (first.ended, second.ended, third.ended) == (False, False, True)
    assert edge.rejections.reasons == ["too-many-connections-from-source"]


def test_a_peer_that_closes_is_gone_and_one_that_is_silent_is_closed(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, first_message_seconds=5.0, idle_seconds=20.0)
    leaving, silent, idle = connect_tls(phone), connect_tls(phone), connect_tls(phone)
    talk(edge, leaving, OPTIONS)
    talk(edge, idle, OPTIONS)
    leaving.transport.loseConnection()
    edge.network.run(1)
    assert edge.value("flows_closed", "tls", "peer") == 1
    edge.network.run(10)
    assert (silent.ended, idle.ended) == (True, False)
    edge.network.run(20)
    assert idle.ended
    assert edge.value("flows_closed", "tls", "idle") == 1
    assert edge.rejections.reasons == ["no-first-message"]
    assert not edge.flow.send(ANSWER)  # the phone listens nowhere, and has proved nothing
    assert edge.stop()


@pytest.mark.parametrize("who", ["peer", "we"])
def test_the_memory_of_a_connection_that_has_ended_is_free_at_once(tmp_path: Path, who: str) -> None:
    """OpenSSL's is 30 KB, and Python looks for cycles so rarely here that phones which come and go would fill it."""
    edge, phone = make(tmp_path)
    peer = connect_tls(phone)
    talk(edge, peer, OPTIONS)
    (connection,) = edge.layer._streams
    wire: Any = connection._wire
    session = weakref.ref(wire.transport)
    del wire
    gc.disable()
    try:
        if who == "peer":
            peer.transport.loseConnection()
        else:
            connection.close("drained")
        edge.network.run(1)
        assert connection.close_reason == ("peer" if who == "peer" else "drained")
        assert session() is None
    finally:
        gc.enable()


def test_a_peer_that_does_not_read_is_cut_off_when_too_much_waits(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, write_buffer_bytes=100_000)
    peer = connect_tls(phone)
    talk(edge, peer, OPTIONS)
    phone.pause()
    big = request_bytes("MESSAGE", via=f"SIP/2.0/TLS {NODE};branch=z9hG4bK2", body=b"x" * 50_000)
    sent = []
    for _ in range(12):
        sent.append(edge.flow.send(big))
        edge.network.run(0.1)
    assert False in sent
    edge.network.run(1)
    assert edge.rejections.reasons == ["write-buffer-full"]
    assert edge.value("flows", "tls") == 0


def test_bytes_that_are_no_records_end_a_connection_that_was_open(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    peer = connect_tls(phone)
    talk(edge, peer, OPTIONS)
    peer.transport.transport.write(b"SIP/2.0 200 OK\r\n\r\n")
    edge.network.run(10)
    assert peer.ended
    assert edge.rejections.reasons == ["not-tls"]
    assert edge.value("flows_closed", "tls", "malformed") == 1
    assert edge.stop()


# What we show


def test_the_name_that_a_client_asks_for_picks_the_certificate(tmp_path: Path) -> None:
    one = write_sip_files(tmp_path, "URI:sip:example.com", "DNS:sip.example.com", label="one")
    two = write_sip_files(tmp_path, "DNS:example.net", "DNS:*.example.net", label="two")
    settings = TlsSettings(certificates=(*one["certificates"], *two["certificates"]), keys=(*one["keys"], *two["keys"]))
    _, edge, phone = make_edge(listen=LISTEN, certificates=SipCertificates(settings, NOON))
    shown = {
        name: names_of(connect_tls(phone, name=name).certificate)[0]
        for name in ("", "example.com", "SIP.Example.Com", "example.net", "a.example.net", "a.b.example.net", "b.org")
    }
    first, second = "sip:example.com", "example.net"
    assert shown == {
        "": first,
        "example.com": first,
        "SIP.Example.Com": first,
        "example.net": second,
        "a.example.net": second,
        "a.b.example.net": first,
        "b.org": first,
    }
    assert edge.rejections.reasons == []


def test_a_renewed_certificate_is_shown_from_then_on_and_connections_stay(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "DNS:old.example.com")
    _, edge, phone = make_edge(listen=LISTEN, certificates=certificates)
    before = connect_tls(phone)
    started = connect(phone, port=5061)
    write_sip_files(tmp_path, "DNS:new.example.com")
    assert certificates.reload(NOON)
    after = connect_tls(phone)
    assert names_of(before.certificate) == ["old.example.com"]
    assert names_of(after.certificate) == ["new.example.com"]
    for peer in (before, after):
        talk(edge, peer, OPTIONS)
    assert len(edge.requests) == 2
    assert not started.ended


# Those we connect to


def dial(edge: Edge, domain: str = "example.com", host: str = PHONE, port: int = 5061) -> Any:
    """As the proxy asks for a located hop."""
    return edge.flow_to("TLS", host, port, f"@{domain}")


@pytest.mark.parametrize("case", MATRIX, ids=lambda case: case.name)
def test_a_request_goes_only_to_a_server_that_proves_the_domain(tmp_path: Path, case: Case) -> None:
    edge, phone = make(tmp_path)
    server = TlsServer(phone, make_context(case.make()))
    flow = dial(edge, case.domain)
    assert flow.send(OPTIONS)
    edge.network.run(1)
    if case.verdict:
        assert edge.rejections.reasons == [case.verdict]
        assert edge.receiver.failures == [flow]
        assert server.peers[0].data == b""
        edge.network.run(10)
        assert dial(edge, case.domain) is not flow
    else:
        assert edge.rejections.reasons == []
        assert server.peers[0].data == OPTIONS
        assert case.domain in flow.domains
        assert dial(edge, case.domain) is flow
    assert edge.stop()


def test_two_domains_on_one_server_have_a_connection_each(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    server = TlsServer(phone, make_context(make_sip_certificate("URI:sip:example.com", "URI:sip:example.net")))
    one, two, other = dial(edge, "example.com"), dial(edge, "example.net"), dial(edge, "example.org")
    for flow in (one, two, other):
        flow.send(OPTIONS)
    edge.network.run(1)
    assert len(server.peers) == 3
    assert edge.rejections.reasons == ["tls-wrong-domain"]
    assert (dial(edge, "example.com"), dial(edge, "example.net")) == (one, two)


def test_the_server_is_told_which_domain_is_meant_and_who_we_are(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, "URI:sip:ours.example")
    context = make_context(make_sip_certificate("URI:sip:example.com"), asks=True)
    asked: list[bytes | None] = []
    context.set_tlsext_servername_callback(lambda connection: asked.append(connection.get_servername()))
    server = TlsServer(phone, context)
    dial(edge).send(OPTIONS)
    edge.network.run(1)
    assert asked == [b"example.com"]
    assert names_of(server.peers[0].certificate) == ["sip:ours.example"]


def test_a_server_that_is_silent_or_speaks_no_tls_fails_in_time(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, settings={"handshake_seconds": 4.0})
    server = Server(phone, 5061)
    flow = dial(edge)
    flow.send(OPTIONS)
    edge.network.run(5)
    assert edge.receiver.failures == [flow]
    assert edge.rejections.reasons == ["tls-timeout"]
    again = dial(edge)
    again.send(OPTIONS)
    edge.network.run(0.2)
    server.peers[1].transport.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
    edge.network.run(1)
    assert edge.receiver.failures == [flow, again]
    assert edge.rejections.reasons == ["tls-timeout", "not-tls"]
    assert edge.stop()


def test_nobody_is_dialled_without_a_domain_to_prove_or_without_a_listener(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    server = Server(phone, 5061)
    assert not edge.flow_to("TLS", PHONE, 5061).send(OPTIONS)
    _, plain, _ = make_edge()
    assert not dial(plain).send(OPTIONS)
    edge.network.run(1)
    assert server.peers == []


# Mutual


def connect_mutually(edge: Edge, phone: Host, *names: str, **parts: Any) -> TlsPeer:
    """A peer that shows a certificate."""
    return connect_tls(phone, context=make_context(make_sip_certificate(*names, **parts)))


def test_a_peer_must_show_a_certificate_where_it_is_required(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, settings={"client_certificates": "require"})
    talk(edge, connect_tls(phone), OPTIONS)
    talk(edge, connect_mutually(edge, phone, "URI:sip:example.net", validity=("2020-01-01", "2021-01-01")), OPTIONS)
    usage = (ExtendedKeyUsageOID.CODE_SIGNING,)
    talk(edge, connect_mutually(edge, phone, "URI:sip:example.net", usage=usage), OPTIONS)
    assert edge.requests == []
    assert edge.rejections.reasons == ["tls-no-certificate", "tls-expired", "tls-wrong-usage"]
    talk(edge, connect_mutually(edge, phone, "URI:sip:example.net"), OPTIONS)
    assert len(edge.requests) == 1
    assert edge.layer.domains_of(edge.requests[0].source) == ("example.net",)


def test_a_peer_may_show_one_where_it_is_requested_and_proves_nothing_by_a_bad_one(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, settings={"client_certificates": "request"})
    proved = []
    for peer in (
        connect_tls(phone),
        connect_mutually(edge, phone, "URI:sip:example.net", validity=("2020-01-01", "2021-01-01")),
        connect_mutually(edge, phone, "URI:sip:example.net", usage=(ExtendedKeyUsageOID.CODE_SIGNING,)),
        connect_mutually(edge, phone, "URI:sip:example.net"),
    ):
        talk(edge, peer, OPTIONS)
        proved.append(edge.layer.domains_of(edge.requests[-1].source))
    assert proved == [(), (), (), ("example.net",)]
    assert edge.rejections.reasons == []


def test_a_peer_is_not_asked_unless_the_settings_say_so(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    talk(edge, connect_mutually(edge, phone, "URI:sip:example.net"), OPTIONS)
    assert edge.layer.domains_of(edge.requests[0].source) == ()


def test_a_proved_peer_that_asks_for_it_gets_requests_over_its_own_connection(tmp_path: Path) -> None:
    """RFC 5923: `alias`, and only to the domain and port that it has proved and named."""
    edge, phone = make(tmp_path, settings={"client_certificates": "request"})
    server = Server(phone, 5070)
    peer = connect_mutually(edge, phone, "URI:sip:example.net")
    talk(edge, peer, OPTIONS)
    assert dial(edge, "example.net", port=5062) is not edge.layer.flow_to(edge.requests[0].source)
    talk(edge, peer, ALIASED)
    ours = edge.layer.flow_to(edge.requests[0].source)
    assert dial(edge, "example.net", port=5070) is ours
    assert dial(edge, "example.org", port=5070) is not ours
    assert dial(edge, "example.net", port=5071) is not ours
    assert dial(edge, "example.net", host="192.0.2.102", port=5070) is not ours
    ours.send(OPTIONS)
    edge.network.run(0.5)
    assert peer.data == OPTIONS
    peer.transport.loseConnection()
    edge.network.run(0.5)
    assert dial(edge, "example.net", port=5070) is not ours
    edge.network.run(1)
    assert len(server.peers) == 2  # example.org's, and now this one
    assert edge.stop()
    assert (edge.layer._streams._by_domain, edge.layer._streams._proved) == ({}, {})


def test_a_phone_that_has_proved_nothing_cannot_take_requests_by_asking_for_them(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, settings={"client_certificates": "request"})
    peer = connect_tls(phone)
    talk(edge, peer, ALIASED)
    assert dial(edge, "example.net", port=5070) is not edge.layer.flow_to(edge.requests[0].source)


def test_a_contact_that_is_the_very_far_end_of_a_connection_is_reached_through_it(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    peer = connect_tls(phone)
    talk(edge, peer, OPTIONS)
    port = peer.transport.getHost().port
    assert dial(edge, PHONE, port=port) is edge.layer.flow_to(edge.requests[0].source)
    assert dial(edge, "example.com", port=port) is not edge.layer.flow_to(edge.requests[0].source)


def test_an_answer_goes_over_a_new_connection_only_to_a_peer_that_proves_the_same_again(tmp_path: Path) -> None:
    edge, phone = make(tmp_path, settings={"client_certificates": "request"})
    server = TlsServer(phone, make_context(make_sip_certificate("URI:sip:example.net")), port=5062)
    peer = connect_mutually(edge, phone, "URI:sip:example.net")
    talk(edge, peer, OPTIONS)
    peer.transport.loseConnection()
    edge.network.run(0.5)
    assert edge.flow.send(ANSWER)
    edge.network.run(1)
    assert [peer.data for peer in server.peers] == [ANSWER]


class Talkative:
    """A TLS that never ends talking, as that of a peer which asks for new keys again and again."""

    said = 0

    def bio_write(self, data: bytes) -> None:
        """Take what came."""

    def do_handshake(self) -> None:
        """Be done at once."""

    def recv(self, size: int) -> bytes:
        """Nothing for those above."""
        raise SSL.WantReadError

    def bio_read(self, size: int) -> bytes:
        """An answer for the peer, twenty of them at a time."""
        self.said += 1
        if self.said % 20 == 0:
            raise SSL.WantReadError
        return b"x" * 1000


def test_a_peer_that_makes_tls_talk_and_does_not_read_is_cut_off(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    context = edge.layer._streams.context
    held: list[TlsSession] = []

    class Listener(TcpListener):
        """Accepts with the TLS above."""

        transport = "TLS"

        def make_wire(self, connection: Connection) -> TlsSession:
            tls: Any = Talkative()
            held.append(TlsSession(context, connection, StreamWire(connection), tls, lambda _: (), 9.0))
            return held[-1]

    Listener(NODE, 5071, edge.layer._streams).open(edge.host)
    reading, silent = connect(phone, port=5071), connect(edge.network.add_host("192.0.2.102"), port=5071)
    for peer in (reading, silent):
        talk(edge, peer, b"x")
    silent.transport.pauseProducing()
    for peer in (reading, silent):
        for _ in range(30):
            if not peer.ended:
                talk(edge, peer, b"x")
    silent.transport.resumeProducing()
    edge.network.run(1)
    assert (reading.ended, silent.ended) == (False, True)
    assert len(reading.data) > 10 * 19_000


def test_stopping_gives_up_handshakes_in_both_directions(tmp_path: Path) -> None:
    edge, phone = make(tmp_path)
    Server(phone, 5061)
    waiting = connect(phone, port=5061)
    dial(edge).send(OPTIONS)
    edge.network.run(0.2)
    assert edge.value("flows", "tls") == 2
    assert edge.stop()
    assert waiting.ended
