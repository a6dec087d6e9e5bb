"""The target set (RFC 3261 §16.5): to whom a request goes, and who may send it there."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import pytest

from farm.proxy.admission import Caller
from farm.proxy.dialog import Passport, Side
from farm.proxy.reach import Contact, Target
from farm.proxy.request import RouteInformation
from farm.proxy.targets import Located
from farm.sip.hop import FlowName, Hop
from farm.sip.status import SipError
from farm.sip.uri import parse_uri
from tests.support.element import CALL_ID, NODE, OTHER_NODE, Bound, Element, Found
from tests.support.messages import make_request
from tests.support.recorders import Promise, run

BOB = "sip:bob@example.com"


@pytest.fixture
def element() -> Element:
    return Element()


def find(element: Element, uri: str, caller: Caller = Caller.OURS, routes: Sequence[str] = ()) -> list[Target]:
    """The targets of a request whose Route has no token of ours."""
    found = element.targets.find(RouteInformation(parse_uri(uri), uri, list(routes), False), caller, 0.0)
    return found if isinstance(found, list) else run(found)


def refuse(element: Element, uri: str, caller: Caller, routes: Sequence[str] = ()) -> tuple[int, str]:
    with pytest.raises(SipError) as refusal:
        find(element, uri, caller, routes)
    return refusal.value.status, refusal.value.reason


def flow_of(target: Target) -> Hop | None:
    return None if target.flow is None else target.flow.hop


def shape(targets: list[Target]) -> list[tuple[str, int]]:
    return [(target.uri_text, target.q) for target in targets]


# Our users


@pytest.mark.parametrize("caller", list(Caller))
def test_anybody_reaches_a_registered_user_at_every_contact(element: Element, caller: Caller) -> None:
    element.bind(BOB, Bound("sip:bob@192.0.2.202", 300), Bound("sip:bob@192.0.2.201;transport=tcp", 1000))
    found = find(element, BOB, caller)
    assert shape(found) == [("sip:bob@192.0.2.201;transport=tcp", 1000), ("sip:bob@192.0.2.202", 300)]


def test_path_and_flow_of_a_binding_travel_with_the_target(element: Element) -> None:
    flow = Hop("TCP", "203.0.113.7", 33000, "tcp:192.0.2.1:5060")
    element.bind(BOB, Bound("sip:bob@10.1.1.1", path=("<sip:edge.example.com;lr>",), received=flow))
    (target,) = find(element, BOB)
    assert (target.path, target.next_hops) == (("<sip:edge.example.com;lr>",), ())
    assert target.flow == FlowName(NODE, flow)


def test_a_contact_loses_what_no_request_uri_may_have(element: Element) -> None:
    """RFC 4475 §3.3.13 regescrt: an escaped Route in a contact is kept, and never applied; §16.6 step 2."""
    element.bind(
        BOB,
        "sip:bob@192.0.2.201?Route=%3Csip:sip.example.com%3E",
        "sip:bob@192.0.2.202;method=BYE;user=phone",
        "sip:b?b@192.0.2.203",
        "sip:bob@192.0.2.204;METHOD=INVITE?Subject=x",
    )
    element.bind(BOB, *element.bindings[BOB], "sip:bob@[broken?x=y")  # type: ignore[misc]
    assert [target.uri_text for target in find(element, BOB)] == [
        "sip:bob@192.0.2.201",
        "sip:bob@192.0.2.202;user=phone",
        "sip:b?b@192.0.2.203",
        "sip:bob@192.0.2.204",
        "sip:bob@[broken?x=y",  # which fails when its turn comes
    ]


def test_a_contact_that_is_no_sip_uri_is_left_out(element: Element) -> None:
    element.bind(BOB, "mailto:bob@example.com", "tel:+4930123", "sips:bob@192.0.2.201")
    assert [target.uri_text for target in find(element, BOB)] == ["sip:bob@192.0.2.201"]


def test_a_user_with_more_contacts_than_we_fork_to_gets_the_best(element: Element) -> None:
    element.bind(BOB, *[Bound(f"sip:bob@192.0.2.{number}", 1000 - number) for number in range(1, 30)])
    found = find(element, BOB)
    assert len(found) == 16
    assert found[-1].q == 984


def test_a_phone_with_several_flows_is_rung_once_by_the_latest(element: Element) -> None:
    """RFC 5626 §7; the location service gives the latest of equal q first."""
    flows = [Hop("TCP", "203.0.113.7", port) for port in (3, 2, 1)]
    element.bind(
        BOB,
        Bound("sip:bob@10.1.1.1", received=flows[0], instance="<urn:uuid:1>", reg_id=2),
        Bound("sip:bob@10.1.1.1", received=flows[1], instance="<urn:uuid:1>", reg_id=1),
        Bound("sip:bob@10.1.1.1", received=flows[2], instance="<urn:uuid:2>", reg_id=1),
    )
    found = find(element, BOB)
    assert [flow_of(target) for target in found] == [flows[0], flows[2]]
    assert [[flow_of(spare) for spare in target.spares] for target in found] == [[flows[1]], []]


def test_who_is_called_securely_is_rung_on_no_other_phone(element: Element) -> None:
    """§26.2.2: a sips URI is TLS all the way to the phone."""
    secure = "sips:bob@example.com"
    element.bind(BOB, Bound("sip:bob@192.0.2.201"), Bound("SIPS:bob@192.0.2.202"), Bound("sip:bob@192.0.2.203", 300))
    assert shape(find(element, secure)) == [("SIPS:bob@192.0.2.202", 1000)]
    assert len(find(element, BOB)) == 3
    element.bind(BOB, Bound("sip:bob@192.0.2.201;transport=tls"), Bound("sip:bob@192.0.2.203"))
    for caller in Caller:
        assert refuse(element, secure, caller) == (480, "not-secure")


def test_a_phone_without_outbound_is_rung_at_every_contact(element: Element) -> None:
    """An instance alone does not say that two contacts are two ways to one place."""
    element.bind(
        BOB,
        Bound("sip:bob@192.0.2.201", instance="<urn:uuid:1>"),
        Bound("sip:bob@192.0.2.202", instance="<urn:uuid:1>"),
        Bound("sip:bob@192.0.2.203", instance="<urn:uuid:1>", reg_id=1),
    )
    assert len(find(element, BOB)) == 3


@pytest.mark.parametrize("caller", [Caller.TRUSTED, Caller.OURS])
def test_a_user_without_a_phone_is_480_and_an_unknown_one_404(element: Element, caller: Caller) -> None:
    assert refuse(element, BOB, caller) == (480, "not-registered")
    assert refuse(element, "sip:nobody@example.com", caller) == (404, "unknown-user")
    element.bind("sip:open@example.com")
    assert refuse(element, "sip:open@example.com", caller) == (480, "not-registered"), "it was registered once"


@pytest.mark.parametrize("caller", [Caller.STRANGER, Caller.DIALOG])
def test_a_stranger_cannot_tell_who_has_an_account(element: Element, caller: Caller) -> None:
    """Nor inside a dialog, which may be a stranger's."""
    assert refuse(element, BOB, caller) == refuse(element, "sip:nobody@example.com", caller) == (480, "not-registered")


