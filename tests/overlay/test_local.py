"""A lone node's replicated store."""

from __future__ import annotations

from typing import NamedTuple

from farm.overlay.local import LocalStore
from farm.overlay.store import NEVER, Full, Store


class Became(NamedTuple):
    record: bytes
    due_at: float = NEVER
    live: int = 0
    tombstones: int = 0
    conflict: bool = False


class Greatest:
    """A kind of which the greater record wins."""

    name = "credential"
    record_bytes = 4
    everywhere = False
    since = 1

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Became:
        return Became(max(held or b"", delta))

    def sweep(self, held: bytes, now: float) -> Became:
        return Became(held)

    def shift(self, record: bytes, seconds: float, now: float = NEVER) -> bytes:
        return record

    def version(self, record: bytes) -> bytes:
        return record

    def trace(self, record: bytes, at: float = -NEVER) -> bytes:
        return record

    def newest(self, record: bytes) -> int:
        return 0


def make_local(most: int = 10) -> LocalStore:
    return LocalStore(Store([Greatest()], most_records=most))


def test_what_is_put_is_got_at_once() -> None:
    local = make_local()
    assert local.get("credential", "sip:alice@example.com", 1.0) is None
    assert local.put("credential", "sip:alice@example.com", b"a", 1.0) == b"a"
    assert local.get("credential", "sip:alice@example.com", 1.0) == b"a"
    assert list(local.items("credential", 1.0)) == [("sip:alice@example.com", b"a")]


def test_foreign_bytes_in_a_name_survive() -> None:
    local = make_local()
    name = b"sip:\xff@example.com".decode("utf-8", "surrogateescape")
    local.put("credential", name, b"a", 1.0)
    assert list(local.items("credential", 1.0)) == [(name, b"a")]


def test_a_limit_is_an_answer() -> None:
    local = make_local(most=1)
    assert local.put("credential", "a", b"too long", 1.0) == Full("record")
    local.put("credential", "a", b"a", 1.0)
    assert local.put("credential", "b", b"b", 1.0) == Full("records")
    assert local.put("credential", "a", b"b", 1.0) == b"b"


def test_records_that_come_and_go_do_not_disturb_a_reader() -> None:
    local = make_local()
    local.put("credential", "a", b"a", 1.0)
    local.put("credential", "b", b"b", 1.0)
    names = []
    for name, _ in local.items("credential", 1.0):
        names.append(name)
        local.put("credential", f"{name}-more", b"c", 1.0)
    assert names == ["a", "b"]


def test_a_list_is_what_is_here() -> None:
    local = make_local()
    local.put("credential", "a", b"a", 1.0)
    assert local.collect("credential", 1.0) == [("a", b"a")]
