"""A list of all records of a kind: pages of one node, and what many nodes' pages come to."""

from __future__ import annotations

import pytest

from farm.metrics import Metrics
from farm.overlay import scanning
from farm.overlay.ids import PARTITIONS, partition_of
from farm.overlay.quorum import Failed
from farm.overlay.scanning import Collected, Collection, read_page
from farm.overlay.store import Store
from farm.overlay.wire import Error, Scan, Scanned
from tests.support.counts import read
from tests.support.owners import A, B, C, Owners, SetKind

KIND = "registration"
KEYS = sorted(
    (f"sip:user{number}@example.com".encode() for number in range(50)), key=lambda key: (partition_of(key), key)
)


class OtherKind(SetKind):
    """Another kind of which records are held."""

    name = "recipes"


def make_store(*keys: bytes, record: bytes = b"x") -> Store:
    store = Store((SetKind(), OtherKind()))
    store.track()
    for key in keys:
        store.put(KIND, key, record, 0.0)
    return store


def read_all(store: Store) -> list[list[bytes]]:
    """The keys of every page."""
    pages = []
    partition, after = 0, b""
    while partition < PARTITIONS:
        page = read_page(store, KIND, partition, after)
        pages.append([key for key, _ in page.rows])
        assert (page.partition, page.after) > (partition, after)
        partition, after = page.partition, page.after
    return pages


# Pages


def test_a_node_without_records_has_one_empty_page() -> None:
    assert read_page(make_store(), KIND, 0, b"") == ([], PARTITIONS, b"")


def test_few_records_are_one_page_by_partition_and_key_and_no_other_kind_s() -> None:
    store = make_store(*KEYS)
    store.put("recipes", b"soup", b"y", 0.0)
    assert read_all(store) == [KEYS]
    assert read_page(store, KIND, 0, b"").rows[0] == (KEYS[0], b"x")


def test_pages_are_bounded_by_bytes_and_together_have_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PAGE_BYTES", 250)
    pages = read_all(make_store(*KEYS))
    assert [key for page in pages for key in page] == KEYS
    assert {len(page) for page in pages[:-1]} <= {10, 11}


def test_a_record_larger_than_a_page_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PAGE_BYTES", 1)
    assert read_all(make_store(*KEYS)) == [[key] for key in KEYS]


def test_whoever_looks_for_a_rare_kind_is_answered_before_all_of_another_were_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scanning, "PAGE_RECORDS", 10)
    store = make_store(KEYS[-1])
    for number in range(100):
        store.put("recipes", str(number).encode(), b"y", 0.0)
    pages = read_all(store)
    assert len(pages) == 10 + 1
    assert [key for page in pages for key in page] == [KEYS[-1]]


def test_several_records_of_one_partition_are_divided_between_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PAGE_BYTES", 30)
    names = [f"user{number}".encode() for number in range(40_000)]
    together = sorted(name for name in names if partition_of(name) == 7)[:8]
    assert read_all(make_store(*together)) == [together[at : at + 3] for at in (0, 3, 6)]


# Collections


class Reader:
    """A collection at node A, and what came of it."""

    def __init__(self, *held: bytes, replicas: int = 3, most: int = 10_000) -> None:
        self.others = Owners(A, B, C)
        self.metrics = Metrics()
        self.came: list[Collected | Failed] = []
        store = make_store(*held)
        self.collection = Collection(
            store, KIND, self.others, self.metrics, replicas, lambda outcome, _now: self.came.append(outcome), most
        )

    def start(self, *nodes: bytes) -> None:
        self.collection.start(nodes, 100.0)

    def asked(self) -> list[tuple[bytes, Scan]]:
        return [(each.node, each.message) for each in self.others.asked if isinstance(each.message, Scan)]

    def answer(self, node: bytes, answer: Scanned | Error | None) -> None:
        next(each for each in self.others.asked if each.node == node).answer(answer)


def test_alone_a_node_answers_at_once_what_it_has() -> None:
    reader = Reader(b"a", b"b", replicas=1)
    reader.start()
    assert reader.came == [{b"a": b"x", b"b": b"x"}]


