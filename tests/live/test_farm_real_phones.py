"""Real phones (baresip) with passwords, each at a node of its own, call each other while another node dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.live_farm import LiveFarm
from tests.support.phones import Phone
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]


def talk(caller: Phone, callee: Phone, ender: Phone) -> None:
    """One call, which the caller or the callee ends."""
    caller.command("dial", f"sip:{callee.user}@example.com")
    assert callee.expect("CALL_INCOMING")["peeruri"].startswith(f"sip:{caller.user}@")
    callee.command("accept")
    caller.expect("CALL_ESTABLISHED")
    callee.expect("CALL_ESTABLISHED")
    ender.command("hangup")
    caller.expect("CALL_CLOSED")
    callee.expect("CALL_CLOSED")


def test_phones_of_different_nodes_and_transports_call_each_other_also_when_a_third_node_is_gone(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    need("baresip")
    users = ("alice", "bob", "carol")
    homes = dict(zip(users, hosts(3), strict=True))
    farm = make_farm(open_farm=False)
    farm.start()
    file = tmp_path / "users.csv"
    file.write_text("".join(f"{user},{user}-secret\n" for user in users))
    farm.console(2, "user", "import", str(file))

    def make_phone(user: str, index: int, transport: str) -> Phone:
        proxy = farm.hosts[index]
        return Phone(user, f"{user}-secret", homes[user], proxy, tmp_path / user, transport=transport)

    with (
        make_phone("alice", 0, "tcp") as alice,
        make_phone("bob", 1, "udp") as bob,
        make_phone("carol", 2, "udp") as carol,
    ):
        for phone in (alice, bob, carol):
            phone.register()
        farm.wait_registrations(3, 10)
        for caller, callee in ((alice, bob), (bob, alice), (carol, alice), (carol, bob), (alice, carol)):
            for ender in (caller, callee):
                talk(caller, callee, ender)

        farm.kill(2)
        for caller, callee in ((alice, bob), (bob, alice)):
            for ender in (caller, callee):
                talk(caller, callee, ender)
        # And once everybody knows that it is gone: the records have two owners left.
        farm.wait_state(0, 2, "dead")
        talk(bob, alice, alice)
