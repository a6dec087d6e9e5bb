"""The location service: at once or later, what an operator removes, and what a restart makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from farm.overlay.clock import HybridClock
from farm.overlay.journal import Batch, Journal
from farm.overlay.local import LocalStore
from farm.overlay.scribe import restore
from farm.overlay.store import Full, Store
from farm.registrar.binding import RegistrationKind, bindings_of
from farm.registrar.location import Location
from farm.registrar.record import EMPTY
from farm.sip.status import SipError
from tests.registrar.desk import AOR, Desk

PHONE = "<sip:alice@192.0.2.101:5060>"
OTHER = "<sip:alice@192.0.2.102:5060>"


class Later:
    """A store whose answers have to be waited for."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.refuse = False

    async def get(self, kind: str, key: str, now: float) -> bytes | None:
        return self.store.get(kind, key, now)

    async def peek(self, kind: str, key: str, now: float) -> bytes | None:
        return self.store.peek(kind, key, now)

    async def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Full:
        return Full("records") if self.refuse else self.store.put(kind, key, delta, now)

    def begin_put(
        self, kind: str, key: str, delta: bytes, done: Callable[[bytes | Full, float], None], now: float
    ) -> None:
        raise AssertionError

    def items(self, kind: str, now: float) -> Iterable[tuple[str, bytes]]:
        return self.store.items(kind, now)


def wait(awaitable: object) -> object:
    assert isinstance(awaitable, Awaitable)

    async def waiting() -> object:
        return await awaitable

    return asyncio.run(waiting())


def test_nobody_is_where_nobody_registered() -> None:
    desk = Desk()
    assert desk.find() == []
    assert desk.location.read(AOR, desk.now) is EMPTY
    assert not desk.knows()


def test_what_is_remembered_is_known_although_nobody_is_there() -> None:
    desk = Desk()
    desk.register()
    desk.register(f"{PHONE};expires=0", 2)
    assert desk.uris() == []
    assert desk.knows()
    desk.now += 7261
    while desk.store.sweep(desk.now + 5):
        pass
    assert not desk.knows()


def test_an_operator_removes_all_and_the_phone_may_come_back() -> None:
    desk = Desk()
    desk.register(f"{PHONE}, {OTHER}", 7)
    assert desk.location.remove(AOR, desk.now) == 2
    assert desk.uris() == []
    assert desk.location.remove(AOR, desk.now) == 0
    assert desk.register(PHONE, 1).status == 200


def test_answers_that_are_elsewhere_come_later() -> None:
    desk = Desk()
    later = Later(LocalStore(desk.store))
    location = Location(later, desk.kind, desk.clock, desk.wall)
    assert wait(location.find(AOR, desk.now)) == ([], False)
    desk.register(f"{PHONE}, {OTHER}")
    assert [binding.uri for binding in wait(location.find(AOR, desk.now)).bindings] == desk.uris()  # type: ignore[attr-defined]
    later.refuse = True
    with pytest.raises(SipError, match="500"):
        wait(location.remove(AOR, desk.now))
    assert len(desk.uris()) == 2
    later.refuse = False
    assert wait(location.remove(AOR, desk.now)) == 2
    assert desk.uris() == []


def test_listing_shows_who_is_there_now() -> None:
    desk = Desk()
    desk.register()
    desk.register(to="<sip:bob@example.com>", contact="<sip:bob@192.0.2.9>;expires=60")
    desk.register("<sip:bob@192.0.2.9>;expires=0", 2, to="<sip:carol@example.com>")
    assert [aor for aor, _ in desk.location.items(desk.now)] == [AOR, "sip:bob@example.com"]
    desk.now += 60
    assert [aor for aor, _ in desk.location.items(desk.now)] == [AOR]
    assert desk.store.shelves["registration"].live == 2  # until the sweep
    desk.store.sweep(desk.now + 5)
    assert desk.store.shelves["registration"].live == 1


