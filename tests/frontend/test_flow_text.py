"""A flow in few bytes, and back, whichever node reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.frontend.flow_text import nobody, pack_flow, tag_of, unpack_flow
from farm.sip.hop import FlowName, Hop

NODE = 0x1234_5678_9ABC_DEF0 >> 1
PINHOLE = Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060")
PINHOLE_6 = Hop("UDP", "2001:db8:85a3::8a2e:370:7334", 40000, "udp:[2001:db8::1]:5060")
CONNECTION = Hop("WSS", "198.51.100.9", 20000, "wss:0.0.0.0:443#1f3a9b2c4d5e6f70")


def know(tag: int) -> int | None:
    """The nodes of the farm."""
    return NODE if tag == tag_of(NODE) else None


@pytest.mark.parametrize(("hop", "size"), [(PINHOLE, 13), (PINHOLE_6, 25), (CONNECTION, 13)])
def test_a_flow_comes_back_in_its_short_form_from_the_fewest_bytes(hop: Hop, size: int) -> None:
    packed = pack_flow(FlowName(NODE, hop))
    assert len(packed) == size
    flow, end = unpack_flow(b"before" + packed + b"after", 6, know)
    assert end == 6 + size
    assert flow == FlowName(NODE, hop.short)
    assert flow.is_same(FlowName(NODE, hop))


def test_what_came_back_can_be_sealed_again() -> None:
    for hop in (PINHOLE, PINHOLE_6, CONNECTION):
        assert pack_flow(FlowName(NODE, hop.short)) == pack_flow(FlowName(NODE, hop))


def test_a_way_to_an_address_without_a_listener_stays_without() -> None:
    flow = FlowName(NODE, Hop("TCP", "192.0.2.7", 5060))
    assert unpack_flow(pack_flow(flow), 0, know) == (flow, 13)


@given(
    st.sampled_from(("UDP", "TCP", "TLS", "WS", "WSS")),
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(0, 65535),
    st.one_of(st.just(""), st.integers(0, 2**64 - 1).map(lambda number: f"tls:192.0.2.1:5061#{number:x}")),
    st.integers(0, 2**63 - 1),
)
def test_any_flow_of_any_node_comes_back(transport: str, host: str, port: int, local: str, node: int) -> None:
    flow = FlowName(node, Hop(transport, host, port, local))
    found, end = unpack_flow(pack_flow(flow), 0, lambda tag: node if tag == tag_of(node) else None)
    assert found.is_same(flow)
    assert end == len(pack_flow(flow))


def test_the_flow_of_a_node_that_nobody_knows_any_more_is_nobody_s() -> None:
    other = NODE ^ 1 << 40
    flow, _ = unpack_flow(pack_flow(FlowName(other, PINHOLE)), 0, know)
    assert flow.node == nobody(tag_of(other))
    assert flow.node not in (NODE, other)
    assert tag_of(flow.node) == tag_of(other)
    assert nobody(tag_of(0)) != 0, "a lone node is number 0"


@given(st.binary(max_size=40))
def test_no_bytes_upset_the_reader(data: bytes) -> None:
    try:
        flow, end = unpack_flow(data, 0, know)
    except ValueError:
        return
    assert end <= len(data)
    assert pack_flow(flow)[1:] == data[1:end]


@pytest.mark.parametrize("packed", [b"", b"\x07" + bytes(12), b"\x18" + bytes(24), b"\x08" + bytes(11), bytes(12)])
def test_bytes_that_are_no_flow_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"flow|transport"):
        unpack_flow(packed, 0, know)