def test_all_nodes_are_asked_and_what_they_have_is_joined() -> None:
    reader = Reader(b"a")
    reader.start(B, C)
    assert reader.asked() == [(B, Scan(0, KIND, 0, b"")), (C, Scan(0, KIND, 0, b""))]
    reader.answer(B, Scanned(1, [(b"a", b"y"), (b"b", b"z")]))
    assert reader.came == []
    reader.answer(C, Scanned(1, [(b"b", b"z")]))
    assert reader.came == [{b"a": b"xy", b"b": b"z"}]


def test_the_next_page_is_asked_for_where_the_last_one_ended() -> None:
    reader = Reader()
    reader.start(B)
    reader.answer(B, Scanned(1, [(b"a", b"x")], 7, b"a"))
    assert reader.asked() == [(B, Scan(0, KIND, 7, b"a"))]
    reader.answer(B, Scanned(1, [(b"b", b"x")]))
    assert reader.came == [{b"a": b"x", b"b": b"x"}]


def test_times_in_records_are_moved_to_this_node_s_clock() -> None:
    reader = Reader()
    reader.start(B)
    reader.others.shift = 2.5
    reader.answer(B, Scanned(1, [(b"a", b"x")]))
    kind = reader.collection._kind
    assert isinstance(kind, SetKind)
    assert kind.shifts == [2.5]


def test_one_silent_node_of_three_is_not_missed_and_two_are() -> None:
    """Every acknowledged record is with two of three nodes at least."""
    reader = Reader(b"a")
    reader.start(B, C)
    reader.answer(B, None)
    reader.answer(C, Scanned(1))
    assert reader.came == [{b"a": b"x"}]
    reader = Reader(b"a")
    reader.start(B, C)
    reader.answer(B, Error(1, "unsupported"))
    reader.answer(C, None)
    assert reader.came == [Failed("too-few-owners")]


def test_a_page_that_is_none_counts_as_silence_and_is_counted() -> None:
    reader = Reader(replicas=1)
    reader.start(B)
    reader.answer(B, Scanned(1, [(b"a", b"!")]))
    assert reader.came == [Failed("too-few-owners")]
    assert read(reader.metrics.peer_rejections.child("bad-record")) == 1


@pytest.mark.parametrize("following", [(0, b""), (6, b"z"), (7, b"a"), (7, b"")])
def test_a_node_that_turns_back_is_not_asked_for_ever(following: tuple[int, bytes]) -> None:
    reader = Reader(replicas=1)
    reader.start(B)
    reader.answer(B, Scanned(1, [], 7, b"a"))
    reader.answer(B, Scanned(1, [], *following))
    assert reader.asked() == []
    assert reader.came == [Failed("too-few-owners")]


def test_a_node_that_never_ends_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MOST_PAGES", 5)
    reader = Reader(replicas=1)
    reader.start(B)
    for number in range(5):
        reader.answer(B, Scanned(1, [], number, b"x"))
    assert reader.came == [Failed("too-few-owners")]


def test_more_than_fits_is_refused_and_not_collected() -> None:
    reader = Reader(most=1000)
    reader.start(B, C)
    page = [(b"%0100d" % number, b"x") for number in range(20)]
    reader.answer(B, Scanned(1, page, 7, page[-1][0]))
    assert reader.came == [Failed("too-many")]
    reader.answer(C, Scanned(1, page))
    assert len(reader.came) == 1
    assert reader.asked() == []


def test_what_is_too_much_here_already_is_refused_at_once() -> None:
    reader = Reader(*KEYS, most=100)
    reader.start(B)
    assert reader.came == [Failed("too-many")]


def test_a_bug_that_a_page_shows_ends_the_list_and_nobody_waits_for_it() -> None:
    reader = Reader()
    reader.start(B, C)
    with pytest.raises(TypeError):
        reader.answer(B, Scanned(1, [(b"a", 7)]))  # type: ignore[list-item]
    assert reader.came == [Failed("internal")]
    reader.answer(C, Scanned(1))
    assert len(reader.came) == 1
