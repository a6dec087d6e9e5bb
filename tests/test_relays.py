"""What nodes say to each other of flows and transactions: over which flow it leaves, who is told when one is gone."""

from __future__ import annotations

from typing import Any, cast

import pytest

from farm.frontend.flow_text import tag_of
from farm.member import stamp_node_of
from farm.metrics import Metrics
from farm.overlay.wire import ALIVE, DEAD, EDGE, JOINING, LEFT, STORES, SUSPECT, Contact, Relay
from farm.proxy.stateless import Whose
from farm.relays import (
    FAILED,
    MOST_GONE,
    MOST_RINGING,
    MOST_SENDERS,
    REQUEST,
    RESPONSE,
    SEND,
    BackFlow,
    RelayFlow,
    Relays,
    read_hop,
    write_hop,
)
from farm.sip.hop import FlowName, Hop
from farm.sip.message import Request, Response, make_response
from farm.transaction.key import server_key
from farm.transport.flows import DeadFlow
from tests.support.messages import make_request
from tests.support.recorders import Record, RecordedFlow

OWN_ID, OTHER_ID, THIRD_ID = (bytes((number,)) * 32 for number in (1, 2, 3))
OWN, OTHER, THIRD = (stamp_node_of(node) for node in (OWN_ID, OTHER_ID, THIRD_ID))
PHONE = Hop("TCP", "203.0.113.7", 40000, "tcp:192.0.2.2:5060#7")
SHORT = Hop("TCP", "", 0, "#7")  # as a token brings it back
NAT = Hop("UDP", "198.51.100.9", 1024, "udp:192.0.2.2:5060")
SOURCE = Hop("UDP", "192.0.2.201", 5060, "udp:192.0.2.1:5060")
BYE = b"BYE sip:bob@203.0.113.7 SIP/2.0\r\n\r\n"


class Farm:
    """A `Relays` between recorders: the members, the overlay's relays, transport and transactions, all in one."""

    def __init__(self) -> None:
        self.record = Record()
        self.contacts = {
            node: Contact(node, "10.0.0.2", 7400, state=ALIVE, roles=STORES | EDGE, version=2)
            for node in (OTHER_ID, THIRD_ID)
        }
        self.linked = {OTHER_ID, THIRD_ID}
        self.takes = True  # what is relayed
        self.relayed: list[tuple[bytes, Relay]] = []
        self.flows: dict[Hop, RecordedFlow | DeadFlow] = {}
        self.received: list[tuple[bytes, Hop, Any]] = []
        self.failed: list[RelayFlow] = []
        self.died: list[RelayFlow] = []  # for good
        self.waiting: list[Any] = []
        self.user: object = None
        self.metrics = Metrics()
        self.relays = Relays(
            OWN, cast("Any", self), cast("Any", self), cast("Any", self), self.metrics, lambda: 7.0, b"secret"
        )
        self.relays.owner_of = self.owner_of

    # tokens: a branch says its owner's tag

    @staticmethod
    def owner_of(branch: str) -> int | None:
        name, _, tag = branch.partition(".")
        return int(tag) if name == "z9hG4bKfarm" else None

    # member.Member and overlay.relaying.Relaying

    @property
    def relaying(self) -> Farm:
        return self

    @property
    def own(self) -> bytes:
        return OWN_ID

    def others(self) -> list[Contact]:
        return list(self.contacts.values())

    def find_by_stamp(self, stamp_node: int) -> Contact | None:
        return next((contact for contact in self.others() if stamp_node_of(contact.node) == stamp_node), None)

    def has_link(self, node: bytes) -> bool:
        return node in self.linked

    def send(self, node: bytes, relay: Relay, now: float) -> bool:
        if self.takes:
            self.relayed.append((node, relay))
        return self.takes

    # transport.TransportLayer

    def flow_to(self, hop: Hop) -> RecordedFlow | DeadFlow:
        return self.flows.get(hop) or self.flows.setdefault(hop, RecordedFlow(self.record, str(hop), hop))

    def find_listener(self, transport: str) -> str:
        return f"{transport.lower()}:192.0.2.1:5060"

    def receive_relayed(self, data: bytes, source: Hop, flow: Any, now: float) -> None:
        self.received.append((data, source, flow))

    # transaction.TransactionLayer

    def waited_on(self) -> list[Any]:
        return self.waiting

    def receive_flow_failure(self, flow: RelayFlow, now: float, *, for_good: bool = False) -> None:
        (self.died if for_good else self.failed).append(flow)

    # The test's side

    def change(self, state: int = ALIVE, version: int = 2, roles: int = STORES | EDGE, *, incarnation: int = 0) -> None:
        contact = Contact(OTHER_ID, "10.0.0.2", 7400, incarnation, state, roles=roles, version=version)
        self.contacts[OTHER_ID] = contact
        self.relays.member_changed(contact, 7.0)

    def find(self, hop: Hop = PHONE, node: int = OTHER) -> RelayFlow:
        flow = self.relays.find_flow(FlowName(node, hop))
        assert isinstance(flow, RelayFlow)
        return flow

    def hear(self, purpose: int, head: bytes, data: bytes = b"") -> None:
        self.relays.receive_relay(OTHER_ID, Relay(purpose, head, data), 7.0)

    def count(self, result: str) -> float:
        return float(self.metrics.relayed_messages.child(result)._value.get())


