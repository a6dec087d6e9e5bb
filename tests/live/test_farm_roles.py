"""Nodes with one role each, enrolled by the console: two at the edge that phones talk to, two inside that keep all."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable

from tests.support.agents import Agent, make_call
from tests.support.live_farm import LiveFarm, name_of
from tests.support.nodes import installed

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]


def issue(farm: LiveFarm, host: str, role: str) -> None:
    """Enroll a node as an operator does; its identity is where its configuration looks for it."""
    command = [installed("sipfarm"), "ca", "issue", name_of(host), "--role", role, "--json"]
    command += ["--dir", str(farm.authority_directory), "--out", str(farm.identity_of(host))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    farm.node_ids.append(json.loads(done.stdout)["node_id"])


def answers_tcp(host: str, port: int) -> bool:
    """Whether anybody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_phones_talk_to_the_edge_and_their_registrations_are_kept_inside(make_farm: MakeFarm, hosts: Hosts) -> None:
    phone_host, caller_host = hosts(2)
    roles: dict[str, str] = {}

    def make_listeners(host: str) -> list[str]:
        return [f"udp:{host}:5060", f"tcp:{host}:5060"] if roles[host] == "edge" else []

    farm = make_farm(4, enroll=False, make_listeners=make_listeners)
    for host, role in zip(farm.hosts, ("edge", "edge", "store", "store"), strict=True):
        roles[host] = role
        issue(farm, host, role)
        farm.start_node(host)
    for index in range(4):
        farm.wait_ready(index)
    assert [answers_tcp(host, 5060) for host in farm.hosts] == [True, True, False, False]
    members = farm.ask(0, "members")["members"]
    assert {row["name"]: row["roles"] for row in members} == {name_of(host): [roles[host]] for host in farm.hosts}
    with (
        Agent(farm[0].sip, host=phone_host, user="bob", transport="tcp") as bob,
        Agent(farm[1].sip, host=caller_host, user="alice") as alice,
    ):
        assert bob.register().status == 200
        assert [node.metric("registrations") for node in farm] == [0, 0, 1, 1]
        make_call(alice, bob)
        farm.kill(2)
        farm.wait_state(1, 2, "dead")
        make_call(alice, bob)
        assert bob.register().status == 200
        farm.start_again(2)
        farm.stop(3)
        make_call(alice, bob)
    print(farm.console(2, "status"))


def test_a_listener_where_the_certificate_allows_none_is_a_mistake_that_check_and_start_name(
    make_farm: MakeFarm, hosts: Hosts
) -> None:
    farm = make_farm(1, enroll=False)
    issue(farm, farm.hosts[0], "store")
    program = farm.start_node(farm.hosts[0])  # with the listeners that every node of a test has
    assert program.wait(20) != 0
    assert "sip.listen: the certificate has the role store alone" in program.output()
    done = subprocess.run(
        [installed("sipfarm"), "check", str(program.config)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "the role store alone" in done.stderr
