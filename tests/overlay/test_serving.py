"""What a node answers others about its records."""

from __future__ import annotations

from collections.abc import Sequence

from farm.metrics import Metrics
from farm.overlay.ids import partition_of
from farm.overlay.serving import WRITE_BURST_SECONDS, WRITTEN_KEYS, Serving, make_write_rates
from farm.overlay.store import Store as Records
from farm.overlay.wire import (
    BAD_RECORD,
    EDGE,
    NOT_ALLOWED,
    OWNER,
    RECORD_FULL,
    STORE_FULL,
    STORES,
    STRANGER,
    TOO_OFTEN,
    UNSETTLED,
    USED,
    Contact,
    Error,
    Fetch,
    Fetched,
    Scan,
    Scanned,
    Spend,
    Spent,
    Stat,
    StatAnswer,
    Store,
    Stored,
)
from tests.support.counts import read
from tests.support.owners import KEY, A, B, C, SetKind

NEARER = (Contact(B, "192.0.2.2", 7400),)


class Place:
    """A node among others, and who may write."""

    def __init__(self, owners: Sequence[bytes] = (A, B), stores: bool = True, most: int = 10) -> None:
        self.own = A
        self.list = owners
        self.coming: Sequence[bytes] = ()
        self.settled = True
        self.reason = ""
        self.kind = SetKind()
        self.records = Records((self.kind,), most_records=most)
        self.metrics = Metrics()
        self.believes = True
        self.serving = Serving(
            self.records, self, self, self.metrics, stores=stores, observe=lambda _stamp: self.believes,
            writes=make_write_rates(20),
        )  # fmt: skip

    def owners(self, partition: int) -> Sequence[bytes]:
        assert partition == partition_of(KEY)
        return self.list

    def joining(self, partition: int) -> Sequence[bytes]:
        return self.coming

    def is_settled(self, partition: int) -> bool:
        return self.settled

    def nearest(self, partition: int, count: int) -> Sequence[Contact]:
        return NEARER

    def refuse(self, node: bytes, kind: str, key: bytes) -> str:
        return self.reason

    def mark(self, record: bytes) -> bytes:
        """By which the sender says what it expects."""
        return self.records.mark("registration", KEY, record)

    def store(self, delta: bytes, expected: bytes = b"", stands_for: bytes = b"", kind: str = "registration") -> Stored:
        return self.serving.store(B, Store(4, kind, KEY, delta, expected, stands_for), 1.5, 100.0)

    def fetch(self, known: bytes = b"", kind: str = "registration") -> Fetched:
        return self.serving.fetch(Fetch(3, kind, KEY, known))


def test_a_record_is_sent_unless_it_is_known() -> None:
    place = Place()
    assert place.fetch() == Fetched(3)
    place.store(b"xy")
    assert place.fetch() == Fetched(3, b"xy")
    assert place.fetch(b"v:x") == Fetched(3, b"xy")
    assert place.fetch(b"v:xy") == Fetched(3, b"", True)


def test_an_update_is_merged_and_only_a_surprise_comes_back() -> None:
    place = Place()
    assert place.store(b"x", place.mark(b"x")) == Stored(4)
    assert place.kind.shifts == [1.5]
    assert place.store(b"y", place.mark(b"y")) == Stored(4, record=b"xy")
    assert place.store(b"z", place.mark(b"xyz")) == Stored(4)


def test_an_owner_that_has_compared_nothing_yet_says_so() -> None:
    place = Place()
    place.settled = False
    assert place.fetch().standing == UNSETTLED
    place = Place(owners=(B, C))
    place.coming = (A,)
    assert place.fetch().standing == UNSETTLED
    assert Place().fetch().standing == OWNER


def test_a_stranger_names_nearer_nodes_and_keeps_what_it_is_given() -> None:
    place = Place(owners=(B, C))
    assert place.fetch() == Fetched(3, standing=STRANGER, nearer=NEARER)
    assert place.store(b"x") == Stored(4, record=b"x", standing=STRANGER, nearer=NEARER)
    assert place.store(b"x", stands_for=C).nearer == ()
    assert place.records.get("registration", KEY) == b"x"


def test_what_may_not_be_written_is_refused_and_counted() -> None:
    place = Place()
    place.reason = "foreign-domain"
    assert place.store(b"x") == Stored(4, NOT_ALLOWED)
    assert read(place.metrics.peer_rejections.child("foreign-domain")) == 1
    assert place.records.get("registration", KEY) is None


def test_a_node_without_the_role_and_an_unknown_kind_store_nothing() -> None:
    place = Place(stores=False)
    assert place.store(b"x") == Stored(4, NOT_ALLOWED)
    assert read(place.metrics.peer_rejections.child("wrong-role")) == 1
    place = Place()
    assert place.store(b"x", kind="recipes") == Stored(4, NOT_ALLOWED)
    assert read(place.metrics.peer_rejections.child("wrong-kind")) == 1
    assert place.fetch(kind="recipes") == Fetched(3)