@pytest.fixture
def farm() -> Farm:
    return Farm()


def make_answer(tag: int, status: int = 200) -> Response:
    return make_response(make_request(via=f"SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKfarm.{tag}"), status, to_tag="there")


# Ways


def test_a_flow_of_our_own_is_the_transport_s(farm: Farm) -> None:
    assert farm.relays.find_flow(FlowName(OWN, PHONE)) is farm.flow_to(PHONE)
    assert farm.relays.flow_to(NAT) is farm.flow_to(NAT)


def test_a_connection_of_our_own_that_is_gone_is_none(farm: Farm) -> None:
    farm.flows[PHONE] = DeadFlow(PHONE, "tcp:192.0.2.1:5060")
    assert farm.relays.find_flow(FlowName(OWN, PHONE)) is None


def test_a_connection_that_another_node_said_has_ended_is_none_and_others_are_not(farm: Farm) -> None:
    """An ACK is waited on by nobody: it must not go where the request before it found nobody."""
    farm.hear(FAILED, write_hop(SHORT))
    assert farm.relays.find_flow(FlowName(OTHER, PHONE)) is None
    assert farm.relays.find_flow(FlowName(OTHER, SHORT)) is None
    assert farm.find(node=THIRD).hop == PHONE
    assert farm.find(PHONE._replace(local="tcp:192.0.2.2:5060#8"))


def test_a_pinhole_that_failed_once_is_tried_again(farm: Farm) -> None:
    farm.hear(FAILED, write_hop(NAT.short))
    assert farm.find(NAT).hop == NAT


def test_of_the_connections_that_have_ended_the_latest_are_remembered(farm: Farm) -> None:
    for number in range(MOST_GONE + 1):
        farm.hear(FAILED, write_hop(SHORT._replace(local=f"#{number:x}")))
    assert farm.find(SHORT._replace(local="#0"))
    assert farm.relays.find_flow(FlowName(OTHER, SHORT._replace(local="#1"))) is None


@pytest.mark.parametrize("hop", [PHONE, NAT])
def test_what_is_sent_over_another_node_s_flow_goes_to_that_node(farm: Farm, hop: Hop) -> None:
    flow = farm.find(hop)
    assert flow.send(BYE)
    assert farm.relayed == [(OTHER_ID, Relay(SEND, write_hop(hop.short), BYE))]
    assert (flow.transport, flow.reliable, flow.breaks) == (hop.transport, hop.transport == "TCP", True)
    assert flow.local_name == f"{hop.transport.lower()}:192.0.2.1:5060"
    assert farm.count("sent") == 1


def test_a_flow_is_the_same_under_its_long_and_its_short_name(farm: Farm) -> None:
    long, short = farm.find(PHONE), farm.find(SHORT)
    assert long == short
    assert len({long, short}) == 1
    assert long != farm.find(PHONE, THIRD)
    assert long != farm.find(NAT)


