"""Orders about users: what the console gets back, and what the store ends up with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar

import pytest

from farm.security.credentials import KIND, CredentialKind, unpack_credential
from farm.security.record import Stamp
from farm.security.users import AT_ONCE, BadRow, Change, Imported, UserEntry, UserError, UserRow, Users
from farm.sip.digest import make_ha1

T = TypeVar("T")


class Full(NamedTuple):
    reason: str


Stored = bytes | Full
Listed = list[tuple[str, bytes]] | Full


class LocalStore:
    """Records in a dict, merged by the kind."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.full = False
        self.problem = ""

    def get(self, kind: str, key: str, now: float) -> bytes | Awaitable[bytes | None] | None:
        assert kind == KIND
        return self.records.get(key)

    def put(self, kind: str, key: str, delta: bytes, now: float) -> Stored | Awaitable[Stored]:
        if self.full:
            return Full("records")
        record = CredentialKind().merge(self.records.get(key), delta, now).record
        assert record is not None
        self.records[key] = record
        return record

    def collect(self, kind: str, now: float) -> Listed | Awaitable[Listed]:
        assert kind == KIND
        return Full(self.problem) if self.problem else list(self.records.items())


class FarStore(LocalStore):
    """The same on another node: every answer comes later."""

    def get(self, kind: str, key: str, now: float) -> bytes | Awaitable[bytes | None] | None:
        async def later() -> bytes | None:
            await asyncio.sleep(0)
            return self.records.get(key)

        return later()

    def put(self, kind: str, key: str, delta: bytes, now: float) -> Stored | Awaitable[Stored]:
        async def later() -> Stored:
            await asyncio.sleep(0)
            answer = LocalStore.put(self, kind, key, delta, now)
            assert not isinstance(answer, Awaitable)
            return answer

        return later()

    def collect(self, kind: str, now: float) -> Listed | Awaitable[Listed]:
        async def later() -> Listed:
            await asyncio.sleep(0)
            return list(self.records.items())

        return later()


class Stamps:
    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> Stamp:
        self.last += 1
        return (self.last, 9)


def make_users(store: LocalStore | None = None) -> tuple[Users, LocalStore]:
    store = store or LocalStore()
    return Users(store, Stamps(), ("example.com", "example.net")), store


def done(order: Coroutine[Any, Any, T]) -> T:
    """The answer of an order that never suspends, as none does with a local store."""
    try:
        order.send(None)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    raise AssertionError("it suspended")


async def collect(users: Users, rows: Iterable[UserRow | BadRow]) -> list[Imported | BadRow]:
    return [row async for row in users.import_rows(rows, lambda: 1.0)]


def test_a_user_is_added_once_and_its_password_is_nowhere_to_be_found() -> None:
    users, store = make_users()
    assert done(users.add("alice", "wonderland", 1.0)) is Change.ADDED
    assert done(users.add("sip:alice@example.com", "other", 2.0)) is Change.EXISTS
    (packed,) = store.records.values()
    assert b"wonderland" not in packed
    credential = unpack_credential(packed)
    assert credential.realm == "example.com"
    assert credential.stamp == (1, 9)
    for algorithm, hashes in credential.ha1.items():
        assert hashes[0].hex() == make_ha1(algorithm, "alice", "example.com", "wonderland")
        assert hashes[1].hex() == make_ha1(algorithm, "alice@example.com", "example.com", "wonderland")
    assert set(credential.ha1) >= {"MD5", "SHA-256"}


@pytest.mark.parametrize(
    ("name", "aor"),
    [
        ("alice", "sip:alice@example.com"),
        ("alice@EXAMPLE.net", "sip:alice@example.net"),
        ("sip:alice@example.net", "sip:alice@example.net"),
        ("+49 30 1", "sip:+49%20301@example.com"),
        ("j\u00f6rg", "sip:j%C3%B6rg@example.com"),
        ("a%41", "sip:aA@example.com"),
        ("100%", "sip:100%25@example.com"),
        ("a@b@example.com", "sip:a%40b@example.com"),
    ],
)
def test_names_are_taken_as_people_write_them_and_kept_canonical(name: str, aor: str) -> None:
    users, store = make_users()
    if name == "+49 30 1":
        aor = "sip:+49%2030%201@example.com"
    assert users.check(name)[2] == aor
    assert done(users.add(name, "secret", 1.0)) is Change.ADDED
    assert list(store.records) == [aor]
    assert [entry.aor for entry in done(users.entries(1.0))] == [aor]


