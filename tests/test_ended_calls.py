"""Which node is told that a call ended, and what is written when there is none to tell."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import msgspec
import pytest

from farm.accounting.call import Bye, Key
from farm.ended_calls import ENDED, Ended, EndedCalls
from farm.frontend.token import RouteToken, Tokens
from farm.member import stamp_node_of
from farm.metrics import Metrics
from farm.overlay.wire import Relay
from farm.proxy.dialog import make_facts, name_home
from farm.sip.hop import FlowName, Hop, Leg
from farm.sip.message import Request
from tests.accounting.books import PHONE, make_bye, make_invite
from tests.support.counts import read

NODES = [bytes((number,)) * 32 for number in (1, 2, 3)]
STAMPS = [stamp_node_of(node) for node in NODES]
CALLER_FLOW = Hop("TCP", "", 0, "#7")


class Contact(NamedTuple):
    """A node."""

    node: bytes


class Relaying:
    """Where purposes are heard."""

    def __init__(self) -> None:
        self.users: dict[int, Any] = {}


class Farm:
    """Three nodes, of which the first is this one: members, relays and accounts of it."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.relaying = Relaying()
        self.sent: list[tuple[bytes, int, bytes]] = []
        self.reachable = True
        self.known: list[tuple[str, str, str]] = []
        self.ended: list[tuple[str, str, str]] = []
        self.written: list[tuple[Key, str, str, str, float]] = []
        self.byes: list[Bye] = []
        self.secret = bytes(32)

    def find_by_stamp(self, stamp_node: int) -> Contact | None:
        return Contact(NODES[STAMPS.index(stamp_node)]) if stamp_node in STAMPS else None

    def others(self) -> list[Contact]:
        return [Contact(node) for node in NODES[1:]]

    def send(self, node: bytes, purpose: int, head: bytes, data: bytes) -> bool:
        self.sent.append((node, purpose, data))
        return self.reachable

    def end_dialog(self, call_id: str, sender_tag: str, receiver_tag: str, bye: Bye) -> bool:
        self.byes.append(bye)
        self.ended.append((call_id, sender_tag, receiver_tag))
        return (call_id, sender_tag, receiver_tag) in self.known

    def write_partial(self, key: Key, caller: str, callee: str, by: str, wall: float, bye: Bye) -> None:
        self.written.append((key, caller, callee, by, wall))

    def make(self, *, alone: bool = False) -> EndedCalls:
        fake: Any = self
        return EndedCalls(STAMPS[0], fake, None if alone else fake, fake, self.metrics)

    def open(self, home: int, *, flow: bool = False) -> RouteToken:
        """The token of the dialog that alice opened by that node."""
        invite: Request = make_invite()
        facts = [*make_facts(invite, "", "", "", False), *([] if flow else [name_home(home)])]
        tokens = Tokens(self.secret, random.Random(4), nodes=self._find)
        caller = Leg(FlowName(home, CALLER_FLOW)) if flow else Leg()
        token = tokens.open_route(tokens.make_route("c1", facts, caller, Leg()), "c1")
        assert token is not None
        return token

    def _find(self, tag: int) -> int | None:
        return next((stamp for stamp in STAMPS if stamp >> 31 == tag), None)


@pytest.fixture
def farm() -> Farm:
    return Farm()


PARTIAL = (("c1", "a", "b"), "sip:alice@example.com", "sip:bob@example.com", "callee", 99.0)


@pytest.mark.parametrize("flow", [False, True])
def test_the_node_that_took_the_call_is_told_and_nobody_else(farm: Farm, flow: bool) -> None:
    farm.make().tell(make_bye(by_callee=False), 200, farm.open(STAMPS[1], flow=flow), PHONE, 2.0, 101.0)
    ((node, purpose, data),) = farm.sent
    assert (node, purpose) == (NODES[1], ENDED)
    assert farm.written == []
    there = Farm()
    there.known = [("c1", "a", "b")]
    there.make().receive_relay(NODES[0], Relay(ENDED, b"", data), 5.0)
    assert there.ended == there.known
    assert there.written == []
    assert read(there.metrics.relayed_messages.child("delivered")) == 1


def bye_of_callee() -> Request:
    """Bob hangs up."""
    request = make_bye(by_callee=True)
    swap = {"from": "to", "to": "from"}
    request.headers = [(swap.get(name, name), value, line) for name, value, line in request.headers]
    return request