@pytest.mark.parametrize(
    ("state", "linked", "there", "doubted"),
    [
        (JOINING, True, True, False),
        (ALIVE, True, True, False),
        (ALIVE, False, True, True),
        (SUSPECT, True, True, True),
        (LEFT, True, True, True),
        (LEFT, False, False, True),
        (DEAD, True, False, True),
    ],
)
def test_a_node_s_flows_are_there_as_long_as_it_is(
    farm: Farm, state: int, linked: bool, there: bool, doubted: bool
) -> None:
    farm.linked = {OTHER_ID} if linked else set()
    farm.change(state)
    assert (farm.relays.find_flow(FlowName(OTHER, PHONE)) is not None) is there
    assert farm.relays.doubts(OTHER) is doubted


def test_a_node_of_before_relays_has_no_flows_for_us(farm: Farm) -> None:
    farm.change(version=1)
    assert farm.relays.find_flow(FlowName(OTHER, PHONE)) is None


def test_the_flows_of_a_node_that_nobody_knows_are_gone(farm: Farm) -> None:
    stranger = stamp_node_of(b"\xff" * 32)
    assert farm.relays.find_flow(FlowName(stranger, PHONE)) is None
    assert farm.relays.doubts(stranger)
    assert not farm.relays.doubts(OWN)


def test_a_node_is_found_by_its_tag(farm: Farm) -> None:
    assert [farm.relays.find_node(tag_of(node)) for node in (OWN, OTHER, THIRD)] == [OWN, OTHER, THIRD]
    assert farm.relays.find_node(0) is None
    del farm.contacts[OTHER_ID]
    farm.relays.member_changed(farm.contacts[THIRD_ID], 8.0)
    assert farm.relays.find_node(tag_of(OTHER)) is None


def test_of_two_nodes_with_one_tag_the_one_that_is_there_is_meant(farm: Farm) -> None:
    twin = Contact(OTHER_ID[:4] + bytes(28), "10.0.0.9", 7400, state=DEAD, roles=STORES | EDGE, version=2)
    farm.contacts[twin.node] = twin
    assert tag_of(stamp_node_of(twin.node)) == tag_of(OTHER)
    assert farm.relays.find_node(tag_of(OTHER)) == OTHER


def test_a_lone_node_has_its_own_flows_alone(farm: Farm) -> None:
    relays = Relays(OWN, cast("Any", farm), cast("Any", farm), None, farm.metrics, lambda: 7.0)
    assert relays.find_flow(FlowName(OWN, PHONE)) is farm.flow_to(PHONE)
    assert relays.find_flow(FlowName(OTHER, PHONE)) is None
    assert relays.find_node(tag_of(OTHER)) is None
    assert relays.doubts(OTHER)
    assert relays.take_stray(make_answer(tag_of(OTHER)), "z9hG4bKother", farm.find()) is Whose.OURS


# Sending for another


@pytest.mark.parametrize("hop", [PHONE, SHORT, NAT])
def test_what_another_node_sends_leaves_over_our_flow(farm: Farm, hop: Hop) -> None:
    farm.hear(SEND, write_hop(hop), make_request().write())
    flow = farm.flows[hop]
    assert isinstance(flow, RecordedFlow)
    assert len(flow.sent) == 1
    assert farm.relayed == []
    assert farm.count("delivered") == 1


@pytest.mark.parametrize(
    "hop", [PHONE, Hop("TCP", "192.0.2.66", 5060), Hop("TLS", "192.0.2.66", 5061, "tls:[::]:5061")]
)
def test_a_connection_that_is_gone_is_said_so_and_none_is_made(farm: Farm, hop: Hop) -> None:
    farm.flows[PHONE] = DeadFlow(PHONE, "tcp:192.0.2.2:5060")
    farm.hear(SEND, write_hop(hop), BYE)
    assert farm.relayed == [(OTHER_ID, Relay(FAILED, write_hop(hop), b""))]
    assert hop == PHONE or hop not in farm.flows
    assert (farm.count("no-flow"), farm.count("sent")) == (1, 0)