def restart(desk: Desk, path: Path, down: float, now: float) -> Desk:
    """Write everything, stop, and start `down` seconds later on a monotonic clock that shows `now`."""
    journal = Journal(str(path))
    journal.open()
    journal.write(Batch(desk.store.take_unwritten(1000), desk.now, desk.wall()))
    journal.close()
    after = Desk()
    after.now = now
    journal.open()
    restore(journal.replay(), after.store, after.clock, now, desk.wall() + down)
    journal.close()
    return after


def test_a_restarted_node_knows_its_registrations_and_what_is_left_of_them(tmp_path: Path) -> None:
    desk = Desk()
    desk.register(f"{PHONE};q=0.3")
    desk.now += 100
    after = restart(desk, tmp_path / "j", 50, 3.0)
    assert after.register(None, 2).all("contact") == [f"{PHONE};q=0.3;expires=3450"]
    assert after.store.shelves["registration"].live == 1


def test_the_order_of_cseqs_and_stamps_goes_on_after_a_restart(tmp_path: Path) -> None:
    desk = Desk()
    desk.register(PHONE, 5)
    after = restart(desk, tmp_path / "j", 1, 0.0)
    assert after.register(PHONE, 4).status == 500
    assert after.register(PHONE, 6).status == 200
    assert after.clock.last > desk.clock.last


def test_what_was_removed_does_not_come_back_after_a_restart_and_a_merge_with_an_old_copy(tmp_path: Path) -> None:
    desk = Desk()
    desk.register(f"{PHONE}, {OTHER}")
    old = desk.store.get("registration", AOR.encode())
    assert old is not None
    desk.register(f"{PHONE};expires=0", 2)
    after = restart(desk, tmp_path / "j", 10, desk.now + 10)
    after.store.put("registration", AOR.encode(), old, after.now)
    assert after.uris() == ["sip:alice@192.0.2.102:5060"]
    assert after.location.remove(AOR, after.now) == 1
    again = restart(after, tmp_path / "j", 10, after.now + 10)
    again.store.put("registration", AOR.encode(), old, again.now)
    assert again.uris() == []


def test_what_lapsed_while_the_node_was_down_is_not_called(tmp_path: Path) -> None:
    desk = Desk()
    desk.register(f"{PHONE};expires=60")
    after = restart(desk, tmp_path / "j", 61, 0.0)
    assert after.uris() == []
    assert after.knows()
    after.store.sweep(10.0)
    assert after.store.shelves["registration"].live == 0


def test_two_nodes_that_heard_different_things_agree_once_merged() -> None:
    """The backup does not expire what was refreshed on the other."""
    one, two = Desk(), Desk()
    two.clock.node = 2
    one.register(f"{PHONE};expires=60", 1)
    first = one.store.get("registration", AOR.encode()) or b""
    two.store.put("registration", AOR.encode(), first, two.now)
    one.now += 50
    two.now += 65
    one.register(f"{PHONE};expires=60", 2)
    assert two.uris() == []
    two.store.sweep(two.now)
    refreshed = one.store.get("registration", AOR.encode()) or b""
    two.store.put("registration", AOR.encode(), refreshed, two.now)
    one.store.put("registration", AOR.encode(), two.store.get("registration", AOR.encode()) or b"", one.now)
    assert two.uris() == one.uris() == ["sip:alice@192.0.2.101:5060"]
    assert one.store.get("registration", AOR.encode()) == two.store.get("registration", AOR.encode())


def test_a_record_is_unpacked_the_same_by_any_node() -> None:
    desk = Desk()
    desk.register(f"{PHONE};q=0.5;foo=bar, {OTHER}")
    packed = desk.store.get("registration", AOR.encode()) or b""
    found = bindings_of(RegistrationKind().unpack(packed), desk.now)
    assert [(binding.uri, binding.params) for binding in found] == [
        ("sip:alice@192.0.2.102:5060", ""),
        ("sip:alice@192.0.2.101:5060", ";foo=bar"),
    ]


def test_stamps_come_from_the_clock_that_is_given() -> None:
    clock = HybridClock(9)
    location = Location(LocalStore(Store([RegistrationKind()])), RegistrationKind(), clock, lambda: 5.0)
    assert location.node == 9
    assert location.make_stamp() < location.make_stamp()
