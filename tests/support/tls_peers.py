"""Peers that speak TLS on the in-memory network, by Twisted's own implementation: another than the one under test.

They check nothing unless told to, and show what they are given. What a failed handshake looked like from their side is
in `failure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import ClientFactory, Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from farm.config import TlsSettings
from farm.security.certificate import Key
from farm.security.sip_certificates import SipCertificates
from tests.support.certificates import NOON, make_node_key, write_sip_files
from tests.support.edge import NODE, StreamPeer
from tests.support.network import Host


class TlsPeer(StreamPeer):
    """Somebody with a connection over TLS."""

    failure = ""

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        super().connectionLost(reason)
        self.failure = repr(reason.value)

    @property
    def certificate(self) -> x509.Certificate:
        """What the other side has shown."""
        shown: x509.Certificate = self.transport.getPeerCertificate().to_cryptography()
        return shown


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Creator:
    """Connections of one context."""

    def __init__(self, context: SSL.Context, name: str = "") -> None:
        self._context = context
        self._name = name

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """Called by Twisted."""
        connection = SSL.Connection(self._context, None)
        if self._name:
            connection.set_tlsext_host_name(self._name.encode())
        return connection

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """Called by Twisted."""
        return SSL.Connection(self._context, None)


def make_context(
    certificate: x509.Certificate | None = None,
    key: Key | None = None,
    *,
    version: int = 0,
    asks: bool = False,
    chain: Sequence[x509.Certificate] = (),
) -> SSL.Context:
    """What a peer shows; `version` is the highest it speaks, `asks` has it ask for the other side's certificate."""
    context = SSL.Context(SSL.TLS_METHOD)
    if version:
        context.set_min_proto_version(0)
        context.set_max_proto_version(version)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
    if certificate is not None:
        context.use_certificate(certificate)
        context.use_privatekey(key or make_node_key("sip"))
    if asks:
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


class _Dialer(ClientFactory):
    noisy = False

    def __init__(self) -> None:
        self.peer = TlsPeer()

    def buildProtocol(self, addr: Any) -> TlsPeer:
        return self.peer


def connect_tls(
    host: Host, *, target: str = NODE, port: int = 5061, name: str = "", context: SSL.Context | None = None
) -> TlsPeer:
    """A connection from a host, its handshake done or failed when this answers."""
    dialer = _Dialer()
    factory: Any = TLSMemoryBIOFactory(Creator(context or make_context(), name), True, dialer, clock=host)
    factory.noisy = False
    host.connectTCP(target, port, factory)
    host.network.run(0.3)
    return dialer.peer


class TlsServer(Factory):
    """Accepts connections over TLS and keeps them."""

    noisy = False

    def __init__(self, host: Host, context: SSL.Context, port: int = 5061, interface: str = "") -> None:
        self.peers: list[TlsPeer] = []
        factory: Any = TLSMemoryBIOFactory(Creator(context), False, self, clock=host)
        factory.noisy = False
        self.port = host.listenTCP(port, factory, interface=interface)

    def buildProtocol(self, addr: Any) -> TlsPeer:
        self.peers.append(TlsPeer())
        return self.peers[-1]


def make_certificates(directory: Path, *names: str, **settings: Any) -> SipCertificates:
    """The node's own, from files in a directory, with these settings of `[tls]` besides."""
    section = write_sip_files(directory, *names)
    return SipCertificates(TlsSettings(**{**section, **_as_tuples(section), **settings}), NOON)


def _as_tuples(section: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) for key, value in section.items() if isinstance(value, list)}