def test_when_a_connection_ends_those_hear_of_it_who_sent_over_it(farm: Farm) -> None:
    message = make_request().write()
    farm.hear(SEND, write_hop(SHORT), message)
    farm.hear(SEND, write_hop(PHONE), message)
    farm.relays.receive_relay(THIRD_ID, Relay(SEND, write_hop(SHORT), message), 7.0)
    farm.relays.receive_connection_end(PHONE._replace(local="tcp:192.0.2.2:5060#8"), 8.0)
    assert farm.relayed == []
    farm.relays.receive_connection_end(PHONE, 8.0)
    failed = Relay(FAILED, write_hop(SHORT), b"")
    assert farm.relayed == [(OTHER_ID, failed), (THIRD_ID, failed)]
    farm.relays.receive_connection_end(PHONE, 9.0)
    assert len(farm.relayed) == 2


def ring(farm: Farm, branch: str = "z9hG4bKring", hop: Hop = PHONE, method: str = "INVITE") -> None:
    """Another node has something sent to a phone of ours."""
    via = f"SIP/2.0/TCP sip.example.com;branch={branch}"
    farm.hear(SEND, write_hop(hop), make_request(method, via=via).write())


def respond(farm: Farm, status: int, branch: str = "z9hG4bKring") -> None:
    """The phone answers."""
    data = f"SIP/2.0 {status} So\r\nVia: SIP/2.0/TCP sip.example.com;branch={branch}\r\n\r\n".encode()
    farm.relays.take_response(data, PHONE, 8.0)


def test_a_phone_that_rings_for_another_node_is_waited_for_until_it_answers(farm: Farm) -> None:
    assert farm.relays.busy_connections() == set()
    ring(farm)
    ring(farm, "z9hG4bKsecond")
    assert farm.relays.busy_connections() == {PHONE.local}
    respond(farm, 180)
    respond(farm, 486)
    respond(farm, 200, "z9hG4bKnobodys")
    assert farm.relays.busy_connections() == {PHONE.local}
    respond(farm, 200, "z9hG4bKsecond")
    assert farm.relays.busy_connections() == set()
    ring(farm)
    farm.relays.receive_connection_end(PHONE, 9.0)
    assert farm.relays.busy_connections() == set()


def test_nobody_is_waited_for_in_vain(farm: Farm) -> None:
    """Not for what rings no phone, nor over a NAT's pinhole, which nobody closes, nor for a node that has died."""
    ring(farm, method="BYE")
    ring(farm, hop=NAT)
    assert farm.relays.busy_connections() == set()
    ring(farm)
    farm.change(DEAD)
    assert farm.relays.busy_connections() == set()


def test_so_many_calls_of_one_connection_are_waited_for(farm: Farm) -> None:
    for number in range(MOST_RINGING + 1):
        ring(farm, f"z9hG4bK{number}")
    assert len(farm.relays._ringing[PHONE.local]) == MOST_RINGING


def test_so_many_nodes_are_remembered_of_one_connection_the_latest(farm: Farm) -> None:
    message = make_request().write()
    for number in range(MOST_SENDERS + 1):
        farm.relays.receive_relay(bytes((number,)) * 32, Relay(SEND, write_hop(PHONE), message), 7.0)
    farm.relays.receive_connection_end(PHONE, 8.0)
    assert [node[0] for node, _ in farm.relayed] == list(range(1, MOST_SENDERS + 1))


def test_of_a_nat_s_pinhole_nothing_is_remembered(farm: Farm) -> None:
    farm.hear(SEND, write_hop(NAT), make_request().write())
    assert farm.relays._senders == {}


# Failures


def test_who_waits_on_a_flow_that_failed_hears_so(farm: Farm) -> None:
    phone = farm.find(PHONE)
    farm.hear(FAILED, write_hop(SHORT))
    assert farm.failed == [phone]


def test_when_a_node_dies_all_who_wait_on_its_flows_hear_so(farm: Farm) -> None:
    phone, nat, third = farm.find(PHONE), farm.find(NAT), farm.find(PHONE, THIRD)
    farm.waiting = [phone, farm.flow_to(PHONE), third, nat]
    farm.change(SUSPECT)
    assert farm.died == []
    farm.change(DEAD)
    assert farm.died == [phone, nat]
    assert farm.failed == []


