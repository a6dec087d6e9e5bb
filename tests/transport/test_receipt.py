"""What a request shows of its source after receipt, and where its answers go."""

from __future__ import annotations

import pytest

from farm.sip.hop import Hop
from farm.sip.via import parse_via
from farm.transport.receipt import find_noise, may_answer_at, stamp
from tests.support.messages import make_request

SOURCE = Hop("UDP", "192.0.2.101", 40000, "udp:192.0.2.1:5060")


@pytest.mark.parametrize(
    ("via", "stamped", "back"),
    [
        ("192.0.2.101;branch=z9hG4bK1", "192.0.2.101;branch=z9hG4bK1", ("192.0.2.101", 5060)),
        ("192.0.2.101:40000;branch=z9hG4bK1", "192.0.2.101:40000;branch=z9hG4bK1", ("192.0.2.101", 40000)),
        ("a.example;branch=z9hG4bK1", "a.example;branch=z9hG4bK1;received=192.0.2.101", ("192.0.2.101", 5060)),
        (
            "10.1.1.1:5062;rport;branch=z9hG4bK1",
            "10.1.1.1:5062;rport=40000;branch=z9hG4bK1;received=192.0.2.101",
            ("192.0.2.101", 40000),
        ),
        (
            "192.0.2.101;rport=1;received=1.2.3.4;branch=z9hG4bK1",
            "192.0.2.101;rport=40000;branch=z9hG4bK1;received=192.0.2.101",
            ("192.0.2.101", 40000),
        ),
        ("192.0.2.101;received=1.2.3.4;branch=z9hG4bK1", "192.0.2.101;branch=z9hG4bK1", ("192.0.2.101", 5060)),
        (
            "192.0.2.101:5064;maddr=198.51.100.5;branch=z9hG4bK1",
            "192.0.2.101:5064;maddr=198.51.100.5;branch=z9hG4bK1",
            ("198.51.100.5", 5064),
        ),
    ],
)
def test_source_and_way_back(via: str, stamped: str, back: tuple[str, int]) -> None:
    request = make_request("OPTIONS", via=f"SIP/2.0/UDP {via}")
    assert stamp(request, SOURCE) == Hop("UDP", *back, SOURCE.local)
    assert request.find("via") == f"SIP/2.0/UDP {stamped}"
    assert request.source == SOURCE
    again = parse_via(f"SIP/2.0/UDP {stamped}")
    top = request.top_via
    assert top is not None
    assert (top.text, top.params, top.received, top.rport, top.maddr) == (
        again.text,
        again.params,
        again.received,
        again.rport,
        again.maddr,
    )


@pytest.mark.parametrize(("transport", "port"), [("TCP", 5060), ("TLS", 5061)])
def test_the_way_back_of_a_stream_is_the_sent_by_port_or_the_transports_default(transport: str, port: int) -> None:
    source = Hop(transport, "192.0.2.101", 40000, "tcp:192.0.2.1:5060#1")
    for sent_by, expected in (("a.example", port), ("a.example:5099", 5099), ("a.example;maddr=198.51.100.5", port)):
        request = make_request("OPTIONS", via=f"SIP/2.0/{transport} {sent_by};branch=z9hG4bK1")
        assert stamp(request, source) == Hop(transport, "192.0.2.101", expected)


@pytest.mark.parametrize(
    ("maddr", "source", "allowed"),
    [
        ("198.51.100.5", "192.0.2.101", True),
        ("2001:db8::5", "2001:db8::1", True),
        ("2001:db8::5", "192.0.2.101", False),
        ("224.0.1.75", "192.0.2.101", False),
        ("255.255.255.255", "192.0.2.101", False),
        ("127.0.0.1", "192.0.2.101", False),
        ("127.0.0.1", "127.0.0.2", True),
        ("::1", "2001:db8::1", False),
        ("::ffff:127.0.0.1", "2001:db8::1", False),
        ("group.example", "192.0.2.101", False),
    ],
)
def test_maddr_is_obeyed_for_one_machine_that_is_not_ours_alone(maddr: str, source: str, allowed: bool) -> None:
    assert may_answer_at(maddr, source) is allowed


def test_what_is_no_message() -> None:
    stun = b"\x01\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    assert [find_noise(data) for data in (b"", b"\r\n\r\n", b"\0" * 4, stun, stun[:19], b"\r\nA", b"OPTIONS")] == [
        "empty",
        "keepalive",
        "keepalive",
        "stun",
        "",
        "",
        "",
    ]
