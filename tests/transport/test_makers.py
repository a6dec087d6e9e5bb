"""The stream transports by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.config import TlsSettings
from farm.security.sip_certificates import SipCertificates
from farm.sip.hop import Hop
from farm.transport.makers import StreamMakers
from farm.transport.tls import TlsListener, WssListener
from farm.transport.udp import ListenError
from farm.transport.websocket import WebSocketRules, WsListener
from tests.support.certificates import NOON
from tests.support.edge import NODE, PHONE, Edge, make_edge
from tests.support.tls_peers import make_certificates

RULES = WebSocketRules(frozenset(), 0.0, lambda: 65_536)


def makers_of(edge: Edge, certificates: SipCertificates | None) -> StreamMakers:
    return StreamMakers(edge.layer._streams, certificates, RULES)


def test_each_transport_has_its_listener(tmp_path: Path) -> None:
    _, edge, _ = make_edge()
    makers = makers_of(edge, make_certificates(tmp_path))
    made = {name: makers.make_listener(name, NODE, 5071) for name in ("TCP", "TLS", "WS", "WSS")}
    assert [listener.name for listener in made.values()] == [f"{n.lower()}:{NODE}:5071" for n in made]
    assert isinstance(made["TLS"], TlsListener)
    assert isinstance(made["WS"], WsListener)
    assert isinstance(made["WSS"], WssListener)
    assert made["WSS"].make_session() is not None
    assert made["TLS"].make_session() is None


@pytest.mark.parametrize("transport", ["TLS", "WSS"])
def test_a_listener_that_would_have_nothing_to_show_is_refused(transport: str) -> None:
    _, edge, _ = make_edge()
    for certificates in (None, SipCertificates(TlsSettings(), NOON)):
        with pytest.raises(ListenError, match=r"cannot listen on .*: there is no certificate in \[tls\]"):
            makers_of(edge, certificates).make_listener(transport, NODE, 5071)


def test_tcp_is_dialled_as_it_is_tls_for_a_domain_and_web_sockets_never(tmp_path: Path) -> None:
    _, edge, _ = make_edge()
    makers = makers_of(edge, make_certificates(tmp_path))
    tcp, tls, wss = (makers.make_listener(name, NODE, 5071) for name in ("TCP", "TLS", "WSS"))
    assert makers.can_dial(Hop("TCP", PHONE, 5060), tcp)
    assert makers.can_dial(Hop("TLS", PHONE, 5061, "@example.com"), tls)
    assert not makers.can_dial(Hop("TLS", PHONE, 5061), tls)
    assert not makers.can_dial(Hop("TLS", PHONE, 5061, "@example.com"), tcp)
    assert not makers.can_dial(Hop("TLS", PHONE, 5061, "@example.com"), wss)
    assert not makers.can_dial(Hop("WSS", PHONE, 443, "@example.com"), wss)
    assert not makers.can_dial(Hop("WS", PHONE, 80), tcp)