def test_a_node_that_was_started_again_in_time_has_lost_its_connections(farm: Farm) -> None:
    """A NAT lets it through as before. Who refutes that it is dead has been there all the time."""
    phone, nat, third = farm.find(PHONE), farm.find(NAT), farm.find(PHONE, THIRD)
    farm.waiting = [phone, nat, third, farm.flow_to(PHONE)]
    farm.change(incarnation=1_800_000_000_000)
    farm.change(SUSPECT, incarnation=1_800_000_000_000)
    farm.change(incarnation=1_800_000_000_001)
    assert farm.died == []
    farm.change(JOINING, incarnation=1_800_000_004_000)
    assert farm.died == [phone]
    farm.change(incarnation=1_800_000_004_000)
    assert (farm.died, farm.failed) == ([phone], [])


def test_a_node_that_left_takes_its_flows_with_it_when_its_link_closes(farm: Farm) -> None:
    """Until then it drains: those who ring at its phones go on."""
    farm.waiting = [farm.find()]
    farm.change(LEFT)
    assert farm.died == []
    farm.linked.remove(OTHER_ID)
    farm.relays.receive_link_end(OTHER_ID, 8.0)
    assert farm.died == farm.waiting


def test_a_link_that_breaks_is_no_death_but_what_was_on_its_way_to_a_stream_is_lost(farm: Farm) -> None:
    """Over UDP it is sent again."""
    phone, nat, third = farm.find(PHONE), farm.find(NAT), farm.find(PHONE, THIRD)
    farm.waiting = [phone, nat, third, farm.flow_to(PHONE)]
    farm.linked.remove(OTHER_ID)
    farm.relays.receive_link_end(OTHER_ID, 8.0)
    assert (farm.failed, farm.died) == ([phone], [])
    assert farm.relays.doubts(OTHER)


def test_what_cannot_be_relayed_is_refused_at_once(farm: Farm) -> None:
    flow = farm.find()
    farm.takes = False
    assert not flow.send(BYE)
    assert (farm.count("sent"), farm.count("no-link")) == (0, 1)


def test_a_message_for_a_flow_that_did_not_leave_fails_its_flow(farm: Farm) -> None:
    farm.relays.receive_relay_failure(OTHER_ID, Relay(SEND, write_hop(SHORT), BYE), 8.0)
    assert farm.failed == [farm.find()]
    assert farm.count("no-link") == 1


def test_a_response_that_did_not_leave_goes_on_from_here(farm: Farm) -> None:
    farm.relays.receive_relay_failure(OTHER_ID, Relay(RESPONSE, write_hop(SOURCE), b"data"), 8.0)
    assert farm.received == [(b"data", SOURCE, farm.find(SOURCE))]
    answer = make_answer(tag_of(OTHER))
    assert farm.relays.take_stray(answer, f"z9hG4bKfarm.{tag_of(OTHER)}", farm.received[0][2]) is Whose.NOBODYS
    assert farm.relayed == []


# Responses


@pytest.mark.parametrize(
    "via",
    [
        "Via: SIP/2.0/TCP sip.example.com;branch={branch}",
        "v:SIP/2.0/TCP [2001:db8::1]:5060 ;received=192.0.2.1;branch={branch} ;rport",
        "VIA : SIP/2.0/UDP a;branch={branch}, SIP/2.0/UDP b;branch=z9hG4bKtheirs",
        "Server: x;branch=1\r\nVia: SIP/2.0/UDP a;branch={branch}\r\nVia: SIP/2.0/UDP b;branch=z9hG4bKtheirs",
    ],
)
def test_a_response_for_another_node_goes_there_unread(farm: Farm, via: str) -> None:
    data = f"SIP/2.0 200 OK\r\n{via.format(branch=f'z9hG4bKfarm.{tag_of(OTHER)}')}\r\nwhatever".encode()
    assert farm.relays.take_response(data, SOURCE, 7.0)
    assert farm.relayed == [(OTHER_ID, Relay(RESPONSE, write_hop(SOURCE), data))]


