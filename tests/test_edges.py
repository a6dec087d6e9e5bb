"""Who is in the zone, as a node knows the farm, and what it says of itself. All together: `scenarios/test_zone`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm.deadlines import Deadlines
from farm.edges import Edges, make_zone_settings
from farm.frontend.zone import Edge, Listener
from farm.overlay.wire import ALIVE, DEAD, EDGE, JOINING, LEFT, STORES, SUSPECT, Contact
from tests.support.farms import make_config

HOST = "192.0.2.1"


class Overlay:
    """A member, as `Edges` sees it."""

    def __init__(self, own: Contact, *others: Contact) -> None:
        self.node: Any = self
        self.membership: Any = self
        self.own = own
        self.others = others
        self.said: list[dict[str, object]] = []

    def contacts(self) -> list[Contact]:
        return [self.own, *self.others]

    def live(self) -> list[Contact]:
        return [contact for contact in self.others if contact.state in (ALIVE, SUSPECT)]

    def say(self, **changes: object) -> None:
        self.said.append(changes)


def contact(number: int, state: int = ALIVE, **more: Any) -> Contact:
    host = f"192.0.2.{number}"
    base = Contact(bytes([number]) * 32, host, 7400, state=state, sip=(f"udp:{host}:5060",), dns=(host,))
    return msgspec.structs.replace(base, **more)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    return make_config("n1", HOST, tmp_path, dns={"zone": "Sip.Example.com.", "listen": [f"{HOST}:53"]})


def make_edges(config: Any, member: Any, *, draining: bool = False, used: float = 0.0) -> tuple[Edges, Deadlines]:
    deadlines = Deadlines()
    return Edges(config, member, deadlines, lambda: draining, lambda: used), deadlines


def test_a_member_that_is_alive_is_shown_with_all_that_it_says(config: Any) -> None:
    member = Overlay(contact(1), contact(2, SUSPECT, load=30))
    assert list(make_edges(config, member)[0].edges()) == [
        Edge(b"\1" * 32, (Listener("UDP", "192.0.2.1", 5060),), ("192.0.2.1",)),
        Edge(b"\2" * 32, (Listener("UDP", "192.0.2.2", 5060),), ("192.0.2.2",), 30, True),
    ]


@pytest.mark.parametrize(
    "other",
    [contact(2, JOINING), contact(2, DEAD), contact(2, LEFT), contact(2, draining=True), contact(2, roles=STORES)],
)
def test_who_is_not_in_step_or_goes_or_speaks_no_sip_is_not_shown(config: Any, other: Contact) -> None:
    (only,) = make_edges(config, Overlay(contact(1), other))[0].edges()
    assert only.node == b"\1" * 32


def test_what_a_member_says_that_cannot_be_used_is_passed_over(config: Any) -> None:
    said = ("udp:0.0.0.0:5060", "sctp:192.0.2.2:5060", "tcp:192.0.2.2:0", "noise", "tcp:192.0.2.2:5060")
    member = Overlay(contact(1), contact(2, roles=EDGE, sip=said, dns=("::", "name", "192.0.2.2")))
    _, other = make_edges(config, member)[0].edges()
    assert other.listeners == (Listener("TCP", "192.0.2.2", 5060),)
    assert other.servers == ("192.0.2.2",)


def test_a_node_that_has_left_the_others_does_not_know_them(config: Any) -> None:
    assert make_edges(config, Overlay(contact(1), contact(2)))[0].knows_farm()
    assert not make_edges(config, Overlay(contact(1, LEFT), contact(2)))[0].knows_farm()
    assert make_edges(config, Overlay(contact(1, LEFT), contact(2, LEFT)))[0].knows_farm()
    assert make_edges(config, None)[0].knows_farm()


def test_a_lone_node_shows_itself_unless_it_is_drained(config: Any) -> None:
    listeners = (Listener("UDP", HOST, 5060), Listener("TCP", HOST, 5060))
    assert list(make_edges(config, None)[0].edges()) == [Edge(b"", listeners, (HOST,))]
    assert list(make_edges(config, None, draining=True)[0].edges()) == []


def test_the_load_is_told_when_it_has_changed(config: Any) -> None:
    member = Overlay(contact(1))
    used = [0.0]
    deadlines = Deadlines()
    edges = Edges(config, member, deadlines, lambda: False, lambda: used[0])  # type: ignore[arg-type]
    edges.start(0.0)
    deadlines.run_due(10.0)
    assert member.said == []
    used[0] = 8.0
    deadlines.run_due(20.0)
    assert member.said == [{"load": 40}]
    make_edges(config, None)[0].start(0.0)


def test_wildcards_without_an_address_are_a_problem(tmp_path: Path) -> None:
    config = make_config("n1", "0.0.0.0", tmp_path)
    assert "dns.addresses" in make_edges(config, None)[0].problem()
    assert make_edges(make_config("n1", HOST, tmp_path), None)[0].problem() == ""


def test_the_zone_is_named_by_itself_the_farm_or_its_first_domain(config: Any, tmp_path: Path) -> None:
    assert make_zone_settings(config, b"s").name == "Sip.Example.com"
    named = make_config("n1", HOST, tmp_path, sip={"farm_name": "farm.example.com"}, dns={"prefer": ["udp", "ws"]})
    assert make_zone_settings(named, b"s").name == "farm.example.com"
    assert make_zone_settings(named, b"s").prefer == ("UDP", "WS")
    assert make_zone_settings(make_config("n1", HOST, tmp_path), b"s").name == "example.com"
