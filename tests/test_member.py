"""A node as a member of its overlay: what it says of itself, who may write what, and the signed configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from farm.config import ConfigError
from farm.member import Member, read_identity, stamp_node_of
from farm.overlay.wire import ALIVE, EDGE, LEFT, STORES, Contact
from farm.security.config_record import OverlayConfig
from farm.security.overlay_config import KIND as CONFIG
from farm.security.overlay_config import sign_config
from tests.support.certificates import (
    NOON,
    OVERLAY,
    Signer,
    make_certificate,
    make_signer,
    node_id,
    write_identity,
)
from tests.support.counts import read
from tests.support.farms import Farm, FarmNode, make_config

BOB = b"sip:bob@example.com"


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes."""
    made = Farm(tmp_path)
    yield made
    made.close()


def member_of(node: FarmNode) -> Member:
    member = node.node.member
    assert member is not None
    return member


def sign(
    sequence: int, *, signer: Signer | None = None, replicas: int = 3, domains: tuple[str, ...] = (), denied: int = 0
) -> bytes:
    """A configuration; the node of that number is denied."""
    config = OverlayConfig(sequence, OVERLAY, replicas, domains, denied=(node_id(denied),) if denied else ())
    return sign_config(config, (signer or make_signer()).key)


# Who it is


def test_the_identity_is_beside_the_state_unless_it_is_said_where(tmp_path: Path) -> None:
    config = make_config("n1", "192.0.2.1", tmp_path, overlay={"listen": "192.0.2.1:7400"})
    with pytest.raises(ConfigError, match=r"n1/identity/.* is missing"):
        read_identity(config, NOON)
    (tmp_path / "n1").mkdir()
    write_identity(tmp_path / "n1" / "identity", 1)
    assert read_identity(config, NOON).node_id == node_id(1)
    elsewhere = {"listen": "192.0.2.1:7400", "identity": str(tmp_path / "n1" / "identity")}
    with pytest.raises(ConfigError, match="is that of n1, and this node is n2"):
        read_identity(make_config("n2", "192.0.2.2", tmp_path, overlay=elsewhere), NOON)


def test_the_number_in_a_node_s_stamps_is_its_node_id_s_beginning() -> None:
    assert stamp_node_of(b"\xff" * 32) == 2**63 - 1
    assert len({stamp_node_of(node_id(number)) for number in range(1, 250)}) == 249


def test_a_node_tells_where_it_is_what_it_does_and_where_it_speaks_sip(farm: Farm) -> None:
    one, two = farm.add_nodes(2)
    (seen,) = member_of(two).node.membership.live()
    assert (seen.node, seen.host, seen.port, seen.zone, seen.name) == (node_id(1), "192.0.2.1", 7400, "east", "n1")
    assert seen.roles == STORES | EDGE
    assert seen.sip == one.config.sip.listen
    assert member_of(one).stores


def test_where_strangers_reach_a_node_may_be_elsewhere(farm: Farm) -> None:
    dns = {"zone": "sip.example.com", "listen": ["192.0.2.1:53"], "addresses": ["198.51.100.1"]}
    farm.add_zone({})
    farm.add_member(dns=dns)
    two = farm.add_member()
    farm.wait_until_synchronised()
    (seen,) = member_of(two).node.membership.live()
    assert seen.sip == ("udp:198.51.100.1:5060", "tcp:198.51.100.1:5060")
    assert seen.dns == ("198.51.100.1",)


def test_a_node_that_leaves_says_so_at_once_and_takes_it_back(farm: Farm) -> None:
    one, two = farm.add_nodes(2)
    said: list[tuple[int, bool]] = []
    receive = member_of(two).member_changed

    def listen(before: Contact | None, after: Contact, cause: str, now: float) -> None:
        said.append((after.state, after.draining))
        receive(before, after, cause, now)

    member_of(two).member_changed = listen  # type: ignore[method-assign]
    one.node.drain()
    farm.run(5.0)
    assert said[0] == (ALIVE, True)
    assert said[-1] == (LEFT, True)
    one.node.undrain()
    farm.wait_until_synchronised()
    assert said[-1] == (ALIVE, False)


def test_an_advertised_address_is_the_one_that_others_dial(farm: Farm) -> None:
    farm.add_zone({})
    one = farm.add_member(overlay={"listen": "0.0.0.0:7400", "advertise": "192.0.2.1:7400"})
    farm.add_member()
    farm.wait_until_synchronised()
    assert member_of(one).node.membership.own.host == "192.0.2.1"


def test_another_node_is_found_by_the_number_in_its_stamps(farm: Farm) -> None:
    one, _ = farm.add_nodes(2)
    member = member_of(one)
    found = member.find_by_stamp(stamp_node_of(node_id(2)))
    assert found is not None
    assert found.name == "n2"
    assert member.find_by_stamp(stamp_node_of(node_id(1))) is member.node.membership.own
    assert member.find_by_stamp(5) is None


# Across restarts