def test_a_node_that_has_forgotten_the_call_writes_what_it_hears(farm: Farm) -> None:
    farm.make().tell(bye_of_callee(), 200, farm.open(STAMPS[2]), PHONE, 2.0, 101.0)
    there = Farm()
    there.make().receive_relay(NODES[0], Relay(ENDED, b"", farm.sent[0][2]), 5.0)
    assert there.ended == [("c1", "b", "a")]
    assert there.written == [PARTIAL]


def test_when_there_is_no_way_to_it_this_node_writes(farm: Farm) -> None:
    farm.reachable = False
    ended = farm.make()
    ended.tell(bye_of_callee(), 200, farm.open(STAMPS[1]), PHONE, 2.0, 101.0)
    assert farm.written == [PARTIAL]
    ended.receive_relay_failure(NODES[1], Relay(ENDED, b"", farm.sent[0][2]), 6.0)
    assert farm.written == [PARTIAL, PARTIAL]  # of which `write_partial` writes one


@pytest.mark.parametrize("home", [STAMPS[0], 12345])
def test_of_a_call_of_our_own_or_of_a_node_that_nobody_knows_this_node_writes(farm: Farm, home: int) -> None:
    farm.make().tell(bye_of_callee(), 200, farm.open(home), PHONE, 2.0, 101.0)
    assert (farm.sent, farm.written) == ([], [PARTIAL])


def test_a_node_alone_writes_of_calls_from_before_its_restart(farm: Farm) -> None:
    farm.make(alone=True).tell(bye_of_callee(), 200, farm.open(STAMPS[0]), PHONE, 2.0, 101.0)
    assert farm.written == [PARTIAL]
    assert farm.relaying.users == {}


@pytest.mark.parametrize(("status", "method"), [(481, "BYE"), (408, "BYE"), (481, "INVITE")])
def test_what_nobody_confirms_is_told_to_who_may_know_the_call_and_makes_no_call(
    farm: Farm, status: int, method: str
) -> None:
    farm.make().tell(make_bye(method=method), status, farm.open(STAMPS[1]), PHONE, 32.0, 99.0)
    assert farm.written == []
    there = Farm()
    there.make().receive_relay(NODES[0], Relay(ENDED, b"", farm.sent[0][2]), 50.0)
    assert there.written == []
    assert there.byes == [Bye(18.0, status, "192.0.2.102:5070", "192.0.2.101:5060", method == "INVITE")]


def test_of_a_call_that_is_known_here_only_another_node_of_it_is_told(farm: Farm) -> None:
    farm.reachable = False
    for home in STAMPS[:2]:
        farm.make().tell(bye_of_callee(), 200, farm.open(home), PHONE, 2.0, 101.0, known=True)
    assert (len(farm.sent), farm.written) == (1, [])


def make_ended(**changes: Any) -> bytes:
    """What another node says of an end."""
    ended = Ended(b"c1", b"a", b"b", b"", b"", True, 99.0, 200, "", "", 0.0, True)
    return msgspec.msgpack.encode(msgspec.structs.replace(ended, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"wall": float("nan")}, {"wall": float("inf")}, {"wall": 1e300}, {"wall": -1.0}, {"seconds_ago": float("nan")},
        {"seconds_ago": -1e9}, {"seconds_ago": 1e9}, {"code": -1}, {"code": 10**9},
    ],
)  # fmt: skip
def test_a_node_that_has_gone_wild_writes_no_line_of_another_century(farm: Farm, changes: dict[str, Any]) -> None:
    farm.make().receive_relay(NODES[1], Relay(ENDED, b"", make_ended(**changes)), 5.0)
    assert read(farm.metrics.relayed_messages.child("bad")) == 1
    assert (farm.ended, farm.written) == ([], [])
    farm.make().receive_relay(NODES[1], Relay(ENDED, b"", make_ended()), 5.0)
    assert len(farm.written) == 1


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x00" * 100, msgspec.msgpack.encode([1, 2]), b"\x97" + b"\xa1x" * 7])
def test_nonsense_of_another_node_is_counted(farm: Farm, data: bytes) -> None:
    farm.make().receive_relay(NODES[1], Relay(ENDED, b"", data), 5.0)
    assert read(farm.metrics.relayed_messages.child("bad")) == 1
    assert farm.written == []
    assert farm.relaying.users[ENDED] is not None
