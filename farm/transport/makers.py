"""The stream transports by name: which listener each has, and which can be dialled (RFC 3261 §18, RFC 5922, RFC 7118).

A transport is one file, one line here, and one name in the configuration. WebSockets are never dialled, only browsers
open them. TLS is dialled only to whoever has a domain or an address to prove.
"""

from __future__ import annotations

from typing import Any

from farm.security.sip_certificates import SipCertificates
from farm.sip.hop import Hop
from farm.transport.connection import Connection
from farm.transport.local import make_listener_name
from farm.transport.stream import StreamTable, TcpConnector, TcpListener
from farm.transport.tls import TlsConnector, TlsListener, WssListener
from farm.transport.udp import ListenError
from farm.transport.websocket import WebSocketRules, WsListener


class StreamMakers:
    """Makes what a node listens with and dials by. `certificates` may be missing where nothing is TLS."""

    def __init__(self, table: StreamTable, certificates: SipCertificates | None, rules: WebSocketRules) -> None:
        self._table = table
        self._certificates = certificates
        self._rules = rules

    def make_listener(self, transport: str, host: str, port: int) -> TcpListener:
        """A listener, not yet open. Raises ListenError for one that would have no certificate to show."""
        table, certificates = self._table, self._certificates
        if transport == "TCP":
            return TcpListener(host, port, table)
        if transport == "WS":
            return WsListener(host, port, table, self._rules)
        if certificates is None or not certificates.settings.certificates:
            name = make_listener_name(transport, host, port)
            raise ListenError(f"cannot listen on {name}: there is no certificate in [tls]")
        if transport == "WSS":
            return WssListener(host, port, table, certificates, self._rules)
        return TlsListener(host, port, table, certificates)

    def can_dial(self, hop: Hop, listener: object) -> bool:
        """Whether a connection to a hop can be made in the name of that listener."""
        if hop.transport == "TLS":
            return bool(hop.domain) and isinstance(listener, TlsListener) and listener.transport == "TLS"
        return hop.transport == "TCP"

    def dial(self, reactor: Any, hop: Hop, listener: Any, connect_seconds: float) -> Connection:
        """A connection to a hop that can be dialled, being made from the listener's own address."""
        table, domain = self._table, hop.domain
        connection = table.add(hop.transport, hop.host, hop.port, listener.name, accepted=False, domain=domain)
        connector = TcpConnector(connection)
        if hop.transport == "TLS":
            assert self._certificates is not None
            connector = TlsConnector(connection, table.context, self._certificates, domain)
        listen_host = listener.host if (":" in listener.host) == (":" in hop.host) else ""
        connector.start(reactor, listen_host, connect_seconds)
        return connection