@pytest.mark.parametrize(
    ("name", "password", "problem"),
    [
        ("", "secret", "no user name"),
        ("@example.com", "secret", "no user name"),
        ("a" * 129, "secret", "no user name"),
        ("a:b", "secret", "no user name"),
        ('a"b', "secret", "no user name"),
        ("a\x00b", "secret", "no user name"),
        ("alice@example.org", "secret", "'example.org' is none of our domains (example.com, example.net)"),
        ("alice", "", "a password has 1 to 256 characters"),
        ("alice", "a\nb", "a password has 1 to 256 characters"),
        ("alice", "a" * 257, "a password has 1 to 256 characters"),
    ],
)
def test_what_cannot_be_a_user_is_said_in_one_line(name: str, password: str, problem: str) -> None:
    users, store = make_users()
    with pytest.raises(UserError) as caught:
        done(users.add(name, password, 1.0))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.records == {}


def test_a_new_password_replaces_the_old_one_and_keeps_a_disabled_user_disabled() -> None:
    users, _ = make_users()
    assert done(users.set_password("alice", "new", 1.0)) is Change.UNKNOWN
    done(users.add("alice", "old", 1.0))
    assert done(users.set_disabled("alice", True, 2.0)) is Change.CHANGED
    assert done(users.entries(2.0)) == [UserEntry("sip:alice@example.com", True)]
    assert done(users.set_password("alice", "new", 3.0)) is Change.CHANGED
    credential = users.find("sip:alice@example.com", 3.0)
    assert credential is not None
    assert not isinstance(credential, Awaitable)
    assert credential.disabled
    assert credential.ha1["MD5"][0].hex() == make_ha1("MD5", "alice", "example.com", "new")
    assert done(users.set_disabled("nobody", True, 4.0)) is Change.UNKNOWN


def test_a_removed_user_is_gone_leaves_no_hash_and_may_come_again() -> None:
    users, store = make_users()
    done(users.add("alice", "old", 1.0))
    earlier = dict(store.records)
    assert done(users.remove("alice", 2.0)) is Change.REMOVED
    assert done(users.remove("alice", 2.0)) is Change.UNKNOWN
    assert users.find("sip:alice@example.com", 2.0) is None
    assert done(users.entries(2.0)) == []
    (packed,) = store.records.values()
    assert len(packed) < 60
    store.put(KIND, "sip:alice@example.com", earlier["sip:alice@example.com"], 3.0)
    assert users.find("sip:alice@example.com", 3.0) is None, "an old copy brought it back"
    assert done(users.add("alice", "again", 4.0)) is Change.ADDED


def test_users_are_listed_in_order() -> None:
    users, _ = make_users()
    for name in ("carol", "alice@example.net", "bob"):
        done(users.add(name, "secret", 1.0))
    assert [entry.aor for entry in done(users.entries(1.0))] == [
        "sip:alice@example.net",
        "sip:bob@example.com",
        "sip:carol@example.com",
    ]


def test_users_on_other_nodes_are_listed_and_a_list_that_is_not_whole_is_an_error() -> None:
    users, store = make_users(FarStore())
    asyncio.run(_add(users, "alice"))
    assert [entry.aor for entry in asyncio.run(_list(users))] == ["sip:alice@example.com"]
    users, store = make_users()
    store.problem = "too-many"
    with pytest.raises(UserError, match="too many users to list"):
        done(users.entries(1.0))
    store.problem = "too-few-owners"
    with pytest.raises(UserError, match=r"cannot be reached|can be reached \(too-few-owners\)"):
        done(users.entries(1.0))


async def _add(users: Users, name: str) -> Change:
    return await users.add(name, "secret", 1.0)


async def _list(users: Users) -> list[UserEntry]:
    return await users.entries(1.0)