def test_bytes_that_are_no_record_change_nothing() -> None:
    place = Place()
    assert place.store(b"!") == Stored(4, BAD_RECORD)
    assert read(place.metrics.peer_rejections.child("bad-record")) == 1


def test_a_stamp_too_far_ahead_is_refused_since_it_would_outrank_all_that_is_true() -> None:
    place = Place()
    place.believes = False
    assert place.store(b"x") == Stored(4, BAD_RECORD)
    assert read(place.metrics.peer_rejections.child("clock")) == 1
    assert place.records.get("registration", KEY) is None


def test_full_is_said_and_nothing_is_thrown_away_for_it() -> None:
    place = Place()
    assert place.store(b"123456789") == Stored(4, record=b"123456789")  # two at once, each within its limit
    assert place.store(bytes(range(65, 90))) == Stored(4, RECORD_FULL)
    assert read(place.metrics.peer_rejections.child("full")) == 1
    assert Place(most=0).store(b"1") == Stored(4, STORE_FULL)


def test_a_full_store_still_takes_what_changes_a_record_that_it_has() -> None:
    place = Place(most=1)
    place.store(b"1")
    assert place.serving.store(B, Store(4, "registration", b"other", b"1"), 0.0, 100.0) == Stored(4, STORE_FULL)
    assert place.store(b"2") == Stored(4, record=b"12")
    assert place.records.get("registration", KEY) == b"12"


def test_a_record_that_is_written_without_end_is_refused_until_there_are_fewer() -> None:
    place = Place()
    burst = int(20 * WRITE_BURST_SECONDS)
    answers = [place.store(b"x", place.mark(b"x")) for _ in range(burst + 10)]
    assert answers == [Stored(4)] * burst + [Stored(4, TOO_OFTEN)] * 10
    assert read(place.metrics.peer_rejections.child("rate")) == 10
    assert place.serving.store(B, Store(4, "registration", KEY, b"x", place.mark(b"x")), 0.0, 101.0) == Stored(4)


def test_keys_that_are_written_once_each_do_not_hide_one_that_is_written_without_end() -> None:
    rates = make_write_rates(20)
    assert rates is not None
    taken = 0
    for number in range(100_000):
        now = 100.0 + number / 10_000
        assert not rates.take(b"%d" % number, now)
        if number % 100 == 0:  # a hundred times a second
            taken += not rates.take(KEY, now)
    assert taken < 20 * WRITE_BURST_SECONDS + 10 * 20 + 2
    assert len(rates) == WRITTEN_KEYS
    assert make_write_rates(0) is None


def test_the_console_sees_version_and_size() -> None:
    place = Place()
    assert place.serving.stat(Stat(5, "registration", KEY)) == StatAnswer(5)
    place.store(b"xyz")
    assert place.serving.stat(Stat(5, "registration", KEY)) == StatAnswer(5, b"v:xyz", 3)
    assert place.serving.stat(Stat(5, "recipes", KEY)) == StatAnswer(5)


def test_a_page_of_a_list_is_of_a_kind_that_is_known() -> None:
    place = Place()
    place.records.track()
    place.store(b"x")
    assert place.serving.scan(Scan(5, "registration")) == Scanned(5, [(KEY, b"x")])
    assert place.serving.scan(Scan(5, "registration", partition_of(KEY), KEY)) == Scanned(5, [])
    assert place.serving.scan(Scan(5, "recipes")) == Error(5, "bad-request")
    assert read(place.metrics.peer_rejections.child("wrong-kind")) == 1


def test_whether_a_count_was_used_is_told_to_nodes_that_speak_sip() -> None:
    place = Place()
    asked: list[tuple[int, int, int]] = []

    def spend(made_at: int, serial: int, count: int) -> int:
        asked.append((made_at, serial, count))
        return USED

    message = Spend(3, 1_800_000_000, 7, 1)
    refused = Error(3, "not-allowed")
    assert place.serving.spend(message, STORES | EDGE) == refused, "it has no users to ask for it"
    place.serving.spender = spend
    assert place.serving.spend(message, STORES | EDGE) == Spent(3, USED)
    assert place.serving.spend(message, STORES) == refused
    for count in (-1, 1 << 32):
        assert place.serving.spend(Spend(3, 1_800_000_000, 7, count), EDGE) == Error(3, "bad-request")
    assert asked == [(1_800_000_000, 7, 1)]
    assert read(place.metrics.peer_rejections.child("wrong-role")) == 2
    assert read(place.metrics.peer_rejections.child("bad-message")) == 2