@pytest.mark.parametrize(
    "text",
    [
        f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKfarm.{tag_of(OWN)}\r\n",
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKfarm.77\r\n",
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKtheirs\r\n",
        f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a; branch = z9hG4bKfarm.{tag_of(OTHER)}\r\n",
        f"SIP/2.0 200 OK\r\nVideo: v;branch=z9hG4bKtheirs\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKfarm.{tag_of(OTHER)}\r\n",
        f"SIP/2.0 200 OK\r\nLong: {'x' * 2048}\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKfarm.{tag_of(OTHER)}\r\n",
        f"SUBSCRIBE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nVia: SIP/2.0/UDP b;branch=z9hG4bKfarm.{tag_of(OTHER)}\r\n",
        "SIP/2.0 200 OK\r\n\r\n",
        "SIP/2.0",
    ],
)
def test_what_is_ours_or_nobody_s_or_written_in_another_way_is_read_here(farm: Farm, text: str) -> None:
    assert not farm.relays.take_response(text.encode(), SOURCE, 7.0)
    assert farm.relayed == []


def test_a_dead_node_s_response_is_read_here(farm: Farm) -> None:
    farm.change(DEAD)
    assert not farm.relays.take_response(make_answer(tag_of(OTHER)).write(), SOURCE, 7.0)
    answer = make_answer(tag_of(OTHER))
    assert farm.relays.take_stray(answer, f"z9hG4bKfarm.{tag_of(OTHER)}", farm.flow_to(SOURCE)) is Whose.NOBODYS


def test_a_response_to_what_this_node_sent_before_it_was_started_again_is_nobody_s(farm: Farm) -> None:
    branch = f"z9hG4bKfarm.{tag_of(OWN)}"
    answer = make_answer(tag_of(OWN))
    assert farm.relays.take_stray(answer, branch, farm.flow_to(SOURCE)) is Whose.OURS
    farm.relays.is_of_this_boot = lambda asked: asked != branch
    assert farm.relays.take_stray(answer, branch, farm.find()) is Whose.NOBODYS


def test_a_response_that_only_the_parser_could_read_still_goes_to_its_node(farm: Farm) -> None:
    answer = make_answer(tag_of(OTHER))
    answer.source = SOURCE
    assert farm.relays.take_stray(answer, f"z9hG4bKfarm.{tag_of(OTHER)}", farm.flow_to(SOURCE)) is Whose.ANOTHERS
    assert farm.relayed == [(OTHER_ID, Relay(RESPONSE, write_hop(SOURCE), answer.write()))]
    assert farm.relays.take_stray(answer, "z9hG4bKtheirs", farm.flow_to(SOURCE)) is Whose.OURS


def test_a_response_that_another_node_took_in_is_read_here_with_its_source(farm: Farm) -> None:
    farm.hear(RESPONSE, write_hop(PHONE), b"data")
    assert farm.received == [(b"data", PHONE, farm.find(PHONE))]
    assert farm.count("delivered") == 1


def test_a_branch_of_the_farm_is_known(farm: Farm) -> None:
    assert farm.relays.knows_branch("z9hG4bKfarm.77")
    assert not farm.relays.knows_branch("z9hG4bKtheirs")


# One address


def place(farm: Farm, request: Request) -> bool:
    via = request.top_via
    assert via is not None
    return farm.relays.take(request, server_key(request, via, "INVITE"), farm.flow_to(SOURCE), 7.0)


def make_requests(method: str = "INVITE") -> list[Request]:
    requests = []
    for number in range(60):
        request = make_request(method, via=f"SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK{number}")
        request.source = SOURCE
        requests.append(request)
    return requests


def test_a_request_by_the_shared_address_goes_to_the_node_that_has_its_key(farm: Farm) -> None:
    taken = [place(farm, request) for request in make_requests()]
    assert 25 < sum(taken) < 55
    assert {node for node, _ in farm.relayed} == {OTHER_ID, THIRD_ID}
    _, relay = farm.relayed[0]
    first = make_requests()[taken.index(True)]
    assert relay == Relay(REQUEST, write_hop(SOURCE) + b"\n" + write_hop(SOURCE), first.write())
    assert [place(farm, request) for request in make_requests("CANCEL")] == taken