def test_a_user_who_cannot_be_looked_up_is_neither_there_nor_not() -> None:
    users, store = make_users()
    done(users.add("alice", "secret", 1.0))
    store.get = lambda kind, key, now: Full("too-few-owners")  # type: ignore
    message = r"the users' records cannot be reached \(too-few-owners\)"
    for order in (
        users.add("alice", "other", 2.0),
        users.set_password("alice", "other", 2.0),
        users.set_disabled("alice", True, 2.0),
        users.remove("alice", 2.0),
    ):
        with pytest.raises(UserError, match=message):
            done(order)
    rows = [UserRow(1, "alice", "", "other")]
    assert done(collect(users, rows)) == [BadRow(1, "the users' records cannot be reached (too-few-owners)")]
    assert done(users.entries(3.0)) == [UserEntry("sip:alice@example.com", False)]


def test_a_full_store_is_an_error_with_a_word() -> None:
    users, store = make_users()
    store.full = True
    with pytest.raises(UserError, match=r"sip:alice@example\.com was not stored"):
        done(users.add("alice", "secret", 1.0))
    rows = [UserRow(1, "bob", "", "secret")]
    assert done(collect(users, rows)) == [BadRow(1, "sip:bob@example.com was not stored (records)")]


def test_an_import_adds_and_changes_and_a_bad_row_spoils_no_other() -> None:
    users, _ = make_users()
    done(users.add("bob", "old", 1.0))
    rows: list[UserRow | BadRow] = [
        UserRow(1, "alice", "", "secret"),
        BadRow(2, "no password for 'x'"),
        UserRow(3, "bob", "example.com", "new"),
        UserRow(4, "carol", "example.org", "secret"),
        UserRow(5, "dave", "example.net", "secret"),
    ]
    assert done(collect(users, rows)) == [
        Imported(1, "sip:alice@example.com", Change.ADDED),
        BadRow(2, "no password for 'x'"),
        Imported(3, "sip:bob@example.com", Change.CHANGED),
        BadRow(4, "'example.org' is none of our domains (example.com, example.net)"),
        Imported(5, "sip:dave@example.net", Change.ADDED),
    ]
    assert len(done(users.entries(1.0))) == 3


def test_a_user_is_imported_by_the_hashes_that_another_registrar_has() -> None:
    """The password is nowhere; phones log in by what it was hashed to."""
    users, store = make_users()
    plain, full = (make_ha1("MD5", name, "example.net", "secret") for name in ("eve", "eve@example.net"))
    sha = make_ha1("SHA-256", "eve", "example.net", "secret")
    row = UserRow(7, "eve", "example.net", "", (("MD5", plain.upper(), full), ("SHA-256", sha, "")))
    assert done(collect(users, [row])) == [Imported(7, "sip:eve@example.net", Change.ADDED)]
    held = unpack_credential(store.records["sip:eve@example.net"])
    assert held.realm == "example.net"
    assert held.ha1 == {
        "MD5": (bytes.fromhex(plain), bytes.fromhex(full)),
        "SHA-256": (bytes.fromhex(sha), bytes.fromhex(sha)),  # never an empty hash, which everybody knows
    }


@pytest.mark.parametrize(
    ("hashes", "problem"),
    [
        ((("MD5", "12ab", ""),), "a hash of MD5 has 32 hexadecimal digits, and this has 4"),
        ((("MD5", "g" * 32, ""),), "a hash of MD5 has 32 hexadecimal digits, and this has 32"),
        ((("SHA-256", "a" * 64, "b" * 32),), "a hash of SHA-256 has 64 hexadecimal digits, and this has 32"),
        ((("MD4", "a" * 32, ""),), "there is no digest algorithm 'MD4' (MD5, SHA-256, SHA-512-256)"),
    ],
)
def test_what_is_no_hash_is_refused_with_its_line(hashes: tuple[tuple[str, str, str], ...], problem: str) -> None:
    users, store = make_users()
    assert done(collect(users, [UserRow(3, "eve", "", "", hashes)])) == [BadRow(3, problem)]
    assert store.records == {}