def test_a_domain_without_a_user_is_nobody(element: Element) -> None:
    assert refuse(element, "sip:example.com", Caller.OURS) == (404, "no-user-in-uri")
    assert refuse(element, "sip:192.0.2.1:5060", Caller.STRANGER) == (404, "no-user-in-uri")


def test_a_location_service_that_takes_time_is_waited_for(element: Element) -> None:
    promise: Promise[Sequence[Contact]] = Promise()
    element.bindings[BOB] = promise
    found = element.targets.find(RouteInformation(parse_uri(BOB), BOB, [], False), Caller.STRANGER, 0.0)
    assert not isinstance(found, list)
    promise.resolve([Bound("sip:bob@192.0.2.201")])
    assert shape(run(found)) == [("sip:bob@192.0.2.201", 1000)]


# Dialogs


@pytest.mark.parametrize("uri", ["sip:bob@10.0.0.7", "sip:bob@foreign.example;maddr=10.0.0.7", BOB, "tel:+4930123"])
@pytest.mark.parametrize("caller", list(Caller))
def test_a_dialog_s_flow_is_the_target_whatever_the_request_uri_says(
    element: Element, uri: str, caller: Caller
) -> None:
    """Nothing is looked up: a token opens the flow to the other side, and nothing else."""
    element.bind(BOB, "sip:bob@192.0.2.201")
    element.routes["+4930123"] = ["sip:198.51.100.1"]
    flow = Hop("TCP", "198.51.100.10", 20001, "tcp:192.0.2.1:5060")
    route = RouteInformation(parse_uri(uri), uri, [], True)
    route.flow = FlowName(NODE, flow)
    found = element.targets.find(route, caller, 0.0)
    assert isinstance(found, list)
    (target,) = found
    assert (target.uri_text, flow_of(target), target.path, target.next_hops) == (uri, flow, (), ())


