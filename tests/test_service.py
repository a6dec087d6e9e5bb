"""The composition root: the secret, the order of start and stop, what the console is told, faults that are caught."""

from __future__ import annotations

import errno
import gc
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from farm.config import ConfigError
from farm.service import Node, make_service
from farm.sip import digest
from farm.sip.hop import Hop
from farm.sip.uri import parse_uri
from farm.transport.layer import ListenError
from tests.support.farms import NODE, Farm, make_config
from tests.support.network import Network
from tests.support.parties import exchange, set_up_call

SQLITE = {"backend": "sqlite"}


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes."""
    made = Farm(tmp_path)
    yield made
    made.close()


def build(directory: Path, **sections: Any) -> Node:
    """A node that is not started."""
    host = Network().add_host(NODE)
    config = make_config("n1", NODE, directory, **sections)
    return Node(config, host, clock=host.seconds, wall=host.wall_time)


# The secret


def test_the_first_start_makes_a_secret_that_only_the_node_can_read(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        build(tmp_path, store=SQLITE)
    finally:
        os.umask(before)
    secret = tmp_path / "n1" / "secret"
    assert len(secret.read_bytes()) == 32
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700


def knows_branches_of(node: Node, other: Node) -> bool:
    """Whether a node knows the branches that another one made."""
    return node.core.tokens.is_branch(other.core.tokens.make_branch(other.core.tokens.loop_part(["x"])), "")


def test_the_secret_outlives_the_process(tmp_path: Path) -> None:
    assert knows_branches_of(build(tmp_path, store=SQLITE), build(tmp_path, store=SQLITE))


def test_two_nodes_have_two_secrets(tmp_path: Path) -> None:
    assert not knows_branches_of(build(tmp_path / "a", store=SQLITE), build(tmp_path / "b", store=SQLITE))


def test_a_node_that_keeps_nothing_makes_no_file_and_has_a_new_secret_each_time(tmp_path: Path) -> None:
    assert not knows_branches_of(build(tmp_path), build(tmp_path))
    assert not (tmp_path / "n1").exists()


def test_a_secret_that_is_too_short_is_refused_with_what_to_do(tmp_path: Path) -> None:
    secret = tmp_path / "n1" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"short")
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, store=SQLITE)
    assert str(caught.value) == f"node.state_dir: {secret}: shorter than 32 bytes; remove it to have a new one made"
    assert secret.read_bytes() == b"short"


def test_a_state_dir_that_is_a_file_or_holds_a_secret_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "n1").write_text("a file")
    with pytest.raises(ConfigError, match=r"node\.state_dir: .*n1/secret: (Not a directory|File exists)"):
        build(tmp_path, store=SQLITE)
    (tmp_path / "n1").unlink()
    (tmp_path / "n1" / "secret").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"node\.state_dir: .*n1/secret: Is a directory"):
        build(tmp_path, store=SQLITE)


def test_a_state_dir_that_may_not_be_read_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "makedirs", refuse)  # the tests may run as root, who may read everything
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, store=SQLITE)
    assert str(caught.value) == f"node.state_dir: {tmp_path}/n1/secret: Permission denied"


def test_nodes_with_one_nonce_key_file_take_each_other_s_nonces(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32 + b"\n")
    auth = {"nonce_key_file": str(key)}
    farm = Farm(tmp_path)
    nodes = [farm.add_node("a", NODE, auth=auth), farm.add_node("b", "192.0.2.2", auth=auth)]
    alice = farm.add_party("alice")
    farm.run(1.0)  # what was made in the second in which a process began may have been used before that
    sent = alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
    challenge = alice.expect(401)
    alice.target = ("192.0.2.2", 5060)
    alice.ask_again(sent, challenge, to=f"<{alice.aor}>", headers=[f"Contact: <{alice.contact}>"])
    alice.expect(200)
    assert [node.value("registrations") for node in nodes] == [0, 1]
    farm.close()


@pytest.mark.parametrize(("content", "problem"), [(None, "No such file or directory"), (b"x" * 31, "32 bytes or more")])
def test_a_bad_nonce_key_file_is_one_clear_line(tmp_path: Path, content: bytes | None, problem: str) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, auth={"nonce_key_file": str(key)})
    assert str(caught.value).startswith(f"auth.nonce_key_file: {key}: ")
    assert problem in str(caught.value)


# Start and stop


def test_a_restarted_node_knows_its_registrations_before_it_says_it_is_ready(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE)
    alice = farm.add_party("alice")
    alice.register()
    farm.run(1)
    node.kill()
    node.node = Node(node.config, node.host, clock=node.seconds, wall=node.host.wall_time)
    node.node.privilegedStartService()
    assert not node.node.reports.ready()
    assert node.value("registrations") == 0
    node.node.startService()
    assert node.node.reports.ready()
    assert node.value("registrations") == 1


def test_a_port_in_use_is_refused_before_anything_is_read(farm: Farm) -> None:
    farm.add_node()
    config = make_config("n2", NODE, farm.directory)
    second = Node(config, farm.node.host, clock=farm.node.seconds, wall=farm.node.host.wall_time)
    with pytest.raises(ListenError) as caught:
        second.privilegedStartService()
    assert str(caught.value) == f"cannot listen on udp:{NODE}:5060: the port is in use by another program"


def test_an_admin_port_in_use_is_refused(farm: Farm) -> None:
    farm.add_node(admin={"http": "127.0.0.1:9464"})
    config = make_config(
        "n2", "192.0.2.2", farm.directory, sip={"listen": [f"udp:{NODE}:5070"]}, admin={"http": "127.0.0.1:9464"}
    )
    second = Node(config, farm.node.host, clock=farm.node.seconds, wall=farm.node.host.wall_time)
    second.privilegedStartService()
    with pytest.raises(CannotListenError):
        second.startService()
    assert not second.reports.ready()


def test_a_stopped_node_leaves_no_socket_timer_or_file_behind(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE, admin={"http": "127.0.0.1:9464"})
    alice = farm.add_party("alice", transport="tcp")
    alice.register()
    node.stop()
    assert not node.node.reports.ready()
    assert node.host.getDelayedCalls() == []
    assert not node.host.connections
    assert node.host._udp == {}
    assert node.host._tcp == {}
    assert node.node.records._journal is None
    node.start()
    assert node.value("registrations") == 1


def test_a_fault_of_ours_while_calls_are_ended_does_not_keep_the_journal_from_being_written(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = farm.add_node(store=SQLITE)
    farm.add_party("alice").register()

    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr("farm.proxy.proxy.Proxy.end_calls", fail)
    node.stop()
    assert len(farm.faults.texts) == 1
    node.start()
    assert node.value("registrations") == 1


def test_a_node_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    node = build(tmp_path)
    done: list[object] = []
    stopping: Deferred[object] = node.stopService()
    stopping.addBoth(done.append)
    assert done == [None]


def test_questions_to_dns_end_with_the_node_and_the_caller_is_answered(farm: Farm) -> None:
    node = farm.add_node()
    farm.add_zone({}).silent = True
    alice = farm.add_party("alice")
    alice.ask("INVITE", "sip:zoe@elsewhere.net")
    farm.run(1)
    node.stop()
    assert node.host.getDelayedCalls() == []
    assert alice.received[-1].status == 504


def test_the_service_that_twistd_gets_spares_the_collector_the_bindings(tmp_path: Path) -> None:
    before = gc.get_threshold()
    host = Network().add_host(NODE)
    try:
        service = make_service(make_config("n1", NODE, tmp_path), host)
        assert isinstance(service, Node)
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_freeze_count() > 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def test_what_comes_while_the_records_are_still_being_read_is_told_to_come_again(farm: Farm) -> None:
    """A 404, or a challenge that no password answers, would be believed."""
    node = farm.add_node()
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    ours, theirs = set_up_call(alice, bob)
    node.node.records.restoring = True
    for method, uri in (("REGISTER", "sip:example.com"), ("INVITE", bob.aor), ("OPTIONS", "sip:example.com")):
        sent = alice.request(method, uri)
        answer = alice.expect(503)
        assert answer.first("retry-after") == "2"
        if method == "INVITE":
            alice.acknowledge(sent, answer)
    assert node.value("sip_rejected", "restoring") == 3
    exchange(ours, theirs, "BYE")  # for what is up no record is wanted
    node.node.records.restoring = False
    exchange(*set_up_call(alice, bob), "BYE")


# SIGHUP


def test_a_reload_changes_what_a_running_node_can_change_and_names_the_rest(farm: Farm) -> None:
    node = farm.add_node(auth={"open": True})
    config = make_config(
        "n1",
        NODE,
        farm.directory,
        sip={"domains": ["example.com", "example.net"], "farm_name": "sip.example.com"},
        limits={"requests_per_second": 1, "burst": 1, "transactions": 7},
        log={"reason_lines_per_second": 9},
        gateways=[{"prefix": "+49", "to": ["sip:192.0.2.77"], "probe_seconds": 5.0}],
    )
    merged = node.node.reload(config)
    assert merged.waiting == ["sip.farm_name"]
    assert {"sip.domains", "auth.open", "limits.burst", "gateways"} <= set(merged.changed)
    assert node.node.config.sip.domains == ("example.com", "example.net")
    assert node.node.config.sip.farm_name == ""
    assert node.node.transactions.max_transactions == 7
    assert node.node.rejections.lines_per_second == 9
    alice = farm.add_party("alice", account=False)
    alice.request("OPTIONS", "sip:example.com")
    alice.request("OPTIONS", "sip:example.com")
    farm.run(10)
    assert node.value("sip_rejected", "request-rate") >= 1
    assert any("OPTIONS sip:192.0.2.77 " in line for line in farm.ladder), "the new gateway is probed"
    assert node.node.reload(node.config).waiting == []
    assert [gateway for gateway, _ in node.node.core.gateways.states()] == []


def test_a_reload_that_is_refused_has_changed_nothing(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    node = farm.add_node()

    def absent(_: bytes) -> str:
        raise ValueError("unsupported hash type")

    monkeypatch.setitem(digest._HASHES, "SHA-512-256", absent)
    config = make_config("n1", NODE, farm.directory, auth={"algorithms": ["SHA-512-256"]}, limits={"transactions": 7})
    with pytest.raises(ConfigError, match=r"^auth\.algorithms: this build of OpenSSL cannot compute SHA-512-256"):
        node.node.reload(config)
    assert node.node.config is node.config
    assert node.node.transactions.max_transactions == node.config.limits.transactions


# One process on one state directory


def test_a_second_process_on_one_state_directory_is_refused_whatever_else_it_is_told(farm: Farm) -> None:
    farm.add_node(store=SQLITE)
    config = make_config(
        "n1",
        "192.0.2.2",
        farm.directory,
        store=SQLITE,
        sip={"listen": [f"udp:{NODE}:5070"]},
        admin={"control": str(farm.directory / "other.sock"), "http": ""},
    )
    second = Node(config, farm.node.host, clock=farm.node.seconds, wall=farm.node.host.wall_time)
    with pytest.raises(ConfigError, match="in use by another process"):
        second.privilegedStartService()


# Faults


def test_a_journal_that_cannot_be_opened_stops_neither_the_start_nor_calls(farm: Farm) -> None:
    (farm.directory / "n1" / "journal.sqlite").mkdir(parents=True)
    node = farm.add_node(store=SQLITE)
    alice = farm.add_party("alice")
    alice.register()
    assert node.node.reports.ready()
    (problem,) = node.node.reports.problems()
    assert problem.startswith("the journal cannot be opened: ")
    assert node.value("journal_errors", "open") == 1


# What the console and the pages are told


def test_the_status_says_what_runs_and_how_much_it_holds(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE)
    alice = farm.add_party("alice")
    alice.register()
    farm.run(10)
    status = node.node.reports.status()
    assert {key: status[key] for key in ("name", "registrations", "users", "unwritten_records", "gateways")} == {
        "name": "n1",
        "registrations": 1,
        "users": 1,
        "unwritten_records": 0,
        "gateways": {},
    }
    assert status["uptime_seconds"] == 10
    assert status["listen"] == [f"udp:{NODE}:5060", f"tcp:{NODE}:5060"]
    farm.settle()
    assert node.node.reports.status()["transactions"] == 0


def test_bindings_are_shown_and_removed_for_good(farm: Farm) -> None:
    node = farm.add_node()
    bob = farm.add_party("bob", transport="tcp")
    bob.register(contact=f"<{bob.contact}>;q=0.5", expires=600, headers=["User-Agent: phone/1"], call_id="reg-1")
    farm.run(100)
    now = node.seconds()
    found = node.node.reports.find_bindings(bob.aor, now)
    assert isinstance(found, list)
    (shown,) = found
    received = shown.pop("received")
    assert isinstance(received, str)
    assert received.startswith(f"tcp:{bob.address}:")
    assert shown == {
        "contact": bob.contact,
        "q": 0.5,
        "expires_in": 500,
        "call_id": "reg-1",
        "path": [],
        "instance": "",
        "user_agent": "phone/1",
        "node": "",
    }
    assert node.node.reports.remove_bindings(bob.aor, now) == 1
    assert node.node.reports.find_bindings(bob.aor, now) == []
    assert node.node.reports.find_bindings("sip:nobody@example.com", now) is None
    bob.register()
    assert len(run_found(node.node, bob.aor, now)) == 1


def run_found(node: Node, aor: str, now: float) -> list[dict[str, object]]:
    """The bindings that are at hand."""
    found = node.reports.find_bindings(aor, now)
    assert isinstance(found, list)
    return found


def test_bans_are_shown_and_lifted(farm: Farm) -> None:
    node = farm.add_node(limits={"failures_per_minute": 1})
    for _ in range(3):
        node.node.limits.record_failure("198.51.100.7", node.seconds())
    (ban,) = node.node.reports.bans(node.seconds())
    assert ban.source == "198.51.100.7"
    assert node.value("sip_banned") == 1
    assert node.node.reports.lift_ban("198.51.100.7")
    assert not node.node.reports.lift_ban("198.51.100.7")
    assert node.value("sip_banned") == 0


def test_the_gauges_of_transactions_follow_their_states(farm: Farm) -> None:
    node = farm.add_node(auth={"open": True})
    alice, bob = farm.add_party("alice"), farm.add_party("bob")
    bob.register()
    sent = alice.request("INVITE", bob.aor)
    invite = bob.expect("INVITE")
    assert node.value("sip_transactions", "invite-client", "calling") == 1
    assert node.value("sip_transactions", "invite-server", "trying") == 1
    bob.answer(invite, 180)
    alice.expect(180)
    assert node.value("sip_transactions", "invite-client", "proceeding") == 1
    bob.answer(invite, 486)
    alice.acknowledge(sent, alice.expect(486))
    farm.settle()
    series = [values for values, _ in node.node.metrics.sip_transactions if node.value("sip_transactions", *values)]
    assert series == []


def test_the_whole_catalogue_can_be_scraped_after_traffic(farm: Farm) -> None:
    node = farm.add_node()
    farm.add_party("alice").register()
    text = node.node.metrics.render().decode()
    assert "sipfarm_registrations 1.0" in text
    assert "NaN" not in text


def test_a_rejection_is_logged_with_its_reason_and_without_credentials(farm: Farm) -> None:
    seen: list[LogEvent] = []
    observe: Any = seen.append
    globalLogPublisher.addObserver(observe)
    try:
        farm.add_node()
        alice = farm.add_party("alice")
        alice.password = "wrong"
        sent = alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
        alice.ask_again(sent, alice.expect(401), to=f"<{alice.aor}>")
        alice.expect(401)
    finally:
        globalLogPublisher.removeObserver(observe)
    rejected = [event for event in seen if event.get("reason") == "wrong-password"]
    assert len(rejected) == 1
    assert rejected[0]["source"] == alice.address
    assert "response=" not in "".join(f"{formatEvent(event)} {event}" for event in seen)


# What the settings make of the parts


@pytest.mark.parametrize(
    ("listen", "target", "expected"),
    [
        ([f"udp:{NODE}:5060"], "sip:x@192.0.2.9", [Hop("UDP", "192.0.2.9", 5060)]),
        ([f"tcp:{NODE}:5060"], "sip:x@192.0.2.9", [Hop("TCP", "192.0.2.9", 5060)]),
    ],
)
def test_a_node_sends_by_the_transports_it_listens_on(
    tmp_path: Path, listen: list[str], target: str, expected: list[Hop]
) -> None:
    node = build(tmp_path, sip={"listen": listen})
    assert node.locator.locate(parse_uri(target), 0.0, 500) == expected
