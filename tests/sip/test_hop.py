"""One hop as a value."""

from __future__ import annotations

from farm.sip.hop import FlowName, Hop, short_local


def test_a_hop_is_written_as_transport_address_and_port() -> None:
    assert str(Hop("UDP", "192.0.2.1", 5060)) == "udp:192.0.2.1:5060"
    assert str(Hop("TLS", "2001:db8::1", 5061)) == "tls:[2001:db8::1]:5061"


def test_the_remote_side_is_the_same_whichever_listener_is_used() -> None:
    one = Hop("UDP", "192.0.2.1", 5060, "udp:192.0.2.9:5060")
    other = Hop("UDP", "192.0.2.1", 5060)
    assert one != other
    assert one.remote == other.remote == ("UDP", "192.0.2.1", 5060)


def test_a_flow_is_the_same_by_its_long_name_and_by_the_one_that_a_token_brings_back() -> None:
    connection = Hop("TCP", "198.51.100.9", 20000, "tcp:0.0.0.0:5060#1f3a")
    pinhole = Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060")
    assert connection.short == Hop("TCP", "", 0, "#1f3a")
    assert pinhole.short == Hop("UDP", "198.51.100.9", 20000, "~" + pinhole.short.local[1:])
    assert pinhole.short.local == short_local("udp:192.0.2.1:5060") == short_local(pinhole.short.local) != "~0000"
    assert connection.short.short == connection.short
    for hop in (connection, pinhole):
        flow = FlowName(7, hop)
        assert flow.is_same(FlowName(7, hop.short))
        assert FlowName(7, hop.short).is_same(flow)
        assert not flow.is_same(FlowName(8, hop))
        assert not flow.is_same(None)
    assert not FlowName(7, pinhole).is_same(FlowName(7, pinhole._replace(port=20001)))
    assert not FlowName(7, pinhole).is_same(FlowName(7, pinhole._replace(local="udp:192.0.2.1:5080")))


def test_a_hop_that_leaves_the_listener_open_is_as_short_as_it_gets() -> None:
    hop = Hop("UDP", "198.51.100.9", 5060)
    assert hop.short == hop
    assert short_local("") == ""


def test_listeners_of_neighbouring_ports_have_names_of_their_own() -> None:
    names = {short_local(f"udp:192.0.2.1:{port}") for port in range(5000, 5100)}
    assert len(names) == 100


def test_a_hop_over_tls_may_name_the_domain_that_its_far_end_must_prove() -> None:
    assert Hop("TLS", "192.0.2.1", 5061, "@example.com").domain == "example.com"
    for local in ("", "tls:192.0.2.9:5061", "tls:192.0.2.9:5061#1f"):
        assert Hop("TLS", "192.0.2.1", 5061, local).domain == ""
