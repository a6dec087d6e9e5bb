"""A node's transport among other nodes: whose a response is, what they took in for us, and what they hear of."""

from __future__ import annotations

from typing import Any

import pytest

from farm.sip.hop import Hop
from tests.support.edge import NODE, PHONE, DatagramPeer, Edge, connect, make_edge
from tests.support.messages import request_bytes, response_bytes
from tests.support.recorders import Record, RecordedFlow

FOREIGN = "SIP/2.0/TCP sip.elsewhere.net;branch=z9hG4bKours"
ANOTHERS = f"SIP/2.0/UDP {NODE};branch=z9hG4bKanothers"
STRANGE = "SIP/2.0/TCP sip.elsewhere.net;branch=z9hG4bKstrange"


class OtherNodes:
    """Takes responses whose branch says so."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, Hop]] = []
        self.ended: list[Hop] = []

    def take_response(self, data: bytes, source: Hop, now: float) -> bool:
        if b"z9hG4bKanothers" not in data.partition(b"\r\n\r\n")[0]:
            return False
        self.taken.append((data, source))
        return True

    def knows_branch(self, branch: str) -> bool:
        return branch == "z9hG4bKours"

    def receive_connection_end(self, hop: Hop, now: float) -> None:
        self.ended.append(hop)


def make_node(**options: Any) -> tuple[Edge, OtherNodes, Any]:
    _, edge, phone = make_edge(**options)
    others = edge.layer.others = OtherNodes()
    return edge, others, phone


def test_a_response_for_another_node_is_not_read_here() -> None:
    edge, others, phone = make_node()
    data = response_bytes(180, via=ANOTHERS)
    DatagramPeer(phone).send(data)
    peer = connect(phone)
    peer.transport.write(data)
    edge.network.run(0.1)
    assert [(got, source[:2]) for got, source in others.taken] == [(data, ("UDP", PHONE)), (data, ("TCP", PHONE))]
    assert (edge.receiver.responses, edge.rejections.reasons) == ([], [])
    assert edge.value("sip_responses", "INVITE", "1xx", "in") == 0


def test_who_sends_too_much_sends_nothing_to_other_nodes_either() -> None:
    class Closed:
        def admit(self, host: str, now: float) -> bool:
            return False

    edge, others, phone = make_node(gate=Closed())
    DatagramPeer(phone).send(response_bytes(180, via=ANOTHERS))
    assert others.taken == []
    assert edge.rejections.reasons == ["request-rate"]


@pytest.mark.parametrize("method", ["SUBSCRIBE", "INVITE"])
def test_no_request_is_taken_for_a_response(method: str) -> None:
    edge, others, phone = make_node()
    DatagramPeer(phone).send(request_bytes(method))
    assert [request.method for request in edge.requests] == [method]
    assert others.taken == []


def test_a_response_to_a_request_that_left_under_another_node_s_name_is_ours_by_its_branch() -> None:
    edge, _, phone = make_node()
    peer = DatagramPeer(phone)
    peer.send(response_bytes(200, via=FOREIGN))
    assert len(edge.receiver.responses) == 1
    peer.send(response_bytes(200, via=STRANGE))
    assert len(edge.receiver.responses) == 1
    assert edge.rejections.reasons == ["response-not-ours"]


def test_without_other_nodes_it_is_not() -> None:
    _, edge, phone = make_edge()
    DatagramPeer(phone).send(response_bytes(200, via=FOREIGN))
    assert edge.rejections.reasons == ["response-not-ours"]


# What they took in


SOURCE = Hop("TCP", "203.0.113.7", 40000, "tcp:192.0.2.2:5060#7")


def make_way() -> RecordedFlow:
    return RecordedFlow(Record(), "the other node", SOURCE)


def test_a_response_that_another_node_took_in_goes_up_with_its_source() -> None:
    edge, _, _ = make_node()
    way = make_way()
    edge.layer.receive_relayed(response_bytes(200, via=FOREIGN), SOURCE, way, 1.0)
    response, flow = edge.receiver.responses[0]
    assert (response.status, response.source, flow) == (200, SOURCE, way)
    assert edge.value("sip_responses", "INVITE", "2xx", "in") == 1


def test_a_request_that_another_node_took_in_goes_up_as_it_was_stamped_there() -> None:
    edge, _, _ = make_node()
    way = make_way()
    via = f"SIP/2.0/UDP 10.0.0.7;rport=1024;branch=z9hG4bK1;received={PHONE}"
    source = Hop("UDP", PHONE, 1024, "udp:192.0.2.2:5060")
    edge.layer.receive_relayed(request_bytes("INVITE", via=via), source, way, 1.0)
    request, flow = edge.receiver.requests[0]
    assert (request.source, flow, request.all("via")) == (source, way, [via])
    assert edge.value("sip_requests", "INVITE", "in") == 0, "counted where it came in"


def test_what_another_node_took_in_and_nobody_can_read_is_counted() -> None:
    edge, _, _ = make_node()
    edge.layer.receive_relayed(b"SIP/2.0 200 OK\r\nVia: nonsense\r\n\r\n", SOURCE, make_way(), 1.0)
    assert len(edge.rejections.reasons) == 1
    assert edge.receiver.responses == []


def test_a_fault_of_ours_stays_with_the_message() -> None:
    edge, _, _ = make_node()
    edge.receiver.fault = RuntimeError("broken")
    edge.layer.receive_relayed(request_bytes("OPTIONS"), SOURCE, make_way(), 1.0)
    assert edge.value("unexpected_errors", "transport") == 1


# What they hear of, and what they ask for


def test_other_nodes_hear_of_the_end_of_a_connection() -> None:
    edge, others, phone = make_node()
    peer = connect(phone)
    peer.transport.write(request_bytes("OPTIONS"))
    edge.network.run(1)
    hop = edge.flow.hop
    peer.transport.loseConnection()
    edge.network.run(1)
    assert others.ended == [hop]


@pytest.mark.parametrize(
    ("listen", "transport", "name"),
    [
        (["udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"], "TCP", "tcp:192.0.2.1:5060"),
        (["udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"], "UDP", "udp:192.0.2.1:5060"),
        (["udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"], "WSS", "udp:192.0.2.1:5060"),
        ([], "UDP", ""),
    ],
)
def test_a_request_over_another_node_s_flow_bears_the_name_of_a_listener_of_ours(
    listen: list[str], transport: str, name: str
) -> None:
    edge, _, _ = make_node(listen=listen)
    assert edge.layer.find_listener(transport) == name