# Elsewhere


@pytest.mark.parametrize("caller", [Caller.TRUSTED, Caller.OURS, Caller.DIALOG])
def test_our_callers_and_dialogs_reach_other_domains(element: Element, caller: Caller) -> None:
    (target,) = find(element, "sip:carol@foreign.example", caller)
    assert (target.uri_text, target.next_hops, target.flow) == ("sip:carol@foreign.example", (), None)


@pytest.mark.parametrize(
    ("uri", "routes"),
    [
        ("sip:carol@foreign.example", []),
        ("sip:192.0.2.1:5070", []),  # another program on our machine
        ("sip:bob@example.com;maddr=203.0.113.9", []),
        (BOB, ["<sip:foreign.example;lr>"]),
        ("tel:+4930123", []),
    ],
)
def test_a_stranger_relays_through_us_to_nobody(element: Element, uri: str, routes: list[str]) -> None:
    assert refuse(element, uri, Caller.STRANGER, routes) == (403, "relay-refused")


def test_a_route_leaves_the_request_uri_alone(element: Element) -> None:
    """§16.5: even one of our own users', who is registered."""
    element.bind(BOB, "sip:bob@192.0.2.201")
    assert shape(find(element, BOB, routes=["<sip:p1.foreign.example;lr>"])) == [(BOB, 1000)]


def test_a_maddr_leaves_the_request_uri_alone(element: Element) -> None:
    uri = "sip:bob@example.com;maddr=203.0.113.9"
    assert shape(find(element, uri)) == [(uri, 1000)]


def test_a_static_route_names_the_next_hops_of_a_foreign_domain(element: Element) -> None:
    element.routes["foreign.example"] = ["sip:198.51.100.1;transport=tcp", "sip:198.51.100.2"]
    (target,) = find(element, "sip:carol@foreign.example")
    assert target.uri_text == "sip:carol@foreign.example"
    assert target.next_hops == (
        ("sip:198.51.100.1;transport=tcp", "sip:carol@foreign.example"),
        ("sip:198.51.100.2", "sip:carol@foreign.example"),
    )


# Numbers


@pytest.mark.parametrize("caller", [Caller.TRUSTED, Caller.OURS])
def test_a_number_goes_to_its_gateways_each_with_a_uri_of_its_own(element: Element, caller: Caller) -> None:
    element.routes["+4930123"] = ["sip:198.51.100.1;transport=tcp", "sip:trunk@198.51.100.2:5070"]
    (target,) = find(element, "tel:+4930123", caller)
    assert target.uri_text == "sip:+4930123@198.51.100.1;user=phone"
    assert target.next_hops == (
        ("sip:198.51.100.1;transport=tcp", "sip:+4930123@198.51.100.1;user=phone"),
        ("sip:trunk@198.51.100.2:5070", "sip:+4930123@198.51.100.2:5070;user=phone"),
    )


def test_a_number_in_our_domain_goes_to_its_gateway_unless_somebody_is_registered_for_it(element: Element) -> None:
    number = "sip:+4930123@example.com;user=phone"
    element.routes["+4930123"] = ["sip:198.51.100.1"]
    assert shape(find(element, number)) == [("sip:+4930123@198.51.100.1;user=phone", 1000)]
    element.bind("sip:+4930123@example.com", "sip:desk@192.0.2.202")
    assert shape(find(element, number)) == [("sip:desk@192.0.2.202", 1000)]


def test_visual_separators_do_not_reach_the_gateway(element: Element) -> None:
    element.routes["+49-30.123"] = ["sip:198.51.100.1"]
    assert find(element, "tel:+49-30.123")[0].uri_text == "sip:+4930123@198.51.100.1;user=phone"


@pytest.mark.parametrize("caller", [Caller.STRANGER, Caller.DIALOG])
def test_only_our_own_callers_make_calls_that_cost_money(element: Element, caller: Caller) -> None:
    """A dialog's token is in every party's hands: with it a stranger must not dial through our gateway."""
    element.routes["+4930123"] = ["sip:198.51.100.1"]
    assert refuse(element, "tel:+4930123", caller) == (403, "relay-refused")
    assert refuse(element, "sip:+4930123@example.com", caller) == (480, "not-registered")


