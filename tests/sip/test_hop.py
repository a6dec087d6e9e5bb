"""One hop as a value."""

from __future__ import annotations

from farm.sip.hop import Hop


def test_a_hop_is_written_as_transport_address_and_port() -> None:
    assert str(Hop("UDP", "192.0.2.1", 5060)) == "udp:192.0.2.1:5060"
    assert str(Hop("TLS", "2001:db8::1", 5061)) == "tls:[2001:db8::1]:5061"


def test_the_remote_side_is_the_same_whichever_listener_is_used() -> None:
    one = Hop("UDP", "192.0.2.1", 5060, "udp:192.0.2.9:5060")
    other = Hop("UDP", "192.0.2.1", 5060)
    assert one != other
    assert one.remote == other.remote == ("UDP", "192.0.2.1", 5060)
