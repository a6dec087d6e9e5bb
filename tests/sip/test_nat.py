"""Who can be reached where they say, and who only through the flow that their request came by."""

from __future__ import annotations

import pytest

from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.nat import find_flow
from tests.support.messages import make_request


def request_from(source: Hop, *vias: str) -> Request:
    request = make_request(via=[f"SIP/2.0/{source.transport or 'UDP'} {via};branch=z9hG4bK1" for via in vias])
    request.source = source
    return request


def find(contact: str, via: str, host: str, port: int = 5060, transport: str = "UDP") -> tuple[str, int, str] | None:
    flow = find_flow(request_from(Hop(transport, host, port, "here"), via), contact)
    assert flow is None or (flow.transport, flow.local) == (transport, "here")
    return None if flow is None else (flow.host, flow.port, flow.transport)


@pytest.mark.parametrize(
    ("contact", "via", "host", "port"),
    [
        ("9.9.9.9", "9.9.9.9", "9.9.9.9", 5060),
        ("9.9.9.9", "9.9.9.9:5070", "9.9.9.9", 5070),
        ("9.9.9.8", "9.9.9.9", "9.9.9.9", 5060),  # another address of its own, as good as any
        ("phone.example.com", "9.9.9.9", "9.9.9.9", 5060),
        ("", "9.9.9.9", "9.9.9.9", 5060),  # a Contact that is no SIP URI
        ("10.0.0.7", "10.0.0.7", "10.0.0.7", 5060),  # we are in the private network too
        ("127.0.0.2", "127.0.0.1", "127.0.0.1", 5060),  # one machine
        ("2606:4700::1", "[2606:4700::1]", "2606:4700::1", 5060),
        ("2606:4700::1", "[2606:4700:0:0::1]", "2606:4700::1", 5060),  # one address in two spellings
        ("[2606:4700::1]", "[2606:4700::1]", "2606:4700::1", 5060),
        ("fd00:0::7", "[fd00::7]", "fd00::7", 5060),
        ("999.1.1.1", "9.9.9.9", "9.9.9.9", 5060),  # no address at all: its name server may know
    ],
)
def test_a_phone_that_is_where_it_says_is_taken_at_its_word(contact: str, via: str, host: str, port: int) -> None:
    assert find(contact, via, host, port) is None


@pytest.mark.parametrize(
    ("contact", "via", "host", "port"),
    [
        ("10.0.0.7", "10.0.0.7", "9.9.9.9", 20000),
        ("9.9.9.9", "10.0.0.7", "9.9.9.9", 5060),  # its router rewrote the Contact alone
        ("10.0.0.7", "9.9.9.9", "9.9.9.9", 5060),  # or the Via alone
        ("172.16.0.1", "9.9.9.9", "9.9.9.9", 5060),
        ("192.168.1.7", "10.0.0.7", "10.0.0.7", 5060),
        ("100.64.3.7", "9.9.9.9", "9.9.9.9", 5060),  # a carrier's NAT (RFC 6598)
        ("169.254.1.7", "9.9.9.9", "9.9.9.9", 5060),
        ("127.0.0.1", "9.9.9.9", "9.9.9.9", 5060),
        ("0.0.0.0", "9.9.9.9", "9.9.9.9", 5060),
        ("::", "[2606:4700::1]", "2606:4700::1", 5060),
        ("fe80::7", "[2606:4700::1]", "2606:4700::1", 5060),
        ("9.9.9.9", "9.9.9.9", "9.9.9.9", 20000),  # another port than it thinks
        ("9.9.9.9", "9.9.9.9:5070", "9.9.9.9", 5060),
        ("9.9.9.9", "phone.local", "9.9.9.9", 5060),
        ("2606:4700::1", "[2606:4700::2]", "2606:4700::1", 5060),
    ],
)
def test_a_phone_behind_a_nat_is_reached_through_its_pinhole(contact: str, via: str, host: str, port: int) -> None:
    assert find(contact, via, host, port) == (host, port, "UDP")


@pytest.mark.parametrize("transport", ["TCP", "TLS", "WS", "WSS"])
def test_a_phone_on_a_connection_is_reached_over_it_whatever_it_says(transport: str) -> None:
    assert find("9.9.9.9", "9.9.9.9", "9.9.9.9", 5060, transport) == ("9.9.9.9", 5060, transport)
    assert find("", "abc.invalid", "9.9.9.9", 40000, transport) == ("9.9.9.9", 40000, transport)


def test_a_request_of_nobody_has_no_flow() -> None:
    request = make_request()
    assert find_flow(request, "10.0.0.7") is None, "its source was never noted"
    request.source = Hop("TCP", "9.9.9.9", 40000)
    request.top_via = None
    assert find_flow(request, "10.0.0.7") is None


def test_a_contact_with_ob_means_the_flow_even_where_no_nat_is_seen() -> None:
    """RFC 5626 §4.3; the registrar does the same for a contact with a reg-id (§6)."""
    source = Hop("UDP", "9.9.9.9", 5060, "here")
    request = request_from(source, "9.9.9.9")
    assert find_flow(request, "9.9.9.9") is None
    assert find_flow(request, "9.9.9.9", outbound=True) == source