def test_a_local_number_keeps_the_context_that_gives_it_a_meaning(element: Element) -> None:
    """RFC 3966 §5.1.5."""
    element.routes["110"] = ["sip:198.51.100.1"]
    (target,) = find(element, "tel:110;phone-context=+49")
    assert target.uri_text == "sip:110;phone-context=+49@198.51.100.1;user=phone"
    assert parse_uri(target.uri_text).user == "110;phone-context=+49"


def test_a_number_that_no_gateway_takes_is_404(element: Element) -> None:
    assert refuse(element, "tel:+4930123", Caller.OURS) == (404, "no-gateway")


# Several nodes


DEAD_NODE = 3 << 40 | 1


@pytest.fixture
def among_others(element: Element) -> Element:
    element.dead_nodes = {DEAD_NODE}
    element.doubted = {DEAD_NODE}
    return element


def bound_to(node: int, port: int = 5, **parts: object) -> Bound:
    """A contact that only a flow of that node reaches."""
    hop = Hop("TCP", "203.0.113.7", port, f"tcp:192.0.2.1:5060#{port}")
    return Bound("sip:bob@10.1.1.1", received=hop, node=node, **parts)  # type: ignore[arg-type]


def ports(targets: list[Target]) -> list[int]:
    return [target.flow.hop.port for target in targets if target.flow is not None]


def test_a_flow_is_reached_on_whichever_node_it_is(among_others: Element) -> None:
    among_others.bind(BOB, bound_to(NODE, 7), bound_to(OTHER_NODE, 8))
    ours, theirs = find(among_others, BOB)
    assert ours.flow is not None
    assert theirs.flow is not None
    assert (ours.flow.node, ours.flow.hop.port, ours.path) == (NODE, 7, ())
    assert (theirs.flow.node, theirs.flow.hop.port, theirs.path, theirs.uri_text) == (
        OTHER_NODE, 8, (), "sip:bob@10.1.1.1",
    )  # fmt: skip


def test_a_contact_with_an_address_is_reached_by_any_node_whoever_registered_it(among_others: Element) -> None:
    among_others.bind(BOB, Bound("sip:bob@192.0.2.201", node=DEAD_NODE))
    assert shape(find(among_others, BOB)) == [("sip:bob@192.0.2.201", 1000)]


@pytest.mark.parametrize("caller", list(Caller))
def test_the_flows_of_a_dead_node_are_dead_with_it(among_others: Element, caller: Caller) -> None:
    among_others.bind(BOB, bound_to(DEAD_NODE), bound_to(OTHER_NODE, 8, q=300))
    assert shape(find(among_others, BOB, caller)) == [("sip:bob@10.1.1.1", 300)]
    among_others.bind(BOB, bound_to(DEAD_NODE), bound_to(DEAD_NODE, 6))
    assert refuse(among_others, BOB, caller) == (480, "not-registered")


def test_a_connection_of_ours_that_is_gone_is_no_target(among_others: Element) -> None:
    gone = bound_to(NODE, 7)
    assert gone.received is not None
    among_others.gone.append(FlowName(NODE, gone.received))
    among_others.bind(BOB, gone, bound_to(NODE, 8))
    assert ports(find(among_others, BOB)) == [8]


def test_the_flows_of_a_node_that_may_be_dead_are_tried_last(among_others: Element) -> None:
    among_others.doubted.add(OTHER_NODE)
    among_others.bind(BOB, bound_to(OTHER_NODE, 7), bound_to(NODE, 8), bound_to(NODE, 9, q=1))
    found = find(among_others, BOB)
    assert [(target.q, *ports([target])) for target in found] == [(1000, 8), (1, 9), (-1, 7)]


def test_a_phone_whose_first_flow_died_with_its_node_is_rung_by_the_next_one(among_others: Element) -> None:
    phone = {"instance": "<urn:uuid:1>"}
    among_others.doubted.add(OTHER_NODE)
    among_others.bind(
        BOB,
        bound_to(DEAD_NODE, 1, reg_id=2, **phone),
        bound_to(OTHER_NODE, 2, reg_id=1, **phone),
        bound_to(NODE, 3, reg_id=3, **phone),
    )
    (target,) = find(among_others, BOB)
    assert ports([target]) == [3]
    assert ports(target.spares) == [2], "on a node that may be dead: last"


