"""Who may not join the farm learns nothing, changes nothing, costs nothing, and is counted by the reason."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from farm.security.authority import Authority, make_authority
from farm.security.certificate import ROLES
from tests.support.agents import Agent
from tests.support.live_farm import OVERLAY, PEER_PORT, LiveFarm, name_of
from tests.support.nodes import NodeProgram
from tests.support.processes import wait_until
from tests.support.strangers import Stranger, forge_identity, make_hello

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]
UNKNOWN = bytes(range(32))
FRAME_BYTES = 256 * 1024


def open_files(node: NodeProgram) -> int:
    """How many descriptors a node has."""
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def rejections(node: NodeProgram, reason: str = "") -> float:
    """How many peers a node has refused, for that reason or for any."""
    labels = {"reason": reason} if reason else {}
    return node.metric("peer_rejections_total", **labels)


def test_strangers_are_refused_and_counted_and_leave_nothing_behind(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    (host,) = hosts(1)
    farm = make_farm(2)
    farm.start()
    node = farm[0]
    door = (farm.hosts[0], PEER_PORT)
    members = farm.members(0)
    files = open_files(node)

    ours = farm.authority_directory
    make_authority(str(tmp_path / "foreign"), OVERLAY, time.time())
    foreign = Authority(str(tmp_path / "foreign"))
    foreign.issue("stranger", "", sum(ROLES.values()), time.time(), out=str(tmp_path / "wrong-ca"))
    member = Path(farm.authority.issue("member", "", sum(ROLES.values()), time.time()).directory)
    member_id = bytes.fromhex(farm.authority.nodes()[-1].node_id)
    denied = Path(farm.authority.issue("denied", "", sum(ROLES.values()), time.time()).directory)
    farm.console(1, "ca", "deny", "denied", "--dir", str(ours))
    wait_until(
        lambda: farm.ask(0, "status")["overlay"]["config_sequence"] == 2, 5, "the first node has it from the other"
    )
    hello = b""  # a right one, made when it is sent: what is late by seconds is refused for its clock
    garbage = os.urandom(4000)

    for reason, identity, greeting, said in (
        ("no-certificate", None, hello, b""),
        ("wrong-ca", tmp_path / "wrong-ca", hello, b""),
        ("wrong-overlay", forge_identity(tmp_path / "overlay", ours, "other.example", UNKNOWN), hello, b""),
        ("expired", forge_identity(tmp_path / "expired", ours, OVERLAY, UNKNOWN, days=(-3.0, -1.0)), hello, b""),
        ("denied", denied, hello, b""),
        ("same-node-id", Path(node.config.parent / "state" / "identity"), hello, b""),
        ("node-id-mismatch", member, make_hello(OVERLAY, UNKNOWN, host), b""),
        ("wrong-overlay", member, make_hello("other.example", member_id, host), b""),
        ("clock", member, make_hello(OVERLAY, member_id, host, ahead=10.0), b""),
        ("clock", member, make_hello(OVERLAY, member_id, host, ahead=-10.0), b""),
        ("no-hello", member, None, struct.pack(">I", len(garbage)) + garbage),
        ("no-hello", member, None, struct.pack(">I", FRAME_BYTES)),
        ("no-hello", member, None, b""),
        ("oversize-frame", member, hello, struct.pack(">I", FRAME_BYTES + 1) + garbage),
        ("bad-frame", member, hello, struct.pack(">I", len(garbage)) + garbage),
    ):
        before = rejections(node, reason)
        stranger = Stranger(door, host, identity)
        if greeting is not None:
            stranger.send(greeting or make_hello(OVERLAY, member_id, host))
        stranger.send(said)
        seconds = stranger.wait_closed()
        assert rejections(node, reason) == before + 1, reason
        assert seconds < (3.0 if said or greeting is not None else 8.0), reason
    for plain in (b"GET / HTTP/1.1\r\n\r\n", b"INVITE sip:bob@example.com SIP/2.0\r\n\r\n", garbage):
        before = rejections(node, "handshake")
        stranger = Stranger(door, host, plain=True)
        stranger.send(plain)
        stranger.wait_closed(3.0)
        assert rejections(node, "handshake") == before + 1

    # Many at once who say nothing, or next to nothing: the oldest make room, and none stays.
    silent = [Stranger(door, host, plain=True) for _ in range(300)]
    for stranger in silent:
        stranger.send(b"\x16")
    wait_until(lambda: rejections(node, "too-many-links") >= 90, 3, "the oldest are turned away")
    wait_until(lambda: open_files(node) < files + 220, 3, "and gone")
    with Agent(node.sip, host=host, user="bob") as bob:
        assert bob.register().status == 200, "the farm serves meanwhile"
    wait_until(lambda: open_files(node) <= files + 2, 15, "all strangers are gone", every=0.2)
    assert rejections(node, "handshake-timeout") >= 190
    for stranger in silent:
        stranger.close()
    memory = node.rss_bytes()
    for _ in range(600):
        stranger = Stranger(door, host, plain=True)
        stranger.send(garbage)
        stranger.close()
    wait_until(lambda: open_files(node) <= files + 2, 10, "all strangers are gone", every=0.2)
    grown = node.rss_bytes() - memory
    print(f"600 strangers more: {grown >> 10} KiB more memory")
    assert grown < 4 << 20

    for index in (0, 1):
        known = farm.members(index)
        assert {node: state for node, state in known.items() if state == "alive"} == members
        assert UNKNOWN.hex() not in known
    assert len(farm.contacts(1, "bob")) == 1
    lines = node.output().count("\n")
    assert lines < 150, f"{lines} lines of log for some hundreds of refusals"


def test_a_node_that_is_denied_is_out_at_once_everywhere(make_farm: MakeFarm, hosts: Hosts) -> None:
    farm = make_farm()
    farm.start()
    with Agent(farm[2].sip, host=hosts(1)[0], user="bob") as bob:
        assert bob.register().status == 200
    farm.console(0, "ca", "deny", name_of(farm.hosts[2]), "--dir", str(farm.authority_directory))
    ordered = time.monotonic()
    wait_until(lambda: farm[0].metric("links") == farm[1].metric("links") == 1, 3, "its links are closed")
    print(f"its links were closed {time.monotonic() - ordered:.2f} s after the order")
    for index in (0, 1):
        farm.wait_state(index, 2, "dead")
        assert len(farm.contacts(index, "bob")) == 1
    # It tries to come back, in vain, also after a restart.
    farm.kill(2)
    farm.start_again(2, wait=False)
    farm[2].wait_ready()
    wait_until(lambda: rejections(farm[0], "denied") >= 2 and rejections(farm[1], "denied") >= 2, 20, "it is refused")
    for index in (0, 1):
        assert farm.members(index)[farm.node_ids[2]] in ("dead", "left")
        assert farm.is_ready(index)
    assert farm[2].get("/readyz")[0] == 503
    assert farm.ask(2, "status")["overlay"]["state"] == "joining"