def test_who_has_no_link_or_no_such_role_has_no_key(farm: Farm) -> None:
    farm.linked.remove(THIRD_ID)
    farm.change(roles=STORES)
    assert not any(place(farm, request) for request in make_requests())


def test_a_phone_registers_with_the_node_that_it_reaches(farm: Farm) -> None:
    assert not any(place(farm, request) for request in make_requests("REGISTER"))


def test_what_came_from_another_node_goes_no_further_and_is_answered_through_it(farm: Farm) -> None:
    farm.hear(REQUEST, write_hop(SOURCE) + b"\n" + write_hop(NAT), b"data")
    data, source, flow = farm.received[0]
    assert (data, source, flow.hop) == (b"data", SOURCE, NAT)
    assert (flow.transport, flow.reliable, flow.breaks) == ("UDP", False, False)
    assert isinstance(flow, BackFlow)
    assert not any(farm.relays.take(request, str(number), flow, 7.0) for number, request in enumerate(make_requests()))
    assert flow.send(BYE)
    assert farm.relayed == [(OTHER_ID, Relay(SEND, write_hop(NAT), BYE))]


def test_when_that_node_is_gone_the_answer_leaves_by_our_own_socket_of_that_address(farm: Farm) -> None:
    farm.hear(REQUEST, write_hop(SOURCE) + b"\n" + write_hop(NAT), b"data")
    farm.takes = False
    answer = make_answer(1).write()
    assert farm.received[0][2].send(answer)
    flow = farm.flows[NAT]
    assert isinstance(flow, RecordedFlow)
    assert flow.sent == [answer]


# Bad ones


@pytest.mark.parametrize(
    ("purpose", "head"),
    [
        (SEND, b""),
        (SEND, b"TCP"),
        (SEND, b"SCTP 192.0.2.1 5060 "),
        (SEND, b"TCP 192.0.2.1 port #1"),
        (SEND, b"UDP 192.0.2.1 65536 "),
        (RESPONSE, b"UDP sip.example.com 5060 "),
        (SEND, b"TCP 192.0.2.1 5060 \xff"),
        (REQUEST, write_hop(SOURCE)),
        (REQUEST, write_hop(SOURCE) + b"\n" + write_hop(PHONE)),
        (99, write_hop(SOURCE)),
    ],
)
def test_what_makes_no_sense_is_counted_and_left(farm: Farm, purpose: int, head: bytes) -> None:
    farm.hear(purpose, head, BYE)
    assert farm.count("bad") == 1
    assert (farm.relayed, farm.received, farm.failed) == ([], [], [])


@pytest.mark.parametrize("hop", [PHONE, SHORT, NAT, SOURCE, Hop("WSS", "fe80::1%eth0", 443, "wss:[::]:443#1f")])
def test_a_hop_is_read_as_it_was_written(hop: Hop) -> None:
    assert read_hop(write_hop(hop)) == hop


# One address


def test_a_flow_over_udp_of_a_node_that_is_gone_goes_on_from_the_address_that_both_have(farm: Farm) -> None:
    """What a NAT lets in from there, it lets in from whoever has the address."""
    ours = Hop("UDP", "198.51.100.9", 1024, "udp:192.0.2.50:5060")
    farm.flows[ours] = RecordedFlow(farm.record, "ours", ours, local_name="udp:192.0.2.50:5060")
    waiting = farm.find(ours)
    farm.waiting = [waiting, farm.find(PHONE)]
    farm.relays.shares_address = True
    farm.change(DEAD)
    assert farm.died == [farm.waiting[1]]
    assert farm.relays.find_flow(FlowName(OTHER, ours)) is farm.flows[ours]
    assert farm.relays.find_flow(FlowName(OTHER, PHONE)) is None
    assert farm.relays.find_flow(FlowName(OTHER, NAT)) is None, "its socket was at an address of its own"
    farm.takes = False
    assert waiting.send(make_request("BYE").write())
    assert not farm.relayed
    farm.relays.shares_address = False
    assert farm.relays.find_flow(FlowName(OTHER, ours)) is None
    assert not waiting.send(BYE)