def test_a_number_s_gateway_is_used_when_its_user_s_flows_are_dead(among_others: Element) -> None:
    among_others.routes["+4930123"] = ["sip:gw.example.net"]
    among_others.bind("sip:+4930123@example.com", bound_to(DEAD_NODE))
    assert shape(find(among_others, "sip:+4930123@example.com")) == [("sip:+4930123@gw.example.net;user=phone", 1000)]


# Dialogs whose flow is gone

GONE = FlowName(DEAD_NODE, Hop("TCP", "", 0, "#1"))
PHONE_ID = "urn:uuid:1"
REMOTE = "sip:bob@10.1.1.1;transport=tcp"


def find_again(element: Element, *, uri: str = REMOTE, phone: str = PHONE_ID, later: bool = False) -> list[Target]:
    """The targets of alice's BYE in a call with a phone of bob's that can be reached no more as it was."""
    token = element.tokens.open_route(element.make_route(callee=GONE.hop, callee_phone=phone, node=DEAD_NODE), CALL_ID)
    assert token is not None
    request = make_request("BYE", uri, to=f"Bob <{BOB}>;tag=there")
    request.source = Hop("UDP", "192.0.2.101", 5060)
    route = RouteInformation(parse_uri(uri), uri, [], True)
    route.flow = GONE
    route.passport = Passport(token, Side.CALLER, request, NODE)
    route.proven = True
    found = element.targets.find(route, Caller.DIALOG, 0.0)
    assert isinstance(found, list) is not later
    return found if isinstance(found, list) else run(found)


@pytest.mark.parametrize("later", [False, True])
def test_the_phone_of_a_dialog_is_found_by_its_instance_and_knows_the_dialog_by_the_request_uri(
    among_others: Element, later: bool
) -> None:
    """RFC 3261 §12.2: what it registered since is no part of the dialog."""
    bindings = [
        bound_to(NODE, 7, instance="<urn:uuid:2>"),
        bound_to(OTHER_NODE, 8, instance="<URN:UUID:1>", reg_id=2),
        bound_to(NODE, 9, instance="<urn:uuid:1>", reg_id=1),
    ]
    among_others.bind(BOB, *bindings)
    if later:
        promise: Promise[Sequence[Contact]] = Promise()
        promise.resolve(bindings)
        among_others.bindings[BOB] = promise
    (target,) = find_again(among_others, later=later)
    assert (target.uri_text, ports([target]), ports(target.spares)) == (REMOTE, [8], [9])
    assert target.spares[0].uri_text == REMOTE


def test_failing_that_it_is_the_one_with_the_same_contact(among_others: Element) -> None:
    hop = Hop("TCP", "203.0.113.7", 9, "tcp:192.0.2.1:5060#9")
    among_others.bind(BOB, bound_to(NODE, 7), Bound("sip:bob@10.1.1.1;transport=TCP", received=hop))
    (target,) = find_again(among_others)
    assert (target.uri_text, ports([target])) == (REMOTE, [9])


def test_of_the_phone_with_the_same_contact_the_other_flow_is_used(among_others: Element) -> None:
    """That contact's own flow is dead."""
    phone = "<urn:uuid:1>"
    hop = Hop("TCP", "203.0.113.7", 9, "tcp:192.0.2.1:5060#9")
    dead = Bound(REMOTE, received=hop, instance=phone, reg_id=1, node=DEAD_NODE)
    among_others.bind(BOB, dead, bound_to(NODE, 7, instance=phone, reg_id=2), bound_to(NODE, 8))
    (target,) = find_again(among_others, phone="")
    assert (target.uri_text, ports([target]), target.spares) == (REMOTE, [7], [])


@pytest.mark.parametrize(("phone", "found"), [("", True), ("urn:uuid:another", False)])
def test_failing_that_it_is_the_only_one_unless_it_is_known_to_be_another(
    among_others: Element, phone: str, found: bool
) -> None:
    among_others.bind(BOB, bound_to(NODE, 7, instance="<urn:uuid:1>"))
    if found:
        assert ports(find_again(among_others, phone=phone)) == [7]
    else:
        with pytest.raises(SipError) as refusal:
            find_again(among_others, phone=phone)
        assert (refusal.value.status, refusal.value.reason) == (480, "flow-gone")