def incarnation_of(node: FarmNode) -> int:
    return member_of(node).node.membership.own.incarnation


def test_each_start_is_a_later_incarnation_although_the_wall_clock_was_set_back(farm: Farm) -> None:
    farm.add_nodes(1, store={"backend": "sqlite"})
    node = farm.node
    first = incarnation_of(node)
    assert first == int((NOON + 0.0) * 1000)
    node.host.wall_offset = -3600.0
    node.restart()
    farm.run(1)
    assert incarnation_of(node) == first + 1
    node.host.wall_offset = 3600.0
    node.restart()
    assert incarnation_of(node) > first + 3_000_000


@pytest.mark.parametrize("content", ["", "nonsense", "9" * 400])
def test_a_stored_incarnation_that_is_none_is_no_obstacle(farm: Farm, content: str) -> None:
    (farm.directory / "n1").mkdir()
    (farm.directory / "n1" / "incarnation").write_text(content)
    farm.add_member(store={"backend": "sqlite"})
    assert incarnation_of(farm.node) >= int(NOON * 1000)


def test_a_node_that_keeps_nothing_writes_no_file(farm: Farm) -> None:
    farm.add_nodes(2)
    farm.run(20)
    assert not list(farm.directory.rglob("incarnation"))
    assert not list(farm.directory.rglob("members"))


def test_a_node_remembers_the_others_and_finds_them_without_its_seeds(farm: Farm) -> None:
    nodes = farm.add_nodes(3, store={"backend": "sqlite"})
    farm.run(20)
    identity = nodes[2].config.overlay.identity
    overlay = {"listen": "192.0.2.3:7400", "identity": identity, "seeds": ["192.0.2.99:7400"]}
    nodes[2].config = make_config("n3", "192.0.2.3", farm.directory, store={"backend": "sqlite"}, overlay=overlay)
    nodes[2].restart()
    farm.wait_until_synchronised()
    assert nodes[2].synchronised


# Who may write what


def test_only_nodes_of_the_edge_write_and_only_for_domains_of_the_overlay(farm: Farm) -> None:
    one, _ = farm.add_nodes(2)
    member = member_of(one)
    assert member.refuse(node_id(2), "registration", BOB) == ""
    assert member.refuse(node_id(2), "registration", b"sip:bob@elsewhere.net") == "foreign-domain"
    assert member.refuse(node_id(2), CONFIG, OVERLAY.encode()) == "wrong-kind"
    assert member.refuse(node_id(2), "keys", OVERLAY.encode()) == "", "any node may make the farm's next key"
    assert member.refuse(node_id(2), "keys", BOB) == "foreign-domain"
    assert member.refuse(node_id(9), "keys", OVERLAY.encode()) == "wrong-role"
    assert member.refuse(node_id(9), "registration", BOB) == "wrong-role"
    member.node.roles[node_id(2)] = STORES
    assert member.refuse(node_id(2), "registration", BOB) == "wrong-role"


def test_domains_may_be_written_in_capitals(farm: Farm) -> None:
    one, _ = farm.add_nodes(2, sip={"domains": ["Example.COM"]})
    assert member_of(one).refuse(node_id(2), "registration", BOB) == ""
    bob = farm.add_party("bob", target="192.0.2.2")
    bob.register()
    assert one.contacts_of(bob.aor) == [bob.contact]


def test_a_node_that_is_no_edge_registers_nobody_at_others(farm: Farm) -> None:
    farm.add_zone({})
    farm.add_member()
    farm.add_member(roles=("store",))
    farm.wait_until_synchronised()
    assert member_of(farm.nodes[0]).refuse(node_id(2), "registration", BOB) == "wrong-role"
    assert member_of(farm.nodes[1]).node.membership.own.sip == ()


# The signed configuration


