"""A count of a nonce is used once among all nodes, and nobody waits long for a node that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from farm.overlay.wire import Contact
from farm.security.nonces import Origin, Use
from farm.spending import Spending
from tests.support.farms import Farm, FarmNode


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes."""
    made = Farm(tmp_path)
    yield made
    made.close()
    made.check_end()


def origin_of(node: FarmNode, number: int = 1) -> Origin:
    """Of a nonce that a node made just now."""
    return Origin(int(node.host.wall_time()), node.node.core.authenticator.nonces.node << 32 | number)


def spending_of(node: FarmNode) -> Spending:
    assert node.node.member is not None
    return Spending(node.node.member, node.node.core.relays)


def outcome(farm: Farm, node: FarmNode, origin: Origin, count: int) -> tuple[Use, float]:
    """What becomes of a use at that node, and how long it takes."""
    began = node.seconds()
    found: list[tuple[Use, float]] = []
    done: Deferred[Use] = spending_of(node).use(origin, count, began)
    done.addCallback(lambda use: found.append((use, node.seconds() - began)))
    farm.run(3)
    (only,) = found
    return only


def test_a_count_is_used_once_whichever_node_is_shown_it(farm: Farm) -> None:
    maker, *others = farm.add_nodes(3)
    farm.run(1)
    origin = origin_of(maker)
    uses = [outcome(farm, node, origin, count)[0] for node in others for count in (1, 2)]
    assert uses == [Use.FIRST, Use.FIRST, Use.REPLAYED, Use.REPLAYED]
    assert maker.node.core.authenticator.use_nonce(origin, 2) is Use.REPLAYED
    assert maker.node.core.authenticator.use_nonce(origin, 3) is Use.FIRST


def test_it_takes_one_round_trip(farm: Farm) -> None:
    maker, other = farm.add_nodes(2)
    farm.run(1)
    use, seconds = outcome(farm, other, origin_of(maker), 1)
    assert use is Use.FIRST
    assert seconds < 0.1


def test_a_node_that_died_remembers_nothing_and_nobody_waits_for_it(farm: Farm) -> None:
    maker, other, _third = farm.add_nodes(3)
    farm.run(1)
    origin = origin_of(maker)
    maker.kill()
    farm.wait_until_synchronised()
    use, seconds = outcome(farm, other, origin, 1)
    assert use is Use.FORGOTTEN
    assert seconds < 1.2


def test_a_machine_that_is_cut_off_is_waited_for_a_second(farm: Farm) -> None:
    maker, other, _third = farm.add_nodes(3)
    farm.run(1)
    origin = origin_of(maker)
    maker.power_off()
    use, seconds = outcome(farm, other, origin, 1)
    assert use is Use.FORGOTTEN
    assert seconds < 1.2


def test_a_nonce_of_nobody_is_not_asked_for(farm: Farm) -> None:
    node, _other = farm.add_nodes(2)
    farm.run(1)
    strange = Origin(int(node.host.wall_time()), 0x7FFFFFFF << 32 | 1)
    assert outcome(farm, node, strange, 1) == (Use.FORGOTTEN, 0.0)
    assert outcome(farm, node, origin_of(node), 1) == (Use.FORGOTTEN, 0.0), "our own are not asked of others"


def test_a_node_of_an_older_version_is_not_asked(farm: Farm) -> None:
    maker, other = farm.add_nodes(2)
    farm.run(1)
    assert other.node.member is not None
    assert maker.node.member is not None
    membership = other.node.member.node.membership
    own = maker.node.member.node.own
    contact = membership.members[own]
    assert isinstance(contact, Contact)
    older = Contact(contact.node, contact.host, contact.port, contact.incarnation, contact.state)
    membership.members[own] = older  # type: ignore[index]
    origin = origin_of(maker)
    assert outcome(farm, other, origin, 1)[0] is Use.FORGOTTEN
    assert maker.node.core.authenticator.use_nonce(origin, 1) is Use.FIRST, "it was not asked to mark the count"