@pytest.mark.parametrize("instances", [("", ""), ("<urn:uuid:1>", "<urn:uuid:2>"), ("", "<urn:uuid:2>")])
def test_one_of_several_is_not_guessed(among_others: Element, instances: tuple[str, str]) -> None:
    one, other = instances
    among_others.bind(BOB, bound_to(NODE, 7, instance=one), bound_to(DEAD_NODE, 8, instance=other))
    with pytest.raises(SipError) as refusal:
        find_again(among_others, phone="")
    assert (refusal.value.status, refusal.value.reason) == (480, "flow-gone")


def test_the_flows_of_the_only_phone_are_no_several(among_others: Element) -> None:
    """RFC 5626: its requests need not say which phone it is."""
    phone = "<urn:uuid:1>"
    among_others.bind(
        BOB, bound_to(DEAD_NODE, 7, instance=phone, reg_id=1), bound_to(NODE, 8, instance=phone, reg_id=2)
    )
    (target,) = find_again(among_others, phone="")
    assert (target.uri_text, ports([target]), target.spares) == (REMOTE, [8], [])


def test_who_registered_an_address_is_reached_there_with_the_dialog_s_request_uri(among_others: Element) -> None:
    among_others.bind(BOB, Bound("sip:bob@192.0.2.201", instance="<urn:uuid:1>"))
    (target,) = find_again(among_others)
    assert (target.flow, target.next_hops) == (None, (("sip:bob@192.0.2.201", REMOTE),))


def test_a_caller_of_another_domain_is_reached_where_its_contact_says_or_not_at_all(among_others: Element) -> None:
    """Nobody but us knew its flow."""
    for uri, heard in (("sip:bob@192.0.2.201;transport=tcp", 0), ("sip:bob@10.1.1.1;transport=tcp", 480)):
        if heard:
            with pytest.raises(SipError) as refusal:
                find_again(among_others, uri=uri)
            assert refusal.value.status == heard
        else:
            (target,) = find_again(among_others, uri=uri)
            assert (target.flow, target.uri_text) == (None, uri)


def test_a_flow_that_breaks_under_the_request_is_looked_for_anew_without_itself(element: Element) -> None:
    bob = bound_to(DEAD_NODE, 1, instance="<urn:uuid:1>")
    element.bind(BOB, bob)
    (target,) = find_again(element)
    assert target.flow == GONE
    assert target.again is not None
    with pytest.raises(SipError) as refusal:
        target.again(0.0)
    assert refusal.value.status == 480
    element.bind(BOB, bob, bound_to(NODE, 2, instance="<urn:uuid:1>"))
    found = target.again(0.0)
    assert isinstance(found, list)
    assert ports(found) == [2]


# Flows that a Path of ours names


def test_a_path_whose_flow_is_gone_is_430(among_others: Element) -> None:
    """RFC 5626 §5.3: so that the registrar tries the phone's next flow."""
    uri = "sip:bob@10.1.1.1"
    route = RouteInformation(parse_uri(uri), uri, [], True)
    route.flow = FlowName(OTHER_NODE, Hop("TCP", "", 0, "#1"))
    route.proven = True
    (target,) = among_others.targets.find(route, Caller.DIALOG, 0.0)  # type: ignore[misc]
    assert (target.uri_text, target.flow, target.lost, target.listens) == (uri, route.flow, 430, False)
    route.flow = GONE
    with pytest.raises(SipError) as refusal:
        among_others.targets.find(route, Caller.DIALOG, 0.0)
    assert (refusal.value.status, refusal.value.reason) == (430, "flow-gone")


def test_a_path_of_a_phone_with_an_address_is_good_on_every_node(among_others: Element) -> None:
    uri = "sip:bob@192.0.2.201"
    route = RouteInformation(parse_uri(uri), uri, [], True)
    route.flow = FlowName(DEAD_NODE, Hop("UDP", "192.0.2.201", 5060))
    (target,) = among_others.targets.find(route, Caller.DIALOG, 0.0)  # type: ignore[misc]
    assert target.flow == route.flow


# Tokens that open to nothing


def test_a_stranger_whose_token_opens_to_nothing_hears_that_the_dialog_is_over(element: Element) -> None:
    """Not followed; 481 ends the dialog on its side (§12.2.1.2), 403 would not."""
    uri = "sip:carol@foreign.example"
    route = RouteInformation(parse_uri(uri), uri, [], True)
    route.unproven = True
    with pytest.raises(SipError) as refusal:
        element.targets.find(route, Caller.STRANGER, 0.0)
    assert (refusal.value.status, refusal.value.reason) == (481, "token-refused")
    assert isinstance(element.targets.find(route, Caller.OURS, 0.0), list), "who may go there without one, may"