def test_a_signed_configuration_is_in_force_on_all_nodes_at_once(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    assert member_of(nodes[0]).new_config(sign(7, replicas=2, domains=("example.net",)))
    farm.run(1)
    for node in nodes:
        member = member_of(node)
        assert member.config_sequence == 7
        assert member.node.ownership.replicas == 2
        assert member.refuse(node_id(2 if node is nodes[0] else 1), "registration", BOB) == "foreign-domain"
    assert not member_of(nodes[0]).new_config(sign(7, replicas=2)), "it is no news"
    assert member_of(nodes[1]).new_config(sign(8))
    farm.run(1)
    assert [member_of(node).config_sequence for node in nodes] == [8, 8, 8]
    assert member_of(nodes[0]).refuse(node_id(2), "registration", BOB) == "", "each node's own domains again"


def test_an_older_configuration_changes_nothing(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    member = member_of(nodes[0])
    member.new_config(sign(7))
    assert not member.new_config(sign(6, replicas=1, denied=2))
    assert member.node.ownership.replicas == 3
    assert node_id(2) not in member.identity.denied


def test_a_configuration_that_our_authority_has_not_signed_is_refused(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    member = member_of(nodes[0])
    with pytest.raises(ValueError, match="signed"):
        member.new_config(sign(9, signer=make_signer("foreign")))
    member.config_received(sign(9, signer=make_signer("foreign")), nodes[0].seconds())
    assert read(nodes[0].node.metrics.peer_rejections.child("bad-record")) == 1
    assert member.config_sequence == 0


def test_a_node_that_is_denied_is_out_at_once_and_stays_out(farm: Farm) -> None:
    nodes = farm.add_nodes(3)
    member_of(nodes[0]).new_config(sign(7, denied=3))
    farm.run(30)
    for node in nodes[:2]:
        assert [contact.node for contact in member_of(node).node.membership.live()] == [
            node_id(2 if node is nodes[0] else 1)
        ]
        assert not member_of(node).node.links.is_open(node_id(3))
    assert read(nodes[0].node.metrics.peer_rejections.child("denied")) > 0


def test_a_configuration_outlives_a_restart_and_reaches_who_was_away(farm: Farm) -> None:
    nodes = farm.add_nodes(3, store={"backend": "sqlite"})
    nodes[2].kill()
    member_of(nodes[0]).new_config(sign(7, replicas=2))
    farm.run(2)
    nodes[0].restart()
    assert member_of(nodes[0]).config_sequence == 7
    assert member_of(nodes[0]).node.ownership.replicas == 2
    nodes[2].start()
    farm.wait_until_synchronised()
    farm.run(1)
    assert member_of(nodes[2]).config_sequence == 7


@pytest.mark.parametrize("asked", [True, False], ids=["sighup", "by-itself"])
def test_a_configuration_that_is_put_beside_the_certificate_is_taken_and_told(farm: Farm, asked: bool) -> None:
    nodes = farm.add_nodes(3)
    (farm.directory / "identity1" / "overlay.config").write_bytes(sign(9, replicas=2, denied=3))
    if asked:
        nodes[0].node.reload(nodes[0].config)
    farm.run(1 if asked else 61)
    assert [member_of(node).config_sequence for node in nodes[:2]] == [9, 9]
    assert member_of(nodes[1]).node.ownership.replicas == 2
    assert not member_of(nodes[0]).node.links.is_open(node_id(3))


def test_an_identity_that_broke_on_disk_is_told_and_the_old_one_stays(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    (farm.directory / "identity1" / "cert.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match="is no certificate in PEM"):
        nodes[0].node.reload(nodes[0].config)
    farm.run(61)
    assert nodes[0].synchronised
    assert farm.faults.texts == []


def test_a_certificate_with_other_roles_waits_for_a_restart_and_the_rest_of_a_reload_does_not(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    node = nodes[0].node
    write_identity(farm.directory / "identity1", 1, certificate=make_certificate(1, zones=["elsewhere"]))
    config = msgspec.structs.replace(node.config, limits=msgspec.structs.replace(node.config.limits, transactions=77))
    merged = node.reload(config)
    assert (merged.changed, merged.waiting) == (["limits.transactions"], ["overlay.identity"])
    assert node.transactions.max_transactions == 77
    assert nodes[0].value("settings_waiting") == 1
    farm.run(121)
    (problem,) = node.reports.problems()
    assert problem.endswith("has another zone or other roles than the running node: restart it")
    assert member_of(nodes[0]).identity.zone != "elsewhere"


# Leaving


def test_leaving_is_over_when_all_is_handed_over(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    assert farm.wait(member_of(nodes[0]).leave(), 35) is True
    assert nodes[0].state == "left"


def test_whoever_leaves_and_nobody_takes_anything_gives_up_in_time(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    farm.add_party("bob").register()
    nodes[1].host.pause()
    before = farm.network.clock.seconds()
    assert farm.wait(member_of(nodes[0]).leave(2.0), 35) in (True, False)
    assert farm.network.clock.seconds() - before <= 2.1
    assert nodes[0].state == "left"
    nodes[1].host.resume()


def test_whoever_is_told_to_hurry_leaves_at_once(farm: Farm) -> None:
    nodes = farm.add_nodes(2)
    farm.add_party("bob").register()
    nodes[1].host.pause()
    leaving = member_of(nodes[0]).leave()
    member_of(nodes[0]).hurry()
    farm.wait(leaving, 0.5)
    assert nodes[0].state == "left"
    nodes[1].host.resume()


# Problems


def test_what_is_wrong_with_the_local_link_is_a_problem(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = farm.add_nodes(2)
    assert member_of(one).problems() == []

    class Broken:
        problem = "no multicast on this machine: no such device"

    monkeypatch.setattr(member_of(one), "_multicast", Broken())
    assert one.node.reports.problems() == ["no multicast on this machine: no such device"]


def test_an_address_without_a_port_is_one_clear_line(farm: Farm) -> None:
    with pytest.raises(ConfigError, match=r"overlay\.listen"):
        farm.add_member(overlay={"listen": "192.0.2.1"})
    farm.nodes.clear()