def test_hashes_of_a_domain_in_other_letters_are_refused_since_no_phone_would_fit_them() -> None:
    users, _ = make_users()
    row = UserRow(3, "eve", "Example.NET", "", (("MD5", "a" * 32, ""),))
    problem = "hashes made for 'Example.NET' fit no phone: the realm here is 'example.net'"
    assert done(collect(users, [row])) == [BadRow(3, problem)]
    assert done(collect(users, [UserRow(4, "eve", "Example.NET", "secret")])) == [
        Imported(4, "sip:eve@example.net", Change.ADDED)
    ]


def test_an_import_reads_no_further_than_the_rows_that_it_stores_at_once() -> None:
    users, _ = make_users()
    read: list[int] = []

    def rows() -> Iterable[UserRow]:
        for line in range(1, 2 * AT_ONCE):
            read.append(line)
            yield UserRow(line, f"u{line}", "", "secret")

    async def first() -> Imported | BadRow:
        return await anext(users.import_rows(rows(), lambda: 1.0))

    assert done(first()) == Imported(1, "sip:u1@example.com", Change.ADDED)
    assert read == list(range(1, AT_ONCE + 1))


def test_an_import_that_takes_long_gives_each_row_all_its_time() -> None:
    users, store = make_users()
    asked: list[float] = []
    get, put = store.get, store.put

    def note_get(kind: str, key: str, now: float) -> Any:
        asked.append(now)
        return get(kind, key, now)

    def note_put(kind: str, key: str, delta: bytes, now: float) -> Any:
        asked.append(now)
        return put(kind, key, delta, now)

    store.get, store.put = note_get, note_put  # type: ignore
    clock = iter(range(100))
    rows = [UserRow(line, f"u{line}", "", "secret") for line in (1, 2)]

    async def collect_timed() -> list[Imported | BadRow]:
        return [row async for row in users.import_rows(rows, lambda: float(next(clock)))]

    assert len(done(collect_timed())) == 2
    assert asked == [0.0, 1.0, 2.0, 3.0]


def test_rows_of_an_import_wait_for_other_nodes_together() -> None:
    """20,000 users would else take as many round trips one after the other."""
    users, store = make_users()
    waiting: list[asyncio.Future[bytes]] = []
    most: list[int] = []

    def put(kind: str, key: str, delta: bytes, now: float) -> Any:
        waiting.append(asyncio.get_running_loop().create_future())
        asyncio.get_running_loop().call_later(0, answer)
        return waiting[-1]

    def answer() -> None:
        most.append(len(waiting))
        for future in waiting:
            future.set_result(b"stored")
        waiting.clear()

    store.put = put  # type: ignore
    rows = [UserRow(line, f"u{line}", "", "secret") for line in range(10)]
    assert len(asyncio.run(collect(users, rows))) == 10
    assert most[0] == 10


def test_a_user_who_is_imported_twice_is_added_once_and_has_the_later_password() -> None:
    users, store = make_users()
    rows = [UserRow(1, "bob", "", "first"), UserRow(2, "bob", "", "second")]
    added, changed = done(collect(users, rows))
    assert added == Imported(1, "sip:bob@example.com", Change.ADDED)
    assert changed == Imported(2, "sip:bob@example.com", Change.CHANGED)
    (packed,) = store.records.values()
    assert unpack_credential(packed).ha1["MD5"][0].hex() == make_ha1("MD5", "bob", "example.com", "second")


def test_the_same_orders_work_on_a_store_that_answers_later() -> None:
    users, _ = make_users(FarStore())

    async def orders() -> list[object]:
        answers: list[object] = [
            await users.add("alice", "secret", 1.0),
            await users.add("alice", "secret", 1.0),
            await users.set_password("alice", "other", 2.0),
        ]
        answers += await collect(users, iter([UserRow(1, "bob", "", "secret")]))
        answers.append(await users.remove("alice", 3.0))
        found = users.find("sip:alice@example.com", 3.0)
        assert isinstance(found, Awaitable)
        answers.append(await found)
        return answers

    assert asyncio.run(orders()) == [
        Change.ADDED,
        Change.EXISTS,
        Change.CHANGED,
        Imported(1, "sip:bob@example.com", Change.ADDED),
        Change.REMOVED,
        None,
    ]