# GRUUs (RFC 5627)


class Made:
    """A temporary GRUU that the test made."""

    aor = BOB
    instance = PHONE_ID

    def __init__(self, valid: bool = True) -> None:
        self.valid = valid

    def is_valid(self, bindings: Sequence[Contact]) -> bool:
        return self.valid and bool(bindings)


def bind_phones(element: Element) -> None:
    element.bind(
        BOB,
        bound_to(NODE, 1, instance="<urn:uuid:2>"),
        bound_to(NODE, 2, instance="<urn:uuid:1>", reg_id=2),
        bound_to(OTHER_NODE, 3, instance="<urn:uuid:1>", reg_id=1),
    )


@pytest.mark.parametrize("uri", ["sip:bob@example.com;gr=urn:uuid:1", "sip:secret@example.com;gr"])
def test_a_gruu_rings_one_phone_by_one_of_its_flows(element: Element, uri: str) -> None:
    element.gruus["secret"] = Made()
    bind_phones(element)
    (target,) = find(element, uri, Caller.STRANGER)
    assert (ports([target]), ports(target.spares), target.uri_text) == ([2], [3], "sip:bob@10.1.1.1")


def test_a_gruu_whose_phone_is_away_is_480_and_rings_no_other(element: Element) -> None:
    element.routes["bob"] = ["sip:198.51.100.1"]
    element.bind(BOB, bound_to(NODE, 1, instance="<urn:uuid:2>"))
    assert refuse(element, "sip:bob@example.com;gr=urn:uuid:1", Caller.OURS) == (480, "not-registered")


@pytest.mark.parametrize("caller", list(Caller))
def test_a_gruu_that_is_none_or_none_any_more_is_404(element: Element, caller: Caller) -> None:
    bind_phones(element)
    element.gruus["ended"] = Made(valid=False)
    assert refuse(element, "sip:made.up@example.com;gr", caller) == (404, "unknown-gruu")
    assert refuse(element, "sip:ended@example.com;gr", caller) == (404, "unknown-gruu")
    element.targets._gruus = None
    assert refuse(element, "sip:ended@example.com;gr", caller) == (404, "unknown-gruu")


def test_a_dialog_with_a_gruu_reaches_the_phone_at_its_contact(element: Element) -> None:
    """The phone knows its Contact, not every URI that leads to it."""
    bind_phones(element)
    (target,) = find_again(element, uri="sip:bob@example.com;gr=urn:uuid:1")
    assert (ports([target]), target.uri_text) == ([2], "sip:bob@10.1.1.1")


# When it cannot be said at once, or not at all


class Directory:
    """Knows later who has an account."""

    def __init__(self, *accounts: str) -> None:
        self.accounts = accounts

    async def exists(self, aor: str) -> bool:
        return aor in self.accounts


@pytest.mark.parametrize("far", [False, True], ids=["bindings-here", "bindings-elsewhere"])
def test_users_elsewhere_are_asked_for_before_anybody_hears_404(element: Element, far: bool) -> None:
    element.targets._directory = Directory(BOB)
    element.targets._locator = Nothing(far)
    assert refuse(element, BOB, Caller.OURS) == (480, "not-registered")
    assert refuse(element, "sip:nobody@example.com", Caller.OURS) == (404, "unknown-user")
    assert refuse(element, "sip:nobody@example.com", Caller.STRANGER) == (480, "not-registered")


class Nothing:
    """A location service without a record of anybody."""

    def __init__(self, far: bool) -> None:
        self.far = far

    def find(self, aor: str, now: float) -> Located | Awaitable[Located]:
        async def later() -> Located:
            return Found((), False)

        return later() if self.far else Found((), False)


@pytest.mark.parametrize("far", [False, True])
def test_a_location_service_that_cannot_say_is_no_404(element: Element, far: bool) -> None:
    class Unreachable(Nothing):
        def find(self, aor: str, now: float) -> Located | Awaitable[Located]:
            async def later() -> Located:
                raise SipError(500, reason="store-unavailable")

            if far:
                return later()
            raise SipError(500, reason="store-unavailable")

    element.targets._locator = Unreachable(far)
    assert refuse(element, BOB, Caller.OURS) == (500, "store-unavailable")
